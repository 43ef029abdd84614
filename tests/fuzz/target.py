"""Coverage-guided: bytes → lines → requests → series → pages, any cutting of them, and the state file.

    make fuzz [SECONDS=60]

What is checked stands in tests/invariants.py. What was found stays in tests/fuzz/findings/, and is read
again by tests/test_fuzz_findings.py, which needs no fuzzer.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped] # it is only where it is run

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

with atheris.instrument_imports(include=["sidecar", "parsers"]):
    import invariants

    # parsers are loaded with the first pipeline
    invariants.Counted()
    from sidecar import batch

# what is made up is short: so few lines are to be counted at once, too
batch.LINES_BEFORE_WRITTEN = 0

WORDS = [
    *['{"', '":', "[]", "{}", "null", "true", "\\ud800", "1e999", "-1", "18446744073709551616"],
    "2026-01-01T00:00:00Z stdout P ",
    "2026-01-01T00:00:00Z stderr F ",
]


def _words() -> list[str]:
    """Give the words of the formats: no mutation would come upon them by itself."""
    found = dict.fromkeys(WORDS)
    for path in sorted(HERE.parent.glob("golden/*/*.jsonl")):
        for part in path.read_text().split('"'):
            if 1 < len(part) <= 40 and part.isascii() and part.isprintable():
                found[f'"{part}"'] = None
    return list(found)


def main() -> None:
    """Run the fuzzer with its own options; it ends the process."""
    # what the program says of bad lines is no finding
    logging.disable()
    # beside the fuzzer's own environment, for it ends without a chance to tidy up
    words = Path(sys.prefix) / "words"
    escaped = [word.replace("\\", "\\\\").replace('"', '\\"') for word in _words()]
    words.write_text("".join([f'"{word}"\n' for word in escaped]))
    atheris.Setup([*sys.argv, f"-dict={words}"], invariants.check_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

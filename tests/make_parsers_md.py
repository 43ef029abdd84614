"""Makes PARSERS.md of what is installed: `python tests/make_parsers_md.py`; a test says when it is due.

Which fields a parser tells is read from its code, all else from the docstring of its module, which has, in any order
after its first line and each as a paragraph of its own (a blank line before it):

- the first line: the format, in one sentence; `ai-sidecar parsers` shows it too;
- `Turn it on: …`: what a user does so that the client writes this log, and where it then is;
- `Cannot tell: …`: what no line of this format has (`Cannot tell: nothing that a request has` where it has all);
- `Sources: …`: the public pages that say so, and what was not seen as a real line;
- whatever else a user of the format must know: its traps, and what is done about them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.commands.parsers import Row, rows

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "PARSERS.md"
PARTS = ("Turn it on", "Cannot tell", "Sources")
"""What each of our docstrings has, by the words with which the paragraph begins."""

FIGURES = (
    "provider",
    "error_type",
    "duration_seconds",
    "time_to_first_token_seconds",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "finish_reason",
    "rate_limit_remaining_requests",
    "timestamp",
    "trace_id",
)
"""What users miss where it is not there."""

HEAD = """# What is understood out of the box

Made from the code by `python tests/make_parsers_md.py`; edit the docstrings of `parsers/`, not this file.

Nothing needs to be configured: whoever finds its own format in a line claims it, and each line can be of another one.
`ai-sidecar check FILE` tells who claims what, and proposes a table for a format that is not here;
[CONTRIBUTING.md](CONTRIBUTING.md) tells how to write a parser. A field that a format cannot tell is not known
(`None`), never 0: its metric is then empty for this client. A status is `200` for a success and `0` for a failure
where the log has none.
"""


@dataclass(frozen=True, slots=True)
class Doc:
    """A module's docstring, taken apart."""

    first: str
    rest: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)


def read(doc: str) -> Doc:
    """Take a docstring apart; see the top of this file for what it is made of."""
    first, _, rest = doc.partition("\n")
    made = Doc(first)
    for paragraph in re.split(r"\n\s*\n", rest.strip("\n")):
        part, colon, text = paragraph.strip().partition(":")
        if colon and part in PARTS:
            made.parts[part] = text.strip()
        elif paragraph.strip():
            made.rest.append(paragraph.strip("\n"))
    return made


def section(row: Row) -> str:
    """Tell of one parser."""
    doc = read(row.doc)
    paragraphs = [f"## `{row.name}`", doc.first]
    if text := doc.parts.get("Turn it on"):
        paragraphs.append(f"**Turn it on.** {_sentence(text)}")
    paragraphs.append(f"**It tells** {', '.join([f'`{name}`' for name in row.fields])}.")
    if text := doc.parts.get("Cannot tell"):
        paragraphs.append(f"**It cannot tell** {text}")
    never = [name for name in FIGURES if name not in row.fields]
    if never:
        paragraphs.append(f"Never known: {', '.join([f'`{name}`' for name in never])}.")
    paragraphs += doc.rest
    if text := doc.parts.get("Sources"):
        paragraphs.append(f"**Sources.** {_sentence(text)}")
    return "\n\n".join(paragraphs)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] if not text.startswith("http") else text


def make() -> str:
    """Make the whole text."""
    ours = [row for row in rows() if row.is_loaded and row.package.startswith("ai-sidecar ")]
    index = ["| parser | format |", "|---|---|"]
    index += [f"| [`{row.name}`](#{row.name}) | {row.reads} |" for row in ours]
    return "\n\n".join([HEAD.rstrip(), "\n".join(index), *map(section, ours)]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(make(), encoding="utf-8")

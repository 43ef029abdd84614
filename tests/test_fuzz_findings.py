"""What the fuzzer begins with, and what it has found, read again without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from invariants import check_input

FUZZ = Path(__file__).parent / "fuzz"
INPUTS = {
    f"{path.parent.name}/{path.name}": path
    for folder in ("corpus", "findings")
    for path in sorted((FUZZ / folder).iterdir())
}


@pytest.mark.parametrize("path", INPUTS.values(), ids=INPUTS)
def test_what_the_fuzzer_has_found_stays_mended(path: Path) -> None:
    check_input(path.read_bytes())

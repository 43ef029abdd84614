"""Totals of real lines equal what an independent survey says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import Config
from sidecar.daemon import Sidecar

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples is not there")

DECIDED = {
    "claude-code/as_small.jsonl": "attempts that were tried again are requests too, and end what is held",
    "codex/as_small.jsonl": "a failed turn is told by `task_complete.error` alone",
    "codex/ccusage_alpha.jsonl": "the second event names its own model",
    "copilot-cli/as_small.jsonl": "the end of the session tells the input, and the chosen model of one message",
}
"""Where the survey is not certain and we count otherwise: why."""

EXPECTED: dict[str, Any] = (
    json.loads((SAMPLES / "EXPECTED.json").read_text())["files"] if SAMPLES.is_dir() else {}
)
FILES = [name for name in EXPECTED if name not in DECIDED]

FIGURES = {
    "requests": "count",
    "input_total": "input_tokens",
    "cached_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "output_total": "output_tokens",
    "reasoning": "reasoning_tokens",
}


def totals(path: Path) -> dict[str, dict[str, int]]:
    sidecar = Sidecar(Config(log_paths=(str(path),)), version="test")
    sidecar.read_all()
    found: dict[str, dict[str, int]] = {}
    for series in sidecar.store.series:
        model = found.setdefault(series.labels[1], dict.fromkeys(("errors", *FIGURES), 0))
        for theirs, ours in FIGURES.items():
            model[theirs] += getattr(series, ours)
        model["errors"] += series.count if series.labels[4] else 0
    return found


def expected_totals(name: str) -> dict[str, dict[str, int]]:
    """Give what the survey says of a file, in the form of `totals`."""
    expected = {
        "unknown" if model == "None" else model: {
            figure: row.get(figure, 0) for figure in ("errors", *FIGURES)
        }
        for model, row in EXPECTED[name]["models"].items()
    }
    return {model: row for model, row in expected.items() if any(row.values())}


@pytest.mark.parametrize("name", FILES)
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    assert totals(SAMPLES / name) == expected_totals(name)


def test_what_we_count_otherwise_is_there() -> None:
    assert EXPECTED.keys() >= DECIDED.keys()

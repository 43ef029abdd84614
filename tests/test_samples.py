"""Totals of real lines equal what an independent survey says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import Config
from sidecar.daemon import Sidecar

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
FOLDERS = ("provider-bodies", "litellm", "app-loggers", "envelopes")
"""The formats that are understood so far."""

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples is not there")

EXPECTED: dict[str, Any] = (
    json.loads((SAMPLES / "EXPECTED.json").read_text())["files"] if SAMPLES.is_dir() else {}
)
FILES = [name for name in EXPECTED if name.startswith(FOLDERS)]

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


@pytest.mark.parametrize("name", FILES)
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    expected = {
        "unknown" if model == "None" else model: {
            figure: row.get(figure, 0) for figure in ("errors", *FIGURES)
        }
        for model, row in EXPECTED[name]["models"].items()
    }

    assert totals(SAMPLES / name) == {
        model: row for model, row in expected.items() if any(row.values())
    }


def test_every_understood_format_is_among_the_samples() -> None:
    assert len(FILES) >= 15

"""Factory Droid's stream-json: golden lines and what must come of them, and the format's traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parsers import plain, records
from test_samples import EXPECTED, FIGURES, SAMPLES, totals

from parsers.droid import parse
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "droid.jsonl"
LINES = list(records(GOLDEN))


def read(*lines: dict[str, Any]) -> list[Request] | None:
    """Give what lines of one file tell; `None` where one of them is not of this format."""
    memory: dict[str, Any] = {}
    found: list[Request] = []
    for line in lines:
        requests = parse(line, memory)
        if requests is None:
            return None
        found += requests
    return found


def test_golden_lines_give_what_is_written_beside_them() -> None:
    expected = json.loads(GOLDEN.with_suffix(".expected.json").read_text(encoding="utf-8"))

    for _ in range(30):  # the last of them by compiled shapes
        memory: dict[str, Any] = {}
        found = [parse(line, memory) for line in LINES]

        assert expected == [
            None if requests is None else [plain(request) for request in requests]
            for requests in found
        ]


def test_the_run_is_one_request_of_the_model_on_its_first_line() -> None:
    (request,) = read(*LINES[:6]) or []

    assert (request.model, request.input_tokens) == ("claude-opus-4-5-20251101", 120 + 4000 + 300)


def test_a_completion_without_usage_tells_of_no_request() -> None:
    assert read(LINES[7]) == []


def test_a_failed_run_is_classed_by_its_last_words() -> None:
    (request,) = read(LINES[6]) or []

    assert (request.error_type, request.status_code) == ("rate_limit", "0")


def test_claude_codes_printed_lines_are_not_ours() -> None:
    line = {"type": "system", "subtype": "init", "session_id": "s", "model": "m", "uuid": "u"}

    assert read(line) is None
    assert read({"type": "result", "session_id": "s", "usage": {"input_tokens": 1}}) is None


def test_a_message_without_a_session_is_not_ours() -> None:
    assert read({"type": "message", "role": "assistant", "text": "hi"}) is None


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside this checkout")
@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("droid/")])
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    expected = {
        "unknown" if model == "None" else model: {
            figure: row.get(figure, 0) for figure in ("errors", *FIGURES)
        }
        for model, row in EXPECTED[name]["models"].items()
    }

    assert totals(SAMPLES / name) == expected

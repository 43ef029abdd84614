"""OpenClaw's and pi's sessions: golden lines and what must come of them, and the format's traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parsers import plain, records
from test_samples import EXPECTED, FIGURES, SAMPLES, totals

from parsers.openclaw import parse
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "openclaw.jsonl"
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


def test_input_is_beside_what_was_cached() -> None:
    (request,) = read(LINES[3]) or []

    assert request.input_tokens == 10 + 5000 + 700
    assert (request.cache_read_tokens, request.cache_write_tokens) == (5000, 700)
    assert request.cache_write_1h_tokens == 300


def test_a_delivery_mirror_is_no_call() -> None:
    assert read(LINES[6]) == []


def test_usage_of_a_tool_is_no_call() -> None:
    assert read(LINES[4]) == []


def test_the_model_that_answered_is_told() -> None:
    assert [one.model for one in read(LINES[5]) or []] == ["openai/gpt-5-mini"]


def test_failed_and_stopped_calls_are_told_apart() -> None:
    requests = read(LINES[7], LINES[8]) or []

    assert [one.error_type for one in requests] == ["rate_limit", "cancelled"]


def test_a_message_without_a_model_is_of_the_last_model_change() -> None:
    (request,) = read(LINES[1], LINES[9]) or []

    assert (request.provider, request.model) == ("anthropic", "claude-opus-4-5")


def test_the_same_response_id_in_two_entries_is_two_requests() -> None:
    again = {**LINES[3], "id": "aa00000a", "message": {**LINES[3]["message"], "timestamp": 1}}

    first, second = read(LINES[3], again) or []

    assert first.id != second.id


def test_a_copy_in_a_fork_has_the_same_id() -> None:
    assert [one.id for one in read(LINES[3]) or []] == [one.id for one in read(LINES[3]) or []]


def test_a_printed_message_counts_once() -> None:
    assert len(read(*LINES[10:]) or []) == 1


def test_a_cost_of_nothing_beside_tokens_tells_nothing() -> None:
    assert [one.cost_usd for one in read(LINES[5]) or []] == [None]


def test_an_anthropic_body_is_not_ours() -> None:
    body = {"type": "message", "role": "assistant", "id": "msg_1", "usage": {"input_tokens": 1}}

    assert read(body) is None


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside this checkout")
@pytest.mark.parametrize(
    "name", [name for name in EXPECTED if name.startswith(("openclaw/", "pi/"))]
)
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    expected = {
        "unknown" if model == "None" else model: {
            figure: row.get(figure, 0) for figure in ("errors", *FIGURES)
        }
        for model, row in EXPECTED[name]["models"].items()
    }

    assert totals(SAMPLES / name) == expected

"""Kong's log: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from odd import ORDINARY, with_odd_values
from test_parsers import plain, records

from parsers.kong import parse
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "kong.jsonl"
LINES = list(records(GOLDEN))


def outcome(record: dict[str, Any]) -> list[dict[str, Any]] | str | None:
    try:
        requests = parse(record, {})
    except ParseError:
        return "malformed"
    return None if requests is None else [plain(request) for request in requests]


def one(line: int = 0, **changes: Any) -> Request:
    """Give the only request of a golden line, with other values at its top."""
    requests = parse({**LINES[line], **changes}, {})
    assert requests is not None
    (request,) = requests
    return request


def test_golden_lines_give_what_is_written_beside_them() -> None:
    expected = json.loads(GOLDEN.with_suffix(".expected.json").read_text(encoding="utf-8"))

    for _ in range(10):  # the last of them by compiled shapes
        assert [outcome(record) for record in LINES] == expected


def test_several_plugins_in_a_line_are_several_calls() -> None:
    requests = parse(LINES[2], {}) or []

    assert [(one.model, one.input_tokens, one.output_tokens) for one in requests] == [
        ("command", 28, 20),
        ("gpt-35-turbo", 89, 56),
    ]
    assert [one.duration_seconds for one in requests] == [2.67, 0.927]


def test_a_hit_of_the_semantic_cache_has_no_tokens() -> None:
    assert (one(3).served_from_cache, one(3).input_tokens, one(3).cost_usd) == (True, None, None)
    assert one(4).served_from_cache is False


def test_the_time_to_the_first_token_is_of_a_stream() -> None:
    assert one(0).time_to_first_token_seconds == 1.2
    assert one(1).time_to_first_token_seconds is None


def test_a_failed_call_takes_the_lines_status() -> None:
    assert (one(5).status_code, one(5).error_type, one(5).model) == ("429", "rate_limit", "gpt-4o")


def test_of_several_calls_the_one_that_gave_nothing_failed() -> None:
    requests = parse(LINES[7], {}) or []

    assert [one.error_type for one in requests] == [None, "server"]


def test_what_kong_does_not_know_is_no_name() -> None:
    assert (one(6).model, one(6).provider) == ("unknown", "unknown")


def test_cached_tokens_that_are_more_than_the_prompt_are_beside_it() -> None:
    assert (one(8).input_tokens, one(8).cache_read_tokens) == (6012, 6000)


def test_plugins_that_call_no_model_are_no_requests() -> None:
    assert outcome(LINES[9]) == []


def test_a_line_without_ai_is_not_claimed() -> None:
    assert parse({key: value for key, value in LINES[0].items() if key != "ai"}, {}) is None
    assert outcome(LINES[10]) is None


@pytest.mark.parametrize("record", ORDINARY)
def test_an_ordinary_line_is_not_claimed(record: dict[str, Any]) -> None:
    assert parse(record, {}) is None


@pytest.mark.parametrize("line", range(len(LINES)))
def test_whatever_stands_anywhere_in_a_line_nothing_but_a_parse_error_comes(line: int) -> None:
    for record in with_odd_values(LINES[line]):
        outcome(record)

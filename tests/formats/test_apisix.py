"""APISIX' log: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from odd import ORDINARY, with_odd_values
from test_parsers import plain, records

from parsers.apisix import parse
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "apisix.jsonl"
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


def test_the_summarys_duration_is_the_time_to_the_first_token() -> None:
    assert (one(1).duration_seconds, one(1).time_to_first_token_seconds) == (2.858, 0.412)
    assert (one(0).duration_seconds, one(0).time_to_first_token_seconds) == (2.858, None)


def test_nginx_writes_seconds_and_apisix_milliseconds() -> None:
    assert one(5).duration_seconds == 2.858
    assert (one(7).duration_seconds, one(7).time_to_first_token_seconds) == (2.858, 0.412)
    line = {key: value for key, value in LINES[7].items() if key[:6] != "apisix"}
    (request,) = parse(line, {}) or ()
    assert request.duration_seconds == 2.871


def test_anthropics_protocol_counts_the_cache_beside_the_prompt() -> None:
    assert (one(3).input_tokens, one(3).cache_read_tokens) == (7156, 6000)
    assert (one(2).input_tokens, one(2).cache_read_tokens) == (23, 16)


def test_what_was_never_answered_has_no_time_to_the_first_token() -> None:
    assert (one(4).error_type, one(4).time_to_first_token_seconds) == ("rate_limit", None)
    assert one(4).duration_seconds == 2.8712


def test_an_empty_variable_is_not_there() -> None:
    assert (one(8).model, one(8).input_tokens, one(8).error_type) == ("gpt-4", None, "overloaded")


def test_other_traffic_is_no_request() -> None:
    assert outcome(LINES[9]) == []
    assert parse({"request_type": "traditional_http", "status": 200}, {}) is None


@pytest.mark.parametrize("record", ORDINARY)
def test_an_ordinary_line_is_not_claimed(record: dict[str, Any]) -> None:
    assert parse(record, {}) is None


@pytest.mark.parametrize("line", range(len(LINES)))
def test_whatever_stands_anywhere_in_a_line_nothing_but_a_parse_error_comes(line: int) -> None:
    for record in with_odd_values(LINES[line]):
        outcome(record)

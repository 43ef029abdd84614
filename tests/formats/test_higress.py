"""Higress' access log: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from odd import ORDINARY, with_odd_values
from test_parsers import plain, records

from parsers.higress import parse
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "higress.jsonl"
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


def test_all_may_be_text_and_a_dash_is_nothing() -> None:
    assert (one(0).input_tokens, one(0).output_tokens, one(0).trace_id) == (21, 17, None)
    assert outcome(LINES[1]) == []


def test_ai_log_is_json_text_with_numbers_or_texts() -> None:
    assert (one(2).input_tokens, one(2).time_to_first_token_seconds) == (21, 0.309)
    assert (one(3).input_tokens, one(3).duration_seconds) == (10, 1.955)


def test_an_ai_log_that_is_a_dash_was_no_request() -> None:
    assert outcome(LINES[4]) == []


def test_a_list_of_models_is_no_model_call() -> None:
    assert outcome(LINES[5]) == []


def test_anthropics_cache_is_beside_the_input_and_openais_in_it() -> None:
    assert (one(6).input_tokens, one(6).cache_read_tokens) == (7156, 6000)
    assert (one(8).input_tokens, one(8).cache_read_tokens) == (1000, 896)


def test_geminis_thoughts_are_beside_the_output() -> None:
    assert (one(7).output_tokens, one(7).reasoning_tokens) == (70, 50)


def test_a_failed_request_has_no_model_but_its_path() -> None:
    assert (one(9).status_code, one(9).error_type) == ("429", "rate_limit")
    assert (one(10).status_code, one(10).error_type) == ("0", "cancelled")


def test_what_the_cache_answered_has_no_tokens() -> None:
    assert (one(11).served_from_cache, one(11).input_tokens) == (True, None)


def test_a_broken_ai_log_is_malformed() -> None:
    assert outcome(LINES[12]) == "malformed"


@pytest.mark.parametrize("record", ORDINARY)
def test_an_ordinary_line_is_not_claimed(record: dict[str, Any]) -> None:
    assert parse(record, {}) is None


@pytest.mark.parametrize("line", range(len(LINES)))
def test_whatever_stands_anywhere_in_a_line_nothing_but_a_parse_error_comes(line: int) -> None:
    for record in with_odd_values(LINES[line]):
        outcome(record)

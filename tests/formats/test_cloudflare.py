"""Cloudflare AI Gateway's log: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from odd import ORDINARY, with_odd_values
from test_parsers import plain, records

from parsers.cloudflare import parse
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "cloudflare.jsonl"
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


def test_what_the_gateway_cached_has_no_tokens() -> None:
    assert (one(1).served_from_cache, one(1).input_tokens, one(1).cost_usd) == (True, None, None)


def test_success_tells_of_a_failure_where_no_status_does() -> None:
    assert (one(2).status_code, one(2).error_type) == ("429", "rate_limit")
    assert (one(6).status_code, one(6).error_type) == ("0", "other")


def test_a_path_has_no_slash_before_it_and_no_model_in_it() -> None:
    assert [one(line).endpoint for line in (0, 3, 4, 5)] == [
        "/chat/completions",
        "/run",
        "/generateContent",
        "/embeddings",
    ]


def test_an_answer_of_the_api_has_many_records_in_it() -> None:
    requests = parse(LINES[7], {}) or []

    assert [one.provider for one in requests] == ["openai", "aws.bedrock"]
    assert outcome(LINES[8]) is None


def test_logpush_has_no_tokens_in_clear() -> None:
    assert (one(9).model, one(9).input_tokens, one(9).status_code) == ("gpt-4o-mini", None, "200")
    assert one(10).error_type == "rate_limit"


def test_a_decrypted_body_of_logpush_is_read() -> None:
    assert (one(11).input_tokens, one(11).output_tokens) == (7156, 40)


@pytest.mark.parametrize("record", ORDINARY)
def test_an_ordinary_line_is_not_claimed(record: dict[str, Any]) -> None:
    assert parse(record, {}) is None


@pytest.mark.parametrize("line", range(len(LINES)))
def test_whatever_stands_anywhere_in_a_line_nothing_but_a_parse_error_comes(line: int) -> None:
    for record in with_odd_values(LINES[line]):
        outcome(record)

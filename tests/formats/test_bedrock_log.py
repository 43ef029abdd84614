"""Bedrock's model invocation log: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from odd import ORDINARY, with_odd_values
from test_parsers import plain, records

from parsers.bedrock_log import parse
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "bedrock_log.jsonl"
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


def test_the_cache_is_counted_beside_the_input_but_not_by_openais_models() -> None:
    assert (one(1).input_tokens, one(1).cache_read_tokens, one(1).cache_write_tokens) == (
        7156,
        6000,
        1144,
    )
    assert (one(11).input_tokens, one(11).cache_read_tokens) == (900, 512)


def test_a_prompt_with_counts_in_it_is_not_read() -> None:
    assert "999999" in json.dumps(LINES[1])
    assert one(1).input_tokens == 7156


def test_an_arn_gives_the_models_name() -> None:
    assert one(1).model == "eu.anthropic.claude-haiku-4-5-20251001-v1:0"


def test_the_latency_of_a_stream_is_in_its_last_event() -> None:
    assert (one(2).duration_seconds, one(2).time_to_first_token_seconds) == (3.037, 2.635)


def test_without_bodies_there_is_no_latency() -> None:
    assert one(0).duration_seconds is None
    assert one(10).duration_seconds is None


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", "429", "rate_limit"),
        ("ModelTimeoutException", "408", "timeout"),
        ("ServiceUnavailableException", "503", "overloaded"),
        ("InternalServerException", "500", "server"),
        ("ResourceNotFoundException", "404", "not_found"),
        ("SomethingNewException", "0", "other"),
    ],
)
def test_a_failure_has_its_documented_status(code: str, status: str, kind: str) -> None:
    request = one(6, errorCode=code)

    assert (request.status_code, request.error_type) == (status, kind)


def test_an_intervening_guardrail_is_a_content_filter() -> None:
    assert one(12).finish_reason == "content_filter"


def test_embeddings_have_no_output() -> None:
    assert (one(4).input_tokens, one(4).output_tokens) == (4, None)


def test_many_events_of_a_stream_are_no_matter() -> None:
    events = [{"type": "content_block_delta", "delta": {"text": "a"}}] * 20_000
    body = LINES[2]["output"]["outputBodyJson"]

    request = one(2, output={"outputBodyJson": [*body[:1], *events, *body[2:]]})

    assert (request.output_tokens, request.duration_seconds) == (13, 3.037)


@pytest.mark.parametrize("record", ORDINARY)
def test_an_ordinary_line_is_not_claimed(record: dict[str, Any]) -> None:
    assert parse(record, {}) is None


@pytest.mark.parametrize("line", range(len(LINES)))
def test_whatever_stands_anywhere_in_a_line_nothing_but_a_parse_error_comes(line: int) -> None:
    for record in with_odd_values(LINES[line]):
        outcome(record)

"""Envoy AI Gateway's access log: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from odd import ORDINARY, with_odd_values
from test_parsers import plain, records

from parsers.envoy import parse
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "envoy.jsonl"
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


def test_a_line_of_mcp_is_no_request() -> None:
    assert outcome(LINES[2]) == outcome(LINES[12]) == []


def test_the_names_of_yesterdays_documentation_are_understood() -> None:
    assert (one(3).input_tokens, one(3).cache_read_tokens, one(3).output_tokens) == (
        7077,
        4096,
        111,
    )


def test_metadata_keys_may_be_the_names_and_values_may_be_text() -> None:
    assert (one(4).input_tokens, one(4).cache_write_tokens, one(4).output_tokens) == (
        7077,
        2048,
        111,
    )
    assert one(4).duration_seconds == 2.1


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("DC", "cancelled"),
        ("UT", "timeout"),
        ("SI", "timeout"),
        ("UF,URX", "network"),
        ("UH", "overloaded"),
        ("RL", "rate_limit"),
        ("NR", "not_found"),
        ("UAEX", "permission"),
        ("-", "other"),
        (None, "other"),
    ],
)
def test_response_code_0_is_told_by_its_flags(flags: str | None, kind: str) -> None:
    request = one(5, response_flags=flags)

    assert (request.status_code, request.error_type) == ("0", kind)


def test_a_client_that_left_after_the_answer_had_it() -> None:
    assert one(11).error_type is None


def test_a_refused_request_without_a_model_is_counted_by_its_path() -> None:
    assert (one(9).model, one(9).error_type) == ("unknown", "authentication")
    assert outcome(LINES[10]) == []


@pytest.mark.parametrize(
    ("path", "provider"),
    [
        ("default/envoy-ai-gateway-basic-aws/route/r/rule/0/ref/0", "aws.bedrock"),
        ("default/azure-openai/route/r/rule/0/ref/0", "azure.ai.openai"),
        ("default/gcp/route/r/rule/0/ref/0", "gcp.vertex_ai"),
        ("openai/tars/route/r/rule/0/ref/0", "tars"),
        ("anthropic", "anthropic"),
        ("-", "unknown"),
    ],
)
def test_the_provider_is_the_backends_name(path: str, provider: str) -> None:
    assert one(0, **{"gen_ai.provider.name": path}).provider == provider


def test_the_model_sent_on_is_before_the_one_asked_for() -> None:
    assert one(1).model == "gpt-4o-mini-2024-07-18"


def test_the_time_to_the_headers_is_not_the_time_to_the_first_token() -> None:
    assert one(0).time_to_first_token_seconds is None


@pytest.mark.parametrize("record", ORDINARY)
def test_an_ordinary_line_is_not_claimed(record: dict[str, Any]) -> None:
    assert parse(record, {}) is None


@pytest.mark.parametrize("line", range(len(LINES)))
def test_whatever_stands_anywhere_in_a_line_nothing_but_a_parse_error_comes(line: int) -> None:
    for record in with_odd_values(LINES[line]):
        outcome(record)

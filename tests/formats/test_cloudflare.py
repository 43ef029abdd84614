"""Cloudflare AI Gateway's log: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parsers import plain, records
from test_samples import EXPECTED, SAMPLES, totals

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


ORDINARY: list[dict[str, Any]] = [
    {},
    {"level": 30, "time": 1772359200000, "msg": "request completed", "responseTime": 12},
    {"event": "llm", "model": "gpt-4o", "provider": "openai", "duration_ms": 812, "path": "/v1/x"},
    {"ts": 1772359200.1, "logger": "http", "status": 200, "duration": 12, "request": {"uri": "/"}},
    {"id": "1", "object": "chat.completion", "model": "gpt-4o", "usage": {"prompt_tokens": 1}},
    {"remote_addr": "10.0.0.1", "request": "GET / HTTP/1.1", "status": 200, "request_time": "0.1"},
    {"records": [{"category": "RequestResponse"}], "result": [], "ai": {}, "llm_summary": {}},
    {"category": "Audit", "event": "login", "response_code": 200, "model": "gpt-4o"},
    {"ai": {"proxy": {}}, "ai_log": "-", "request_type": "ai", "schemaType": "Other"},
]


@pytest.mark.parametrize("record", ORDINARY)
def test_an_ordinary_line_is_not_claimed(record: dict[str, Any]) -> None:
    assert parse(record, {}) is None


NASTY: list[Any] = [
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    "-",
    "{",
    "[]",
    '"x"',
    [],
    [[]],
    [None],
    {},
    {"a": [1]},
]


@pytest.mark.parametrize("line", range(len(LINES)))
def test_whatever_stands_anywhere_in_a_line_nothing_but_a_parse_error_comes(line: int) -> None:
    def visit(value: Any, put: Any) -> None:
        for odd in [*NASTY, LINES[line]]:
            outcome(put(odd))
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(inner, lambda odd, key=key, value=value: put({**value, key: odd}))
        elif isinstance(value, list):
            for place, inner in enumerate(value[:4]):
                visit(
                    inner, lambda odd, place=place: put([*value[:place], odd, *value[place + 1 :]])
                )

    visit(LINES[line], lambda odd: odd if isinstance(odd, dict) else {"message": odd})


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside this checkout")
@pytest.mark.parametrize(
    "name", [name for name in EXPECTED if name.startswith("cloudflare-ai-gateway/")]
)
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    expected = EXPECTED[name]["models"]

    assert totals(SAMPLES / name) == expected

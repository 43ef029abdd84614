"""Portkey's export: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parsers import plain, records

from parsers.portkey import parse
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "portkey.jsonl"
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


def test_the_cost_is_cents() -> None:
    assert str(one(0).cost_usd) == "0.0006"


def test_what_portkey_cached_has_no_tokens() -> None:
    assert (one(1).served_from_cache, one(1).input_tokens) == (True, None)
    assert one(0, cache_status="HIT").served_from_cache is True


def test_the_body_knows_the_cached_tokens() -> None:
    assert (one(3).input_tokens, one(3).cache_read_tokens) == (120, 64)


def test_a_row_without_figures_is_no_request() -> None:
    assert outcome(LINES[4]) == []


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

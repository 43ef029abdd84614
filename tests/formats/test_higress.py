"""Higress' access log: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parsers import plain, records
from test_samples import EXPECTED, SAMPLES, totals

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
@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("higress/")])
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    expected = EXPECTED[name]["models"]

    assert totals(SAMPLES / name) == expected

"""Azure OpenAI's resource log: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parsers import plain, records
from test_samples import EXPECTED, SAMPLES, totals

from parsers.azure import parse
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "azure.jsonl"
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


def test_properties_may_be_json_text() -> None:
    assert isinstance(LINES[1]["properties"], str)
    assert outcome(LINES[1]) == outcome(LINES[0])


def test_a_negative_duration_is_told_by_the_ticks() -> None:
    assert one(2).duration_seconds == 0.812
    assert one(2, properties={"modelName": "gpt-4o"}).duration_seconds is None


def test_the_status_is_text() -> None:
    assert (one(4).status_code, one(4).error_type) == ("429", "rate_limit")


def test_a_thread_is_no_model_call() -> None:
    assert outcome(LINES[7]) == outcome(LINES[8]) == []


def test_the_nearly_empty_twin_of_a_row_is_not_counted() -> None:
    assert outcome(LINES[6]) == []


def test_a_refused_call_that_names_no_model_is_counted() -> None:
    assert (one(5).model, one(5).error_type) == ("unknown", "authentication")


def test_there_are_no_tokens_unless_the_row_has_them() -> None:
    assert one(0).input_tokens is None
    assert (one(9).input_tokens, one(9).output_tokens) == (120, 30)


def test_log_analytics_has_other_names() -> None:
    assert (one(12).model, one(12).duration_seconds) == ("gpt-4o", 0.402)


def test_properties_that_are_no_json_are_malformed() -> None:
    with pytest.raises(ParseError, match="properties"):
        parse({**LINES[0], "properties": "{broken"}, {})


def test_other_services_logs_are_not_claimed() -> None:
    record = {**LINES[0], "event": "Other", "resourceId": "/PROVIDERS/MICROSOFT.STORAGE/X"}

    assert parse(record, {}) is None


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
    "name", [name for name in EXPECTED if name.startswith("azure-openai-diag/")]
)
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    expected = EXPECTED[name]["models"]

    assert totals(SAMPLES / name) == expected

"""Azure OpenAI's resource log: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from odd import ORDINARY, with_odd_values
from test_parsers import plain, records

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


@pytest.mark.parametrize("record", ORDINARY)
def test_an_ordinary_line_is_not_claimed(record: dict[str, Any]) -> None:
    assert parse(record, {}) is None


@pytest.mark.parametrize("line", range(len(LINES)))
def test_whatever_stands_anywhere_in_a_line_nothing_but_a_parse_error_comes(line: int) -> None:
    for record in with_odd_values(LINES[line]):
        outcome(record)

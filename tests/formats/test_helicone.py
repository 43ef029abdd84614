"""Helicone's export: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from odd import ORDINARY, with_odd_values
from test_parsers import plain, records

from parsers.helicone import parse
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "helicone.jsonl"
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


def test_the_host_asked_is_the_provider() -> None:
    assert (LINES[1]["provider"], one(1).provider) == ("CUSTOM", "deepseek")


def test_the_cache_is_counted_beside_the_prompt() -> None:
    assert (one(2).input_tokens, one(2).cache_read_tokens) == (7156, 6000)


def test_a_pending_request_is_none_yet() -> None:
    assert outcome(LINES[5]) == []


def test_what_helicone_cached_has_no_tokens() -> None:
    assert (one(6).served_from_cache, one(6).input_tokens) == (True, None)


@pytest.mark.parametrize("record", ORDINARY)
def test_an_ordinary_line_is_not_claimed(record: dict[str, Any]) -> None:
    assert parse(record, {}) is None


@pytest.mark.parametrize("line", range(len(LINES)))
def test_whatever_stands_anywhere_in_a_line_nothing_but_a_parse_error_comes(line: int) -> None:
    for record in with_odd_values(LINES[line]):
        outcome(record)

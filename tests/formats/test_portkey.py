"""Portkey's export: golden lines and what must come of them, the format's traps, and the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from odd import ORDINARY, with_odd_values
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


@pytest.mark.parametrize("record", ORDINARY)
def test_an_ordinary_line_is_not_claimed(record: dict[str, Any]) -> None:
    assert parse(record, {}) is None


@pytest.mark.parametrize("line", range(len(LINES)))
def test_whatever_stands_anywhere_in_a_line_nothing_but_a_parse_error_comes(line: int) -> None:
    for record in with_odd_values(LINES[line]):
        outcome(record)

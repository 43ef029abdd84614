"""Langfuse's observations: golden lines and what must come of them, and the format's traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from test_parsers import plain, records

from parsers.langfuse import parse
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "langfuse.jsonl"
LINES = list(records(GOLDEN))


def read(*lines: dict[str, Any]) -> list[Request] | None:
    """Give what lines of one file tell; `None` where one of them is not of this format."""
    memory: dict[str, Any] = {}
    found: list[Request] = []
    for line in lines:
        requests = parse(line, memory)
        if requests is None:
            return None
        found += requests
    return found


def test_golden_lines_give_what_is_written_beside_them() -> None:
    expected = json.loads(GOLDEN.with_suffix(".expected.json").read_text(encoding="utf-8"))

    for _ in range(30):  # the last of them by compiled shapes
        memory: dict[str, Any] = {}
        found = [parse(line, memory) for line in LINES]

        assert expected == [
            None if requests is None else [plain(request) for request in requests]
            for requests in found
        ]


def test_kinds_of_tokens_add_up() -> None:
    (request,) = read(LINES[0]) or []

    assert (request.input_tokens, request.cache_read_tokens) == (1000, 600)
    assert (request.output_tokens, request.reasoning_tokens) == (80, 30)


def test_kinds_that_are_parts_of_the_total_are_not_added() -> None:
    (request,) = read(LINES[3]) or []

    assert (request.input_tokens, request.output_tokens) == (1000, 80)


def test_anthropics_cache_is_beside_the_input() -> None:
    (request,) = read(LINES[1]) or []

    assert (request.input_tokens, request.cache_write_tokens) == (800, 90)


def test_the_usage_of_old_versions_is_read() -> None:
    (request,) = read(LINES[2]) or []

    assert (request.input_tokens, request.output_tokens, request.cost_usd) == (25, 7, 0.0002)


def test_characters_are_no_tokens() -> None:
    assert [one.input_tokens for one in read(LINES[7]) or []] == [None]


def test_the_level_error_is_a_failure() -> None:
    assert [one.error_type for one in read(LINES[4]) or []] == ["overloaded"]


def test_spans_and_generations_without_an_end_are_no_requests() -> None:
    assert read(LINES[5], LINES[6]) == []


def test_latency_is_in_seconds() -> None:
    assert [one.duration_seconds for one in read(LINES[0]) or []] == [3.0]


def test_the_names_of_an_export_are_read() -> None:
    (request,) = read(LINES[8]) or []

    assert (request.model, request.input_tokens) == ("gpt-4o-mini", 11)


def test_a_page_and_an_ingested_event_are_read() -> None:
    assert [one.id for one in read(LINES[9], LINES[10]) or []] == ["obs-a", "obs-c", "obs-d"]


def test_another_list_of_data_is_not_ours() -> None:
    assert read({"data": [{"id": 1}], "meta": {}}) is None

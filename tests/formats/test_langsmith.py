"""LangSmith's runs: golden lines and what must come of them, and the format's traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from test_parsers import plain, records

from parsers.langsmith import parse
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "langsmith.jsonl"
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


def test_parents_have_the_sums_of_their_children_and_do_not_count() -> None:
    assert read(LINES[1]) == []


def test_runs_inside_a_run_are_found() -> None:
    assert [one.id for one in read(LINES[6]) or []] == ["run-8"]


def test_a_page_of_runs_is_read() -> None:
    assert [one.id for one in read(LINES[7]) or []] == ["run-a"]


def test_a_run_that_has_not_ended_is_no_request() -> None:
    assert read(LINES[5]) == []


def test_input_has_the_cached_tokens_in_it() -> None:
    (request,) = read(LINES[0]) or []

    assert (request.input_tokens, request.cache_read_tokens) == (1000, 600)
    assert (request.output_tokens, request.reasoning_tokens) == (80, 30)


def test_the_model_that_answered_is_told_before_the_one_asked_for() -> None:
    assert [one.model for one in read(LINES[0]) or []] == ["gpt-4o-2024-08-06"]


def test_a_failure_is_classed_by_its_text() -> None:
    assert [one.error_type for one in read(LINES[4]) or []] == ["rate_limit"]


def test_runs_deep_inside_one_another_are_bounded() -> None:
    run = LINES[6]
    for _ in range(50):
        run = {**LINES[6], "child_runs": [run]}

    assert len(read(run) or []) == 1


def test_a_job_with_a_run_type_is_not_ours() -> None:
    assert read({"run_type": "tool", "start_time": "2026-03-01T10:00:00Z"}) is None

"""Copilot CLI's events: golden lines and what must come of them, and the format's traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parsers import plain, records
from test_samples import SAMPLES, totals

from parsers.copilot import parse
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "copilot.jsonl"
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


def test_a_shutdown_completes_the_message_that_was_just_written(tmp_path: Path) -> None:
    """The sums and the messages tell of the same two calls: 100 output tokens, not 200."""
    log = tmp_path / "events.jsonl"
    log.write_text("".join([json.dumps(line) + "\n" for line in LINES[:7]]), encoding="utf-8")

    found = totals(log)

    assert found["claude-sonnet-4.5"] == {
        "errors": 0,
        "requests": 2,
        "input_total": 15000,
        "cached_read": 12000,
        "cache_write": 2000,
        "output_total": 100,
        "reasoning": 0,
    }


def test_calls_without_a_message_are_told_by_the_shutdown(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text("".join([json.dumps(line) + "\n" for line in LINES[:7]]), encoding="utf-8")

    found = totals(log)

    assert (found["gpt-5-mini"]["requests"], found["gpt-5-mini"]["input_total"]) == (2, 900)


def test_a_shutdown_long_after_the_last_message_adds_only_what_is_left() -> None:
    requests = read(*LINES[:9], LINES[10]) or []

    assert [one.output_tokens for one in requests[-2:]] == [15, 0]
    assert (requests[-1].id, requests[-1].input_tokens) == (None, 7000)


def test_sums_of_each_run_of_a_resumed_session_count() -> None:
    requests = read(*LINES[:11]) or []

    counted = {one.id or number: one for number, one in enumerate(requests)}
    assert sum([one.input_tokens or 0 for one in counted.values()]) == 15000 + 900 + 7000


def test_a_message_without_a_model_is_of_the_one_that_was_chosen() -> None:
    assert [one.model for one in read(LINES[0], LINES[8]) or []] == ["claude-sonnet-4.5"]


def test_a_subagents_message_without_a_model_is_of_an_unknown_one() -> None:
    line = {**LINES[8], "data": {**LINES[8]["data"], "parentToolCallId": "t1"}}

    assert [one.model for one in read(LINES[0], line) or []] == ["unknown"]


def test_what_an_unnamed_message_told_is_not_told_again_by_the_shutdown() -> None:
    line = {**LINES[8], "data": {**LINES[8]["data"], "parentToolCallId": "t1"}}

    requests = read(LINES[0], line, LINES[10]) or []

    assert sum([one.output_tokens or 0 for one in requests]) == 15
    assert len(requests) == 2


def test_messages_of_old_versions_without_tokens_are_told_by_the_shutdown() -> None:
    old = {**LINES[3], "data": {"content": "Ok", "toolRequests": []}}

    assert read(old, old) == []
    assert [one.input_tokens for one in read(old, LINES[10]) or []] == [7000]


def test_usage_events_count_and_the_messages_beside_them_do_not() -> None:
    requests = read(LINES[11], LINES[12]) or []

    assert [(one.input_tokens, one.output_tokens) for one in requests] == [(500, 100)]


def test_a_usage_event_after_its_message_supersedes_it() -> None:
    usage = {**LINES[11], "data": {**LINES[11]["data"], "apiCallId": "call-1"}}

    requests = read(LINES[3], usage) or []

    assert [one.id for one in requests] == ["call-1", "call-1"]
    assert [one.final for one in requests] == [False, True]


def test_token_details_are_beside_one_another() -> None:
    metrics = {"gpt-5": {"requests": {"count": 1}}}
    details = {"input": {"tokenCount": 100}, "cache_read": {"tokenCount": 5}}
    data = {"modelMetrics": metrics, "tokenDetails": details}

    (request,) = read({**LINES[6], "data": data}) or []

    assert (request.input_tokens, request.cache_read_tokens) == (105, 5)


def test_copilots_cost_is_a_multiplier_and_no_dollars() -> None:
    assert all(one.cost_usd is None for one in read(*LINES) or [])


def test_an_impossible_number_of_requests_is_bounded() -> None:
    data = {"modelMetrics": {"m": {"requests": {"count": 2**50}}}}

    assert len(read({**LINES[6], "data": data}) or []) == 10_000


def test_an_ordinary_event_with_data_is_not_ours() -> None:
    assert read({"type": "user.created", "data": {}, "timestamp": "2026-03-01T10:00:00Z"}) is None


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside this checkout")
def test_samples_tell_output_by_message_and_input_by_shutdown() -> None:
    """Half of `as_small` is blacked out; EXPECTED counts its messages and leaves the sums of the shutdown out."""
    found = totals(SAMPLES / "copilot-cli/as_small.jsonl")

    assert sum([row["requests"] for row in found.values()]) == 6
    assert sum([row["errors"] for row in found.values()]) == 1
    assert found["gpt-5-mini"]["output_total"] == 15
    assert found["gpt-5-mini"]["input_total"] == 105
    assert totals(SAMPLES / "copilot-cli/as_large.jsonl") == {}


def test_a_message_that_two_files_hold_counts_once(tmp_path: Path) -> None:
    for name in ("a.jsonl", "copy.jsonl"):
        text = "".join([json.dumps(line) + "\n" for line in LINES[:4]])
        (tmp_path / name).write_text(text, encoding="utf-8")

    assert totals(tmp_path)["claude-sonnet-4.5"]["requests"] == 1

"""OpenCode's messages: golden lines and what must come of them, and the format's traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from test_parsers import plain, records
from test_samples import totals

from parsers.opencode import parse
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "opencode.jsonl"
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


def test_with_a_total_reasoning_is_beside_the_output() -> None:
    assert [one.output_tokens for one in read(LINES[2]) or []] == [260]


def test_without_a_total_reasoning_is_inside_but_for_google() -> None:
    assert [one.output_tokens for one in read(LINES[3], LINES[4]) or []] == [260, 460]


def test_a_message_that_is_not_complete_is_not_counted() -> None:
    assert read(LINES[5]) == []


def test_a_failed_message_counts_although_it_has_no_end() -> None:
    (request,) = read(LINES[6]) or []

    assert (request.status_code, request.error_type) == ("529", "overloaded")


def test_a_stopped_message_is_cancelled() -> None:
    line = {**LINES[6], "error": {"name": "MessageAbortedError", "data": {"message": "x"}}}

    assert [one.error_type for one in read(line) or []] == ["cancelled"]


def test_parts_repeat_the_message_and_are_passed_over() -> None:
    assert read(LINES[10]) == []


def test_an_exported_session_has_its_messages_inside() -> None:
    assert [one.id for one in read(LINES[9]) or []] == ["msg_21"]


def test_a_printed_step_has_the_id_of_its_message() -> None:
    assert [one.id for one in read(LINES[7]) or []] == ["msg_9"]


def test_a_message_file_is_printed_over_many_lines(tmp_path: Path) -> None:
    log = tmp_path / "msg_1.json"
    log.write_text(json.dumps(LINES[1], indent=2), encoding="utf-8")

    assert totals(log)["claude-sonnet-4-5"]["input_total"] == 4510


def test_another_programs_session_is_not_ours() -> None:
    assert read({"sessionID": "s", "message": "hello"}) is None

"""Kimi's wire logs: golden lines and what must come of them, and the format's traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parsers import plain, records
from test_samples import EXPECTED, FIGURES, SAMPLES, totals

from parsers.kimi import parse
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "kimi.jsonl"
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


def test_a_call_is_told_by_two_lines_and_counted_once() -> None:
    (request,) = read(*LINES[:6]) or []

    assert (request.input_tokens, request.output_tokens) == (1400, 60)
    assert (request.id, request.time_to_first_token_seconds) == ("chatcmpl-k1", 1.25)


def test_starts_and_retries_are_no_requests() -> None:
    assert read(*LINES[:4]) == []


def test_a_step_without_its_usage_record_is_not_counted() -> None:
    assert read(LINES[4]) == []


def test_a_compaction_takes_nothing_of_the_step_before_it() -> None:
    requests = read(LINES[4], LINES[7]) or []

    assert [one.finish_reason for one in requests] == [None]


def test_a_copy_in_a_forked_session_has_the_same_id() -> None:
    once, again = read(LINES[7]) or [], read(LINES[7]) or []

    assert once[0].id is not None
    assert once[0].id == again[0].id


def test_the_old_clients_status_updates_count_once_for_a_message() -> None:
    requests = read(*LINES[8:]) or []

    assert [one.id for one in requests] == ["chatcmpl-old1", "chatcmpl-old2"]
    assert requests[0].input_tokens == 30 + 512


def test_messages_with_a_payload_of_others_are_not_ours() -> None:
    line = {"timestamp": 1, "message": {"type": "order", "payload": {"id": 1}}}

    assert read(line) is None


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside this checkout")
@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("kimi/")])
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    expected = {
        "unknown" if model == "None" else model: {
            figure: row.get(figure, 0) for figure in ("errors", *FIGURES)
        }
        for model, row in EXPECTED[name]["models"].items()
    }

    assert totals(SAMPLES / name) == expected

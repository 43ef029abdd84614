"""Aider's analytics log: golden lines and what must come of them, and the format's traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from test_parsers import plain, records

from parsers.aider import parse
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "aider.jsonl"
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


def test_the_cost_of_the_message_counts_and_not_the_sessions() -> None:
    requests = read(*LINES) or []

    assert [one.cost_usd for one in requests] == [0.0133175, 0.000205, None, 0.00014]


def test_the_provider_is_told_by_the_name() -> None:
    requests = read(*LINES) or []

    assert [one.provider for one in requests] == ["gcp.gemini", "gcp.gemini", "ollama", "unknown"]


def test_a_redacted_model_is_unknown() -> None:
    assert [one.model for one in read(LINES[5]) or []] == ["unknown"]


def test_errors_of_its_own_are_no_requests() -> None:
    assert read(LINES[7]) == []


def test_other_programs_analytics_are_not_ours() -> None:
    line = {"event": "message_send", "properties": {"prompt_tokens": 5}, "time": 1772359200}

    assert read(line) is None

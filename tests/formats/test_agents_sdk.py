"""The Agents SDK's traces: golden lines and what must come of them, and the format's traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parsers import plain, records
from test_samples import EXPECTED, FIGURES, SAMPLES, totals

from parsers.agents_sdk import parse
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "agents_sdk.jsonl"
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


def test_turn_and_task_repeat_the_usage_and_do_not_count() -> None:
    requests = read(*LINES[:4]) or []

    assert [one.id for one in requests] == ["span_1"]


def test_a_response_names_no_model() -> None:
    assert [one.model for one in read(LINES[4]) or []] == ["unknown"]


def test_the_provider_is_told_by_litellms_name_or_the_host() -> None:
    requests = read(LINES[0], LINES[5], LINES[6]) or []

    assert [one.provider for one in requests] == ["openai", "anthropic", "azure.ai.openai"]


def test_a_failed_span_is_classed_by_its_text() -> None:
    assert [one.error_type for one in read(LINES[6]) or []] == ["rate_limit"]


def test_a_span_that_has_not_ended_is_no_request() -> None:
    assert read(LINES[7]) == []


def test_another_trace_is_not_ours() -> None:
    assert read({"object": "trace", "id": "t"}) is None


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside this checkout")
@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("openai-agents/")])
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    expected = {
        "unknown" if model == "None" else model: {
            figure: row.get(figure, 0) for figure in ("errors", *FIGURES)
        }
        for model, row in EXPECTED[name]["models"].items()
    }

    assert totals(SAMPLES / name) == expected

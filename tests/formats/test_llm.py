"""The export of `llm logs --json`: golden lines and what must come of them, and the format's traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parsers import plain, records
from test_samples import EXPECTED, FIGURES, SAMPLES, totals

from parsers.llm import parse
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "llm.jsonl"
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


def test_details_in_a_string_are_read() -> None:
    (request,) = read(LINES[0]) or []

    assert (request.cache_read_tokens, request.reasoning_tokens) == (64, 5)


def test_anthropics_cached_tokens_are_added_to_the_input() -> None:
    assert [one.input_tokens for one in read(LINES[1]) or []] == [100 + 300 + 700]


def test_geminis_thoughts_are_added_to_the_output() -> None:
    assert [one.output_tokens for one in read(LINES[2]) or []] == [20 + 40]


def test_old_versions_have_the_providers_usage() -> None:
    (request,) = read(LINES[3]) or []

    assert (request.input_tokens, request.cache_read_tokens, request.output_tokens) == (33, 32, 4)


def test_an_array_over_many_lines_is_read_and_again_counted_once(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(LINES, indent=2) + "\n", encoding="utf-8")

    found = totals(tmp_path)

    assert sum([row["requests"] for row in found.values()]) == len(LINES)


def test_a_conversation_of_another_program_is_not_ours() -> None:
    assert read({"conversation_id": "c", "prompt": "hi", "duration_ms": 5}) is None


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside this checkout")
@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("simonw-llm/")])
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    expected = {
        "unknown" if model == "None" else model: {
            figure: row.get(figure, 0) for figure in ("errors", *FIGURES)
        }
        for model, row in EXPECTED[name]["models"].items()
    }

    assert totals(SAMPLES / name) == expected

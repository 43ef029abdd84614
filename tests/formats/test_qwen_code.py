"""Qwen Code: its chats and its telemetry file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_samples import EXPECTED, SAMPLES, expected_totals, totals

from parsers import claude_code, gemini_cli, qwen_code
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "qwen_code.jsonl"
EMPTY = msgspec.structs.asdict(Request())


def plain(request: Request) -> dict[str, Any]:
    fields = msgspec.structs.asdict(request)
    return {name: of for name, of in fields.items() if of != EMPTY[name]}


def golden() -> list[list[dict[str, Any]]]:
    memory: dict[str, Any] = {}
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    return [
        [plain(one) for one in qwen_code.parse(json.loads(line), memory) or ()] for line in lines
    ]


def read(*records: Any) -> list[Request]:
    memory: dict[str, Any] = {}
    return [one for record in records for one in qwen_code.parse(record, memory) or ()]


def line(kind: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "uuid": f"u-{number}",
        "parentUuid": None,
        "sessionId": "s-1",
        "timestamp": "2025-10-09T08:53:20.000Z",
        "type": kind,
        "cwd": "/srv",
        "version": "0.14.5",
        "message": {"role": "model", "parts": []},
        **more,
    }


def ui_event(number: int, name: str = "api_response", **more: Any) -> dict[str, Any]:
    told = {"event.name": f"qwen-code.{name}", "model": "qwen3-coder-plus", **more}
    return line("system", number, subtype="ui_telemetry", systemPayload={"uiEvent": told})


def assistant(number: int = 2, **usage: int) -> dict[str, Any]:
    return line("assistant", number, model="qwen3-coder-plus", usageMetadata=usage)


COUNTS = {"input_token_count": 800, "output_token_count": 60, "total_token_count": 860}
USAGE = {"promptTokenCount": 800, "candidatesTokenCount": 60, "totalTokenCount": 860}


def test_golden_lines_give_what_is_written_beside_them() -> None:
    expected = json.loads(GOLDEN.with_suffix(".expected.json").read_text(encoding="utf-8"))

    assert expected == golden()


def test_a_call_stands_in_a_chat_twice_and_is_counted_once() -> None:
    told = ui_event(1, "api_response", **COUNTS, duration_ms=900, auth_type="qwen-oauth")

    (request,) = read(told, assistant(2, **USAGE))
    (other_way,) = read(assistant(2, **USAGE), told)

    assert (request.provider, request.duration_seconds) == ("dashscope", 0.9)
    assert other_way.input_tokens == 800


def test_two_calls_with_the_same_figures_are_two() -> None:
    found = read(
        ui_event(1, "api_response", **COUNTS),
        assistant(2, **USAGE),
        ui_event(3, "api_response", **COUNTS),
        assistant(4, **USAGE),
    )

    assert len({one.id for one in found}) == len(found) == 2


def test_a_chat_without_events_is_counted_by_its_messages() -> None:
    assert len(read(assistant(1, **USAGE), assistant(2, **USAGE))) == 2


def test_a_message_without_usage_tells_of_no_call() -> None:
    assert qwen_code.parse(line("assistant", model="m"), {}) == []


def test_a_failure_stands_in_an_event_alone() -> None:
    (request,) = read(
        ui_event(1, "api_error", error_message="x", error_type="RateLimitError", status_code=429)
    )

    assert (request.status_code, request.error_type) == ("429", "rate_limit")


def test_a_tools_event_is_no_request() -> None:
    assert read(ui_event(1, "tool_call", function_name="ls", error="x", duration_ms=3)) == []


@pytest.mark.parametrize(
    ("told", "output"),
    [
        ({"thoughts_token_count": 20, "total_token_count": 860}, 60),
        ({"thoughts_token_count": 20, "total_token_count": 880}, 80),
        ({"thoughts_token_count": 20, "total_token_count": 0, "auth_type": "openai"}, 60),
        ({"thoughts_token_count": 20, "total_token_count": 0, "auth_type": "gemini"}, 80),
        ({"thoughts_token_count": 70, "total_token_count": 0}, 130),
    ],
)
def test_thoughts_are_inside_the_output_or_beside_it(told: dict[str, Any], output: int) -> None:
    (request,) = read(ui_event(1, "api_response", **{**COUNTS, **told}))

    assert request.output_tokens == output


def test_a_cache_that_is_more_than_the_input_is_beside_it() -> None:
    (request,) = read(ui_event(1, "api_response", **{**COUNTS, "cached_content_token_count": 4000}))

    assert request.input_tokens == 4800


def test_the_telemetry_file_is_counted_by_its_events() -> None:
    scope = {"instrumentationScope": {"name": "qwen-code"}, "spanContext": {"traceId": "a" * 32}}
    attributes = {"event.name": "qwen-code.api_response", "model": "qwen3-coder-plus", **COUNTS}

    (request,) = read(
        {"attributes": {"gen_ai.request.model": "m"}, "name": "qwen-code.llm_request", **scope},
        {"attributes": {**attributes, "event.name": "qwen-code.api_request"}, **scope},
        {"attributes": {**attributes, "ttft_ms": 250}, **scope},
    )

    assert (request.trace_id, request.time_to_first_token_seconds) == ("a" * 32, 0.25)


def test_what_is_remembered_is_bounded() -> None:
    memory: dict[str, Any] = {}
    for number in range(500):
        qwen_code.parse(ui_event(number, input_token_count=number, output_token_count=1), memory)

    assert len(memory["pending"]) == qwen_code.MAX_PENDING


@pytest.mark.parametrize(
    "record",
    [
        line("assistant", message={"role": "assistant", "content": [], "usage": {}}),
        line("user", message={"role": "user", "content": "hi"}),
        {"type": "assistant", "usageMetadata": {}},
        {"uuid": "u", "sessionId": "s", "type": ["x"], "usageMetadata": {}},
        {"attributes": {"event.name": "gemini_cli.api_response"}},
        {"attributes": {}, "instrumentationScope": {"name": "x"}},
    ],
)
def test_another_record_is_not_claimed(record: dict[str, Any]) -> None:
    assert qwen_code.parse(record, {}) is None


def test_no_line_is_taken_for_one_of_its_cousins() -> None:
    for text in GOLDEN.read_text(encoding="utf-8").splitlines():
        assert gemini_cli.parse(json.loads(text), {}) is None
        assert claude_code.parse(json.loads(text), {}) is None


@pytest.mark.parametrize(
    "name", [name for name in EXPECTED if name.split("/")[0] in ("qwen-code",)]
)
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    assert totals(SAMPLES / name) == expected_totals(name)


if __name__ == "__main__":  # writes what comes out now; read the difference
    GOLDEN.with_suffix(".expected.json").write_text(json.dumps(golden(), indent=1) + "\n")
    sys.exit()

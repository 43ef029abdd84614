"""Gemini CLI: its telemetry file, its chats, its summaries."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_samples import EXPECTED, SAMPLES, expected_totals, totals

from parsers import gemini_cli
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "gemini_cli.jsonl"
EMPTY = msgspec.structs.asdict(Request())


def plain(request: Request) -> dict[str, Any]:
    fields = msgspec.structs.asdict(request)
    return {name: of for name, of in fields.items() if of != EMPTY[name]}


def golden() -> list[list[dict[str, Any]]]:
    memory: dict[str, Any] = {}
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    return [
        [plain(one) for one in gemini_cli.parse(json.loads(line), memory) or ()] for line in lines
    ]


def read(*records: Any) -> list[Request]:
    memory: dict[str, Any] = {}
    return [one for record in records for one in gemini_cli.parse(record, memory) or ()]


def event(name: str, **more: Any) -> dict[str, Any]:
    return {
        "hrTime": [1_760_000_000, 0],
        "resource": {},
        "instrumentationScope": {"name": "gemini-cli"},
        "attributes": {"event.name": f"gemini_cli.{name}", "model": "gemini-2.5-pro", **more},
    }


HEAD = {"sessionId": "s-1", "projectHash": "a", "startTime": "2025-10-09T08:53:20.000Z"}
MESSAGE = {
    "id": "m-1",
    "timestamp": "2025-10-09T08:53:25.000Z",
    "type": "gemini",
    "content": "Hello",
    "tokens": {"input": 700, "output": 20, "cached": 100, "thoughts": 30, "tool": 6, "total": 756},
    "model": "gemini-2.5-pro",
}


def test_golden_lines_give_what_is_written_beside_them() -> None:
    expected = json.loads(GOLDEN.with_suffix(".expected.json").read_text(encoding="utf-8"))

    assert expected == golden()


def test_output_has_no_thoughts_in_it_and_input_no_tool_use() -> None:
    counts = {"input_token_count": 900, "output_token_count": 40, "thoughts_token_count": 25}

    (request,) = read(event("api_response", **counts, tool_token_count=10, status_code="200"))

    assert (request.input_tokens, request.output_tokens, request.reasoning_tokens) == (910, 65, 25)
    assert request.status_code == "200"


@pytest.mark.parametrize("name", ["api_request", "config", "user_prompt", "tool_call", "api_retry"])
def test_only_responses_and_errors_are_requests(name: str) -> None:
    assert gemini_cli.parse(event(name, input_token_count=5), {}) == []


def test_spans_and_details_tell_the_same_call_again() -> None:
    span = {"attributes": {"gen_ai.operation.name": "llm_call"}, "name": "llm_call"}
    details = {"attributes": {"event.name": "gen_ai.client.inference.operation.details"}}
    scope = {"instrumentationScope": {"name": "gemini-cli"}}

    assert [gemini_cli.parse({**one, **scope}, {}) for one in (span, details)] == [[], []]


@pytest.mark.parametrize(
    ("told", "status", "kind"),
    [
        ({"status_code": 400, "error.type": "ApiError", "error": "bad"}, "400", "invalid_request"),
        ({"status_code": "503", "error": "x"}, "503", "overloaded"),
        ({"error": "fetch failed: connection reset"}, "0", "network"),
        ({"error": "", "error_message": ""}, "0", "other"),
    ],
)
def test_an_error_is_classed_by_its_status(told: dict[str, Any], status: str, kind: str) -> None:
    (request,) = read(event("api_error", duration=56, duration_ms=56, **told))

    assert (request.status_code, request.error_type) == (status, kind)
    assert request.duration_seconds == 0.056


def test_vertex_is_told_by_the_way_of_signing_in() -> None:
    (vertex,) = read(event("api_response", auth_type="vertex-ai"))
    (google,) = read(event("api_response", auth_type="oauth-personal"))

    assert (vertex.provider, google.provider) == ("gcp.vertex_ai", "gcp.gemini")


def test_a_message_that_is_written_again_is_one_request() -> None:
    first, again = read(HEAD, {**MESSAGE, "tokens": None}, MESSAGE, {**MESSAGE, "toolCalls": []})

    assert (first.id, first.final) == ("s-1:m-1", False)
    assert first == again


def test_a_chat_in_one_object_is_read_message_by_message() -> None:
    user = {"id": "m-0", "type": "user", "content": "hi"}
    other = {**MESSAGE, "id": "m-2"}

    found = read({**HEAD, "messages": [user, MESSAGE, {**MESSAGE, "tokens": None}, other]})

    assert [(one.id, one.final) for one in found] == [("s-1:m-1", True), ("s-1:m-2", True)]


def test_messages_that_are_set_anew_keep_their_ids() -> None:
    found = read(HEAD, MESSAGE, {"$set": {"messages": [MESSAGE]}}, {"$rewindTo": "m-0"})

    assert [one.id for one in found] == ["s-1:m-1", "s-1:m-1"]


def test_a_chat_that_is_written_anew_each_time_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "session-1.json"
    path.write_text(json.dumps({**HEAD, "messages": [MESSAGE]}, indent=2))
    copy = tmp_path / "session-2.json"
    copy.write_text(json.dumps({**HEAD, "messages": [MESSAGE, {**MESSAGE, "id": "m-2"}]}, indent=2))

    assert totals(tmp_path)["gemini-2.5-pro"]["requests"] == 2


def summary(**api: int) -> dict[str, Any]:
    tokens = {"prompt": 100, "candidates": 21, "cached": 50, "thoughts": 9, "tool": 1, "total": 131}
    models = {"gemini-2.5-pro": {"api": api, "tokens": {"input": 50, **tokens}}}
    return {"session_id": "s", "response": "x", "stats": {"models": models, "tools": {}}}


def test_a_summary_is_shared_out_among_its_requests() -> None:
    found = read(summary(totalRequests=4, totalErrors=1, totalLatencyMs=4000))

    assert [one.input_tokens for one in found] == [34, 34, 33, None]
    assert sum(one.output_tokens or 0 for one in found) == 30
    assert [one.error_type for one in found] == [None, None, None, "other"]
    assert {one.duration_seconds for one in found} == {1.0}


def test_a_summary_beyond_belief_is_malformed() -> None:
    with pytest.raises(ParseError):
        gemini_cli.parse(summary(totalRequests=10**9), {})


@pytest.mark.parametrize(
    "record",
    [
        {"type": "gemini", "model": "x"},
        {"stats": {"models": {"a": {}}}},
        {"$set": 1},
        {"attributes": {"event.name": "other.api_response"}},
        {"sessionId": "s", "startTime": "x"},
        {"candidates": [], "usageMetadata": {"promptTokenCount": 1}},
    ],
)
def test_another_record_is_not_claimed(record: dict[str, Any]) -> None:
    assert gemini_cli.parse(record, {}) is None


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in EXPECTED
        if name.split("/")[0]
        in (
            "gemini-cli",
            "gemini-cli-chat",
        )
    ],
)
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    assert totals(SAMPLES / name) == expected_totals(name)


if __name__ == "__main__":  # writes what comes out now; read the difference
    GOLDEN.with_suffix(".expected.json").write_text(json.dumps(golden(), indent=1) + "\n")
    sys.exit()

"""OTLP/JSON: spans and log records, each trap of the format."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_samples import EXPECTED, SAMPLES, expected_totals, totals

from parsers import otlp
from sidecar import ParseError, Request

GOLDEN = Path(__file__).parents[1] / "golden" / "otlp.jsonl"
NS = 10**9
EMPTY = msgspec.structs.asdict(Request())


def value(of: Any) -> dict[str, Any]:
    if isinstance(of, bool):
        return {"boolValue": of}
    if isinstance(of, int):
        return {"intValue": str(of)}
    if isinstance(of, float):
        return {"doubleValue": of}
    if isinstance(of, list):
        return {"arrayValue": {"values": [value(one) for one in of]}}
    return {"stringValue": of}


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(of)} for key, of in attributes.items()]


def span(attributes: dict[str, Any], number: int = 1, parent: int = 0, **more: Any) -> Any:
    return {
        "traceId": "a" * 32,
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": "call",
        "kind": 3,
        "startTimeUnixNano": str(1_760_000_000 * NS),
        "endTimeUnixNano": str(1_760_000_002 * NS),
        "status": {},
        "attributes": pairs(attributes),
        **more,
    }


def spans(*told: Any, scope: str = "test") -> Any:
    scoped = [{"scope": {"name": scope}, "spans": [*told]}]
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": scoped}]}


def logs(*told: Any, scope: str = "test") -> Any:
    scoped = [{"scope": {"name": scope}, "logRecords": [*told]}]
    return {"resourceLogs": [{"resource": {"attributes": []}, "scopeLogs": scoped}]}


def log(attributes: dict[str, Any], **more: Any) -> Any:
    time = {"timeUnixNano": str(1_760_000_002 * NS)}
    return {**time, "body": {"stringValue": "done"}, "attributes": pairs(attributes), **more}


def read(*records: Any) -> list[Request]:
    memory: dict[str, Any] = {}
    return [one for record in records for one in otlp.parse(record, memory) or ()]


def only(*records: Any) -> Request:
    (request,) = read(*records)
    return request


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5-mini",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
}


def plain(request: Request) -> dict[str, Any]:
    fields = msgspec.structs.asdict(request)
    return {name: of for name, of in fields.items() if of != EMPTY[name]}


def test_golden_lines_give_what_is_written_beside_them() -> None:
    expected = json.loads(GOLDEN.with_suffix(".expected.json").read_text(encoding="utf-8"))
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()

    found = [[plain(one) for one in otlp.parse(json.loads(line), {}) or ()] for line in lines]

    assert expected == found


def test_a_span_of_today() -> None:
    request = only(
        spans(
            span(
                {
                    **CHAT,
                    "gen_ai.response.model": "gpt-5-mini-2025-08-07",
                    "gen_ai.usage.cache_read.input_tokens": 64,
                    "gen_ai.usage.cache_creation.input_tokens": 10,
                    "gen_ai.usage.reasoning.output_tokens": 8,
                    "gen_ai.response.finish_reasons": ["length"],
                    "gen_ai.response.time_to_first_chunk": 0.5,
                }
            )
        )
    )

    assert request == Request(
        provider="openai",
        model="gpt-5-mini-2025-08-07",
        endpoint="chat",
        duration_seconds=2.0,
        time_to_first_token_seconds=0.5,
        input_tokens=100,
        cache_read_tokens=64,
        cache_write_tokens=10,
        output_tokens=20,
        reasoning_tokens=8,
        finish_reason="length",
        timestamp=1_760_000_002.0,
        trace_id="a" * 32,
        id=f"{'a' * 32}:{1:016x}",
    )


@pytest.mark.parametrize(
    "names",
    [
        ("gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"),
        ("llm.usage.prompt_tokens", "llm.usage.completion_tokens"),
        ("llm.token_count.prompt", "llm.token_count.completion"),
        ("ai.usage.promptTokens", "ai.usage.completionTokens"),
    ],
)
def test_older_names_of_the_counts(names: tuple[str, str]) -> None:
    told = {"gen_ai.system": "OpenAI", "gen_ai.request.model": "gpt-4o", "llm.request.type": "chat"}

    request = only(spans(span({**told, names[0]: 7, names[1]: 3})))

    assert (request.provider, request.input_tokens, request.output_tokens) == ("openai", 7, 3)


def test_int64_may_be_text_or_a_number() -> None:
    numbers = span(CHAT, startTimeUnixNano=1_760_000_000 * NS)
    for pair in numbers["attributes"]:
        if "intValue" in pair["value"]:
            pair["value"]["intValue"] = int(pair["value"]["intValue"])

    assert read(spans(numbers)) == read(spans(span(CHAT)))


def test_names_may_be_snake_case() -> None:
    told = {
        "resource_spans": [
            {
                "scope_spans": [
                    {
                        "spans": [
                            {
                                "trace_id": "qqqqqqqqqqqqqqqqqqqqqg==",
                                "span_id": "AAAAAAAAAAE=",
                                "name": "call",
                                "start_time_unix_nano": str(1_760_000_000 * NS),
                                "end_time_unix_nano": str(1_760_000_002 * NS),
                                "attributes": [
                                    {
                                        "key": pair["key"],
                                        "value": {
                                            kind.replace("Value", "_value"): of
                                            for kind, of in pair["value"].items()
                                        },
                                    }
                                    for pair in pairs(CHAT)
                                ],
                            }
                        ]
                    }
                ]
            }
        ]
    }

    assert read(told) == read(spans(span(CHAT)))


def test_a_line_of_one_resource_is_read_too() -> None:
    assert read(spans(span(CHAT))["resourceSpans"][0]) == read(spans(span(CHAT)))


def test_metrics_are_recognised_and_not_counted() -> None:
    assert otlp.parse({"resourceMetrics": [{"scopeMetrics": []}]}, {}) == []


def test_another_line_is_not_claimed() -> None:
    assert otlp.parse({"level": "info", "msg": "x", "resource": {"a": 1}}, {}) is None


def test_broken_otlp_is_malformed() -> None:
    with pytest.raises(ParseError):
        otlp.parse({"resourceSpans": "x"}, {})


@pytest.mark.parametrize(
    "attributes",
    [
        {**CHAT, "gen_ai.operation.name": "invoke_agent"},
        {**CHAT, "gen_ai.operation.name": "execute_tool"},
        {**CHAT, "gen_ai.operation.name": "invoke_workflow"},
        {"openinference.span.kind": "AGENT", "llm.token_count.prompt": 5, "llm.model_name": "m"},
        {"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 5, "llm.model_name": "m"},
        {**CHAT, "gen_ai.operation.name": "", "traceloop.span.kind": "workflow"},
        # pydantic-ai's agent run, before it had an operation
        {"model_name": "gpt-4o", "agent_name": "a", "gen_ai.usage.input_tokens": 51},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.aggregated_usage.input_tokens": 5},
        {"http.request.method": "POST", "http.response.status_code": 500},
    ],
)
def test_a_span_that_sums_its_children_is_no_request(attributes: dict[str, Any]) -> None:
    assert read(spans(span(attributes))) == []


def test_vercel_parents_repeat_their_children() -> None:
    told = {
        "ai.model.provider": "openai.responses",
        "ai.model.id": "gpt-5-mini",
        "ai.usage.inputTokens": 10,
        "ai.usage.outputTokens": 6,
        "ai.usage.reasoningTokens": 4,
        "ai.response.finishReason": "tool-calls",
        "ai.response.msToFirstChunk": 115.5,
    }

    request = only(
        spans(
            span({**told, "ai.operationId": "ai.streamText.doStream"}, 2, 1),
            span({**told, "ai.operationId": "ai.streamText"}, 1),
        )
    )

    assert (request.provider, request.endpoint, request.output_tokens) == ("openai", "chat", 6)
    assert (request.time_to_first_token_seconds, request.finish_reason) == (0.1155, "tool_calls")


@pytest.mark.parametrize(
    ("named", "provider"),
    [
        ("google.generative-ai", "gcp.gemini"),
        ("google.vertex.chat", "gcp.vertex_ai"),
        ("anthropic.messages", "anthropic"),
        ("amazon-bedrock", "aws.bedrock"),
        ("azure.chat", "azure.ai.openai"),
        ("azure.ai.openai", "azure.ai.openai"),
        ("aws.bedrock", "aws.bedrock"),
        ("mistral.chat", "mistral_ai"),
    ],
)
def test_vercel_names_the_api_after_the_provider(named: str, provider: str) -> None:
    told = {"ai.operationId": "ai.generateText.doGenerate", "ai.model.provider": named}

    assert only(spans(span(told))).provider == provider


def test_vercel_before_6_leaves_anthropics_cache_out() -> None:
    told = {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.provider": "anthropic.messages",
        "ai.model.id": "claude-sonnet-4-5",
        "ai.usage.inputTokens": 933,
        "ai.usage.cachedInputTokens": 409,
        "ai.usage.outputTokens": 80,
        "ai.response.providerMetadata": '{"anthropic":{"cacheCreationInputTokens":204}}',
    }

    older = only(spans(span(told)))
    newer = only(spans(span({**told, "ai.usage.inputTokenDetails.noCacheTokens": 524})))

    assert (older.input_tokens, older.cache_write_tokens) == (933 + 409 + 204, 204)
    assert newer.input_tokens == 933


@pytest.mark.parametrize(
    ("told", "whole"),
    [
        ({"gen_ai.usage.cache_read.input_tokens": 60}, 100),
        ({"gen_ai.usage.cache_read_input_tokens": 600}, 700),
        (
            {
                "gen_ai.usage.cache_read_input_tokens": 60,
                "gen_ai.usage.cache_write_input_tokens": 30,
                "gen_ai.usage.total_tokens": 210,
            },
            190,
        ),
        ({"gen_ai.usage.cache_read.input_tokens": 60, "gen_ai.usage.total_tokens": 120}, 100),
    ],
)
def test_cache_is_inside_the_input_or_not(told: dict[str, int], whole: int) -> None:
    assert only(spans(span({**CHAT, **told}))).input_tokens == whole


@pytest.mark.parametrize(
    ("told", "whole"),
    [
        ({"gen_ai.usage.reasoning_tokens": 8}, 20),
        ({"gen_ai.usage.reasoning_tokens": 33}, 53),
        ({"gen_ai.usage.reasoning_tokens": 8, "gen_ai.usage.total_tokens": 128}, 28),
        ({"gen_ai.provider.name": "gcp.gemini", "gen_ai.usage.total_tokens": 150}, 50),
        ({"gen_ai.usage.total_tokens": 150}, 20),
    ],
)
def test_reasoning_is_inside_the_output_or_not(told: dict[str, Any], whole: int) -> None:
    assert only(spans(span({**CHAT, **told}))).output_tokens == whole


def test_two_instrumentations_of_one_call_are_one_request() -> None:
    counts = {"llm.token_count.prompt": 100, "llm.token_count.completion": 20}
    inner = span({"openinference.span.kind": "LLM", **counts}, 3, 2)
    between = span({"http.request.method": "POST"}, 2, 1)
    outer = span(CHAT, 1)

    assert len(read(spans(inner, between, outer))) == 1
    assert len(read(spans(inner), spans(between), spans(outer))) == 1  # a line for each


def test_a_call_that_holds_a_smaller_one_is_counted() -> None:
    inner = span({**CHAT, "gen_ai.usage.input_tokens": 5}, 2, 1)

    assert sum(one.input_tokens or 0 for one in read(spans(inner, span(CHAT, 1)))) == 105


def test_a_parent_that_comes_first_in_its_line_is_known_all_the_same() -> None:
    later = str(1_760_000_001 * NS)

    found = read(spans(span(CHAT, 1), span(CHAT, 2, 1, startTimeUnixNano=later)))

    assert [one.id for one in found] == [f"{'a' * 32}:{2:016x}"]


def test_what_is_remembered_is_bounded() -> None:
    memory: dict[str, Any] = {}
    for number in range(1, 2000):
        otlp.parse(spans(span(CHAT, number, number + 10_000)), memory)

    assert len(json.dumps(memory)) < 32_000


def test_a_failure_tells_its_class_and_its_status() -> None:
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "error.type": "RateLimitError",
    }
    status = {"code": 2, "message": "Error code: 429 - Rate limit reached"}

    request = only(spans(span(told, status=status)))

    assert (request.status_code, request.error_type) == ("429", "rate_limit")
    assert request.model == "gpt-4o"


def test_a_failure_of_openinference_names_its_model_in_the_parameters() -> None:
    told = {"openinference.span.kind": "LLM", "llm.invocation_parameters": '{"model": "gpt-4o"}'}
    exception = {
        "name": "exception",
        "timeUnixNano": "1",
        "attributes": pairs({"exception.type": "openai.APITimeoutError"}),
    }

    request = only(spans(span(told, status={"code": "STATUS_CODE_ERROR"}, events=[exception])))

    assert (request.model, request.status_code, request.error_type) == ("gpt-4o", "0", "timeout")


def test_an_embedding_of_openinference_names_its_model_elsewhere() -> None:
    told = {
        "openinference.span.kind": "EMBEDDING",
        "embedding.model_name": "e",
        "llm.token_count.total": 9,
    }

    request = only(spans(span(told)))

    assert (request.model, request.endpoint, request.input_tokens) == ("e", "embeddings", 9)


@pytest.mark.parametrize("status", [{}, {"code": 0}, {"code": 1}, None, {"code": "STATUS_CODE_OK"}])
def test_an_unset_status_is_a_success(status: Any) -> None:
    assert only(spans(span(CHAT, status=status))).error_type is None


@pytest.mark.parametrize("name", ["First Token Stream Event", "gen_ai.content.completion.chunk"])
def test_the_first_token_may_be_an_event(name: str) -> None:
    events = [
        {"name": name, "timeUnixNano": str(1_760_000_000 * NS + part * NS // 4)} for part in (1, 2)
    ]

    assert only(spans(span(CHAT, events=events))).time_to_first_token_seconds == 0.25


def test_a_stream_without_usage_is_still_a_request() -> None:
    request = only(spans(span({"llm.request.type": "chat", "gen_ai.request.model": "gpt-4o"})))

    assert (request.model, request.input_tokens) == ("gpt-4o", None)


def test_a_log_record_tells_the_same_call_as_its_span() -> None:
    told = log(
        CHAT,
        traceId="a" * 32,
        spanId=f"{1:016x}",
        eventName="gen_ai.client.inference.operation.details",
    )

    assert only(logs(told)).id == only(spans(span(CHAT))).id


def test_records_without_a_trace_are_not_taken_for_one() -> None:
    zeros = log(CHAT, traceId="0" * 32, spanId="0" * 16)

    assert only(logs(zeros)).id is None


@pytest.mark.parametrize(
    "attributes",
    [
        {"event.name": "gen_ai.user.message", "gen_ai.system": "openai"},
        {"event.name": "gen_ai.choice", "gen_ai.system": "openai", "index": 0},
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
        {"gen_ai.evaluation.name": "x", "gen_ai.operation.name": "evaluate"},
        {"user": "a"},
        {},
    ],
)
def test_other_log_records_are_no_requests(attributes: dict[str, Any]) -> None:
    assert read(logs(log(attributes))) == []


def test_gemini_cli_is_counted_by_its_event_alone() -> None:
    event = {
        "event.name": "gemini_cli.api_response",
        "model": "gemini-2.5-pro",
        "auth_type": "vertex-ai",
        "duration_ms": 150,
        "status_code": 200,
        "input_token_count": 7600,
        "cached_content_token_count": 4096,
        "output_token_count": 26,
        "thoughts_token_count": 33,
        "tool_token_count": 5,
    }
    mirror = {**CHAT, "event.name": "gen_ai.client.inference.operation.details"}
    scope = "gemini-cli"

    request = only(
        spans(span({**CHAT, "gen_ai.operation.name": "llm_call"}), scope=scope),
        logs(log({"event.name": "gemini_cli.api_request", "model": "gemini-2.5-pro"}), scope=scope),
        logs(log(event), log(mirror), scope=scope),
    )

    assert request.provider == "gcp.vertex_ai"
    assert (request.input_tokens, request.output_tokens) == (7605, 59)
    assert (request.duration_seconds, request.status_code) == (0.15, "200")


def test_claude_code_leaves_the_cache_out_of_the_input() -> None:
    event = {
        "event.name": "api_request",
        "model": "claude-sonnet-4-5",
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_tokens": 1000,
        "cache_creation_tokens": 200,
        "cost_usd": 0.0123,
        "duration_ms": 900,
        "request_id": "req_1",
    }
    body = {"stringValue": "claude_code.api_request"}
    failed = {"model": "claude-sonnet-4-5", "error": "Overloaded", "status_code": "529"}

    good = only(logs(log(event, body=body)))
    bad = only(logs(log(failed, body={"stringValue": "claude_code.api_error"})))
    mirror = {"gen_ai.request.model": "claude-sonnet-4-5", "gen_ai.system": "anthropic"}

    assert (good.input_tokens, good.cache_write_tokens, good.cost_usd) == (1210, 200, 0.0123)
    assert (bad.status_code, bad.error_type) == ("529", "overloaded")
    assert read(logs(log(event), scope="com.anthropic.claude_code.events")) == [good]
    assert read(spans(span({**mirror, **CHAT}, name="claude_code.llm_request"))) == []


def test_codex_tells_the_tokens_at_the_end_of_a_stream() -> None:
    done = {
        "event.name": "codex.sse_event",
        "event.kind": "response.completed",
        "model": "gpt-5-codex",
        "input_token_count": 100,
        "cached_token_count": 40,
        "output_token_count": 10,
        "reasoning_token_count": 5,
        "duration_ms": 3,
    }
    asked = {"event.name": "codex.api_request", "model": "gpt-5-codex", "duration_ms": 300}

    good, bad = read(
        logs(
            log({**done, "event.kind": "response.created"}),
            log({**asked, "http.response.status_code": 200}),
            log(done),
            log({**asked, "http.response.status_code": 429, "error.message": "slow down"}),
        )
    )

    assert (good.input_tokens, good.cache_read_tokens, good.duration_seconds) == (100, 40, None)
    assert (bad.status_code, bad.error_type, bad.duration_seconds) == ("429", "rate_limit", 0.3)


def test_qwen_code_sends_its_events_as_spans() -> None:
    event = {
        "log.bridge": True,
        "event.name": "qwen-code.api_response",
        "model": "qwen3-coder-plus",
        "auth_type": "qwen-oauth",
        "input_token_count": 50,
        "output_token_count": 9,
        "thoughts_token_count": 4,
        "total_token_count": 59,
    }

    request = only(
        spans(span(event), span(CHAT, 2, name="qwen-code.llm_request"), scope="qwen-code")
    )

    assert (request.provider, request.input_tokens, request.output_tokens) == ("dashscope", 50, 9)


def test_an_access_log_of_a_gateway_is_read() -> None:
    told = {
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": "11",
        "gen_ai.usage.output_tokens": "2",
        "response_code": "200",
        "duration": "750",
    }

    request = only(logs(log(told)))

    assert (request.input_tokens, request.status_code, request.duration_seconds) == (
        11,
        "200",
        0.75,
    )


def test_openais_sdk_asks_other_hosts_too() -> None:
    told = {**CHAT, "gen_ai.openai.api_base": "https://api.deepseek.com/v1/"}

    assert only(spans(span(told))).provider == "deepseek"


@pytest.mark.parametrize(
    "name", [name for name in EXPECTED if name.split("/")[0] in ("otlp-json",)]
)
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    assert totals(SAMPLES / name) == expected_totals(name)


if __name__ == "__main__":  # writes what comes out now; read the difference
    lines = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    out = [[plain(one) for one in otlp.parse(line, {}) or ()] for line in lines]
    GOLDEN.with_suffix(".expected.json").write_text(json.dumps(out, indent=1) + "\n")
    sys.exit()

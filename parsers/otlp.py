"""OTLP/JSON lines: spans and log records of OpenTelemetry, whatever instrumentation wrote them.

Turn it on: with the Collector's `file` exporter (`format: json`, its default), the `otlp_json` file exporters
of the SDKs, or Java's `logging-otlp`. Counted are the spans of model calls in the words of OpenTelemetry
(`gen_ai.*`, now and before), OpenLLMetry (`llm.usage.*`), OpenInference (`llm.token_count.*`) and the Vercel
AI SDK (`ai.usage.*`), and the log records of coding agents (Claude Code, Codex, Gemini CLI, Qwen Code) and of
`gen_ai.client.inference.operation.details`. Metrics are recognised; they tell the same calls once more.

Traps: int64 are text from the Collector and numbers from JavaScript; agents, chains, tools and Vercel's
`ai.generateText` repeat the sum of their children and are not counted; a model call that holds another one
(two instrumentations at once) is the same call. Whether a cache or the reasoning is inside the figure differs by
version: where the parts are more than the whole, or the total says so, they are added.

Cannot tell: what the instrumentation does not: mostly cost, an HTTP status, what is left of a rate limit, and often
the time to the first token.

Sources: https://github.com/open-telemetry/opentelemetry-proto/blob/main/docs/specification.md#json-protobuf-encoding,
https://github.com/open-telemetry/semantic-conventions-genai (gen-ai spans and events),
https://github.com/traceloop/openllmetry (opentelemetry-semantic-conventions-ai),
https://github.com/Arize-ai/openinference (openinference-semantic-conventions),
https://github.com/vercel/ai (packages/otel), https://github.com/pydantic/pydantic-ai (models/instrumented.py),
https://code.claude.com/docs/en/monitoring-usage, https://github.com/openai/codex (codex-rs/otel)
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from parsers import gemini_cli, qwen_code
from sidecar import Memory, ParseError, Record, Request, Table, compile_table, fields

NAMES: dict[str, tuple[str, ...]] = {
    "provider": (
        "gen_ai.provider.name",
        "gen_ai.system",
        "llm.provider",
        "llm.system",
        "ai.model.provider",
    ),
    "host": ("server.address", "gen_ai.openai.api_base", "llm.openai.api_base"),
    "model": (
        "gen_ai.response.model",
        "ai.response.model",
        "llm.response.model_name",
        "llm.response.model",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
        "gen_ai.request.model",
        "ai.model.id",
        "llm.request.model_name",
        "llm.request.model",
    ),
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.usage.prompt_tokens",
        "llm.token_count.prompt",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "ai.usage.tokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.usage.completion_tokens",
        "llm.token_count.completion",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    "total_tokens": (
        "gen_ai.usage.total_tokens",
        "llm.usage.total_tokens",
        "llm.token_count.total",
        "ai.usage.totalTokens",
    ),
    "cache_read_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_read_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "gen_ai.usage.details.cache_read_input_tokens",
        "gen_ai.usage.details.cached_tokens",
        "gen_ai.usage.input_tokens.cached",
        "llm.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_input",
        "ai.usage.inputTokenDetails.cacheReadTokens",
        "ai.usage.cachedInputTokens",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_input_tokens",
        "gen_ai.usage.cache_write_tokens",
        "gen_ai.usage.details.cache_write_tokens",
        "gen_ai.usage.details.cache_creation_input_tokens",
        "gen_ai.usage.input_tokens.cache_write",
        "llm.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
        "ai.usage.inputTokenDetails.cacheWriteTokens",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
        "gen_ai.usage.details.thoughts_tokens",
        "gen_ai.usage.output_tokens.reasoning",
        "llm.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
        "ai.usage.outputTokenDetails.reasoningTokens",
        "ai.usage.reasoningTokens",
    ),
    "audio_input_tokens": (
        "gen_ai.usage.audio.input_tokens",
        "gen_ai.usage.details.input_audio_tokens",
        "llm.token_count.prompt_details.audio",
    ),
    "audio_output_tokens": (
        "gen_ai.usage.audio.output_tokens",
        "gen_ai.usage.details.output_audio_tokens",
        "llm.token_count.completion_details.audio",
    ),
    "cost": ("operation.cost", "gen_ai.usage.cost", "gen_ai.cost.total_cost", "llm.cost.total"),
    "finish_reason": (
        "gen_ai.response.finish_reasons",
        "gen_ai.response.finish_reason",
        "gen_ai.completion.0.finish_reason",
        "ai.response.finishReason",
        "llm.finish_reason",
        "llm.response.finish_reason",
        "llm.response.stop_reason",
    ),
    "status": (
        "http.response.status_code",
        "http.status_code",
        "error.type",
        "response_code",
    ),
    "ttft_seconds": (
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.response.time_to_first_token",
        "gen_ai.server.time_to_first_token",
    ),
    "ttft_ms": ("ai.response.msToFirstChunk", "ttft_ms"),
}
"""Where each field is told, the newest name first; what answered before what was asked for."""

_KINDS = (
    "openinference.span.kind",
    "ai.operationId",
    "gen_ai.operation.name",
    "llm.request.type",
    "traceloop.span.kind",
)
_OTHERS = (
    "event.name",
    "log.bridge",
    "ai.values",
    "ai.response.providerMetadata",
    "ai.usage.inputTokenDetails.noCacheTokens",
    "llm.invocation_parameters",
    "embedding.invocation_parameters",
    "gen_ai.response.id",
    "exception.type",
    "exception.message",
    "error.message",
    "duration",
)
WANTED = frozenset((*(name for names in NAMES.values() for name in names), *_KINDS, *_OTHERS))

_OPERATIONS = {
    "llm": "chat",
    "embedding": "embeddings",
    "embed": "embeddings",
    "reranker": "rerank",
    "dogenerate": "chat",
    "dostream": "chat",
    "doembed": "embeddings",
    "dorerank": "rerank",
    "chat.completions": "chat",
    "completion": "text_completion",
    "text.completions": "text_completion",
    "text_generation": "text_completion",
}
"""Other words for OpenTelemetry's operations."""
_CALLS = frozenset({"chat", "text_completion", "generate_content", "embeddings", "rerank"})
_NO_CALL = re.compile(
    r"agent|tool|workflow|step|retriev|search|plan|task|chain|handoff|session|memory|guard|eval|"
    r"conversation|function|prompt|parse"
)
"""Operations that hold model calls, or none."""
_FIRST_TOKENS = frozenset(
    {
        "First Token Stream Event",
        "ai.stream.firstChunk",
        "gen_ai.content.completion.chunk",
        "llm.content.completion.chunk",
        "gen_ai.first_token",
    }
)
_PROVIDERS = {
    "google.generative-ai": "gcp.gemini",
    "google.vertex": "gcp.vertex_ai",
    "vertex.anthropic": "gcp.vertex_ai",
    "google.vertex.anthropic": "gcp.vertex_ai",
}
_VERCEL_API = re.compile(
    r"\.(chat|completions?|embeddings?|textembedding|responses|messages|images?|speech|transcription)"
)
_STATUS_IN_TEXT = re.compile(
    r"\b(?:error code|status(?: ?code)?|http)[ :=]{1,2}([45]\d\d)\b", re.A | re.I
)
_MIRRORED = frozenset({"gemini-cli", "qwen-code"})
"""Clients whose spans tell once more what their log records tell better."""

_EVENTS = compile_table(
    Table.of(
        "otlp",
        {
            "when": {"event": ["claude_code.api_request", "claude_code.api_error"]},
            "provider": {"const": "anthropic"},
            "endpoint": {"const": "/messages"},
            "model": "model",
            "status": "status_code",
            "error": ["error", "error_type"],
            "duration": {"path": "duration_ms", "unit": "ms"},
            "time_to_first_token": {"path": "ttft_ms", "unit": "ms"},
            "input_excludes_cache": True,
            "input_tokens": "input_tokens",
            "cache_read_tokens": "cache_read_tokens",
            "cache_write_tokens": "cache_creation_tokens",
            "output_tokens": "output_tokens",
            "cost": "cost_usd",
            "finish_reason": "stop_reason",
            "timestamp": ["time", "event.timestamp"],
            "trace_id": "trace_id",
            "id": "request_id",  # a batch that was exported again
        },
    ),
    Table.of(
        "otlp",
        {
            # The end of a stream tells the tokens; its `duration_ms` is the wait for this one event.
            "when": {
                "event": ["codex.sse_event", "codex.websocket_event"],
                "event.kind": "response.completed",
            },
            "needs": ["input_tokens|output_tokens"],
            "provider": {"const": "openai"},
            "endpoint": {"const": "/responses"},
            "model": ["model", "slug"],
            "time_to_first_token": {"path": "ttft_ms", "unit": "ms"},
            "input_tokens": "input_token_count",
            "cache_read_tokens": "cached_token_count",
            "cache_write_tokens": "cache_write_token_count",
            "output_tokens": "output_token_count",
            "reasoning_tokens": "reasoning_token_count",
            "timestamp": ["time", "event.timestamp"],
            "trace_id": "trace_id",
        },
    ),
    Table.of(
        "otlp",
        {
            # An answered one is counted where its stream ends; the list of models is no request to one.
            "when": {"event": "codex.api_request", "model": True},
            "unless": {"endpoint": "/models", "http.response.status_code": [*range(200, 300)]},
            "needs": ["error|status_code"],
            "provider": {"const": "openai"},
            "endpoint": {"const": "/responses"},
            "model": ["model", "slug"],
            "status": "http.response.status_code",
            "error": "error.message",
            "duration": {"path": "duration_ms", "unit": "ms"},
            "timestamp": ["time", "event.timestamp"],
            "trace_id": "trace_id",
        },
    ),
)
_AGENTS = ("claude_code.", "codex.", "gemini_cli.", "qwen-code.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span, or a log record that tells of a model call as one does; times are nanoseconds."""

    attributes: Mapping[str, Any]
    name: str = ""
    scope: str = ""
    trace_id: str | None = None
    span_id: str | None = None
    parent_id: str | None = None
    started: int | None = None
    ended: int | None = None
    status: Any = None
    message: Any = None
    events: Sequence[tuple[Any, int | None, Mapping[str, Any]]] = ()


def moment(value: Any) -> int | None:
    """Read a time as nanoseconds: OTLP's number or text, JavaScript's `[seconds, nanoseconds]`, ISO 8601."""
    if type(value) is list:
        is_pair = len(value) == 2 and type(value[0]) is int and type(value[1]) is int
        return moment(value[0] * 10**9 + value[1]) if is_pair else None
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    if type(value) is int and 10**17 <= value < 10**19:
        return value
    seconds = fields.timestamp(value)
    return None if seconds is None else round(seconds * 1e6) * 1000


def ident(value: Any) -> str | None:
    """Read the id of a trace or a span as hex: also `0x…` (Python's console) and base64 (plain protobuf)."""
    text = fields.text(value)
    if text is None:
        return None
    if len(text) in (12, 24) and text.endswith("="):
        try:
            return b64decode(text, validate=True).hex()
        except ValueError:
            return None
    text = text.removeprefix("0x").lower()
    return text if text.strip("0") else None  # none is written as zeros


def read_spans(spans: Sequence[Span], memory: Memory) -> list[Request]:
    """Give the requests of spans that came together; what holds a counted call is not counted again."""
    requests: list[Request] = []
    # A span that holds another began before it and may come after it.
    for span in sorted(spans, key=lambda span: span.started or 0, reverse=True):
        if span.attributes.get("log.bridge") is not None:  # Qwen Code's log records, sent as spans
            requests += read_event(span, (), memory)
            continue
        is_mirror = span.scope in _MIRRORED or span.name.startswith(_AGENTS)
        operation = None if is_mirror else _operation(span)
        held = _held(span, memory)
        if operation is None:
            _hold(span, held, memory)
            continue
        tokens = _tokens(span.attributes, operation)
        own = [
            tokens.get("input_tokens"),
            tokens.get("output_tokens"),
            fields.text(span.attributes.get("gen_ai.response.id")),
        ]
        if held is not None and _is_told(own, held):
            _hold(span, held, memory)
            continue
        _hold(span, own, memory)
        requests.append(_request(span, operation, tokens))
    return requests


def read_event(record: Span, names: Sequence[Any], memory: Memory) -> Sequence[Request]:
    """Give the request that a log record tells; `names` may be its event's, beside its own attribute."""
    attributes = record.attributes
    name = attributes.get("event.name")
    if type(name) is str and record.scope.startswith("com.anthropic.claude_code"):
        name = "claude_code." + name.removeprefix("claude_code.")
    known = [one for one in (*names, name) if type(one) is str]
    event = next((one for one in known if one.startswith(_AGENTS)), "")
    if event:
        told = {**attributes, "event": event, "event.name": event, "trace_id": record.trace_id}
        if record.ended is not None:
            told["time"] = record.ended
        for read in (_EVENTS, gemini_cli.read_event, qwen_code.read_event):
            requests = read(told, {})
            if requests is not None:
                return requests
        return []
    if record.scope in _MIRRORED:
        return []
    operation = _operation(record)
    if operation is None:
        return []
    tokens = _tokens(attributes, operation)
    if not tokens and _failure(record) is None:
        return []  # the request of the two, or a message
    return [_request(record, operation, tokens)]


def _operation(span: Span) -> str | None:
    """Tell what was asked of a model; `None` for a span that is no model call."""
    attributes = span.attributes
    for key in _KINDS[:4]:
        value = attributes.get(key)
        if type(value) is not str or not value or value.lower() == "unknown":
            continue
        word = value.lower()
        if key == "ai.operationId":  # `ai.generateText` holds `ai.generateText.doGenerate`
            word = word.rpartition(".")[2]
            return _OPERATIONS.get(word) if word.startswith("do") else None
        word = _OPERATIONS.get(word, word)
        if word in _CALLS:
            return word
        if key == "openinference.span.kind" or _NO_CALL.search(word):
            return None
        return fields.endpoint(value) if _has_usage(attributes) else None
    if attributes.get("traceloop.span.kind") is not None:
        return None
    if attributes.get("gen_ai.request.model") or attributes.get("gen_ai.response.model"):
        if _has_usage(attributes):
            return "chat"
        if _first(attributes, "provider", fields.text) and _failure(span) is not None:
            return "chat"
    return None


def _has_usage(attributes: Mapping[str, Any]) -> bool:
    return any(
        _first(attributes, name, fields.count) is not None
        for name in ("input_tokens", "output_tokens")
    )


def _first(attributes: Mapping[str, Any], field: str, read: Callable[[Any], Any]) -> Any:
    for name in NAMES[field]:
        if name in attributes:
            value = read(attributes[name])
            if value is not None:
                return value
    return None


def _failure(span: Span) -> list[Any] | None:
    """Tell what is known of a failure, the most particular first; `None` where it went well."""
    attributes = span.attributes
    said = fields.failure(attributes.get("error.type"))
    is_failed = str(span.status).lower().endswith("error") or span.status in (2, "2")
    status = _first(attributes, "status", fields.status)
    if (
        said is None
        and not is_failed
        and (status is None or not (status >= "400" or status == "0"))
    ):
        return None
    found = [said, attributes.get("error.message"), span.message]
    for name, _, inner in span.events:
        if name == "exception":
            found += [inner.get("exception.type"), inner.get("exception.message")]
    return [one for one in found if type(one) is str and one]


def _request(span: Span, operation: str, tokens: dict[str, int]) -> Request:
    attributes = span.attributes
    errors = _failure(span)
    status = _first(attributes, "status", fields.status)
    if errors is not None and status is None:
        codes = [found[1] for one in errors if (found := _STATUS_IN_TEXT.search(one[:4096]))]
        status = codes[0] if codes else "0"
    duration = None
    if span.started is not None and span.ended is not None and span.ended >= span.started:
        duration = (span.ended - span.started) / 1e9
    elif span.started is None:  # an access log that was sent as log records
        duration = fields.seconds(attributes.get("duration"), "ms")
    ended = span.ended or span.started
    cost = _first(attributes, "cost", fields.cost)
    ids = (span.trace_id, span.span_id)
    return Request(
        provider=_provider(attributes) or "unknown",
        model=_model(attributes) or "unknown",
        endpoint=operation,
        status_code=status or "200",
        error_type=None if errors is None else fields.error_type(status, *errors),
        duration_seconds=duration,
        time_to_first_token_seconds=_ttft(span),
        cost_usd=cost if cost or not any(tokens.values()) else None,
        finish_reason=_first(attributes, "finish_reason", _reason) if errors is None else None,
        batch_size=fields.size(attributes.get("ai.values")),
        timestamp=None if ended is None else ended / 1e9,
        trace_id=span.trace_id,
        id=":".join(one for one in ids if one) if all(ids) else None,
        **tokens,  # type: ignore[arg-type] # counts alone
    )


def _tokens(attributes: Mapping[str, Any], operation: str) -> dict[str, int]:
    """Read the counts, with the cache in the input and the reasoning in the output."""
    found = {
        name: value
        for name in (
            *("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"),
            *("reasoning_tokens", "audio_input_tokens", "audio_output_tokens"),
        )
        if (value := _first(attributes, name, fields.count)) is not None
    }
    total = _first(attributes, "total_tokens", fields.count)
    if "input_tokens" not in found and operation == "embeddings" and total is not None:
        found["input_tokens"] = total
    if "input_tokens" not in found:
        return found
    is_exclusive = _vercel_excludes_cache(attributes, found)
    given, out = found["input_tokens"], found.get("output_tokens", 0)
    cached = found.get("cache_read_tokens", 0) + found.get("cache_write_tokens", 0)
    thoughts = found.get("reasoning_tokens", 0)
    if cached and (is_exclusive or cached > given or total == given + cached + out):
        found["input_tokens"] = given + cached
    if thoughts and (thoughts > out or total == given + out + thoughts):
        found["output_tokens"] = out + thoughts
    elif (
        total is not None
        and "reasoning_tokens" not in found
        and total > given + out > 0
        and str(_provider(attributes)).startswith("gcp.")
    ):
        # Gemini's thoughts, where an instrumentation gives only the candidates' tokens.
        found["output_tokens"] = total - found["input_tokens"]
    return found


def _vercel_excludes_cache(attributes: Mapping[str, Any], found: dict[str, int]) -> bool:
    """Tell whether it is the AI SDK before 6, that passed on Anthropic's figures; its cache writes are in a text."""
    provider = attributes.get("ai.model.provider")
    if type(provider) is not str or not re.search("anthropic|bedrock", provider):
        return False
    if "ai.usage.inputTokenDetails.noCacheTokens" in attributes:
        return False
    written = fields.get(
        _opened(attributes.get("ai.response.providerMetadata")),
        "anthropic.cacheCreationInputTokens"
        if "anthropic" in provider
        else "bedrock.usage.cacheWriteInputTokens",
    )
    count = fields.count(written)
    if count is not None:
        found.setdefault("cache_write_tokens", count)
    return True


def _opened(value: Any) -> Any:
    if type(value) is not str or not value.startswith(("{", "[")):
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _provider(attributes: Mapping[str, Any]) -> str | None:
    name = _first(attributes, "provider", fields.text)
    found = None
    if name is not None:
        name = _VERCEL_API.sub("", name) if "." in name else name
        found = _PROVIDERS.get(name.lower()) or fields.provider(name)
    if found is None or found == "openai":  # its SDK asks other hosts as well
        found = _first(attributes, "host", fields.host_provider) or found
    return found


def _model(attributes: Mapping[str, Any]) -> str | None:
    found = _first(
        attributes, "model", lambda name: None if name == "unknown" else fields.model(name)
    )
    if found is None:  # a failed call of OpenInference
        for key in ("llm.invocation_parameters", "embedding.invocation_parameters"):
            asked = _opened(attributes.get(key))
            found = found or fields.model(fields.get(asked, "model"))
    return None if found is None else str(found)


def _reason(value: Any) -> str | None:
    opened = _opened(value)
    return fields.finish_reason(value if opened is None else opened)


def _ttft(span: Span) -> float | None:
    found = _first(span.attributes, "ttft_seconds", lambda value: fields.seconds(value, "s"))
    if found is None:
        found = _first(span.attributes, "ttft_ms", lambda value: fields.seconds(value, "ms"))
    if found is None and span.started is not None:
        times = [
            time
            for name, time, _ in span.events
            if type(name) is str and name in _FIRST_TOKENS and time is not None
        ]
        if times and min(times) >= span.started:
            return (min(times) - span.started) / 1e9
    return None if found is None else float(found)


# What is remembered of counted calls: under the id of the span that holds them, their tokens and answer's id.
MAX_HELD = 256


def _held(span: Span, memory: Memory) -> list[Any] | None:
    kept = memory.get("held")
    found = kept.pop(span.span_id, None) if type(kept) is dict and span.span_id else None
    return found if type(found) is list and len(found) == 3 else None


def _hold(span: Span, told: list[Any] | None, memory: Memory) -> None:
    """Remember, for the span that holds this one, which calls were counted in it."""
    if told is None or span.parent_id is None:
        return
    kept = memory.setdefault("held", {})
    before = kept.get(span.parent_id)
    if type(before) is list and len(before) == 3:
        told = [
            *[_sum(one, other) for one, other in zip(before[:2], told[:2], strict=True)],
            told[2],
        ]
    kept[span.parent_id] = told
    while len(kept) > MAX_HELD:
        del kept[next(iter(kept))]


def _sum(one: Any, other: Any) -> int | None:
    counts = [count for count in (one, other) if type(count) is int]
    return sum(counts) if counts else None


def _is_told(own: list[Any], held: list[Any]) -> bool:
    """Tell whether a call is what the calls in it have told already: the same answer, or no more tokens."""
    if own[2] is not None and own[2] == held[2]:
        return True
    return all((mine or 0) <= (theirs or 0) for mine, theirs in zip(own[:2], held[:2], strict=True))


@cache
def _snake(camel: str) -> str:
    return re.sub("[A-Z]", lambda upper: "_" + upper[0].lower(), camel)


def _either(container: Record, camel: str) -> Any:
    """Take a field by its name in JSON, or by its name in protobuf (`start_time_unix_nano`)."""
    value = container.get(camel)
    if value is None:
        value = container.get(_snake(camel))
    return value


def _value(value: Any) -> Any:
    """Open an AnyValue: `{"intValue": "797"}` is 797."""
    if type(value) is not dict or not value:
        return None
    kind, inner = next(iter(value.items()))
    if kind in ("arrayValue", "array_value"):
        values = inner.get("values") if type(inner) is dict else None
        return (
            [_value(one) for one in values[:1024] if type(one) is dict and not _is_deep(one)]
            if (type(values) is list)
            else []
        )
    if kind in ("intValue", "int_value") and type(inner) is str:
        return int(inner) if inner.isascii() and inner.isdigit() and len(inner) <= 20 else None
    return None if type(inner) is dict else inner


def _is_deep(value: Record) -> bool:
    return not {"arrayValue", "array_value"}.isdisjoint(value)


def _attributes(container: Record, wanted: frozenset[str] | None = WANTED) -> dict[str, Any]:
    pairs = container.get("attributes")
    if type(pairs) is not list:
        return {}
    return {
        pair["key"]: _value(pair.get("value"))
        for pair in pairs
        if type(pair) is dict
        and type(pair.get("key")) is str
        and (wanted is None or pair["key"] in wanted)
    }


def _list(container: Any, *keys: str) -> Iterator[Record]:
    """Give the objects in the first of these lists that is there."""
    for key in keys:
        found = _either(container, key)
        if type(found) is list:
            yield from (one for one in found if type(one) is dict)
            return


def _scoped(resource: Record, scopes: Sequence[str], items: str) -> Iterator[tuple[str, Record]]:
    for scope in _list(resource, *scopes):
        about = scope.get("scope") or scope.get("instrumentationLibrary")
        name = about.get("name") if type(about) is dict else None
        for item in _list(scope, items):
            yield name if type(name) is str else "", item


def _span(scope: str, span: Record) -> Span:
    status = span.get("status")
    about = status if type(status) is dict else {}
    name = span.get("name")
    return Span(
        name=name if type(name) is str else "",
        scope=scope,
        attributes=_attributes(span, None if scope in _MIRRORED else WANTED),
        trace_id=ident(_either(span, "traceId")),
        span_id=ident(_either(span, "spanId")),
        parent_id=ident(_either(span, "parentSpanId")),
        started=moment(_either(span, "startTimeUnixNano")),
        ended=moment(_either(span, "endTimeUnixNano")),
        status=about.get("code"),
        message=about.get("message"),
        events=[
            (event.get("name"), moment(_either(event, "timeUnixNano")), _attributes(event))
            for event in _list(span, "events")
        ],
    )


def _log(scope: str, record: Record, memory: Memory) -> Sequence[Request]:
    names = [_either(record, "eventName"), _value(record.get("body"))]
    attributes = _attributes(record, None)
    if not attributes:
        return []
    told = Span(
        scope=scope,
        attributes=attributes,
        trace_id=ident(_either(record, "traceId")),
        span_id=ident(_either(record, "spanId")),
        ended=moment(_either(record, "timeUnixNano"))
        or moment(_either(record, "observedTimeUnixNano")),
        status=record.get("status"),
    )
    return read_event(told, names, memory)


_SPANS = ("scopeSpans", "instrumentationLibrarySpans")
_LOGS = ("scopeLogs", "instrumentationLibraryLogs")
_SIGNALS = ("resourceSpans", "resourceLogs", "resourceMetrics")


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a line of spans or log records; one of metrics gives no request."""
    signals = [_either(record, signal) for signal in _SIGNALS]
    if all(signal is None for signal in signals):
        # Java's `logging-otlp` writes each resource as a line of its own.
        inner = [_either(record, key) for key in ("scopeSpans", "scopeLogs", "scopeMetrics")]
        resource = record.get("resource")
        # a JavaScript object printed as it stands, as Gemini CLI does, is none
        if type(resource) is not dict or "_rawAttributes" in resource:
            return None
        if not any(type(one) is list for one in inner):
            return None
        resources: list[Record] = [record]
    else:
        if any(signal is not None and type(signal) is not list for signal in signals):
            raise ParseError("expected a list of resources")
        resources = [one for key in _SIGNALS[:2] for one in _list(record, key)]
    spans: list[Span] = []
    requests: list[Request] = []
    for resource in resources:
        spans += [_span(scope, span) for scope, span in _scoped(resource, _SPANS, "spans")]
        for scope, log in _scoped(resource, _LOGS, "logRecords"):
            requests += _log(scope, log, memory)
    return read_spans(spans, memory) + requests


parse.keys = {  # type: ignore[attr-defined] # a function's own attribute
    name
    for signal in (*_SIGNALS, "scopeSpans", "scopeLogs", "scopeMetrics")
    for name in (signal, _snake(signal))
}

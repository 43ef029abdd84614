"""The line that an ordinary program logs about a call to a model, in all the spellings in use.

`{"ts": …, "provider": …, "model": …, "endpoint": …, "status_code": 200, "latency_ms": 812.4, "usage": {…}}`, flat or
nested, with the usage of any provider; also with the provider's whole response under `response`, `body`, `result` or
their like (an object, or JSON text), read by the tables of the parsers beside this one, and its headers.

A line is a request where it tells of a *finished* call to a model: a model (or a provider, a host or a path that
only models have, or tokens) and with it an HTTP status, a duration, tokens or an error. A model alone is no request
(`"loaded model x"`, `"request started"`), and neither is a status or a duration without a model (an access log).
A duration's unit is told by its name (`latency_ms`) or its text (`"1.5s"`), never guessed: a bare
`"duration": 3` is not read. Which words have the cached tokens in their input is told by the words
themselves: `input_tokens` beside `cache_read_input_tokens` (Anthropic's pair) has not, `prompt_tokens` has.

Turn it on: let the program write one JSON line for each call; README tells how, with hooks for the OpenAI and
Anthropic SDKs.

Cannot tell: what the program does not write; each field can be told.

Sources: the samples' loggers (pino, structlog, python-json-logger, loguru), the providers' pages named in the
other modules, https://opentelemetry.io/docs/specs/semconv/gen-ai/, https://docs.langchain.com (`usage_metadata`),
https://ai-sdk.dev/docs/reference/ai-sdk-core/generate-text (`usage`)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sidecar import Table, compile_table

from . import anthropic, bedrock, gemini, openai

_UNITS = {
    "ms": ("_ms", "_millis", "_milliseconds", "_msec", "Ms", "Millis", "Milliseconds"),
    "s": ("_s", "_sec", "_secs", "_seconds", "S", "Sec", "Secs", "Seconds"),
    "us": ("_us", "_micros", "_microseconds", "Us", "Micros", "Microseconds"),
    "ns": ("_ns", "_nanos", "_nanoseconds", "Ns", "Nanos", "Nanoseconds"),
}


def _spellings(*names: str) -> Iterator[dict[str, str]]:
    """Tell the places of a duration: each name with each unit behind it, and bare, for a text with a unit."""
    for name in names:
        first, *rest = name.split("_")
        camel = first + "".join(word.capitalize() for word in rest)
        for unit, endings in _UNITS.items():
            for ending in endings:
                # `totalMs`, `total_ms`, and `latency.ms`, `timing.total_ms` by the names given.
                yield {"path": (name if ending[0] == "_" else camel) + ending, "unit": unit}
        for bare in dict.fromkeys((name, camel)):
            yield {"path": bare, "as": "duration"}


_USAGES = (
    "usage",
    "response.usage",
    "llm.usage",
    "gen_ai.usage",
    "token_usage",
    "tokenUsage",
    "usage_metadata",
    "usageMetadata",
    "usage_object",
    "token_counts",
    "tokens",
)
_INPUT: tuple[Any, ...] = (
    # First those that have the cached tokens in them, whatever is beside them (LiteLLM, LangChain, gateways).
    "prompt_tokens",
    ("promptTokenCount", "toolUsePromptTokenCount"),
    ("prompt_token_count", "tool_use_prompt_token_count"),
    "promptTokens",
    # Anthropic and Bedrock have names of their own for what they count beside the input.
    ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    (
        "inputTokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
        "cacheReadInputTokenCount",
        "cacheWriteInputTokenCount",
        "cacheCreationInputTokens",
    ),
    "input_token_count",
    "inputTokenCount",
    "tokens_in",
    "tokensIn",
    "tokens_input",
    "tokens_prompt",
    "input_token",
    "num_input_tokens",
    "num_prompt_tokens",
    "n_prompt_tokens",
    "total_input_tokens",
)
_OUTPUT: tuple[Any, ...] = (
    "completion_tokens",
    ("candidatesTokenCount", "thoughtsTokenCount"),
    ("candidates_token_count", "thoughts_token_count"),
    "completionTokens",
    "output_tokens",
    "outputTokens",
    "output_token_count",
    "outputTokenCount",
    "completion_token_count",
    "tokens_out",
    "tokensOut",
    "tokens_output",
    "tokens_completion",
    "output_token",
    "num_output_tokens",
    "num_completion_tokens",
    "total_output_tokens",
)
_CACHE_READ: tuple[Any, ...] = (
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "input_token_details.cache_read",
    "cache_read_input_tokens",
    "cacheReadInputTokens",
    "cacheReadInputTokenCount",
    "prompt_cache_hit_tokens",
    "cachedContentTokenCount",
    "cached_content_token_count",
    "cached_tokens",
    "cachedTokens",
    "cached_input_tokens",
    "cachedInputTokens",
    "cached_prompt_tokens",
    "cache_read_tokens",
    "cacheReadTokens",
    "cache_read.input_tokens",
    "tokens_cached",
)
_CACHE_WRITE: tuple[Any, ...] = (
    "prompt_tokens_details.cache_write_tokens",
    "prompt_tokens_details.cache_creation_tokens",
    "input_tokens_details.cache_write_tokens",
    "input_token_details.cache_creation",
    "cache_creation_input_tokens",
    "cacheCreationInputTokens",
    "cacheWriteInputTokens",
    "cacheWriteInputTokenCount",
    "cache_write_tokens",
    "cacheWriteTokens",
    "cache_creation_tokens",
    "cache_write_input_tokens",
    "cache_creation.input_tokens",
)
_CACHE_WRITE_1H: tuple[Any, ...] = (
    "cache_creation.ephemeral_1h_input_tokens",
    "prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens",
    "cache_write_1h_tokens",
)
_REASONING: tuple[Any, ...] = (
    "completion_tokens_details.reasoning_tokens",
    "output_tokens_details.reasoning_tokens",
    "output_tokens_details.thinking_tokens",
    "output_token_details.reasoning",
    "reasoning_tokens",
    "reasoningTokens",
    "thoughtsTokenCount",
    "thoughts_token_count",
    "thinking_tokens",
    "reasoning_output_tokens",
)
_AUDIO_INPUT: tuple[Any, ...] = (
    "prompt_tokens_details.audio_tokens",
    "input_tokens_details.audio_tokens",
    "input_token_details.audio",
    "audio_input_tokens",
)
_AUDIO_OUTPUT: tuple[Any, ...] = (
    "completion_tokens_details.audio_tokens",
    "output_tokens_details.audio_tokens",
    "output_token_details.audio",
    "audio_output_tokens",
)
_INSIDE_USAGE: dict[str, tuple[str, ...]] = {
    # Words too short for the line itself.
    "input_tokens": ("input", "prompt", "in"),
    "output_tokens": ("output", "completion", "out"),
    "cache_read_tokens": ("cache_read", "cached", "cacheRead"),
    "cache_write_tokens": ("cache_write", "cacheWrite"),
    "reasoning_tokens": ("reasoning",),
    "total_tokens": ("total",),
}


def _tokens(name: str, words: tuple[Any, ...]) -> list[Any]:
    """Tell the places of a number of tokens: each word in each usage."""
    return [
        {"sum": [usage + one for one in word]} if isinstance(word, tuple) else usage + word
        for usage in (*(usage + "." for usage in _USAGES), "")  # the last: on the line itself
        for word in (*words, *(_INSIDE_USAGE.get(name, ()) if usage else ()))
    ]


_URLS = (
    "endpoint",
    "api_endpoint",
    "url",
    "uri",
    "path",
    "api_path",
    "url_path",
    "request_path",
    "request_uri",
    "request_url",
    "request.path",
    "request.url",
    "request.uri",
    "req.url",
    "http.path",
    "http.url",
    "http.target",
    "url.path",
    "url.full",
    "route",
)
_HOSTS = (
    "host",
    "hostname",
    "server",
    "server.address",
    "upstream_host",
    "request.host",
    "http.host",
)
_BASES = ("base_url", "api_base", "baseURL", "baseUrl")
_PROVIDERS = (
    "provider",
    "provider_name",
    "providerName",
    "llm_provider",
    "llm.provider",
    "model_provider",
    "ai_provider",
    "custom_llm_provider",
    "gen_ai.provider.name",
    "gen_ai.system",
    "vendor",
)
_HEADERS = (
    "response_headers",
    "responseHeaders",
    "headers",
    "response.headers",
    "rate_limit",
    "ratelimit",
)


def _headers(kind: str) -> list[str]:
    """Tell the places of what is left of a rate limit: the providers' headers, and a program's own words."""
    names = [f"x-ratelimit-remaining-{kind}", f"anthropic-ratelimit-{kind}-remaining"]
    spelled = [*names, *(name.title() for name in names), "X-RateLimit-Remaining-" + kind.title()]
    return [
        f"rate_limit_remaining_{kind}",
        f"ratelimit_remaining_{kind}",
        f"rate_limit.remaining_{kind}",
        f"rate_limit.{kind}_remaining",
        f"x_ratelimit_remaining_{kind}",
        *(f"{place}{name}" for place in (*(h + "." for h in _HEADERS[:4]), "") for name in spelled),
    ]


_ANSWERED = ("response_model", "response.model", "gen_ai.response.model")
_MODELS = (
    "model",
    "model_name",
    "modelName",
    "model_id",
    "modelId",
    "model.name",
    "model.id",
    "llm_model",
    "llm.model",
    "llm.model_name",
    "ai_model",
    "ai.model",
)
_ASKED = (
    "request_model",
    "requested_model",
    "request.model",
    "gen_ai.request.model",
    "request_body.model",
    "request.body.model",
    "params.model",
    "kwargs.model",
)
_DEPLOYMENTS = (
    "deployment_name",
    "deployment",
    *({"path": path, "as": "model_in_path"} for path in _URLS),
)
_LINE: dict[str, Any] = {
    "is_model_call": [
        *({"path": path, "as": "known_provider"} for path in _PROVIDERS),
        *({"path": path, "as": "host_provider"} for path in (*_HOSTS, *_BASES, *_URLS)),
        *({"path": path, "as": "model_endpoint"} for path in _URLS),
    ],
    "provider": [
        *_PROVIDERS,
        *({"path": path, "as": "host_provider"} for path in (*_HOSTS, *_BASES, *_URLS)),
    ],
    "model": [*_ANSWERED, *_MODELS, *_ASKED, *_DEPLOYMENTS],
    "request_model": [*_ASKED, *_MODELS, *_DEPLOYMENTS],
    "endpoint": [
        *_URLS,
        "operation",
        "operation_name",
        "gen_ai.operation.name",
        "call_type",
        "request_type",
        "api",
    ],
    "status": [
        "status_code",
        "statusCode",
        "http_status",
        "http_status_code",
        "httpStatus",
        "status",
        "response_status",
        "response_code",
        "response.status",
        "response.status_code",
        "response.statusCode",
        "http.status_code",
        "http.status",
        "http.response.status_code",
        "res.statusCode",
        "res.status",
        "error.status_code",
        "error.status",
        "error.statusCode",
        "error.http_status",
        "err.status",
        "err.statusCode",
        "err.status_code",
    ],
    "outcome": ["success", "ok", "succeeded", "status", "outcome", "result"],
    "error": [
        "error_code",
        "errorCode",
        "error_type",
        "errorType",
        "error.type",
        "error.code",
        "error",
        "err",
        "exception",
        "exc_info",
        "error_class",
        "error_name",
        "exception_type",
        "error_message",
        "errorMessage",
        "response.error",
        "response.Error",
        "response_body.error",
        "body.error",
        "result.error",
    ],
    "duration": list(
        _spellings(
            "latency",
            "duration",
            "elapsed",
            "elapsed_time",
            "total_latency",
            "total_duration",
            "total_time",
            "request_duration",
            "request_latency",
            "request_time",
            "response_time",
            "response_latency",
            "llm_latency",
            "llm_duration",
            "api_latency",
            "api_duration",
            "call_duration",
            "processing_time",
            "wall_time",
            "time_taken",
            "took",
            "time",
            "e2e_latency",
            "response.latency",
            "response.duration",
            "response.elapsed",
            "timing.total",
            "timing.duration",
            "timings.total",
            "metrics.latency",
            "metrics.duration",
            "latency.total",
            "llm.latency",
            "llm.duration",
        )
    ),
    "time_to_first_token": list(
        _spellings(
            "ttft",
            "time_to_first_token",
            "time_to_first_chunk",
            "first_token_latency",
            "first_token_time",
            "first_token",
            "first_chunk",
            "timing.ttft",
            "timing.time_to_first_token",
            "timing.first_token",
            "metrics.ttft",
            "metrics.time_to_first_token",
            "latency.ttft",
            "latency.first_token",
            "llm.ttft",
        )
    ),
    "input_tokens": _tokens("input_tokens", _INPUT),
    "cache_read_tokens": _tokens("cache_read_tokens", _CACHE_READ),
    "cache_write_tokens": _tokens("cache_write_tokens", _CACHE_WRITE),
    "cache_write_1h_tokens": _tokens("cache_write_1h_tokens", _CACHE_WRITE_1H),
    "output_tokens": _tokens("output_tokens", _OUTPUT),
    "reasoning_tokens": _tokens("reasoning_tokens", _REASONING),
    "audio_input_tokens": _tokens("audio_input_tokens", _AUDIO_INPUT),
    "audio_output_tokens": _tokens("audio_output_tokens", _AUDIO_OUTPUT),
    "total_tokens": _tokens(
        "total_tokens", ("total_tokens", "totalTokens", "totalTokenCount", "total_token_count")
    ),
    "cost": [
        "cost_usd",
        "costUsd",
        "costUSD",
        "cost",
        "usd_cost",
        "total_cost_usd",
        "total_cost",
        "response_cost",
        "price_usd",
        "estimated_cost_usd",
        "estimated_cost",
        "cost.total_usd",
        "cost.total",
        "cost.usd",
        "usage.cost_usd",
        "usage.cost",
        "usage.total_cost",
        {"path": "cost_cents", "unit": "cents"},
        {"path": "cost_usd_cents", "unit": "cents"},
    ],
    "finish_reason": [
        "finish_reason",
        "finishReason",
        "stop_reason",
        "stopReason",
        "finish_reasons",
        "gen_ai.response.finish_reasons",
        "response.finish_reason",
        "response.stop_reason",
        "llm.finish_reason",
    ],
    "service_tier": ["service_tier", "serviceTier", "usage.service_tier"],
    "rate_limit_remaining_requests": _headers("requests"),
    "rate_limit_remaining_tokens": _headers("tokens"),
    "batch_size": ["batch_size", "batchSize", "num_inputs"],
    "timestamp": [
        "ts",
        "timestamp",
        "@timestamp",
        "end_time",
        "endTime",
        "ended_at",
        "finished_at",
        "completed_at",
        "time",
        "datetime",
        "asctime",
        "date",
        "logged_at",
        "event_time",
        "created_at",
    ],
    "started": ["start_time", "startTime", "started_at", "startedAt", "request_start"],
    "trace_id": ["trace_id", "traceId", "traceID", "trace.id", "dd.trace_id", "otelTraceID"],
    "served_from_cache": ["served_from_cache", "response_cached"],
    "cache_hit": ["cache_hit", "cacheHit", "from_cache"],
}

LINE = replace(
    Table.of(
        "generic",
        {
            **_LINE,
            "needs": [
                "model|is_model_call|input_tokens|output_tokens",
                "status_code|duration_seconds|input_tokens|output_tokens|total_tokens|error",
                # Tokens alone are anybody's sum; somebody must have been called.
                "model|is_model_call|status_code|duration_seconds",
            ],
            # Whole bodies and other formats, should this parser be asked before theirs.
            "unless": {
                "object": [*openai.OBJECTS],
                "type": [*openai.EVENTS],
                "role": ["assistant"],
                "candidates": True,
                "promptFeedback": True,
                "prompt_feedback": True,
                "output.message": True,
                "metadata.usage": True,
                "inputTextTokenCount": True,
                "litellm_call_id": True,
                "resourceSpans": True,
                "schemaType": True,
            },
        },
    ),
    bodies=(*openai.BODIES, *anthropic.BODIES, *bedrock.BODIES, *gemini.BODIES),
    body_at=(
        "response",
        "response_body",
        "responseBody",
        "response.body",
        "response.data",
        "response.json",
        "raw_response",
        "body",
        "result",
        "completion",
        "output",
        "resp",
        "data",
    ),
    inside=(
        "llm",
        "ai",
        "gen_ai",
        "llm_call",
        "llm_request",
        "llm_response",
        "extra",
        "context",
        "data",
        "fields",
    ),
)

parse = compile_table(LINE)
parse.rank = 1  # type: ignore[attr-defined] # a function's own attribute: it is asked last

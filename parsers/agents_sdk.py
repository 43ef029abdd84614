"""OpenAI Agents SDK's trace export: `trace.span` objects of the types `generation` and `response`.

Turn it on: `agents.add_trace_processor` with a `TracingProcessor` whose `on_span_end` writes
`json.dumps(span.export())` as a line.

`trace.export()` beside it tells of no request. **The same usage stands again** in the `custom` spans `turn` and
`task`, and agents, functions, guardrails and handoffs are no calls: only generations (chat completions) and responses
are counted.

A response span names no model: it is in OpenAI's own store, under `response_id`. A failed one has no usage, and an
`error` with its text. The provider is told by the `base_url` of a generation; with LiteLLM behind it by what stands
before the model's slash; else it is `openai`.

Cannot tell: the model of a response span, the time to the first token, cost, rate limits, the HTTP status of a
success, and why an answer ended.

Sources: https://github.com/openai/openai-agents-python/blob/main/src/agents/tracing/span_data.py, …/spans.py,
https://openai.github.io/openai-agents-python/tracing/; the JavaScript SDK exports the same
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table, fields

_SPAN: dict[str, Any] = {
    "provider": ["provider", {"const": "openai"}],
    "model": "model",
    "input_tokens": ["usage.input_tokens", "usage.prompt_tokens", "usage.inputTokens"],
    "cache_read_tokens": [
        "usage.input_tokens_details.cached_tokens",
        "usage.prompt_tokens_details.cached_tokens",
    ],
    "cache_write_tokens": "usage.input_tokens_details.cache_write_tokens",
    "output_tokens": ["usage.output_tokens", "usage.completion_tokens", "usage.outputTokens"],
    "reasoning_tokens": [
        "usage.output_tokens_details.reasoning_tokens",
        "usage.completion_tokens_details.reasoning_tokens",
    ],
    "error": ["error.data", "error.message"],
    "started": "started_at",
    "timestamp": "ended_at",
    "trace_id": "trace_id",
    "id": "id",
}
_generation = compile_table(
    Table.of("agents_sdk", {**_SPAN, "endpoint": {"const": "/chat/completions"}})
)
_response = compile_table(Table.of("agents_sdk", {**_SPAN, "endpoint": {"const": "/responses"}}))
_BESIDE = ("id", "trace_id", "started_at", "ended_at", "error")


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a span, or a trace."""
    kind = record.get("object")
    if kind == "trace":
        return [] if "workflow_name" in record else None
    span = record.get("span_data")
    if kind != "trace.span" or type(span) is not dict:
        return None
    what = span.get("type")
    if what not in ("generation", "response") or not record.get("ended_at"):
        return []
    told = {key: record.get(key) for key in _BESIDE}
    told["usage"], told["model"] = span.get("usage"), span.get("model")
    told["provider"] = fields.host_provider(fields.get(span, "model_config.base_url"))
    model = fields.text(span.get("model")) or ""
    if fields.get(span, "model_config.model_impl") == "litellm" and "/" in model:
        told["provider"] = model.removeprefix("litellm/").partition("/")[0]
    return (_generation if what == "generation" else _response)(told, memory)


parse.keys = {"object": {"trace", "trace.span"}}  # type: ignore[attr-defined] # a function's own attribute

"""Kong Gateway's log of a request that its AI plugins served: file-log, http-log and their like.

Turn it on: with a logging plugin, and with `logging.log_statistics` of the AI plugin. From 3.9 the call is told under
`ai.proxy`; up to 3.8 each plugin has a member of its own under `ai`, with other names for the tokens
(`prompt_token`), and **several plugins in one line are several calls to models**, each a request here. http-log
with `max_batch_size` over 1 writes arrays. What the AI Semantic Cache answered (`cache_status` Hit) is a request
without tokens. `cost` is by the prices configured in Kong, in US dollars as far as one can tell.

A line that has no `ai`, because no AI plugin came to answer, is not this format.

Cannot tell: why an answer ended, what is left of a rate limit, and the time to the first token where the version has
none.

Sources: https://developer.konghq.com/ai-gateway/ai-audit-log-reference/,
https://docs.konghq.com/gateway/3.8.x/production/logging/ai-analytics/,
https://github.com/Kong/kong/blob/master/kong/llm/plugin/shared-filters/serialize-analytics.lua
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table, fields

_READ = ("usage.prompt_tokens_details.cached_tokens", "usage.cache_read_input_tokens")
_PROMPT = ("usage.prompt_tokens", "usage.prompt_token")
_COMPLETION = ("usage.completion_tokens", "usage.completion_token")
_CALL: dict[str, Any] = {
    "provider": "meta.provider_name",
    "model": ["meta.response_model", "meta.request_model"],
    "endpoint": ["upstream_uri", "request.uri", "request.url"],
    "status": "status",
    "duration": [
        {"path": "meta.llm_latency", "unit": "ms"},
        {"path": "latencies.request", "unit": "ms"},
    ],
    "time_to_first_token": {"path": "usage.time_to_first_token", "unit": "ms"},
    "input_tokens": list(_PROMPT),
    "cache_read_tokens": list(_READ),
    "cache_write_tokens": [
        "usage.prompt_tokens_details.cache_creation_tokens",
        "usage.cache_creation_input_tokens",
    ],
    "output_tokens": list(_COMPLETION),
    "reasoning_tokens": "usage.completion_tokens_details.reasoning_tokens",
    "audio_input_tokens": "usage.prompt_tokens_details.audio_tokens",
    "audio_output_tokens": "usage.completion_tokens_details.audio_tokens",
    "cost": "usage.cost",
    "timestamp": "ended",
    "trace_id": "trace_id.w3c",
    "served_from_cache": "cache.cache_status",
}
_call = compile_table(Table.of("kong", _CALL))
_call_beside_cache = compile_table(Table.of("kong", {**_CALL, "input_excludes_cache": True}))
_BESIDE = ("upstream_uri", "request", "latencies", "trace_id")


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a line of a logging plugin: a request for each call to a model that is told in it."""
    ai, latencies = record.get("ai"), record.get("latencies")
    if type(ai) is not dict or type(latencies) is not dict:
        return None
    if not (
        {"kong", "proxy", "request"} & latencies.keys() and {"request", "response"} & record.keys()
    ):
        return None
    calls = [call for call in ai.values() if _is_model_call(call)]
    took = fields.number(latencies.get("request")) or 0.0
    started = fields.number(record.get("started_at"))
    line = {key: record.get(key) for key in _BESIDE}
    line["ended"] = None if started is None else started + took
    requests: list[Request] = []
    for call in calls:
        told = {**line, **{key: call.get(key) for key in ("usage", "meta", "cache")}}
        told["meta"] = _meta(call.get("meta"))
        is_answered = bool(_first_count(call, _COMPLETION))
        if len(calls) == 1 or not is_answered:
            # of several calls, the one that failed is the one that gave nothing
            told["status"] = fields.get(record, "response.status")
        if len(calls) > 1:
            told["latencies"] = None
        if fields.get(call, "meta.request_mode") not in (None, "stream") and told["usage"]:
            told["usage"] = {**told["usage"], "time_to_first_token": None}
        read, prompt = (_first_count(call, paths) for paths in (_READ, _PROMPT))
        # what is more than the whole was counted beside it
        parse_call = _call_beside_cache if (read or 0) > (prompt or 0) else _call
        requests += parse_call(told, memory) or ()
    return requests


def _is_model_call(call: Any) -> bool:
    """Tell a member of `ai` that tells of a call; beside them are payloads, guards and other plugins' figures."""
    if type(call) is not dict or type(call.get("usage") or {}) is not dict:
        return False
    meta = call.get("meta")
    if type(meta) is dict and any(
        fields.text(meta.get(key)) for key in ("response_model", "request_model", "provider_name")
    ):
        return True
    return _first_count(call, (*_PROMPT, *_COMPLETION)) is not None


def _meta(meta: Any) -> dict[str, Any]:
    """Leave out what Kong writes for what it does not know."""
    if type(meta) is not dict:
        return {}
    return {key: value for key, value in meta.items() if value != "UNSPECIFIED"}


def _first_count(call: dict[str, Any], paths: Sequence[str]) -> int | None:
    counts = (fields.count(fields.get(call, path)) for path in paths)
    return next((count for count in counts if count is not None), None)


parse.keys = {"ai"}  # type: ignore[attr-defined] # a function's own attribute

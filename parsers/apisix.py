"""Apache APISIX's log of a request through ai-proxy: `llm_summary` of a logger, or NGINX variables in an access log.

Turn it on: with `logging.summaries` of ai-proxy (or ai-proxy-multi) and a logger plugin (http-logger, kafka-logger,
file-logger), or with an `access_log_format` in JSON that has `$request_type`, `$llm_model`, `$llm_prompt_tokens` and
their like, best under the variables' own names.

In `llm_summary` times are milliseconds, and `duration` is the time **to the first token**; `upstream_response_time`
is how long the model took. In the access log `$apisix_upstream_response_time` and `$llm_time_to_first_token` are
milliseconds too, `$request_time` and `$upstream_response_time` seconds. The log names no provider (the upstream's host
may). For clients that speak Anthropic's or Bedrock's own protocol the prompt is told without its cached tokens.

Cannot tell: the provider (but by the host), cost, why an answer ended, and what is left of a rate limit.

Sources: https://github.com/apache/apisix/blob/master/apisix/plugins/ai-proxy/base.lua (set_logging),
https://github.com/apache/apisix/tree/master/apisix/plugins/ai-protocols (extract_usage),
https://apisix.apache.org/docs/apisix/plugins/ai-proxy/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table, fields

_COUNTS = {
    "input_tokens": "prompt_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
    "output_tokens": "completion_tokens",
    "reasoning_tokens": "reasoning_tokens",
}
_SUMMARY: dict[str, Any] = {
    "provider": [
        {"path": "upstream_host", "as": "host_provider"},
        {"path": "upstream", "as": "host_provider"},
    ],
    "model": ["llm_summary.model", "llm_summary.request_model"],
    "endpoint": ["request.uri", "request.url", "uri", "request_uri"],
    "status": ["response.status", "status"],
    "duration": [{"path": "took", "unit": "s"}, {"path": "latency", "unit": "ms"}],
    "time_to_first_token": {"path": "ttft", "unit": "ms"},
    **{ours: f"llm_summary.{theirs}" for ours, theirs in _COUNTS.items()},
    "timestamp": ["ended", "@timestamp", "timestamp", "time_iso8601"],
}
_ACCESS: dict[str, Any] = {
    "provider": [
        {"path": "upstream_host", "as": "host_provider"},
        {"path": "upstream_uri", "as": "host_provider"},
    ],
    "model": ["llm_model", "model_effective", "request_llm_model", "model_requested", "model"],
    "endpoint": ["uri", "request_uri", "path", "request_line", "request"],
    "status": "status",
    "duration": [
        {"path": "apisix_upstream_response_time", "unit": "ms"},
        {"path": "request_time", "unit": "s"},
        {"path": "upstream_response_time", "unit": "s"},
    ],
    "time_to_first_token": [{"path": "llm_time_to_first_token", "unit": "ms"}, "ttft_ms"],
    **{ours: [f"llm_{theirs}", theirs] for ours, theirs in _COUNTS.items()},
    "timestamp": ["@timestamp", "time_iso8601", "timestamp", "time", "msec"],
}
_BESIDE: dict[str, Any] = {"input_excludes_cache": True}
_summary = compile_table(Table.of("apisix", _SUMMARY))
_summary_beside_cache = compile_table(Table.of("apisix", {**_SUMMARY, **_BESIDE}))
_access = compile_table(Table.of("apisix", _ACCESS))
_access_beside_cache = compile_table(Table.of("apisix", {**_ACCESS, **_BESIDE}))

_IN_SUMMARY = frozenset({"model", "request_model", "prompt_tokens", "upstream_response_time"})
_BY_LOGGER = frozenset(
    (
        *("request", "response", "route_id", "service_id", "latency", "upstream_latency"),
        *("apisix_latency", "llm_request", "client_ip", "@timestamp", "host"),
    )
)
_VARIABLES = frozenset(
    (
        *("llm_model", "request_llm_model", "llm_prompt_tokens", "llm_completion_tokens"),
        *("llm_time_to_first_token", "apisix_upstream_response_time"),
    )
)


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a logger's entry, or a line of the access log."""
    summary = record.get("llm_summary")
    if type(summary) is dict:
        if _IN_SUMMARY.isdisjoint(summary) or _BY_LOGGER.isdisjoint(record):
            return None
        read = _summary_beside_cache if _is_beside(record, summary, "") else _summary
        return read({**record, **_times(record, summary)}, memory) or []
    kind = record.get("request_type")
    if type(kind) is not str or "status" not in record:
        return None
    if not kind.startswith("ai_"):
        return [] if kind == "traditional_http" and not _VARIABLES.isdisjoint(record) else None
    told = {key: value for key, value in record.items() if value not in ("", "-")}
    for key in ("request", "request_line"):  # NGINX' own, `POST /v1/messages HTTP/1.1`
        if type(told.get(key)) is str:
            told[key] = " ".join(told[key].split(" ")[:2])
    if kind != "ai_stream":  # there it is the time to the whole answer
        told.update(llm_time_to_first_token=None, ttft_ms=None)
    read = _access_beside_cache if _is_beside(told, told, "llm_") else _access
    return read(told, memory) or []


def _is_beside(record: Record, counts: Record, prefix: str) -> bool:
    """Tell whether the cached tokens were counted beside the prompt's."""
    path = fields.get(record, "request.uri") or record.get("uri") or record.get("request_uri")
    if fields.endpoint(path) in ("/messages", "/converse", "/converse-stream"):
        return True
    names = ("cache_read_input_tokens", "cache_creation_input_tokens", "prompt_tokens")
    read, written, prompt = (fields.count(counts.get(prefix + name)) or 0 for name in names)
    return read + written > prompt


def _times(record: Record, summary: Record) -> dict[str, float | None]:
    """Tell how long it took in seconds, when it ended, and of a stream the milliseconds to its first token."""
    took = _seconds(summary.get("upstream_response_time"))
    first, latency = fields.number(summary.get("duration")), fields.number(record.get("latency"))
    is_stream = fields.flag(summary.get("stream"))
    if is_stream is None:
        is_stream = fields.flag(fields.get(record, "llm_request.stream"))
    if is_stream is None:
        is_stream = bool(first and took and first / 1e3 < took)
    if not took and first and not is_stream:
        took = first / 1e3
    started = fields.number(record.get("start_time"))
    return {
        "took": took or None,
        "ttft": (first or None) if is_stream else None,
        "ended": None if started is None else (started + (latency or (took or 0.0) * 1e3)),
    }


def _seconds(value: Any) -> float | None:
    """Read APISIX's milliseconds, which are whole, and NGINX's seconds, which have decimals."""
    found = fields.number(value)
    has_decimals = (type(value) is str and "." in value) or (
        type(value) is float and not value.is_integer()
    )
    return found if found is None or has_decimals else found / 1e3


parse.keys = {"llm_summary", "request_type"}  # type: ignore[attr-defined] # a function's own attribute

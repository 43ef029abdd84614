"""Higress' access log with what its ai-statistics plugin tells: `ai_log`, or the old fields beside the others.

Turn it on: add `"ai_log":"%FILTER_STATE(wasm.ai_log:PLAIN)%"` to the gateway's access log format; it is JSON text, with numbers or
texts in it. The first versions wrote `model`, `input_token` and `output_token` as fields of the line. Everything
may be text, and "-" is what is not there; a line whose `ai_log` is "-" was no AI request, and neither was one that
has no model, no tokens and no model's path. Durations are milliseconds.

Anthropic's cached tokens and Gemini's thoughts are told beside the counts, as their APIs do, and are added. What
ai-cache answered (`cache_status` hit, of which no real line was seen) is a request without tokens. The provider is told
by the host, or by the name of the service that Higress makes for a provider (`llm-NAME.internal…`).

Cannot tell: cost, why an answer ended, and what is left of a rate limit.

Sources: https://github.com/alibaba/higress/tree/main/plugins/wasm-go/extensions/ai-statistics (README, main.go),
https://github.com/higress-group/wasm-go/blob/main/pkg/tokenusage/tokenusage.go
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from sidecar import Memory, ParseError, Record, Request, Table, compile_table, fields

from .envoy import failure_of

_AI = frozenset(
    (
        *("model", "input_token", "output_token", "total_token", "llm_service_duration", "api"),
        *("llm_first_token_duration", "response_type", "chat_id", "chat_round"),
    )
)
_GATEWAY = frozenset(
    (
        *("authority", "upstream_cluster", "route_name", "response_flags", "upstream_host"),
        *("istio_policy_status", "upstream_service_time", "requested_server_name"),
    )
)
_line = compile_table(
    Table.of(
        "higress",
        {
            "provider": "provider",
            "model": ["model", "request_model"],
            "endpoint": ["path", "request_path", "original_path"],
            "status": "response_code",
            "error": "failure",
            "duration": [
                {"path": "llm_service_duration", "unit": "ms"},
                {"path": "duration", "unit": "ms"},
            ],
            "time_to_first_token": {"path": "llm_first_token_duration", "unit": "ms"},
            "input_tokens": "input",
            "cache_read_tokens": "cache_read",
            "cache_write_tokens": "cache_write",
            "output_tokens": "output",
            "reasoning_tokens": "reasoning",
            "audio_input_tokens": "input_token_details.audio_tokens",
            "audio_output_tokens": "output_token_details.audio_tokens",
            "started": "start_time",
            "trace_id": "trace_id",
            "served_from_cache": "cache_status",
        },
    )
)


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a line of the access log."""
    is_of_gateway = "response_code" in record and not _GATEWAY.isdisjoint(record)
    if "ai_log" in record:
        ai = _ai_log(record["ai_log"])
        if not (is_of_gateway or (ai and not _AI.isdisjoint(ai))):
            return None
        if ai is None:
            raise ParseError("ai_log: expected JSON text, got text that is none")
        record = {**record, **ai}
    elif not is_of_gateway or not {"input_token", "output_token"} & record.keys():
        return None
    told = {
        key: value for key, value in record.items() if value not in ("-", "", "unknown", "UNKNOWN")
    }
    told.update(_counts(told))
    is_counted = told["input"] is not None or told["output"] is not None
    if not (
        is_counted
        or fields.model(told.get("model"))
        or ("ai_log" in told and fields.model_endpoint(told.get("path")))
    ):
        return []
    told["failure"] = failure_of(told.get("response_flags"), is_answered=is_counted)
    told["provider"] = _provider(told)
    return _line(told, memory) or []


def _ai_log(value: Any) -> dict[str, Any] | None:
    """Open what the plugin told; `None` where it is broken."""
    if type(value) is dict:
        return value
    if value is None or (type(value) is str and value.strip() in ("", "-")):
        return {}
    try:
        opened = orjson.loads(value) if type(value) is str else None
    except orjson.JSONDecodeError:
        return None
    return opened if type(opened) is dict else None


def _counts(told: Record) -> dict[str, int | None]:
    """Tell all tokens, with those that the provider counts beside its input and output."""
    inside = _details(told.get("input_token_details"))
    outside = _details(told.get("output_token_details"))
    written = fields.count(inside.get("cache_creation_input_tokens"))
    read = fields.count(inside.get("cache_read_input_tokens"))
    thoughts = fields.count(outside.get("thoughts_token_count"))
    of_tools = fields.count(inside.get("tool_use_prompt_token_count"))
    given, made = fields.count(told.get("input_token")), fields.count(told.get("output_token"))
    total = fields.count(told.get("total_token"))
    beside = (read or 0) + (written or 0) + (of_tools or 0)
    if total is None or total >= (given or 0) + (made or 0) + beside + (thoughts or 0):
        given = given + beside if given is not None else beside or None
        made = made + (thoughts or 0) if made is not None else thoughts
    for name in ("cached_tokens", "cached_content_token_count"):  # inside the input
        read = fields.count(inside.get(name)) if read is None else read
    if thoughts is None:
        thoughts = fields.count(outside.get("reasoning_tokens"))
    return {
        "input": given,
        "output": made,
        "cache_read": read,
        "cache_write": written,
        "reasoning": thoughts,
    }


def _details(value: Any) -> dict[str, Any]:
    return _ai_log(value) or {}


_SERVICE = re.compile(r"\bllm-([a-z0-9-]+?)\.(?:internal|dns|static)", re.A)


def _provider(told: Record) -> str | None:
    """Tell the provider by the host asked, or by the upstream's name."""
    found = fields.host_provider(told.get("authority"))
    cluster = fields.text(told.get("upstream_cluster")) or ""
    service = _SERVICE.search(cluster)
    return found or (service and fields.provider(service[1])) or fields.known_provider(cluster)


parse.keys = {"response_code", "ai_log"}  # type: ignore[attr-defined] # a function's own attribute

"""Helicone's export of requests: what `npx @helicone/export` and its query API give, one request a line.

`delay_ms` and `time_to_first_token` are milliseconds. Cached tokens, where they are told, are counted beside
the prompt's. What Helicone answered from its cache is a request without tokens; a status of -2 is a request that
is pending, which is none yet.

No real line could be seen; the fields are those of its source. That the prompt is told without its cached tokens, and
what the statuses below 0 mean, could not be looked up there.

Turn it on: `npx @helicone/export --format jsonl`, or keep what the query API answers.

Cannot tell: reasoning tokens, why an answer ended, and what is left of a rate limit.

Sources: https://github.com/Helicone/helicone/tree/main/examples/export,
https://github.com/Helicone/helicone/blob/main/valhalla/jawn/src/lib/stores/request/request.ts (HeliconeRequest)
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar import Memory, Record, Request, Table, compile_table

_request = compile_table(
    Table.of(
        "helicone",
        {
            "when": {"request_id": True, "request_created_at": True, "response_status": True},
            "provider": [
                {"path": "target_url", "as": "host_provider"},
                {"path": "request_path", "as": "host_provider"},
                "provider",
            ],
            "model": ["response_model", "model_override", "request_model", "model"],
            "endpoint": ["request_path", "target_url"],
            "status": "response_status",
            "error": "failure",
            "duration": "delay_ms",
            "time_to_first_token": {"path": "time_to_first_token", "unit": "ms"},
            "input_excludes_cache": True,
            "input_tokens": "prompt_tokens",
            "cache_read_tokens": "prompt_cache_read_tokens",
            "cache_write_tokens": "prompt_cache_write_tokens",
            "output_tokens": "completion_tokens",
            "reasoning_tokens": "reasoning_tokens",
            "audio_input_tokens": "prompt_audio_tokens",
            "audio_output_tokens": "completion_audio_tokens",
            "cost": ["costUSD", "cost_usd"],
            "started": "request_created_at",
            "timestamp": "response_created_at",
            "served_from_cache": {"path": "cache_hit_created_at", "as": "yes"},
        },
    )
)
_PENDING = -2
_FAILURES = {-1: "timeout", -3: "cancelled", -4: "content_filter"}
_MARKS = frozenset({"delay_ms", "request_properties", "request_path", "helicone_user"})


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read an exported request."""
    if "request_created_at" not in record or _MARKS.isdisjoint(record):
        return None
    status = record.get("response_status")
    if type(status) is int and status < 0:
        if status == _PENDING:
            return []
        record = {**record, "failure": _FAILURES.get(status, "other")}
    return _request(record, memory) or []


parse.keys = {"request_created_at"}  # type: ignore[attr-defined] # a function's own attribute

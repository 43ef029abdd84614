"""Anthropic's response bodies: Messages, their errors, and the events of a stream.

Its `input_tokens` are what was neither read from the cache nor written to it; all input is the sum of the three.
Of a stream, `message_start` tells the model and the input and `message_delta` the output: they are put together
over the lines of a file, and the request is finished by its `message_delta`.

Turn it on: let the program log each response as JSON, a line each (`json.dumps(message.model_dump())`), or each event
of a stream; README has a hook that does better, with the status and the time.

Cannot tell: from a body alone: how long it took, when the first token came, when it ended, and what is left of a rate
limit; a program may add the first two (`latency_ms`, `ttft_ms`).

Sources: https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/api/errors,
https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table, fields

_MESSAGE: dict[str, Any] = {
    "provider": {"const": "anthropic"},
    "model": "model",
    "endpoint": {"const": "/messages"},
    "input_excludes_cache": True,
    "input_tokens": "usage.input_tokens",
    "cache_read_tokens": "usage.cache_read_input_tokens",
    "cache_write_tokens": "usage.cache_creation_input_tokens",
    "cache_write_1h_tokens": "usage.cache_creation.ephemeral_1h_input_tokens",
    "output_tokens": "usage.output_tokens",
    "reasoning_tokens": "usage.output_tokens_details.thinking_tokens",
    "finish_reason": "stop_reason",
    "service_tier": "usage.service_tier",
    # What a program adds to the body that it logs.
    "duration": ["latency_ms", "duration_ms", "elapsed_ms", "duration_s", "duration_seconds"],
    "time_to_first_token": ["ttft_ms", "time_to_first_token_ms"],
    "cost": "cost_usd",
    "trace_id": "trace_id",
}
MESSAGE = Table.of(
    "anthropic",
    {
        **_MESSAGE,
        # `usage` and `role` keep a Claude Code transcript out, which has the message inside.
        "when": {"type": "message", "role": "assistant", "usage": True},
        "unless": {"message": True, "object": True},
    },
)
ERROR = Table.of(
    "anthropic",
    {
        "when": {"type": "error", "error.type": True, "error.message": True},
        "provider": {"const": "anthropic"},
        "endpoint": {"const": "/messages"},
        "error": "error",
    },
)
BODIES = (MESSAGE, ERROR)
"""Tables of whole bodies, for a program's line that has one inside it as well."""

_whole = compile_table(*BODIES)
_streamed = compile_table(
    Table.of(
        "anthropic",
        {**_MESSAGE, "when": {"type": "message_delta"}, "finish_reason": "delta.stop_reason"},
    )
)
_KEPT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation")


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a message, an error, or an event of a stream."""
    kind = record.get("type")
    if type(kind) is not str or kind not in _EVENTS:
        return None
    event = _EVENTS[kind]
    if event is None:
        return _whole(record, memory)
    if kind == "ping":
        return [] if len(record) == 1 else None
    if any(type(record.get(key)) is not of for key, of in event.items()):
        return None
    if kind == "message_start":
        message = record["message"]
        usage = message.get("usage")
        if type(usage) is not dict:
            return None
        memory["model"] = message["model"][:256] if type(message.get("model")) is str else None
        memory["usage"] = {key: usage[key] for key in _KEPT if type(usage.get(key)) in (int, dict)}
        if (tier := fields.service_tier(usage.get("service_tier"))) is not None:
            memory["usage"]["service_tier"] = tier
    elif kind == "message_delta":
        started = memory.pop("usage", None)
        usage = {**(started if type(started) is dict else {}), **_without_nulls(record["usage"])}
        return _streamed({**record, "model": memory.pop("model", None), "usage": usage}, memory)
    return []


def _without_nulls(usage: Record) -> Record:
    return {key: value for key, value in usage.items() if value is not None}


_EVENTS: dict[str, dict[str, type] | None] = {
    "message": None,
    "error": None,
    "ping": {},
    "message_start": {"message": dict},
    "message_delta": {"delta": dict, "usage": dict},
    "message_stop": {},
    "content_block_start": {"index": int, "content_block": dict},
    "content_block_delta": {"index": int, "delta": dict},
    "content_block_stop": {"index": int},
}
"""What a line of each type has beside it; `None`: a whole body, read by a table."""


parse.keys = {"type": _EVENTS.keys()}  # type: ignore[attr-defined] # a function's own attribute

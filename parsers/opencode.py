"""OpenCode's messages (`storage/message/**/msg_*.json`), and what `opencode run --format json` prints.

Turn it on: versions before 1.2 always write them; follow the directory `~/.local/share/opencode/storage/message`.
Newer ones keep messages in SQLite: `opencode run --format json >> opencode.jsonl` prints them, `opencode export SESSION` as well.

Each file is one JSON object over many lines. A message of the assistant is one call to a model. It is written over
while the answer comes, so it counts once it is complete (`time.completed`) or has failed. A printed `step_finish` has
the same figures, but names no model; parts (`step-finish` in `storage/part`) repeat them, and are passed over.

`input` is beside `cache.read` and `cache.write`. With a `total` beside it, `output` is without the reasoning; before
there was one it was the provider's own figure: with the reasoning in it, but for Google's. A cost of 0 stands for a
model without a price.

Cannot tell: the time to the first token, the HTTP status of a success, and what is left of a rate limit.

Sources: https://github.com/sst/opencode (packages/opencode/src/session/message-v2.ts: Assistant, StepFinishPart;
…/session/index.ts: getUsage), https://github.com/ryoppippi/ccusage (rust/crates/ccusage/src/adapter/opencode).
Lines were written from that source; none was made by running it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table, fields

_ERRORS = {
    "MessageAbortedError": "cancelled",
    "ProviderAuthError": "authentication",
    "ContextOverflowError": "context_length",
}
_FIGURES: dict[str, Any] = {
    "provider": "providerID",
    "model": "modelID",
    "endpoint": {"const": "chat"},
    "input_excludes_cache": True,
    "input_tokens": "tokens.input",
    "cache_read_tokens": "tokens.cache.read",
    "cache_write_tokens": "tokens.cache.write",
    "output_tokens": "tokens.output",
    "reasoning_tokens": "tokens.reasoning",
    "cost": "cost",
    "finish_reason": ["finish", "reason"],
    "status": "error.data.statusCode",
    "error": [{"path": "error.name", "map": _ERRORS}, "error.data", "error"],
    "started": "time.created",
    "timestamp": "time.completed",
    "id": "id",
}
_inside = Table.of("opencode", _FIGURES)
_reasoning_inside = compile_table(_inside)
_reasoning_beside = compile_table(replace(_inside, output_excludes_reasoning=True))


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a message file, or an event that `run --format json` prints."""
    session = record.get("sessionID")
    if type(session) is not str:
        return _exported(record, memory)
    if type(record.get("modelID")) is str and record.get("role") == "assistant":
        return _message(record, memory)
    part = record.get("part")
    if "type" in record and "timestamp" in record and type(part) is dict and "messageID" in part:
        if record["type"] != "step_finish":
            return []
        told = {**part, "id": part["messageID"], "time": {"completed": record["timestamp"]}}
        return _message(told, memory)
    is_part = "messageID" in record and "type" in record
    is_user = record.get("role") == "user" and type(record.get("time")) is dict
    return [] if is_part or is_user else None


def _exported(record: Record, memory: Memory) -> Sequence[Request] | None:
    """Read what `opencode export` prints, or a message of it: the messages as `info`, with their parts."""
    messages = record.get("messages") if "info" in record else None
    if type(messages) is not list:
        messages = [record]
    infos = [one.get("info") for one in messages if type(one) is dict and "parts" in one]
    if not infos or type(infos[0]) is not dict or type(infos[0].get("sessionID")) is not str:
        return None
    found = [parse(info, memory) for info in infos if type(info) is dict and "sessionID" in info]
    return [request for requests in found for request in requests or ()]


def _message(record: Record, memory: Memory) -> Sequence[Request] | None:
    tokens, times = record.get("tokens"), record.get("time")
    if type(tokens) is not dict or type(times) is not dict:
        return None
    if not times.get("completed") and not fields.failure(record.get("error")):
        return []
    output, reasoning = (fields.count(tokens.get(name)) or 0 for name in ("output", "reasoning"))
    is_beside = (
        "total" in tokens
        or reasoning > output
        or fields.provider(record.get("providerID")) in ("gcp.gemini", "gcp.vertex_ai")
    )
    return (_reasoning_beside if is_beside else _reasoning_inside)(record, memory)


parse.keys = {"sessionID", "info", "parts"}  # type: ignore[attr-defined] # a function's own attribute

"""Sessions of OpenClaw and of pi, the agent it is built on: `type: "message"` with `usage.input/cacheRead/…`.

Turn it on: always written. Follow the directory `~/.openclaw/agents` (in it `<agent>/sessions/*.jsonl`), or
`~/.pi/agent/sessions`.

What `pi --mode json` prints is read as well: `message_end` counts, `turn_end` and `agent_end` tell the same again.

`input` is beside `cacheRead` and `cacheWrite`, `reasoning` is a part of `output`. A failed call has `stopReason`
`error`, a stopped one `aborted`. A message of a fork or a clone has the id and the time of its original, and is
counted once. OpenClaw writes what it delivered as messages of its own (`delivery-mirror`, `gateway-injected`): no
call. Lines without a usage, of old versions, tell of no request. A cost of 0 stands for a model without a price.

Cannot tell: how long a call took, when its first token came, an HTTP status, and what is left of a rate limit.

Sources: https://github.com/badlogic/pi-mono (packages/ai/src/types.ts: Usage, AssistantMessage),
https://github.com/openclaw/openclaw (src/config/sessions/transcript.ts: the mirror),
https://github.com/ryoppippi/ccusage (rust/crates/ccusage/src/adapter/openclaw, …/pi)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table, fields

_ENDPOINTS = {
    "openai-completions": "/chat/completions",
    "openai-responses": "/responses",
    "azure-openai-responses": "/responses",
    "openai-codex-responses": "/responses",
    "anthropic-messages": "/messages",
    "bedrock-converse-stream": "/converse-stream",
    "google-generative-ai": "/streamGenerateContent",
    "google-gemini-cli": "/streamGenerateContent",
    "google-vertex": "/streamGenerateContent",
    "mistral-conversations": "/conversations",
}
_MESSAGE: dict[str, Any] = {
    "provider": "provider",
    "model": ["responseModel", "model", "modelId"],
    "endpoint": [{"path": "api", "map": _ENDPOINTS}, {"const": "chat"}],
    "input_excludes_cache": True,
    "input_tokens": "usage.input",
    "cache_read_tokens": "usage.cacheRead",
    "cache_write_tokens": "usage.cacheWrite",
    "cache_write_1h_tokens": "usage.cacheWrite1h",
    "output_tokens": "usage.output",
    "reasoning_tokens": "usage.reasoning",
    "cost": "usage.cost.total",
    "timestamp": "timestamp",
    "id": "id",
}
_message = compile_table(
    Table.of(
        "openclaw",
        {
            **_MESSAGE,
            "when": {"stopReason": ["error", "aborted"]},
            "error": ["errorMessage", {"path": "stopReason", "map": {"aborted": "cancelled"}}],
        },
    ),
    Table.of("openclaw", {**_MESSAGE, "finish_reason": "stopReason"}),
)
_ENTRIES = {
    "session": "cwd",
    "model_change": "modelId",
    "thinking_level_change": "thinkingLevel",
    "compaction": "tokensBefore",
    "branch_summary": "fromId",
    "custom": "customType",
    "custom_message": "customType",
    "session_info": "parentId",
    "label": "targetId",
}
"""What an entry of each type has; `message` and the events of `--mode json` are told by the message in them."""
_REPEATS = frozenset({"message_start", "message_update", "turn_end"})
_ROLES = frozenset({"user", "assistant", "toolResult", "system", "bashExecution", "custom"})
_NO_CALLS = frozenset({"delivery-mirror", "gateway-injected"})


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read an entry of a session, or an event of `pi --mode json`."""
    kind = record.get("type")
    if type(kind) is not str:
        return None
    if kind in ("message", "message_end") or kind in _REPEATS:
        message = record.get("message")
        if type(message) is not dict:
            return None
        usage = message.get("usage")
        has_usage = type(usage) is dict and not {"input", "output", "totalTokens"}.isdisjoint(usage)
        is_entry = kind == "message" and "parentId" in record and "id" in record
        if not is_entry and not (has_usage and message.get("role") == "assistant"):
            return None
        role = message.get("role")
        if type(role) is not str or role not in _ROLES:
            return None
        is_call = has_usage and role == "assistant" and kind not in _REPEATS
        return _call(record, message, memory) if is_call else []
    if kind == "agent_end" and type(record.get("messages")) is list:
        return []
    if kind not in _ENTRIES or _ENTRIES[kind] not in record or "id" not in record:
        return None
    if kind == "model_change":
        memory["model"] = fields.model(record.get("modelId"))
        memory["provider"] = fields.text(record.get("provider"))
    return []


def _call(record: Record, message: Record, memory: Memory) -> Sequence[Request] | None:
    model = message.get("model") or message.get("modelId")
    if message.get("stopReason") in ("pending", "deferred") or (
        type(model) is str and model in _NO_CALLS
    ):
        return []
    told = {**message, "id": None}
    at = message.get("timestamp") or record.get("timestamp")
    told["timestamp"] = at
    if not model:
        told["model"] = memory.get("model")
        told["provider"] = message.get("provider") or memory.get("provider")
    if (entry := fields.text(record.get("id"))) and type(at) in (str, int, float):
        told["id"] = f"{entry} {at}"  # the id alone is short, and only one session's
    return _message(told, memory)


parse.keys = {  # type: ignore[attr-defined] # a function's own attribute
    "type": {"message", "message_end", "agent_end", *_REPEATS, *_ENTRIES}
}

"""Kimi Code CLI's wire logs (`~/.kimi-code/sessions/…/wire.jsonl`), and those of the Kimi CLI before it.

Turn it on: always written. Follow the directory `~/.kimi-code/sessions`; of the old client `~/.kimi/sessions`.

The new one has two lines for a call: `step.end` (in `context.append_loop_event`), with the time to the first token,
the id and why it ended, and right after it `usage.record`, with the model and the same usage: the second is
counted, the first completes it. A compaction has the second alone. `llm.request` is where a call starts
(each retry has one): it tells the provider, and no request; of an attempt that failed nothing else is written. The
old CLI (1.x) writes `StatusUpdate` messages with the `token_usage` of a step, also inside `SubagentEvent`, and no
model: it is in a configuration file.

`inputOther` is what was neither read from the cache nor written to it. Copies in forked sessions are told by the
answer's id, else by the record's time and tokens.

Cannot tell: failures, an HTTP status, cost, and what is left of a rate limit; the model in logs of the old CLI.

Sources: https://github.com/MoonshotAI/kimi-code (packages/agent-core/src/agent/records/types.ts),
https://github.com/MoonshotAI/kimi-cli/blob/main/docs/en/customization/wire-mode.md (StatusUpdate),
https://github.com/ryoppippi/ccusage (rust/crates/ccusage/src/adapter/kimi)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, fields

_USAGE = ("inputOther", "inputCacheRead", "inputCacheCreation", "output")
_OLD_USAGE = ("input_other", "input_cache_read", "input_cache_creation", "output")
_WIRE = (
    "config turn context tools permission plan_mode swarm_mode full_compaction micro_compaction goal "
    "token_counting mcp profile runtime plugin"
)
_OLD_WIRE = (
    "TurnBegin TurnEnd StepBegin StepInterrupted CompactionBegin CompactionEnd StatusUpdate ContentPart ToolCall "
    "ToolCallPart ToolResult ApprovalRequest ApprovalResponse ApprovalRequestResolved SubagentEvent BtwBegin BtwEnd "
    "SteerInput PlanDisplay HookTriggered HookResolved HookRequest ToolCallRequest QuestionRequest"
)
_RECORDS, _MESSAGES = (frozenset(words.split()) for words in (_WIRE, _OLD_WIRE))
"""What a new record's type begins with, and the types of the old messages."""
_OTHERS = frozenset({"usage", "model", "response", "error"})
"""What none of those has, but another program's line on a call."""


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a record of a wire log, of the new client or the old."""
    kind = record.get("type")
    if type(kind) is str:
        if kind == "usage.record":
            return _record(record, memory)
        if kind == "context.append_loop_event":
            return _event(record.get("event"), memory)
        if kind == "llm.request" and "systemPromptHash" in record:
            memory["provider"] = fields.provider(record.get("provider"))
            return []
        if kind == "metadata":
            return [] if "protocol_version" in record else None
        area, dot, _ = kind.partition(".")
        is_mine = (
            (area in _RECORDS and bool(dot) and type(record.get("time")) is int)
            or (kind == "llm.tools_snapshot" and "hash" in record)
        ) and _OTHERS.isdisjoint(record)
        return [] if is_mine else None
    message = record.get("message")
    if (
        type(message) is not dict
        or type(message.get("payload")) is not dict
        or "timestamp" not in record
    ):
        return None
    for _ in range(4):
        if message.get("type") != "SubagentEvent":
            break
        message = message["payload"].get("event")
        if type(message) is not dict or type(message.get("payload")) is not dict:
            return None
    return _status(message, fields.timestamp(record["timestamp"]))


def _request(usage: Any, names: tuple[str, ...], **told: Any) -> Request | None:
    counts = [fields.count(usage.get(name)) for name in names] if type(usage) is dict else []
    if not any(count is not None for count in counts):
        return None
    other, read, written, output = counts
    return Request(
        input_tokens=(other or 0) + (read or 0) + (written or 0),
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        **told,
    )


def _event(event: Any, memory: Memory) -> list[Request] | None:
    kind = event.get("type") if type(event) is dict else None
    if type(kind) is not str:
        return None
    if kind == "step.end":
        first = fields.seconds(event.get("llmFirstTokenLatencyMs"), "ms")
        stream = fields.seconds(event.get("llmStreamDurationMs"), "ms")
        memory["step"] = {
            "usage": _counts(event.get("usage")),
            "first": first,
            "duration": None if first is None or stream is None else first + stream,
            "reason": fields.finish_reason(event.get("finishReason")),
            "id": fields.text(event.get("messageId")),
        }
    return []


def _counts(usage: Any) -> list[int | None]:
    return [fields.count(usage.get(name)) if type(usage) is dict else None for name in _USAGE]


def _record(record: Record, memory: Memory) -> list[Request] | None:
    usage, at = record.get("usage"), fields.timestamp(record.get("time"))
    if type(usage) is not dict or "model" not in record:
        return None
    step = memory.pop("step", None)
    step = step if type(step) is dict and step.get("usage") == _counts(usage) else {}
    key = step.get("id") or (f"kimi {record['time']} {_counts(usage)}" if at else None)
    request = _request(
        usage,
        _USAGE,
        provider=memory.get("provider") or "kimi",
        model=fields.model(record["model"]) or "unknown",
        endpoint="chat",
        duration_seconds=step.get("duration"),
        time_to_first_token_seconds=step.get("first"),
        finish_reason=step.get("reason"),
        timestamp=at,
        id=key,
    )
    return [] if request is None else [request]


def _status(message: Any, at: float | None) -> list[Request] | None:
    if type(message.get("type")) is not str or message["type"] not in _MESSAGES:
        return None
    payload = message["payload"]
    if message["type"] != "StatusUpdate":
        return []
    request = _request(
        payload.get("token_usage"),
        _OLD_USAGE,
        provider="kimi",
        endpoint="chat",
        timestamp=at,
        id=fields.text(payload.get("message_id")),
    )
    return [] if request is None else [request]


def _is_a_type(kind: Any) -> bool:
    return type(kind) is str and (
        kind in ("usage.record", "context.append_loop_event", "llm.request", "metadata")
        or kind == "llm.tools_snapshot"
        or kind.partition(".")[0] in _RECORDS
    )


parse.keys = {"type": _is_a_type, "message": dict}  # type: ignore[attr-defined] # a function's own attribute

"""Qwen Code (a fork of Gemini CLI): its chat files and its telemetry file.

Turn it on: the chats are always at `~/.qwen/projects/<project>/chats/<session>.jsonl` (older: `~/.qwen/tmp/<project>/chats`);
the telemetry file is turned on in `settings.json` (`"telemetry": {"enabled": true, "outfile": "…"}`), its objects are
printed over many lines. Follow one of the two: they share no id.

Traps: a chat tells an answered call twice, as a `ui_telemetry` event (with its duration) and as the `assistant`
line that follows, and a failed one only as an event: of the two that agree the first is counted. An assistant
line without `usageMetadata` tells of no call. OpenAI's and DashScope's reasoning is inside the output,
Gemini's is not: the total tells, else `auth_type`. The provider is told by `auth_type` (`qwen-oauth`:
`dashscope`, the client's own word for it); a chat's assistant line does not tell it, and
an OpenAI-compatible host has no name in the log: `openai` stands for its dialect, as the client says itself.

Cannot tell: cost, why an answer ended, and what is left of a rate limit; the duration of a call of which only the
assistant's line is told.

Sources: https://github.com/QwenLM/qwen-code (packages/core/src/telemetry/types.ts, loggers.ts, uiTelemetry.ts,
gen-ai-provider.ts, packages/core/src/services/chatRecordingService.ts)
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar import Memory, Record, Request, fields

_PROVIDERS = {
    "qwen-oauth": "dashscope",
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "gemini-api-key": "gcp.gemini",
    "oauth-personal": "gcp.gemini",
    "vertex-ai": "gcp.vertex_ai",
}
_TYPES = frozenset({"user", "assistant", "tool_result", "system"})
MAX_PENDING = 32
"""Calls remembered that the other of their two lines may still tell again."""


def read_event(event: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read an event's fields, however it was exported; `None` for another client's."""
    name = event.get("event.name")
    if type(name) is not str or not name.startswith("qwen-code."):
        return None
    kind = name.removeprefix("qwen-code.")
    return [_request(event, kind == "api_error")] if kind in ("api_response", "api_error") else []


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read an object of the telemetry file or a line of a chat."""
    attributes = record.get("attributes")
    if type(attributes) is dict:
        trace = fields.get(record, "spanContext.traceId")
        requests = read_event({**attributes, "trace_id": trace}, memory)
        if requests is None and fields.get(record, "instrumentationScope.name") == "qwen-code":
            return []  # a span, that its event tells as well
        return requests
    if type(record.get("uuid")) is not str or type(record.get("sessionId")) is not str:
        return None
    kind, payload = record.get("type"), record.get("systemPayload")
    # Claude Code's lines have the same keys, but `content` in the message.
    signs = (fields.get(record, "message.parts"), payload, record.get("usageMetadata"))
    if (
        type(kind) is not str
        or kind not in _TYPES
        or all(type(sign) not in (list, dict) for sign in signs)
    ):
        return None
    event = payload.get("uiEvent") if type(payload) is dict else None
    if kind == "system" and record.get("subtype") == "ui_telemetry" and type(event) is dict:
        return _told(record, event, memory)
    if kind == "assistant" and type(record.get("usageMetadata")) is dict:
        return _told(record, None, memory)
    return []


def _told(record: Record, event: Record | None, memory: Memory) -> list[Request]:
    """Give the call of an event (or else of an assistant line), unless the other of its two lines was counted."""
    if event is None:
        usage, source = record["usageMetadata"], "assistant"
        told = {
            "model": record.get("model"),
            "event.timestamp": record.get("timestamp"),
            "input_token_count": usage.get("promptTokenCount"),
            "output_token_count": usage.get("candidatesTokenCount"),
            "cached_content_token_count": usage.get("cachedContentTokenCount"),
            "thoughts_token_count": usage.get("thoughtsTokenCount"),
            "tool_token_count": usage.get("toolUsePromptTokenCount"),
            "total_token_count": usage.get("totalTokenCount"),
        }
        is_failed = False
    else:
        told, source = event, "event"
        name = str(event.get("event.name"))
        is_failed = "input_token_count" not in event and (
            name.endswith("api_error") or "error_message" in event
        )
        is_call = is_failed or "input_token_count" in event
        if not is_call or "function_name" in event:
            return []
    if not is_failed:
        counts = [
            fields.count(told.get(key)) or 0 for key in ("input_token_count", "output_token_count")
        ]
        pending = memory.get("pending")
        pending = memory["pending"] = pending if type(pending) is list else []
        other = ["assistant" if source == "event" else "event", *counts]
        if other in pending:
            pending.remove(other)
            return []
        pending.append([source, *counts])
        del pending[:-MAX_PENDING]
    ending = "error" if is_failed else source
    return [_request(told, is_failed, f"{record['uuid'][:64]}:{ending}")]


def _request(event: Record, is_failed: bool, line: str | None = None) -> Request:
    auth = event.get("auth_type")
    auth = auth if type(auth) is str else ""
    status = fields.status(event.get("http.status_code")) or fields.status(event.get("status_code"))
    tokens = {} if is_failed else _tokens(event, auth)
    errors = [
        value
        for key in ("error.type", "error_type", "error.message", "error_message", "error")
        if type(value := event.get(key)) is str and value
    ]
    if not is_failed:
        status = "200" if status in (None, "0") else status
    return Request(
        provider=_PROVIDERS.get(auth) or ("unknown" if not auth else "openai"),
        model=fields.model(event.get("model"))
        or fields.model(event.get("model_name"))
        or "unknown",
        endpoint="generate_content" if auth in ("gemini", "vertex-ai") else "chat",
        status_code=status or "0",
        error_type=fields.error_type(status, *errors) if is_failed else None,
        duration_seconds=fields.seconds(event.get("duration_ms"), "ms"),
        time_to_first_token_seconds=fields.seconds(event.get("ttft_ms"), "ms"),
        timestamp=fields.timestamp(event.get("event.timestamp")),
        trace_id=fields.text(event.get("trace_id")),
        id=line,
        **tokens,  # type: ignore[arg-type] # counts alone
    )


def _tokens(event: Record, auth: str) -> dict[str, int]:
    names = {
        "input_tokens": "input_token_count",
        "cache_read_tokens": "cached_content_token_count",
        "output_tokens": "output_token_count",
        "reasoning_tokens": "thoughts_token_count",
    }
    found = {
        name: value
        for name, key in names.items()
        if (value := fields.count(event.get(key))) is not None
    }
    prompt, output = found.get("input_tokens", 0), found.get("output_tokens", 0)
    thoughts = found.get("reasoning_tokens", 0)
    tool = fields.count(event.get("tool_token_count")) or 0
    total = fields.count(event.get("total_token_count")) or 0
    if thoughts:
        is_beside = thoughts > output or auth in ("gemini", "vertex-ai")
        if total:
            is_beside = thoughts > output or total >= prompt + tool + output + thoughts
        if is_beside:
            found["output_tokens"] = output + thoughts
    if tool:
        found["input_tokens"] = prompt = prompt + tool
    if found.get("cache_read_tokens", 0) > prompt:  # Anthropic's, that is beside the input
        found["input_tokens"] = prompt + found["cache_read_tokens"]
    return found


parse.keys = {"attributes": dict, "uuid": str}  # type: ignore[attr-defined] # a function's own attribute

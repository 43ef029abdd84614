"""OpenAI's Codex CLI: its rollouts (`~/.codex/sessions`), and what `codex exec --json` prints.

Turn it on: rollouts are always written; `--log-path ~/.codex/sessions` (or `$CODEX_HOME/sessions`, `archived_sessions`) reads
them. What `codex exec --json` prints tells neither the model nor the time; follow the one or the other of a run.

- Since 0.16x each response has a `token_usage_record` with its id and then a `token_count` with the same figures:
  a file that has records is counted by them. Copies in forks and archives are told by `response_id`.
- `token_count` is also written when only a rate limit changed: it counts when its total is another than before.
  A total whose parts are all 0 is the mark of a full context window. Without `last_token_usage` the difference counts.
- A fork or a subagent may begin with a copy of its parent's history: what is before `subagent_history_start_ordinal`,
  or (where that is not told) of turns older than the file, or written in one go at its beginning, is passed over.
- The model is the last `turn_context`'s, unless the event names one; the provider is `session_meta`'s, else `openai`.
- Input has the cached tokens in it, output the reasoning. A cost or an HTTP status of a success is never told.
- `task_complete` tells the duration of a whole turn, with its tools: it is the duration of a request where the turn
  was one request. A turn that ended in an error is a failed request (`error`, or `task_complete.error` where the
  event is not written, as in 0.169); an interrupted turn is none. Retries are told by `exec --json` alone.
- `exec --json`: `turn.completed.usage` adds up over the thread, also when it is resumed, so the difference to what
  the file told of the thread counts, one request for each turn (a turn may be several). Without the beginning of a
  resumed thread in the same file its whole usage counts.
- 0.50 to 0.52 are said to have `token_count.info` of `prompt` and `completion`, and `turn.completed` with a usage of
  the turn among the events; read as such.

Cannot tell: cost, the HTTP status of a success, why an answer ended, what is left of a rate limit in requests or
tokens (a percentage is told); the duration where a turn was several requests.

Sources: https://github.com/openai/codex/blob/main/codex-rs/protocol/src/protocol.rs (TokenUsageInfo, CodexErrorInfo),
https://github.com/openai/codex/blob/main/codex-rs/rollout/src/policy.rs,
https://github.com/openai/codex/blob/main/codex-rs/exec/src/exec_events.rs,
https://github.com/ccusage/ccusage/tree/main/rust/adapters/codex, https://github.com/openai/codex/issues/17539.
Lines of 0.169, failures too, were made by running it. Not seen as real lines: copied histories, older shapes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, fields

_LINES = frozenset(
    {
        "session_meta",
        "turn_context",
        "event_msg",
        "response_item",
        "token_usage_record",
        "world_state",
        "compacted",
        "inter_agent_communication",
        "inter_agent_communication_metadata",
    }
)
_COUNTS = (
    ("input_tokens", "prompt", "prompt_tokens", "input"),
    ("cached_input_tokens", "cache_read_input_tokens", "cached_tokens", "cached"),
    ("cache_write_input_tokens", "cache_creation_input_tokens"),
    ("output_tokens", "completion", "completion_tokens", "output"),
    ("reasoning_output_tokens", "reasoning_tokens", "reasoning"),
)
"""How versions spell input, of it read from and written to the cache, output, of it reasoning."""
_NO_REQUEST = frozenset({"sandbox_error", "thread_rollback_failed", "active_turn_not_steerable"})
_ERRORS = {
    "usage_limit_exceeded": "rate_limit",
    "session_budget_exceeded": "rate_limit",
    "model_cap": "rate_limit",
    "server_overloaded": "overloaded",
    "cyber_policy": "content_filter",
    "misalignment_policy_violation": "content_filter",
    "http_connection_failed": "network",
    "response_stream_connection_failed": "network",
    "response_stream_disconnected": "network",
}
"""`codex_error_info` in the words of `fields.error_type`; the rest says so itself."""
_SAID = (
    ("usage limit", "rate_limit"),
    ("high demand", "server"),
    ("stream disconnected", "network"),
    ("Reconnecting", "network"),
)
"""Words of messages that have no code, as `exec --json` prints them; the others `fields.error_type` knows."""
_EVENTS = (
    "session_configured task_started task_complete token_count agent_message agent_message_delta "
    "agent_reasoning agent_reasoning_delta agent_reasoning_section_break exec_command_begin "
    "exec_command_end exec_command_output_delta exec_approval_request patch_apply_begin patch_apply_end "
    "mcp_tool_call_begin mcp_tool_call_end turn_diff turn_aborted plan_update web_search_begin "
    "web_search_end error stream_error background_event shutdown_complete user_message"
)
_IS_EVENT = frozenset(_EVENTS.split())
BURST_SECONDS = 1.0
"""A copied history is written in one go; a response of its own takes longer than this."""
MAX_THREADS = 64


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a line of a rollout, or of what `codex exec --json` printed."""
    kind, payload = record.get("type"), record.get("payload")
    if type(kind) is str and type(payload) is dict and kind in _LINES:
        if "timestamp" not in record and kind != "event_msg":
            return None
        return _line(kind, payload, record, memory)
    if record.keys() == {"id", "msg"} and type(record["msg"]) is dict:
        return _event_before_rollouts(record, memory)
    if type(kind) is str and "payload" not in record:
        return _printed(kind, record, memory)
    return None


def _line(kind: str, payload: Record, record: Record, memory: Memory) -> Sequence[Request]:
    now = fields.timestamp(record.get("timestamp"))
    if kind == "session_meta":
        _begin(payload, now, memory)
        return []
    if kind == "turn_context":
        _turn(payload.get("turn_id"), memory)
        settings = fields.get(payload, "collaboration_mode.settings.model")
        _know(memory, "model", fields.model(payload.get("model")) or fields.model(settings))
        return []
    if kind == "token_usage_record":
        if _is_before(record, memory):
            return []
        memory["records"] = True
        name, thread = (
            fields.text(payload.get("response_id")),
            fields.text(payload.get("thread_id")),
        )
        if name is not None and thread is not None and len(name) < 24:
            name = f"{thread}/{name}"  # Ollama's have six digits; a copy names its thread too
        return _counted(payload.get("usage"), payload, now, memory, name)
    if kind == "event_msg":
        return _event(payload, record, now, memory)
    if kind.startswith("inter_agent") and payload.get("trigger_turn") is True:
        memory.pop("copied", None)  # the subagent's own first turn begins
    return []


def _begin(payload: Record, now: float | None, memory: Memory) -> None:
    if "session" in memory:
        return  # a copied history brings its own
    memory["session"] = (
        fields.text(payload.get("id")) or fields.text(payload.get("session_id")) or ""
    )
    _know(memory, "provider", fields.provider(payload.get("model_provider")))
    spawn = fields.get(payload, "source.subagent")
    first = fields.count(payload.get("subagent_history_start_ordinal"))
    if first is None:
        first = fields.count(fields.get(payload, "history_base.end_ordinal_exclusive"))
    if first is not None:
        memory["first"] = first
    elif type(spawn) is dict or any(
        fields.text(payload.get(key)) for key in ("forked_from_id", "parent_thread_id")
    ):
        memory["copied"] = [now, False]


def _know(memory: Memory, key: str, value: str | None) -> None:
    if value is not None:
        memory[key] = value


def _is_before(record: Record, memory: Memory) -> bool:
    """Tell whether a line is of the history that a fork copied from its parent."""
    first, ordinal = memory.get("first"), fields.count(record.get("ordinal"))
    return type(first) is int and ordinal is not None and ordinal < first


def _is_copied(now: float | None, memory: Memory) -> bool:
    """Tell whether a count is of a copied history that no ordinal bounds: of an old turn, or written in one go."""
    copied = memory.get("copied")
    if type(copied) is not list or len(copied) != 2:
        return False
    last, is_old_turn = copied
    if is_old_turn is not True:
        began = last if type(last) is float else now
        if now is None or began is None or now - began > BURST_SECONDS:
            del memory["copied"]
            return False
        last = max(now, began)
    memory["copied"] = [last, is_old_turn]
    return True


def _turn(turn: Any, memory: Memory) -> None:
    """Notice whose a turn is in a copied history: ids are UUIDs that grow with time, and the file has one."""
    copied, session = memory.get("copied"), memory.get("session")
    if type(copied) is not list or len(copied) != 2 or type(session) is not str:
        return
    if (
        type(turn) is str
        and len(turn) == len(session) == 36
        and turn[14:15] == session[14:15] == "7"
    ):
        if turn > session:
            del memory["copied"]
        else:
            memory["copied"] = [copied[0], True]


def _event(payload: Record, record: Record, now: float | None, memory: Memory) -> Sequence[Request]:
    kind = payload.get("type")
    if _is_before(record, memory):
        return []
    if kind == "thread_settings_applied":
        settings = payload.get("thread_settings")
        _know(memory, "model", fields.model(fields.get(settings, "model")))
        _know(memory, "provider", fields.provider(fields.get(settings, "model_provider_id")))
    elif kind in ("task_started", "turn_started"):
        _turn(payload.get("turn_id"), memory)
        memory["turn"] = [0, False]
    elif kind == "token_count":
        return _token_count(payload, now, memory)
    elif kind in ("error", "stream_error"):
        if _is_copied(now, memory):
            return []
        failed = _failed(payload, now, memory)
        if failed:
            memory["turn"] = [0, True]
        return failed
    elif kind in ("task_complete", "turn_complete"):
        return _completed(payload, now, memory)
    elif kind == "turn.completed" and not memory.get("counts") and not memory.get("records"):
        return _counted(payload.get("usage"), payload, now, memory, None)
    return []


def _token_count(payload: Record, now: float | None, memory: Memory) -> Sequence[Request]:
    if memory.get("records"):
        return []
    info = payload.get("info")
    if type(info) is not dict:
        return []
    total, last = _figures(info.get("total_token_usage")), _figures(info.get("last_token_usage"))
    before = memory.get("total")
    if total is None:
        usage = info if last is None else info["last_token_usage"]
        if _figures(usage) is None or _is_copied(now, memory):
            return []
        memory["counts"] = True
        return _counted(usage, {**payload, **info}, now, memory, None)
    if total == before:
        return []
    memory["total"] = total
    memory["counts"] = True
    if not any(total) or _is_copied(now, memory):
        return []
    if last is None:
        last = _difference(total, before)
    session = memory.get("session")
    name = "/".join(map(str, (session, *total))) if session else None
    return _counted(
        dict(zip([names[0] for names in _COUNTS], last, strict=True)),
        {**payload, **info},
        now,
        memory,
        name,
    )


def _figures(usage: Any) -> list[int | None] | None:
    """Read the counts of a usage; `None` where it tells neither input nor output."""
    if type(usage) is not dict:
        return None
    counts: list[int | None] = [
        next(
            (found for name in names if (found := fields.count(usage.get(name))) is not None), None
        )
        for names in _COUNTS
    ]
    return None if counts[0] is None and counts[3] is None else counts


def _difference(total: list[int | None], before: Any) -> list[int | None]:
    """Take what was told before off a total; all of it counts where the total began anew."""
    if type(before) is not list or len(before) != len(total):
        return total
    if not all(count is None or type(count) is int for count in before):
        return total
    if any((new or 0) < (old or 0) for new, old in zip(total, before, strict=True)):
        return total
    return [
        None if new is None else new - (old or 0) for new, old in zip(total, before, strict=True)
    ]


def _counted(
    usage: Any, told: Record, now: float | None, memory: Memory, name: Any
) -> Sequence[Request]:
    figures = _figures(usage)
    if figures is None or not any(figures):
        return []
    model = next(
        (
            found
            for key in ("model", "model_name")
            if (found := fields.model(told.get(key))) is not None
        ),
        memory.get("model"),
    )
    request = _request(figures, model, now, memory, fields.text(name))
    turn = memory.get("turn")
    if type(turn) is not list or len(turn) != 2 or request.id is None:
        return [request]
    # The only request of its turn is told again, with the turn's duration, when the turn is complete.
    turn = memory["turn"] = [turn[0] + 1 if type(turn[0]) is int else 1, turn[1]]
    memory["last"] = [figures, request.model, now, request.id]
    return (
        [request]
        if turn[0] > 1
        else [_request(figures, model, now, memory, request.id, final=False)]
    )


def _request(
    figures: list[int | None],
    model: Any,
    now: float | None,
    memory: Memory,
    name: str | None,
    **rest: Any,
) -> Request:
    of_input, read, write, output, reasoning = figures
    provider = memory.get("provider")
    return Request(
        provider=provider if type(provider) is str else "openai",
        model=model if type(model) is str else "unknown",
        endpoint="/responses",
        input_tokens=of_input,
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_tokens=output,
        reasoning_tokens=reasoning,
        timestamp=now,
        id=name,
        **rest,
    )


def _completed(payload: Record, now: float | None, memory: Memory) -> Sequence[Request]:
    turn, last = memory.pop("turn", None), memory.pop("last", None)
    number, has_failed = turn if type(turn) is list and len(turn) == 2 else (0, False)
    if fields.failure(payload.get("error")) is not None and not has_failed:
        return [] if _is_copied(now, memory) else _failed(payload["error"], now, memory)
    took = fields.seconds(payload.get("duration_ms"), "ms")
    if number != 1 or not took or type(last) is not list or len(last) != 4:
        return []
    figures, model, ended, name = last
    if (
        type(figures) is not list
        or len(figures) != len(_COUNTS)
        or not all(count is None or type(count) is int for count in figures)
        or type(name) is not str
        or type(ended) not in (float, type(None))
    ):
        return []
    first = fields.seconds(payload.get("time_to_first_token_ms"), "ms")
    return [
        _request(
            figures,
            model,
            ended,
            memory,
            name,
            duration_seconds=took,
            time_to_first_token_seconds=first or None,
        )
    ]


_LAST_STATUS = re.compile(r"(?:status:?|HTTP(?: error)?:?|failed:) ?(\d{3})\b", re.I)


def _failed(error: Any, now: float | None, memory: Memory) -> Sequence[Request]:
    """Read an error of a turn as a failed request; errors of the program itself are none."""
    if type(error) is not dict:
        error = {"message": error}
    info = error.get("codex_error_info", error.get("codexErrorInfo"))
    message, status = error.get("message"), None
    if type(info) is dict and info:  # {"http_connection_failed": {"http_status_code": 503}}
        info, inner = next(iter(info.items()))
        if type(inner) is dict:
            status = fields.status(inner.get("http_status_code", inner.get("httpStatusCode")))
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", info).lower() if type(info) is str else None
    if code in _NO_REQUEST:
        return []
    if status is None and type(message) is str:
        found = _LAST_STATUS.search(message[:2000])
        status = fields.status(found[1]) if found else None
    model, provider, session = map(memory.get, ("model", "provider", "session"))
    errors = [_ERRORS.get(code, code)] if code not in (None, "other") else []
    if not errors and type(message) is str:
        errors = [kind for words, kind in _SAID if words in message[:2000]][:1]
    if status is not None and errors == ["network"]:
        errors = []  # the status says more
    return [
        Request(
            provider=provider if type(provider) is str else "openai",
            model=model if type(model) is str else "unknown",
            endpoint="/responses",
            status_code=status if status is not None and status >= "400" else "0",
            error_type=fields.error_type(
                status, *errors, message if type(message) is str else None
            ),
            timestamp=now,
            id=f"{session}/error/{now}" if type(session) is str and session and now else None,
        )
    ]


# What `codex exec --json` prints.


def _printed(kind: str, record: Record, memory: Memory) -> Sequence[Request] | None:
    if kind == "thread.started" and type(record.get("thread_id")) is str:
        memory["thread"] = record["thread_id"][:64]
        return []
    if kind == "turn.started" and record.keys() <= {"type", "turn_id", "thread_id"}:
        return []
    if kind.startswith("item.") and kind in ("item.started", "item.updated", "item.completed"):
        item = record.get("item")
        return [] if type(item) is dict and type(item.get("id")) is str else None
    if kind == "turn.completed":
        figures = _figures(record.get("usage"))
        if figures is None or "input_tokens" not in record["usage"]:
            return None
        return _finished(figures, record, memory)
    if kind == "turn.failed" and type(record.get("error")) is dict:
        return _failed(record["error"], None, memory)
    if kind == "error" and record.keys() == {"type", "message"} and "thread" in memory:
        # The last error is told again by `turn.failed`; one that is followed by another attempt is not.
        message = record["message"]
        is_retried = type(message) is str and message.startswith("Reconnecting")
        return _failed(record, None, memory) if is_retried else []
    return None


def _finished(figures: list[int | None], record: Record, memory: Memory) -> Sequence[Request]:
    threads, thread = memory.get("threads"), str(memory.get("thread", ""))
    if type(threads) is not dict:
        threads = memory["threads"] = {}
    told = _difference(figures, threads.pop(thread, None))
    threads[thread] = figures
    while len(threads) > MAX_THREADS:
        del threads[next(iter(threads))]
    return (
        [_request(told, fields.model(record.get("model")), None, memory, None)] if any(told) else []
    )


def _event_before_rollouts(record: Record, memory: Memory) -> Sequence[Request] | None:
    """Read an event as `codex exec --json` and `codex proto` printed it until 0.4x: `{"id": …, "msg": {…}}`."""
    message = record["msg"]
    kind = message.get("type")
    if type(record["id"]) is not str or type(kind) is not str or kind not in _IS_EVENT:
        return None
    if kind == "session_configured":
        _know(memory, "model", fields.model(message.get("model")))
        _know(memory, "session", fields.text(message.get("session_id")))
    elif kind == "token_count" and "info" not in message:
        return _counted(message, {}, None, memory, None)
    return _event(message, record, None, memory)


_PRINTED = "thread.started turn.started item.started item.updated item.completed turn.completed turn.failed error"
parse.keys = {"type": _LINES | set(_PRINTED.split()), "msg": dict}  # type: ignore[attr-defined] # a function's own attribute

"""GitHub Copilot CLI's session events (`~/.copilot/session-state/<id>/events.jsonl`), and its SDK's.

Turn it on: always written. Follow the directory `~/.copilot/session-state` (`$COPILOT_CONFIG_DIR/session-state`).

What is told where:

- `assistant.message`: one for each answer, with its output tokens and nothing of its input.
- `session.shutdown`: at a graceful end, the sums of this run of the client by model (`modelMetrics`: requests,
  input with both kinds of cached tokens in it, output). A resumed session has several, each of its own run.
- `assistant.usage`: all of one call, but written by programs of the SDK alone; it is never on the CLI's own disk.

So a message is counted when it comes, and a shutdown adds what the messages before it did not tell: to the last
message where that is just written (it is held back for it, as `copilot -p` ends at once), else as requests of its
own: as many as there were more than messages, at least one where tokens are left to tell. Tokens are exact from the
shutdown on; requests are, but for one more of each model whose last message was long before the end. A run that was
killed has told no input. Where `assistant.usage` comes, it is counted, and the messages are not.

`session.error` is a failed request. Copilot's prices (`cost`, a multiplier; nano AI units) are no dollars: tokens
are priced by the price table. The provider is `github-copilot`, which other clients call it by.

Cannot tell: how long a call took, when its first token came, the HTTP status of a success, its cost in dollars; the
input of a single call, unless a program of the SDK writes it.

Sources: https://github.com/github/copilot-sdk/blob/main/nodejs/src/generated/session-events.ts,
https://github.com/ryoppippi/ccusage (rust/crates/ccusage/src/adapter/copilot/README.md: what the sums include)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, fields

_EVENTS = (
    "session assistant user system tool hook subagent skill abort model permission external_tool "
    "pending_messages command elicitation mcp exit_plan_mode user_input"
)
_KINDS = frozenset(_EVENTS.split())
"""What an event's type begins with."""
_SUMS = {
    "input_tokens": "inputTokens",
    "cache_read_tokens": "cacheReadTokens",
    "cache_write_tokens": "cacheWriteTokens",
    "output_tokens": "outputTokens",
    "reasoning_tokens": "reasoningTokens",
}
_DETAILS = {
    "input_tokens": "input.tokenCount",
    "cache_read_tokens": "cache_read.tokenCount",
    "cache_write_tokens": "cache_write.tokenCount",
    "output_tokens": "output.tokenCount",
}
_SOON_SECONDS = 8.0
"""A held message waits for a shutdown so long; a file that is quiet a little longer has it counted."""
_MAX_MODELS = 64
_MAX_REQUESTS = 10_000

Figures = dict[str, int]


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read an event of a session."""
    kind, data = record.get("type"), record.get("data")
    if type(kind) is not str or type(data) is not dict or "timestamp" not in record:
        return None
    if kind.partition(".")[0] not in _KINDS or "parentId" not in record or "usage" in data:
        return None
    at = fields.timestamp(record["timestamp"])
    if kind == "assistant.message":
        return _message(record, data, at, memory)
    if kind == "assistant.usage":
        return _usage(data, at, memory)
    if kind == "session.shutdown":
        return _shutdown(data, at, memory)
    if kind in ("session.error", "model.call_failure"):
        return _failure(data, at)
    chosen = _name(data.get("newModel")) or _name(data.get("selectedModel"))
    if chosen and kind in ("session.start", "session.resume", "session.model_change"):
        memory["model"] = chosen
    return []


def _name(value: Any) -> str | None:
    model = fields.model(value)
    return None if model is None or model == "auto" or " " in model else model


def _request(model: str, at: float | None, **figures: Any) -> Request:
    return Request(provider="github-copilot", model=model, endpoint="chat", timestamp=at, **figures)


def _tell(memory: Memory, model: str, requests: int, figures: Figures) -> None:
    """Note what was counted of a model since the last shutdown."""
    models = memory.setdefault("told", {})
    if len(models) >= _MAX_MODELS and model not in models:
        return
    told = models.setdefault(model, {})
    for name, figure in {"requests": requests, **figures}.items():
        told[name] = told.get(name, 0) + figure


def _message(record: Record, data: Any, at: float | None, memory: Memory) -> list[Request]:
    output = fields.count(data.get("outputTokens"))
    if output is None or memory.get("has_usage"):
        return []  # of old versions, which tell no tokens here, the shutdown tells the calls
    is_main = not data.get("parentToolCallId") and not record.get("agentId")
    model = _name(data.get("model")) or (memory.get("model") if is_main else None) or "unknown"
    names = (data.get("apiCallId"), data.get("messageId"), record.get("id"))
    # what somebody has blacked out is a text with spaces, and no id
    key = next((one for name in names if (one := fields.text(name)) and " " not in one), None)
    last = memory.pop("last", None)
    if last and last[0] == key:  # another part of the same answer
        _tell(memory, last[1], -1, {"output_tokens": -last[3]})
    _tell(memory, model, 1, {"output_tokens": output})
    if key is not None:
        memory["last"] = [key, model, at, output]
    return [_request(model, at, output_tokens=output, id=key, final=key is None)]


def _usage(data: Any, at: float | None, memory: Memory) -> list[Request]:
    model = _name(data.get("model")) or "unknown"
    figures = _figures(data, _SUMS, model)
    key = fields.text(data.get("apiCallId"))
    last = memory.pop("last", None)
    if last and key in (None, last[0]):  # it tells the message before it better
        key = last[0]
        _tell(memory, last[1], -1, {"output_tokens": -last[3]})
    memory["has_usage"] = True
    _tell(memory, model, 1, figures)
    duration = fields.seconds(data.get("duration"), "ms")
    first = fields.seconds(data.get("ttftMs"), "ms")
    return [
        _request(
            model,
            at,
            id=key,
            duration_seconds=duration,
            time_to_first_token_seconds=first,
            **figures,
        )
    ]


def _figures(data: Any, paths: dict[str, str], model: str) -> Figures:
    found = {name: fields.count(fields.get(data, path)) for name, path in paths.items()}
    figures = {name: figure for name, figure in found.items() if figure is not None}
    if paths is _DETAILS and figures:  # what is paid for by each price, so each beside the others
        parts = ("input_tokens", "cache_read_tokens", "cache_write_tokens")
        figures["input_tokens"] = sum([figures.get(name, 0) for name in parts])
    if "gemini" in model and "output_tokens" in figures:  # Google counts thoughts beside the output
        figures["output_tokens"] += figures.get("reasoning_tokens", 0)
    return figures


def _shutdown(data: Any, at: float | None, memory: Memory) -> list[Request]:
    metrics = data.get("modelMetrics")
    metrics = metrics if type(metrics) is dict else {}
    told = memory.pop("told", {})
    last = memory.pop("last", None)
    unnamed = told.pop("unknown", {})
    # the message that is held must come first: any other request would have it counted
    models = sorted(metrics, key=lambda name: not (last and name == last[1]))[:_MAX_MODELS]
    requests: list[Request] = []
    for name in models:
        model = _name(name) or "unknown"
        metric = metrics[name]
        sums = _figures(fields.get(metric, "usage"), _SUMS, model) or _figures(
            fields.get(metric, "tokenDetails"), _DETAILS, model
        )
        if not sums and len(models) == 1:
            sums = _figures(data.get("tokenDetails"), _DETAILS, model)
        calls = fields.count(fields.get(metric, "requests.count"))
        sums["requests"] = calls or fields.count(fields.get(metric, "requests")) or 0
        rest = {key: max(sums[key] - told.get(model, {}).get(key, 0), 0) for key in sums}
        for key in rest:  # messages that named no model were some model's
            taken = min(rest[key], unnamed.get(key, 0))
            rest[key] -= taken
            unnamed[key] = unnamed.get(key, 0) - taken
        calls = min(rest.pop("requests"), _MAX_REQUESTS)
        is_held = bool(last and last[1] == model and _is_soon(last[2], at))
        if is_held:
            rest["output_tokens"] = rest.get("output_tokens", 0) + last[3]
            requests.append(_request(model, last[2], id=last[0], **rest))
        elif any(rest.values()):
            calls = max(calls - 1, 0)
            requests.append(_request(model, at, **rest))
        requests += [_request(model, at)] * calls
    return requests


def _is_soon(then: float | None, now: float | None) -> bool:
    return then is not None and now is not None and 0 <= now - then <= _SOON_SECONDS


def _failure(data: Any, at: float | None) -> list[Request]:
    status = fields.status(data.get("statusCode"))
    message = data.get("message") or data.get("errorMessage")
    kind = fields.error_type(status, data.get("errorType"), message)
    took = fields.seconds(data.get("durationMs"), "ms")
    model = _name(data.get("model")) or "unknown"
    return [_request(model, at, status_code=status or "0", error_type=kind, duration_seconds=took)]


parse.keys = {"parentId"}  # type: ignore[attr-defined] # a function's own attribute

"""Gemini CLI: its telemetry file, its chat files, and what `--output-format json` prints.

Turn it on: the telemetry file in `settings.json` (`"telemetry": {"enabled": true, "target": "local", "outfile": "…"}`)
or by `GEMINI_TELEMETRY_OUTFILE`; its objects are printed over many lines. The chats are always at
`~/.gemini/tmp/<project>/chats/session-*.jsonl` (older: one `.json`, written anew each time). Follow one of
the two, not both: they tell the same calls and share no id.

Traps: the telemetry tells a call up to five times (a span, two `gen_ai.*` records, `api_request`), counted are
`api_response` and `api_error` alone; output has no thoughts in it, input no tool use, but all that was cached.
A chat's message is written again as it changes, the last one is right. A summary (`stats`) tells sums over the
requests of a run: they are shared out evenly, so that the sums stay exact. The provider is `gcp.gemini`, or
`gcp.vertex_ai` where `auth_type` says so; chats and summaries do not tell.

Cannot tell: cost, the time to the first token, why an answer ended, and what is left of a rate limit; in chats also
the duration, the status and failures.

Sources: https://github.com/google-gemini/gemini-cli (packages/core/src/telemetry/types.ts, file-exporters.ts,
uiTelemetry.ts, packages/core/src/services/chatRecordingService.ts)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, ParseError, Record, Request, Table, compile_table, fields

_EVENT: dict[str, Any] = {
    "endpoint": {"const": "generate_content"},
    "model": ["model", "model_name"],
    "status": ["http.status_code", "status_code"],
    # `ApiError` is the class of the SDK's every error: the status says more.
    "error": [
        {"path": "error.type", "map": {"ApiError": "unclassed", "Error": "unclassed"}},
        "error.message",
        "error",
    ],
    "duration": [{"path": "duration_ms", "unit": "ms"}, {"path": "duration", "unit": "ms"}],
    "input_tokens": {"sum": ["input_token_count", "tool_token_count"]},
    "cache_read_tokens": "cached_content_token_count",
    "output_tokens": "output_token_count",
    "output_excludes_reasoning": True,
    "reasoning_tokens": "thoughts_token_count",
    "finish_reason": "finish_reasons",
    "timestamp": ["event.timestamp", "time"],
    "trace_id": "trace_id",
}
_RESPONSE = {"event.name": "gemini_cli.api_response"}
_ERROR = {"event.name": "gemini_cli.api_error"}
_FAILED = {**_EVENT, "outcome": {"const": False}}
_VERTEX, _GEMINI = {"const": "gcp.vertex_ai"}, {"const": "gcp.gemini"}
read_event = compile_table(
    *[
        Table.of("gemini_cli", {**rows, "when": {**when, **sign}, "provider": provider})
        for rows, when in ((_EVENT, _RESPONSE), (_FAILED, _ERROR))
        for sign, provider in (({"auth_type": "vertex-ai"}, _VERTEX), ({}, _GEMINI))
    ]
)
"""Reads the attributes of a log record, however it was exported."""

_message = compile_table(
    Table.of(
        "gemini_cli",
        {
            "when": {"type": "gemini", "tokens": True},
            "provider": _GEMINI,
            "endpoint": {"const": "generate_content"},
            "model": "model",
            "input_tokens": {"sum": ["tokens.input", "tokens.tool"]},
            "cache_read_tokens": "tokens.cached",
            "output_tokens": "tokens.output",
            "output_excludes_reasoning": True,
            "reasoning_tokens": "tokens.thoughts",
            "timestamp": "timestamp",
            "id": "id",
            "final": "final",
        },
    )
)
_SESSION = ("sessionId", "projectHash", "startTime")
MAX_REQUESTS = 10_000


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read an object of the telemetry file, a line of a chat (or a whole one), or a run's summary."""
    attributes = record.get("attributes")
    if type(attributes) is dict:
        event = attributes.get("event.name")
        if type(event) is str and event.startswith("gemini_cli."):
            trace = fields.get(record, "spanContext.traceId") or fields.get(
                record, "_spanContext.traceId"
            )
            return read_event({**attributes, "trace_id": trace}, memory) or []
        return [] if fields.get(record, "instrumentationScope.name") == "gemini-cli" else None
    if all(type(record.get(key)) is str for key in _SESSION):
        memory["session"] = record["sessionId"][:64]
        return _messages(record.get("messages"), memory, final=True)
    if record.get("type") == "gemini" and "tokens" in record and "timestamp" in record:
        return _messages([record], memory, final=False)
    if type(record.get("$set")) is dict and len(record) == 1:
        return _messages(record["$set"].get("messages"), memory, final=True)
    if type(record.get("$rewindTo")) is str and len(record) == 1:
        return []  # what is taken back was sent all the same
    stats = record.get("stats")
    models = fields.get(stats, "models")
    if type(models) is dict and type(fields.get(stats, "tools")) is dict and "response" in record:
        return [one for model, told in models.items() for one in _summary(model, told)]
    return None


def _messages(messages: Any, memory: Memory, *, final: bool) -> list[Request]:
    requests: list[Request] = []
    for message in messages if type(messages) is list else ():
        if type(message) is not dict or type(message.get("tokens")) is not dict:
            continue
        told = {**message, "final": final}
        if type(message.get("id")) is str:
            session = memory.get("session")
            told["id"] = message["id"] if session is None else f"{session}:{message['id']}"
        requests += _message(told, {}) or ()
    return requests


def _summary(model: str, told: Any) -> list[Request]:
    """Make as many requests as were made; each has its share of the sums."""
    api, tokens = fields.get(told, "api"), fields.get(told, "tokens")
    if type(api) is not dict or type(tokens) is not dict:
        return []
    count = fields.count(api.get("totalRequests")) or 0
    failed = min(fields.count(api.get("totalErrors")) or 0, count)
    if count > MAX_REQUESTS:
        raise ParseError("expected the sums of one run")
    seconds = fields.seconds(api.get("totalLatencyMs"), "ms")
    shared = {
        "input_tokens": _sum(tokens, "prompt", "tool"),
        "cache_read_tokens": _sum(tokens, "cached"),
        "output_tokens": _sum(tokens, "candidates", "thoughts"),
        "reasoning_tokens": _sum(tokens, "thoughts"),
    }
    good = count - failed
    requests = []
    for place in range(count):
        counts = {
            name: total // good + (place < total % good)
            for name, total in shared.items()
            if place < good
        }
        is_failed = place >= good
        requests.append(
            Request(
                provider="gcp.gemini",
                model=fields.model(model) or "unknown",
                endpoint="generate_content",
                status_code="0" if is_failed else "200",
                error_type="other" if is_failed else None,
                duration_seconds=None if seconds is None else seconds / count,
                **counts,  # type: ignore[arg-type] # counts alone
            )
        )
    return requests


def _sum(tokens: Record, *keys: str) -> int:
    return sum(fields.count(tokens.get(key)) or 0 for key in keys)


parse.keys = {  # type: ignore[attr-defined] # a function's own attribute
    **dict.fromkeys(("attributes", "$set", "stats"), dict),
    **dict.fromkeys(("sessionId", "$rewindTo"), str),
    "type": {"gemini"},
}

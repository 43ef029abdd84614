"""Claude Code: its transcripts (`~/.claude/projects`, subagents too), and what `claude -p` prints as JSON.

Turn it on: transcripts are always written; `--log-path ~/.claude/projects` (or `$CLAUDE_CONFIG_DIR/projects`) reads them. What
`claude -p --output-format json|stream-json` prints is understood as well; follow the one or the other of a run:
only `stream-json` tells the ids by which a run that is in both is counted once.

- A message is written once for each of its content blocks, its output growing from block to block: the last line
  counts. `stop_reason` ends it; where it is missing, the next message does. Copies in forked and resumed sessions,
  and replays in a sidechain (with another `requestId`), are told by `message.id`.
- `input_tokens` are what was neither read from the cache nor written to it.
- `usage.iterations` tells what else one request cost: an advisor, a compaction, another model's attempt before a
  fallback. None of it is in the usage itself; each is a request of its own. A refused attempt without output is
  free, and left out.
- A failure is a line of the model `<synthetic>` with `isApiErrorMessage`; the attempts before it are `api_error`
  lines of the system. Other `<synthetic>` messages were never sent.
- Of a printed run the `result` line is counted, not the assistant lines: they hold the output as it was when the
  message began. Its totals are shared among the run's messages (`json`: among its turns, which are about as many);
  a run that printed no result counts by its assistant lines when the next one begins in the file. The totals go
  on from result to result of a process, and (seen in 2.1.331) of a resumed or forked session: what the file told of
  the session before is taken off; where it told nothing, the run's own `usage` counts unless subagents were at work.
- `costUSD` and `durationMs` are from old versions; a line of today has neither. A printed run tells its cost.
- The provider is `anthropic`: no line tells of Bedrock, Vertex or a gateway behind ANTHROPIC_BASE_URL. `speed`
  (`fast`) and `service_tier` change prices; what they tell is priced as the usual.

Cannot tell: in transcripts: any duration, the time to the first token, the HTTP status of a success, rate limits; the
cost since version 1.0.9; the provider behind a gateway.

Sources: https://github.com/ccusage/ccusage/tree/main/rust/adapters/claude,
https://code.claude.com/docs/en/agent-sdk/cost-tracking, https://docs.claude.com/en/docs/claude-code/headless,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool (`iterations`),
https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback. Lines of 2.1.197 and 2.1.331, printed ones
and retries too, were made by running it. Not seen as real lines: advisor and fallback iterations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sidecar import Memory, ParseError, Record, Request, fields

_WRITTEN = (
    "user system summary attachment progress file-history-snapshot queue-operation mode permission-mode "
    "last-prompt custom-title ai-title agent-name agent-color agent-setting tag pr-link task-summary "
    "bridge-session worktree-state content-replacement attribution-snapshot atis-latch api-request "
    "api-request-shape api-request-blob cost-state"
)
"""Lines of a transcript beside the assistant's."""
_PRINTED = (
    "system user assistant stream_event rate_limit_event tool_progress tool_use_summary auth_status "
    "prompt_suggestion result"
)
"""Lines of a printed run."""
_STOPS = "end_turn tool_use max_tokens stop_sequence pause_turn refusal model_context_window_exceeded compaction"
_IS_WRITTEN, _IS_PRINTED, _IS_STOP = (
    frozenset(words.split()) for words in (_WRITTEN, _PRINTED, _STOPS)
)
_NEEDS = {
    "user": "message",
    "system": "subtype",
    "summary": "leafUuid",
    "attachment": "attachment",
    "progress": "data",
    "mode": "mode",
    "tag": "tag",
}
"""What else a line has whose type is a word that others use as well."""
MAX_CALLS = 256
"""Messages of a printed run that are remembered until its result; what is beyond shares no figures."""
MAX_SESSIONS = 16
"""Sessions whose last printed result is remembered, since the next one may go on from it."""
_FIGURES = 6
"""Counts of a call: uncached input, cache read, cache write, of it for an hour, output, reasoning."""


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a line of a transcript, or of what `claude -p` printed."""
    kind, message = record.get("type"), record.get("message")
    if "sessionId" not in record and type(record.get("session_id")) is str:
        return _printed(record, memory)
    if kind == "assistant" or (kind is None and type(message) is dict):
        return _assistant(record, message, memory)
    session = record.get("sessionId")
    if type(kind) is not str or (
        kind not in _IS_WRITTEN and (session is None or session != memory.get("session"))
    ):
        return None
    if _NEEDS.get(kind, "type") not in record:
        return None
    if kind == "user" and type(message) is not dict:
        return None
    if (type(message) is dict and "parts" in message) or "systemPayload" in record:
        return None  # Qwen Code's chats look alike, and have Gemini's messages inside
    if not (
        type(session) is str
        or (type(record.get("uuid")) is str and "parentUuid" in record)
        or (kind == "summary" and "leafUuid" in record)
        or (kind == "file-history-snapshot" and "snapshot" in record)
    ):
        return None
    if type(session) is str and type(record.get("version")) is str:
        memory["session"] = session[:64]  # lines of a later version may have types of their own
    if kind == "api-request":
        memory["model"] = fields.model(fields.get(record, "params.model")) or "unknown"
    if kind == "system" and record.get("subtype") == "api_error":
        return [_attempt(record, memory, record.get("error"), None)]
    return []


def _assistant(record: Record, message: Any, memory: Memory) -> Sequence[Request] | None:
    if type(message) is not dict or message.get("role", "assistant") != "assistant":
        return None
    usage = message.get("usage")
    known = [type(record.get(key)) is str for key in ("requestId", "sessionId", "uuid")]
    if record.get("type") is None and message.get("type") not in (None, "message"):
        return None  # a record of its own, in somebody's `message`
    if record.get("type") is None:  # before 1.0 of `ccusage`'s fixtures
        known = known[:2] if type(usage) is dict and "input_tokens" in usage else []
    is_pair = type(usage) is dict and "input_tokens" in usage and "cache_read_input_tokens" in usage
    if not any(known) and not (record.get("type") and is_pair):
        return None
    if record.get("isApiErrorMessage") is True:
        return [_failure(record, message)]
    if message.get("model") == "<synthetic>" or usage is None:
        return []
    if type(usage) is not dict:
        raise ParseError("message.usage: expected an object")
    figures = _figures(usage)
    if figures is None:
        return []
    model = fields.model(message.get("model")) or "unknown"
    memory["model"] = model
    name, ended = _id(record, message), fields.timestamp(record.get("timestamp"))
    stop = message.get("stop_reason")
    requests = [
        _request(other, more, timestamp=ended, id=f"{name}#{place}" if name else None)
        for place, other, more in _beside(usage, model)
    ]
    # The message itself comes last: it may have to be held, which any other request after it would end.
    requests.append(
        _request(
            model,
            figures,
            cost=fields.cost(record.get("costUSD")) or None,
            duration_seconds=fields.seconds(record.get("durationMs"), "ms"),
            finish_reason=fields.finish_reason(stop),
            timestamp=ended,
            id=name,
            final=name is None or (type(stop) is str and stop in _IS_STOP),
        )
    )
    return requests


def _request(
    model: str, figures: list[int | None], cost: Decimal | float | None = None, **rest: Any
) -> Request:
    uncached, read, write, write_1h, output, reasoning = figures
    return Request(
        provider="anthropic",
        model=model,
        endpoint="/messages",
        input_tokens=None if uncached is None else uncached + (read or 0) + (write or 0),
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=write_1h,
        output_tokens=output,
        reasoning_tokens=reasoning,
        cost_usd=cost,
        **rest,
    )


def _figures(usage: Record) -> list[int | None] | None:
    """Read the counts of a usage; `None` where it tells none."""
    uncached, output = (
        fields.count(usage.get("input_tokens")),
        fields.count(usage.get("output_tokens")),
    )
    if uncached is None and output is None:
        return None
    hour = fields.count(fields.get(usage, "cache_creation.ephemeral_1h_input_tokens"))
    write = fields.count(usage.get("cache_creation_input_tokens"))
    if write is None and hour is not None:
        write = hour + (
            fields.count(fields.get(usage, "cache_creation.ephemeral_5m_input_tokens")) or 0
        )
    return [
        uncached or 0,
        fields.count(usage.get("cache_read_input_tokens")),
        write,
        hour,
        output,
        fields.count(fields.get(usage, "output_tokens_details.thinking_tokens")),
    ]


def _beside(usage: Record, model: str) -> list[tuple[int, str, list[int | None]]]:
    """Give (place, model, counts) of what a request cost beside its usage."""
    iterations = usage.get("iterations")
    found = []
    for place, one in enumerate(iterations[:16] if type(iterations) is list else ()):
        figures = _figures(one) if type(one) is dict else None
        if figures is None or not figures[4]:
            continue
        other = fields.model(one.get("model")) or model
        if one.get("type") in ("advisor_message", "compaction") or (
            one.get("type") in ("message", "fallback_message") and other != model
        ):
            found.append((place, other, figures))
    return found


def _id(record: Record, message: Record) -> str | None:
    """Tell a message from every other, in whatever file it is copied to."""
    name, request = fields.text(message.get("id")), fields.text(record.get("requestId"))
    if name is None:
        return request or fields.text(record.get("uuid"))
    if name.startswith("msg") or len(name) >= 16:
        return name
    # A gateway may number its messages: such a number is not enough.
    return f"{name} {request or fields.text(record.get('sessionId')) or ''}"


_STATUS = re.compile(r"\b(?:API )?Error:? \(?(\d{3})\b|^(\d{3}) ")


def _failure(record: Record, message: Record) -> Request:
    said = fields.get(message, "content.0.text")
    details = [
        one for one in (record.get("errorDetails"), said) if type(one) is str and one.strip()
    ]
    status = fields.status(record.get("apiErrorStatus"))
    for text in details:
        found = _STATUS.search(text[:200]) if status is None else None
        status = fields.status((found[1] or found[2]) if found else None) or status
    code = fields.failure(record.get("error"))
    return _failed(
        fields.model(message.get("model")) or "unknown",
        status,
        [*([code] if code is not None and code != "unknown" else []), *details],
        fields.timestamp(record.get("timestamp")),
        _id(record, message),
    )


def _failed(
    model: str, status: str | None, errors: list[Any], ended: float | None, name: str | None
) -> Request:
    return Request(
        provider="anthropic",
        model=model,
        endpoint="/messages",
        status_code=status or "0",
        error_type=fields.error_type(status, *errors),
        timestamp=ended,
        id=name,
    )


def _attempt(record: Record, memory: Memory, error: Any, status: Any) -> Request:
    """Read an attempt that failed and was followed by another; it is of the model that spoke last."""
    name, model = fields.text(record.get("uuid")), memory.get("model")
    found = fields.status(status if status is not None else fields.get(error, "status"))
    errors = [error, *(fields.get(error, key) for key in ("connection", "formatted"))]
    return _failed(
        model if type(model) is str else "unknown",
        None if found == "0" else found,
        [one for one in errors if fields.failure(one) is not None],
        fields.timestamp(record.get("timestamp")),
        f"attempt {name}" if name else None,
    )


# What `claude -p` prints.


def _printed(record: Record, memory: Memory) -> Sequence[Request] | None:
    kind, message = record.get("type"), record.get("message")
    if type(kind) is not str or kind not in _IS_PRINTED or memory.get("qwen"):
        return None
    if type(record.get("uuid")) is not str and kind not in ("result", "assistant"):
        return None  # the first versions gave their lines no uuid
    if kind == "user" and type(message) is not dict:
        return None
    if kind == "result":
        return _result(record, memory)
    if kind == "system":
        subtype = record.get("subtype")
        if "qwen_code_version" in record:
            # What Qwen Code prints looks the same, but its input has the cached in it.
            memory["qwen"] = True
            return None
        if type(subtype) is not str:
            return None
        if subtype == "api_retry":
            return [_attempt(record, memory, record.get("error"), record.get("error_status"))]
        if subtype != "init":
            return []
        unfinished = _of_calls(memory.pop("calls", None))
        memory["model"] = (fields.model(record.get("model")) or "unknown").removesuffix("[1m]")
        return unfinished
    if kind != "assistant":
        return []
    if type(message) is not dict or message.get("role", "assistant") != "assistant":
        return None
    usage = message.get("usage")
    if type(usage) is not dict or "total_tokens" in usage:
        return None if type(usage) is dict else []  # Qwen Code's have a total
    if message.get("model") == "<synthetic>":
        if fields.failure(record.get("error")) is None and not record.get("isApiErrorMessage"):
            return []
        memory["failed"] = True
        return [_failure(record, message)]
    memory["time"] = fields.timestamp(record.get("timestamp"))
    figures, name = _figures(usage), fields.text(message.get("id"))
    if figures is not None and name is not None:
        model = fields.model(message.get("model")) or "unknown"
        calls = memory.get("calls")
        if type(calls) is not dict:
            calls = memory["calls"] = {}
        if name in calls or len(calls) < MAX_CALLS:
            calls[name] = [model, *figures]
    return []


def _calls(kept: Any) -> list[tuple[str, str, list[int | None]]]:
    """Give (id, model, counts) of the messages kept in the memory."""
    return [
        (name, one[0], one[1:])
        for name, one in (kept.items() if type(kept) is dict else ())
        if type(one) is list
        and len(one) == _FIGURES + 1
        and type(one[0]) is str
        and all(count is None or type(count) is int for count in one[1:])
    ]


def _of_calls(kept: Any) -> list[Request]:
    return [_request(model, figures, id=name) for name, model, figures in _calls(kept)]


def _result(record: Record, memory: Memory) -> Sequence[Request] | None:
    """Share the totals of a run among its requests."""
    told, costs = record.get("modelUsage"), ("total_cost_usd", "total_cost", "cost_usd")
    if type(record.get("subtype")) is not str or not (
        type(told) is dict or any(key in record for key in costs)
    ):
        return None
    calls = _calls(memory.pop("calls", None))
    failed = memory.pop("failed", False)
    turns = min(fields.count(record.get("num_turns")) or 1, MAX_CALLS)
    runs, took = _since(record, memory, _runs(told))
    if not runs and not told:  # versions before `modelUsage`
        kept = calls[-1][1] if calls else memory.get("model")
        figures = _own(record)
        cost = next((found for key in costs if (found := fields.cost(record.get(key)))), None)
        if (figures and any(figures)) or cost:
            model = kept if type(kept) is str else "unknown"
            runs = {model: (figures or [None] * _FIGURES, cost)}
    main = max(runs, key=lambda model: runs[model][0][4] or 0, default=None)
    name, ended = fields.text(record.get("uuid")), fields.timestamp(memory.pop("time", None))
    shares: list[tuple[str, str | None, list[int | None], Decimal | float | None]] = []
    for place, (model, (figures, cost)) in enumerate(runs.items()):
        mine = [one for one in calls if one[1] == model]
        number = len(mine) or (turns if model == main and not calls else 1)
        ids: list[str | None] = [one[0] for one in mine]
        ids = ids or [f"{name}#{place}.{turn}" if name else None for turn in range(number)]
        parts = _parts(figures, [one[2] for one in mine], number)
        shares += zip([model] * number, ids, parts, _split(cost, number), strict=True)
    requests = [
        _request(
            model,
            figures,
            cost=cost,
            duration_seconds=took / len(shares) if took else None,
            time_to_first_token_seconds=(
                fields.seconds(record.get("ttft_ms"), "ms") if place == 0 else None
            ),
            timestamp=ended,
            id=one,
        )
        for place, (model, one, figures, cost) in enumerate(shares)
    ]
    status, said = fields.status(record.get("api_error_status")), record.get("result")
    if record.get("is_error") is True and not failed:
        is_said = type(said) is str and said.startswith(("API Error", "Invalid API key"))
        if status is not None or is_said:
            text = said[:500] if type(said) is str else ""
            in_text = _STATUS.search(text) if status is None else None
            status = fields.status(in_text[1] or in_text[2]) if in_text else status
            kept = memory.get("model")
            requests.append(
                _failed(
                    kept if type(kept) is str else "unknown",
                    status,
                    [text],
                    ended,
                    f"{name}#error" if name else None,
                )
            )
    return requests


Runs = dict[str, tuple[list[int | None], "Decimal | float | None"]]
"""Counts and cost of a run by model."""


def _own(record: Record) -> list[int | None] | None:
    return _figures(record["usage"]) if type(record.get("usage")) is dict else None


_BY_MODEL = (
    "inputTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
    "cacheCreationEphemeral1hInputTokens",
    "outputTokens",
    "thinkingTokens",
)


def _runs(told: Any) -> Runs:
    runs: Runs = {}
    for key, one in list(told.items())[:32] if type(told) is dict else ():
        figures = [fields.count(one.get(name)) for name in _BY_MODEL] if type(one) is dict else []
        if any(figures):
            model = (fields.model(key) or "unknown").removesuffix("[1m]")
            runs[model] = (figures, fields.cost(one.get("costUSD")) or None)
    return runs


def _since(record: Record, memory: Memory, runs: Runs) -> tuple[Runs, float | None]:
    """Take off what was told before: give the counts of this run alone, and how long its requests took.

    `modelUsage`, the cost and `duration_api_ms` add up over the results of one process, and since 2.1.3xx
    over a session that is resumed or forked, whereas `usage` is of the main conversation of this run.
    """
    took, own = fields.seconds(record.get("duration_api_ms"), "ms"), _own(record) or []
    kept = memory.get("runs")
    if type(kept) is not dict:
        kept = memory["runs"] = {}
    session = record["session_id"][:64]
    past = _past(kept.pop(session, None))
    kept[session] = [took, {model: [*told, str(cost or 0)] for model, (told, cost) in runs.items()}]
    while len(kept) > MAX_SESSIONS:
        del kept[next(iter(kept))]
    now = sum(_input(told) for told, _ in runs.values())
    if past is not None and _input(own) and now - _input_of(past[1]) >= _input(own):
        left = {model: _less(one, past[1].get(model)) for model, one in runs.items()}
        if all(model in runs for model in past[1]) and None not in left.values():
            runs = {model: one for model, one in left.items() if one is not None and any(one[0])}
            return runs, took - past[0] if took and past[0] and took >= past[0] else None
    if own and now > _input(own) and fields.get(record, "subagent_stats.spawned") == 0:
        # A session that began elsewhere. Nobody but the main conversation spoke: its own figures are all.
        model = max(runs, key=lambda model: runs[model][0][4] or 0)
        return {model: (own, None)}, None
    hour, thinking = own[3:6:2] if own and len(runs) == 1 else (None, None)
    for figures, _ in runs.values():
        figures[3] = hour if figures[3] is None else figures[3]
        figures[5] = thinking if figures[5] is None else figures[5]
    return runs, took


def _past(kept: Any) -> tuple[float | None, dict[str, list[Any]]] | None:
    """Read what the memory holds of a session's last result."""
    if type(kept) is not list or len(kept) != 2 or type(kept[1]) is not dict:
        return None
    told = {
        model: one
        for model, one in kept[1].items()
        if type(one) is list
        and len(one) == _FIGURES + 1
        and all(count is None or type(count) is int for count in one[:_FIGURES])
        and fields.cost(one[-1]) is not None
    }
    return (kept[0] if type(kept[0]) is float else None), told


def _less(
    one: tuple[list[int | None], Decimal | float | None], before: list[Any] | None
) -> tuple[list[int | None], Decimal | float | None] | None:
    """Take earlier counts and cost off later ones; `None` where the later are less."""
    if before is None:
        return one
    figures, cost = one
    left = [
        None if new is None else new - (old or 0)
        for new, old in zip(figures, before[:_FIGURES], strict=True)
    ]
    if any(count is not None and count < 0 for count in left):
        return None
    rest = Decimal(str(cost)) - Decimal(before[-1]) if cost else None
    return left, rest if rest is not None and rest > 0 else None


def _input_of(told: dict[str, list[Any]]) -> int:
    return sum(_input(one) for one in told.values())


def _input(figures: list[Any]) -> int:
    return sum(count for count in figures[:3] if type(count) is int)


def _parts(
    total: list[int | None], known: list[list[int | None]], number: int
) -> list[list[int | None]]:
    """Share counts among requests: to each what is known of it, and of the rest an equal part."""
    parts: list[list[int | None]] = [[] for _ in range(number)]
    for place, count in enumerate(total):
        has = [one[place] or 0 for one in known] or [0] * number
        if count is None or sum(has) > count:
            has = [0] * number
        each, more = divmod((count or 0) - sum(has), number)
        for turn, part in enumerate(parts):
            part.append(None if count is None else has[turn] + each + (turn < more))
    return parts


def _split(cost: Decimal | float | None, number: int) -> list[Decimal | float | None]:
    if cost is None or number == 1:
        return [cost] * number
    whole = Decimal(str(cost))
    each = (whole / number).quantize(Decimal("1e-12"))
    return [whole - each * (number - 1), *[each] * (number - 1)]


parse.keys = {  # type: ignore[attr-defined] # a function's own attribute
    "message": dict,
    **dict.fromkeys(("session_id", "sessionId", "uuid"), str),
    **dict.fromkeys(("leafUuid", "snapshot"), object),
}

"""Langfuse's observations, from its API, its exports (JSON, JSONL, blob storage) and its ingestion: generations alone.

Turn it on: follow the directory of a scheduled export (JSON or JSONL), or keep what the API answers:
`curl -u … "$HOST/api/public/observations?type=GENERATION" >> langfuse.jsonl`.

An observation an object: a line, an array, a page of the API (`{"data": […]}`) or a trace with its `observations`;
the API's names (`startTime`) and the exports' (`start_time`). Of the types only `GENERATION` and `EMBEDDING` are calls
to models; spans, agents and traces have sums at most. `level: "ERROR"` is a failed one, with `statusMessage`. A
generation without an end is written again when it has one.

`usageDetails` has a name for each kind of token, and they add up (`input`, `input_cached_tokens`,
`cache_read_input_tokens`, `output`, `output_reasoning_tokens`, …): all that begin so are the input and the output.
Where `input` and `output` alone are the `total`, the others are parts of them. `usage`, of old versions, counts tokens
if its `unit` says so. `latency` is in seconds. The price goes by the model's name, where Langfuse itself has
reckoned no cost.

Cannot tell: the provider, an HTTP status, and what is left of a rate limit.

Sources: https://js.reference.langfuse.com/interfaces/_langfuse_core.ObservationsView.html,
https://langfuse.com/docs/observability/features/token-and-cost-tracking, https://api.reference.langfuse.com. Lines
were written from these; no real one was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table, fields


def _both(name: str) -> list[str]:
    """Tell the API's name and the export's."""
    return [name, "".join([f"_{one.lower()}" if one.isupper() else one for one in name])]


_observation = compile_table(
    Table.of(
        "langfuse",
        {
            "provider": ["metadata.ls_provider", "metadata.attributes.gen_ai.system"],
            "model": ["model", *_both("providedModelName")],
            "endpoint": {"path": "type", "map": {"EMBEDDING": "/embeddings", "GENERATION": "chat"}},
            "error": "failed",
            "started": _both("startTime"),
            "first_token": _both("completionStartTime"),
            "timestamp": _both("endTime"),
            "duration": {"path": "latency", "unit": "s"},
            "time_to_first_token": [
                {"path": path, "unit": "s"} for path in _both("timeToFirstToken")
            ],
            **{
                name: f"tokens.{name}"
                for name in (
                    "input_tokens",
                    "cache_read_tokens",
                    "cache_write_tokens",
                    "cache_write_1h_tokens",
                    "output_tokens",
                    "reasoning_tokens",
                    "audio_input_tokens",
                    "audio_output_tokens",
                )
            },
            "cost": [
                "costDetails.total",
                "cost_details.total",
                *_both("calculatedTotalCost"),
                *_both("totalCost"),
                "totalPrice",
            ],
            "trace_id": _both("traceId"),
            "id": "id",
        },
    )
)
_CALLS = ("GENERATION", "EMBEDDING")
_OTHERS = "SPAN EVENT AGENT TOOL CHAIN RETRIEVER EVALUATOR GUARDRAIL"
_TYPES = frozenset({*_CALLS, *_OTHERS.split()})
_INGESTED = ("generation-create", "generation-update")


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read an observation, or what has several of them inside."""
    if _is_observation(record):
        return _call(record, memory)
    if record.get("type") in _INGESTED and type(record.get("body")) is dict:
        body = {"type": "GENERATION", **record["body"]}
        return _call(body, memory) if _is_observation(body) else None
    for key in ("data", "observations", "batch"):
        found = record.get(key)
        if type(found) is list and found and _is_observation(found[0]):
            calls = [_call(one, memory) for one in found if _is_observation(one)]
            return [request for call in calls for request in call]
    return None


def _is_observation(value: Any) -> bool:
    if type(value) is not dict:
        return False
    kind = value.get("type")
    return (
        type(kind) is str
        and (kind in _CALLS or (kind in _TYPES and "level" in value))
        and ("traceId" in value or "trace_id" in value)
        and ("startTime" in value or "start_time" in value)
    )


def _call(record: Record, memory: Memory) -> Sequence[Request]:
    failed = record.get("level") == "ERROR"
    ended = record.get("endTime") or record.get("end_time")
    if record["type"] not in _CALLS or not (ended or failed):
        return []
    why = record.get("statusMessage") or record.get("status_message")
    told = {
        **record,
        "failed": (why or "failed") if failed else None,
        "tokens": _tokens(record),
    }
    return _observation(told, memory) or []


def _tokens(record: Record) -> dict[str, int]:
    for key in ("usageDetails", "usage_details", "usage"):
        usage = record.get(key)
        if type(usage) is dict and usage:
            unit = usage.get("unit")
            return {} if unit not in (None, "TOKENS") else _sorted(usage)
    return _sorted({"input": record.get("promptTokens"), "output": record.get("completionTokens")})


def _sorted(usage: Record) -> dict[str, int]:
    """Bring all kinds of tokens to those of a request, by the words that their names are made of."""
    counts = {str(name).lower(): fields.count(value) for name, value in usage.items()}
    parts: dict[str, int] = {}
    whole: dict[str, int] = {}
    for name, count in counts.items():
        if count is None or name.startswith("total") or "cost" in name:
            continue
        is_output = name.startswith(("output", "completion")) or "reasoning" in name
        if not is_output and not name.startswith(("input", "prompt", "cache")):
            continue
        side = "output" if is_output else "input"
        if name in (side, f"{side}_tokens", "prompttokens", "completiontokens"):
            whole[side] = count
            continue
        if "ephemeral" in name:  # a part of what is written to the cache
            kind = "cache_write_1h_tokens" if "1h" in name else ""
        elif "cache" in name:
            is_write = "creation" in name or "write" in name
            kind = "cache_write_tokens" if is_write else "cache_read_tokens"
        else:
            named = {"audio": f"audio_{side}_tokens", "reasoning": "reasoning_tokens"}
            kind = next((to for word, to in named.items() if word in name), "")
        if "ephemeral" not in name:
            parts[side] = parts.get(side, 0) + count
        if kind:
            parts[kind] = parts.get(kind, 0) + count
    are_inside = bool(parts) and sum(whole.values()) == counts.get("total", -1)
    for side in ("input", "output"):
        beside = 0 if are_inside else parts.pop(side, 0)
        parts.pop(side, None)
        if side in whole or beside:
            parts[f"{side}_tokens"] = whole.get(side, 0) + beside
    return parts


parse.keys = {  # type: ignore[attr-defined] # a function's own attribute
    **dict.fromkeys(("startTime", "start_time"), object),
    **dict.fromkeys(("data", "observations", "batch"), list),
    "body": dict,
}

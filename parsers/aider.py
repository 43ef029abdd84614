"""Aider's analytics log (`--analytics-log`): `message_send` lines.

Turn it on: `aider --analytics-log aider.jsonl --no-analytics` (it logs, and sends nothing), or `analytics-log: …` in
`.aider.conf.yml`.

Each is one answer of the main model, with the tokens and the cost of that message; `total_cost` is the session's so
far, and is not counted. Other events (`launched`, `command_…`, `exit`) tell of no call; a call that failed is not
logged (`message_send_exception` tells of errors of aider's own). A model that aider does not know has its name cut to
`provider/REDACTED`. The name is LiteLLM's: what stands before the slash is the provider. `prompt_tokens` have the
cached ones in them, as LiteLLM counts for every provider, and do not tell how many. `time` is in whole seconds.

Cannot tell: failures, cached and reasoning tokens, any duration, an HTTP status, why an answer ended, and what is
left of a rate limit.

Sources: https://github.com/Aider-AI/aider/blob/main/aider/analytics.py, …/aider/coders/base_coder.py
(`calculate_and_show_tokens_and_cost`), real lines: …/aider/website/assets/sample-analytics.jsonl
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar import Memory, Record, Request, Table, compile_table, fields

_message = compile_table(
    Table.of(
        "aider",
        {
            "provider": "provider",
            "model": "model",
            "endpoint": {"const": "/chat/completions"},
            "input_tokens": "prompt_tokens",
            "output_tokens": "completion_tokens",
            "cost": "cost",
            "timestamp": "time",
        },
    )
)


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read an event; a `message_send` tells a request."""
    properties = record.get("properties")
    if type(properties) is not dict or type(record.get("event")) is not str:
        return None
    # other programs' analytics have events with properties too, but no version of aider
    if "aider_version" not in properties or "time" not in record:
        return None
    if record["event"] != "message_send":
        return []
    model = fields.text(properties.get("main_model"))
    provider, slash, name = (model or "").partition("/")
    told = {
        **properties,
        "time": record["time"],
        "model": None if name == "REDACTED" else model,
        "provider": provider if slash else None,
    }
    return _message(told, memory)


parse.keys = {"properties": dict}  # type: ignore[attr-defined] # a function's own attribute

"""What simonw's `llm logs -n 0 --json` gives: the calls of the `llm` program and of its Python library.

Turn it on: `llm logs on`, and now and then `llm logs -n 0 --json > llm.json` in a directory that is followed.

An array printed over many lines, or an object a line (`jq -c '.[]'`). `llm` logs into SQLite and this is its export:
what is in it again is counted once, by its id.

`model` is `llm`'s name for it, `resolved_model` the one that answered, where its plugin tells it. The price
goes by the model's name. `input_tokens` are as the plugin gives them: Anthropic's are beside the cached ones
and Gemini's output beside the thoughts, which the names in `token_details` (JSON in a string) tell. Versions
before 0.19 have no tokens of their own; the provider's are in `response_json`.

Cannot tell: failures, an HTTP status, the provider, cost, the time to the first token, and what is left of a rate
limit.

Sources: https://github.com/simonw/llm/blob/main/docs/logging.md, …/llm/cli.py (LOGS_COLUMNS), …/llm/models.py,
https://github.com/simonw/llm-anthropic, https://github.com/simonw/llm-gemini (their `set_usage`)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table, fields

_SIGNS = frozenset({"conversation_id", "datetime_utc", "duration_ms", "response_json"})
_DETAILS: dict[str, Any] = {
    "cache_read_tokens": [
        "details.prompt_tokens_details.cached_tokens",
        "details.input_tokens_details.cached_tokens",
        "details.cache_read_input_tokens",
        "details.cachedContentTokenCount",
    ],
    "cache_write_tokens": "details.cache_creation_input_tokens",
    "cache_write_1h_tokens": "details.cache_creation.ephemeral_1h_input_tokens",
    "reasoning_tokens": [
        "details.completion_tokens_details.reasoning_tokens",
        "details.output_tokens_details.reasoning_tokens",
        "details.thoughtsTokenCount",
    ],
    "audio_input_tokens": "details.prompt_tokens_details.audio_tokens",
    "audio_output_tokens": "details.completion_tokens_details.audio_tokens",
}
_call = compile_table(
    Table.of(
        "llm",
        {
            **_DETAILS,
            "model": ["resolved_model", "model"],
            "endpoint": {"const": "chat"},
            "duration": "duration_ms",
            "started": "datetime_utc",
            "finish_reason": [
                "response_json.choices.0.finish_reason",
                "response_json.finish_reason",
                "response_json.stop_reason",
                "response_json.candidates.0.finishReason",
            ],
            "input_tokens": {
                "sum": [
                    "input",
                    "details.cache_read_input_tokens",
                    "details.cache_creation_input_tokens",
                    "details.toolUsePromptTokenCount",
                ]
            },
            "output_tokens": {"sum": ["output", "details.thoughtsTokenCount"]},
            "id": "id",
        },
    )
)


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read an entry of the export."""
    if not record.keys() >= _SIGNS or "prompt" not in record:
        return None
    usage = fields.get(record, "response_json.usage")
    usage = usage if type(usage) is dict else {}
    told = {
        **record,
        "input": _first(record, usage, "input_tokens", "prompt_tokens"),
        "output": _first(record, usage, "output_tokens", "completion_tokens"),
        "details": _opened(record.get("token_details")),
    }
    if record.get("input_tokens") is None:
        told["details"] = usage
    return _call(told, memory)


def _first(record: Record, usage: Record, name: str, other: str) -> Any:
    return next(
        (
            value
            for value in (record.get(name), usage.get(name), usage.get(other))
            if value is not None
        ),
        None,
    )


def _opened(value: Any) -> Any:
    if type(value) is not str:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


parse.keys = {"prompt"}  # type: ignore[attr-defined] # a function's own attribute

"""Factory Droid's `droid exec --output-format stream-json`: the usage of a run, on its last line.

Turn it on: `droid exec … --output-format stream-json >> droid.jsonl`, and follow that file.

A line for each thing that happens (`system`, `message`, `reasoning`, `tool_call`, `tool_result`, `error`), and at the
end `completion` with the usage of all calls of the run. That is one request here, however many turns it took: neither
the tokens nor the time of a single call are told, so it has no duration. The model is told by the run's first line.
`input_tokens` are beside the cached ones, in Anthropic's words; `thinking_tokens` are taken as a part of the output.
A completion without a usage, as old versions write it, tells of no request. `factoryCredits` are no dollars.

The session files (`~/.factory/sessions`) have no tokens on their lines; `*.settings.json` holds a growing sum that is
written over again and again, and is not read.

The price goes by the model's name, as the provider is not told.

Cannot tell: single calls, how long they took, when the first token came, the provider, cost, an HTTP status, and what
is left of a rate limit.

Sources: https://docs.factory.ai/cli/droid-exec/overview, lines in public programs that read it
(https://github.com/multica-ai/multica, server/pkg/agent/droid.go),
https://github.com/ryoppippi/ccusage (rust/crates/ccusage/src/adapter/droid).
No line of our own was made: it wants an account.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar import Memory, Record, Request, Table, compile_table, fields

_SIGNS = {
    "system": "model",
    "message": "text",
    "reasoning": "text",
    "tool_call": "toolName",
    "tool_result": "value",
    "error": "source",
    "completion": "finalText",
}
"""What a line of each type has, beside its session."""
_CLAUDE_CODE = frozenset({"uuid", "apiKeySource", "claude_code_version", "permissionMode"})

_run = compile_table(
    Table.of(
        "droid",
        {
            "model": "model",
            "endpoint": {"const": "chat"},
            "input_excludes_cache": True,
            "input_tokens": "usage.input_tokens",
            "cache_read_tokens": "usage.cache_read_input_tokens",
            "cache_write_tokens": "usage.cache_creation_input_tokens",
            "output_tokens": "usage.output_tokens",
            "reasoning_tokens": "usage.thinking_tokens",
            "timestamp": "timestamp",
            "error": "failed",
        },
    )
)


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a line of a run; its end tells the request."""
    kind, session = record.get("type"), record.get("session_id")
    if type(kind) is not str or type(session) is not str or _SIGNS.get(kind) not in record:
        return None
    if kind == "system":
        if _CLAUDE_CODE & record.keys():
            return None
        memory["model"] = fields.model(record["model"])
    if kind != "completion":
        return []
    failed = record.get("isError") is True
    if not failed and type(record.get("usage")) is not dict:
        return []
    # what a failed run gave as its last words is why it failed
    why = record["finalText"] if failed else None
    return _run(
        {
            "model": record.get("model") or memory.get("model"),
            "usage": record.get("usage"),
            "timestamp": record.get("timestamp"),
            "failed": (why or "failed") if failed else None,
        },
        memory,
    )


parse.keys = {"session_id": str}  # type: ignore[attr-defined] # a function's own attribute

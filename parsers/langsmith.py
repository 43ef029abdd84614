"""LangSmith's runs, as its SDK, its bulk export and `langsmith` write them: `run_type: "llm"` alone.

Turn it on: write what the client gives, a run a line: `json.dumps(run.dict(), default=str)` for each of
`Client().list_runs(project_name=…, run_type="llm")`.

A run an object: a line (so, or of a JSON Lines export), an array, `{"runs": […]}` of the API, or a root run with its
`child_runs` inside. **Chains, tools and agents have the sums of what they called**: only runs of the type `llm` are
calls. A run that has not ended is none; written again when it has, it is counted then.

Tokens are LangChain's `usage_metadata`, in which the input has the cached ones in it and the output the reasoning;
where they are missing, the run's own `prompt_tokens`/`completion_tokens`, or the provider's usage as old versions
of LangChain keep it. Costs are LangSmith's own reckoning, in dollars.

Cannot tell: an HTTP status, and what is left of a rate limit.

Sources: https://docs.smith.langchain.com/reference/python/schemas/langsmith.schemas.Run,
https://reference.langchain.com/python/langsmith/schemas/UsageMetadata,
https://docs.smith.langchain.com/reference/data_formats/run_data_format. Lines were written from these; no real one
was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table, fields

_MESSAGES = (
    "outputs.generations.0.0.message.kwargs",
    "outputs.generations.0.0.message",
    "outputs.generations.0.message.kwargs",
    "outputs.generations.0.message",
    "outputs.message",
    "outputs.output",
)
_USAGES = (
    "outputs.usage_metadata",
    "extra.metadata.usage_metadata",
    *(f"{message}.usage_metadata" for message in _MESSAGES),
)
_RAW = (
    "outputs.llm_output.token_usage",
    "outputs.llmOutput.tokenUsage",
    "outputs.usage",
    "outputs.llm_output.usage",
)


def _in(usages: Sequence[str], *names: str) -> list[str]:
    return [f"{usage}.{name}" for usage in usages for name in names]


_run = compile_table(
    Table.of(
        "langsmith",
        {
            "provider": "extra.metadata.ls_provider",
            "model": [
                "outputs.llm_output.model_name",
                *(f"{message}.response_metadata.model_name" for message in _MESSAGES),
                "outputs.model",
                "extra.metadata.ls_model_name",
                "extra.invocation_params.model",
                "extra.invocation_params.model_name",
            ],
            "endpoint": {"const": "chat"},
            "outcome": "status",
            "error": "error",
            "started": "start_time",
            "first_token": "first_token_time",
            "timestamp": "end_time",
            "input_tokens": [
                *_in(_USAGES, "input_tokens"),
                "prompt_tokens",
                *_in(_RAW, "prompt_tokens", "promptTokens", "input_tokens"),
            ],
            "cache_read_tokens": [
                *_in(_USAGES, "input_token_details.cache_read"),
                "prompt_token_details.cache_read",
                *_in(_RAW, "prompt_tokens_details.cached_tokens"),
            ],
            "cache_write_tokens": [
                *_in(_USAGES, "input_token_details.cache_creation"),
                "prompt_token_details.cache_creation",
            ],
            "cache_write_1h_tokens": _in(_USAGES, "input_token_details.ephemeral_1h_input_tokens"),
            "output_tokens": [
                *_in(_USAGES, "output_tokens"),
                "completion_tokens",
                *_in(_RAW, "completion_tokens", "completionTokens", "output_tokens"),
            ],
            "reasoning_tokens": [
                *_in(_USAGES, "output_token_details.reasoning"),
                "completion_token_details.reasoning",
                *_in(_RAW, "completion_tokens_details.reasoning_tokens"),
            ],
            "audio_input_tokens": _in(_USAGES, "input_token_details.audio"),
            "audio_output_tokens": _in(_USAGES, "output_token_details.audio"),
            "cost": ["total_cost", *_in(_USAGES, "total_cost")],
            "finish_reason": [
                *(f"{message}.response_metadata.finish_reason" for message in _MESSAGES),
                *(f"{message}.response_metadata.stop_reason" for message in _MESSAGES),
                "outputs.generations.0.0.generation_info.finish_reason",
                "outputs.choices.0.finish_reason",
            ],
            "trace_id": "trace_id",
            "id": "id",
        },
    )
)
_BESIDE = frozenset(
    {"dotted_order", "trace_id", "session_id", "parent_run_id", "session_name", "execution_order"}
)
_TYPES = frozenset({"llm", "chain", "tool", "retriever", "embedding", "prompt", "parser"})
_MAX_RUNS = 10_000


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a run and those inside it, or a page of runs."""
    if _is_run(record):
        return _read([record], memory)
    runs = record.get("runs")
    if type(runs) is list and runs and _is_run(runs[0]):
        return _read(runs, memory)
    return None


def _is_run(value: Any) -> bool:
    if type(value) is not dict:
        return False
    kind = value.get("run_type")
    return (
        type(kind) is str
        and kind in _TYPES
        and "start_time" in value
        and not _BESIDE.isdisjoint(value)
    )


def _read(runs: list[Any], memory: Memory) -> list[Request]:
    requests: list[Request] = []
    waiting, seen = list(reversed(runs)), 0
    while waiting and seen < _MAX_RUNS:
        run, seen = waiting.pop(), seen + 1
        if not _is_run(run):
            continue
        children = run.get("child_runs")
        if type(children) is list:
            waiting += reversed(children)
        if run["run_type"] == "llm" and (run.get("end_time") or fields.failure(run.get("error"))):
            requests += _run(run, memory) or ()
    return requests


parse.keys = {"run_type", "runs"}  # type: ignore[attr-defined] # a function's own attribute

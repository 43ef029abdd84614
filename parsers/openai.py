"""OpenAI's response bodies, and all that speak its dialect: chat, completions, responses, embeddings, errors.

Azure, DeepSeek, Groq, Mistral, OpenRouter, Together, vLLM, and beside them Ollama's own bodies and Cohere's.
A line is a body as the provider sent it (or as an SDK's `model_dump()` writes it), or one event of a stream.
Where the body does not show who sent it, the provider is `openai`.

Turn it on: let the program log each response as JSON, a line each (`response.model_dump_json()`); of a stream each
chunk, with `stream_options={"include_usage": true}`. README has a hook that does better, with the status and the
time.

Cannot tell: from a body alone: how long it took, when the first token came, and what is left of a rate limit; a
program may add the first two (`latency_ms`, `ttft_ms`). The tokens of a chat stream without `include_usage`.

Sources: https://platform.openai.com/docs/api-reference (chat, responses, embeddings),
https://api-docs.deepseek.com/api/create-chat-completion, https://console.groq.com/docs/api-reference,
https://openrouter.ai/docs/api-reference/overview, https://learn.microsoft.com/azure/ai-services/openai/reference,
https://github.com/ollama/ollama/blob/main/docs/api.md, https://docs.cohere.com/reference/chat
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table

_USAGE: dict[str, Any] = {
    # Input has the cached tokens in it, output the reasoning, with all that speak this dialect.
    "input_tokens": ["usage.prompt_tokens", "usage.input_tokens", "x_groq.usage.prompt_tokens"],
    "cache_read_tokens": [
        "usage.prompt_tokens_details.cached_tokens",
        "usage.input_tokens_details.cached_tokens",
        "usage.prompt_cache_hit_tokens",  # DeepSeek; the misses are the rest of prompt_tokens
        "usage.cached_tokens",  # Together, Moonshot
        "x_groq.usage.prompt_tokens_details.cached_tokens",
    ],
    "cache_write_tokens": [
        "usage.prompt_tokens_details.cache_write_tokens",
        "usage.input_tokens_details.cache_write_tokens",
    ],
    "output_tokens": [
        "usage.completion_tokens",
        "usage.output_tokens",
        "x_groq.usage.completion_tokens",
    ],
    "reasoning_tokens": [
        "usage.completion_tokens_details.reasoning_tokens",
        "usage.output_tokens_details.reasoning_tokens",
    ],
    "audio_input_tokens": [
        "usage.prompt_tokens_details.audio_tokens",
        "usage.input_tokens_details.audio_tokens",
    ],
    "audio_output_tokens": [
        "usage.completion_tokens_details.audio_tokens",
        "usage.output_tokens_details.audio_tokens",
    ],
    "cost": ["usage.cost", "cost_usd"],  # OpenRouter's credits are dollars
    # What a program adds to the body that it logs.
    "duration": ["latency_ms", "duration_ms", "elapsed_ms", "duration_s", "duration_seconds"],
    "time_to_first_token": ["ttft_ms", "time_to_first_token_ms"],
    "trace_id": "trace_id",
}
_CHAT: dict[str, Any] = {
    **_USAGE,
    "when": {"object": ["chat.completion", "text_completion"]},
    "status": ["status_code", {"const": 200}],  # whatever is wrong inside, it was answered
    "model": "model",
    "endpoint": {
        "path": "object",
        "map": {"chat.completion": "/chat/completions", "text_completion": "/completions"},
    },
    "error": ["error", "choices.0.error"],  # OpenRouter tells of one with status 200
    "finish_reason": "choices.0.finish_reason",
    "service_tier": "service_tier",
    "timestamp": "created",
}
_CHUNK: dict[str, Any] = {
    **_CHAT,
    "when": {"object": "chat.completion.chunk"},
    # One chunk of a stream has it: the last (`include_usage`). vLLM can tell in each chunk what it is so far;
    # then the last, which has no choices, is right.
    "needs": ["input_tokens|output_tokens|error"],
    "endpoint": {"const": "/chat/completions"},
    "id": "id",
    "final": [
        {"path": "x_groq", "as": "yes"},
        {"path": "choices", "as": "is_empty"},
        {"const": True},
    ],
}
_RESPONSE: dict[str, Any] = {
    **_USAGE,
    "when": {"object": "response", "status": ["completed", "incomplete", "failed"]},
    "status": ["status_code", {"const": 200}],
    "model": "model",
    "endpoint": {"const": "/responses"},
    "error": "error",  # also with HTTP status 200
    "outcome": "status",
    "finish_reason": [
        "incomplete_details.reason",
        {"path": "status", "map": {"completed": "stop", "failed": "error"}},
    ],
    "service_tier": "service_tier",
    "timestamp": ["completed_at", "created_at"],
}
_EMBEDDINGS: dict[str, Any] = {
    **_USAGE,
    "when": {"object": "list", "data.0.object": "embedding"},
    "model": "model",
    "endpoint": {"const": "/embeddings"},
    "batch_size": {"path": "data", "as": "size"},
}
_OLLAMA: dict[str, Any] = {
    "when": {"model": True, "done": [True], "created_at": True},
    "provider": {"const": "ollama"},
    "model": "model",
    "duration": {"path": "total_duration", "unit": "ns"},
    "input_tokens": "prompt_eval_count",  # not there where the prompt was kept from the request before
    "output_tokens": "eval_count",
    "finish_reason": ["done_reason", {"const": "stop"}],
    "timestamp": "created_at",
}
_COHERE: dict[str, Any] = {
    "provider": {"const": "cohere"},
    "model": "model",
    "finish_reason": "finish_reason",
}


def _table(rows: dict[str, Any], provider: str = "", sign: str = "") -> Table:
    """Make a table of bodies, those of one provider where a field shows it."""
    told = {"provider": {"const": provider}} if provider else {}
    when = {**rows["when"], sign: True} if sign else rows["when"]
    return Table.of("openai", {**rows, **told, "when": when})


RESPONSE = _table(_RESPONSE, "openai")
BODIES = (
    _table(_CHAT, "azure.ai.openai", "prompt_filter_results"),
    _table(_CHAT, "groq", "x_groq"),
    _table(_CHAT, "deepseek", "usage.prompt_cache_hit_tokens"),
    _table(_CHAT, "openrouter", "provider"),
    _table(_CHAT, "openai"),
    RESPONSE,
    _table(
        {
            **_RESPONSE,
            "when": {"object": "response", "status": "cancelled"},
            "error": {"const": "cancelled"},
        },
        "openai",
    ),
    _table(_EMBEDDINGS, "openai"),
    _table({**_OLLAMA, "endpoint": {"const": "/api/chat"}}, sign="message"),
    _table({**_OLLAMA, "endpoint": {"const": "/api/generate"}}, sign="response"),
    _table(
        {
            "when": {"model": True, "embeddings": True, "total_duration": True},
            "model": "model",
            "endpoint": {"const": "/api/embed"},
            "duration": {"path": "total_duration", "unit": "ns"},
            "input_tokens": "prompt_eval_count",
            "batch_size": {"path": "embeddings", "as": "size"},
        },
        "ollama",
    ),
    _table(
        {
            **_COHERE,
            "when": {
                "usage.tokens": True
            },  # version 2; `usage.billed_units` is less: no prompt templates
            "endpoint": {"const": "/chat"},
            "input_tokens": "usage.tokens.input_tokens",
            "output_tokens": "usage.tokens.output_tokens",
        }
    ),
    _table(
        {
            **_COHERE,
            "when": {"meta.billed_units": True},  # version 1, and rerank, which has no tokens
            "input_tokens": ["meta.tokens.input_tokens", "meta.billed_units.input_tokens"],
            "output_tokens": ["meta.tokens.output_tokens", "meta.billed_units.output_tokens"],
        }
    ),
)
"""Tables of whole bodies, for a program's line that has one inside it as well."""

OBJECTS = (
    "chat.completion", "chat.completion.chunk", "text_completion", "response", "list", "error",
)  # fmt: skip
"""What a body of it is, where it says so at `object`."""
EVENTS = tuple(
    f"response.{event}"
    for event in (
        "created",
        "in_progress",
        "queued",
        "completed",
        "incomplete",
        "failed",
        "cancelled",
    )
)
"""Events of the responses API's streams that have the response in them."""

_bodies = compile_table(
    *BODIES,
    replace(_table({**_RESPONSE, "when": {"object": "response"}}), needs=((),)),  # not finished yet
    replace(
        _table({**_OLLAMA, "when": {"model": True, "done": [False], "created_at": True}}),
        needs=((),),
    ),
    _table(_CHUNK, "groq", "x_groq"),
    _table(_CHUNK, "openrouter", "provider"),
    _table(_CHUNK, "openai"),
    replace(  # the last event of a stream of the responses API has the whole response in it
        _table(
            {
                "when": {
                    "type": [*EVENTS],
                    "response.object": "response",
                }
            }
        ),
        needs=(("model",),),
        bodies=(RESPONSE,),
        body_at=("response",),
    ),
    _table(
        {"when": {"object": "error", "message": True}, "error": ["code", "type", "message"]}, "vllm"
    ),
)
_error = compile_table(
    _table(
        {"when": {"error.message": True, "error.type": True}, "error": "error", "model": "model"},
        "openai",
    )
)


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a body of OpenAI's dialect, an event of a stream, or an error with nothing beside it."""
    requests = _bodies(record, memory)
    # Whoever else calls something an error has more on the line than that.
    return _error(record, memory) if requests is None and len(record) == 1 else requests


parse.keys = {  # type: ignore[attr-defined] # a function's own attribute
    "object": {*OBJECTS},
    "type": {*EVENTS},
    "done": bool,
    **dict.fromkeys(("usage", "meta", "error"), dict),
    **dict.fromkeys(("embeddings", "usage.tokens", "meta.billed_units"), object),
}

"""Google's response bodies: generateContent of the Gemini API and of Vertex AI, their streams and errors.

Prompt tokens have the cached ones in them; the tokens of thoughts and of tool use are counted beside the
candidates' and the prompt's, and are added. Each chunk of a stream repeats the usage so far: the last one wins.
Read as the API writes it (`usageMetadata`) and as the Python SDK's `model_dump()` does (`usage_metadata`).
Which of Google's two services answered is not in a body; it is `gcp.vertex_ai` where `trafficType` is, which
only Vertex tells, else `gcp.gemini`.

Turn it on: let the program log each response as JSON, a line each (`response.model_dump_json()`); of a stream each
chunk.

Cannot tell: how long it took, when the first token came, and what is left of a rate limit; a program may add
`latency_ms`.

Sources: https://ai.google.dev/api/generate-content#UsageMetadata, https://ai.google.dev/api/embeddings,
https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sidecar import Table, compile_table


def _content(usage: str, camel: bool) -> dict[str, Any]:
    """Say where the fields of a generateContent body are, in one of its two spellings."""

    def name(words: str) -> str:
        first, *rest = words.split("_")
        return first + "".join(word.capitalize() for word in rest) if camel else words

    return {
        "model": [name("model_version"), "model"],
        "request_model": "model",
        "endpoint": {"const": "/generateContent"},
        "duration": [
            "latency_ms",
            "duration_ms",
        ],  # a program's own, where it adds them to the body
        "input_tokens": {
            "sum": [
                f"{usage}.{name('prompt_token_count')}",
                f"{usage}.{name('tool_use_prompt_token_count')}",
            ]
        },
        "cache_read_tokens": f"{usage}.{name('cached_content_token_count')}",
        # What is 0 is left out, the candidates of a blocked prompt too.
        "output_tokens": [f"{usage}.{name('candidates_token_count')}", {"const": 0}],
        "output_excludes_reasoning": True,
        "reasoning_tokens": f"{usage}.{name('thoughts_token_count')}",
        "audio_input_tokens": {"path": f"{usage}.{name('prompt_tokens_details')}", "as": "audio"},
        "audio_output_tokens": {
            "path": f"{usage}.{name('candidates_tokens_details')}",
            "as": "audio",
        },
        "finish_reason": [
            f"candidates.0.{name('finish_reason')}",
            {"path": f"{name('prompt_feedback')}.{name('block_reason')}", "as": "blocked"},
        ],
        "service_tier": f"{usage}.{name('traffic_type')}",
        "timestamp": name("create_time"),
        "id": name("response_id"),
        "final": [
            {"path": f"candidates.0.{name('finish_reason')}", "as": "yes"},
            {"path": f"{name('prompt_feedback')}.{name('block_reason')}", "as": "yes"},
            {"path": name("response_id"), "as": "no"},
        ],
    }


def _tables(usage: str, camel: bool) -> Iterator[Table]:
    """Make the tables of one spelling: a program's own line may have such a usage too, but not these beside it."""
    rows = _content(usage, camel)
    for sign in ("candidates", "promptFeedback" if camel else "prompt_feedback"):
        when = {usage: True, sign: True}
        traffic = f"{usage}.{'trafficType' if camel else 'traffic_type'}"
        yield Table.of(
            "gemini",
            {**rows, "when": {**when, traffic: True}, "provider": {"const": "gcp.vertex_ai"}},
        )
        yield Table.of("gemini", {**rows, "when": when, "provider": {"const": "gcp.gemini"}})


_EMBEDDINGS: dict[str, Any] = {
    "provider": {"const": "gcp.gemini"},
    "model": "model",
    "batch_size": {"path": "embeddings", "as": "size"},
}
BODIES = (
    *_tables("usageMetadata", camel=True),
    *_tables("usage_metadata", camel=False),
    Table.of(
        "gemini",
        {
            **_EMBEDDINGS,
            "when": {"embeddings.0.values": True},
            "endpoint": {"const": "/batchEmbedContents"},
        },
    ),
    Table.of(
        "gemini",
        {**_EMBEDDINGS, "when": {"embedding.values": True}, "endpoint": {"const": "/embedContent"}},
    ),
    Table.of(
        "gemini",
        {
            "when": {"error.code": True, "error.status": True, "error.message": True},
            "unless": {"model": True, "level": True, "msg": True, "message": True},
            "provider": {"const": "gcp.gemini"},
            "endpoint": {"const": "/generateContent"},
            "status": "error.code",
            "error": "error",
        },
    ),
)
"""Tables of whole bodies, for a program's line that has one inside it as well."""

parse = compile_table(*BODIES)

"""LiteLLM's StandardLoggingPayload, one for each attempt, as its SDK and its proxy give it to a callback.

Whichever way it comes to a file: a custom callback, `generic_api`, `s3_v2`, `gcs_bucket`. Each retry and each
fallback has a payload of its own, and is a request of its own. Tokens are OpenAI's, inclusive, for every provider.
What LiteLLM answered from its own cache (`cache_hit`) is a request without tokens. The proxy's operational
log (`JSON_LOGS=True`) is recognised and tells of no request.

Turn it on: `litellm.callbacks` with a logger that writes `kwargs["standard_logging_object"]` (README has one), or the
proxy's `callbacks: ["generic_api"]`, `s3_v2` or `gcs_bucket`.

Cannot tell: of a stream without `include_usage` its tokens; of a request that failed before a deployment was chosen
its provider.

Sources: https://docs.litellm.ai/docs/proxy/logging_spec,
https://github.com/BerriAI/litellm/blob/main/litellm/types/utils.py (StandardLoggingPayload),
https://github.com/BerriAI/litellm/blob/main/litellm/_logging.py (the operational log)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table

_ENDPOINTS = {
    "completion": "/chat/completions",
    "text_completion": "/completions",
    "embedding": "/embeddings",
    "responses": "/responses",
    "anthropic_messages": "/messages",
    "image_generation": "/images/generations",
    "transcription": "/audio/transcriptions",
    "speech": "/audio/speech",
    "moderation": "/moderations",
    "rerank": "/rerank",
    "generate_content": "/generateContent",
    "generate_content_stream": "/streamGenerateContent",
}
_USAGE = "metadata.usage_object"
_PAYLOAD: dict[str, Any] = {
    "needs": ["status_code|outcome|timestamp"],
    "provider": "custom_llm_provider",  # null where routing failed before one was known
    "model": ["model", "model_group"],
    "request_model": "model_group",  # the name that the caller used; the router has chosen a model for it
    "endpoint": {
        "path": "call_type",
        # The asynchronous calls have an `a` before their name.
        "map": {
            prefix + name: path for name, path in _ENDPOINTS.items() for prefix in ("", "a", "_a")
        },
    },
    "status": "error_information.error_code",
    "outcome": "status",
    "error": [
        "error_information.error_rate_limit_category",
        "error_information.normalized_error",
        "error_information.error_class",
        "error_information.error_message",
        "error_str",
    ],
    # Not `response_time`: of a stream that is the time to the first token.
    "started": "startTime",
    "timestamp": "endTime",
    "input_tokens": "prompt_tokens",
    "cache_read_tokens": [
        f"{_USAGE}.prompt_tokens_details.cached_tokens",
        f"{_USAGE}.cache_read_input_tokens",
    ],
    "cache_write_tokens": [
        f"{_USAGE}.cache_creation_input_tokens",
        f"{_USAGE}.prompt_tokens_details.cache_creation_tokens",
        f"{_USAGE}.prompt_tokens_details.cache_write_tokens",
    ],
    "cache_write_1h_tokens": (
        f"{_USAGE}.prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens"
    ),
    "output_tokens": "completion_tokens",
    "reasoning_tokens": f"{_USAGE}.completion_tokens_details.reasoning_tokens",
    "audio_input_tokens": f"{_USAGE}.prompt_tokens_details.audio_tokens",
    "audio_output_tokens": f"{_USAGE}.completion_tokens_details.audio_tokens",
    "cost": "response_cost",
    "finish_reason": "response.choices.0.finish_reason",
    "rate_limit_remaining_requests": "hidden_params.additional_headers.x_ratelimit_remaining_requests",
    "rate_limit_remaining_tokens": "hidden_params.additional_headers.x_ratelimit_remaining_tokens",
    "batch_size": {"path": "response.data", "as": "size"},
    "trace_id": "trace_id",
    "served_from_cache": "cache_hit",
}
_SIGNS = {"litellm_call_id": True, "call_type": True}

_payload = compile_table(
    Table.of(
        "litellm",
        {**_PAYLOAD, "when": {**_SIGNS, "stream": [True]}, "first_token": "completionStartTime"},
    ),
    Table.of("litellm", {**_PAYLOAD, "when": _SIGNS}),
)


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a payload; a line of the proxy's operational log gives no request."""
    requests = _payload(record, memory)
    if requests is not None:
        return requests
    component = record.get("component")
    if (
        type(component) is str
        and component.startswith(("LiteLLM", "uvicorn."))
        and "message" in record
    ):
        return []
    return None


def _is_a_component(name: Any) -> bool:
    return type(name) is str and name.startswith(("LiteLLM", "uvicorn."))


parse.keys = {"litellm_call_id": object, "component": _is_a_component}  # type: ignore[attr-defined] # a function's own attribute

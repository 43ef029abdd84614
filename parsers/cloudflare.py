"""Cloudflare AI Gateway's log: as its API gives it (with tokens and cost), and as Logpush writes it (without).

Turn it on: the API's records come from `GET …/ai-gateway/gateways/{id}/logs`, one a line, an array, or the answer as it is
(`{"result": […]}`). `duration` is milliseconds, `cost` US dollars; what the gateway answered from its cache
(`cached`) is a request without tokens. Logpush (switched on in the gateway's settings) writes other names and encrypts
bodies and metadata: no tokens and no latency, unless the user decrypts `ResponseBody`, which is then read.

No real line of Logpush could be seen; its fields are those that programs reading it name.

Cannot tell: the time to the first token, and what is left of a rate limit; without the body also cached and reasoning
tokens, and why an answer ended; of Logpush no tokens, no cost and no duration.

Sources: https://developers.cloudflare.com/api/resources/ai_gateway/subresources/logs/methods/list/,
https://github.com/cloudflare/workerd/blob/main/types/defines/ai.d.ts (AiGatewayLog),
https://developers.cloudflare.com/ai-gateway/observability/logging/logpush/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sidecar import Memory, Record, Request, Table, compile_table

from . import anthropic, bedrock, gemini, openai

# A path is written without the slash before it, and a single word would be taken for an operation.
_PATHS = {
    word: f"/{word}"
    for word in ("completions", "embeddings", "responses", "messages", "moderations", "rerank")
}
_API = Table.of(
    "cloudflare",
    {
        "when": {
            "created_at": True,
            "provider": True,
            "path": True,
            "duration": True,
            "success": [True, False],
            "cached": [True, False],
        },
        "provider": "provider",
        "model": "model",
        "endpoint": {"path": "path", "as": "endpoint", "map": _PATHS},
        "status": "status_code",
        "outcome": "success",
        "duration": {"path": "duration", "unit": "ms"},
        "input_tokens": "tokens_in",
        "output_tokens": "tokens_out",
        "cost": "cost",
        "timestamp": "created_at",
        "served_from_cache": "cached",
    },
)
_LOGPUSH = replace(
    Table.of(
        "cloudflare",
        {
            "when": {"Gateway": True, "Provider": True, "Endpoint": True, "StatusCode": True},
            "provider": "Provider",
            "model": "Model",
            "endpoint": {"path": "Endpoint", "as": "endpoint", "map": _PATHS},
            "status": "StatusCode",
            "error": {"path": "limited"},
            "timestamp": ["Datetime", "CreatedAt", "Timestamp"],
            "served_from_cache": "Cached",
        },
    ),
    bodies=(*openai.BODIES, *anthropic.BODIES, *bedrock.BODIES, *gemini.BODIES),
    body_at=("ResponseBody",),
)
_log = compile_table(_API, _LOGPUSH)


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a record, or all in an answer of the API."""
    if record.get("RateLimited") is True and "Gateway" in record:
        record = {**record, "limited": "rate_limit"}
    requests = _log(_without_model(record), memory)
    if requests is not None:
        return requests
    result = record.get("result")
    if type(result) is not list or "result_info" not in record or "success" not in record:
        return None
    told = [_log(_without_model(one), memory) for one in result if type(one) is dict]
    if all(found is None for found in told):
        return None
    return [request for found in told for request in found or ()]


def _without_model(record: Record) -> Record:
    """Leave the model out of the path of Workers AI, which is `run/@cf/…`."""
    path = record.get("path")
    if type(path) is str and "@" in path and record.get("provider") == "workers-ai":
        return {**record, "path": "/run"}
    return record


parse.keys = {"cached": bool, "Gateway": object, "result_info": object}  # type: ignore[attr-defined] # a function's own attribute

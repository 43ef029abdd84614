"""Portkey's log export: JSON lines, one for each request through its gateway.

Turn it on: ask for it in the app ("Exports") or by the API (`POST /logs/exports`), with the columns `created_at`, `ai_org`,
`ai_model`, `req_units`, `res_units`, `cost`, `response_time`, `response_status_code` and `cache_status`; with the
`response` too, its body tells the cached tokens. `cost` is US **cents**, `response_time` milliseconds; what Portkey
answered from its cache (HIT, SEMANTIC HIT) is a request without tokens.

No real line could be seen; the columns are those of the documentation.

Cannot tell: the time to the first token, and what is left of a rate limit; without the `response` column also cached
and reasoning tokens, and why an answer ended.

Sources: https://portkey.ai/docs/product/observability/logs-export,
https://portkey.ai/docs/api-reference/admin-api/data-plane/logs/log-exports-beta/create-a-log-export
"""

from __future__ import annotations

from dataclasses import replace

from sidecar import Table, compile_table

from . import anthropic, bedrock, gemini, openai

_EXPORT = Table.of(
    "portkey",
    {
        "when": {"ai_org": True, "ai_model": True},
        "needs": ["status_code|outcome|duration_seconds|input_tokens|output_tokens"],
        "provider": "ai_org",
        "model": "ai_model",
        "endpoint": "request_url",
        "status": "response_status_code",
        "outcome": {"path": "is_success", "as": "text", "map": {"1": True, "0": False}},
        "duration": {"path": "response_time", "unit": "ms"},
        "input_tokens": "req_units",
        "output_tokens": "res_units",
        "cost": {"path": "cost", "unit": "cents"},
        "timestamp": "created_at",
        "trace_id": "trace_id",
        "served_from_cache": {
            "path": "cache_status",
            "as": "text",
            "map": {"HIT": True, "SEMANTIC HIT": True, "MISS": False, "DISABLED": False},
        },
    },
)

parse = compile_table(
    replace(
        _EXPORT,
        bodies=(*openai.BODIES, *anthropic.BODIES, *bedrock.BODIES, *gemini.BODIES),
        body_at=("response.body", "response"),
    )
)

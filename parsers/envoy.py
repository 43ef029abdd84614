"""Envoy AI Gateway's access log, by the names that its documentation gives the fields.

Turn it on: the names are the user's own: `spec.telemetry.accessLog` of the EnvoyProxy resource, with the token counts that
`llmRequestCosts` of the AIGatewayRoute asks for. Understood are the documented ones, today's (`gen_ai.request.model`,
`gen_ai.usage.input_tokens`) and yesterday's (`genai_model_name`, `genai_tokens_input`), and the metadata keys
themselves (`llm_input_token`); others need a table of the user's own. Tokens are inclusive for every provider: the
gateway adds the cached ones up. `gen_ai.provider.name` is the path of a backend: its name is the provider, by the
house's word where the name has one in it. A custom cost has no unit and is not read.

`response_code` 0 is a client that left or a timeout, as `response_flags` tell. A line of an MCP call, or one that
neither names a model nor has a model's path, is no request. The upstream's service time is until its headers, not
until the first token, and is not read.

Cannot tell: cost, why an answer ended, the time to the first token, and what is left of a rate limit, unless the
user's own fields do.

Sources: https://github.com/envoyproxy/ai-gateway/blob/main/site/docs/capabilities/observability/accesslogs.md,
https://github.com/envoyproxy/ai-gateway/tree/main/internal/metrics (ExtractTokenUsageFromExplicitCaching),
https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage (response flags)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sidecar import Memory, Record, Request, Table, compile_table, fields

_MODELS = (
    "gen_ai.response.model",
    "gen_ai.request.model_override",
    "genai_model_name_override",
    "gen_ai.request.model",
    "genai_model_name",
    "gen_ai_response_model",
    "gen_ai_request_model",
    "x-ai-eg-model",
    "model_name_override",
)
"""The one that was sent on before the one that was asked for."""
_BACKENDS = ("gen_ai.provider.name", "genai_backend_name", "gen_ai_provider_name", "backend_name")


def _tokens(kind: str, *names: str) -> list[str]:
    """Tell the names of a count: OpenTelemetry's, the documentation's of yesterday, the metadata's."""
    return [
        *(f"gen_ai.usage.{name}" for name in names),
        *(f"gen_ai_usage_{name}" for name in names),
        f"genai_tokens_{kind}",
        f"llm_{kind}_token",
        f"llm_{kind}_tokens",
    ]


_COUNTS = {
    "input_tokens": _tokens("input", "input_tokens"),
    "cache_read_tokens": [
        *_tokens(
            "cached_input",
            "cache_read.input_tokens",
            "cache_read_input_tokens",
            "cached_input_tokens",
        ),
        *("gen_ai.usage.cached_tokens", "genai_tokens_cached", "llm_cache_read_input_token"),
    ],
    "cache_write_tokens": _tokens(
        "cache_creation_input",
        "cache_creation.input_tokens",
        "cache_creation_input_tokens",
        "cache_write_input_tokens",
    ),
    "output_tokens": _tokens("output", "output_tokens"),
    "reasoning_tokens": _tokens("reasoning", "reasoning_tokens", "reasoning.output_tokens"),
}
_TOTALS = _tokens("total", "total_tokens")
_NUMBERS = frozenset((*(name for names in _COUNTS.values() for name in names), *_TOTALS))
_SIGNS = _NUMBERS | {*_MODELS[:-1], *_BACKENDS[:-1]}
_MCP = ("mcp.method.name", "mcp_method", "mcp.provider.name", "mcp_backend")
_ENVOY = frozenset(
    (
        *("response_flags", "response_code_details", "upstream_cluster", "upstream_host"),
        *("route_name", "bytes_received", "bytes_sent", "downstream_remote_address"),
        *("x-envoy-origin-path", "x-envoy-upstream-service-time", "start_time"),
    )
)
_PATHS = ("x-envoy-origin-path", "x-envoy-original-path", ":path", "path", "url_path")

_line = compile_table(
    Table.of(
        "envoy",
        {
            "provider": "backend",
            "model": list(_MODELS),
            "endpoint": list(_PATHS),
            "status": "response_code",
            "error": "failure",
            "duration": [{"path": "duration", "unit": "ms"}, "duration_ms"],
            "started": ["start_time", "time", "timestamp"],
            "trace_id": ["trace_id", "traceId"],
            **_COUNTS,
        },
    )
)

_FLAGS = {
    **dict.fromkeys(("UT", "SI", "UMSDR", "IT", "DT", "OM"), "timeout"),
    **dict.fromkeys(("DC", "DR"), "cancelled"),
    **dict.fromkeys(("UF", "UC", "UR", "LR", "UPE", "URX", "DF"), "connection_error"),
    **dict.fromkeys(("UH", "UO", "LH"), "overloaded"),
    **dict.fromkeys(("RL", "RLSE"), "rate_limit"),
    **dict.fromkeys(("NR", "NC"), "not_found"),
    "UAEX": "permission",
    "DPE": "bad_request",
}


def failure_of(flags: Any, *, is_answered: bool) -> str | None:
    """Tell what Envoy's response flags say of a failure; a client that left after the answer had all it wanted."""
    for flag in re.split(r"[,\s]+", fields.text(flags) or ""):
        failure = _FLAGS.get(flag)
        if failure and not (failure == "cancelled" and is_answered):
            return failure
    return None


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a line of the access log."""
    if "response_code" not in record or _ENVOY.isdisjoint(record):
        return None
    is_mcp = any(record.get(key) not in (None, "", "-") for key in _MCP)
    if _SIGNS.isdisjoint(record) and not is_mcp:
        return None
    told = {key: value for key, value in record.items() if value != "-"}
    is_counted = any(fields.count(told[key]) is not None for key in _NUMBERS & told.keys())
    if not is_counted:
        is_named = any(fields.model(told.get(key)) for key in _MODELS)
        is_a_models_path = any(fields.model_endpoint(told.get(key)) for key in _PATHS)
        if is_mcp or not (is_named or is_a_models_path):
            return []
    told["failure"] = failure_of(told.get("response_flags"), is_answered=is_counted)
    told["backend"] = _backend(next((told[key] for key in _BACKENDS if told.get(key)), None))
    return _line(told, memory) or []


_PLATFORMS = {
    **dict.fromkeys(("bedrock", "aws"), "aws.bedrock"),
    "azure": "azure.ai.openai",
    **dict.fromkeys(("vertex", "vertexai", "gcp"), "gcp.vertex_ai"),
}


def _backend(path: Any) -> str | None:
    """Tell the provider by a backend's path, `namespace/name/route/…`."""
    keys = (fields.text(path) or "").lower().split("/")
    name = keys[1] if len(keys) > 2 else keys[0]
    words = re.split(r"[^a-z0-9]+", name)
    for word in words:
        if word in _PLATFORMS:
            return _PLATFORMS[word]
    return next((found for word in words if (found := fields.known_provider(word))), name or None)


parse.keys = {"response_code"}  # type: ignore[attr-defined] # a function's own attribute

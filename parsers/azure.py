"""Azure OpenAI's resource log RequestResponse, as Azure Monitor exports it: latency and failures, seldom tokens.

Turn it on: with a diagnostic setting of the resource (category RequestResponse) to an event hub, a storage account or
Log Analytics. `properties` is an object or JSON text, in Log Analytics `properties_s`; a batch comes wrapped in
`{"records": […]}`. `durationMs` can be negative, then the ticks of `requestTime` and `responseTime` tell it.

Microsoft documents no token counts here. Newer resources have been seen to write `promptTokens` and
`completionTokens`, which are counted, and a second, nearly empty row for each call, which is not: a success that
names no model is no model call (nor are threads and files). The categories beside it (Audit, Trace,
AzureOpenAIRequestUsage, which names no model) are recognised and tell of no request. Real lines were seen of chat
and of threads only; the other operations' names are as the API's.

Cannot tell: tokens (in most regions and versions), cost, the time to the first token, why an answer ended, and what
is left of a rate limit.

Sources: https://learn.microsoft.com/azure/ai-services/openai/monitor-openai-reference,
https://github.com/elastic/integrations/tree/main/packages/azure_openai/data_stream/logs (real records)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from sidecar import Memory, ParseError, Record, Request, Table, compile_table, fields

_ENDPOINTS = {
    "ChatCompletions_Create": "/chat/completions",
    "Completions_Create": "/completions",
    "Embeddings_Create": "/embeddings",
    "ImageGenerations_Create": "/images/generations",
    "Responses_Create": "/responses",
    "Transcriptions_Create": "/audio/transcriptions",
    "Translations_Create": "/audio/translations",
    "Speech_Create": "/audio/speech",
}
_OURS = frozenset({"RequestResponse", "AzureOpenAIRequestUsage", "Audit", "Trace"})
_EVENTS = frozenset({"ShoeboxCallResult", "ShoeboxAzureOpenAIRequestUsage"})

_row = compile_table(
    Table.of(
        "azure",
        {
            "provider": {"const": "azure.ai.openai"},
            "model": [
                "properties.modelName",
                "properties.modelDeploymentName",
                "modelName_s",
                "modelDeploymentName_s",
            ],
            "endpoint": [
                {"path": "operationName", "as": "endpoint", "map": _ENDPOINTS},
                {"path": "OperationName", "as": "endpoint", "map": _ENDPOINTS},
            ],
            "status": ["resultSignature", "ResultSignature", "resultType", "ResultType"],
            "duration": [
                {"path": "durationMs", "unit": "ms"},
                {"path": "DurationMs", "unit": "ms"},
                {"path": "properties.took", "unit": "s"},
            ],
            "input_tokens": "properties.promptTokens",
            "output_tokens": "properties.completionTokens",
            "timestamp": ["time", "TimeGenerated", "properties.ended"],
        },
    )
)


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a row of the log."""
    category = fields.text(_one_of(record, "category", "Category"))
    event = fields.text(_one_of(record, "event", "event_s"))
    if event not in _EVENTS and (category not in _OURS or not _is_of_azure(record)):
        return None
    if category not in ("RequestResponse", None) or event == "ShoeboxAzureOpenAIRequestUsage":
        return []
    properties = _properties(_one_of(record, "properties", "properties_s"))
    requests = _row({**record, "properties": properties}, memory) or []
    return [request for request in requests if _is_model_call(request)]


def _is_model_call(request: Request) -> bool:
    """Tell a call to a model; one that failed may name none."""
    failed = request.error_type is not None and request.endpoint.startswith("/")
    return failed or request.model != "unknown"


def _one_of(record: Record, *keys: str) -> Any:
    return next((record[key] for key in keys if record.get(key) is not None), None)


def _is_of_azure(record: Record) -> bool:
    keys = ("resourceId", "ResourceId", "_ResourceId", "ResourceProvider")
    place = fields.text(_one_of(record, *keys)) or ""
    return "MICROSOFT.COGNITIVESERVICES" in place.upper()


def _properties(properties: Any) -> dict[str, Any]:
    """Give the properties as an object, with when it ended and how long it took by its ticks."""
    if type(properties) is str:
        try:
            properties = orjson.loads(properties)
        except orjson.JSONDecodeError:
            raise ParseError("properties: expected JSON text, got text that is none") from None
    if properties is None:
        properties = {}
    if type(properties) is not dict:
        raise ParseError("properties: expected an object")
    told: dict[str, Any] = {**properties, "took": None, "ended": None}
    started, ended = told.get("requestTime"), told.get("responseTime")
    if type(started) is int and type(ended) is int and 0 < started <= ended < 2**63:
        # .NET ticks: 100 ns since the year 1
        told["took"] = (ended - started) / 1e7
        told["ended"] = (ended - 621_355_968_000_000_000) / 1e7
    return told


def _is_a_word_of(words: frozenset[str]) -> Callable[[Any], bool]:
    return lambda value: fields.text(value) in words


parse.keys = {  # type: ignore[attr-defined] # a function's own attribute
    **dict.fromkeys(("category", "Category"), _is_a_word_of(_OURS)),
    **dict.fromkeys(("event", "event_s"), _is_a_word_of(_EVENTS)),
}

"""AWS Bedrock's model invocation log, as it comes to CloudWatch Logs or to S3 (one JSON object a call).

Turn it on: in Bedrock's settings ("Model invocation logging"), for the account and region; or with
`aws bedrock put-model-invocation-logging-configuration`. With text data delivery switched off the bodies are missing,
and with them the latency, which no other field tells; bodies over 100 KB go to a file of their own and are not read.

`inputTokenCount` is what was neither read from the cache nor written to it (OpenAI's models count them in);
all input is the sum. A body may be that of any model's API, and of a stream an array of its events. What a prompt
says of tokens is never read. The log has error codes but no HTTP statuses: they are those that AWS documents.

Cannot tell: the time to the first token, cost, what is left of a rate limit, and an HTTP status; the latency where
the bodies are not delivered.

Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html (errors),
https://github.com/elastic/integrations/tree/main/packages/aws_bedrock/data_stream/invocation (real records)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from sidecar import Memory, Record, Request, Table, compile_table

_ENDPOINTS = {
    "Converse": "/converse",
    "ConverseStream": "/converse-stream",
    "InvokeModel": "/invoke",
    "InvokeModelWithResponseStream": "/invoke-with-response-stream",
    "InvokeModelWithBidirectionalStream": "/invoke-with-bidirectional-stream",
}
_STATUSES = {
    "AccessDeniedException": "403",
    "InternalServerException": "500",
    "ModelErrorException": "424",
    "ModelNotReadyException": "429",
    "ModelStreamErrorException": "424",
    "ModelTimeoutException": "408",
    "ResourceNotFoundException": "404",
    "ServiceQuotaExceededException": "400",
    "ServiceUnavailableException": "503",
    "ThrottlingException": "429",
    "ValidationException": "400",
}
_BODY = "output.outputBodyJson"
_METRICS = "amazon-bedrock-invocationMetrics"
_LOG: dict[str, Any] = {
    "when": {"schemaType": "ModelInvocationLog"},
    "needs": ["model|error"],
    "provider": {"const": "aws.bedrock"},
    "model": "modelId",
    "endpoint": {"path": "operation", "as": "endpoint", "map": _ENDPOINTS},
    "status": [{"path": "status", "as": "status"}, {"path": "http_status", "as": "status"}],
    "error": "errorCode",
    "duration": [
        {"path": f"{_BODY}.metrics.latencyMs", "unit": "ms"},
        {"path": f"{_BODY}.{_METRICS}.invocationLatency", "unit": "ms"},
    ],
    "time_to_first_token": {"path": f"{_BODY}.{_METRICS}.firstByteLatency", "unit": "ms"},
    "input_tokens": [
        "input.inputTokenCount",
        f"{_BODY}.usage.inputTokens",
        f"{_BODY}.usage.input_tokens",
        f"{_BODY}.{_METRICS}.inputTokenCount",
        f"{_BODY}.inputTextTokenCount",
        f"{_BODY}.prompt_token_count",
    ],
    "cache_read_tokens": [
        "input.cacheReadInputTokenCount",
        "cacheReadInputTokenCount",
        f"{_BODY}.usage.cacheReadInputTokens",
        f"{_BODY}.usage.cacheReadInputTokenCount",
        f"{_BODY}.usage.cache_read_input_tokens",
        f"{_BODY}.{_METRICS}.cacheReadInputTokenCount",
    ],
    "cache_write_tokens": [
        "input.cacheWriteInputTokenCount",
        "cacheWriteInputTokenCount",
        f"{_BODY}.usage.cacheWriteInputTokens",
        f"{_BODY}.usage.cacheWriteInputTokenCount",
        f"{_BODY}.usage.cache_creation_input_tokens",
        f"{_BODY}.{_METRICS}.cacheWriteInputTokenCount",
    ],
    "cache_write_1h_tokens": [
        f"{_BODY}.usage.cache_creation.ephemeral_1h_input_tokens",
        # `cacheDetails` has an entry for each time to live, the longest first
        f"{_BODY}.written_1h",
    ],
    "output_tokens": [
        "output.outputTokenCount",
        f"{_BODY}.usage.outputTokens",
        f"{_BODY}.usage.output_tokens",
        f"{_BODY}.{_METRICS}.outputTokenCount",
        f"{_BODY}.results.0.tokenCount",
        f"{_BODY}.generation_token_count",
    ],
    "reasoning_tokens": [
        f"{_BODY}.usage.completion_tokens_details.reasoning_tokens",
        f"{_BODY}.usage.output_tokens_details.thinking_tokens",
    ],
    "finish_reason": [
        f"{_BODY}.stopReason",
        f"{_BODY}.stop_reason",
        f"{_BODY}.choices.0.finish_reason",
        {
            "path": f"{_BODY}.results.0.completionReason",
            "map": {"FINISH": "stop", "LENGTH": "length", "CONTENT_FILTERED": "content_filter"},
        },
    ],
    "batch_size": {"path": "input.inputBodyJson.texts", "as": "size"},
    "timestamp": "timestamp",
}
_record = compile_table(Table.of("bedrock_log", {**_LOG, "input_excludes_cache": True}))
_openai = compile_table(
    Table.of(
        "bedrock_log",
        {
            **_LOG,
            "cache_read_tokens": [
                *_LOG["cache_read_tokens"],
                f"{_BODY}.usage.prompt_tokens_details.cached_tokens",
            ],
        },
    )
)


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a record of an invocation."""
    if record.get("schemaType") != "ModelInvocationLog":
        return None
    code = record.get("errorCode")
    if type(code) is str and code in _STATUSES:
        record = {**record, "http_status": _STATUSES[code]}
    output = record.get("output")
    if type(output) is dict and output.get("outputBodyJson"):
        body = _body(output["outputBodyJson"])
        record = {**record, "output": {**output, "outputBodyJson": body}}
    model = record.get("modelId")
    read = _openai if type(model) is str and "openai." in model else _record
    return read(record, memory)


def _body(body: Any) -> dict[str, Any]:
    """Give a body as one object: of a stream, what its events tell together."""
    if type(body) is str:
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError:
            return {}
    told: dict[str, Any] = dict(body) if type(body) is dict else {}
    usage: dict[str, Any] = {}
    for event in body if type(body) is list else [body]:
        if type(event) is not dict:  # the last is "[DONE]"
            continue
        if type(event.get(_METRICS)) is dict:
            told[_METRICS] = event[_METRICS]
        inner = [event.get(key) for key in ("message", "delta", "messageStop", "metadata")]
        for part in (event, *inner):
            if type(part) is not dict:
                continue
            reason = part.get("stopReason") or part.get("stop_reason")
            if reason:
                told["stopReason"] = reason
            if type(part.get("usage")) is dict:
                usage.update({key: one for key, one in part["usage"].items() if one is not None})
            if type(part.get("metrics")) is dict:
                told["metrics"] = part["metrics"]
            if part.get("amazon-bedrock-guardrailAction") == "INTERVENED":
                told["guarded"] = True
    details = usage.get("cacheDetails")
    for detail in details[:8] if type(details) is list else ():
        if type(detail) is dict and detail.get("ttl") == "1h":
            told["written_1h"] = detail.get("inputTokens")
    if told.pop("guarded", False):
        told["stopReason"] = "guardrail_intervened"
    return {**told, "usage": usage}


parse.keys = {"schemaType"}  # type: ignore[attr-defined] # a function's own attribute

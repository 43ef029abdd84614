"""AWS Bedrock's response bodies: Converse, the last event of ConverseStream, and InvokeModel of Amazon's models.

Its input tokens are what was neither read from the cache nor written to it; all input is the sum of the three.
Read as the API answers and as boto3 gives it (`ResponseMetadata` beside). No body names its model: the line of a
program that has one beside it (`modelId`, or the path) is read by `generic`, with the tables here.

Turn it on: let the program log each response as JSON, a line each (boto3's answer as it is); with `modelId` beside it
the model is known.

Cannot tell: which model answered, when, and what is left of a rate limit; how long InvokeModel took; reasoning, which
Converse counts in the output without saying how much.

Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

from __future__ import annotations

from typing import Any

from sidecar import Table, compile_table


def _converse(at: str) -> dict[str, Any]:
    """Say where the fields of an answer are that has its usage at a path."""
    return {
        "provider": {"const": "aws.bedrock"},
        "model": ["modelId", "model_id", "model"],
        "status": "ResponseMetadata.HTTPStatusCode",
        "duration": ["latency_ms", "duration_ms", f"{at}metrics.latencyMs"],
        "input_excludes_cache": True,
        "input_tokens": f"{at}usage.inputTokens",
        "cache_read_tokens": [
            f"{at}usage.cacheReadInputTokens",
            f"{at}usage.cacheReadInputTokenCount",
        ],
        "cache_write_tokens": [
            f"{at}usage.cacheWriteInputTokens",
            f"{at}usage.cacheWriteInputTokenCount",
        ],
        "output_tokens": f"{at}usage.outputTokens",
        "finish_reason": "stopReason",
        "service_tier": f"{at}serviceTier.type",
    }


_INVOKED: dict[str, Any] = {
    "provider": {"const": "aws.bedrock"},
    "endpoint": {"const": "/invoke"},
    "model": ["modelId", "model_id", "model"],
    "status": "ResponseMetadata.HTTPStatusCode",
}
BODIES = (
    Table.of(
        "bedrock",
        {
            **_converse(""),
            "when": {"output.message": True, "usage.inputTokens": True},
            "endpoint": {"const": "/converse"},
        },
    ),
    Table.of(
        "bedrock",
        {
            **_converse("metadata."),
            "when": {"metadata.usage.inputTokens": True, "metadata.metrics": True},
            "endpoint": {"const": "/converse-stream"},
        },
    ),
    Table.of(
        "bedrock",
        {
            **_INVOKED,
            "when": {"inputTextTokenCount": True},  # Titan; its embeddings have no results
            "input_tokens": "inputTextTokenCount",
            "output_tokens": "results.0.tokenCount",
            "finish_reason": {
                "path": "results.0.completionReason",
                "map": {"FINISH": "stop", "LENGTH": "length", "CONTENT_FILTERED": "content_filter"},
            },
        },
    ),
    Table.of(
        "bedrock",
        {
            **_INVOKED,
            "when": {"prompt_token_count": True, "generation_token_count": True},  # Llama
            "input_tokens": "prompt_token_count",
            "output_tokens": "generation_token_count",
            "finish_reason": "stop_reason",
        },
    ),
)
"""Tables of whole bodies, for a program's line that has one inside it as well."""

parse = compile_table(*BODIES)

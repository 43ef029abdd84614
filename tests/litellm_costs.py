"""Ask LiteLLM what requests cost: run by the Python of its own environment, cases on standard input, costs on standard output.

A case is [name of the entry, usage in our words, service tier or null]; a cost is USD, or null where LiteLLM has none.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from litellm.types.utils import (
    CacheCreationTokenDetails,
    CompletionTokensDetailsWrapper,
    ModelResponse,
    PromptTokensDetailsWrapper,
    Usage,
)


def cost(key: str, usage: dict[str, int], service_tier: str | None) -> float:
    """Give what LiteLLM's `completion_cost` says."""
    hour = usage.get("cache_write_1h_tokens", 0)
    written = usage.get("cache_write_tokens", 0)
    details = PromptTokensDetailsWrapper(
        cached_tokens=usage.get("cache_read_tokens", 0),
        audio_tokens=usage.get("audio_input_tokens", 0),
        cache_creation_tokens=written,
        cache_creation_token_details=CacheCreationTokenDetails(
            ephemeral_5m_input_tokens=written - hour, ephemeral_1h_input_tokens=hour
        )
        if written
        else None,
    )
    told = Usage(
        prompt_tokens=usage["input_tokens"],
        completion_tokens=usage["output_tokens"],
        total_tokens=usage["input_tokens"] + usage["output_tokens"],
        prompt_tokens_details=details,
        completion_tokens_details=CompletionTokensDetailsWrapper(
            reasoning_tokens=usage.get("reasoning_tokens", 0),
            audio_tokens=usage.get("audio_output_tokens", 0),
        ),
    )
    provider = litellm.model_cost[key]["litellm_provider"]
    return float(
        litellm.completion_cost(
            completion_response=ModelResponse(model=key, usage=told),
            model=key,
            custom_llm_provider=provider,
            service_tier=service_tier,
        )
    )


def main() -> None:
    """Answer the cases."""
    answers: list[Any] = []
    for case in json.load(sys.stdin):
        try:
            answers.append(cost(*case))
        except Exception as error:
            answers.append(type(error).__name__)
    json.dump(
        {
            "version": litellm.__version__ if hasattr(litellm, "__version__") else "",
            "costs": answers,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()

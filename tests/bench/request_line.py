"""The line that the benchmarks of serving, state and looks write."""

from __future__ import annotations

import json


def line(number: int) -> bytes:
    """Give a request's line; each number has a label set of its own."""
    record = {
        "ts": "2026-01-01T00:00:00Z",
        "provider": "openai",
        "model": f"model-{number}",
        "endpoint": "/v1/chat/completions",
        "status_code": 200,
        "latency_ms": 120.5,
        "ttft_ms": 20.5,
        "usage": {"prompt_tokens": 10, "completion_tokens": 3},
    }
    return json.dumps(record).encode() + b"\n"

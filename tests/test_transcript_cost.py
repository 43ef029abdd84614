"""What transcripts of coding agents cost: the report against genai-prices, from the lines by a reading of our own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sidecar.cli import main

genai_prices = pytest.importorskip("genai_prices")
SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples is not there")

Call = tuple[str, str, datetime, dict[str, int]]
"""Provider, model, when, and the usage in the words of genai-prices."""


def lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text().splitlines():
        yield json.loads(text)


def claude_code(path: Path) -> Iterator[Call]:
    """The last line of each message; all input is the uncached and what was read from and written to the cache."""
    last: dict[str, dict[str, Any]] = {}
    for line in lines(path):
        message = line.get("message")
        if (
            isinstance(message, dict)
            and message.get("role") == "assistant"
            and message.get("usage")
        ):
            last[message["id"]] = line
    for line in last.values():
        message, usage = line["message"], line["message"]["usage"]
        if message["model"] == "<synthetic>":
            continue
        read = usage.get("cache_read_input_tokens") or 0
        written = usage.get("cache_creation_input_tokens") or 0
        yield (
            "anthropic",
            message["model"],
            datetime.fromisoformat(line["timestamp"]),
            {
                "input_tokens": usage["input_tokens"] + read + written,
                "cache_read_tokens": read,
                "cache_write_tokens": written,
                "output_tokens": usage["output_tokens"],
            },
        )


def codex(path: Path) -> Iterator[Call]:
    """Each record of a response, at the model of the turn."""
    model = "unknown"
    for line in lines(path):
        payload: Any = line.get("payload")
        if line["type"] == "turn_context":
            model = payload["model"]
        if line["type"] != "token_usage_record":
            continue
        usage = payload["usage"]
        yield (
            "openai",
            model,
            datetime.fromisoformat(line["timestamp"]),
            {
                "input_tokens": usage["input_tokens"],
                "cache_read_tokens": usage["cached_input_tokens"],
                "output_tokens": usage["output_tokens"],
            },
        )


CASES = [
    (claude_code, "claude-code/cli_2.1.197_real_1.jsonl"),
    (claude_code, "claude-code/ccusage_alpha.jsonl"),
    (claude_code, "claude-code/ccl_session_b.jsonl"),
    (codex, "codex/rollout_0.169.0_real_0.jsonl"),
    (codex, "codex/rollout_0.169.0_real_1.jsonl"),
]


@pytest.mark.parametrize(("read", "name"), CASES, ids=[name for _, name in CASES])
def test_the_report_costs_a_transcript_as_genai_prices_does(read: Any, name: str) -> None:
    expected = Decimal(0)
    calls = 0
    for provider, model, when, usage in read(SAMPLES / name):
        calls += 1
        try:
            price = genai_prices.calc_price(
                genai_prices.Usage(**usage),
                model,
                provider_id=provider,
                genai_request_timestamp=when.astimezone(UTC),
            )
        except LookupError:
            continue  # nobody has a price for it: unpriced
        expected += price.total_price

    done = CliRunner().invoke(
        main, ["--cost-source", "prices", "report", str(SAMPLES / name), "--format", "json"]
    )
    report = json.loads(done.output)

    assert calls
    assert Decimal(str(report["total"]["cost_usd"])) == pytest.approx(
        expected, abs=Decimal("1e-12")
    )

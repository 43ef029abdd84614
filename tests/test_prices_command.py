"""`ai-sidecar prices`: what a model costs and why; and LiteLLM's file gives what LiteLLM itself calculates."""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from parsers import anthropic, bedrock, gemini, generic, openai
from sidecar import Parser
from sidecar.cli import main
from sidecar.litellm_prices import provider_of
from sidecar.prices import PriceBook
from sidecar.request import Request

ROOT = Path(__file__).parent.parent
LITELLM = ROOT / ".venv-litellm"
LITELLM_PYTHON = LITELLM / "bin" / "python"
LITELLM_FILES = sorted(
    LITELLM.glob("lib/python*/site-packages/litellm/model_prices_and_context_window_backup.json")
)
needs_litellm = pytest.mark.skipif(not LITELLM_FILES, reason="litellm is not installed (make test)")


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def told(*arguments: str | Path) -> Any:
    return json.loads(run(*arguments, "--format", "json"), parse_float=Decimal)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(
        """
aliases = { "deployment-7" = "gpt-4o" }
[models."acme-*"]
input = 2
output = 8
[models."acme-*".batch]
input = 1
[providers.openai]
discount = 0.15
"""
    )
    return path


def test_a_model_is_told_with_its_rule_and_the_age_of_its_table() -> None:
    text = run("prices", "claude-sonnet-4-5", "--provider", "anthropic")

    head = json.loads((ROOT / "sidecar" / "prices.jsonl").read_text().partition("\n")[0])
    assert text == (
        "claude-sonnet-4-5 at anthropic\n"
        f"  bundled table, anthropic claude-sonnet-4-5 (genai-prices {head['version']} of {head['date']})\n"
        "  USD for a million tokens          input  output  cache_read  cache_write 5m  1h\n"
        "  always                                3      15         0.3            3.75   6\n"
        "  over 200,000 input tokens             6    22.5         0.6             7.5  12\n"
        "  batch                               1.5     7.5        0.15           1.875   3\n"
        "  batch, over 200,000 input tokens      3   11.25         0.3            3.75   6\n"
        "  no price is known for flex and priority: such requests are counted as unpriced\n"
    )


def test_a_price_that_holds_from_a_date_is_told_by_the_date() -> None:
    text = run("prices", "o3", "--provider", "openai")

    assert "otherwise" in text
    assert "from 2025-06-10" in text
    for day, price in (("2025-06-09", 10), ("2025-06-10", 2)):
        model = told("prices", "o3", "--provider", "openai", "--at", day)["models"][0]
        assert model["prices"][0]["input"] == price


def test_the_users_rules_are_told(own: Path) -> None:
    models = told("--prices", own, "prices", "acme-large", "deployment-7", "--provider", "openai")[
        "models"
    ]

    assert [one["rule"] for one in models] == [
        "your prices, models.'acme-*', 15% off",
        "alias deployment-7 = gpt-4o, bundled table, openai gpt-4o, 15% off",
    ]
    assert models[0]["as_of"].startswith(str(own))
    assert models[0]["prices"][0] == {
        "when": None,
        "input": Decimal("1.7"),
        "output": Decimal("6.8"),
    }
    assert models[0]["prices"][1]["when"] == "batch"
    assert models[0]["unknown_service_tiers"] == ["flex", "priority"]


def test_what_has_no_price_is_listed_with_what_to_write(tmp_path: Path) -> None:
    lines = [
        {"provider": "openai", "model": model, "status_code": 200, "usage": {"prompt_tokens": 5}}
        for model in ("gpt-4o", "nonesuch", "nonesuch", "other")
    ]
    (tmp_path / "a.log").write_text("".join([json.dumps(one) + "\n" for one in lines]))

    text = run("prices", "--log", tmp_path, "--unpriced", "gpt-4o-mini", "named")

    assert text == (
        "named at unknown: no price is known\n"
        "nonesuch at openai (2 requests): no price is known\n"
        "other at openai (1 request): no price is known\n"
        "\nPut what they cost, USD for a million tokens, into a file for --prices:\n"
        '[models."named"]\ninput =\noutput =\n'
        '[models."nonesuch"]\ninput =\noutput =\n'
        '[models."other"]\ninput =\noutput =\n'
    )
    assert run("prices", "--unpriced", "gpt-4o") == "All of them have a price.\n"


def test_without_a_model_the_tables_are_told(own: Path) -> None:
    lines = run("--prices", own, "prices").splitlines()

    assert lines[0] == "your prices: 1 model"
    assert lines[1].startswith(
        f"bundled table: {len(PriceBook().bundled_models()):,} models, genai-prices "
    )


def test_a_file_is_compared_with_the_bundled_table(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        """
[models.gpt-4o]
input = 3
output = 10
[models.gpt-4o-mini]
input = 0.15
output = 0.6
cache_read = 0.075
[models.acme]
input = 1
"""
    )

    assert run("prices", "--compare", path) == (
        "The same: 1 model. Different: 1 model. Only in the file: 1 model.\n"
        "USD for a million tokens: bundled → file\n"
        "  unknown  gpt-4o  input: 2.5 → 3 (+20%)\n"
        "  unknown  gpt-4o  cache_read: 1.25 → as its whole\n"
    )
    made = told("prices", "--compare", path)
    assert (made["same"], made["different"], made["only_in_file"]) == (1, 1, 1)
    assert made["differences"][1]["file"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--compare", "none.toml"),
            "--compare: expected a file that can be read, got 'none.toml'",
        ),
        (("gpt-4o", "--at", "soon"), "--at: expected a time such as 2026-01-31"),
        (
            ("--log", "none"),
            "--log-path: expected a log, a directory or a glob of such, got 'none'",
        ),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)

    text = run("prices", *arguments, code=2)

    assert text.startswith(f"ai-sidecar: {sentence}")
    assert text.count("\n") == 1


USAGE = {"prompt_tokens": 1000, "completion_tokens": 10}
CHAT = {"object": "chat.completion", "model": "gpt-4o", "usage": USAGE, "choices": []}
MESSAGE = {
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "usage": {"input_tokens": 1000, "output_tokens": 10},
}


@pytest.mark.parametrize(
    ("parser", "records", "expected"),
    [
        (openai.parse, [{**CHAT, "service_tier": "default"}], None),
        (openai.parse, [{**CHAT, "service_tier": "flex"}], "flex"),
        (openai.parse, [{**CHAT, "service_tier": "priority"}], "priority"),
        (
            openai.parse,
            [
                {
                    "object": "response",
                    "status": "completed",
                    "model": "gpt-4o",
                    "service_tier": "priority",
                    "usage": {"input_tokens": 1, "output_tokens": 1},
                }
            ],
            "priority",
        ),
        (
            anthropic.parse,
            [
                {
                    **MESSAGE,
                    "usage": {"input_tokens": 1, "output_tokens": 1, "service_tier": "batch"},
                }
            ],
            "batch",
        ),
        (
            anthropic.parse,
            [
                {
                    **MESSAGE,
                    "usage": {"input_tokens": 1, "output_tokens": 1, "service_tier": "standard"},
                }
            ],
            None,
        ),
        (
            anthropic.parse,
            [
                {
                    "type": "message_start",
                    "message": {
                        "model": "claude-x",
                        "usage": {"input_tokens": 5, "service_tier": "priority"},
                    },
                },
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn"},
                    "usage": {"output_tokens": 7},
                },
            ],
            "priority",
        ),
        (
            gemini.parse,
            [
                {
                    "candidates": [{"finishReason": "STOP"}],
                    "modelVersion": "gemini-2.5-pro",
                    "usageMetadata": {"promptTokenCount": 3, "trafficType": "ON_DEMAND_FLEX"},
                }
            ],
            "flex",
        ),
        (
            bedrock.parse,
            [
                {
                    "output": {"message": {"role": "assistant", "content": []}},
                    "usage": {"inputTokens": 3, "outputTokens": 1},
                    "serviceTier": {"type": "priority"},
                }
            ],
            "priority",
        ),
        (
            generic.parse,
            [{"model": "m", "service_tier": "batch", "status": 200, "usage": USAGE}],
            "batch",
        ),
    ],
)
def test_a_service_tier_is_read(
    parser: Parser, records: list[dict[str, Any]], expected: str | None
) -> None:
    memory: dict[str, Any] = {}
    requests = [one for record in records for one in parser(record, memory) or ()]

    assert [one.service_tier for one in requests] == [expected]


def test_a_request_is_priced_by_its_service_tier(tmp_path: Path) -> None:
    tiers = ("default", "flex", "batch", "priority")
    lines = [{**CHAT, "service_tier": tier} for tier in tiers]
    (tmp_path / "a.log").write_text("".join([json.dumps(one) + "\n" for one in lines * 500]))

    total = told("report", tmp_path)["total"]

    usual = Decimal(1000 * 250 + 10 * 1000) / 100_000_000
    assert total["cost_usd"] == usual * 2 * 500
    assert total["unpriced_requests"] == 500


USAGES: list[dict[str, int]] = [
    {"input_tokens": 1000, "output_tokens": 500},
    {"input_tokens": 1000, "output_tokens": 500, "cache_read_tokens": 400},
    {
        "input_tokens": 1000,
        "output_tokens": 500,
        "cache_read_tokens": 200,
        "cache_write_tokens": 300,
        "cache_write_1h_tokens": 100,
    },
    {"input_tokens": 1000, "output_tokens": 500, "reasoning_tokens": 200},
    {
        "input_tokens": 1000,
        "output_tokens": 500,
        "audio_input_tokens": 300,
        "audio_output_tokens": 100,
    },
    {"input_tokens": 200_001, "output_tokens": 5, "cache_read_tokens": 100_001},
    {"input_tokens": 272_001, "output_tokens": 5, "cache_write_tokens": 9},
]
COMMON: tuple[str, ...] = (
    "openai",
    "anthropic",
    "azure",
    "gemini",
    "bedrock_converse",
    "mistral",
    "groq",
    "xai",
    "cohere_chat",
    "openrouter",
    "dashscope",
    "moonshot",
    "deepseek",
)
OF_EACH = 20
_TIERS = (None, "flex", "priority")


def litellm_costs(cases: list[Any]) -> list[Any]:
    result = subprocess.run(
        [LITELLM_PYTHON, ROOT / "tests" / "litellm_costs.py"],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
    )
    costs: list[Any] = json.loads(result.stdout.splitlines()[-1])["costs"]
    return costs


def chat_models(entries: dict[str, Any], provider: str) -> list[str]:
    return [
        key
        for key, entry in entries.items()
        if entry.get("litellm_provider") == provider
        and entry.get("mode") in ("chat", "responses")
        and (entry.get("input_cost_per_token") or entry.get("tiered_pricing"))
    ]


def differing(providers: tuple[str, ...], of_each: int | None) -> tuple[int, set[str], set[str]]:
    """Compare our cost by LiteLLM's file with LiteLLM's own.

    Give how many costs were compared, the entries compared, and those that cost otherwise.
    """
    entries = json.loads(LITELLM_FILES[0].read_text())
    keys: list[str] = []
    for provider in providers:
        models = chat_models(entries, provider)
        keys += models if of_each is None else models[:: len(models) // of_each + 1]
    path = LITELLM_FILES[0]
    book = PriceBook.load(path)
    cases: list[Any] = [(key, usage, tier) for key in keys for usage in USAGES for tier in _TIERS]
    compared, different = 0, set[str]()
    for (key, usage, tier), theirs in zip(cases, litellm_costs(cases), strict=True):
        price = book.price(provider_of(entries[key]["litellm_provider"]), key)
        assert price is not None, key
        if tier is not None:
            price = price.of_tier(tier)
            if price is None:
                # LiteLLM takes the usual price; we say that we do not know
                assert f"input_cost_per_token_{tier}" not in entries[key]
                continue
        ours = float(Decimal(sum(price.cost(Request(**usage)))).scaleb(-30))
        compared += 1
        if ours != pytest.approx(theirs, rel=1e-9, abs=1e-12):
            different.add(key)
    return compared, set(keys), different


@needs_litellm
def test_litellms_file_gives_what_litellm_calculates() -> None:
    """For over a hundred common models, every kind of usage and service tier.

    What differs: an entry with `off_peak_pricing` (DeepSeek's), which LiteLLM prices by the hour of the day; we take
    its higher price at any time.
    """
    entries = json.loads(LITELLM_FILES[0].read_text())

    compared, keys, different = differing(COMMON, OF_EACH)

    assert len(keys) >= 100
    assert compared > 1000
    assert {key for key in different if "off_peak_pricing" not in entries[key]} == set()


@needs_litellm
def test_what_differs_from_litellm_has_its_reason_there() -> None:
    """Providers for whom LiteLLM calculates beside its own file.

    Fireworks: cached input at half price where the file has no price for it, and no service tiers. Perplexity: no
    price for a cache. Together: some by the size that a name tells (`together-ai-21.1b-41b`).
    """
    entries = json.loads(LITELLM_FILES[0].read_text())

    _, _, different = differing(("fireworks_ai", "perplexity", "together_ai"), 40)

    for key in different:
        provider, entry = entries[key]["litellm_provider"], entries[key]
        assert (
            (provider == "fireworks_ai" and "cache_read_input_token_cost" not in entry)
            or (provider == "fireworks_ai" and "input_cost_per_token_priority" in entry)
            or (provider == "perplexity" and "cache_read_input_token_cost" in entry)
            or (provider == "together_ai" and key.startswith("together-ai-"))
        ), key


@needs_litellm
def test_litellms_file_is_accepted_as_it_is() -> None:
    path = LITELLM_FILES[0]

    model = told("--prices", path, "prices", "gpt-4o", "--provider", "openai")["models"][0]

    entry = json.loads(path.read_text())["gpt-4o"]
    assert model["rule"] == "your price file, 'gpt-4o'"
    assert float(model["prices"][0]["input"]) == pytest.approx(entry["input_cost_per_token"] * 1e6)
    assert told("prices", "--compare", path)["same"] > 100

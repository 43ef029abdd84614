"""Prices: they agree with genai-prices, and a name finds its own price or none."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import make_prices
import orjson
import pytest
from genai_prices import types
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from sidecar.prices import COST_TYPES, DOLLAR, KINDS, PriceBook
from sidecar.request import Request

MILLION = 1_000_000
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook()


def dollars(parts: int) -> Decimal:
    return Decimal(parts) / DOLLAR


def input_price(book: PriceBook, provider: str, model: str) -> str | None:
    """Give what a million input tokens cost, at most 100 000 in one request: no tier is reached."""
    price = book.price(provider, model)
    if price is None:
        return None
    request = Request(input_tokens=MILLION // 100, timestamp=NOON.timestamp())
    return format((dollars(price.cost(request)[0]) * 100).normalize(), "f")


USAGES: list[dict[str, int]] = [
    {"input_tokens": 1000, "output_tokens": 500},
    {"input_tokens": 0, "output_tokens": 7},
    {"input_tokens": 1000, "output_tokens": 500, "cache_read_tokens": 400},
    {"input_tokens": 1000, "output_tokens": 500, "cache_write_tokens": 300},
    {
        "input_tokens": 1000,
        "output_tokens": 500,
        "cache_read_tokens": 200,
        "cache_write_tokens": 300,
        "cache_write_1h_tokens": 100,
    },
    {"input_tokens": 1000, "output_tokens": 500, "output_reasoning_tokens": 200},
    {
        "input_tokens": 1000,
        "output_tokens": 500,
        "input_audio_tokens": 300,
        "output_audio_tokens": 100,
    },
    {"input_tokens": 200_000, "output_tokens": 5},
    {"input_tokens": 200_001, "output_tokens": 5, "cache_read_tokens": 100_001},
    {"input_tokens": 272_001, "output_tokens": 3, "cache_write_tokens": 9},
    {"input_tokens": 1_000_001, "output_tokens": 5},
    {"input_tokens": 1_000_001, "output_tokens": 7, "cache_read_tokens": 900_000},
    {
        "input_tokens": 300_000,
        "output_tokens": 5000,
        "cache_read_tokens": 100_000,
        "cache_write_tokens": 150_000,
        "cache_write_1h_tokens": 50_000,
        "output_reasoning_tokens": 3000,
    },
    {
        "input_tokens": 1000,
        "output_tokens": 500,
        "cache_read_tokens": 200,
        "cache_audio_read_tokens": 0,  # a Request does not tell them
        "input_audio_tokens": 300,
        "output_audio_tokens": 100,
        "output_reasoning_tokens": 50,
    },
    {"input_tokens": 1000, "output_tokens": 500, "output_audio_tokens": 500},
    {
        "input_tokens": 1000,
        "output_tokens": 0,
        "cache_write_tokens": 500,
        "cache_write_1h_tokens": 500,
    },
]
"""In the words of genai-prices."""

OUR_NAMES = {
    "output_reasoning_tokens": "reasoning_tokens",
    "input_audio_tokens": "audio_input_tokens",
    "output_audio_tokens": "audio_output_tokens",
}

TIMES = [
    datetime(2025, 1, 1, tzinfo=UTC),
    datetime(2026, 10, 18, 23, 59, 59, tzinfo=UTC),
    datetime(2026, 10, 19, tzinfo=UTC),
    datetime(2026, 11, 20, 0, 30, tzinfo=UTC),
    datetime(2026, 11, 20, 2, tzinfo=UTC),
    datetime(2026, 11, 20, 10, tzinfo=UTC),
    NOON,
    datetime(2026, 11, 20, 16, 30, tzinfo=UTC),
    datetime(2030, 1, 1, tzinfo=UTC),
]


def literals(clause: Any) -> Iterator[str]:
    """Give the texts of a matching rule."""
    for value in vars(clause).values():
        if isinstance(value, list):
            for inner in value:
                yield from literals(inner)
        else:
            yield value


def name_of(provider: types.Provider, model: types.ModelInfo) -> str | None:
    """Give a name by which the package itself finds the model."""
    for name in (model.id, model.id.replace("regional.", "us."), *literals(model.match)):
        if provider.find_model(name, all_providers=providers) is model:
            return name
    return None


def has_token_price(model: types.ModelInfo) -> bool:
    conditional = (
        model.prices
        if isinstance(model.prices, list)
        else [types.ConditionalPrice(prices=model.prices)]
    )
    return any(
        one.prices.input_mtok is not None or one.prices.output_mtok is not None
        for one in conditional
    )


@pytest.mark.parametrize("provider", providers, ids=lambda provider: provider.id)
def test_every_model_costs_what_genai_prices_calculates(
    book: PriceBook, provider: types.Provider
) -> None:
    compared = 0
    for model in provider.models:
        name = name_of(provider, model)
        if name is None:
            continue  # another model of the package always comes before it
        price = book.price(provider.id, name)
        if not has_token_price(model):
            assert price is None or name.endswith(":free"), name
            continue
        assert price is not None, name
        for usage in USAGES:
            for time in TIMES if isinstance(model.prices, list) else [NOON]:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    expected = model.calc_price(
                        types.Usage(**usage),
                        provider,
                        genai_request_timestamp=time,
                        auto_update_timestamp=None,
                    ).total_price
                ours: dict[str, Any] = {
                    OUR_NAMES.get(key, key): n
                    for key, n in usage.items()
                    if key != "cache_audio_read_tokens"
                }
                cost = price.cost(Request(**ours, timestamp=time.timestamp()))
                assert Decimal(sum(cost)).scaleb(-30) == expected, (name, usage, time)
                compared += 1
    assert compared or not any(map(has_token_price, provider.models))


def test_nearly_every_model_of_genai_prices_is_compared() -> None:
    hidden = [
        (provider.id, model.id)
        for provider in providers
        for model in provider.models
        if name_of(provider, model) is None
    ]

    assert len(hidden) <= sum(len(provider.models) for provider in providers) // 100, hidden


def test_the_bundled_table_is_what_the_maker_writes_of_this_version() -> None:
    bundled = make_prices.TARGET.read_text(encoding="utf-8")
    head = orjson.loads(bundled.partition("\n")[0])
    if head["version"] != version("genai-prices"):
        pytest.skip("another version of genai-prices is installed")

    made = make_prices.made()

    assert bundled == made
    assert "MIT License" in head["notice"]
    assert datetime.fromisoformat(head["date"]).timestamp() > 0


def test_a_price_finer_than_a_part_of_a_dollar_is_refused_by_the_maker() -> None:
    with pytest.raises(ValueError, match="more than 24 decimals"):
        make_prices.dollars(Decimal("1e-25"))


def test_a_million_requests_of_five_tokens_cost_what_five_million_tokens_cost(
    book: PriceBook,
) -> None:
    price = book.price("holysheep", "gpt-4.1")
    assert price is not None

    total = [0] * len(COST_TYPES)
    for _ in range(MILLION):
        cost = price.cost(Request(input_tokens=3, output_tokens=2))
        total[0] += cost[0]
        total[1] += cost[1]

    assert dollars(sum(total)) == 40


def test_a_price_of_many_digits_is_exact(book: PriceBook) -> None:
    price = book.price("openrouter", "google/gemini-2.5-flash-lite")
    assert price is not None

    cost = price.cost(Request(input_tokens=3, cache_write_tokens=3, timestamp=NOON.timestamp()))

    assert dollars(cost[3]) == Decimal("0.08333333333333334") * 3 / MILLION


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        pytest.param("openai", "gpt-4o-2024-08-06", "2.5", id="dated"),
        pytest.param("openai", "GPT-4o", "2.5", id="in capitals"),
        pytest.param("openai", "openai/gpt-4o", "2.5", id="with its own vendor"),
        pytest.param("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "0.3", id="fine-tuned"),
        pytest.param("openai", "ft:gpt-nonesuch:org::id", None, id="fine-tuned unknown"),
        pytest.param("anthropic", "claude-sonnet-4-20250514", "3", id="compact date"),
        pytest.param("aws.bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "0.25", id="bedrock"),
        pytest.param(
            "aws.bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0", "3", id="region us"
        ),
        pytest.param("aws.bedrock", "apac.amazon.nova-pro-v1:0", "0.8", id="region apac"),
        pytest.param(
            "aws.bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "3", id="global"
        ),
        pytest.param(
            "aws.bedrock",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/"
            "us.anthropic.claude-sonnet-4-20250514-v1:0",
            "3",
            id="ARN of an inference profile",
        ),
        pytest.param(
            "aws.bedrock",
            "arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
            "0.25",
            id="ARN of a foundation model",
        ),
        pytest.param(
            "aws.bedrock",
            "arn:aws:bedrock:us-east-1:1:application-inference-profile/abcd1234",
            None,
            id="ARN that names no model",
        ),
        pytest.param(
            "aws.bedrock",
            "arn:aws:bedrock:us-east-1:1:custom-model/anthropic.claude-3-haiku-20240307-v1:0/ab12",
            None,
            id="ARN of the user's own model",
        ),
        pytest.param("azure.ai.openai", "gpt-4o", "2.5", id="azure"),
        pytest.param("azure.ai.openai", "gpt-4.1-2025-04-14", "2", id="azure by openai's price"),
        pytest.param("azure.ai.openai", "my-deployment", None, id="azure deployment"),
        pytest.param("gcp.gemini", "models/gemini-2.5-flash", "0.3", id="gemini resource"),
        pytest.param("gcp.vertex_ai", "claude-sonnet-4@20250514", "3", id="vertex"),
        pytest.param(
            "gcp.vertex_ai", "publishers/google/models/gemini-2.5-flash", "0.3", id="vertex path"
        ),
        pytest.param("mistral_ai", "mistral-large-latest", "2", id="mistral"),
        pytest.param("x_ai", "grok-4", "3", id="xai"),
        pytest.param("groq", "llama-3.3-70b-versatile", "0.59", id="groq"),
        pytest.param("deepseek", "deepseek-chat", "0.27", id="deepseek by day"),
        pytest.param("openrouter", "openai/gpt-4o", "2.5", id="openrouter"),
        pytest.param("openrouter", "openai/gpt-4o:nitro", "2.5", id="openrouter's routing"),
        pytest.param("openrouter", "deepseek/deepseek-r1:free", "0", id="openrouter free"),
        pytest.param("openrouter", "openai/gpt-4o:free", None, id="openrouter free unknown"),
        pytest.param("acme", "gpt-4o", "2.5", id="a gateway"),
        pytest.param("unknown", "gpt-4o", "2.5", id="no provider"),
        pytest.param("acme", "anthropic/claude-sonnet-4-20250514", "3", id="a gateway's vendor"),
        pytest.param("acme", "deepseek/deepseek-r1:free", "0", id="a gateway to openrouter"),
        pytest.param("litellm", "azure/gpt-4.1", "2", id="litellm azure"),
        pytest.param("litellm", "gemini/gemini-2.5-flash", "0.3", id="litellm gemini"),
        pytest.param("litellm", "vertex_ai/gemini-2.5-flash", "0.3", id="litellm vertex"),
        pytest.param(
            "litellm",
            "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
            "0.25",
            id="litellm bedrock",
        ),
        pytest.param("ollama", "deepseek-r1:8b", None, id="self-hosted"),
        pytest.param("litellm", "ollama/amazon.nova-lite", None, id="self-hosted by litellm"),
        pytest.param("openai", "gpt-4o-mini-foo", None, id="longer than a known name"),
        pytest.param("acme", "my-gpt-4o", None, id="holds a known name"),
        pytest.param("acme", "my-claude-3-opus", None, id="holds what google's rules find"),
        pytest.param("acme", "amazon.nova-pro-v1:0", "0.8", id="a gateway to bedrock"),
        pytest.param("openai", "claude-sonnet-4-20250514", None, id="another vendor's model"),
        pytest.param("openai", "unknown", None, id="unknown"),
        pytest.param("openai", "", None, id="empty"),
        pytest.param("", "", None, id="nothing"),
        pytest.param("github-copilot", "gpt-4o", None, id="without a price for tokens"),
        pytest.param("holysheep", "gpt-4.1", "8", id="holysheep gpt"),
        pytest.param("holysheep", "claude-sonnet-4.5", "15", id="holysheep claude"),
        pytest.param("holysheep", "gemini-2.5-flash", "2.5", id="holysheep gemini"),
        pytest.param("holysheep", "deepseek-v3.2", "0.42", id="holysheep deepseek"),
        pytest.param("holysheep", "claude-sonnet-4-5-20250929", "15", id="holysheep dated"),
        pytest.param("holysheep", "openai/gpt-4.1-2025-04-14", "8", id="holysheep vendor"),
        pytest.param("holysheep", "gemini-2.5-flash-lite", None, id="holysheep unlisted"),
    ],
)
def test_a_name_finds_its_own_price_or_none(
    book: PriceBook, provider: str, model: str, expected: str | None
) -> None:
    assert expected == input_price(book, provider, model)


def test_holysheep_asks_the_same_for_output(book: PriceBook) -> None:
    price = book.price("holysheep", "deepseek-v3.2")
    assert price is not None

    cost = price.cost(Request(output_tokens=MILLION))

    assert dollars(cost[1]) == Decimal("0.42")


def test_the_date_of_the_table_is_told(book: PriceBook) -> None:
    head = orjson.loads(make_prices.TARGET.read_bytes().partition(b"\n")[0])

    told = datetime.fromtimestamp(book.timestamp_seconds, UTC).date()

    assert head["date"] == told.isoformat()


def test_a_request_without_a_time_is_priced_as_on_the_day_of_the_table(book: PriceBook) -> None:
    price = book.price("openai", "o3")
    assert price is not None
    request = Request(input_tokens=1000)

    new = price.cost(Request(input_tokens=1000, timestamp=NOON.timestamp()))
    old = price.cost(Request(input_tokens=1000, timestamp=datetime(2025, 1, 1).timestamp()))

    assert new == price.cost(request)
    assert new < old


def test_a_request_without_a_time_does_not_get_the_price_of_the_night(book: PriceBook) -> None:
    price = book.price("deepseek", "deepseek-chat")
    assert price is not None

    by_day = price.cost(Request(input_tokens=1000, timestamp=NOON.timestamp()))
    by_night = price.cost(Request(input_tokens=1000, timestamp=NOON.timestamp() + 12 * 3600))

    assert by_day == price.cost(Request(input_tokens=1000))
    assert by_night < by_day


@pytest.mark.parametrize("timestamp", [-1e300, 0.0, 1e300, float("inf"), float("nan")])
def test_an_impossible_time_is_priced_too(book: PriceBook, timestamp: float) -> None:
    price = book.price("deepseek", "deepseek-v4-flash")
    assert price is not None

    assert price.cost(Request(input_tokens=10, timestamp=timestamp))[0] > 0


def test_what_is_remembered_is_bounded() -> None:
    book = PriceBook()

    for number in range(10_000):
        book.price("openai", f"gpt-{number}-junk")
    book.price("openai", "x" * MILLION)

    assert len(book._kept) <= 4096
    assert max(len(model) for _, model in book._kept) < 1000


EVERY_KIND = {
    "models": {
        "m": {
            "input": Decimal(1),
            "output": Decimal(2),
            "cache_read": Decimal("0.1"),
            "cache_write": Decimal("1.25"),
            "cache_write_1h": Decimal(3),
            "audio_input": Decimal(10),
            "audio_output": Decimal(20),
            "reasoning": Decimal(5),
            "thousand_requests": Decimal(7),
        }
    }
}


def test_every_kind_has_its_price_and_its_type() -> None:
    price = PriceBook(EVERY_KIND).price("acme", "m")
    assert price is not None

    cost = price.cost(
        Request(
            input_tokens=1000,
            cache_read_tokens=100,
            cache_write_tokens=300,
            cache_write_1h_tokens=100,
            audio_input_tokens=50,
            output_tokens=500,
            audio_output_tokens=40,
            reasoning_tokens=60,
        )
    )

    assert [dollars(part) for part in cost] == [
        Decimal(550) / MILLION + Decimal("0.007"),
        Decimal(400 * 2 + 60 * 5) / MILLION,
        Decimal(10) / MILLION,
        Decimal(200) * Decimal("1.25") / MILLION + Decimal(300) / MILLION,
        Decimal(50 * 10 + 40 * 20) / MILLION,
    ]


def test_a_part_without_a_price_of_its_own_costs_as_its_whole() -> None:
    price = PriceBook({"models": {"m": {"input": 1, "output": 2}}}).price("acme", "m")
    assert price is not None

    cost = price.cost(
        Request(
            input_tokens=10,
            cache_read_tokens=5,
            cache_write_tokens=5,
            cache_write_1h_tokens=5,
            audio_input_tokens=3,
            output_tokens=4,
            reasoning_tokens=4,
        )
    )

    assert cost == (10 * DOLLAR // MILLION, 8 * DOLLAR // MILLION, 0, 0, 0)


def test_tokens_that_are_not_known_cost_nothing(book: PriceBook) -> None:
    price = book.price("openai", "gpt-4o")
    assert price is not None

    assert price.cost(Request()) == (0, 0, 0, 0, 0)


_COUNTS = st.one_of(st.none(), st.integers(0, 1000))


@given(
    st.fixed_dictionaries(
        dict.fromkeys(
            (
                "input_tokens",
                "cache_read_tokens",
                "cache_write_tokens",
                "cache_write_1h_tokens",
                "audio_input_tokens",
                "output_tokens",
                "audio_output_tokens",
                "reasoning_tokens",
            ),
            _COUNTS,
        )
    )
)
def test_parts_that_exceed_their_whole_are_cut_to_it(counts: dict[str, int | None]) -> None:
    same = dict.fromkeys(KINDS, Decimal(1)) | {"thousand_requests": Decimal(0)}
    price = PriceBook({"models": {"m": same}}).price("acme", "m")
    assert price is not None

    cost = price.cost(Request(**counts))  # type: ignore[arg-type] # the keys are fields of tokens

    assert min(cost) >= 0
    whole = (counts["input_tokens"] or 0) + (counts["output_tokens"] or 0)
    assert sum(cost) == whole * DOLLAR // MILLION


def loaded(tmp_path: Path, text: str, inline: dict[str, Any] | None = None) -> PriceBook:
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return PriceBook.load(path, inline)


def test_an_exact_name_wins_over_a_glob_and_a_glob_over_the_table(tmp_path: Path) -> None:
    book = loaded(
        tmp_path,
        '[models."gpt-*"]\ninput = 9\n[models."gpt-4o"]\ninput = 7.1\n',
    )

    assert input_price(book, "openai", "gpt-4o") == "7.1"
    assert input_price(book, "openai", "gpt-4.1") == "9"
    assert input_price(book, "anthropic", "claude-sonnet-4-20250514") == "3"


def test_a_providers_own_models_win(tmp_path: Path) -> None:
    book = loaded(
        tmp_path, '[models.m]\ninput = 1\n[providers.acme.models."m*"]\ninput = 2\noutput = 3\n'
    )

    assert input_price(book, "acme", "m") == "2"
    assert input_price(book, "other", "m") == "1"


def test_an_alias_stands_for_a_model(tmp_path: Path) -> None:
    book = loaded(tmp_path, 'aliases = { "my-gpt4-deployment" = "gpt-4.1" }\n')

    assert input_price(book, "azure.ai.openai", "my-gpt4-deployment") == "2"


def test_an_alias_may_stand_for_a_model_of_the_users(tmp_path: Path) -> None:
    book = loaded(tmp_path, '[aliases]\nmine = "theirs"\n[models.theirs]\ninput = 4\n')

    assert input_price(book, "acme", "mine") == "4"


@pytest.mark.parametrize("spelling", ["azure", '"azure.ai.openai"', '"Azure OpenAI"'])
def test_a_discount_holds_for_all_that_a_provider_asks(tmp_path: Path, spelling: str) -> None:
    book = loaded(tmp_path, f"[models.mine]\ninput = 10\n[providers.{spelling}]\ndiscount = 0.15\n")

    assert input_price(book, "azure.ai.openai", "gpt-4.1") == "1.7"
    assert input_price(book, "azure.ai.openai", "mine") == "8.5"
    assert input_price(book, "openai", "gpt-4.1") == "2"


def test_a_discount_holds_for_tiers_too(tmp_path: Path) -> None:
    request = Request(input_tokens=300_000, timestamp=NOON.timestamp())
    full = PriceBook().price("anthropic", "claude-sonnet-4-5")
    half = loaded(tmp_path, "[providers.anthropic]\ndiscount = 0.5\n").price(
        "anthropic", "claude-sonnet-4-5"
    )
    assert full is not None
    assert half is not None

    assert full.cost(request)[0] == 2 * half.cost(request)[0]


def test_the_file_lies_over_the_configuration_entry_by_entry(tmp_path: Path) -> None:
    inline: dict[str, Any] = {
        "aliases": {"a": "one", "b": "two"},
        "models": {"one": {"input": 1}, "two": {"input": 2}},
        "providers": {
            "acme": {"discount": Decimal("0.5"), "models": {"m": {"input": 4}, "n": {"input": 8}}}
        },
    }

    book = loaded(
        tmp_path,
        '[aliases]\nb = "one"\n[models.one]\ninput = 3\n[providers.acme.models.m]\ninput = 6\n',
        inline,
    )

    asked = [("x", "a"), ("x", "b"), ("x", "two"), ("acme", "m"), ("acme", "n")]
    assert [input_price(book, *one) for one in asked] == ["3", "3", "2", "3", "4"]
    assert inline["models"]["one"] == {"input": 1}, "what was given is not changed"


def test_a_price_is_exact_as_it_is_written(tmp_path: Path) -> None:
    price = loaded(tmp_path, "[models.m]\ninput = 0.1\noutput = 1e-7\n").price("acme", "m")
    assert price is not None

    cost = price.cost(Request(input_tokens=3, output_tokens=7))

    assert dollars(cost[0]) == Decimal("0.0000003")
    assert dollars(cost[1]) == Decimal("7e-13")


def test_a_price_without_end_is_bounded(tmp_path: Path) -> None:
    price = loaded(tmp_path, "[models.m]\ninput = 1e-999999\n").price("acme", "m")
    assert price is not None

    assert price.cost(Request(input_tokens=5)) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modles = 1", "--prices: expected aliases, models or providers, got 'modles'"),
        ("models = 1", "--prices models: expected a table, got 1"),
        ("[aliases]\na = 1", "--prices aliases.a: expected the name of a model, got 1"),
        ("[models]\nm = 2.5", "--prices models.m: expected a table of prices, got 2.5"),
        (
            "[models.m]\ninput = '2'",
            "--prices models.m.input: expected USD for a million tokens, got '2'",
        ),
        (
            "[models.m]\ninput = -0.5",
            "--prices models.m.input: expected USD for a million tokens, got -0.5",
        ),
        (
            "[models.m]\ninput = true",
            "--prices models.m.input: expected USD for a million tokens, got True",
        ),
        (
            "[models.m]\ninput = nan",
            "--prices models.m.input: expected USD for a million tokens, got NaN",
        ),
        (
            "[models.m]\ninput = 1e999999",
            "--prices models.m.input: expected USD for a million tokens, got 1E+999999",
        ),
        (
            "[models.m]\ninptu = 1",
            f"--prices models.m: expected one of {', '.join(KINDS)}, got 'inptu'",
        ),
        (
            "[models.m]\ncache_read = 1",
            "--prices models.m: expected a price for input or output, got neither",
        ),
        ("[providers]\np = 1", "--prices providers.p: expected a table, got 1"),
        (
            "[providers.p]\ndiscount = 1",
            "--prices providers.p.discount: expected a share from 0 to under 1, got 1",
        ),
        (
            "[providers.p]\nmodels = 1",
            "--prices providers.p.models: expected a table of models, got 1",
        ),
        ("[providers.p]\nx = 1", "--prices providers.p: expected models or discount, got 'x'"),
        (
            "[providers.azure]\n[providers.azure_openai]",
            "--prices providers: expected 'azure.ai.openai' once, got it again as 'azure_openai'",
        ),
    ],
)
def test_a_wrong_price_file_is_refused_in_one_sentence(
    tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        loaded(tmp_path, text)

    assert expected == str(caught.value)


def test_a_price_file_that_is_no_toml_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--prices: expected TOML in .*prices\.toml"):
        loaded(tmp_path, "models = {")
    with pytest.raises(ValueError, match=r"--prices: expected a file that can be read, got .*none"):
        PriceBook.load(tmp_path / "none", None)


def test_wrong_prices_in_the_configuration_name_its_table() -> None:
    with pytest.raises(ValueError, match=r"^\[prices\] models\.m: expected a table of prices"):
        PriceBook.load(None, {"models": {"m": 1}})


LITELLM_FILE: dict[str, Any] = {
    "sample_spec": {"litellm_provider": "one of …", "input_cost_per_token": 1},
    "gpt-4o": {
        "litellm_provider": "openai",
        "input_cost_per_token": 3e-06,
        "output_cost_per_token": 1.2e-05,
        "cache_read_input_token_cost": 1.5e-06,
        "input_cost_per_token_priority": 6e-06,
        "output_cost_per_token_priority": 2.4e-05,
        "input_cost_per_token_batches": 1.5e-06,
        "output_cost_per_token_batches": 6e-06,
    },
    "claude-x": {
        "litellm_provider": "anthropic",
        "input_cost_per_token": 3e-06,
        "output_cost_per_token": 1.5e-05,
        "cache_creation_input_token_cost": 3.75e-06,
        "cache_creation_input_token_cost_above_1hr": 6e-06,
        "input_cost_per_token_above_200k_tokens": 6e-06,
        "output_cost_per_token_above_200k_tokens": 2.25e-05,
    },
    "grok-x": {
        "litellm_provider": "xai",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 1e-06,
        "input_cost_per_token_above_128k_tokens": 2e-06,
    },
    "azure/gpt-4o": {"litellm_provider": "azure", "input_cost_per_token": 4e-06},
    "bedrock/us-east-1/x": {"litellm_provider": "bedrock", "input_cost_per_token": 7e-06},
    "us.x-v1:0": {"litellm_provider": "bedrock_converse", "input_cost_per_token": "8e-06"},
    "openrouter/openai/gpt-4o": {"litellm_provider": "openrouter", "input_cost_per_token": 5e-06},
    "dashscope/qwen-x": {
        "litellm_provider": "dashscope",
        "tiered_pricing": [
            {"range": [0, 32000], "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
            {
                "range": [32000, 99000],
                "input_cost_per_token": 3e-06,
                "output_cost_per_token": 4e-06,
            },
        ],
    },
    "dall-e": {"litellm_provider": "openai", "input_cost_per_pixel": 1e-08},
    "ollama/llama3": {"litellm_provider": "ollama", "input_cost_per_token": 0.0},
}


@pytest.fixture
def litellm_book(tmp_path: Path) -> PriceBook:
    path = tmp_path / "model_prices_and_context_window.json"
    path.write_bytes(orjson.dumps(LITELLM_FILE))
    return PriceBook.load(path, {"aliases": {"mine": "gpt-4o"}, "models": {"own": {"input": 9}}})


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-4o", "3"),
        ("openai", "openai/gpt-4o", "3"),
        ("openai", "mine", "3"),
        ("openai", "own", "9"),
        ("azure", "gpt-4o", "4"),
        ("acme", "gpt-4o", "3"),
        ("acme", "azure/gpt-4o", "4"),
        ("aws.bedrock", "us.x-v1:0", "8"),
        ("aws.bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/us.x-v1:0", "8"),
        ("openrouter", "openai/gpt-4o:nitro", "5"),
        ("groq", "gpt-4o", None),
        ("vllm", "gpt-4o", None),
        ("ollama", "llama3", "0"),
        ("openai", "dall-e", None),
        ("openai", "gpt-4o-mini", "0.15"),
    ],
)
def test_a_name_finds_its_price_in_litellms_file(
    litellm_book: PriceBook, provider: str, model: str, expected: str | None
) -> None:
    assert expected == input_price(litellm_book, provider, model)


def test_litellms_tiers_are_taken_over(litellm_book: PriceBook) -> None:
    def cost(provider: str, model: str, **usage: int) -> Decimal:
        price = litellm_book.price(provider, model)
        assert price is not None
        return dollars(sum(price.cost(Request(**usage)))) * MILLION  # type: ignore[arg-type]

    assert cost("anthropic", "claude-x", input_tokens=200_000) == 600_000
    assert cost("anthropic", "claude-x", input_tokens=200_001) == 1_200_006
    assert cost("anthropic", "claude-x", input_tokens=200_001, output_tokens=2) == 1_200_051
    written = {"cache_write_tokens": 300, "cache_write_1h_tokens": 100}
    assert cost("anthropic", "claude-x", input_tokens=300, **written) == 1350
    assert cost("x_ai", "grok-x", input_tokens=127_999) == 127_999
    assert cost("x_ai", "grok-x", input_tokens=128_000) == 256_000, "there it is from so many on"
    assert cost("dashscope", "qwen-x", input_tokens=32_000, output_tokens=1) == 32_002
    assert cost("dashscope", "qwen-x", input_tokens=32_001, output_tokens=1) == 96_007


@pytest.mark.parametrize(
    ("provider", "model", "tier", "expected"),
    [
        pytest.param("openai", "gpt-4o", "batch", "1.25", id="half, by OpenAI's rule"),
        pytest.param("openai", "gpt-4o", "flex", "1.25", id="flex as batch"),
        pytest.param("openai", "gpt-4o", "priority", None, id="not known"),
        pytest.param("anthropic", "claude-sonnet-4-5", "batch", "1.5", id="half, by Anthropic's"),
        pytest.param("unknown", "claude-sonnet-4-5", "batch", "1.5", id="by the vendor"),
        pytest.param("gcp.gemini", "gemini-2.5-flash", "batch", None, id="Google's is not known"),
        pytest.param("groq", "llama-3.3-70b-versatile", "flex", "0.59", id="no price of its own"),
    ],
)
def test_a_service_tier_has_its_own_price_or_none(
    book: PriceBook, provider: str, model: str, tier: str, expected: str | None
) -> None:
    assert expected == tier_price(book, provider, model, tier)


def tier_price(book: PriceBook, provider: str, model: str, tier: str) -> str | None:
    usual = book.price(provider, model)
    assert usual is not None
    price = usual.of_tier(tier)
    if price is None:
        return None
    request = Request(input_tokens=MILLION // 100, timestamp=NOON.timestamp())
    return format((dollars(price.cost(request)[0]) * 100).normalize(), "f")


def test_litellms_service_tiers_are_taken_over(litellm_book: PriceBook) -> None:
    assert tier_price(litellm_book, "openai", "gpt-4o", "priority") == "6"
    assert tier_price(litellm_book, "openai", "gpt-4o", "batch") == "1.5"
    assert tier_price(litellm_book, "openai", "gpt-4o", "flex") is None
    priority = litellm_book.price("openai", "gpt-4o")
    assert priority is not None
    told = priority.of_tier("priority")
    assert told is not None
    cost = told.cost(Request(input_tokens=MILLION // 10, cache_read_tokens=MILLION // 10))
    assert dollars(cost[2]) * 10 == Decimal("1.5"), "what a tier does not tell costs as usual"


def test_the_users_own_service_tiers_and_discount_are_applied(tmp_path: Path) -> None:
    text = """
[models.m]
input = 2
[models.m.batch]
input = 1
[providers.acme]
discount = 0.5
"""
    book = loaded(tmp_path, text)

    assert tier_price(book, "acme", "m", "batch") == "0.5"
    assert tier_price(book, "acme", "m", "priority") == "1"
    assert tier_price(book, "openai", "m", "batch") == "1"
    assert tier_price(book, "openai", "m", "priority") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "--prices: expected LiteLLM's model_prices_and_context_window.json in "),
        ("{}", "--prices: expected LiteLLM's model_prices_and_context_window.json in "),
        ("{", "--prices: expected JSON in "),
        ('{"a": {"litellm_provider": "x"}}', "--prices: expected LiteLLM's table in "),
    ],
)
def test_a_json_file_that_is_no_price_file_is_refused(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text)

    with pytest.raises(ValueError, match="expected") as caught:
        PriceBook.load(path, None)

    assert str(caught.value).startswith(expected)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats()
        | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_a_litellm_entry_of_any_kind_does_no_harm(tmp_path_factory: Any, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    entry = {
        "litellm_provider": "openai",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": value,
        "input_cost_per_token_above_200k_tokens": value,
        "tiered_pricing": value,
    }
    if isinstance(value, list):
        entry["tiered_pricing"] = [{"range": value, "input_cost_per_token": 1}, *value]
    path.write_bytes(orjson.dumps({"m": entry, "n": value}))

    price = PriceBook.load(path, None).price("openai", "m")

    if price is not None:
        assert all(part >= 0 for part in price.cost(Request(input_tokens=300_000, output_tokens=5)))

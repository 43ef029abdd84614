"""(provider, model) → the price of each kind of token; the cost of a request, exact.

All money is a whole number of parts of a dollar (`DOLLAR` of them, 10⁻³⁰ USD each), so that sums are exact
whatever the price: some resellers ask for a twelfth of a dollar for a million tokens, written with 16 digits.

The bundled table is made by `tests/make_prices.py` from genai-prices, and agrees with its `calc_price`; a model
that it lists without any price for tokens is not priced here, unless its name ends in `:free`. A price for a
request counts as `input`.

A request that tells a service tier (batch, flex, priority) is priced by that tier, and has no price where its
provider has tiers and nobody tells what this one costs.

Over the table come the user's own, as TOML, in USD for a million tokens. Names may be globs; an exact name wins
over a glob, a provider's own models win over those for all providers:

    aliases = { "my-gpt4-deployment" = "gpt-4.1" }

    [models."acme-large"]
    input = 2.00
    output = 8.00
    cache_read = 0.50        # also cache_write, cache_write_1h, audio_input, audio_output, reasoning
                             # and thousand_requests; what has no price of its own costs as its whole

    [models."acme-large".batch]    # also flex and priority: what those service tiers cost
    input = 1.00
    output = 4.00

    [providers.acme.models."*-small"]
    input = 0.10
    output = 0.40

    [providers.azure]        # in any spelling that logs have
    discount = 0.15          # a share of the price, the user's own prices too

A file that ends in `.json` is LiteLLM's table, as it is: under the user's own prices, over the bundled ones.
"""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from . import fields
from .litellm_prices import Amount, LiteLLMPrices, is_one
from .request import Request

DOLLAR = 10**30
"""How many parts of money make a dollar."""

COST_TYPES = ("input", "output", "cache_read", "cache_write", "audio")
"""Into which a cost is split; disjoint."""

Cost = tuple[int, int, int, int, int]
"""Parts of a dollar for each of `COST_TYPES`."""

KINDS = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "audio_output",
    "reasoning",
    "thousand_requests",
)
"""What may have a price; USD for a million tokens, or for a thousand requests."""

SERVICE_TIERS = ("batch", "flex", "priority")
"""What may have prices of its own; all else costs as usual."""

_TIER_SHARES: dict[str, dict[str, Decimal]] = {
    "openai": {"batch": Decimal("0.5"), "flex": Decimal("0.5")},
    "anthropic": {"batch": Decimal("0.5")},
}
"""Of a provider of the bundled table: which share of its price a service tier costs, for every kind of token.

Sources: https://platform.openai.com/docs/guides/batch and …/flex-processing (at the Batch API's rates),
https://docs.anthropic.com/en/docs/build-with-claude/batch-processing
"""
_HAVE_TIERS = frozenset({"openai", "anthropic", "google", "azure", "aws"})
"""Whose service tiers have prices that the table does not know. Elsewhere (Groq's flex) a tier costs as usual."""

_TABLE = Path(__file__).with_name("prices.jsonl")
_MAX_KEPT = 4096
_MAX_NAME_CHARACTERS = 512
_MAX_DOLLARS = 1_000_000_000
_DAY_SECONDS = 86_400

_TABLE_IDS = {
    "aws.bedrock": "aws",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "moonshot": "moonshotai",
    "voyage": "voyageai",
    "voyage_ai": "voyageai",
    "z-ai": "zai",
    "z.ai": "zai",
    "zhipu": "zhipuai",
}
"""OpenTelemetry's provider → the table's, where they differ by more than `-` and `_`."""

_VENDORS = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "deepseek",
    "x-ai",
    "cohere",
    "meta",
    "moonshotai",
    "minimax",
    "zai",
    "zhipuai",
    "perplexity",
    "voyageai",
    "aws",
    "cloudflare",
)
"""Whose own price holds for their models at a provider that the table does not know.

The last two sell models of others too, under names that are theirs alone (`meta.llama3-…-v1:0`, `@cf/meta/…`).
"""

_SELF_HOSTED = frozenset(
    {
        "ollama",
        "vllm",
        "sglang",
        "tgi",
        "llama.cpp",
        "llama_cpp",
        "llamafile",
        "localai",
        "lmstudio",
    }
    | {"lm-studio", "lm_studio"}
)
"""They serve from the user's own machine, so no vendor's price holds; Ollama's `deepseek-r1:8b` is not
even the model that DeepSeek sells under that name."""

_HOLYSHEEP = {
    "gpt-4-1": "8.00",
    "claude-sonnet-4-5": "15.00",
    "gemini-2-5-flash": "2.50",
    "deepseek-v3-2": "0.42",
}
"""List prices of a reseller that the table does not have: USD for a million tokens, input and output alike."""

_REGION = re.compile(r"^(?:us|us-gov|eu|apac|ap|jp|au|ca|sa|me|af|global)\.(?=[a-z0-9-]+\.)")
_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=$|[-:])")
_DATE = re.compile(r"[-@]20\d\d-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])$")
_ROUTING_SUFFIXES = (":nitro", ":floor", ":exacto", ":online")
"""OpenRouter's ways to choose an endpoint, at the model's price."""
_VARIANTS = (":free", ":batch")
"""OpenRouter's variants with a price of their own."""
_OWN_WEIGHTS = re.compile(r"^arn:[^/]*:(?:custom-model|imported-model|provisioned-model)[^/]*/")
"""Bedrock's names for what the user trained or rents by the hour, though they hold the name of the base."""

Rate = int | tuple[tuple[int, int], ...]
"""Parts of a dollar a token; or (from more than so many input tokens, rate) from the highest tier to the base."""

Rates = dict[str, Rate]

Listed = dict[str, Any]
"""Rates, and beside them under `tiers` the rates of service tiers."""

_Row = tuple[int, int, int | None, int | None, int | None, int | None, int | None, int | None, int]
"""A rate for each of `KINDS`; `None` where it costs as its whole. The last is for one request."""

_Bands = tuple[tuple[int, _Row], ...]
"""(from more than so many input tokens, rates), the highest first; the last is from -1."""

_Condition = float | tuple[float, float] | None
"""Since when a price holds, Unix seconds; or between which seconds of the day; or always."""

Periods = list[tuple[_Condition, Rates]]


class Price:
    """What one model costs at one provider, as it changed over time."""

    __slots__ = ("_bands", "_default_timestamp", "_periods", "_tiers", "plain")

    def __init__(
        self,
        periods: list[tuple[_Condition, Rates]],
        default_timestamp: float,
        tiers: Mapping[str, Price | None] | None = None,
    ) -> None:
        """`tiers`: the prices of service tiers, `None` for one that nobody knows; any other costs as usual."""
        self._default_timestamp = default_timestamp
        self._tiers = tiers or {}
        # the last that holds is the one, so that is asked first
        self._periods = [(condition, _bands(rates)) for condition, rates in reversed(periods)]
        self._bands = self._periods[0][1] if len(periods) == 1 else None
        self.plain: tuple[int, int, int | None] | None = None
        """Rates of input, output and input read from a cache, where no tier, no time and no reasoning changes them."""
        if self._bands is not None and len(self._bands) == 1:
            of_input, of_output, of_read, _, _, _, _, of_reasoning, once = self._bands[0][1]
            if of_reasoning is None and not once:
                self.plain = of_input, of_output, of_read

    def of_tier(self, service_tier: str) -> Price | None:
        """Give the price of a service tier; `None` where nobody knows it."""
        return self._tiers.get(service_tier, self)

    @property
    def periods(self) -> list[tuple[_Condition, _Bands]]:
        """When which prices hold, the last first: the first that holds is the one."""
        return list(self._periods)

    @property
    def tiers(self) -> Mapping[str, Price | None]:
        """The service tiers that cost otherwise, `None` where nobody knows how much."""
        return self._tiers

    def rates(self, timestamp: float | None) -> tuple[_Row, _Bands]:
        """Give what holds at a time: rates by `KINDS` for the fewest input tokens, and all of them."""
        bands = self._bands_at(timestamp)
        return bands[-1][1], bands

    def cost(self, request: Request) -> Cost:
        """Give what the request costs, at the price of its own time; its service tier is asked for with `of_tier`."""
        return self.cost_of(
            request.input_tokens,
            request.output_tokens,
            request.cache_read_tokens,
            request.cache_write_tokens,
            request.cache_write_1h_tokens,
            request.audio_input_tokens,
            request.audio_output_tokens,
            request.reasoning_tokens,
            request.timestamp,
        )

    def cost_of(
        self,
        input_tokens: int | None,
        output_tokens: int | None,
        cache_read_tokens: int | None,
        cache_write_tokens: int | None,
        cache_write_1h_tokens: int | None,
        audio_input_tokens: int | None,
        audio_output_tokens: int | None,
        reasoning_tokens: int | None,
        timestamp: float | None,
    ) -> Cost:
        """Give what so many tokens cost, at the price of that time.

        Parts that are more than their whole are cut to it: nothing is negative, nothing counted twice.
        """
        tokens_in = uncached = input_tokens or 0
        text_out = output_tokens or 0
        bands = self._bands
        if bands is None:
            bands = self._bands_at(timestamp)
        rates = bands[0][1]
        for start, rates in bands:  # noqa: B007 - the one where it stops is used below
            if tokens_in > start:
                break
        (
            of_input,
            of_output,
            of_read,
            of_write,
            of_write_1h,
            of_audio_in,
            of_audio_out,
            of_reasoning,
            once,
        ) = rates
        read = write = audio = reasoning = 0
        if of_read is not None and cache_read_tokens:
            count = min(cache_read_tokens, uncached)
            uncached -= count
            read = count * of_read
        if cache_write_tokens:
            count_1h = 0
            if of_write_1h is not None and cache_write_1h_tokens:
                count_1h = min(cache_write_1h_tokens, cache_write_tokens, uncached)
                uncached -= count_1h
                write = count_1h * of_write_1h
            if of_write is not None:
                count = min(cache_write_tokens - count_1h, uncached)
                uncached -= count
                write += count * of_write
        if of_audio_in is not None and audio_input_tokens:
            count = min(audio_input_tokens, uncached)
            uncached -= count
            audio = count * of_audio_in
        if of_audio_out is not None and audio_output_tokens:
            count = min(audio_output_tokens, text_out)
            text_out -= count
            audio += count * of_audio_out
        if of_reasoning is not None and reasoning_tokens:
            count = min(reasoning_tokens, text_out)
            text_out -= count
            reasoning = count * of_reasoning
        return uncached * of_input + once, text_out * of_output + reasoning, read, write, audio

    def _bands_at(self, timestamp: float | None) -> _Bands:
        """Give the prices of a time; `None` is noon on the day of the table: this knows no clock."""
        if timestamp is None:
            timestamp = self._default_timestamp
        for condition, bands in self._periods:
            if condition is None:
                return bands
            if isinstance(condition, tuple):
                start, end = condition
                now = timestamp % _DAY_SECONDS
                if (now >= start or now < end) if end < start else start <= now < end:
                    return bands
            elif timestamp >= condition:
                return bands
        return self._periods[-1][1]


def _bands(rates: Rates) -> _Bands:
    starts = {
        -1,
        *[start for rate in rates.values() if not isinstance(rate, int) for start, _ in rate],
    }
    return tuple([(start, _row(rates, start)) for start in sorted(starts, reverse=True)])


def _row(rates: Rates, start: int) -> _Row:
    def of(kind: str) -> int | None:
        rate = rates.get(kind)
        if rate is None or isinstance(rate, int):
            return rate
        return next(tier for tier_start, tier in rate if tier_start <= start)

    return (
        of("input") or 0,
        of("output") or 0,
        of("cache_read"),
        of("cache_write"),
        of("cache_write_1h"),
        of("audio_input"),
        of("audio_output"),
        of("reasoning"),
        of("thousand_requests") or 0,
    )


class _Gate:
    """Tells fast that a provider has no model of a name: a log full of strange names asks for each of them."""

    __slots__ = ("_contained", "_equal", "_patterns", "_prefixes", "_suffixes", "fallbacks")

    def __init__(self, line: bytes) -> None:
        provider = orjson.loads(line)
        self.fallbacks: tuple[str, ...] = tuple(provider["fallback"])
        """Other providers whose models this one has too, at their prices."""
        texts: dict[str, list[str]] = {"=": [], "^": [], "$": [], "*": [], "~": []}
        rules = [rule for _, rule, _ in provider["models"]]
        while rules:
            sign, *rest = rules.pop()
            if sign in texts:
                texts[sign].append(rest[0] if sign == "~" else rest[0].lower())
            elif sign == "|":
                rules.extend(rest)
            else:
                # all of them must fit, so one may speak for all: not a pattern, those say what a name is not
                rules.append(min(rest, key=lambda rule: rule[0] == "~"))
        self._equal = frozenset(texts["="])
        self._prefixes = tuple(texts["^"])
        self._suffixes = tuple(texts["$"])
        self._contained = tuple(texts["*"])
        self._patterns = tuple(texts["~"])

    def may_hold(self, name: str) -> bool:
        return (
            name in self._equal
            or name.startswith(self._prefixes)
            or name.endswith(self._suffixes)
            or any(text in name for text in self._contained)
            or any(re.search(pattern, name) for pattern in self._patterns)
        )


class _BundledLines(Mapping[str, bytes]):
    """Provider → its line of the bundled table: read when a model is asked for, and dropped again.

    Its file is held open for life, for an upgrade may put another in its place while we run.
    """

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}
        self._fd = os.open(_TABLE, os.O_RDONLY | os.O_CLOEXEC)
        with open(self._fd, "rb", closefd=False) as file:
            self.head = file.readline()
            start = len(self.head)
            for line in file:
                self._places[line[7 : line.index(b'"', 7)].decode()] = start, len(line)
                start += len(line)

    def __getitem__(self, table_id: str) -> bytes:
        start, size = self._places[table_id]
        return os.pread(self._fd, size, start)

    def __contains__(self, table_id: object) -> bool:
        return table_id in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


_bundled_lines = cache(_BundledLines)
"""The one of this process: prices that are read again are the user's."""


class PriceBook:
    """All prices: the user's over the bundled ones."""

    def __init__(self, user: Mapping[str, Any] | None = None) -> None:
        self._user = _checked(user or {}, "[prices]")
        self._file: LiteLLMPrices | None = None
        self._kept: dict[tuple[str, str], Price | None] = {}
        self._gates: dict[str, _Gate] = {}
        self._matched = ""
        """Which entry of the bundled table was found last."""
        self._lines = _bundled_lines()
        head = orjson.loads(self._lines.head)
        self.version: str = head["version"]
        """The version of genai-prices that the bundled table was made from."""
        day = datetime.fromisoformat(head["date"]).replace(tzinfo=UTC)
        self.timestamp_seconds = day.timestamp()
        """The date of the bundled table, Unix seconds."""

    @classmethod
    def load(cls, path: Path | None, inline: Mapping[str, Any] | None = None) -> PriceBook:
        """Read the user's prices from a file over those of the configuration; ValueError in one sentence."""
        book = cls(inline)
        if path is not None:
            document = _document(path)
            if path.suffix == ".json":
                book._file = LiteLLMPrices(document)
                if not len(book._file):
                    raise ValueError(
                        f"--prices: expected LiteLLM's table in {str(path)!r}, got no price for tokens"
                    )
            else:
                book._user = _merged(book._user, _checked(document, "--prices"))
        return book

    @property
    def file(self) -> LiteLLMPrices | None:
        """The table of LiteLLM that lies over the bundled one."""
        return self._file

    @property
    def user_models(self) -> list[tuple[str | None, str]]:
        """The (provider, name or glob) that the user's own prices are for; `None` for all providers."""
        return [
            *[
                (name, one)
                for name, own in self._user["providers"].items()
                for one in own.get("models", {})
            ],
            *[(None, one) for one in self._user["models"]],
        ]

    def bundled_models(self) -> list[tuple[str, str]]:
        """Give the (provider, model) that the bundled table lists."""
        return [
            (table_id, model)
            for table_id, line in self._lines.items()
            for model, _, _ in orjson.loads(line)["models"]
        ]

    def price(self, provider: str, model: str) -> Price | None:
        """Give the price of a model; `None` where nobody knows it."""
        key = (provider, model)
        try:
            return self._kept[key]
        except KeyError:
            if len(model) > _MAX_NAME_CHARACTERS or len(provider) > _MAX_NAME_CHARACTERS:
                return None
            found = self._find(provider, model)
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[key] = found
            return found

    def rule(self, provider: str, model: str) -> str | None:
        """Tell, for people, by which rule a model has its price; `None` where nobody knows it."""
        if self.price(provider, model) is None:
            return None
        self._matched = ""
        self._find(provider, model)
        name = self._user["aliases"].get(model, model)
        alias = "" if name == model else f"alias {model} = {name}, "
        own = self._user["providers"].get(fields.provider(provider) or provider, {})
        discount = f", {own['discount']:%} off" if own.get("discount") else ""
        for where, models in (
            (f"providers.{provider}.models", own.get("models", {})),
            ("models", self._user["models"]),
        ):
            if rates := _named(models, name):
                key = next(one for one in models if models[one] is rates)
                return f"{alias}your prices, {where}.{key!r}{discount}"
        if self._file is not None and (key := self._file_key(provider, name)) is not None:
            return f"{alias}your price file, {key!r}{discount}"
        return f"{alias}bundled table, {self._matched or f'{provider} {name}'}{discount}"

    def _find(self, provider: str, model: str) -> Price | None:
        model = self._user["aliases"].get(model, model)
        own = self._user["providers"].get(fields.provider(provider) or provider, {})
        rates = _named(own.get("models", {}), model) or _named(self._user["models"], model)
        tiers: dict[str, Periods | None]
        if rates is not None:
            periods: Periods | None = [(None, _without_tiers(rates))]
            tiers = {tier: [(None, one)] for tier, one in rates.get("tiers", {}).items()}
            tiers = {**dict.fromkeys(SERVICE_TIERS if self._has_tiers(provider) else ()), **tiers}
        elif self._file is not None and (key := self._file_key(provider, model)) is not None:
            periods, tiers = self._of_file(self._file, provider, key)
        else:
            self._matched = ""
            periods = self._bundled(provider, model.lower())
            table_id = self._matched.partition(" ")[0]
            unknown = SERVICE_TIERS if table_id in _HAVE_TIERS else ()
            tiers = dict.fromkeys(unknown)
            for tier, share in _TIER_SHARES.get(table_id, {}).items():
                tiers[tier] = _shared(periods or [], share)
        if periods is None:
            return None
        left = 1 - own.get("discount", Decimal(0))
        noon = self.timestamp_seconds + _DAY_SECONDS / 2
        return Price(
            _shared(periods, left),
            noon,
            {
                tier: None if one is None else Price(_shared(one, left), noon)
                for tier, one in tiers.items()
            },
        )

    def _has_tiers(self, provider: str) -> bool:
        return self._table_id(provider) in _HAVE_TIERS

    def _file_key(self, provider: str, model: str) -> str | None:
        if self._file is None:
            return None
        name = model.lower()
        if _OWN_WEIGHTS.match(name):
            return None
        vendor = name.partition("/")[0]
        return self._file.key(
            provider,
            _spellings(name),
            may_guess=self._table_id(provider) is None
            and provider.lower() not in _SELF_HOSTED
            and vendor not in _SELF_HOSTED,
        )

    def _of_file(
        self, file: LiteLLMPrices, provider: str, key: str
    ) -> tuple[Periods, dict[str, Periods | None]]:
        tiers: dict[str, Periods | None] = {}
        for tier in SERVICE_TIERS:
            amounts = file.amounts(key, tier)
            if amounts is not None:
                tiers[tier] = [(None, _rates(amounts))]
            elif file.has_tiers(key) or self._has_tiers(provider):
                tiers[tier] = None
        return [(None, _rates(file.amounts(key) or {}))], tiers

    def _bundled(self, provider: str, model: str) -> list[tuple[_Condition, Rates]] | None:
        if provider.lower() == "holysheep":
            return _holysheep(model)
        vendor, slash, rest = model.partition("/")
        vendor_id = self._table_id(vendor) if slash else None
        table_id = self._table_id(provider)
        if table_id is not None:
            found = self._at(table_id, model)
            if found is None and vendor_id in (table_id, *self._gate(table_id).fallbacks):
                # a router's name for it, `openai/gpt-4o` said by openai itself
                found = self._at(table_id, rest)
            return found
        if vendor_id is not None:
            # `vendor/model:free` is OpenRouter's name, whoever passed it on; the vendor has no such price
            is_variant = model.endswith(_VARIANTS)
            return self._at("openrouter", model) if is_variant else self._at(vendor_id, rest)
        if provider.lower() in _SELF_HOSTED or vendor in _SELF_HOSTED:
            return None
        return self._among(_VENDORS, model, is_guess=True)

    def _table_id(self, provider: str) -> str | None:
        name = fields.provider(provider) or provider
        name = _TABLE_IDS.get(name, name)
        return next((one for one in (name, name.replace("_", "-")) if one in self._lines), None)

    def _gate(self, table_id: str) -> _Gate:
        gate = self._gates.get(table_id)
        if gate is None:
            gate = self._gates[table_id] = _Gate(self._lines[table_id])
        return gate

    def _at(self, table_id: str, model: str) -> list[tuple[_Condition, Rates]] | None:
        return self._among((table_id, *self._gate(table_id).fallbacks), model)

    def _among(
        self, table_ids: tuple[str, ...], model: str, *, is_guess: bool = False
    ) -> list[tuple[_Condition, Rates]] | None:
        """Find a model at the first of some providers that has it; `is_guess` where the log names none of them."""
        if _OWN_WEIGHTS.match(model):
            return None
        for name in _spellings(model):
            for table_id in table_ids:
                # Google finds Claude anywhere in a name: right at Google, not for a gateway's `my-claude-3-opus`
                from_start = is_guess and table_id != "aws"
                found = self._matching(table_id, name, from_start=from_start)
                if found is not None:
                    return _periods(found, name)
        return None

    def _matching(self, table_id: str, name: str, *, from_start: bool) -> list[Any] | None:
        if not self._gate(table_id).may_hold(name):
            return None
        for model, rule, dated in orjson.loads(self._lines[table_id])["models"]:
            if _matches(rule, name, from_start=from_start):
                self._matched = f"{table_id} {model}"
                found: list[Any] = dated
                return found
        return None


def _document(path: Path) -> dict[str, Any]:
    """Read a price file; ValueError in one sentence."""
    try:
        if path.suffix != ".json":
            return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        document: dict[str, Any] = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(
            f"--prices: expected a file that can be read, got {str(path)!r}: {error.strerror}"
        ) from None
    except orjson.JSONDecodeError as error:
        raise ValueError(f"--prices: expected JSON in {str(path)!r}: {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--prices: expected TOML in {str(path)!r}: {error}") from None
    if not is_one(document):
        raise ValueError(
            f"--prices: expected LiteLLM's model_prices_and_context_window.json in {str(path)!r}, got other JSON"
        )
    return document


def _holysheep(model: str) -> list[tuple[_Condition, Rates]] | None:
    """Price what it lists, in the spellings that its models have: dated, dashed, with the vendor before it."""
    price = _HOLYSHEEP.get(_DATE.sub("", model.rsplit("/", 1)[-1]).replace(".", "-"))
    if price is None:
        return None
    rate = _rate(price, 1_000_000)
    return [(None, {"input": rate, "output": rate})]


def _spellings(model: str) -> list[str]:
    """Give the names under which a table may know a model, as it is written first."""
    names = [model]
    if model.startswith("arn:") or "models/" in model:
        # `models/gemini-2.5-flash`, `publishers/google/models/…`, Bedrock's ARNs
        names.append(model.rsplit("/", 1)[-1])
    names.append(_REGION.sub("", names[-1]))
    names.extend(model.removesuffix(suffix) for suffix in _ROUTING_SUFFIXES)
    names.extend([_COMPACT_DATE.sub(r"-\1-\2-\3", name) for name in names])
    return list(dict.fromkeys(names))


def _matches(rule: list[Any], name: str, *, from_start: bool = False) -> bool:
    """Tell whether a rule of the table fits a name in lower case; `from_start`: what it holds must stand first."""
    sign, *rest = rule
    if sign == "|":
        return any(_matches(one, name, from_start=from_start) for one in rest)
    if sign == "&":
        return all(_matches(one, name, from_start=from_start) for one in rest)
    text: str = rest[0]
    if sign == "~":
        return re.search(text, name) is not None
    text = text.lower()
    if sign == "=":
        return name == text
    if sign == "^" or (sign == "*" and from_start):
        return name.startswith(text)
    return name.endswith(text) if sign == "$" else text in name


def _periods(dated: list[Any], name: str) -> list[tuple[_Condition, Rates]] | None:
    """Read a model's prices; `None` where no price of tokens is known."""
    periods = [(_condition(when), _rates(prices)) for when, prices in dated]
    if any("input" in rates or "output" in rates for _, rates in periods):
        return periods
    # an empty price is what the table writes for nothing and for nobody knows; the name tells which
    return [(None, {"input": 0, "output": 0})] if name.endswith(":free") else None


def _condition(when: Any) -> _Condition:
    if when is None:
        return None
    if isinstance(when, str):
        return datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()
    start, end = [datetime.fromisoformat(f"1970-01-01T{text}") for text in when]
    return _second_of_day(start), _second_of_day(end)


def _second_of_day(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() % _DAY_SECONDS


def _rates(prices: Mapping[str, Amount | str | list[Any]]) -> Rates:
    rates: Rates = {}
    for kind, price in prices.items():
        unit = 1000 if kind == "thousand_requests" else 1_000_000
        if isinstance(price, list):
            base, *tiers = price
            rates[kind] = (
                *[(start, _rate(one, unit)) for start, one in reversed(tiers)],
                (-1, _rate(base, unit)),
            )
        else:
            rates[kind] = _rate(price, unit)
    return rates


def _rate(dollars: str | Decimal, unit: int) -> int:
    numerator, denominator = Decimal(dollars).as_integer_ratio()
    return numerator * (DOLLAR // unit) // denominator


def _shared(periods: Periods, share: Decimal) -> Periods:
    """Give prices times a share of them."""
    if share == 1:
        return periods
    return [
        (condition, {kind: _discounted(rate, 1 - share) for kind, rate in one.items()})
        for condition, one in periods
    ]


def _without_tiers(listed: Listed) -> Rates:
    return {kind: rate for kind, rate in listed.items() if kind != "tiers"}


def _discounted(rate: Rate, discount: Decimal) -> Rate:
    numerator, denominator = (1 - discount).as_integer_ratio()
    if isinstance(rate, int):
        return rate * numerator // denominator
    return tuple([(start, one * numerator // denominator) for start, one in rate])


def _named(models: Mapping[str, Listed], model: str) -> Listed | None:
    """Give the prices under an exact name, else under the first glob that fits."""
    exact = models.get(model)
    if exact is not None:
        return exact
    for name, rates in models.items():
        if any(sign in name for sign in "*?[") and fnmatch.fnmatchcase(model, name):
            return rates
    return None


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay checked prices over others: each alias, discount and model is replaced whole."""
    providers = dict(under["providers"])
    for provider, table in over["providers"].items():
        below = providers.get(provider, {})
        providers[provider] = {
            **below,
            **table,
            "models": {**table.get("models", {}), **_rest(below, table)},
        }
    return {
        "aliases": {**under["aliases"], **over["aliases"]},
        # those over it stand first, since the first glob that fits is taken
        "models": {**over["models"], **_rest(under, over)},
        "providers": providers,
    }


def _rest(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    taken = over.get("models", {})
    return {name: rates for name, rates in under.get("models", {}).items() if name not in taken}


def _checked(user: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check the user's prices and read them; ValueError names what is wrong."""
    for key, value in user.items():
        if key not in ("aliases", "models", "providers"):
            raise ValueError(f"{where}: expected aliases, models or providers, got {key!r}")
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} {key}: expected a table, got {_shown(value)}")
    aliases = dict(user.get("aliases", {}))
    for alias, model in aliases.items():
        if not isinstance(model, str):
            raise ValueError(
                f"{where} aliases.{alias}: expected the name of a model, got {_shown(model)}"
            )
    providers: dict[str, Any] = {}
    for name, table in user.get("providers", {}).items():
        provider = fields.provider(name) or name
        if provider in providers:
            raise ValueError(
                f"{where} providers: expected {provider!r} once, got it again as {name!r}"
            )
        providers[provider] = _checked_provider(table, f"{where} providers.{name}")
    models = _checked_models(user.get("models", {}), f"{where} models")
    return {"aliases": aliases, "models": models, "providers": providers}


def _checked_provider(table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: expected a table, got {_shown(table)}")
    checked: dict[str, Any] = {}
    for key, value in table.items():
        if key == "models":
            checked[key] = _checked_models(value, f"{where}.models")
        elif key == "discount":
            discount = _dollars(value)
            if discount is None or discount >= 1:
                raise ValueError(
                    f"{where}.discount: expected a share from 0 to under 1, got {_shown(value)}"
                )
            checked[key] = discount
        else:
            raise ValueError(f"{where}: expected models or discount, got {key!r}")
    return checked


def _checked_models(models: Any, where: str) -> dict[str, Listed]:
    if not isinstance(models, Mapping):
        raise ValueError(f"{where}: expected a table of models, got {_shown(models)}")
    checked: dict[str, Listed] = {}
    for model, prices in models.items():
        if not isinstance(prices, Mapping):
            raise ValueError(f"{where}.{model}: expected a table of prices, got {_shown(prices)}")
        tiers = {tier: prices[tier] for tier in SERVICE_TIERS if tier in prices}
        listed: Listed = {
            **_checked_prices(
                {kind: price for kind, price in prices.items() if kind not in tiers},
                f"{where}.{model}",
            )
        }
        for tier, own in tiers.items():
            if not isinstance(own, Mapping):
                raise ValueError(
                    f"{where}.{model}.{tier}: expected a table of prices, got {_shown(own)}"
                )
            listed.setdefault("tiers", {})[tier] = _checked_prices(own, f"{where}.{model}.{tier}")
        checked[model] = listed
    return checked


def _checked_prices(prices: Mapping[str, Any], where: str) -> Rates:
    dollars: dict[str, Decimal] = {}
    for kind, price in prices.items():
        if kind not in KINDS:
            raise ValueError(f"{where}: expected one of {', '.join(KINDS)}, got {kind!r}")
        amount = _dollars(price)
        if amount is None:
            unit = "thousand requests" if kind == "thousand_requests" else "million tokens"
            raise ValueError(f"{where}.{kind}: expected USD for a {unit}, got {_shown(price)}")
        dollars[kind] = amount
    if "input" not in dollars and "output" not in dollars:
        raise ValueError(f"{where}: expected a price for input or output, got neither")
    return _rates(dollars)


def _dollars(value: Any) -> Decimal | None:
    """Read an amount that is not negative; `None` for what is none, or is beyond any price."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    # a float stands for the decimal that it is written as
    amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not amount.is_finite() or not 0 <= amount < _MAX_DOLLARS:
        return None
    # finer than a part of a dollar is nothing; exact it could be megabytes (1e-999999)
    return amount if amount.adjusted() > -40 else Decimal(0)


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else repr(value)

"""(provider, model) → the price of each kind of token; the cost of a request, exact.

All money is a whole number of `DOLLAR` parts (10⁻³⁰ USD), so that sums are exact whatever the price: some
resellers ask for a third of a cent.

The bundled table is made by `tests/make_prices.py` from genai-prices. Over it comes the user's own, as TOML,
in USD for a million tokens; names may be globs, and the exact name wins:

    aliases = { "my-gpt4-deployment" = "gpt-4.1" }

    [models."acme-large"]
    input = 2.00
    output = 8.00
    cache_read = 0.50        # also cache_write, cache_write_1h, audio_input, audio_output, reasoning

    [providers.acme.models."*-small"]
    input = 0.10
    output = 0.40

    [providers."azure.ai.openai"]
    discount = 0.15          # a share of the price, cache and audio too
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

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

_TABLE = Path(__file__).with_name("prices.jsonl")
_MAX_KEPT = 4096

_TABLE_IDS = {
    "aws.bedrock": "aws",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
    "xai": "x-ai",
    "together_ai": "together",
    "together-ai": "together",
    "fireworks_ai": "fireworks",
    "moonshot": "moonshotai",
    "voyage": "voyageai",
}
"""OpenTelemetry's provider → the table's."""

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
)
"""Whose own price holds for their models at a provider that the table does not know."""

_OWN_PROVIDERS: dict[str, Any] = {
    # the list prices of a reseller that the table does not have; input and output alike
    "holysheep": {
        "models": {
            name: {"input": Decimal(price), "output": Decimal(price)}
            for name, price in (
                ("gpt-4.1", "8.00"),
                ("claude-sonnet-4.5", "15.00"),
                ("claude-sonnet-4-5", "15.00"),
                ("gemini-2.5-flash", "2.50"),
                ("deepseek-v3.2", "0.42"),
            )
        }
    }
}

_REGION = re.compile(r"^(?:us|us-gov|eu|apac|ap|jp|au|ca|sa|me|af|global)\.(?=[a-z0-9-]+\.)")
_COMPACT_DATE = re.compile(r"-(20\d\d)(\d\d)(\d\d)(?=$|[-:@])")
_ROUTING_SUFFIXES = (":nitro", ":floor", ":exacto", ":online")
"""OpenRouter's ways to choose an endpoint; `:free` and `:batch` are prices of their own."""

Rate = int | tuple[tuple[int, int], ...]
"""Parts of a dollar a token; or (from more than so many input tokens, rate) from the highest tier to the base."""

Rates = dict[str, Rate]


class Price:
    """What one model costs at one provider, as it changed over time."""

    __slots__ = ("_dated", "_default_timestamp", "_plain")

    def __init__(self, dated: list[tuple[Any, Rates]], default_timestamp: float) -> None:
        self._dated = dated
        self._default_timestamp = default_timestamp
        rates = dated[0][1]
        is_plain = len(dated) == 1 and all(
            type(rate) is int and kind in ("input", "output", "cache_read", "cache_write", "cache_write_1h")
            for kind, rate in rates.items()
        )
        self._plain: tuple[int, int, int | None, int | None, int | None] | None = None
        if is_plain:
            self._plain = (
                rates.get("input", 0),
                rates.get("output", 0),
                rates.get("cache_read"),
                rates.get("cache_write"),
                rates.get("cache_write_1h"),
            )  # type: ignore[assignment] # is_plain has seen that they are ints

    def cost(self, request: Request) -> Cost:
        """Give what the request costs; the price is that of its own time."""
        if self._plain is None:
            return _cost(self.rates(request.timestamp), request)
        of_input, of_output, of_read, of_write, of_write_1h = self._plain
        uncached = request.input_tokens or 0
        read = write = 0
        if of_read is not None and request.cache_read_tokens:
            count = min(request.cache_read_tokens, uncached)
            uncached -= count
            read = count * of_read
        if of_write is not None and request.cache_write_tokens:
            count = min(request.cache_write_tokens, uncached)
            uncached -= count
            write = count * of_write
            if of_write_1h is not None and request.cache_write_1h_tokens:
                write += min(request.cache_write_1h_tokens, count) * (of_write_1h - of_write)
        return uncached * of_input, (request.output_tokens or 0) * of_output, read, write, 0

    def rates(self, timestamp: float | None) -> Rates:
        """Give the rates that hold at a time; `None` is the date of the table."""
        dated = self._dated
        if len(dated) > 1:
            moment = _moment(self._default_timestamp if timestamp is None else timestamp)
            for condition, rates in reversed(dated):
                if condition is None or _holds(condition, moment):
                    return rates
        return dated[0][1]


def _moment(timestamp: float) -> datetime:
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime(1970, 1, 1, tzinfo=UTC) if timestamp < 0 else datetime(9999, 1, 1, tzinfo=UTC)


def _holds(condition: Any, moment: datetime) -> bool:
    if isinstance(condition, str):
        return moment.date().isoformat() >= condition
    start, end = (datetime.fromisoformat(f"1970-01-01T{text}") for text in condition)
    first, last = ((one if one.tzinfo is None else one.astimezone(UTC)).time() for one in (start, end))
    now = moment.time()
    return (now >= first or now < last) if last < first else first <= now < last


def _cost(rates: Rates, request: Request) -> Cost:
    """Split the tokens into what has a price of its own and what has not, and add up."""
    tokens_in, tokens_out = request.input_tokens or 0, request.output_tokens or 0

    def of(kind: str) -> int | None:
        rate = rates.get(kind)
        if rate is None or type(rate) is int:
            return rate
        for start, tier in rate:  # type: ignore[union-attr] # the other half of the union
            if tokens_in > start:
                return tier
        return 0

    costs = {"cache_read": 0, "cache_write": 0, "audio": 0}
    uncached, text_out = tokens_in, tokens_out
    for kind, cost_type, count in (
        ("cache_read", "cache_read", request.cache_read_tokens),
        ("cache_write", "cache_write", request.cache_write_tokens),
        ("audio_input", "audio", request.audio_input_tokens),
    ):
        rate = of(kind)
        if rate is not None and count:
            taken = min(count, uncached)
            uncached -= taken
            costs[cost_type] += taken * rate
            rate_1h = of("cache_write_1h") if kind == "cache_write" else None
            if rate_1h is not None and request.cache_write_1h_tokens:
                costs[cost_type] += min(request.cache_write_1h_tokens, taken) * (rate_1h - rate)
    of_output = 0
    for kind, count in (("audio_output", request.audio_output_tokens), ("reasoning", request.reasoning_tokens)):
        rate = of(kind)
        if rate is not None and count:
            taken = min(count, text_out)
            text_out -= taken
            if kind == "audio_output":
                costs["audio"] += taken * rate
            else:
                of_output += taken * rate
    of_input = uncached * (of("input") or 0) + (of("thousand_requests") or 0)
    return (
        of_input,
        of_output + text_out * (of("output") or 0),
        costs["cache_read"],
        costs["cache_write"],
        costs["audio"],
    )


class PriceBook:
    """All prices: the user's over the bundled ones."""

    def __init__(self, user: Mapping[str, Any] | None = None) -> None:
        self._user = _checked(user or {})
        self._kept: dict[tuple[str, str], Price | None] = {}
        head, *lines = _TABLE.read_bytes().splitlines()
        self.timestamp_seconds = datetime.fromisoformat(orjson.loads(head)["date"]).replace(tzinfo=UTC).timestamp()
        """The date of the bundled table, Unix seconds."""
        # a provider's models are decoded when one of them is asked for, and dropped again
        self._lines = {line[7 : line.index(b'"', 7)].decode(): line for line in lines}

    @classmethod
    def load(cls, path: Path | None, inline: Mapping[str, Any] | None = None) -> PriceBook:
        """Read the user's prices from a file over those of the configuration; ValueError in one sentence."""
        user = dict(inline or {})
        if path is not None:
            try:
                document = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
            except OSError as error:
                raise ValueError(f"--prices: expected a file that can be read, got {str(path)!r}: {error.strerror}") from None
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"--prices: expected TOML in {str(path)!r}: {error}") from None
            for key, value in document.items():
                user[key] = {**user.get(key, {}), **value} if isinstance(value, dict) else value
        return cls(user)

    def price(self, provider: str, model: str) -> Price | None:
        """Give the price of a model; `None` where nobody knows it."""
        key = (provider, model)
        try:
            return self._kept[key]
        except KeyError:
            found = self._find(provider, model) if len(model) <= 512 else None
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[key] = found
            return found

    def _find(self, provider: str, model: str) -> Price | None:
        model = self._user["aliases"].get(model, model)
        own = self._user["providers"].get(provider, {})
        rates = _named(own.get("models", {}), model) or _named(self._user["models"], model)
        if rates is None:
            rates = _named(_OWN_PROVIDERS.get(provider, {}).get("models", {}), model)
        dated = [(None, _rates(rates))] if rates is not None else self._bundled(provider, model.lower())
        if dated is None:
            return None
        dated = [(condition, one) for condition, one in dated if one]
        if not dated or not any("input" in one or "output" in one for _, one in dated):
            return None
        discount = own.get("discount")
        if discount:
            dated = [(condition, {kind: _discounted(rate, discount) for kind, rate in one.items()}) for condition, one in dated]
        return Price(dated, self.timestamp_seconds)

    def _bundled(self, provider: str, model: str) -> list[tuple[Any, Rates]] | None:
        table_id = _TABLE_IDS.get(provider, provider)
        names = _spellings(model)
        if table_id in self._lines:
            asked = self._models_of(table_id)
            found = _matching(asked["models"], names)
            for fallback in asked["fallback"] if found is None else ():
                found = found or _matching(self._models_of(fallback)["models"], names)
            if found is None and "/" in model:
                # a router's name for it, `openai/gpt-4o` said by openai itself
                vendor, _, rest = model.partition("/")
                if _TABLE_IDS.get(vendor, vendor) == table_id:
                    found = _matching(asked["models"], _spellings(rest))
            return found
        if "/" in model:
            vendor, _, rest = model.partition("/")
            vendor = _TABLE_IDS.get(vendor, vendor)
            if vendor in self._lines:
                return _matching(self._models_of(vendor)["models"], _spellings(rest))
        for vendor in _VENDORS:
            found = _matching(self._models_of(vendor)["models"], names)
            if found is not None:
                return found
        return None

    def _models_of(self, table_id: str) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self._lines[table_id])
        return found


def _spellings(model: str) -> list[str]:
    """Give the names under which a table may know a model, as it is written first."""
    names = [model]
    if model.startswith("arn:"):
        names.append(model.rsplit("/", 1)[-1])
    names.append(_REGION.sub("", names[-1]))
    names.extend([name.removesuffix(suffix) for name in (model,) for suffix in _ROUTING_SUFFIXES if name.endswith(suffix)])
    names.extend([_COMPACT_DATE.sub(r"-\1-\2-\3", name) for name in list(names)])
    return list(dict.fromkeys(names))


def _matching(models: list[Any], names: list[str]) -> list[tuple[Any, Rates]] | None:
    for name in names:
        for _, rule, dated in models:
            if _matches(rule, name):
                return [(condition, _rates(prices)) for condition, prices in dated]
    return None


def _matches(rule: list[Any], name: str) -> bool:
    sign, *rest = rule
    if sign == "|":
        return any([_matches(one, name) for one in rest])
    if sign == "&":
        return all([_matches(one, name) for one in rest])
    text = rest[0]
    if sign == "~":
        return re.search(text, name) is not None
    text = text.lower()
    if sign == "=":
        return bool(name == text)
    if sign == "^":
        return name.startswith(text)
    return name.endswith(text) if sign == "$" else text in name


def _rates(prices: Mapping[str, Any]) -> Rates:
    rates: Rates = {}
    for kind, price in prices.items():
        unit = 1000 if kind == "thousand_requests" else 1_000_000
        if isinstance(price, list):
            base, *tiers = price
            rates[kind] = (*((start, _rate(one, unit)) for start, one in reversed(tiers)), (-1, _rate(base, unit)))
        else:
            rates[kind] = _rate(price, unit)
    return rates


def _rate(dollars: Any, unit: int) -> int:
    numerator, denominator = Decimal(dollars).as_integer_ratio()
    return numerator * (DOLLAR // unit) // denominator


def _discounted(rate: Rate, discount: Decimal) -> Rate:
    numerator, denominator = (1 - discount).as_integer_ratio()
    if isinstance(rate, int):
        return rate * numerator // denominator
    return tuple([(start, one * numerator // denominator) for start, one in rate])


def _named(models: Mapping[str, Any], model: str) -> Mapping[str, Any] | None:
    """Give the prices under an exact name, else under the first glob that fits."""
    exact = models.get(model)
    if exact is not None:
        return dict(exact)
    for name, prices in models.items():
        if any(sign in name for sign in "*?[") and fnmatch.fnmatchcase(model, name):
            return dict(prices)
    return None


def _checked(user: Mapping[str, Any]) -> dict[str, Any]:
    """Check the user's prices and give them with every table there; ValueError names what is wrong."""
    checked: dict[str, Any] = {"aliases": {}, "models": {}, "providers": {}}
    for key, value in user.items():
        if key not in checked:
            raise ValueError(f"[prices]: expected aliases, models or providers, got {key!r}")
        if not isinstance(value, dict):
            raise ValueError(f"[prices.{key}]: expected a table, got {value!r}")
        checked[key] = value
    for alias, model in checked["aliases"].items():
        if not isinstance(model, str):
            raise ValueError(f"[prices.aliases] {alias}: expected the name of a model, got {model!r}")
    _check_models("models", checked["models"])
    for provider, table in checked["providers"].items():
        if not isinstance(table, dict):
            raise ValueError(f"[prices.providers.{provider}]: expected a table, got {table!r}")
        for key, value in table.items():
            if key == "models" and isinstance(value, dict):
                _check_models(f"providers.{provider}.models", value)
            elif key == "discount" and _is_number(value) and 0 <= value < 1:
                table[key] = Decimal(value)
            else:
                raise ValueError(
                    f"[prices.providers.{provider}] {key}: expected a table of models or a discount from 0 to under 1, got {value!r}"
                )
    return checked


def _check_models(where: str, models: Mapping[str, Any]) -> None:
    for model, prices in models.items():
        if not isinstance(prices, dict):
            raise ValueError(f"[prices.{where}] {model}: expected a table of prices, got {prices!r}")
        for kind, price in prices.items():
            if kind not in KINDS:
                raise ValueError(f"[prices.{where}.{model}]: expected one of {', '.join(KINDS)}, got {kind!r}")
            if not _is_number(price) or price < 0:
                raise ValueError(f"[prices.{where}.{model}] {kind}: expected USD for a million tokens, got {price!r}")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return False
    return Decimal(value).is_finite()

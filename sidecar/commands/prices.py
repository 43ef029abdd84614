"""`ai-sidecar prices`: what a model costs and why, what has no price, and how a file differs from the bundled table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import orjson

from ..config import Config, ConfigError
from ..prices import KINDS, Price, PriceBook
from ..series import MODEL, PROVIDER
from .logs import many

Rates = dict[str, Decimal]
"""Kind → USD for a million tokens, or for a thousand requests."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is told of one model."""

    provider: str
    model: str
    rule: str | None
    """Which rule of which table gives the price; `None` where nobody knows it."""
    as_of: str
    prices: tuple[tuple[str, Rates], ...]
    """When, for which service tier and how long a prompt → what it costs then."""
    unknown_tiers: tuple[str, ...] = ()
    """Service tiers that cost otherwise, nobody knows how much."""
    requests: int | None = None
    """How many a log had."""


class Teller:
    """Tells of prices by the book of a configuration."""

    def __init__(self, config: Config) -> None:
        """ConfigError for prices that are bad."""
        self._path = config.prices_path
        try:
            self.book = PriceBook.load(config.prices_path, config.prices)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def show(
        self, provider: str, model: str, at: float | None, requests: int | None = None
    ) -> Shown:
        """Tell what a model costs, at a time or, `None`, at all times."""
        price = self.book.price(provider, model)
        rule = self.book.rule(provider, model)
        if price is None or rule is None:
            return Shown(provider, model, None, "", (), (), requests)
        prices = [*_prices(price, at)]
        unknown = []
        for tier, own in price.tiers.items():
            if own is None:
                unknown.append(tier)
            else:
                prices += [(_joined(tier, when), rates) for when, rates in _prices(own, at)]
        return Shown(
            provider, model, rule, self.as_of(rule), tuple(prices), tuple(unknown), requests
        )

    def as_of(self, rule: str) -> str:
        """Tell how old the table is that a rule is of."""
        if "bundled table" in rule:
            return f"genai-prices {self.book.version} of {_day(self.book.timestamp_seconds)}"
        if self._path is None or ("your prices" in rule and self.book.file is not None):
            return "the configuration"
        return f"{self._path} of {_day(self._path.stat().st_mtime)}"

    def tables(self) -> Iterator[str]:
        """Tell which tables there are, the one that is asked first first."""
        own = len(self.book.user_models)
        if own:
            yield f"your prices: {many(own, 'model')}"
        if self.book.file is not None and self._path is not None:
            yield f"{self._path} of {_day(self._path.stat().st_mtime)}: {many(len(self.book.file), 'model')}"
        yield f"bundled table: {many(len(self.book.bundled_models()), 'model')}, {self.as_of('bundled table')}"


def _day(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()


def _joined(*parts: str) -> str:
    return ", ".join([part for part in parts if part])


def _prices(price: Price, at: float | None) -> Iterator[tuple[str, Rates]]:
    """Give each list of prices and when it holds: at a time, or all of them from the first on."""
    if at is not None:
        _, bands = price.rates(at)
        periods: list[tuple[Any, Any]] = [(None, bands)]
    else:
        periods = price.periods[::-1]
    for condition, bands in periods:
        for start, row in reversed(bands):
            prompt = f"over {start:,} input tokens" if start >= 0 else ""
            when = _when(condition) or ("otherwise" if len(periods) > 1 else "")
            yield (
                _joined(when, prompt),
                {
                    kind: Decimal(f"{rate}e-27" if kind == "thousand_requests" else f"{rate}e-24")
                    for kind, rate in zip(KINDS, row, strict=True)
                    if rate is not None and not (kind == "thousand_requests" and not rate)
                },
            )


def _when(condition: float | tuple[float, float] | None) -> str:
    if condition is None:
        return ""
    if isinstance(condition, tuple):
        start, end = [time.strftime("%H:%M", time.gmtime(second)) for second in condition]
        return f"from {start} to {end} UTC"
    return f"from {_day(condition)}"


def as_text(shown: Shown) -> str:
    """Tell of one model in a few lines."""
    requests = "" if shown.requests is None else f" ({many(shown.requests, 'request')})"
    head = f"{shown.model} at {shown.provider}{requests}"
    if shown.rule is None:
        return f"{head}: no price is known\n"
    lines = [head, f"  {shown.rule} ({shown.as_of})"]
    kinds = [kind for kind in KINDS if any(kind in rates for _, rates in shown.prices)]
    heads = ["input", "output", *[kind for kind in kinds if kind not in ("input", "output")]]
    table = [["USD for a million tokens", *[_title(kind) for kind in heads]]]
    for when, rates in shown.prices:
        cells = [_plain(rates[kind]) if kind in rates else "" for kind in heads]
        table.append([when or "always", *cells])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    if shown.unknown_tiers:
        lines.append(
            f"  no price is known for {' and '.join(shown.unknown_tiers)}: such requests are counted as unpriced"
        )
    return "\n".join(lines) + "\n"


def _title(kind: str) -> str:
    return {"cache_write": "cache_write 5m", "cache_write_1h": "1h"}.get(kind, kind)


def as_value(shown: Shown) -> dict[str, Any]:
    """Give JSON values of one model."""
    return {
        "provider": shown.provider,
        "model": shown.model,
        "rule": shown.rule,
        "as_of": shown.as_of or None,
        "prices": [
            {
                "when": when or None,
                **{kind: orjson.Fragment(_plain(one)) for kind, one in rates.items()},
            }
            for when, rates in shown.prices
        ],
        "unknown_service_tiers": shown.unknown_tiers,
        **({} if shown.requests is None else {"requests": shown.requests}),
    }


def _plain(amount: Decimal) -> str:
    return format(amount.normalize() + 0, "f")


@dataclass(frozen=True, slots=True)
class Difference:
    """A price that a file has otherwise than the bundled table; `None` where one of them has none of its own."""

    provider: str
    model: str
    kind: str
    bundled: Decimal | None
    file: Decimal | None


@dataclass(slots=True)
class Comparison:
    """A file beside the bundled table."""

    same: int = 0
    only_in_file: int = 0
    differences: tuple[Difference, ...] = ()

    @property
    def different(self) -> int:
        """Of how many models a price differs."""
        return len({(one.provider, one.model) for one in self.differences})


def compare(path: Path, at: float) -> Comparison:
    """Hold a price file against the bundled table, at a time, for the fewest input tokens; ConfigError for a bad file."""
    try:
        file, bundled = PriceBook.load(path), PriceBook()
    except ValueError as error:
        raise ConfigError(str(error).replace("--prices:", "--compare:", 1)) from None
    models = (
        [*file.file.models()]
        if file.file is not None
        else [(provider or "unknown", model) for provider, model in file.user_models]
    )
    made = Comparison()
    found: list[Difference] = []
    for provider, model in sorted(models):
        theirs, ours = file.price(provider, model), bundled.price(provider, model)
        if theirs is None:
            continue
        if ours is None:
            made.only_in_file += 1
            continue
        rates, own = [next(_prices(price, at))[1] for price in (theirs, ours)]
        some = [
            Difference(provider, model, kind, own.get(kind), rates.get(kind))
            for kind in KINDS
            if rates.get(kind) != own.get(kind)
        ]
        found += some
        made.same += not some
    made.differences = tuple(found)
    return made


def differences(made: Comparison) -> Iterator[str]:
    """Tell of a comparison, a line for each difference."""
    yield (
        f"The same: {many(made.same, 'model')}. Different: {many(made.different, 'model')}. "
        f"Only in the file: {many(made.only_in_file, 'model')}."
    )
    if made.differences:
        yield "USD for a million tokens: bundled → file"
    for one in made.differences:
        change = (
            f" ({one.file / one.bundled - 1:+.0%})" if one.file is not None and one.bundled else ""
        )
        ours, theirs = [
            "as its whole" if amount is None else _plain(amount)
            for amount in (one.bundled, one.file)
        ]
        yield f"  {one.provider}  {one.model}  {one.kind}: {ours} → {theirs}{change}"


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--provider",
    default="unknown",
    show_default="any",
    metavar="NAME",
    help="Whose price it is, as a log would name it.",
)
@click.option("--log", multiple=True, metavar="PATH", help="Tell of every model in these logs.")
@click.option(
    "--unpriced", is_flag=True, help="Only what has no price, with what to write into a price file."
)
@click.option(
    "--compare", "compared", metavar="FILE", help="How a price file differs from the bundled table."
)
@click.option(
    "--at",
    metavar="TIME",
    help="Prices as they were then, such as 2026-01-31.  [default: of all times]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or one JSON document for programs.",
)
@click.pass_context
def prices(
    context: click.Context,
    models: tuple[str, ...],
    provider: str,
    log: tuple[str, ...],
    unpriced: bool,
    compared: str | None,
    at: str | None,
    form: str,
) -> None:
    """Tell what a model costs and by which rule of which table, what has no price, and what a price file changes.

    Your own prices are those of the options before the command: `ai-sidecar --prices FILE prices gpt-4o`. FILE may
    be LiteLLM's model_prices_and_context_window.json as it is.
    """
    from .report import moment

    config: Config
    config, _ = context.obj(context, needs_log_path=False)
    timestamp = moment("--at", at, UTC, time.time()) if at else None
    if compared is not None:
        made = compare(Path(compared), time.time() if timestamp is None else timestamp)
        if form == "json":
            click.echo(_json(_comparison_value(made)), nl=False)
        else:
            for line in differences(made):
                click.echo(line)
        return
    teller = Teller(config)
    shown = [teller.show(provider, model, timestamp) for model in models]
    shown += _of_logs(teller, config, log, timestamp)
    if unpriced:
        shown = [one for one in shown if one.rule is None]
    if form == "json":
        tables = [*teller.tables()]
        click.echo(_json({"tables": tables, "models": [as_value(one) for one in shown]}), nl=False)
        return
    if not models and not log:
        for line in teller.tables():
            click.echo(line)
        return
    for number, one in enumerate(shown):
        click.echo(("\n" if number and not unpriced else "") + as_text(one), nl=False)
    missing = [one for one in shown if one.rule is None]
    if missing:
        click.echo("\nPut what they cost, USD for a million tokens, into a file for --prices:")
        for model in dict.fromkeys([one.model for one in missing]):
            click.echo(f"[models.{orjson.dumps(model).decode()}]\ninput =\noutput =")
    elif unpriced:
        click.echo("All of them have a price.")


def _of_logs(
    teller: Teller, config: Config, paths: Sequence[str], at: float | None
) -> Iterator[Shown]:
    """Tell of each model that logs name, those with the most requests first."""
    if not paths:
        return
    from .logs import Reading

    reading = Reading(config, max_series=50_000)
    reading.read(paths, lambda text: click.echo(f"ai-sidecar: {text}", err=True))
    counts: dict[tuple[str, str], int] = {}
    for series in reading.store.series:
        if series.input_tokens or series.output_tokens:
            pair = series.labels[PROVIDER], series.labels[MODEL]
            counts[pair] = counts.get(pair, 0) + series.count
    for (provider, model), count in sorted(counts.items(), key=lambda one: -one[1]):
        yield teller.show(provider, model, at, count)


def _comparison_value(made: Comparison) -> dict[str, Any]:
    return {
        "same": made.same,
        "different": made.different,
        "only_in_file": made.only_in_file,
        "differences": [
            {
                "provider": one.provider,
                "model": one.model,
                "kind": one.kind,
                "bundled": None if one.bundled is None else orjson.Fragment(_plain(one.bundled)),
                "file": None if one.file is None else orjson.Fragment(_plain(one.file)),
            }
            for one in made.differences
        ],
    }


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()

"""`ai-sidecar report`: what logs tell of requests, errors, tokens, money and time, as a table."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any

import click
import orjson

from ..config import Config, ConfigError, labels_of
from ..metrics import PLACES
from ..periods import OUTSIDE, UNITS, UNKNOWN, Periods, Slices, zone_of
from ..prices import COST_TYPES, PriceBook
from ..series import EXTRA, MODEL, OTHER, PROVIDER, Series
from .logs import Reading, many

MAX_SERIES = 50_000
"""Distinct label combinations that are told apart; what comes after is under `_other`."""
_FIRST_BOUND_NS = 1_000_000
_GROWTH = 1.04
BOUNDS_NS = [int(_FIRST_BOUND_NS * _GROWTH**step) for step in range(386)]
"""Bounds of latencies, from a millisecond to an hour, each 4 % over the last: so exact is a quantile at the worst."""

NAMES = ("provider", "model", "endpoint", "status_code", "error_type", "finish_reason")
"""What every series can be told apart by."""
TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
_QUANTILES = (0.5, 0.95, 0.99)
_RELATIVE = re.compile(r"(\d{1,6})([mhdw])\Z")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}

Figures = dict[str, int | Decimal | float | None]
"""Name with its unit → figure; `None` where the log tells nothing of it."""


@dataclass(slots=True)
class Group:
    """All requests of one row."""

    key: tuple[str, ...]
    sums: Series = field(default_factory=lambda: Series(()))
    errors: int = 0
    saved: int = 0
    """Parts of a dollar that prompt caches have saved."""

    def add(self, series: Series, saved: int) -> None:
        """Count all that a series counted."""
        self.sums.absorb(series)
        self.errors += series.count if series.labels[PLACES["error_type"]] else 0
        self.saved += saved

    @property
    def cost(self) -> int:
        """Parts of a dollar."""
        return sum([getattr(self.sums, f"cost_{kind}") for kind in (*COST_TYPES, "total")])

    def figures(self) -> Figures:
        """Give every figure of the row."""
        sums = self.sums
        figures: Figures = {"requests": sums.count, "errors": self.errors}
        figures |= {name: getattr(sums, name) for name in TOKENS}
        figures["cost_usd"] = dollars(self.cost)
        figures["cache_savings_usd"] = dollars(self.saved)
        figures["unpriced_requests"] = sums.unpriced
        figures["client_cache_hits"] = sums.client_cache_hits
        for name, counts in (
            ("duration", sums.durations),
            ("time_to_first_token", sums.times_to_first_token),
        ):
            for q in _QUANTILES:
                figures[f"{name}_p{q * 100:.0f}_seconds"] = quantile(counts, q)
        return figures


@dataclass(slots=True)
class Report:
    """What is told: rows by what was asked for, all together, who spent most, and what has no price."""

    by: tuple[str, ...]
    rows: list[Group]
    total: Group
    spenders: list[tuple[dict[str, str], Group]]
    unpriced: list[tuple[str, str, int]]
    """Provider, model, requests."""
    lines: Mapping[str, int]
    files: int
    timeless: int = 0
    """Requests without a time, that belong to no window."""
    folded: int = 0
    """Requests under `_other`."""


def dollars(parts: int) -> Decimal:
    """Give parts of a dollar as dollars, exactly."""
    return Decimal(f"{parts}e-30")


def quantile(counts: Sequence[int] | None, q: float) -> float | None:
    """Give, in seconds, what a share `q` of latencies stayed under; `None` without any. Linear within its bucket."""
    if not counts:
        return None
    rank = q * sum(counts)
    before = 0
    for place, count in enumerate(counts):
        if count and before + count >= rank:
            if place == len(BOUNDS_NS):
                return BOUNDS_NS[-1] / 1e9
            low = BOUNDS_NS[place - 1] if place else 0
            return (low + (BOUNDS_NS[place] - low) * (rank - before) / count) / 1e9
        before += count
    return None


def make(
    config: Config,
    paths: Sequence[str],
    *,
    by: Sequence[str] = ("model",),
    since: float | None = None,
    until: float | None = None,
    zone: tzinfo = UTC,
    top: int = 5,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Read logs and count them; ConfigError for what cannot be asked."""
    units = [name for name in by if name in UNITS]
    if len(units) > 1:
        raise ConfigError(f"--by: expected one of {', '.join(UNITS)} at the most, got {units}")
    known = {
        **{name: PLACES[name] for name in NAMES},
        **{name: EXTRA + n for n, name in enumerate(config.extra_labels)},
    }
    time_place = EXTRA + len(config.extra_labels)
    for name in by:
        if name not in known and name not in UNITS:
            raise ConfigError(
                f"--by: expected {', '.join([*known, *UNITS])}, or NAME=PATH for a field of the record, got {name!r}"
            )
    slices = None
    if units or since is not None or until is not None:
        slices = Slices(Periods(units[0], zone) if units else None, since, until)
    reading = Reading(
        config,
        max_series=max(config.max_series, MAX_SERIES),
        slices=slices,
        duration_bounds_ns=BOUNDS_NS,
    )
    reading.read(paths, tell)
    places = [time_place if name in UNITS else known[name] for name in by]
    spender_labels = {
        name: known[name] for name in ("provider", "model", "endpoint", *config.extra_labels)
    }
    report = Report(tuple(by), [], Group(()), [], [], reading.health.lines, reading.files)
    groups: dict[tuple[str, ...], Group] = {}
    spenders: dict[tuple[str, ...], Group] = {}
    unpriced: dict[tuple[str, str], int] = {}
    for series in reading.store.series:
        labels = series.labels
        if slices is not None and labels[time_place] == OUTSIDE:
            continue
        has_window = since is not None or until is not None
        if slices is not None and has_window and labels[time_place] == UNKNOWN:
            report.timeless += series.count
            continue
        saved = _saved(series, reading.book)
        report.folded += series.count if labels[MODEL] == OTHER else 0
        key = tuple([labels[place] or "none" for place in places])
        spender = tuple([labels[place] for place in spender_labels.values()])
        groups.setdefault(key, Group(key)).add(series, saved)
        spenders.setdefault(spender, Group(spender)).add(series, saved)
        report.total.add(series, saved)
        if series.unpriced:
            pair = labels[PROVIDER], labels[MODEL]
            unpriced[pair] = unpriced.get(pair, 0) + series.unpriced
    is_history = bool(by) and by[0] in UNITS
    report.rows = sorted(
        groups.values(),
        key=lambda one: (() if is_history else (-one.cost, -one.sums.count), one.key),
    )
    costly = sorted(spenders.values(), key=lambda one: (-one.cost, one.key))
    report.spenders = [
        (dict(zip(spender_labels, one.key, strict=True)), one) for one in costly[:top] if one.cost
    ]
    report.unpriced = sorted(
        [(*pair, count) for pair, count in unpriced.items()], key=lambda one: -one[2]
    )
    return report


def _saved(series: Series, book: PriceBook) -> int:
    """Give what the prompt cache has saved: tokens read at less than the price of input, less what writing cost more.

    At the price of the time of the latest request, and of short prompts where long ones cost more.
    """
    if not series.cache_read_tokens and not series.cache_write_tokens:
        return 0
    price = book.price(series.labels[PROVIDER], series.labels[MODEL])
    if price is None:
        return 0
    (of_input, _, of_read, of_write, *_), _ = price.rates(series.last_request)
    saved = 0
    if of_read is not None:
        saved += series.cache_read_tokens * (of_input - of_read)
    if series.cost_cache_write:
        saved -= series.cost_cache_write - series.cache_write_tokens * of_input
    elif of_write is not None:
        saved -= series.cache_write_tokens * (of_write - of_input)
    return saved


def moment(option: str, text: str, zone: tzinfo, now: float) -> float:
    """Read a time as Unix seconds: ISO 8601, or so long before now (`7d`); ConfigError for what is none."""
    found = _RELATIVE.match(text)
    if found is not None:
        return now - int(found[1]) * _SECONDS[found[2]]
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{option}: expected a time such as 2026-01-31, 2026-01-31T12:00 or 7d, got {text!r}"
        ) from None
    return (read if read.tzinfo else read.replace(tzinfo=zone)).timestamp()


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "--by",
    multiple=True,
    default=("model",),
    show_default="model",
    metavar="NAME",
    help="What makes a row: provider, model, endpoint, status_code, error_type, hour, day, month, "
    "a --label, or NAME=PATH for a field of the record. More than one makes a row for each combination.",
)
@click.option(
    "--since",
    metavar="TIME",
    help="Requests from then on: 2026-01-31, 2026-01-31T12:00, or 7d for so long ago.",
)
@click.option("--until", metavar="TIME", help="Requests before then.")
@click.option(
    "--zone", default="UTC", show_default=True, help="Whose days, hours and times they are."
)
@click.option(
    "--top",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    metavar="N",
    help="How many top spenders to name.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "markdown"]),
    default="table",
    show_default=True,
    help="A table for people needs ai-sidecar[report].",
)
@click.pass_context
def report(
    context: click.Context,
    paths: tuple[str, ...],
    by: tuple[str, ...],
    since: str | None,
    until: str | None,
    zone: str,
    top: int,
    form: str,
) -> None:
    """Tell what logs cost, how long requests took and how they failed: files, directories, globs, or - for standard input.

    Rotated and gzipped logs are read too. The options of the main job stand before the command:
    `ai-sidecar --prices FILE --label team=metadata.team report /var/log/app --by team`.
    """
    config: Config
    config, _ = context.obj(context, needs_log_path=False)
    paths = paths or config.log_paths
    if not paths:
        raise ConfigError("report: expected a log, a directory, a glob or -, got nothing")
    if form == "table":
        _rich()
    own = dict([name.split("=", 1) for name in by if "=" in name])
    if own:
        config = replace(
            config,
            labels=labels_of(
                tuple([f"{name}={path}" for name, path in own.items()]), {"labels": config.labels}
            ),
        )
    try:
        place = zone_of(zone)
    except ValueError as error:
        raise ConfigError(f"--zone: {error}") from None
    now = time.time()
    made = make(
        config,
        paths,
        by=[name.partition("=")[0] for name in by],
        since=moment("--since", since, place, now) if since else None,
        until=moment("--until", until, place, now) if until else None,
        zone=place,
        top=top,
        tell=lambda text: click.echo(f"ai-sidecar: {text}", err=True),
    )
    if form == "table":
        _print_table(made)
        return
    click.echo({"json": as_json, "csv": as_csv, "markdown": as_markdown}[form](made), nl=False)


def _written(value: Any) -> Any:
    """Give a figure as JSON writes it, every digit of an amount."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value.normalize() + 0, "f"))
    return round(value, 6) if isinstance(value, float) else value


def as_json(made: Report) -> str:
    """Give all of a report as one JSON document."""

    def row(group: Group) -> dict[str, Any]:
        return {name: _written(value) for name, value in group.figures().items()}

    document = {
        "by": made.by,
        "rows": [{**dict(zip(made.by, one.key, strict=True)), **row(one)} for one in made.rows],
        "total": row(made.total),
        "top_spenders": [
            {**labels, "requests": one.sums.count, "cost_usd": _written(dollars(one.cost))}
            for labels, one in made.spenders
        ],
        "unpriced": [
            {"provider": provider, "model": model, "requests": count}
            for provider, model, count in made.unpriced
        ],
        "requests_without_time": made.timeless,
        "requests_under_other": made.folded,
        "files": made.files,
        "lines": dict(made.lines),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return format(value.normalize() + 0, "f")
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def as_csv(made: Report) -> str:
    """Give the rows as CSV with a header; no row for all together, which a sum over the column gives."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*made.by, *made.total.figures()])
    for one in made.rows:
        writer.writerow([*one.key, *[_plain(value) for value in one.figures().values()]])
    return out.getvalue()


def as_markdown(made: Report) -> str:
    """Give the rows, and all together, as a table of Markdown, and below it what has no price."""
    columns = [column for group in _COLUMNS for column in group if column.bar is None]
    head = [*made.by, *[column.title for column in columns]]
    lines = [head, [*["---"] * len(made.by), *["--:"] * len(columns)]]
    for one in (*made.rows, made.total):
        figures = one.figures()
        key = [_escaped(text) for text in one.key] or ["**all**", *[""] * (len(made.by) - 1)]
        lines.append([*key, *[column.text(figures) for column in columns]])
    text = "".join([f"| {' | '.join(cells)} |\n" for cells in lines])
    notes = "".join([f"\n{note}\n" for note in notes_of(made)])
    return text + notes + (f"\n```toml\n{pricing(made)}```\n" if made.unpriced else "")


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text)


def notes_of(made: Report) -> Iterator[str]:
    """Tell in sentences what the figures leave out."""
    if made.unpriced:
        requests = sum([count for _, _, count in made.unpriced])
        yield (
            f"No price is known for {many(len(made.unpriced), 'model')} ({many(requests, 'request')}), which the cost "
            "leaves out. Put what they cost, USD for a million tokens, into a file for --prices:"
        )
    if made.timeless:
        yield f"{many(made.timeless, 'request')} without a time left out, since a time was asked for."
    if made.folded:
        yield f"{many(made.folded, 'request')} under {OTHER}: there are too many label combinations to tell all apart."


def pricing(made: Report) -> str:
    """Give what to write into a price file for the models without a price: the amounts are the reader's to fill in."""
    return "".join(
        [
            f"[models.{orjson.dumps(model).decode()}]  # at {provider}\ninput =\noutput =\n"
            for model, provider in {model: provider for provider, model, _ in made.unpriced}.items()
        ]
    )


def _money(value: Any) -> str:
    """Write dollars: cents, or of less than ten of them two digits that say something."""
    amount = Decimal(value)
    if not amount or abs(amount) >= Decimal("0.1"):
        return f"{amount:,.2f}"
    return f"{amount:.2g}" if abs(amount) >= Decimal("0.0001") else f"{amount:.1e}"


def _seconds(value: Any) -> str:
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    figure: str
    write: Callable[[Any], str] = lambda value: f"{value:,}"
    bar: str | None = None
    """A bar for the share of this figure stands here."""

    def text(self, figures: Figures) -> str:
        return self.write(figures[self.figure])


_COLUMNS = (
    (
        _Column("requests", "requests"),
        _Column("errors", "errors"),
        _Column("cost $", "cost_usd", _money),
        _Column("", "cost_usd", bar="cost_usd"),
        _Column("saved $", "cache_savings_usd", _money),
    ),
    (
        _Column("input", "input_tokens"),
        _Column("cached", "cache_read_tokens"),
        _Column("cache writes", "cache_write_tokens"),
        _Column("output", "output_tokens"),
        _Column("reasoning", "reasoning_tokens"),
    ),
    (
        _Column("p50", "duration_p50_seconds", _seconds),
        _Column("p95", "duration_p95_seconds", _seconds),
        _Column("p99", "duration_p99_seconds", _seconds),
        _Column("TTFT p50", "time_to_first_token_p50_seconds", _seconds),
        _Column("TTFT p95", "time_to_first_token_p95_seconds", _seconds),
    ),
)
"""Columns that belong together: on a narrow terminal each of them is a table of its own."""
_BAR_CHARACTERS = 12
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(share: float, *, is_plain: bool = False) -> str:
    """Draw a share of 1 as a bar; `is_plain`: for terminals that know ASCII alone."""
    eighths = round(max(0.0, min(1.0, share)) * _BAR_CHARACTERS * 8)
    if is_plain:
        return "#" * round(eighths / 8)
    whole, rest = divmod(eighths, 8)
    return _EIGHTHS[8] * whole + (_EIGHTHS[rest] if rest else "")


def _rich() -> Any:
    try:
        import rich.console
        import rich.table
        import rich.text
    except ImportError:
        raise ConfigError(
            "report: expected the package rich for a table: install it with pip install 'ai-sidecar[report]', "
            "or ask for --format json, csv or markdown"
        ) from None
    return rich


def _print_table(made: Report) -> None:
    rich = _rich()
    console = rich.console.Console(highlight=False, emoji=False, markup=False)
    if not made.total.sums.count:
        lines = ", ".join([f"{count} {result}" for result, count in made.lines.items() if count])
        console.print(
            f"No finished request in {many(made.files, 'file')} (lines: {lines or 'none'}); "
            "ai-sidecar check FILE tells of each line why."
        )
    for table in tables(made, console.width, is_plain=not _can_draw(console.encoding)):
        console.print(table)
        console.print()
    if made.spenders:
        console.print("Top spenders")
        spenders = rich.table.Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        spenders.add_column(justify="right", no_wrap=True)
        spenders.add_column(justify="right", no_wrap=True)
        spenders.add_column(overflow="fold")
        whole = made.total.cost or 1
        for labels, one in made.spenders:
            spenders.add_row(
                rich.text.Text(f"${_money(dollars(one.cost))}"),
                rich.text.Text(f"{one.cost / whole:.0%}"),
                rich.text.Text(" ".join(labels.values())),
            )
        console.print(spenders)
        console.print()
    for note in notes_of(made):
        console.print(note)
    if made.unpriced:
        console.print(pricing(made), end="")


def _can_draw(encoding: str) -> bool:
    try:
        _EIGHTHS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def tables(made: Report, width: int, *, is_plain: bool = False) -> list[Any]:
    """Make tables of rich that fit into so many characters: one, or one for each group of columns."""
    rich = _rich()
    rows = [(one.key, one.figures()) for one in made.rows]
    if not rows:
        return []
    rows.append((("all", *[""] * (len(made.by) - 1)), made.total.figures()))
    greatest = {
        column.bar: max([float(figures[column.bar] or 0) for _, figures in rows[:-1]]) or 1.0
        for group in _COLUMNS
        for column in group
        if column.bar
    }

    def cell(column: _Column, figures: Figures, is_total: bool) -> str:
        if column.bar is None:
            return column.text(figures)
        return (
            ""
            if is_total
            else bar(float(figures[column.bar] or 0) / greatest[column.bar], is_plain=is_plain)
        )

    written = [
        [
            [
                cell(column, figures, place == len(made.rows))
                for place, (_, figures) in enumerate(rows)
            ]
            for column in group
        ]
        for group in _COLUMNS
    ]
    gap = 2
    keys = [max([len(name), *[len(key[n]) for key, _ in rows]]) for n, name in enumerate(made.by)]
    widths = [
        sum(
            [
                max(_BAR_CHARACTERS if column.bar else 0, len(column.title), *map(len, texts)) + gap
                for column, texts in zip(group, columns, strict=True)
            ]
        )
        for group, columns in zip(_COLUMNS, written, strict=True)
    ]
    least = sum([min(length, 24) for length in keys]) + gap * len(keys)
    sheets: list[list[int]] = [[0]]
    for place in range(1, len(_COLUMNS)):
        taken = least + sum([widths[one] for one in sheets[-1]])
        if taken + widths[place] <= width:
            sheets[-1].append(place)
        else:
            sheets.append([place])
    out = []
    for sheet in sheets:
        left = width - sum([widths[place] for place in sheet])
        table = rich.table.Table(
            box=None,
            padding=(0, gap, 0, 0),
            collapse_padding=True,
            header_style="bold",
            pad_edge=False,
        )
        for n, name in enumerate(made.by):
            room = max(6, left // len(keys) - gap)
            table.add_column(
                name, no_wrap=True, overflow="ellipsis", max_width=min(keys[n], room), footer=""
            )
        for place in sheet:
            for column in _COLUMNS[place]:
                table.add_column(
                    column.title,
                    justify="left" if column.bar else "right",
                    no_wrap=True,
                    overflow="ellipsis",
                    min_width=_BAR_CHARACTERS if column.bar else None,
                    style="cyan" if column.bar else None,
                )
        for number, (key, _) in enumerate(rows):
            cells = [texts[number] for place in sheet for texts in written[place]]
            table.add_row(
                *[rich.text.Text(text) for text in (*key, *cells)],
                style="bold" if number == len(rows) - 1 else None,
            )
        out.append(table)
    return out

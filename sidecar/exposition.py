"""Series → page, as Prometheus text and as OpenMetrics.

Each row of a family keeps its finished label text, and its lines until one of its series changes. The page is,
line for line, what prometheus_client makes of the same figures. It stands for one moment: that of the call.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from itertools import accumulate
from operator import add, attrgetter
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from .budgets import Budgets
from .metrics import PLACES, BudgetCollector, Family, Health, HealthCollector, Meter
from .series import COST_REST, EXTRA, Exemplars, Labels, Series, Store

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

REMEMBERED_SCRAPERS = 16

_TRACE_ID = re.compile(r"[!#-\[\]-~]+\Z")
"""Printable, and no quote or backslash: some readers of exemplars do not know escapes, and no tracer writes them."""

_GO_EXPONENT = 1_000_000
"""From here on Go writes a float with an exponent, and so does prometheus_client."""


class Exposition:
    """Makes pages of a store; each scraper is shown what is new as 0 first."""

    def __init__(
        self,
        store: Store,
        meter: Meter,
        health: Health,
        *,
        zero_first: bool = True,
        budgets: Budgets | None = None,
    ) -> None:
        self._store = store
        self._zero_first = zero_first
        self._families = meter.families
        self._page_number = 0
        self._scrapers: OrderedDict[str, int] = OrderedDict()
        """Address → number of the last page it got, the latest last."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(HealthCollector(health, store))
        if budgets is not None:
            self._registry.register(BudgetCollector(budgets))
        ProcessCollector(registry=self._registry)
        self._forget_rows()

    def page(self, accept: str, scraper: str | None) -> tuple[bytes, str]:
        """Give the page and its content type; `scraper` is the address that asks, `None` for no scraper.

        A label set that is new since the scraper's last page is shown as 0, for `increase()` never sees what
        a series held when it was born. A scraper's first page of all, and that of none, shows values as they are.
        """
        is_openmetrics = wants_openmetrics(accept)
        self._take_in()
        self._page_number += 1
        seen = self._page_number
        if scraper is not None and self._zero_first:
            seen = self._scrapers.pop(scraper, seen)
            self._scrapers[scraper] = self._page_number
            if len(self._scrapers) > REMEMBERED_SCRAPERS:
                self._scrapers.popitem(last=False)
        out: list[bytes] = []
        for rows in self._rows:
            rows.write(out, seen, is_openmetrics)
        if is_openmetrics:
            out.append(generate_openmetrics(self._registry))  # type: ignore[no-untyped-call] # it has no types
            return b"".join(out), OPENMETRICS
        out.append(generate_latest(self._registry))
        return b"".join(out), TEXT

    @property
    def row_count(self) -> int:
        """How many rows there are: it changes when somebody has been shown a new one."""
        return sum([len(rows.rows) for rows in self._rows])

    def dump(self) -> dict[str, Any]:
        """Give, as JSON values, who has seen what: with it, a new process shows no row as 0 to who saw its value."""
        self._take_in()
        oldest = min(self._scrapers.values(), default=self._page_number)
        return {
            "page_number": self._page_number,
            "scrapers": list(self._scrapers.items()),
            "births": [
                (rows.family.name, row.key, row.birth)
                for rows in self._rows
                for row in reversed(rows.rows)
                if row.birth > oldest
            ],
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take over what was dumped, after the store has taken over its series; ValueError where it does not fit."""
        try:
            page_number = int(dumped["page_number"])
            scrapers = OrderedDict(
                (str(address), int(seen)) for address, seen in dumped["scrapers"]
            )
            births = {(str(name), tuple(key)): int(birth) for name, key, birth in dumped["births"]}
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"expected what scrapers have seen, got something else: {type(error).__name__}"
            ) from None
        self._page_number, self._scrapers = page_number, scrapers
        self._forget_rows()
        self._take_in()
        for rows in self._rows:
            for row in rows.rows:
                row.birth = births.get((rows.family.name, row.key), 0)
            rows.rows.sort(key=attrgetter("birth"))

    def _forget_rows(self) -> None:
        self._rows = [_Rows(family, self._store.extra_labels) for family in self._families]
        self._series = self._store.series
        self._counts: list[int] = []
        """Of each series, how many requests it had when its rows were looked at last."""
        self._rows_of: list[list[_Row]] = []
        self._wanted: list[list[_Want]] = []
        """Of each series, the rows that it may yet come to belong to."""

    def _take_in(self) -> None:
        """Find the rows of new series, and those that have changed since they were written."""
        if self._series is not self._store.series:
            self._forget_rows()
        birth = self._page_number + 1
        counts, rows_of, wanted = self._counts, self._rows_of, self._wanted
        for series in self._series[len(counts) :]:
            counts.append(-1)
            rows_of.append([])
            wanted.append([want for rows in self._rows for want in rows.wants(series)])
        for place, series in enumerate(self._series):
            if series.count == counts[place]:
                continue
            counts[place] = series.count
            for row in rows_of[place]:
                row.text = None
            still_wanted = [want for want in wanted[place] if not getattr(series, want.probe)]
            if len(still_wanted) == len(wanted[place]):
                continue
            escaped = tuple([_escaped(value) for value in series.labels])
            for want in wanted[place]:
                if want not in still_wanted:
                    rows_of[place].append(want.rows.put(series, escaped, want, birth))
            wanted[place] = still_wanted


def wants_openmetrics(accept: str) -> bool:
    """Choose as prometheus_client does: the first of the two kinds that is named; without one, the text format."""
    for part in accept.split(","):
        kind, *parameters = [one.strip() for one in part.split(";")]
        if kind not in ("application/openmetrics-text", "text/plain"):
            continue
        version = dict([one.partition("=")[::2] for one in parameters]).get("version", "")
        major = version.partition(".")[0]
        is_known = major.isascii() and major.isdecimal() and int(major[:9]) >= 1
        if kind == "application/openmetrics-text" and (is_known or not version):
            return True
        if kind == "text/plain" and is_known:
            return False
    return False


class _Row:
    """One label set of a family: its finished text but for the figures, and the series that it adds up."""

    __slots__ = ("birth", "field", "is_large", "key", "series", "template", "text")

    def __init__(self, key: Labels, field: str, template: bytes, birth: int) -> None:
        self.key = key
        self.field = field
        self.template = template
        self.is_large = False
        """Of a histogram: its counts are written with exponents."""
        self.birth = birth
        """The number of the first page it could be on."""
        self.series: list[Series] = []
        self.text: bytes | None = None
        """The lines last made, until a series changes."""


class _Want(NamedTuple):
    """A row that a series is to belong to as soon as there is something to show."""

    rows: _Rows
    probe: str
    """The attribute of the series that is not 0 and not `None` then."""
    field: str
    value: str
    """Of a family that is split: the value of the label that splits it."""


class _Rows:
    """A family and its rows, in the order of their birth."""

    def __init__(self, family: Family, extra_labels: tuple[str, ...]) -> None:
        self.family = family
        self.rows: list[_Row] = []
        self._by_key: dict[Labels, _Row] = {}
        self._is_openmetrics = False
        """The format that the kept lines are in; only exemplars make it matter."""
        split = family.split or ("", (("", family.field),))
        self._wants = [
            _Want(self, _probe(family, field), field, value) for value, field in split[1]
        ]
        self._places = (
            *[PLACES[name] for name in family.labels],
            *range(EXTRA, EXTRA + len(extra_labels)),
        )
        names = [*family.labels, *extra_labels, *([split[0]] if family.split else [])]
        self._order = sorted(range(len(names)), key=names.__getitem__)
        self._pattern = _pattern(family, names, "%%d.0" if family.buckets else "%%b")
        self._large_pattern = _pattern(family, names, "%%b")
        self._line_count = self._pattern.count("\n")
        documentation = family.help.replace("\\", r"\\").replace("\n", r"\n")
        total = "_total" if family.type == "counter" else ""
        self._text_head = f"# HELP {family.name}{total} {documentation}\n# TYPE {family.name}{total} {family.type}\n".encode()
        documentation = documentation.replace('"', r"\"")
        self._openmetrics_head = (
            f"# HELP {family.name} {documentation}\n# TYPE {family.name} {family.type}\n".encode()
        )

    def wants(self, series: Series) -> list[_Want]:
        """Give the rows that a new series may come to belong to."""
        only_with = self.family.only_with
        return [] if only_with and not series.labels[PLACES[only_with]] else self._wants

    def put(self, series: Series, escaped: Labels, want: _Want, birth: int) -> _Row:
        """Add a series to its row, which is made where it is not there."""
        key = tuple([escaped[place] for place in self._places])
        if self.family.split:
            key += (want.value,)
        row = self._by_key.get(key)
        if row is None:
            row = self._by_key[key] = _Row(
                key, want.field, self._template(self._pattern, key), birth
            )
            self.rows.append(row)
        row.series.append(series)
        row.text = None
        return row

    def write(self, out: list[bytes], seen: int, is_openmetrics: bool) -> None:
        """Write HELP, TYPE and the rows; those born after the page that was `seen` as 0."""
        family = self.family
        out.append(self._openmetrics_head if is_openmetrics else self._text_head)
        rows = self.rows
        if family.exemplars and is_openmetrics != self._is_openmetrics:
            self._is_openmetrics = is_openmetrics
            for row in rows:
                row.text = None
        first_new = len(rows)
        if family.type != "gauge":
            while first_new and rows[first_new - 1].birth > seen:
                first_new -= 1
        old = rows if first_new == len(rows) else rows[:first_new]
        make = self._histogram if family.buckets else _LINES[family.combine]
        out += [row.text or make(row, family) for row in old]
        out += [self._zero(row) for row in rows[first_new:]]

    def _template(self, pattern: str, key: Labels) -> bytes:
        values = tuple([key[place].replace("%", "%%") for place in self._order])
        return (pattern % (values * self._line_count)).encode()

    def _histogram(self, row: _Row, family: Family) -> bytes:
        """Make the lines of a histogram: buckets, count, sum."""
        series = row.series
        sums: list[int] = getattr(series[0], family.counts)
        total = getattr(series[0], family.field)
        for one in series[1:]:
            sums = list(map(add, sums, getattr(one, family.counts)))
            total += getattr(one, family.field)
        so_far = list(accumulate(sums))
        count = so_far[-1]
        figures: list[int | bytes] = [*so_far, count]
        if count >= _GO_EXPONENT:
            if not row.is_large:
                row.template = self._template(self._large_pattern, row.key)
                row.is_large = True
            figures = [_whole(one) for one in (*so_far, count)]
        text = row.template % (*figures, _number(total / family.scale))
        if self._is_openmetrics:
            text = self._with_exemplars(text, series)
        row.text = text
        return text

    def _with_exemplars(self, text: bytes, series: list[Series]) -> bytes:
        """Add to each bucket the latest trace that fell there."""
        latest: Exemplars = {}
        for one in series:
            for bucket, exemplar in (getattr(one, self.family.exemplars) or {}).items():
                known = latest.get(bucket)
                if known is None or (exemplar[2] or 0) >= (known[2] or 0):
                    latest[bucket] = exemplar
        if not latest:
            return text
        lines = text.split(b"\n")
        for bucket, (trace_id, value, timestamp) in latest.items():
            if _TRACE_ID.match(trace_id):
                at = "" if timestamp is None else f" {timestamp}"
                lines[bucket] += b' # {trace_id="%b"} %b%b' % (
                    trace_id.encode(),
                    _number(value / self.family.scale),
                    at.encode(),
                )
        return b"\n".join(lines)

    def _zero(self, row: _Row) -> bytes:
        if not self.family.buckets:
            return row.template % b"0.0"
        zero = b"0.0" if row.is_large else 0
        return row.template % (*[zero] * (self._line_count - 1), b"0.0")


def _probe(family: Family, field: str) -> str:
    """Give the attribute that tells whether a series has something to show."""
    if family.from_start or family.only_with:
        return "count"
    # a gauge may well be 0, but its order starts at 1
    return family.counts or (f"{field}_order" if family.combine == "latest" else field)


def _pattern(family: Family, names: list[str], figure: str) -> str:
    """Give the lines of a row, with a `%s` for each label value, and a figure for each value but the sum."""

    def labels(bound: str | None = None) -> str:
        pairs = [(name, f'{name}="%s"') for name in names]
        if bound is not None:
            pairs.append(("le", f'le="{bound}"'))
        return ",".join([pair for _, pair in sorted(pairs)])

    if not family.buckets:
        total = "_total" if family.type == "counter" else ""
        return f"{family.name}{total}{{{labels()}}} {figure}\n"
    bounds = [*[_number(bound).decode() for bound in family.buckets], "+Inf"]
    lines = [f"{family.name}_bucket{{{labels(bound)}}} {figure}\n" for bound in bounds]
    return "".join(
        [
            *lines,
            f"{family.name}_count{{{labels()}}} {figure}\n{family.name}_sum{{{labels()}}} %%b\n",
        ]
    )


def _sum(row: _Row, family: Family) -> bytes:
    field = row.field
    series = row.series
    total = getattr(series[0], field)
    for one in series[1:]:
        total += getattr(one, field)
    if family.scale == 1:
        text = row.template % _whole(total)
    else:
        scale = family.scale
        if field == "cost_total" and (rest := sum([one.cost_rest for one in series])):
            total, scale = total * COST_REST + rest, scale * COST_REST
        # one division of whole numbers: rounded once, to the nearest
        text = row.template % _number(total / scale)
    row.text = text
    return text


def _max(row: _Row, _: Family) -> bytes:
    row.text = text = row.template % _number(max([getattr(one, row.field) for one in row.series]))
    return text


def _latest(row: _Row, _: Family) -> bytes:
    latest = max(row.series, key=attrgetter(f"{row.field}_order"))
    row.text = text = row.template % _whole(getattr(latest, row.field))
    return text


_LINES: dict[str, Callable[[_Row, Family], bytes]] = {"sum": _sum, "max": _max, "latest": _latest}


def _whole(number: int) -> bytes:
    return b"%d.0" % number if number < _GO_EXPONENT else _number(number)


def _number(value: float) -> bytes:
    """Write a number that is not negative as prometheus_client does, which is nearly as Go does."""
    text = repr(float(value))
    point = text.find(".")
    if point > 6:
        rest = (text[1:point] + text[point + 1 :]).rstrip("0")
        text = f"{text[0]}{'.' if rest else ''}{rest}e+{point - 1:02d}"
    return text.encode()


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

"""Series → page, as Prometheus text and as OpenMetrics.

Each row of a family keeps its finished label text, and its lines until one of its series changes. The page is,
line for line, what prometheus_client makes of the same figures. It stands for one moment: that of the call.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, takewhile
from operator import add, attrgetter
from typing import Any, NamedTuple

import orjson

from .budgets import Budgets
from .metrics import (
    PLACES,
    BudgetCollector,
    Family,
    Health,
    HealthCollector,
    Meter,
    OwnFamily,
    told,
)
from .process import ProcessCollector
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
        begins_at_zero: bool = False,
        budgets: Budgets | None = None,
    ) -> None:
        """With `begins_at_zero` a scraper's first page of all shows as 0 what no state has brought."""
        self._store = store
        self._zero_first = zero_first
        self._tells_changes = False
        self._families = meter.families
        self._begins_at_zero = begins_at_zero
        self.page_number = 0
        """How many pages there were."""
        self._owed: set[str] = set()
        """Who was shown something as 0 on the last page."""
        self._scrapers: OrderedDict[str, int] = OrderedDict()
        """Address → number of the last page it got, the latest last."""
        self._collect_own: list[Callable[[], Iterable[OwnFamily]]] = [
            HealthCollector(health, store).collect,
            *([BudgetCollector(budgets).collect] if budgets is not None else []),
            ProcessCollector().collect,
        ]
        self._forget_rows()

    def page(self, accept: str, scraper: str | None) -> tuple[bytes, str]:
        """Give the page and its content type; `scraper` is the address that asks, `None` for no scraper."""
        parts, content_type = self.parts(accept, scraper)
        return b"".join(parts), content_type

    def parts(self, accept: str, scraper: str | None) -> tuple[list[bytes], str]:
        """Give the page in many parts, and its content type: most are kept anyway, and in one piece they were there twice.

        A label set that is new since the scraper's last page is shown as 0, for `increase()` never sees what
        a series held when it was born. A scraper's first page of all, and that of none, shows values as they are.
        """
        is_openmetrics = wants_openmetrics(accept)
        self._take_in()
        self.page_number += 1
        seen = self.page_number
        if scraper is not None:
            last = self._scrapers.pop(scraper, 0 if self._begins_at_zero else seen)
            seen = last if self._zero_first else seen
            self._remember(scraper, self.page_number)
            self._owed.discard(scraper)
            if any(rows.has_new(seen) for rows in self._rows):
                self._owed.add(scraper)
        for rows in self._rows:
            self._changed += rows.switch(is_openmetrics)
        self._make_changed()
        out: list[bytes] = []
        for rows in self._rows:
            rows.write(out, seen, is_openmetrics)
        for collect in self._collect_own:
            out += [write_own(family, is_openmetrics) for family in collect()]
        if is_openmetrics:
            out.append(b"# EOF\n")
        return out, OPENMETRICS if is_openmetrics else TEXT

    def _make_changed(self) -> list[_Row]:
        """Make the rows that have changed, and give them."""
        made = [*self._changed]
        self._changed.clear()
        # in the order of the series: what a series has is near when its next row is made
        for row in made:
            row.is_stale = False
            row.want.rows.make(row)
        return made

    def meet(self, scraper: str | None) -> None:
        """Take note of a scraper before its first page, so that a process after us knows what it may have seen."""
        if scraper is None or not self._zero_first or scraper in self._scrapers:
            return
        self._take_in()
        self.page_number += 1
        self._remember(scraper, 0 if self._begins_at_zero else self.page_number)

    def forget_scrapers(self) -> None:
        """Show values as they are, for it is not known any more who has seen which of them."""
        self._scrapers.clear()

    def has_told_all_since(self, page_number: int) -> bool:
        """Tell whether each scraper has had a page after that one, with the value of every row, and there is one."""
        return bool(self._scrapers) and all(
            number > page_number and scraper not in self._owed
            for scraper, number in self._scrapers.items()
        )

    @property
    def shown(self) -> object:
        """What must be saved before the next page: it changes when there are new rows, and when somebody has got them."""
        self._take_in()
        youngest = max([rows.rows[-1].birth for rows in self._rows if rows.rows], default=0)
        return (
            sum([len(rows.rows) for rows in self._rows]),
            {scraper for scraper, seen in self._scrapers.items() if seen >= youngest},
        )

    @property
    def heads(self) -> list[bytes]:
        """HELP and TYPE of each family in OpenMetrics, in their order."""
        return [rows.openmetrics_head for rows in self._rows]

    def changes(self) -> Iterator[tuple[int, object, bytes]]:
        """Give the rows that are new or have changed since the last call: place of the family, row, figures.

        These are what stands behind the labels in OpenMetrics, a line for each sample.
        """
        if not self._tells_changes:
            self._tells_changes = True
            self._forget_rows()
        self._take_in()
        for rows in self._rows:
            self._changed += rows.switch(is_openmetrics=True)
        places = {id(rows): place for place, rows in enumerate(self._rows)}
        for row in self._make_changed():
            yield places[id(row.want.rows)], row, row.want.rows.figures(row)

    def born(self, place: int, row: object) -> tuple[list[bytes], bytes]:
        """Give what stands before the figures of a row that `changes` gave, and its figures with nothing counted."""
        assert isinstance(row, _Row)  # noqa: S101 - it is one of ours
        rows = self._rows[place]
        starts, zeros = rows.zeros(row)
        return starts, b"".join([zero + b"\n" for zero in zeros])

    def dump(self) -> dict[str, Any]:
        """Give, as JSON values, who has seen what: with it, a new process shows no row as 0 to who saw its value."""
        self._take_in()
        oldest = min(self._scrapers.values(), default=self.page_number)
        return {
            "page_number": self.page_number,
            "scrapers": list(self._scrapers.items()),
            "births": [
                (rows.family.name, row.key, row.birth)
                for rows in self._rows
                # the youngest are the last
                for row in takewhile(lambda row: row.birth > oldest, reversed(rows.rows))
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
        self.page_number, self._scrapers = page_number, scrapers
        self._forget_rows()
        self._take_in()
        for rows in self._rows:
            for row in rows.rows:
                row.birth = births.get((rows.family.name, row.key), 0)
            rows.rows.sort(key=attrgetter("birth"))

    def _remember(self, scraper: str, page_number: int) -> None:
        self._scrapers[scraper] = page_number
        if len(self._scrapers) > REMEMBERED_SCRAPERS:
            self._owed.discard(self._scrapers.popitem(last=False)[0])

    def _forget_rows(self) -> None:
        self._rows = [_Rows(family, self._store.extra_labels) for family in self._families]
        self._series = self._store.series
        self._counts: list[int] = []
        """Of each series, how many requests it had when its rows were looked at last."""
        self._rows_of: list[list[_Row]] = []
        self._changed: list[_Row] = []
        """Rows whose lines are to be made before the next page."""
        self._wanted: list[_Wanted] = []
        """Of each series, the rows that it may yet come to belong to."""
        self._wanted_by_wants: dict[tuple[_Want, ...], _Wanted] = {}

    def _take_in(self) -> None:
        """Find the rows of new series, and those that have changed since they were written."""
        if self._series is not self._store.series:
            self._forget_rows()
        birth = self.page_number + 1
        counts, rows_of, wanted = self._counts, self._rows_of, self._wanted
        changed = self._changed
        for series in self._series[len(counts) :]:
            counts.append(-1)
            rows_of.append([])
            wanted.append(
                self._all_of([want for rows in self._rows for want in rows.wants(series)])
            )
        for place, series in enumerate(self._series):
            if series.count == counts[place]:
                continue
            counts[place] = series.count
            for row in rows_of[place]:
                if not row.is_stale:
                    row.is_stale = True
                    changed.append(row)
            if not any(wanted[place].probe(series)):
                continue
            labels = (*series.labels, *told(self._store, series.labels))
            escaped = tuple([escape(value) for value in labels])
            shared: dict[Any, Any] = {}
            still_wanted = []
            for want in wanted[place].wants:
                if getattr(series, want.probe):
                    row = want.rows.put(series, escaped, want, birth, shared)
                    rows_of[place].append(row)
                    if not row.is_stale:
                        row.is_stale = True
                        changed.append(row)
                else:
                    still_wanted.append(want)
            wanted[place] = self._all_of(still_wanted)

    def _all_of(self, wants: list[_Want]) -> _Wanted:
        """Give the same value for the same wants: there are few kinds of series."""
        key = tuple(wants)
        found = self._wanted_by_wants.get(key)
        if found is None:
            probes = [want.probe for want in wants]
            # of two names or more, attrgetter gives a tuple
            probe = attrgetter(*probes, probes[0]) if probes else _nothing
            found = self._wanted_by_wants[key] = _Wanted(key, probe)
        return found


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


def write_own(family: OwnFamily, is_openmetrics: bool) -> bytes:
    """Write a family that is made anew for each page."""
    out = [_head(family.name, family.documentation, family.type, is_openmetrics=is_openmetrics)]
    for name, labels, value in family.samples:
        text = ",".join([f'{label}="{escape(labels[label])}"' for label in sorted(labels)])
        figure = _number(value) if 0 <= value < float("inf") else _rare_number(value)
        out.append(f"{name}{{{text}}} ".encode() if text else f"{name} ".encode())
        out.append(figure + b"\n")
    return b"".join(out)


def _head(name: str, documentation: str, kind: str, *, is_openmetrics: bool) -> bytes:
    """Write HELP and TYPE; in the text format a counter has its whole name there."""
    documentation = documentation.replace("\\", r"\\").replace("\n", r"\n")
    if is_openmetrics:
        documentation = documentation.replace('"', r"\"")
    elif kind == "counter":
        name += "_total"
    return f"# HELP {name} {documentation}\n# TYPE {name} {kind}\n".encode()


class _Row:
    """One label set of a family: its finished label text, and the series that it adds up."""

    __slots__ = ("birth", "is_stale", "key", "series", "text", "want")

    def __init__(self, key: Labels, want: _Want, birth: int, series: tuple[Series]) -> None:
        self.key = key
        self.want = want
        self.birth = birth
        """The number of the first page it could be on."""
        self.series: Sequence[Series] = series
        """A list where there are several."""
        self.text = b""
        """The lines last made."""
        self.is_stale = False
        """A series has changed since then: they are to be made again before the next page."""


class _LineRow(_Row):
    """A row of one line, which begins with all that stands before the figure."""

    __slots__ = ("width",)

    def __init__(
        self, key: Labels, want: _Want, birth: int, series: tuple[Series], before: bytes
    ) -> None:
        super().__init__(key, want, birth, series)
        self.text = before + b"0.0\n"
        self.width = len(before)

    @property
    def before(self) -> bytes:
        return self.text[: self.width]


class _HistogramRow(_Row):
    __slots__ = ("after", "before")

    def __init__(
        self,
        key: Labels,
        want: _Want,
        birth: int,
        series: tuple[Series],
        before: bytes,
        after: bytes,
    ) -> None:
        super().__init__(key, want, birth, series)
        self.before = before
        """The labels that come before `le`, each `%` twice: they become part of a pattern."""
        self.after = after
        """The labels that come after it."""


class _Want:
    """A row that a series is to belong to as soon as there is something to show; as many as there are values of a split."""

    __slots__ = ("counts", "field", "figure", "probe", "rows", "value")

    def __init__(self, rows: _Rows, field: str, value: str) -> None:
        family = rows.family
        self.rows = rows
        self.field = field
        self.value = value
        """Of a family that is split: the value of the label that splits it."""
        self.probe = _probe(family, field)
        """The attribute of the series that is not 0 and not `None` then."""
        self.figure: Callable[[Series], Any] = attrgetter(field)
        self.counts: Callable[[Series], list[int]] = attrgetter(
            family.counts.format(field) or field
        )
        """Of a histogram."""


class _Wanted(NamedTuple):
    """Some wants, and what gives the values of all their probes at once."""

    wants: tuple[_Want, ...]
    probe: Callable[[Series], Iterable[Any]]


class _Rows:
    """A family and its rows, in the order of their birth."""

    def __init__(self, family: Family, extra_labels: tuple[str, ...]) -> None:
        self.family = family
        self.rows: list[_Row] = []
        self._by_key: dict[Labels, _Row] = {}
        self._is_openmetrics = False
        """The format that the kept lines are in; only exemplars make it matter."""
        split = family.split or ("", (("", family.field),))
        self._wants = [_Want(self, field, value) for value, field in split[1]]
        self._places = (
            *[PLACES[name] for name in family.labels],
            *range(EXTRA, EXTRA + len(extra_labels)),
        )
        names = [*family.labels, *extra_labels, *([split[0]] if family.split else [])]
        order = sorted(range(len(names)), key=names.__getitem__)
        self._before = [
            (place, f'{names[place]}="')
            for place in order
            if not family.buckets or names[place] < "le"
        ]
        self._after = [
            (place, f'{names[place]}="')
            for place in order
            if family.buckets and names[place] > "le"
        ]
        self._bounds = [round(bound * family.scale) for bound in family.buckets]
        self._lines = self._large_lines = b""
        self._zeros = (*[0] * (len(family.buckets) + 2), b"0.0")
        if family.buckets:
            self._lines = self._pattern(b"%d.0")
            self._large_lines = self._pattern(b"%b")
            self.make: Callable[[Any], None] = self._make_histogram
        elif family.combine != "sum":
            self.make = _make_max if family.combine == "max" else _make_latest
        else:
            self.make = _make_sum if family.scale == 1 else self._make_scaled_sum
        self._name = family.name + ("_total" if family.type == "counter" else "")
        self._text_head = _head(family.name, family.help, family.type, is_openmetrics=False)
        self.openmetrics_head = _head(family.name, family.help, family.type, is_openmetrics=True)

    def wants(self, series: Series) -> list[_Want]:
        """Give the rows that a new series may come to belong to."""
        only_with = self.family.only_with
        return [] if only_with and not series.labels[PLACES[only_with]] else self._wants

    def put(
        self, series: Series, escaped: Labels, want: _Want, birth: int, shared: dict[Any, Any]
    ) -> _Row:
        """Add a series to its row, which is made where it is not there.

        What the rows of one series have in common is kept once: `shared` is where they find it.
        """
        key = tuple([escaped[place] for place in self._places])
        if self.family.split:
            key += (want.value,)
        row = self._by_key.get(key)
        if row is not None:
            if isinstance(row.series, list):
                row.series.append(series)
            else:
                row.series = [*row.series, series]
            return row
        key = shared.setdefault(key, key)
        alone = shared.setdefault(None, (series,))
        before = ",".join([f'{name}{key[place]}"' for place, name in self._before]).encode()
        if self.family.buckets:
            after = ",".join([f'{name}{key[place]}"' for place, name in self._after]).encode()
            before, after = before.replace(b"%", b"%%"), after.replace(b"%", b"%%")
            before, after = shared.setdefault(before, before), shared.setdefault(after, after)
            row = _HistogramRow(key, want, birth, alone, before, after)
        else:
            before = b"%b{%b} " % (self._name.encode(), before)
            row = _LineRow(key, want, birth, alone, before)
        self._by_key[key] = row
        self.rows.append(row)
        return row

    def has_new(self, seen: int) -> bool:
        """Tell whether a row is shown as 0 to who last saw that page."""
        return bool(self.rows) and self.family.type != "gauge" and self.rows[-1].birth > seen

    def switch(self, is_openmetrics: bool) -> list[_Row]:
        """Write in this format from now on; give the rows that are to be made again for it."""
        if not self.family.exemplars or is_openmetrics == self._is_openmetrics:
            return []
        self._is_openmetrics = is_openmetrics
        again = [row for row in self.rows if not row.is_stale]
        for row in again:
            row.is_stale = True
        return again

    def write(self, out: list[bytes], seen: int, is_openmetrics: bool) -> None:
        """Write HELP, TYPE and the rows; those born after the page that was `seen` as 0."""
        family = self.family
        out.append(self.openmetrics_head if is_openmetrics else self._text_head)
        rows = self.rows
        first_new = len(rows)
        if family.type != "gauge":
            while first_new and rows[first_new - 1].birth > seen:
                first_new -= 1
        old = rows if first_new == len(rows) else rows[:first_new]
        out += [row.text for row in old]
        out += [self.zero(row) for row in rows[first_new:]]

    def zeros(self, row: _Row) -> tuple[list[bytes], list[bytes]]:
        """Give what stands before the figure in each line of a row, and the figures with nothing counted."""
        ends = [line.rpartition(b" ") for line in self.zero(row).split(b"\n")[:-1]]
        return [start + space for start, space, _ in ends], [figure for _, _, figure in ends]

    def figures(self, row: _Row) -> bytes:
        """Give what stands behind the labels in each line of a row."""
        starts, _ = self.zeros(row)
        lines = row.text.split(b"\n")
        return b"".join(
            [line[len(start) :] + b"\n" for start, line in zip(starts, lines, strict=False)]
        )

    def _pattern(self, figure: bytes) -> bytes:
        """Give the lines of a histogram with a figure for each value but the sum, and a mark for each half of its labels.

        One pattern serves all rows. The marks are what no label can hold: they are put in place when the figures are.
        """

        def line(end: str, bound: str, figure: bytes) -> bytes:
            labels = (
                ["\0"] * bool(self._before) + [bound] * bool(bound) + ["\1"] * bool(self._after)
            )
            return f"{self.family.name}{end}{{{','.join(labels)}}} ".encode() + figure + b"\n"

        bounds = [*[_number(bound).decode() for bound in self.family.buckets], "+Inf"]
        return b"".join(
            [
                *[line("_bucket", f'le="{bound}"', figure) for bound in bounds],
                line("_count", "", figure),
                line("_sum", "", b"%b"),
            ]
        )

    def _make_histogram(self, row: _HistogramRow) -> None:
        """Make the lines of a histogram: buckets, count, sum."""
        series, want = row.series, row.want
        counts_of = want.counts
        if len(series) == 1:
            so_far = [*accumulate(counts_of(series[0]))]
            total = want.figure(series[0])
        else:
            sums = map(add, counts_of(series[0]), counts_of(series[1]))
            for one in series[2:]:
                sums = map(add, [*sums], counts_of(one))
            so_far = [*accumulate(sums)]
            total = sum(map(want.figure, series))
        count = so_far[-1]
        total_text = _number(total / self.family.scale)
        # the labels first: what is searched for their marks is short then
        if count < _GO_EXPONENT:
            lines = self._lines.replace(b"\0", row.before).replace(b"\1", row.after)
            text = lines % (*so_far, count, total_text)
        else:
            lines = self._large_lines.replace(b"\0", row.before).replace(b"\1", row.after)
            text = lines % (*map(_whole, so_far), _whole(count), total_text)
        if self._is_openmetrics and self.family.exemplars:
            text = self._with_exemplars(text, series, so_far)
        row.text = text

    def _with_exemplars(self, text: bytes, series: Sequence[Series], so_far: list[int]) -> bytes:
        """Add to each bucket the latest trace that fell there."""
        latest: Exemplars = {}
        for one in series:
            for exemplar in (getattr(one, self.family.exemplars) or {}).values():
                bucket = bisect_left(self._bounds, exemplar[1])
                if so_far[bucket] == (so_far[bucket - 1] if bucket else 0):
                    # it is from before this schema was asked for
                    continue
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

    def zero(self, row: _Row) -> bytes:
        """Give the lines of a row with nothing counted."""
        if isinstance(row, _LineRow):
            return row.before + b"0.0\n"
        assert isinstance(row, _HistogramRow)  # noqa: S101 - there is no other
        return self._lines.replace(b"\0", row.before).replace(b"\1", row.after) % self._zeros

    def _make_scaled_sum(self, row: _LineRow) -> None:
        total, divisor = sum(map(row.want.figure, row.series)), self.family.scale
        if row.want.field in ("cost", "cost_total") and (
            rest := sum(map(_cost_rest_of, row.series))
        ):
            total, divisor = total * COST_REST + rest, divisor * COST_REST
        # one division of whole numbers: rounded once, to the nearest
        row.text = b"%b%b\n" % (row.before, _number(total / divisor))


def _probe(family: Family, field: str) -> str:
    """Give the attribute that tells whether a series has something to show."""
    if family.from_start or family.only_with:
        return "count"
    # a gauge may well be 0, but its order starts at 1
    return family.counts.format(field) or (
        f"{field}_order" if family.combine == "latest" else field
    )


_cost_rest_of = attrgetter("cost_rest")


def _nothing(_: Series) -> tuple[()]:
    return ()


def _make_sum(row: _LineRow) -> None:
    series, figure = row.series, row.want.figure
    total = figure(series[0]) if len(series) == 1 else sum(map(figure, series))
    if total < _GO_EXPONENT:
        # this is most of all rows
        row.text = b"%b%d.0\n" % (row.text[: row.width], total)
    else:
        row.text = b"%b%b\n" % (row.before, _number(total))


def _make_max(row: _LineRow) -> None:
    row.text = b"%b%b\n" % (row.before, _number(max(map(row.want.figure, row.series))))


def _make_latest(row: _LineRow) -> None:
    latest = max(row.series, key=attrgetter(f"{row.want.field}_order"))
    row.text = b"%b%b\n" % (row.before, _whole(row.want.figure(latest)))


def _whole(number: int) -> bytes:
    return b"%d.0" % number if number < _GO_EXPONENT else _number(number)


def _number(value: float) -> bytes:
    """Write a number that is not negative as prometheus_client does, which is nearly as Go does."""
    if 1e-3 <= value < _GO_EXPONENT:
        # the same figures as those of `repr`, without an exponent, in a third of the time
        return orjson.dumps(float(value))
    text = repr(float(value))
    point = text.find(".")
    if point > 6:
        rest = (text[1:point] + text[point + 1 :]).rstrip("0")
        text = f"{text[0]}{'.' if rest else ''}{rest}e+{point - 1:02d}"
    return text.encode()


def _rare_number(value: float) -> bytes:
    """Write what is negative, or no number; of the former prometheus_client leaves the exponent to Python."""
    if abs(value) == float("inf"):
        return b"+Inf" if value > 0 else b"-Inf"
    return repr(float(value)).encode()


def escape(value: str) -> str:
    """Write a label value as it stands between quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

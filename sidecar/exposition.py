"""Series → page, as Prometheus text and as OpenMetrics.

Each row of a family keeps its finished label text; a row whose figures have not changed keeps its lines.
The page equals, sample for sample, what prometheus_client makes of the same figures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.utils import floatToGoString

from .metrics import AI_API, Family, Health, HealthCollector, Meter
from .series import Series, Store

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

REMEMBERED_SCRAPERS = 16


class _Row:
    """One label set of a family: its label text, the series it adds up, and the lines last made of it."""

    __slots__ = ("birth", "field", "heads", "lines", "mark", "series")

    def __init__(self, heads: list[str], field: str, birth: int) -> None:
        self.heads = heads
        """What stands before each value, up to the blank; of a histogram the buckets, the count, the sum."""
        self.field = field
        self.birth = birth
        """The number of the page on which it would have been seen first."""
        self.series: list[Series] = []
        self.mark: object = None
        self.lines = ""


class _Rows:
    """A family and its rows, in the order of their birth."""

    def __init__(self, family: Family, extra_labels: tuple[str, ...]) -> None:
        self.family = family
        self.extra_labels = extra_labels
        self._by_key: dict[tuple[str, ...], _Row] = {}
        self._pending: list[tuple[Series, str]] = []
        """Series that do not belong to the family yet, and the field that is waited for."""

    def admit(self, born: Iterable[Series], page_number: int) -> None:
        """Take in series that have come to belong to the family."""
        family = self.family
        fields = [attribute for _, attribute in family.cost_types] or [family.field]
        candidates = self._pending + [(series, field) for series in born for field in fields]
        self._pending = []
        for series, field in candidates:
            if family.cost_types:
                if getattr(series, field):
                    self._put(series, field, page_number)
                else:
                    self._pending.append((series, field))
            elif family.has(series):
                self._put(series, field, page_number)
            else:
                self._pending.append((series, field))

    def _put(self, series: Series, field: str, page_number: int) -> None:
        family = self.family
        names = [*family.labels, *self.extra_labels]
        key = family.key(series, len(self.extra_labels))
        if family.cost_types:
            names.append("cost_type")
            key += (next(name for name, attribute in family.cost_types if attribute == field),)
        row = self._by_key.get(key)
        if row is None:
            row = self._by_key[key] = _Row(_heads(family, names, key), field, page_number)
        row.series.append(series)

    def write(self, out: list[str], seen_page: int, openmetrics: bool) -> None:
        """Write HELP, TYPE and the rows; those born after `seen_page` as 0."""
        family = self.family
        name = family.name
        if family.type == "counter" and not openmetrics:
            name += "_total"
        out.append(f"# HELP {name} {family.help}\n# TYPE {name} {family.type}\n")
        if family.buckets:
            self._write_histograms(out, seen_page, openmetrics)
            return
        zero_first = family.type == "counter"
        for row in self._by_key.values():
            if zero_first and row.birth > seen_page:
                out.append(row.heads[0] + "0.0\n")
                continue
            value = _value(family, row)
            if value != row.mark:
                row.mark = value
                row.lines = row.heads[0] + floatToGoString(value) + "\n"
            out.append(row.lines)

    def _write_histograms(self, out: list[str], seen_page: int, openmetrics: bool) -> None:
        family = self.family
        for row in self._by_key.values():
            if row.birth > seen_page:
                out.extend([head + "0.0\n" for head in row.heads])
                continue
            columns = [counts for series in row.series if (counts := getattr(series, family.counts)) is not None]
            counts = columns[0] if len(columns) == 1 else [sum(column) for column in zip(*columns, strict=True)]
            total = sum([getattr(series, row.field) for series in row.series])
            mark = (total, sum(counts))
            if mark != row.mark:
                row.mark = mark
                texts = []
                so_far = 0
                for count in counts:
                    so_far += count
                    texts.append(_whole(so_far))
                texts += [texts[-1], floatToGoString(total / family.scale)]
                row.lines = "".join([f"{head}{text}\n" for head, text in zip(row.heads, texts, strict=True)])
            out.append(self._with_exemplars(row) if openmetrics and any([series.exemplars for series in row.series]) else row.lines)

    def _with_exemplars(self, row: _Row) -> str:
        lines = row.lines.split("\n")
        for series in row.series:
            for (histogram, bucket), (trace_id, value, timestamp) in (series.exemplars or {}).items():
                if histogram == self.family.counts and " # " not in lines[bucket]:
                    text = f' # {{trace_id="{_escape(trace_id)}"}} {floatToGoString(value)}'
                    lines[bucket] += text + (f" {timestamp:.3f}" if timestamp is not None else "")
        return "\n".join(lines)


class Exposition:
    """Makes pages of a store; each scraper is shown what is new as 0 first."""

    def __init__(self, store: Store, meter: Meter, health: Health, *, zero_first: bool = True) -> None:
        self._store = store
        self._zero_first = zero_first
        self._rows = [_Rows(family, store.extra_labels) for family in AI_API]
        self._known = 0
        self._page_number = 0
        self._scrapers: OrderedDict[str, int] = OrderedDict()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(HealthCollector(health, store))
        ProcessCollector(registry=self._registry)

    def page(self, accept: str, scraper: str | None) -> tuple[bytes, str]:
        """Give the page and its content type; `scraper` is the address that asks, `None` for no scraper.

        Show a label set that is new since the scraper's last page as 0, for `increase()` never sees what a
        series held when it was born. Its first page of all shows values as they are.
        """
        openmetrics = "application/openmetrics-text" in accept
        self._page_number += 1
        born = self._store.series[self._known :]
        self._known = len(self._store.series)
        seen_page = self._page_number
        if scraper is not None:
            if self._zero_first:
                seen_page = self._scrapers.pop(scraper, self._page_number)
            self._scrapers[scraper] = self._page_number
            if len(self._scrapers) > REMEMBERED_SCRAPERS:
                self._scrapers.popitem(last=False)
        out: list[str] = []
        for rows in self._rows:
            rows.admit(born, self._page_number)
            rows.write(out, seen_page, openmetrics)
        page = "".join(out).encode("utf-8", "replace")
        own = (generate_openmetrics if openmetrics else generate_latest)(self._registry)
        return page + own, OPENMETRICS if openmetrics else TEXT


def _value(family: Family, row: _Row) -> float:
    if family.combine == "max":
        return max([getattr(series, row.field) for series in row.series])
    if family.combine == "latest":
        latest = max([series for series in row.series if getattr(series, row.field) is not None], key=lambda one: one.remaining_order or 0)
        return float(getattr(latest, row.field))
    total = sum([getattr(series, row.field) for series in row.series])
    return float(total / family.scale)


def _heads(family: Family, names: list[str], key: tuple[str, ...]) -> list[str]:
    labels = dict(zip(names, key, strict=True))
    if not family.buckets:
        suffix = "_total" if family.type == "counter" else ""
        return [f"{family.name}{suffix}{_labels(labels)} "]
    bounds = [floatToGoString(float(bound)) for bound in family.buckets] + ["+Inf"]
    heads = [f"{family.name}_bucket{_labels({**labels, 'le': bound})} " for bound in bounds]
    return [*heads, f"{family.name}_count{_labels(labels)} ", f"{family.name}_sum{_labels(labels)} "]


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(labels.items())) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _whole(count: int) -> str:
    return f"{count}.0" if count < 1_000_000 else floatToGoString(float(count))

"""The families: name, help, type, labels, buckets, and what one request adds to its series.

The only file with metric names. `ai_api` has milliseconds and cents, since the first eight names are
those that users' dashboards have had from the start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from .prices import COST_TYPES, DOLLAR, PriceBook
from .request import Request
from .series import ENDPOINT, ERROR_TYPE, FINISH_REASON, MODEL, PROVIDER, STATUS_CODE, Series, Store

_MILLISECOND_NS = 1_000_000
_CENT = DOLLAR // 100
_PICO_DOLLAR = DOLLAR // 10**12

DURATION_MS = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000)
FIRST_TOKEN_MS = (50, 100, 250, 500, 750, 1000, 2500, 5000, 10000, 30000, 60000)
PER_TOKEN_MS = (1, 2.5, 5, 10, 25, 50, 75, 100, 150, 250, 500, 1000)
BATCH_SIZES = (1, 5, 10, 25, 50, 100, 500, 1000)

_DURATION_NS = [bound * _MILLISECOND_NS for bound in DURATION_MS]
_FIRST_TOKEN_NS = [bound * _MILLISECOND_NS for bound in FIRST_TOKEN_MS]
_PER_TOKEN_NS = [int(bound * _MILLISECOND_NS) for bound in PER_TOKEN_MS]
_BATCH_SIZES = list(BATCH_SIZES)

_LABELS = {"provider": PROVIDER, "model": MODEL, "endpoint": ENDPOINT, "status_code": STATUS_CODE, "error_type": ERROR_TYPE, "finish_reason": FINISH_REASON}

_PM = ("provider", "model")
_PME = ("provider", "model", "endpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric family and how its rows are told from the series.

    A row is a label set of the family; its value is `scale(sum of the field over its series)`.
    A series belongs to the family where `has(series)` holds.
    """

    name: str
    help: str
    type: str
    labels: tuple[str, ...]
    field: str
    """The attribute of `Series` that is added up; of a histogram its sum."""
    has: Callable[[Series], bool] = lambda _: True
    scale: float | int = 1
    """What the sum is divided by."""
    buckets: tuple[float, ...] = ()
    counts: str = ""
    """Of a histogram: the attribute with the bucket counts."""
    combine: str = "sum"
    """`sum`, `max`, or `latest`: of a gauge that stands in several series."""
    cost_types: tuple[tuple[str, str], ...] = ()
    """Of a cost: label value → attribute; the row has one label more."""

    def key(self, series: Series, extra: int) -> tuple[str, ...]:
        """Give the label values of the row that `series` belongs to."""
        labels = series.labels
        own = tuple([labels[_LABELS[name]] for name in self.labels])
        return own + labels[-extra:] if extra else own


def _has_error(series: Series) -> bool:
    return bool(series.labels[ERROR_TYPE])


def _has_finish_reason(series: Series) -> bool:
    return bool(series.labels[FINISH_REASON])


def _over(field: str) -> Callable[[Series], bool]:
    return lambda series: getattr(series, field) > 0


def _known(field: str) -> Callable[[Series], bool]:
    return lambda series: getattr(series, field) is not None


AI_API: tuple[Family, ...] = (
    Family(name="ai_api_requests", help="Requests that were sent, retries among them.", type="counter", labels=("provider", "model", "endpoint", "status_code"), field="count"),
    Family(name="ai_api_request_duration_milliseconds", help="Wall time of a request.", type="histogram", labels=_PME, field="duration_ns", counts="durations", buckets=DURATION_MS, has=_known("durations"), scale=_MILLISECOND_NS),
    Family(name="ai_api_input_tokens", help="All input tokens, those read from and written to a cache among them.", type="counter", labels=_PM, field="input_tokens"),
    Family(name="ai_api_output_tokens", help="All output tokens, reasoning among them.", type="counter", labels=_PM, field="output_tokens"),
    Family(name="ai_api_cost_usd_cents", help="Cost in US cents; the cost types are disjoint.", type="counter", labels=_PM, field="", scale=_CENT, cost_types=(*((name, f"cost_{name}") for name in COST_TYPES), ("total", "cost_total"))),
    Family(name="ai_api_errors", help="Requests that failed.", type="counter", labels=("provider", "model", "error_type"), field="count", has=_has_error),
    Family(name="ai_api_rate_limit_remaining", help="Requests left before the provider's rate limit, as it last answered.", type="gauge", labels=_PM, field="remaining_requests", has=_known("remaining_requests"), combine="latest"),
    Family(name="ai_api_batch_size", help="Requests sent as one batch.", type="histogram", labels=_PM, field="batch_size", counts="batch_sizes", buckets=BATCH_SIZES, has=_known("batch_sizes")),
    Family(name="ai_api_rate_limit_remaining_tokens", help="Tokens left before the provider's rate limit, as it last answered.", type="gauge", labels=_PM, field="remaining_tokens", has=_known("remaining_tokens"), combine="latest"),
    Family(name="ai_api_time_to_first_token_milliseconds", help="Time until the first token of a streamed answer.", type="histogram", labels=_PME, field="time_to_first_token_ns", counts="times_to_first_token", buckets=FIRST_TOKEN_MS, has=_known("times_to_first_token"), scale=_MILLISECOND_NS),
    Family(name="ai_api_time_per_output_token_milliseconds", help="Time for each output token after the first of a streamed answer.", type="histogram", labels=_PM, field="time_per_output_token_ns", counts="times_per_output_token", buckets=PER_TOKEN_MS, has=_known("times_per_output_token"), scale=_MILLISECOND_NS),
    Family(name="ai_api_cache_read_tokens", help="Input tokens that were read from the provider's prompt cache.", type="counter", labels=_PM, field="cache_read_tokens"),
    Family(name="ai_api_cache_write_tokens", help="Input tokens that were written to the provider's prompt cache.", type="counter", labels=_PM, field="cache_write_tokens"),
    Family(name="ai_api_reasoning_tokens", help="Output tokens that the model spent on reasoning.", type="counter", labels=_PM, field="reasoning_tokens"),
    Family(name="ai_api_finish_reasons", help="Why answers ended.", type="counter", labels=("provider", "model", "finish_reason"), field="count", has=_has_finish_reason),
    Family(name="ai_api_unpriced_requests", help="Requests with tokens for which no price is known.", type="counter", labels=_PM, field="unpriced", has=_over("unpriced")),
    Family(name="ai_api_client_cache_hits", help="Requests that the client answered from its own cache.", type="counter", labels=_PM, field="client_cache_hits", has=_over("client_cache_hits")),
    Family(name="ai_api_last_request_timestamp_seconds", help="When the last request ended, as the log tells it.", type="gauge", labels=_PM, field="last_request", has=_known("last_request"), combine="max"),
)
"""Counters are named here without `_total`, as OpenMetrics names their family."""

RESULTS = ("request", "superseded", "repeat", "ignored", "not_json", "malformed", "too_long", "plugin_error")
ROTATIONS = ("rename", "truncate", "missed")


class Health:
    """What the sidecar counts of its own work, in plain numbers."""

    __slots__ = (
        "files", "held_files", "lag_bytes", "lines", "prices_timestamp_seconds", "read_bytes", "requests",
        "rotations", "state_last_save_timestamp_seconds", "state_saves", "unreadable_files", "version",
    )  # fmt: skip

    def __init__(self, version: str = "unknown") -> None:
        self.version = version
        self.lines = dict.fromkeys(RESULTS, 0)
        self.requests: dict[str, int] = {}
        self.rotations = dict.fromkeys(ROTATIONS, 0)
        self.state_saves: dict[str, int] = {}
        self.read_bytes = 0
        self.lag_bytes = 0
        self.files = 0
        self.held_files = 0
        self.unreadable_files = 0
        self.state_last_save_timestamp_seconds: float | None = None
        self.prices_timestamp_seconds: float | None = None

    def dump(self) -> dict[str, Any]:
        """Give the counters as JSON values."""
        return {name: getattr(self, name) for name in ("lines", "requests", "rotations", "state_saves", "read_bytes")}

    def load(self, dumped: dict[str, Any]) -> None:
        """Take over counters that were dumped."""
        for name in ("lines", "requests", "rotations", "state_saves"):
            getattr(self, name).update(dumped[name])
        self.read_bytes = dumped["read_bytes"]


class HealthCollector:
    """Gives prometheus_client the `ai_sidecar_*` families."""

    def __init__(self, health: Health, store: Store) -> None:
        self._health = health
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """Give the families as they stand."""
        health = self._health
        yield _counter("ai_sidecar_lines", "Lines read, by what became of them.", "result", health.lines)
        yield _counter("ai_sidecar_requests", "Requests counted, by the parser that read them.", "parser", health.requests)
        yield CounterMetricFamily("ai_sidecar_read_bytes", "Bytes of logs that were read.", value=health.read_bytes)
        yield GaugeMetricFamily("ai_sidecar_lag_bytes", "Bytes of logs that were not read yet.", value=health.lag_bytes)
        yield GaugeMetricFamily("ai_sidecar_files", "Files that the followed paths lead to.", value=health.files)
        yield GaugeMetricFamily("ai_sidecar_held_files", "Rotated files that are held open.", value=health.held_files)
        yield GaugeMetricFamily("ai_sidecar_unreadable_files", "Followed files that could not be opened.", value=health.unreadable_files)
        yield _counter("ai_sidecar_rotations", "Rotations that were seen, by their kind.", "kind", health.rotations)
        yield GaugeMetricFamily("ai_sidecar_series", "Label combinations that are kept.", value=len(self._store.series))
        yield CounterMetricFamily("ai_sidecar_series_overflow", "Requests counted under _other since the cap was reached.", value=self._store.overflow)
        yield _counter("ai_sidecar_state_saves", "Attempts to save the state, by their result.", "result", health.state_saves)
        yield _gauge("ai_sidecar_state_last_save_timestamp_seconds", "When the state was last saved.", health.state_last_save_timestamp_seconds)
        yield _gauge("ai_sidecar_prices_timestamp_seconds", "The date of the price table.", health.prices_timestamp_seconds)
        build = GaugeMetricFamily("ai_sidecar_build_info", "The program that runs.", labels=["version"])
        build.add_metric([health.version], 1)
        yield build


def _counter(name: str, documentation: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _gauge(name: str, documentation: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(name, documentation)
    if value is not None:
        family.add_metric([], value)
    return family


class Meter:
    """Adds requests to the series of a store: the one hot function of the program."""

    def __init__(self, store: Store, book: PriceBook, *, cost_source: str = "auto") -> None:
        self._store = store
        self._book = book
        self._from_log = cost_source in ("auto", "log")
        self._from_prices = cost_source in ("auto", "prices")
        self._order = 0

    def use(self, book: PriceBook) -> None:
        """Price what comes from now on by another book."""
        self._book = book

    def add(self, request: Request, extra: tuple[str, ...] = ()) -> None:
        """Count one finished request."""
        store = self._store
        labels = (request.provider, request.model, request.endpoint, request.status_code, request.error_type or "", request.finish_reason or "", *extra)
        series = store.by_raw.get(labels) or store.of(labels)
        series.count += 1
        duration = request.duration_seconds
        if duration is not None and 0 <= duration < 1e9:
            duration_ns = int(duration * 1e9 + 0.5)
            series.duration_ns += duration_ns
            counts = series.durations
            if counts is None:
                counts = series.durations = [0] * (len(_DURATION_NS) + 1)
            bucket = bisect_left(_DURATION_NS, duration_ns)
            counts[bucket] += 1
            if request.trace_id is not None:
                _keep_exemplar(series, "durations", bucket, duration_ns, request)
            if request.time_to_first_token_seconds is not None:
                self._add_first_token(series, request, duration_ns)
        elif request.time_to_first_token_seconds is not None:
            self._add_first_token(series, request, None)
        timestamp = request.timestamp
        if timestamp is not None and (series.last_request is None or timestamp > series.last_request):
            series.last_request = timestamp
        if request.rate_limit_remaining_requests is not None or request.rate_limit_remaining_tokens is not None:
            self._keep_rate_limit(series, request)
        if request.batch_size is not None:
            sizes = series.batch_sizes
            if sizes is None:
                sizes = series.batch_sizes = [0] * (len(_BATCH_SIZES) + 1)
            sizes[bisect_left(_BATCH_SIZES, request.batch_size)] += 1
            series.batch_size += request.batch_size
        if request.served_from_cache:
            series.client_cache_hits += 1
            return
        tokens_in, tokens_out = request.input_tokens or 0, request.output_tokens or 0
        series.input_tokens += tokens_in
        series.output_tokens += tokens_out
        if request.cache_read_tokens:
            series.cache_read_tokens += request.cache_read_tokens
        if request.cache_write_tokens:
            series.cache_write_tokens += request.cache_write_tokens
        if request.reasoning_tokens:
            series.reasoning_tokens += request.reasoning_tokens
        cost = request.cost_usd
        if cost is not None and self._from_log:
            if type(cost) is float:
                # a float with at most 15 digits is the decimal that it is written as: whole pico-dollars at once
                pico = int(cost * 1e12 + 0.5)
                if pico < 1_000_000_000_000_000 and pico / 1e12 == cost:
                    series.cost_total += pico * _PICO_DOLLAR
                    return
                cost = Decimal(repr(cost))
            series.cost_total += _parts(Decimal(cost))
        elif tokens_in or tokens_out:
            price = self._book.price(request.provider, request.model) if self._from_prices else None
            if price is None:
                series.unpriced += 1
                return
            of_input, of_output, of_read, of_write, of_audio = price.cost(request)
            series.cost_input += of_input
            series.cost_output += of_output
            series.cost_cache_read += of_read
            series.cost_cache_write += of_write
            series.cost_audio += of_audio

    def _add_first_token(self, series: Series, request: Request, duration_ns: int | None) -> None:
        seconds = request.time_to_first_token_seconds
        if seconds is None or not 0 <= seconds < 1e9:
            return
        first_ns = int(seconds * 1e9 + 0.5)
        counts = series.times_to_first_token
        if counts is None:
            counts = series.times_to_first_token = [0] * (len(_FIRST_TOKEN_NS) + 1)
        bucket = bisect_left(_FIRST_TOKEN_NS, first_ns)
        counts[bucket] += 1
        series.time_to_first_token_ns += first_ns
        if request.trace_id is not None:
            _keep_exemplar(series, "times_to_first_token", bucket, first_ns, request)
        tokens = request.output_tokens
        if duration_ns is None or tokens is None or tokens < 2 or duration_ns < first_ns:
            return
        per_token_ns = (duration_ns - first_ns) // (tokens - 1)
        counts = series.times_per_output_token
        if counts is None:
            counts = series.times_per_output_token = [0] * (len(_PER_TOKEN_NS) + 1)
        counts[bisect_left(_PER_TOKEN_NS, per_token_ns)] += 1
        series.time_per_output_token_ns += per_token_ns

    def _keep_rate_limit(self, series: Series, request: Request) -> None:
        self._order += 1
        series.remaining_order = self._order
        if request.rate_limit_remaining_requests is not None:
            series.remaining_requests = request.rate_limit_remaining_requests
        if request.rate_limit_remaining_tokens is not None:
            series.remaining_tokens = request.rate_limit_remaining_tokens


def _parts(dollars: Decimal) -> int:
    """Give an amount in parts of a dollar; what is no amount is none."""
    if not dollars.is_finite() or not 0 <= dollars < 1_000_000_000_000:
        return 0
    numerator, denominator = dollars.as_integer_ratio()
    return numerator * DOLLAR // denominator


def _keep_exemplar(series: Series, histogram: str, bucket: int, value_ns: int, request: Request) -> None:
    trace_id = request.trace_id
    # OpenMetrics allows 128 characters for an exemplar's labels, their names among them
    if trace_id is None or len(trace_id) > 100 or not trace_id.isascii() or not trace_id.isprintable():
        return
    if series.exemplars is None:
        series.exemplars = {}
    series.exemplars[histogram, bucket] = (trace_id, value_ns / _MILLISECOND_NS, request.timestamp)

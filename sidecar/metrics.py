"""The families: name, help, type, labels, buckets, and what one request adds to its series.

The only file with metric names. `ai_api` has milliseconds and cents, since its first eight names are
those that users' dashboards have had from the start. `gen_ai` has OpenTelemetry's names, seconds and dollars.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal
from types import EllipsisType
from typing import Any, NamedTuple

from .budgets import Budgets
from .prices import COST_TYPES, DOLLAR, Price, PriceBook
from .request import Request
from .series import (
    COST_REST,
    ENDPOINT,
    ERROR_TYPE,
    FINISH_REASON,
    MAX_SECOND,
    MODEL,
    PICO_DOLLAR,
    PROVIDER,
    STATUS_CODE,
    Labels,
    RawLabels,
    Series,
    Store,
)

_MILLISECOND_NS = 1_000_000
_CENT = DOLLAR // 100

DURATION_MS = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000)
FIRST_TOKEN_MS = (50, 100, 250, 500, 750, 1000, 2500, 5000, 10000, 30000, 60000)
PER_TOKEN_MS = (1, 2.5, 5, 10, 25, 50, 75, 100, 150, 250, 500, 1000)
BATCH_SIZES = (1, 5, 10, 25, 50, 100, 500, 1000)

TO_WHOLE = 2.0**52
"""Added to a float below 2^51, and taken away again, it rounds that to a whole number, ten times as fast as `round`."""
_DURATION_NS = [bound * _MILLISECOND_NS for bound in DURATION_MS]
_FIRST_TOKEN_NS = [bound * _MILLISECOND_NS for bound in FIRST_TOKEN_MS]
_PER_TOKEN_NS = [int(bound * _MILLISECOND_NS) for bound in PER_TOKEN_MS]
_BATCH_SIZES = list(BATCH_SIZES)

# the bounds that OpenTelemetry's semantic conventions advise, and two more for what thinks long
FIRST_CHUNK_SECONDS = tuple(2**power / 100 for power in range(14))
OPERATION_SECONDS = (*FIRST_CHUNK_SECONDS, 163.84, 327.68)
TOKEN_USAGE = tuple(4**power for power in range(14))

_FIRST_CHUNK_NS = [10_000_000 * 2**power for power in range(14)]
_OPERATION_NS = [10_000_000 * 2**power for power in range(16)]
_TOKEN_USAGE = list(TOKEN_USAGE)

PLACES = {
    "provider": PROVIDER,
    "model": MODEL,
    "endpoint": ENDPOINT,
    "status_code": STATUS_CODE,
    "error_type": ERROR_TYPE,
    "finish_reason": FINISH_REASON,
    "gen_ai_provider_name": PROVIDER,
    "gen_ai_response_model": MODEL,
    "gen_ai_request_model": -2,
    "gen_ai_operation_name": -1,
}
"""Label name → its place in `Series.labels` with the two `told` after them."""

_OPERATIONS = (
    ("/chat/completions", "chat"),
    ("/responses", "chat"),
    ("/messages", "chat"),
    ("/chat", "chat"),
    ("/converse", "chat"),
    ("/converse-stream", "chat"),
    ("/completions", "text_completion"),
    ("/complete", "text_completion"),
    ("/generate", "text_completion"),
    ("/generateContent", "generate_content"),
    ("/streamGenerateContent", "generate_content"),
    ("/embeddings", "embeddings"),
    ("/embed", "embeddings"),
    ("/embedContent", "embeddings"),
    ("/batchEmbedContents", "embeddings"),
)
"""How an endpoint ends → the well-known value of OpenTelemetry's `gen_ai.operation.name`; the first that fits."""


def operation_name(endpoint: str) -> str:
    """Give OpenTelemetry's name for what an endpoint does; of others the path in its spelling (`images_generations`)."""
    path = "/" + endpoint.lstrip("/")
    for end, name in _OPERATIONS:
        if path.endswith(end):
            return name
    # `_other` and `unknown` stay what they are
    return endpoint if "/" not in endpoint else path[1:].replace("/", "_").replace("-", "_")


def told(store: Store, labels: Labels) -> Labels:
    """Give the labels that a series does not have as they are shown: the model asked for, the operation."""
    asked_for = labels[-1] if store.has_request_models else ""
    return asked_for or labels[MODEL], operation_name(labels[ENDPOINT])


MAX_TRACE_ID_CHARACTERS = 100
"""OpenMetrics allows 128 characters for an exemplar's labels, their names among them."""

_PM = ("provider", "model")
_PME = ("provider", "model", "endpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric family, and how its rows are told from the series.

    A row is a label set of the family; its value is the sum of `field` over its series, divided by `scale`.
    The extra labels are appended to those named here.
    """

    name: str
    """Of a counter without `_total`, as OpenMetrics names the family."""
    help: str
    type: str
    labels: tuple[str, ...]
    field: str = ""
    """The attribute of `Series` that is added up; of a histogram its sum."""
    scale: int = 1
    split: tuple[str, tuple[tuple[str, str], ...]] | None = None
    """One label more, and its values with a field for each: in place of `field`."""
    only_with: str | None = None
    """The label without which a series is not of this family: an error type, a finish reason."""
    from_start: bool = False
    """Shown from the first request of its labels on, be it 0; else when there is a first value.

    So for requests and all tokens: a rate is 0 then, not absent, where a provider never tells reasoning tokens.
    """
    buckets: tuple[float, ...] = ()
    counts: str = ""
    """Of a histogram: the attribute with the bucket counts; `{}` in it stands for the field of a split."""
    exemplars: str = ""
    """Of a histogram: the attribute with its exemplars, in nanoseconds."""
    combine: str = "sum"
    """`sum`; of a gauge that stands in several series `max`, or `latest` by the attribute `…_order`."""


AI_API: tuple[Family, ...] = (
    Family(
        name="ai_api_requests",
        help="Requests that were sent, retries among them.",
        type="counter",
        labels=("provider", "model", "endpoint", "status_code"),
        field="count",
        from_start=True,
    ),
    Family(
        name="ai_api_request_duration_milliseconds",
        help="Wall time of a request.",
        type="histogram",
        labels=_PME,
        field="duration_ns",
        scale=_MILLISECOND_NS,
        buckets=DURATION_MS,
        counts="durations",
        exemplars="duration_exemplars",
    ),
    Family(
        name="ai_api_input_tokens",
        help="All input tokens, those read from and written to a cache among them.",
        type="counter",
        labels=_PM,
        field="input_tokens",
        from_start=True,
    ),
    Family(
        name="ai_api_output_tokens",
        help="All output tokens, reasoning among them.",
        type="counter",
        labels=_PM,
        field="output_tokens",
        from_start=True,
    ),
    Family(
        name="ai_api_cost_usd_cents",
        help="Cost in US cents; the cost types are disjoint, total is where the log told only the sum.",
        type="counter",
        labels=_PM,
        scale=_CENT,
        split=(
            "cost_type",
            (*((name, f"cost_{name}") for name in COST_TYPES), ("total", "cost_total")),
        ),
    ),
    Family(
        name="ai_api_errors",
        help="Requests that failed.",
        type="counter",
        labels=("provider", "model", "error_type"),
        field="count",
        only_with="error_type",
    ),
    Family(
        name="ai_api_rate_limit_remaining",
        help="Requests left before the provider's rate limit, as it last answered.",
        type="gauge",
        labels=_PM,
        field="remaining_requests",
        combine="latest",
    ),
    Family(
        name="ai_api_batch_size",
        help="Requests sent as one batch.",
        type="histogram",
        labels=_PM,
        field="batch_size",
        buckets=BATCH_SIZES,
        counts="batch_sizes",
    ),
    Family(
        name="ai_api_rate_limit_remaining_tokens",
        help="Tokens left before the provider's rate limit, as it last answered.",
        type="gauge",
        labels=_PM,
        field="remaining_tokens",
        combine="latest",
    ),
    Family(
        name="ai_api_time_to_first_token_milliseconds",
        help="Time until the first token of a streamed answer.",
        type="histogram",
        labels=_PME,
        field="time_to_first_token_ns",
        scale=_MILLISECOND_NS,
        buckets=FIRST_TOKEN_MS,
        counts="times_to_first_token",
        exemplars="time_to_first_token_exemplars",
    ),
    Family(
        name="ai_api_time_per_output_token_milliseconds",
        help="Time for each output token after the first of a streamed answer.",
        type="histogram",
        labels=_PM,
        field="time_per_output_token_ns",
        scale=_MILLISECOND_NS,
        buckets=PER_TOKEN_MS,
        counts="times_per_output_token",
    ),
    Family(
        name="ai_api_cache_read_tokens",
        help="Input tokens that were read from the provider's prompt cache.",
        type="counter",
        labels=_PM,
        field="cache_read_tokens",
        from_start=True,
    ),
    Family(
        name="ai_api_cache_write_tokens",
        help="Input tokens that were written to the provider's prompt cache.",
        type="counter",
        labels=_PM,
        field="cache_write_tokens",
        from_start=True,
    ),
    Family(
        name="ai_api_reasoning_tokens",
        help="Output tokens that the model spent on reasoning.",
        type="counter",
        labels=_PM,
        field="reasoning_tokens",
        from_start=True,
    ),
    Family(
        name="ai_api_finish_reasons",
        help="Why answers ended.",
        type="counter",
        labels=("provider", "model", "finish_reason"),
        field="count",
        only_with="finish_reason",
    ),
    Family(
        name="ai_api_unpriced_requests",
        help="Requests with tokens for which no price is known.",
        type="counter",
        labels=_PM,
        field="unpriced",
    ),
    Family(
        name="ai_api_client_cache_hits",
        help="Requests that the client answered from its own cache.",
        type="counter",
        labels=_PM,
        field="client_cache_hits",
    ),
    Family(
        name="ai_api_last_request_timestamp_seconds",
        help="When the last request ended, as the log tells it.",
        type="gauge",
        labels=_PM,
        field="last_request",
        combine="max",
    ),
)

_OPERATION = ("gen_ai_operation_name", "gen_ai_provider_name")
_MODELS = ("gen_ai_request_model", "gen_ai_response_model")
GEN_AI: tuple[Family, ...] = (
    Family(
        name="gen_ai_client_operation_duration_seconds",
        help="GenAI operation duration.",
        type="histogram",
        labels=(*_OPERATION, *_MODELS, "error_type"),
        field="gen_ai_duration_ns",
        scale=10**9,
        buckets=OPERATION_SECONDS,
        counts="gen_ai_durations",
        exemplars="duration_exemplars",
    ),
    Family(
        name="gen_ai_client_token_usage",
        help="Number of input and output tokens used.",
        type="histogram",
        labels=(*_OPERATION, *_MODELS),
        split=(
            "gen_ai_token_type",
            (("input", "gen_ai_input_tokens"), ("output", "gen_ai_output_tokens")),
        ),
        buckets=TOKEN_USAGE,
        counts="{}_counts",
    ),
    Family(
        name="gen_ai_client_operation_time_to_first_chunk_seconds",
        help="Time to receive the first chunk of a streamed answer.",
        type="histogram",
        labels=(*_OPERATION, *_MODELS),
        field="gen_ai_first_chunk_ns",
        scale=10**9,
        buckets=FIRST_CHUNK_SECONDS,
        counts="gen_ai_first_chunks",
        exemplars="time_to_first_token_exemplars",
    ),
    Family(
        name="gen_ai_client_cost_usd",
        help="Cost in US dollars.",
        type="counter",
        labels=(*_OPERATION, *_MODELS),
        field="cost",
        scale=DOLLAR,
    ),
)

SCHEMAS = {"ai_api": AI_API, "gen_ai": GEN_AI}
"""What `--schema` names."""

RESULTS = (
    "request",
    "superseded",
    "repeat",
    "ignored",
    "not_json",
    "malformed",
    "too_long",
    "plugin_error",
)
"""What becomes of a line; all of them are shown from the start."""
ROTATIONS = ("rename", "truncate", "missed")
OUTCOMES = ("success", "failure")
_COUNTED = ("lines", "requests", "rotations", "state_saves", "pushes")
"""Dictionaries of counters that go on over a restart."""


class Health:
    """What the sidecar counts of its own work, in plain numbers."""

    __slots__ = (
        "files", "held_files", "lag_bytes", "lines", "prices_timestamp_seconds", "pushes", "read_bytes",
        "requests", "rotations", "state_last_save_timestamp_seconds", "state_saves", "unreadable_files", "version",
    )  # fmt: skip

    def __init__(self, version: str = "unknown") -> None:
        self.version = version
        self.lines = dict.fromkeys(RESULTS, 0)
        self.requests: dict[str, int] = {}
        self.rotations = dict.fromkeys(ROTATIONS, 0)
        self.state_saves = dict.fromkeys(OUTCOMES, 0)
        self.pushes = dict.fromkeys(OUTCOMES, 0)
        self.read_bytes = 0
        self.lag_bytes = 0
        self.files = 0
        self.held_files = 0
        self.unreadable_files = 0
        self.state_last_save_timestamp_seconds: float | None = None
        self.prices_timestamp_seconds: float | None = None

    def dump(self) -> dict[str, Any]:
        """Give the counters as JSON values."""
        return {name: getattr(self, name) for name in (*_COUNTED, "read_bytes")}

    def forget(self, dumped: dict[str, Any]) -> None:
        """Go back to counters that were dumped before others were taken over."""
        for name in _COUNTED:
            getattr(self, name).clear()
        self.load(dumped)

    def load(self, dumped: dict[str, Any]) -> None:
        """Take over counters that were dumped."""
        for name in _COUNTED:
            getattr(self, name).update(dumped.get(name, {}))
        self.read_bytes = dumped["read_bytes"]


class Sample(NamedTuple):
    """One line of a page."""

    name: str
    labels: dict[str, str]
    value: float


class OwnFamily:
    """A family with its samples, as they stand: what the sidecar tells of itself.

    They are few, and made anew for each page. prometheus_client has such objects too, and with them
    comes a web server, a client and TLS, which are most of what a small sidecar would hold.
    """

    __slots__ = ("documentation", "name", "samples", "type")

    def __init__(self, name: str, documentation: str, kind: str) -> None:
        """`name` is that of OpenMetrics: of a counter without `_total`; `kind` is what TYPE says."""
        self.name, self.documentation, self.type = name, documentation, kind
        self.samples: list[Sample] = []

    def add(self, value: float | None, **labels: str) -> OwnFamily:
        """Add a sample; none where nothing is known."""
        if value is not None:
            name = f"{self.name}_total" if self.type == "counter" else self.name
            self.samples.append(Sample(name, labels, value))
        return self


class HealthCollector:
    """Gives the `ai_sidecar_*` families."""

    def __init__(self, health: Health, store: Store) -> None:
        self._health = health
        self._store = store

    def collect(self) -> Iterable[OwnFamily]:
        """Give the families as they stand."""
        health = self._health
        yield _counters(
            "ai_sidecar_lines", "Lines read, by what became of them.", "result", health.lines
        )
        yield _counters(
            "ai_sidecar_requests",
            "Requests counted, by the parser that read them.",
            "parser",
            health.requests,
        )
        yield counter("ai_sidecar_read_bytes", "Bytes of logs that were read.", health.read_bytes)
        yield gauge(
            "ai_sidecar_lag_bytes", "Bytes of logs that were not read yet.", health.lag_bytes
        )
        yield gauge("ai_sidecar_files", "Files that the followed paths lead to.", health.files)
        yield gauge("ai_sidecar_held_files", "Rotated files that are held open.", health.held_files)
        yield gauge(
            "ai_sidecar_unreadable_files",
            "Followed files that could not be opened.",
            health.unreadable_files,
        )
        yield _counters(
            "ai_sidecar_rotations",
            "Rotations that were seen, by their kind.",
            "kind",
            health.rotations,
        )
        yield gauge(
            "ai_sidecar_series", "Label combinations that are kept.", len(self._store.series)
        )
        yield counter(
            "ai_sidecar_series_overflow",
            "Requests counted under _other since the cap was reached.",
            self._store.overflow,
        )
        yield _counters(
            "ai_sidecar_state_saves",
            "Attempts to save the state, by their result.",
            "result",
            health.state_saves,
        )
        yield _counters(
            "ai_sidecar_pushes",
            "Pages pushed to a Pushgateway, by the result.",
            "result",
            health.pushes,
        )
        yield gauge(
            "ai_sidecar_state_last_save_timestamp_seconds",
            "When the state was last saved.",
            health.state_last_save_timestamp_seconds,
        )
        yield gauge(
            "ai_sidecar_prices_timestamp_seconds",
            "The date of the price table.",
            health.prices_timestamp_seconds,
        )
        build = OwnFamily("ai_sidecar_build_info", "The program that runs.", "gauge")
        yield build.add(1, version=health.version)


class BudgetCollector:
    """Gives the gauges of budgets; no families where there are no budgets."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    def collect(self) -> Iterable[OwnFamily]:
        """Give the families as they stand now."""
        if not self._budgets:
            return
        amount = OwnFamily("ai_api_budget_usd", "What a budget allows for a period.", "gauge")
        remaining = OwnFamily(
            "ai_api_budget_remaining_usd",
            "What is left of a budget in the period that is now; under 0 what was spent beyond it.",
            "gauge",
        )
        for budget, left in self._budgets.remaining():
            labels = {"budget": budget.name, "period": budget.periods.unit}
            amount.add(budget.parts / DOLLAR, **labels)
            remaining.add(left / DOLLAR, **labels)
        yield amount
        yield remaining


def counter(name: str, documentation: str, value: float | None) -> OwnFamily:
    """Make a counter of one sample."""
    return OwnFamily(name, documentation, "counter").add(value)


def gauge(name: str, documentation: str, value: float | None) -> OwnFamily:
    """Make a gauge of one sample, or of none where nothing is known."""
    return OwnFamily(name, documentation, "gauge").add(value)


def _counters(name: str, documentation: str, label: str, values: dict[str, int]) -> OwnFamily:
    family = OwnFamily(name, documentation, "counter")
    for value, count in values.items():
        family.add(count, **{label: value})
    return family


Cell = tuple[Series, Price | None]
"""A series and what its requests are priced by."""


class Meter:
    """Adds requests to the series of a store: the one hot function of the program."""

    is_timed = False
    """Only requests that ended within `second_from` ≤ t < `second_to` (and so its `moment_from`, `moment_to`) may be
    added without `add`, which decides about all others."""
    second_from = second_to = 0.0
    moment_from = moment_to = datetime.fromtimestamp(0.0, UTC)

    def __init__(
        self,
        store: Store,
        book: PriceBook,
        *,
        cost_source: str = "auto",
        families: tuple[Family, ...] = AI_API,
        budgets: Budgets | None = None,
        duration_bounds_ns: Sequence[int] = _DURATION_NS,
        first_token_bounds_ns: Sequence[int] = _FIRST_TOKEN_NS,
    ) -> None:
        """`budgets` are told what each request cost; other bounds than the families' are for who reads series."""
        self.families = families
        """What a page shows of the series."""
        self._store = store
        self._book = book
        self._for_gen_ai = store.for_gen_ai
        self._memo: dict[RawLabels, tuple[Series, Price | EllipsisType | None]] = store.memo
        """With the price that raw labels have; `...` until one was asked for."""
        self._budgets = budgets
        # floats are compared with floats much faster than with whole numbers
        self._duration_ns = [float(bound) for bound in duration_bounds_ns]
        self._first_token_ns = first_token_bounds_ns
        self._duration_fits = self._cost_fits = False
        """Where a decoder holds figures to their kind and bounds, a loop made of `add` need not look again."""
        self._choose(cost_source)

    def use(self, book: PriceBook, *, cost_source: str | None = None) -> None:
        """Price what comes from now on by another book."""
        self._book = book
        self._memo.clear()
        self._store.epoch += 1
        if cost_source is not None:
            self._choose(cost_source)

    @property
    def constants(self) -> dict[str, bool]:
        """What `add` asks of its meter and stays as it is for an epoch."""
        return {
            "_from_log": self._from_log,
            "_for_gen_ai": self._for_gen_ai,
            "_has_budgets": self._has_budgets,
        }

    @property
    def epoch(self) -> int:
        """It changes when cells that were given before hold no more."""
        return self._store.epoch

    def _choose(self, cost_source: str) -> None:
        self._from_log = cost_source in ("auto", "log")
        self._from_prices = cost_source in ("auto", "prices")
        self._has_budgets = bool(self._budgets)

    def add(self, request: Request, extra: tuple[str, ...] = ()) -> None:
        """Count one finished request; `extra` are the values of the store's extra labels."""
        raw: RawLabels = (
            request.provider,
            request.model,
            request.endpoint,
            request.status_code,
            request.error_type,
            request.finish_reason,
        )
        if extra:
            raw += extra
        if self._for_gen_ai:
            raw += (request.request_model,)
        series, price = self._memo.get(raw) or self._admit(raw)
        timestamp = request.timestamp
        if timestamp is not None and series.last_second < timestamp < MAX_SECOND:
            series.last_second = timestamp
        series.count += 1

        trace_id = request.trace_id
        duration = request.duration_seconds
        if duration is not None and (self._duration_fits or 0.0 <= duration < 1e9):
            if self._duration_fits or duration < 1e6:
                duration_ns = duration * 1e9 + TO_WHOLE - TO_WHOLE
                series.more_ns = more = series.more_ns + duration_ns
                if more > TO_WHOLE:
                    series.carry()
            else:
                duration_ns = float(round(duration * 1e9))
                series.duration_ns += int(duration_ns)
            bucket = bisect_left(self._duration_ns, duration_ns)
            counts = series.durations
            if counts is None:
                counts = series.durations = [0] * (len(self._duration_ns) + 1)
            counts[bucket] += 1
            if trace_id is not None and len(trace_id) <= MAX_TRACE_ID_CHARACTERS:
                exemplars = series.duration_exemplars
                if exemplars is None:
                    exemplars = series.duration_exemplars = {}
                exemplars[bucket] = (trace_id, int(duration_ns), request.timestamp)
        else:
            duration_ns = -1.0
        first_token = request.time_to_first_token_seconds
        if first_token is not None and 0.0 <= first_token < 1e9:
            _add_first_token(
                series,
                self._first_token_ns,
                int(first_token * 1e9 + 0.5),
                int(duration_ns),
                None if request.served_from_cache else request.output_tokens,
                trace_id,
                request.timestamp,
            )
        left_requests = request.rate_limit_remaining_requests
        left_tokens = request.rate_limit_remaining_tokens
        if left_requests is not None or left_tokens is not None:
            self._keep_rate_limit(series, left_requests, left_tokens)
        size = request.batch_size
        if size is not None:
            series.batch_size += size
            counts = series.batch_sizes
            if counts is None:
                counts = series.batch_sizes = [0] * (len(_BATCH_SIZES) + 1)
            counts[bisect_left(_BATCH_SIZES, size)] += 1
        if self._for_gen_ai:
            _add_for_gen_ai(
                series,
                int(duration_ns),
                first_token,
                None if request.served_from_cache else request.input_tokens,
                None if request.served_from_cache else request.output_tokens,
            )
        if request.served_from_cache:
            series.client_cache_hits += 1
            return

        tokens_in, tokens_out = request.input_tokens, request.output_tokens
        if tokens_in:
            series.input_tokens += tokens_in
        if tokens_out:
            series.output_tokens += tokens_out
        if request.cache_read_tokens:
            series.cache_read_tokens += request.cache_read_tokens
        if request.cache_write_tokens:
            series.cache_write_tokens += request.cache_write_tokens
        if request.reasoning_tokens:
            series.reasoning_tokens += request.reasoning_tokens

        cost = request.cost_usd
        # a cost of 0 tells nothing beside tokens, and adds nothing without
        if cost and self._from_log:
            if self._cost_fits or (type(cost) is float and 0.0 < cost < 1000.0):
                # a float with at most 15 digits is the decimal that it is written as: whole pico-dollars at once
                pico = cost * 1e12 + TO_WHOLE - TO_WHOLE  # type: ignore[operator] # a float, as was seen to
                if pico / 1e12 == cost:
                    series.cost_pico = more = series.cost_pico + pico
                    if more > TO_WHOLE:
                        series.carry()
                    if self._has_budgets:
                        self._spend(series, int(pico) * PICO_DOLLAR, request.timestamp)
                    return
            before = series.cost_total if self._has_budgets else 0
            if _add_logged_cost(series, cost):
                if self._has_budgets:
                    self._spend(series, series.cost_total - before, request.timestamp)
                return
        if tokens_in or tokens_out:
            if price is ...:
                price = self._price(raw, series)
            if request.service_tier is not None and price is not None:
                price = price.of_tier(request.service_tier)
            if price is None:
                series.unpriced += 1
                return
            plain = price.plain
            if (
                plain is not None
                and not request.cache_write_tokens
                and not request.audio_input_tokens
                and not request.audio_output_tokens
            ):
                of_input, of_output, of_read = plain
                uncached = tokens_in or 0
                read = 0
                if request.cache_read_tokens and of_read is not None:
                    read = min(request.cache_read_tokens, uncached)
                    uncached -= read
                    series.cost_cache_read += read * of_read
                series.cost_input += uncached * of_input
                series.cost_output += (tokens_out or 0) * of_output
                if self._has_budgets:
                    parts = uncached * of_input + (tokens_out or 0) * of_output
                    if read:
                        parts += read * (of_read or 0)
                    self._spend(series, parts, request.timestamp)
                return
            of_input, of_output, of_read, of_write, of_audio = price.cost_of(
                tokens_in,
                tokens_out,
                request.cache_read_tokens,
                request.cache_write_tokens,
                request.cache_write_1h_tokens,
                request.audio_input_tokens,
                request.audio_output_tokens,
                request.reasoning_tokens,
                request.timestamp,
            )
            series.cost_input += of_input
            series.cost_output += of_output
            if of_read:
                series.cost_cache_read += of_read
            if of_write:
                series.cost_cache_write += of_write
            if of_audio:
                series.cost_audio += of_audio
            if self._has_budgets:
                self._spend(
                    series, of_input + of_output + of_read + of_write + of_audio, request.timestamp
                )

    def _spend(self, series: Series, parts: int, timestamp: float | None) -> None:
        if self._budgets is not None:
            self._budgets.spend(series.labels, parts, timestamp)

    def cell(self, request: Request, extra: tuple[str, ...] = ()) -> Cell | None:
        """Give where requests of these labels are counted and at which price; `None` where they have no series."""
        raw: RawLabels = (
            request.provider,
            request.model,
            request.endpoint,
            request.status_code,
            request.error_type,
            request.finish_reason,
        )
        raw += extra
        if self._for_gen_ai:
            raw += (request.request_model,)
        series, price = self._memo.get(raw, (None, None))
        if series is None:
            return None
        return series, self._price(raw, series) if price is ... else price

    def _admit(self, raw: RawLabels) -> tuple[Series, Price | EllipsisType | None]:
        series, is_own = self._store.admit(raw)
        if is_own:
            # what goes to `_other` is asked for each time, so that it is counted as such
            self._store.remember(raw, series, ...)
        return series, ...

    def _price(self, raw: RawLabels, series: Series) -> Price | None:
        # by the names that the log has: `_other` and names that were cut have no price of their own
        price = (
            self._book.price(raw[PROVIDER] or "", raw[MODEL] or "") if self._from_prices else None
        )
        if raw in self._memo:
            self._memo[raw] = (series, price)
        return price

    def _keep_rate_limit(self, series: Series, requests: int | None, tokens: int | None) -> None:
        self._store.order += 1
        if requests is not None:
            series.remaining_requests = requests
            series.remaining_requests_order = self._store.order
        if tokens is not None:
            series.remaining_tokens = tokens
            series.remaining_tokens_order = self._store.order


def _add_first_token(
    series: Series,
    bounds_ns: Sequence[int],
    first_ns: int,
    duration_ns: int,
    tokens: int | None,
    trace_id: str | None,
    timestamp: float | None,
) -> None:
    """Count the time to the first token, and that for each of the others where the duration tells it."""
    series.time_to_first_token_ns += first_ns
    bucket = bisect_left(bounds_ns, first_ns)
    counts = series.times_to_first_token
    if counts is None:
        counts = series.times_to_first_token = [0] * (len(bounds_ns) + 1)
    counts[bucket] += 1
    if trace_id is not None and len(trace_id) <= MAX_TRACE_ID_CHARACTERS:
        exemplars = series.time_to_first_token_exemplars
        if exemplars is None:
            exemplars = series.time_to_first_token_exemplars = {}
        exemplars[bucket] = (trace_id, first_ns, timestamp)
    if tokens is None or tokens < 2 or duration_ns <= first_ns:
        return
    streamed_ns, others = duration_ns - first_ns, tokens - 1
    series.time_per_output_token_ns += (streamed_ns + others // 2) // others
    counts = series.times_per_output_token
    if counts is None:
        counts = series.times_per_output_token = [0] * (len(_PER_TOKEN_NS) + 1)
    # rounded up, so that it stands on the right side of a bound, which is a whole number
    counts[bisect_left(_PER_TOKEN_NS, -(-streamed_ns // others))] += 1


def _add_for_gen_ai(
    series: Series,
    duration_ns: int,
    first_token: float | None,
    tokens_in: int | None,
    tokens_out: int | None,
) -> None:
    """Count what the histograms of OpenTelemetry's schema have beside our own: other bounds, and sizes in tokens."""
    if duration_ns >= 0:
        series.gen_ai_duration_ns += duration_ns
        counts = series.gen_ai_durations
        if counts is None:
            counts = series.gen_ai_durations = [0] * (len(_OPERATION_NS) + 1)
        counts[bisect_left(_OPERATION_NS, duration_ns)] += 1
    if first_token is not None and 0.0 <= first_token < 1e9:
        first_ns = int(first_token * 1e9 + 0.5)
        series.gen_ai_first_chunk_ns += first_ns
        counts = series.gen_ai_first_chunks
        if counts is None:
            counts = series.gen_ai_first_chunks = [0] * (len(_FIRST_CHUNK_NS) + 1)
        counts[bisect_left(_FIRST_CHUNK_NS, first_ns)] += 1
    if tokens_in is not None:
        series.gen_ai_input_tokens += tokens_in
        counts = series.gen_ai_input_tokens_counts
        if counts is None:
            counts = series.gen_ai_input_tokens_counts = [0] * (len(_TOKEN_USAGE) + 1)
        counts[bisect_left(_TOKEN_USAGE, tokens_in)] += 1
    if tokens_out is not None:
        series.gen_ai_output_tokens += tokens_out
        counts = series.gen_ai_output_tokens_counts
        if counts is None:
            counts = series.gen_ai_output_tokens_counts = [0] * (len(_TOKEN_USAGE) + 1)
        counts[bisect_left(_TOKEN_USAGE, tokens_out)] += 1


_DIGITS = Context(prec=500)


def _add_logged_cost(series: Series, cost: Decimal | float) -> bool:
    """Add dollars to the last digit that is told; False where they are no amount.

    A float stands for the decimal that it is written as. Of more than 500 digits, and of what is under
    10⁻⁴⁰⁰ dollars, the rest is dropped: nobody means it, and it could be megabytes.
    """
    dollars = Decimal(repr(cost)) if type(cost) is float else Decimal(cost)
    if not dollars.is_finite() or not 0 <= dollars < 1_000_000_000_000:
        return False
    dollars = _DIGITS.plus(dollars)
    if dollars.adjusted() < -400:
        return True
    numerator, denominator = dollars.as_integer_ratio()
    whole, rest = divmod(numerator * DOLLAR * COST_REST // denominator, COST_REST)
    series.cost_total += whole
    series.cost_rest += rest
    return True

"""The store: label set → one `Series` with everything that was counted for it; cap, dump, load.

A series is kept for each (provider, model, endpoint, status code, error type, finish reason, extra labels…),
so that one look-up serves a request. Sums over labels, cumulative buckets and units are left to the page.
Everything is a whole number: nothing is lost however much is added up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from operator import add, attrgetter
from typing import Any, ClassVar

import orjson

from .fields import ERROR_TYPES, seconds_of

OTHER = "_other"
"""The label value under which what came after the cap is counted."""

MAX_LABEL_CHARACTERS = 128

Labels = tuple[str, ...]
"""provider, model, endpoint, status_code, error_type or "", finish_reason or "", then the extra labels."""

RawLabels = tuple[str | None, ...]
"""The same as a request has them: `None` for no error and no finish reason, any text, any length."""

PROVIDER, MODEL, ENDPOINT, STATUS_CODE, ERROR_TYPE, FINISH_REASON, EXTRA = range(7)

COUNTERS = (
    "count",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "duration_ns",
    "time_to_first_token_ns",
    "time_per_output_token_ns",
    "batch_size",
    "cost_input",
    "cost_output",
    "cost_cache_read",
    "cost_cache_write",
    "cost_audio",
    "cost_total",
    "cost_rest",
    "unpriced",
    "client_cache_hits",
)
"""What only grows. Costs in parts of a dollar (`prices.DOLLAR`), but `cost_rest` in parts of such a part
(`COST_REST`): what is told in figures finer than that belongs to `cost_total` too."""

PICO_DOLLAR = 10**18
"""How many parts of a dollar (`prices.DOLLAR`) are a pico-dollar."""
COST_REST = 10**370
"""How many parts of `cost_rest` make one of `cost_total`: with it, any float is exact as the decimal it is written as."""

HISTOGRAMS = ("durations", "times_to_first_token", "times_per_output_token", "batch_sizes")
"""Bucket counts, not cumulative, the last for what is over every bound; `None` until there is one."""

GAUGES = (
    "last_request",
    "remaining_requests",
    "remaining_requests_order",
    "remaining_tokens",
    "remaining_tokens_order",
)
"""`None` until known. The orders are numbers of `Store.order`: of several series the highest is the latest."""

GEN_AI_COUNTERS = (
    "gen_ai_duration_ns",
    "gen_ai_first_chunk_ns",
    "gen_ai_input_tokens",
    "gen_ai_output_tokens",
)
"""What the histograms of OpenTelemetry's schema add up, where it is asked for: from then on, other than `COUNTERS`."""
GEN_AI_HISTOGRAMS = (
    "gen_ai_durations",
    "gen_ai_first_chunks",
    "gen_ai_input_tokens_counts",
    "gen_ai_output_tokens_counts",
)

EXEMPLARS = ("duration_exemplars", "time_to_first_token_exemplars")
"""Bucket → (trace id, nanoseconds, Unix seconds or `None`), the last one that fell there."""

Exemplars = dict[int, tuple[str, int, float | None]]

Taken = list[tuple[int, Any]]
"""Of a series what is not nothing, by place in all its `COUNTERS`, `HISTOGRAMS`, `GAUGES` and `EXEMPLARS`."""

_FINISH_REASONS = frozenset(
    {"", "stop", "length", "tool_calls", "content_filter", "error", "other"}
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_STATUS = re.compile(r"[1-9][0-9][0-9]\Z")
_SAFE_INTEGER = 2**53
"""What JSON readers hold exactly; a larger number is dumped as text."""

_counters_of = attrgetter(*COUNTERS)
_histograms_of = attrgetter(*HISTOGRAMS)
_gauges_of = attrgetter(*GAUGES)
_LATEST_BY = {
    "last_request": "last_request",
    "remaining_requests": "remaining_requests_order",
    "remaining_requests_order": "remaining_requests_order",
    "remaining_tokens": "remaining_tokens_order",
    "remaining_tokens_order": "remaining_tokens_order",
}
"""By what it is known which of two values is the later one; what decides comes after what it decides."""
_exemplars_of = attrgetter(*EXEMPLARS)
_gen_ai_counters_of = attrgetter(*GEN_AI_COUNTERS)
_gen_ai_histograms_of = attrgetter(*GEN_AI_HISTOGRAMS)
_COUNTED = frozenset((*COUNTERS, *GEN_AI_COUNTERS))
_ARE_HISTOGRAMS = frozenset((*HISTOGRAMS, *GEN_AI_HISTOGRAMS))


_NOTHING = (-1, orjson.Fragment(b""))


MAX_SECOND = 1e11
"""Unix seconds: what is told to be later is no time."""


class Series:
    """Everything that was counted for one label set; its count changes whenever anything of it does."""

    __slots__ = (
        *(name for name in COUNTERS if name not in ("cost_total", "duration_ns")),
        *HISTOGRAMS,
        *(name for name in GAUGES if name != "last_request"),
        *EXEMPLARS,
        "_cost_total",
        "_duration_ns",
        "cost_pico",
        "labels",
        "last_moment",
        "last_second",
        "more_ns",
    )

    figures: ClassVar[tuple[str, ...]] = (*COUNTERS, *HISTOGRAMS, *GAUGES, *EXEMPLARS)
    """All that is counted, by name."""

    count: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    _duration_ns: int
    more_ns: float
    """What is not in `duration_ns` yet: a whole number, which floats add up fast, and exactly below 2^53."""
    time_to_first_token_ns: int
    time_per_output_token_ns: int
    batch_size: int
    cost_input: int
    cost_output: int
    cost_cache_read: int
    cost_cache_write: int
    cost_audio: int
    _cost_total: int
    cost_pico: float
    """What the log told in whole pico-dollars and is not in `cost_total` yet: such a number as `more_ns`."""
    cost_rest: int
    unpriced: int
    client_cache_hits: int
    durations: list[int] | None
    times_to_first_token: list[int] | None
    times_per_output_token: list[int] | None
    batch_sizes: list[int] | None
    last_second: float
    """What `last_request` is made of, with the next: Unix seconds, 0 for none."""
    last_moment: datetime | None
    """A time that is not in `last_second` yet."""
    remaining_requests: int | None
    remaining_requests_order: int | None
    remaining_tokens: int | None
    remaining_tokens_order: int | None
    duration_exemplars: Exemplars | None
    time_to_first_token_exemplars: Exemplars | None

    # of a `GenAiSeries` alone
    gen_ai_duration_ns: int
    gen_ai_first_chunk_ns: int
    gen_ai_input_tokens: int
    gen_ai_output_tokens: int
    gen_ai_durations: list[int] | None
    gen_ai_first_chunks: list[int] | None
    gen_ai_input_tokens_counts: list[int] | None
    gen_ai_output_tokens_counts: list[int] | None

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.cost_pico = self.more_ns = 0.0
        self.last_moment = None
        for name in COUNTERS:
            setattr(self, name, 0)
        for name in (*HISTOGRAMS, *GAUGES, *EXEMPLARS):
            setattr(self, name, None)

    def carry(self) -> None:
        """Move what was added up as floats to where it stays exact, however much it is."""
        self._cost_total += int(self.cost_pico) * PICO_DOLLAR
        self._duration_ns += int(self.more_ns)
        self.cost_pico = self.more_ns = 0.0

    @property
    def cost_total(self) -> int:
        """What the log told as the cost of requests, without its parts."""
        if self.cost_pico:
            self.carry()
        return self._cost_total

    @cost_total.setter
    def cost_total(self, parts: int) -> None:
        self._cost_total, self.cost_pico = parts, 0.0

    @property
    def duration_ns(self) -> int:
        """How long all requests took of which it is told."""
        if self.more_ns:
            self.carry()
        return self._duration_ns

    @duration_ns.setter
    def duration_ns(self, nanoseconds: int) -> None:
        self._duration_ns, self.more_ns = nanoseconds, 0.0

    @property
    def cost(self) -> int:
        """All that the requests cost, but for what is in `cost_rest`."""
        return (
            self.cost_input
            + self.cost_output
            + self.cost_cache_read
            + self.cost_cache_write
            + self.cost_audio
            + self.cost_total
        )

    @property
    def last_request(self) -> float | None:
        """When the latest request ended, Unix seconds."""
        if self.last_moment is not None:
            second = seconds_of(self.last_moment)
            if second is not None and self.last_second < second < MAX_SECOND:
                self.last_second = second
            self.last_moment = None
        return self.last_second or None

    @last_request.setter
    def last_request(self, timestamp: float | None) -> None:
        self.last_second, self.last_moment = timestamp or 0.0, None

    def dump(self) -> list[Any]:
        """Give JSON values from which `load` makes the same series, every number exact."""
        return [
            self.labels,
            [value if value < _SAFE_INTEGER else str(value) for value in _counters_of(self)],
            _histograms_of(self),
            _gauges_of(self),
            [
                exemplars and [(bucket, *exemplar) for bucket, exemplar in exemplars.items()]
                for exemplars in _exemplars_of(self)
            ],
        ]

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> Series:
        """Make the series that was dumped."""
        labels, counters, histograms, gauges, exemplars = dumped
        if not all(type(label) is str for label in labels):
            raise ValueError("expected labels that are text")
        series = cls(tuple(labels))
        for name, value in zip(COUNTERS, counters, strict=True):
            setattr(series, name, int(value))
        for name, counts in zip(HISTOGRAMS, histograms, strict=True):
            setattr(series, name, counts and list(counts))
        for name, value in zip(GAUGES, gauges, strict=True):
            setattr(series, name, value)
        for name, rows in zip(EXEMPLARS, exemplars, strict=True):
            setattr(series, name, rows and {bucket: tuple(exemplar) for bucket, *exemplar in rows})
        return series

    def take(self) -> Taken:
        """Give what was counted since the last time, as values that `marshal` knows, and count from nothing again."""
        taken: Taken = []
        for place, name in enumerate(self.figures):
            value, nothing = getattr(self, name), 0 if name in _COUNTED else None
            if value != nothing:
                taken.append((place, value))
                setattr(self, name, nothing)
        return taken

    def give(self, taken: Taken) -> None:
        """Count what was taken from a series of the same labels; of two gauges the later one stays."""
        for place, value in taken:
            name = self.figures[place]
            ours = getattr(self, name)
            if name in _COUNTED:
                setattr(self, name, ours + value)
            elif ours is None:
                setattr(self, name, value)
            elif name in _ARE_HISTOGRAMS:
                setattr(self, name, list(map(add, ours, value)))
            elif name in EXEMPLARS:
                ours.update(value)
            elif (when := _LATEST_BY[name]) == name:
                # an order, or a time: it decided before it is changed itself
                if value > ours:
                    setattr(self, name, value)
            elif dict(taken)[self.figures.index(when)] >= getattr(self, when):
                setattr(self, name, value)

    def absorb(self, other: Series) -> None:
        """Count all that another series counted."""
        for name in COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in HISTOGRAMS:
            setattr(self, name, _added(getattr(self, name), getattr(other, name)))
        for name, when in _LATEST_BY.items():
            if (getattr(other, when) or 0) > (getattr(self, when) or 0):
                setattr(self, name, getattr(other, name))
        for name in EXEMPLARS:
            both = {**(getattr(other, name) or {}), **(getattr(self, name) or {})}
            setattr(self, name, both or None)


class GenAiSeries(Series):
    """A series that OpenTelemetry's schema is served from too: nobody else pays for its figures."""

    figures = (*Series.figures, *GEN_AI_COUNTERS, *GEN_AI_HISTOGRAMS)
    __slots__ = (*GEN_AI_COUNTERS, *GEN_AI_HISTOGRAMS)

    def __init__(self, labels: Labels) -> None:
        super().__init__(labels)
        for name in GEN_AI_COUNTERS:
            setattr(self, name, 0)
        for name in GEN_AI_HISTOGRAMS:
            setattr(self, name, None)

    def dump(self) -> list[Any]:
        """Give JSON values from which `load` makes the same series, every number exact."""
        return [
            *super().dump(),
            [value if value < _SAFE_INTEGER else str(value) for value in _gen_ai_counters_of(self)],
            _gen_ai_histograms_of(self),
        ]

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> GenAiSeries:
        """Make the series that was dumped, be it by the other class."""
        series = super().load(dumped[:5])
        assert isinstance(series, cls)  # noqa: S101 - it is made by this class
        counters, histograms = dumped[5:] or ((), ())
        for name, value in zip(GEN_AI_COUNTERS, counters, strict=bool(counters)):
            setattr(series, name, int(value))
        for name, counts in zip(GEN_AI_HISTOGRAMS, histograms, strict=bool(histograms)):
            setattr(series, name, counts and list(counts))
        return series

    def absorb(self, other: Series) -> None:
        """Count all that another series counted."""
        super().absorb(other)
        if isinstance(other, GenAiSeries):
            for name in GEN_AI_COUNTERS:
                setattr(self, name, getattr(self, name) + getattr(other, name))
            for name in GEN_AI_HISTOGRAMS:
                setattr(self, name, _added(getattr(self, name), getattr(other, name)))


def _added(ours: list[int] | None, theirs: list[int] | None) -> list[int] | None:
    """Add up bucket counts; `None` is none of them."""
    if ours and theirs:
        return [one + more for one, more in zip(ours, theirs, strict=True)]
    return theirs or ours


class Store:
    """All series: at most `max_series` of their own, and beside them a bounded number under `_other`."""

    def __init__(
        self, max_series: int, extra_labels: tuple[str, ...] = (), *, for_gen_ai: bool = False
    ) -> None:
        """`for_gen_ai`: keep beside all else what OpenTelemetry's schema is served from."""
        self.max_series = max_series
        self.extra_labels = extra_labels
        self.for_gen_ai = for_gen_ai
        self.has_request_models = for_gen_ai
        """Whether the last label of each series is the model asked for, empty where it is the one that answered.

        Where a state has such labels they stay, so that no figure that was shown ever goes back."""
        self.series: list[Series] = []
        """In the order of their birth. `load` puts another list in its place."""
        self.overflow = 0
        """Requests that were counted under `_other` because the cap was reached."""
        self.order = 0
        """How many requests have told a rate limit."""
        self.memo: dict[RawLabels, tuple[Series, Any]] = {}
        """Raw labels → series, and what the meter keeps beside it: for the hot path. It may be cleared at any
        time, is bounded whatever a log holds, and is never replaced."""
        self.epoch = 0
        """It changes when series that were given out are no longer those of the store, or their prices others."""
        self._by_labels: dict[Labels, Series] = {}
        self._texts: list[tuple[int, orjson.Fragment]] = []
        """Of each series, how many requests it had when it was packed last, and what it was packed as."""
        self._others = 0

    def admit(self, raw: RawLabels) -> tuple[Series, bool]:
        """Give the series that counts a request of these labels, and whether it is their own and no `_other`."""
        labels = self._labels(raw)
        found = self._by_labels.get(labels)
        if found is not None:
            return found, True
        # a log that says `_other` itself gets no room that has no bound
        if labels[MODEL] != OTHER and len(self.series) - self._others < self.max_series:
            return self._add(labels), True
        self.overflow += 1
        return self._overflow(labels), False

    def _labels(self, raw: RawLabels) -> Labels:
        """Make labels of a request's own; after the extra ones there may be the model that was asked for."""
        labels = clean(raw)
        own = EXTRA + len(self.extra_labels)
        if not self.has_request_models:
            return labels[:own]
        is_another = len(labels) > own and raw[own] and labels[own] != labels[MODEL]
        return (*labels[:own], labels[own] if is_another else "")

    def remember(self, raw: RawLabels, series: Series, beside: Any) -> None:
        """Keep what raw labels lead to, unless they are too long to be kept."""
        for value in raw:
            if value is not None and len(value) > MAX_LABEL_CHARACTERS:
                return
        # more spellings than series: junk that means the same. Those in use are back with their next request
        if len(self.memo) >= 2 * self.max_series + 64 and raw not in self.memo:
            self.memo.clear()
        self.memo[raw] = (series, beside)

    def dump(self, *, packed: bool = False) -> dict[str, Any]:
        """Give JSON values from which `load` makes the same store; `packed` for orjson alone, and many times faster."""
        return {
            "extra_labels": self.extra_labels,
            **({"has_request_models": True} if self.has_request_models else {}),
            "overflow": self.overflow,
            "order": self.order,
            "series": self._packed() if packed else [one.dump() for one in self.series],
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Take over what was dumped in place of all there is; ValueError, and nothing done, where it does not fit.

        Where the extra labels are others than they were, a series keeps the values of those that stay; a new
        label is empty in it, which is no label to Prometheus, so that it goes on. Series that differed only
        in a label that is gone become one.
        """
        try:
            extra_labels = [str(name) for name in dumped["extra_labels"]]
            overflow, order = int(dumped["overflow"]), int(dumped["order"])
            had_request_models = bool(dumped.get("has_request_models"))
            kind = GenAiSeries if self.for_gen_ai or had_request_models else Series
            series = [kind.load(one) for one in dumped["series"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected dumped series, got something else: {type(error).__name__}"
            ) from None
        had = EXTRA + len(extra_labels) + had_request_models
        if {len(one.labels) for one in series} - {had}:
            raise ValueError("expected a value for each label of a dumped series")
        places = [
            EXTRA + extra_labels.index(name) if name in extra_labels else None
            for name in self.extra_labels
        ]
        self.has_request_models = self.for_gen_ai or had_request_models
        if self.has_request_models:
            places.append(had - 1 if had_request_models else None)
        by_labels: dict[Labels, Series] = {}
        for one in series:
            kept = ["" if place is None else one.labels[place] for place in places]
            one.labels = (*one.labels[:EXTRA], *kept)
            same = by_labels.setdefault(one.labels, one)
            if same is not one:
                same.absorb(one)
        self.overflow, self.order, self.series = overflow, order, list(by_labels.values())
        self._by_labels = by_labels
        self._others = sum([one.labels[MODEL] == OTHER for one in self.series])
        self.memo.clear()
        self._texts.clear()

    def _packed(self) -> list[orjson.Fragment]:
        """Give the series as JSON texts; those of the last time, where they have not changed since: most have not."""
        texts = self._texts
        texts += [_NOTHING] * (len(self.series) - len(texts))
        for place, series in enumerate(self.series):
            if texts[place][0] != series.count:
                # a copy, for orjson keeps four kilobytes for a text of 300 bytes
                text = bytes(memoryview(orjson.dumps(series.dump())))
                texts[place] = series.count, orjson.Fragment(text)
        return [text for _, text in texts]

    def _add(self, labels: Labels) -> Series:
        series = self._by_labels[labels] = (GenAiSeries if self.for_gen_ai else Series)(labels)
        self.series.append(series)
        self._others += labels[MODEL] == OTHER
        return series

    def _overflow(self, labels: Labels) -> Series:
        """Give up one label after the other until the series is there, or there is room for it."""
        provider, _, endpoint, status_code, error_type, finish_reason, *extra = labels
        if self.has_request_models:
            # beside `_other` the model asked for would be one more label without a bound
            extra[-1] = ""
        others = [OTHER if value else "" for value in extra]
        quarter = self.max_series // 4 + 16
        for room, folded in (
            (quarter, (provider, OTHER, endpoint, status_code, error_type, finish_reason, *extra)),
            (
                2 * quarter,
                (provider, OTHER, OTHER, status_code, error_type, finish_reason, *others),
            ),
            (3 * quarter, (OTHER, OTHER, OTHER, status_code, error_type, finish_reason, *others)),
        ):
            found = self._by_labels.get(folded)
            if found is not None:
                return found
            if self._others < room:
                return self._add(folded)
        # error types and finish reasons are closed sets: this last step needs no bound
        last = (OTHER, OTHER, OTHER, OTHER, error_type, finish_reason, *others)
        return self._by_labels.get(last) or self._add(last)


def clean(raw: RawLabels) -> Labels:
    """Make label values of what a log says: short, printable, not empty; the status three digits or 0.

    Error type and finish reason are of their closed sets or `other`, and empty where there is none.
    """
    labels = [_text(value) for value in raw]
    if not _STATUS.match(labels[STATUS_CODE]):
        labels[STATUS_CODE] = "0"
    if labels[ERROR_TYPE] and labels[ERROR_TYPE] not in ERROR_TYPES:
        labels[ERROR_TYPE] = "other"
    if labels[FINISH_REASON] not in _FINISH_REASONS:
        labels[FINISH_REASON] = "other"
    for place in (PROVIDER, MODEL, ENDPOINT, *range(EXTRA, len(labels))):
        labels[place] = labels[place] or "unknown"
    return tuple(labels)


def _text(value: str | None) -> str:
    if value is None:
        return ""
    value = str(value)[:MAX_LABEL_CHARACTERS]
    return value if value.isascii() and value.isprintable() else _CONTROL.sub("\ufffd", value)

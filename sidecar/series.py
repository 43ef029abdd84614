"""The store: label set → one `Series` with everything that was counted for it; cap, dump, load.

A cell is (provider, model, endpoint, status code, error type, finish reason, extra labels…), so that one
look-up serves a request. Sums over labels, cumulative buckets and units are left to the page.
"""

from __future__ import annotations

import re
from typing import Any

OTHER = "_other"
"""The label value under which what came after the cap is counted."""

MAX_LABEL_CHARACTERS = 128
_MAX_RAW_KEYS_PER_SERIES = 8

Labels = tuple[str, ...]
"""provider, model, endpoint, status_code, error_type, finish_reason, then the extra labels."""

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
    "unpriced",
    "client_cache_hits",
)
"""The whole numbers of a series; costs in parts of a dollar (`prices.DOLLAR`)."""

HISTOGRAMS = ("durations", "times_to_first_token", "times_per_output_token", "batch_sizes")
"""The bucket counts of a series, not cumulative, the last for what is over every bound; `None` until one is known."""

GAUGES = ("last_request", "remaining_requests", "remaining_tokens", "remaining_order")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_STATUS = re.compile(r"[1-9]\d\d\Z", re.ASCII)


class Series:
    """Everything counted for one label set, in whole numbers: nothing is lost however much is added."""

    __slots__ = (*COUNTERS, *HISTOGRAMS, *GAUGES, "exemplars", "labels")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        for name in COUNTERS:
            setattr(self, name, 0)
        for name in (*HISTOGRAMS, *GAUGES):
            setattr(self, name, None)
        self.exemplars: dict[tuple[str, int], tuple[str, float, float | None]] | None = None
        """(histogram, bucket) → (trace id, value in milliseconds, Unix seconds): the last one."""

    # Declared for the type checker; made in __init__ from the tables above.
    count: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    duration_ns: int
    time_to_first_token_ns: int
    time_per_output_token_ns: int
    batch_size: int
    cost_input: int
    cost_output: int
    cost_cache_read: int
    cost_cache_write: int
    cost_audio: int
    cost_total: int
    unpriced: int
    client_cache_hits: int
    durations: list[int] | None
    times_to_first_token: list[int] | None
    times_per_output_token: list[int] | None
    batch_sizes: list[int] | None
    last_request: float | None
    remaining_requests: int | None
    remaining_tokens: int | None
    remaining_order: int | None

    def dump(self) -> list[Any]:
        """Give JSON values from which `load` makes the same series."""
        return [
            list(self.labels),
            [getattr(self, name) for name in COUNTERS],
            [getattr(self, name) for name in HISTOGRAMS],
            [getattr(self, name) for name in GAUGES],
        ]

    @classmethod
    def load(cls, dumped: list[Any]) -> Series:
        """Make the series that was dumped."""
        labels, counters, histograms, gauges = dumped
        series = cls(tuple(labels))
        for names, values in ((COUNTERS, counters), (HISTOGRAMS, histograms), (GAUGES, gauges)):
            for name, value in zip(names, values, strict=True):
                setattr(series, name, value)
        return series


class Store:
    """All series, at most `max_series` of them; what comes after is counted under `_other`."""

    def __init__(self, max_series: int, extra_labels: tuple[str, ...] = ()) -> None:
        self.max_series = max_series
        self.extra_labels = extra_labels
        self.series: list[Series] = []
        """In the order of their birth."""
        self.overflow = 0
        """Requests that were counted under `_other` because the cap was reached."""
        self.by_raw: dict[Labels, Series] = {}
        """As the log spells the labels; for the hot path, and bounded."""
        self._by_labels: dict[Labels, Series] = {}

    def of(self, raw: Labels) -> Series:
        """Give the series of these labels, admitting it where there is room."""
        found = self.by_raw.get(raw)
        if found is not None:
            return found
        labels = clean(raw)
        found = self._by_labels.get(labels)
        if found is None:
            found = self._admit(labels)
            if found is None:
                self.overflow += 1
                return self._overflow(labels)
        if len(self.by_raw) < self.max_series * _MAX_RAW_KEYS_PER_SERIES and all(len(value) <= MAX_LABEL_CHARACTERS for value in raw):
            self.by_raw[raw] = found
        return found

    def _admit(self, labels: Labels) -> Series | None:
        # `_other` has room of its own, so that there is always somewhere to count
        if len(self.series) >= self.max_series:
            return None
        return self._add(labels)

    def _add(self, labels: Labels) -> Series:
        series = self._by_labels[labels] = Series(labels)
        self.series.append(series)
        return series

    def _overflow(self, labels: Labels) -> Series:
        """Give up one label after the other until the series is there, or there is room for it."""
        provider, _, endpoint, status_code, error_type, finish_reason, *extra = labels
        others = (OTHER,) * len(extra)
        ladder: list[Labels] = [
            (provider, OTHER, endpoint, status_code, error_type, finish_reason, *extra),
            (provider, OTHER, OTHER, status_code, error_type, finish_reason, *others),
        ]
        for room, folded in zip((self.max_series + self.max_series // 4 + 16, self.max_series + self.max_series // 2 + 64), ladder, strict=True):
            found = self._by_labels.get(folded)
            if found is not None:
                return found
            if len(self.series) < room:
                return self._add(folded)
        # status codes, error types and finish reasons are few: this last step needs no bound
        last = (OTHER, OTHER, OTHER, status_code, error_type, finish_reason, *others)
        return self._by_labels.get(last) or self._add(last)

    def dump(self) -> dict[str, Any]:
        """Give JSON values from which `load` makes the same store."""
        return {"overflow": self.overflow, "series": [series.dump() for series in self.series]}

    def load(self, dumped: dict[str, Any]) -> None:
        """Take over what was dumped, in place of all there is."""
        self.overflow = dumped["overflow"]
        self.series = [Series.load(one) for one in dumped["series"]]
        self._by_labels = {series.labels: series for series in self.series}
        self.by_raw = {}


def clean(raw: Labels) -> Labels:
    """Make label values of what a log says: short, printable, never empty; the status three digits or 0."""
    labels = [_clean(value) for value in raw]
    if not _STATUS.match(labels[STATUS_CODE]):
        labels[STATUS_CODE] = "0"
    for place in (PROVIDER, MODEL, ENDPOINT, *range(EXTRA, len(labels))):
        labels[place] = labels[place] or "unknown"
    return tuple(labels)


def _clean(value: str) -> str:
    value = value[:MAX_LABEL_CHARACTERS]
    return value if value.isascii() and value.isprintable() else _CONTROL.sub("\ufffd", value)

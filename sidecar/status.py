"""What the page for people draws from: one moment of everything, as JSON, bounded whatever a log holds.

Label values are in it, and paths of files; no word of a line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import orjson

from .metrics import DURATION_MS, FIRST_TOKEN_MS, Health
from .recent import SLOT_SECONDS, SLOTS, Point, Recent, Tally, whole
from .series import ERROR_TYPE, MODEL, PROVIDER, Series, Store

RENEW_SECONDS = 2.0
"""How often the page asks."""
RENEW_SAVED_SECONDS = 5.0
"""The same where each answer may have to be saved before."""

MAX_MODELS = 100
MAX_ERRORS = 30
MAX_FILES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that is followed."""

    path: str
    read_bytes: int
    lag_bytes: int
    idle_seconds: float
    """Since it last changed."""
    is_rotated: bool
    """No followed path leads to it any more; it is held open until it is read."""


class Row:
    """A model, and what its series hold together."""

    __slots__ = ("_figures", "count", "model", "provider", "series", "tally")

    def __init__(self, provider: str, model: str) -> None:
        self.provider = provider
        self.model = model
        self.series: list[Series] = []
        self.count = 0
        self.tally = Tally()
        self._figures: dict[str, float | None] | None = None

    def take(self, count: int) -> None:
        """Add the series up anew."""
        self.count = count
        self.tally = Tally(self.series)
        self._figures = None

    def figures(self) -> dict[str, float | None]:
        """Give what is shown of it, made once until something changes."""
        if self._figures is None:
            self._figures = _figures(self.tally)
        return self._figures


class Models:
    """All models, each added up again only when one of its series has changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._series = store.series
        self._known = 0
        self._by_name: dict[tuple[str, str], Row] = {}
        self.rows: list[Row] = []
        """The dearest first."""
        self.counted = Tally()
        """What all of them hold together."""

    def renew(self) -> None:
        """Take in what has been counted since."""
        if self._series is not self._store.series:
            # another store was loaded in place of this one
            self._series, self._known, self.counted = self._store.series, 0, Tally()
            self._by_name.clear()
            self.rows.clear()
        for series in self._series[self._known :]:
            provider, model = key = series.labels[PROVIDER], series.labels[MODEL]
            row = self._by_name.get(key)
            if row is None:
                row = self._by_name[key] = Row(provider, model)
                self.rows.append(row)
            row.series.append(series)
        self._known = len(self._series)
        for row in self.rows:
            count = 0
            for series in row.series:
                count += series.count
            if count != row.count:
                before = row.tally
                row.take(count)
                self.counted = self.counted.plus(row.tally.since(before))
        # mostly in order already
        self.rows.sort(
            key=lambda row: (-row.tally.cost, -row.tally.requests, row.provider, row.model)
        )


def status(
    *,
    now: float,
    started: float,
    store: Store,
    health: Health,
    history: Recent,
    models: Models,
    paths: Sequence[str],
    files: Sequence[File],
    keeps_state: bool,
) -> bytes:
    """Give what the page draws, as it stands `now`, in Unix seconds."""
    errors: Counter[tuple[str, str, str]] = Counter()
    for series in store.series:
        labels = series.labels
        if labels[ERROR_TYPE]:
            errors[labels[PROVIDER], labels[MODEL], labels[ERROR_TYPE]] += series.count
    models.renew()
    rows, counted = models.rows, models.counted
    others = counted
    for row in rows[:MAX_MODELS]:
        others = others.since(row.tally)
    view = history.view(now, counted)
    document: dict[str, Any] = {
        "version": health.version,
        "now": now,
        "started": started,
        "renew_seconds": RENEW_SAVED_SECONDS if keeps_state else RENEW_SECONDS,
        "over_duration_ms": DURATION_MS[-1],
        "over_first_token_ms": FIRST_TOKEN_MS[-1],
        "history": {
            "slot_seconds": SLOT_SECONDS,
            "slots": SLOTS,
            "start": view.start,
            "since": view.since,
            **dict(zip(Point._fields, zip(*view.points, strict=True), strict=True)),
        },
        "hour": _figures(view.hour),
        "today": {"cost_usd": view.today_usd, "since": view.today_since},
        "total": _figures(counted),
        "models": [
            {
                "provider": row.provider,
                "model": row.model,
                **row.figures(),
                "last_request": max(
                    [one.last_request for one in row.series if one.last_request is not None],
                    default=None,
                ),
            }
            for row in rows[:MAX_MODELS]
        ],
        "other_models": {"models": len(rows[MAX_MODELS:]), **_figures(others)},
        "unpriced_models": sum([row.tally.unpriced > 0 for row in rows]),
        "errors": [
            {"provider": provider, "model": model, "error_type": error_type, "requests": requests}
            for (provider, model, error_type), requests in errors.most_common(MAX_ERRORS)
        ],
        "other_errors": len(errors) - len(errors.most_common(MAX_ERRORS)),
        **_of_the_logs(health, paths, files),
        "series": {
            "kept": len(store.series),
            "most": store.max_series,
            "overflow": store.overflow,
        },
        "state": {
            "is_kept": keeps_state,
            "last_save": health.state_last_save_timestamp_seconds,
            "saves": health.state_saves,
        },
        "prices_timestamp": health.prices_timestamp_seconds,
    }
    return orjson.dumps(document)


def _figures(tally: Tally) -> dict[str, float | None]:
    return {
        "requests": tally.requests,
        "errors": tally.errors,
        "unpriced": tally.unpriced,
        "input_tokens": whole(tally.input_tokens),
        "output_tokens": whole(tally.output_tokens),
        "cost_usd": tally.cost_usd,
        "duration_p50": tally.duration_ms(0.5),
        "duration_p95": tally.duration_ms(0.95),
        "duration_p99": tally.duration_ms(0.99),
        "first_token_p50": tally.first_token_ms(0.5),
        "first_token_p95": tally.first_token_ms(0.95),
    }


def _of_the_logs(health: Health, paths: Iterable[str], files: Sequence[File]) -> dict[str, object]:
    # those that are behind first, rotated ones last, of the others those that changed last
    shown = sorted(files, key=lambda one: (-one.lag_bytes, one.is_rotated, one.idle_seconds))
    shown = shown[:MAX_FILES]
    return {
        "paths": [_printable(path) for path in paths],
        "files": [
            {
                "path": _printable(one.path),
                "read_bytes": one.read_bytes,
                "lag_bytes": one.lag_bytes,
                "idle_seconds": round(one.idle_seconds, 1),
                "is_rotated": one.is_rotated,
            }
            for one in shown
        ],
        "other_files": len(files) - len(shown),
        "lag_bytes": sum(map(attrgetter("lag_bytes"), files)),
        "unreadable_files": health.unreadable_files,
        "read_bytes": health.read_bytes,
        "lines": health.lines,
        "parsers": health.requests,
        "rotations": health.rotations,
    }


def _printable(path: str) -> str:
    """Names of files are bytes: those that are no text have no form in JSON."""
    return path.encode("utf-8", "replace").decode()

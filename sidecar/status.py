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

from .history import SLOT_SECONDS, SLOTS, History, Point, Tally, whole
from .metrics import DURATION_MS, FIRST_TOKEN_MS, Health
from .series import ERROR_TYPE, MODEL, PROVIDER, Series, Store

RENEW_SECONDS = 2.0
"""How often the page asks."""

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


def status(
    *,
    now: float,
    started: float,
    store: Store,
    health: Health,
    history: History,
    paths: Sequence[str],
    files: Sequence[File],
    keeps_state: bool,
) -> bytes:
    """Give what the page draws, as it stands `now`, in Unix seconds."""
    models: dict[tuple[str, str], list[Series]] = {}
    errors: Counter[tuple[str, str, str]] = Counter()
    for series in store.series:
        labels = series.labels
        key = labels[PROVIDER], labels[MODEL]
        models.setdefault(key, []).append(series)
        if labels[ERROR_TYPE]:
            errors[(*key, labels[ERROR_TYPE])] += series.count
    rows = [(key, Tally(of_model), of_model) for key, of_model in models.items()]
    rows.sort(key=lambda row: (-row[1].cost, -row[1].requests, row[0]))
    counted = Tally()
    for _, tally, _ in rows:
        counted = counted.plus(tally)
    others = Tally()
    for _, tally, _ in rows[MAX_MODELS:]:
        others = others.plus(tally)
    view = history.view(now, counted)
    document: dict[str, Any] = {
        "version": health.version,
        "now": now,
        "started": started,
        "renew_seconds": RENEW_SECONDS,
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
                "provider": key[0],
                "model": key[1],
                **_figures(tally),
                "last_request": max(
                    [one.last_request for one in of_model if one.last_request is not None],
                    default=None,
                ),
            }
            for key, tally, of_model in rows[:MAX_MODELS]
        ],
        "other_models": {"models": len(rows[MAX_MODELS:]), **_figures(others)},
        "unpriced_models": sum([tally.unpriced > 0 for _, tally, _ in rows]),
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

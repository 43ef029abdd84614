"""Parts of time by a zone: hours, days and months, when they begin and what they are called."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

UNITS = ("hour", "day", "month")

UNKNOWN = "unknown"
"""The label of a request without a time."""
OUTSIDE = "_outside"
"""The label of a request that is not of the time asked for."""
ALL = "all"

_QUARTER_SECONDS = 900
"""All zones of today keep step with UTC in quarters of an hour: no period begins within one."""
_MAX_TIMESTAMP = 1e11
"""What lies beyond is no time of a request, and from the year 10 000 on no date."""


def zone_of(name: str) -> tzinfo:
    """Give a zone by its name; ValueError where nobody knows it."""
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"expected a time zone such as Europe/Berlin that this machine knows, got {name!r}"
        ) from error


class Periods:
    """All hours, days or months of a zone."""

    __slots__ = ("_end", "_name", "_start", "unit", "zone")

    def __init__(self, unit: str, zone: tzinfo = UTC) -> None:
        self.unit = unit
        self.zone = zone
        self._start = self._end = 0.0
        self._name = ""

    def bounds(self, timestamp: float) -> tuple[float, float]:
        """Give when the period that holds a time began and when the next one begins, Unix seconds."""
        if not self._start <= timestamp < self._end:
            self._find(timestamp)
        return self._start, self._end

    def name(self, timestamp: float | None) -> str:
        """Give what the period that holds a time is called: `2026-11`, `2026-11-24`, `2026-11-24T12:00Z`."""
        if timestamp is None or not 0.0 < timestamp < _MAX_TIMESTAMP:
            return UNKNOWN
        if not self._start <= timestamp < self._end:
            self._find(timestamp)
        return self._name

    def _find(self, timestamp: float) -> None:
        moment = datetime.fromtimestamp(timestamp, self.zone)
        if self.unit == "hour":
            # by the clock on the wall, of which some hours come twice
            into = moment.minute * 60 + moment.second + moment.microsecond / 1e6
            self._start = float(round(timestamp - into))
            self._end = self._start + 3600
            text = moment.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")
            self._name = text.replace("+00:00", "Z")
            return
        first = moment.date()
        if self.unit == "month":
            first = first.replace(day=1)
            following = (first + timedelta(days=31)).replace(day=1)
        else:
            following = first + timedelta(days=1)
        self._start, self._end = self._midnight(first), self._midnight(following)
        self._name = first.isoformat()[: 7 if self.unit == "month" else 10]

    def _midnight(self, day: date) -> float:
        return datetime.combine(day, time(), self.zone).timestamp()


class Slices:
    """Counts requests apart by their time: by periods, and those that are outside of a window by themselves."""

    def __init__(
        self,
        periods: Periods | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> None:
        """Requests of the window are from `since` on and before `until`, Unix seconds."""
        self._name: Callable[[float | None], str] | None = periods.name if periods else None
        self._since, self._until = since, until

    def label(self, timestamp: float | None) -> str:
        """Give the label of a request by its time."""
        has_window = self._since is not None or self._until is not None
        if timestamp is None:
            return UNKNOWN if self._name is not None or has_window else ALL
        if (self._since is not None and timestamp < self._since) or (
            self._until is not None and timestamp >= self._until
        ):
            return OUTSIDE
        return self._name(timestamp) if self._name is not None else ALL

    def source(self, timestamp: str) -> str:
        """Write an expression of a name that holds a time, or None: where it is equal the label is."""
        inside = f"int({timestamp} // {_QUARTER_SECONDS})" if self._name is not None else "True"
        tests = [f"{timestamp} >= {self._since!r}"] if self._since is not None else []
        tests += [f"{timestamp} < {self._until!r}"] if self._until is not None else []
        if tests:
            inside = f"{inside} if {' and '.join(tests)} else -1"
        return f"(None if {timestamp} is None else {inside})"

"""The last hour and today, from what the series hold: a short ring of sums, for the page that people look at.

It belongs to the thread that counts, and costs it nothing between two slots. Memory is bounded by the number
of slots, however many series there are. It asks no clock: every moment is given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import add, sub
from typing import Any, NamedTuple

from .metrics import DURATION_MS, FIRST_TOKEN_MS
from .prices import DOLLAR
from .series import ERROR_TYPE, Series, Store

SLOT_SECONDS = 30
SLOTS = 120
"""The last of them is the running one."""

_DAY_SECONDS = 24 * 60 * 60


class Tally:
    """What some series hold together at one moment; never changed once it is made."""

    __slots__ = (
        "cost", "durations", "errors", "first_tokens", "input_tokens", "output_tokens", "requests", "unpriced",
    )  # fmt: skip

    requests: int
    errors: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cost: int
    """In parts of a dollar (`prices.DOLLAR`); what is finer than a part is left out."""
    durations: list[int]
    first_tokens: list[int]

    def __init__(self, series: Iterable[Series] = ()) -> None:
        requests = errors = unpriced = input_tokens = output_tokens = cost = 0
        durations = [0] * (len(DURATION_MS) + 1)
        first_tokens = [0] * (len(FIRST_TOKEN_MS) + 1)
        for one in series:
            requests += one.count
            if one.labels[ERROR_TYPE]:
                errors += one.count
            unpriced += one.unpriced
            input_tokens += one.input_tokens
            output_tokens += one.output_tokens
            cost += (
                one.cost_input
                + one.cost_output
                + one.cost_cache_read
                + one.cost_cache_write
                + one.cost_audio
                + one.cost_total
            )
            if one.durations:
                durations = list(map(add, durations, one.durations))
            if one.times_to_first_token:
                first_tokens = list(map(add, first_tokens, one.times_to_first_token))
        self.requests, self.errors, self.unpriced = requests, errors, unpriced
        self.input_tokens, self.output_tokens, self.cost = input_tokens, output_tokens, cost
        self.durations, self.first_tokens = durations, first_tokens

    def since(self, before: Tally) -> Tally:
        """Give what has come after an earlier tally of the same series."""
        return self._with(sub, before)

    def plus(self, other: Tally) -> Tally:
        """Give what this one and that of other series hold together."""
        return self._with(add, other)

    def _with(self, act: Callable[[int, int], int], other: Tally) -> Tally:
        result = Tally.__new__(Tally)
        result.requests = act(self.requests, other.requests)
        result.errors = act(self.errors, other.errors)
        result.unpriced = act(self.unpriced, other.unpriced)
        result.input_tokens = act(self.input_tokens, other.input_tokens)
        result.output_tokens = act(self.output_tokens, other.output_tokens)
        result.cost = act(self.cost, other.cost)
        result.durations = list(map(act, self.durations, other.durations))
        result.first_tokens = list(map(act, self.first_tokens, other.first_tokens))
        return result

    @property
    def cost_usd(self) -> float:
        """The cost in dollars, rounded once."""
        return self.cost / DOLLAR

    def duration_ms(self, share: float) -> float | None:
        """Estimate how long the fastest `share` of all requests took at the most."""
        return quantile(self.durations, DURATION_MS, share)

    def first_token_ms(self, share: float) -> float | None:
        """The same for the time to the first token."""
        return quantile(self.first_tokens, FIRST_TOKEN_MS, share)


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Estimate a quantile as `histogram_quantile` does, from bucket counts that are not cumulative.

    `None` where nothing was counted; the last bound where the value is over every bound.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    so_far = 0
    lower = 0.0
    for count, upper in zip(counts, bounds, strict=False):
        if count and so_far + count >= rank:
            return lower + (upper - lower) * (rank - so_far) / count
        so_far += count
        lower = upper
    return float(bounds[-1])


def whole(number: int) -> float:
    """Give a whole number as JSON can hold it: from here on readers round, and beyond 64 bits writers refuse."""
    return number if number < 2**53 else float(number)


class Point(NamedTuple):
    """What came in one slot. Durations in milliseconds, `None` where there was none."""

    requests: int
    errors: int
    input_tokens: float
    output_tokens: float
    cost_usd: float
    duration_p50: float | None
    duration_p95: float | None
    duration_p99: float | None
    first_token_p50: float | None
    first_token_p95: float | None


_NOTHING = Point(0, 0, 0, 0, 0.0, None, None, None, None, None)


def _point(came: Tally) -> Point:
    return Point(
        came.requests,
        came.errors,
        whole(came.input_tokens),
        whole(came.output_tokens),
        came.cost_usd,
        came.duration_ms(0.5),
        came.duration_ms(0.95),
        came.duration_ms(0.99),
        came.first_token_ms(0.5),
        came.first_token_ms(0.95),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The last hour and today, as they stand at one moment."""

    start: float
    """Unix seconds at which the first point begins."""
    since: float
    """Unix seconds from which on things were counted here: later than `start` in the first hour."""
    points: list[Point]
    """The oldest first, the last one still running."""
    hour: Tally
    today_usd: float
    today_since: float


class Recent:
    """Keeps what the series held at the start of each slot of the last hour, and at the start of today, UTC.

    What is read at the start, before `begin`, belongs to no slot: it may be a year of logs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._slot: int | None = None
        """Number of the running slot, in slots since 1970."""
        self._begun = 0.0
        self._starts: deque[Tally] = deque(maxlen=SLOTS)
        """What was held at the start of each slot, the running one last."""
        self._points: deque[Point] = deque(maxlen=SLOTS - 1)
        """Of the slots that have ended."""
        self._day: int | None = None
        self._day_cost = 0
        """What everything had cost when today began, or when we began to look."""
        self._day_since = 0.0

    def begin(self, now: float) -> None:
        """Count what comes from now on as coming now."""
        counted = Tally(self._store.series)
        self._slot = int(now // SLOT_SECONDS)
        self._begun = now
        self._points.clear()
        self._starts.clear()
        self._starts.append(counted)
        if self._day != now // _DAY_SECONDS:
            self._begin_day(now, counted)

    def tick(self, now: float) -> None:
        """End the slots that are over; cheap, and to be called before anything is counted that came later."""
        if self._slot is None:
            return
        slot = int(now // SLOT_SECONDS)
        ended = slot - self._slot
        # a clock that is set back a little waits for itself; one that was far ahead is not waited for
        if not ended or -SLOTS < ended < 0:
            return
        if ended < 0:
            self.begin(now)
            return
        counted = Tally(self._store.series)
        self._points.append(_point(counted.since(self._starts[-1])))
        self._points.extend([_NOTHING] * min(ended - 1, SLOTS))
        self._starts.extend([counted] * min(ended, SLOTS))
        self._slot = slot
        if self._day != now // _DAY_SECONDS:
            self._begin_day(now, counted)

    def view(self, now: float, counted: Tally) -> View:
        """Give the last hour and today; `counted` is what all series hold now."""
        if self._slot is None:
            self.begin(now)
        self.tick(now)
        assert self._slot is not None  # noqa: S101 - begun above
        start = (self._slot - len(self._points)) * SLOT_SECONDS
        return View(
            start=start,
            since=max(start, self._begun),
            points=[*self._points, _point(counted.since(self._starts[-1]))],
            hour=counted.since(self._starts[0]),
            today_usd=(counted.cost - self._day_cost) / DOLLAR,
            today_since=self._day_since,
        )

    def dump(self) -> dict[str, Any]:
        """Give, as JSON values, what of today a restart must not forget."""
        return {"day": self._day, "cost": str(self._day_cost), "since": self._day_since}

    def load(self, dumped: dict[str, Any], now: float) -> None:
        """Go on with a day that was dumped, after the store has taken over its series, where it is still that day.

        What is read before `begin` came while nobody looked, and belongs to it.
        """
        try:
            day, cost, since = int(dumped["day"]), int(dumped["cost"]), float(dumped["since"])
        except (KeyError, TypeError, ValueError):
            return  # of a version that did not know of it, or of a sidecar that had not begun
        if day == now // _DAY_SECONDS:
            self._day, self._day_cost, self._day_since = day, cost, since

    def _begin_day(self, now: float, counted: Tally) -> None:
        day = int(now // _DAY_SECONDS)
        is_midnight = self._day == day - 1 and self._slot is not None
        self._day = day
        self._day_cost = counted.cost
        self._day_since = float(day * _DAY_SECONDS) if is_midnight else now

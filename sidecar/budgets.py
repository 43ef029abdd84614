"""Budgets: what may be spent in a day or a month, by whom, and what was.

    [budgets.everything]
    usd = 100
    per = "day"

    [budgets.research]
    usd = 2000
    per = "month"                             # from midnight on the first, in the zone
    zone = "Europe/Berlin"                    # UTC, if it is not said
    match = { provider = "openai", team = "research-*" }   # provider, model, or an extra label; globs

A request counts in the period of its own time, whenever its line is read: one that ended before midnight and is
read after it is no expense of the new day. One whose log tells no time counts when it is read. What was spent in
the period that is now, and in its neighbours (clocks differ), is kept as exact parts of a dollar.

A budget goes by the labels of series: what `--max-series` has folded into `_other` is of no model.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from . import fields
from .periods import Periods, zone_of
from .prices import DOLLAR
from .series import EXTRA, MODEL, PROVIDER, Labels

_MAX_DOLLARS = 1_000_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent in each period."""

    name: str
    parts: int
    """Parts of a dollar (`prices.DOLLAR`)."""
    periods: Periods
    match: tuple[tuple[str, str], ...] = ()
    """Label → glob; all must fit."""

    @property
    def key(self) -> str:
        """What makes it the same budget over a restart: the amount may change, what it counts may not."""
        return repr((self.name, self.periods.unit, str(self.periods.zone), self.match))


def read(document: Any, extra_labels: Sequence[str]) -> tuple[Budget, ...]:
    """Read `[budgets]`; ValueError, one sentence, names what is wrong."""
    if not isinstance(document, Mapping):
        raise ValueError(f"[budgets]: expected a table of budgets, got {document!r}")
    return tuple([_budget(name, table, extra_labels) for name, table in document.items()])


def _budget(name: str, table: Any, extra_labels: Sequence[str]) -> Budget:
    where = f"[budgets.{name}]"
    if not isinstance(table, Mapping):
        raise ValueError(
            f"{where}: expected a table such as {{ usd = 100, per = 'day' }}, got {table!r}"
        )
    for key in table:
        if key not in ("usd", "per", "zone", "match"):
            raise ValueError(f"{where}: expected usd, per, zone or match, got {key!r}")
    usd = table.get("usd")
    amount = (
        Decimal(str(usd))
        if isinstance(usd, int | float | Decimal) and not isinstance(usd, bool)
        else Decimal("nan")
    )
    if not amount.is_finite() or not 0 < amount <= _MAX_DOLLARS:
        shown = str(usd) if isinstance(usd, Decimal) else repr(usd)
        raise ValueError(f"{where} usd: expected an amount of US dollars over 0, got {shown}")
    per = table.get("per")
    if per not in ("day", "month"):
        raise ValueError(f"{where} per: expected day or month, got {per!r}")
    zone = table.get("zone", "UTC")
    try:
        periods = Periods(per, zone_of(zone if isinstance(zone, str) else repr(zone)))
    except ValueError as error:
        raise ValueError(f"{where} zone: {error}") from None
    match = table.get("match", {})
    if not isinstance(match, Mapping):
        raise ValueError(
            f"{where} match: expected a table such as {{ provider = 'openai' }}, got {match!r}"
        )
    for label, glob in match.items():
        if label not in ("provider", "model", *extra_labels):
            raise ValueError(
                f"{where} match: expected provider, model or the name of a --label, got {label!r}"
            )
        if not isinstance(glob, str) or not glob:
            raise ValueError(f"{where} match.{label}: expected a value or a glob, got {glob!r}")
    numerator, denominator = amount.as_integer_ratio()
    return Budget(
        name=name,
        parts=numerator * DOLLAR // denominator,
        periods=periods,
        match=tuple(
            sorted(
                (label, fields.provider(glob) or glob if label == "provider" else glob)
                for label, glob in match.items()
            )
        ),
    )


class _Spending:
    """What was spent of one budget."""

    __slots__ = ("after", "before", "budget", "by_start", "end", "start")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.by_start: dict[float, int] = {}
        """Start of a period, Unix seconds → parts of a dollar; of the one that is now and its neighbours."""
        self.start = self.end = 0.0
        """Of the period that was now when somebody looked last."""
        self.before = self.after = 0.0
        """When the period before that began, and when the one after it ends."""

    def turn(self, now: float) -> None:
        """Go to the period that is now, and forget those that are over for longer than its length."""
        if self.start <= now < self.end:
            return
        periods = self.budget.periods
        self.start, self.end = periods.bounds(now)
        self.before, self.after = periods.bounds(self.start - 1)[0], periods.bounds(self.end)[1]
        kept = {self.before, self.start, self.end}
        self.by_start = {start: parts for start, parts in self.by_start.items() if start in kept}

    def spend(self, parts: int, timestamp: float, now: float) -> None:
        """Count an expense in the period of its time."""
        self.turn(now)
        start = self.start
        if not start <= timestamp < self.end:
            if not self.before <= timestamp < self.after:
                return
            start = self.before if timestamp < start else self.end
        self.by_start[start] = self.by_start.get(start, 0) + parts


class Budgets:
    """All budgets, and what was spent of them."""

    def __init__(
        self, budgets: Sequence[Budget], extra_labels: Sequence[str], clock: Callable[[], float]
    ) -> None:
        """`clock` tells the time, Unix seconds."""
        self._extra_labels = list(extra_labels)
        self._clock = clock
        self._spendings: list[_Spending] = []
        self._concerned: dict[Labels, list[_Spending]] = {}
        self.use(budgets)

    def __bool__(self) -> bool:
        return bool(self._spendings)

    def use(self, budgets: Sequence[Budget]) -> None:
        """Take other budgets; one that counts the same as before goes on where it was."""
        known = {spending.budget.key: spending for spending in self._spendings}
        self._spendings = [_Spending(budget) for budget in budgets]
        for spending in self._spendings:
            if (before := known.get(spending.budget.key)) is not None:
                spending.by_start = before.by_start
        self._concerned.clear()

    def spend(self, labels: Labels, parts: int, timestamp: float | None) -> None:
        """Count what a request cost, parts of a dollar, in every budget that it belongs to."""
        concerned = self._concerned.get(labels)
        if concerned is None:
            # as many as there are series, and those are bounded
            concerned = self._concerned[labels] = [
                spending for spending in self._spendings if self._fits(spending.budget, labels)
            ]
        for spending in concerned:
            now = self._clock()
            spending.spend(parts, now if timestamp is None else timestamp, now)

    def remaining(self) -> Iterator[tuple[Budget, int]]:
        """Give each budget and what is left of it now, parts of a dollar."""
        now = self._clock()
        for spending in self._spendings:
            spending.turn(now)
            yield (
                spending.budget,
                spending.budget.parts - spending.by_start.get(spending.start, 0),
            )

    def dump(self) -> list[Any]:
        """Give JSON values from which `load` makes the same."""
        return [
            [
                spending.budget.key,
                [[start, str(parts)] for start, parts in spending.by_start.items()],
            ]
            for spending in self._spendings
        ]

    def load(self, dumped: Sequence[Any]) -> None:
        """Take over what was dumped, of the budgets that are the same; ValueError where it does not fit."""
        try:
            known = {
                str(key): {float(start): int(parts) for start, parts in rows}
                for key, rows in dumped
            }
        except TypeError as error:
            raise ValueError("expected what was spent of budgets, got something else") from error
        for spending in self._spendings:
            spending.by_start = known.get(spending.budget.key, {})
            spending.start = spending.end = 0.0

    def _fits(self, budget: Budget, labels: Labels) -> bool:
        places = {"provider": PROVIDER, "model": MODEL}
        places |= {label: EXTRA + place for place, label in enumerate(self._extra_labels)}
        return all(
            # a label that is new in the configuration comes with the next restart
            label in places and fnmatch.fnmatchcase(labels[places[label]], glob)
            for label, glob in budget.match
        )

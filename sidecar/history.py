"""Old logs → the figures that every step would have shown, from the times of the records.

Lines are counted in the order in which they are read; what they add in a step is taken from the series and spilled.
The spilled parts of all files are then merged by time and added up. Sums do not ask for an order, so the figures
are those of a sidecar that had been there, wherever a line stood; memory is bounded by the number of series.
"""

from __future__ import annotations

import heapq
import marshal
import os
import struct
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from .fields import FIRST_TIMESTAMP
from .metrics import Meter
from .request import Request
from .series import Series, Store, Taken

MAX_LATE = 10_000
"""Requests of earlier steps that are kept until they are counted together."""
MAX_RUNS = 64
"""Runs that are merged at once; of more, as many become one first."""
ORDER_BITS = 20
"""An order of rate limits is the step, and in these bits how many came before in it."""
_BLOCK_BYTES = 64 * 1024
_HEAD = struct.Struct("<qI")
"""Before what was taken in a step: the step, and how many bytes follow."""

Row = tuple[int, Taken]
"""The place of a series in its store, and what was taken from it."""


class Deltas:
    """What was taken in each step, in a temporary file, as runs whose steps ascend."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - it lives as long as we do
        self._end = 0
        self._start = 0
        self._last: int | None = None
        self._levels: list[list[tuple[int, int]]] = []
        """Runs as (start, end); those of a level are each made of `MAX_RUNS` of the level before."""
        self.part_given = 0.0
        """How much of it `merged` has given, from 0 to 1."""

    def put(self, step: int, rows: list[Row]) -> None:
        """Keep what was taken in a step; a step before the last one begins a new run."""
        if self._last is not None and step < self._last:
            self._end_run()
        self._last = step
        self._write(step, marshal.dumps(rows))

    def merged(self) -> Iterator[tuple[int, list[Row]]]:
        """Give all that was kept, the earliest steps first; one step may come several times."""
        self._end_run()
        runs = [run for level in reversed(self._levels) for run in level]
        self._file.flush()
        total, done = max(1, sum([end - start for start, end in runs])), 0
        for step, data in _merge(self._file.fileno(), runs):
            done += _HEAD.size + len(data)
            self.part_given = done / total
            yield step, marshal.loads(data)  # noqa: S302 - nobody else can write to our unnamed file

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def _write(self, step: int, data: bytes) -> None:
        self._file.write(_HEAD.pack(step, len(data)))
        self._file.write(data)
        self._end += _HEAD.size + len(data)

    def _end_run(self, level: int = 0) -> None:
        run = (self._start, self._end)
        self._start, self._last = self._end, None
        if run[0] == run[1]:
            return
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(run)
        if len(self._levels[level]) >= MAX_RUNS:
            runs, self._levels[level] = self._levels[level], []
            self._file.flush()
            for step, data in _merge(self._file.fileno(), runs):
                self._write(step, data)
            self._end_run(level + 1)


def _merge(fd: int, runs: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    return heapq.merge(*[_run(fd, start, end) for start, end in runs], key=itemgetter(0))


def _run(fd: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    data, at = b"", 0
    while True:
        need = _HEAD.size
        if len(data) - at >= need:
            step, length = _HEAD.unpack_from(data, at)
            need += length
        if len(data) - at < need:
            if start >= end and at == len(data):
                return
            more = os.pread(fd, min(max(_BLOCK_BYTES, need), end - start), start)
            if not more:
                raise OSError("a temporary file is shorter than what was written to it")
            start += len(more)
            data, at = data[at:] + more, 0
            continue
        yield step, data[at + _HEAD.size : at + need]
        at += need


class TimedMeter(Meter):
    """Adds requests to the step in which they ended; a step's figures are taken away when another one begins."""

    is_timed = True

    def begin(self, deltas: Deltas, *, step_seconds: int, since: float, until: float) -> None:
        """Count what ended within `since` ≤ t < `until`, Unix seconds."""
        self._deltas = deltas
        self._step_seconds, self._since, self._until = step_seconds, since, until
        self._cuts = False
        self.is_past = False
        """A request of `until` or later came, and the file's history ends there: what follows was left out."""
        self.only_looks = False
        """Nothing is counted, only `is_past` is found out."""
        self.hint: float | None = None
        """The time that the line's wrapper tells, for a request that tells none."""
        self.untimed = self.before = self.after = 0
        """How many requests told no time that can be, or one outside of what is asked for."""
        self._step: int | None = None
        self._late: list[tuple[int, Request, tuple[str, ...]]] = []
        self._unplaced: list[tuple[Request, tuple[str, ...]]] = []
        self._now = self._mtime = since

    def begin_file(self, mtime: float, *, now: float, cuts: bool) -> None:
        """Make ready for the lines of another file, last written at `mtime`; no record can be of after `now`.

        With `cuts` nothing after its first request of `until` or later is counted, until `is_past` is set back.
        """
        self._mtime, self._now, self._cuts = mtime, now, cuts

    def end_file(self) -> None:
        """Count what waits, and take what was counted."""
        if self._unplaced:
            self._place(self._mtime)
        self._count_late()
        self._leave()

    def add(self, request: Request, extra: tuple[str, ...] = ()) -> None:
        """Count one finished request in its step; one that tells no time, in that of the one before it."""
        if self.is_past:
            return
        at = request.timestamp
        if at is None or not FIRST_TIMESTAMP <= at <= self._now:
            at = self.hint
            if at is None:
                if not self.only_looks:
                    self.untimed += 1
                    self._add_untimed(request, extra)
                return
        if at >= self._until:
            if self._cuts:
                self.is_past = True
                self._leave()
            else:
                self.after += 1
            return
        if self.only_looks:
            return
        if at < self._since:
            self.before += 1
            return
        if not self.second_from <= at < self.second_to:
            step = int(at // self._step_seconds)
            if self._step is not None and step < self._step:
                self._late.append((step, request, extra))
                if len(self._late) >= MAX_LATE:
                    self._count_late()
                    # where time has gone back for good, the next ones are not late
                    self._turn(step)
                return
            self._turn(step)
            if self._unplaced:
                self._place(at)
        super().add(request, extra)

    def _add_untimed(self, request: Request, extra: tuple[str, ...]) -> None:
        if self._step is not None:
            super().add(request, extra)
            return
        self._unplaced.append((request, extra))
        if len(self._unplaced) >= MAX_LATE:
            self._place(self._mtime)

    def _place(self, at: float) -> None:
        """Count the first requests of a file, which told no time, at that of the first that did."""
        waiting, self._unplaced = self._unplaced, []
        at = min(max(at, self._since), self._until - 0.001)
        if self._step is None:
            self._turn(int(at // self._step_seconds))
        for request, extra in waiting:
            super().add(request, extra)

    def _count_late(self) -> None:
        late, self._late = self._late, []
        # the order of reading stays within a step
        late.sort(key=itemgetter(0))
        step = self._step
        for earlier, group in groupby(late, itemgetter(0)):
            self._turn(earlier)
            for _, request, extra in group:
                super().add(request, extra)
        if late and step is not None:
            self._turn(step)

    def _turn(self, step: int) -> None:
        """Count in another step from now on."""
        self._leave()
        self._step = step
        start, end = step * self._step_seconds, (step + 1) * self._step_seconds
        self.second_from = max(float(start), self._since)
        self.second_to = min(float(end), self._until)
        self.moment_from = datetime.fromtimestamp(self.second_from, UTC)
        self.moment_to = datetime.fromtimestamp(self.second_to, UTC)
        # of two steps the later one has told the rate limit last
        self._store.order = step << ORDER_BITS

    def _leave(self) -> None:
        """Take what was counted; until a step is turned to, nothing is counted at once."""
        if self._step is None:
            return
        rows = [
            (place, series.take())
            for place, series in enumerate(self._store.series)
            if series.count
        ]
        if rows:
            self._deltas.put(self._step, rows)
        self._step = None
        self.second_from = self.second_to = 0.0
        self.moment_from = self.moment_to


def nothing_of(store: Store) -> Store:
    """Give a store with the same series at the same places, and nothing counted."""
    empty = Store(store.max_series, store.extra_labels)
    empty.load(
        {
            "extra_labels": store.extra_labels,
            "overflow": store.overflow,
            "order": 0,
            "series": [Series(series.labels).dump() for series in store.series],
        }
    )
    return empty


def steps_of(deltas: Deltas, totals: Store) -> Iterator[int]:
    """Add up what was taken, a step at a time: at each step given, `totals` is what it would have shown."""
    series = totals.series
    step = 0
    for step, group in groupby(deltas.merged(), itemgetter(0)):
        for _, rows in group:
            for place, taken in rows:
                series[place].give(taken)
        yield step
    # whatever tells a rate limit from now on is later
    totals.order = (step + 1) << ORDER_BITS

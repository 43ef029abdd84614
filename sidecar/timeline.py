"""Samples of all rows over time, written as OpenMetrics: family by family, row by row, one sample for each step.

A step's figures are those of the requests that ended before its end, as a scrape at that moment would show them.
A row that changes rarely costs little: between two changes its lines are the same but for the time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from .columns import Columns
from .exposition import Exposition, escape

WINDOW_SECONDS = 7200
"""Prometheus cuts its blocks so."""
SILENCE_SECONDS = 31 * 86400
"""Where nothing happened for longer, no samples are written: one wrong time must not cost a lifetime of them."""

_EXEMPLAR = b" # "


class _Row(NamedTuple):
    number: int
    family: int
    starts: list[bytes]
    """Of each of its lines, all before the figure."""


class _Window(NamedTuple):
    steps: list[int]
    stamps: list[bytes]
    """The time of each step's samples, and the end of their lines."""


class Timeline:
    """What changed in each step, and how that is written."""

    def __init__(
        self,
        exposition: Exposition,
        directory: Path,
        *,
        step_seconds: int,
        end: float,
        zero_first: bool,
        labels: Mapping[str, str],
    ) -> None:
        """No sample is later than `end`, Unix seconds; `labels` are put on every one."""
        self._exposition = exposition
        self._step_seconds, self._end = step_seconds, end
        self._zero_first = zero_first
        self._labels = "".join(
            [f'{name}="{escape(value)}",' for name, value in labels.items()]
        ).encode()
        self._columns = Columns(directory, self._window_of)
        self._rows: dict[object, _Row] = {}
        self._spans: list[list[int]] = []
        """First and last step of each time without a long silence."""
        self._window = lru_cache(maxsize=64)(self._make_window)
        self.sample_count = 0
        """How many lines with a sample were written."""

    def take(self, step: int) -> None:
        """Take in what the exposition shows at the end of a step; steps come in their order."""
        self._cover(step)
        rows, put = self._rows, self._columns.put
        for family, key, text in self._exposition.changes():
            row = rows.get(key)
            if row is None:
                row = self._add_row(family, key, step)
            put(row.number, step, text[:-1])

    def _add_row(self, family: int, key: object, step: int) -> _Row:
        starts, zero = self._exposition.born(family, key)
        row = self._rows[key] = _Row(
            self._columns.add_row(),
            family,
            [start.replace(b"{", b"{" + self._labels, 1) for start in starts],
        )
        if self._zero_first and not self._is_gauge[family]:
            # so that increase() sees the first requests of a row
            self._columns.put(row.number, step - 1, zero[:-1])
        return row

    def last_until(self, moment: float) -> None:
        """Write samples on to a moment, Unix seconds, though nothing happens any more."""
        step = int(-(-moment // self._step_seconds)) - 1
        if self._spans and step > self._spans[-1][1]:
            self._cover(step)

    @property
    def windows(self) -> list[int]:
        """The windows that have samples, in their order."""
        found: dict[int, None] = {}
        for first, last in self._spans:
            found.update(dict.fromkeys(range(self._window_of(first), self._window_of(last) + 1)))
        return list(found)

    def write(self, write: Callable[[bytes], object], progress: Callable[[float], None]) -> None:
        """Write all of it as one OpenMetrics text; `progress` is told how much is done, from 0 to 1."""
        windows = self.windows
        self._columns.rewind()
        by_family: list[list[_Row]] = [[] for _ in self._exposition.heads]
        for row in self._rows.values():
            by_family[row.family].append(row)
        done = 0
        for head, rows in zip(self._exposition.heads, by_family, strict=True):
            write(head)
            for row in rows:
                last: list[bytes] | None = None
                for window in windows:
                    last = self._write_row(write, row, window, last)
                done += 1
                progress(done / len(self._rows))
        write(b"# EOF\n")

    def write_windows(
        self, begin: Callable[[int], Callable[[bytes], object]], progress: Callable[[float], None]
    ) -> None:
        """Write an OpenMetrics text for each window of two hours; `begin` gives where the next one goes."""
        windows = self.windows
        self._columns.rewind()
        last: dict[int, list[bytes] | None] = {}
        rows = sorted(self._rows.values(), key=lambda row: row.family)
        for done, window in enumerate(windows, 1):
            write = begin(window)
            for row in rows:
                last[row.number] = self._write_row(write, row, window, last.get(row.number))
            write(b"# EOF\n")
            progress(done / len(windows))

    def close(self) -> None:
        """Give the disk space back."""
        self._columns.close()

    @property
    def _is_gauge(self) -> list[bool]:
        return [b" gauge\n" in head for head in self._exposition.heads]

    def _cover(self, step: int) -> None:
        spans = self._spans
        if not spans or (step - spans[-1][1]) * self._step_seconds > SILENCE_SECONDS:
            spans.append([step - 1, step])
        spans[-1][1] = step

    def _window_of(self, step: int) -> int:
        return (step + 1) * self._step_seconds // WINDOW_SECONDS

    def _make_window(self, window: int) -> _Window:
        seconds = self._step_seconds
        first = -(-window * WINDOW_SECONDS // seconds) - 1
        steps = [
            step
            for step in range(first, -(-(window + 1) * WINDOW_SECONDS // seconds) - 1)
            if any(start <= step <= end for start, end in self._spans)
        ]
        return _Window(steps, [self._stamp(step) for step in steps])

    def _stamp(self, step: int) -> bytes:
        moment = (step + 1) * self._step_seconds
        return b"%d\n" % moment if moment <= self._end else f"{self._end:.3f}\n".encode()

    def _write_row(
        self, write: Callable[[bytes], object], row: _Row, window: int, last: list[bytes] | None
    ) -> list[bytes] | None:
        """Write a row's lines of a window; `last` is what it began with, given back is what it ended with."""
        steps, stamps = self._window(window)
        out: list[bytes] = []
        at = 0
        for step, figures in self._columns.read(row.number, window):
            place = bisect_left(steps, step, at)
            if last is not None and place > at:
                _repeat(out, last, stamps[at:place])
            at = place
            if len(row.starts) == 1:
                last = [b"%b%b " % (row.starts[0], figures)]
                continue
            values = figures.split(b"\n")
            if _EXEMPLAR in figures and place < len(stamps) and steps[place] == step:
                last = _with_exemplars(out, row.starts, values, stamps[place])
                at += 1
            else:
                last = [
                    start + value + b" " for start, value in zip(row.starts, values, strict=True)
                ]
        if last is not None and at < len(stamps):
            _repeat(out, last, stamps[at:])
        text = b"".join(out)
        self.sample_count += text.count(b"\n")
        write(text)
        return last


def _repeat(out: list[bytes], lines: list[bytes], stamps: list[bytes]) -> None:
    """Write the same lines at each of some times."""
    if len(lines) > 1:
        ended = [*lines, b""]
        out += [stamp.join(ended) for stamp in stamps]
    elif len(stamps) == 1:
        out += lines
        out += stamps
    else:
        out += lines
        out.append(lines[0].join(stamps))


def _with_exemplars(
    out: list[bytes], starts: list[bytes], values: list[bytes], stamp: bytes
) -> list[bytes]:
    """Write one sample of each line, with its exemplar where there is one; give the lines without."""
    lines: list[bytes] = []
    for start, value in zip(starts, values, strict=True):
        figure, mark, exemplar = value.partition(_EXEMPLAR)
        lines.append(start + figure + b" ")
        out.append(b"%b%b%b%b\n" % (lines[-1], stamp[:-1], mark, exemplar))
    return lines

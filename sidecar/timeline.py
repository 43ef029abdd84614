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
        for family, key, text, zero in self._exposition.changes():
            row = self._rows.get(key)
            if row is None:
                starts = [line[: line.rindex(b" ") + 1] for line in zero.split(b"\n")[:-1]]
                row = self._rows[key] = _Row(self._columns.add_row(), family, starts)
                if self._zero_first and not self._is_gauge[family]:
                    # so that increase() sees the first requests of a row
                    self._columns.put(row.number, step - 1, _figures(zero, starts))
            self._columns.put(row.number, step, _figures(text, row.starts))

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
        at = 0
        for step, figures in self._columns.read(row.number, window):
            place = bisect_left(steps, step, at)
            if last is not None and place > at:
                self._write_same(write, last, stamps[at:place])
            at = place
            values = figures.split(b"\n")
            last = [start + value + b" " for start, value in zip(row.starts, values, strict=True)]
            if _EXEMPLAR in figures and place < len(stamps) and steps[place] == step:
                last = self._write_exemplars(write, row, values, stamps[place])
                at += 1
        if last is not None and at < len(stamps):
            self._write_same(write, last, stamps[at:])
        return last

    def _write_same(
        self, write: Callable[[bytes], object], lines: list[bytes], stamps: list[bytes]
    ) -> None:
        self.sample_count += len(lines) * len(stamps)
        if self._labels:
            lines = [line.replace(b"{", b"{" + self._labels, 1) for line in lines]
        if len(lines) == 1:
            write(lines[0] + lines[0].join(stamps))
            return
        ended = [*lines, b""]
        write(b"".join([stamp.join(ended) for stamp in stamps]))

    def _write_exemplars(
        self, write: Callable[[bytes], object], row: _Row, values: list[bytes], stamp: bytes
    ) -> list[bytes]:
        """Write one sample of each line, with its exemplar where there is one; give the lines without."""
        lines: list[bytes] = []
        out: list[bytes] = []
        for start, value in zip(row.starts, values, strict=True):
            figure, mark, exemplar = value.partition(_EXEMPLAR)
            lines.append(start + figure + b" ")
            shown = lines[-1]
            if self._labels:
                shown = shown.replace(b"{", b"{" + self._labels, 1)
            out.append(shown + stamp[:-1] + mark + exemplar + b"\n")
        self.sample_count += len(out)
        write(b"".join(out))
        return lines


def _figures(text: bytes, starts: list[bytes]) -> bytes:
    lines = text.split(b"\n")
    return b"\n".join([line[len(start) :] for line, start in zip(lines, starts, strict=False)])

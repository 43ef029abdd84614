"""Turns a history round: what changed is put in step after step, and comes out row after row.

OpenMetrics wants all samples of one label set together, while a history is counted one moment after the other.
Changes are kept in memory for one window of time at the most, and in a temporary file otherwise.
"""

from __future__ import annotations

import marshal
import tempfile
from array import array
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

MAX_KEPT_BYTES = 16 << 20
_ENTRY_BYTES = 120
"""About what a kept change costs beside its figures."""

Entry = tuple[int, bytes]
"""Step, and the figures from then on."""


class Columns:
    """The changes of all rows; a row is a number that `add_row` gives."""

    def __init__(self, directory: Path, window_of: Callable[[int], int]) -> None:
        """`window_of` gives the window of a step; neither ever goes back."""
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - it lives as long as we do
        self._end = 0
        self._window_of = window_of
        self._window: int | None = None
        self._step: int | None = None
        self._kept: dict[int, list[Entry]] = {}
        self._kept_bytes = 0
        self._chunks: list[array[int]] = []
        """Of each row: window, offset and length of each of its chunks, in order of time."""
        self._next: list[int] = []
        """Of each row, its first chunk that was not read yet."""

    def add_row(self) -> int:
        """Give the number of a new row."""
        self._chunks.append(array("q"))
        self._next.append(0)
        return len(self._chunks) - 1

    def put(self, row: int, step: int, figures: bytes) -> None:
        """Keep what a row's figures are from a step on."""
        if step != self._step:
            self._step = step
            window = self._window_of(step)
            if window != self._window or self._kept_bytes > MAX_KEPT_BYTES:
                self.flush()
                self._window = window
        kept = self._kept.get(row)
        if kept is None:
            kept = self._kept[row] = []
        kept.append((step, figures))
        self._kept_bytes += len(figures) + _ENTRY_BYTES

    def flush(self) -> None:
        """Write what is kept in memory."""
        for row, entries in self._kept.items():
            for window, chunk in groupby(entries, lambda entry: self._window_of(entry[0])):
                data = marshal.dumps(list(chunk))
                self._chunks[row].extend((window, self._end, len(data)))
                self._end += self._file.write(data)
        self._kept.clear()
        self._kept_bytes = 0

    def rewind(self) -> None:
        """Make ready to read all rows from their first window on."""
        self.flush()
        self._file.flush()
        self._next = [0] * len(self._chunks)

    def read(self, row: int, window: int) -> list[Entry]:
        """Give the changes of a row in a window; windows are asked for in their order."""
        chunks, at = self._chunks[row], self._next[row]
        found: list[Entry] = []
        while at < len(chunks) and chunks[at] <= window:
            self._file.seek(chunks[at + 1])
            data = self._file.read(chunks[at + 2])
            found += marshal.loads(data)  # noqa: S302 - nobody else can write to our unnamed file
            at += 3
        self._next[row] = at
        return found

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

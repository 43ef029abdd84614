"""Bytes in, whole lines out: half lines are kept, lines that are too long are passed over.

What every splitter promises: a line is given out once, when its newline has come; what is kept
never exceeds `max_line_bytes`; and `pending_bytes` tells how much of what was fed has not been
given out, so that the position of a file can stand at the start of its unfinished line.
"""

from __future__ import annotations

import re

_NULS = re.compile(rb"(?:^|(?<=\n))\0+")


def split(whole: bytes | memoryview) -> list[bytes]:
    """Give the lines of text that ends with a newline, without their newlines, and without NULs before them."""
    whole = bytes(whole)
    if b"\0" in whole:
        whole = _NULS.sub(b"", whole)
    lines = whole.split(b"\n")
    lines.pop()
    return lines


_LONG_LINE_BYTES = 4096


def has_lines(whole: bytes | memoryview, number: int) -> bool:
    """Tell whether text is just so many lines, each with its newline."""
    length = len(whole)
    if length < number * _LONG_LINE_BYTES:
        # four times as fast as `count`, which looks at byte after byte
        return length - len(bytes(whole).replace(b"\n", b"")) == number and whole[-1:] == b"\n"
    text: bytes | bytearray = whole if isinstance(whole, bytes) else whole.obj  # type: ignore[assignment] # a view of one
    end = 0
    for _ in range(number):
        end = text.find(b"\n", end, length) + 1
        if not end:
            return False
    return end == length


class LineSplitter:
    """Splits the bytes of one file into lines, without their line ends."""

    __slots__ = ("_kept", "_max_line_bytes", "_parts", "dropping", "too_long")

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._parts: list[bytes] = []
        self._kept = 0
        self.dropping = False
        """In the middle of a line that is too long: bytes are passed over to the next newline."""
        self.too_long = 0
        """How many lines have been too long; whoever reads the count sets it back to 0."""

    @property
    def pending_bytes(self) -> int:
        """How many bytes of the unfinished line are kept."""
        return self._kept

    def takes_whole(self, number_bytes: int) -> bool:
        """Tell whether whole lines of so many bytes would be given out as they stand, but for NULs before them."""
        return not self._kept and not self.dropping and number_bytes <= self._max_line_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Give the lines that `data` completes; an empty line stays, as `b""`.

        NULs at the start of a line are no part of it: a writer that goes on at its old offset
        after a truncation leaves a hole of them, a crashed host a run.
        """
        return split(self.whole(data))

    def whole(self, data: bytes) -> bytes:
        """Give the lines that `data` completes as they stand, each with its newline."""
        if b"\0" in data:
            data = self._without_nuls(data)
        end = data.rfind(b"\n") + 1
        if not end:
            if data and not self.dropping:
                self._keep(data)
            return b""
        whole, rest = data[:end], data[end:]
        if self.dropping:
            self.dropping = False
            self.too_long += 1
            whole = whole[whole.index(b"\n") + 1 :]
        elif self._kept:
            whole = b"".join([*self._parts, whole])
            self._parts.clear()
            self._kept = 0
        if len(whole) > self._max_line_bytes:
            whole = self._without_too_long(whole)
        if rest:
            self._keep(rest)
        return whole

    def finish(self) -> bytes | None:
        """Give the line whose newline will not come any more, if there is one."""
        if self.dropping:
            self.dropping = False
            self.too_long += 1
            return None
        line = b"".join(self._parts)
        self._parts.clear()
        self._kept = 0
        return line or None

    def forget_kept(self) -> None:
        """Drop the kept part of the unfinished line: it will be fed again."""
        self._parts.clear()
        self._kept = 0

    def _keep(self, rest: bytes) -> None:
        self._parts.append(rest)
        self._kept += len(rest)
        if self._kept > self._max_line_bytes:
            self._parts.clear()
            self._kept = 0
            self.dropping = True

    def _without_too_long(self, whole: bytes) -> bytes:
        lines = split(whole)
        fitting = [line for line in lines if len(line) <= self._max_line_bytes]
        if len(fitting) == len(lines):
            return whole
        self.too_long += len(lines) - len(fitting)
        return b"".join([line + b"\n" for line in fitting])

    def _without_nuls(self, data: bytes) -> bytes:
        if self._kept or self.dropping:
            first, newline, others = data.partition(b"\n")
            return first + newline + _NULS.sub(b"", others) if newline else data
        return _NULS.sub(b"", data)

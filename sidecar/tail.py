"""Read one file from a position; never wait, never guess whether it is still the same file.

The proof that a file is the one whose bytes were counted: a hash of its first ≤ 1024 counted bytes and a
hash of the 256 bytes before the position. Device and inode are a hint only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

import msgspec

from .digests import blake2b
from .lines import LineSplitter

CHUNK_BYTES = 256 * 1024
"""What is read at once; more would fall out of the processor's cache before it is counted."""
LONG_CHUNK_BYTES = 8 * CHUNK_BYTES
"""The same where lines are long: what is done once for all lines of a reading is done for few of them."""
_LONG_LINE_BYTES = 4096
_buffer = bytearray(LONG_CHUNK_BYTES)
"""What is read passes through it: to ask the system for as much memory each time takes longer than to copy it."""
_view = memoryview(_buffer)
HEAD_BYTES = 1024
TAIL_BYTES = 256


def digest(data: bytes) -> str:
    """Give the short hash that proofs are made of."""
    found: str = blake2b(data, digest_size=16).hexdigest()
    return found


class Proof(msgspec.Struct, frozen=True):
    """What must stand in a file for its first `position` bytes to be the counted ones."""

    position: int
    head_bytes: int
    head: str
    tail: str

    def holds(self, fd: int, size: int) -> bool:
        """Tell whether the file behind `fd` begins with the counted bytes; position 0 proves nothing."""
        if not 0 < self.position <= size:
            return False
        if digest(os.pread(fd, self.head_bytes, 0)) != self.head:
            return False
        start = max(0, self.position - TAIL_BYTES)
        return digest(os.pread(fd, self.position - start, start)) == self.tail


def open_regular(path: str) -> tuple[int, os.stat_result] | None:
    """Open a regular file for reading; `None` for what is none, OSError for what cannot be opened.

    Opened without blocking and looked at again afterwards: a FIFO without a writer may have taken its name.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        return None
    return fd, status


class Tail:
    """One open file, the position up to which its whole lines were given out, and the proof of it."""

    __slots__ = (
        "_before",
        "_beginning",
        "_chunk_bytes",
        "_head",
        "_head_bytes",
        "_tail",
        "fd",
        "lines",
        "offset",
        "read_bytes",
    )

    def __init__(self, fd: int, max_line_bytes: int, offset: int = 0) -> None:
        self.fd = fd
        self.lines = LineSplitter(max_line_bytes)
        self.offset = offset
        """Up to where bytes were read."""
        self.read_bytes = 0
        """Bytes read since this was last set to 0."""
        self._chunk_bytes = CHUNK_BYTES
        self._head = ""
        self._head_bytes = 0
        self._tail = ""
        self._beginning: bytes | None = b""
        """The bytes of `_head` while it is short, and those of `_tail`; `None` where only their hash is known.

        They are kept as they were read: to read them again would prove what came after a truncation.
        """
        self._before: bytes | None = b""
        if offset:
            self.prove()

    @classmethod
    def known(cls, proof: Proof, max_line_bytes: int) -> Tail:
        """Make the tail of a file that is not open now, of which the proof is known."""
        tail = cls(-1, max_line_bytes)
        tail.offset = proof.position
        tail._head, tail._head_bytes, tail._tail = proof.head, proof.head_bytes, proof.tail
        tail._beginning = tail._before = None
        return tail

    def prove(self) -> Proof:
        """Read the proof for the bytes up to `offset` from the file itself."""
        self._beginning = os.pread(self.fd, min(HEAD_BYTES, self.offset), 0)
        self._head, self._head_bytes = digest(self._beginning), len(self._beginning)
        self._before = self._bytes_before()
        self._tail = digest(self._before)
        return self.proof

    @property
    def proof(self) -> Proof:
        """What the bytes up to `offset` looked like when they were last read."""
        return Proof(self.offset, self._head_bytes, self._head, self._tail)

    def is_truncated(self, size: int) -> bool:
        """Tell whether the bytes before the position are no longer those that were read."""
        if size < self.offset:
            return True
        if not self.offset:
            return False
        return digest(self._bytes_before()) != self._tail

    def _bytes_before(self) -> bytes:
        start = max(0, self.offset - TAIL_BYTES)
        return os.pread(self.fd, self.offset - start, start)

    def _knows_place(self) -> bool:
        """Tell whether the bytes before the position, and the first ones, are still those that were read."""
        if self.offset and self._bytes_before() != self._before:
            if self._before is not None or digest(before := self._bytes_before()) != self._tail:
                return False
            self._before = before
        if self._beginning is None and self._head_bytes < HEAD_BYTES:
            beginning = os.pread(self.fd, self._head_bytes, 0)
            if digest(beginning) != self._head:
                return False
            self._beginning = beginning
        return True

    def _move_on(self, data: bytes | memoryview) -> None:
        """Take these bytes for read."""
        self.offset += len(data)
        self.read_bytes += len(data)
        if self._head_bytes < HEAD_BYTES and self._beginning is not None:
            self._beginning += data[: HEAD_BYTES - self._head_bytes]
            self._head, self._head_bytes = digest(self._beginning), len(self._beginning)
        self._before = ((self._before or b"") + data[-TAIL_BYTES:])[-TAIL_BYTES:]

    def read(self, budget_bytes: int) -> tuple[bytes | memoryview, bool]:
        """Give the whole lines of one chunk, or of at most `budget_bytes` more, and whether the end was reached.

        A `memoryview` holds until the next reading of any file; in one, NULs may still stand before a line.
        Nothing is given of a file that has been truncated meanwhile, and grown beyond the position.
        """
        found: list[bytes] = []
        left = budget_bytes
        at_end = False
        while left > 0:
            try:
                size = min(self._chunk_bytes, left)
                count = os.preadv(self.fd, [_view[:size]], self.offset)
            except OSError:
                if left == budget_bytes:
                    raise
                # what came before the bad spot is given out; the next read raises
                break
            if not count:
                at_end = True
                break
            # after the reading: what was truncated before it cannot pass
            if not self._knows_place():
                break
            left -= count
            if count == size and not found and self.lines.takes_whole(size):
                # there is more: half a line is read again, and costs less than putting its halves together
                end = _buffer.rfind(b"\n", 0, count) + 1
                if end:
                    is_long = end - _buffer.rfind(b"\n", 0, end - 1) > _LONG_LINE_BYTES
                    self._chunk_bytes = LONG_CHUNK_BYTES if is_long else CHUNK_BYTES
                    self._move_on(_view[:end])
                    self._tail = digest(self._before or b"")
                    return _view[:end], False
            data = bytes(_view[:count])
            self._move_on(data)
            found.append(self.lines.whole(data))
            if data[-1] == 0 and not data.strip(b"\0"):
                left = min(left, self._skip_hole())
        if left != budget_bytes:
            self._tail = digest(self._before or b"")
        return b"".join(found), at_end

    def _skip_hole(self) -> int:
        """Jump over a hole: a sparse gigabyte of NULs is not worth reading. Gives the budget that is left."""
        with contextlib.suppress(OSError):
            try:
                end = os.lseek(self.fd, self.offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                # nothing but hole up to the end
                end = os.fstat(self.fd).st_size
            if end > self.offset:
                # as many NULs as a proof may take
                read_bytes = self.read_bytes
                self._move_on(bytes(min(end - self.offset, HEAD_BYTES)))
                self.offset, self.read_bytes = end, read_bytes
        return CHUNK_BYTES

    def close(self) -> None:
        """Close the file; what was read stays known."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

"""Wake when something may have changed; events are hints, the file is the truth.

The kernel is asked itself: one descriptor and no thread, however many directories are watched, and what it tells
while the loop is at work costs nothing, for it puts like events together.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import struct
import threading
from collections.abc import Callable, Set
from typing import Any

log = logging.getLogger("ai_sidecar")

_EVENT = struct.Struct("iIII")
"""The watch's number, what happened, a cookie, how many bytes of a name follow (inotify(7))."""
_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _ONLY_DIRECTORIES = 0x400, 0x800, 0x1000000
_WANTED = (
    _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
    | _ONLY_DIRECTORIES
)  # fmt: skip
_READ_BYTES = 64 * 1024


class Bell:
    """What the loop waits on: anybody may ring it, a signal handler too; `set`, `clear` and `wait` of an Event.

    A descriptor as well may end the wait: an Event cannot be waited for together with one.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._reading, select.POLLIN)
        self._is_set = False

    def __del__(self) -> None:
        os.close(self._reading)
        os.close(self._writing)

    def is_set(self) -> bool:
        """Tell whether it was rung since it was last cleared."""
        return self._is_set

    def set(self) -> None:
        """Ring."""
        if not self._is_set:
            self._is_set = True
            # a pipe that is full wakes as well
            with contextlib.suppress(BlockingIOError):
                os.write(self._writing, b"!")

    def clear(self) -> None:
        """Wait for the next ring from now on; what was rung for must be looked at after this."""
        self._is_set = False
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 4096)

    def wait(self, seconds: float, fd: int = -1) -> None:
        """Wait until it rings, or `fd` (if any) can be read, at most so long."""
        if fd >= 0:
            self._poll.register(fd, select.POLLIN)
        try:
            self._poll.poll(max(0.0, seconds) * 1000)
        finally:
            if fd >= 0:
                self._poll.unregister(fd)


class Watch:
    """The events of directories, as far as the system has any to give."""

    def __init__(self) -> None:
        self._libc: Any = None
        self.fd = -1
        """Readable when something happened; -1 where there are no events."""
        self._covered: Set[str] = frozenset()
        self._watched: dict[int, list[str]] = {}
        """The names of each directory, by the number of its watch."""
        self._has_failed = self._is_short = False
        self.tells_all = False
        """All directories that were asked for are watched."""

    def cover(self, directories: Set[str]) -> bool:
        """Watch these directories and no others; where that fails, the regular look has to do.

        Each is asked for anew: its name may lead to another directory than before. The same set again is not looked
        at. Gives whether some were not watched until now.
        """
        if self._has_failed or directories is self._covered or not (self.fd >= 0 or directories):
            return False
        self._covered = directories
        try:
            if self.fd < 0:
                self._start()
            numbers: dict[str, int] = {}
            for directory in directories:
                number = self._libc.inotify_add_watch(self.fd, os.fsencode(directory), _WANTED)
                if number >= 0:
                    numbers[directory] = number
                elif (error := self._error()).errno == errno.ENOSPC and not self._is_short:
                    # those that are watched stay so
                    self._is_short = True
                    self._warn(error)
        except (OSError, AttributeError) as error:
            self.stop()
            self._has_failed = True
            self._warn(error)
            return False
        watched: dict[int, list[str]] = {}
        for directory, number in numbers.items():
            watched.setdefault(number, []).append(directory)
        for number in self._watched.keys() - watched.keys():
            self._libc.inotify_rm_watch(self.fd, number)
        is_more = not watched.keys() <= self._watched.keys()
        self._watched = watched
        self.tells_all = len(numbers) == len(directories)
        return is_more

    def _start(self) -> None:
        # imported late: a page on standard output needs no events
        import ctypes

        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise self._error()

    @staticmethod
    def _error() -> OSError:
        import ctypes

        number = ctypes.get_errno()
        return OSError(number, os.strerror(number))

    @staticmethod
    def _warn(error: Exception) -> None:
        log.warning(
            "file-system events cannot be had (%s): new lines are seen at the next look instead",
            getattr(error, "strerror", None) or error.__class__.__name__,
        )

    def take(self) -> tuple[set[tuple[str, str]], bool]:
        """Give what files (directory, name) have changed, and whether a look round is due: a name has come or gone."""
        changed: set[tuple[int, bytes]] = set()
        is_look_due = False
        while self.fd >= 0:
            try:
                events = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                break
            at = 0
            while at < len(events):
                number, what, _, length = _EVENT.unpack_from(events, at)
                at += _EVENT.size + length
                if what & _MODIFY:
                    changed.add((number, events[at - length : at]))
                else:
                    # also where events were lost, or a directory is gone
                    is_look_due = True
            if len(events) < _READ_BYTES // 2:
                break
        return {
            (directory, os.fsdecode(name.rstrip(b"\0")))
            for number, name in changed
            for directory in self._watched.get(number, ())
        }, is_look_due

    def stop(self) -> None:
        """Stop watching."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
        self.tells_all = False
        self._watched.clear()


class StandardInput(threading.Thread):
    """Tells when standard input can be read without waiting; the reading is the loop's."""

    def __init__(self, wake: Callable[[], None], fd: int = 0) -> None:
        super().__init__(name="stdin", daemon=True)
        self._wake = wake
        self._fd = fd
        self._taken = threading.Event()
        self.has_bytes = False

    def run(self) -> None:
        """Wait for bytes, wake the loop, wait for it to take them."""
        while True:
            select.select([self._fd], [], [])
            self._taken.clear()
            self.has_bytes = True
            self._wake()
            self._taken.wait()

    def take(self, max_bytes: int) -> bytes | None:
        """Give what is there, `b""` at the end, `None` where nothing is."""
        if not self.has_bytes:
            return None
        data = os.read(self._fd, max_bytes)
        self.has_bytes = False
        if data:
            self._taken.set()
        return data

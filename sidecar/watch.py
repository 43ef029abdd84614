"""Wake when something may have changed; events are hints, the file is the truth."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger("ai_sidecar")


class Watch:
    """Wakes the loop on file-system events, as far as the system has any to give."""

    def __init__(self, wake: Callable[[bool], None]) -> None:
        self._wake = wake
        """Called with whether a name has come, gone or changed, so that a look round is due."""
        self._observer: Any = None
        self._watched: dict[str, Any] = {}
        self._has_failed = False

    def cover(self, directories: set[str]) -> None:
        """Watch these directories and no others; where that fails, the regular look has to do."""
        if self._has_failed:
            return
        try:
            if self._observer is None:
                if not directories:
                    return
                # imported late: inotify may not be there, and then its 3 MiB need not be either
                from watchdog.observers import Observer

                self._observer = Observer()
                self._observer.daemon = True
                self._observer.start()
            for directory in list(self._watched.keys() - directories):
                self._observer.unschedule(self._watched.pop(directory))
            for directory in directories - self._watched.keys():
                self._watched[directory] = self._observer.schedule(_Waker(self._wake), directory)
        except (OSError, KeyError, RuntimeError) as error:
            self._has_failed = True
            self.stop()
            log.warning(
                "file-system events cannot be had (%s): new lines are seen at the next look instead",
                error.__class__.__name__,
            )

    def stop(self) -> None:
        """Stop watching."""
        observer, self._observer = self._observer, None
        self._watched.clear()
        if observer is not None:
            observer.stop()


class _Waker:
    """What watchdog calls for each event."""

    def __init__(self, wake: Callable[[bool], None]) -> None:
        self._wake = wake

    def dispatch(self, event: Any) -> None:
        if event.event_type not in ("opened", "closed_no_write"):
            self._wake(event.event_type in ("created", "moved", "deleted"))


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

"""The state file: positions and counters together, one point in the log.

Written to a new name, synced, the last one kept as `.bak`, renamed, the directory synced: whatever happens,
one of the two can be read. A file that cannot be read is set aside, never overwritten.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger("ai_sidecar")

VERSION = 1
_NAME = "state.json"
_BEHIND = "behind"
"""A file of this name says that pages have shown what is in no state."""


class StateInUseError(OSError):
    """Another sidecar holds the state directory."""


def encode(state: dict[str, Any]) -> bytes:
    """Give the bytes of a state: a line with version and checksum, then the state."""
    body = orjson.dumps(state, option=orjson.OPT_NON_STR_KEYS)
    return orjson.dumps({"version": VERSION, "crc32": zlib.crc32(body)}) + b"\n" + body


def decode(data: bytes) -> dict[str, Any]:
    """Give the state of these bytes; ValueError where they are torn, or of another version."""
    head, newline, body = data.partition(b"\n")
    try:
        header = orjson.loads(head)
        version, checksum = header["version"], header["crc32"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ValueError("expected a state file, got something else") from None
    if version != VERSION:
        raise ValueError(f"expected a state of version {VERSION}, got another")
    if not newline or zlib.crc32(body) != checksum:
        raise ValueError("expected a whole state file, got a torn one")
    state = orjson.loads(body)
    if type(state) is not dict:
        raise ValueError("expected a state file, got something else")
    return state


class StateDirectory:
    """The directory under `--state-dir`, held for life."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = -1
        self.is_behind = False
        """Pages may have shown more than what was read, or written last."""

    def hold(self) -> None:
        """Take the lock; StateInUseError where another sidecar has it. It is let go when the process ends."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(
                self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            log.warning("the state directory cannot be locked: %s", error.strerror)
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUseError(
                f"--state-dir: expected a directory that no other sidecar uses, got {str(self._directory)!r}"
            ) from None

    def read(self, take: Callable[[dict[str, Any]], None]) -> tuple[bool, int]:
        """Hand over the newest state that can be used; give whether there was one, and how many were set aside.

        `take` raises ValueError, and has done nothing, where a state that is whole does not fit.
        """
        unreadable = 0
        self.is_behind = (self._directory / _BEHIND).exists()
        for name in (_NAME, _NAME + ".bak"):
            path = self._directory / name
            try:
                take(decode(path.read_bytes()))
            except FileNotFoundError:
                # killed between two renames: what is newer was never shown
                continue
            except (OSError, ValueError) as error:
                unreadable += 1
                self._fall_behind()
                reason = error.strerror if isinstance(error, OSError) else str(error)
                log.warning("%s is set aside: %s", name, reason)
                with contextlib.suppress(OSError):
                    path.replace(path.with_name(name + ".unreadable"))
                continue
            return True, unreadable
        return False, unreadable

    def write(self, data: bytes) -> None:
        """Put a state in the place of the last one; OSError where that fails, and the last one can still be read."""
        path = self._directory / _NAME
        new, kept = path.with_name(_NAME + ".new"), path.with_name(_NAME + ".bak")
        try:
            # after a failed sync an old descriptor tells nothing: always a new file
            new.unlink(missing_ok=True)
            with new.open("xb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):
                # never two names of one file, for one bad spot would be in both
                path.replace(kept)
            new.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            self._fall_behind()
            raise
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        if self.is_behind:
            self.is_behind = False
            with contextlib.suppress(OSError):
                (self._directory / _BEHIND).unlink(missing_ok=True)

    def _fall_behind(self) -> None:
        if not self.is_behind:
            self.is_behind = True
            # an empty file may well find its place where a state does not
            with contextlib.suppress(OSError):
                (self._directory / _BEHIND).touch()

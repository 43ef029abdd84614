"""Which old files there are beside the followed ones, rotated and packed, and what stands in them.

A packed file is read by its unpacked bytes. A packed copy of a file that is there too is no file of its own.
"""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import lzma
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from .follow import Identity, rotated_names
from .lines import LineSplitter
from .tail import CHUNK_BYTES, HEAD_BYTES, Proof, Tail, open_regular

log = logging.getLogger("ai_sidecar")

STEP_BYTES = 128 * 1024

_PACKED = (".gz", ".bz2", ".xz")
_UNREADABLE = (".zst", ".zip", ".lz4", ".Z")
_PASSING = (".tmp", ".swp", ".part")
_IN_DIRECTORY = re.compile(r".+\.(log|json|jsonl|ndjson)([.\-_].+)?\Z")
"""What is read of a directory: what is followed there, and what it is called when it has been rotated."""
_COMPARED_BYTES = 1 << 20
"""How much of two files must be the same for one to be a copy of the other."""
_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldFile:
    """One file of a history."""

    path: str
    identity: Identity
    size: int
    mtime: float
    is_live: bool
    """A followed path leads to it; else it was rotated from one."""

    @property
    def is_packed(self) -> bool:
        """Tell whether it is read by its unpacked bytes."""
        return self.path.endswith(_PACKED)

    @property
    def group(self) -> str:
        """What it has in common with the files that it was rotated with: directory and first word."""
        directory, name = os.path.split(os.path.realpath(self.path))
        return os.path.join(directory, re.split(r"[.\-_]", name, maxsplit=1)[0])


def find(patterns: Sequence[str], paths: Sequence[str]) -> list[OldFile]:
    """Give the files of `paths`, which `patterns` lead to now, and what was rotated from them; copies left out."""
    found: dict[Identity, OldFile] = {}
    for path in paths:
        _add(found, path, is_live=True)
    bases: dict[str, set[str]] = {}
    for path in [*paths, *patterns]:
        if not os.path.isdir(path):
            for name in {path, os.path.realpath(path)}:
                directory, base = os.path.split(name)
                bases.setdefault(directory or ".", set()).add(base)
    for directory, names in bases.items():
        rotated = re.compile("|".join([rotated_names(name) for name in names if name]))
        _add_rotated(found, directory, rotated)
    for pattern in patterns:
        if os.path.isdir(pattern):
            for directory, _, _ in os.walk(pattern, followlinks=True):
                if directory.count(os.sep) - pattern.count(os.sep) <= 32:
                    _add_rotated(found, directory, _IN_DIRECTORY)
    return _without_copies(list(found.values()))


def _add_rotated(found: dict[Identity, OldFile], directory: str, rotated: re.Pattern[str]) -> None:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        if name.endswith(_PASSING):
            continue
        stem, suffix = os.path.splitext(name)
        is_rotated = rotated.match(name) or (suffix in _PACKED and rotated.match(stem))
        if suffix in _UNREADABLE:
            if is_rotated or rotated.match(stem):
                log.warning("%s is left out: expected .gz, .bz2, .xz or plain", name)
        elif is_rotated:
            _add(found, os.path.join(directory, name), is_live=False)


def _add(found: dict[Identity, OldFile], path: str, *, is_live: bool) -> None:
    try:
        opened = open_regular(path)
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            log.warning("%s is left out: %s", path, error.strerror)
        return
    if opened is None:
        return
    fd, status = opened
    os.close(fd)
    identity = (status.st_dev, status.st_ino)
    if identity not in found and status.st_size:
        found[identity] = OldFile(
            path=path,
            identity=identity,
            size=status.st_size,
            mtime=status.st_mtime,
            is_live=is_live,
        )


def _without_copies(files: list[OldFile]) -> list[OldFile]:
    """Leave out what begins as another file of its group does: a copy, or one in the making."""
    kept: list[OldFile] = []
    alike: dict[tuple[str, bytes], list[OldFile]] = {}
    # what is whole first: plain before packed, the longer before the shorter, the followed before its copy
    for file in sorted(files, key=lambda one: (one.is_packed, -one.size, not one.is_live)):
        others = alike.setdefault((file.group, beginning(file, HEAD_BYTES)), [])
        if others:
            start = beginning(file, _COMPARED_BYTES)
            copied = next(
                (one for one in others if start and beginning(one, len(start)) == start), None
            )
            if copied is not None:
                log.info("%s is a copy of %s", file.path, copied.path)
                continue
        others.append(file)
        kept.append(file)
    return kept


def beginning(file: OldFile, length: int) -> bytes:
    """Give the first bytes of a file, unpacked; none where it cannot be read."""
    try:
        with open(file.path, "rb") as raw:
            if not file.is_packed:
                return raw.read(length)
            with _unpacked(file.path, raw) as stream:
                return stream.read(length)
    except _ERRORS:
        return b""


def _unpacked(path: str, raw: BinaryIO) -> io.BufferedIOBase:
    suffix = os.path.splitext(path)[1]
    if suffix == ".bz2":
        return bz2.BZ2File(raw)
    return lzma.LZMAFile(raw) if suffix == ".xz" else gzip.GzipFile(fileobj=raw)


class Reading:
    """Reads one file to the end that it had when it was found; `position` is how far."""

    def __init__(self, file: OldFile, max_line_bytes: int) -> None:
        self.file = file
        self._max_line_bytes = max_line_bytes
        self.lines = LineSplitter(max_line_bytes)
        self.tail: Tail | None = None
        """Of a file that is not packed."""
        self.read_bytes = 0
        """How much of the file was read, as it lies on the disk."""

    def whole(self) -> Iterator[tuple[bytes, int]]:
        """Give whole lines, and how many lines were too long."""
        yield from self._packed() if self.file.is_packed else self._plain()

    def _plain(self) -> Iterator[tuple[bytes, int]]:
        try:
            opened = open_regular(self.file.path)
        except OSError as error:
            log.warning("%s is left out: %s", self.file.path, error.strerror)
            return
        if opened is None:
            return
        fd, status = opened
        if (status.st_dev, status.st_ino) != self.file.identity:
            os.close(fd)
            log.warning("%s was rotated while it was read: run again", self.file.path)
            return
        tail = self.tail = Tail(fd, self._max_line_bytes)
        self.lines = tail.lines
        is_at_end = False
        while not is_at_end and tail.offset < self.file.size:
            try:
                whole, is_at_end = tail.read(min(STEP_BYTES, self.file.size - tail.offset))
            except OSError as error:
                log.warning("%s cannot be read further: %s", self.file.path, error.strerror)
                return
            self.read_bytes = min(tail.offset, self.file.size)
            too_long, tail.lines.too_long = tail.lines.too_long, 0
            yield bytes(whole), too_long

    def _packed(self) -> Iterator[tuple[bytes, int]]:
        lines = self.lines
        with open(self.file.path, "rb") as raw:
            is_at_end = False
            with _unpacked(self.file.path, raw) as stream:
                while not is_at_end:
                    parts: list[bytes] = []
                    try:
                        # a torn file gives what it has only in small pieces
                        while sum(map(len, parts)) < STEP_BYTES and (
                            data := stream.read1(STEP_BYTES)
                        ):
                            parts.append(data)
                        is_at_end = not data
                    except _ERRORS as error:
                        is_at_end = True
                        log.warning(
                            "%s is torn, what can be read of it counts: %s",
                            self.file.path,
                            type(error).__name__,
                        )
                    whole = lines.whole(b"".join(parts))
                    too_long, lines.too_long = lines.too_long, 0
                    self.read_bytes = raw.tell()
                    yield bytes(whole), too_long

    def proof(self) -> Proof:
        """Give the proof of the bytes on the disk that were read, so that nobody reads them again."""
        if self.tail is not None:
            return self.tail.prove()
        with open(self.file.path, "rb") as raw:
            tail = Tail(os.dup(raw.fileno()), CHUNK_BYTES, os.fstat(raw.fileno()).st_size)
        try:
            return tail.proof
        finally:
            tail.close()

    def cut(self, rest_bytes: int) -> None:
        """Go back by so many bytes of whole lines, and to the start of the unfinished one."""
        assert self.tail is not None  # noqa: S101 - what is packed is never cut
        self.tail.offset -= self.tail.lines.pending_bytes + rest_bytes
        self.tail.lines.forget_kept()
        self.tail.lines.dropping = False
        self.tail.prove()

    def close(self) -> None:
        """Close the file."""
        if self.tail is not None:
            self.tail.close()

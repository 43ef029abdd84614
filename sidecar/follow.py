"""Which files there are, and which is which after a rotation: identity by content, never by name.

What it promises: every byte that was written to a followed file is given out once, in the order of its
file, as long as a descriptor, the file under another name, or a copy of it can still be read.

A *generation* is one run of bytes from position 0 to its end, whatever names it had. It is known by
device and inode while its descriptor is open, and by its proof (`tail.Proof`) otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import gzip
import math
import os
import re
import resource
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from .metrics import Health
from .pipeline import Source
from .tail import CHUNK_BYTES, HEAD_BYTES, TAIL_BYTES, Proof, Tail, digest, open_regular

Identity = tuple[int, int]
"""Device and inode."""

LOG_SUFFIXES = (".log", ".json", ".jsonl", ".ndjson")
"""What is followed of a directory."""

_PACKED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz", ".zip", ".tmp", ".swp")
_YOUNG_SECONDS = 1.0
"""How long a file that so far is only the beginning of a known one may still be a copy in the making."""
_IDLE_SECONDS = 60.0
"""How long a rotated file is held open after its last byte."""
_IDLE_UNLINKED_SECONDS = 300.0
"""The same where no name leads back to it."""
_MAX_ORPHANS = 256
_SETTLED_SECONDS = 2.5
"""How long a directory must not have changed for its last listing to hold: no file system's clock ticks slower."""
_ROUND_SECONDS = 60.0
"""How often all directories are listed again whatever their times say: some file systems keep none."""
_TURNS = 5
"""Where there are events, each file is looked at in every so many looks: where they are silent it is only read later."""
_DIRECTORY_TURNS = 2
"""The same for each directory: of a name that came and went in between nobody would know."""


class Generation:
    """One run of bytes that is followed under whatever name it has."""

    __slots__ = (
        "identity",
        "is_live",
        "is_told_of",
        "last_change",
        "last_live",
        "live_path",
        "path",
        "predecessor",
        "seen",
        "size",
        "source",
        "tail",
        "unread",
    )

    def __init__(
        self, path: str, identity: Identity, tail: Tail, source: Source, now: float
    ) -> None:
        self.path = path
        self.live_path = path
        """The followed path that last led to it; of a missed generation its own."""
        self.identity = identity
        self.tail = tail
        self.source = source
        self.is_live = True
        """A followed path leads to it now."""
        self.is_told_of = True
        """Events tell when it changes, as far as is known."""
        self.last_live = 0
        """The number of the last look at which one did."""
        self.size = 0
        self.seen: tuple[int, int] | None = None
        """Size and mtime (ns) up to which it was read to its end."""
        self.last_change = now
        self.predecessor: tuple[Generation, int] | None = None
        """What had this path before, and how far that has to be read before this one is begun."""
        self.unread = 0
        """Of one that has no file now: how many bytes of an unfinished line have to be read again."""

    @property
    def lag_bytes(self) -> int:
        """How many bytes are there that were not read yet."""
        return max(0, self.size - self.tail.offset)


class Old:
    """A rotated file that was there before we were: known by its content, for its number may come back."""

    __slots__ = ("mtime_ns", "proof", "size")

    def __init__(self, size: int, mtime_ns: int, proof: Proof | None) -> None:
        self.size = size
        self.mtime_ns = mtime_ns
        self.proof = proof

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> Old:
        """Look at a file as it is now."""
        proof = None
        with contextlib.suppress(OSError):
            if (opened := open_regular(path)) is not None:
                fd, status = opened
                try:
                    proof = Tail(fd, 0, min(status.st_size, HEAD_BYTES)).proof
                finally:
                    os.close(fd)
        return cls(status.st_size, status.st_mtime_ns, proof)

    def dump(self) -> list[Any]:
        """Give JSON values of what is known of it."""
        return [self.size, self.mtime_ns, self.proof and msgspec.to_builtins(self.proof)]

    def is_it(self, path: str, status: os.stat_result) -> bool:
        """Tell whether the file of this path is still the one that was there; it may have grown."""
        if (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns):
            return True
        if self.proof is None:
            return False
        try:
            opened = open_regular(path)
        except OSError:
            return True
        if opened is None:
            return False
        fd, status = opened
        try:
            holds = self.proof.holds(fd, status.st_size)
        finally:
            os.close(fd)
        self.size, self.mtime_ns = status.st_size, status.st_mtime_ns
        return holds


class Follower:
    """Finds the files of the followed paths and gives out their lines."""

    def __init__(
        self,
        patterns: list[str],
        *,
        max_line_bytes: int,
        from_end: bool,
        health: Health,
        feed: Callable[[Source, bytes, int], None],
        finish: Callable[[Source, bytes | None], None],
    ) -> None:
        self._patterns = patterns
        self._max_line_bytes = max_line_bytes
        self._from_end = from_end
        self._health = health
        self._feed = feed
        self._finish = finish
        self._by_identity: dict[Identity, Generation] = {}
        self._orphans: list[tuple[Proof, Generation]] = []
        self._orphaned = 0
        """How many orphans there have ever been: what was seen before may belong to one that came since."""
        self._old_history: dict[Identity, Old] = {}
        self._waiting: dict[Identity, float] = {}
        self._packed: dict[str, tuple[int, int]] = {}
        self._copies: dict[Identity, tuple[int, int, int]] = {}
        self._refused: set[str] = set()
        self._is_first_look = True
        self._looks = 0
        self._is_blind = False
        """At the last look a directory could not be read: what was not seen may still be there."""
        self._visited: set[str] = set()
        self._is_settled = False
        """Nothing but the names of files can make the next look find what the last one did not."""
        self._looked_round = 0.0
        self._listed: dict[str, _Listed] = {}
        """All directories that were listed at the last look round."""
        self._loose: dict[str, _Mark | None] = {}
        """Files that were seen and are not followed, or could not be: as they were then."""
        self._links: dict[str, Identity] = {}
        """The followed paths that are links, and the files they led to."""
        self._directories: Set[str] = frozenset()
        self._by_name: dict[tuple[str, str], Generation] = {}
        """By directory and name."""
        self._held: list[Generation] = []
        """Those that no followed path leads to."""
        self._turn = 0
        self._has_opened = False
        self._due: dict[Generation, None] = {}
        """Those of which there may be more to read."""
        self._read: list[Generation] = []
        """Those of which something was read at last."""
        self.stirred: dict[Generation, None] = {}
        """Those that have changed since their owner last took them for quiet."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_open = max(16, min(soft // 2, 8192))

    @property
    def generations(self) -> list[Generation]:
        """All that is followed: rotated files that are still open, and what has no file now, among them."""
        return [*self._by_identity.values(), *(generation for _, generation in self._orphans)]

    @property
    def lag_bytes(self) -> int:
        """How many bytes of all files were not read yet."""
        return sum(generation.lag_bytes for generation in self._due)

    def dump(self) -> dict[str, Any]:
        """Give, as JSON values, what is known of every file: who it is, and how far it was counted."""
        in_order = sorted(self._by_identity.values(), key=attrgetter("last_live"))
        files = [(generation.tail.proof, generation) for generation in in_order]
        return {
            "files": [
                [
                    generation.path,
                    generation.live_path,
                    generation.identity,
                    msgspec.to_builtins(proof),
                    generation.tail.lines.pending_bytes,
                    generation.tail.lines.dropping,
                    generation.source.dump(),
                ]
                for proof, generation in (*self._orphans, *files)
                if proof.position
            ],
            "old_history": [[identity, *old.dump()] for identity, old in self._old_history.items()],
        }

    def load(self, dumped: dict[str, Any], now: float) -> None:
        """Take over what was dumped; files that are still what they were go on, the others wait to be found."""
        self._is_first_look = False
        self._old_history = {
            (device, inode): Old(size, mtime_ns, proof and msgspec.convert(proof, Proof))
            for (device, inode), size, mtime_ns, proof in dumped["old_history"]
        }
        waiting: list[tuple[Proof, Generation]] = []
        for path, live_path, (device, inode), proof_values, pending, dropping, source in dumped[
            "files"
        ]:
            proof = msgspec.convert(proof_values, Proof)
            tail = Tail.known(proof, self._max_line_bytes)
            generation = Generation(path, (device, inode), tail, Source.load(source), now)
            generation.live_path = live_path
            generation.is_live = False
            tail.lines.dropping = dropping
            generation.unread = pending
            waiting.append((proof, generation))
            self._looks += 1
            generation.last_live = self._looks
        # the same inode first: a copy holds the same proof
        self._orphans = waiting
        self._orphaned = len(waiting)
        self.stirred = dict.fromkeys(generation for _, generation in waiting)
        live = self._resolve()
        there = {**self._siblings(live), **live}
        for proof, generation in waiting:
            found = there.get(generation.identity)
            if found is not None:
                self._rejoin(proof, generation, found[0], generation.identity)

    def _rejoin(self, proof: Proof, generation: Generation, path: str, identity: Identity) -> bool:
        try:
            opened = open_regular(path)
        except OSError:
            return False
        if opened is None:
            return False
        fd, status = opened
        is_it = (status.st_dev, status.st_ino) == identity and identity not in self._by_identity
        if not is_it or not proof.holds(fd, status.st_size):
            os.close(fd)
            return False
        self._orphans = [entry for entry in self._orphans if entry[1] is not generation]
        self._adopt(generation, fd, path, identity, status.st_size)
        return True

    def _adopt(
        self, generation: Generation, fd: int, path: str, identity: Identity, size: int
    ) -> None:
        """Go on with a generation in the file where its bytes were found."""
        tail = generation.tail
        tail.fd = fd
        if generation.unread:
            # the unfinished line is read again: its bytes were dropped
            tail.offset -= generation.unread
            generation.unread = 0
            tail.prove()
        generation.path, generation.identity = path, identity
        generation.size, generation.seen = size, None
        self._by_identity[identity] = generation
        self._due[generation] = self.stirred[generation] = None
        self._has_opened = True

    def directories(self) -> Set[str]:
        """Give the directories in which something new may appear; another set after each look round."""
        return self._directories

    def _find_directories(self) -> frozenset[str]:
        found = {
            _place(generation.path)[0]
            for generation in self._by_identity.values()
            if generation.is_live
        }
        found.update(os.path.dirname(os.path.realpath(path)) for path in self._links)
        for pattern in self._patterns:
            root = pattern if os.path.isdir(pattern) else os.path.dirname(pattern)
            while root and glob.has_magic(root):
                root = os.path.dirname(root)
            found.add(root or ".")
        return frozenset(directory for directory in found if os.path.isdir(directory))

    def use(self, patterns: list[str], now: float) -> None:
        """Follow other paths from now on; what is not among them any more is read to its end."""
        self.look(now)
        if patterns == self._patterns:
            return
        before = self._siblings(self._resolve())
        self._patterns = patterns
        self._is_settled = False
        live = self._resolve()
        # the old generations of a path that is new to us are no missed ones; those of the others may be
        for identity, (path, status) in self._siblings(live).items():
            if not (identity in live or identity in before or identity in self._by_identity):
                self._old_history[identity] = Old.of(path, status)

    def look(self, now: float, *, by_turns: bool = False) -> None:
        """Find what is new, gone, renamed, truncated or grown; `now` is monotonic seconds.

        Where no name can have come, gone or changed since the last look, it costs a look at each file. Where events
        tell of all directories and there was none of a name, files and directories may be looked at `by_turns`; a
        file that has changed and no event told of it has a look at each time.
        """
        self._turn += 1
        if self._is_as_it_was(now, by_turns=by_turns):
            self._check_open(now, by_turns=by_turns)
            if self._is_settled:
                self._let_go(now)
                return
        self._look_round(now)

    def _is_as_it_was(self, now: float, *, by_turns: bool) -> bool:
        """Tell whether the names of all files still lead to what they led to at the last look round."""
        if not self._is_settled or now - self._looked_round >= _ROUND_SECONDS:
            return False
        for path, identity in self._links.items():
            if not _leads_to(path, identity):
                return False
        for number, (path, listed) in enumerate(self._listed.items(), self._turn):
            if by_turns and number % _DIRECTORY_TURNS and path in self._directories:
                continue
            if _mark_of(path) != listed.mark:
                return False
        return all(_mark_of(path) == mark for path, mark in self._loose.items())

    def _look_round(self, now: float) -> None:
        """Look as if for the first time: list all directories, ask of each file who it is."""
        self._looks += 1
        self._looked_round = now
        self._is_settled = True
        _family.cache_clear()
        _real_directory.cache_clear()
        # what changes while it is listed has to be listed again: the marks come first
        marks = {path: _mark_of(path) for path in self._listed}
        wall_ns = time.time_ns()
        self._visited = set()
        self._loose = {}
        live = self._resolve()
        self._check_open(now)
        self._is_blind = False
        siblings = self._siblings(live)
        if self._is_first_look:
            self._old_history = {
                identity: Old.of(path, status)
                for identity, (path, status) in siblings.items()
                if identity not in live
            }
        else:
            # a number may come back for another file
            self._old_history = {
                identity: old
                for identity, old in self._old_history.items()
                if identity not in siblings or old.is_it(*siblings[identity])
            }
        for gone in [
            identity
            for identity in self._copies
            if identity not in live and identity not in siblings
        ]:
            del self._copies[gone]
        for generation in self._by_identity.values():
            was_live, generation.is_live = generation.is_live, generation.identity in live
            if was_live and not generation.is_live:
                self._health.rotations["rename"] += 1
                # from now on it may be let go: not for one look at which nothing could be seen
                generation.last_change = now
        for identity, (path, status) in live.items():
            known = self._by_identity.get(identity)
            if known is not None:
                known.path = known.live_path = path
                known.last_live = self._looks
            elif not self._meet(path, identity, status, now, is_live=True):
                continue
        for identity, (path, status) in siblings.items():
            if identity in live:
                continue
            known = self._by_identity.get(identity)
            if known is not None:
                # where it can be opened again, should somebody go on writing to it
                known.path = path
            elif identity not in self._old_history:
                self._meet(path, identity, status, now, is_live=False)
        for generation in list(self._by_identity.values()):
            identity = generation.identity
            is_gone = identity not in live and identity not in siblings
            if is_gone and generation.tail.fd < 0 and not self._is_blind:
                self._orphan(generation)
        self._unpack()
        self._waiting = {
            identity: since
            for identity, since in self._waiting.items()
            if identity in live or identity in siblings
        }
        self._held = [one for one in self._by_identity.values() if not one.is_live]
        self._let_go(now)
        self._is_first_look = False
        for found in (live, siblings):
            for identity, (path, status) in found.items():
                if identity not in self._by_identity:
                    self._loose[path] = _mark(status)
        self._by_name = {_place(one.path): one for one in self._by_identity.values()}
        for path, identity in self._links.items():
            if identity in self._by_identity:
                self._by_name[_place(os.path.realpath(path))] = self._by_identity[identity]
        self._directories = self._find_directories()
        self._listed = {
            path: self._listed.get(path, _Listed()).again(marks.get(path), now, wall_ns)
            if path in marks
            else _Listed(_mark_of(path), now)
            for path in self._visited
        }
        self._is_settled &= not (self._is_blind or self._waiting) and all(
            listed.is_settled for listed in self._listed.values()
        )
        self._health.files = len(live)
        self._health.unreadable_files = len(self._refused)

    def check(self, now: float, names: Iterable[tuple[str, str]] | None = None) -> None:
        """Look only at the files that are open: have they grown? Where `names` (directory, name) have changed, at those."""
        if names is None:
            self._check_open(now)
            return
        changed = dict.fromkeys(self._by_name.get(name) for name in names)
        if None in changed:
            # renamed since it was looked at
            changed.update(dict.fromkeys(self._held))
        for generation in changed:
            if generation is not None and self._by_identity.get(generation.identity) is generation:
                generation.is_told_of = True
                self._check(generation, now)

    @property
    def has_more(self) -> bool:
        """Whether some file was not read to its end."""
        return bool(self._due)

    def may_have_more(self, generation: Generation) -> bool:
        """Tell whether a file was not read to its end."""
        return generation in self._due

    def check_read(self, now: float) -> None:
        """Look at the files of which something was read at last."""
        for generation in self._read:
            if self._by_identity.get(generation.identity) is generation:
                self._check(generation, now)

    def read(self, budget_bytes: int) -> Iterator[tuple[Source, bytes | memoryview, int]]:
        """Give (source, whole lines, lines too long) of each file that has grown, at most `budget_bytes` of each.

        Between two of them all that was given out must have been counted.
        """
        self._read.clear()
        for generation in list(self._due):
            tail = generation.tail
            if tail.fd < 0 or (generation.size <= tail.offset and tail.offset):
                del self._due[generation]
                continue
            status = os.fstat(tail.fd)
            if generation.predecessor is not None:
                before, end = generation.predecessor
                if before.tail.fd >= 0 and before.tail.offset < end:
                    continue
            try:
                whole, at_end = tail.read(budget_bytes)
            except OSError:
                # no log at all (/proc/self/mem), or a failing disk: not before it changes
                self._give_up(generation, status)
                continue
            if at_end:
                generation.size = tail.offset
                # one that is shorter now has to be looked into
                is_whole = status.st_size >= tail.offset
                generation.seen = (status.st_size, status.st_mtime_ns) if is_whole else None
                del self._due[generation]
            too_long, tail.lines.too_long = tail.lines.too_long, 0
            read_bytes, tail.read_bytes = tail.read_bytes, 0
            self._health.read_bytes += read_bytes
            if read_bytes:
                self._read.append(generation)
                if generation.predecessor is not None:
                    generation.source.follow(generation.predecessor[0].source)
                    generation.predecessor = None
                # also where no line has ended yet: there may be more
                yield generation.source, whole, too_long

    def finish(self) -> None:
        """Give up all files; what stands at their ends without a newline is handed to `finish`."""
        for generation in self._by_identity.values():
            self._finish(generation.source, generation.tail.lines.finish())
            generation.tail.close()
        self._by_identity.clear()
        self._due.clear()
        self._is_settled = False

    def _resolve(self) -> dict[Identity, tuple[str, os.stat_result]]:
        found: dict[Identity, tuple[str, os.stat_result]] = {}
        refused: set[str] = set()
        links: dict[str, Identity] = {}
        for path in self.paths():
            try:
                status = os.stat(path)
            except OSError as error:
                if isinstance(error, PermissionError):
                    refused.add(path)
                self._loose[path] = None
                continue
            if stat.S_ISREG(status.st_mode):
                identity = status.st_dev, status.st_ino
                found.setdefault(identity, (path, status))
                if os.path.islink(path):
                    links[path] = identity
        self._refused, self._links = refused, links
        return found

    def paths(self) -> Iterator[str]:
        """Give the names that the followed paths lead to now, be there a file or not."""
        for pattern in self._patterns:
            if os.path.isdir(pattern):
                for directory, _, names in os.walk(pattern, followlinks=True):
                    self._visited.add(directory)
                    if directory.count(os.sep) - pattern.count(os.sep) > 32:
                        continue  # a loop of links
                    for name in sorted(names):
                        if name.endswith(LOG_SUFFIXES):
                            yield os.path.join(directory, name)
            elif glob.has_magic(pattern) and not os.path.exists(pattern):
                self._visited.update(_listed_by(pattern))
                try:
                    yield from sorted(glob.glob(pattern, recursive=True))
                except OSError:
                    continue
            else:
                yield pattern

    def _siblings(
        self, live: dict[Identity, tuple[str, os.stat_result]]
    ) -> dict[Identity, tuple[str, os.stat_result]]:
        """Give the files beside the followed ones whose names say that they are rotated from them."""
        names: dict[str, set[str]] = {}
        paths = {path for path, _ in live.values()}
        paths.update(generation.live_path for generation in self._by_identity.values())
        paths.update(generation.live_path for _, generation in self._orphans)
        paths.update(
            pattern
            for pattern in self._patterns
            if not glob.has_magic(pattern) and not os.path.isdir(pattern)
        )
        for path in paths:
            for name in {path, _real_path(path)}:
                directory, base = os.path.split(name)
                names.setdefault(directory or ".", set()).add(base)
        self._visited.update(names)
        found: dict[Identity, tuple[str, os.stat_result]] = {}
        for directory, bases in names.items():
            rotated = Rotated(bases)
            try:
                entries = list(os.scandir(directory))
            except FileNotFoundError:
                continue
            except OSError:
                self._is_blind = True
                continue
            for entry in entries:
                name = entry.name
                if name.endswith(_PACKED_SUFFIXES) or not rotated.has(name):
                    continue
                try:
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        found.setdefault((status.st_dev, status.st_ino), (entry.path, status))
                except OSError:
                    continue
        return found

    def _check_open(self, now: float, *, by_turns: bool = False) -> None:
        number = self._turn
        for generation in list(self._by_identity.values()):
            number += 1
            if by_turns and generation.is_told_of and number % _TURNS:
                continue
            seen, fd = generation.seen, generation.tail.fd
            # most are as they were, and there may be thousands of them
            if seen is not None:
                try:
                    status = os.fstat(fd) if fd >= 0 else os.stat(generation.path)
                except OSError:
                    continue
                if status.st_mtime_ns == seen[1] and status.st_size == seen[0]:
                    continue
                generation.is_told_of = not by_turns
            self._check(generation, now)

    def _check(self, generation: Generation, now: float) -> None:
        """See whether a file has grown, or was truncated."""
        tail = generation.tail
        try:
            status = os.fstat(tail.fd) if tail.fd >= 0 else os.stat(generation.path)
        except OSError:
            # the next look tells whether it is gone, or has another name
            return
        seen = (status.st_size, status.st_mtime_ns)
        if seen == generation.seen:
            return
        was_empty = not (generation.size or tail.offset) and tail.fd >= 0
        if was_empty and status.st_size and _leads_to(generation.path, generation.identity):
            # it may be a copy in the making: now there is something to tell it by
            self._meet_again(generation, status, now)
            return
        was_closed = tail.fd < 0
        if was_closed:
            if (status.st_dev, status.st_ino) != generation.identity:
                return
            if not self._reopen(generation):
                return
        try:
            is_truncated = tail.is_truncated(status.st_size)
        except OSError:
            self._give_up(generation, status)
            return
        if was_closed and (is_truncated or not tail.offset):
            # nothing proves it: its number may have come back for any file, and the next look tells for which
            self._orphan(generation)
            return
        if is_truncated:
            self._truncated(generation, now)
            return
        if generation.size != status.st_size:
            generation.last_change = now
            self.stirred[generation] = None
        generation.size = status.st_size
        if status.st_size == tail.offset:
            generation.seen = seen
        if status.st_size > tail.offset or not tail.offset:
            self._due[generation] = None

    def _meet_again(self, generation: Generation, status: os.stat_result, now: float) -> None:
        path, identity = generation.path, generation.identity
        del self._by_identity[identity]
        self._due.pop(generation, None)
        self.stirred.pop(generation, None)
        if self._decide(
            path, identity, generation.tail.fd, status, now, is_live=generation.is_live
        ):
            self._by_name[_place(path)] = self._by_identity[identity]
        else:
            self._is_settled = False

    def _truncated(self, generation: Generation, now: float) -> None:
        """Begin anew on the same descriptor; what was not read may live on in a copy."""
        self._health.rotations["truncate"] += 1
        fd = os.dup(generation.tail.fd)
        self._orphan(generation)
        self._begin(generation.path, generation.identity, fd, 0, now, is_live=generation.is_live)

    def _give_up(self, generation: Generation, status: os.stat_result) -> None:
        del self._by_identity[generation.identity]
        self._due.pop(generation, None)
        self._is_settled = False
        self._copies[generation.identity] = (status.st_size, status.st_mtime_ns, self._orphaned)
        self._refused.add(generation.path)
        generation.tail.close()

    def _orphan(self, generation: Generation) -> None:
        del self._by_identity[generation.identity]
        self._due.pop(generation, None)
        # it may be found again under any name
        self._is_settled = False
        proof = generation.tail.proof
        generation.unread = generation.tail.lines.pending_bytes
        generation.tail.close()
        generation.tail.lines.forget_kept()
        if proof.position:
            self._orphans.append((proof, generation))
            self._orphaned += 1
            if len(self._orphans) > _MAX_ORPHANS:
                _, oldest = self._orphans.pop(0)
                self._finish(oldest.source, None)

    def _begin(
        self, path: str, identity: Identity, fd: int, offset: int, now: float, *, is_live: bool
    ) -> Generation:
        tail = Tail(fd, self._max_line_bytes, offset)
        generation = Generation(path, identity, tail, Source(path), now)
        generation.is_live, generation.last_live = is_live, self._looks
        generation.size = os.fstat(fd).st_size
        self._by_identity[identity] = generation
        self._due[generation] = self.stirred[generation] = None
        self._has_opened = True
        return generation

    def _reopen(self, generation: Generation) -> bool:
        try:
            opened = open_regular(generation.path)
        except OSError:
            return False
        if opened is None:
            return False
        fd, status = opened
        if (status.st_dev, status.st_ino) != generation.identity:
            os.close(fd)
            return False
        generation.tail.fd = fd
        self._has_opened = True
        return True

    def _meet(
        self, path: str, identity: Identity, status: os.stat_result, now: float, *, is_live: bool
    ) -> bool:
        """Decide what a file with an unknown inode is; True where it is followed from now on."""
        size = status.st_size
        mark = (size, status.st_mtime_ns, self._orphaned)
        if self._copies.get(identity) == mark or (not is_live and not size):
            return False
        try:
            opened = open_regular(path)
        except OSError as error:
            # too many open files, no permission yet: later
            self._refused.add(path)
            self._is_settled &= error.errno not in (errno.EMFILE, errno.ENFILE)
            return False
        if opened is None:
            return False
        fd, status = opened
        if (status.st_dev, status.st_ino) != identity:
            os.close(fd)
            return False
        return self._decide(path, identity, fd, status, now, is_live=is_live)

    def _decide(
        self,
        path: str,
        identity: Identity,
        fd: int,
        status: os.stat_result,
        now: float,
        *,
        is_live: bool,
    ) -> bool:
        """Do it for one that is open; where it is not followed, it is closed."""
        size = status.st_size
        mark = (size, status.st_mtime_ns, self._orphaned)
        for index, (proof, orphan) in enumerate(self._orphans):
            if proof.holds(fd, size):
                del self._orphans[index]
                orphan.is_live, orphan.last_change = is_live, now
                self._adopt(orphan, fd, path, identity, size)
                return True
        others = self._by_identity.values()
        if not is_live and any(_is_copy_of_unread(path, fd, size, other) for other in others):
            # not before that one is read, or truncated: then it is known whose bytes these are
            os.close(fd)
            return False
        likeness = max(
            (_likeness(path, fd, size, other) for other in others),
            default=_DIFFERENT,
        )
        if likeness == _UNDECIDED:
            os.close(fd)
            return False
        if likeness == _BEGINNING:
            if now - self._waiting.setdefault(identity, now) < _YOUNG_SECONDS:
                os.close(fd)
                return False
            likeness = _DIFFERENT if is_live else _COPY
        if likeness == _COPY:
            os.close(fd)
            self._copies[identity] = mark
            return False
        self._waiting.pop(identity, None)
        self._copies.pop(identity, None)
        offset = 0
        if self._is_first_look and self._from_end:
            offset = _after_last_newline(fd, size)
        generation = self._begin(path, identity, fd, offset, now, is_live=is_live)
        if is_live:
            generation.predecessor = self._predecessor(path)
        else:
            self._health.rotations["missed"] += 1
        return True

    def _predecessor(self, path: str) -> tuple[Generation, int] | None:
        """Give what had a path last, and its size: the runtime may have begun a new file in the middle of a line."""
        rotated = [
            generation
            for generation in self._by_identity.values()
            if not generation.is_live and generation.live_path == path
        ]
        last = max(rotated, key=attrgetter("last_live"), default=None)
        if last is None or last.tail.fd < 0:
            return None
        last.size = os.fstat(last.tail.fd).st_size
        self._due[last] = None
        return last, last.size

    def _unpack(self) -> None:
        """Read the rest of a generation that lives on only as its `.gz`, all of it in one step."""
        packed: dict[str, tuple[int, int]] = {}
        for directory in {
            os.path.dirname(os.path.realpath(one.live_path)) for _, one in self._orphans
        }:
            try:
                entries = [entry for entry in os.scandir(directory) if entry.name.endswith(".gz")]
            except OSError:
                continue
            for entry in entries:
                try:
                    status = entry.stat()
                except OSError:
                    continue
                mark = (status.st_size, self._orphaned)
                self._loose[entry.path] = _mark(status)
                packed[entry.path] = mark
                if self._packed.get(entry.path) == mark:
                    continue
                for proof, orphan in list(self._orphans):
                    if _are_related(entry.path, orphan.live_path) and self._read_packed(
                        entry.path, proof, orphan
                    ):
                        self._orphans = [one for one in self._orphans if one[1] is not orphan]
                        break
        self._packed = packed

    def _read_packed(self, path: str, proof: Proof, orphan: Generation) -> bool:
        start = proof.position - orphan.unread
        try:
            with gzip.open(path, "rb") as packed:
                head = packed.read(proof.head_bytes)
                if digest(head) != proof.head:
                    return False
                tail_start = max(0, proof.position - TAIL_BYTES)
                packed.seek(tail_start)
                before = packed.read(proof.position - tail_start)
                if digest(before) != proof.tail:
                    return False
                packed.seek(start)
                lines = orphan.tail.lines
                while data := packed.read(CHUNK_BYTES):
                    self._health.read_bytes += len(data)
                    found = lines.whole(data)
                    too_long, lines.too_long = lines.too_long, 0
                    self._feed(orphan.source, found, too_long)
        except (OSError, EOFError, zlib.error):
            # not finished yet, or torn: what was counted of it stays counted
            return orphan.tail.lines.pending_bytes > 0
        self._finish(orphan.source, lines.finish())
        return True

    def _let_go(self, now: float) -> None:
        """Close what has been rotated away and idle for long, and what is too much to hold open."""
        held = 0
        for generation in self._held:
            if generation.tail.fd < 0 or generation.lag_bytes:
                continue
            status = os.fstat(generation.tail.fd)
            held += 1
            idle = now - generation.last_change
            if idle > (_IDLE_SECONDS if status.st_nlink else _IDLE_UNLINKED_SECONDS):
                self._finish(generation.source, generation.tail.lines.finish())
                generation.tail.close()
                self._is_settled = False
                if not status.st_nlink:
                    del self._by_identity[generation.identity]
        self._health.held_files = held
        if self._has_opened:
            self._has_opened = False
            self._close_surplus()

    def _close_surplus(self) -> None:
        open_ones = [one for one in self._by_identity.values() if one.tail.fd >= 0]
        surplus = len(open_ones) - self._max_open
        if surplus <= 0:
            return
        open_ones.sort(key=lambda one: (one.lag_bytes > 0, one.last_change))
        for generation in open_ones[:surplus]:
            if generation.lag_bytes or generation.tail.lines.pending_bytes:
                # what is read now may be closed later
                self._has_opened = True
            else:
                generation.tail.close()


_Mark = tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime (ns): what stays of a file or directory that nobody changes."""


def _mark(status: os.stat_result) -> _Mark:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _mark_of(path: str) -> _Mark | None:
    try:
        return _mark(os.stat(path))
    except OSError:
        return None


def _leads_to(path: str, identity: Identity) -> bool:
    mark = _mark_of(path)
    return mark is not None and mark[:2] == identity


class _Listed(NamedTuple):
    """A directory when it was last listed, and whether that listing holds while its mark does.

    The first listing after a change may have come in the same tick of the file system's clock as another change.
    """

    mark: _Mark | None = None
    since: float = math.inf
    is_settled: bool = False

    def again(self, mark: _Mark | None, now: float, wall_ns: int) -> _Listed:
        """Tell of a listing that was begun when it had this mark."""
        if mark != self.mark:
            return _Listed(mark, now)
        is_old = mark is None or wall_ns - mark[3] >= _SETTLED_SECONDS * 1e9
        return _Listed(mark, self.since, is_old and now - self.since >= _SETTLED_SECONDS)


def _place(path: str) -> tuple[str, str]:
    directory, name = os.path.split(path)
    return directory or ".", name


def _listed_by(pattern: str) -> Iterator[str]:
    """Give the directories whose names decide what a glob finds."""
    directory = pattern if "**" in os.path.basename(pattern) else os.path.dirname(pattern)
    while glob.has_magic(directory):
        for found in glob.iglob(os.path.join(directory, ""), recursive=True):
            yield found.rstrip(os.sep) or os.sep
        directory = os.path.dirname(directory)
    yield directory or "."


@cache
def _real_directory(path: str) -> str:
    return os.path.realpath(path)


def _real_path(path: str) -> str:
    """Do what `os.path.realpath` does; directories are resolved once in a look."""
    directory, name = os.path.split(path)
    if name in ("", ".", "..") or os.path.islink(path):
        return os.path.realpath(path)
    return os.path.join(_real_directory(directory), name)


_DIFFERENT, _BEGINNING, _UNDECIDED, _COPY = range(4)


def _likeness(path: str, fd: int, size: int, other: Generation) -> int:
    """Tell whether the file behind `fd` is a copy of `other`, or so far only its beginning."""
    tail = other.tail
    if tail.fd < 0 or not size or not tail.offset or not _are_related(path, other.path):
        return _DIFFERENT
    status = os.fstat(tail.fd)
    # no copy is longer: a first line that many files have is no sign of one
    if size <= status.st_size and _has_bytes_of(fd, size, other):
        return _COPY if size >= tail.offset else _BEGINNING
    if (status.st_size, status.st_mtime_ns) == other.seen or not tail.is_truncated(status.st_size):
        return _DIFFERENT
    # truncated since it was looked at, it is nothing to compare with: at the next look its proof will do
    return _UNDECIDED


def _has_bytes_of(fd: int, size: int, other: Generation) -> bool:
    start = max(0, size - TAIL_BYTES)
    return all(
        os.pread(fd, length, at) == os.pread(other.tail.fd, length, at)
        for length, at in ((min(HEAD_BYTES, size), 0), (size - start, start))
    )


def _is_copy_of_unread(path: str, fd: int, size: int, other: Generation) -> bool:
    """Tell whether the file behind `fd` has, so far, the bytes of `other`, of which nothing was read yet."""
    if other.tail.fd < 0 or other.tail.offset or not _are_related(path, other.path):
        return False
    return size <= os.fstat(other.tail.fd).st_size and _has_bytes_of(fd, size, other)


def _are_related(path: str, other: str) -> bool:
    """Tell whether two names in one directory share their first word, as `app.log` and `app-1.log` do."""
    return _family(path) == _family(other)


@cache
def _family(path: str) -> tuple[str, str]:
    # each is asked for as often as there are others; it holds for one look, for links may be led elsewhere
    directory, name = os.path.split(_real_path(path))
    return directory, re.split(r"[.\-_]", name, maxsplit=1)[0]


def rotated_names(base: str) -> str:
    """Give the pattern of names that `base` gets when it is rotated: `app.log.1`, `app.log-2026…`, `app-2026….log`."""
    stem, dot, suffix = base.rpartition(".")
    pattern = re.escape(base) + r"[.\-_].+\Z"
    if dot and stem:
        pattern += "|" + re.escape(stem) + r"[.\-_]\d.*" + re.escape(dot + suffix) + r"\Z"
    return pattern


class Rotated:
    """The names that any of many files get when they are rotated: what `rotated_names` matches, for all at once."""

    def __init__(self, bases: Iterable[str]) -> None:
        self._bases = frozenset(bases)
        self._suffixes: dict[str, set[str]] = {}
        for base in self._bases:
            stem, dot, suffix = base.rpartition(".")
            if dot and stem:
                self._suffixes.setdefault(stem, set()).add(dot + suffix)

    def has(self, name: str) -> bool:
        """Tell whether a name is one of them."""
        for found in _SEPARATOR.finditer(name):
            beginning, rest = name[: found.start()], name[found.end() :]
            if beginning in self._bases and rest and "\n" not in rest:
                return True
            if beginning in self._suffixes and rest[:1].isdecimal():
                for suffix in self._suffixes[beginning]:
                    middle = rest[1:].removesuffix(suffix)
                    if len(middle) < len(rest) - 1 and "\n" not in middle:
                        return True
        return False


_SEPARATOR = re.compile(r"[.\-_]")


def _after_last_newline(fd: int, size: int) -> int:
    offset = size
    while offset > 0:
        start = max(0, offset - 65536)
        newline = os.pread(fd, offset - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        offset = start
    return 0

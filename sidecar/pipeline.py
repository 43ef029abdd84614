"""Line → record → requests → series; each line ends in exactly one result.

The results, the one that stands first in `RESULTS` winning where a line holds several records:
`request`, `superseded` (a later line told the same request better), `repeat` (its id was counted before),
`plugin_error`, `malformed`, `ignored` (JSON, but no finished request), `not_json`, `too_long`.
A record that is printed over several lines, and a line that the runtime split, is one line here.
"""

from __future__ import annotations

import json
import logging
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from operator import length_hint
from typing import Any

import msgspec
import orjson

from . import envelopes, fields, noise
from .batch import ERRORS, Batch
from .compiled import MAX_KEYS, MAX_SHAPES, Compiled, may_claim
from .config import values_in
from .fields import get, label
from .lines import has_lines, split
from .metrics import Health, Meter
from .periods import Slices
from .request import Memory, ParseError, Parser, Record, Request, checked
from .table import Table

log = logging.getLogger("ai_sidecar")

REMEMBERED_IDS = 100_000
HOLD_SECONDS = 10.0
"""How long a file must be quiet for its held request to be counted."""

_LATER = "later"
"""No result yet: the line is the first of a record that is printed over many."""
_HELD = "held"
"""No result yet: it comes when the request is counted or superseded."""

_MAX_MEMORY_BYTES = 64 * 1024
"""How much of a parser's memory for one file goes into the state."""
_MAX_FRAGMENTS = 256
"""Parts of a split line kept apart: however small they are, adding one more costs little."""

_TOO_LONG = b"\0too long"
"""Stands for a split line whose parts were too many bytes to be kept."""

_JSON_STARTS = frozenset([bytes([byte]) for byte in b'{["-0123456789tfn'])
_OPENERS = {b"{": b"}", b"[": b"]"}


class _Skipped(msgspec.Struct):
    pass


_skip = msgspec.json.Decoder(_Skipped).decode


def _decode(line: bytes) -> Any:
    """Decode a line of JSON; ValueError where it is none.

    In an object there may be bytes that are no UTF-8, and numbers beyond any float: what reads only the values
    that it looks for never notices, so the line is one for everybody.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        if line[:1] != b"{":
            raise
    try:
        _skip(line)
        return json.loads(line.decode("utf-8", "replace"), parse_int=_whole)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("expected JSON") from error


_raw_lines = msgspec.json.Decoder(msgspec.Raw).decode_lines


def _several(line: bytes) -> list[Any]:
    """Decode objects that stand one after the other: of two writers whose newlines came late."""
    if line[:1] != b"{":
        return []
    try:
        parts = _raw_lines(line)
        return [_decode(bytes(part)) for part in parts] if len(parts) > 1 else []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return []


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= 400 else math.inf


class Installed(msgspec.Struct, frozen=True):
    """A parser under its name; a particular one tells its own format apart from every other."""

    name: str
    parser: Parser
    is_particular: bool = True
    is_ours: bool = True
    """What it gives need not be looked at before it is counted."""
    is_users_table: bool = False


class Source:
    """What is known of one file between two of its lines."""

    __slots__ = (
        "batch",
        "batch_parser",
        "fragments",
        "held",
        "held_owes",
        "is_cri",
        "is_docker",
        "last_parser",
        "memories",
        "noise",
        "path",
        "path_labels",
        "printed",
        "printed_bytes",
        "stream",
        "wait",
        "waits",
        "writings",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.path_labels: tuple[str, ...] | None = None
        """The values of the extra labels that its path tells; `None` until they are asked for."""
        self.last_parser: int | None = None
        """Who claimed the last record, by place in the list of parsers."""
        self.batch: Batch | None = None
        """What counts many lines at once, where the parser that claimed the last one can be read so."""
        self.batch_parser = ""
        self.waits = 0
        """How often in a row not all lines of a read were of known shapes."""
        self.wait = 0
        """How many reads are not tried at once after that, or until its batch is written anew."""
        self.writings = 0
        self.noise: noise.Noise | None = None
        """Tells by their bytes lines that are no request."""
        self.memories: dict[str, Memory] = {}
        self.is_cri = False
        self.is_docker = False
        """Whether the last line was in Docker's wrapper."""
        self.fragments: dict[str, list[bytes]] = {}
        """The parts of a line that the runtime split, by stream."""
        self.printed: list[bytes] = []
        """The lines of a pretty-printed record that is not at its end."""
        self.printed_bytes = 0
        self.stream = ""
        """The runtime's stream in which it is printed."""
        self.held: tuple[Request, tuple[str, ...], str] | None = None
        """A request that a later line may still tell better, its extra labels and its parser."""
        self.held_owes = False
        """The line that told the held request has no result yet."""

    def follow(self, predecessor: Source) -> None:
        """Go on where the file that had this path before has ended: the runtime may have split a line there."""
        self.fragments, predecessor.fragments = predecessor.fragments, {}

    def dump(self) -> dict[str, Any]:
        """Give JSON values from which `load` makes the same; the last parser is asked anew."""
        return {
            "path": self.path,
            "memories": {
                name: text
                for name, memory in self.memories.items()
                if memory and (text := _memory_text(memory)) is not None
            },
            "is_cri": self.is_cri,
            "fragments": {stream: _as_text(parts) for stream, parts in self.fragments.items()},
            "printed": _as_text(self.printed),
            "held": self.held and [msgspec.to_builtins(self.held[0]), self.held[1], self.held[2]],
            "held_owes": self.held_owes,
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Source:
        """Make the source that was dumped."""
        source = cls(dumped["path"])
        source.memories = {
            name: orjson.loads(memory) for name, memory in dumped["memories"].items()
        }
        source.is_cri = dumped["is_cri"]
        source.fragments = {
            stream: _as_bytes(parts) for stream, parts in dumped["fragments"].items()
        }
        source.printed = _as_bytes(dumped["printed"])
        source.printed_bytes = sum(map(len, source.printed)) + len(source.printed)
        if dumped["held"]:
            request, extra, name = dumped["held"]
            source.held = (msgspec.convert(request, Request), tuple(extra), name)
            source.held_owes = dumped["held_owes"]
        return source


def _memory_text(memory: Memory) -> str | None:
    """Write a memory as JSON; `None` for one that cannot be: a parser's fault must not keep the state unsaved."""
    try:
        text = orjson.dumps(memory)
    except TypeError:
        return None
    return text.decode() if len(text) <= _MAX_MEMORY_BYTES else None


def _as_text(parts: list[bytes]) -> list[str]:
    return [b64encode(part).decode() for part in parts]


def _as_bytes(parts: list[str]) -> list[bytes]:
    return [b64decode(part) for part in parts]


class Pipeline:
    """Understands lines and adds what they tell to the series."""

    def __init__(
        self,
        parsers: Sequence[Installed],
        meter: Meter,
        health: Health,
        *,
        envelope: str = "auto",
        labels: Sequence[str] = (),
        path_labels: tuple[re.Pattern[str], ...] = (),
        max_line_bytes: int = 8 << 20,
        observe: Callable[[Request, str], None] | None = None,
        slices: Slices | None = None,
    ) -> None:
        """`slices` give one extra label more, the last, by the time of a request."""
        self._slices = slices
        self._parsers = list(parsers)
        self._meter = meter
        self._health = health
        self._envelope = envelope
        self._labels = tuple(labels)
        self._path_labels = path_labels
        self._max_line_bytes = max_line_bytes
        self._observe = observe
        self._ids: dict[str, None] = {}
        self._blamed: set[str] = set()
        self._batches: dict[str, Batch | None] = {}
        self._asked: dict[tuple[str, ...], Asked] = {}
        """The keys of a record → who is asked about it."""
        self._asked_about: dict[frozenset[str], Asked] = {}
        """Those of its keys that any parser speaks of → the same: the others may be new in each line."""
        self._spoken_of: frozenset[str] = frozenset()
        self._verbatim: tuple[noise.Verbatim, ...] = ()
        """The values that decide who claims a record; and the same with those that may tell of a model call."""
        self._is_nobodys: dict[bytes, bool] = {}
        """Outline → whether nobody can claim what has it."""
        self._expressions = noise.Expressions()

    def use(self, parsers: Sequence[Installed], sources: Iterable[Source]) -> None:
        """Read what comes from now on by other parsers; each source is asked anew who claims its lines."""
        self._parsers = list(parsers)
        self._blamed.clear()
        self._batches.clear()
        self._asked.clear()
        self._asked_about.clear()
        self._verbatim = ()
        self._is_nobodys.clear()
        for source in sources:
            source.last_parser = None
            source.batch = None
            source.noise = None

    def feed_whole(self, source: Source, whole: bytes | memoryview, too_long: int = 0) -> None:
        """Count whole lines of one file, each with its newline: at once, where they are of known shapes."""
        self._health.lines["too_long"] += too_long
        known = source.noise
        if known is None:
            known = source.noise = noise.Noise(self._expressions)
        if known.is_new and len(whole) > 2 * noise.FIRST_BYTES:
            # what its first lines teach holds for the others
            whole = bytes(whole)
            end = whole.index(b"\n", noise.FIRST_BYTES) + 1
            self._feed_part(source, known, whole[:end])
            whole = whole[end:]
        if whole:
            self._feed_part(source, known, whole)

    def _feed_part(self, source: Source, known: noise.Noise, whole: bytes | memoryview) -> None:
        known.is_new = False
        if not self._is_quiet(source):
            self._feed_all(source, whole)
            return
        lines = self._health.lines
        results, others = sum(lines.values()), lines["ignored"] + lines["not_json"]
        passed = 0
        if known.is_used:
            passed = self._feed_others(source, known, whole)
        else:
            self._feed_all(source, whole)
        general = lines["ignored"] + lines["not_json"] - others - passed
        if known.is_lesson_due(sum(lines.values()) - results, passed, general):
            text, _ = self._unwrapped(source, whole) or (b"", 0)
            known.learn(split(text), self._outline)

    def _feed_all(self, source: Source, whole: bytes | memoryview) -> None:
        records = self._decoded(source, whole, lambda: self._unwrapped(source, whole))
        if records is None:
            self.feed(source, split(whole))
        else:
            self.feed(source, self._count_records(source, records, lambda: split(whole)))

    def _feed_others(self, source: Source, known: noise.Noise, whole: bytes | memoryview) -> int:
        """Count whole lines, those at once that their bytes tell to be no request; give how many those are."""
        text, _ = self._unwrapped(source, whole) or (None, 0)
        # two of Docker's records on one line, and none on another, are read the general way
        if text is None or (
            source.is_docker and bytes(whole).count(b"\n{") + 1 != bytes(text).count(b"\n")
        ):
            self.feed(source, split(whole))
            return 0
        found = known.parts(text)
        ignored, texts = found.count(b""), found.count(b"\n")
        others = len(found) - ignored - texts
        if not others:
            self._health.lines["ignored"] += ignored
            self._health.lines["not_json"] += texts
            return ignored + texts
        wrapper = source.is_cri, source.is_docker

        def other_lines() -> list[bytes]:
            return [line for line, part in zip(split(whole), found, strict=True) if len(part) > 1]

        records = self._decoded(source, whole, lambda: (b"".join(found), None), texts)
        if records is None:
            read = self._read(source, other_lines(), wrapper)
        else:
            left = self._count_records(source, records, other_lines)
            read = others - len(left)
            if left and self._is_quiet(source, wrapper):
                read += self._read(source, left, wrapper)
        rest: list[bytes] = []
        if not self._is_quiet(source, wrapper):
            # a record began that is printed over many lines, or others than before are wrapped: all lines count
            start = noise.place_after(found, read)
            rest = split(whole)[start:]
            ignored, texts = found[:start].count(b""), found[:start].count(b"\n")
        self._health.lines["ignored"] += ignored
        self._health.lines["not_json"] += texts
        self.feed(source, rest)
        return ignored + texts

    def _is_quiet(self, source: Source, wrapper: tuple[bool, bool] | None = None) -> bool:
        """Tell whether a line that is no request is that wherever it stands: nothing printed or split is unfinished.

        With a `wrapper` (CRI's, Docker's) also whether the last line was in that.
        """
        return not (source.printed or source.fragments) and (
            wrapper is None or wrapper == (source.is_cri, source.is_docker)
        )

    def _unwrapped(self, source: Source, whole: bytes | memoryview) -> Unwrapped | None:
        """Take whole lines out of the wrapper that the last one was in; `None` where not all of them are in it."""
        if source.is_cri:
            lines = split(whole)
            text = envelopes.cri_texts(lines)
            return None if text is None else (text, len(lines))
        return envelopes.docker_texts(bytes(whole)) if source.is_docker else (whole, None)

    def _decoded(
        self,
        source: Source,
        whole: bytes | memoryview,
        text: Callable[[], Unwrapped | None],
        blank: int = 0,
    ) -> list[Any] | None:
        """Decode whole lines at once; `None` where not each of them, but the blank ones, is one record of a known shape."""
        batch = source.batch
        if batch is None or not self._is_between_lines(source) or not batch.renew(whole):
            return None
        if source.writings != batch.writings:
            source.writings, source.waits, source.wait = batch.writings, 0, 0
        if source.wait:
            source.wait -= 1
            return None
        lines, number = text() or (None, 0)
        records = batch.records(lines) if lines is not None else None
        if lines is not None and records is not None:
            found = len(records) + blank
            # two records on one line, or one on two lines, are read the general way
            if found == number or (number is None and has_lines(lines, found)):
                source.waits = 0
                return records
        source.waits = min(source.waits + 1, 6)
        source.wait = (1 << source.waits) - 1
        return None

    def _count_records(
        self, source: Source, records: list[Any], lines: Callable[[], list[bytes]]
    ) -> list[bytes]:
        """Count records of lines, those that do not fit the general way; give the lines that must wait for that."""
        assert source.batch is not None  # noqa: S101 - it made the records
        # another parser may claim a line in between
        batch, parser = source.batch, source.batch_parser
        coming, number, done = iter(records), len(records), 0
        path_labels = self._of_path(source)
        made: list[bytes] | None = None
        while True:
            missed = batch.count(coming, path_labels)
            at = number - length_hint(coming)
            counted = at - done - (missed is not None)
            self._health.lines["request"] += counted
            self._tally(parser, counted)
            if missed is None:
                return []
            if made is None:
                made = lines()
            self._end(source, self._line(source, made[at - 1]))
            done = at
            if not self._is_between_lines(source):
                return made[at:]

    def _is_between_lines(self, source: Source) -> bool:
        """Tell whether no line, no record and no request of the source is unfinished."""
        return source.held is None and not source.printed and not source.fragments

    def feed(self, source: Source, lines: list[bytes], too_long: int = 0) -> None:
        """Count whole lines of one file, in their order."""
        self._health.lines["too_long"] += too_long
        self._read(source, lines)

    def _read(
        self, source: Source, lines: list[bytes], wrapper: tuple[bool, bool] | None = None
    ) -> int:
        """Count lines in their order, all of them, or while the source is quiet in a wrapper; give how many."""
        fitting: list[bytes] = []
        records: list[Any] = []
        number = 0
        while number < len(lines):
            if source.batch is None and source.last_parser is not None:
                number = self._read_by_last(source, lines, number)
                if number == len(lines) or (
                    wrapper is not None and not self._is_quiet(source, wrapper)
                ):
                    return number
            line, number = lines[number], number + 1
            batch = source.batch
            if (
                batch is not None
                # what has it not is of no known shape: most lines of a log that is not ours alone
                and batch.needle in line
                and not source.is_cri
                and not source.is_docker
                and self._is_between_lines(source)
                # those that wait are of the shapes known so far
                and (records or batch.renew(line))
            ):
                try:
                    records.append(batch.decode(line))
                except ERRORS:
                    batch.miss(line)
                else:
                    fitting.append(line)
                    continue
            if records:
                left = self._count_fitting(source, records, fitting, wrapper)
                if wrapper is not None and not self._is_quiet(source, wrapper):
                    return number - 1 - left
                records, fitting = [], []
            self._end(source, self._line(source, line))
            if wrapper is not None and not self._is_quiet(source, wrapper):
                return number
        if records:
            number -= self._count_fitting(source, records, fitting, wrapper)
        return number

    def _read_by_last(self, source: Source, lines: list[bytes], start: int) -> int:
        """Read lines from `start` on, while each is a record, by the parser that claimed the last one; give where it ended.

        It does what `_line` does, without asking for each line what is the same for all of them.
        """
        last = source.last_parser
        if last is None or source.is_cri or source.is_docker or not self._is_between_lines(source):
            return start
        installed = self._parsers[last]
        name, parser, is_ours = installed.name, installed.parser, installed.is_ours
        memory = self._memory(source, name)
        is_always_asked = _compiled(installed) is None and _keys(installed) is None
        # of requests without any of these all that is to be known is known now
        is_plain = not self._labels and self._slices is None and self._observe is None
        add, extra = self._meter.add, self._of_path(source)
        place, counted = start, 0
        while place < len(lines):
            try:
                record = orjson.loads(lines[place])
            except orjson.JSONDecodeError:
                break
            if type(record) is not dict or "log" in record:
                break
            place += 1
            asked = None if is_always_asked else self._may_want(record)
            result: str | None = None
            if asked is None or (last in asked and passes(asked[last], record)):
                try:
                    requests = parser(record, memory)
                    if requests and not is_ours:
                        checked(requests)
                except Exception as error:
                    result = self._blame(name, error)
                else:
                    if requests and is_plain and len(requests) == 1 and requests[0].id is None:
                        add(requests[0], extra)
                        counted += 1
                        continue
                    if requests is not None:
                        result = self._take(source, installed, record, requests)
            if result is None:
                result = self._ask_others(source, record, 0, asked or self._may_want(record))
            self._end(source, result or "ignored")
            if source.last_parser != last or not self._is_between_lines(source):
                break
        if counted:
            self._health.lines["request"] += counted
            self._tally(name, counted)
        return place

    def _count_fitting(
        self,
        source: Source,
        records: list[Any],
        lines: list[bytes],
        wrapper: tuple[bool, bool] | None,
    ) -> int:
        """Count records of lines, all or as `_read` does; give how many lines are left."""
        left = self._count_records(source, records, lambda: lines)
        for number, line in enumerate(left):
            if wrapper is not None and not self._is_quiet(source, wrapper):
                return len(left) - number
            self._end(source, self._line(source, line))
        return 0

    def _end(self, source: Source, result: str | None) -> None:
        """Count what became of a line; where that comes with a later one, now or never."""
        if result == _HELD and source.held is not None:
            source.held_owes = True
        elif result is not None and result != _LATER:
            # a held request that this line's next record let go of was counted
            result = "request" if result == _HELD else result
            self._health.lines[result] += 1

    def _line(self, source: Source, line: bytes) -> str | None:
        """Read one line the general way; `None` where its result comes with a later one."""
        if source.is_cri or source.printed or line[:1] not in _JSON_STARTS:
            return self._wrapped(source, line)
        try:
            record = _decode(line)
        except ValueError:
            return self._wrapped(source, line)
        if type(record) is not dict:
            return self._value(source, record, line)
        part = self._docker(record) if "log" in record else None
        source.is_docker = part is not None
        if part is not None:
            return self._fragment(source, *part)
        return self._record(source, record, 0) or "ignored"

    def finish(self, source: Source, rest: bytes | None) -> None:
        """Count what stands at the end of a file that will not grow any more."""
        if rest and rest.strip():
            # half a record at the end of a file is no line: only a whole one counts
            try:
                _decode(rest)
            except ValueError:
                if source.printed or envelopes.cri(rest) is not None:
                    self.feed(source, [rest])
                else:
                    self._health.lines["not_json"] += 1
            else:
                self.feed(source, [rest])
        while source.fragments:
            stream, parts = source.fragments.popitem()
            self._end(source, self._joined(source, stream, b"".join(parts)))
        if source.printed:
            self._abandon_printed(source)
        self.release(source)

    def dump(self) -> list[str]:
        """Give the ids that were counted, the oldest first."""
        return list(self._ids)

    def load(self, ids: list[str]) -> None:
        """Take over ids that were dumped."""
        self._ids = dict.fromkeys(ids)

    def release(self, source: Source) -> None:
        """Count the request that was held back for a better line."""
        if source.held is not None:
            (request, extra, name), source.held = source.held, None
            # another file may have told it meanwhile
            is_repeat = request.id is not None and request.id in self._ids
            if not is_repeat:
                self._count(request, extra, name)
            if source.held_owes:
                source.held_owes = False
                self._health.lines["repeat" if is_repeat else "request"] += 1

    def _docker(self, record: Record) -> tuple[str, bool, bytes] | None:
        return envelopes.docker(record) if self._envelope in ("auto", "docker") else None

    def _docker_line(self, line: bytes) -> tuple[str, bool, bytes] | None:
        try:
            return self._docker(_decode(line))
        except ValueError:
            return None

    def _wrapped(self, source: Source, line: bytes) -> str | None:
        """Read a line that is no JSON object as it stands."""
        if self._envelope in ("auto", "cri") and (part := envelopes.cri(line)) is not None:
            source.is_cri = True
            return self._fragment(source, *part)
        if source.printed:
            if line[:1] == b"{" and (docker := self._docker_line(line)) is not None:
                return self._fragment(source, *docker)
            return self._print(source, line)
        source.is_cri = False
        return self._text(source, line)

    def _text(self, source: Source, line: bytes) -> str | None:
        stripped = line.strip(b" \t\r\n\0\xef\xbb\xbf")
        if not stripped:
            return "ignored"
        if line.rstrip(b"\r") in _OPENERS:
            return self._begin(source, stripped)
        if stripped[-1:] == b"," and stripped[:1] == b"{":
            # an element of an array that is printed with one element on each line
            stripped = stripped[:-1]
        if stripped[:1] not in _JSON_STARTS:
            return "not_json"
        try:
            record = _decode(stripped)
        except ValueError:
            records = _several(stripped)
            return self._value(source, records, stripped) if records else "not_json"
        if type(record) is dict:
            if (part := self._docker(record)) is not None:
                return self._fragment(source, *part)
            return self._record(source, record, 0) or "ignored"
        return self._value(source, record, stripped)

    def _fragment(self, source: Source, stream: str, is_last: bool, text: bytes) -> str | None:
        """Join what the runtime split, for each stream by itself."""
        parts = source.fragments.get(stream)
        if parts is None:
            if is_last:
                return self._joined(source, stream, text)
            source.fragments[stream] = [text]
            return None
        if parts[0] != _TOO_LONG:
            parts.append(text)
            if sum(map(len, parts)) > self._max_line_bytes:
                parts[:] = [_TOO_LONG]
            elif len(parts) > _MAX_FRAGMENTS:
                parts[:] = [b"".join(parts)]
        if not is_last:
            return None
        del source.fragments[stream]
        return self._joined(source, stream, b"".join(parts))

    def _joined(self, source: Source, stream: str, line: bytes) -> str | None:
        """Read a line that was taken out of its wrapper, as a whole."""
        if line == _TOO_LONG:
            return "too_long"
        if source.printed and source.stream in ("", stream):
            return self._print(source, line)
        is_printing = bool(source.printed)
        result = self._text(source, line)
        if source.printed and not is_printing:
            source.stream = stream
        return result

    def _begin(self, source: Source, opener: bytes) -> str:
        """Begin a record that is printed over many lines."""
        if source.printed:
            return "not_json"
        source.printed.append(opener)
        source.printed_bytes = len(opener) + 1
        source.stream = ""
        return _LATER

    def _print(self, source: Source, wrapped: bytes) -> str | None:
        """Collect the lines of a pretty-printed record; all but its first and last are indented."""
        line = wrapped.rstrip(b"\r")
        if line[:1] == b"{" and len(line) > 2:
            line = envelopes.line(envelopes.decoded(line)) or line
        closer = _OPENERS[source.printed[0]]
        if line[:1] in (b" ", b"\t") or not line:
            source.printed.append(line)
            source.printed_bytes += len(line) + 1
            if source.printed_bytes > self._max_line_bytes:
                self._drop_printed(source)
                return "too_long"
            return None
        if line != closer and not (closer == b"}" and line == b"},"):
            self._abandon_printed(source)
            return self._text(source, wrapped)
        text = b"\n".join([*source.printed, line])
        self._drop_printed(source)
        try:
            value = _decode(text.rstrip(b","))
        except ValueError:
            return "not_json"
        if type(value) is dict:
            return self._record(source, value, 0) or "ignored"
        return self._value(source, value, text)

    def _abandon_printed(self, source: Source) -> None:
        """Give up what began like a pretty-printed record: a bracket alone says nothing, the rest is no JSON."""
        self._health.lines["ignored"] += 1
        self._health.lines["not_json"] += len(source.printed) - 1
        self._drop_printed(source)

    def _drop_printed(self, source: Source) -> None:
        source.printed = []
        source.printed_bytes = 0

    def _value(self, source: Source, value: Any, line: bytes) -> str:
        """Count a line that is an array of records; any other bare value is ignored."""
        if type(value) is not list:
            return "ignored" if line.strip() else "not_json"
        return (
            self._records(source, [entry for entry in value if type(entry) is dict], 0) or "ignored"
        )

    def _records(self, source: Source, records: list[Record], depth: int) -> str | None:
        results = [self._record(source, record, depth) for record in records]
        claimed = [result for result in results if result is not None]
        return _first(claimed) if claimed else None

    def _record(self, source: Source, record: Record, depth: int) -> str | None:
        """Ask the parsers, then open what is inside; `None` where nobody claims any of it."""
        last, asked = source.last_parser, self._may_want(record)
        if last is not None and last in asked and passes(asked[last], record):
            result = self._ask(source, last, record)
            if result is not None:
                return result
        return self._ask_others(source, record, depth, asked)

    def _ask_others(self, source: Source, record: Record, depth: int, asked: Asked) -> str | None:
        """Do what `_record` does after it has asked the parser that claimed the last record."""
        last = source.last_parser
        for place, tests in asked.items():
            if place != last and (tests is None or passes(tests, record)):
                result = self._ask(source, place, record)
                if result is not None:
                    installed = self._parsers[place]
                    # one that claims whatever has a usage must not come before the particular ones
                    source.last_parser = place if installed.is_particular else None
                    if depth == 0:
                        self._choose_batch(source, installed)
                    return result
        if depth < envelopes.MAX_DEPTH:
            for found in envelopes.inner(record):
                if isinstance(found, bytes):
                    return self._begin(source, found)
                result = self._records(source, found, depth + 1)
                if result is not None:
                    return result
        return None

    def _may_want(self, record: Record) -> Asked:
        """Give who may claim a record by its keys, and what must stand there for some of them."""
        if len(record) > MAX_KEYS:
            return dict.fromkeys(range(len(self._parsers)))
        shape = tuple(record)
        asked = self._asked.get(shape)
        if asked is None:
            if not self._asked_about:
                self._spoken_of = frozenset().union(*map(_speaks_of, self._parsers))
            keys = self._spoken_of.intersection(shape)
            asked = self._asked_about.get(keys)
            if asked is None:
                asked = {
                    place: tests_of(_keys(installed), keys)
                    for place, installed in enumerate(self._parsers)
                    if _may_want(installed, keys)
                }
                if len(self._asked_about) >= MAX_SHAPES:
                    self._asked_about.clear()
                self._asked_about[keys] = asked
            if len(self._asked) >= MAX_SHAPES:
                self._asked.clear()
            self._asked[shape] = asked
        return asked

    def _outline(self, line: bytes) -> bytes | None:
        """Give the outline of a line that nobody can claim, whatever its values are; else `None`."""
        if not self._verbatim:
            self._verbatim = self._deciding()
        if not noise.is_json(line):
            return None
        for verbatim in self._verbatim:
            found = noise.outline(line, verbatim, envelopes.OPENED)
            if found is None:
                continue
            is_nobodys = self._is_nobodys.get(found)
            if is_nobodys is None:
                record = orjson.loads(line)
                # it may be Docker's wrapper, whatever it holds
                is_nobodys = not ("log" in record and len(record) <= 4) and self._can_no_one_claim(
                    record, verbatim, 0
                )
                if len(self._is_nobodys) >= MAX_SHAPES:
                    self._is_nobodys.clear()
                self._is_nobodys[found] = is_nobodys
            if is_nobodys:
                return found
        return None

    def _deciding(self) -> tuple[noise.Verbatim, ...]:
        tables: list[Table] = []
        values: set[tuple[str, str]] = set()
        for installed in self._parsers:
            compiled, keys = _compiled(installed), _keys(installed)
            if compiled is not None:
                tables += compiled.tables
            elif isinstance(keys, Mapping):
                for key, kind in keys.items():
                    if isinstance(kind, Set):
                        values.add((key, "text"))
                    elif kind not in _KINDS_OF_OUTLINES:
                        values.update((key, one) for one in noise.KINDS.values())
        values.update(noise.deciding(tables))
        return frozenset(values), frozenset(values).union(noise.telling(tables))

    def _can_no_one_claim(self, record: Record, verbatim: noise.Verbatim, depth: int) -> bool:
        """Tell whether nobody claims a record, nor any in it, by its keys, its `verbatim` values and kinds of others."""
        if len(record) > MAX_KEYS:
            return False
        for installed in self._parsers:
            compiled, keys = _compiled(installed), _keys(installed)
            if compiled is not None:
                if any(noise.may_claim(table, record, verbatim) for table in compiled.tables):
                    return False
            elif keys is None or may_be_of(keys, record):
                return False
        return depth == envelopes.MAX_DEPTH or not any(
            isinstance(found, bytes)
            or not all(self._can_no_one_claim(one, verbatim, depth + 1) for one in found)
            for found in envelopes.inner(record)
        )

    def _choose_batch(self, source: Source, installed: Installed) -> None:
        """Count lines at once by the parser that claimed the last one, where nobody else may want them."""
        if installed.name not in self._batches:
            self._batches[installed.name] = self._batch(installed)
        source.batch = self._batches[installed.name]
        source.batch_parser = installed.name

    def _batch(self, installed: Installed) -> Batch | None:
        compiled = _compiled(installed)
        if self._observe is not None or compiled is None or not compiled.is_plain:
            return None
        rivals: list[Table] = []
        if not installed.is_particular:
            # ours know their own formats; of a stranger's parser it is known only where it is a table
            for other in self._parsers:
                if other.is_users_table or not other.is_ours:
                    theirs = _compiled(other)
                    if theirs is None:
                        return None
                    rivals += theirs.tables
        return Batch(compiled, self._meter, self._labels, rivals, self._slices)

    def _ask(self, source: Source, place: int, record: Record) -> str | None:
        installed = self._parsers[place]
        name = installed.name
        try:
            requests = installed.parser(record, self._memory(source, name))
            if requests and not installed.is_ours:
                checked(requests)
        except Exception as error:
            return self._blame(name, error)
        # most are asked about what is not theirs
        return None if requests is None else self._take(source, installed, record, requests)

    def _memory(self, source: Source, name: str) -> Memory:
        memory = source.memories.get(name)
        if memory is None:
            memory = source.memories[name] = {}
        return memory

    def _blame(self, name: str, error: Exception) -> str:
        """Give the result of a line of which its parser has raised an error."""
        if isinstance(error, ParseError):
            return "malformed"
        # a stranger's parser: its bug costs this line, and is told once
        if name not in self._blamed:
            self._blamed.add(name)
            log.error(
                "parser %s failed; the line is passed over, further failures are only counted",
                name,
                exc_info=error,
            )
        return "plugin_error"

    def _take(
        self,
        source: Source,
        installed: Installed,
        record: Record,
        requests: Sequence[Request],
    ) -> str:
        """Count what a parser gave for a record."""
        name = installed.name
        result = "ignored"
        for request in requests:
            extra = tuple([_label(record, path) for path in self._labels]) if self._labels else ()
            extra += self._of_path(source)
            if self._slices is not None:
                extra += (self._slices.label(request.timestamp),)
            if request.id is None and source.held is None:
                self._count(request, extra, name)
                result = "request"
            else:
                result = _first([result, self._told(source, request, extra, name)])
        return result

    def _of_path(self, source: Source) -> tuple[str, ...]:
        """Give the values of the extra labels that a source's path tells: of the path that it was met under."""
        if source.path_labels is None:
            source.path_labels = values_in(source.path, self._path_labels)
        return source.path_labels

    def _told(self, source: Source, request: Request, extra: tuple[str, ...], name: str) -> str:
        """Count, or hold, a request that may be told on several lines."""
        held = source.held
        if held is not None:
            if held[0].id == request.id:
                source.held = None
                if source.held_owes:
                    self._health.lines["superseded"] += 1
            else:
                self.release(source)
        if request.id is not None and request.id in self._ids:
            return "repeat"
        if not request.final:
            source.held = (request, extra, name)
            source.held_owes = False
            return _HELD
        self._count(request, extra, name)
        return "request"

    def _tally(self, name: str, count: int) -> None:
        counted = self._health.requests
        counted[name] = counted.get(name, 0) + count

    def _count(self, request: Request, extra: tuple[str, ...], name: str) -> None:
        if request.id is not None:
            self._ids[request.id] = None
            if len(self._ids) > REMEMBERED_IDS:
                del self._ids[next(iter(self._ids))]
        self._meter.add(request, extra)
        self._tally(name, 1)
        if self._observe is not None:
            self._observe(request, name)


def _first(results: list[str]) -> str:
    for result in ("request", _HELD, "superseded", "repeat", "plugin_error", "malformed"):
        if result in results:
            return result
    return "ignored"


Unwrapped = tuple[bytes | memoryview, int | None]
"""Whole lines without their wrapper, and how many, where that is known."""
Kind = type | Set[str] | Callable[[Any], bool]
"""What stands at a key of a parser's: a value of a type, one of some texts, or whatever a function says yes to."""
_KINDS_OF_OUTLINES = (object, dict, list, str, bool, type(None))
"""Kinds that all values at one place of an outline have, or none of them; a number may be whole or not."""
Tests = Sequence[tuple[str, Kind]] | None
"""Keys that a record has and what may stand there; one of them must. `None`: whatever stands there."""
Asked = Mapping[int, Tests]
"""Who may claim records of one shape, by place in the list of parsers, and what tells whether one does."""


def tests_of(keys: Set[str] | Mapping[str, Kind] | None, there: Container[str]) -> Tests:
    """Give what is to be asked of a record with some of a parser's `keys`."""
    if not isinstance(keys, Mapping):
        return None
    tests = [
        (key, frozenset(kind) if isinstance(kind, Set) else kind)
        for key, kind in keys.items()
        if key in there
    ]
    return None if any(kind is object for _, kind in tests) else tests


def passes(tests: Tests, record: Record) -> bool:
    """Tell whether one of the values is what it must be."""
    if tests is None:
        return True
    for key, kind in tests:
        value = record[key]
        if type(kind) is frozenset:
            if type(value) is str and value in kind:
                return True
        elif kind is type(value) if isinstance(kind, type) else kind(value):  # type: ignore[operator] # a function
            return True
    return False


def may_be_of(keys: Set[str] | Mapping[str, Kind], record: Record) -> bool:
    """Tell whether a record may be of the parser with these `keys`."""
    return (
        not keys.isdisjoint(record)
        if isinstance(keys, Set)
        else passes(tests_of(keys, record), record)
    )


def _speaks_of(installed: Installed) -> Iterable[str]:
    """Give the keys that decide whether a parser is asked; none for one that is asked about everything."""
    compiled = _compiled(installed)
    if compiled is None:
        return _keys(installed) or ()
    return [
        chain[0]
        for table in compiled.tables
        for path, _ in table.when
        for chain in fields.WAYS[path]
    ]


def _may_want(installed: Installed, keys: frozenset[str]) -> bool:
    compiled = _compiled(installed)
    if compiled is not None:
        return any(may_claim(table, keys) for table in compiled.tables)
    needed = _keys(installed)
    return needed is None or not keys.isdisjoint(needed)


def _keys(installed: Installed) -> Set[str] | Mapping[str, Kind] | None:
    found: Set[str] | Mapping[str, Kind] | None = getattr(installed.parser, "keys", None)
    return found


def _compiled(installed: Installed) -> Compiled | None:
    found = getattr(installed.parser, "compiled", None)
    return found if isinstance(found, Compiled) else None


def _label(record: Record, path: str) -> str:
    return label(record.get(path) if path in record else get(record, path))

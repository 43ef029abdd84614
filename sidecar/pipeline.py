"""Line → record → requests → series; each line ends in exactly one result.

The results, the one that stands first in `RESULTS` winning where a line holds several records:
`request`, `superseded` (a later line told the same request better), `repeat` (its id was counted before),
`plugin_error`, `malformed`, `ignored` (JSON, but no finished request), `not_json`, `too_long`.
A record that is printed over several lines, and a line that the runtime split, is one line here.
"""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import orjson

from . import envelopes
from .fields import get
from .metrics import Health, Meter
from .request import Memory, ParseError, Parser, Record, Request, checked
from .table import MISS, LineReader

log = logging.getLogger("ai_sidecar")

REMEMBERED_IDS = 100_000
HOLD_SECONDS = 10.0
"""How long a file must be quiet for its held request to be counted."""

_HELD = "held"
"""No result yet: it comes when the request is counted or superseded."""

_OPENERS = {b"{": b"}", b"[": b"]"}


class Installed(msgspec.Struct, frozen=True):
    """A parser under its name; a particular one tells its own format apart from every other."""

    name: str
    parser: Parser
    is_particular: bool = True
    is_ours: bool = True
    """What it gives need not be looked at before it is counted."""


class Source:
    """What is known of one file between two of its lines."""

    __slots__ = (
        "fragments",
        "held",
        "is_cri",
        "last_parser",
        "memories",
        "path",
        "predecessor",
        "printed",
        "printed_bytes",
        "reader",
        "reader_name",
        "stream",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.last_parser: int | None = None
        """Who claimed the last record, by place in the list of parsers."""
        self.reader: LineReader | None = None
        """How it reads the bytes of a line at once, where it can and nothing else may come before it."""
        self.reader_name = ""
        self.memories: dict[str, Memory] = {}
        self.is_cri = False
        self.fragments: dict[str, list[bytes]] = {}
        """The parts of a line that the runtime split, by stream."""
        self.predecessor: Source | None = None
        """The file that had this path before: a split line may end here."""
        self.printed: list[bytes] = []
        """The lines of a pretty-printed record that is not at its end."""
        self.printed_bytes = 0
        self.stream = ""
        """The runtime's stream in which it is printed."""
        self.held: tuple[Request, tuple[str, ...], str] | None = None
        """A request that a later line may still tell better, its extra labels and its parser."""

    def dump(self) -> dict[str, Any]:
        """Give JSON values from which `load` makes the same; the last parser is asked anew."""
        return {
            "path": self.path,
            "memories": {name: memory for name, memory in self.memories.items() if memory},
            "is_cri": self.is_cri,
            "fragments": {stream: _as_text(parts) for stream, parts in self.fragments.items()},
            "printed": _as_text(self.printed),
            "held": self.held and [msgspec.to_builtins(self.held[0]), self.held[1], self.held[2]],
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Source:
        """Make the source that was dumped."""
        source = cls(dumped["path"])
        source.memories = dumped["memories"]
        source.is_cri = dumped["is_cri"]
        source.fragments = {
            stream: _as_bytes(parts) for stream, parts in dumped["fragments"].items()
        }
        source.printed = _as_bytes(dumped["printed"])
        source.printed_bytes = sum(map(len, source.printed))
        if dumped["held"]:
            request, extra, name = dumped["held"]
            source.held = (msgspec.convert(request, Request), tuple(extra), name)
        return source


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
        max_line_bytes: int = 8 << 20,
        observe: Callable[[Request, str], None] | None = None,
    ) -> None:
        self._parsers = list(parsers)
        self._meter = meter
        self._health = health
        self._envelope = envelope
        self._labels = tuple(labels)
        self._max_line_bytes = max_line_bytes
        self._observe = observe
        self._ids: dict[str, None] = {}
        self._blamed: set[str] = set()

    def feed(self, source: Source, lines: list[bytes], too_long: int = 0) -> None:
        """Count whole lines of one file, in their order."""
        results = self._health.lines
        if too_long:
            results["too_long"] += too_long
        coming = iter(lines)
        while True:
            if (
                source.reader is not None
                and source.held is None
                and not source.is_cri
                and not source.printed
            ):
                line = self._read_at_once(source, source.reader, coming)
            else:
                line = next(coming, None)
            if line is None:
                return
            result = self._line(source, line)
            if result is not None and result != _HELD:
                results[result] += 1

    def _read_at_once(
        self, source: Source, read: LineReader, coming: Iterator[bytes]
    ) -> bytes | None:
        """Count lines that their parser reads from the bytes; give the first that it cannot."""
        add = self._meter.add
        count = 0
        missed = None
        for line in coming:
            requests = read(line)
            if not requests or requests is MISS:
                missed = line
                break
            for request in requests:
                add(request)
            count += 1
        self._health.lines["request"] += count
        if count:
            self._tally(source.reader_name, count)
        return missed

    def _line(self, source: Source, line: bytes) -> str | None:
        """Read one line the general way; `None` where its result comes with a later one."""
        if source.is_cri or source.printed:
            return self._wrapped(source, line)
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            return self._wrapped(source, line)
        if type(record) is not dict:
            return self._value(source, record, line)
        if "log" in record and (part := self._docker(record)) is not None:
            return self._fragment(source, *part)
        return self._record(source, record, 0) or "ignored"

    def finish(self, source: Source, rest: bytes | None) -> None:
        """Count what stands at the end of a file that will not grow any more."""
        if rest and rest.strip():
            # half a record at the end of a file is no line: only a whole one counts
            try:
                orjson.loads(rest)
            except orjson.JSONDecodeError:
                is_end = source.printed and rest.rstrip() == _OPENERS[source.printed[0]]
                if is_end or envelopes.cri(rest) is not None:
                    self.feed(source, [rest])
                else:
                    self._health.lines["not_json"] += 1
            else:
                self.feed(source, [rest])
        for stream in list(source.fragments):
            result = self._text(source, b"".join(source.fragments.pop(stream)))
            self._health.lines[result] += 1
        if source.printed:
            self._health.lines["not_json"] += len(source.printed)
            self._drop_printed(source)
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
            held, source.held = source.held, None
            if held[0].id in self._ids:  # another file that held it as well was quicker
                self._health.lines["repeat"] += 1
                return
            self._count(*held)
            self._health.lines["request"] += 1

    def _docker(self, record: Record) -> tuple[str, bool, bytes] | None:
        return envelopes.docker(record) if self._envelope in ("auto", "docker") else None

    def _wrapped(self, source: Source, line: bytes) -> str | None:
        """Read a line that is no JSON object as it stands."""
        if self._envelope in ("auto", "cri") and (part := envelopes.cri(line)) is not None:
            source.is_cri = True
            return self._fragment(source, *part)
        source.is_cri = False
        if source.printed:
            if (part := self._docker(envelopes.decoded(line))) is not None:
                return self._fragment(source, *part)
            return self._print(source, line)
        return self._text(source, line)

    def _text(self, source: Source, line: bytes) -> str:
        if (
            source.held is None
            and (read := source.reader) is not None
            and (requests := read(line)) is not MISS
            and requests
        ):
            for request in requests:
                self._count(request, (), source.reader_name)
            return "request"
        stripped = line.strip(b" \t\r\n\0\xef\xbb\xbf")
        if not stripped:
            return "ignored"
        try:
            record = orjson.loads(stripped)
        except orjson.JSONDecodeError:
            if line.rstrip(b"\r") in _OPENERS:
                return self._begin(source, stripped)
            if stripped[-1:] == b"," and stripped[:1] == b"{":
                # an element of an array that is printed with one element on each line
                return self._text(source, stripped[:-1])
            return "not_json"
        if type(record) is dict:
            if (part := self._docker(record)) is not None:
                return self._fragment(source, *part) or "ignored"
            return self._record(source, record, 0) or "ignored"
        return self._value(source, record, stripped)

    def _fragment(self, source: Source, stream: str, is_last: bool, text: bytes) -> str | None:
        """Join what the runtime split, for each stream by itself."""
        parts = source.fragments.get(stream)
        if parts is None and source.predecessor is not None:
            parts = source.predecessor.fragments.pop(stream, None)
            source.predecessor = None
            if parts is not None:
                source.fragments[stream] = parts
        if parts is None:
            if is_last:
                return self._whole(source, stream, text)
            source.fragments[stream] = [text]
            return None
        parts.append(text)
        if sum(map(len, parts)) > self._max_line_bytes:
            parts[:] = [b"\0too long"]
        if not is_last:
            return None
        del source.fragments[stream]
        if parts[0] == b"\0too long":
            return "too_long"
        return self._whole(source, stream, b"".join(parts))

    def _whole(self, source: Source, stream: str, text: bytes) -> str | None:
        """Read a line of one stream; what the other says in between is no part of a printed record."""
        if source.printed and source.stream in ("", stream):
            return self._print(source, text)
        is_printing = bool(source.printed)
        result = self._text(source, text)
        if source.printed and not is_printing:
            source.stream = stream
        return result

    def _begin(self, source: Source, opener: bytes) -> str:
        """Begin a record that is printed over many lines."""
        if source.printed:
            return "not_json"
        source.printed.append(opener)
        source.printed_bytes = len(opener)
        source.stream = ""
        return "ignored"

    def _print(self, source: Source, wrapped: bytes) -> str | None:
        """Collect the lines of a pretty-printed record; all but its first and last are indented."""
        line = wrapped.rstrip(b"\r")
        if line[:1] == b"{" and len(line) > 2:
            line = envelopes.line(envelopes.decoded(line)) or line
        closer = _OPENERS[source.printed[0]]
        if line[:1] in (b" ", b"\t") or not line:
            source.printed.append(line)
            source.printed_bytes += len(line)
            if source.printed_bytes > self._max_line_bytes:
                self._drop_printed(source)
                return "too_long"
            return None
        text = b"\n".join([*source.printed, line])
        abandoned = len(source.printed) - 1
        self._drop_printed(source)
        if line == closer or (closer == b"}" and line == b"},"):
            try:
                value = orjson.loads(text.rstrip(b","))
            except orjson.JSONDecodeError:
                return "not_json"
            if type(value) is dict:
                return self._record(source, value, 0) or "ignored"
            return self._value(source, value, text)
        self._health.lines["not_json"] += abandoned
        return self._text(source, wrapped)

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
        parsers = self._parsers
        last = source.last_parser
        result = self._ask(source, last, record) if last is not None else None
        if result is None:
            for place, installed in enumerate(parsers):
                if place != last:
                    result = self._ask(source, place, record)
                    if result is not None:
                        # one that claims whatever has a usage must not come before the particular ones
                        source.last_parser = place if installed.is_particular else None
                        if depth == 0:
                            self._choose_reader(source, installed)
                        break
        if result is not None:
            return result
        if depth < envelopes.MAX_DEPTH:
            for found in envelopes.inner(record):
                if isinstance(found, bytes):
                    return self._begin(source, found)
                result = self._records(source, found, depth + 1)
                if result is not None:
                    return result
        return None

    def _choose_reader(self, source: Source, installed: Installed) -> None:
        """Read whole lines by the parser that claimed the last one, where nobody needs the record."""
        source.reader = None
        if source.last_parser is not None and not self._labels and self._observe is None:
            source.reader = getattr(installed.parser, "read", None)
            source.reader_name = installed.name

    def _ask(self, source: Source, place: int, record: Record) -> str | None:
        installed = self._parsers[place]
        name, parser = installed.name, installed.parser
        memory = source.memories.get(name)
        if memory is None:
            memory = source.memories[name] = {}
        try:
            requests = parser(record, memory)
            if requests and not installed.is_ours:
                checked(requests)
        except ParseError:
            return "malformed"
        except Exception:
            # a stranger's parser: its bug costs this line, and is told once
            if name not in self._blamed:
                self._blamed.add(name)
                log.exception(
                    "parser %s failed; the line is passed over, further failures are only counted",
                    name,
                )
            return "plugin_error"
        if requests is None:
            return None
        result = "ignored"
        for request in requests:
            extra = tuple([_label(record, path) for path in self._labels]) if self._labels else ()
            if request.id is None and source.held is None:
                self._count(request, extra, name)
                result = "request"
            else:
                result = _first([result, self._told(source, request, extra, name)])
        return result

    def _told(self, source: Source, request: Request, extra: tuple[str, ...], name: str) -> str:
        """Count, or hold, a request that may be told on several lines."""
        held = source.held
        if held is not None:
            if held[0].id == request.id:
                source.held = None
                self._health.lines["superseded"] += 1
            else:
                self.release(source)
        if request.id is not None and request.id in self._ids:
            return "repeat"
        if not request.final:
            source.held = (request, extra, name)
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


def _label(record: Record, path: str) -> str:
    value = record.get(path) if path in record else get(record, path)
    if value is None or isinstance(value, (dict, list)):
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    return str(value)

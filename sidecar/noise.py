"""Lines that are no request, told by their bytes: what most lines of a log are that is not ours alone.

An *outline* is a line of JSON with all its keys, brackets and separators as they stand and its values left open: texts
with no `{` in them, numbers, true or false. Whoever decides by keys and by the kinds of values decides for all lines
of an outline alike. Those that nobody can want, and text that no JSON begins with, are passed over by one expression.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any

import orjson

from . import fields
from .request import Record
from .table import READERS, At, Const, Sum, Table, holds, is_index

MAX_OUTLINES = 16
MAX_OUTLINE_BYTES = 4096
MAX_VERBATIM_BYTES = 64
SAMPLED_LINES = 128
"""Of one read, when a lesson is taken: each is decoded, so a lesson costs some milliseconds."""
ENOUGH_LINES = 64
"""How many must have come before it is judged whether most are noise."""
FIRST_BYTES = 64 * 1024
"""How much of a long first read is read the general way, before the rest is judged by it."""
MAX_LESSONS = 12
"""How often outlines are looked for in one file; where new ones never end, it is of no use."""

# no quote, no backslash, no `{`, no control character; a set of what may be there is faster than one of what may not
_PLAIN = rb"[ !#-\[\]-z|-\xff]*+"
_ESCAPE = (
    rb'\\(?:["\\/bfnrt]|u(?!007[bB]|[dD][89a-fA-F])[0-9a-fA-F]{4}'
    rb"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)
_TEXT = b'"' + _PLAIN + b"(?:" + _ESCAPE + _PLAIN + b')*+"'
_NOT_OPENED = rb'(?!"(?:[ \\]|\[[ "\\]))'
"""Before a text that an envelope would open: space, or a bracket that stands alone, may be the start of a record."""
_NUMBER = rb"-?+(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]{1,20}+)?+(?:[eE][+-]?+[0-9]{1,2}+)?+(?![0-9.eE])"

_BLANK = rb"[ \t\r]*+\n"
# What starts so is neither JSON, nor a line of CRI, whatever comes after it.
_NO_JSON = (
    rb"(?:[0-9]++(?:-(?![0-9]{2}-[0-9]{2}T\S++ std)|[^0-9.eE\-\0\t\n\r \xef\xbb\xbf]|\.[0-9]++\.)"
    rb"|[ \t]*+(?:[^\0\t\n\r \xef\xbb\xbf{\[\"\-0-9tfn]|(?!true|false|null)[tfn]"
    rb"|\[(?:[A-Za-eg-mo-su-z]|[0-9]++[\-:/])|-(?![0-9])))[^\n]*+"
)

_TOKEN = re.compile(
    rb"[ \t]*+(?:(?P<key>" + _TEXT + rb")[ \t]*+:|(?P<text>" + _TEXT + rb")|(?P<number>" + _NUMBER
    + rb")|(?P<flag>true|false)|(?P<mark>null|[{}\[\],]))"
)  # fmt: skip
_KEY = re.compile(rb'"[ !#-\[\]-z|-~]*+"')


_escaped = lru_cache(maxsize=1024)(re.escape)
"""Most of what is escaped in a log are its keys and marks, in each line again."""

Verbatim = Set[tuple[str, str]]
"""Keys and kinds of values, `text`, `number` or `flag`: such values at such keys, at any depth, tell who claims a record."""
KINDS: Mapping[type, str] = {str: "text", int: "number", float: "number", bool: "flag"}


def outline(line: bytes, verbatim: Verbatim, openable: Set[str]) -> bytes | None:
    """Give the expression for all lines of JSON that are as this one but for their values; `None` where there is none.

    The `verbatim` values stay as they are. Texts at the keys `openable` must not be such as an envelope opens.
    """
    parts: list[bytes] = []
    known: list[set[bytes]] = []
    key, at, length = "", 0, 0
    text = line.rstrip(b" \t\r\n")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        token = match[match.lastgroup or 0]
        before = text[at : match.start(match.lastgroup or 0)]
        at = match.end()
        kind = match.lastgroup
        if before:
            parts.append(_escaped(before))
        if kind == "key":
            if not known or token in known[-1] or not _KEY.fullmatch(token):
                return None
            known[-1].add(token)
            key = token[1:-1].decode()
            parts.append(_escaped(text[match.start("key") : at]))
        elif kind == "mark":
            if token == b"{":
                known.append(set())
            elif token == b"}":
                known.pop()
            elif token == b"[" and key in openable:
                return None
            parts.append(_escaped(token))
        elif (key, kind) in verbatim:
            if len(token) > MAX_VERBATIM_BYTES or b"\\" in token:
                return None
            parts.append(_escaped(token))
        elif kind == "text":
            parts.append((_NOT_OPENED if key in openable else b"") + _TEXT)
        else:
            parts.append(_NUMBER if kind == "number" else b"(?:true|false)")
        length += len(parts[-1])
        if length > MAX_OUTLINE_BYTES:
            return None
    return b"".join(parts)


def may_claim(table: Table, record: Record, verbatim: Verbatim) -> bool:
    """Tell whether a table may claim any record of this one's outline: of its keys, and of the kinds of its values.

    False is sure: whatever the texts, numbers and flags are that are not `verbatim`, it is not the table's.
    """
    for path, values in table.when:
        if values is None or any(map(is_index, path.split("."))):
            if fields.get(record, path) is None:
                return False
        elif not holds(record, path, values) and _is_settled(record, path, values, verbatim):
            return False
    if table.when:
        return True
    openings = [record]
    for key in table.inside:
        inner = record.get(key)
        if type(inner) is dict and inner:
            openings.append({**record, key: None, **inner})
    return any(_may_be_enough(table, opened, verbatim) for opened in openings)


def deciding(tables: Iterable[Table]) -> Iterator[tuple[str, str]]:
    """Give the values that tell whether one of the tables claims a record."""
    for table in tables:
        for path, values in table.when:
            for value in values or ():
                yield from ((chain[-1], KINDS[type(value)]) for chain in fields.WAYS[path])
        yield from deciding(table.bodies)


_TELLING = ("known_provider", "host_provider", "model_endpoint", "model_in_path")


def telling(tables: Iterable[Table]) -> Iterator[tuple[str, str]]:
    """Give the texts, of a path or a host, that tell of a call to a model or of any other."""
    for table in tables:
        for name, source in table.sources.items():
            for take in source if any(name in group for group in table.needs) else ():
                if isinstance(take, At) and take.read in _TELLING:
                    yield from ((chain[-1], "text") for chain in take.chains)


def _is_settled(record: Record, path: str, values: tuple[Any, ...], verbatim: Verbatim) -> bool:
    """Tell whether what stands at a path is none of the values in any record of the outline, as it is not in this one."""
    kind = KINDS.get(type(fields.get(record, path)))
    return all(KINDS[type(value)] != kind for value in values) or all(
        (chain[-1], kind) in verbatim for chain in fields.WAYS[path]
    )


def _may_be_enough(table: Table, record: Record, verbatim: Verbatim) -> bool:
    for path in table.body_at:
        body = fields.get(record, path)
        if type(body) is list:
            body = body[-1] if body else None
        if type(body) is dict and any(may_claim(one, body, verbatim) for one in table.bodies):
            return True
    found = {
        name
        for key in (*record, None)
        for _, name, take in table.by_key.get(key, ())
        if _may_be_read(take, record, verbatim)
    }
    if table.input_excludes_cache and not found.isdisjoint(
        ("cache_read_tokens", "cache_write_tokens")
    ):
        found.add("input_tokens")
    if table.output_excludes_reasoning and "reasoning_tokens" in found:
        found.add("output_tokens")
    return all(not found.isdisjoint(group) for group in table.needs)


def _may_be_read(take: At | Sum | Const, record: Record, verbatim: Verbatim) -> bool:
    if isinstance(take, Const):
        return True
    if isinstance(take, Sum):
        return any(_may_be_read(part, record, verbatim) for part in take.parts)
    for chain in take.chains:
        value: Any = record
        for key in chain:
            value = fields.step(value, key)
        if value is None:
            continue
        is_known = (chain[-1], KINDS.get(type(value))) in verbatim
        if not is_known or READERS[take.read](value) is not None:
            return True
    return False


Expression = re.Pattern[bytes]


class Expressions:
    """The expressions for sets of outlines: files of one program share theirs."""

    def __init__(self) -> None:
        self._made: dict[tuple[bytes, ...], Expression] = {}

    def of(self, outlines: Iterable[bytes]) -> Expression:
        """Give the expression of which each match is a line: its group is nothing, a newline, or the whole line.

        It is nothing for a line that counts as `ignored`, a newline for one that is no JSON, else the line as it is.
        """
        names = tuple(sorted(outlines))
        made = self._made.get(names)
        if made is None:
            if len(self._made) >= MAX_OUTLINES:
                self._made.clear()
            each = [name + rb"[ \t]*+\r?+\n" for name in names]
            made = self._made[names] = re.compile(
                b"|".join([*each, _BLANK, b"(?:" + _NO_JSON + rb")?+([^\n]*+\n)"])
            )
        return made


class Noise:
    """What is known of one file's lines that are no request; nothing of it is used where most lines are requests."""

    __slots__ = (
        "_all",
        "_expression",
        "_expressions",
        "_general",
        "_lessons",
        "_outlines",
        "_passed",
        "_since",
        "_wait",
        "is_new",
    )

    def __init__(self, expressions: Expressions) -> None:
        self._expressions = expressions
        self._outlines: dict[bytes, None] = {}
        self._expression: Expression | None = None
        self._all = self._passed = self._general = 0
        """Lines since it was last judged; of them those passed over, and the noise found the general way."""
        self._lessons = self._since = 0
        """How often outlines were looked for, and how many lines ago."""
        self._wait = 0
        """How many lines must come before the next time."""
        self.is_new = True
        """No line of it was read."""

    @property
    def is_used(self) -> bool:
        """Whether lines are to be told by their bytes."""
        return self._expression is not None

    def parts(self, whole: bytes | memoryview) -> list[bytes]:
        """Give for each of whole lines nothing, a newline or the line: see `Expressions.of`."""
        assert self._expression is not None  # noqa: S101 - asked only while it is used
        return self._expression.findall(whole)

    def is_lesson_due(self, lines: int, passed: int, general: int) -> bool:
        """Judge a read by its lines, those that were passed over, and the noise found the general way."""
        self._all += lines
        self._since += lines
        self._passed += passed
        self._general += general
        if self._all < ENOUGH_LINES:
            return False
        is_noisy = self._general * 4 > self._all
        if self._expression is not None:
            if self._passed * 8 < self._all:
                # nearly all are requests
                self._expression = None
        elif is_noisy and self._lessons:
            self._expression = self._expressions.of(self._outlines)
        self._all = self._passed = self._general = 0
        return (
            is_noisy
            and lines >= ENOUGH_LINES // 2
            and self._since >= self._wait
            and self._lessons < MAX_LESSONS
        )

    def learn(self, lines: Sequence[bytes], outlines: Callable[[bytes], bytes | None]) -> None:
        """Take in the outlines of lines, the most frequent ones; `outlines` gives that of a line nobody can want."""
        self._lessons += 1
        self._since, self._wait = 0, ENOUGH_LINES << 2 * self._lessons
        sample = lines[:: len(lines) // SAMPLED_LINES + 1]
        seen = Counter(
            found for line in sample if line[:1] == b"{" and (found := outlines(line)) is not None
        )
        enough = len(sample) // 64
        best = [found for found, times in seen.most_common(MAX_OUTLINES) if times > enough]
        self._outlines = dict.fromkeys([*best, *self._outlines][:MAX_OUTLINES])
        self._expression = self._expressions.of(self._outlines)


def place_after(parts: Sequence[bytes], number: int) -> int:
    """Give the place after so many lines that are no noise."""
    for place, part in enumerate(parts):
        if not number:
            return place
        number -= len(part) > 1
    return len(parts)


def is_json(line: bytes) -> bool:
    """Tell whether a line is an object of JSON, strictly."""
    try:
        return type(orjson.loads(line)) is dict
    except orjson.JSONDecodeError:
        return False

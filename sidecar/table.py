"""A parser written as a table: which field is where; compiled into a function for each shape of record that comes.

A table is a value. `Table.find` reads a record by it, slowly and plainly: that is what a table means.
`compile_table` writes Python for the shapes (which keys, in which order) that a log really has, in which only
the places are tried that can be there: what a hand-written parser would do. Both give the same requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
import orjson

from . import fields
from .request import Memory, Parser, Record, Request

COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
)
READERS: dict[str, Callable[[Any], Any]] = {
    "provider": fields.provider,
    "known_provider": fields.known_provider,
    "host_provider": fields.host_provider,
    "model": fields.model,
    "model_in_path": fields.model_in_path,
    "endpoint": fields.endpoint,
    "model_endpoint": fields.model_endpoint,
    "status": fields.status,
    "outcome": fields.outcome,
    "failure": fields.failure,
    "count": fields.count,
    "size": fields.size,
    "cost": fields.cost,
    "cents": fields.cents,
    "duration": fields.duration,
    "finish_reason": fields.finish_reason,
    "timestamp": fields.timestamp,
    "text": fields.text,
    "flag": fields.flag,
    "is_empty": lambda value: value == [] if type(value) is list else None,
    "yes": lambda value: True,
    "no": lambda value: False,
    "blocked": lambda value: "content_filter",
    "audio": lambda value: _modality(value, "AUDIO"),
    **{unit: partial(fields.seconds, unit=unit) for unit in fields.UNITS},
}
"""How a value is read; each gives `None` for what it cannot read, and the next place is tried."""
_FIELDS = {
    "provider": "provider",
    "model": "model",
    "endpoint": "endpoint",
    "status_code": "status",
    "outcome": "outcome",
    "error": "failure",
    "duration_seconds": "duration",
    "time_to_first_token_seconds": "duration",
    **dict.fromkeys(COUNTS, "count"),
    "total_tokens": "count",
    "cost_usd": "cost",
    "finish_reason": "finish_reason",
    "rate_limit_remaining_requests": "count",
    "rate_limit_remaining_tokens": "count",
    "batch_size": "count",
    "started": "timestamp",
    "first_token": "timestamp",
    "timestamp": "timestamp",
    "trace_id": "text",
    "served_from_cache": "flag",
    "cache_hit": "flag",
    "id": "text",
    "final": "flag",
    "is_model_call": "text",
}
"""What a table can tell, and how it is read unless the table says otherwise. Beside the fields of a `Request`:

`outcome` (went well or not, where no status says it), `error` (all that tells of a failure),
`started` and `first_token` (times, where the log has no durations), `cache_hit` (from the client's own cache
unless tokens were read from the provider's), `total_tokens` and `is_model_call`
(nothing but evidence for `needs`).
"""
EVIDENCE = frozenset({"total_tokens", "is_model_call"})
"""Fields that are no figures of a request."""
_SHORT = {
    "status": "status_code",
    "error_type": "error",
    "duration": "duration_seconds",
    "time_to_first_token": "time_to_first_token_seconds",
    "ttft": "time_to_first_token_seconds",
    "cost": "cost_usd",
}
_DURATIONS = ("duration_seconds", "time_to_first_token_seconds")
_TEXTS = frozenset(
    {
        "provider",
        "known_provider",
        "host_provider",
        "model",
        "model_in_path",
        "endpoint",
        "model_endpoint",
        "finish_reason",
    }
)


_MEMOS = {read: fields.Memo(READERS[read]) for read in (*_TEXTS, "status")}
"""One for all tables and shapes, so that what is kept stays small."""


@dataclass(frozen=True, slots=True)
class At:
    """A place in the record and how it is read; `values` then puts another value in place of the one read."""

    path: str
    read: str
    values: tuple[tuple[Any, Any], ...] = ()

    @property
    def chains(self) -> tuple[tuple[str, ...], ...]:
        """The ways to read the path: as one key with dots in it, and key by key."""
        chains: tuple[tuple[str, ...], ...] = fields.WAYS[self.path]
        return chains


@dataclass(frozen=True, slots=True)
class Sum:
    """All of the places that are there, added up."""

    parts: tuple[At, ...]


@dataclass(frozen=True, slots=True)
class Const:
    """A value that no record needs to tell."""

    value: Any


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: the places in the record, none for what the table or the house says by itself.

    read: a name of `READERS`; else `sum`, `const`, `made of` (durations of times, an error's class), `default`.
    """

    value: Any
    paths: tuple[str, ...]
    read: str


Source = tuple[At | Sum | Const, ...]
Place = tuple[int, str, At | Sum | Const]
"""Where in its table a source is, of which field, and the source."""


Find = Callable[[Record], "dict[str, Any] | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Where the fields of a request are in a record of one format.

    when: what makes a record of this format: at each path one of the values, or (`None`) anything at all.
    unless: at any of these, it is of another format after all.
    needs: of each group one field must be found, else the record tells of no finished request.
    sources: for each field the places to look at, the first that can be read is taken.
    bodies, body_at: the tables of bodies that may be inside the record, and where; what a body tells of the
    model, the tokens and the reason it ended is believed before the record's own.
    inside: keys under which all of it may be, one level down.
    """

    name: str
    when: tuple[tuple[str, tuple[Any, ...] | None], ...] = ()
    unless: tuple[tuple[str, tuple[Any, ...] | None], ...] = ()
    needs: tuple[tuple[str, ...], ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    input_excludes_cache: bool = False
    output_excludes_reasoning: bool = False
    bodies: tuple[Table, ...] = ()
    body_at: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    by_key: Mapping[str | None, list[Place]] = field(init=False, repr=False, compare=False)
    """The places by the first key of their ways; by `None` those that need no record."""

    def __post_init__(self) -> None:
        by_key: dict[str | None, list[Place]] = {}
        takes = [(name, take) for name, source in self.sources.items() for take in source]
        for order, (name, take) in enumerate(takes):
            heads: set[str | None] = {chain[0] for chain in _chains(take)}
            for head in heads or {None}:
                by_key.setdefault(head, []).append((order, name, take))
        object.__setattr__(self, "by_key", by_key)

    @classmethod
    def from_toml(cls, name: str, mapping: Mapping[str, Any]) -> Table:
        """Read a table as a user writes it (SPEC §4); ValueError, one sentence, for what it cannot be."""
        table = cls.of(name, mapping)
        if not table.when:
            raise ValueError(
                f"parsers.{name}.when: expected what makes a line of this format, "
                'such as { "kind" = "llm_call" }, got nothing'
            )
        if "model" not in table.sources:
            raise ValueError(
                f"parsers.{name}.model: expected where the model's name is, got nothing"
            )
        return table

    @classmethod
    def of(cls, name: str, mapping: Mapping[str, Any]) -> Table:
        """Read a table, or a part of one: `when` and `model` may be missing."""
        what = f"parsers.{name}"
        if not isinstance(mapping, Mapping):
            raise ValueError(f"{what}: expected a table of fields, got {_kind(mapping)}")
        sources: dict[str, Source] = {}
        known = {"when", "unless", "needs", "input_excludes_cache", "output_excludes_reasoning"}
        for key, value in mapping.items():
            if key in known:
                continue
            full = _SHORT.get(key, key)
            if full not in _FIELDS:
                raise ValueError(
                    f"{what}.{key}: expected the name of a field ({', '.join(sorted(_FIELDS))})"
                )
            if full in sources:
                raise ValueError(f"{what}.{key}: is told twice (as {full} as well)")
            sources[full] = _source(f"{what}.{key}", full, value)
        needs = mapping.get("needs", [])
        if not isinstance(needs, list) or not all(isinstance(need, str) and need for need in needs):
            raise ValueError(f"{what}.needs: expected a list of fields, got {_kind(needs)}")
        groups = tuple(tuple(_SHORT.get(one, one) for one in need.split("|")) for need in needs)
        for group in groups:
            for one in group:
                if one not in sources:
                    raise ValueError(
                        f"{what}.needs: expected fields that the table tells, got {one!r}"
                    )
        flags = {}
        for key in ("input_excludes_cache", "output_excludes_reasoning"):
            flags[key] = mapping.get(key, False)
            if type(flags[key]) is not bool:
                raise ValueError(f"{what}.{key}: expected true or false, got {_kind(flags[key])}")
        return cls(
            name=name,
            when=_conditions(f"{what}.when", mapping.get("when", {})),
            unless=_conditions(f"{what}.unless", mapping.get("unless", {})),
            needs=groups,
            sources=sources,
            **flags,
        )

    @property
    def tells_twice(self) -> bool:
        """Whether a request of this format may stand on several lines."""
        return "id" in self.sources or "final" in self.sources

    def claims(self, record: Record) -> bool:
        """Tell whether the record is of this format, by `when` and `unless`."""
        return all(_holds(record, path, values) for path, values in self.when) and not any(
            _holds(record, path, values) for path, values in self.unless
        )

    def find(self, record: Record) -> dict[str, Any]:
        """Read all the fields that are there, without asking whether they make a request; errors as a list."""
        places = {place[0]: place for key in (*record, None) for place in self.by_key.get(key, ())}
        found: dict[str, Any] = {}
        for order in sorted(places):
            _, name, take = places[order]
            if name in found and name != "error":
                continue
            value = _read(take, record)
            if value is None:
                continue
            if name == "error":
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
        if self.input_excludes_cache:
            _add(found, "input_tokens", ("cache_read_tokens", "cache_write_tokens"))
        if self.output_excludes_reasoning:
            _add(found, "output_tokens", ("reasoning_tokens",))
        return found

    def parse(self, record: Record) -> tuple[Request, ...] | None:
        """Do what the table's parser does, for any record, slowly."""
        return self.parse_with(
            record,
            lambda record: self.find(record) if self.claims(record) else None,
            lambda body: next(
                (table.find(body) for table in self.bodies if table.claims(body)), None
            ),
        )

    def explain(self, record: Record) -> dict[str, Origin] | None:
        """Tell, slowly, where each field of the request in a record comes from; `None` where there is no request."""
        if not self.claims(record):
            return None
        openings: list[tuple[Record, str, Record]] = [(record, "", {})]
        for key in self.inside:
            inner = record.get(key)
            if type(inner) is dict and inner:
                openings.append(({**record, key: None, **inner}, f"{key}.", inner))
        for opened, prefix, inner in openings:
            if not self.claims(opened):
                continue
            told = self._origins(opened, prefix, inner)
            for path in self.body_at:
                body = _opened(fields.get(opened, path))
                if body is None:
                    continue
                table = next((one for one in self.bodies if one.claims(body)), None)
                if table is not None:
                    at = prefix if fields.WAYS[path][-1][0] in inner else ""
                    told = _merged(told, table._origins(body, f"{at}{path}.", body))
                    break
            if self.is_enough(told):
                return _told(told)
        return None

    def _origins(self, record: Record, prefix: str, inner: Record) -> dict[str, Any]:
        """Do what `find` does, but give for each field its origin; those of errors as a list."""
        told: dict[str, Any] = {}
        for name, source in self.sources.items():
            for take in source:
                value, paths, read = _read_at(take, record, prefix, inner)
                if value is None:
                    continue
                origin = Origin(value, paths, read)
                if name != "error":
                    told[name] = origin
                    break
                told.setdefault(name, []).append(origin)
        wholes: list[tuple[str, tuple[str, ...]]] = []
        if self.input_excludes_cache:
            wholes.append(("input_tokens", ("cache_read_tokens", "cache_write_tokens")))
        if self.output_excludes_reasoning:
            wholes.append(("output_tokens", ("reasoning_tokens",)))
        for whole, parts in wholes:
            there = [told[name] for name in (whole, *parts) if name in told]
            if any(name in told for name in parts):
                told[whole] = Origin(
                    sum([one.value for one in there]),
                    tuple([path for one in there for path in one.paths]),
                    "sum",
                )
        return told

    def parse_with(self, record: Record, find: Find, find_body: Find) -> tuple[Request, ...] | None:
        """Do what the table's parser does, by functions that read a record and a body; `None`: not of mine."""
        found = find(record)
        if found is None:
            return None
        request = self.request(record, found, find_body)
        for key in self.inside if request is None else ():
            inner = record.get(key)
            if type(inner) is dict and inner:
                # What is beside it (the time, a trace) counts where the inner record does not tell it.
                opened = {**record, key: None, **inner}
                found = find(opened)
                request = None if found is None else self.request(opened, found, find_body)
                if request is not None:
                    break
        if request is None:
            return () if self.when else None
        return (request,)

    def request(self, record: Record, found: dict[str, Any], find_body: Find) -> Request | None:
        """Make the finished request that a record and the body in it tell; `None` where they tell of none."""
        for path in self.body_at:
            if fields.WAYS[path][-1][0] not in record:
                continue
            body = _opened(fields.get(record, path))
            told = find_body(body) if body is not None else None
            if told is not None:
                found = _merged(found, told)
                break
        return finish(found) if self.is_enough(found) else None

    def is_enough(self, found: Mapping[str, Any]) -> bool:
        """Tell whether what was found makes a finished request, by `needs`."""
        return all(any(name in found for name in group) for group in self.needs)


def _merged(found: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Lay what a line tells over what the body in it tells; of the answer itself the body knows better."""
    merged = {**body, **found}
    if "error" in body and "error" in found:
        merged["error"] = [*body["error"], *found["error"]]
    if "input_tokens" in body or "output_tokens" in body:
        for name in COUNTS:
            merged.pop(name, None)
            if name in body:
                merged[name] = body[name]
    for name in ("model", "finish_reason"):
        if name in body:
            merged[name] = body[name]
    for name in ("id", "final"):  # the line is one request of its own
        merged.pop(name, None)
    return merged


def _told(told: Mapping[str, Any]) -> dict[str, Origin]:
    """Bring the origins of what was found to the fields of the request that `finish` makes of it."""
    found = {
        name: [one.value for one in origin] if name == "error" else origin.value
        for name, origin in told.items()
    }
    request = finish(found)
    because = {
        "error_type": ["error", "status_code", "outcome"],
        "duration_seconds": ["started", "timestamp"],
        "time_to_first_token_seconds": ["started", "first_token"],
        "timestamp": ["started", "duration_seconds"],
        "served_from_cache": ["cache_hit"],
    }
    origins: dict[str, Origin] = {}
    for name in Request.__struct_fields__:
        value = getattr(request, name)
        if value is None or (name == "served_from_cache" and not value):
            continue
        if name in told and name in found and found[name] == value:
            origins[name] = told[name]
            continue
        causes: list[Origin] = []
        for cause in because.get(name, []):
            if cause in told:
                causes += told[cause] if cause == "error" else [told[cause]]
        if causes:
            paths = tuple(dict.fromkeys([path for cause in causes for path in cause.paths]))
            origins[name] = Origin(value, paths, "made of")
        elif name != "final":
            origins[name] = Origin(value, (), "default")
    return origins


def finish(found: Mapping[str, Any]) -> Request:
    """Make the request of what was found: a class for its failure, a status and durations where they follow."""
    made = {name: found[name] for name in _PLAIN if name in found}
    status, errors = found.get("status_code"), found.get("error", ())
    if (
        errors
        or (status is not None and (status >= "400" or status == "0"))
        or found.get("outcome") is False
    ):
        made["error_type"] = fields.error_type(status, *errors)
        made["status_code"] = status or "0"
    else:
        made["status_code"] = status or "200"
    started, ended = found.get("started"), found.get("timestamp")
    if started is not None:
        if ended is not None and "duration_seconds" not in made and ended >= started:
            made["duration_seconds"] = ended - started
        first = found.get("first_token")
        if first is not None and "time_to_first_token_seconds" not in made and first >= started:
            made["time_to_first_token_seconds"] = first - started
        if ended is None:
            made["timestamp"] = started + made.get("duration_seconds", 0.0)
    if found.get("served_from_cache") or (
        found.get("cache_hit") and not found.get("cache_read_tokens")
    ):
        made["served_from_cache"] = True
        for name in (*COUNTS, "cost_usd"):
            made.pop(name, None)
    if not made.get("cost_usd", 1) and (made.get("input_tokens") or made.get("output_tokens")):
        del made["cost_usd"]  # some clients write 0 for a model that they have no price for
    return Request(**made)


_PLAIN = tuple(
    name for name in Request.__struct_fields__ if name not in ("error_type", "status_code")
)


MAX_SHAPES = 128
"""Functions kept for one parser; the shapes that come after are read by the tables themselves."""
SEEN_BEFORE_COMPILED = 4
"""A shape that comes less often is not worth the millisecond that writing its function takes."""
MAX_KEYS = 256
"""A record of more keys is no log line that comes twice."""

Take = Callable[[Record], Any]
Keys = dict[tuple[str, ...], tuple[str, ...]]
"""Where an object is → its keys, in the order in which they came."""
LineReader = Callable[[bytes], Any]
"""Gives the requests of a line, or `MISS` where it has to be read the general way."""
"""The keys that are known of some objects: of the record `()`, of `("usage",)`, and so on."""


MISS: Any = object()
"""What a written function gives for a record of another shape than its own."""


def _miss(record: Record) -> Any:
    return MISS


def compile_table(*tables: Table) -> Parser:
    """Make a parser of a table, or of several that are asked in turn; it compiles itself as records come."""
    compiled = _Compiled(tables)
    # for `ai-sidecar check` and `parsers`: what it looks for, and where
    compiled.parse.tables = tables  # type: ignore[attr-defined] # a function's own attribute
    if compiled.read is not None:
        # for the pipeline: the same parser, from the bytes of a line
        compiled.parse.read = compiled.read  # type: ignore[attr-defined] # a function's own attribute
    return compiled.parse


def _compile_find(*tables: Table) -> Find:
    """Make a function that gives what the first table that claims a record finds in it."""
    parse: Any = _Compiled(tables, gives_found=True).parse
    return lambda record: parse(record, {})


class _Compiled:
    """What a parser keeps: a function for each shape of record, and how often the others came."""

    def __init__(self, tables: tuple[Table, ...], *, gives_found: bool = False) -> None:
        self.tables = tables
        self.gives_found = gives_found
        self.finds: dict[int, tuple[Find, Find]] = {}
        """For each table with bodies, what reads its records and what reads their bodies."""
        self.takes: dict[tuple[str, ...], Take] = {}
        self.seen: dict[Any, int] = {}
        self.shapes = 0
        self.leaves: dict[Take, LineReader] = {}
        """The functions that give `MISS` for a record of another shape, and their typed twins."""
        self.leaf: Take = _miss
        """The one that was called last."""
        takes, first, leaves = self.takes, self.first, self.leaves
        last: Take = _miss
        before: Take = _miss
        typed: LineReader = _not_typed
        typed_before: LineReader = _not_typed

        def parse(record: Record, memory: Memory, /) -> Any:
            take = takes.get(tuple(record))
            return first(record) if take is None else take(record)

        def parse_one(record: Record, memory: Memory, /) -> Any:
            # Most lines have the shape of one of the two that came last (the good ones and the failed ones).
            nonlocal last, before, typed, typed_before
            requests = last(record)
            if requests is not MISS:
                return requests
            requests = before(record)
            if requests is not MISS:
                last, before = before, last
                return requests
            take = takes.get(tuple(record))
            if take is None:
                return first(record)
            self.leaf = take
            requests = take(record)
            if self.leaf in leaves:
                last, before = self.leaf, last
                typed, typed_before = leaves[self.leaf], typed
            return requests

        def read(line: bytes) -> Any:
            # The line of a known shape, decoded no further than its table looks: what does not fit is MISS.
            nonlocal typed, typed_before
            try:
                return typed(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass
            try:
                requests = typed_before(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return MISS
            typed, typed_before = typed_before, typed
            return requests

        self.parse: Parser = parse if len(tables) > 1 else parse_one
        reads_at_once = len(tables) == 1 and not gives_found and not tables[0].tells_twice
        self.read: LineReader | None = read if reads_at_once else None

    def general(self, record: Record) -> Any:
        for table in self.tables:
            answer = self.by_table(table, record)
            if answer is not None:
                return answer
        return None

    def by_table(self, table: Table, record: Record) -> Any:
        if self.gives_found:
            return table.find(record) if table.claims(record) else None
        return table.parse(record)

    def is_due(self, shape: Any) -> bool:
        """Tell whether a shape has come often enough to be compiled, and there is room."""
        if self.shapes >= MAX_SHAPES:
            return False
        if len(self.seen) >= 1024:
            self.seen.clear()
        times = self.seen[shape] = self.seen.get(shape, 0) + 1
        if times < SEEN_BEFORE_COMPILED:
            return False
        del self.seen[shape]
        self.shapes += 1
        return True

    def first(self, record: Record) -> Any:
        if len(record) <= MAX_KEYS:
            shape = tuple(record)
            if self.is_due(shape):
                self.takes[shape] = self.of_shape(shape)
        return self.general(record)

    def of_shape(self, shape: tuple[str, ...]) -> Take:
        """Give the function for records with these keys: of the tables that may claim them, each in turn."""
        keys = frozenset(shape)
        asked = [self.of_table(table, shape) for table in self.tables if _may_claim(table, keys)]
        if not asked:
            return lambda record: None
        if len(asked) == 1:
            return asked[0]

        def take(record: Record) -> Any:
            for one in asked:
                requests = one(record)
                if requests is not None:
                    return requests
            return None

        return take

    def of_table(self, table: Table, shape: tuple[str, ...]) -> Take:
        keys = frozenset(shape)
        heads = {path.partition(".")[0] for path in table.body_at}
        if not self.gives_found and not keys.isdisjoint((*table.inside, *heads)):
            # What is inside has shapes of its own.
            if id(table) not in self.finds:
                line = replace(table, bodies=(), body_at=(), inside=())
                self.finds[id(table)] = _compile_find(line), _compile_find(*table.bodies)
            find, find_body = self.finds[id(table)]
            return lambda record: table.parse_with(record, find, find_body)
        return self.known(table, {(): shape})

    def known(self, table: Table, known: Keys) -> Take:
        """Give the function for records of which these keys are known: it looks at one object more, or reads."""
        wide = _widest(table, known)
        if wide is None:
            leaf = _written(table, known, gives_found=self.gives_found)
            self.leaves[leaf] = _typed(table, known) if self.read is not None else _not_typed
            return leaf
        takes: dict[Any, Take] = {}

        def take(record: Record) -> Any:
            inner: Any = record
            for key in wide:
                inner = inner[key]
            if type(inner) is list:  # it has places, but no keys
                return self.by_table(table, record)
            inner_shape = tuple(inner) if type(inner) is dict else None
            found = takes.get(inner_shape)
            if found is not None:
                self.leaf = found
                return found(record)
            if len(inner_shape or ()) <= MAX_KEYS and self.is_due((id(takes), inner_shape)):
                takes[inner_shape] = self.known(table, {**known, wide: inner_shape or ()})
            return self.by_table(table, record)

        return take


def _widest(table: Table, known: Keys) -> tuple[str, ...] | None:
    """Find the object in which most places are to be tried; `None` where none has more than a few."""
    heads: dict[tuple[str, ...], int] = {}
    for take in _all_takes(table):
        for chain in _chains(take):
            for depth in range(1, len(chain)):
                head = chain[:depth]
                is_there = head[:-1] in known and head[-1] in known[head[:-1]]
                if is_there and head not in known and not _is_index(chain[depth].partition(".")[0]):
                    heads[head] = heads.get(head, 0) + 1
    wide = max(heads, key=heads.__getitem__, default=None)
    return wide if wide is not None and heads[wide] > 2 else None


def _may_claim(table: Table, keys: frozenset[str]) -> bool:
    return all(any(chain[0] in keys for chain in fields.WAYS[path]) for path, _ in table.when)


def _written(table: Table, known: Keys, *, gives_found: bool) -> Take:
    """Write, compile and give the function of a table for records with known keys."""
    writer = _Writer(table, known)
    code = compile(writer.source(gives_found=gives_found), f"<table {table.name}>", "exec")
    # The source holds nothing but this module's text and the table's own words, quoted: no word of a record.
    exec(code, writer.names)  # noqa: S102
    take: Take = writer.names["take"]
    return take


def _may_be_a_member(name: str) -> bool:
    return 0 < len(name) <= 256 and name.isprintable() and not {'"', "\\"} & set(name)


def _not_typed(line: bytes) -> Any:
    raise msgspec.DecodeError("no shape is known")


def _typed(table: Table, known: Keys) -> LineReader:
    """Make a function that reads lines of just these keys from their bytes.

    Each object is a Struct with all its keys and no others. What the table does not look at is decoded all the
    same: skipping it would let lines pass that are no JSON. The decoder refuses whatever does not fit, and then
    the line is read the general way: both give the same.
    """
    if any(not keys for keys in known.values()):
        return _not_typed
    read_whole = {chain for take in _all_takes(table) for chain in _chains(take)}
    read_whole.update(
        chain for path, _ in (*table.when, *table.unless) for chain in fields.WAYS[path]
    )
    # an object that is also read as a whole stays a dict, with all that is in it
    whole = [chain for chain in known if chain and chain in read_whole]
    known = {
        at: keys
        for at, keys in known.items()
        if not any(at[: len(chain)] == chain for chain in whole)
    }
    writer = _Writer(table, known)
    writer.kinds = _kinds_of(table, known)
    source = writer.source(typed=True)
    body = source.partition("\n")[2]
    if any(word in body for word in ("(record,", "(record)", "record.get(")):
        return _not_typed
    names = [key for keys in known.values() for key in keys]
    if "log" in known[()] or not all(map(_may_be_a_member, names)):
        return _not_typed
    structs: dict[tuple[str, ...], Any] = {}
    for chain in sorted(known, key=len, reverse=True):
        # a decoder is fastest where its members come in the order of the line
        keys = known[chain]
        members = []
        for number, key in enumerate(keys):
            inner = (*chain, key)
            kind = structs.get(inner, writer.kinds.get(inner, Any))
            members.append((f"f{number}", kind))
        structs[chain] = msgspec.defstruct(
            "Shape",
            members,
            rename={f"f{number}": key for number, key in enumerate(keys)},
            forbid_unknown_fields=True,
            gc=False,
        )
    writer.names["decode"] = msgspec.json.Decoder(structs[()]).decode
    code = compile(source, f"<typed table {table.name}>", "exec")
    # The source holds nothing but this module's text and the table's own words, quoted: no word of a record.
    exec(code, writer.names)  # noqa: S102
    take: LineReader = writer.names["take"]
    return take


_KIND_OF_READ: dict[str, Any] = {
    "count": Annotated[int, msgspec.Meta(ge=0, le=fields.MAX_COUNT)] | None,
    "status": Annotated[int, msgspec.Meta(ge=0, le=999)] | None,
    "ms": Annotated[float, msgspec.Meta(ge=0.0, le=fields.MAX_SECONDS)] | None,
}
"""As what a value is decoded that is read in one way only; whatever else stands there is read the general way."""


def _kinds_of(table: Table, known: Keys) -> dict[tuple[str, ...], Any]:
    """Tell which keys hold values of one type, by the one way in which the table reads them."""
    reads: dict[tuple[str, ...], set[str]] = {}
    for take in _all_takes(table):
        for at in take.parts if isinstance(take, Sum) else (take,) if isinstance(take, At) else ():
            for chain in at.chains:
                for depth in range(1, len(chain) + 1):
                    # what is only on the way to a value must not be narrowed: an object may stand there
                    reads.setdefault(chain[:depth], set()).add(
                        at.read if depth == len(chain) else "object"
                    )
    for path, _ in (*table.when, *table.unless):
        for chain in fields.WAYS[path]:
            reads.setdefault(chain, set()).add("condition")
    kinds: dict[tuple[str, ...], Any] = {}
    for chain, ways in reads.items():
        if chain[:-1] not in known or chain[-1] not in known[chain[:-1]]:
            continue
        if len(ways) == 1 and (way := next(iter(ways))) in _KIND_OF_READ:
            kinds[chain] = _KIND_OF_READ[way]
        elif all(way in _TEXTS or way == "object" for way in ways):
            # a text where objects may stand too: these are left to the general way
            kinds[chain] = str | None
    return kinds


class _Writer:
    """Writes the source of one function; `known` tells the keys of the record and of some objects in it."""

    def __init__(self, table: Table, known: Keys) -> None:
        self.table, self.known = table, known
        self.lines: list[str] = []
        self.nodes: dict[tuple[str, ...], str] = {(): "record"}
        self.taken: dict[tuple[str, ...], str] = {}
        """Where the values of known keys are, taken once, before all else."""
        self.names: dict[str, Any] = {
            "Request": Request,
            "EMPTY": {},
            "MISS": MISS,
            "step": fields.step,
            "get": fields.get,
            "holds": _holds,
            "is_one": _is_one,
            "error_type": fields.error_type,
            "number_": fields.number,
        }
        self.numbered = 0
        self.kinds: dict[tuple[str, ...], Any] = {}
        """Of typed functions: as what each key is decoded, so that its value need not be looked at again."""
        self.can: set[str] = set()
        """Fields that may be found in records of this shape."""

    def name(self, value: Any, prefix: str) -> str:
        """Give a value a name in the function's module, the same for the same value."""
        for name, old in self.names.items():
            if old is value:
                return name
        self.numbered += 1
        self.names[f"{prefix}{self.numbered}"] = value
        return f"{prefix}{self.numbered}"

    def memo(self, read: str) -> str:
        name = f"memo_{read}"
        if name not in self.names:
            self.names[name] = _MEMOS[read]
        return name

    def reachable(self, chain: tuple[str, ...]) -> bool:
        """Tell whether a chain may lead somewhere, by the keys that are known."""
        return all(
            chain[depth] in self.known[chain[:depth]]
            for depth in range(len(chain))
            if chain[:depth] in self.known
        )

    def node(self, chain: tuple[str, ...]) -> str:
        """Write, once, how an object inside the record is reached; give its name."""
        if chain in self.known and chain:
            return self.access(chain)
        if chain not in self.nodes:
            access = self.access(chain)
            self.numbered += 1
            name = f"n{self.numbered}"
            self.nodes[chain] = name
            self.lines += [f"{name} = {access}", f"if type({name}) is not dict: {name} = EMPTY"]
        return self.nodes[chain]

    def access(self, chain: tuple[str, ...]) -> str:
        """Write an expression for what a chain leads to, `None` where nothing is."""
        if any(_is_index(key) for key in chain[1:]):
            value = "record"
            for key in chain:
                value = f"step({value}, {key!r})"
            return value
        if chain[:-1] in self.known:
            return self.taken.setdefault(chain, f"k{len(self.taken)}")
        return f"{self.node(chain[:-1])}.get({chain[-1]!r})"

    def guard(self) -> list[str]:
        """Write that the record has just the keys that are known, and take the values that are used.

        As many keys as expected, and each of them there: so there are no others. It costs less than to make
        a key for a dict of the keys.
        """
        lines = []
        for chain in [*self.known][1:]:
            self.access(chain)
        for chain, keys in self.known.items():
            name = self.taken[chain] if chain else "record"
            if not keys:
                lines.append(f"if type({name}) is dict and {name}: return MISS")
                continue
            lines.append(f"if type({name}) is not dict or len({name}) != {len(keys)}: return MISS")
            for key in keys:
                taken = self.taken.get((*chain, key))
                if taken is None:
                    self.numbered += 1
                    self.names[f"key{self.numbered}"] = key
                    lines.append(f"{name}[key{self.numbered}]")
                else:
                    lines.append(f"{taken} = {name}[{key!r}]")
        return ["try:", *("    " + line for line in lines), "except KeyError: return MISS"]

    def typed_guard(self) -> list[str]:
        """Write the taking of the values out of the structs of `_typed`, which hold just the known keys."""
        for chain in [*self.known][1:]:
            self.access(chain)
        lines = ["record = decode(line)"]
        for chain in sorted(self.known, key=len):
            name = self.taken[chain] if chain else "record"
            for number, key in enumerate(self.known[chain]):
                taken = self.taken.get((*chain, key))
                if taken is not None:
                    lines.append(f"{taken} = {name}.f{number}")
        return lines

    def value(self, at: At, chain: tuple[str, ...], target: str) -> None:
        """Write the reading of one place into `target`."""
        access, read = self.access(chain), at.read
        if chain in self.kinds and self.typed_value(at, access, target):
            return
        v = access if access in self.taken.values() else "v"
        if v == "v":
            self.lines.append(f"v = {access}")
        if read == "count":
            self.names["count"] = fields.count
            self.lines.append(
                f"{target} = {v} if type({v}) is int and 0 <= {v} <= {fields.MAX_COUNT} else None if {v} is None else count({v})"
            )
        elif read in fields.UNITS:
            reader = self.name(READERS[read], "read")
            divide = "" if read == "s" else f" / {fields.UNITS[read]!r}"
            self.lines.append(
                f"{target} = {v}{divide} if type({v}) is float and 0.0 <= {v} <= {fields.MAX_SECONDS!r} "
                f"else {reader}({v})"
            )
        elif read in _TEXTS:
            self.lines.append(
                f"{target} = {self.memo(read)}[{v}] if type({v}) is str else None if {v} is None else "
                f"{self.name(READERS[read], 'read')}({v})"
            )
        elif read == "status":
            self.lines.append(
                f"{target} = {self.memo(read)}[{v}] if type({v}) is int else {self.name(READERS[read], 'read')}({v})"
            )
        elif read == "timestamp":
            reader = self.name(fields.timestamp, "read")
            self.names["iso"] = datetime.fromisoformat
            self.lines += [
                f"if type({v}) is str:",
                f"    try: {target} = iso({v})",
                f"    except ValueError: {target} = {reader}({v})",
                "    else:",
                f"        if {target}.tzinfo is not None and {target}.year > 1972: {target} = {target}.timestamp()",
                f"        else: {target} = {reader}({v})",
                f"else: {target} = None if {v} is None else {reader}({v})",
            ]
        elif read == "cost":
            self.names["cost"] = fields.cost
            self.lines.append(
                f"{target} = {v} if type({v}) is float and 0.0 <= {v} < 1e12 else cost({v})"
            )
        else:
            reader = self.name(READERS[read], "read")
            self.lines.append(f"{target} = None if {v} is None else {reader}({v})")
        if at.values:
            values = self.name(dict(at.values), "values")
            self.lines.append(
                f"if {target} is not None: {target} = {values}.get({target}, {target})"
            )

    def typed_value(self, at: At, access: str, target: str) -> bool:
        """Write the reading of a value whose type the decoder has seen to; False where there is no short way."""
        if at.values:
            return False
        if at.read == "count":
            self.lines.append(f"{target} = {access}")
        elif at.read in _TEXTS or at.read == "status":
            self.lines.append(
                f"{target} = {self.memo(at.read)}[{access}] if {access} is not None else None"
            )
        elif at.read == "ms":
            self.lines.append(f"{target} = {access} / 1000.0 if {access} is not None else None")
        else:
            return False
        return True

    def field(self, name: str) -> None:
        """Write the reading of one field; nothing where no place of it can be there."""
        source = [take for take in self.table.sources.get(name, ()) if self.possible(take)]
        if not source:
            return
        self.can.add(name)
        if name == "error":
            self.lines.append("error = ()")
            for take in source:
                self.branch(take, "e")
                self.lines.append("if e is not None: error += (e,)")
            return
        for place, take in enumerate(source):
            if place:
                with self.only_if(f"{name} is None"):
                    self.branch(take, name)
            else:
                self.branch(take, name)
            if isinstance(take, Const):
                break

    @contextmanager
    def only_if(self, condition: str) -> Iterator[None]:
        """Put what is written under a condition; the objects reached in there are not known outside."""
        mark, nodes = len(self.lines), dict(self.nodes)
        yield
        self.nodes = nodes
        self.lines[mark:] = [f"if {condition}:", *("    " + line for line in self.lines[mark:])]

    def branch(self, take: At | Sum | Const, target: str) -> None:
        """Write one source of a field into `target`."""
        if isinstance(take, Const):
            self.lines.append(f"{target} = {self.constant(take.value)}")
        elif isinstance(take, At):
            self.first(take, target)
        else:
            parts = [part for part in take.parts if self.possible(part)]
            self.first(parts[0], target)
            for part in parts[1:]:
                self.first(part, "p")
                self.lines.append(
                    f"if p is not None: {target} = p if {target} is None else {target} + p"
                )

    def first(self, at: At, target: str) -> None:
        """Write the reading of a path, in whichever of its ways something is that can be read."""
        reachable = [chain for chain in at.chains if self.reachable(chain)]
        self.value(at, reachable[0], target)
        for chain in reachable[1:]:
            with self.only_if(f"{target} is None"):
                self.value(at, chain, target)

    def constant(self, value: Any) -> str:
        return (
            repr(value)
            if value is None or type(value) in (str, int, bool)
            else self.name(value, "const")
        )

    def possible(self, take: At | Sum | Const) -> bool:
        return isinstance(take, Const) or any(self.reachable(chain) for chain in _chains(take))

    def condition(self, path: str, values: tuple[Any, ...] | None) -> str | None:
        """Write a condition; `None` where it can never hold in this shape."""
        reachable = [chain for chain in fields.WAYS[path] if self.reachable(chain)]
        if not reachable:
            return None
        if len(reachable) > 1:
            return f"holds(record, {path!r}, {self.name(values, 'values')})"
        access = self.access(reachable[0])
        if values is None:
            return f"({access} is not None)"
        return f"is_one({access}, {self.name(values, 'values')})"

    def source(self, *, gives_found: bool = False, typed: bool = False) -> str:
        """Write the whole function: it gives requests, or what `Table.find` gives."""
        table, none = self.table, "()" if self.table.when else "None"
        for path, values in table.when:
            condition = self.condition(path, values)
            self.lines.append(
                "return None" if condition is None else f"if not {condition}: return None"
            )
        for path, values in table.unless:
            condition = self.condition(path, values)
            if condition is not None:
                self.lines.append(f"if {condition}: return None")
        done: set[str] = set()
        for group in () if gives_found else table.needs:
            self.need([name for name in group if name not in EVIDENCE], [*group], done, none)
        for name in _FIELDS:
            if name not in done and (gives_found or name not in EVIDENCE):
                self.field(name)
        self.parts()
        if gives_found:
            self.found()
        else:
            self.ending()
        return (
            f"def take({'line' if typed else 'record'}):\n"
            + "\n".join(
                "    " + line
                for line in (self.typed_guard() if typed else self.guard()) + self.lines
            )
            + "\n"
        )

    def need(self, plain: list[str], group: list[str], done: set[str], none: str) -> None:
        """Write that one field of a group must be there; what is only evidence is read where nothing else is."""
        for name in plain:
            if name not in done:
                done.add(name)
                self.field(name)
        missing = [
            f"not {name}" if name == "error" else f"{name} is None"
            for name in plain
            if name in self.can
        ]
        with self.only_if(" and ".join(missing) or "True"):
            for name in group:
                if name in EVIDENCE:
                    self.field(name)
            missing = [f"{name} is None" for name in group if name in EVIDENCE and name in self.can]
            self.lines.append(f"if {' and '.join(missing) or 'True'}: return {none}")

    def ending(self) -> None:
        """Write what `finish` does, as far as this shape needs it."""
        can, lines = self.can, self.lines
        failed = ["error"] if "error" in can else []
        if "status_code" in can:
            failed.append(
                "(status_code is not None and (status_code >= '400' or status_code == '0'))"
            )
        if "outcome" in can:
            failed.append("outcome is False")
        made = {name: name for name in _PLAIN if name in can}
        if failed:
            status = "status_code" if "status_code" in can else "None"
            errors = ", *error" if "error" in can else ""
            lines.append(f"if {' or '.join(failed)}:")
            lines.append(f"    kind = error_type({status}{errors})")
            lines.append(f"    code = {status} or '0'" if status != "None" else "    code = '0'")
            lines.append("else:")
            lines.append("    kind = None")
            lines.append(
                f"    code = {status} or '200'" if status != "None" else "    code = '200'"
            )
            made |= {"error_type": "kind", "status_code": "code"}
        if "started" in can:
            for name in (
                "duration_seconds",
                "time_to_first_token_seconds",
                "timestamp",
                "first_token",
            ):
                if name not in can:
                    lines.append(f"{name} = None")
            lines += [
                "if started is not None:",
                "    if duration_seconds is None and timestamp is not None and timestamp >= started:",
                "        duration_seconds = timestamp - started",
                "    if time_to_first_token_seconds is None and first_token is not None and first_token >= started:",
                "        time_to_first_token_seconds = first_token - started",
                "    if timestamp is None: timestamp = started + (duration_seconds or 0.0)",
            ]
            made |= {name: name for name in (*_DURATIONS, "timestamp")}
        counts = [name for name in COUNTS if name in can]
        served = [name for name in ("served_from_cache", "cache_hit") if name in can]
        if served:
            tests = ["served_from_cache"] if "served_from_cache" in can else []
            if "cache_hit" in can:
                tests.append(
                    "(cache_hit and not cache_read_tokens)"
                    if "cache_read_tokens" in can
                    else "cache_hit"
                )
            gone = [*counts, *(["cost_usd"] if "cost_usd" in can else [])]
            lines.append(f"served_from_cache = bool({' or '.join(tests)})")
            if gone:
                lines.append(f"if served_from_cache: {' = '.join(gone)} = None")
            made["served_from_cache"] = "served_from_cache"
        if "cost_usd" in can:
            tokens = [name for name in ("input_tokens", "output_tokens") if name in can]
            if tokens:
                lines.append(f"if not cost_usd and ({' or '.join(tokens)}): cost_usd = None")
        for name in ("provider", "model", "endpoint"):
            if name in can:
                lines.append(f"if {name} is None: {name} = 'unknown'")
        if "final" in can:
            lines.append("if final is None: final = True")
        lines.append(
            f"return (Request({', '.join(f'{key}={value}' for key, value in made.items())}),)"
        )

    def found(self) -> None:
        """Write the giving back of all that was found."""
        self.lines.append("found = {}")
        for name in self.can:
            self.lines.append(
                f"if {name}: found[{name!r}] = [*{name}]"
                if name == "error"
                else f"if {name} is not None: found[{name!r}] = {name}"
            )
        self.lines.append("return found")

    def parts(self) -> None:
        """Write that parts are added to a whole that the source gives without them."""
        if self.table.input_excludes_cache:
            self.add("input_tokens", ("cache_read_tokens", "cache_write_tokens"))
        if self.table.output_excludes_reasoning:
            self.add("output_tokens", ("reasoning_tokens",))

    def add(self, name: str, parts: tuple[str, ...]) -> None:
        """Write that parts are to be added to what the source calls the whole."""
        for part in parts:
            if part in self.can:
                if name not in self.can:
                    self.can.add(name)
                    self.lines.append(f"{name} = None")
                self.lines.append(f"if {part} is not None: {name} = {part} + ({name} or 0)")


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit()


def _all_takes(table: Table) -> Iterator[At | Sum | Const]:
    for source in table.sources.values():
        yield from source


def _chains(take: At | Sum | Const) -> Iterator[tuple[str, ...]]:
    if isinstance(take, At):
        yield from take.chains
    elif isinstance(take, Sum):
        for part in take.parts:
            yield from part.chains


def _read(take: At | Sum | Const, record: Record) -> Any:
    if isinstance(take, Const):
        return take.value
    if isinstance(take, Sum):
        parts = [part for at in take.parts if (part := _read(at, record)) is not None]
        return sum(parts) if parts else None
    for chain in take.chains:
        value: Any = record
        for key in chain:
            value = fields.step(value, key)
        if value is None:
            continue
        value = READERS[take.read](value)
        if value is not None:
            return (
                next((to for old, to in take.values if old == value), value)
                if take.values
                else value
            )
    return None


def _read_at(
    take: At | Sum | Const, record: Record, prefix: str, inner: Record
) -> tuple[Any, tuple[str, ...], str]:
    """Do what `_read` does, and tell at which places of the whole record, and how; `inner` is what is at `prefix`."""
    if isinstance(take, Const):
        return take.value, (), "const"
    if isinstance(take, Sum):
        parts = [_read_at(at, record, prefix, inner) for at in take.parts]
        parts = [part for part in parts if part[0] is not None]
        paths = tuple([path for _, at, _ in parts for path in at])
        return sum([part[0] for part in parts]) if parts else None, paths, "sum"
    for chain in take.chains:
        value: Any = record
        for key in chain:
            value = fields.step(value, key)
        if value is not None and READERS[take.read](value) is not None:
            at = prefix if chain[0] in inner else ""
            return _read(take, record), (at + take.path,), take.read
    return None, (), take.read


def _holds(record: Record, path: str, values: tuple[Any, ...] | None) -> bool:
    if not any(chain[0] in record for chain in fields.WAYS[path]):
        return False
    value = fields.get(record, path)
    return value is not None if values is None else _is_one(value, values)


def _is_one(value: Any, values: tuple[Any, ...]) -> bool:
    """Tell whether a value is among others; `True == 1` in Python, but not in a log."""
    return value in values and any(value == one and type(value) is type(one) for one in values)


def _add(found: dict[str, Any], name: str, parts: Iterable[str]) -> None:
    for part in parts:
        if part in found:
            found[name] = found[part] + (found.get(name) or 0)


def _opened(value: Any) -> Record | None:
    """Take an object out of JSON text, or the last one out of an array (a stream's chunks, Google's errors)."""
    if type(value) is str and value[:1] in ("{", "["):
        try:
            value = orjson.loads(value)
        except ValueError:
            return None
    if type(value) is list:
        value = value[-1] if value else None
    return value if type(value) is dict else None


def _modality(value: Any, name: str) -> int | None:
    """Add up Gemini's tokens of one modality: `[{"modality": "AUDIO", "tokenCount": 7}, …]`."""
    if type(value) is not list:
        return None
    total = None
    for element in value[:100]:
        if fields.get(element, "modality") == name:
            for key in ("tokenCount", "token_count"):
                found = fields.count(fields.get(element, key))
                if found is not None:
                    total = found + (total or 0)
                    break
    return total


def _kind(value: Any) -> str:
    """Name a TOML value's type, for a sentence."""
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: f"{value!r}",
        list: "a list",
    }
    return names.get(type(value), "a table" if isinstance(value, Mapping) else type(value).__name__)


def _conditions(what: str, value: Any) -> tuple[tuple[str, tuple[Any, ...] | None], ...]:
    if not isinstance(value, Mapping):
        raise ValueError(
            f'{what}: expected a table such as {{ "kind" = "llm_call" }}, got {_kind(value)}'
        )
    made: list[tuple[str, tuple[Any, ...] | None]] = []
    for path, wanted in value.items():
        if not path:
            raise ValueError(f"{what}: expected a path such as a.b, got ''")
        values = wanted if isinstance(wanted, list) else [wanted]
        if not values or not all(type(one) in (str, int, float, bool) for one in values):
            raise ValueError(
                f"{what}.{path}: expected a value, a list of values, or true, got {_kind(wanted)}"
            )
        made.append((path, None if wanted is True else tuple(values)))
    return tuple(made)


_UNIT_IN_NAME = re.compile(
    r"(?:^|_|\.)(?:(ms|millis|milliseconds?|msecs?)|(us|micros|microseconds?)|(ns|nanos|nanoseconds?)"
    r"|(s|secs?|seconds?))$|[a-z](?:(Ms|Millis|Milliseconds)|(Us|Micros|Microseconds)|(Ns|Nanos|Nanoseconds)"
    r"|(Seconds|Secs?))$"
)


def unit_in_name(path: str) -> str | None:
    """Tell the unit that a field's name carries (`latency_ms`, `durationSeconds`); `None` for none."""
    found = _UNIT_IN_NAME.search(path)
    return ("ms", "us", "ns", "s")[(found.lastindex - 1) % 4] if found and found.lastindex else None


def _source(what: str, name: str, value: Any) -> Source:
    alternatives = value if isinstance(value, list) else [value]
    if not alternatives:
        raise ValueError(f"{what}: expected at least one path, got an empty list")
    return tuple(_take(what, name, one) for one in alternatives)


def _take(what: str, name: str, value: Any) -> At | Sum | Const:
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{what}: expected a path, {{ const = … }}, {{ path = …, unit = … }} or a list of them, got {_kind(value)}"
        )
    unknown = set(value) - {"path", "const", "unit", "map", "sum", "as"}
    if unknown:
        raise ValueError(f"{what}.{min(unknown)}: expected one of path, const, unit, map, sum, as")
    kinds = [key for key in ("path", "const", "sum") if key in value]
    if len(kinds) != 1:
        raise ValueError(
            f"{what}: expected one of path, const, sum, got {' and '.join(kinds) or 'none'}"
        )
    if "const" in value:
        return Const(_const(what, name, value["const"]))
    if "sum" in value:
        parts = value["sum"]
        if name not in COUNTS or not isinstance(parts, list) or not parts or set(value) != {"sum"}:
            raise ValueError(
                f"{what}.sum: expected a list of paths for a number of tokens, got {_kind(parts)}"
            )
        taken = [_take(what, name, part) for part in parts]
        if not all(isinstance(part, At) for part in taken):
            raise ValueError(f"{what}.sum: expected paths only")
        return Sum(tuple(part for part in taken if isinstance(part, At)))
    path = value["path"]
    if not isinstance(path, str) or not path or "" in path.split("."):
        raise ValueError(f"{what}: expected a path such as a.b, got {_kind(path)}")
    values = value.get("map", {})
    if not isinstance(values, Mapping):
        raise ValueError(f"{what}.map: expected a table from value to value, got {_kind(values)}")
    read = value.get("as", "text" if values else _FIELDS[name])
    if read not in READERS:
        raise ValueError(f"{what}.as: expected one of {', '.join(READERS)}, got {_kind(read)}")
    if values and read == "failure":
        raise ValueError(f"{what}.as: expected a reader that gives a text, got 'failure'")
    if name in _DURATIONS and "as" not in value:
        unit = value.get("unit") or unit_in_name(path)
        if unit not in fields.UNITS:
            raise ValueError(
                f"{what}: expected a unit ({', '.join(fields.UNITS)}), as in {{ path = {path!r}, unit = 'ms' }}, "
                f"got {'none' if unit is None else _kind(unit)}"
            )
        read = unit
    elif name in ("timestamp", "started", "first_token") and "unit" in value:
        if value["unit"] not in ("s", "ms", "us", "ns"):
            raise ValueError(f"{what}.unit: expected s, ms, us or ns, got {_kind(value['unit'])}")
    elif "unit" in value:
        if name == "cost_usd" and value["unit"] in ("usd", "cents"):
            read = "cents" if value["unit"] == "cents" else "cost"
        else:
            raise ValueError(f"{what}.unit: expected no unit here, got {_kind(value['unit'])}")
    mapped = tuple((old, _const(what, name, to)) for old, to in values.items())
    return At(path, read, mapped)


def _const(what: str, name: str, value: Any) -> Any:
    """Check a constant: it must be what the field can hold, read as the log would be."""
    if name in _DURATIONS:
        read = fields.number(value)
    elif name == "outcome" or name == "final" or name == "served_from_cache":
        read = value if type(value) is bool else None
    else:
        read = READERS[_FIELDS[name]](value)
    if read is None:
        raise ValueError(f"{what}: {_kind(value)} cannot be a {name}")
    return read

"""Compiles tables into Python for the shapes of record (which keys, in which order) that a log really has.

In the written functions only the places are tried that can be there: what a hand-written parser would do. They
give what `Table.parse` gives; a test holds both against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import msgspec

from . import fields
from .request import Memory, Parser, Record, Request
from .table import (
    COUNTS,
    DURATIONS,
    EVIDENCE,
    FIELDS,
    PLAIN,
    READERS,
    At,
    Const,
    Find,
    Reads,
    Sum,
    Table,
    all_takes,
    chains_of,
    essence,
    holds,
    is_index,
    is_one,
    looked_at,
)

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


_MEMOS = {
    read: vars(READERS[read]).get("memo", fields.Memo(READERS[read]))
    for read in (*_TEXTS, "status")
}
"""One for all tables and shapes, so that what is kept stays small."""


MAX_SHAPES = 128
"""Functions kept for one parser; the shapes that come after are read by the tables themselves."""
SEEN_BEFORE_COMPILED = 4
"""A shape that comes less often is not worth the millisecond that writing its function takes."""
DECLINED_BEFORE_COMPILED = 16
"""The same for one whose records are not of the table's format: that is soon told without a function."""
SEEN_INSIDE_BEFORE_COMPILED = 2
"""The same for an object in records whose own keys have come so often; the first that it is there is worth it at once."""
REFUSED_BEFORE_FORGOTTEN = 20_000
"""How often a shape must find no room before all are forgotten: to compile them again costs less than that did."""
MISSED_BEFORE_ESSENCE = 64
"""Records without a function before what tables look at is told apart from the rest of a record."""
MAX_LESSONS = 32
"""How often values of other types than before are taken in: each time what reads them is written anew."""
MAX_KEYS = 256
"""A record of more keys is no log line that comes twice."""

Take = Callable[[Record], Any]
Keys = dict[tuple[str, ...], tuple[str, ...]]
"""Of some objects of a record: where it is (itself `()`, `("usage",)`, and so on) → its keys, in their order."""
Kinds = dict[tuple[str, ...], type]
"""Where a value is → its type."""


MISS: Any = object()
"""What a written function gives for a record of another shape than its own."""


def _miss(record: Record) -> Any:
    return MISS


def compile_table(*tables: Table) -> Parser:
    """Make a parser of a table, or of several that are asked in turn; it compiles itself as records come.

    What it is made of is its attribute `compiled`: of one table the pipeline reads many lines at once by it.
    """
    compiled = Compiled(tables)
    compiled.parse.compiled = compiled  # type: ignore[attr-defined] # a function's own attribute
    # for `ai-sidecar check` and `parsers`: what it looks for, and where
    compiled.parse.tables = tables  # type: ignore[attr-defined]
    return compiled.parse


def _compile_find(*tables: Table) -> Find:
    """Make a function that gives what the first table that claims a record finds in it."""
    parse: Any = Compiled(tables, gives_found=True).parse
    return lambda record: parse(record, {})


class Compiled:
    """What a parser keeps: a function for each shape of record, and how often the others came."""

    def __init__(
        self,
        tables: tuple[Table, ...],
        *,
        gives_found: bool = False,
        whole: Compiled | None = None,
    ) -> None:
        self.tables = tables
        self.gives_found = gives_found
        self.whole = whole
        """What reads whole records, where this one reads of them what the tables look at; both have one room."""
        self.missed = 0
        self.essential: tuple[Reads, Parser] | None = None
        """What the tables look at, and what reads records of that alone: those whose other keys are ever new."""
        self.finds: dict[int, tuple[Find, Find]] = {}
        """For each table with bodies, what reads its records and what reads their bodies."""
        self.takes: dict[tuple[str, ...], Take] = {}
        self.seen: dict[Any, int] = {}
        self.shapes = 0
        self.refused = 0
        """How often there was no room for one more shape."""
        self.version = 0
        """It changes whenever `shown` does."""
        self.leaves: dict[Take, Keys] = {}
        """The functions that give `MISS` for a record of another shape than their own, and their shapes."""
        self.leaf: Take = _miss
        """The one that was called last."""
        self.is_plain = len(tables) == 1 and not gives_found and not tables[0].tells_twice
        """Whether a line is one request, and nothing but its keys tells how it is read."""
        self.shown: dict[Take, list[tuple[Keys, Kinds]]] = {}
        """Of each such function that read a record: its shape, and of what types the values were, then and later."""
        self.lessons = 0
        takes, first, leaves = self.takes, self.first, self.leaves
        last: Take = _miss
        before: Take = _miss

        def parse(record: Record, memory: Memory, /) -> Any:
            take = takes.get(tuple(record)) or takes.get(tuple(sorted(record)))
            return first(record) if take is None else take(record)

        def parse_one(record: Record, memory: Memory, /) -> Any:
            # Most lines have the shape of one of the two that came last (the good ones and the failed ones).
            nonlocal last, before
            requests = last(record)
            if requests is not MISS:
                return requests
            requests = before(record)
            if requests is not MISS:
                last, before = before, last
                return requests
            # some writers have their keys in another order each time
            take = takes.get(tuple(record)) or takes.get(tuple(sorted(record)))
            if take is None:
                return first(record)
            self.leaf = take
            requests = take(record)
            if self.leaf in leaves:
                last, before = self.leaf, last
                if requests and self.is_plain and self.leaf not in self.shown:
                    self.version += 1
                    keys = leaves[self.leaf]
                    self.shown[self.leaf] = [(keys, _kinds_in(record, keys))]
            return requests

        def forget_last() -> None:
            nonlocal last, before
            last = before = _miss

        self.forget_last = forget_last
        self.parse: Parser = parse if len(tables) > 1 else parse_one

    def general(self, record: Record) -> Any:
        """Read a record that there is no function for."""
        if self.essential is not None:
            reads, parse = self.essential
            return parse(essence(record, reads), {})
        answer: Any = None
        for table in self.tables:
            if table.claims(record):
                answer = table.find(record) if self.gives_found else table.parse(record)
                if answer is not None:
                    break
        self.missed += 1
        if self.missed >= MISSED_BEFORE_ESSENCE and self.whole is None:
            compiled = Compiled(self.tables, gives_found=self.gives_found, whole=self)
            self.essential = looked_at(self.tables), compiled.parse
        return answer

    def learn(self, record: Record) -> None:
        """Take in of what types the values are in a record of a shape that was shown with others."""
        if self.lessons >= MAX_LESSONS:
            return
        for lessons in self.shown.values():
            keys = lessons[0][0]
            if not _is_of(record, keys):
                continue
            kinds = _kinds_in(record, keys)
            if any(
                all(kind is not old.get(at) for _, old in lessons) for at, kind in kinds.items()
            ):
                lessons.append((keys, kinds))
                self.lessons += 1
                self.version += 1
            return

    def forget(self) -> None:
        """Forget all shapes: those that still come are compiled again."""
        for kept in (self.takes, self.seen, self.leaves, self.shown):
            kept.clear()
        self.essential, self.missed, self.lessons = None, 0, 0
        self.forget_last()
        self.shapes = self.refused = 0
        self.version += 1

    def is_due(self, shape: Any, times_before: int = SEEN_BEFORE_COMPILED) -> bool:
        """Tell whether a shape has come often enough to be compiled, and there is room."""
        room = self.whole or self
        if room.shapes >= MAX_SHAPES:
            room.refused += 1
            if room.refused < REFUSED_BEFORE_FORGOTTEN:
                return False
            # the log is another one now
            room.forget()
        if len(self.seen) >= 1024:
            self.seen.clear()
        times = self.seen[shape] = self.seen.get(shape, 0) + 1
        if times < times_before:
            return False
        del self.seen[shape]
        room.shapes += 1
        return True

    def first(self, record: Record) -> Any:
        """Read a record of a shape that is not compiled; it will be where it comes often enough."""
        answer = self.general(record)
        if len(record) <= MAX_KEYS:
            shape = tuple(sorted(record))
            is_soon = answer is not None or (self.essential is None and not self.may_claim(shape))
            if self.is_due(shape, SEEN_BEFORE_COMPILED if is_soon else DECLINED_BEFORE_COMPILED):
                take = self.of_shape(tuple(record))
                self.takes[tuple(record)] = self.takes[shape] = take
        return answer

    def may_claim(self, shape: tuple[str, ...]) -> bool:
        """Tell whether any table may claim records with these keys; where none may, their function costs nothing."""
        keys = frozenset(shape)
        return any(may_claim(table, keys) for table in self.tables)

    def of_shape(self, shape: tuple[str, ...]) -> Take:
        """Give the function for records with these keys: of the tables that may claim them, each in turn."""
        keys = frozenset(shape)
        asked = [self.of_table(table, shape) for table in self.tables if may_claim(table, keys)]
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
        if not self.gives_found and not frozenset(shape).isdisjoint(table.inside):
            return self.nested(table, looks_inside_only=not table.may_be_enough(shape))
        return self.known(table.within(shape), {(): shape}, table)

    def nested(self, table: Table, *, looks_inside_only: bool = False) -> Take:
        """Give the function for records in which others may be, that have shapes of their own."""
        if id(table) not in self.finds:
            line = replace(table, bodies=(), body_at=(), inside=())
            self.finds[id(table)] = _compile_find(line), _compile_find(*table.bodies)
        find, find_body = self.finds[id(table)]
        return lambda record: table.parse_with(
            record, find, find_body, looks_inside_only=looks_inside_only
        )

    def known(self, table: Table, known: Keys, whole: Table) -> Take:
        """Give the function for records of which these keys are known: it looks at one object more, or reads.

        `table` is the part of the `whole` one that can be found in them.
        """
        wide = (None if self.gives_found else _body_in(table, known)) or _widest(table, known)
        if wide is None:
            if not self.gives_found and table.bodies:
                if _may_hold_a_body(table, known):
                    return self.nested(whole)
                table = replace(table, bodies=(), body_at=())
            leaf = _written(table, known, gives_found=self.gives_found)
            self.leaves[leaf] = known
            return leaf
        takes: dict[Any, Take] = {}

        def take(record: Record) -> Any:
            inner: Any = record
            for key in wide:
                inner = inner[key]
            if type(inner) is list:  # it has places, but no keys
                return self.general(record)
            inner_shape = tuple(inner) if type(inner) is dict else None
            found = takes.get(inner_shape)
            if found is None:
                if len(inner_shape or ()) > MAX_KEYS or not self.is_due(
                    (id(takes), inner_shape), SEEN_INSIDE_BEFORE_COMPILED if takes else 1
                ):
                    return self.general(record)
                wider = {**known, wide: inner_shape or ()}
                found = takes[inner_shape] = self.known(narrowed(table, wider), wider, whole)
            self.leaf = found
            return found(record)

        return take


def _body_in(table: Table, known: Keys) -> tuple[str, ...] | None:
    """Find an object in which a body may be, and whose keys are not known yet."""
    for path in table.body_at:
        for chain in fields.WAYS[path]:
            for depth in range(1, len(chain) + 1):
                head: tuple[str, ...] = chain[:depth]
                if head[-1] not in known[head[:-1]]:
                    break
                if head not in known:
                    return head
    return None


def _may_hold_a_body(table: Table, known: Keys) -> bool:
    """Tell whether any of the places where a body may be holds one, or text or a list that may be opened."""
    for path in table.body_at:
        for chain in fields.WAYS[path]:
            keys = known.get(chain)
            if keys is not None and (
                not keys or any(may_claim(body, frozenset(keys)) for body in table.bodies)
            ):
                return True
    return False


def narrowed(table: Table, known: Keys) -> Table:
    """Give the part of a table that can be found in records of which these keys are known."""
    sources = {
        name: tuple(
            take
            for take in source
            if isinstance(take, Const)
            or any(is_reachable(chain, known) for chain in chains_of(take))
        )
        for name, source in table.sources.items()
    }
    return replace(table, sources={name: source for name, source in sources.items() if source})


def is_reachable(chain: tuple[str, ...], known: Keys) -> bool:
    """Tell whether a chain may lead somewhere, by the keys that are known."""
    for depth, key in enumerate(chain):
        keys = known.get(chain[:depth])
        if keys is not None and key not in keys:
            return False
    return True


def _widest(table: Table, known: Keys) -> tuple[str, ...] | None:
    """Find the object in which most places are to be tried; `None` where none has more than a few."""
    heads: dict[tuple[str, ...], int] = {}
    for take in all_takes(table):
        for chain in chains_of(take):
            for depth in range(1, len(chain)):
                head = chain[:depth]
                is_there = head[:-1] in known and head[-1] in known[head[:-1]]
                if is_there and head not in known and not is_index(chain[depth].partition(".")[0]):
                    heads[head] = heads.get(head, 0) + 1
    wide: tuple[str, ...] | None = max(heads, key=heads.__getitem__, default=None)
    return wide if wide is not None and heads[wide] > 2 else None


def may_claim(table: Table, keys: frozenset[str]) -> bool:
    return all(any(chain[0] in keys for chain in fields.WAYS[path]) for path, _ in table.when)


def _written(table: Table, known: Keys, *, gives_found: bool) -> Take:
    """Write, compile and give the function of a table for records with known keys."""
    writer = Writer(table, known)
    take: Take = writer.made(writer.source(gives_found=gives_found), "take")
    return take


def may_be_a_member(name: str) -> bool:
    return 0 < len(name) <= 256 and name.isprintable() and not {'"', "\\"} & set(name)


def _is_of(record: Record, keys: Keys) -> bool:
    """Tell whether a record, and the objects in it, have just these keys."""
    for chain, names in keys.items():
        inner: Any = record
        for key in chain:
            inner = inner[key]
        if set(inner if type(inner) is dict else ()) != set(names):
            return False
    return True


def _kinds_in(record: Record, keys: Keys) -> Kinds:
    """Tell the type of each value of the objects whose keys are known."""
    kinds: Kinds = {}
    for chain, names in keys.items():
        inner: Any = record
        for key in chain:
            inner = inner[key]
        if type(inner) is dict:
            kinds.update({(*chain, name): _kind_of(inner.get(name)) for name in names})
        else:
            kinds[chain] = type(inner)
    return kinds


def _kind_of(value: Any) -> type:
    if type(value) is str and len(value) <= 40:
        try:
            return type(msgspec.convert(value, KIND_OF_READ["timestamp"]))
        except (msgspec.ValidationError, UnicodeEncodeError):
            pass
    return type(value)


KIND_OF_READ: dict[str, Any] = {
    "count": Annotated[int, msgspec.Meta(ge=0, le=fields.MAX_COUNT)] | None,
    "cost": Annotated[float, msgspec.Meta(ge=0.0, lt=1000.0)] | None,
    "timestamp": Annotated[datetime, msgspec.Meta(tz=True)] | None,
    **{
        unit: Annotated[float, msgspec.Meta(ge=0.0, lt=1e6 if unit == "s" else 1e9)] | None
        for unit in ("s", "ms", "us", "ns")
    },
}
"""As what a value may be decoded that is read in this way only, so that the decoder does the reading.

The bounds are those within which `Meter.add` has the shortest way: it relies on them (`Writer.fits`).
"""


class Writer:
    """Writes the source of one function; `known` tells the keys of the record and of some objects in it."""

    def __init__(
        self, table: Table, known: Keys, kinds: Mapping[tuple[str, ...], Any] | None = None
    ) -> None:
        self.table, self.known = table, known
        self.is_typed = kinds is not None
        """Whether it reads Structs, with all the keys of all shapes as their members, and not dicts."""
        self.kinds = kinds or {}
        """As what a value was decoded, so that it need not be looked at again."""
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
            "holds": holds,
            "is_one": is_one,
            "error_type": fields.error_type,
            "number_": fields.number,
        }
        self.numbered = 0
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
        return is_reachable(chain, self.known)

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
        if any(is_index(key) for key in chain[1:]):
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

    def taking(self) -> list[str]:
        """Write the taking of the values out of the Structs; one that is not there is as one without values."""
        for chain in [*self.known][1:]:
            self.access(chain)
        lines = []
        for chain in sorted(self.known, key=len):
            name = self.taken[chain] if chain else "record"
            if chain:
                lines.append(f"if {name} is None: {name} = no_{name}")
            for number, key in enumerate(self.known[chain]):
                taken = self.taken.get((*chain, key))
                if taken is not None:
                    lines.append(f"{taken} = {name}.f{number}")
        return lines

    def value(self, at: At, chain: tuple[str, ...], target: str) -> None:
        """Write the reading of one place into `target`."""
        access, read = self.access(chain), at.read
        if chain in self.kinds and self.typed_value(at, self.kinds[chain], access, target):
            return
        v = access if access in self.taken.values() else "v"
        if v == "v":
            self.lines.append(f"v = {access}")
        if read == "count":
            self.names["read_count"] = fields.count
            self.lines.append(
                f"{target} = {v} if type({v}) is int and 0 <= {v} <= {fields.MAX_COUNT} else None if {v} is None else read_count({v})"
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
            self.lines.append(f"{target} = None if {v} is None else {reader}({v})")
        elif read == "cost":
            self.names["read_cost"] = fields.cost
            self.lines.append(
                f"{target} = {v} if type({v}) is float and 0.0 <= {v} < 1e12 else read_cost({v})"
            )
        else:
            reader = self.name(READERS[read], "read")
            self.lines.append(f"{target} = None if {v} is None else {reader}({v})")
        if at.values:
            values = self.name(dict(at.values), "values")
            self.lines.append(
                f"if {target} is not None: {target} = {values}.get({target}, {target})"
            )

    def typed_value(self, at: At, kind: Any, access: str, target: str) -> bool:
        """Write the reading of a value whose type the decoder has seen to; False where there is no short way."""
        if at.values:
            return False
        if kind is KIND_OF_READ.get(at.read):
            if at.read in fields.UNITS and at.read != "s":
                divisor = fields.UNITS[at.read]
                self.lines.append(
                    f"{target} = {access} / {divisor!r} if {access} is not None else None"
                )
            elif at.read == "timestamp":
                self.lines.append(f"{target} = {self.name(fields.seconds_of, 'read')}({access})")
            else:
                self.lines.append(f"{target} = {access}")
        elif at.read in _TEXTS or at.read == "status":
            self.lines.append(
                f"{target} = {self.memo(at.read)}[{access}] if {access} is not None else None"
            )
        else:
            return False
        return True

    def fits(self, name: str) -> bool:
        """Tell whether the decoder has seen to the kind and the bounds of a field, wherever it is found."""
        takes = [take for take in self.table.sources.get(name, ()) if self.possible(take)]
        return "started" not in self.can and all(
            isinstance(take, At)
            and not take.values
            and all(
                chain in self.kinds and self.kinds[chain] is KIND_OF_READ.get(take.read)
                for chain in take.chains
                if self.reachable(chain)
            )
            for take in takes
        )

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
        return isinstance(take, Const) or any(self.reachable(chain) for chain in chains_of(take))

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

    def source(self, *, gives_found: bool = False) -> str:
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
        for name in FIELDS:
            if name not in done and (gives_found or name not in EVIDENCE):
                self.field(name)
        self.parts()
        if gives_found:
            self.found()
        else:
            self.ending()
        return (
            "def take(record):\n"
            + "\n".join(
                "    " + line
                for line in (self.taking() if self.is_typed else self.guard()) + self.lines
            )
            + "\n"
        )

    def texts(self, paths: Sequence[str]) -> str:
        """Write a function that gives the values at paths as texts, empty where there are none."""
        values = []
        for path in paths:
            reachable = [chain for chain in fields.WAYS[path] if self.reachable(chain)]
            # a record has it under one key with dots in it, or key by key
            values.append(f"text({self.access(reachable[0])})" if reachable else "''")
            if len(reachable) > 1:
                values[-1] = f"text(get(record, {path!r}))"
        self.names["text"] = fields.label
        lines = [
            *self.taking(),
            *self.lines,
            f"return ({', '.join(values)}{',' if values else ''})",
        ]
        return "def texts(record):\n" + "\n".join("    " + line for line in lines) + "\n"

    def made(self, source: str, name: str) -> Any:
        """Compile a source that was written and give the function of that name.

        The source holds nothing but this module's text and the table's own words, quoted: no word of a record.
        """
        exec(compile(source, f"<table {self.table.name}>", "exec"), self.names)  # noqa: S102
        return self.names[name]

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
        made = {name: name for name in PLAIN if name in can}
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
        made |= self.derived()
        if "request_model" in can:
            model = "model" if "model" in can else "None"
            lines.append(f"if request_model == {model}: request_model = None")
        for name in ("provider", "model", "endpoint"):
            if name in can:
                lines.append(f"if {name} is None: {name} = 'unknown'")
        if "final" in can:
            lines.append("if final is None: final = True")
        lines.append(
            f"return (Request({', '.join(f'{key}={value}' for key, value in made.items())}),)"
        )

    def derived(self) -> dict[str, str]:
        """Write what follows from other figures: durations from times, no tokens from a cache; give their names."""
        can, lines = self.can, self.lines
        made: dict[str, str] = {}
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
            made |= {name: name for name in (*DURATIONS, "timestamp")}
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
            # a loop over Structs makes no request of it, and nothing is added of a cost of 0
            if tokens and not self.is_typed:
                lines.append(f"if not cost_usd and ({' or '.join(tokens)}): cost_usd = None")
        return made

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

"""Counts many lines of known shapes at once, without making records or requests of them.

A table tells where its figures are. Of the shapes of record that a log has shown, one Struct is made with all their
keys; the lines of a read are decoded into it together, and a written loop adds them to their series. Whatever does
not fit (a key nobody has seen, a value of another type, a record that may be no request) is read the general way,
and both give the same: a test holds them against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from types import NoneType
from typing import Any

import msgspec
import orjson

from . import fields, fold, metrics
from .compiled import (
    KIND_OF_READ,
    Compiled,
    Keys,
    Kinds,
    Writer,
    may_be_a_member,
    may_claim,
    narrowed,
)
from .metrics import Meter
from .periods import Slices
from .prices import Price
from .series import Series
from .table import EVIDENCE, FIELDS, PLAIN, At, Sum, Table, all_takes, chains_of, finish
from .words import Words

MAX_MEMBERS = 256
"""Keys of all shapes together; more is no log whose lines are alike."""
MAX_CELLS = 4096
"""Spellings of labels that lead to a series at once."""
LINES_BEFORE_WRITTEN = 96
"""How many come before a new shape is taken in: to write the loop takes as long as to read a thousand without."""
ENOUGH_TO_LEARN = 64
"""Lines of one read; with fewer they are so long that the values matter little."""
MAX_SPELLING = 300
"""Characters of one such spelling."""

_LABELS = frozenset(
    {
        "provider",
        "model",
        "request_model",
        "endpoint",
        "status_code",
        "error",
        "outcome",
        "finish_reason",
    }
)
"""Fields that tell which series a request belongs to."""
_SCALARS = (str | None, int | None, bool | None)
"""Types of which two values are equal only where they are spelt alike."""
_TYPES_OF_READ: dict[str, set[type]] = {
    "count": {int},
    "cost": {float, int},
    "timestamp": {datetime},
    **{unit: {float, int} for unit in ("s", "ms", "us", "ns")},
}
ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for a line that does not fit."""

Seen = Mapping[tuple[str, ...], set[type]]
"""Where a value is → the types it had."""
Cells = dict[Any, tuple[Series, Price | None, int]]
"""Labels as they are spelt → the series, its price, and which needs the labels leave open."""
Count = Callable[[Iterator[Any], Cells, tuple[str, ...]], Any]
"""Counts records until one that is to be read the general way, and gives that one; `None` at the end.

All are of files whose paths tell the same extra labels, which are given with the cells of those.
"""

Decode = Callable[[bytes | memoryview], list[Any]]
"""Makes a record of each object in whole lines; one of `ERRORS` where it does not fit."""


class Batch:
    """Counts the lines of one parser; `decode` changes as the parser meets new shapes."""

    def __init__(
        self,
        compiled: Compiled,
        meter: Meter,
        labels: Sequence[str],
        rivals: Sequence[Table],
        slices: Slices | None = None,
    ) -> None:
        """`labels` are the paths of extra labels, `rivals` the tables that may want a record of a known shape.

        `slices` give one label more, by the time of a request.
        """
        self._slices = slices
        self._compiled, self._meter = compiled, meter
        self._labels, self._rivals = labels, rivals
        self._version, self._epoch = 0, meter.epoch
        self._waited_lines = 0
        """How many lines came since there was a new shape."""
        self._is_written = False
        self._missed = 0
        self.writings = 0
        """How often it was written anew: what did not fit before may fit now."""
        self._decode_lines: Decode = _decode_none
        self._decode_known: Decode = _decode_none
        """The same, and faster, for lines whose fields have only values as they had before."""
        self._words = Words()
        self._narrow: Callable[[list[Any]], Decode] | None = None
        """Makes that of records."""
        self.decode: Callable[[bytes], Any] = _decode_none
        """Make a record of a line; one of `ERRORS` where it is not of a known shape."""
        self.needle = b""
        """What the line of every known shape has in it."""
        self._count: Count = lambda records, cells, of_path: next(records, None)
        self._cells: dict[tuple[str, ...], Cells] = {}
        """What a file's path tells → the cells of its lines: a look-up there costs the same with it and without."""

    def count(self, records: Iterator[Any], of_path: tuple[str, ...]) -> Any:
        """Count records until one that is to be read the general way, and give that one; `None` at the end.

        `of_path` are the values of the extra labels that their file's path tells.
        """
        cells = self._cells.get(of_path)
        if cells is None:
            if len(self._cells) >= MAX_CELLS:
                self._cells.clear()
            cells = self._cells[of_path] = {}
        return self._count(records, cells, of_path)

    def renew(self, text: bytes | memoryview) -> bool:
        """Take in the shapes that came since, soon; tell whether any lines of a text can be read."""
        if self._version != self._compiled.version:
            # what comes with it is written with it
            self._waited_lines += bytes(text).count(b"\n") or 1
        if self._epoch != self._meter.epoch or self._waited_lines > LINES_BEFORE_WRITTEN:
            self._version, self._epoch = self._compiled.version, self._meter.epoch
            self._waited_lines = 0
            self.writings += 1
            self._write()
        return self._is_written

    def records(self, whole: bytes | memoryview) -> list[Any] | None:
        """Make a record of each object in whole lines; `None` where they are not all of known shapes."""
        try:
            return self._decode_known(whole)
        except ERRORS:
            pass
        try:
            records = self._decode_lines(whole)
        except ERRORS:
            return None
        if self._narrow is not None and len(records) >= ENOUGH_TO_LEARN:
            self._decode_known = self._narrow(records)
        return records

    def miss(self, line: bytes) -> None:
        """Learn from a line that does not fit, now and then: perhaps its values are of other types than before."""
        self._missed += 1
        if not self._missed & (self._missed - 1):
            with suppress(orjson.JSONDecodeError):
                record = orjson.loads(line)
                if type(record) is dict:
                    self._compiled.learn(record)

    def _write(self) -> None:
        """Write the decoder and the loop for all the shapes shown, where they can be read so."""
        self._is_written = False
        shown = _without_rivals(self._compiled, self._rivals)
        table = self._compiled.tables[0].within({key for keys, _ in shown for key in keys[()]})
        if not self._meter.constants["_for_gen_ai"]:
            # nobody asks for it: then it is not read, and tells no labels apart
            sources = {
                name: takes for name, takes in table.sources.items() if name != "request_model"
            }
            table = replace(table, sources=sources)
        union = _union(table, shown)
        if union is None:
            return
        known, seen = union
        table = narrowed(table, known)
        kinds = _kinds(table, known, seen)
        finder = Writer(table, known, kinds)
        find_source = finder.source(gives_found=True)
        labels = Writer(table, known, kinds)
        label_source = labels.texts(self._labels)
        loop = Writer(table, known, kinds)
        loop_source = _loop_source(
            loop,
            self._labels,
            self._meter.constants,
            self._slices,
            is_timed=self._meter.is_timed,
        )
        if not loop_source or any(
            "(record," in source or "(record)" in source or "record.get(" in source
            for source in (
                find_source.partition("\n")[2],
                label_source.partition("\n")[2],
                loop_source.replace("slow(record, raw, cells, of_path)", "").partition("\n")[2],
            )
        ):
            # some place can only be found in a dict
            return
        taken = {*finder.taken, *loop.taken, *labels.taken}
        # what nobody looks at may be anything
        looked_at = {chain: kind for chain, kind in kinds.items() if chain in taken}
        structs = _structs(known, looked_at, taken)
        for writer in (finder, labels, loop):
            writer.names |= {
                f"no_{writer.taken[chain]}": structs[chain]() for chain in known if chain
            }
        find = finder.made(find_source, "take")
        extra = labels.made(label_source, "texts")
        loop.names = {**vars(metrics), **loop.names, "self": self._meter}
        loop.names["seconds_of"] = fields.seconds_of
        # what is known of other shapes is spelt otherwise
        self._cells = {}
        loop.names["slow"] = _slow(table, find, extra, self._meter, self._cells, self._slices)
        self._count = loop.made(loop_source, "count")
        decoder = msgspec.json.Decoder(structs[()])
        self._decode_lines, self.decode = decoder.decode_lines, decoder.decode
        self._decode_known = _decode_none

        def narrow(records: list[Any]) -> Decode:
            if not self._words.learn(_columns(records, known, looked_at, taken)):
                self._narrow = None
                return _decode_none
            narrowed = _structs(known, {**looked_at, **self._words.kinds()}, taken)
            return msgspec.json.Decoder(narrowed[()]).decode_lines

        self._narrow = narrow
        self.needle = _needle([keys for keys, _ in shown])
        self._is_written = True


def _decode_none(_: bytes | memoryview) -> Any:
    raise msgspec.DecodeError("no shape is known")


def _needle(shapes: Sequence[Keys]) -> bytes:
    """Give the longest key that all shapes have, as it stands in a line: other lines hardly have it."""
    shared = set(shapes[0][()]).intersection(*[keys[()] for keys in shapes])
    # one that may be written with escapes would not be found
    plain = [key for key in shared if key.isascii() and "/" not in key]
    return max(plain, key=len, default="").encode()


def _without_rivals(compiled: Compiled, rivals: Sequence[Table]) -> list[tuple[Keys, Kinds]]:
    """Give the shapes shown of which no other parser may want a record, by what it says."""
    return [
        (keys, kinds)
        for lessons in compiled.shown.values()
        for keys, kinds in lessons
        if not any(may_claim(rival, frozenset(keys[()])) for rival in rivals)
    ]


def _union(table: Table, shown: Sequence[tuple[Keys, Kinds]]) -> tuple[Keys, Seen] | None:
    """Give the keys of all shapes together, and the types that were seen; `None` where that makes no Struct."""
    known: dict[tuple[str, ...], dict[str, None]] = {}
    seen: dict[tuple[str, ...], set[type]] = {}
    objects = {chain for keys, _ in shown for chain, names in keys.items() if names}
    for keys, kinds in shown:
        if any(
            not names and chain in objects and kinds.get(chain) is not NoneType
            for chain, names in keys.items()
        ):
            # an object in other shapes, but not in this one
            continue
        for chain, keys_there in keys.items():
            if keys_there:
                known.setdefault(chain, {}).update(dict.fromkeys(keys_there))
        for chain, kind in kinds.items():
            seen.setdefault(chain, set()).add(kind)
    read_whole = {chain for take in all_takes(table) for chain in chains_of(take)}
    read_whole.update(
        chain for path, _ in (*table.when, *table.unless) for chain in fields.WAYS[path]
    )
    # an object that is also read as a whole stays a dict, with all that is in it
    whole = [chain for chain in known if chain and chain in read_whole]
    union = {
        at: tuple(inside)
        for at, inside in sorted(known.items(), key=lambda one: len(one[0]))
        if not any(at[: len(chain)] == chain for chain in whole)
    }
    members = [name for inside in union.values() for name in inside]
    if (
        () not in union
        or "log" in union[()]  # it may be Docker's wrapper, and that comes first
        or len(members) > MAX_MEMBERS
        or not all(map(may_be_a_member, members))
    ):
        return None
    return union, seen


def _kinds(table: Table, known: Keys, seen: Seen) -> dict[tuple[str, ...], Any]:
    """Tell as what each value is decoded: by the one way in which it is read, else by the types seen."""
    ways: dict[tuple[str, ...], set[str]] = {}
    for take in all_takes(table):
        parts = take.parts if isinstance(take, Sum) else (take,) if isinstance(take, At) else ()
        for part in parts:
            for chain in part.chains:
                for depth in range(1, len(chain)):
                    # an object may stand there
                    ways.setdefault(chain[:depth], set()).add("object")
                ways.setdefault(chain, set()).add(part.read)
    for path, _ in (*table.when, *table.unless):
        for chain in fields.WAYS[path]:
            ways.setdefault(chain, set()).add("condition")
    kinds: dict[tuple[str, ...], Any] = {}
    for at, keys in known.items():
        for key in keys:
            chain = (*at, key)
            types = seen.get(chain, set()) - {NoneType}
            read = ways.get(chain, set())
            way = next(iter(read)) if len(read) == 1 else ""
            if way in KIND_OF_READ and types <= _TYPES_OF_READ[way]:
                kinds[chain] = KIND_OF_READ[way]
            elif types and types <= {str, datetime}:
                kinds[chain] = str | None
            elif types == {int}:
                kinds[chain] = int | None
            elif types == {bool}:
                kinds[chain] = bool | None
    return kinds


def _moment(writer: Writer) -> str:
    """Give where the one place is that tells the time of a request, decoded; nothing where it is not so simple."""
    places = writer.table.sources.get("timestamp", ())
    chains = [chain for take in places for chain in chains_of(take) if writer.reachable(chain)]
    if len(chains) != 1 or "started" in writer.table.sources:
        return ""
    chain = chains[0]
    is_moment = writer.kinds.get(chain) is KIND_OF_READ["timestamp"]
    return writer.access(chain) if is_moment and chain[:-1] in writer.known else ""


def _loop_source(
    writer: Writer,
    labels: Sequence[str],
    constants: Mapping[str, Any],
    slices: Slices | None,
    *,
    is_timed: bool,
) -> str:
    """Write the loop that counts records; whatever tells their labels is looked up together, as it stands.

    Nothing where requests are to be counted by their time, and what tells it is not simple.
    """
    table = writer.table
    failure = _failure(writer)
    spelling: dict[str, None] = {"failure": None} if failure else {}
    for chain in _label_chains(table, labels):
        if not writer.reachable(chain):
            continue
        while chain[:-1] not in writer.known:
            chain = chain[:-1]
        value = writer.access(chain)
        if writer.kinds.get(chain) not in _SCALARS:
            value = f"None if {value} is None else repr({value})"
        spelling[value] = None
    access = _moment(writer)
    moment = "moment" if access else ""
    first: list[str] = []
    if slices is not None:
        if "started" in table.sources:
            return ""
        if moment:
            first = [f"timestamp = seconds_of({moment})"]
        else:
            writer.field("timestamp")
            first, writer.lines = writer.lines, []
        known = moment or "timestamp" in writer.can
        spelling[slices.source("timestamp") if known else "None"] = None
    for name in FIELDS:
        if (
            name not in _LABELS
            and name not in EVIDENCE
            and not (name == "timestamp" and (moment or first))
        ):
            writer.field(name)
    writer.parts()
    figures = {name: name for name in PLAIN if name in writer.can} | writer.derived()
    if moment:
        # few requests need their time as a number; the last one of a series is found without
        figures["timestamp"] = f"seconds_of({moment})" if slices is None else "timestamp"
        last = f"if {moment} is not None and (series.last_moment is None or {moment} > series.last_moment): series.last_moment = {moment}"
    else:
        last = (
            "if timestamp is not None and series.last_second < timestamp < MAX_SECOND: series.last_second = timestamp"
            if "timestamp" in figures
            else ""
        )
    enough = []
    for place, group in enumerate(table.needs):
        missing = [f"{name} is None" for name in group if name in writer.can]
        enough.append(
            f"if missing & {1 << place} and {' and '.join(missing) or 'True'}: return record"
        )
    within = []
    if is_timed and moment:
        within = [
            f"if {moment} is None or not self.moment_from <= {moment} < self.moment_to: return record"
        ]
    elif is_timed and "timestamp" in figures:
        within = [
            "if timestamp is None or not self.second_from <= timestamp < self.second_to: return record"
        ]
    elif is_timed:
        within = ["return record"]
    lines = [
        *writer.taking(),
        *([f"moment = {access}"] if access else []),
        *failure,
        *first,
        f"raw = ({', '.join(spelling)}{',' if spelling else ''})",
        "cell = cells.get(raw)",
        "if cell is None:",
        "    if slow(record, raw, cells, of_path): return record",
        "    continue",
        *writer.lines,
        *within,
        "series, price, missing = cell",
        *(["if missing:", *("    " + line for line in enough)] if enough else []),
        last,
        *fold.inlined(
            Meter.add,
            "series.count += 1",
            figures,
            {
                **constants,
                "_duration_fits": writer.fits("duration_seconds"),
                "_cost_fits": writer.fits("cost_usd"),
            },
        ),
    ]
    return "def count(records, cells, of_path):\n    for record in records:\n" + "\n".join(
        "        " + line for line in lines
    )


def _failure(writer: Writer) -> list[str]:
    """Write what class of error is told, and with which status: the words may be others each time, and many."""
    places = {
        writer.access(chain) for chain in _error_places(writer.table) if writer.reachable(chain)
    }
    if not places:
        return []
    with writer.only_if(" or ".join([f"{place} is not None" for place in sorted(places)])):
        writer.field("status_code")
        writer.field("error")
        status = "status_code" if "status_code" in writer.can else "None"
        writer.lines.append(f"failure = error and error_type({status}, *error), {status}")
    # outside of the condition they are not known
    writer.can -= {"status_code", "error"}
    lines, writer.lines = writer.lines, []
    return ["failure = None", *lines]


def _error_places(table: Table) -> set[tuple[str, ...]]:
    """Give the keys at which, or in which, an error may be."""
    return {chain[:1] for take in table.sources.get("error", ()) for chain in chains_of(take)}


def _label_chains(table: Table, labels: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Give what tells a request's series, but for the error and what is in it (`_failure`)."""
    errors = _error_places(table)
    for name in sorted(_LABELS - {"error"}):
        for take in table.sources.get(name, ()):
            for chain in chains_of(take):
                if name != "status_code" or chain[:1] not in errors:
                    yield chain
    for path, _ in (*table.when, *table.unless):
        yield from fields.WAYS[path]
    for path in labels:
        yield from fields.WAYS[path]


def _slow(
    table: Table,
    find: Callable[[Any], dict[str, Any] | None],
    extra: Callable[[Any], tuple[str, ...]],
    meter: Meter,
    all_cells: Mapping[tuple[str, ...], Cells],
    slices: Slices | None,
) -> Callable[[Any, Any, Cells, tuple[str, ...]], bool]:
    """Make what counts a record whose labels are spelt as none before; True where it is to be read the general way."""
    kept = 0

    def slow(record: Any, raw: tuple[Any, ...], cells: Cells, of_path: tuple[str, ...]) -> bool:
        nonlocal kept
        found = find(record)
        if found is None or not table.is_enough(found):
            return True
        request = finish(found)
        values = extra(record) + of_path
        if slices is not None:
            values += (slices.label(request.timestamp),)
        meter.add(request, values)
        cell = meter.cell(request, values)
        if cell is not None and sum([len(one) for one in raw if type(one) is str]) <= MAX_SPELLING:
            kept += 1
            if kept > MAX_CELLS:
                # of all files together
                kept = 1
                for others in all_cells.values():
                    others.clear()
            missing = sum(
                1 << place
                for place, group in enumerate(table.needs)
                if not any(name in found for name in group if name in _LABELS)
            )
            cells[raw] = (*cell, missing)
        return False

    return slow


def _structs(
    known: Keys, kinds: Mapping[tuple[str, ...], Any], taken: Container[tuple[str, ...]]
) -> dict[tuple[str, ...], Any]:
    """Make a Struct for each object, with its keys in the order of the lines, which is fastest to decode."""
    structs: dict[tuple[str, ...], Any] = {}
    for chain in sorted(known, key=len, reverse=True):
        members: list[tuple[str, Any, Any]] = []
        for number, key in enumerate(known[chain]):
            inner = (*chain, key)
            if inner in structs:
                kind = structs[inner] | None
            else:
                kind = kinds.get(inner, Any if inner in taken else msgspec.Raw)
            members.append((f"f{number}", kind, msgspec.Raw() if kind is msgspec.Raw else None))
        structs[chain] = msgspec.defstruct(
            "Shape",
            members,
            rename={f"f{number}": key for number, key in enumerate(known[chain])},
            forbid_unknown_fields=True,
            gc=False,
        )
    return structs


def _columns(
    records: list[Any],
    known: Keys,
    kinds: Mapping[tuple[str, ...], Any],
    taken: Container[tuple[str, ...]],
) -> dict[tuple[str, ...], list[Any]]:
    """Give the values of the fields that are text, and of those that nobody looks at."""
    columns: dict[tuple[str, ...], list[Any]] = {}
    for chain, keys in known.items():
        holders = records
        for depth in range(len(chain)):
            name = f"f{known[chain[:depth]].index(chain[depth])}"
            holders = [inner for one in holders if (inner := getattr(one, name)) is not None]
        for number, key in enumerate(keys):
            inner = (*chain, key)
            if inner not in known and (inner not in taken or kinds.get(inner) == str | None):
                columns[inner] = [getattr(one, f"f{number}") for one in holders]
    return columns

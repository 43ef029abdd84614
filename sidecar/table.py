"""A parser written as a table: which field is where; compiled into a function for each shape of record that comes.

A table is a value. `Table.find` reads a record by it, slowly and plainly: that is what a table means.
`compile_table` writes Python for the shapes (which keys, in which order) that a log really has, in which only
the places are tried that can be there: what a hand-written parser would do. Both give the same requests.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import orjson

from . import fields
from .request import Record, Request

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
    "service_tier": fields.service_tier,
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
FIELDS = {
    "provider": "provider",
    "model": "model",
    "request_model": "model",
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
    "service_tier": "service_tier",
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
DURATIONS = ("duration_seconds", "time_to_first_token_seconds")


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
Reads = dict[str, "Reads | None"]
"""Keys that are looked at → what is in the object there; `None` where that may be anything in it."""


@dataclass(frozen=True, kw_only=True)
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

    @cached_property
    def by_key(self) -> Mapping[str | None, list[Place]]:
        """The places by the first key of their ways; by `None` those that need no record."""
        by_key: defaultdict[str | None, list[Place]] = defaultdict(list)
        takes = [(name, take) for name, source in self.sources.items() for take in source]
        for order, (name, take) in enumerate(takes):
            place = (order, name, take)
            if type(take) is At:
                # the ways to read a path begin with its first key, or with all of it
                path = take.path
                first = path.partition(".")[0]
                by_key[first].append(place)
                if first != path:
                    by_key[path].append(place)
            else:
                heads: set[str | None] = {chain[0] for chain in chains_of(take)}
                for head in heads or {None}:
                    by_key[head].append(place)
        return dict(by_key)

    @cached_property
    def body_heads(self) -> list[tuple[str, str]]:
        """Where a body may be, with the key in the record that it begins with."""
        return [(fields.WAYS[path][-1][0], path) for path in self.body_at]

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
            if full not in FIELDS:
                raise ValueError(
                    f"{what}.{key}: expected the name of a field ({', '.join(sorted(FIELDS))})"
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

    def within(self, keys: Iterable[str]) -> Table:
        """Give the part of the table that can be found in records with these keys: the same for them, and smaller."""
        places = {place[0]: place for key in (*keys, None) for place in self.by_key.get(key, ())}
        sources: dict[str, list[At | Sum | Const]] = {}
        for order in sorted(places):
            _, name, take = places[order]
            sources.setdefault(name, []).append(take)
        if sources.get("request_model") == sources.get("model"):
            # one place for both tells of no other model
            sources.pop("request_model", None)
        return replace(self, sources={name: tuple(takes) for name, takes in sources.items()})

    @property
    def tells_twice(self) -> bool:
        """Whether a request of this format may stand on several lines."""
        return "id" in self.sources or "final" in self.sources

    def claims(self, record: Record) -> bool:
        """Tell whether the record is of this format, by `when` and `unless`."""
        return all(holds(record, path, values) for path, values in self.when) and not any(
            holds(record, path, values) for path, values in self.unless
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

    def may_be_enough(self, keys: Iterable[str]) -> bool:
        """Tell whether a record with these keys may be another's, or a request by itself, without what is `inside`."""
        keys = frozenset(keys)
        heads = {chain[0] for path, _ in (*self.when, *self.unless) for chain in fields.WAYS[path]}
        heads.update(head for head, _ in self.body_heads)
        named = self.within(keys).sources
        return (
            self.input_excludes_cache
            or self.output_excludes_reasoning
            or not heads.isdisjoint(keys)
            or all(not named.keys().isdisjoint(group) for group in self.needs)
        )

    def parse_with(
        self, record: Record, find: Find, find_body: Find, *, looks_inside_only: bool = False
    ) -> tuple[Request, ...] | None:
        """Do what the table's parser does, by functions that read a record and a body; `None`: not of mine."""
        request = None
        if not looks_inside_only:
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
        for head, path in self.body_heads:
            if head not in record:
                continue
            body = _opened(fields.get(record, path))
            told = find_body(body) if body is not None else None
            if told is not None:
                found = _merged(found, told)
                break
        return finish(found) if self.is_enough(found) else None

    def is_enough(self, found: Mapping[str, Any]) -> bool:
        """Tell whether what was found makes a finished request, by `needs`."""
        return not any(found.keys().isdisjoint(group) for group in self.needs)


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
    if "model" in body and "model" in found:
        merged.setdefault("request_model", found["model"])
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
    made = {name: value for name, value in found.items() if name in _PLAIN}
    if made.get("request_model") == made.get("model"):
        made.pop("request_model", None)
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


PLAIN = tuple(
    name for name in Request.__struct_fields__ if name not in ("error_type", "status_code")
)
_PLAIN = frozenset(PLAIN)


def is_index(key: str) -> bool:
    return key.isascii() and key.isdigit()


def all_takes(table: Table) -> Iterator[At | Sum | Const]:
    for source in table.sources.values():
        yield from source


def chains_of(take: At | Sum | Const) -> Iterator[tuple[str, ...]]:
    if isinstance(take, At):
        yield from take.chains
    elif isinstance(take, Sum):
        for part in take.parts:
            yield from part.chains


def looked_at(tables: Iterable[Table]) -> Reads:
    """Tell what tables may look at in a record."""
    reads: Reads = {}
    for table in tables:
        paths = [path for path, _ in (*table.when, *table.unless)]
        chains = [chain for take in all_takes(table) for chain in chains_of(take)]
        chains += [chain for path in (*paths, *table.body_at) for chain in fields.WAYS[path]]
        for chain in (*chains, *[(key,) for key in table.inside]):
            at: Reads | None = reads
            for key, following in zip(chain, (*chain[1:], "0"), strict=True):
                if at is None:
                    break
                if is_index(following.partition(".")[0]):
                    at[key] = None
                at = at.setdefault(key, {})
    return reads


def essence(record: Record, reads: Reads) -> Record:
    """Give what is looked at in a record, its keys in order: the same for records that differ in nothing else."""
    return {
        key: essence(value, within)
        if type(value := record[key]) is dict and (within := reads[key]) is not None
        else value
        for key in sorted(reads.keys() & record.keys())
    }


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


def holds(record: Record, path: str, values: tuple[Any, ...] | None) -> bool:
    if not any(chain[0] in record for chain in fields.WAYS[path]):
        return False
    value = fields.get(record, path)
    return value is not None if values is None else is_one(value, values)


def is_one(value: Any, values: tuple[Any, ...]) -> bool:
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
    read = value.get("as", "text" if values else FIELDS[name])
    if read not in READERS:
        raise ValueError(f"{what}.as: expected one of {', '.join(READERS)}, got {_kind(read)}")
    if values and read == "failure":
        raise ValueError(f"{what}.as: expected a reader that gives a text, got 'failure'")
    if name in DURATIONS and "as" not in value:
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
    if name in DURATIONS:
        read = fields.number(value)
    elif name == "outcome" or name == "final" or name == "served_from_cache":
        read = value if type(value) is bool else None
    else:
        read = READERS[FIELDS[name]](value)
    if read is None:
        raise ValueError(f"{what}: {_kind(value)} cannot be a {name}")
    return read

"""Tells where the fields of a request came from: by the table that read it, else by looking for the values.

A table says it exactly (`Table.explain`). A function does not: where it uses a table whose request agrees, the table
is asked; what is left is looked for in the record, by what it would be read as, and is only probable.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import orjson

from .. import fields
from ..request import Memory, Parser, Record, Request
from ..table import READERS, Table
from .propose import Leaf, leaf_at, roles_of

_MAX_LEAVES = 20_000
_MAX_TIMES = 40
_IGNORED = ("final", "served_from_cache")


@dataclass(frozen=True, slots=True)
class Found:
    """One field of a request, where it came from, and how it was read."""

    name: str
    value: Any
    paths: tuple[str, ...]
    read: str
    is_sure: bool


def tables_of(parser: Parser) -> tuple[Table, ...]:
    """Give the tables that a parser is made of; none for a function."""
    tables: tuple[Table, ...] = getattr(parser, "tables", ())
    return tables


def tables_near(parser: Parser) -> Iterator[Table]:
    """Give the tables that stand in the module of a function."""
    for value in getattr(parser, "__globals__", {}).values():
        if isinstance(value, Table):
            yield value
        elif isinstance(value, FunctionType):
            yield from getattr(value, "tables", ())
        elif isinstance(value, (tuple, list)):
            yield from [one for one in value if isinstance(one, Table)]


def doc_line(parser: Parser) -> str:
    """Give the first line of what a function's module says of itself, else of the function."""
    module = sys.modules.get(getattr(parser, "__module__", ""))
    for text in (getattr(module, "__doc__", None), getattr(parser, "__doc__", None)):
        if text and text.strip():
            return str(text).strip().partition("\n")[0]
    return "a function that says nothing of itself"


def claiming(parser: Parser, record: Record) -> Table | None:
    """Give the table by which a parser claimed a record, where it is made of tables."""
    return next((one for one in tables_of(parser) if one.parse(record) is not None), None)


def signature(table: Table, record: Record) -> str:
    """Tell, in a table's own words, what makes a record one of its."""
    signs = [
        f"{path} is there" if values is None else f"{path} is {' or '.join(map(_word, values))}"
        for path, values in table.when
    ]
    if signs:
        return ", ".join(signs)
    told = table.explain(record) or {}
    there = {name: origin for name, origin in told.items() if origin.paths}
    groups = [[name for name in group if name in there] for group in table.needs]
    needed = dict.fromkeys([name for group in groups for name in group])
    named = [f"{name} at {there[name].paths[0]}" for name in needed]
    return ", ".join(named) or "it has what a request needs"


def _word(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def missing(table: Table, record: Record) -> list[str]:
    """Tell which fields a record would have to have to be a finished request; of each group one."""
    found = table.find(record)
    return [" or ".join(group) for group in table.needs if not any(name in found for name in group)]


def explain(parser: Parser, record: Record, memory: Memory, request: Request) -> list[Found]:
    """Tell where each field of a request came from that a parser made of a record."""
    wanted = {
        name: value
        for name in Request.__struct_fields__
        if name not in _IGNORED
        and (value := getattr(request, name)) is not None
        and value != "unknown"
    }
    if request.served_from_cache:
        wanted["served_from_cache"] = True
    found: dict[str, Found] = {}
    table = claiming(parser, record)
    is_function = table is None
    if table is None:
        table = next((one for one in tables_near(parser) if _agrees(one, record, request)), None)
    if table is not None:
        for name, origin in (table.explain(record) or {}).items():
            if name in wanted and origin.value == wanted[name]:
                if origin.read == "default" and is_function:
                    continue
                found[name] = Found(name, origin.value, origin.paths, origin.read, True)
    left = {name: value for name, value in wanted.items() if name not in found}
    if left:
        search = _Search(record, memory)
        for name, value in left.items():
            found[name] = search.find(name, value, request)
    return [found[name] for name in wanted]


def _agrees(table: Table, record: Record, request: Request) -> bool:
    """Tell whether a table's request has the figures of the one that a function made, so that it may have made it."""
    made = table.parse(record)
    if not made:
        return False
    names = ("model", "input_tokens", "output_tokens", "error_type")
    return all(getattr(made[0], name) == getattr(request, name) for name in names)


_COUNTED = frozenset(
    name
    for name in Request.__struct_fields__
    if name.endswith("_tokens") or name in ("batch_size", "rate_limit_remaining_requests")
)
_WAYS: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "provider": (fields.provider, fields.host_provider),
    "model": (fields.model, fields.model_in_path),
    "endpoint": (fields.endpoint,),
    "status_code": (fields.status,),
    "finish_reason": (fields.finish_reason,),
    "timestamp": (fields.timestamp,),
    "cost_usd": (fields.cost, fields.cents),
    "trace_id": (fields.text,),
    "id": (fields.text,),
    **dict.fromkeys(_COUNTED, (fields.count,)),
}
"""How a field may have been read."""
_ROLES = {
    "duration_seconds": ("duration",),
    "time_to_first_token_seconds": ("time_to_first_token",),
    "status_code": ("status",),
    "cost_usd": ("cost",),
    "error_type": ("error",),
    "timestamp": ("timestamp", "ended", "started"),
}
_PARTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


class _Search:
    """Looks for the values of a request in a record, and in what its parser remembered of lines before."""

    def __init__(self, record: Record, memory: Memory) -> None:
        remembered = [
            replace(leaf, path=f"{leaf.path} of a line before") for leaf in _everything(memory)
        ]
        self.leaves = [*_everything(record), *remembered]
        self.roles = [dict(roles_of(leaf)) for leaf in self.leaves]

    def find(self, name: str, value: Any, request: Request) -> Found:
        """Give the likeliest place of one value; none where it comes from elsewhere."""
        if name == "error_type":
            return self._error(value, request)
        best: tuple[float, Leaf, str] | None = None
        words = frozenset(name.split("_")) - {"tokens", "seconds", "usd", "code"}
        for leaf, roles in zip(self.leaves, self.roles, strict=True):
            read = _reading(name, leaf.value, value)
            if read is None:
                continue
            near = leaf.last | leaf.parent
            is_named = any(role in roles for role in _ROLES.get(name, (name,)))
            score = 3.0 * is_named + len(words & near)
            # a 0, or a status of 200 that only stands for success, is everywhere
            is_common = not value or name == "status_code"
            if score < (3.0 if is_common else 1.0 if isinstance(value, float) else 0.0):
                continue
            score -= 0.1 * len(leaf.above)  # the outermost, where others say the same
            if best is None or score > best[0]:
                best = score, leaf, read
        if best is not None:
            return Found(name, value, (best[1].path,), best[2], False)
        return self._made(name, value, request)

    def _error(self, value: str, request: Request) -> Found:
        paths = [
            leaf.path
            for leaf, roles in zip(self.leaves, self.roles, strict=True)
            if "error" in roles and fields.failure(leaf.value) is not None
        ]
        if not paths:
            status = self.find("status_code", request.status_code, request)
            return Found("error_type", value, status.paths, "made of", False)
        return Found("error_type", value, tuple(paths[:2]), "failure", False)

    def _made(self, name: str, value: Any, request: Request) -> Found:
        """Look for figures that add up to the value, or for two times that are as far apart."""
        if name in _COUNTED and value:
            counted = [
                (leaf, number)
                for leaf, roles in zip(self.leaves, self.roles, strict=True)
                if not roles.keys().isdisjoint(_PARTS) and (number := fields.count(leaf.value))
            ][:10]
            for size in (2, 3, 4):
                for some in itertools.combinations(counted, size):
                    if sum([number for _, number in some]) == value:
                        return Found(
                            name, value, tuple([leaf.path for leaf, _ in some]), "sum", False
                        )
        if name in ("duration_seconds", "time_to_first_token_seconds"):
            times = [
                (leaf.path, moment)
                for leaf in self.leaves
                if (moment := fields.timestamp(leaf.value)) is not None
            ][:_MAX_TIMES]
            for (start, begin), (end, finish) in itertools.permutations(times, 2):
                if math.isclose(finish - begin, value, rel_tol=1e-6, abs_tol=1e-6):
                    return Found(name, value, (start, end), "made of", False)
        if name == "id":
            parts = [
                leaf.path
                for leaf in self.leaves
                if type(leaf.value) is str and len(leaf.value) > 3 and leaf.value in value
            ]
            if parts:
                return Found(name, value, tuple(parts[:3]), "made of", False)
        return Found(name, value, (), "parser", False)


def _reading(name: str, raw: Any, value: Any) -> str | None:
    """Tell as what a raw value may have been read to give the value of a field; `None`: not from this."""
    if raw is None or type(raw) in (dict, list, bool):
        return None
    if name in ("duration_seconds", "time_to_first_token_seconds"):
        number = fields.number(raw)
        if number is None:
            found = fields.duration(raw)
            return "duration" if found is not None and math.isclose(found, value) else None
        for unit, size in fields.UNITS.items():
            if math.isclose(number / size, value, rel_tol=1e-9):
                return unit
        return None
    for read in _WAYS.get(name, ()):
        found = read(raw)
        if found is None:
            continue
        is_near = name == "timestamp" and abs(found - value) < 0.002
        if found == value or is_near or (name == "cost_usd" and str(found) == str(value)):
            return next((word for word, one in READERS.items() if one is read), "text")
    return None


def _everything(record: Record) -> Iterator[Leaf]:
    """Tell every path of a record, those in arrays and in JSON text too; an OTLP attribute by its key."""
    waiting: list[tuple[tuple[str, ...], Any, int]] = [((), record, 0)]
    count = 0
    while waiting and count < _MAX_LEAVES:
        chain, value, depth = waiting.pop()
        if chain:
            count += 1
            yield leaf_at(chain, value)
        if depth > 24:
            continue
        if type(value) is str and value[:1] in ("{", "["):
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError:
                continue
        if type(value) is dict:
            waiting += [((*chain, key), inner, depth + 1) for key, inner in reversed(value.items())]
        elif type(value) is list:
            for place in range(min(len(value), 2000) - 1, -1, -1):
                element = value[place]
                key = element.get("key") if type(element) is dict else None
                if type(key) is str:
                    # an OTLP attribute: its key, and what stands in `{"value": {"intValue": …}}`
                    inner = element.get("value")
                    if type(inner) is dict and len(inner) == 1:
                        inner = next(iter(inner.values()))
                    waiting.append(((*chain, key), inner, depth + 1))
                else:
                    waiting.append(((*chain, str(place)), element, depth + 1))

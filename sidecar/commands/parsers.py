"""`ai-sidecar parsers`: what is installed, what it reads, which fields it can tell, and from which package it comes."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from types import FunctionType, ModuleType

from .. import plugins
from ..request import Parser, Request
from ..table import Table
from .origins import tables_near, tables_of

_FOLLOWS = {
    "started": ("duration_seconds", "timestamp"),
    "first_token": ("time_to_first_token_seconds",),
    "error": ("error_type",),
    "outcome": ("error_type",),
    "status_code": ("status_code", "error_type"),
    "cache_hit": ("served_from_cache",),
}
"""What a request has because of a field that only a table has."""
_NOT_TOLD = ("final", "status_code")
"""No figures: one says when the others hold, the other every request has."""


@dataclass(frozen=True, slots=True)
class Row:
    """One installed parser."""

    name: str
    package: str
    reads: str
    """The first line of what its module says of itself."""
    doc: str
    """All that it says."""
    fields: tuple[str, ...]
    """Which fields of a request it can tell."""
    is_loaded: bool = True


def rows() -> Iterator[Row]:
    """Look at each installed parser; whatever a stranger's module does at import, the others are told of."""
    for name, entry_point in sorted(plugins.installed().items()):
        package = plugins.package(entry_point)
        try:
            parser = entry_point.load()
        except Exception as error:  # as above
            reads = f"cannot be loaded: {type(error).__name__}"
            yield Row(name, package, reads, "", (), is_loaded=False)
            continue
        doc = inspect.getdoc(sys.modules[entry_point.module]) or ""
        yield Row(name, package, doc.partition("\n")[0], doc, fields_of(parser))


def fields_of(parser: Parser) -> tuple[str, ...]:
    """Tell which fields a parser can tell, in the order of a request: by its tables, else by its source."""
    tables = tables_of(parser)
    found = {name for table in tables or tables_near(parser) for name in _of_table(table)}
    if not tables:
        for module in _modules(parser):
            found |= _written(module)
    return tuple(
        [name for name in Request.__struct_fields__ if name in found and name not in _NOT_TOLD]
    )


def _of_table(table: Table) -> Iterator[str]:
    for name in table.sources:
        yield from _FOLLOWS.get(name, (name,))
    for body in table.bodies:
        yield from _of_table(body)


def _modules(parser: Parser) -> Iterator[ModuleType]:
    """Give the module of a function, and those of its package whose functions it uses."""
    module = sys.modules.get(getattr(parser, "__module__", ""))
    if module is None:
        return
    yield module
    package = module.__name__.partition(".")[0]
    others = {
        value.__module__ for value in vars(module).values() if isinstance(value, FunctionType)
    } - {module.__name__}
    for other in sorted(others):
        if other.partition(".")[0] == package and package != "sidecar" and other in sys.modules:
            yield sys.modules[other]


@cache
def _written(module: ModuleType) -> frozenset[str]:
    """Find the fields that a module's source names as arguments, keys of a dict, or what it assigns to."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        return frozenset()
    names: set[object] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword):
            names.add(node.arg)
        elif isinstance(node, ast.Dict):
            names.update([key.value for key in node.keys if isinstance(key, ast.Constant)])
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            names.add(node.slice.value if isinstance(node.slice, ast.Constant) else None)
    short = {"duration": "duration_seconds", "cost": "cost_usd", "error": "error_type"}
    return frozenset([short.get(name, name) for name in names if isinstance(name, str)])


def table(*, is_wide: bool = True) -> str:
    """Give a line for each installed parser; where it is read by people, its fields on a line of their own."""
    found = list(rows())
    widths = [
        max([len(value) for value in column], default=0)
        for column in ([row.name for row in found], [row.package for row in found])
    ]
    lines = []
    for row in found:
        line = f"{row.name:<{widths[0]}}  {row.package:<{widths[1]}}  {row.reads}"
        if row.fields and is_wide:
            line += f" [{', '.join(row.fields)}]"
        elif row.fields:
            line += f"\n{'':<{widths[0]}}  {', '.join(row.fields)}"
        lines.append(line)
    return "\n".join(lines)


def document() -> str:
    """Give the same as one JSON document."""
    keys = ("name", "package", "reads", "fields", "is_loaded")
    return json.dumps(
        {"parsers": [{key: asdict(row)[key] for key in keys} for row in rows()]}, indent=1
    )

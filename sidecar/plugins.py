"""Parsers by entry point: ours and strangers' by the same door.

A parser may carry `rank`, an int: those of rank 0 (the default) tell their own format apart and are asked
first, in the order of their names; a higher rank is asked later. `generic`, which claims whatever looks
like a request, has the highest.

It may carry `keys`, a set of names: a record without any of them at its top is not its own, and it is not asked. With
many formats installed that is what keeps an ordinary line cheap. A table needs none: its `when` tells as much.
Where a name is one that many programs use, `keys` may be a mapping that tells what stands there in a record of its own:
a type (`dict`; `object` for anything), a set of texts, or a function from the value to yes or no, such as
`{"type": {"usage.record"}, "message": dict}`. One of them must hold.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from .pipeline import Installed
from .request import Parser

log = logging.getLogger("ai_sidecar")

GROUP = "ai_sidecar.parsers"


class DuplicateParserError(ValueError):
    """Two packages bring a parser of one name."""


def installed() -> dict[str, EntryPoint]:
    """Give every installed parser's entry point by its name; DuplicateParserError names both packages."""
    found: dict[str, EntryPoint] = {}
    for entry_point in entry_points(group=GROUP):
        other = found.get(entry_point.name)
        if other is not None and (other.value, package(other)) != (
            entry_point.value,
            package(entry_point),
        ):
            raise DuplicateParserError(
                f"parser {entry_point.name!r} is brought by two packages, {package(other)} and {package(entry_point)}: "
                "expected one, remove the other"
            )
        found[entry_point.name] = entry_point
    return found


def package(entry_point: EntryPoint) -> str:
    """Give the name and version of the package that an entry point comes from."""
    dist = entry_point.dist
    return f"{dist.name} {dist.version}" if dist is not None else "unknown"


def load(names: Iterable[str], tables: Mapping[str, Parser]) -> list[Installed]:
    """Load the parsers asked for, in the order in which they are asked; ValueError for a name nobody has.

    `auto` stands for every one: the user's own tables first, then by rank. A parser that cannot be
    imported is named in the log and left out; it stops neither us nor the others.
    """
    there = installed()
    order: list[str] = []
    for name in names:
        if name == "auto":
            order += [*tables, *sorted(there)]
        elif name in tables or name in there:
            order.append(name)
        else:
            known = ", ".join(["auto", *tables, *sorted(there)])
            raise ValueError(f"--parser: expected one of {known}, got {name!r}")
    loaded: list[tuple[int, Installed]] = []
    # a package's name is read out of its metadata each time it is asked for
    names_of_packages: dict[int, str] = {}
    for name in dict.fromkeys(order):
        if name in tables:
            loaded.append((-1, Installed(name, tables[name], is_users_table=True)))
            continue
        try:
            parser = there[name].load()
        except Exception:
            # whatever a stranger's module does at import, the others go on
            log.exception(
                "parser %s of %s cannot be loaded; it is left out", name, package(there[name])
            )
            continue
        rank = getattr(parser, "rank", 0)
        dist = there[name].dist
        if dist is not None and id(dist) not in names_of_packages:
            names_of_packages[id(dist)] = dist.name
        is_ours = names_of_packages.get(id(dist)) == "ai-sidecar"
        loaded.append((rank, Installed(name, parser, rank <= 0, is_ours)))
    if "auto" in names:
        loaded.sort(key=lambda one: one[0])
    return [one for _, one in loaded]

"""`ai-sidecar parsers`: what is installed, what it reads, and from which package it comes."""

from __future__ import annotations

import inspect
import sys

from .. import plugins


def table() -> str:
    """Give a line for each installed parser."""
    rows = []
    for name, entry_point in sorted(plugins.installed().items()):
        try:
            entry_point.load()
            reads = (inspect.getdoc(sys.modules[entry_point.module]) or "").partition("\n")[0]
        except Exception as error:
            # whatever a stranger's module does at import, the others are still listed
            reads = f"cannot be loaded: {type(error).__name__}"
        rows.append((name, plugins.package(entry_point), reads))
    widths = [max([len(row[column]) for row in rows], default=0) for column in (0, 1)]
    return "\n".join(
        [f"{name:<{widths[0]}}  {package:<{widths[1]}}  {reads}" for name, package, reads in rows]
    )

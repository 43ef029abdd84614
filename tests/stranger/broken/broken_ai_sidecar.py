"""A parser that trusts its lines too much."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar import Memory, Record, Request


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Raise KeyError on each line of the format that it takes for its own."""
    if record.get("kind") != "broken":
        return None
    return [Request(model=record["no such key"])]

"""A record changed at random: fields dropped, types changed, nested in itself. A parser raises nothing but ParseError."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sidecar import Memory, ParseError, Request, plugins
from sidecar.pipeline import may_be_of
from sidecar.request import checked

GOLDEN = Path(__file__).parent / "golden"
CHANGES_EACH = 10
"""Records made of one random number: with a thousand of those, ten thousand for each parser."""
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 7, 10**9, 2**64, 10**30, 1.5, -0.5, 1e300, "", "x", "0", "12", "-3", "1.5s", "NaN",
    "\\ud800", "\x00", "x" * 2000, "{", "[1]", '{"usage": {"input_tokens": 5}}', "2026-01-01T00:00:00Z", "0001-01-01",
    [], {}, [[]], [{}], [None], {"": None}, {"a": {"a": {"a": 1}}}, [1, "a", {"type": "text"}],
]  # fmt: skip


def golden(name: str) -> list[dict[str, Any]]:
    """Give the records of a parser's golden logs."""
    found: list[dict[str, Any]] = []
    for path in sorted([*GOLDEN.glob(f"{name}/*.jsonl"), *GOLDEN.glob(f"{name}*.jsonl")]):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            found += [
                one
                for one in (value if isinstance(value, list) else [value])
                if isinstance(one, dict)
            ]
    return found


def containers(value: Any) -> list[Any]:
    """Give all objects and arrays in a value, itself among them."""
    found: list[Any] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and one:
            found.append(one)
            waiting += one.values()
        elif isinstance(one, list) and one:
            found.append(one)
            waiting += one
    return found


def changed(record: dict[str, Any], rnd: random.Random) -> dict[str, Any]:
    """Change a copy of a record in one to five places."""
    record = copy.deepcopy(record)
    for _ in range(rnd.randint(1, 5)):
        where = rnd.choice(containers(record) or [record])
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            break
        key = rnd.choice(keys)
        match rnd.randrange(5):
            case 0:
                del where[key]
            case 1:
                where[key] = copy.deepcopy(record)
            case 2:
                where[key] = [where[key]]
            case 3:
                where[key] = json.dumps(where[key])
            case _:
                where[key] = copy.deepcopy(rnd.choice(VALUES))
    return record


PARSERS = {name: entry.load() for name, entry in plugins.installed().items()}


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_record_changed_at_random_raises_nothing_but_parse_error(name: str) -> None:
    records = golden(name)
    assert records

    @settings(max_examples=1000, database=None, phases=[Phase.generate])
    @given(st.integers(0, 2**32))
    def try_(seed: int) -> None:
        rnd = random.Random(seed)
        memory: Memory = {}
        for _ in range(CHANGES_EACH):
            record = changed(rnd.choice(records), rnd)
            try:
                requests = PARSERS[name](record, memory)
            except ParseError:
                requests = ()
            keys = getattr(PARSERS[name], "keys", None)
            if requests is not None and keys is not None:
                # what it claims, it would have been asked for
                assert may_be_of(keys, record)
            if requests:
                checked(requests)
                assert all(isinstance(one, Request) for one in requests)
        json.dumps(memory)

    try_()


def places(value: Any) -> list[tuple[Any, Any]]:
    """Give each place in a record: what holds it, and its key or its number there."""
    found: list[tuple[Any, Any]] = []
    for holder in containers(value):
        found += [
            (holder, key)
            for key in (holder if isinstance(holder, dict) else range(min(len(holder), 3)))
        ]
    return found


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_whatever_stands_in_one_place_raises_nothing_but_parse_error(name: str) -> None:
    parse = PARSERS[name]
    memory: Memory = {}
    for record in golden(name):
        for holder, key in places(record):
            there = holder[key]
            # a lone surrogate comes through where bytes that are no UTF-8 stand elsewhere on the line
            for value in (*VALUES, "\ud800"):
                holder[key] = value
                # what came before is known, as in a log; what comes of this line is not carried on
                with contextlib.suppress(ParseError):
                    checked(parse(record, copy.deepcopy(memory)) or ())
            holder[key] = there
        with contextlib.suppress(ParseError):
            parse(record, memory)

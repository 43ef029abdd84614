"""Whatever a log holds: its neighbours count exactly, each line ends in one result, the page stays a page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invariants import (
    EXACT_MODEL,
    GOOD,
    GOOD_LINE,
    Counted,
    check_neighbours,
    check_splits,
    check_ways,
    read_page,
)

from sidecar.config import Config
from sidecar.daemon import Sidecar
from sidecar.series import MODEL

GOLDEN = Path(__file__).parent / "golden"
RECORDS: list[dict[str, Any]] = [
    {**GOOD, "model": "hostile"},
    *[
        record
        for path in sorted(GOLDEN.glob("*/*.jsonl"))
        for line in path.read_bytes().splitlines()
        if type(record := orjson.loads(line)) is dict
    ],
]


class Raw(str):
    """A value as it stands in the log, JSON or not."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may come twice."""


def text_of(value: Any) -> str:
    """Write a value as JSON, with what no encoder would write."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join([f"{json.dumps(key)}:{text_of(one)}" for key, one in value]) + "}"
    if type(value) is dict:
        return text_of(Pairs(value.items()))
    if type(value) is list:
        return "[" + ",".join([text_of(one) for one in value]) + "]"
    return json.dumps(value)


VALUES = {
    "not a number": "NaN",
    "infinity": "Infinity",
    "minus infinity": "-Infinity",
    "too large a float": "1e999",
    "largest float": "1.7976931348623157e308",
    "smallest float": "5e-324",
    "minus zero": "-0.0",
    "2^53": str(2**53),
    "2^63": str(2**63),
    "2^64": str(2**64),
    "400 digits": "1" * 400,
    "5000 digits": "1" * 5000,
    "minus 400 digits": "-" + "9" * 400,
    "400 decimals": "0." + "3" * 400,
    "true": "true",
    "false": "false",
    "null": "null",
    "negative": "-5",
    "negative fraction": "-0.5",
    "number as text": '"12"',
    "huge number as text": json.dumps("9" * 400),
    "exponent as text": '"1e308"',
    "not a number as text": '"NaN"',
    "other digits": '"١٢٣"',
    "empty text": '""',
    "lone surrogate": r'"\ud800"',
    "surrogates the wrong way round": r'"\udc00\ud800"',
    "control characters": r'"a\u0000\u001b[31m\r\n\t\u0085\u2028\u007f"',
    "quotes": r'"a\"b\\\"c\n\\n"',
    "page": r'"a\"} 1\nai_api_requests_total{model=\"x\"} 99"',
    "bare control character": '"a\x01b"',
    "format": '"%s %(x)s {} %"',
    "megabyte": json.dumps("M" * 1_000_000),
    "megabyte of escapes": '"' + r"\u00e9" * 160_000 + '"',
    "long word": json.dumps("word-" * 80),
    "empty array": "[]",
    "empty object": "{}",
    "deep array": "[" * 10_000 + "]" * 10_000,
    "deep object": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "900 levels": '{"usage":' * 900 + "1" + "}" * 900,
    "300 levels": "[" * 300 + "]" * 300,
    "huge array": "[" + "1," * 100_000 + "1]",
    "array of objects": "[" + "{}," * 10_000 + "{}]",
    "journald's bytes that are none": "[300, -1, 1.5, true]",
    "record": GOOD_LINE.decode().replace(EXACT_MODEL, "inner"),
    "record as text": json.dumps(GOOD_LINE.decode().replace(EXACT_MODEL, "inner")),
    "nothing": "",
}
LINES: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\xff",
    "invalid UTF-8": b'{"model":"\xc3\x28","status":200,"latency_ms":1}',
    "encoded surrogate": b'{"model":"\xed\xa0\x80","status":200,"latency_ms":1}',
    "overlong": b'{"model":"\xc0\xaf","status":200,"latency_ms":1}',
    "UTF-16": GOOD_LINE.decode()
    .replace(EXACT_MODEL, "sixteen")
    .encode("utf-16")
    .replace(b"\n", b""),
    "NULs": b"\0" * 100_000,
    "NULs after a letter": b"x" + b"\0" * 1000,
    "byte-order mark": b"\xef\xbb\xbf",
    "two byte-order marks": b"\xef\xbb\xbf" * 2 + b"{}",
    "opener": b"{",
    "array opener": b"[",
    "closer": b"}",
    "array closer": b"]",
    "indented": b'  "a": 1,',
    "spaces": b" " * 1000,
    "commas after a brace": b"{" + b"," * 100_000,
    "commas after an object": b"{}" + b"," * 100_000,
    "braces": b"{" * 100_000,
    "brackets": b"[" * 100_000,
    "quotes": b'"' * 100_001,
    "half a string": b'{"model":"' + b"\\" * 99_999,
    "trace": b"Traceback (most recent call last):",
    "CRI without text": b"2026-01-01T00:00:00Z stdout F",
    "CRI part": b"2026-01-01T00:00:00Z stdout P half ",
    "CRI part without text": b"2026-01-01T00:00:00Z stderr P ",
    "CRI opener": b"2026-01-01T00:00:00Z stdout F {",
    "CRI in CRI": b"2026-01-01T00:00:00Z stdout F 2026-01-01T00:00:00Z stdout P {}",
    "CRI of NULs": b"2026-01-01T00:00:00Z stdout F \0\0\0",
    "CRI of the mark of too long": b"2026-01-01T00:00:00Z stdout F \0too long",
    "Docker part": b'{"log":"half","stream":"stdout","time":"x"}',
    "Docker opener": b'{"log":"{\\n","stream":"stdout","time":"x"}',
    "Docker of another stream": b'{"log":"half","stream":"s7","time":"x"}',
    "Docker in Docker": json.dumps(
        {
            "log": json.dumps({"log": "half", "stream": "stderr", "time": "x"}) + "\n",
            "stream": "stdout",
            "time": "x",
        }
    ).encode(),
    "Docker in CRI": b'2026-01-01T00:00:00Z stdout F {"log":"half","stream":"stderr","time":"x"}',
    "snapshot in a CRI part": b'2026-01-01T00:00:00Z stdout P {"id":"a","tokens":1,"final":false}',
}

values = st.sampled_from([Raw(text) for text in VALUES.values()])
junk = st.binary(max_size=60).map(lambda data: data.replace(b"\n", b""))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if type(value) is dict:
        for key, inner in value.items():
            found += _paths(inner, (*path, key))
    elif type(value) is list:
        for place, inner in enumerate(value[:3]):
            found += _paths(inner, (*path, place))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A record of some format in which fields are dropped, exchanged, told twice, or the record itself."""
    record = json.loads(json.dumps(draw(st.sampled_from(RECORDS))))
    for _ in range(draw(st.integers(0, 4))):
        paths = _paths(record)
        if not paths:
            break
        *way, last = draw(st.sampled_from(paths))
        inner = record
        for key in way:
            inner = inner[key]
        how = draw(st.sampled_from(["drop", "set", "wrap", "inside", "text"]))
        if how == "drop":
            del inner[last]
        elif how == "set":
            inner[last] = draw(values)
        elif how == "wrap":
            inner[last] = draw(st.sampled_from([[inner[last]], {"a": inner[last]}]))
        elif how == "inside":
            inner[last] = json.loads(json.dumps(RECORDS[0]))
        else:
            inner[last] = json.dumps(inner[last] if type(inner[last]) is not Raw else None)
        if how == "set":
            # nothing is looked for inside what is no JSON
            break
    if draw(st.booleans()):
        pairs = [
            *record.items(),
            *draw(
                st.lists(st.tuples(st.sampled_from([*record, "model", "x"]), values), max_size=2)
            ),
        ]
        return text_of(Pairs(pairs))
    return text_of(record)


def _in_levels(text: str) -> list[str]:
    for _ in range(6):
        text = json.dumps({"message": text})
    return [text]


ENVELOPES: dict[str, Callable[[str], list[str]]] = {
    "none": lambda text: [text],
    "carriage return": lambda text: [text + "\r"],
    "byte-order mark": lambda text: ["\ufeff" + text],
    "NULs before": lambda text: ["\0" * 50 + text],
    "comma": lambda text: [text + ","],
    "CRI": lambda text: [f"2026-01-01T00:00:00.1Z stderr F {text}"],
    "CRI, split": lambda text: [
        f"2026-01-01T00:00:00.1Z stderr P {text[: len(text) // 2]}",
        f"2026-01-01T00:00:00.1Z stderr F {text[len(text) // 2 :]}",
    ],
    "Docker": lambda text: [json.dumps({"log": text + "\n", "stream": "stderr", "time": "x"})],
    "Docker, split": lambda text: [
        json.dumps({"log": text[:40], "stream": "stderr", "time": "x"}),
        json.dumps({"log": text[40:] + "\n", "stream": "stderr", "time": "x"}),
    ],
    "array": lambda text: [f"[{text},{text}]"],
    "message": lambda text: [json.dumps({"message": text})],
    "object": lambda text: [f'{{"jsonPayload":{text}}}'],
    "journald": lambda text: [json.dumps({"MESSAGE": list(text[:500].encode())})],
    "CloudWatch": lambda text: [json.dumps({"logEvents": [{"message": text}, {"message": text}]})],
    "records": lambda text: [f'{{"records":[{text},1,{text}]}}'],
    "six levels": _in_levels,
    "array over lines": lambda text: ["[", text + ",", text, "]"],
    "pretty-printed": lambda text: ["{", f'  "jsonPayload": {text}', "}"],
    "pretty-printed without end": lambda text: ["{", f'  "jsonPayload": {text},'],
    "body": lambda text: [json.dumps({"provider": "openai", "response": text, "status": 200})],
}

enveloped = st.tuples(st.sampled_from(list(ENVELOPES.values())), mutated()).map(
    lambda pair: [line.replace("\n", "").encode("utf-8", "replace") for line in pair[0](pair[1])]
)
hostile = st.one_of(
    enveloped,
    junk.map(lambda line: [line]),
    st.sampled_from([[line] for line in LINES.values()]),
)
logs = st.lists(hostile, max_size=12).map(lambda parts: [line for part in parts for line in part])
some = settings(
    max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_hostile_line_costs_its_neighbours_nothing(line: bytes) -> None:
    check_neighbours([line] * 3)
    check_ways(b"\n".join([GOOD_LINE, line, GOOD_LINE, line, b""]))


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_hostile_value_in_any_field_costs_no_other_line_anything(value: str) -> None:
    lines = []
    for record in RECORDS[:1] if len(value) > 2000 else RECORDS:
        for path in _paths(record):
            changed = json.loads(json.dumps(record))
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = Raw(value)
            lines.append(text_of(changed).encode("utf-8", "replace"))

    check_neighbours(lines, pages=False)
    check_ways(b"\n".join(lines))


@some
@given(logs)
def test_good_lines_count_exactly_beside_any_others(lines: list[bytes]) -> None:
    check_neighbours(lines)


@some
@given(logs, st.lists(st.integers(0, 5000), max_size=8), st.sampled_from([100, 1000, 8 << 20]))
def test_figures_do_not_depend_on_how_the_bytes_came(
    lines: list[bytes], cuts: list[int], max_line_bytes: int
) -> None:
    data = b"\n".join([GOOD_LINE, *lines, GOOD_LINE])

    check_splits(data, cuts, max_line_bytes=max_line_bytes)
    check_ways(data)


@settings(some, max_examples=60)
@given(logs, logs, st.booleans())
def test_a_sidecar_counts_good_lines_exactly_over_its_lives(
    before: list[bytes], after: list[bytes], is_between_lines: bool
) -> None:
    """The same in real files, with a state, and a second sidecar that goes on where the first one ended."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "app.log"
        parts = []
        for lines in (before, after):
            mixed = [one for line in lines for one in (line, GOOD_LINE)]
            parts.append(b"\n".join([GOOD_LINE, *mixed, GOOD_LINE, b""]))
        data = b"".join(parts)
        cut = len(parts[0]) - (0 if is_between_lines else len(GOOD_LINE) // 2)
        config = Config(log_paths=(str(log),), state_dir=Path(folder) / "state")
        pages = []
        for now, end in enumerate([cut, len(data)]):
            log.write_bytes(data[:end]) if not now else _append(log, data[cut:])
            sidecar = Sidecar(config, version="test")
            sidecar.hold_state()
            sidecar.restore(now * 10.0)
            sidecar.follower.look(now * 10.0 + 2.0)
            while sidecar.step():
                sidecar.follower.check(now * 10.0 + 2.0)
            sidecar.save()
            assert sidecar.health.state_saves["failure"] == 0
            assert "unreadable" not in sidecar.health.state_saves
            for accept in ("text/plain", "application/openmetrics-text"):
                page, kind = sidecar.exposition.page(accept, None)
                pages.append(read_page(page, is_openmetrics="openmetrics" in kind))
            _end(sidecar)
        mine = [one for one in sidecar.store.series if one.labels[MODEL] == EXACT_MODEL]
        good = data.count(GOOD_LINE + b"\n")

        assert sum([one.count for one in mine]) == good
        assert sum([one.input_tokens for one in mine]) == 10 * good
        assert pages[2]["ai_api_requests_total"] >= pages[0]["ai_api_requests_total"]
        assert pages[2]["ai_sidecar_lines_total"] <= data.count(b"\n")


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _end(sidecar: Sidecar) -> None:
    """What the end of its process would do."""
    for generation in sidecar.follower.generations:
        generation.tail.close()
    state = sidecar._state
    assert state is not None
    os.close(state._lock)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool on PATH")
def test_promtool_reads_the_page_of_a_hostile_log() -> None:
    counted = Counted(labels=("user", "usage.x"))
    for record in RECORDS:
        for value in VALUES.values():
            for key in ("model", "provider", "endpoint", "user"):
                counted.feed(
                    [text_of({**record, key: Raw(value)}).encode("utf-8", "replace") + b"\n"]
                )
    counted.feed([line + b"\n" for line in LINES.values()]).end()
    page, _ = counted.exposition.page("text/plain", None)

    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, check=False, timeout=60
    )

    complaints = {line.partition(" ")[2] for line in checked.stdout.decode().splitlines()}
    complaints |= {line.partition(" ")[2] for line in checked.stderr.decode().splitlines()}
    # the names that dashboards have had from the start
    assert complaints <= {'use base unit "seconds" instead of "milliseconds"'}
    assert len(counted.store.series) > 30


@pytest.mark.parametrize("max_series", [1, 20])
def test_random_names_beyond_the_cap_keep_the_sums_exact(max_series: int) -> None:
    counted = Counted(max_series=max_series).feed([GOOD_LINE + b"\n"])
    for number in range(300):
        text = text_of({**GOOD, "model": f"m{number}", "provider": f"p{number % 50}"})
        counted.feed([text.encode() + b"\n", GOOD_LINE + b"\n"])
    figures = read_page(counted.exposition.page("", None)[0])

    assert counted.exact() == (301, 3010, 903)
    assert figures["ai_api_requests_total"] == 601
    assert figures["ai_api_input_tokens_total"] == 6010
    assert len(counted.store.series) <= 2 * max_series + 100

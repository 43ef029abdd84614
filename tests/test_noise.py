"""Lines passed over by their bytes are those that count as no request the general way, whatever stands in them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd import ORDINARY, with_odd_values
from test_mutations import changed, golden

from parsers import generic
from sidecar import Table, compile_table, envelopes, noise, plugins
from sidecar.config import Config
from sidecar.daemon import Sidecar
from sidecar.lines import LineSplitter
from sidecar.pipeline import Installed, Source

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
GOLDEN = Path(__file__).parent / "golden"
CORPUS = Path(__file__).parent / "fuzz"

REQUEST = {
    "ts": "2026-01-01T00:00:00.037Z",
    "level": "info",
    "msg": "llm_request",
    "model": "gpt-4o",
    "status_code": 200,
    "latency_ms": 224.8,
    "usage": {"prompt_tokens": 661, "completion_tokens": 264},
}
APPLICATION: dict[str, Any] = {
    "ts": "2026-01-01T00:00:00.037Z",
    "level": "info",
    "logger": "app.http",
    "msg": "handled GET /items/7",
    "http": {"method": "GET", "status": 200, "ok": True, "error": None, "tags": ["a", 1.5]},
}
TYPED: dict[str, Any] = {"type": "access", "message": "in", "data": {"n": 1}, "event": "login"}
PROBED: dict[str, Any] = {"method": "GET", "path": "/healthz", "status": 200, "duration_ms": 1.5}
TEXT = b"2026-01-01T00:00:00.037 INFO [worker-1] app.jobs: job 7 finished state=ok\n"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    generic.parse.compiled.forget()  # type: ignore[attr-defined] # a function's own attribute


def text_of(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


LESSON = (text_of(APPLICATION, TYPED, PROBED, REQUEST) + TEXT) * 40


class Run:
    """A sidecar without files, fed with bytes: as they come, or line by line, where no line is told by its bytes."""

    def __init__(self, **config: Any) -> None:
        self.sidecar = Sidecar(Config(log_paths=(), **config), version="test")
        self.source = Source("test")
        self.lines = LineSplitter(8 << 20)

    def feed(self, data: bytes, *, whole: bool = True) -> Run:
        text = self.lines.whole(data)
        if text and whole:
            self.sidecar.pipeline.feed_whole(self.source, text)
        elif text:
            self.sidecar.pipeline.feed(self.source, text.split(b"\n")[:-1])
        return self

    @property
    def figures(self) -> Any:
        store = self.sidecar.store.dump()
        store["series"].sort(key=lambda one: one[0])
        health = self.sidecar.health
        return store, dict(health.lines), dict(health.requests), self.source.dump()

    @property
    def tells_by_bytes(self) -> bool:
        return self.source.noise is not None and self.source.noise.is_used


def both(*texts: bytes, **config: Any) -> Run:
    """Feed texts both ways, hold what was counted against each other, give the run that tells noise by its bytes."""
    runs = Run(**config), Run(**config)
    for text in texts:
        for run, whole in zip(runs, (True, False), strict=True):
            run.feed(text, whole=whole)
        assert runs[0].figures == runs[1].figures
    return runs[0]


def passed(run: Run, text: bytes) -> list[bool]:
    """Tell for each line whether it is passed over by its bytes."""
    assert run.source.noise is not None
    return [len(part) < 2 for part in run.source.noise.parts(text)]


def test_lines_that_are_no_request_are_passed_over() -> None:
    run = both(LESSON, LESSON, LESSON)

    assert run.tells_by_bytes
    assert passed(run, LESSON[: len(LESSON) // 40]) == [True, True, True, False, True]
    assert run.sidecar.health.lines["ignored"] == 360
    assert run.sidecar.health.lines["not_json"] == 120
    assert run.sidecar.health.lines["request"] == 120
    other = text_of(
        {**APPLICATION, "msg": 'a "quoted" \u00fc\n\U0001f680 [x] \\ ', "level": ""},
        {**APPLICATION, "http": {**APPLICATION["http"], "status": -1.5e-7, "ok": False}},
        {**TYPED, "message": "[worker] in", "data": {"n": 0}},
    ).replace(b"\n", b"\r\n")
    assert all(passed(run, other))
    both(LESSON, other * 40, LESSON)


def test_no_line_is_looked_at_so_where_most_are_requests() -> None:
    run = both(*[text_of(REQUEST) * 200 + TEXT] * 4)
    assert not run.tells_by_bytes
    run = both(LESSON, *[text_of(REQUEST) * 200] * 4)
    assert not run.tells_by_bytes
    run = both(LESSON, *[text_of(REQUEST) * 200] * 4, LESSON, LESSON)
    assert run.tells_by_bytes


HOSTILE: dict[str, bytes] = {
    "no quote at the end of a text": text_of(APPLICATION).replace(b'info"', b"info"),
    "no quote at the start of a text": text_of(APPLICATION).replace(b'"info', b"info"),
    "a control character": text_of(APPLICATION).replace(b"info", b"in\x01fo"),
    "a tab": text_of(APPLICATION).replace(b"info", b"in\tfo"),
    "a newline": text_of(APPLICATION).replace(b"info", b"in\nfo"),
    "a carriage return": text_of(APPLICATION).replace(b"info", b"in\rfo"),
    "a number with a 0 before it": text_of(APPLICATION).replace(b"200", b"01"),
    "a number that ends with a point": text_of(APPLICATION).replace(b"200", b"1."),
    "a number that begins with a point": text_of(APPLICATION).replace(b"200", b".5"),
    "a number with a plus": text_of(APPLICATION).replace(b"200", b"+5"),
    "two minuses": text_of(APPLICATION).replace(b"200", b"--5"),
    "an empty exponent": text_of(APPLICATION).replace(b"200", b"1e"),
    "a number beyond any": text_of(APPLICATION).replace(b"200", b"1e999"),
    "a number of many digits": text_of(APPLICATION).replace(b"200", b"1" * 500),
    "NaN": text_of(APPLICATION).replace(b"200", b"NaN"),
    "no number": text_of(APPLICATION).replace(b"200", b""),
    "a comma too many": text_of(APPLICATION).replace(b"}}", b"},}"),
    "a comma at the end": text_of(APPLICATION).replace(b"}}\n", b"}},\n"),
    "no bracket at the end": text_of(APPLICATION).replace(b"}}\n", b"}\n"),
    "a bracket too many": text_of(APPLICATION).replace(b"}}\n", b"}}}\n"),
    "two on a line": text_of(APPLICATION)[:-1] + text_of(APPLICATION),
    "a request behind it": text_of(APPLICATION)[:-1] + text_of(REQUEST),
    "a request before it": text_of(REQUEST)[:-1] + text_of(APPLICATION),
    "a wrong escape": text_of(APPLICATION).replace(b"info", b"in\\xfo"),
    "half an escape": text_of(APPLICATION).replace(b"info", b"in\\u00"),
    "half a pair": text_of(APPLICATION).replace(b"info", b"in\\ud83d"),
    "the other half": text_of(APPLICATION).replace(b"info", b"in\\ude00"),
    "a pair the wrong way": text_of(APPLICATION).replace(b"info", b"in\\ude00\\ud83d"),
    "an escaped end": text_of(APPLICATION).replace(b"info", b"info\\"),
    "no UTF-8": text_of(APPLICATION).replace(b"info", b"in\xfffo"),
    "no UTF-8 at the end of a text": text_of(APPLICATION).replace(b"info", b"info\xf0"),
    "NULs": text_of(APPLICATION).replace(b"info", b"in\0fo"),
    "NULs before it": b"\0\0" + text_of(APPLICATION),
    "a byte order mark": b"\xef\xbb\xbf" + text_of(APPLICATION),
    "space before it": b"  " + text_of(APPLICATION),
    "space behind it": text_of(APPLICATION).replace(b"\n", b" \t\n"),
    "other space in it": json.dumps(APPLICATION, separators=(",", ":")).encode() + b"\n",
    "keys the other way": text_of(dict(reversed(APPLICATION.items()))),
    "one key more": text_of({**APPLICATION, "usage": REQUEST["usage"], "model": "m"}),
    "a key told twice": text_of(APPLICATION)[:-2] + b', "msg": "x"}\n',
    "a request told after": text_of(APPLICATION)[:-2] + b", " + text_of(REQUEST)[1:],
    "a request in the message": text_of({**APPLICATION, "msg": json.dumps(REQUEST)}),
    "a request in brackets": text_of({**APPLICATION, "msg": json.dumps([REQUEST])}),
    "a request in another text": text_of({**APPLICATION, "logger": json.dumps(REQUEST)}),
    "an escaped bracket": text_of({**APPLICATION, "msg": json.dumps(REQUEST)}).replace(
        b'"msg": "{', b'"msg": "\\u007b'
    ),
    "an escaped bracket in capitals": text_of({**APPLICATION, "msg": json.dumps(REQUEST)}).replace(
        b'"msg": "{', b'"msg": "\\u007B'
    ),
    "a record printed over lines": text_of({**APPLICATION, "msg": "{"}),
    "a list printed over lines": text_of({**APPLICATION, "msg": "["}),
    "a list printed over lines, with space": text_of({**APPLICATION, "msg": " [ "}),
    "a list printed over lines, escaped": text_of({**APPLICATION, "msg": "["}).replace(
        b'"["', b'"\\u005b"'
    ),
    "a list printed over lines, a tab behind": text_of({**APPLICATION, "msg": "[\t"}),
    "an object for a text": text_of({**APPLICATION, "msg": REQUEST}),
    "an object in a known one": text_of({**TYPED, "data": REQUEST}),
    "a type that somebody knows": text_of({**TYPED, "type": "message"}),
    "another type that somebody knows": text_of({**TYPED, "type": "turn.started"}),
    "a path of a model's": text_of({**PROBED, "path": "/v1/chat/completions"}),
    "a path of a model's, and no time": text_of({**PROBED, "path": "/v1/messages", "status": 500}),
    "Docker's": text_of({"log": "x\n", "stream": "stdout", "time": "2026-01-01T00:00:00Z"}),
    "CRI's": b"2026-01-01T00:00:00Z stdout F " + text_of(APPLICATION),
    "CRI's request": b"2026-01-01T00:00:00Z stderr F " + text_of(REQUEST),
    "CRI's part": b"2026-01-01T00:00:00Z stdout P " + text_of(REQUEST)[:9] + b"\n",
    "a bracket alone": b"{\n",
    "a square bracket alone": b"[\r\n",
    "a printed record": json.dumps(REQUEST, indent=2).encode() + b"\n",
    "a printed list": json.dumps([REQUEST, APPLICATION], indent=2).encode() + b"\n",
    "an element of a list": text_of(REQUEST).replace(b"}}\n", b"}},\n"),
    "nothing": b"\n",
    "space": b" \t \r\n",
    "a vertical tab": b"\x0b\n",
}
for number, bare in enumerate(
    b"12|-1|1.5|1e5|0|01|-|--|- x|1.|1.2.3|1.2.3.4 - - x|12:30 x|12 x|12-1|2026-01-01|1x|1e|1E+|1.5e3 x|true|false|"
    b"null|truely|nul|t|fine|nothing|t=1 l=x|[|[1]|[1-2]|[1, 2]|[x]|[true]|[t]|[INFO] x|[]|[[]]|[12:30]|[-1]|[1]x|"
    b'"x"|"x|}|]|},|,|:|#|\xff|\xef|\xbb x|\xef\xbb\xbf12|\xef\xbb\xbfx|\0x|\0 12| 12| x|\tat x()|  {| [1]| - x|'
    b"NaN|Infinity|-Infinity|-x|2026-01-01T00:00:00Z|2026-01-01T00:00:00Z stdout|2026-01-01T00:00:00Z stdout F|"
    b"2026-01-01T00:00:00Z  stdout F x|2026-01-01T00:00:00Z stdout F x|2026-01-01T00:00:00Z stdout F {|2026-01-01Tx".split(
        b"|"
    )
):
    HOSTILE[f"bare {number}: {bare!r}"] = bare + b"\n"
    HOSTILE[f"bare {number} with a carriage return"] = bare + b"\r\n"


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_line_that_looks_like_noise_counts_as_what_it_is(line: bytes) -> None:
    noisy = text_of(APPLICATION, TYPED, PROBED) + TEXT
    both(
        LESSON,
        line,
        line + LESSON[:2000].rpartition(b"\n")[0] + b"\n",
        noisy * 9 + line + noisy + line + text_of(REQUEST) + noisy + TEXT,
        (text_of(REQUEST) + line + noisy) * 3,
    )


def test_noise_in_a_record_that_is_printed_over_lines_is_not_passed_over() -> None:
    printed = json.dumps(REQUEST, indent=2).encode() + b"\n"
    first, rest = printed[:2], printed[2:]
    for between in (TEXT, text_of(APPLICATION), b"  " + TEXT, b"\n", b"  " + text_of(APPLICATION)):
        both(LESSON, TEXT + first + between + rest + TEXT, first, TEXT, rest, TEXT * 3)


def in_cri(text: bytes, stream: bytes = b"stdout") -> bytes:
    return re.sub(rb"(?m)^(?=.*\n)", b"2026-01-01T00:00:00.000000001Z " + stream + b" F ", text)


def in_docker(text: bytes) -> bytes:
    return b"".join(
        text_of(
            {
                "log": line.decode(errors="replace"),
                "stream": "stdout",
                "time": "2026-01-01T00:00:00Z",
            }
        )
        for line in text.splitlines(keepends=True)
    )


@pytest.mark.parametrize("wrap", [in_cri, in_docker])
def test_noise_is_passed_over_in_its_wrapper(wrap: Callable[[bytes], bytes]) -> None:
    wrapped = wrap(LESSON)
    run = both(*[wrapped] * 4)

    assert run.tells_by_bytes
    assert run.sidecar.health.lines["ignored"] == 4 * 120
    assert run.sidecar.health.lines["not_json"] == 4 * 40
    assert run.sidecar.health.lines["request"] == 4 * 40
    noisy = wrap(text_of(APPLICATION, TYPED, PROBED) + TEXT)
    for line in HOSTILE.values():
        both(
            wrapped,
            wrapped,
            noisy * 9 + wrap(line) + noisy + wrap(text_of(REQUEST) + line) + noisy,
            noisy * 9 + line + noisy + wrap(text_of(REQUEST)) + noisy,
            in_cri(line, b"stderr") + noisy,
            noisy,
        )


FILES = sorted(
    path
    for folder in (SAMPLES, GOLDEN, CORPUS)
    for path in folder.rglob("*")
    if path.is_file()
    and path.suffix not in (".py", ".md", ".dict")
    and not path.name.startswith("EXPECTED")
    and not path.name.endswith(".expected.json")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_sample_is_counted_alike_among_noise(path: Path) -> None:
    data = path.read_bytes()
    data += b"" if data.endswith(b"\n") else b"\n"
    lines = data.splitlines(keepends=True)[:300]
    among = b"".join(line + TEXT + text_of(APPLICATION) for line in lines)
    # alone, many times: then its own lines are those that are learnt
    both(LESSON, b"".join(lines), among, b"".join(lines))
    both(*[b"".join(lines * (1 + 64 // len(lines)))] * 3)


KEYS = [
    *[
        "ts",
        "level",
        "logger",
        "msg",
        "message",
        "type",
        "event",
        "data",
        "path",
        "url",
        "host",
        "status",
        "duration_ms",
        "model",
        "error",
        "usage",
        "log",
    ],
    *[
        "request",
        "response",
        "body",
        "attributes",
        "resource",
        "object",
        "session_id",
        "name",
        "llm",
        "records",
        "payload",
        "done",
    ],
]
TELLING = [
    *("", "x", "[", " [", "{", '{"usage":{"prompt_tokens":1}}', "gpt-4o", "openai", "assistant"),
    *("/v1/chat/completions", "https://api.openai.com/v1/responses", "200", "1.5s", "llm_call"),
    *("message", "response.completed", "chat.completion", "trace.span", "LiteLLM", "context.x"),
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(TELLING),
    st.text(max_size=6),
)
RECORDS = st.dictionaries(
    st.sampled_from(KEYS),
    st.one_of(
        LEAVES,
        st.dictionaries(st.sampled_from(KEYS), LEAVES, max_size=3),
        st.lists(LEAVES, max_size=3),
    ),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(RECORDS, min_size=1, max_size=3),
    st.lists(RECORDS, max_size=3),
    st.randoms(),
    st.data(),
)
def test_lines_of_any_application_are_counted_alike_however_they_are_cut(
    kinds: list[dict[str, Any]],
    others: list[dict[str, Any]],
    rnd: random.Random,
    data: st.DataObject,
) -> None:
    """Each kind with other values, among requests, text and other lines."""
    lines = [
        text_of(with_other_values(rnd.choice(kinds), rnd) if rnd.random() < 0.8 else REQUEST)
        for _ in range(200)
    ] + [text_of(other) for other in others] * 3
    rnd.shuffle(lines)
    text = b"".join(lines)
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    both(
        text_of(*kinds) * 70 + TEXT,
        *[text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)],
        text,
    )


def with_other_values(value: Any, rnd: random.Random) -> Any:
    """Give the value with other texts and numbers, of the same kinds."""
    if isinstance(value, dict):
        return {key: with_other_values(one, rnd) for key, one in value.items()}
    if isinstance(value, list):
        return [with_other_values(one, rnd) for one in value]
    if isinstance(value, bool):
        return rnd.random() < 0.5
    if isinstance(value, str):
        return rnd.choice([*TELLING, value, value])
    if isinstance(value, (int, float)):
        return rnd.choice([0, 1, 200, 429, 500, 1.5, -1, 1767225600, value])
    return value


def near_misses() -> Iterator[dict[str, Any]]:
    """Give records that are like those of a format: each golden one, also changed, and the ordinary ones."""
    rnd = random.Random(7)
    for record in ORDINARY:
        yield from with_odd_values(record)
    for folder in sorted(GOLDEN.iterdir()):
        for record in golden(folder.name)[:40]:
            yield record
            for _ in range(8):
                yield changed(record, rnd)


def test_what_an_outline_takes_nobody_claims() -> None:
    """Of records like those of every format, with any values: where there is an outline, it is sure."""
    rnd = random.Random(5)
    pipeline = Run().sidecar.pipeline
    sure: dict[bytes, re.Pattern[bytes]] = {}
    taken = 0
    run = Run()
    for record in near_misses():
        line = json.dumps(record).encode()
        found = pipeline._outline(line)
        if found is None or len(found) > 4000:
            continue
        expression = sure.setdefault(found, re.compile(found))
        for one in (line, *(json.dumps(with_other_values(record, rnd)).encode() for _ in range(6))):
            if not expression.fullmatch(one):
                continue
            taken += 1
            before = run.sidecar.health.lines["ignored"]
            run.feed(one + b"\n", whole=False)
            assert run.sidecar.health.lines["ignored"] == before + 1, one
    assert len(sure) > 100
    assert taken > 500
    assert run.figures[0]["series"] == []


@pytest.mark.parametrize(
    ("keys", "is_passed"),
    [
        (None, False),
        ({"logger"}, False),
        ({"loggers"}, True),
        ({"logger": dict, "http": list}, True),
        ({"http": dict}, False),
        ({"logger": {"app.llm"}}, True),
        ({"logger": {"app.http"}}, False),
        ({"logger": lambda name: name == "app.llm"}, True),
        ({"logger": lambda name: name != "app.llm"}, False),
        ({"http": object}, False),
    ],
)
def test_a_strangers_parser_is_asked_whenever_its_keys_may_want_a_line(
    keys: Any, is_passed: bool
) -> None:
    def parse(record: dict[str, Any], memory: dict[str, Any], /) -> Any:
        return None

    if keys is not None:
        parse.keys = keys  # type: ignore[attr-defined] # a function's own attribute
    run = Run()
    run.sidecar.pipeline.use(
        [Installed("acme", parse, is_ours=False), *plugins.load(["auto"], {})], [run.source]
    )
    run.feed((text_of(APPLICATION) + TEXT) * 80)

    assert run.tells_by_bytes
    assert passed(run, text_of(APPLICATION) + TEXT) == [is_passed, True]
    if isinstance(keys, dict):
        # another value at such a key is another outline
        assert (
            not is_passed
            or "logger" not in keys
            or keys["logger"] is dict
            or not any(passed(run, text_of({**APPLICATION, "logger": "app.llm"})))
        )


@pytest.mark.parametrize(
    ("table", "line", "is_passed"),
    [
        ({"when": {"logger": True}, "model": "m"}, APPLICATION, False),
        ({"when": {"http.status": True}, "model": "m"}, APPLICATION, False),
        ({"when": {"http.error": True}, "model": "m"}, APPLICATION, True),
        ({"when": {"http.tags.1": True}, "model": "m"}, APPLICATION, False),
        ({"when": {"http.tags.2": True}, "model": "m"}, APPLICATION, True),
        ({"when": {"http.tags.1": [7]}, "model": "m"}, APPLICATION, False),
        ({"when": {"level": "llm"}, "model": "m"}, APPLICATION, True),
        ({"when": {"level": "info"}, "model": "m"}, APPLICATION, False),
        ({"when": {"http.status": [200, 201]}, "model": "m"}, APPLICATION, False),
        ({"when": {"http.status": [201]}, "model": "m"}, APPLICATION, True),
    ],
)
def test_a_users_table_is_asked_whenever_it_may_want_a_line(
    table: dict[str, Any], line: dict[str, Any], is_passed: bool
) -> None:
    theirs = compile_table(Table.from_toml("acme", table))
    run = both((text_of(line) + TEXT) * 80, text_of(line) + TEXT, tables={"acme": theirs})
    assert run.tells_by_bytes
    assert passed(run, text_of(line)) == [is_passed]
    both(
        (text_of(line) + TEXT) * 80,
        *(
            text_of({**line, "level": level, "http": {**line["http"], "status": status}})
            for level in ("info", "llm", "x")
            for status in (200, 201, 7, "201", True)
        ),
        tables={"acme": theirs},
    )


@pytest.mark.parametrize(
    ("class_", "text"),
    [(noise._PLAIN.replace(b"z|", b"z{|"), "{"), (noise._PLAIN.replace(b"[ ", b"[\\x01 "), "\x01")],
)
def test_these_tests_would_see_a_wider_class_of_texts(class_: bytes, text: str) -> None:
    """A text with a bracket, or with a control character, is not one that an outline takes."""
    line = text_of(APPLICATION).replace(b"app.http", text.encode())
    found = noise.outline(text_of(APPLICATION), frozenset(), envelopes.OPENED)
    assert found is not None
    assert not re.fullmatch(found + b"\n", line)
    assert re.fullmatch(found.replace(noise._PLAIN, class_) + b"\n", line)

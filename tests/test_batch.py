"""Counting many lines at once gives what counting them one by one gives: on every sample, on records changed at random."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers import generic
from sidecar.config import Config
from sidecar.daemon import Sidecar
from sidecar.pipeline import Source
from sidecar.request import Request

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
GOLDEN = Path(__file__).parent / "golden"

LINE: dict[str, Any] = {
    "ts": "2026-01-01T00:00:00.037Z",
    "provider": "openai",
    "model": "gpt-4o",
    "status_code": 200,
    "latency_ms": 224.8,
    "ttft_ms": 20,
    "usage": {
        "prompt_tokens": 661,
        "completion_tokens": 264,
        "prompt_tokens_details": {"cached_tokens": 128},
    },
    "finish_reason": "stop",
    "trace_id": "abc",
}
SHOWN = 24
"""How often a shape comes before it is surely known."""
FAILED: dict[str, Any] = {**LINE, "status_code": 429, "error": {"type": "rate_limit_error"}}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Other tests have shown the parser more shapes than it keeps."""
    generic.parse.compiled.forget()  # type: ignore[attr-defined] # a function's own attribute


class Run:
    """A sidecar without files, fed by hand."""

    def __init__(self, *, at_once: bool, **config: Any) -> None:
        def observe(request: Request, parser: str) -> None:
            """Nobody counts at once where every request is looked at."""

        self.sidecar = Sidecar(
            Config(log_paths=(), **config), version="test", observe=None if at_once else observe
        )
        self.source = Source("test")

    def feed(self, text: bytes, *, whole: bool = True) -> Run:
        if whole:
            self.sidecar.pipeline.feed_whole(self.source, text)
        else:
            self.sidecar.pipeline.feed(self.source, text.split(b"\n")[:-1])
        return self

    @property
    def figures(self) -> tuple[Any, Any, Any]:
        store = self.sidecar.store.dump()
        store["series"].sort(key=lambda one: one[0])
        return store, dict(self.sidecar.health.lines), dict(self.sidecar.health.requests)

    @property
    def counts_at_once(self) -> bool:
        batch = self.source.batch
        return batch is not None and batch.renew(b"")


def text_of(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def both(*texts: bytes, **config: Any) -> Run:
    """Feed texts in three ways, hold the figures against each other, give the run that counts at once."""
    for schemas in (("ai_api", "gen_ai"), ("ai_api",)):
        runs = [Run(at_once=way, schemas=schemas, **config) for way in (True, True, False)]
        for text in texts:
            for run, whole in zip(runs, (True, False, True), strict=True):
                run.feed(text, whole=whole)
        assert runs[0].figures == runs[2].figures
        assert runs[1].figures == runs[2].figures
    return runs[0]


def shown(*more: dict[str, Any]) -> list[bytes]:
    """Give texts after which the shapes of all records are known."""
    return [text_of(LINE, FAILED, *more)] * SHOWN


def test_lines_of_known_shapes_are_counted_at_once() -> None:
    run = both(*shown())

    assert run.counts_at_once
    assert run.sidecar.health.lines["request"] == 2 * SHOWN


def test_a_loop_is_written_for_all_the_shapes_that_came_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidecar.batch.LINES_BEFORE_WRITTEN", 100)

    run = both(*shown())
    assert not run.source.batch._is_written  # type: ignore[union-attr]
    run = both(*shown(), *shown(), text_of(LINE, FAILED))

    assert run.counts_at_once
    assert run.source.batch.records(text_of(LINE, FAILED)) is not None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"nobody": "has seen this key"},
        {"latency_ms": "224.8"},
        {"latency_ms": -1},
        {"status_code": "200"},
        {"status_code": True},
        {"status_code": 200.0},
        {"usage": None},
        {"usage": []},
        {"usage": {}},
        {"usage": {"prompt_tokens": 2**64}},
        {"usage": {"prompt_tokens": True}},
        {"usage": {"completion_tokens": 1, "more": {}}},
        {"model": None},
        {"model": 5},
        {"model": "m" * 500},
        {"request_model": "alias"},
        {"response_model": "gpt-4o-2024-08-06"},
        {"response_model": "gpt-4o"},
        {"response_model": "gpt-4o-2024-08-06", "request_model": 5},
        {"model": "x", "usage": None, "latency_ms": None, "status_code": None},
        {"error": "boom"},
        {"error": {"type": "timeout", "message": "m" * 1000}},
        {"error": []},
        {"ts": "0001-01-01T00:00:00Z"},
        {"ts": "2026-01-01T00:00:00.123456789Z"},
        {"ts": "2026-01-01T00:00:00"},
        {"ts": 1767225600},
        {"ts": None},
        {"trace_id": "t" * 200},
        {"finish_reason": "length"},
        {"ttft_ms": 500},
    ],
    ids=str,
)
def test_a_line_that_differs_is_read_as_ever(changed: dict[str, Any]) -> None:
    odd = text_of({**LINE, **changed})
    for pattern in ([odd], [text_of(LINE), odd, text_of(FAILED)], [odd] * 12):
        both(*shown(), b"".join(pattern), *pattern)


@pytest.mark.parametrize(
    "junk",
    [
        b"\n",
        b"not json\n",
        b"{}\n",
        b"[]\n",
        text_of(LINE)[:-1] + text_of(LINE),
        text_of(LINE)[:-1] + b"\r\n",
        text_of(LINE)[:40] + b"\n" + text_of(LINE)[40:],
        text_of(LINE).replace(b"abc", b"\xff"),
        text_of({**LINE, "prompt": "x"}).replace(b'"x"', b'"\xff"'),
        text_of({**LINE, "prompt": "x"}).replace(b'"x"', b"1e999"),
        text_of({**LINE, "prompt": "x"}).replace(b'"x"', b"1" * 400),
        text_of({**LINE, "prompt": "x"}).replace(b'"x"', b'"\\ud800"'),
        text_of({**LINE, "prompt": "x"}).replace(b'"x"', b"[" * 900 + b"]" * 900),
        text_of(LINE)[:-2] + b',"model":"twice"}\n',
        b"{\n",
        b"}\n",
        b"2026-01-01T00:00:00Z stdout P {\n",
        b"2026-01-01T00:00:00Z stdout F " + text_of(LINE),
    ],
    ids=lambda junk: str(junk[:40]),
)
def test_what_stands_between_lines_costs_no_neighbour(junk: bytes) -> None:
    prompts = shown({**LINE, "prompt": "x"})
    both(*prompts, junk + text_of(LINE), text_of(LINE) + junk + text_of(LINE), *prompts)


def test_two_records_on_a_line_before_an_empty_one_are_two_requests() -> None:
    """Two writers whose newlines came late. Which of the lines is called ignored is not worth a look at each."""
    late = text_of(LINE)[:-1] + b" " + text_of(LINE) + b"\n"
    for at_once in (True, False):
        run = Run(at_once=at_once)
        for text in [*shown(), late]:
            run.feed(text)
        assert run.sidecar.health.requests == {"generic": 2 * SHOWN + 2}
        assert sum(run.sidecar.health.lines.values()) == 2 * SHOWN + 2


def wrapped_by_cri(text: bytes) -> bytes:
    return b"".join(
        b"2026-01-01T00:00:00.000000001Z stdout F " + line + b"\n"
        for line in text.split(b"\n")[:-1]
    )


def wrapped_by_docker(text: bytes) -> bytes:
    return text_of(
        *(
            {"log": line.decode() + "\n", "stream": "stdout", "time": "2026-01-01T00:00:00Z"}
            for line in text.split(b"\n")[:-1]
        )
    )


@pytest.mark.parametrize("wrap", [wrapped_by_cri, wrapped_by_docker])
def test_wrapped_lines_are_counted_at_once(wrap: Any) -> None:
    run = both(*map(wrap, shown()), wrap(text_of(LINE)) + text_of(LINE), wrap(text_of(LINE)))

    assert run.counts_at_once
    assert run.sidecar.health.lines["request"] == 2 * SHOWN + 3


def test_extra_labels_are_counted_at_once() -> None:
    teams = [text_of({**LINE, "team": team, "who": {"id": 7}}) for team in ("a", "b", "", "a")]
    run = both(*teams * SHOWN, text_of(LINE), labels={"team": "team", "who": "who.id", "no": "no"})

    assert run.counts_at_once
    assert {series.labels[6:] for series in run.sidecar.store.series} == {
        ("a", "7", "unknown"),
        ("b", "7", "unknown"),
        ("unknown", "7", "unknown"),
        ("unknown", "unknown", "unknown"),
    }


def test_the_model_asked_for_is_counted_at_once() -> None:
    lines = [
        text_of({**LINE, "model": asked, "response_model": answered})
        for asked in ("fast", "good")
        for answered in ("gpt-4o", "good")
    ]
    run = Run(at_once=True, schemas=("gen_ai",))
    for text in lines * SHOWN:
        run.feed(text)

    assert run.counts_at_once
    assert sorted(
        (one.labels[1], one.labels[6], one.count) for one in run.sidecar.store.series
    ) == [
        ("good", "", SHOWN),
        ("good", "fast", SHOWN),
        ("gpt-4o", "fast", SHOWN),
        ("gpt-4o", "good", SHOWN),
    ]
    both(*lines * 8)


def test_lines_with_their_keys_in_another_order_each_time_are_counted_at_once() -> None:
    order = random.Random(5)
    lines = [
        {key: record[key] for key in order.sample([*record], len(record))}
        for record in [LINE, FAILED] * 40
    ]

    run = both(*[text_of(*lines[at : at + 4]) for at in range(0, len(lines), 4)])

    assert run.source.batch is not None
    assert run.source.batch.records(text_of(*lines)) is not None


def test_lines_with_keys_that_never_come_again_are_read_as_ever() -> None:
    new = [{**LINE, f"key {number}": number} for number in range(60)]
    inside = [{**LINE, "usage": {**LINE["usage"], f"key {number}": 1}} for number in range(60)]

    run = both(text_of(*new), text_of(*inside), text_of(LINE, *new, FAILED, *inside))

    assert run.sidecar.health.lines["request"] == 242


def test_values_of_another_type_than_at_first_are_soon_counted_at_once() -> None:
    odd = text_of({**LINE, "latency_ms": "224.8ms"})

    run = both(*shown(), *[odd, text_of(LINE)] * 8)

    assert run.source.batch is not None
    assert run.source.batch.renew(b"")
    assert run.source.batch.records(odd + text_of(LINE)) is not None


def test_errors_whose_words_never_come_again_are_of_one_series_and_counted_at_once() -> None:
    said = [
        {**FAILED, "error": {"type": "rate_limit_error", "message": f"{number} " * number}}
        for number in range(1, 200)
    ]

    run = both(text_of(*said[:9]), text_of(*said), text_of(*said))

    assert run.source.batch is not None
    # the cell of each series once
    assert sum(map(len, run.source.batch._cells.values())) == 1


def test_what_comes_after_the_cap_is_counted_as_such() -> None:
    models = [text_of({**LINE, "model": f"m{number}"}) for number in range(40)]

    assert both(*shown(), *models, *models, max_series=10).sidecar.store.overflow > 0


def test_new_prices_hold_for_lines_of_shapes_known_before(tmp_path: Path) -> None:
    run = Run(at_once=True, prices={"models": {"gpt-4o": {"input": 1, "output": 1}}})
    for text in shown():
        run.feed(text)
    assert run.counts_at_once
    before = run.sidecar.store.series[0].cost_input
    run.sidecar.use(
        Config(log_paths=(), prices={"models": {"gpt-4o": {"input": 2, "output": 1}}}), 0.0
    )
    for text in shown():
        run.feed(text)

    assert run.counts_at_once
    assert run.sidecar.store.series[0].cost_input == 3 * before


def test_a_users_table_is_asked_before_lines_like_its_own_are_counted_at_once(
    tmp_path: Path,
) -> None:
    from sidecar import Table, compile_table

    theirs = compile_table(
        Table.from_toml("acme", {"when": {"level": "llm"}, "model": {"const": "acme"}})
    )
    lines = text_of({**LINE, "level": "info"}, {**LINE, "level": "llm"}) * 20
    run = both(lines, lines, tables={"acme": theirs})

    assert run.sidecar.health.requests == {"acme": 40, "generic": 40}


LEARNT = text_of(*[{**LINE, "level": "info", "user": "a", "stream": True, "n": 1}] * 70)
"""After lines of known shapes: so many that what values their fields have is learnt."""


@pytest.mark.parametrize(
    "value", [None, True, False, 0, 5, -1, 2**70, 1.5, "", "info", "é", "x" * 100, [], {}, "\ud800"]
)
@pytest.mark.parametrize("key", ["level", "user", "stream", "n", "model", "finish_reason", "ts"])
def test_a_value_that_was_never_there_is_read_as_ever(key: str, value: Any) -> None:
    line = {**LINE, "level": "info", "user": "a", "stream": True, "n": 1}
    odd = text_of(*[line] * 69, {**line, key: value})
    both(*[text_of(line, FAILED)] * SHOWN, LEARNT, odd, odd, LEARNT)


def test_bytes_that_are_no_utf_8_may_stand_where_words_were_learnt() -> None:
    line = {**LINE, "level": "info", "user": "a", "stream": True, "n": 1}
    odd = LEARNT.replace(b'"info"', b'"\xff"', 1)
    run = both(*[text_of(line)] * SHOWN, LEARNT, odd, odd, LEARNT)

    assert run.sidecar.health.lines["request"] == SHOWN + 4 * 70


def test_new_words_without_end_are_read_as_ever() -> None:
    texts = [
        text_of(*[{**LINE, "model": f"m{round_}", "user": f"u{round_}{n}"} for n in range(70)])
        for round_ in range(80)
    ]
    run = both(*[text_of({**LINE, "user": "a"})] * SHOWN, *texts)

    assert run.sidecar.health.lines["request"] == SHOWN + 80 * 70


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["openai", "gpt-4o", "200", "2026-01-01T00:00:01Z", "1.5s"]),
    st.dictionaries(st.sampled_from(["type", "prompt_tokens"]), st.integers(0, 9), max_size=2),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=150)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([*LINE, "error", "cost_usd", "cost", "response_model"]), VALUES
        ),
        max_size=8,
    )
)
def test_records_changed_at_random_are_counted_alike(changes: list[dict[str, Any]]) -> None:
    odd = [{**LINE, **change} for change in changes]
    both(*shown(), text_of(*odd), text_of(LINE, *odd, *odd, *odd, FAILED), text_of(*odd))
    many = text_of(*[LINE] * 70, *odd)
    both(*shown(), text_of(*[LINE] * 70), many, many)


FILES = sorted(
    path
    for folder in (SAMPLES, GOLDEN)
    for path in folder.rglob("*")
    if path.suffix in (".jsonl", ".log", ".json")
    and not path.name.startswith("EXPECTED")
    and not path.name.endswith(".expected.json")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_sample_is_counted_alike(path: Path) -> None:
    data = path.read_bytes()
    data += b"" if data.endswith(b"\n") else b"\n"
    both(*[data] * 6)

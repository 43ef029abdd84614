"""Each line ends in exactly one result, whatever it is wrapped in and whoever reads it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar import Memory, ParseError, Record, Request, plugins
from sidecar.metrics import Health, Meter
from sidecar.pipeline import Installed, Pipeline, Source
from sidecar.prices import PriceBook
from sidecar.series import Store

LINE = {
    "ts": "2026-01-01T00:00:00Z",
    "provider": "openai",
    "model": "gpt-4o",
    "endpoint": "/v1/chat/completions",
    "status_code": 200,
    "latency_ms": 120.5,
    "usage": {"prompt_tokens": 10, "completion_tokens": 3},
}
TEXT = json.dumps(LINE)
BOOK = PriceBook()


class Run:
    """A pipeline and what it has counted."""

    def __init__(self, parsers: Sequence[Installed] | None = None, **options: Any) -> None:
        self.health = Health()
        labels = options.get("labels", ())
        self.store = Store(2000, tuple(f"extra{number}" for number in range(len(labels))))
        self.told: list[Request] = []
        self.pipeline = Pipeline(
            parsers if parsers is not None else plugins.load(["auto"], {}),
            Meter(self.store, BOOK),
            self.health,
            **options,
        )
        self.source = Source("app.log")

    def feed(self, *lines: str | bytes) -> Run:
        self.pipeline.feed(
            self.source, [line.encode() if isinstance(line, str) else line for line in lines]
        )
        return self

    @property
    def results(self) -> dict[str, int]:
        return {result: count for result, count in self.health.lines.items() if count}

    @property
    def tokens(self) -> int:
        return sum(series.input_tokens for series in self.store.series)


def installed(name: str, parse: Callable[[Record, Memory], Sequence[Request] | None]) -> Installed:
    return Installed(name, parse)


WRAPPED = {
    "as it is": [TEXT],
    "with a carriage return": [TEXT + "\r"],
    "behind a byte-order mark": ["\ufeff" + TEXT],
    "CRI": [f"2026-01-01T00:00:00.000000000Z stdout F {TEXT}"],
    "CRI, split, the streams mixed": [
        f"2026-01-01T00:00:00.1Z stdout P {TEXT[:30]}",
        "2026-01-01T00:00:00.1Z stderr P half a ",
        f"2026-01-01T00:00:00.1Z stdout P {TEXT[30:60]}",
        f"2026-01-01T00:00:00.2Z stdout F {TEXT[60:]}",
        "2026-01-01T00:00:00.1Z stderr F warning",
    ],
    "Docker": [
        json.dumps({"log": TEXT + "\n", "stream": "stdout", "time": "2026-01-01T00:00:00Z"})
    ],
    "Docker, split": [
        json.dumps({"log": TEXT[:40], "stream": "stdout", "time": "2026-01-01T00:00:00Z"}),
        json.dumps({"log": TEXT[40:] + "\n", "stream": "stdout", "time": "2026-01-01T00:00:00Z"}),
    ],
    "pretty-printed": json.dumps(LINE, indent=2).split("\n"),
    "pretty-printed in CRI": [
        f"2026-01-01T00:00:00.1Z stdout F {line}" for line in json.dumps(LINE, indent=2).split("\n")
    ],
    "an array": [json.dumps([LINE])],
    "an array over lines": ["[", TEXT, "]"],
    "a pretty-printed array": json.dumps([LINE], indent=4).split("\n"),
    "JSON text in a message": [json.dumps({"level": "info", "message": TEXT})],
    "an object of a shipper": [
        json.dumps({"log_processed": LINE, "kubernetes": {"pod_name": "a"}})
    ],
    "Cloud Logging": [
        json.dumps({"jsonPayload": LINE, "severity": "INFO", "timestamp": "2026-01-01T00:00:00Z"})
    ],
    "journald, as bytes": [
        json.dumps({"MESSAGE": list(TEXT.encode()), "__REALTIME_TIMESTAMP": "1"})
    ],
    "CloudWatch": [
        json.dumps({"messageType": "DATA_MESSAGE", "logEvents": [{"id": "1", "message": TEXT}]})
    ],
    "three deep": [json.dumps({"log": json.dumps({"message": json.dumps({"data": LINE})})})],
}


@pytest.mark.parametrize("lines", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("times", [1, 20])
def test_a_record_counts_the_same_in_every_wrapper(lines: list[str], times: int) -> None:
    run = Run().feed(*lines * times)

    assert run.tokens == 10 * times
    assert run.results["request"] == times
    assert run.health.requests == {"generic": times}


def test_an_array_of_records_is_one_line_and_all_its_requests() -> None:
    run = Run().feed(json.dumps([LINE, LINE, {"other": 1}]))

    assert (run.results, run.tokens) == ({"request": 1}, 20)


NO_REQUESTS = {
    "text": ("Traceback (most recent call last):", {"not_json": 1}),
    "blank": ("", {"ignored": 1}),
    "number": ("42", {"ignored": 1}),
    "another record": ('{"level":"info","msg":"listening"}', {"ignored": 1}),
    "half a record": (TEXT[:50], {"not_json": 1}),
    "no UTF-8": (b'{"model":"\xff"}', {"ignored": 1}),
    "10 000 levels": ('{"a":' * 10_000 + "1" + "}" * 10_000, {"not_json": 1}),
    "not a number": ('{"model":"m","status":200,"latency_ms":NaN}', {"not_json": 1}),
}


@pytest.mark.parametrize(("line", "expected"), NO_REQUESTS.values(), ids=NO_REQUESTS)
def test_what_is_no_request_costs_its_neighbours_nothing(
    line: str | bytes, expected: dict[str, int]
) -> None:
    run = Run().feed(TEXT, line, TEXT, TEXT)

    assert run.results == {"request": 3, **expected}
    assert run.tokens == 30


@pytest.mark.parametrize("opener", ["{", "["])
def test_a_bracket_that_stands_alone_takes_no_line_with_it(opener: str) -> None:
    run = Run().feed(TEXT, opener, TEXT, "}", TEXT)

    assert run.tokens == 30
    assert run.results["request"] == 3


def test_a_pretty_printed_record_without_end_stays_bounded() -> None:
    run = Run(max_line_bytes=1000).feed("{", *['  "a": 1,'] * 1000)

    assert run.source.printed_bytes <= 1000
    assert run.results["too_long"] == 1


def test_a_split_line_without_end_stays_bounded() -> None:
    run = Run(max_line_bytes=1000)

    for _ in range(1000):
        run.feed("2026-01-01T00:00:00.1Z stdout P " + "x" * 100)
        assert sum(map(len, run.source.fragments["stdout"])) <= 1100

    assert run.feed("2026-01-01T00:00:00.1Z stdout F x", TEXT).results["too_long"] == 1


def test_a_parser_with_a_bug_costs_its_line_and_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def parse(record: Record, memory: Memory) -> Sequence[Request] | None:
        raise KeyError(record["secret"])

    run = Run([installed("broken", parse)])
    with caplog.at_level(logging.ERROR, "ai_sidecar"):
        run.feed(*['{"secret":"x"}'] * 3)

    assert run.results == {"plugin_error": 3}
    assert len(caplog.records) == 1
    assert "broken" in caplog.text


@pytest.mark.parametrize(
    "request_",
    [Request(input_tokens="5"), Request(model=None), Request(duration_seconds=-1.0), {}],  # type: ignore[arg-type] # a stranger's bug
)
def test_a_request_that_is_none_is_its_parsers_bug(request_: Any) -> None:
    stranger = Installed("stranger", lambda record, memory: [request_], is_ours=False)

    run = Run([stranger]).feed("{}")

    assert run.results == {"plugin_error": 1}
    assert run.store.series == []


def test_a_broken_record_of_a_known_format_is_malformed() -> None:
    def parse(record: Record, memory: Memory) -> Sequence[Request] | None:
        raise ParseError("no usage")

    assert Run([installed("mine", parse)]).feed("{}").results == {"malformed": 1}


def snapshots(record: Record, memory: Memory) -> Sequence[Request] | None:
    return [
        Request(model="m", id=record["id"], final=record["final"], input_tokens=record["tokens"])
    ]


def snapshot(name: str, tokens: int, *, final: bool = False) -> str:
    return json.dumps({"id": name, "tokens": tokens, "final": final})


def test_the_last_snapshot_of_a_request_wins_also_where_figures_go_down() -> None:
    run = Run([installed("s", snapshots)])
    run.feed(snapshot("a", 1), snapshot("a", 50), snapshot("a", 30, final=True))

    assert (run.tokens, run.results) == (30, {"superseded": 2, "request": 1})


def test_a_held_request_counts_when_another_id_comes_or_at_the_end() -> None:
    run = Run([installed("s", snapshots)])
    run.feed(snapshot("a", 1), snapshot("b", 2))

    assert run.tokens == 1
    run.pipeline.finish(run.source, None)
    assert (run.tokens, run.results) == (3, {"request": 2})


def test_an_id_that_was_counted_is_not_counted_again_from_another_file() -> None:
    run = Run([installed("s", snapshots)])
    run.feed(snapshot("a", 5, final=True))
    other = Source("copy.log")
    run.pipeline.feed(other, [snapshot("a", 5, final=True).encode()])

    assert (run.tokens, run.results) == (5, {"request": 1, "repeat": 1})


def test_an_extra_label_is_read_from_the_record() -> None:
    run = Run(labels=("metadata.team",))
    run.feed(json.dumps({**LINE, "metadata": {"team": "search"}}), TEXT)

    assert [series.labels[-1] for series in run.store.series] == ["search", "unknown"]


def test_a_line_at_the_end_of_a_file_counts_only_when_it_is_whole() -> None:
    run = Run()
    run.pipeline.finish(run.source, TEXT.encode())
    run.pipeline.finish(run.source, TEXT[:-5].encode())

    assert (run.tokens, run.results) == (10, {"request": 1, "not_json": 1})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80), json_values.map(lambda value: json.dumps(value).encode())
        ),
        max_size=20,
    )
)
def test_every_line_ends_in_one_result_and_no_neighbour_is_lost(lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    run = Run()
    for line in lines:
        run.feed(line)
        run.pipeline.finish(run.source, None)
        run.feed(TEXT)

    assert run.tokens == 10 * len(lines)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([*LINE, "error", "cost_usd", "x"]), json_values, max_size=8
        ),
        max_size=12,
    )
)
def test_reading_from_the_bytes_gives_what_reading_the_record_gives(
    changes: list[dict[str, Any]],
) -> None:
    """The same lines through a pipeline that reads known shapes at once, and one that never does."""
    lines = [TEXT] * 8 + [json.dumps({**LINE, **change}) for change in changes for _ in range(3)]
    at_once = Run().feed(*lines)
    general = Run(observe=lambda request, parser: None).feed(*lines)

    assert general.health.lines == at_once.health.lines
    assert general.store.dump() == at_once.store.dump()


# what hostile lines have taught


def test_a_whole_number_of_hundreds_of_digits_costs_its_own_field_alone() -> None:
    """Read at once or the general way: after a restart the same line is counted as before it."""
    line, huge = (TEXT[:-1] + ', "x": ' + digits + "}" for digits in ("1", "1" * 400))
    latency = TEXT.replace('"latency_ms": 120.5', '"latency_ms": ' + "1" * 400)
    lines = [*[line] * 20, huge, latency]
    at_once = Run().feed(*lines)
    general = Run(observe=lambda request, parser: None).feed(*lines)

    assert at_once.results == general.results == {"request": 22}
    assert at_once.store.dump() == general.store.dump()


@pytest.mark.parametrize("line", ["{" + "," * 100_000, "{}" + "," * 100_000])
def test_commas_without_end_are_one_line_that_is_no_json(line: str) -> None:
    assert Run().feed(line, TEXT).results == {"not_json": 1, "request": 1}


def test_a_pretty_printed_record_is_one_line() -> None:
    run = Run().feed(*json.dumps(LINE, indent=2).split("\n"))

    assert run.results == {"request": 1}


def test_each_line_of_what_only_began_like_a_pretty_printed_record_has_one_result() -> None:
    run = Run().feed("{", '  "a": 1,', '  "b": 2,', TEXT, "{", "  1")
    run.pipeline.finish(run.source, None)

    assert run.results == {"ignored": 2, "not_json": 3, "request": 1}


def test_a_pretty_printed_record_at_the_end_of_a_file_needs_no_newline() -> None:
    *lines, last = json.dumps(LINE, indent=2).split("\n")
    run = Run().feed(*lines)
    run.pipeline.finish(run.source, last.encode())

    assert (run.results, run.tokens) == ({"request": 1}, 10)


def test_blank_lines_in_a_pretty_printed_record_without_end_stay_bounded() -> None:
    run = Run(max_line_bytes=1000).feed("{", *[""] * 5000)

    assert len(run.source.printed) <= 1000
    assert run.results["too_long"] == 1


def test_a_split_line_of_empty_parts_without_end_stays_bounded() -> None:
    run = Run().feed(*["2026-01-01T00:00:00.1Z stdout P "] * 5000)

    assert len(run.source.fragments["stdout"]) <= 1000


def test_a_split_line_that_is_too_long_has_one_result_at_the_end_of_a_file_too() -> None:
    run = Run(max_line_bytes=1000).feed(*["2026-01-01T00:00:00.1Z stdout P " + "x" * 600] * 3)
    run.pipeline.finish(run.source, None)

    assert run.results == {"too_long": 1}


def test_streams_of_any_name_are_no_docker_streams() -> None:
    """Else each would want a buffer for its unfinished line."""
    run = Run().feed(
        *[json.dumps({"log": "x", "stream": f"s{number}", "time": "t"}) for number in range(100)]
    )

    assert run.source.fragments == {}
    assert run.results == {"ignored": 100}


def test_a_snapshot_in_a_split_line_counts_at_the_end_of_its_file() -> None:
    run = Run([installed("s", snapshots)])
    run.feed("2026-01-01T00:00:00.1Z stdout P " + snapshot("a", 5))
    run.pipeline.finish(run.source, None)

    assert (run.tokens, run.results) == (5, {"request": 1})


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([["a", False], ["a", True]], {"request": 1}),
        ([["a", False], ["b", False]], {"request": 1}),
        ([["a", False], ["b", True]], {"request": 1}),
        ([["old", True], ["a", False], ["old", True]], {"request": 1}),
        ([["a", False], ["a", False], ["a", False]], {"request": 1}),
    ],
)
def test_a_line_with_several_tellings_of_requests_ends_in_one_result(
    lines: list[Any], expected: dict[str, int]
) -> None:
    run = Run([installed("s", snapshots)])
    run.feed("[" + ",".join([snapshot(name, 1, final=final) for name, final in lines]) + "]")
    run.pipeline.finish(run.source, None)

    assert run.results == expected


def test_what_a_parser_remembers_and_nobody_can_write_is_left_out_of_the_state() -> None:
    def parse(record: Record, memory: Memory) -> Sequence[Request] | None:
        memory[record["name"]] = {1, 2} if record["name"] == "set" else 7
        return []

    run = Run([installed("bad", parse)]).feed('{"name":"set"}')
    assert Source.load(json.loads(json.dumps(run.source.dump()))).memories == {}

    run = Run([installed("good", parse)]).feed('{"name":"number"}')
    assert Source.load(json.loads(json.dumps(run.source.dump()))).memories == {
        "good": {"number": 7}
    }


def test_a_deep_object_that_a_stream_has_told_keeps_no_state_from_being_written() -> None:
    deep = '{"a":' * 300 + "1" + "}" * 300
    run = Run().feed(
        f'{{"type":"message_start","message":{{"model":"m","usage":{{"cache_creation":{deep}}}}}}}'
    )

    assert run.results == {"ignored": 1}
    assert orjson.dumps(run.source.dump())


def test_a_pretty_printed_record_is_read_through_dockers_wrapper_and_a_split_line() -> None:
    printed = json.dumps(LINE, indent=2).split("\n")
    docker = [json.dumps({"log": line + "\n", "stream": "stdout", "time": "t"}) for line in printed]
    cri = [f"2026-01-01T00:00:00.1Z stdout F {line}" for line in printed]
    cri[2:3] = [
        f"2026-01-01T00:00:00.1Z stdout P {printed[2][:5]}",
        f"2026-01-01T00:00:00.1Z stdout F {printed[2][5:]}",
    ]

    for lines in (docker, cri):
        run = Run().feed(*lines)
        assert (run.results, run.tokens) == ({"request": 1}, 10)

"""Parsers written as tables: what a user may say, what is refused and how, and that compiled means the same."""

import gc
from dataclasses import replace
from decimal import Decimal
from types import FunctionType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers import anthropic, bedrock, gemini, generic, openai
from sidecar import Request, Table, compile_table
from sidecar.compiled import MAX_SHAPES, REFUSED_BEFORE_FORGOTTEN
from sidecar.table import essence, looked_at, unit_in_name

ACME: dict[str, Any] = {
    "when": {"kind": "llm_call"},
    "model": "req.model",
    "provider": {"const": "acme"},
    "duration": {"path": "took_ms", "unit": "ms"},
    "input_tokens": ["usage.in", "usage.prompt"],
}


def compiled(table: Table, record: dict[str, Any]) -> Any:
    """Parse a record until its shape has long been compiled; give the last answer."""
    parse = compile_table(table)
    answers = [parse(record, {}) for _ in range(40)]
    assert all(answer == answers[0] for answer in answers)
    return answers[-1]


def test_the_table_of_the_contract_reads_its_line() -> None:
    record = {"kind": "llm_call", "req": {"model": "m"}, "took_ms": 5, "usage": {"prompt": 7}}

    requests = compiled(Table.from_toml("acme", ACME), record)

    assert requests == (
        Request(provider="acme", model="m", duration_seconds=0.005, input_tokens=7),
    )


@pytest.mark.parametrize(
    "record", [{}, {"kind": "other"}, {"kind": ["llm_call"]}, {"kind": None}, {"KIND": "llm_call"}]
)
def test_a_line_without_what_it_needs_is_another_formats(record: dict[str, Any]) -> None:
    assert compiled(Table.from_toml("acme", ACME), record) is None


@pytest.mark.parametrize(
    ("when", "record", "is_mine"),
    [
        ({"a": True}, {"a": 0}, True),
        ({"a": True}, {"a": None}, False),
        ({"a": [True]}, {"a": True}, True),
        ({"a": [True]}, {"a": 1}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": ["x", "y"]}, {"a": "y"}, True),
        ({"a.b": "x"}, {"a": {"b": "x"}}, True),
        ({"a.b": "x"}, {"a.b": "x"}, True),
        ({"a": "x", "b": "y"}, {"a": "x"}, False),
        ({"a.0.b": "x"}, {"a": [{"b": "x"}]}, True),
    ],
)
def test_when_is_a_value_a_list_of_them_or_that_it_is_there(
    when: dict[str, Any], record: dict[str, Any], is_mine: bool
) -> None:
    table = Table.from_toml("t", {"when": when, "model": "model"})

    assert (compiled(table, record) is not None) is is_mine


def test_all_that_a_table_can_say() -> None:
    table = Table.from_toml(
        "full",
        {
            "when": {"kind": "call"},
            "unless": {"test": [True]},
            "needs": ["status|outcome"],
            "provider": {"path": "vendor", "map": {"A": "acme"}},
            "model": ["answered_by", "asked_for"],
            "endpoint": "url",
            "status": "http.status",
            "outcome": "result",
            "error": ["err.code", "err"],
            "duration": "elapsed_us",
            "time_to_first_token": {"path": "first", "unit": "s"},
            "input_excludes_cache": True,
            "input_tokens": {"sum": ["in", "tools"]},
            "cache_read_tokens": "cached",
            "output_excludes_reasoning": True,
            "output_tokens": "out",
            "reasoning_tokens": "thought",
            "cost": {"path": "price", "unit": "cents"},
            "finish_reason": "why",
            "timestamp": "at",
            "trace_id": "trace",
            "id": "uid",
            "final": {"const": False},
            "served_from_cache": "hit",
            "batch_size": {"path": "items", "as": "size"},
        },
    )
    record = {
        "kind": "call",
        "vendor": "A",
        "asked_for": "m",
        "url": "https://x/v1/chat/completions",
        "http": {"status": 503},
        "err": {"code": "slow_down"},
        "elapsed_us": 1500,
        "first": "0.5",
        "in": 10,
        "tools": 5,
        "cached": 100,
        "out": 7,
        "thought": 3,
        "price": "12.5",
        "why": "max_tokens",
        "at": 1767225600,
        "trace": "abc",
        "uid": "u1",
        "hit": False,
        "items": [1, 2, 3],
    }

    assert compiled(table, record) == (
        Request(
            provider="acme",
            model="m",
            endpoint="/chat/completions",
            status_code="503",
            error_type="overloaded",
            duration_seconds=0.0015,
            time_to_first_token_seconds=0.5,
            input_tokens=115,
            cache_read_tokens=100,
            output_tokens=10,
            reasoning_tokens=3,
            cost_usd=Decimal("0.125"),
            finish_reason="length",
            timestamp=1767225600.0,
            trace_id="abc",
            id="u1",
            final=False,
            batch_size=3,
        ),
    )
    assert compiled(table, {**record, "test": True}) is None
    assert compiled(table, {"kind": "call", "asked_for": "m"}) == ()


@pytest.mark.parametrize(
    ("record", "status", "error"),
    [
        ({}, "200", None),
        ({"ok": True}, "200", None),
        ({"ok": False}, "0", "other"),
        ({"status": 404}, "404", "not_found"),
        ({"status": 200, "error": "timeout"}, "200", "timeout"),
        ({"status": 204, "error": ""}, "204", None),
        ({"error": {"type": "overloaded_error"}}, "0", "overloaded"),
    ],
)
def test_a_failure_always_has_a_class_and_a_success_never(
    record: dict[str, Any], status: str, error: str | None
) -> None:
    table = Table.from_toml(
        "t",
        {
            "when": {"k": True},
            "model": "model",
            "status": "status",
            "outcome": "ok",
            "error": "error",
        },
    )

    (request,) = compiled(table, {"k": 1, **record})

    assert (request.status_code, request.error_type) == (status, error)


@pytest.mark.parametrize(
    ("cost", "tokens", "expected"), [(0.0, 5, None), (0, 5, None), (0.0, 0, 0.0), (0.5, 5, 0.5)]
)
def test_a_cost_of_0_beside_tokens_tells_nothing(cost: Any, tokens: int, expected: Any) -> None:
    table = Table.from_toml(
        "t", {"when": {"k": True}, "model": "m", "cost": "cost", "output_tokens": "out"}
    )

    (request,) = compiled(table, {"k": 1, "cost": cost, "out": tokens})

    assert request.cost_usd == expected


def test_what_a_client_answered_from_its_own_cache_has_no_tokens() -> None:
    table = Table.from_toml(
        "t",
        {
            "when": {"k": True},
            "model": "m",
            "cost": "cost",
            "output_tokens": "out",
            "cache_read_tokens": "cached",
            "served_from_cache": "served",
            "cache_hit": "hit",
        },
    )

    assert compiled(table, {"k": 1, "served": True, "out": 5, "cached": 3}) == (
        Request(served_from_cache=True),
    )
    assert compiled(table, {"k": 1, "hit": True, "out": 5, "cost": 0.1}) == (
        Request(served_from_cache=True),
    )
    # Tokens from the provider's cache: it is that one which was hit.
    assert compiled(table, {"k": 1, "hit": True, "out": 5, "cached": 3}) == (
        Request(output_tokens=5, cache_read_tokens=3),
    )


def test_times_make_durations_where_the_log_has_none() -> None:
    table = Table.from_toml(
        "t",
        {"when": {"k": True}, "model": "m", "started": "a", "first_token": "b", "timestamp": "c"},
    )

    (request,) = compiled(table, {"k": 1, "a": 1767225600, "b": 1767225600.5, "c": 1767225602})

    assert (request.duration_seconds, request.time_to_first_token_seconds) == (2.0, 0.5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"when": {}}, "parsers.acme.when: expected what makes a line of this format"),
        ({"when": "llm"}, "parsers.acme.when: expected a table"),
        ({"when": {"kind": []}}, "parsers.acme.when.kind: expected a value"),
        ({"model": []}, "parsers.acme.model: expected at least one path"),
        ({"modle": "x"}, "parsers.acme.modle: expected the name of a field"),
        ({"duration": "took"}, "parsers.acme.duration: expected a unit"),
        (
            {"duration": {"path": "took", "unit": "fortnight"}},
            "parsers.acme.duration: expected a unit",
        ),
        ({"duration_seconds": "took_s"}, "parsers.acme.duration_seconds: is told twice"),
        (
            {"input_tokens": {"path": "a", "unit": "ms"}},
            "parsers.acme.input_tokens.unit: expected no unit",
        ),
        (
            {"input_tokens": {"const": -1}},
            "parsers.acme.input_tokens: a number cannot be a input_tokens",
        ),
        ({"input_tokens": {"pth": "a"}}, "parsers.acme.input_tokens.pth: expected one of path"),
        (
            {"input_tokens": {}},
            "parsers.acme.input_tokens: expected one of path, const, sum, got none",
        ),
        ({"input_tokens": 3}, "parsers.acme.input_tokens: expected a path"),
        ({"input_tokens": "a..b"}, "parsers.acme.input_tokens: expected a path such as a.b"),
        (
            {"input_tokens": {"path": "a", "as": "magic"}},
            "parsers.acme.input_tokens.as: expected one of",
        ),
        ({"needs": ["output_tokens"]}, "parsers.acme.needs: expected fields that the table tells"),
        (
            {"input_excludes_cache": "yes"},
            "parsers.acme.input_excludes_cache: expected true or false",
        ),
    ],
)
def test_a_wrong_table_is_refused_in_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"parsers\.acme") as refused:
        Table.from_toml("acme", {**ACME, **change})

    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


def test_a_table_without_a_model_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"parsers\.acme\.model: expected where the model's name is"
    ):
        Table.from_toml("acme", {"when": {"kind": "x"}})


@given(
    mapping=st.dictionaries(
        st.sampled_from([*ACME, "needs", "unless", "cost", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(["path", "const", "unit", "sum", "map", "as"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=6,
        ),
    )
)
def test_whatever_is_in_the_toml_it_is_a_table_or_a_value_error(mapping: dict[str, Any]) -> None:
    try:
        table = Table.from_toml("x", {**ACME, **mapping})
    except ValueError:
        return
    compiled(table, {"kind": "llm_call", "req": {"model": "m"}})


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("latency_ms", "ms"),
        ("a.latencyMs", "ms"),
        ("durationSeconds", "s"),
        ("duration_s", "s"),
        ("elapsed_us", "us"),
        ("total_duration_ns", "ns"),
        ("latency", None),
        ("status", None),
        ("items", None),
        ("tokens", None),
    ],
)
def test_the_unit_is_in_the_name_or_nowhere(name: str, unit: str | None) -> None:
    assert unit_in_name(name) == unit


TABLES = [generic.LINE, *openai.BODIES, *anthropic.BODIES, *bedrock.BODIES, *gemini.BODIES]
WORDS = sorted(
    {
        key
        for table in TABLES
        for source in table.sources.values()
        for take in source
        for part in getattr(take, "parts", (take,))
        for key in getattr(part, "path", "").split(".")
    }
    | {"object", "type", "role", "done", "error", "code"}
)
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    (
        *(
            None,
            True,
            False,
            0,
            1,
            200,
            429,
            5.5,
            -1,
            2**60,
            [],
            {},
            "",
            "x",
            "429",
            "stop",
            "12ms",
        ),
        *("chat.completion", "message", "gpt-4o", "success", "error", "assistant"),
        *("2026-01-01T00:00:00Z", "/v1/chat/completions"),
    )
)
COMMON = [
    "model",
    "usage",
    "status",
    "latency_ms",
    "error",
    "response",
    "prompt_tokens",
    "input_tokens",
    "provider",
]
KEYS = st.sampled_from(WORDS) | st.sampled_from(
    [*COMMON, "cache_read_input_tokens", "prompt_tokens_details", "llm"]
)
RECORDS = st.dictionaries(
    KEYS,
    st.recursive(
        VALUES,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=5),
        max_leaves=12,
    ),
    max_size=9,
)


@given(record=RECORDS, number=st.integers(0, len(TABLES) - 1))
@settings(max_examples=600, deadline=None)
def test_compiled_and_plain_read_the_same_from_any_record(
    record: dict[str, Any], number: int
) -> None:
    table = TABLES[number]

    assert compiled(table, record) == table.parse(record)


@given(record=RECORDS, number=st.integers(0, len(TABLES) - 1))
@settings(max_examples=600, deadline=None)
def test_what_nobody_looks_at_may_be_left_out(record: dict[str, Any], number: int) -> None:
    table = TABLES[number]

    assert table.parse(essence(record, looked_at([table]))) == table.parse(record)


@given(record=RECORDS, number=st.integers(0, len(TABLES) - 1))
@settings(max_examples=300, deadline=None)
def test_without_its_conditions_too(record: dict[str, Any], number: int) -> None:
    table = replace(TABLES[number], when=(), unless=(), needs=(), bodies=(), body_at=(), inside=())

    assert compiled(table, record) == table.parse(record)


def test_the_functions_kept_are_few_and_what_comes_after_is_read_all_the_same() -> None:
    parse = compile_table(Table.from_toml("shapes", ACME))
    record = {"kind": "llm_call", "req": {"model": "m"}, "took_ms": 5}

    answers = {
        parse({**record, f"other {shape}": 1}, {})
        for shape in range(3 * MAX_SHAPES)
        for _ in range(6)
    }

    written = [
        one
        for one in gc.get_objects()
        if isinstance(one, FunctionType) and "<table shapes>" in one.__code__.co_filename
    ]
    assert len(answers) == 1
    assert 0 < len(written) <= MAX_SHAPES


def test_shapes_that_no_longer_come_make_room_for_those_that_do() -> None:
    table = Table.from_toml("acme", ACME)
    parse = compile_table(table)
    compiled = parse.compiled  # type: ignore[attr-defined] # a function's own attribute
    for number in range(MAX_SHAPES + 1):
        for _ in range(5):
            parse({"kind": "llm_call", f"key{number}": 1}, {})
    assert compiled.shapes == MAX_SHAPES
    new = {"kind": "llm_call", "req": {"model": "m"}, "new": 1}
    for _ in range(REFUSED_BEFORE_FORGOTTEN + 10):
        answer = parse(new, {})

    assert tuple(new) in compiled.takes
    assert answer == table.parse(new)


@pytest.mark.parametrize(
    ("record", "model", "request_model"),
    [
        ({"model": "m"}, "m", None),
        ({"model": "m", "asked": "m"}, "m", None),
        ({"model": "m", "asked": "alias"}, "m", "alias"),
        ({"asked": "alias"}, "alias", None),
    ],
    ids=str,
)
def test_the_model_asked_for_is_told_where_another_one_answered(
    record: dict[str, str], model: str, request_model: str | None
) -> None:
    table = Table.of(
        "acme", {"model": ["model", "asked"], "request_model": ["asked", "model"], "id": "id"}
    )
    parse = compile_table(table)
    for _ in range(12):
        for requests in (parse(record, {}), table.parse(record)):
            assert requests is not None
            assert (requests[0].model, requests[0].request_model) == (model, request_model)

"""What the store keeps, what it gives up when it is full, and that it comes back as it was."""

from __future__ import annotations

import json
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.series import (
    COUNTERS,
    EXEMPLARS,
    EXTRA,
    FINISH_REASON,
    GAUGES,
    GEN_AI_COUNTERS,
    GEN_AI_HISTOGRAMS,
    HISTOGRAMS,
    MAX_LABEL_CHARACTERS,
    MODEL,
    OTHER,
    STATUS_CODE,
    RawLabels,
    Series,
    Store,
    clean,
)

ANY_TEXT = st.text(st.characters(), max_size=200)
COUNTS = st.lists(st.integers(0, 2**70), min_size=3, max_size=3) | st.none()


def labels(
    model: str = "m", endpoint: str = "/chat", *extra: str, provider: str = "p"
) -> RawLabels:
    return (provider, model, endpoint, "200", None, None, *extra)


@st.composite
def stores(draw: st.DrawFn) -> Store:
    store = Store(draw(st.integers(1, 5)), ("team",), for_gen_ai=draw(st.booleans()))
    for _ in range(draw(st.integers(0, 8))):
        asked_for = (draw(ANY_TEXT | st.none()),) if store.for_gen_ai else ()
        series, _ = store.admit(
            (*labels(draw(ANY_TEXT), draw(ANY_TEXT), draw(ANY_TEXT)), *asked_for)
        )
        for name in (*COUNTERS, *(GEN_AI_COUNTERS if store.for_gen_ai else ())):
            setattr(series, name, draw(st.integers(0, 10**45)))
        for name in (*HISTOGRAMS, *(GEN_AI_HISTOGRAMS if store.for_gen_ai else ())):
            setattr(series, name, draw(COUNTS))
        for name in GAUGES:
            setattr(series, name, draw(st.none() | st.integers(0, 2**52)))
        for name in EXEMPLARS:
            exemplar = st.tuples(
                st.text("abc0", max_size=9), st.integers(0, 2**60), st.none() | st.just(1.5)
            )
            setattr(
                series,
                name,
                draw(st.none() | st.dictionaries(st.integers(0, 14), exemplar, min_size=1)),
            )
    store.order = draw(st.integers(0, 2**50))
    return store


def everything(store: Store) -> list[Any]:
    names: tuple[str, ...] = ("labels", *COUNTERS, *HISTOGRAMS, *GAUGES, *EXEMPLARS)
    if store.has_request_models:
        names += (*GEN_AI_COUNTERS, *GEN_AI_HISTOGRAMS)
    return [
        store.overflow,
        store.order,
        [[getattr(one, name) for name in names] for one in store.series],
    ]


@given(stores())
def test_a_store_comes_back_from_json_as_it_was(store: Store) -> None:
    loaded = Store(store.max_series, ("team",), for_gen_ai=store.for_gen_ai)
    loaded.load(json.loads(json.dumps(store.dump())))

    assert everything(store) == everything(loaded)


@given(stores(), st.lists(st.booleans(), max_size=3))
def test_another_schema_loses_nothing_that_was_counted(store: Store, asked: list[bool]) -> None:
    """Of another schema is another store: what it does not serve it keeps."""
    after = store
    for for_gen_ai in [*asked, store.for_gen_ai]:
        before, after = after, Store(store.max_series, ("team",), for_gen_ai=for_gen_ai)
        after.load(json.loads(json.dumps(before.dump())))

    if after.has_request_models and not store.has_request_models:
        for series in after.series:
            assert series.labels[-1] == ""
            series.labels = series.labels[:-1]
        after.has_request_models = False
    assert everything(store) == everything(after)


@given(stores(), st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=8))
def test_a_store_that_came_back_admits_what_the_first_one_would_have(
    store: Store, raw: list[tuple[str, str]]
) -> None:
    loaded = Store(store.max_series, ("team",), for_gen_ai=store.for_gen_ai)
    loaded.load(json.loads(json.dumps(store.dump())))

    for model, endpoint in raw:
        first, second = (one.admit(labels(model, endpoint, "t")) for one in (store, loaded))
        assert (first[0].labels, first[1]) == (second[0].labels, second[1])
    assert store.overflow == loaded.overflow


def test_numbers_that_json_readers_round_are_dumped_as_text() -> None:
    store = Store(10)
    series, _ = store.admit(labels())
    series.duration_ns = 2**64 + 1
    series.cost_total = 10**30 + 1

    loaded = Store(10)
    loaded.load(orjson.loads(orjson.dumps(store.dump())))

    assert loaded.series[0].duration_ns == 2**64 + 1
    assert loaded.series[0].cost_total == 10**30 + 1


def test_a_store_forgets_what_it_had_when_it_loads() -> None:
    store = Store(10)
    raw = labels("new")
    store.remember(raw, store.admit(raw)[0], None)

    store.load(Store(10).dump())

    assert (store.series, store.memo) == ([], {})


@pytest.mark.parametrize(
    "dumped",
    [
        {},
        {"extra_labels": [], "overflow": 0, "order": 0, "series": [[1, 2]]},
        {"extra_labels": [], "overflow": 0, "order": 0, "series": 7},
        {"extra_labels": [], "overflow": "x", "order": 0, "series": []},
    ],
    ids=["nothing", "half a series", "no list", "no number"],
)
def test_what_is_no_dump_is_refused_and_changes_nothing(dumped: dict[str, Any]) -> None:
    store = Store(10)
    store.admit(labels())

    with pytest.raises(ValueError, match="expected"):
        store.load(dumped)

    assert [series.labels for series in store.series] == [("p", "m", "/chat", "200", "", "")]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (("p", "m", "/e", "200", None, None), ("p", "m", "/e", "200", "", "")),
        (("", "", "", "", "", ""), ("unknown", "unknown", "unknown", "0", "", "")),
        (
            ("p", "a\nb\x00c\x1b[0m", "/e", "2000", "timeout", "stop"),
            ("p", "a�b�c�[0m", "/e", "0", "timeout", "stop"),
        ),
        (
            ("p", "a\ud800b", "/e", "٢٠٠", "boom", "bored"),
            ("p", "a�b", "/e", "0", "other", "other"),
        ),
        (
            ("p", "m" * 1000, "/e", "099", None, None),
            ("p", "m" * MAX_LABEL_CHARACTERS, "/e", "0", "", ""),
        ),
        (
            ("p", "模型", "/e", "0", None, None, "", "x"),
            ("p", "模型", "/e", "0", "", "", "unknown", "x"),
        ),
        (("p", None, "/e", 404, None, None), ("p", "unknown", "/e", "404", "", "")),
    ],
    ids=[
        "plain",
        "empty",
        "control characters",
        "surrogate",
        "long",
        "extra",
        "a stranger's parser",
    ],
)
def test_label_values_are_cleaned(raw: RawLabels, expected: tuple[str, ...]) -> None:
    assert expected == clean(raw)


@given(st.tuples(*[ANY_TEXT | st.none()] * (EXTRA + 1)))
def test_a_clean_label_value_can_stand_on_any_page(raw: RawLabels) -> None:
    cleaned = clean(raw)

    for value in cleaned:
        value.encode()
        assert len(value) <= MAX_LABEL_CHARACTERS
        assert not [character for character in value if ord(character) < 32]
    assert cleaned == clean(cleaned)
    assert len(cleaned[STATUS_CODE]) in (1, 3)
    assert cleaned[FINISH_REASON] in (
        "",
        "stop",
        "length",
        "tool_calls",
        "content_filter",
        "error",
        "other",
    )


def test_what_comes_after_the_cap_gives_up_its_model_first() -> None:
    store = Store(2, ("team",))
    for model in ("a", "b"):
        store.admit(labels(model, "/chat", "red"))

    series, is_own = store.admit(labels("c", "/chat", "red"))

    assert not is_own
    assert series.labels == ("p", OTHER, "/chat", "200", "", "", "red")
    assert store.overflow == 1
    assert (store.series[0], True) == store.admit(labels("a", "/chat", "red"))


def test_then_its_endpoint_and_extra_labels_and_in_the_end_its_provider() -> None:
    store = Store(1, ("team",))
    seen = {store.admit(labels("m", f"/{i}", "red"))[0].labels for i in range(100)}
    assert ("p", OTHER, OTHER, "200", "", "", OTHER) in seen

    seen = {store.admit(labels("m", "/e", "red", provider=f"p{i}"))[0].labels for i in range(100)}
    assert (OTHER, OTHER, OTHER, "200", "", "", OTHER) in seen


def test_the_model_asked_for_is_a_label_where_it_is_another_one_and_there_is_room() -> None:
    store = Store(3, ("team",), for_gen_ai=True)
    found = [
        store.admit((*labels("m", "/chat", "red"), asked_for))[0].labels[MODEL:]
        for asked_for in ("m", None, "", "alias", "b\n", "c", "d")
    ]

    rest = ("/chat", "200", "", "", "red")
    assert found == [
        *[("m", *rest, "")] * 3,
        ("m", *rest, "alias"),
        ("m", *rest, "b\ufffd"),
        *[(OTHER, *rest, "")] * 2,
    ]


def test_the_number_of_series_is_bounded_whatever_models_are_asked_for() -> None:
    store = Store(3, for_gen_ai=True)
    for number in range(500):
        store.admit((*labels("m", f"/{number % 7}"), f"alias-{number}"))

    assert len(store.series) <= 3 + 7
    assert {series.labels[-1] for series in store.series[3:]} == {""}


def test_every_request_that_goes_to_other_is_counted_each_time() -> None:
    store = Store(1)
    for model in ("a", "b", "b", "c", "a"):
        store.admit(labels(model))

    assert store.overflow == 3


@given(
    st.lists(
        st.tuples(*[st.text("abcdefgh_", max_size=3)] * 3, st.integers(0, 999).map(str)),
        max_size=300,
    )
)
def test_the_number_of_series_is_bounded_whatever_a_log_holds(raw: list[tuple[str, ...]]) -> None:
    store = Store(3)
    for provider, model, endpoint, status_code in raw:
        store.admit((provider, model, endpoint, status_code, None, None))

    assert len([series for series in store.series if series.labels[MODEL] != OTHER]) <= 3
    assert len(store.series) <= 3 + 3 * 16 + 14 * 7


def test_a_log_that_says_other_itself_does_not_get_round_the_cap() -> None:
    store = Store(2)
    for number in range(500):
        store.admit(labels(OTHER, f"/{number}"))

    assert len(store.series) < 100


def test_what_is_remembered_of_raw_labels_stays_small() -> None:
    store = Store(4)
    for number in range(1000):
        raw: RawLabels = ("p", "m", "/e", f"junk{number}", None, None)
        store.remember(raw, store.admit(raw)[0], None)
        long: RawLabels = ("p", "m" * 10_000 + str(number), "/e", "200", None, None)
        store.remember(long, store.admit(long)[0], None)

    assert len(store.memo) <= 2 * 4 + 64
    assert not [
        raw for raw in store.memo for value in raw if value and len(value) > MAX_LABEL_CHARACTERS
    ]


def test_a_series_is_small() -> None:
    series = Series(("p", "m", "/e", "200", "", ""))

    assert sys.getsizeof(series) < 400
    assert not hasattr(series, "__dict__")


def test_a_packed_dump_is_the_same_and_follows_every_change() -> None:
    store = Store(10)
    for model in ("a", "b", "a", "c"):
        series, _ = store.admit(("p", model, "/x", "200", None, None))
        series.count += 1
        series.input_tokens += 2**60
        series.durations = [*(series.durations or [0, 0])[:1], series.count]

        for _ in range(2):
            packed = orjson.loads(orjson.dumps(store.dump(packed=True)))
            assert packed == orjson.loads(orjson.dumps(store.dump()))
    other = Store(10)
    other.load(packed)
    assert orjson.loads(orjson.dumps(other.dump(packed=True))) == packed
    other.load(Store(10).dump())
    assert other.dump(packed=True)["series"] == []


def test_a_series_of_another_schema_costs_nothing_where_it_is_not_asked_for() -> None:
    for for_gen_ai in (False, True):
        store = Store(10, for_gen_ai=for_gen_ai)
        series, _ = store.admit(labels())
        assert hasattr(series, "gen_ai_durations") == for_gen_ai
        assert not hasattr(series, "__dict__")
        assert ("gen_ai" in json.dumps(store.dump())) is False
        assert len(store.dump()["series"][0]) == (7 if for_gen_ai else 5)

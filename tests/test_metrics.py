"""What one request adds to its series, to the last digit."""

from __future__ import annotations

import math
from bisect import bisect_left
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.metrics import (
    AI_API,
    BATCH_SIZES,
    DURATION_MS,
    FIRST_CHUNK_SECONDS,
    FIRST_TOKEN_MS,
    GEN_AI,
    OPERATION_SECONDS,
    PER_TOKEN_MS,
    PLACES,
    RESULTS,
    TOKEN_USAGE,
    Health,
    HealthCollector,
    Meter,
    operation_name,
)
from sidecar.prices import DOLLAR, PriceBook
from sidecar.request import Request
from sidecar.series import (
    COST_REST,
    COUNTERS,
    GEN_AI_COUNTERS,
    GEN_AI_HISTOGRAMS,
    HISTOGRAMS,
    GenAiSeries,
    Series,
    Store,
)

BOOK = PriceBook(
    {"models": {"priced": {"input": 8, "output": 8, "cache_read": 2, "cache_write": 10}}}
)
COSTS = [name for name in COUNTERS if name.startswith("cost_") and name != "cost_rest"]


def counted(*requests: Request, cost_source: str = "auto", for_gen_ai: bool = False) -> Series:
    store = Store(10, for_gen_ai=for_gen_ai)
    meter = Meter(store, BOOK, cost_source=cost_source)
    for request in requests:
        meter.add(request)
    assert len(store.series) == 1
    return store.series[0]


def logged(series: Series) -> Fraction:
    """Dollars that the log told."""
    return (series.cost_total + Fraction(series.cost_rest, COST_REST)) / DOLLAR


def spent(series: Series) -> Fraction:
    return logged(series) + Fraction(
        sum(getattr(series, name) for name in COSTS if name != "cost_total"), DOLLAR
    )


def test_a_million_requests_of_five_tokens_cost_what_five_million_tokens_cost() -> None:
    store = Store(10)
    meter = Meter(store, BOOK)
    request = Request(model="priced", input_tokens=3, output_tokens=2)
    for _ in range(1_000_000):
        meter.add(request)

    assert spent(store.series[0]) == 40
    assert (
        spent(counted(Request(model="priced", input_tokens=3_000_000, output_tokens=2_000_000)))
        == 40
    )


@pytest.mark.parametrize(
    "cost",
    [
        0.1,
        0.00123,
        1e-05,
        999.999999999999,
        123456.789,
        2.5500000000000001e-06,
        1.234567890123456e-16,
        5e-324,
        Decimal("0.1"),
        Decimal("1E-400"),
        Decimal("3.000000000000000000000000000000000000000000001"),
        7,
    ],
    ids=str,
)
def test_a_cost_that_the_log_tells_is_exact_as_it_is_written(cost: Any) -> None:
    series = counted(*[Request(cost_usd=cost, input_tokens=5)] * 3)

    assert logged(series) == 3 * Fraction(str(cost))
    assert spent(series) == logged(series)
    assert series.unpriced == 0


@given(st.lists(st.floats(0, 1e6) | st.decimals(0, 10**6, allow_nan=False), max_size=30))
def test_logged_costs_add_up_without_any_rounding(costs: list[float | Decimal]) -> None:
    series = counted(Request(), *[Request(cost_usd=cost) for cost in costs])

    assert logged(series) == sum([Fraction(str(cost)) for cost in costs], Fraction(0))


def test_sums_stay_exact_beyond_what_floats_hold() -> None:
    # 20 000 dollars are 2 * 10^16 pico-dollars, 20 000 000 seconds as many nanoseconds: more than 2^53
    one = Request(cost_usd=999.999999999999, duration_seconds=999_999.999999999)
    series = counted(*[one] * 20)

    assert logged(series) == 20 * Fraction("999.999999999999")
    assert series.duration_ns == 20 * 999_999_999_999_999


@given(st.lists(st.floats(0, 1e9, exclude_max=True), min_size=1, max_size=30))
def test_durations_add_up_to_the_nanosecond(durations: list[float]) -> None:
    series = counted(*[Request(duration_seconds=one) for one in durations])

    assert series.duration_ns == sum([round(one * 1e9) for one in durations])
    assert series.durations is not None
    bounds = [bound * 1_000_000 for bound in DURATION_MS]
    buckets = [bisect_left(bounds, round(one * 1e9)) for one in durations]
    assert series.durations == [buckets.count(at) for at in range(len(bounds) + 1)]


@pytest.mark.parametrize(
    "cost",
    [
        math.nan,
        math.inf,
        -math.inf,
        -1.0,
        0,
        0.0,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-1"),
        Decimal("1e30"),
        1e300,
    ],
    ids=str,
)
def test_a_cost_that_is_no_amount_is_as_if_not_told(cost: Any) -> None:
    series = counted(Request(model="priced", cost_usd=cost, input_tokens=1_000_000))

    assert spent(series) == 8


def test_a_decimal_of_endless_figures_costs_neither_time_nor_memory() -> None:
    series = counted(
        Request(cost_usd=Decimal("1E-999999")), Request(cost_usd=Decimal("0." + "3" * 10_000))
    )

    assert series.cost_total == DOLLAR // 3
    assert len(str(series.cost_rest)) <= 370


@pytest.mark.parametrize(
    ("cost_source", "cost_usd", "dollars", "unpriced"),
    [
        ("auto", 0.5, Fraction(1, 2), 0),
        ("auto", None, 8, 0),
        ("log", 0.5, Fraction(1, 2), 0),
        ("log", None, 0, 1),
        ("prices", 0.5, 8, 0),
        ("prices", None, 8, 0),
    ],
)
def test_the_cost_comes_from_where_it_is_asked_for(
    cost_source: str, cost_usd: float | None, dollars: Fraction, unpriced: int
) -> None:
    request = Request(model="priced", input_tokens=1_000_000, cost_usd=cost_usd)
    series = counted(request, cost_source=cost_source)

    assert (spent(series), series.unpriced) == (dollars, unpriced)


@pytest.mark.parametrize(
    ("request_", "unpriced"),
    [
        (Request(model="nobody-knows", input_tokens=5), 1),
        (Request(model="nobody-knows", output_tokens=5), 1),
        (Request(model="nobody-knows", input_tokens=0, output_tokens=0), 0),
        (Request(model="nobody-knows"), 0),
        (Request(model="nobody-knows", input_tokens=5, cost_usd=0.01), 0),
        (Request(model="nobody-knows", input_tokens=5, cost_usd=0.0), 1),
        (Request(model="nobody-knows", input_tokens=5, served_from_cache=True), 0),
    ],
    ids=[
        "input",
        "output",
        "no tokens",
        "nothing known",
        "told",
        "told as nothing",
        "client cache",
    ],
)
def test_tokens_without_a_price_are_unpriced_and_cost_nothing_else(
    request_: Request, unpriced: int
) -> None:
    series = counted(request_)

    assert series.unpriced == unpriced
    assert [getattr(series, name) for name in COSTS if name != "cost_total"] == [0] * (
        len(COSTS) - 1
    )


def test_a_model_beyond_the_cap_is_priced_by_its_own_name() -> None:
    store = Store(1)
    meter = Meter(store, BOOK)
    meter.add(Request(model="first"))
    for _ in range(2):
        meter.add(Request(model="priced", input_tokens=1_000_000))
    meter.add(Request(model="nobody-knows", input_tokens=1))

    other = store.series[1]
    assert spent(other) == 16
    assert (other.unpriced, store.overflow) == (1, 3)


def test_another_price_book_holds_from_the_next_request_on() -> None:
    store = Store(10)
    meter = Meter(store, BOOK)
    request = Request(model="priced", input_tokens=1_000_000)
    meter.add(request)

    meter.use(PriceBook({"models": {"priced": {"input": 1, "output": 1}}}))
    meter.add(request)

    assert spent(store.series[0]) == 9


def test_an_answer_from_the_clients_cache_is_a_request_without_tokens_and_cost() -> None:
    series = counted(
        Request(
            model="priced",
            input_tokens=5,
            output_tokens=50,
            cost_usd=0.1,
            duration_seconds=0.5,
            time_to_first_token_seconds=0.1,
            served_from_cache=True,
        )
    )

    assert (series.count, series.client_cache_hits, series.input_tokens, series.output_tokens) == (
        1,
        1,
        0,
        0,
    )
    assert spent(series) == 0
    assert series.duration_ns == 500_000_000
    assert series.times_per_output_token is None


@pytest.mark.parametrize(
    ("field", "counts", "bounds"),
    [
        ("duration_seconds", "durations", DURATION_MS),
        ("time_to_first_token_seconds", "times_to_first_token", FIRST_TOKEN_MS),
    ],
)
def test_a_value_on_a_bound_belongs_to_that_bucket(
    field: str, counts: str, bounds: tuple[float, ...]
) -> None:
    for place, bound in enumerate(bounds):
        values: list[dict[str, Any]] = [{field: bound / 1000}, {field: bound / 1000 + 1e-9}]
        series = counted(*[Request(**value) for value in values])
        expected = [0] * (len(bounds) + 1)
        expected[place] = expected[place + 1] = 1
        assert getattr(series, counts) == expected


def test_a_batch_on_a_bound_belongs_to_that_bucket() -> None:
    series = counted(*[Request(batch_size=size) for size in BATCH_SIZES])

    assert series.batch_sizes == [1] * len(BATCH_SIZES) + [0]
    assert series.batch_size == sum(BATCH_SIZES)


@pytest.mark.parametrize(
    ("duration", "first", "tokens", "bucket", "sum_ns"),
    [
        (1.1, 0.1, 101, 3, 10_000_000),
        (0.1 + 0.0025, 0.1, 2, 1, 2_500_000),
        (0.1 + 0.0075, 0.1, 4, 1, 2_500_000),
        (0.107500001, 0.1, 4, 2, 2_500_000),
        (1000.0, 0.0, 2, len(PER_TOKEN_MS), 10**12),
    ],
    ids=[
        "plain",
        "on a bound",
        "on a bound by division",
        "a third of a nanosecond over it",
        "over all",
    ],
)
def test_the_time_for_each_output_token_leaves_out_the_first(
    duration: float, first: float, tokens: int, bucket: int, sum_ns: int
) -> None:
    series = counted(
        Request(duration_seconds=duration, time_to_first_token_seconds=first, output_tokens=tokens)
    )

    assert series.times_per_output_token is not None
    assert (series.times_per_output_token.index(1), series.time_per_output_token_ns) == (
        bucket,
        sum_ns,
    )


@pytest.mark.parametrize(
    "request_",
    [
        Request(duration_seconds=1.0, output_tokens=9),
        Request(time_to_first_token_seconds=1.0, output_tokens=9),
        Request(duration_seconds=1.0, time_to_first_token_seconds=0.5),
        Request(duration_seconds=1.0, time_to_first_token_seconds=0.5, output_tokens=1),
        Request(duration_seconds=1.0, time_to_first_token_seconds=1.0, output_tokens=9),
        Request(duration_seconds=0.5, time_to_first_token_seconds=1.0, output_tokens=9),
    ],
)
def test_without_a_stream_there_is_no_time_for_each_output_token(request_: Request) -> None:
    assert counted(request_).times_per_output_token is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.001, 1e9])
def test_a_time_that_cannot_be_is_not_counted_but_its_request_is(value: float) -> None:
    series = counted(Request(duration_seconds=value, time_to_first_token_seconds=value))

    assert (series.count, series.durations, series.times_to_first_token) == (1, None, None)
    assert (series.duration_ns, series.time_to_first_token_ns) == (0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e18])
def test_a_timestamp_that_cannot_be_is_not_kept(value: float) -> None:
    assert counted(Request(timestamp=value), Request(timestamp=17.5)).last_request == 17.5


def test_the_last_request_is_the_latest_by_its_own_clock() -> None:
    assert counted(*[Request(timestamp=at) for at in (5.0, 9.0, 7.0)]).last_request == 9.0


def test_the_rate_limit_is_what_was_told_last_each_of_the_two_by_itself() -> None:
    store = Store(10)
    meter = Meter(store, BOOK)
    meter.add(
        Request(endpoint="/a", rate_limit_remaining_requests=5, rate_limit_remaining_tokens=50)
    )
    meter.add(Request(endpoint="/b", rate_limit_remaining_tokens=0))
    meter.add(Request(endpoint="/a", rate_limit_remaining_requests=4))
    meter.add(Request(endpoint="/a"))

    a, b = store.series
    assert (a.remaining_requests, a.remaining_tokens, b.remaining_tokens) == (4, 50, 0)
    assert (a.remaining_requests_order, a.remaining_tokens_order, b.remaining_tokens_order) == (
        3,
        1,
        2,
    )


def test_a_bucket_keeps_its_last_trace_and_none_that_is_too_long() -> None:
    series = counted(
        Request(duration_seconds=0.001, trace_id="first", timestamp=1.0),
        Request(duration_seconds=0.002, trace_id="second"),
        Request(duration_seconds=5.0, trace_id="x" * 101),
    )

    assert series.duration_exemplars == {0: ("second", 2_000_000, None)}


def test_extra_labels_are_kept_apart() -> None:
    store = Store(10, ("team",))
    meter = Meter(store, BOOK)
    for team in ("red", "blue", "red", ""):
        meter.add(Request(), (team,))

    assert [(one.labels[-1], one.count) for one in store.series] == [
        ("red", 2),
        ("blue", 1),
        ("unknown", 1),
    ]


def test_spellings_that_are_cleaned_alike_are_one_series() -> None:
    store = Store(10)
    meter = Meter(store, BOOK)
    for status_code in ("abc", "0", "99999", "") * 2:
        meter.add(Request(status_code=status_code))

    assert [one.count for one in store.series] == [8]


TOKENS = st.none() | st.integers(0, 2**53 - 1)
REQUESTS = st.builds(
    Request,
    provider=st.sampled_from(["openai", "acme", ""]),
    model=st.sampled_from(["priced", "gpt-4o", "m\n", "x" * 300, "a", "b", "c"]),
    request_model=st.sampled_from([None, None, "a", "alias", "x" * 300]),
    endpoint=st.sampled_from(["/a", "/b", "/c"]),
    status_code=st.sampled_from(["200", "429", "0", "junk"]),
    error_type=st.sampled_from([None, None, "timeout", "made up"]),
    finish_reason=st.sampled_from([None, "stop", "length"]),
    duration_seconds=st.none() | st.floats(0, 1e6),
    time_to_first_token_seconds=st.none() | st.floats(0, 1e3),
    input_tokens=TOKENS,
    output_tokens=TOKENS,
    cache_read_tokens=TOKENS,
    reasoning_tokens=TOKENS,
    cost_usd=st.none() | st.floats(0, 1e6) | st.decimals(0, 1000, allow_nan=False),
    batch_size=st.none() | st.integers(0, 10**6),
)


@given(st.lists(REQUESTS, max_size=40), st.integers(1, 6))
def test_no_cap_changes_a_sum(requests: list[Request], max_series: int) -> None:
    """Everything that is added up is the same under `_other` as it would be apart."""
    narrow, wide = Store(max_series, for_gen_ai=True), Store(1000, for_gen_ai=True)
    for store in (narrow, wide):
        meter = Meter(store, BOOK)
        for request in requests:
            meter.add(request)

    for name in (*COUNTERS, *GEN_AI_COUNTERS):
        assert sum([getattr(one, name) for one in narrow.series]) == sum(
            [getattr(one, name) for one in wide.series]
        )
    assert sum([one.count for one in narrow.series]) == len(requests)
    for name in (*HISTOGRAMS, *GEN_AI_HISTOGRAMS):
        columns = [
            [
                sum(column)
                for column in zip(
                    *[getattr(one, name) for one in store.series if getattr(one, name)], strict=True
                )
            ]
            for store in (narrow, wide)
        ]
        assert columns[0] == columns[1]


def test_every_family_names_what_there_is() -> None:
    series = GenAiSeries(("p", "m", "/e", "200", "", ""))
    for family in (*AI_API, *GEN_AI):
        fields = [field for _, field in family.split[1]] if family.split else [family.field]
        assert all(hasattr(series, field) for field in (*fields, *filter(None, [family.exemplars])))
        assert not family.counts or all(
            hasattr(series, family.counts.format(field)) for field in fields
        )
        assert set(family.labels) <= set(PLACES)
        assert family.type in ("counter", "gauge", "histogram")
        assert bool(family.buckets) == (family.type == "histogram") == bool(family.counts)
        assert not family.name.endswith("_total")
    assert len({family.name for family in AI_API}) == len(AI_API) == 18
    assert len({family.name for family in GEN_AI}) == len(GEN_AI) == 4


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("/chat/completions", "chat"),
        ("/openai/chat/completions", "chat"),
        ("/responses", "chat"),
        ("/messages", "chat"),
        ("/converse-stream", "chat"),
        ("/api/chat", "chat"),
        ("chat", "chat"),
        ("/completions", "text_completion"),
        ("/api/generate", "text_completion"),
        ("/embeddings", "embeddings"),
        ("/api/embed", "embeddings"),
        ("/batchEmbedContents", "embeddings"),
        ("/generateContent", "generate_content"),
        ("/streamGenerateContent", "generate_content"),
        ("/images/generations", "images_generations"),
        ("/invoke-with-response-stream", "invoke_with_response_stream"),
        ("text_completion", "text_completion"),
        ("execute_tool", "execute_tool"),
        ("unknown", "unknown"),
        ("_other", "_other"),
    ],
)
def test_the_operation_follows_from_the_endpoint(endpoint: str, expected: str) -> None:
    assert operation_name(endpoint) == expected


def test_the_bounds_are_those_that_opentelemetry_advises_and_two_more() -> None:
    advised = (
        0.01,
        0.02,
        0.04,
        0.08,
        0.16,
        0.32,
        0.64,
        1.28,
        2.56,
        5.12,
        10.24,
        20.48,
        40.96,
        81.92,
    )
    assert advised == FIRST_CHUNK_SECONDS
    assert (*advised, 163.84, 327.68) == OPERATION_SECONDS
    assert TOKEN_USAGE == (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)  # fmt: skip


@pytest.mark.parametrize(
    ("field", "counts", "bounds", "more"),
    [
        ("duration_seconds", "gen_ai_durations", OPERATION_SECONDS, 1e-9),
        ("time_to_first_token_seconds", "gen_ai_first_chunks", FIRST_CHUNK_SECONDS, 1e-9),
        ("input_tokens", "gen_ai_input_tokens_counts", TOKEN_USAGE, 1),
        ("output_tokens", "gen_ai_output_tokens_counts", TOKEN_USAGE, 1),
    ],
)
def test_a_value_on_a_bound_of_the_other_schema_belongs_to_that_bucket(
    field: str, counts: str, bounds: tuple[float, ...], more: float
) -> None:
    for place, bound in enumerate(bounds):
        values: list[dict[str, Any]] = [{field: bound}, {field: bound + more}]
        series = counted(*[Request(**value) for value in values], for_gen_ai=True)
        expected = [0] * (len(bounds) + 1)
        expected[place] = expected[place + 1] = 1
        assert getattr(series, counts) == expected


def test_an_answer_from_the_clients_cache_has_a_duration_and_no_token_usage() -> None:
    series = counted(
        Request(duration_seconds=0.5, input_tokens=5, output_tokens=0, served_from_cache=True),
        Request(output_tokens=0),
        for_gen_ai=True,
    )

    assert series.gen_ai_duration_ns == 500_000_000
    assert series.gen_ai_input_tokens_counts is None
    assert series.gen_ai_output_tokens_counts == [1] + [0] * len(TOKEN_USAGE)


def test_every_result_of_a_line_is_shown_from_the_start() -> None:
    families = {
        family.name: family for family in HealthCollector(Health("1.2"), Store(1)).collect()
    }

    assert [sample.labels["result"] for sample in families["ai_sidecar_lines"].samples] == list(
        RESULTS
    )
    assert [sample.labels for sample in families["ai_sidecar_build_info"].samples] == [
        {"version": "1.2"}
    ]


def test_the_sidecars_own_counters_come_back_from_json() -> None:
    health = Health()
    health.lines["request"] = 7
    health.requests["openai"] = 6
    health.read_bytes = 123
    health.rotations["rename"] += 1

    loaded = Health()
    loaded.load(health.dump())

    assert loaded.dump() == health.dump()
    assert (loaded.lines["request"], loaded.lines["ignored"], loaded.read_bytes) == (7, 0, 123)

"""The page: what prometheus_client would make of the same figures, and what each scraper is shown of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.utils import floatToGoString

from sidecar.exposition import (
    OPENMETRICS,
    REMEMBERED_SCRAPERS,
    TEXT,
    Exposition,
    _number,
    wants_openmetrics,
)
from sidecar.metrics import AI_API, GEN_AI, Family, Health, Meter, operation_name
from sidecar.prices import PriceBook
from sidecar.request import Request
from sidecar.series import Store, clean

BOOK = PriceBook({"models": {"priced": {"input": 8, "output": 8}}})
OPENMETRICS_ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def go_string(number: float) -> str:
    return str(floatToGoString(number))  # type: ignore[no-untyped-call] # it has no types


class World:
    """A store, what adds to it and what shows it."""

    def __init__(
        self,
        max_series: int = 2000,
        labels: tuple[str, ...] = (),
        *,
        zero_first: bool = True,
        families: tuple[Family, ...] = AI_API,
    ) -> None:
        self.store = Store(max_series, labels, for_gen_ai=GEN_AI[0] in families)
        self.meter = Meter(self.store, BOOK, families=families)
        self.exposition = Exposition(self.store, self.meter, Health("1"), zero_first=zero_first)

    def add(self, *requests: Request, extra: tuple[str, ...] = ()) -> None:
        for request in requests:
            self.meter.add(request, extra)

    def page(self, accept: str = "", scraper: str | None = None) -> str:
        """The page without our own families."""
        page, _ = self.exposition.page(accept, scraper)
        return page.decode().partition("# HELP ai_sidecar_")[0]

    def values(self, name: str, scraper: str | None = None) -> list[float]:
        families = parse_text(self.page("", scraper))
        return [
            sample.value for family in families for sample in family.samples if sample.name == name
        ]


# What prometheus_client makes of the same requests, computed without our store


class Oracle:
    """Computes the figures of requests by itself, in fractions, and lets prometheus_client write them."""

    def __init__(
        self,
        requests: Sequence[Request],
        extra: Sequence[tuple[str, ...]],
        names: tuple[str, ...],
        families: tuple[Family, ...] = AI_API,
    ) -> None:
        self.rows = list(zip(requests, extra, strict=True))
        self.names = names
        self.families = families

    def collect(self) -> Iterable[Metric]:
        for family in self.families:
            yield self.family(family)

    def family(self, family: Family) -> Metric:
        labels = [*family.labels, *self.names, *([family.split[0]] if family.split else [])]
        groups: dict[tuple[str, ...], list[tuple[Any, Request]]] = {}
        for request, extra in self.rows:
            raw = (
                request.provider,
                request.model,
                request.endpoint,
                request.status_code,
                request.error_type,
                request.finish_reason,
                *extra,
            )
            cleaned = clean(raw)
            place = dict(zip(PLACES_IN_ORDER, cleaned, strict=False))
            place["gen_ai_provider_name"] = place["provider"]
            place["gen_ai_response_model"] = place["model"]
            asked_for = clean((request.request_model or request.model,) * 6)
            place["gen_ai_request_model"] = asked_for[1]
            place["gen_ai_operation_name"] = operation_name(place["endpoint"])
            for split, value in observe(family.name, request):
                own = [place[name] for name in family.labels]
                key = (*own, *cleaned[6:], *([split] if split else []))
                groups.setdefault(key, []).append((value, request))
        metric: Any
        if family.type == "counter":
            metric = CounterMetricFamily(family.name, family.help, labels=labels)
            for key, values in groups.items():
                metric.add_metric(key, float(sum([value for value, _ in values])))
        elif family.type == "gauge":
            metric = GaugeMetricFamily(family.name, family.help, labels=labels)
            for key, values in groups.items():
                told = [value for value, _ in values]
                metric.add_metric(key, max(told) if family.combine == "max" else told[-1])
        else:
            metric = HistogramMetricFamily(family.name, family.help, labels=labels)
            for key, values in groups.items():
                self.histogram(metric, family, key, values)
        return metric  # type: ignore[no-any-return] # three kinds of metric

    def histogram(
        self,
        metric: HistogramMetricFamily,
        family: Family,
        key: tuple[str, ...],
        values: list[tuple[Any, Request]],
    ) -> None:
        bounds = [*family.buckets, float("inf")]
        counts = [0] * len(bounds)
        exemplars: dict[int, Exemplar] = {}
        last = last_traces(family, values)
        for value, request in values:
            bucket = next(place for place, bound in enumerate(bounds) if value <= bound)
            counts[bucket] += 1
            if request in last:
                exemplars[bucket] = Exemplar(
                    {"trace_id": request.trace_id or ""}, float(value), request.timestamp
                )
        buckets: list[Any] = []
        for place, (bound, count) in enumerate(zip(bounds, accumulate(counts), strict=True)):
            pair = (go_string(bound), count)
            buckets.append((*pair, exemplars[place]) if place in exemplars else pair)
        metric.add_metric(key, buckets, float(sum([value for value, _ in values])))

    def page(self, *, openmetrics: bool) -> str:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        page: bytes = (generate_openmetrics if openmetrics else generate_latest)(registry)
        return page.decode().removesuffix("# EOF\n")


def last_traces(family: Family, values: list[tuple[Any, Request]]) -> list[Request]:
    """Give the last requests with a trace: of each series one for each bucket that our own schema has."""
    if not family.exemplars:
        return []
    ours = next(one for one in AI_API if one.exemplars == family.exemplars)
    last: dict[Any, Request] = {}
    for value, request in values:
        if request.trace_id:
            milliseconds = Fraction(value) * family.scale / ours.scale
            bucket = sum([milliseconds > bound for bound in ours.buckets])
            last[bucket, request.status_code, request.finish_reason, request.endpoint] = request
    return list(last.values())


PLACES_IN_ORDER = ("provider", "model", "endpoint", "status_code", "error_type", "finish_reason")


def observe(name: str, request: Request) -> list[tuple[str, Any]]:
    """What a request tells a family: (value of the split, figure)."""
    name = name.removeprefix("ai_api_")
    if name.startswith("gen_ai_"):
        return observe_gen_ai(name, request)
    is_asked = not request.served_from_cache
    if name == "requests":
        return [("", 1)]
    if name == "errors":
        return [("", 1)] if request.error_type else []
    if name == "finish_reasons":
        return [("", 1)] if request.finish_reason else []
    if name.endswith("_tokens") and name != "rate_limit_remaining_tokens":
        return [("", (getattr(request, name) or 0) if is_asked else 0)]
    if name == "client_cache_hits":
        return [("", 1)] if request.served_from_cache else []
    if name in ("cost_usd_cents", "unpriced_requests"):
        return list(observe_cost(name, request)) if is_asked else []
    if name == "request_duration_milliseconds":
        return milliseconds(request.duration_seconds)
    if name == "time_to_first_token_milliseconds":
        return milliseconds(request.time_to_first_token_seconds)
    if name == "time_per_output_token_milliseconds":
        return []
    told = {
        "batch_size": request.batch_size,
        "rate_limit_remaining": request.rate_limit_remaining_requests,
        "rate_limit_remaining_tokens": request.rate_limit_remaining_tokens,
        "last_request_timestamp_seconds": request.timestamp,
    }[name]
    return [] if told is None else [("", told)]


def observe_gen_ai(name: str, request: Request) -> list[tuple[str, Any]]:
    """What a request tells a family of OpenTelemetry's schema."""
    is_asked = not request.served_from_cache
    if name == "gen_ai_client_cost_usd":
        costs = list(observe_cost("cost_usd_cents", request)) if is_asked else []
        return [("", sum([cost for _, cost in costs]) / 100)] if costs else []
    if name == "gen_ai_client_token_usage":
        counts = (("input", request.input_tokens), ("output", request.output_tokens))
        return [(kind, count) for kind, count in counts if count is not None and is_asked]
    seconds = {
        "gen_ai_client_operation_duration_seconds": request.duration_seconds,
        "gen_ai_client_operation_time_to_first_chunk_seconds": request.time_to_first_token_seconds,
    }[name]
    return [("", value / 1000) for _, value in milliseconds(seconds)]


def milliseconds(seconds: float | None) -> list[tuple[str, Any]]:
    return [] if seconds is None else [("", Fraction(round(Fraction(seconds) * 10**9), 10**6))]


def observe_cost(name: str, request: Request) -> Iterable[tuple[str, Any]]:
    told = request.cost_usd
    if told:
        if name == "cost_usd_cents":
            yield "total", 100 * Fraction(str(told))
    elif request.input_tokens or request.output_tokens:
        if clean((request.model,) * 6)[1] != "priced":
            if name == "unpriced_requests":
                yield "", 1
        elif name == "cost_usd_cents":
            for split, tokens in (
                ("input", request.input_tokens),
                ("output", request.output_tokens),
            ):
                if tokens:
                    yield split, Fraction(800 * tokens, 10**6)


TEXT_OF_ANY_KIND = st.text(st.characters(), max_size=12) | st.text('%\\"\n{},=# d.0bs', max_size=12)
# whole microseconds: our sums are in nanoseconds, and half of one may be rounded either way
SECONDS = st.none() | st.integers(0, 10**10).map(lambda micros: micros / 10**6)
TOKENS = st.none() | st.integers(0, 10**9)
ANY_REQUEST: dict[str, st.SearchStrategy[Any]] = {
    "provider": st.sampled_from(["openai", "acme"]) | TEXT_OF_ANY_KIND,
    "model": st.sampled_from(["priced", "m"])
    | TEXT_OF_ANY_KIND.filter(lambda model: model != "_other"),
    "request_model": st.sampled_from([None, None, "m", "alias"]) | TEXT_OF_ANY_KIND,
    "endpoint": st.sampled_from(["/a", "/b", "/chat/completions"]) | TEXT_OF_ANY_KIND,
    "status_code": st.sampled_from(["200", "429", "0"]),
    "error_type": st.sampled_from([None, "timeout"]),
    "finish_reason": st.sampled_from([None, "stop"]),
    "duration_seconds": SECONDS,
    "input_tokens": TOKENS,
    "output_tokens": TOKENS,
    "cache_read_tokens": TOKENS,
    "cost_usd": st.none()
    | st.floats(1e-9, 1e6)
    | st.decimals(Decimal("1e-9"), 1000, allow_nan=False),
    "batch_size": st.none() | st.integers(0, 10**6),
    "rate_limit_remaining_requests": TOKENS,
    "rate_limit_remaining_tokens": TOKENS,
    "timestamp": st.none() | st.floats(0.001, 1e10),
    "trace_id": st.none() | st.text("abc0-", min_size=1, max_size=32),
    "served_from_cache": st.sampled_from([False, False, True]),
}
REQUESTS = st.builds(Request, **ANY_REQUEST) | st.builds(
    Request,
    # of one token there is no time for each of the others, which is rounded: test_metrics has that
    **{
        **ANY_REQUEST,
        "time_to_first_token_seconds": SECONDS,
        "output_tokens": st.sampled_from([None, 0, 1]),
    },
)


def sorted_within_families(page: str) -> list[list[str]]:
    """The lines of a page; those of a family, but for its head, in an order of their own."""
    families: list[list[str]] = []
    for line in page.split("\n"):
        if line.startswith("# HELP"):
            families.append([])
        families[-1].append(line)
    return [[*family[:2], *sorted(family[2:])] for family in families]


SCHEMAS = st.sampled_from([AI_API, GEN_AI, (*AI_API, *GEN_AI)])


@given(
    st.lists(st.tuples(REQUESTS, st.tuples(TEXT_OF_ANY_KIND)), max_size=25),
    st.booleans(),
    SCHEMAS,
)
def test_the_page_is_line_for_line_what_prometheus_client_makes_of_the_same_requests(
    told: list[tuple[Request, tuple[str, ...]]],
    is_openmetrics: bool,
    families: tuple[Family, ...],
) -> None:
    requests, extra = [request for request, _ in told], [labels for _, labels in told]
    if is_openmetrics:
        # which of two traces at one time is the last depends on the label set they are in
        for place, request in enumerate(requests):
            timed = {
                **{name: getattr(request, name) for name in request.__struct_fields__},
                "timestamp": place + 0.5,
            }
            requests[place] = Request(**timed)
    world = World(labels=("kind",), families=families)
    for request, labels in zip(requests, extra, strict=True):
        world.add(request, extra=labels)

    page = world.page(OPENMETRICS_ACCEPT if is_openmetrics else "")

    oracle = Oracle(requests, extra, ("kind",), families).page(openmetrics=is_openmetrics)
    assert sorted_within_families(page) == sorted_within_families(oracle)


@given(st.lists(REQUESTS, max_size=12), st.lists(REQUESTS, max_size=12), SCHEMAS)
def test_a_page_after_others_is_what_the_first_one_would_have_been(
    first: list[Request], then: list[Request], families: tuple[Family, ...]
) -> None:
    """Lines that are kept from page to page are never out of date, in either format."""
    seasoned, fresh = [World(zero_first=False, families=families) for _ in range(2)]
    for request in first:
        seasoned.add(request)
        seasoned.page(OPENMETRICS_ACCEPT, "a")
    seasoned.add(*then)
    fresh.add(*first, *then)

    for accept in ("", OPENMETRICS_ACCEPT):
        assert sorted_within_families(seasoned.page(accept)) == sorted_within_families(
            fresh.page(accept)
        )


@given(st.lists(REQUESTS, max_size=12), st.lists(REQUESTS, max_size=12), SCHEMAS)
def test_the_parts_of_a_page_stay_as_they_were_whatever_comes(
    first: list[Request], then: list[Request], families: tuple[Family, ...]
) -> None:
    """They are sent while the next lines are counted."""
    world = World(zero_first=False, families=families)
    world.add(*first)
    parts, content_type = world.exposition.parts(OPENMETRICS_ACCEPT, "a")
    whole = b"".join(parts)

    world.add(*then)
    world.page("", "b")
    world.page(OPENMETRICS_ACCEPT, "a")

    assert b"".join(parts) == whole
    assert content_type == OPENMETRICS


def test_a_row_that_has_not_changed_is_the_same_part_of_the_next_page() -> None:
    """Else each page would be held beside what is kept to make the next one."""
    world = World(zero_first=False)
    world.add(*[Request(model=f"model-{place}", duration_seconds=0.2) for place in range(50)])
    first, second = (world.exposition.parts("", "a")[0] for _ in range(2))

    kept = {id(part) for part in first}
    made = [part for part in second if id(part) not in kept]
    ours = [part for part in made if part.startswith((b"ai_api_", b"# HELP ai_api_"))]
    assert ours == []


@given(st.lists(REQUESTS, max_size=12))
def test_our_own_names_show_the_same_whichever_others_are_beside_them(
    requests: list[Request],
) -> None:
    alone, beside = World(), World(families=(*GEN_AI, *AI_API))
    for world in (alone, beside):
        world.add(*requests)

    ours = (
        "# HELP ai_api_requests_total" + beside.page().partition("# HELP ai_api_requests_total")[2]
    )
    assert sorted_within_families(ours) == sorted_within_families(alone.page())


@given(st.lists(REQUESTS, max_size=12), SCHEMAS)
def test_both_parsers_of_prometheus_client_read_the_whole_page(
    requests: list[Request], families: tuple[Family, ...]
) -> None:
    world = World(families=families)
    world.add(*requests)

    for accept, parse in (("", parse_text), (OPENMETRICS_ACCEPT, parse_openmetrics)):
        page, _ = world.exposition.page(accept, None)
        names = [family.name for family in parse(page.decode())]
        assert [family.name for family in families] == names[: len(families)]
        assert "ai_sidecar_lines" in names
        assert "process_resident_memory_bytes" in names


@given(TEXT_OF_ANY_KIND, TEXT_OF_ANY_KIND)
def test_hostile_label_values_come_back_as_they_were_cleaned(model: str, endpoint: str) -> None:
    request = Request(model=model, endpoint=endpoint, duration_seconds=0.2)
    world = World()
    world.add(request)

    cleaned = clean(("unknown", model, endpoint, "200", None, None))
    for parse, accept in ((parse_text, ""), (parse_openmetrics, OPENMETRICS_ACCEPT)):
        page, _ = world.exposition.page(accept, None)
        (family,) = [
            one
            for one in parse(page.decode())
            if one.name == "ai_api_request_duration_milliseconds"
        ]
        assert {(one.labels["model"], one.labels["endpoint"]) for one in family.samples} == {
            cleaned[1:3]
        }


@given(
    st.floats(0, 1e300) | st.integers(0, 10**18) | st.integers(0, 10**18).map(lambda n: n / 1000)
)
def test_numbers_are_written_as_prometheus_client_does(value: float) -> None:
    assert _number(value).decode() == go_string(value)


@pytest.mark.parametrize("count", [999_999, 1_000_000, 1_200_000, 12_345_678, 10**9])
def test_large_counts_are_written_with_an_exponent(count: int) -> None:
    world = World()
    world.add(Request(duration_seconds=0.011, input_tokens=count))
    world.page()
    assert world.store.series[0].durations is not None
    world.store.series[0].durations[1] = world.store.series[0].count = count

    page = world.page()

    text = go_string(count)
    labels = 'endpoint="unknown",model="unknown",provider="unknown"'
    assert f"ai_api_request_duration_milliseconds_count{{{labels}}} {text}\n" in page
    assert page.count("le=") == 15
    assert page.count(f"}} {text}\n") == 17


def test_cents_and_milliseconds_are_rounded_once() -> None:
    world = World()
    for _ in range(10):
        world.add(Request(cost_usd=0.1, duration_seconds=0.0001))
    world.add(Request(cost_usd=0.1, endpoint="/other", duration_seconds=0.0002))

    assert world.values("ai_api_cost_usd_cents_total") == [110.0]
    assert world.values("ai_api_request_duration_milliseconds_sum") == [1.0, 0.2]


def test_a_million_requests_of_five_tokens_show_as_4000_cents() -> None:
    world = World()
    request = Request(model="priced", input_tokens=5, output_tokens=0)
    for _ in range(1_000_000):
        world.meter.add(request)

    assert (
        'ai_api_cost_usd_cents_total{cost_type="input",model="priced",provider="unknown"} 4000.0\n'
        in world.page()
    )


def test_families_without_a_sample_still_show_help_and_type() -> None:
    page = World().page()

    assert [line for line in page.splitlines() if not line.startswith("#")] == []
    assert page.count("# HELP ai_api_") == page.count("# TYPE ai_api_") == len(AI_API)


def test_the_gauge_of_several_series_is_what_was_told_last() -> None:
    world = World()
    world.add(
        Request(
            endpoint="/a",
            rate_limit_remaining_tokens=50,
            rate_limit_remaining_requests=5,
            timestamp=9.0,
        ),
        Request(endpoint="/b", rate_limit_remaining_tokens=40, timestamp=8.0),
        Request(endpoint="/a", rate_limit_remaining_requests=0),
    )

    assert world.values("ai_api_rate_limit_remaining_tokens") == [40]
    assert world.values("ai_api_rate_limit_remaining") == [0]
    assert world.values("ai_api_last_request_timestamp_seconds") == [9]


def test_rows_stand_in_the_order_of_their_birth() -> None:
    world = World()
    expected = []
    for model in ("zebra", "ant", "mole"):
        world.add(Request(model=model))
        expected.append(model)
        (family, *_) = parse_text(world.page("", "a"))
        assert [sample.labels["model"] for sample in family.samples] == expected


def test_only_openmetrics_has_exemplars_and_an_end() -> None:
    world = World()
    world.add(Request(duration_seconds=0.02, trace_id="a-b", timestamp=17.25))

    text, openmetrics = (
        world.exposition.page(accept, None)[0].decode() for accept in ("", OPENMETRICS_ACCEPT)
    )

    line = '_bucket{endpoint="unknown",le="25.0",model="unknown",provider="unknown"} 1.0'
    assert f'{line} # {{trace_id="a-b"}} 20.0 17.25\n' in openmetrics
    assert f"{line}\n" in text
    assert openmetrics.endswith("# EOF\n")
    assert "# EOF" not in text
    assert "_created" not in text + openmetrics


def test_the_exemplar_of_several_series_is_the_latest_trace() -> None:
    world = World()
    for status_code, timestamp in (("200", 5.0), ("500", 9.0), ("429", 7.0)):
        world.add(
            Request(
                status_code=status_code,
                duration_seconds=0.02,
                trace_id=f"of-{status_code}",
                timestamp=timestamp,
            )
        )

    page = world.page(OPENMETRICS_ACCEPT)

    assert [line.partition(" # ")[2] for line in page.splitlines() if "trace_id" in line] == [
        '{trace_id="of-500"} 20.0 9.0'
    ]


@pytest.mark.parametrize("trace_id", ["", "né", "a\nb", "a b", 'a"b', "a\\b", "x" * 101])
def test_a_trace_that_is_no_label_of_an_exemplar_is_left_out(trace_id: str) -> None:
    world = World()
    world.add(Request(duration_seconds=0.02, trace_id=trace_id))

    assert " # " not in world.page(OPENMETRICS_ACCEPT).replace("\n# ", "")


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain",
        "text/plain;version=0.0.4",
        "text/plain;version=1.0.0",
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;version=0.0.1,application/openmetrics-text;version=1.0.0;q=0.1",
        "text/plain;version=1.0.0,application/openmetrics-text;version=1.0.0",
        "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0",
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        ),
        "text/html,application/xhtml+xml",
        ",;,=;version=1",
    ],
)
def test_the_format_is_chosen_as_prometheus_client_chooses_it(accept: str) -> None:
    _, content_type = choose_encoder(accept)

    assert wants_openmetrics(accept) == content_type.startswith("application/openmetrics-text")
    assert World().exposition.page(accept, None)[1] == (
        OPENMETRICS if wants_openmetrics(accept) else TEXT
    )


@given(st.text(max_size=80) | st.text("aptextlin/openmrics-;version=1.0,", max_size=80))
def test_no_accept_header_can_break_a_page(accept: str) -> None:
    assert wants_openmetrics(accept) in (True, False)


def test_a_version_that_is_no_number_is_none_that_is_known() -> None:
    assert not wants_openmetrics("application/openmetrics-text;version=latest")
    assert not wants_openmetrics("application/openmetrics-text;version=²")


# Zero first


def test_the_first_page_of_a_scraper_shows_values_as_they_are() -> None:
    world = World()
    world.add(*[Request()] * 3)

    assert world.values("ai_api_requests_total", "a") == [3]
    assert world.values("ai_api_requests_total", "b") == [3]


def test_what_is_new_since_a_scrapers_last_page_is_0_once() -> None:
    world = World()
    world.add(Request(model="old"))
    world.values("ai_api_requests_total", "a")

    world.add(Request(model="old"), Request(model="new"))

    assert world.values("ai_api_requests_total", "a") == [2, 0]
    assert world.values("ai_api_requests_total", "a") == [2, 1]


def test_each_scraper_is_shown_0_once_whatever_others_have_seen() -> None:
    world = World()
    for scraper in ("a", "b"):
        world.page("", scraper)
    world.add(Request())

    assert world.values("ai_api_requests_total", "a") == [0]
    assert world.values("ai_api_requests_total", "a") == [1]
    assert world.values("ai_api_requests_total", "b") == [0]
    assert world.values("ai_api_requests_total", "b") == [1]
    assert world.values("ai_api_requests_total", "c") == [1]


def test_a_page_for_no_scraper_shows_values_and_takes_no_0_away() -> None:
    world = World()
    world.page("", "a")
    world.add(Request())

    assert world.values("ai_api_requests_total", None) == [1]
    assert world.values("ai_api_requests_total", "a") == [0]


def test_a_histogram_that_is_new_is_0_throughout_and_a_gauge_is_not() -> None:
    world = World()
    world.page(OPENMETRICS_ACCEPT, "a")
    world.add(Request(duration_seconds=0.02, trace_id="t", timestamp=5.0, batch_size=7))

    page = world.page(OPENMETRICS_ACCEPT, "a")

    samples = [line for line in page.splitlines() if not line.startswith("#")]
    assert {line.rsplit(" ", 1)[1] for line in samples if "timestamp_seconds" not in line} == {
        "0.0"
    }
    assert [line.rsplit(" ", 1)[1] for line in samples if "timestamp_seconds" in line] == ["5.0"]
    assert len([line for line in samples if "request_duration" in line]) == 17


def test_a_row_that_comes_late_to_an_old_label_set_is_0_first_too() -> None:
    """The request was seen; that it can fail, cost and take time is new."""
    world = World()
    world.add(Request(model="m", status_code="200"))
    world.page("", "a")
    world.add(Request(model="m", status_code="200", cost_usd=0.5, duration_seconds=1.0))

    assert world.values("ai_api_requests_total", "a") == [2]
    assert world.values("ai_api_cost_usd_cents_total", "b") == [50]
    assert world.values("ai_api_cost_usd_cents_total", "a") == [50]

    world = World()
    world.add(Request(model="m"))
    world.page("", "a")
    world.add(Request(model="m", cost_usd=0.5))
    assert world.values("ai_api_cost_usd_cents_total", "a") == [0]
    assert world.values("ai_api_cost_usd_cents_total", "a") == [50]


def test_only_the_last_sixteen_scrapers_are_remembered() -> None:
    world = World()
    for number in range(REMEMBERED_SCRAPERS + 1):
        world.page("", f"10.0.0.{number}")
    world.add(Request())

    assert world.values("ai_api_requests_total", "10.0.0.0") == [1]
    assert world.values("ai_api_requests_total", f"10.0.0.{REMEMBERED_SCRAPERS}") == [0]


def test_zero_first_can_be_turned_off() -> None:
    world = World(zero_first=False)
    world.page("", "a")
    world.add(Request())

    assert world.values("ai_api_requests_total", "a") == [1]


STEPS = st.lists(
    st.sampled_from(["a", "b", "c", None, "restart"])
    | st.builds(
        Request,
        model=st.sampled_from(["priced", "m", "n", "o", "p"]),
        request_model=st.sampled_from([None, "m", "alias"]),
        status_code=st.sampled_from(["200", "500"]),
        duration_seconds=st.none() | st.floats(0, 1000),
        input_tokens=TOKENS,
        cost_usd=st.none() | st.floats(0, 1),
    ),
    max_size=40,
)


@given(STEPS, st.integers(1, 4), SCHEMAS)
def test_no_figure_that_a_scraper_has_seen_ever_goes_back(
    steps: list[Any], max_series: int, families: tuple[Family, ...]
) -> None:
    """Each sample of a counter or histogram is 0 first for a scraper that has been here, and then only grows."""
    world = World(max_series, families=families)
    seen: dict[str | None, dict[tuple[str, ...], float]] = {}
    for step in steps:
        if isinstance(step, Request):
            world.add(step)
        elif step == "restart":
            dumped = json.loads(json.dumps([world.store.dump(), world.exposition.dump()]))
            world = World(max_series, families=families)
            world.store.load(dumped[0])
            world.exposition.load(dumped[1])
        else:
            known = seen.get(step)
            now = {
                (sample.name, *sorted(sample.labels.values())): sample.value
                for family in parse_text(world.page("", step))
                if family.type != "gauge"
                for sample in family.samples
            }
            if known is not None:
                assert all(now[key] >= value for key, value in known.items())
                assert step is None or all(
                    value == 0 for key, value in now.items() if key not in known
                )
            seen[step] = now


@given(
    st.lists(
        st.sampled_from([AI_API, GEN_AI, (*AI_API, *GEN_AI)])
        | st.builds(
            Request,
            model=st.sampled_from(["priced", "m"]),
            request_model=st.sampled_from([None, "m", "alias"]),
            duration_seconds=st.none() | st.floats(0, 1000),
            input_tokens=TOKENS,
            cost_usd=st.none() | st.floats(0, 1),
        ),
        max_size=40,
    )
)
def test_figures_go_on_over_restarts_with_other_schemas(steps: list[Any]) -> None:
    """Our own as if nothing had been; OpenTelemetry's never back, whatever was not served in between."""
    world, whole = World(), World()
    seen: dict[tuple[str, ...], float] = {}
    for step in [*steps, (*AI_API, *GEN_AI), AI_API]:
        if isinstance(step, Request):
            world.add(step)
            whole.add(step)
            continue
        dumped = json.loads(json.dumps([world.store.dump(), world.exposition.dump()]))
        world = World(families=step)
        world.store.load(dumped[0])
        world.exposition.load(dumped[1])
        for family in parse_text(world.page("")):
            for sample in family.samples:
                if sample.name.startswith("gen_ai_"):
                    key = (sample.name, *sorted(sample.labels.values()))
                    assert sample.value >= seen.get(key, 0)
                    seen[key] = sample.value

    assert sorted_within_families(world.page()) == sorted_within_families(whole.page())


def test_what_was_born_before_a_restart_but_seen_by_nobody_is_0_first_after_it() -> None:
    world = World()
    world.add(Request(model="old"))
    world.page("", "a")
    world.add(Request(model="new"))
    after = World()
    after.store.load(world.store.dump())
    after.exposition.load(world.exposition.dump())

    assert after.values("ai_api_requests_total", "a") == [1, 0]
    assert after.values("ai_api_requests_total", "a") == [1, 1]


def test_a_late_row_of_an_old_label_set_is_0_first_after_a_restart_too() -> None:
    world = World()
    world.add(Request(model="a"), Request(model="b", cost_usd=0.1))
    world.page("", "s")
    world.add(Request(model="a", cost_usd=0.2))
    after = World()
    after.store.load(world.store.dump())
    after.exposition.load(world.exposition.dump())

    assert sorted(after.values("ai_api_cost_usd_cents_total", "s")) == [0, 10]
    assert sorted(after.values("ai_api_cost_usd_cents_total", "s")) == [10, 20]


def test_what_scrapers_have_seen_is_refused_where_it_is_no_such_thing() -> None:
    with pytest.raises(ValueError, match="expected what scrapers have seen"):
        World().exposition.load({"scrapers": 7})


# What others say of the page


def complaints_of_promtool(families: tuple[Family, ...]) -> list[str]:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    world = World(families=families)
    world.add(
        Request(
            error_type="timeout",
            finish_reason="stop",
            duration_seconds=1.0,
            time_to_first_token_seconds=0.5,
            input_tokens=5,
            output_tokens=5,
            cost_usd=0.1,
            batch_size=1,
            rate_limit_remaining_requests=1,
            rate_limit_remaining_tokens=1,
            timestamp=1.0,
            request_model="alias",
            endpoint="/chat/completions",
        ),
        Request(input_tokens=5, duration_seconds=1.0),
        Request(served_from_cache=True),
    )
    page, _ = world.exposition.page("", None)
    assert all(f"\n{family.name}" in page.decode() for family in families)

    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, check=False, timeout=60
    )

    return sorted((checked.stdout + checked.stderr).decode().splitlines())


def test_promtool_complains_of_nothing_but_the_names_that_dashboards_have_had_from_the_start() -> (
    None
):
    assert complaints_of_promtool(AI_API) == [
        f'ai_api_{name}_milliseconds use base unit "seconds" instead of "milliseconds"'
        for name in ("request_duration", "time_per_output_token", "time_to_first_token")
    ]


def test_promtool_has_not_a_word_to_say_of_the_other_schema() -> None:
    assert complaints_of_promtool(GEN_AI) == []

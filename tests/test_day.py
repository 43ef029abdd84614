"""A day of traffic in a real Prometheus: it answers every query of dashboards and rules, with the true figures."""

from __future__ import annotations

import math
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import traffic
from grafana import (
    annotations_of,
    documents,
    expressions_of,
    label_queries_of,
    queries_of,
    rules_of,
    sample_table,
    substituted,
)
from prometheus import Prometheus, needs_prometheus
from traffic import DAY, END, START, Event

pytestmark = needs_prometheus

STEP = traffic.STEP_SECONDS
EVENTS = traffic.events()
LAST_DAY = [event for event in EVENTS if END - DAY < event.at <= END]
LAST_HOUR = [event for event in EVENTS if END - 3600 < event.at <= END]
RECORDING = [rule for rule in rules_of() if "record" in rule]
ALERTING = [rule for rule in rules_of() if "alert" in rule]
RATE_INTERVAL = "8m"
"""Four steps, as Grafana takes four scrape intervals."""


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Let a real Prometheus have the day, and what the recording rules have made of it."""
    directory = tmp_path_factory.mktemp("day")
    storage = directory / "tsdb"
    scraped, recorded = directory / "scraped.om", directory / "recorded.om"
    with scraped.open("w") as page:
        traffic.openmetrics(EVENTS, page.write)
    make_blocks(scraped, storage)
    with Prometheus(directory, storage=storage) as prometheus, recorded.open("w") as page:
        # as `promtool tsdb create-blocks-from rules` does, but that makes hundreds of blocks
        for rule in RECORDING:
            for labels, points in prometheus.query_range(rule["expr"], START, END, STEP):
                inside = ",".join(f'{label}="{value}"' for label, value in sorted(unnamed(labels)))
                page.writelines(
                    f"{rule['record']}{{{inside}}} {value!r} {at:.0f}\n" for at, value in points
                )
        page.write("# EOF\n")
    make_blocks(recorded, storage)
    with Prometheus(directory, storage=storage) as prometheus:
        yield prometheus


def make_blocks(page: Path, storage: Path) -> None:
    done = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", page, storage],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def unnamed(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Give the labels of a sample without the name of its metric."""
    return frozenset(pair for pair in labels.items() if pair[0] != "__name__")


def test_the_day_is_told_in_our_names() -> None:
    """What stands in the made-up pages has the names and labels of the true ones."""
    table = sample_table()
    target = {"job", "instance", "namespace", "pod"}
    lines: list[str] = []
    traffic.openmetrics(EVENTS[:400], lines.append)
    strangers = set()
    for line in lines[:-1]:
        name, _, rest = line.partition("{")
        labels = {pair.split("=")[0] for pair in rest.partition("}")[0].split(",")} - target
        if not labels <= table[name][1]:
            strangers.add((name, *labels))

    assert strangers == set()


@pytest.mark.parametrize("name", documents())
def test_every_query_of_a_dashboard_is_answered_with_finite_figures(
    day: Prometheus, name: str
) -> None:
    dashboard = documents()[name]
    for title, target in queries_of(dashboard):
        expression = substituted(target["expr"], time_range="24h", rate_interval=RATE_INTERVAL)
        samples = day.query(expression, END)
        assert samples, title
        assert all(math.isfinite(sample.value) for sample in samples), (title, samples)
        if not target["instant"]:
            ranges = day.query_range(expression, END - DAY, END, 600)
            values = [value for _, points in ranges for _, value in points]
            assert all(map(math.isfinite, values)), (title, expression)
            assert len(values) > 100, title


@pytest.mark.parametrize("name", documents())
def test_every_variable_of_a_dashboard_has_something_to_choose(day: Prometheus, name: str) -> None:
    answers = {
        variable: day.label_values(substituted(selector), label)
        for variable, selector, label in label_queries_of(documents()[name])
    }

    assert answers.pop("job") == ["ai-sidecar"]
    assert answers.pop("namespace") == ["prod"]
    assert answers.pop("pod") == list(traffic.PODS)
    served = traffic.CLIENTS[:1] if name == "gen_ai" else traffic.CLIENTS
    of_calls = {
        "provider": sorted(client.provider for client in served),
        "model": sorted(client.model for client in served),
    }
    assert answers == ({} if name == "health" else of_calls)


@pytest.mark.parametrize("name", documents())
def test_the_restart_of_the_day_is_marked(day: Prometheus, name: str) -> None:
    (annotation,) = annotations_of(documents()[name])
    ranges = day.query_range(substituted(annotation["expr"]), START + 3600, END, 60)

    ((labels, points),) = ranges
    assert labels["pod"] == "app-b"
    assert all(traffic.RESTART <= at < traffic.RESTART + 120 for at, _ in points)


@pytest.mark.parametrize("rule", RECORDING, ids=lambda rule: rule["record"])
def test_a_recording_rule_is_answered_and_recorded(
    day: Prometheus, rule: Mapping[str, str]
) -> None:
    asked = {unnamed(sample.labels): sample.value for sample in day.query(rule["expr"], END)}
    recorded = {unnamed(sample.labels): sample.value for sample in day.query(rule["record"], END)}

    assert asked
    assert all(map(math.isfinite, asked.values()))
    assert asked == pytest.approx(recorded, rel=1e-9)
    labels = {label for of_sample in asked for label, _ in of_sample}
    assert labels == sample_table()[rule["record"]][1]


ALL_DAY = ("AiSidecarPricesOld", "AiApiUnpricedRequests")
"""app-b has an old price table, and no price for a model."""


@pytest.mark.parametrize("rule", ALERTING, ids=lambda rule: rule["alert"])
def test_the_query_of_an_alert_is_answered_at_the_misfortune_and_not_all_day(
    day: Prometheus, rule: Mapping[str, str]
) -> None:
    ranges = day.query_range(rule["expr"], START + 3600, END, STEP)
    values = [value for _, points in ranges for _, value in points]
    moments = {at for _, points in ranges for at, _ in points}

    assert values
    assert all(map(math.isfinite, values))
    if rule["alert"] not in ALL_DAY:
        assert len(moments) < (END - START - 3600) / STEP / 2


def usd(events: list[Event]) -> float:
    return float(sum(sum(event.costs_usd.values()) for event in events))


def by_model(value: Callable[[list[Event]], float]) -> dict[str, float]:
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in LAST_DAY:
        groups[event.client.model].append(event)
    return {model: value(events) for model, events in groups.items()}


def saved_usd(events: list[Event]) -> float:
    """What was read and written at the full price, less what was paid for it."""
    return float(
        sum(
            (event.cache_read_tokens + event.cache_write_tokens)
            * event.client.input_usd
            / 1_000_000
            - event.costs_usd.get("cache_read", 0)
            - event.costs_usd.get("cache_write", 0)
            for event in events
            if event.client.input_usd is not None and event.client.cache_read_usd
        )
    )


def tokens(kind: str, events: list[Event] = LAST_DAY) -> int:
    return sum(getattr(event, f"{kind}_tokens") for event in events)


OF_OPENAI = [event for event in LAST_DAY if event.client.provider == "openai"]
FIGURES: dict[tuple[str, str], float] = {
    ("overview", "P50 latency"): traffic.bucket_quantile(
        0.50, traffic.DURATION_MS, (event.duration_ms for event in LAST_DAY)
    ),
    ("overview", "P95 latency"): traffic.bucket_quantile(
        0.95, traffic.DURATION_MS, (event.duration_ms for event in LAST_DAY)
    ),
    ("overview", "P95 time to first token"): traffic.bucket_quantile(
        0.95,
        traffic.FIRST_TOKEN_MS,
        (event.first_token_ms for event in LAST_DAY if event.first_token_ms is not None),
    ),
    ("latency", "P50 time per output token"): traffic.bucket_quantile(
        0.50,
        traffic.PER_TOKEN_MS,
        (each for event in LAST_DAY if (each := event.per_token_ms) is not None),
    ),
    ("overview", "Error rate"): 100
    * sum(event.error_type is not None for event in LAST_DAY)
    / len(LAST_DAY),
    ("latency", "Slow share"): 100
    * sum(event.duration_ms > 30_000 for event in LAST_DAY)
    / len(LAST_DAY),
    ("latency", "Cut off share"): 100
    * sum(event.finish_reason == "length" for event in LAST_DAY)
    / sum(event.finish_reason is not None for event in LAST_DAY),
    ("cost", "Cost in the time range"): usd(LAST_DAY),
    ("cost", "Cost a month ahead"): 30 * usd(LAST_DAY),
    ("cost", "Cost of 1000 requests"): 1000 * usd(LAST_DAY) / len(LAST_DAY),
    ("cost", "Cost of a million tokens"): 1e6
    * usd(LAST_DAY)
    / (tokens("input") + tokens("output")),
    ("cost", "Saved by caching"): saved_usd(LAST_DAY),
    ("cost", "Cache hit ratio"): 100 * tokens("cache_read") / tokens("input"),
    ("cost", "Unpriced share"): 100
    * sum(event.client.input_usd is None and event.input_tokens > 0 for event in LAST_DAY)
    / len(LAST_DAY),
    ("gen_ai", "Cost today"): usd(OF_OPENAI),
    ("gen_ai", "P95 latency"): traffic.bucket_quantile(
        0.95, traffic.SECONDS, (event.duration_ms / 1000 for event in OF_OPENAI)
    ),
    ("gen_ai", "Error rate"): 100
    * sum(event.error_type is not None for event in OF_OPENAI)
    / len(OF_OPENAI),
}


@pytest.mark.parametrize(("name", "title"), FIGURES)
def test_a_figure_of_a_dashboard_is_what_happened(day: Prometheus, name: str, title: str) -> None:
    (expression,) = expressions_of(documents()[name], title)

    found = day.value(substituted(expression, time_range="24h"), END)
    assert found == pytest.approx(FIGURES[name, title], rel=1e-9)


def test_cost_by_model_is_what_happened(day: Prometheus) -> None:
    (expression,) = expressions_of(documents()["cost"], "Cost by model")
    samples = day.query(substituted(expression, time_range="24h"), END)

    costs = {model: cost for model, cost in by_model(usd).items() if cost}
    assert {sample.labels["model"]: sample.value for sample in samples} == pytest.approx(
        costs, rel=1e-9
    )


OWN = {"authentication", "cancelled", "content_filter", "context_length", "invalid_request", "not_found", "permission"}  # fmt: skip
BY_PROVIDER = {
    client.provider: [event for event in LAST_DAY if event.client is client]
    for client in traffic.CLIENTS
}
RECORDED: dict[str, dict[str, float]] = {
    "provider:ai_api_errors:ratio_rate1d": {
        provider: sum(
            event.error_type is not None and event.error_type not in OWN for event in events
        )
        / len(events)
        for provider, events in BY_PROVIDER.items()
    },
    "provider:ai_api_slow_requests:ratio_rate1d": {
        provider: sum(event.duration_ms > 30_000 for event in events) / len(events)
        for provider, events in BY_PROVIDER.items()
    },
    "provider:ai_api_requests:increase1d": {
        provider: len(events) for provider, events in BY_PROVIDER.items()
    },
}


EXPRESSIONS = {rule["record"]: rule["expr"] for rule in RECORDING}


@pytest.mark.parametrize("name", RECORDED)
def test_what_a_recording_rule_tells_of_a_provider_is_what_happened(
    day: Prometheus, name: str
) -> None:
    found = {
        sample.labels["provider"]: sample.value for sample in day.query(EXPRESSIONS[name], END)
    }

    assert found == pytest.approx(RECORDED[name], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("window", "events"), [("1h", LAST_HOUR), ("1d", LAST_DAY)])
def test_what_a_recording_rule_tells_of_cost_is_what_happened(
    day: Prometheus, window: str, events: list[Event]
) -> None:
    expression = EXPRESSIONS[f"job:ai_api_cost_usd:increase{window}"]

    assert day.value(expression, END) == pytest.approx(usd(events), rel=1e-9)

"""The queries of users' first dashboards: answered as they stand, by a real Prometheus that scrapes a real sidecar."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest
from grafana import RULES
from prometheus import Prometheus, needs_prometheus, sidecar_process, wait_until

pytestmark = needs_prometheus

CALLS: Sequence[tuple[str, int, int, int, int, int]] = [
    # model, how often, status, milliseconds, input tokens, output tokens
    ("gpt-4.1", 60, 200, 400, 1000, 500),
    ("gpt-4.1", 36, 200, 4000, 2000, 100),
    ("gpt-4.1", 4, 500, 80, 0, 0),
    ("deepseek-v3.2", 80, 200, 700, 3000, 700),
    ("deepseek-v3.2", 20, 429, 20, 0, 0),
]
CENTS_OF_A_MILLION = {"gpt-4.1": 800, "deepseek-v3.2": 42}
"""Input and output alike: SPEC, chapter 5."""
OF_OTHERS = {"provider": "openai", "model": "gpt-4.1", "status_code": 500, "latency_ms": 9_000}
"""What another provider's calls do is not in any answer."""

LATENCY = 'rate(ai_api_request_duration_milliseconds_bucket{provider="holysheep"}[5m])'
ERRORS = 'rate(ai_api_errors_total{provider="holysheep"}[5m])'
REQUESTS = 'rate(ai_api_requests_total{provider="holysheep"}[5m])'
COST = 'increase(ai_api_cost_usd_cents{provider="holysheep"}[24h])'
DOLLARS = {
    model: cents
    * sum(
        times * (tokens_in + tokens_out)
        for of_model, times, _, _, tokens_in, tokens_out in CALLS
        if of_model == model
    )
    / 1e8
    for model, cents in CENTS_OF_A_MILLION.items()
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, float, float]]:
    """Give the Prometheus, and the times of the last scrape and of the last evaluation of the rules."""
    directory = tmp_path_factory.mktemp("watched")
    log_path = directory / "requests.log"
    log_path.touch()
    # it scrapes every second here, not every five: the rules keep up with it as they do outside
    rules = directory / "rules.yaml"
    text = RULES.read_text(encoding="utf-8")
    assert text.count("interval: 5s") == 1
    rules.write_text(text.replace("interval: 5s", "interval: 200ms"))
    lines = [json.dumps(OF_OTHERS)] * 7
    for model, times, status, milliseconds, tokens_in, tokens_out in CALLS:
        line = {
            "provider": "holysheep",
            "model": model,
            "endpoint": "/v1/chat/completions",
            "status_code": status,
            "latency_ms": milliseconds,
            "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out},
        }
        lines += [json.dumps(line)] * times
    with (
        sidecar_process(log_path) as sidecar,
        Prometheus(directory, [sidecar.target], rule_files=[rules]) as prometheus,
    ):
        prometheus.wait_for_scrapes()
        log_path.write_text("".join(f"{line}\n" for line in lines))
        cents = 100 * sum(DOLLARS.values())
        wait_until(
            lambda: (
                [sample.value for sample in prometheus.query("sum(ai_api_cost_usd_cents)")]
                == [pytest.approx(cents)]
            ),
            "the cost to be recorded",
        )
        yield (
            prometheus,
            prometheus.value("max(timestamp(ai_api_requests_total))"),
            prometheus.value("max(timestamp(ai_api_cost_usd_cents))"),
        )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # of 200: 20 up to 25 ms, 4 to 100, 60 to 500, 80 to 1000, 36 to 5000
        (f"histogram_quantile(0.50, sum({LATENCY}) by (le))", 500 + 500 * 16 / 80),
        (f"histogram_quantile(0.95, sum({LATENCY}) by (le))", 2500 + 2500 * 26 / 36),
        (f"histogram_quantile(0.99, sum({LATENCY}) by (le))", 2500 + 2500 * 34 / 36),
        (
            f"histogram_quantile(0.95, sum({LATENCY}) by (le, model))",
            {"gpt-4.1": 2500 + 2500 * 31 / 36, "deepseek-v3.2": 500 + 500 * 75 / 80},
        ),
        (
            f"histogram_quantile(0.99, sum({LATENCY}) by (le, model))",
            {"gpt-4.1": 2500 + 2500 * 35 / 36, "deepseek-v3.2": 500 + 500 * 79 / 80},
        ),
        ('sum(rate(ai_api_requests_total{provider="holysheep"}[1m])) * 60', 200),
        (
            f"sum({ERRORS}) / sum({REQUESTS}) * 100",
            12,
        ),
    ],
)
def test_a_query_is_answered_from_what_is_scraped(
    watched: tuple[Prometheus, float, float], expression: str, expected: float | dict[str, float]
) -> None:
    prometheus, scraped, _ = watched

    assert answer(prometheus, expression, scraped) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (f"sum({COST}) / 100", sum(DOLLARS.values())),
        (f"sum({COST}) by (model) / 100", DOLLARS),
    ],
)
def test_a_query_of_cost_is_answered_from_what_is_recorded(
    watched: tuple[Prometheus, float, float], expression: str, expected: float | dict[str, float]
) -> None:
    """They ask for `ai_api_cost_usd_cents` without `_total`: a recording rule gives it that name too."""
    prometheus, _, recorded = watched

    assert answer(prometheus, expression, recorded) == pytest.approx(expected, rel=1e-9)


def test_their_variable_is_answered(watched: tuple[Prometheus, float, float]) -> None:
    """label_values(ai_api_requests_total, provider)"""
    prometheus, _, _ = watched

    assert prometheus.label_values("ai_api_requests_total", "provider") == ["holysheep", "openai"]


def answer(prometheus: Prometheus, expression: str, at: float) -> float | dict[str, float]:
    """Give the one value, or that of each model."""
    samples = prometheus.query(expression, at)
    if [sample.labels for sample in samples] == [{}]:
        return samples[0].value
    return {sample.labels["model"]: sample.value for sample in samples}

"""`--schema`: which names are served, over restarts, and to a real Prometheus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus import Prometheus, needs_prometheus, sidecar_process
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sidecar.cli import main

BOTH = ("--schema", "ai_api", "--schema", "gen_ai")


def line(number: int, **more: Any) -> str:
    """A request that takes `number` hundredths of a second."""
    record = {
        "provider": "openai",
        "model": "fast",
        "response_model": "gpt-4o",
        "endpoint": "/v1/chat/completions",
        "status_code": 200,
        "latency_ms": number * 10,
        "ttft_ms": number,
        "usage": {"prompt_tokens": number, "completion_tokens": 10},
        **more,
    }
    return json.dumps(record) + "\n"


def served_by(page: str) -> list[str]:
    return [name for name in ("ai_api", "gen_ai") if f"# HELP {name}_" in page]


def value_of(page: str, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in parse_text(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.mark.parametrize(
    ("options", "served"),
    [
        ((), ["ai_api"]),
        (("--schema", "ai_api"), ["ai_api"]),
        (("--schema", "gen_ai"), ["gen_ai"]),
        (BOTH, ["ai_api", "gen_ai"]),
        ((*BOTH, "--schema", "gen_ai"), ["ai_api", "gen_ai"]),
    ],
    ids=lambda value: str(sorted(value)),
)
def test_those_names_are_served_that_are_asked_for(
    tmp_path: Path, options: tuple[str, ...], served: list[str]
) -> None:
    log = tmp_path / "a.log"
    log.write_text(line(1))

    done = CliRunner().invoke(main, ["--log-path", str(log), *options, "--once"])

    assert served_by(done.output) == served
    assert done.output.count("# HELP gen_ai_client_token_usage") == ("gen_ai" in served)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--schema", "otel"), "'otel' is not one of 'ai_api', 'gen_ai'"),
        (("--label", "gen_ai_request_model=m"), "got 'gen_ai_request_model'"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_said_in_one_sentence(
    options: tuple[str, ...], sentence: str
) -> None:
    done = CliRunner().invoke(main, ["--log-path", "-", *options])

    assert done.exit_code == 2
    assert sentence in done.output
    assert done.output.count("\n") == 1


def test_another_schema_over_a_restart_goes_on_from_the_same_state(tmp_path: Path) -> None:
    log, state = tmp_path / "a.log", tmp_path / "state"
    log.write_text("")
    pages = []
    for schema in (("ai_api",), ("ai_api", "gen_ai"), ("gen_ai",), ("ai_api", "gen_ai")):
        options = [text for name in schema for text in ("--schema", name)]
        with log.open("a") as text:
            text.write("".join([line(number) for number in range(1, 11)]))
        # who scraped the life before sees what is new as 0 first
        options += ["--no-zero-first", "--state-dir", str(state)]
        with sidecar_process(log, *options) as sidecar:
            pages.append(sidecar.page())

    counts = [value_of(page, "ai_api_requests_total", model="gpt-4o") for page in pages]
    assert counts == [10, 20, 0, 40]
    operations = [
        value_of(
            page,
            "gen_ai_client_operation_duration_seconds_count",
            gen_ai_request_model="fast",
            gen_ai_response_model="gpt-4o",
        )
        for page in pages
    ]
    assert operations == [0, 10, 20, 30]
    inputs = [value_of(page, "gen_ai_client_token_usage_sum") for page in pages]
    assert inputs == [0, 155, 310, 465]
    assert value_of(pages[3], "ai_api_input_tokens_total") == 220
    assert value_of(pages[3], "gen_ai_client_cost_usd_total") == pytest.approx(
        value_of(pages[3], "ai_api_cost_usd_cents_total") / 100
    )


@needs_prometheus
def test_a_real_prometheus_has_quantiles_of_the_other_schema(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("")
    with (
        sidecar_process(log, *BOTH, "--label", "team=team") as sidecar,
        Prometheus(tmp_path, [sidecar.target], scrape_interval_seconds=1.0) as prometheus,
    ):
        prometheus.wait_for_scrapes(1)
        with log.open("a") as text:
            # 100 requests of 0.01 s to 1 s: the median is in the bucket from 0.32 s to 0.64 s, which holds 32
            text.write("".join([line(number, team="red") for number in range(1, 101)]))
            text.write(line(9000, team="red", status_code=429))
        prometheus.wait_for_scrapes(3)

        name = "gen_ai_client_operation_duration_seconds"
        good = '{gen_ai_operation_name="chat",error_type="",team="red"}'
        increases = f"sum(increase({name}_bucket{good}[1m])) by (le)"
        median = prometheus.value(f"histogram_quantile(0.5, {increases})")
        tokens = prometheus.query(
            "histogram_quantile(1, sum(gen_ai_client_token_usage_bucket) by (le, gen_ai_token_type))"
        )

        assert median == pytest.approx(0.32 + 0.32 * (50 - 32) / 32)
        assert {sample.labels["gen_ai_token_type"]: sample.value for sample in tokens} == {
            "input": 16384.0,
            "output": 16.0,
        }
        assert prometheus.label_values(f"{name}_count", "error_type") == ["rate_limit"]
        assert prometheus.label_values(f"{name}_count", "gen_ai_request_model") == ["fast"]
        assert prometheus.label_values(f"{name}_count", "gen_ai_response_model") == ["gpt-4o"]

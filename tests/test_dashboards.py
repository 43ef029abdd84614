"""The Grafana dashboards: made from code, sound in themselves, and answered by a real Prometheus."""

from __future__ import annotations

import json
import math
import re
import runpy
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import pytest
from grafana import ALL, Json, drawn_panels_of, panels_of, queries_of, substituted
from prometheus import Prometheus, Sample, needs_prometheus, sidecar_process, wait_until

from sidecar.metrics import AI_API, Health, HealthCollector
from sidecar.series import Store

FOLDER = Path(__file__).parent.parent / "dashboards"
DASHBOARDS = sorted(FOLDER.glob("*.json"))


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Json:
    document: Json = json.loads(request.param.read_text(encoding="utf-8"))
    return document


def label_queries_of(dashboard: Json) -> Iterator[tuple[str, str, str]]:
    """Give the variable, the metric with its matchers, and the label of every `label_values(…)`."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert match, variable["query"]
            yield variable["name"], match[1], match[2]


def sample_table() -> dict[str, tuple[str, frozenset[str]]]:
    """Give for each sample name that a page can show: the type of its family, and its labels."""
    table: dict[str, tuple[str, frozenset[str]]] = {}

    def add(name: str, kind: str, labels: frozenset[str]) -> None:
        if kind == "counter":
            table[f"{name}_total"] = (kind, labels)
        elif kind == "histogram":
            table[f"{name}_bucket"] = (kind, labels | {"le"})
            table[f"{name}_count"] = table[f"{name}_sum"] = (kind, labels)
        else:
            table[name] = (kind, labels)

    for family in AI_API:
        split = {family.split[0]} if family.split else set()
        add(family.name, family.type, frozenset(family.labels) | split)
    for metric in HealthCollector(Health(), Store(1)).collect():
        names = {name for sample in metric.samples for name in sample.labels}
        add(metric.name, metric.type, frozenset(names))
    return table


METRIC = re.compile(r"\b(?:ai_api|ai_sidecar|gen_ai)_\w+")
TARGET_LABELS = frozenset({"job", "instance", "namespace", "pod"})
"""What Prometheus adds to every sample."""


def test_there_is_an_overview() -> None:
    assert "overview" in [path.stem for path in DASHBOARDS]


# the successor that it prefers is not what Grafana's provisioning and its older versions read
@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
def test_the_committed_files_are_what_the_code_makes() -> None:
    pytest.importorskip(
        "grafana_foundation_sdk", reason="grafana-foundation-sdk==0.0.21 is not installed"
    )
    made: dict[str, str] = runpy.run_path(str(FOLDER / "make.py"))["files"]()

    assert made == {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS}


def test_dashboard_uids_are_unique() -> None:
    uids = [json.loads(path.read_text(encoding="utf-8"))["uid"] for path in DASHBOARDS]

    assert len(set(uids)) == len(uids)


def test_panel_ids_are_unique(dashboard: Json) -> None:
    ids = [panel["id"] for panel in panels_of(dashboard)]

    assert len(set(ids)) == len(ids)


def test_panels_are_within_the_grid_and_do_not_overlap(dashboard: Json) -> None:
    cells = [panel["gridPos"] for panel in dashboard["panels"]]

    assert [
        cell for cell in cells if cell["x"] < 0 or cell["w"] < 1 or cell["x"] + cell["w"] > 24
    ] == []
    overlaps = [
        (one, other)
        for one, other in combinations(cells, 2)
        if one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    ]
    assert overlaps == []


def test_every_row_of_the_grid_is_filled(dashboard: Json) -> None:
    """A gap is a panel that was forgotten, or one that is narrower than its neighbours leave room."""
    cells = [panel["gridPos"] for panel in dashboard["panels"]]
    height = max(cell["y"] + cell["h"] for cell in cells)

    assert sum(cell["w"] * cell["h"] for cell in cells) == 24 * height


def test_every_panel_has_a_unit_a_description_and_thresholds(dashboard: Json) -> None:
    lacking = [
        (panel["title"], what)
        for panel in drawn_panels_of(dashboard)
        for what, value in (
            ("description", panel.get("description")),
            ("unit", panel["fieldConfig"]["defaults"].get("unit")),
            # lines need none, a single figure that is coloured does
            (
                "thresholds",
                panel["type"] == "timeseries" or panel["fieldConfig"]["defaults"].get("thresholds"),
            ),
        )
        if not value
    ]

    assert lacking == []


def test_everything_asks_the_chosen_data_source(dashboard: Json) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}

    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )
    assert [
        panel["title"] for panel in drawn_panels_of(dashboard) if panel["datasource"] != chosen
    ] == []
    assert [
        title for title, target in queries_of(dashboard) if target["datasource"] != chosen
    ] == []
    asking = [variable for variable in variables.values() if variable["type"] == "query"]
    assert [variable["name"] for variable in asking if variable["datasource"] != chosen] == []


def test_queries_of_a_panel_have_reference_ids_of_their_own(dashboard: Json) -> None:
    for panel in drawn_panels_of(dashboard):
        ids = [target.get("refId") for target in panel["targets"]]
        assert (None in ids, len(set(ids))) == (False, len(ids)), panel["title"]


def test_every_query_is_narrowed_by_provider_and_model(dashboard: Json) -> None:
    selectors = [
        selector
        for _, target in queries_of(dashboard)
        for selector in re.findall(r"ai_api_\w+(\{[^}]*\}|)", target["expr"])
    ]

    assert set(selectors) == {'{provider=~"$provider", model=~"$model"}'}


def test_every_metric_and_label_is_in_our_table(dashboard: Json) -> None:
    table = sample_table()
    strangers = []
    for title, target in queries_of(dashboard):
        expression = target["expr"]
        metrics = METRIC.findall(expression)
        assert metrics, title
        known: set[str] = set(TARGET_LABELS)
        for metric in metrics:
            if metric not in table:
                strangers.append((title, metric))
                continue
            known |= table[metric][1]
        for metric, matchers in re.findall(rf"({METRIC.pattern})\{{([^}}]*)\}}", expression):
            of_metric = table.get(metric, ("", frozenset()))[1] | TARGET_LABELS
            strangers += [
                (title, label)
                for label in re.findall(r"(\w+)\s*(?:=|!)", matchers)
                if label not in of_metric
            ]
        grouped = [
            label.strip()
            for group in re.findall(r"\bby \(([^)]*)\)", expression)
            for label in group.split(",")
        ]
        assert grouped or " by" not in expression, title
        shown = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        strangers += [(title, label) for label in (*grouped, *shown) if label not in known]
        strangers += [(title, label) for label in shown if label not in grouped]
    for name, selector, label in label_queries_of(dashboard):
        metric = METRIC.findall(selector)[0]
        if metric not in table or label not in table[metric][1]:
            strangers.append((name, f"{metric}.{label}"))

    assert strangers == []


def test_only_counters_are_asked_for_a_rate_and_always_before_a_sum(dashboard: Json) -> None:
    table = sample_table()
    for title, target in queries_of(dashboard):
        rated = re.findall(rf"\b(?:rate|irate|increase)\(({METRIC.pattern})\{{", target["expr"])
        asked = METRIC.findall(target["expr"])

        assert [
            metric for metric in rated if table[metric][0] not in ("counter", "histogram")
        ] == [], title
        # a counter as it stands says only how long its process has lived
        counters = [metric for metric in asked if table[metric][0] in ("counter", "histogram")]
        assert sorted(counters) == sorted(rated), title


def test_a_quantile_keeps_the_bucket_bounds(dashboard: Json) -> None:
    for title, target in queries_of(dashboard):
        for arguments in re.findall(r"histogram_quantile\((.*)", target["expr"]):
            assert re.match(r"0\.\d+, sum by \(le[,)]", arguments), title


REQUESTS = [
    # status, milliseconds, input tokens, output tokens
    *[(200, 400, 1000, 500)] * 15,
    *[(429, 20, 0, 0)] * 5,
]
"""The calls of one model."""
MODELS = {"gpt-4.1": 8, "deepseek-v3.2": 0.42}
"""Our two models and what a million tokens of each cost, in USD: SPEC, chapter 5."""
UNKNOWN_MODEL = "a-model-of-nobody"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, float]]:
    """Let a real Prometheus watch a real sidecar while requests come; give it, and the time of its last scrape."""
    directory = tmp_path_factory.mktemp("scraped")
    log_path = directory / "log" / "requests.jsonl"
    log_path.parent.mkdir()
    log_path.touch()
    lines = [
        json.dumps(
            {
                "ts": "2026-01-02T03:04:05Z",
                "provider": "holysheep",
                "model": model,
                "endpoint": "/v1/chat/completions",
                "status_code": status,
                "latency_ms": milliseconds,
                "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out},
            }
        )
        for model in (*MODELS, UNKNOWN_MODEL)
        for status, milliseconds, tokens_in, tokens_out in REQUESTS
    ]
    with (
        sidecar_process(log_path.parent) as sidecar,
        Prometheus(directory, [sidecar.target]) as prometheus,
    ):
        # the requests come while it is watched, so that there is an increase
        prometheus.wait_for_scrapes()
        log_path.write_text("".join(f"{line}\n" for line in lines))
        wait_until(
            lambda: (
                [sample.value for sample in prometheus.query("sum(ai_api_requests_total)")]
                == [len(lines)]
            ),
            "all requests to be scraped",
        )
        prometheus.wait_for_scrapes(2)
        # at the moment of a scrape nothing is extrapolated: the series begin at the 0 that the sidecar shows first
        yield prometheus, prometheus.value("max(timestamp(ai_api_requests_total))")


@needs_prometheus
def test_a_real_prometheus_answers_every_query_with_finite_figures(
    scraped: tuple[Prometheus, float], dashboard: Json
) -> None:
    prometheus, at = scraped
    for title, target in queries_of(dashboard):
        expression = substituted(target["expr"], ALL)
        samples = prometheus.query(expression, at)
        assert samples, title
        assert all(math.isfinite(sample.value) for sample in samples), (title, samples)
        if not target["instant"]:
            series = prometheus.query_range(expression, at - 60, at)
            assert {tuple(labels) for labels, _ in series} == {
                tuple(sample.labels) for sample in samples
            }, title


@needs_prometheus
def test_a_real_prometheus_answers_every_variable(
    scraped: tuple[Prometheus, float], dashboard: Json
) -> None:
    prometheus, _ = scraped
    answers = {
        name: prometheus.label_values(substituted(selector, ALL), label)
        for name, selector, label in label_queries_of(dashboard)
    }

    assert answers["provider"] == ["holysheep"]
    assert answers["model"] == sorted([*MODELS, UNKNOWN_MODEL])


def overview_figures(
    scraped: tuple[Prometheus, float], title: str, selection: Mapping[str, str]
) -> list[Sample]:
    prometheus, at = scraped
    dashboard = json.loads((FOLDER / "overview.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel, target in queries_of(dashboard) if panel == title]
    return [
        sample
        for expression in expressions
        for sample in prometheus.query(substituted(expression, selection), at)
    ]


COSTS = {
    model: usd * sum(tokens_in + tokens_out for _, _, tokens_in, tokens_out in REQUESTS) / 1e6
    for model, usd in MODELS.items()
}


@needs_prometheus
@pytest.mark.parametrize(
    ("title", "selection", "expected"),
    [
        # 5 of 20 in the bucket up to 25 ms, 15 in that from 250 to 500: the 10th is a third into it
        ("P50 latency", ALL, 250 + 250 * 5 / 15),
        ("Error rate", ALL, 25),
        ("Error rate", {**ALL, "model": "gpt-4.1"}, 25),
        ("Cost today", ALL, sum(COSTS.values())),
        ("Cost today", {**ALL, "model": "gpt-4.1"}, COSTS["gpt-4.1"]),
        ("Cost today", {**ALL, "model": UNKNOWN_MODEL}, 0),
        ("Unpriced today", ALL, 15),
        ("Unpriced today", {**ALL, "model": "gpt-4.1"}, 0),
    ],
)
def test_a_figure_of_the_overview_is_what_was_sent(
    scraped: tuple[Prometheus, float], title: str, selection: Mapping[str, str], expected: float
) -> None:
    samples = overview_figures(scraped, title, selection)

    assert [sample.value for sample in samples] == [pytest.approx(expected, rel=1e-9)]


@needs_prometheus
def test_cost_by_model_is_what_was_sent(scraped: tuple[Prometheus, float]) -> None:
    samples = overview_figures(scraped, "Cost by model", ALL)

    costs = {sample.labels["model"]: sample.value for sample in samples}
    assert {model: usd for model, usd in costs.items() if model != UNKNOWN_MODEL} == pytest.approx(
        COSTS, rel=1e-9
    )
    assert costs.get(UNKNOWN_MODEL, 0) == 0


@needs_prometheus
def test_what_is_not_scraped_shows_no_figure_rather_than_zero(
    scraped: tuple[Prometheus, float],
) -> None:
    nobody = {**ALL, "provider": "nobody"}

    for title in ("P50 latency", "Error rate", "Cost today", "Unpriced today"):
        assert overview_figures(scraped, title, nobody) == [], title

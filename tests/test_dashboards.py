"""The Grafana dashboards: made from code, sound in themselves, and answered by a real Prometheus."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from itertools import combinations

import pytest
from grafana import (
    ALL,
    DASHBOARDS,
    GEN_AI,
    GEN_AI_FAMILIES,
    RULES,
    SELECTOR,
    TARGET_LABELS,
    Json,
    annotations_of,
    documents,
    drawn_panels_of,
    expressions_of,
    label_queries_of,
    panels_of,
    queries_of,
    sample_table,
    substituted,
)
from prometheus import Prometheus, Sample, needs_prometheus, sidecar_process, wait_until


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Json:
    document: Json = json.loads(request.param.read_text(encoding="utf-8"))
    return document


def asked_of(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Give the title and the expression of every query, those of annotations and variables among them."""
    for title, target in queries_of(dashboard):
        yield title, target["expr"]
    for annotation in annotations_of(dashboard):
        yield annotation["name"], annotation["expr"]
    for name, selector, _ in label_queries_of(dashboard):
        yield name, selector


def test_there_is_a_dashboard_for_each_question() -> None:
    assert {
        path.stem: document["uid"]
        for path, document in zip(DASHBOARDS, documents().values(), strict=True)
    } == {
        "cost": "ai-sidecar-cost",
        "gen_ai": "ai-sidecar-gen-ai",
        "health": "ai-sidecar-health",
        "latency": "ai-sidecar-latency",
        "overview": "ai-sidecar-overview",
    }


def made(extra_labels: tuple[str, ...] = ()) -> dict[str, str]:
    pytest.importorskip(
        "grafana_foundation_sdk", reason="grafana-foundation-sdk==0.0.21 is not installed"
    )
    from dashboards import make

    return make.files(extra_labels)


# the successor that it prefers is not what Grafana's provisioning and its older versions read
ignore_successor = pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")


@ignore_successor
def test_the_committed_files_are_what_the_code_makes() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in (*DASHBOARDS, RULES)}

    assert made() == committed


@ignore_successor
def test_an_extra_label_becomes_a_variable_that_narrows_every_query() -> None:
    for name in ("overview.json", "cost.json", "latency.json", "gen_ai.json"):
        dashboard = json.loads(made(("team",))[name])
        variables = [variable["name"] for variable in dashboard["templating"]["list"]]
        selectors = [
            matchers
            for _, target in queries_of(dashboard)
            for metric, matchers in SELECTOR.findall(target["expr"])
            if not metric.startswith(("ai_sidecar_", "process_")) and ":" not in metric
        ]

        assert "team" in variables
        assert selectors
        assert [matchers for matchers in selectors if 'team=~"$team"' not in matchers] == []


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
            ("thresholds", panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps")),
        )
        if not value
    ]

    assert lacking == []


def test_thresholds_begin_without_a_value_and_rise(dashboard: Json) -> None:
    for panel in drawn_panels_of(dashboard):
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        values = [step["value"] for step in steps[1:]]

        assert (steps[0]["value"], values) == (None, sorted(values)), panel["title"]


def test_titles_of_panels_are_unique(dashboard: Json) -> None:
    titles = [panel["title"] for panel in panels_of(dashboard)]

    assert sorted(titles) == sorted(set(titles))


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
    asking = [
        *(variable for variable in variables.values() if variable["type"] in ("query", "adhoc")),
        *annotations_of(dashboard),
    ]
    assert [variable["name"] for variable in asking if variable["datasource"] != chosen] == []


def test_queries_of_a_panel_have_reference_ids_of_their_own(dashboard: Json) -> None:
    for panel in drawn_panels_of(dashboard):
        ids = [target.get("refId") for target in panel["targets"]]
        assert (None in ids, len(set(ids))) == (False, len(ids)), panel["title"]


def test_the_viewer_chooses_target_provider_and_model(dashboard: Json) -> None:
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    of_calls = [] if dashboard["uid"] == "ai-sidecar-health" else ["provider", "model", "filters"]

    assert variables == ["datasource", "job", "namespace", "pod", *of_calls]


def test_every_query_is_narrowed_by_what_the_viewer_chooses(dashboard: Json) -> None:
    """A record has lost the labels that it was added up over: it is narrowed by those that are left."""
    table = sample_table()
    variables = {
        "job": "job",
        "namespace": "namespace",
        "pod": "pod",
        "provider": "provider",
        "model": "model",
        "gen_ai_provider_name": "provider",
        "gen_ai_request_model": "model",
    }
    for title, target in queries_of(dashboard):
        for metric, matchers in SELECTOR.findall(target["expr"]):
            labels = table[metric][1] | (TARGET_LABELS if ":" not in metric else frozenset())
            expected = [
                f'{label}=~"${name}"' for label, name in variables.items() if label in labels
            ]

            assert matchers.split(", ")[: len(expected)] == expected, title


def test_every_metric_and_label_is_in_our_table(dashboard: Json) -> None:
    table = sample_table()
    strangers = []
    for title, expression in asked_of(dashboard):
        selectors = SELECTOR.findall(expression)
        bare = re.findall(
            r"\b(?:(?:ai_api|ai_sidecar|gen_ai|process)_|\w+:)[\w:]+",
            re.sub(r"\{[^}]*\}|by \([^)]*\)", "", expression),
        )
        assert set(bare) == {metric for metric, _ in selectors} or title == "job", title
        known: set[str] = set(TARGET_LABELS)
        strangers += [(title, metric) for metric in bare if metric not in table]
        for metric, matchers in selectors:
            of_metric = table.get(metric, ("", frozenset()))[1] | TARGET_LABELS
            known |= of_metric
            strangers += [
                (title, label)
                for label in re.findall(r"(\w+)\s*(?:=|!)", matchers)
                if label not in of_metric
            ]
        grouped = [
            label.strip()
            for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
            for label in group.split(",")
        ]
        strangers += [(title, label) for label in grouped if label not in known]
    for title, target in queries_of(dashboard):
        labels: set[str] = set(TARGET_LABELS)
        for metric, _ in SELECTOR.findall(target["expr"]):
            labels |= table[metric][1]
        shown = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        strangers += [(title, label) for label in shown if label not in labels]
    for name, selector, label in label_queries_of(dashboard):
        metric = re.split(r"\{", selector)[0]
        if metric not in table or label not in table[metric][1] | TARGET_LABELS:
            strangers.append((name, f"{metric}.{label}"))

    assert strangers == []


def test_the_names_of_opentelemetry_are_those_of_the_code() -> None:
    if not GEN_AI_FAMILIES:
        pytest.skip("the code serves no gen_ai schema")
    families = {
        family.name: (
            family.type,
            frozenset(family.labels) | ({family.split[0]} if family.split else set()),
        )
        for family in GEN_AI_FAMILIES
    }

    assert families == GEN_AI


def test_only_counters_are_asked_for_a_rate_and_always_before_a_sum(dashboard: Json) -> None:
    table = sample_table()
    counting = ("counter", "histogram")
    for title, target in queries_of(dashboard):
        expression = target["expr"]
        rated = re.findall(r"\b(?:rate|irate|increase)\(([\w:]+)\{", expression)
        asked = [metric for metric, _ in SELECTOR.findall(expression)]

        assert [metric for metric in rated if table[metric][0] not in counting] == [], title
        # a counter as it stands says only how long its process has lived
        counters = [metric for metric in asked if table[metric][0] in counting]
        assert sorted(counters) == sorted(rated), title


def test_a_quantile_keeps_the_bucket_bounds(dashboard: Json) -> None:
    for title, target in queries_of(dashboard):
        for arguments in re.findall(r"histogram_quantile\((.*)", target["expr"]):
            assert re.match(r"0\.\d+, sum by \(le[,)]", arguments), title


def test_latency_over_time_has_exemplars(dashboard: Json) -> None:
    """Of each panel one query: all of them would bring the same points."""
    timed = re.compile(r"(?:duration|first_token|first_chunk)_\w*bucket")
    for panel in drawn_panels_of(dashboard):
        asked = [target for target in panel["targets"] if timed.search(target["expr"])]
        drawn = [
            target for target in asked if not target["instant"] and "quantile" in target["expr"]
        ]

        assert sum(target["exemplar"] for target in drawn) == bool(drawn), panel["title"]


def test_the_dashboards_link_to_each_other_and_keep_what_was_chosen(dashboard: Json) -> None:
    (link,) = dashboard["links"]

    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
    assert set(link["tags"]) <= set(dashboard["tags"])


def test_the_start_of_a_sidecar_is_marked(dashboard: Json) -> None:
    (starts,) = annotations_of(dashboard)

    assert "process_start_time_seconds" in starts["expr"]


def test_every_figure_that_people_look_for_is_there() -> None:
    titles = {panel["title"] for document in documents().values() for panel in panels_of(document)}

    assert titles >= {
        "Requests a minute by model", "Error rate by model", "Latency by model", "Time to first token by model",
        "Time per output token by model", "Tokens a minute by kind", "Cost by model", "Cost today",
        "Cost a month ahead", "Cache hit ratio", "Cost of 1000 requests", "Requests left before the limit",
        "Finish reasons, a minute", "Unpriced share", "Saved by caching", "Burn of the error budget",
        "Burn of the latency budget",
    }  # fmt: skip


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
                **({"ttft_ms": 100} if status == 200 else {}),
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
def test_a_running_sidecar_answers_every_query_of_the_overview_with_finite_figures(
    scraped: tuple[Prometheus, float],
) -> None:
    prometheus, at = scraped
    dashboard = documents()["overview"]
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

    assert answers["job"] == ["ai-sidecar"]
    if dashboard["uid"] in ("ai-sidecar-overview", "ai-sidecar-cost", "ai-sidecar-latency"):
        assert answers["provider"] == ["holysheep"]
        assert answers["model"] == sorted([*MODELS, UNKNOWN_MODEL])


def overview_figures(
    scraped: tuple[Prometheus, float], title: str, selection: Mapping[str, str]
) -> list[Sample]:
    prometheus, at = scraped
    return [
        sample
        for expression in expressions_of(documents()["overview"], title)
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

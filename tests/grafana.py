"""What dashboards and rules ask their data source, read from their files, and the names that they may ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dashboards import rules
from sidecar import metrics
from sidecar.metrics import AI_API, Health, HealthCollector
from sidecar.series import Store

Json = dict[str, Any]

FOLDER = Path(__file__).parent.parent / "dashboards"
DASHBOARDS = sorted(FOLDER.glob("*.json"))
RULES = FOLDER / "rules.yaml"

ALL: Mapping[str, str] = dict.fromkeys(("job", "namespace", "pod", "provider", "model"), ".*")
"""What the variables stand for where the viewer has chosen nothing."""

TARGET_LABELS = frozenset({"job", "instance", "namespace", "pod"})
"""What Prometheus adds to every sample."""

SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\{([^{}]*)\}")
"""A metric and its matchers: our dashboards ask for none without any."""

_GEN_AI = frozenset({"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"})
GEN_AI: Mapping[str, tuple[str, frozenset[str]]] = {
    "gen_ai_client_operation_duration_seconds": (
        "histogram",
        _GEN_AI | {"gen_ai_response_model", "error_type"},
    ),
    "gen_ai_client_token_usage": (
        "histogram",
        _GEN_AI | {"gen_ai_response_model", "gen_ai_token_type"},
    ),
    "gen_ai_client_operation_time_to_first_chunk_seconds": (
        "histogram",
        _GEN_AI | {"gen_ai_response_model"},
    ),
    "gen_ai_client_cost_usd": ("counter", _GEN_AI | {"gen_ai_response_model"}),
}
"""SPEC, chapter 3: family → type and labels."""

GEN_AI_FAMILIES: tuple[metrics.Family, ...] = getattr(metrics, "GEN_AI", ())
"""The same in the code, where it serves that schema."""

PROCESS: Mapping[str, tuple[str, frozenset[str]]] = {
    "process_virtual_memory_bytes": ("gauge", frozenset()),
    "process_resident_memory_bytes": ("gauge", frozenset()),
    "process_start_time_seconds": ("gauge", frozenset()),
    "process_cpu_seconds": ("counter", frozenset()),
    "process_open_fds": ("gauge", frozenset()),
    "process_max_fds": ("gauge", frozenset()),
}
"""What prometheus_client tells of every process."""


def documents() -> dict[str, Json]:
    """Give each dashboard by the name of its file, without its ending."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS}


def panels_of(dashboard: Json) -> list[Json]:
    """Give every panel, those inside of collapsed rows among them."""
    return [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", ()))]


def drawn_panels_of(dashboard: Json) -> list[Json]:
    """Give the panels that ask for figures."""
    return [panel for panel in panels_of(dashboard) if panel["type"] not in ("row", "text")]


def queries_of(dashboard: Json) -> Iterator[tuple[str, Json]]:
    """Give the title of its panel and the target of every query."""
    for panel in drawn_panels_of(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target


def expressions_of(dashboard: Json, title: str) -> list[str]:
    """Give what the panel of a title asks."""
    return [target["expr"] for panel, target in queries_of(dashboard) if panel == title]


def annotations_of(dashboard: Json) -> list[Json]:
    """Give the annotations that ask for figures."""
    return [asked for asked in dashboard["annotations"]["list"] if "expr" in asked]


def label_queries_of(dashboard: Json) -> Iterator[tuple[str, str, str]]:
    """Give the variable, the metric with its matchers, and the label of every `label_values(…)`."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert match, variable["query"]
            yield variable["name"], match[1], match[2]


def rules_of(path: Path = RULES) -> list[Json]:
    """Give every rule of a file."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def substituted(
    expression: str,
    selection: Mapping[str, str] = ALL,
    *,
    time_range: str = "1h",
    rate_interval: str = "1m",
) -> str:
    """Put in what Grafana puts in for the variables of an expression."""
    values = {"__range": time_range, "__rate_interval": rate_interval, **selection}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expression)


def sample_table() -> dict[str, tuple[str, frozenset[str]]]:
    """Give for each sample name that can be asked for: the type of its family, and its labels."""
    table: dict[str, tuple[str, frozenset[str]]] = {}

    def add(name: str, kind: str, labels: frozenset[str]) -> None:
        if kind == "counter":
            table[f"{name}_total"] = (kind, labels)
        elif kind == "histogram":
            table[f"{name}_bucket"] = (kind, labels | {"le"})
            table[f"{name}_count"] = table[f"{name}_sum"] = (kind, labels)
        else:
            table[name] = (kind, labels)

    for name, (kind, labels) in {**GEN_AI, **PROCESS}.items():
        add(name, kind, labels)
    for family in (*AI_API, *GEN_AI_FAMILIES):
        split = {family.split[0]} if family.split else set()
        add(family.name, family.type, frozenset(family.labels) | split)
    for metric in HealthCollector(Health(), Store(1)).collect():
        names = {name for sample in metric.samples for name in sample.labels}
        add(metric.name, metric.type, frozenset(names))
    # a family whose samples come only with its first values
    add("ai_sidecar_requests", "counter", frozenset({"parser"}))
    for record in rules.records():
        # the one that goes by a family's name is that counter again
        kind = "counter" if record.name == "ai_api_cost_usd_cents" else "gauge"
        table[record.name] = (kind, frozenset(record.labels))
    table["up"] = ("gauge", frozenset())
    return table

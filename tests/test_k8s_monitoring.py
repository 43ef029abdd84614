"""What the Prometheus operator and Grafana are given: by the operator's schema, and by promtool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s import K8S, ROOT, Json, needs_kubectl, render

DURATION = re.compile(
    r"(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)\Z"
)
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool on PATH (Debian: prometheus)"
)


class Each:
    """Stands for a map from any key to one kind of value."""

    def __init__(self, value: Any, key: re.Pattern[str] = re.compile(".+")) -> None:
        self.value, self.key = value, key


_SELECTOR = {
    "matchLabels": Each(str),
    "matchExpressions": [{"key!": str, "operator!": {"In", "NotIn", "Exists", "DoesNotExist"}, "values": [str]}],
}  # fmt: skip
_RELABELING = {
    "action": {
        "replace", "Replace", "keep", "Keep", "drop", "Drop", "hashmod", "HashMod", "labelmap", "LabelMap",
        "labeldrop", "LabelDrop", "labelkeep", "LabelKeep", "lowercase", "Lowercase", "uppercase", "Uppercase",
        "keepequal", "KeepEqual", "dropequal", "DropEqual",
    },
    "modulus": int, "regex": str, "replacement": str, "separator": str,
    "sourceLabels": [_LABEL_NAME], "targetLabel": str,
}  # fmt: skip
_METADATA = {"name!": str, "namespace": str, "labels": Each(str), "annotations": Each(str)}
# https://prometheus-operator.dev/docs/api-reference/api/: the fields that we may come to use, and no other
SCHEMAS: dict[str, Any] = {
    "PodMonitor": {
        "apiVersion!": {"monitoring.coreos.com/v1"},
        "kind!": {"PodMonitor"},
        "metadata!": _METADATA,
        "spec!": {
            "selector!": _SELECTOR,
            "namespaceSelector": {"any": bool, "matchNames": [str]},
            "jobLabel": str,
            "podTargetLabels": [str],
            "sampleLimit": int, "targetLimit": int, "labelLimit": int,
            "scrapeProtocols": [{"PrometheusProto", "OpenMetricsText0.0.1", "OpenMetricsText1.0.0", "PrometheusText0.0.4", "PrometheusText1.0.0"}],
            "podMetricsEndpoints!": [
                {
                    "port": str, "path": str, "scheme": {"http", "https"}, "interval": DURATION, "scrapeTimeout": DURATION,
                    "honorLabels": bool, "honorTimestamps": bool, "filterRunning": bool, "enableHttp2": bool,
                    "followRedirects": bool, "params": Each([str]),
                    "relabelings": [_RELABELING], "metricRelabelings": [_RELABELING],
                }
            ],
        },
    },
    "PrometheusRule": {
        "apiVersion!": {"monitoring.coreos.com/v1"},
        "kind!": {"PrometheusRule"},
        "metadata!": _METADATA,
        "spec!": {
            "groups!": [
                {
                    "name!": str, "interval": DURATION, "limit": int, "query_offset": DURATION,
                    "partial_response_strategy": {"", "abort", "warn"}, "labels": Each(str, _LABEL_NAME),
                    "rules": [
                        {
                            "record": _METRIC_NAME, "alert": str, "expr!": str, "for": DURATION, "keep_firing_for": DURATION,
                            "labels": Each(str, _LABEL_NAME), "annotations": Each(str, _LABEL_NAME),
                        }
                    ],
                }
            ]
        },
    },
}  # fmt: skip


def breaches(value: Any, schema: Any, path: str = "") -> list[str]:
    """Give where a value is not as its schema says; a key with `!` must be there, others than those named must not."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{path}: expected fields"]
        known = {key.rstrip("!"): inner for key, inner in schema.items()}
        found = [
            f"{path}.{key[:-1]}: is not there"
            for key in schema
            if key.endswith("!") and key[:-1] not in value
        ]
        for key, inner in value.items():
            if key in known:
                found += breaches(inner, known[key], f"{path}.{key}")
            else:
                found.append(f"{path}.{key}: nobody knows it")
        return found
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{path}: expected a list"]
        return [
            fault
            for number, inner in enumerate(value)
            for fault in breaches(inner, schema[0], f"{path}[{number}]")
        ]
    if isinstance(schema, Each):
        if not isinstance(value, dict):
            return [f"{path}: expected a map"]
        found = [f"{path}.{key}: no such key" for key in value if not schema.key.match(key)]
        return found + [
            fault
            for key, inner in value.items()
            for fault in breaches(inner, schema.value, f"{path}.{key}")
        ]
    if isinstance(schema, set):
        is_good = value in schema
    elif isinstance(schema, re.Pattern):
        is_good = isinstance(value, str) and bool(value) and schema.match(value) is not None
    else:
        is_good = type(value) is schema
    return [] if is_good else [f"{path}: {value!r}"]


@pytest.fixture(scope="module")
def manifests() -> list[Json]:
    return render(K8S / "monitoring")


def of_kind(manifests: list[Json], kind: str) -> list[Json]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


@needs_kubectl
@pytest.mark.parametrize("kind", SCHEMAS)
def test_what_the_operator_reads_is_by_its_schema(manifests: list[Json], kind: str) -> None:
    found = of_kind(manifests, kind)

    assert found
    for manifest in found:
        assert breaches(manifest, SCHEMAS[kind]) == []
        for group in manifest["spec"].get("groups", []):
            for rule in group["rules"]:
                assert ("record" in rule) != ("alert" in rule)
                assert "record" not in rule or not {"for", "annotations"} & set(rule)


@needs_kubectl
def test_the_schema_knows_wrong_ones(manifests: list[Json]) -> None:
    text = json.dumps(of_kind(manifests, "PodMonitor")[0])
    [scale] = [
        one for one in of_kind(manifests, "PrometheusRule") if "scale" in one["metadata"]["name"]
    ]
    rule = json.dumps(scale)
    for kind, good, wrong in (
        ("PodMonitor", '"interval": "15s"', '"interval": "15 s"'),
        ("PodMonitor", '"interval"', '"intervall"'),
        ("PodMonitor", '"matchLabels"', '"matchLabel"'),
        ("PodMonitor", '"podMetricsEndpoints"', '"endpoints"'),
        ("PodMonitor", '"any": true', '"any": "true"'),
        ("PrometheusRule", '"interval": "1m"', '"interval": "soon"'),
        ("PrometheusRule", '"expr"', '"expression"'),
        ("PrometheusRule", '"record": "', '"record": "a-'),
    ):
        before = text if kind == "PodMonitor" else rule
        assert good in before, good
        assert breaches(json.loads(before.replace(good, wrong)), SCHEMAS[kind]), wrong


@needs_kubectl
@needs_promtool
def test_the_rules_that_were_rendered_pass_promtool(manifests: list[Json], tmp_path: Path) -> None:
    for manifest in of_kind(manifests, "PrometheusRule"):
        path = tmp_path / f"{manifest['metadata']['name']}.yaml"
        path.write_text(yaml.safe_dump({"groups": manifest["spec"]["groups"]}))

        checked = subprocess.run(
            ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
        )

        assert checked.returncode == 0, checked.stderr
        number = sum(len(group["rules"]) for group in manifest["spec"]["groups"])
        assert f"{number} rules found" in checked.stdout


@needs_kubectl
def test_rules_and_dashboards_are_those_of_dashboards(manifests: list[Json]) -> None:
    rules = [
        group
        for path in sorted((ROOT / "dashboards").glob("*.yaml"))
        for group in yaml.safe_load(path.read_text()).get("groups", [])
    ]
    dashboards = {path.name: path.read_text() for path in (ROOT / "dashboards").glob("*.json")}
    maps = of_kind(manifests, "ConfigMap")

    again = "what stands in dashboards/ has changed: make k8s"
    rendered = [
        group
        for manifest in sorted(
            of_kind(manifests, "PrometheusRule"), key=lambda one: one["metadata"]["name"]
        )
        for group in manifest["spec"]["groups"]
    ]
    assert rendered == rules, again
    assert {name: text for one in maps for name, text in one["data"].items()} == dashboards, again
    for one in maps:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        # kubectl apply keeps a copy in an annotation, and those end at 256 KiB
        assert len(json.dumps(one)) < 240 * 1024


def test_what_was_made_is_up_to_date(tmp_path: Path) -> None:
    made = [K8S / "monitoring" / "rules.yaml", ROOT / "dashboards" / "kustomization.yaml"]
    shutil.copytree(ROOT / "dashboards", tmp_path / "dashboards")
    shutil.copytree(K8S, tmp_path / "k8s")

    subprocess.run([sys.executable, tmp_path / "k8s" / "make_monitoring.py"], check=True)

    for path in made:
        assert (tmp_path / path.relative_to(ROOT)).read_text() == path.read_text(), "make k8s"


@needs_kubectl
def test_logs_of_a_node_keep_the_names_of_their_pods(manifests: list[Json]) -> None:
    """Without honorLabels they would be exported_namespace and exported_pod, and the rules would not find them."""
    monitors = {one["metadata"]["name"]: one["spec"] for one in of_kind(manifests, "PodMonitor")}

    [app] = monitors["ai-sidecar"]["podMetricsEndpoints"]
    [node] = monitors["ai-sidecar-node"]["podMetricsEndpoints"]
    assert "honorLabels" not in app
    assert node["honorLabels"] is True
    assert app["port"] == node["port"] == "ai-metrics"


@needs_promtool
@pytest.mark.parametrize("name", sorted(path.name for path in (K8S / "prometheus").glob("*.yaml")))
def test_the_example_configurations_pass_promtool(name: str, tmp_path: Path) -> None:
    text = (K8S / "prometheus" / name).read_text()
    document = yaml.safe_load(text)
    if document.get("kind") == "Prometheus":
        pytest.skip("for the operator, not for Prometheus itself")
    # Debian builds its Prometheus without the discovery of Kubernetes
    for job in document.get("scrape_configs", []):
        assert job.pop("kubernetes_sd_configs")[0]["role"] == "pod"
    for path in document.get("rule_files", []):
        shutil.copy(ROOT / "dashboards" / Path(path).name, tmp_path)
    document["rule_files"] = [
        str(tmp_path / Path(path).name) for path in document.get("rule_files", [])
    ]
    config = tmp_path / name
    config.write_text(json.dumps(document))

    command = ["promtool", "check", "config"]
    if "agent" in name:
        command.append("--agent")
    checked = subprocess.run([*command, str(config)], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in (K8S / "prometheus").glob("*.yaml")))
def test_what_is_written_far_away_is_what_the_rules_record(name: str) -> None:
    """A pattern that no longer fits the rules would quietly send nothing."""
    document = yaml.safe_load((K8S / "prometheus" / name).read_text())
    scale = yaml.safe_load((ROOT / "dashboards" / "scale.yaml").read_text())
    records = {rule["record"] for group in scale["groups"] for rule in group["rules"]}
    kept = [
        re.compile(relabel["regex"])
        for remote in document.get("remote_write", [])
        for relabel in remote.get("write_relabel_configs", [])
        if relabel["action"] == "keep"
    ]

    for pattern in kept:
        assert {record for record in records if pattern.fullmatch(record)} == records
        assert not pattern.fullmatch("ai_api_requests_total")

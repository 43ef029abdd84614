"""The manifests: valid, as restricted as they can be, and true to the program."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from prometheus import Process, sidecar_process, wait_until

from k8s import (
    CUSTOM_KINDS,
    K8S,
    OLDEST_MINOR,
    OVERLAYS,
    Json,
    against_restricted,
    bytes_of,
    containers_of,
    faults,
    needs_kubectl,
    pod_of,
    render,
    sidecar_of,
)
from sidecar.config import Config, values_in

pytestmark = needs_kubectl


@pytest.fixture(scope="module")
def overlays() -> dict[str, list[Json]]:
    return {name: render(K8S / name) for name in OVERLAYS}


@pytest.fixture(scope="module")
def workloads(overlays: dict[str, list[Json]]) -> dict[str, Json]:
    """Give the one workload of each overlay that has one."""
    found = {}
    for name, manifests in overlays.items():
        for manifest in manifests:
            if pod_of(manifest) is not None:
                assert name not in found
                found[name] = manifest
    return found


def spec_of(manifest: Json) -> Json:
    template = pod_of(manifest)
    assert template is not None
    spec: Json = template["spec"]
    return spec


def config_of(container: Json, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Read the configuration as the container's program would."""
    cli = importlib.import_module("sidecar.cli")
    known = {parameter.name for parameter in cli.main.params}
    for entry in container.get("env", []):
        if entry["name"].startswith("AI_SIDECAR_"):
            option = entry["name"].removeprefix("AI_SIDECAR_").lower()
            assert option in known or option + "_" in known, entry["name"]
            monkeypatch.setenv(entry["name"], entry["value"])
    with cli.main.make_context("ai-sidecar", list(container.get("args", []))) as context:
        config: Config = cli.config_from(context.params)
    return config


def test_every_folder_that_can_be_applied_is_checked() -> None:
    found = {
        str(path.parent.relative_to(K8S))
        for path in K8S.rglob("kustomization.yaml")
        if yaml.safe_load(path.read_text())["kind"] == "Kustomization"
    }

    # the app alone is a part of others
    assert found - {"app"} == set(OVERLAYS)


@pytest.mark.parametrize("name", OVERLAYS)
def test_manifests_are_valid_for_every_kubernetes_since_native_sidecars(
    overlays: dict[str, list[Json]], name: str
) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    newest_minor = int(validate.latest_version().split(".")[1])
    assert newest_minor >= OLDEST_MINOR

    for minor in range(OLDEST_MINOR, newest_minor + 1):
        for manifest in overlays[name]:
            if manifest["kind"] not in CUSTOM_KINDS:
                # raises ValidationError with the path to what is wrong
                validate.validate(manifest, f"1.{minor}", strict=True)


def test_the_validator_knows_a_wrong_manifest(workloads: dict[str, Json]) -> None:
    """The schemas are strict: a misspelt field is refused."""
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    wrong = deepcopy(workloads["base"])
    spec_of(wrong)["initContainers"][0]["restartpolicy"] = "Always"

    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_no_schema_tells_is_right_too(overlays: dict[str, list[Json]], name: str) -> None:
    assert [fault for manifest in overlays[name] for fault in faults(manifest)] == []


def test_our_own_checks_know_wrong_manifests(workloads: dict[str, Json]) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    sidecar = ("spec", "template", "spec", "initContainers", 0)
    changes: list[tuple[tuple[str | int, ...], object]] = [
        ((*sidecar, "imagePullPolicy"), "Sometimes"),
        ((*sidecar, "ports", 0, "protocol"), "HTTP"),
        ((*sidecar, "ports", 0, "name"), "a-name-of-16-abc"),
        ((*sidecar, "resources", "limits", "memory"), "96MB"),
        ((*sidecar, "resources", "limits", "memory"), "1Mi"),
        ((*sidecar, "volumeMounts", 0, "name"), "nothing"),
        ((*sidecar, "livenessProbe", "httpGet", "port"), "web"),
        ((*sidecar, "restartPolicy"), "Never"),
        ((*sidecar, "name"), "app"),
        (("spec", "selector", "matchLabels", "app.kubernetes.io/name"), "other"),
        (("spec", "template", "metadata", "labels", "a"), "not a label"),
        (("spec", "template", "spec", "volumes", 0, "hostPath"), {"path": "/"}),
        (("spec", "template", "spec", "restartPolicy"), "Never"),
    ]
    for path, value in changes:
        wrong = deepcopy(workloads["base"])
        at = wrong
        for key in path[:-1]:
            at = at[key]  # type: ignore[index] # a path of keys and places
        at[path[-1]] = value  # type: ignore[index] # the same
        assert faults(wrong), path
        # that is why they are ours to check
        validate.validate(wrong, validate.latest_version(), strict=True)


def test_the_selector_of_every_policy_and_monitor_finds_the_pods(
    overlays: dict[str, list[Json]], workloads: dict[str, Json]
) -> None:
    labels = {}
    for name, manifest in workloads.items():
        template = pod_of(manifest)
        if template is not None and name != "jobs/once":
            labels[name] = template["metadata"].get("labels", {})
    selectors = [
        manifest["spec"]["selector"]["matchLabels"]
        for manifest in overlays["monitoring"]
        if manifest["kind"] == "PodMonitor"
    ]
    policy = yaml.safe_load(
        (K8S / "components" / "network-policy" / "networkpolicy.yaml").read_text()
    )

    for name, found in labels.items():
        assert sum(selector.items() <= found.items() for selector in selectors) == 1, name
        is_selected = policy["spec"]["podSelector"]["matchLabels"].items() <= found.items()
        assert is_selected is (name != "node")
    # once a job is over there is nobody to scrape
    assert "jobs/once" in workloads


@pytest.mark.parametrize("name", [name for name in OVERLAYS if name not in ("monitoring", "node")])
def test_pods_keep_the_restricted_standard_and_a_read_only_root(
    workloads: dict[str, Json], name: str
) -> None:
    pod = spec_of(workloads[name])

    assert against_restricted(pod) == []
    assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in containers_of(pod))


def test_on_a_node_nothing_but_the_nodes_directories_is_against_it(
    overlays: dict[str, list[Json]], workloads: dict[str, Json]
) -> None:
    pod = spec_of(workloads["node"])
    [namespace] = [one for one in overlays["node"] if one["kind"] == "Namespace"]

    assert against_restricted(pod) == [
        "volume logs",
        "volume state",
        "state-directory: runs as root",
    ]
    logs = [m for m in sidecar_of(pod)["volumeMounts"] if m["name"] == "logs"]
    assert [mount["readOnly"] for mount in logs] == [True]
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "privileged"}


def test_every_container_asks_for_what_it_needs(workloads: dict[str, Json]) -> None:
    for manifest in workloads.values():
        for container in containers_of(spec_of(manifest)):
            resources = container["resources"]
            assert re.fullmatch(r"\d+m", resources["requests"]["cpu"])
            assert bytes_of(resources["requests"]["memory"]) > 0
            # throttled, it would fall behind just when there is much to read
            assert set(resources["limits"]) == {"memory"}


@pytest.mark.parametrize("name", ["base", "before-1.29", "jobs/linger", "jobs/push", "node"])
def test_probes_and_port_are_those_of_the_program(
    workloads: dict[str, Json], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = sidecar_of(spec_of(workloads[name]))
    probes = {kind: sidecar[kind]["httpGet"]["path"] for kind in sidecar if kind.endswith("Probe")}
    config = config_of(sidecar, monkeypatch)

    expected = {"startupProbe": "/ready", "livenessProbe": "/health"}
    if not name.startswith("jobs"):
        expected["readinessProbe"] = "/ready"
    assert probes == expected
    assert [(port["name"], port["containerPort"]) for port in sidecar["ports"]] == [
        ("ai-metrics", config.port)
    ]
    assert config.host == "0.0.0.0"


@pytest.mark.parametrize("name", ["base", "before-1.29", "jobs/linger", "jobs/once", "jobs/push"])
def test_the_log_is_in_a_bounded_volume_that_the_sidecar_only_reads(
    workloads: dict[str, Json], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = spec_of(workloads[name])
    mounts = {
        container["name"]: mount
        for container in containers_of(pod)
        for mount in container["volumeMounts"]
        if mount["name"] == "ai-log"
    }
    [log] = [volume for volume in pod["volumes"] if volume["name"] == "ai-log"]
    ours = mounts.pop("ai-sidecar")
    config = config_of(sidecar_of(pod), monkeypatch)

    assert bytes_of(log["emptyDir"]["sizeLimit"]) > 0
    assert ours["readOnly"] is True
    assert config.log_paths == (ours["mountPath"],)
    assert [mount.get("readOnly", False) for mount in mounts.values()] == [False]


@pytest.mark.parametrize("name", ["base", "before-1.29", "node"])
def test_the_state_is_in_a_volume_that_the_sidecar_writes(
    workloads: dict[str, Json], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = sidecar_of(spec_of(workloads[name]))
    config = config_of(sidecar, monkeypatch)

    [mount] = [
        mount for mount in sidecar["volumeMounts"] if mount["mountPath"] == str(config.state_dir)
    ]
    assert "readOnly" not in mount


def test_the_sidecar_is_a_native_one_that_starts_before_all_else(
    workloads: dict[str, Json],
) -> None:
    for name in ("base", "jobs/linger", "jobs/push"):
        first = spec_of(workloads[name])["initContainers"][0]
        assert (first["name"], first["restartPolicy"]) == ("ai-sidecar", "Always")


def test_before_native_sidecars_it_is_a_container_that_outlives_the_app(
    workloads: dict[str, Json],
) -> None:
    pod = spec_of(workloads["before-1.29"])
    [seconds] = [
        int(word) for word in sidecar_of(pod)["lifecycle"]["preStop"]["exec"]["command"][1:]
    ]

    assert "initContainers" not in pod
    assert [container["name"] for container in pod["containers"]] == ["app", "ai-sidecar"]
    assert "restartPolicy" not in sidecar_of(pod)
    assert 0 < seconds <= pod.get("terminationGracePeriodSeconds", 30) - 5


def test_jobs_end_losslessly(workloads: dict[str, Json], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the options promise must fit into the time that the pod gives."""
    linger, push, once = (spec_of(workloads[f"jobs/{name}"]) for name in ("linger", "push", "once"))
    configs = [config_of(sidecar_of(pod), monkeypatch) for pod in (linger, push, once)]

    assert configs[0].linger_seconds + 5 <= linger["terminationGracePeriodSeconds"]
    assert configs[0].push_url is None
    assert configs[1].linger_seconds == 0
    assert configs[1].push_url is not None
    assert configs[2].push_url is not None
    assert [one["name"] for one in once["initContainers"]] == ["job"]
    assert [one["name"] for one in once["containers"]] == ["ai-sidecar"]
    # a job's pod is not used again, and so nobody goes on from a state
    assert [config.state_dir for config in configs] == [None, None, None]


def test_the_node_reads_the_labels_of_every_pod_from_its_path(
    workloads: dict[str, Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(sidecar_of(spec_of(workloads["node"])), monkeypatch)
    uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"

    assert config.extra_labels == ("namespace", "pod", "container")
    for path, values in {
        f"/var/log/pods/prod_web-7f9c-x2_{uid}/app/0.log": ("prod", "web-7f9c-x2", "app"),
        f"/var/log/pods/prod_db-0_{uid}/pg.main/3.log.20260101-000000": ("prod", "db-0", "pg.main"),
        "/var/log/pods/kube-system_etcd-n1_4e5f/etcd/0.log": ("kube-system", "etcd-n1", "etcd"),
    }.items():
        assert values_in(path, config.path_labels) == values
    [pattern] = config.log_paths
    mounts = [
        mount["mountPath"] for mount in sidecar_of(spec_of(workloads["node"]))["volumeMounts"]
    ]
    assert any(pattern.startswith(mount + "/") for mount in mounts)


def test_the_policy_shuts_one_port_and_no_other() -> None:
    policy = yaml.safe_load(
        (K8S / "components" / "network-policy" / "networkpolicy.yaml").read_text()
    )
    ours, others = policy["spec"]["ingress"]
    [port] = ours["ports"]
    open_to_all = {
        (entry["protocol"], number)
        for entry in others["ports"]
        for number in range(entry["port"], entry["endPort"] + 1)
    }

    assert "from" in ours
    assert "from" not in others
    everything = {(kind, number) for kind in ("TCP", "UDP", "SCTP") for number in range(1, 65536)}
    assert everything - open_to_all == {(port["protocol"], port["port"])}


def test_the_network_policy_is_valid_beside_the_sidecar(tmp_path: Path) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    shutil.copytree(K8S, tmp_path / "k8s")
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [k8s/app]\ncomponents: [k8s/components/sidecar, k8s/components/network-policy]\nnamespace: shop\n"
    )

    manifests = render(tmp_path)

    [policy] = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    assert policy["metadata"]["namespace"] == "shop"
    validate.validate(policy, validate.latest_version(), strict=True)


def test_the_sidecar_counts_what_the_example_app_writes(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with (
        sidecar_process(tmp_path) as sidecar,
        Process([sys.executable, str(K8S / "app" / "app.py"), str(path)]) as app,
    ):
        wait_until(
            lambda: path.exists() and path.read_bytes().count(b"\n") >= 3,
            "three lines of the example app",
        )
        app.stop()
        written = path.read_bytes().count(b"\n")

        def results() -> dict[str, float]:
            lines = re.findall(
                r'^ai_sidecar_lines_total\{result="(\w+)"\} (\S+)$', sidecar.page(), re.MULTILINE
            )
            return {result: float(value) for result, value in lines if float(value)}

        wait_until(lambda: sum(results().values()) >= written, "every line to be counted")
        assert results() == {"request": written}


def test_the_sidecar_counts_what_the_example_job_writes(
    workloads: dict[str, Json], tmp_path: Path
) -> None:
    [job] = spec_of(workloads["jobs/linger"])["containers"]
    source = job["command"][2]
    assert source.count("/var/log/job") == 1
    subprocess.run(
        [sys.executable, "-c", source.replace("/var/log/job", str(tmp_path))], check=True
    )

    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--once", "--log-path", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert 'ai_sidecar_lines_total{result="request"} 100.0' in done.stdout


def test_the_scrape_configuration_of_the_readme_is_valid(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool on PATH (Debian: prometheus)")
    readme = (K8S / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```yaml\n(.*?)^ *```$", readme, re.MULTILINE | re.DOTALL)
    [document] = [one for one in map(yaml.safe_load, blocks) if "scrape_configs" in one]
    # Debian builds its Prometheus without the discovery of Kubernetes
    for job in document["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    config = tmp_path / "prometheus.yml"
    config.write_text(json.dumps(document))

    checked = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr

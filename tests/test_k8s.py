"""The manifests and the image: valid, under the restricted Pod Security Standard, and true to the program."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from prometheus import Process, sidecar_process, wait_until

ROOT = Path(__file__).parent.parent
BASE = ROOT / "k8s" / "base"
OLDEST_MINOR = 29
"""Kubernetes 1.29 is the first that has native sidecars without a feature gate."""

Json = dict[str, Any]


@pytest.fixture(scope="module")
def manifests() -> list[Json]:
    """Render the base as `kubectl apply -k` does."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl on PATH (Debian: kubernetes-client)")
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(BASE)], capture_output=True, text=True, timeout=60, check=False
    )
    # Kustomize tells of deprecated fields on standard error
    assert (rendered.returncode, rendered.stderr) == (0, "")
    return list(yaml.safe_load_all(rendered.stdout))


def of_kind(manifests: list[Json], kind: str) -> Json:
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    assert len(found) == 1, [manifest["kind"] for manifest in manifests]
    return found[0]


@pytest.fixture(scope="module")
def deployment(manifests: list[Json]) -> Json:
    return of_kind(manifests, "Deployment")


@pytest.fixture(scope="module")
def pod(deployment: Json) -> Json:
    spec: Json = deployment["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def sidecar(pod: Json) -> Json:
    found = [container for container in pod["initContainers"] if container["name"] == "ai-sidecar"]
    assert len(found) == 1
    container: Json = found[0]
    return container


def containers_of(pod: Json) -> list[Json]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def test_manifests_are_valid_for_every_kubernetes_that_has_native_sidecars(
    manifests: list[Json],
) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    newest_minor = int(validate.latest_version().split(".")[1])
    assert newest_minor >= OLDEST_MINOR

    for minor in range(OLDEST_MINOR, newest_minor + 1):
        for manifest in manifests:
            # raises ValidationError with the path to what is wrong
            validate.validate(manifest, f"1.{minor}", strict=True)


def test_the_validator_knows_a_wrong_manifest(deployment: Json) -> None:
    """The schemas are strict: a misspelt field, and the name of a port as a number, are refused."""
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    wrong = json.loads(json.dumps(deployment))
    wrong["spec"]["template"]["spec"]["initContainers"][0]["restartpolicy"] = "Always"

    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, validate.latest_version(), strict=True)


def test_the_sidecar_is_a_native_one(pod: Json, sidecar: Json) -> None:
    assert sidecar["restartPolicy"] == "Always"
    # it stands before other init containers, so that it sees what they log
    assert pod["initContainers"][0] is sidecar


def test_the_selector_finds_the_pods(deployment: Json) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]

    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_every_volume_mount_has_its_volume_and_every_volume_its_mount(pod: Json) -> None:
    volumes = [volume["name"] for volume in pod["volumes"]]
    mounts = {
        mount["name"] for container in containers_of(pod) for mount in container["volumeMounts"]
    }

    assert len(set(volumes)) == len(volumes)
    assert mounts == set(volumes)


def test_the_config_map_that_is_mounted_is_rendered_too(manifests: list[Json], pod: Json) -> None:
    names = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]

    assert names == [of_kind(manifests, "ConfigMap")["metadata"]["name"]]


def test_the_log_is_in_a_bounded_volume_that_the_sidecar_only_reads(
    pod: Json, sidecar: Json
) -> None:
    log = next(volume for volume in pod["volumes"] if volume["name"] == "log")
    mounts = {
        container["name"]: mount
        for container in containers_of(pod)
        for mount in container["volumeMounts"]
        if mount["name"] == "log"
    }

    assert quantity(log["emptyDir"]["sizeLimit"]) > 0
    assert mounts["ai-sidecar"]["readOnly"] is True
    assert mounts["app"].get("readOnly", False) is False
    assert mounts["app"]["mountPath"] == mounts["ai-sidecar"]["mountPath"]


def quantity(text: str) -> int:
    """Give a quantity of bytes; Kubernetes also knows a milli-byte (`m`), which nobody means."""
    match = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", text)
    assert match, text
    return int(match[1]) << {"Ki": 10, "Mi": 20, "Gi": 30}[match[2]]


def test_every_container_asks_for_what_it_needs(pod: Json) -> None:
    for container in containers_of(pod):
        resources = container["resources"]
        assert re.fullmatch(r"\d+m", resources["requests"]["cpu"])
        assert (
            0 < quantity(resources["requests"]["memory"]) <= quantity(resources["limits"]["memory"])
        )


def test_every_container_keeps_the_restricted_pod_security_standard(pod: Json) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and a read-only root besides."""
    assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod)
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= {
        "configMap",
        "emptyDir",
    }
    for container in containers_of(pod):
        context = container["securityContext"]
        assert {key: context[key] for key in context if key not in ("runAsUser", "runAsGroup")} == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert context["runAsUser"] > 0
        assert context["runAsGroup"] > 0
        assert not any("hostPort" in port for port in container.get("ports", ()))


def test_ports_have_names_that_kubernetes_takes_and_probes_use_them(
    pod: Json, sidecar: Json
) -> None:
    names = [
        port["name"] for container in containers_of(pod) for port in container.get("ports", ())
    ]

    # IANA_SVC_NAME, which the schema does not check: at most 15 of a-z, 0-9 and -, with a letter, no -- and no - at an end
    assert [
        n
        for n in names
        if not re.fullmatch(r"(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", n)
    ] == []
    assert len(set(names)) == len(names)
    probes = {
        kind: sidecar[kind]["httpGet"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert probes == {
        "startupProbe": {"path": "/ready", "port": "metrics"},
        "readinessProbe": {"path": "/ready", "port": "metrics"},
        "livenessProbe": {"path": "/health", "port": "metrics"},
    }


def test_the_arguments_are_options_of_the_program_and_fit_the_manifest(
    deployment: Json, sidecar: Json
) -> None:
    cli = importlib.import_module("sidecar.cli")
    known = {
        name
        for parameter in cli.main.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    given = [
        argument.partition("=")[0] for argument in sidecar["args"] if argument.startswith("--")
    ]
    assert [option for option in given if option not in known] == []

    with cli.main.make_context("ai-sidecar", list(sidecar["args"])) as context:
        config = cli.config_from(context.params)

    [port] = sidecar["ports"]
    mount, state = sidecar["volumeMounts"]
    assert str(config.state_dir) == state["mountPath"]
    assert "readOnly" not in state
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert (port["name"], port["containerPort"]) == ("metrics", config.port)
    assert (annotations["prometheus.io/port"], annotations["prometheus.io/path"]) == (
        str(config.port),
        "/metrics",
    )
    assert config.log_paths == (mount["mountPath"],)
    assert config.host == "0.0.0.0"


def test_the_sidecar_counts_what_the_example_app_writes(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with (
        sidecar_process(tmp_path) as sidecar,
        Process([sys.executable, str(BASE / "app.py"), str(path)]) as app,
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


def test_the_scrape_configuration_of_the_readme_is_valid(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool on PATH (Debian: prometheus)")
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    readme = (ROOT / "k8s" / "README.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^ *```yaml\n(.*?)^ *```$", readme, re.MULTILINE | re.DOTALL)
    document = yaml.safe_load(block)
    # Debian builds its Prometheus without the discovery of Kubernetes
    assert [job.pop("kubernetes_sd_configs") for job in document["scrape_configs"]] == [
        [{"role": "pod"}]
    ]
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


def dockerfile() -> list[tuple[str, str]]:
    """Give the instructions of the Dockerfile, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_runs_the_program_as_the_user_that_the_manifest_names(sidecar: Json) -> None:
    instructions = dict(dockerfile())
    context = sidecar["securityContext"]

    assert json.loads(instructions["ENTRYPOINT"]) == ["ai-sidecar"]
    assert instructions["USER"] == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert instructions["EXPOSE"] == str(sidecar["ports"][0]["containerPort"])


def test_what_the_image_copies_is_there_and_not_kept_from_it() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [
        source
        for word, rest in dockerfile()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]

    assert [source for source in sources if not (ROOT / source).exists()] == []
    kept_away = []
    for source in sources:
        verdict = False
        # the last rule that fits decides
        for rule in rules:
            if rule and not rule.startswith("#") and fnmatch(source, rule.removeprefix("!")):
                verdict = not rule.startswith("!")
        if verdict:
            kept_away.append(source)
    assert kept_away == []

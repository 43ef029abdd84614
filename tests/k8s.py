"""Renders what stands in `k8s/`, and checks what the schemas of Kubernetes leave unchecked."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
K8S = ROOT / "k8s"
OVERLAYS = (
    "base",
    "before-1.29",
    "jobs/linger",
    "jobs/once",
    "jobs/push",
    "monitoring",
    "node",
)
"""Every folder that is applied as it stands."""
OLDEST_MINOR = 29
"""Kubernetes 1.29 is the first that has native sidecars without a feature gate."""
CUSTOM_KINDS = ("PodMonitor", "PrometheusRule")

Json = dict[str, Any]

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="there is no kubectl on PATH (Debian: kubernetes-client)",
)


def render(folder: Path) -> list[Json]:
    """Render a folder as `kubectl apply -k` does."""
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Kustomize tells of deprecated fields on standard error
    assert (rendered.returncode, rendered.stderr) == (0, "")
    return list(yaml.safe_load_all(rendered.stdout))


def pod_of(manifest: Json) -> Json | None:
    """Give the pod template (metadata and spec) of a workload; `None` of what is none."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: Json | None = spec.get("template")
    return template


def containers_of(pod: Json) -> list[Json]:
    """Give all containers of a pod's spec, in the order in which they start."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def sidecar_of(pod: Json) -> Json:
    """Give the one container of ours."""
    [found] = [one for one in containers_of(pod) if one["name"] == "ai-sidecar"]
    return found


# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"[+-]?(\d+|\d+\.\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?\Z")
_BYTES = {"": 0, "Ki": 10, "Mi": 20, "Gi": 30}
# IANA_SVC_NAME: at most 15 of a-z, 0-9 and -, with a letter, no -- and no - at an end
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?\Z")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?\Z")
_LABEL_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
ENUMS: dict[str, set[str]] = {
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "protocol": {"TCP", "UDP", "SCTP"},
    "concurrencyPolicy": {"Allow", "Forbid", "Replace"},
    "terminationMessagePolicy": {"File", "FallbackToLogsOnError"},
    "dnsPolicy": {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"},
    "podManagementPolicy": {"OrderedReady", "Parallel"},
}
_RESTART_POLICIES = {
    "Deployment": {"Always"},
    "StatefulSet": {"Always"},
    "DaemonSet": {"Always"},
    "Job": {"OnFailure", "Never"},
    "CronJob": {"OnFailure", "Never"},
}


def bytes_of(text: str) -> int:
    """Give a quantity of bytes, of those in use here."""
    match = re.fullmatch(r"(\d+)(Ki|Mi|Gi)?", text)
    # of another unit nobody would guess that it is small or large: 0 stands out
    return int(match[1]) << _BYTES[match[2] or ""] if match else 0


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Give (path, key, value) of everything that has a key."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield path, key, inner
            yield from _walk(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{number}]")


def faults(manifest: Json) -> list[str]:
    """Give what the API server would refuse, or what could never work, and no schema tells."""
    found = []
    for path, key, value in _walk(manifest):
        if key in ENUMS and value not in ENUMS[key]:
            found.append(f"{path}.{key}: {value!r}")
        if key in ("requests", "limits") and path.endswith(".resources"):
            found += [
                f"{path}.{key}.{name}: {quantity!r}"
                for name, quantity in value.items()
                if not _QUANTITY.match(str(quantity))
            ]
        if key == "sizeLimit" and not _QUANTITY.match(str(value)):
            found.append(f"{path}.{key}: {value!r}")
        if key in ("labels", "matchLabels"):
            found += [
                f"{path}.{key}: {name}={text!r}"
                for name, text in value.items()
                if not (
                    _LABEL_KEY.match(name) and isinstance(text, str) and _LABEL_VALUE.match(text)
                )
            ]
        if key == "annotations":
            found += [
                f"{path}.{key}: {name}" for name, text in value.items() if not isinstance(text, str)
            ]
    template = pod_of(manifest)
    if template is not None:
        found += _faults_of_pod(manifest, template)
    return found


def _faults_of_pod(manifest: Json, template: Json) -> list[str]:
    found = []
    kind, pod = manifest["kind"], template["spec"]
    if pod.get("restartPolicy", "Always") not in _RESTART_POLICIES[kind]:
        found.append(f"restartPolicy of a {kind}: {pod.get('restartPolicy', 'Always')}")
    selector = manifest["spec"].get("selector", {}).get("matchLabels")
    if kind in ("Deployment", "StatefulSet", "DaemonSet") and not (
        selector and selector.items() <= template["metadata"].get("labels", {}).items()
    ):
        found.append(f"selector {selector} does not select its own pods")
    containers = containers_of(pod)
    names = [container["name"] for container in containers]
    found += [f"name {name!r}" for name in names if not _DNS_LABEL.match(name)]
    found += [f"two containers {name!r}" for name in set(names) if names.count(name) > 1]
    volumes = [volume["name"] for volume in pod.get("volumes", [])]
    found += [f"two volumes {name!r}" for name in set(volumes) if volumes.count(name) > 1]
    for volume in pod.get("volumes", []):
        if len(volume) != 2:
            found.append(f"volume {volume['name']!r} is of {len(volume) - 1} kinds")
    claims = [
        claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])
    ]
    for container in containers:
        mounts = container.get("volumeMounts", [])
        places = [mount["mountPath"] for mount in mounts]
        found += [
            f"{container['name']}: two mounts at {place}"
            for place in set(places)
            if places.count(place) > 1
        ]
        found += [
            f"{container['name']}: no volume {mount['name']!r}"
            for mount in mounts
            if mount["name"] not in (*volumes, *claims)
        ]
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        found += [f"port name {name!r}" for name in ports if not _PORT_NAME.match(name)]
        found += [f"port {port}" for port in ports.values() if not 0 < port < 65536]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if isinstance(port, str) and port not in ports:
                found.append(f"{container['name']}.{probe}: no port {port!r}")
        if (
            container in pod.get("initContainers", [])
            and container.get("restartPolicy") != "Always"
            and not {"readinessProbe", "livenessProbe", "startupProbe", "lifecycle"}.isdisjoint(
                container
            )
        ):
            found.append(f"{container['name']}: probes in an init container that is no sidecar")
        if container.get("restartPolicy", "Always") != "Always":
            found.append(f"{container['name']}.restartPolicy")
        resources = container.get("resources", {})
        request = resources.get("requests", {}).get("memory")
        limit = resources.get("limits", {}).get("memory")
        if request and limit and bytes_of(request) > bytes_of(limit):
            found.append(f"{container['name']}: more memory requested than allowed")
        found += [
            f"{container['name']}: env {entry['name']} has {len(entry) - 1} values"
            for entry in container.get("env", [])
            if len(entry) != 2
        ]
    used = {mount["name"] for one in containers for mount in one.get("volumeMounts", [])}
    found += [f"volume {name!r} is mounted nowhere" for name in volumes if name not in used]
    return found


def against_restricted(pod: Json) -> list[str]:
    """Give what the restricted Pod Security Standard forbids, for all containers of a pod.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    found = [f"{key}" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    allowed = {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
    }  # fmt: skip
    found += [
        f"volume {volume['name']}"
        for volume in pod.get("volumes", [])
        if not set(volume) - {"name"} <= allowed
    ]
    shared = pod.get("securityContext", {})
    for container in containers_of(pod):
        context = {**shared, **container.get("securityContext", {})}
        name = container["name"]
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            found.append(f"{name}: runs as root")
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            found.append(f"{name}: privileges")
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {
            "NET_BIND_SERVICE"
        }:
            found.append(f"{name}: capabilities")
        if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            found.append(f"{name}: seccomp")
        found += [f"{name}: host port" for port in container.get("ports", []) if "hostPort" in port]
    return found

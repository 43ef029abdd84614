"""The component puts a sidecar into any workload, and leaves all else of it as it was."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from k8s import K8S, Json, against_restricted, faults, needs_kubectl, pod_of, render, sidecar_of

pytestmark = needs_kubectl

ON = {"ai-sidecar.dev/inject": "true"}
LOG_MOUNT = {"name": "ai-log", "mountPath": "/srv/log"}


def container(name: str, **more: object) -> Json:
    return {"name": name, "image": f"example/{name}:1", **more}


def workload(kind: str, name: str, pod: Json, labels: Json = ON, **spec: object) -> Json:
    """Make a workload of any kind around a pod's spec."""
    template: Json = {"metadata": {"labels": {"app": name}}, "spec": pod}
    body: Json = {"template": template, **spec}
    if kind in ("Deployment", "StatefulSet", "DaemonSet"):
        body["selector"] = {"matchLabels": {"app": name}}
    if kind == "CronJob":
        body = {"schedule": "0 3 * * *", "jobTemplate": {"spec": body}}
    return {
        "apiVersion": "batch/v1" if kind in ("Job", "CronJob") else "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": body,
    }


WORKLOADS: dict[str, Json] = {
    "without volumes": workload(
        "Deployment",
        "plain",
        {"containers": [container("web", volumeMounts=[LOG_MOUNT])]},
        replicas=3,
    ),
    "with volumes, ports, probes and annotations of its own": workload(
        "Deployment",
        "rich",
        {
            "terminationGracePeriodSeconds": 120,
            "securityContext": {"fsGroup": 2000, "runAsUser": 1000},
            "serviceAccountName": "rich",
            "containers": [
                container(
                    "web",
                    ports=[{"name": "metrics", "containerPort": 8080, "protocol": "TCP"}],
                    env=[{"name": "A", "value": "b"}],
                    args=["--log", "/srv/log/a.log"],
                    readinessProbe={"httpGet": {"path": "/", "port": "metrics"}},
                    volumeMounts=[{"name": "data", "mountPath": "/data"}, LOG_MOUNT],
                ),
                container("proxy", volumeMounts=[{"name": "conf", "mountPath": "/etc/proxy"}]),
            ],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "conf", "configMap": {"name": "proxy"}},
            ],
        },
    ),
    "with init containers of its own": workload(
        "DaemonSet",
        "init",
        {
            "initContainers": [
                container("migrate", command=["migrate"], volumeMounts=[LOG_MOUNT]),
                container("mesh", restartPolicy="Always"),
            ],
            "containers": [container("web", volumeMounts=[LOG_MOUNT])],
        },
    ),
    "a StatefulSet whose log and state outlive the pod": workload(
        "StatefulSet",
        "kept",
        {
            "containers": [container("db", volumeMounts=[LOG_MOUNT])],
        },
        {**ON, "ai-sidecar.dev/log-volume": "own", "ai-sidecar.dev/state-volume": "own"},
        serviceName="kept",
        volumeClaimTemplates=[
            {
                "metadata": {"name": name},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }
            for name in ("ai-log", "ai-sidecar-state")
        ],
    ),
    "with a log volume of its own": workload(
        "Deployment",
        "large",
        {
            "containers": [container("web", volumeMounts=[LOG_MOUNT])],
            "volumes": [{"name": "ai-log", "emptyDir": {"sizeLimit": "5Gi"}}],
        },
        {**ON, "ai-sidecar.dev/log-volume": "own"},
    ),
    "a Job": workload(
        "Job",
        "once",
        {"restartPolicy": "Never", "containers": [container("job", volumeMounts=[LOG_MOUNT])]},
        backoffLimit=0,
    ),
    "a CronJob with an init container": workload(
        "CronJob",
        "nightly",
        {
            "restartPolicy": "OnFailure",
            "initContainers": [container("fetch")],
            "containers": [container("job", volumeMounts=[LOG_MOUNT])],
        },
    ),
}


def inject(folder: Path, component: str, *manifests: Json, **more: object) -> list[Json]:
    """Render manifests with a component."""
    shutil.copytree(K8S / "components" / component, folder / component)
    (folder / "app.yaml").write_text(yaml.safe_dump_all(manifests))
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["app.yaml"], "components": [component], **more})
    )
    return render(folder)


def without_sidecar(manifest: Json) -> Json:
    """Take out all that is ours, to see whether the rest is what it was."""
    left = deepcopy(manifest)
    template = pod_of(left)
    assert template is not None
    del template["metadata"]["labels"]["ai-sidecar.dev/scrape"]
    pod = template["spec"]
    for key in ("initContainers", "containers"):
        pod[key] = [one for one in pod.get(key, []) if one["name"] != "ai-sidecar"]
    labels = left["metadata"]["labels"]
    ours = {
        name
        for name, label in (("ai-log", "log-volume"), ("ai-sidecar-state", "state-volume"))
        if labels.get(f"ai-sidecar.dev/{label}") != "own"
    }
    pod["volumes"] = [one for one in pod.get("volumes", []) if one["name"] not in ours]
    for key in ("initContainers", "containers", "volumes"):
        if not pod[key]:
            del pod[key]
    return left


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_gets_a_sidecar_and_is_otherwise_untouched(name: str, tmp_path: Path) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    before = WORKLOADS[name]

    [after] = inject(tmp_path, "sidecar", before)

    assert without_sidecar(after) == before
    assert faults(after) == []
    validate.validate(after, validate.latest_version(), strict=True)
    template = pod_of(after)
    assert template is not None
    pod = template["spec"]
    ours = pod["initContainers"][0]
    assert (ours["name"], ours["restartPolicy"]) == ("ai-sidecar", "Always")
    assert next(m for m in ours["volumeMounts"] if m["name"] == "ai-log")["readOnly"] is True
    # alone it keeps the restricted standard, whatever the app does
    assert against_restricted({"containers": [ours]}) == []
    assert template["metadata"]["labels"]["ai-sidecar.dev/scrape"] == "true"
    is_job = before["kind"] in ("Job", "CronJob")
    names = {entry["name"] for entry in ours["env"]}
    assert ("AI_SIDECAR_STATE_DIR" in names, "AI_SIDECAR_LINGER" in names) == (not is_job, is_job)


def test_what_has_no_label_stays_as_it_is(tmp_path: Path) -> None:
    others = [
        workload("Deployment", "none", {"containers": [container("web")]}, {}),
        workload(
            "Job",
            "no",
            {"restartPolicy": "Never", "containers": [container("job")]},
            {"ai-sidecar.dev/inject": "false"},
        ),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s", "labels": ON},
            "spec": {},
        },
    ]

    rendered = inject(tmp_path, "sidecar", *others)

    assert sorted(rendered, key=str) == sorted(others, key=str)


def test_all_at_once_each_gets_one(tmp_path: Path) -> None:
    rendered = inject(tmp_path, "sidecar", *WORKLOADS.values())

    assert len(rendered) == len(WORKLOADS)
    for manifest in rendered:
        template = pod_of(manifest)
        assert template is not None
        assert sidecar_of(template["spec"])["image"] == "ai-sidecar:latest"


def test_an_overlay_changes_one_option_and_the_image(tmp_path: Path) -> None:
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "plain"},
        "spec": {
            "template": {
                "spec": {
                    "initContainers": [
                        {
                            "name": "ai-sidecar",
                            "env": [{"name": "AI_SIDECAR_MAX_SERIES", "value": "500"}],
                        }
                    ]
                }
            }
        },
    }

    [after] = inject(
        tmp_path,
        "sidecar",
        WORKLOADS["without volumes"],
        patches=[{"patch": yaml.safe_dump(patch)}],
        images=[{"name": "ai-sidecar", "newName": "registry.example/ai-sidecar", "newTag": "1.2"}],
    )

    ours = sidecar_of(after["spec"]["template"]["spec"])
    env = {entry["name"]: entry["value"] for entry in ours["env"]}
    assert env["AI_SIDECAR_MAX_SERIES"] == "500"
    assert env["AI_SIDECAR_LOG_PATH"] == "/var/log/ai"
    assert ours["image"] == "registry.example/ai-sidecar:1.2"


@pytest.mark.parametrize(
    "name", [name for name, one in WORKLOADS.items() if one["kind"] not in ("Job", "CronJob")]
)
def test_before_native_sidecars_it_comes_last_and_the_app_is_untouched(
    name: str, tmp_path: Path
) -> None:
    before = WORKLOADS[name]

    [after] = inject(tmp_path, "sidecar-before-1.29", before)

    assert without_sidecar(after) == before
    assert faults(after) == []
    assert after["spec"]["template"]["spec"]["containers"][-1]["name"] == "ai-sidecar"


def test_before_native_sidecars_a_job_is_left_alone(tmp_path: Path) -> None:
    """A container that does not end would keep it from ending."""
    jobs = [one for one in WORKLOADS.values() if one["kind"] in ("Job", "CronJob")]

    rendered = inject(tmp_path, "sidecar-before-1.29", *jobs)

    assert sorted(rendered, key=str) == sorted(jobs, key=str)


def test_both_components_tell_the_sidecar_the_same(tmp_path: Path) -> None:
    """Whatever is not about when it starts and ends."""
    before = WORKLOADS["without volumes"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    [native] = inject(tmp_path / "a", "sidecar", before)
    [plain] = inject(tmp_path / "b", "sidecar-before-1.29", before)

    one, other = (sidecar_of(each["spec"]["template"]["spec"]) for each in (native, plain))
    del one["restartPolicy"], other["lifecycle"]
    assert one == other
    assert (
        native["spec"]["template"]["spec"]["volumes"]
        == plain["spec"]["template"]["spec"]["volumes"]
    )

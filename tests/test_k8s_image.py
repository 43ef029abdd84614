"""The image, built without a network and run as a pod would be: figures stay exact, whatever is done to it.

Needs root, Debian's podman runc iptables catatonit debootstrap, and, once, a network: the base and the wheels are kept
under `.image-base/` for the next time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus import wait_until

from k8s import ROOT

KEPT = ROOT / ".image-base"
COMMANDS = ("podman", "runc", "debootstrap", "catatonit", "iptables")
LINE = (
    '{"model":"gpt-4o","provider":"openai","status":200,"usage":{"prompt_tokens":10,'
    '"completion_tokens":2}}'
)
RESTRICTED = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
ADDED_MEGABYTES = 30
"""What the program may add to its base. A slim Python has some 90 MB left to the 120 that are promised."""


def base_archive() -> Path:
    """Give the archive of a file system with Python, pip and our wheels; it is made where it is not there."""
    archive = KEPT / f"base-{sys.version_info.minor}.tar"
    if archive.exists():
        return archive
    KEPT.mkdir(exist_ok=True)
    policy = subprocess.run(["apt-cache", "policy"], capture_output=True, text=True, check=False)
    source = re.search(r"(https?://\S+) ([a-z]+)/main", policy.stdout)
    if source is None:
        pytest.skip("there is no Debian mirror to take a base from")
    with tempfile.TemporaryDirectory() as text:
        base = Path(text) / "base"
        include = "--include=python3,python3-venv,python3-pip"
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", include, source[2], base, source[1]],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            pytest.skip("debootstrap made no base: " + made.stdout.strip().rpartition("\n")[2])
        python = (base / "usr" / "bin" / "python3").resolve().name
        if python != f"python3.{sys.version_info.minor}":
            pytest.skip(f"the wheels are for another Python than the base's {python}")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--wheel-dir",
            str(base / "wheelhouse"),
        ]
        wheels = subprocess.run(
            [*pip, f"{ROOT}[auth]", "hatchling"], capture_output=True, text=True, check=False
        )
        if wheels.returncode != 0:
            pytest.skip("the wheels cannot be had")
        for ours in (base / "wheelhouse").glob("ai_sidecar-*"):
            ours.unlink()
        shutil.rmtree(base / "var" / "cache" / "apt")
        shutil.rmtree(base / "var" / "lib" / "apt" / "lists")
        subprocess.run(["tar", "-C", base, "-cf", archive, "."], check=True)
    return archive


class Podman:
    """A podman with images and containers of its own."""

    def __init__(self, folder: Path) -> None:
        self._command = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self._command += ["--runtime", "runc", "--cgroup-manager", "cgroupfs"]
        self._command += ["--events-backend", "file", "--storage-driver", "overlay"]
        config = folder / "containers.conf"
        # small machines have lower limits than podman asks for
        config.write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
        )
        self._environment = {**os.environ, "CONTAINERS_CONF": str(config)}

    def __call__(self, *arguments: str | Path, must: bool = True) -> str:
        done = subprocess.run(
            [*self._command, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            env=self._environment,
        )
        assert done.returncode == 0 or not must, f"podman {arguments[0]}: {done.stderr[-2000:]}"
        return done.stdout.strip() if done.returncode == 0 else ""

    def inspect(self, name: str) -> Any:
        return json.loads(self("inspect", name))[0]


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if sys.platform != "linux" or os.getuid() != 0 or missing:
        pytest.skip(f"needs root and Debian's {' '.join(missing or COMMANDS)}")
    archive = base_archive()
    with tempfile.TemporaryDirectory(prefix="pod", ignore_cleanup_errors=True) as text:
        podman = Podman(Path(text))
        podman("import", archive, "localhost/base:test")
        if not podman("run", "--rm", "--network", "none", "localhost/base:test", "echo", "runs", must=False):  # fmt: skip
            pytest.skip("this machine lets podman run no container")
        try:
            podman(
                "build", "--network", "none", "--layers=false",
                "--build-arg", "BASE=localhost/base:test",
                "--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/wheelhouse",
                "--build-arg", "REVISION=abc", "--tag", "ai-sidecar:test", ROOT,
            )  # fmt: skip
            yield podman
        finally:
            podman("pod", "rm", "--all", "--force", "--time", "0", must=False)
            podman("rm", "--all", "--force", "--time", "0", must=False)
            podman("rmi", "--all", "--force", must=False)


def test_the_image_is_small_and_says_what_it_is(podman: Podman) -> None:
    image, base = podman.inspect("ai-sidecar:test"), podman.inspect("localhost/base:test")
    config = image["Config"]

    assert config["Entrypoint"] == ["ai-sidecar"]
    assert config["User"] == "65532:65532"
    assert config["Labels"]["org.opencontainers.image.title"] == "ai-sidecar"
    assert config["Labels"]["org.opencontainers.image.revision"] == "abc"
    assert config["Labels"]["org.opencontainers.image.base.name"] == "localhost/base:test"
    assert (image["Size"] - base["Size"]) / 1e6 < ADDED_MEGABYTES


def test_every_part_of_it_runs_on_a_read_only_root(podman: Podman) -> None:
    run = ["run", "--rm", "--network", "none", *RESTRICTED, "ai-sidecar:test"]

    assert podman(*run, "--version").startswith("ai-sidecar, version")
    assert "litellm" in podman(*run, "parsers")


def test_a_pods_figures_are_exact_over_rotation_kill_and_stop(
    podman: Podman, tmp_path: Path
) -> None:
    log, state = tmp_path / "log", tmp_path / "state"
    log.mkdir()
    log.chmod(0o777)
    state.mkdir()
    os.chown(state, 65532, 65532)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    podman("pod", "create", "--name", "pod", "--network", "none", "--share", "net")
    podman(
        "run", "--detach", "--pod", "pod", "--name", "app", "--user", "10001:10001", *RESTRICTED,
        "--volume", f"{log}:/var/log/app", "localhost/base:test", "sleep", "infinity",
    )  # fmt: skip
    podman(
        "run", "--detach", "--pod", "pod", "--name", "sidecar", *RESTRICTED,
        "--volume", f"{log}:/var/log/ai:ro", "--volume", f"{state}:/var/lib/ai-sidecar",
        "ai-sidecar:test", "--log-path", "/var/log/ai", "--state-dir", "/var/lib/ai-sidecar",
    )  # fmt: skip

    def write(number: int) -> None:
        text = f"for i in $(seq {number}); do echo '{LINE}'; done >> /var/log/app/a.log"
        podman("exec", "app", "sh", "-c", text)

    def told() -> float:
        code = "from urllib.request import urlopen as o; print(o('http://127.0.0.1:9464/metrics').read().decode())"
        page = podman("exec", "sidecar", "python3", "-c", code, must=False)
        found = re.findall(r"^ai_api_requests_total\{.*\} (\S+)$", page, re.MULTILINE)
        return sum(map(float, found))

    def expect(number: int, what: str) -> None:
        last = wait_until(lambda: (told() >= number) and told(), f"{number}: {what}")
        assert last == number, what

    write(10)
    expect(10, "what the app wrote")
    podman("exec", "app", "sh", "-c", f"echo '{LINE}' >> /var/log/app/a.log; mv /var/log/app/a.log /var/log/app/a.log.1")  # fmt: skip
    write(14)
    expect(25, "the last line before the rotation, and those after it")
    podman("kill", "--signal", "KILL", "sidecar")
    write(5)
    podman("exec", "app", "mv", "/var/log/app/a.log", "/var/log/app/a.log.2")
    write(2)
    podman("start", "sidecar")
    expect(32, "what was written, and rotated, while it was away")
    write(3)
    podman("stop", "--time", "20", "sidecar")
    assert podman.inspect("sidecar")["State"]["ExitCode"] == 0
    podman("start", "sidecar")
    expect(35, "what was written in the instant of SIGTERM")
    sidecar = podman.inspect("sidecar")
    assert sidecar["HostConfig"]["ReadonlyRootfs"] is True
    assert not sidecar["EffectiveCaps"]

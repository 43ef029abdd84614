"""Pushing to a real Pushgateway: a job that ends before a scrape is counted to the last line."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus import Process, get, sidecar_process, wait_until
from prometheus_client.parser import text_string_to_metric_families

from sidecar.push import Pusher

LINE = (
    '{"model":"gpt-4o","provider":"openai","status":200,"usage":{"prompt_tokens":10,'
    '"completion_tokens":2}}\n'
)
needs_gateway = pytest.mark.skipif(
    shutil.which("prometheus-pushgateway") is None,
    reason="there is no prometheus-pushgateway on PATH (Debian: prometheus-pushgateway)",
)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Gateway:
    """A real Pushgateway."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: Process | None = None

    def start(self) -> None:
        self._process = Process(
            [
                "prometheus-pushgateway",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--persistence.file=",  # Debian keeps one for all
            ]
        )
        self._process.__enter__()
        wait_until(self._is_ready, "the Pushgateway")

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def _is_ready(self) -> bool:
        try:
            return get(self.url + "/-/ready")[0] == 200
        except OSError:
            return False

    def requests(self) -> dict[tuple[str, str], float]:
        """Give requests by (job, instance)."""
        found: dict[tuple[str, str], float] = {}
        text = get(self.url + "/metrics")[1]
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "ai_api_requests_total":
                    key = sample.labels["job"], sample.labels["instance"]
                    found[key] = found.get(key, 0) + sample.value
        return found


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    gateway.start()
    yield gateway
    gateway.stop()


@needs_gateway
def test_the_last_lines_of_a_job_are_pushed_at_its_end(gateway: Gateway, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(LINE)
    with sidecar_process(log, "--push-url", gateway.url, "--push-interval", "3600") as sidecar:
        key = ("ai-sidecar", socket.gethostname())
        wait_until(lambda: gateway.requests() == {key: 1}, "the first push")
        with log.open("a") as file:
            file.write(LINE * 3)
        assert sidecar.stop() == 0

    assert gateway.requests() == {key: 4}


@needs_gateway
def test_figures_are_pushed_again_and_again(gateway: Gateway, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    url = gateway.url + "/metrics/job/batch/instance/one"
    with sidecar_process(log, "--push-url", url, "--push-interval", "0.1") as sidecar:
        for count in (1, 2, 3):
            with log.open("a") as file:
                file.write(LINE)
            wait_until(lambda: gateway.requests() == {("batch", "one"): count}, f"{count} requests")  # noqa: B023 - called at once
        assert 'ai_sidecar_pushes_total{result="failure"} 0.0' in sidecar.page()


@needs_gateway
def test_a_gateway_that_comes_late_gets_all(tmp_path: Path) -> None:
    log, gateway = tmp_path / "a.log", Gateway()
    log.write_text(LINE)
    with sidecar_process(log, "--push-url", gateway.url, "--push-interval", "0.1") as sidecar:
        sidecar.wait_for_line("the figures cannot be pushed")
        gateway.start()
        try:
            sidecar.wait_for_line("the figures can be pushed again")
            assert list(gateway.requests().values()) == [1]
        finally:
            gateway.stop()


@needs_gateway
def test_once_pushes_the_page_that_it_prints(gateway: Gateway, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(LINE * 2)
    command = [sys.executable, "-m", "sidecar", "--log-path", str(log), "--once"]
    done = subprocess.run(
        [*command, "--push-url", gateway.url], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0
    assert "ai_api_requests_total{" in done.stdout
    assert list(gateway.requests().values()) == [2]


def test_a_gateway_that_never_answers_does_not_keep_us_from_stopping(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(LINE)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with sidecar_process(log, "--push-url", url) as sidecar:
            wait_until(lambda: "ai_api_requests_total{" in sidecar.page(), "the request")
            begun = time.monotonic()
            sidecar.popen.send_signal(signal.SIGTERM)
            assert sidecar.popen.wait(30) == 0
            assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "url", ["gateway:9091", "ftp://gateway", "http://", "http://h:port", "http://h/?x=1", ""]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--log-path", "x", "--port", "0", "--push-url", url],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NO_COLOR": "1"},
    )

    assert done.returncode == 2
    assert "--push-url: expected" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h:9091", "http://h:9091/metrics/job/ai-sidecar/instance/pod-7"),
        ("https://h/prefix/", "https://h/prefix/metrics/job/ai-sidecar/instance/pod-7"),
        ("http://[::1]:9091", "http://[::1]:9091/metrics/job/ai-sidecar/instance/pod-7"),
        ("http://h/metrics/job/nightly", "http://h/metrics/job/nightly"),
        ("http://u:p%40ss@h/metrics/job/nightly", "http://h/metrics/job/nightly"),
    ],
)
def test_where_a_url_leads(url: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "pod-7")
    pusher = Pusher(url, {})

    assert pusher._url == target
    assert pusher._auth == (("u", "p@ss") if "@" in url else None)


def test_a_password_is_not_shown_in_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="expected the http or https address") as caught:
        Pusher("http://user:secret@h/?x", {})

    assert "secret" not in str(caught.value)

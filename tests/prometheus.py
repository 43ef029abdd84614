"""Real processes for tests: a Prometheus that scrapes, and the sidecar that is scraped.

Both are started on free ports of the loopback address, waited for with a deadline, and ended with the block.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import pytest

START_SECONDS = 30.0
"""How long a process may take to be ready: two busy cores start a Prometheus in two or three."""

T = TypeVar("T")

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="there is no prometheus on PATH (Debian: prometheus)"
)


class Sample(NamedTuple):
    """One element of an instant vector."""

    labels: dict[str, str]
    value: float


def wait_until(condition: Callable[[], T], what: str, *, seconds: float = START_SECONDS) -> T:
    """Give the first true value of `condition`; AssertionError with `what` when none came in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"expected within {seconds:g} s: {what}"
        pause.wait(0.05)
    return value


def get(
    url: str, headers: Mapping[str, str] | None = None, *, seconds: float = 10.0
) -> tuple[int, str]:
    """GET: status and body, whatever the status."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Process:
    """A child whose standard error is read as it comes, and which does not outlive the block."""

    def __init__(
        self, arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self.lines: list[str] = []
        """Its standard error so far."""
        self._environment = environment
        self._changed = threading.Condition()
        self._is_at_end = False

    def __enter__(self) -> Self:
        self.popen = subprocess.Popen(
            self.arguments,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_for_line(self, pattern: str, *, seconds: float = START_SECONDS) -> re.Match[str]:
        """Give the match of the first line of standard error that has the pattern."""
        seen = 0
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if match := re.search(pattern, line):
                        return match
                seen = len(self.lines)
                assert not self._is_at_end, f"ended before it wrote {pattern!r}:\n" + self.tail()
                assert self._changed.wait(deadline - time.monotonic()), (
                    f"expected {pattern!r} within {seconds:g} s:\n" + self.tail()
                )

    def tail(self) -> str:
        """Give the last lines of standard error, for a message."""
        return "\n".join(self.lines[-20:])

    def stop(self, *, seconds: float = 10.0) -> int:
        """Send SIGTERM, after `seconds` SIGKILL; give the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        code = self.popen.wait()
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self.popen.stderr is not None
        with self.popen.stderr as stream:
            for line in stream:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._is_at_end = True
            self._changed.notify_all()


class Prometheus:
    """A real Prometheus that scrapes the given targets (`host:port`) into `directory`.

    `storage` is a directory of blocks that are there already, `rule_files` are loaded and evaluated.
    """

    def __init__(
        self,
        directory: Path,
        targets: Sequence[str] = (),
        *,
        scrape_interval_seconds: float = 1.0,
        rule_files: Sequence[Path] = (),
        storage: Path | None = None,
        extra_arguments: Sequence[str] = (),
    ) -> None:
        self.config = directory / "prometheus.yml"
        interval = f"{int(scrape_interval_seconds * 1000)}ms"
        # JSON is YAML, and needs no library here
        document = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": [str(path) for path in rule_files],
            "scrape_configs": [
                {"job_name": "ai-sidecar", "static_configs": [{"targets": list(targets)}]}
            ],
        }
        self.config.write_text(json.dumps(document, indent=1))
        self._targets = list(targets)
        self._process = Process(
            [
                "prometheus",
                f"--config.file={self.config}",
                f"--storage.tsdb.path={storage or directory / 'tsdb'}",
                # what is old must stay: tests load blocks of last year too
                "--storage.tsdb.retention.time=100y",
                "--web.listen-address=127.0.0.1:0",
                *extra_arguments,
            ]
        )

    def __enter__(self) -> Self:
        self._process.__enter__()
        try:
            port = self._process.wait_for_line(r'msg="Listening on".*address=\S*:(\d+)')[1]
            self.url = f"http://127.0.0.1:{port}"
            wait_until(lambda: get(f"{self.url}/-/ready")[0] == 200, "Prometheus to be ready")
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stop()

    def api(self, path: str, parameters: Mapping[str, str | float]) -> Any:
        """Give the `data` of an answer of its HTTP API; AssertionError with its own words where it refuses."""
        query = urllib.parse.urlencode(parameters)
        status, body = get(f"{self.url}/api/v1/{path}?{query}")
        answer = json.loads(body)
        assert (status, answer["status"]) == (200, "success"), (
            f"{parameters}: {answer.get('error', body)}"
        )
        assert not answer.get("warnings"), f"{parameters}: {answer['warnings']}"
        return answer["data"]

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """Give the instant vector (a scalar as one sample without labels) at a Unix time, by default now."""
        parameters: dict[str, str | float] = {"query": expression}
        if at is not None:
            parameters["time"] = at
        data = self.api("query", parameters)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        assert data["resultType"] == "vector", data["resultType"]
        return [Sample(element["metric"], float(element["value"][1])) for element in data["result"]]

    def value(self, expression: str, at: float | None = None) -> float:
        """Give the one value of an expression that gives exactly one."""
        samples = self.query(expression, at)
        assert len(samples) == 1, f"{expression}: expected one sample, got {samples}"
        return samples[0].value

    def query_range(
        self, expression: str, start: float, end: float, step_seconds: float = 1.0
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Give each series of a range query: its labels, and its (Unix time, value) pairs."""
        parameters: dict[str, str | float] = {
            "query": expression,
            "start": start,
            "end": end,
            "step": step_seconds,
        }
        data = self.api("query_range", parameters)
        return [
            (series["metric"], [(float(when), float(value)) for when, value in series["values"]])
            for series in data["result"]
        ]

    def label_values(self, metric: str, label: str) -> list[str]:
        """Give what Grafana's `label_values(metric, label)` gives."""
        values: list[str] = self.api(f"label/{label}/values", {"match[]": metric})
        return values

    def wait_for_scrapes(self, number: int = 1, *, seconds: float = START_SECONDS) -> None:
        """Wait until so many scrapes of each target that began after this call have succeeded."""
        begun = time.time()
        wait_until(
            lambda: self._scrapes_since(begun) >= number,
            f"{number} scrapes of {self._targets}",
            seconds=seconds,
        )

    def _scrapes_since(self, begun: float) -> float:
        """Count the scrapes of the target that has the fewest."""
        # a sample of `up` has the time at which its scrape began
        window_ms = max(1, int((time.time() - begun) * 1000))
        scrapes = [sample.value for sample in self.query(f"sum_over_time(up[{window_ms}ms])")]
        return min(scrapes) if len(scrapes) == len(self._targets) else 0


class SidecarProcess(Process):
    """The real `ai-sidecar` as a process of its own, serving on a free port."""

    def __init__(
        self, arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        command = [
            sys.executable,
            "-m",
            "sidecar",
            *arguments,
            "--host",
            "127.0.0.1",
            "--port",
            "0",
        ]
        super().__init__(command, environment)

    @property
    def url(self) -> str:
        """Where it serves, without a slash at the end."""
        return f"http://{self.target}"

    @property
    def target(self) -> str:
        """Its `host:port`, as a scrape configuration names it."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.port = int(self.wait_for_line(r"serving on http://\S+?:(\d+)")[1])
            wait_until(lambda: get(f"{self.url}/ready")[0] == 200, "the sidecar to be ready")
        except BaseException:
            self.stop()
            raise
        return self

    def page(self, accept: str = "text/plain") -> str:
        """Scrape it once."""
        status, body = get(f"{self.url}/metrics", {"Accept": accept})
        assert status == 200, body
        return body


@contextmanager
def sidecar_process(
    log_path: Path, *options: str | Path, environment: Mapping[str, str] | None = None
) -> Iterator[SidecarProcess]:
    """Run the main command on a log until the block ends, and give it when it has caught up."""
    with SidecarProcess(["--log-path", log_path, *options], environment) as process:
        yield process

"""Measure the start, what a look at many files costs, what idleness costs, and how soon a line is on the page.

    python tests/bench/look.py [--only start look idle soon appends]

Start: from the beginning of the process until /metrics answers with a few lines counted, against `python -c pass`; with the
modules compiled, as pip leaves them. Look: CPU of what the loop does at one, less that of a bare `os.stat` of
each file. Idle: CPU of the running command beside files that nobody writes to. Soon: from a line's write until a scrape shows it.
Appends: CPU of the command while many short lines are written one by one. Medians of five where nothing else is said.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.client
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from request_line import line

from sidecar.config import Config
from sidecar.daemon import Sidecar

RUNS = 5
GROWING = 10
POLL_SECONDS = 0.25
TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A running sidecar."""

    def __init__(self, log: Path, *options: str) -> None:
        environment = {**os.environ}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment.pop("PYTHONUNBUFFERED", None)
        program = Path(sys.executable).with_name("ai-sidecar")
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [program, "--log-path", log, "--host", "127.0.0.1", "--port", "0", *options],
            stderr=subprocess.PIPE,
            env=environment,
        )
        assert self.process.stderr is not None
        self.port = 0
        while not self.port:
            said = self.process.stderr.readline()
            if not said:
                raise RuntimeError("the sidecar has ended")
            if b"serving on " in said:
                self.port = int(said.rsplit(b":", 1)[1])

    def page(self) -> bytes:
        """Give the page, or nothing where there is none yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            body = response.read()
            return body if response.status == 200 else b""

    def wait_for(self, text: bytes) -> None:
        """Scrape until the page holds this."""
        while text not in self.page():
            time.sleep(0.001)

    def cpu_seconds(self) -> float:
        """Give the CPU time used until now."""
        values = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        # finer than the ticks in `stat`, where the kernel tells it
        with contextlib.suppress(OSError, ValueError):
            tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
            return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks) / 1e9
        return (int(values[11]) + int(values[12])) / TICKS

    def resident_mib(self) -> float:
        """Give what is resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextlib.contextmanager
def running(log: Path, *options: str) -> Iterator[Process]:
    process = Process(log, *options)
    try:
        yield process
    finally:
        process.process.send_signal(signal.SIGTERM)
        process.process.communicate()


def requests_of(model: int, number: int) -> bytes:
    """Give the page's line of this number of requests."""
    labels = (
        f'endpoint="/chat/completions",model="model-{model}",provider="openai",status_code="200"'
    )
    return f"ai_api_requests_total{{{labels}}} {float(number)}\n".encode()


def measure_start() -> bool:
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "app.log"
        log.write_bytes(line(0) * 5)
        with running(log) as process:
            # the modules are compiled now
            process.wait_for(b"ai_api_requests_total{")
        nothing, start, resident = [], [], []
        for _ in range(RUNS):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            nothing.append(time.perf_counter() - began)
            with running(log) as process:
                process.wait_for(b"ai_api_requests_total{")
                start.append(time.perf_counter() - process.began)
                resident.append(process.resident_mib())
    ratio = statistics.median(start) / statistics.median(nothing)
    print(
        f"start to first scrape: {statistics.median(start) * 1000:.0f} ms, {ratio:.1f} times `python -c pass`;"
        f" {statistics.median(resident):.1f} MiB resident",
        flush=True,
    )
    return ratio <= 15


class Many:
    """A sidecar in this process that follows many files, of which a few grow."""

    def __init__(self, folder: Path, number: int) -> None:
        self.paths = [folder / f"app{at}.log" for at in range(number)]
        for path in self.paths:
            path.write_bytes(line(0))
        old = time.time() - 3600
        os.utime(folder, (old, old))
        self.sidecar = Sidecar(Config(log_paths=(str(folder),)), version="bench")
        self.now = 0.0
        for _ in range(5):
            self.look()

    def look(self, *, by_turns: bool = False) -> float:
        """Do what the loop does at a look, and read; give the CPU seconds of the look."""
        self.now += 2.0
        began = time.process_time()
        follower = self.sidecar.follower
        follower.look(self.now, by_turns=by_turns)
        self.sidecar.release_quiet(self.now)
        self.sidecar.renew_prices()
        follower.directories()
        took = time.process_time() - began
        while self.sidecar.step():
            follower.check_read(self.now)
        return took

    def grow(self) -> None:
        """Write a line to a few of the files."""
        step = len(self.paths) // GROWING
        for path in self.paths[::step][:GROWING]:
            with path.open("ab") as file:
                file.write(line(0))

    def stat_seconds(self) -> float:
        """Give the CPU seconds of a bare `os.stat` of each file."""
        paths = [*map(str, self.paths)]
        began = time.process_time()
        for path in paths:
            os.stat(path)  # noqa: PTH116 - what it costs without an object for each path
        return time.process_time() - began


def measure_look() -> bool:
    kept = []
    with tempfile.TemporaryDirectory() as name:
        both = []
        for number in (100, 10_000):
            folder = Path(name) / str(number)
            folder.mkdir()
            both.append(Many(folder, number))
        for by_turns in (False, True):
            costs: list[tuple[float, float]] = []
            for many in both:
                looks, stats = [], []
                for _ in range(4 * RUNS + 1):
                    many.grow()
                    looks.append(many.look(by_turns=by_turns))
                    stats.append(many.stat_seconds())
                look, stat = statistics.median(looks) * 1e3, statistics.median(stats) * 1e3
                beyond = statistics.median(map(float.__sub__, looks, stats)) * 1e3
                costs.append((look, beyond))
                print(
                    f"look at {len(many.paths):6} files of which {GROWING} grow, {'with' if by_turns else 'without'}"
                    f" events: {look:.3f} ms, one stat each {stat:.3f} ms, beyond that {beyond:.3f} ms",
                    flush=True,
                )
            kept.append(costs[1][1] <= 2 * costs[0][0])
    return all(kept)


@contextlib.contextmanager
def no_events() -> Iterator[None]:
    """Take all the inotify instances that a user may have, so that a sidecar gets none."""
    libc = ctypes.CDLL(None, use_errno=True)
    taken: list[int] = []
    while (fd := libc.inotify_init1(os.O_CLOEXEC)) >= 0:
        taken.append(fd)
    try:
        yield
    finally:
        for fd in taken:
            os.close(fd)


def idle_share(seconds: float, folders: int, *options: str) -> float:
    with tempfile.TemporaryDirectory() as name:
        for at in range(1000):
            folder = Path(name) / f"pod{at % folders}"
            folder.mkdir(exist_ok=True)
            (folder / f"app{at}.log").write_bytes(line(at % 10))
        with running(Path(name), *options) as process:
            process.wait_for(requests_of(9, 100))
            time.sleep(5)
            began, used = time.monotonic(), process.cpu_seconds()
            time.sleep(seconds)
            return (process.cpu_seconds() - used) / (time.monotonic() - began)


def measure_idle(seconds: float) -> bool:
    shares = []
    for folders, with_events in ((1, True), (1000, True), (1, False)):
        with contextlib.nullcontext() if with_events else no_events():
            shares.append(idle_share(seconds, folders))
        print(
            f"idle with 1000 files in {folders} directories, {'with' if with_events else 'without'} events:"
            f" {shares[-1]:.3%} of a core over {seconds:g} s",
            flush=True,
        )
    return shares[0] <= 0.001


def measure_soon(*options: str) -> float:
    """Give the median of the seconds from a line's write until a scrape shows it."""
    took = []
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "app.log"
        log.write_bytes(line(0))
        with running(log, *options) as process, log.open("ab", buffering=0) as file:
            process.wait_for(requests_of(0, 1))
            time.sleep(4)
            for number in range(2, 23):
                time.sleep(0.03 + 0.017 * (number % 7))
                began = time.perf_counter()
                file.write(line(0))
                process.wait_for(requests_of(0, number))
                took.append(time.perf_counter() - began)
    return statistics.median(took)


def measure_appends(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "app.log"
        log.write_bytes(line(0))
        with running(log) as process, log.open("ab", buffering=0) as file:
            process.wait_for(requests_of(0, 1))
            time.sleep(1)
            began, used, number, text = time.monotonic(), process.cpu_seconds(), 0, line(0)
            while (passed := time.monotonic() - began) < seconds:
                if number < passed * 20_000:
                    file.write(text)
                    number += 1
                else:
                    time.sleep(0.0005)
            process.wait_for(requests_of(0, number + 1))
            share = (process.cpu_seconds() - used) / (time.monotonic() - began)
    print(
        f"{number / seconds:.0f} lines a second, written one by one: {share:.1%} of a core",
        flush=True,
    )


def main() -> None:
    """Measure what is asked for; exit 1 where a bound is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["start", "look", "idle", "soon", "appends"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long idleness is watched")
    options = parser.parse_args()
    kept = []
    if "start" in options.only:
        kept.append(measure_start())
    if "look" in options.only:
        kept.append(measure_look())
    if "idle" in options.only:
        kept.append(measure_idle(options.seconds))
    if "soon" in options.only:
        soon = measure_soon()
        with no_events():
            late = measure_soon("--poll-interval", str(POLL_SECONDS))
        print(
            f"from a line's write until a scrape shows it: {soon * 1000:.1f} ms with events,"
            f" {late * 1000:.1f} ms without and --poll-interval {POLL_SECONDS:g}",
            flush=True,
        )
        kept += [soon <= 0.05, late <= POLL_SECONDS + 0.05]
    if "appends" in options.only:
        measure_appends(5)
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()

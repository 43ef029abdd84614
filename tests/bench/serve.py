"""Measure scrapes: what a page costs, how many a second, and how long one takes beside clients that are stuck.

    python tests/bench/serve.py

Pages of 10 000 and of 100 000 samples are held against `generate_latest` of prometheus_client on the same figures:
of a registry of its own counters, gauges and histograms, as a program would serve them, and of its families alone,
made before (that is nothing but writing). Then how much slower reading is while 100 000 samples are scraped every
second. Ratios are of CPU time taken in one run; stuck clients are half slowloris, half readers that never read.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.exposition import Exposition
from sidecar.metrics import AI_API, Health, Meter
from sidecar.prices import PriceBook
from sidecar.request import Request
from sidecar.series import Store
from sidecar.server import Server

PAGE = (
    b'ai_api_requests_total{provider="openai",model="gpt-4.1",status_code="200"} 123456.0\n'
    * 10_000
)
STUCK_CLIENTS = 200
SCRAPES = 1000
READ_SECONDS = 4


class Loop(threading.Thread):
    """Answers every ask with the same page."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.woken = threading.Event()
        self.server: Server | None = None

    def run(self) -> None:
        while True:
            self.woken.wait()
            self.woken.clear()
            if self.server is not None:
                self.server.answer(self.server.take_asks(), 200, PAGE, "text/plain")


def scrape_milliseconds(port: int, count: int, fields: dict[str, str]) -> list[float]:
    """Scrape on one kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    took = []
    for _ in range(count):
        started = time.perf_counter()
        connection.request("GET", "/metrics", headers=fields)
        connection.getresponse().read()
        took.append((time.perf_counter() - started) * 1000)
    connection.close()
    return took


def stick(port: int, number: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    sock.connect(("127.0.0.1", port))
    sock.sendall(
        b"GET /metrics HTTP/1.1\r\nX-a" if number % 2 else b"GET /metrics HTTP/1.1\r\n\r\n"
    )
    return sock


def show(name: str, took: list[float]) -> None:
    ordered = sorted(took)
    print(
        f"{name:34} median {statistics.median(took):7.2f} ms   p99 {ordered[int(len(ordered) * 0.99)]:7.2f} ms"
        f"   {1000 * len(took) / sum(took):7.0f} a second"
    )


class World:
    """A store with so many samples, and what adds to it and shows it."""

    def __init__(self, samples: int) -> None:
        self.store = Store(10**6)
        self.meter = Meter(self.store, PriceBook())
        self.exposition = Exposition(self.store, self.meter, Health("bench"))
        self.random = random.Random(samples)
        self.series = 0
        while (count := self.sample_count()) < samples:
            missing = max(4, (samples - count) // 30 * 4 // 4)
            self.series += missing
            for number in range(self.series - missing, self.series):
                self.meter.add(self.request(number))

    def request(self, number: int) -> Request:
        """Give a request of one label set: of each model two endpoints, of each endpoint successes and failures."""
        is_failure = number % 2
        return Request(
            provider="openai",
            model=f"gpt-4.1-{number // 4}",
            endpoint=("/chat/completions", "/responses")[number // 2 % 2],
            status_code=("200", "429")[is_failure],
            error_type=(None, "rate_limit")[is_failure],
            finish_reason=("stop", None)[is_failure],
            duration_seconds=self.random.random() * 5,
            time_to_first_token_seconds=self.random.random() / 2,
            input_tokens=self.random.randrange(5000),
            output_tokens=self.random.randrange(500),
            cache_read_tokens=self.random.randrange(100),
            cost_usd=self.random.randrange(10**6) / 10**6,
            timestamp=1_767_225_600 + self.random.random() * 1e5,
        )

    def page(self) -> str:
        """Give the page of our families."""
        page, _ = self.exposition.page("", None)
        return page.decode().partition("# HELP ai_sidecar_")[0]

    def sample_count(self) -> int:
        return sum(not line.startswith("#") for line in self.page().splitlines())

    def change(self, every: int = 1) -> None:
        """Add a request to each label set, or to each so many-th."""
        for number in range(0, self.series, every):
            self.meter.add(self.request(number))


class Collected:
    """Families that were made before."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def registry_of(page: str) -> CollectorRegistry:
    """Make what a program with prometheus_client would have: its objects, with the figures of a page."""
    registry = CollectorRegistry(auto_describe=False)
    ours = {family.name: family for family in AI_API}
    for family in text_string_to_metric_families(page):
        labels = [*ours[family.name].labels]
        labels += [ours[family.name].split[0]] if ours[family.name].split else []  # type: ignore[index] # just asked
        arguments: dict[str, Any] = {"labelnames": labels, "registry": registry}
        if family.type == "histogram":
            histogram = Histogram(
                family.name, family.documentation, buckets=ours[family.name].buckets, **arguments
            )
            before = 0.0
            for sample in family.samples:
                child: Any = histogram.labels(*[sample.labels[name] for name in labels])
                if sample.name.endswith("_bucket"):
                    bounds = [str(bound) for bound in child._upper_bounds]
                    place = bounds.index(sample.labels["le"].replace("+Inf", "inf"))
                    child._buckets[place].inc(sample.value - (before if place else 0))
                    before = sample.value
                elif sample.name.endswith("_sum"):
                    child._sum.inc(sample.value)
        else:
            kind = Counter if family.type == "counter" else Gauge
            metric: Any = kind(family.name, family.documentation, **arguments)
            for sample in family.samples:
                metric.labels(*[sample.labels[name] for name in labels]).inc(sample.value)
    return registry


def samples_of(page: bytes) -> list[str]:
    return sorted(line for line in page.decode().splitlines() if not line.startswith("#"))


def cpu_milliseconds(act: Callable[[], object], prepare: Callable[[], object] = int) -> float:
    """Give the median CPU time of some runs."""
    took = []
    for _ in range(7):
        prepare()
        started = time.thread_time()
        act()
        took.append(time.thread_time() - started)
    return statistics.median(took) * 1000


def show_page(samples: int) -> None:
    world = World(samples)
    page = world.page()
    registry = registry_of(page)
    assert samples_of(generate_latest(registry)) == samples_of(page.encode())
    families = CollectorRegistry(auto_describe=False)
    families.register(Collected([*text_string_to_metric_families(page)]))
    gc.collect()
    gc.freeze()
    theirs = cpu_milliseconds(lambda: generate_latest(registry))
    written = cpu_milliseconds(lambda: generate_latest(families))
    row = f"{world.sample_count():8} {theirs:12.1f} {written:13.1f}"
    for name, every in (("none", 10**9), ("a tenth", 10), ("all", 1)):
        ours = cpu_milliseconds(
            lambda: world.exposition.page("", None), partial(world.change, every)
        )
        row += f"  {name}: {ours:6.2f} ({theirs / ours:.0f}x, {written / ours:.0f}x)"
    print(row, flush=True)


def show_reading() -> None:
    """Read a log of 4800 label sets over and over, with and without a scraper that comes every second."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests.log"
        world = World(100_000)
        with log.open("w") as text:
            for _ in range(20):
                for number in range(world.series):
                    request = world.request(number)
                    line = {
                        "provider": request.provider,
                        "model": request.model,
                        "endpoint": request.endpoint,
                        "status_code": int(request.status_code),
                        "latency_ms": round((request.duration_seconds or 0) * 1000, 1),
                        "ttft_ms": round((request.time_to_first_token_seconds or 0) * 1000, 1),
                        "prompt_tokens": request.input_tokens,
                        "completion_tokens": request.output_tokens,
                        "cost_usd": request.cost_usd,
                        "finish_reason": request.finish_reason,
                        "ts": request.timestamp,
                    }
                    text.write(json.dumps(line) + "\n")
        rates: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(3):
            for is_scraped in rates:
                rates[is_scraped].append(lines_a_second(log, is_scraped=is_scraped))
        plain, scraped = (statistics.median(rates[is_scraped]) for is_scraped in (False, True))
        print(
            f"reading: {plain:.0f} lines a second of CPU time, {scraped:.0f} beside a scrape of 100 000 samples"
            f" each second: {(1 - scraped / plain) * 100:.1f} % less"
        )


def lines_a_second(log: Path, *, is_scraped: bool) -> float:
    """Let a sidecar read a log that is made longer all the time; give what it reads in a second of its reader's CPU time.

    A scrape comes with each such second, so that neighbours on the machine change nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        grown = Path(folder) / "grown.log"
        text = log.read_bytes()
        grown.write_bytes(text)
        command = [sys.executable, "-m", "sidecar", "--log-path", str(grown), "--port", "0"]
        command += ["--host", "127.0.0.1", "--max-series", "1000000"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            port = int(process.stderr.readline().rsplit(":", 1)[1])
            threading.Thread(target=process.stderr.read, daemon=True).start()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

            def get(path: str) -> tuple[int, bytes]:
                connection.request(
                    "GET", path, headers={"Accept-Encoding": "gzip"} if is_scraped else {}
                )
                answer = connection.getresponse()
                return answer.status, answer.read()

            while get("/ready")[0] != 200:
                time.sleep(0.05)
            # more than it can read in the time
            with grown.open("ab") as more:
                for _ in range(20):
                    more.write(text)
            get("/metrics")
            before, started = read_bytes(port), reader_seconds(process.pid)
            next_scrape = started + 1
            while (now := reader_seconds(process.pid)) < started + READ_SECONDS:
                if is_scraped and now >= next_scrape:
                    next_scrape += 1
                    get("/metrics")
                time.sleep(0.01)
            spent, after = reader_seconds(process.pid) - started, read_bytes(port)
            process.terminate()
        return (after - before) / spent / (len(text) / text.count(b"\n"))


def reader_seconds(pid: int) -> float:
    """Give the CPU time of a process's first thread, which reads and renders; the server's thread has its own."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_bytes(port: int) -> float:
    """Ask a sidecar how much it has read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    return float(page.partition("\nai_sidecar_read_bytes_total ")[2].partition("\n")[0])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", choices=["pages", "reading", "server"])
    only = options.parse_args().only
    if only in (None, "pages"):
        # prometheus_client would show when each sample was made, too
        disable_created_metrics()  # type: ignore[no-untyped-call] # it has no types
        print(
            f"{'samples':>8} {'objects, ms':>12} {'families, ms':>13}"
            "  ours, ms (times faster than both), where so many label sets have changed"
        )
        for samples in (10_000, 100_000):
            show_page(samples)
    if only in (None, "reading"):
        show_reading()
    if only in (None, "server"):
        show_server()


def show_server() -> None:
    loop = Loop()

    def fine() -> tuple[int, bytes]:
        return 200, b"{}"

    server = loop.server = Server("127.0.0.1", 0, wake=loop.woken.set, health=fine, ready=fine)
    server.bind()
    server.start()
    loop.start()
    print(f"a page of {len(PAGE) / 1e6:.1f} MB, one scraper")
    show("plain", scrape_milliseconds(server.port, SCRAPES, {}))
    show("gzip", scrape_milliseconds(server.port, SCRAPES // 10, {"Accept-Encoding": "gzip"}))
    stuck = [stick(server.port, number) for number in range(STUCK_CLIENTS)]
    show(
        f"plain, beside {STUCK_CLIENTS} stuck clients",
        scrape_milliseconds(server.port, SCRAPES, {}),
    )
    for sock in stuck:
        sock.close()
    server.stop(1.0)


if __name__ == "__main__":
    main()

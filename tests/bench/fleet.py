"""Measure a fleet: many sidecars on one machine, and a real Prometheus that finds them in a file.

    python tests/bench/fleet.py
    python tests/bench/fleet.py --table     # one sidecar for each of several sizes, in place of a fleet

Each sidecar follows a log of its own; lines of all of them are written while Prometheus scrapes. At the end the sums
that PromQL tells must be what was written, else it exits with 1. Printed are memory, CPU and scrape time of one
sidecar, series and samples, what Prometheus needed for them, and what that makes of a thousand and a hundred thousand.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from prometheus import Prometheus, SidecarProcess, get, wait_until

RULES = Path(__file__).parents[2] / "dashboards" / "scale.yaml"
TICKS = os.sysconf("SC_CLK_TCK")
ENDPOINTS = ("chat/completions", "responses", "completions", "messages", "embeddings")
PROVIDERS = ("openai", "anthropic", "mistral_ai", "deepseek")


def line(random: Random, model: int, endpoint: int) -> tuple[str, int, int]:
    """Make a line; give it with its tokens."""
    tokens_in, tokens_out = random.randint(10, 2000), random.randint(1, 400)
    is_streamed = random.random() < 0.5
    record = {
        "ts": time.time(),
        "provider": PROVIDERS[model % len(PROVIDERS)],
        "model": f"model-{model}",
        "endpoint": f"/v1/{ENDPOINTS[endpoint]}",
        "status_code": 429 if random.random() < 0.03 else 200,
        "latency_ms": round(random.lognormvariate(6.5, 0.8), 1),
        **({"ttft_ms": round(random.lognormvariate(5, 0.5), 1)} if is_streamed else {}),
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out},
        "finish_reason": "stop",
        "cost_usd": 0.001,
    }
    return json.dumps(record) + "\n", tokens_in, tokens_out


def memory_mib(pid: int) -> tuple[float, float]:
    """Give resident memory, and its share of it: pages that many processes have are parted among them."""
    found = {}
    for text in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = text.split(":")
        found[name] = int(value.split()[0]) / 1024
    return found["Rss"], found["Pss"]


def peak_mib(pid: int) -> float:
    """Give the most memory that was resident at a time."""
    [peak] = [
        int(row.split()[1])
        for row in Path(f"/proc/{pid}/status").read_text().splitlines()
        if row.startswith("VmHWM:")
    ]
    return peak / 1024


def cpu_seconds(pid: int) -> float:
    """Give the CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


class Fleet:
    """The sidecars, their logs, and what was written to them."""

    def __init__(self, folder: Path, number: int, models: int, endpoints: int) -> None:
        self.models, self.endpoints = models, endpoints
        self.random = Random(7)
        self.logs = [folder / f"pod-{place}" / "requests.jsonl" for place in range(number)]
        for log in self.logs:
            log.parent.mkdir()
            log.touch()
        self.sidecars: list[SidecarProcess] = []
        self.requests = self.tokens_in = self.tokens_out = 0

    def start(self, stack: ExitStack) -> None:
        """Start all, four at a time, as pods come on a node."""
        for first in range(0, len(self.logs), 4):
            started = [
                stack.enter_context(
                    SidecarProcess(["--log-path", log.parent, "--state-dir", log.parent / "state"])
                )
                for log in self.logs[first : first + 4]
            ]
            self.sidecars += started

    def write(self, lines: int) -> None:
        """Write so many lines to each log, every model and endpoint in turn."""
        for log in self.logs:
            texts = []
            for _ in range(lines):
                text, tokens_in, tokens_out = line(
                    self.random,
                    self.requests % self.models,
                    self.requests // self.models % self.endpoints,
                )
                texts.append(text)
                self.requests += 1
                self.tokens_in += tokens_in
                self.tokens_out += tokens_out
            with log.open("a") as file:
                file.writelines(texts)


def main() -> None:
    """Run the fleet and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sidecars", type=int, default=50)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--endpoints", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--interval", type=float, default=5.0, help="of the scrapes, seconds")
    parser.add_argument("--rate", type=float, default=2.0, help="lines a second and sidecar")
    parser.add_argument("--table", action="store_true", help="cost of one sidecar by its size")
    options = parser.parse_args()
    if options.table:
        table()
        return
    with tempfile.TemporaryDirectory() as text, ExitStack() as stack:
        folder = Path(text)
        fleet = Fleet(folder, options.sidecars, options.models, options.endpoints)
        begun = time.monotonic()
        fleet.start(stack)
        print(
            f"{options.sidecars} sidecars ready after {time.monotonic() - begun:.0f} s", flush=True
        )
        # each label set is there from the start, so that all samples are counted alike
        fleet.write(options.models * options.endpoints * 2)
        targets = folder / "targets.json"
        targets.write_text(
            json.dumps(
                [
                    {
                        "targets": [one.target],
                        "labels": {"pod": f"pod-{place}", "namespace": "fleet"},
                    }
                    for place, one in enumerate(fleet.sidecars)
                ]
            )
        )
        prometheus = prometheus_of(folder, targets, options.interval)
        stack.enter_context(prometheus)
        wait_until(
            lambda: len(prometheus.query("up == 1")) == options.sidecars,
            "every target",
            seconds=120,
        )
        cpu_before = [cpu_seconds(one.popen.pid) for one in fleet.sidecars]
        started = time.monotonic()
        every = max(0.5, 1 / options.rate)
        rounds = int(options.seconds / every)
        for number in range(rounds):
            fleet.write(max(1, round(options.rate * every)))
            time.sleep(max(0.0, started + (number + 1) * every - time.monotonic()))
        took = time.monotonic() - started
        cpu = [
            (cpu_seconds(one.popen.pid) - before) / took
            for one, before in zip(fleet.sidecars, cpu_before, strict=True)
        ]
        wait_until(
            lambda: prometheus.query("sum(ai_api_requests_total)")[0].value >= fleet.requests,
            "the last lines in Prometheus",
            seconds=60,
        )
        is_equal = report(prometheus, fleet, cpu)
    sys.exit(0 if is_equal else 1)


SIZES = ((1, 1), (5, 2), (20, 3), (50, 4), (100, 5), (200, 5), (400, 5))
"""Models, and endpoints of each."""
TABLE_LINES = 20_000


def table() -> None:
    """Print what one sidecar costs by the number of its models and endpoints."""
    print(
        "| models × endpoints | samples of ai_api_* | all samples | page, KiB | resident, MiB | at the peak, MiB | state, KiB | scrape, ms | CPU for a line, µs |"
    )
    for models, endpoints in SIZES:
        with tempfile.TemporaryDirectory() as text, ExitStack() as stack:
            folder = Path(text)
            fleet = Fleet(folder, 1, models, endpoints)
            fleet.start(stack)
            [sidecar] = fleet.sidecars
            pid = sidecar.popen.pid
            before = cpu_seconds(pid)
            while fleet.requests < TABLE_LINES:
                fleet.write(500)
            done = f'lines_total{{result="request"}} {TABLE_LINES}.0'
            wait_until(lambda: done in sidecar.page(), "all lines")  # noqa: B023 - called at once
            scrapes = []
            cpu = cpu_seconds(pid) - before
            for _ in range(50):
                begun = time.perf_counter()
                page = sidecar.page()
                scrapes.append(time.perf_counter() - begun)
            rows = [row for row in page.splitlines() if not row.startswith("#")]
            ours = sum(row.startswith("ai_api_") for row in rows)
            rss, _ = memory_mib(pid)
            state = (fleet.logs[0].parent / "state" / "state.json").stat().st_size
            print(
                f"| {models} × {endpoints} | {ours} | {len(rows)} | {len(page) / 1024:.0f} | {rss:.0f} | {peak_mib(pid):.0f} | {state / 1024:.0f}"
                f" | {1000 * median(scrapes):.1f} | {1e6 * cpu / TABLE_LINES:.0f} |",
                flush=True,
            )


def prometheus_of(folder: Path, targets: Path, interval_seconds: float) -> Prometheus:
    """Make a Prometheus that reads its targets from a file, as a service discovery would tell them."""
    prometheus = Prometheus(folder, scrape_interval_seconds=interval_seconds, rule_files=[RULES])
    document = json.loads(prometheus.config.read_text())
    [job] = document["scrape_configs"]
    del job["static_configs"]
    job["file_sd_configs"] = [{"files": [str(targets)], "refresh_interval": "5s"}]
    prometheus.config.write_text(json.dumps(document))
    return prometheus


def report(prometheus: Prometheus, fleet: Fleet, cpu: list[float]) -> bool:
    """Print what was measured; tell whether the sums are what was written."""
    sums = {
        "requests": (prometheus.value("sum(ai_api_requests_total)"), fleet.requests),
        "input tokens": (prometheus.value("sum(ai_api_input_tokens_total)"), fleet.tokens_in),
        "output tokens": (prometheus.value("sum(ai_api_output_tokens_total)"), fleet.tokens_out),
        "cents": (
            round(prometheus.value("sum(ai_api_cost_usd_cents_total)"), 6),
            fleet.requests / 10,
        ),
    }
    for name, (told, written) in sums.items():
        print(f"{name:14} {told:14.1f} in Prometheus {written:14.1f} written")
    memory = [memory_mib(one.popen.pid) for one in fleet.sidecars]
    rss, pss = median([one for one, _ in memory]), median([one for _, one in memory])
    scrape = sorted(sample.value for sample in prometheus.query("scrape_duration_seconds"))
    samples = median([one.value for one in prometheus.query("scrape_samples_scraped")])
    ours = median(
        [one.value for one in prometheus.query('count by (pod) ({__name__=~"ai_api_.*"})')]
    )
    series = prometheus.value('count({__name__=~"[^:]+"})')
    recorded = wait_until(
        lambda: prometheus.query('count({__name__=~".+:ai_.+"})'), "recorded sums", seconds=120
    )[0].value
    server = prometheus._process.popen.pid
    server_rss, _ = memory_mib(server)
    head = get(f"{prometheus.url}/metrics")[1]
    values = dict(
        row.rsplit(" ", 1)
        for row in head.splitlines()
        if row.startswith("prometheus_tsdb_head_series ")
    )
    print(
        f"a sidecar: {rss:.1f} MiB resident (its own share {pss:.1f}), {100 * median(cpu):.2f} % of a core"
    )
    print(f"  scrape: median {1000 * median(scrape):.1f} ms, slowest {1000 * scrape[-1]:.1f} ms")
    print(f"  {samples:.0f} samples a scrape, {ours:.0f} of them ai_api_*")
    print(
        f"Prometheus: {float(values['prometheus_tsdb_head_series']):.0f} series in its head ({series:.0f} live),"
        f" {server_rss:.0f} MiB resident, {1024 * server_rss / series:.1f} KiB a series"
    )
    print(f"scale.yaml leaves {recorded:.0f} series of {series:.0f}")
    print("from here on: extrapolated, at a scrape interval of 30 s")
    for pods in (1_000, 100_000):
        print(
            f"{pods:8} pods: {pods * samples / 1e6:8.2f} million series, {pods * samples / 30:10.0f} samples a second,"
            f" {pods * rss / 1024:7.0f} GiB in all sidecars, {pods * median(cpu):7.1f} cores"
        )
    return all(abs(told - written) < 0.001 for told, written in sums.values())


if __name__ == "__main__":
    main()

"""Measure what `--state-dir` costs: reading, and a scrape of 2000 label sets, as ratios to the same without it.

    python tests/bench/state.py

Reading: a real sidecar is scraped every second, so that it saves as often, while it reads a log that has come in
one piece; CPU seconds, the start left off, medians of turns. Scrapes: the step, the save and the page in one process, after
some of the label sets have changed.
"""

from __future__ import annotations

import argparse
import http.client
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from request_line import line

from sidecar.config import Config
from sidecar.daemon import Sidecar

LABEL_SETS = 2000
CHANGED = (1, 10, 100, 2000)


def read_seconds(lines: Path, count: int, *, has_state: bool) -> tuple[float, float]:
    """Have a sidecar read a log of `count` bytes; give its CPU and wall seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "app.log"
        log.touch()
        command: list[str | Path] = [sys.executable, "-m", "sidecar", "--log-path", log]
        command += ["--host", "127.0.0.1", "--port", "0"]
        if has_state:
            command += ["--state-dir", folder / "state"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        port = 0
        for said in process.stderr:
            if found := re.search(r"serving on \w+://\S+:(\d+)", said):
                port = int(found[1])
                break
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        started = time.perf_counter()
        if count:
            new = folder / "app.new"
            shutil.copyfile(lines, new)
            started = time.perf_counter()
            new.replace(log)
        while True:
            connection.request("GET", "/metrics")
            page = connection.getresponse().read()
            found_bytes = re.search(rb"\nai_sidecar_read_bytes_total (\S+)", page)
            if found_bytes is not None and float(found_bytes[1]) >= count:
                break
            time.sleep(0.2 if found_bytes is None else 1.0)
        wall = time.perf_counter() - started
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.stderr.close()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cpu, wall


def measure_reading(runs: int, scale: float) -> float:
    """Print and give how much longer reading takes with a state."""
    with tempfile.TemporaryDirectory() as name:
        lines = Path(name) / "lines"
        some = b"".join([line(number) for number in range(200)])
        lines.write_bytes(some * int(6000 * scale))
        count = lines.stat().st_size
        took: dict[tuple[bool, int], list[float]] = {}
        for _ in range(runs):
            for size in (0, count):
                for has_state in (False, True):
                    cpu, _ = read_seconds(lines, size, has_state=has_state)
                    took.setdefault((has_state, size), []).append(cpu)
    median = {key: statistics.median(values) for key, values in took.items()}
    without, with_state = (median[one, count] - median[one, 0] for one in (False, True))
    print(
        f"reading {count / 1e6:.0f} MB: {without:.2f} s of CPU without a state, {with_state:.2f} s with one,"
        f" ratio {with_state / without:.2f}",
        flush=True,
    )
    return with_state / without


class Counting:
    """A sidecar in this process that has counted all label sets."""

    def __init__(self, folder: Path, *, has_state: bool) -> None:
        self.log = folder / "app.log"
        self.log.write_bytes(b"".join([line(number) for number in range(LABEL_SETS)]))
        state = folder / "state" if has_state else None
        config = Config(log_paths=(str(self.log),), state_dir=state)
        self.sidecar = Sidecar(config, version="bench")
        self.sidecar.hold_state()
        self.sidecar.restore(0.0)
        self.now = 0.0
        self.read(0)

    def read(self, changed: int) -> None:
        with self.log.open("ab") as file:
            file.writelines([line(number) for number in range(changed)])
        self.now += 2.0
        self.sidecar.follower.look(self.now)
        while self.sidecar.step():
            self.sidecar.follower.check(self.now)

    def scrape_seconds(self) -> float:
        """Do what the loop does for a scrape."""
        started = time.perf_counter()
        self.sidecar.save()
        self.sidecar.exposition.page("text/plain", "scraper")
        return time.perf_counter() - started


def measure_scrapes(scrapes: int) -> float:
    """Print and give how much longer a scrape takes with a state, where that is worst."""
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        both = []
        for has_state in (False, True):
            folder = Path(name) / str(has_state)
            folder.mkdir()
            both.append(Counting(folder, has_state=has_state))
        for changed in CHANGED:
            took: list[list[float]] = [[], []]
            for _ in range(scrapes):
                for counting, times in zip(both, took, strict=True):
                    counting.read(changed)
                    times.append(counting.scrape_seconds() * 1000)
            without, with_state = map(statistics.median, took)
            ratios.append(with_state / without)
            print(
                f"scrape of {LABEL_SETS} label sets, {changed:4} changed: {without:6.2f} ms without a state,"
                f" {with_state:6.2f} ms with one, ratio {ratios[-1]:.2f}",
                flush=True,
            )
    return max(ratios)


def main() -> None:
    """Measure both; exit 1 where reading takes over a tenth longer, or a scrape over three times as long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scrapes", type=int, default=21)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    scrape = measure_scrapes(options.scrapes)
    reading = measure_reading(options.runs, options.scale)
    sys.exit(reading > 1.1 or scrape > 3.0)


if __name__ == "__main__":
    main()

"""Kill -9 at random moments under load, with rotation going on, and a real Prometheus that scrapes every second.

    make kills KILLS=200
    python tests/kills.py --kills 200

Whatever dies, the increases that Prometheus has recorded are what was written, to the unit, and it has seen no
counter start again.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from prometheus import Prometheus, get, wait_until
from workload import Sample, Sidecar, Workload, differences, free_port, samples_of, scrape

KINDS = ("generic", "generic", "cri", "docker")
SETTLE_SECONDS = 60.0
SETTLE_EVERY = 20
"""After how many kills all is counted once, so that the oldest files can go."""
_COUNTER = re.compile(r"ai_api_.+_(total|count|sum|bucket)")


class Outcome(NamedTuple):
    """What was written, and what Prometheus knows of it."""

    kills: int
    written: int
    recorded: float
    """The raw increases of all series of `ai_api_requests_total`, added up."""
    tokens_written: float
    tokens_recorded: float
    unborn: list[str]
    """Series whose first sample was not 0."""
    resets: float
    """Of all series of all counters and histograms."""
    series: int
    samples: int
    failed_scrapes: float
    rotations: int
    seconds: float


def raw(prometheus: Prometheus, expression: str) -> list[tuple[str, list[float]]]:
    """Give the recorded samples of each series in the last day, as they were recorded."""
    data = prometheus.api("query", {"query": f"{expression}[1d]"})
    assert data["resultType"] == "matrix", data["resultType"]
    return [
        (str(series["metric"]), [float(value) for _, value in series["values"]])
        for series in data["result"]
    ]


def increase(values: list[float]) -> float:
    """Add up the steps as Prometheus does: after a step back all of the new value is an increase."""
    return sum(after - before if after >= before else after for before, after in pairwise(values))


def run(directory: Path, seed: str, kills: int) -> Outcome:
    """Kill so many times; AssertionError where what is shown in the end is not what was written."""
    rng = random.Random(f"{seed}-kills")
    workload = Workload(directory / "logs", f"{seed}-writer", kinds=KINDS, pause_seconds=0.04)
    port = free_port(random.Random())
    begun = time.monotonic()
    is_over = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        try:
            while not is_over.is_set():
                workload.step()
        except BaseException as error:
            errors.append(error)

    def begin_to_write() -> threading.Thread:
        is_over.clear()
        thread = threading.Thread(target=write)
        thread.start()
        return thread

    def end_to_write() -> None:
        is_over.set()
        writer.join()
        if errors:
            raise errors[0]

    def start() -> Sidecar:
        interval = rng.choice(("0.05", "1", "5"))
        process = Sidecar(
            directory / "logs", directory / "state", port, "--state-interval", interval
        )
        process.__enter__()
        return process

    def settle() -> None:
        workload.settle()
        truth = workload.truth()
        page: dict[Sample, float] = {}

        def is_equal() -> bool:
            nonlocal page
            status, body = scrape(port, "127.0.0.8")
            page = samples_of(body) if status == 200 else page
            return status == 200 and not differences(truth, page)

        try:
            wait_until(is_equal, "the ledger's figures", seconds=SETTLE_SECONDS)
        except AssertionError:
            raise AssertionError("\n".join(differences(truth, page)[:20])) from None

    sidecar = start()
    writer = threading.Thread()
    (directory / "prometheus").mkdir()
    try:
        wait_until(lambda: scrape(port, "127.0.0.9", "/ready")[0] == 200, "the sidecar to be ready")
        with Prometheus(directory / "prometheus", [f"127.0.0.1:{port}"]) as prometheus:
            # a scraper's first page of all is shown as it is
            prometheus.wait_for_scrapes(1)
            writer = begin_to_write()
            for number in range(kills):
                if number % SETTLE_EVERY == SETTLE_EVERY - 1:
                    print(f"{number} kills", file=sys.stderr, flush=True)
                    end_to_write()
                    # after three rounds it is in each of the states
                    for _ in range(3):
                        settle()
                        for log in workload.logs:
                            log.append()
                    settle()
                    for log in workload.logs:
                        log.settled(is_done=True)
                    writer = begin_to_write()
                if rng.random() < 0.8:
                    # in its work; else in its first moments
                    wait_until(
                        lambda: scrape(port, "127.0.0.9", "/ready")[0] == 200,
                        "the sidecar to be ready",
                        seconds=SETTLE_SECONDS,
                    )
                time.sleep(rng.random() * 1.5)
                assert sidecar.popen.poll() is None, sidecar.tail()
                sidecar.kill()
                sidecar.stop()
                time.sleep(rng.choice((0.0, 0.0, rng.random())))
                sidecar = start()
            end_to_write()
            settle()
            truth = workload.truth()
            # a series that is new is shown as 0 by the first of them
            prometheus.wait_for_scrapes(3)
            requests = raw(prometheus, "ai_api_requests_total")
            tokens = raw(prometheus, "ai_api_input_tokens_total")
            resets = [
                sample.value
                for name in prometheus.api("label/__name__/values", {})
                if _COUNTER.fullmatch(name)
                for sample in prometheus.query(f"resets({name}[1d])")
            ]
            assert get(f"{prometheus.url}/-/healthy")[0] == 200
            return Outcome(
                kills=kills,
                written=workload.written(),
                recorded=sum(increase(values) for _, values in requests),
                tokens_written=sum(
                    value
                    for (name, _), value in truth.items()
                    if name == "ai_api_input_tokens_total"
                ),
                tokens_recorded=sum(increase(values) for _, values in tokens),
                unborn=[name for name, values in requests + tokens if values[0] != 0],
                resets=sum(resets),
                series=len(resets),
                samples=sum(len(values) for _, values in requests),
                failed_scrapes=prometheus.value("count_over_time(up[1d]) - sum_over_time(up[1d])"),
                rotations=workload.operations["rename"] + workload.operations["copy_and_truncate"],
                seconds=time.monotonic() - begun,
            )
    finally:
        is_over.set()
        if writer.is_alive():
            writer.join()
        sidecar.popen.kill()
        sidecar.stop()
        workload.close()


def check(outcome: Outcome) -> None:
    """AssertionError where Prometheus does not know what was written, to the unit."""
    assert outcome.unborn == [], "series were not born at 0"
    assert outcome.resets == 0
    assert outcome.recorded == outcome.written
    assert outcome.tokens_recorded == outcome.tokens_written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**9)))
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kills-"))
    print(f"seed {options.seed}, {directory}", flush=True)
    try:
        outcome = run(directory, options.seed, options.kills)
        print("\n".join(f"{name}: {value}" for name, value in outcome._asdict().items()))
        check(outcome)
    except BaseException as error:
        print(f"FAILED with --seed {options.seed}; all of it is in {directory}: {error}")
        return 1
    shutil.rmtree(directory)
    print("exact")
    return 0


if __name__ == "__main__":
    sys.exit(main())

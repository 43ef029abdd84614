"""The first request counts too: clients that make one to three requests and fall silent, seen by a real Prometheus.

python tests/test_zero_first.py 50
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kills import increase, raw
from prometheus import Prometheus, SidecarProcess, get, needs_prometheus, wait_until

BATCH = 10
"""How many sidecars are started at a time."""


class Outcome(NamedTuple):
    """What a group of clients wrote, and what Prometheus has recorded of it."""

    clients: int
    written: int
    recorded: float
    """The last sample less the first, added up over all series."""
    unborn: int
    """Series whose first sample was not 0."""
    failed_scrapes: float
    """A scrape that Prometheus gave up may have been the one that showed the 0."""


def is_served(url: str) -> bool:
    """Tell whether a GET is answered with 200."""
    return get(url)[0] == 200


def run(directory: Path, clients: int, seed: str) -> tuple[Outcome, Outcome]:
    """Let so many clients be watched as usual, and as many with `--no-zero-first`, by one Prometheus."""
    rng = random.Random(seed)
    logs = [directory / f"{place}.log" for place in range(2 * clients)]
    written = [0, 0]
    with ExitStack() as stack:
        sidecars: list[SidecarProcess] = []
        while len(sidecars) < len(logs):
            begun: list[SidecarProcess] = []
            for log in logs[len(sidecars) :][:BATCH]:
                option = "--zero-first" if len(sidecars + begun) < clients else "--no-zero-first"
                process = SidecarProcess(["--log-path", str(log), option])
                begun.append(process)
                # not yet waited for: those of a batch start side by side
                super(SidecarProcess, process).__enter__()
                stack.callback(process.stop)
            for process in begun:
                process.port = int(process.wait_for_line(r"serving on http://\S+?:(\d+)")[1])
                ready = f"{process.url}/ready"
                wait_until(partial(is_served, ready), "a sidecar to be ready")
            sidecars += begun
        targets = [sidecar.target for sidecar in sidecars]
        # a scrape that is given up may be the one that shows the 0: each has time enough
        interval = 3.0 if clients < 30 else 10.0
        prometheus = stack.enter_context(
            Prometheus(directory, targets, scrape_interval_seconds=interval)
        )
        # a scraper's first page of all is shown as it is
        prometheus.wait_for_scrapes(1, seconds=60)
        for place, log in enumerate(logs):
            count = rng.randrange(1, 4)
            written[place >= clients] += count
            record = {
                "provider": "openai",
                "model": f"model-{rng.randrange(3)}",
                "endpoint": "/v1/chat/completions",
                "status_code": 200,
                "usage": {"prompt_tokens": 7, "completion_tokens": 2},
            }
            log.write_text((json.dumps(record) + "\n") * count)
        wait_until(
            lambda: sum(s.value for s in prometheus.query("ai_api_requests_total")) == sum(written),
            "all requests to be shown",
            seconds=60,
        )
        outcomes = []
        for group in range(2):
            mine = targets[group * clients :][:clients]
            selector = f'ai_api_requests_total{{instance=~"{"|".join(mine)}"}}'
            series = raw(prometheus, selector)
            assert len(series) == clients
            recorded = sum(values[-1] - values[0] for _, values in series)
            assert recorded == sum(increase(values) for _, values in series)
            unborn = sum(1 for _, values in series if values[0] != 0)
            up = f'up{{instance=~"{"|".join(mine)}"}}'
            failed = prometheus.value(f"sum(count_over_time({up}[1h]) - sum_over_time({up}[1h]))")
            outcomes.append(Outcome(clients, written[group], recorded, unborn, failed))
        return outcomes[0], outcomes[1]


@needs_prometheus
def test_prometheus_counts_the_only_requests_of_a_client(tmp_path: Path) -> None:
    zero_first, as_others_do = run(tmp_path, 12, "any")

    assert zero_first.recorded == zero_first.written
    assert as_others_do.recorded <= as_others_do.written - as_others_do.clients


def main() -> None:
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as directory:
        for name, outcome in zip(
            ("--zero-first", "--no-zero-first"), run(Path(directory), clients, "any"), strict=True
        ):
            print(name, *(f"{key}: {value:g}" for key, value in outcome._asdict().items()))


if __name__ == "__main__":
    main()

"""Measure what the page costs the sidecar: a viewer that renews as the page does, beside traffic and a full store.

    python tests/bench/page.py

CPU seconds of the sidecar's own process, with one viewer less without, in % of a core.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from prometheus import sidecar_process

from sidecar import page
from sidecar.status import RENEW_SAVED_SECONDS, RENEW_SECONDS

SECONDS = 20.0
LINES_A_SECOND = 50


def line(number: int, models: int) -> str:
    return json.dumps(
        {
            "provider": "openai",
            "model": f"model-{number % models}",
            "endpoint": "/v1/chat/completions",
            "status_code": 200,
            "latency_ms": 100 + number % 900,
            "ttft_ms": 40 + number % 90,
            "usage": {"prompt_tokens": 100, "completion_tokens": 20},
        }
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    return (
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    )


def look(url: str, renew_seconds: float, is_over: threading.Event) -> None:
    """Ask as the page does."""
    while not is_over.wait(renew_seconds):
        request = urllib.request.Request(f"{url}/status.json", headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(request) as answer:
            gzip.decompress(answer.read())


def measure(models: int, *options: str) -> None:
    renew_seconds = RENEW_SAVED_SECONDS if options else RENEW_SECONDS
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "app.jsonl")
        log.write_text("".join(line(number, models) + "\n" for number in range(2 * models)))
        if options:
            options = (*options, str(Path(directory, "state")))
        with sidecar_process(log, *options) as sidecar, log.open("a") as out:
            pid = sidecar.popen.pid
            time.sleep(2)
            costs = []
            memory = []
            for is_viewed in (False, True):
                is_over = threading.Event()
                viewer = threading.Thread(target=look, args=(sidecar.url, renew_seconds, is_over))
                if is_viewed:
                    viewer.start()
                before = cpu_seconds(pid)
                for number in range(int(SECONDS * LINES_A_SECOND)):
                    out.write(line(number, models) + "\n")
                    out.flush()
                    time.sleep(1 / LINES_A_SECOND)
                costs.append((cpu_seconds(pid) - before) / SECONDS * 100)
                memory.append(resident_mib(pid))
                is_over.set()
                if is_viewed:
                    viewer.join()
    print(
        f"{models:5} models {' '.join(options[:1]):12} without {costs[0]:5.2f} %, with a viewer {costs[1]:5.2f} %:"
        f" {costs[1] - costs[0]:+5.2f} % of a core, {memory[1] - memory[0]:+.1f} MiB"
    )


def main() -> None:
    body = page.load().body
    print(f"the page: {len(body)} bytes, {len(gzip.compress(body, 1))} as gzip")
    for models in (5, 500, 2000):
        measure(models)
        measure(models, "--state-dir")


if __name__ == "__main__":
    main()

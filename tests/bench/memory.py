"""Measure memory: what the main command holds after many lines and ten scrapes, and what it held at its peak.

    python tests/bench/memory.py                            # a million lines, 150 and 2000 label sets
    python tests/bench/memory.py --lines 10000000 --sets 150

The log grows by a tenth at a time and is rotated each time, its last generation removed, as a node does it; after
each tenth the sidecar is scraped as Prometheus does it, packed, in turn as OpenMetrics and as text. The 150 label sets
are those of ../shared/bench/gen_logs.py's compact log; the 2000 have all latency histograms each. Printed is VmRSS after
the first and the last tenth, and VmHWM. What was counted must be what was written, else it exits with 1.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from prometheus import SidecarProcess, wait_until

PEERS = Path(__file__).parents[3] / "shared" / "bench"
SCRAPES = 10
PIECE_LINES = 100_000
"""How many lines are made; a log is longer by having them again."""
OPENMETRICS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)
ACCEPTS = (OPENMETRICS, "text/plain;version=0.0.4")


def wide_lines(sets: int) -> Iterator[str]:
    """Give lines of so many label sets, streamed, each with time to first token and time for each token."""
    random = Random(20260101)
    for number in range(PIECE_LINES):
        place = number % sets
        latency_ms = round(random.lognormvariate(6.5, 0.8) + 300, 1)
        record = {
            "ts": 1_767_225_600 + number / 10,
            "provider": ("openai", "anthropic", "mistral_ai", "deepseek")[place % 4],
            "model": f"model-{place // 5}",
            "endpoint": "/v1/"
            + ("chat/completions", "responses", "completions", "messages", "converse")[place % 5],
            "status_code": 200,
            "latency_ms": latency_ms,
            "ttft_ms": round(random.random() * 300, 1),
            "usage": {
                "prompt_tokens": random.randint(10, 2000),
                "completion_tokens": random.randint(2, 400),
            },
            "finish_reason": "stop",
            "cost_usd": round(random.random() / 100, 6),
        }
        yield json.dumps(record) + "\n"


def piece_of(sets: int, folder: Path) -> bytes:
    """Make the lines that a log is made of."""
    if sets != 150:
        return "".join(wide_lines(sets)).encode()
    path = folder / "compact.log"
    command = [sys.executable, str(PEERS / "gen_logs.py"), "compact", str(PIECE_LINES), str(path)]
    subprocess.run(command, check=True)
    return path.read_bytes()


def scrape(sidecar: SidecarProcess, accept: str) -> str:
    """Scrape as Prometheus does."""
    fields = {"Accept": accept, "Accept-Encoding": "gzip"}
    request = urllib.request.Request(f"{sidecar.url}/metrics", headers=fields)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        return gzip.decompress(answer.read()).decode()


def value(page: str, start: str) -> int:
    """Give the figure of the line that begins so; 0 where there is none."""
    return int(float(page.partition(f"\n{start} ")[2].partition("\n")[0] or 0))


def memory_mib(pid: int) -> dict[str, float]:
    """Give what the kernel says of a process's memory."""
    rows = [row.split() for row in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return {row[0].rstrip(":"): int(row[1]) / 1024 for row in rows if row[0].startswith("Vm")}


def measure(sets: int, lines: int, options: list[str]) -> bool:
    """Print what one sidecar holds; tell whether it counted all that was written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        piece = piece_of(sets, folder)
        logs = folder / "logs"
        logs.mkdir()
        log = logs / "requests.log"
        log.touch()
        arguments = [
            "--log-path",
            str(log),
            *(one.format(state=folder / "state") for one in options),
        ]
        with SidecarProcess(arguments) as sidecar:
            pid = sidecar.popen.pid
            start, read = memory_mib(pid), read_bytes(pid)
            done = 0
            # the scrapes are spread over the lines; of few lines there are ten all the same
            pieces = max(1, lines // PIECE_LINES)
            every = max(1, pieces // SCRAPES)
            first: dict[str, float] = {}
            page = ""
            for number in range(pieces):
                if number:
                    log.replace(f"{log}.1")
                # a file that begins like one that is there is a copy of it, and not counted
                first_line = b'{"piece": %d}\n' % number
                with log.open("ab") as file:
                    file.write(first_line)
                    file.write(piece)
                read += len(first_line) + len(piece)
                done += PIECE_LINES
                wait_until(lambda: read_bytes(pid) >= read, "all lines", seconds=120)  # noqa: B023
                if not (number + 1) % every:
                    page = scrape(sidecar, ACCEPTS[number // every % 2])
                first = first or memory_mib(pid)
            counted = value(page, 'ai_sidecar_lines_total{result="request"}')
            while counted < done and value(page, "ai_sidecar_lag_bytes"):
                # what is read to see that a file is still the same is read too
                page = scrape(sidecar, OPENMETRICS)
                counted = value(page, 'ai_sidecar_lines_total{result="request"}')
            last = memory_mib(pid)
            samples = sum(not row.startswith("#") for row in page.splitlines())
            print(
                f"| {done} | {value(page, 'ai_sidecar_series')} | {samples} | {len(page) / 1024:.0f}"
                f" | {start['VmRSS']:.1f} | {first['VmRSS']:.1f} | {last['VmRSS']:.1f} | {last['VmHWM']:.1f} |",
                flush=True,
            )
            return counted == done


def read_bytes(pid: int) -> int:
    """Give how many bytes a process has read; to ask it would make a page."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def main() -> None:
    """Print a row for each number of label sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--sets", type=int, nargs="*", default=[150, 2000])
    parser.add_argument("--options", default="", help="more options; {state} is a directory")
    options = parser.parse_args()
    if not PEERS.is_dir():
        sys.exit("the logs' generator, ../shared/bench, is not there: nothing was measured")
    print(
        "| lines | label sets | samples | page, KiB | at the start, MiB | after the first tenth | at the end | at the peak |"
    )
    print("|---|---|---|---|---|---|---|---|")
    is_exact = [measure(sets, options.lines, options.options.split()) for sets in options.sets]
    sys.exit(0 if all(is_exact) else 1)


if __name__ == "__main__":
    main()

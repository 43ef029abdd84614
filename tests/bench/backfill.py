"""Measure `ai-sidecar backfill`: its CPU time as a ratio to the bare decoding loop, and its peak memory.

Both read the same log, turn by turn in one run, and the medians are compared. The log is made on the spot by
../shared/bench/gen_logs.py, or is the one given.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEERS = Path(__file__).parents[3] / "shared" / "bench"


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a command; give its CPU seconds, wall seconds and peak memory in MiB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return used.ru_utime + used.ru_stime, time.perf_counter() - started, used.ru_maxrss / 1024


def main() -> None:
    """Print a line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kind", default="compact", choices=["compact", "cri", "docker", "noisy", "big"]
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--log", type=Path, help="a log that is there already")
    parser.add_argument("--step", type=int, default=15)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if not PEERS.is_dir():
        sys.exit("the logs' generator, ../shared/bench, is not there: nothing was measured")
    with tempfile.TemporaryDirectory(dir=options.log.parent if options.log else None) as folder:
        log = options.log or Path(folder) / "bench.log"
        if options.log is None:
            made = [sys.executable, PEERS / "gen_logs.py", options.kind, str(options.lines), log]
            subprocess.run(made, check=True)
        output = Path(folder) / "history.om"
        loop = [sys.executable, str(PEERS / "floor_orjson.py"), str(log)]
        ours = [
            sys.executable,
            "-m",
            "sidecar",
            "backfill",
            "--log-path",
            str(log),
            "--step",
            str(options.step),
        ]
        ours += ["--output", str(output)]
        loops, runs = [], []
        for _ in range(options.runs):
            loops.append(measure(loop))
            runs.append(measure(ours))
        loop_seconds = statistics.median([one[0] for one in loops])
        our_seconds = statistics.median([one[0] for one in runs])
        print(
            f"{log.stat().st_size / 1e6:,.0f} MB of log, {output.stat().st_size / 1e6:,.0f} MB of OpenMetrics: "
            f"loop {loop_seconds:.1f} s, backfill {our_seconds:.1f} s (CPU; wall {statistics.median([one[1] for one in runs]):.1f} s), "
            f"{loop_seconds / our_seconds:.2f} of the loop, peak {max([one[2] for one in runs]):.0f} MiB"
        )


if __name__ == "__main__":
    main()

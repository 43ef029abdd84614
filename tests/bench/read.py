"""Measure reading: lines a second, as ratios to the bare decoding loop and to a straightforward program.

Everything is measured in one run, turn by turn, and the medians are compared: a machine's noise hits all
sides alike. The logs are made on the spot by ../shared/bench/gen_logs.py.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEERS = Path(__file__).parents[3] / "shared" / "bench"
SIZES = {"compact": 400_000, "big": 100_000, "noisy": 200_000, "cri": 200_000, "docker": 200_000}
MADE_BIG_LINES = 20_000
"""Long lines take long to make: a longer log has these again."""


def cpu_seconds(command: list[str]) -> tuple[float, float, int]:
    """Run a command; give its CPU seconds, wall seconds and peak memory in KiB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime),
        wall,
        after.ru_maxrss,
    )


def mtail_command(path: Path) -> list[str]:
    """Let mtail read a log once, with the program that counts the same figures."""
    return [
        "mtail", "--one_shot", "--one_shot_format=prometheus", "--logtostderr",
        "--logs", str(path), "--progs", str(PEERS / "requests.mtail"),
    ]  # fmt: skip


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    if not PEERS.is_dir():
        sys.exit("the logs' generator, ../shared/bench, is not there: nothing was measured")
    print(
        f"{'log':10} {'lines':>8} {'of the loop':>12} {'of naive':>9} {'of mtail':>9} {'start, s':>9}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            path = Path(folder) / f"{kind}.log"
            count = int(SIZES[kind] * options.scale)
            made = min(count, MADE_BIG_LINES) if kind == "big" else count
            subprocess.run(
                [sys.executable, PEERS / "gen_logs.py", kind, str(made), path], check=True
            )
            if made < count:
                piece = path.read_bytes()
                with path.open("ab") as log:
                    for _ in range(count // made - 1):
                        log.write(piece)
            lines = path.read_bytes().count(b"\n")
            empty = Path(folder) / "empty.log"
            empty.touch()
            ours = [sys.executable, "-m", "sidecar", "--once", "--log-path"]
            commands = {
                "nothing": [*ours, str(empty)],
                "ours": [*ours, str(path)],
                "loop": [sys.executable, str(PEERS / "floor_orjson.py"), str(path)],
                "python": [sys.executable, "-c", "import orjson"],
            }
            if kind in ("noisy", "cri", "docker"):
                # the loop would stop at the first line that is no JSON: the compact log stands for it
                del commands["loop"]
            else:
                commands["naive"] = [
                    sys.executable,
                    str(PEERS / "naive_prometheus_client.py"),
                    str(path),
                ]
                commands["naive start"] = [sys.executable, "-c", "import orjson, prometheus_client"]
                if shutil.which("mtail"):
                    commands["mtail"] = mtail_command(path)
                    commands["mtail start"] = mtail_command(empty)
            times: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(options.runs):
                for name, command in commands.items():
                    times[name].append(cpu_seconds(command)[0])
            took = {name: statistics.median(values) for name, values in times.items()}
            mine = (took["ours"] - took["nothing"]) / lines
            if "loop" in took:
                loop = (took["loop"] - took["python"]) / lines
                if kind == "compact":
                    compact_loop = loop
                naive = (took["naive"] - took["naive start"]) / lines
                row = f"{loop / mine:12.2f} {naive / mine:9.2f}"
                if "mtail" in took:
                    row += f" {(took['mtail'] - took['mtail start']) / lines / mine:9.2f}"
                else:
                    row += f" {'':>9}"
            else:
                row = (
                    f"{compact_loop / mine:12.2f} {'':>9} {'':>9}"
                    if "compact" in options.kinds
                    else f"{'':>12} {'':>9} {'':>9}"
                )
            print(f"{kind:10} {lines:8} {row} {took['nothing']:9.2f}", flush=True)


if __name__ == "__main__":
    main()

"""Hours of random writing, rotation and sudden death, against a ledger that knows the exact truth.

    make soak MINUTES=10
    python tests/soak.py --minutes 10 --seed 7

At every checkpoint the page equals the ledger to the unit; no figure that a scraper was shown ever goes back.
After a first, stormy part the sidecar is left alive, so that memory and descriptors can be seen to stay.
What is done, and in which order, follows from the seed; when it happens does not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from prometheus import wait_until
from workload import (
    FAMILIES,
    KEPT_GENERATIONS,
    Sample,
    Sidecar,
    Workload,
    differences,
    free_port,
    samples_of,
    scrape,
    total,
)

from sidecar import snapshot

KINDS = ("generic", "generic", "cri", "stream", "docker")
STORMY_SHARE = 0.6
"""How much of the time belongs to kills and stops."""
CHECKPOINT_SECONDS = 20.0
SETTLE_SECONDS = 60.0
"""How long everything may take to be counted: what is held waits for ten quiet seconds, the rest for the machine."""
MAX_GROWTH_BYTES = 24 << 20
MAX_RESIDENT_BYTES = 200 << 20
MAX_ORPHANS = 256


class Watcher(threading.Thread):
    """A scraper that never rests, and remembers all that it was shown."""

    def __init__(self, workload: Workload, port: int, address: str, pause_seconds: float) -> None:
        super().__init__(name=address, daemon=True)
        self._workload = workload
        self._port = port
        self._address = address
        self._pause_seconds = pause_seconds
        self._ended = threading.Event()
        self._last: dict[Sample, float] = {}
        self.scrapes = 0
        self.refused = 0
        self.faults: list[str] = []

    def run(self) -> None:
        """Scrape until told to stop."""
        while not self._ended.wait(self._pause_seconds):
            status, body = scrape(self._port, self._address)
            if status != 200:
                self.refused += 1
                continue
            self.scrapes += 1
            self._look_at(samples_of(body))

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _look_at(self, page: dict[Sample, float]) -> None:
        written = self._workload.written()
        if (shown := total(page, "ai_api_requests_total")) > written:
            self.faults.append(f"{shown:g} requests shown, {written} written")
        for key, value in page.items():
            name = key[0]
            if not name.startswith("ai_api_") or not name.endswith(
                ("_total", "_count", "_sum", "_bucket")
            ):
                continue
            if value < self._last.get(key, 0.0):
                self.faults.append(f"{key} went back from {self._last[key]} to {value}")
            self._last[key] = value
        if gone := [key for key in self._last if key not in page]:
            self.faults.append(f"{gone[0]} is gone")


class Keeper:
    """Starts the sidecar, and ends it in every way."""

    def __init__(self, directory: Path, port: int, rng: random.Random) -> None:
        self._directory = directory
        self.state = directory / "state"
        self.port = port
        self._rng = rng
        self.deeds: dict[str, int] = defaultdict(int)
        self.process: Sidecar | None = None
        self.messages: list[str] = []

    def start(self) -> None:
        interval = self._rng.choice(("0.05", "0.5", "5"))
        options = ("--state-interval", interval, "--poll-interval", self._rng.choice(("0.2", "1")))
        self.process = Sidecar(self._directory / "logs", self.state, self.port, *options)
        self.process.__enter__()
        self.deeds["start"] += 1

    @property
    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.popen.poll() is None, "the sidecar has ended:\n" + self.process.tail()
        return scrape(self.port, "127.0.0.9", "/ready")[0] == 200

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.is_ready, "the sidecar to be ready", seconds=SETTLE_SECONDS)

    def harm(self) -> None:
        """Do one harm at random, and start it again where it has ended."""
        kind = self._rng.choices(("kill", "term", "hang_up", "freeze"), (10, 3, 2, 2))[0]
        process = self.process
        assert process is not None
        if kind in ("hang_up", "freeze", "term"):
            # earlier, there is nobody yet who would heed a signal
            self.wait_until_ready()
        self.deeds[kind] += 1
        if kind == "hang_up":
            process.popen.send_signal(signal.SIGHUP)
            return
        if kind == "freeze":
            process.popen.send_signal(signal.SIGSTOP)
            time.sleep(self._rng.random() * 1.5)
            process.popen.send_signal(signal.SIGCONT)
            return
        if kind == "kill":
            process.kill()
        elif (code := process.stop(seconds=60)) != 0:
            raise AssertionError(f"SIGTERM ended with {code}:\n{process.tail()}")
        self.end()
        if self._rng.random() < 0.4:
            # meanwhile the writer goes on
            time.sleep(self._rng.random() * 2)
        newest = self.state / "state.json"
        if self._rng.random() < 0.15 and newest.exists() and self._has_backup():
            self.deeds["tear"] += 1
            os.truncate(newest, self._rng.randrange(newest.stat().st_size))
        self.start()

    def end(self) -> None:
        """Let the process be no more, however it is."""
        if self.process is not None:
            self.process.popen.kill()
            self.process.stop()
            self.messages += self.process.lines
            self.process = None

    def _has_backup(self) -> bool:
        try:
            snapshot.decode((self.state / "state.json.bak").read_bytes())
        except (OSError, ValueError):
            return False
        return True


class Soak:
    """One run in a directory."""

    def __init__(self, directory: Path, seed: str, minutes: float) -> None:
        self.workload = Workload(
            directory / "logs", f"{seed}-writer", kinds=KINDS, pause_seconds=0.04
        )
        self._rng = random.Random(f"{seed}-order")
        port = free_port(random.Random())
        self.keeper = Keeper(directory, port, random.Random(f"{seed}-keeper"))
        self.watchers = [
            Watcher(self.workload, port, "127.0.0.2", 0.05),
            Watcher(self.workload, port, "127.0.0.3", 1.0),
        ]
        self._seconds = minutes * 60
        self.checkpoints = 0
        self.memory: list[int] = []
        self.descriptors: list[int] = []
        self.rotations = 0

    def run(self) -> None:
        """Write and harm, then write alone; AssertionError with what was not as it must be."""
        try:
            self.keeper.start()
            self.keeper.wait_until_ready()
            for watcher in self.watchers:
                watcher.start()
            begun = time.monotonic()
            calm_from = begun + self._seconds * STORMY_SHARE
            while time.monotonic() < calm_from:
                self._storm(min(calm_from, time.monotonic() + CHECKPOINT_SECONDS))
                self._checkpoint()
            self.memory.clear()
            self.descriptors.clear()
            while time.monotonic() < begun + self._seconds:
                self._write_until(time.monotonic() + CHECKPOINT_SECONDS)
                self._checkpoint()
            self._check_growth()
        finally:
            for watcher in self.watchers:
                if watcher.is_alive():
                    watcher.stop()
            self.keeper.end()
            self.workload.close()

    def _storm(self, until: float) -> None:
        """Write in a thread of its own, and harm meanwhile at random instants."""
        errors: list[BaseException] = []

        def write() -> None:
            try:
                self._write_until(until)
            except BaseException as error:
                errors.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            while writer.is_alive():
                # from the first moment of its life to long after it is ready
                writer.join(self._rng.random() * 3)
                if writer.is_alive():
                    self.keeper.harm()
        finally:
            writer.join()
        if errors:
            raise errors[0]

    def _write_until(self, until: float) -> None:
        while time.monotonic() < until:
            self.workload.step()

    def _checkpoint(self) -> None:
        """See that all that was written is shown, as it was written; then some deaths of files that need quiet."""
        self.keeper.wait_until_ready()
        self._settle()
        # what is counted now is in each of the states after two more saves
        for _ in range(3):
            for log in self.workload.logs:
                log.append()
            self._settle()
        for log in self.workload.logs:
            log.settled(is_done=True)
        if self._rng.random() < 0.5:
            log = self._rng.choice(self.workload.logs)
            log.append()
            log.delete_and_begin_anew()
            log.append()
            self.workload.operations["delete_and_begin_anew"] += 1
            self._settle()
        self._look_after_the_process()
        self.checkpoints += 1

    def _settle(self) -> None:
        """Wait until the page is the ledger's, and see that it stays so."""
        self.workload.settle()
        truth = self.workload.truth()
        port = self.keeper.port
        page: dict[Sample, float] = {}

        def is_equal() -> bool:
            nonlocal page
            status, body = scrape(port, "127.0.0.4")
            # an open stream is counted when its file has been quiet for long
            if status == 200:
                page = samples_of(body)
            self._check_watchers()
            return status == 200 and not differences(truth, page)

        try:
            wait_until(is_equal, "the ledger's figures", seconds=SETTLE_SECONDS)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; the page less the ledger:\n" + "\n".join(differences(truth, page)[:20])
            ) from None

    def _check_watchers(self) -> None:
        for watcher in self.watchers:
            if watcher.faults:
                raise AssertionError(
                    f"{watcher.name} was shown what must not be: " + "\n".join(watcher.faults[:5])
                )

    def _look_after_the_process(self) -> None:
        process = self.keeper.process
        assert process is not None
        self.memory.append(process.resident_bytes)
        self.descriptors.append(process.descriptors)
        assert self.memory[-1] < MAX_RESIDENT_BYTES, f"{self.memory[-1]} bytes of memory"
        state = snapshot.decode((self.keeper.state / "state.json").read_bytes())
        kept = len(state["follow"]["files"])
        there = sum(1 for _ in (self.keeper.state.parent / "logs").iterdir())
        # what was deleted under its reader is held open for five minutes
        most = there + MAX_ORPHANS + self.descriptors[-1]
        assert kept <= most, (
            f"{kept} files in the state, {there} there, {self.descriptors[-1]} open"
        )
        assert there < len(KINDS) * (KEPT_GENERATIONS + 200), f"{there} files are left"

    def _check_growth(self) -> None:
        if len(self.memory) < 3:
            return
        # what is first met in the calm part, after the last start, is no growth yet
        growth = self.memory[-1] - self.memory[1]
        assert growth < MAX_GROWTH_BYTES, f"memory at the checkpoints: {self.memory}"
        per_checkpoint = max(self.descriptors)
        assert per_checkpoint < 400, f"descriptors at the checkpoints: {self.descriptors}"

    def report(self) -> str:
        """Tell in a few lines what was done."""
        watched = ", ".join(
            f"{watcher.scrapes} scrapes of {watcher.name} ({watcher.refused} refused)"
            for watcher in self.watchers
        )
        ledger = self.workload.ledger
        return "\n".join(
            [
                f"{ledger.requests} requests in {ledger.lines} lines, {self.checkpoints} checkpoints, {watched}",
                "the writer: "
                + ", ".join(f"{name} {n}" for name, n in sorted(self.workload.operations.items())),
                "the sidecar: "
                + ", ".join(f"{name} {n}" for name, n in sorted(self.keeper.deeds.items())),
                f"memory, MiB: {[size >> 20 for size in self.memory]}",
                f"descriptors: {self.descriptors}",
                f"figures compared: {len(self.workload.truth())} in {len(FAMILIES)} families",
            ]
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**9)))
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"seed {options.seed}, {directory}", flush=True)
    soak = Soak(directory, options.seed, options.minutes)
    try:
        soak.run()
    except BaseException as error:
        print(soak.report())
        with contextlib.suppress(OSError):
            (directory / "sidecar.log").write_text("\n".join(soak.keeper.messages))
        print(f"FAILED with --seed {options.seed}; all of it is in {directory}: {error}")
        return 1
    print(soak.report())
    shutil.rmtree(directory)
    print("clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())

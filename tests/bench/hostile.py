"""Measure scrapes beside hostile clients, while lines are written and read as fast as they come.

    python tests/bench/hostile.py

Real sidecars, over plain HTTP and over TLS. Quiet and hostile spells take turns in one run, and in the hostile ones
a second sidecar that nobody attacks is scraped as well, so that a machine's noise hits both sides alike; what counts
is the ratio of their 99th percentiles.
"""

from __future__ import annotations

import argparse
import http.client
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import request_line

HERE = Path(__file__).parent
AHEAD_BYTES = 16 << 20
"""How much is written that was not read yet: never nothing, and never a disk full."""
PAUSE_SECONDS = 0.02

WRITER = """
import os, sys
from pathlib import Path
path, lines = sys.argv[1], Path(sys.argv[2]).read_bytes()
written = 0
log = open(path, "ab", buffering=0)
for wanted in sys.stdin:
    while written < int(wanted):
        log.write(lines)
        written += len(lines)
    if log.tell() > 256 << 20:
        os.replace(path, path + ".1")
        log = open(path, "ab", buffering=0)
"""


def make_lines(label_sets: int) -> bytes:
    return b"".join([request_line.line(number) for number in range(label_sets)]) * 4


class Running:
    """A sidecar that reads a log which grows as fast as it is read."""

    def __init__(self, folder: Path, *, tls: bool, label_sets: int) -> None:
        log, lines = folder / "app.log", folder / "lines"
        lines.write_bytes(make_lines(label_sets))
        log.write_bytes(lines.read_bytes())
        command: list[str | Path] = [sys.executable, "-m", "sidecar", "--log-path", log]
        command += ["--host", "127.0.0.1", "--port", "0"]
        self._context: ssl.SSLContext | None = None
        if tls:
            certificate, key = folder / "cert.pem", folder / "key.pem"
            make_certificate(certificate, key)
            command += ["--tls-cert", certificate, "--tls-key", key]
            self._context = ssl.create_default_context(cafile=str(certificate))
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r"serving on \w+://\S+:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            sys.exit("the sidecar did not start:\n" + "".join(said))
        self._writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, log, lines], stdin=subprocess.PIPE, text=True
        )
        self._connection = self._connect()
        self.reconnects = 0
        self.read_bytes = 0.0

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        return http.client.HTTPSConnection(
            "localhost", self.port, timeout=30, context=self._context
        )

    def scrape(self) -> float:
        """Scrape once, as Prometheus does, on a kept connection; give the milliseconds that it took."""
        started = time.perf_counter()
        while True:
            try:
                self._connection.request("GET", "/metrics")
                answer = self._connection.getresponse()
                page = answer.read()
                break
            except (OSError, http.client.HTTPException):
                self.reconnects += 1
                self._connection.close()
                self._connection = self._connect()
        took = (time.perf_counter() - started) * 1000
        if answer.status == 200:
            found = re.search(rb"\nai_sidecar_read_bytes_total (\S+)", page)
            assert found is not None
            self.read_bytes = float(found[1])
            assert self._writer.stdin is not None
            print(int(self.read_bytes) + AHEAD_BYTES, file=self._writer.stdin, flush=True)
        return took

    @property
    def threads(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"Threads:\s+(\d+)", status)
        assert found is not None
        return int(found[1])

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> float:
        """Stop; give the seconds that it took."""
        assert self._writer.stdin is not None
        self._writer.stdin.close()
        self._writer.terminate()
        self._writer.wait()
        started = time.perf_counter()
        self.process.terminate()
        self.process.wait()
        return time.perf_counter() - started


def make_certificate(certificate: Path, key: Path) -> None:
    """Make one that signs itself."""
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", "req", *options.split(), *names, "-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
    )


class Attackers:
    """Clients in a process of their own, that come and go."""

    def __init__(self, port: int, clients: int, *, tls: bool) -> None:
        command = [sys.executable, str(HERE.parent / "attack.py"), str(port), str(clients)]
        self._process = subprocess.Popen(
            [*command, *(["--tls"] if tls else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self) -> None:
        """Have all come where they are gone, and go where they have come."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        self._process.stdout.readline()

    def stop(self) -> None:
        """End them."""
        self._process.communicate()


def percentile(took: list[float], share: float) -> float:
    return sorted(took)[min(len(took) - 1, int(len(took) * share))]


def show(name: str, took: list[float]) -> None:
    print(
        f"  {name:8} {len(took):5} scrapes   median {statistics.median(took):7.1f} ms"
        f"   p99 {percentile(took, 0.99):7.1f} ms   most {max(took):7.1f} ms",
        flush=True,
    )


def measure(options: argparse.Namespace, *, tls: bool) -> float:
    """Print what scrapes took; give the ratio of the 99th percentiles.

    Two sidecars do the same work all the time and are scraped in turn; one is attacked, then the other. What the
    attack, or anybody else, takes of the machine hits both: `beside` is the one that is not attacked just then.
    """
    took: dict[str, list[float]] = {"quiet": [], "beside": [], "hostile": []}
    threads, descriptors = [], []
    with tempfile.TemporaryDirectory() as name:
        pair = []
        for number in range(2):
            folder = Path(name) / str(number)
            folder.mkdir()
            pair.append(Running(folder, tls=tls, label_sets=options.label_sets))
        attackers = [Attackers(one.port, options.clients, tls=tls) for one in pair]

        def spell(kinds: dict[Running, str]) -> None:
            until = time.monotonic() + options.seconds
            while time.monotonic() < until:
                for running, kind in kinds.items():
                    took[kind].append(running.scrape())
                    threads.append(running.threads)
                    descriptors.append(running.descriptors)
                time.sleep(PAUSE_SECONDS)

        try:
            for running in pair:
                while running.scrape() and not running.read_bytes:
                    time.sleep(0.1)
            before = max(running.descriptors for running in pair)
            for number in range(options.rounds):
                spell(dict.fromkeys(pair, "quiet"))
                attackers[number % 2].turn()
                spell({pair[number % 2]: "hostile", pair[1 - number % 2]: "beside"})
                attackers[number % 2].turn()
            time.sleep(1.0)
            after = max(running.descriptors for running in pair)
        finally:
            for attack in attackers:
                attack.stop()
            stopped = max([running.stop() for running in pair])
    print("TLS" if tls else "plain HTTP")
    for kind, values in took.items():
        show(kind, values)
    p99 = {kind: percentile(values, 0.99) for kind, values in took.items()}
    ratios = [p99["hostile"] / p99[kind] for kind in ("quiet", "beside")]
    print(
        f"  p99 ratio to quiet {ratios[0]:.2f}, to beside {ratios[1]:.2f}   threads at most {max(threads)}"
        f"   descriptors {before}, at most {max(descriptors)}, then {after}"
        f"   reconnects {sum([running.reconnects for running in pair])}   stopped in {stopped:.1f} s",
        flush=True,
    )
    return min(ratios)


def main() -> None:
    """Measure both; exit 1 where hostile clients make the slowest scrapes twice as slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--label-sets", type=int, default=200)
    parser.add_argument("--only", choices=["plain", "tls"])
    options = parser.parse_args()
    ratios = [
        measure(options, tls=tls)
        for tls in (False, True)
        if options.only in (None, "tls" if tls else "plain")
    ]
    sys.exit(max(ratios) >= 2)


if __name__ == "__main__":
    main()

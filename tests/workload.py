"""Clients that write logs at random, and rotate them in every way; a ledger that knows the exact truth.

What nobody can count is not done here: a file is deleted, or packed before anybody knew it, only after
`Workload.settle`, and nothing is written between a copy and its truncation.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import random
import re
import shutil
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from prometheus import Process

Sample = tuple[str, tuple[tuple[str, str], ...]]
"""A name and its sorted labels."""

KEPT_GENERATIONS = 12
"""How many rotated files of each log are left where they are; older ones go as soon as that is safe."""

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_MODELS = 40
_PRICED = Fraction(42, 100)  # USD for a million tokens of holysheep's deepseek-v3.2


class Ledger:
    """What was written, as the page must show it in the end; an entry is made before its line is."""

    def __init__(self) -> None:
        self.requests = 0
        self.lines = 0
        self._figures: dict[Sample, Fraction] = defaultdict(Fraction)

    def add(self, family: str, value: Fraction | int, **labels: str) -> None:
        self._figures[family, tuple(sorted(labels.items()))] += value

    def samples(self) -> dict[Sample, float]:
        """Give what is not 0, each figure rounded once, as the page rounds it."""
        return {key: float(value) for key, value in self._figures.items() if value}


FAMILIES = frozenset(
    {
        "ai_api_requests_total",
        "ai_api_request_duration_milliseconds_count",
        "ai_api_input_tokens_total",
        "ai_api_output_tokens_total",
        "ai_api_cache_read_tokens_total",
        "ai_api_cost_usd_cents_total",
        "ai_api_errors_total",
        "ai_api_unpriced_requests_total",
    }
)
"""What the ledger keeps."""


def samples_of(page: str) -> dict[Sample, float]:
    """Read the page."""
    found: dict[Sample, float] = {}
    for line in page.splitlines():
        if line.startswith("#"):
            continue
        head, _, value = line.rpartition(" ")
        name, _, labels = head.partition("{")
        found[name, tuple(sorted(_LABEL.findall(labels)))] = float(value)
    return found


def total(samples: Mapping[Sample, float], name: str) -> float:
    """Add up a family."""
    return sum(value for (family, _), value in samples.items() if family == name)


class Lines:
    """Makes lines of one format, and tells the ledger of them."""

    def __init__(self, rng: random.Random, ledger: Ledger, lock: threading.Lock) -> None:
        self._rng = rng
        self._ledger = ledger
        self._lock = lock
        self._number = 0
        self._models = 1
        self._closed: list[bytes] = []
        """Last lines of streams, which a client may copy to another file."""

    def batch(self, kind: str, count: int) -> list[bytes]:
        """Give some lines as a client of this kind writes them; those of one stream stand together."""
        with self._lock:
            if kind == "cri":
                return self._cri(count)
            if kind == "docker":
                return self._docker(count)
            if kind == "stream":
                return [line for _ in range(count) for line in self._stream()]
            return [self._plain() for _ in range(count)]

    def split(self) -> tuple[bytes, bytes]:
        """Give a line that the runtime has split in two."""
        with self._lock:
            text = self._request()
            at = self._rng.randrange(1, len(text))
            return self._part("stdout", "P", text[:at]), self._part("stdout", "F", text[at:])

    def _plain(self) -> bytes:
        chance = self._rng.random()
        if chance < 0.03:
            self._ledger.lines += 1
            return b'{"level":"info","msg":"no request at all"}\n'
        if chance < 0.05:
            self._ledger.lines += 1
            return b"some words that are no JSON\n"
        if chance < 0.07 and self._closed:
            # counted already, or counted now: with the same figures either way
            self._ledger.lines += 1
            return self._rng.choice(self._closed)
        return self._request() + b"\n"

    def _request(self) -> bytes:
        rng, ledger = self._rng, self._ledger
        self._number += 1
        if rng.random() < 0.01 and self._models < _MODELS:
            self._models += 1
        is_priced = rng.random() < 0.2
        provider = "holysheep" if is_priced else rng.choice(("openai", "anthropic"))
        model = "deepseek-v3.2" if is_priced else f"model-{rng.randrange(self._models)}"
        endpoint = rng.choice(("/chat/completions", "/responses"))
        status = rng.choices((200, 429, 500), (90, 7, 3))[0]
        record: dict[str, object] = {
            "ts": f"2026-01-01T00:00:{self._number % 60:02d}Z",
            "request_id": f"req-{self._number}-{rng.getrandbits(64):x}",
            "provider": provider,
            "model": model,
            "endpoint": "/v1" + endpoint,
            "status_code": status,
            "latency_ms": rng.randrange(1, 40_000) / 4,
        }
        of_model = {"provider": provider, "model": model}
        ledger.lines += 1
        ledger.requests += 1
        ledger.add(
            "ai_api_requests_total", 1, **of_model, endpoint=endpoint, status_code=str(status)
        )
        ledger.add("ai_api_request_duration_milliseconds_count", 1, **of_model, endpoint=endpoint)
        if status != 200:
            error_type = {429: "rate_limit", 500: "server"}[status]
            record["error"] = {"type": {429: "rate_limit_error", 500: "server_error"}[status]}
            ledger.add("ai_api_errors_total", 1, **of_model, error_type=error_type)
            return json.dumps(record).encode()
        tokens_in, tokens_out = rng.randrange(1, 5000), rng.randrange(1, 2000)
        cached = rng.choice((0, tokens_in // 2))
        usage: dict[str, object] = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
        ledger.add("ai_api_input_tokens_total", tokens_in, **of_model)
        ledger.add("ai_api_output_tokens_total", tokens_out, **of_model)
        if is_priced:
            for cost_type, tokens in (("input", tokens_in), ("output", tokens_out)):
                cents = tokens * _PRICED / 10_000
                ledger.add("ai_api_cost_usd_cents_total", cents, **of_model, cost_type=cost_type)
        else:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
            ledger.add("ai_api_cache_read_tokens_total", cached, **of_model)
            cost = rng.randrange(1, 10**9)
            record["cost_usd"] = cost / 10**9
            cents = Fraction(cost, 10**7)
            ledger.add("ai_api_cost_usd_cents_total", cents, **of_model, cost_type="total")
        record["usage"] = usage
        if rng.random() < 0.02:
            record["note"] = "x" * rng.randrange(40_000)
        return json.dumps(record).encode()

    def _stream(self) -> Iterator[bytes]:
        """Give the snapshots of one stream: the last one is right, whether or not it says so."""
        rng, ledger = self._rng, self._ledger
        self._number += 1
        of_model = {"provider": "openai", "model": f"streamed-{rng.randrange(3)}"}
        is_closed = rng.random() < 0.7
        identity = f"chatcmpl-{self._number}-{rng.getrandbits(64):x}"
        tokens_in = rng.randrange(1, 5000)
        tokens_out = 0
        snapshots = []
        for place in range(count := rng.randrange(1, 5)):
            tokens_out = rng.randrange(1, 2000)
            is_last = is_closed and place == count - 1
            choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
            chunk = {
                "id": identity,
                "object": "chat.completion.chunk",
                "created": 1_767_225_600 + self._number,
                "model": of_model["model"],
                "choices": [] if is_last else [choice],
                "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out},
            }
            snapshots.append(json.dumps(chunk).encode() + b"\n")
        ledger.lines += count
        ledger.requests += 1
        ledger.add(
            "ai_api_requests_total",
            1,
            **of_model,
            endpoint="/chat/completions",
            status_code="200",
        )
        ledger.add("ai_api_input_tokens_total", tokens_in, **of_model)
        ledger.add("ai_api_output_tokens_total", tokens_out, **of_model)
        ledger.add("ai_api_unpriced_requests_total", 1, **of_model)
        if is_closed:
            self._closed.append(snapshots[-1])
            del self._closed[:-50]
        return iter(snapshots)

    def _part(self, stream: str, tag: str, text: bytes) -> bytes:
        return f"2026-01-01T00:00:00.0Z {stream} {tag} ".encode() + text + b"\n"

    def _parts(self, text: bytes) -> list[bytes]:
        cuts = sorted(self._rng.sample(range(1, len(text)), self._rng.choice((0, 0, 1, 3))))
        return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def _cri(self, count: int) -> list[bytes]:
        """Give lines of two streams that a container runtime has split, one between the other's parts."""
        streams: list[list[bytes]] = [[], []]
        for _ in range(count):
            place = self._rng.randrange(2)
            parts = self._parts(self._request())
            tags = "P" * (len(parts) - 1) + "F"
            streams[place] += [
                self._part(("stdout", "stderr")[place], tag, part)
                for tag, part in zip(tags, parts, strict=True)
            ]
        mixed = []
        while left := [stream for stream in streams if stream]:
            mixed.append(self._rng.choice(left).pop(0))
        return mixed

    def _docker(self, count: int) -> list[bytes]:
        return [
            json.dumps(
                {"log": part.decode(), "stream": "stdout", "time": "2026-01-01T00:00:00Z"}
            ).encode()
            + b"\n"
            for _ in range(count)
            for part in self._parts(self._request() + b"\n")
        ]


class Rotated:
    """A file that was rotated away."""

    def __init__(self, path: Path, *, is_known: bool) -> None:
        self.path = path
        self.is_known = is_known
        """The sidecar has saved, in all of its states, that it has read some of it."""
        self.is_done = False
        """All of it was counted and saved."""


class LogFile:
    """A log under its name, and the files that it was rotated to."""

    def __init__(self, path: Path, kind: str, lines: Lines, rng: random.Random) -> None:
        self.path = path
        self.kind = kind
        self._lines = lines
        self._rng = rng
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._is_known = False
        self._is_split = False
        """A line begins in the file before this one; who would see neither could not tell which that was."""
        self._half = b""
        self._late: list[BinaryIO] = []
        self._serial = 0
        self.rotated: list[Rotated] = []
        """The youngest first: `.1`, `.2`, …, those with a name of their own among them."""

    def append(self) -> None:
        """Write some lines in pieces: whole, dribbled, or the last one cut for now."""
        data = self._half + b"".join(
            self._lines.batch(self.kind, self._rng.choice((1, 1, 3, 10, 40)))
        )
        self._half = b""
        if self._rng.random() < 0.4:
            at = self._rng.randrange(len(data))
            self._file.write(data[:at])
            data = data[at:]
        # a stream is never left open: who is quiet for long is counted as he is
        if self.kind != "stream" and self._rng.random() < 0.2:
            at = data.rfind(b"\n", 0, -1) + 1
            at += self._rng.randrange(len(data) - at)
            data, self._half = data[:at], data[at:]
        self._file.write(data)

    def finish(self) -> None:
        """Complete the line that was cut."""
        half, self._half = self._half, b""
        self._file.write(half)

    def rename(self) -> None:
        """Rotate by rename to a name of its own or along the chain, some with a writer that goes on for a while."""
        if self._is_split:
            return
        # who never knew the file could not tell that it ends in the middle of a line
        is_split = self.kind == "cri" and self._is_known and self._rng.random() < 0.5
        split = self._lines.split() if is_split else None
        if split is not None:
            self._is_split = True
            self._is_known = False  # nor is it packed
            self.finish()
            self._file.write(split[0])
        if self._rng.random() < 0.5:
            self._serial += 1
            name = self.path.with_name(f"{self.path.name}-20260101-{self._serial:06d}")
            self.path.rename(name)
            self.rotated.insert(0, Rotated(name, is_known=self._is_known))
        else:
            self._shift()
            self.path.rename(self._numbered(1))
            self.rotated.insert(0, Rotated(self._numbered(1), is_known=self._is_known))
        if split is None and self._rng.random() < 0.5:
            self._late.append(self._file)
            self._file.write(self._half)
        else:
            self.finish()
            self._file.close()
        self._half = b""
        self._file = self.path.open("ab", buffering=0)
        if split is not None:
            self._file.write(split[1])
        self._is_known = False

    def copy_and_truncate(self) -> None:
        """Rotate by copy and truncation, with nothing written in between."""
        if self._is_split:
            return
        self.finish()
        self._shift()
        shutil.copyfile(self.path, self._numbered(1))
        os.truncate(self.path, 0)
        self.rotated.insert(0, Rotated(self._numbered(1), is_known=self._is_known))
        self._is_known = False

    def write_late(self) -> None:
        """Go on, or end, with a file that was renamed."""
        if not self._late:
            return
        file = self._late[0]
        file.write(b"".join(self._lines.batch(self.kind, self._rng.randrange(1, 5))))
        if self._rng.random() < 0.5:
            self._late.remove(file)
            file.close()

    def pack(self) -> None:
        """Compress a rotated file that the sidecar knows and that nobody writes to any more."""
        open_ones = {os.fstat(file.fileno()).st_ino for file in self._late}
        for rotated in self.rotated:
            path = rotated.path
            if not rotated.is_known or path.suffix == ".gz" or path.stat().st_ino in open_ones:
                continue
            packed = path.with_name(path.name + ".gz")
            making = path.with_name(path.name + ".tmp")
            with path.open("rb") as plain, gzip.open(making, "wb") as file:
                shutil.copyfileobj(plain, file)
            making.rename(packed)
            path.unlink()
            rotated.path = packed
            return

    def delete_old(self) -> None:
        """Delete what is old, and counted whatever comes."""
        for rotated in self.rotated[KEPT_GENERATIONS:]:
            if rotated.is_done:
                rotated.path.unlink()
                self.rotated.remove(rotated)

    def delete_and_begin_anew(self) -> None:
        """Unlink the file under its reader, who must not be killed before it has read the rest."""
        self.finish()
        self.path.unlink()
        self._file.close()
        self._file = self.path.open("ab", buffering=0)
        self._is_known = False

    def settled(self, *, is_done: bool) -> None:
        """Take note that all that stands in the files is counted, and in every state where `is_done`."""
        self._is_split = False
        self._is_known = is_done and self.path.stat().st_size > 0
        if is_done:
            for rotated in self.rotated:
                rotated.is_known = rotated.is_done = True

    def close_late(self) -> None:
        for file in self._late:
            file.close()
        self._late.clear()

    def close(self) -> None:
        self.close_late()
        self._file.close()

    def _numbered(self, number: int, suffix: str = "") -> Path:
        return self.path.with_name(f"{self.path.name}.{number}{suffix}")

    def _shift(self) -> None:
        """Make room for `.1`: every number goes up by one."""
        numbered = [
            (int(match[1]), rotated, match[2] or "")
            for rotated in self.rotated
            if (match := re.search(r"\.(\d+)(\.gz)?\Z", rotated.path.name))
        ]
        for number, rotated, suffix in sorted(numbered, key=lambda one: -one[0]):
            rotated.path = rotated.path.rename(self._numbered(number + 1, suffix))


class Workload:
    """Several logs of several kinds in one directory, written by one thread."""

    def __init__(
        self, directory: Path, seed: str, *, kinds: tuple[str, ...], pause_seconds: float
    ) -> None:
        directory.mkdir(parents=True)
        self.rng = random.Random(seed)
        self.ledger = Ledger()
        self._lock = threading.Lock()
        self._pause_seconds = pause_seconds
        lines = Lines(self.rng, self.ledger, self._lock)
        suffixes = {"generic": "log", "cri": "log", "stream": "jsonl", "docker": "json"}
        # no name is the beginning of another up to its first dot: a copy is known by that
        self.logs = [
            LogFile(directory / f"{kind}{place}.{suffixes[kind]}", kind, lines, self.rng)
            for place, kind in enumerate(kinds)
        ]
        self.operations: dict[str, int] = defaultdict(int)

    def step(self) -> None:
        """Do one thing at random."""
        log = self.rng.choice(self.logs)
        does: dict[Callable[[], None], int] = {
            log.append: 60,
            log.rename: 3,
            log.copy_and_truncate: 2,
            log.write_late: 4,
            log.pack: 2,
            log.delete_old: 2,
        }
        do = self.rng.choices(list(does), list(does.values()))[0]
        self.operations[do.__name__] += 1
        do()
        time.sleep(self.rng.random() * self._pause_seconds)

    def settle(self) -> None:
        """Complete what is half written; who calls then waits for all of it to be counted."""
        for log in self.logs:
            log.finish()
            log.close_late()

    def truth(self) -> dict[Sample, float]:
        """Give what the page must show once everything is counted."""
        with self._lock:
            return self.ledger.samples()

    def written(self) -> int:
        """Give how many requests were written, or are about to be."""
        with self._lock:
            return self.ledger.requests

    def close(self) -> None:
        for log in self.logs:
            log.close()


def differences(truth: Mapping[Sample, float], page: Mapping[Sample, float]) -> list[str]:
    """Tell where the page is not what it must be."""
    shown = {key: value for key, value in page.items() if key[0] in FAMILIES and value}
    return [
        f"{name}{dict(labels)}: {truth.get((name, labels), 0.0)} written, {shown.get((name, labels), 0.0)} shown"
        for name, labels in sorted(truth.keys() | shown.keys())
        if truth.get((name, labels), 0.0) != shown.get((name, labels), 0.0)
    ]


def free_port(rng: random.Random) -> int:
    """Give a port that can be had again after each kill: no connection takes it for its own end meanwhile."""
    while True:
        port = rng.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class Sidecar(Process):
    """The real program on a port that stays; nobody waits for it to be ready."""

    def __init__(self, logs: Path, state: Path, port: int, *options: str) -> None:
        where = ["--log-path", str(logs), "--state-dir", str(state)]
        serve = ["--host", "127.0.0.1", "--port", str(port)]
        super().__init__([sys.executable, "-m", "sidecar", *where, *serve, *options])

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self.popen.kill()
        self.popen.wait()

    @property
    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.popen.pid}/fd").iterdir()))


def scrape(port: int, scraper: str, path: str = "/metrics") -> tuple[int, str]:
    """GET from an address of one's own, for a scraper is known by it; status 0 where there is no answer."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=30, source_address=(scraper, 0)
    )
    try:
        # who closes first keeps the port busy for a minute: let it be the one that has it anyway
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()

"""Hostile clients by the hundred, each kind of those that a port on a network meets; one thread plays them all.

    python tests/attack.py PORT CLIENTS [--tls]

At each line of standard input all come, at the next all go, and so on; the end of it is the end.

A client that is turned away comes back after a moment. None of them reads or writes as fast as it could: what
is measured beside them is the server, and not a machine that is too small for the attack.
"""

from __future__ import annotations

import heapq
import itertools
import random
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress

Steps = Generator[float, None, None]
"""What a client does, a pause in seconds between two of its steps."""

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
ARRIVAL_SECONDS = 0.003
"""From one client to the next, at the beginning."""
COME_BACK_SECONDS = 1.0
NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Attack(threading.Thread):
    """Plays so many clients, of all kinds alike, until it is stopped."""

    def __init__(self, port: int, clients: int, *, tls: bool = False, seed: int = 0) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._random = random.Random(seed)
        self._context: ssl.SSLContext | None = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        self._ended = threading.Event()
        self._all_came = threading.Event()
        self._sockets: dict[int, socket.socket] = {}
        self._clients = clients
        self.kinds: list[Callable[[int], Steps]] = [
            self.slow_reader,
            self.slowloris,
            self.silent,
            self.garbage,
            self.giant_header,
            self.connect_and_close,
            self.half_close,
            self.pipelining,
            self.half_a_handshake,
            self.greedy_reader,
        ]

    def wait_until_all_came(self, seconds: float) -> bool:
        """Wait until each client has connected once."""
        return self._all_came.wait(seconds)

    def stop(self) -> None:
        """Let go of all connections."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        turns = [
            # not all at once: what is to be measured is the server, and not our own handshakes
            (number * ARRIVAL_SECONDS, number, self.kinds[number % len(self.kinds)](number))
            for number in range(self._clients)
        ]
        heapq.heapify(turns)
        fresh = set(range(self._clients))
        started = time.monotonic()
        while not self._ended.is_set() and turns:
            due, number, steps = heapq.heappop(turns)
            self._ended.wait(max(0.0, started + due - time.monotonic()))
            try:
                pause = next(steps)
            except (OSError, StopIteration, ValueError):
                self._hang_up(number)
                steps = self.kinds[number % len(self.kinds)](number)
                pause = COME_BACK_SECONDS * (0.5 + self._random.random())
            fresh.discard(number)
            if not fresh and time.monotonic() > started + self._clients * ARRIVAL_SECONDS + 0.5:
                self._all_came.set()
            heapq.heappush(turns, (time.monotonic() - started + pause, number, steps))
        for number in list(self._sockets):
            self._hang_up(number)

    def _hang_up(self, number: int) -> None:
        sock = self._sockets.pop(number, None)
        if sock is not None:
            sock.close()

    def _connect(self, number: int, receive_buffer_bytes: int | None = None) -> socket.socket:
        sock = self._sockets[number] = socket.socket()
        sock.setblocking(False)
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        with suppress(BlockingIOError):
            sock.connect(("127.0.0.1", self._port))
        return sock

    def _greet(
        self, number: int, receive_buffer_bytes: int | None = None
    ) -> Generator[float, None, socket.socket]:
        """Connect, and on a TLS port do what must be done before one may speak."""
        sock = self._connect(number, receive_buffer_bytes)
        yield 0.05
        if self._context is None:
            return sock
        sock = self._sockets[number] = self._context.wrap_socket(
            sock, do_handshake_on_connect=False
        )
        for _ in range(500):
            try:
                sock.do_handshake()
            except NOT_YET:
                yield 0.02
            else:
                return sock
        raise TimeoutError

    def _read(self, sock: socket.socket, size: int, pause: float) -> Steps:
        """Read to the end, so many bytes at a time."""
        while True:
            with suppress(*NOT_YET):
                if not sock.recv(size):
                    return
            yield pause

    def slow_reader(self, number: int) -> Steps:
        """Ask for the page and read some bytes of it now and then."""
        sock = yield from self._greet(number, 1024)
        sock.send(REQUEST)
        yield from self._read(sock, 512, 0.5)

    def slowloris(self, number: int) -> Steps:
        """Send a header that never ends."""
        sock = yield from self._greet(number)
        for byte in itertools.chain(REQUEST[:-2], itertools.cycle(b"X-A: b\r\n")):
            sock.send(bytes([byte]))
            yield 0.3

    def silent(self, number: int) -> Steps:
        """Say nothing; on a TLS port that is a handshake that never begins."""
        sock = self._connect(number)
        yield from self._read(sock, 512, 1.0)

    def garbage(self, number: int) -> Steps:
        """Send noise."""
        sock = self._connect(number)
        yield 0.05
        sock.send(self._random.randbytes(300))
        yield from self._read(sock, 512, 0.5)

    def giant_header(self, number: int) -> Steps:
        """Send a header that is far too long."""
        sock = yield from self._greet(number)
        with suppress(*NOT_YET):
            sock.send(b"GET /metrics HTTP/1.1\r\nX-A: " + b"a" * 60_000)
        yield from self._read(sock, 512, 0.5)

    def connect_and_close(self, number: int) -> Steps:
        """Go at once, half of them with a reset."""
        sock = self._connect(number)
        yield 0.02
        if number % 20 < 10:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def half_close(self, number: int) -> Steps:
        """Ask, send no more, and take one's time with the answer."""
        sock = yield from self._greet(number)
        sock.send(REQUEST)
        if not isinstance(sock, ssl.SSLSocket):
            sock.shutdown(socket.SHUT_WR)
        yield from self._read(sock, 16_384, 0.2)

    def pipelining(self, number: int) -> Steps:
        """Ask for a hundred pages at once, and read none of them."""
        sock = yield from self._greet(number, 1024)
        sock.send((b"GET /health HTTP/1.1\r\n\r\n" * 4 + REQUEST) * 20)
        while True:
            yield 1.0
            sock.send(b"G")

    def half_a_handshake(self, number: int) -> Steps:
        """Send the beginning of a ClientHello, and no more."""
        sock = self._connect(number)
        yield 0.05
        sock.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        yield from self._read(sock, 512, 1.0)

    def greedy_reader(self, number: int) -> Steps:
        """Ask for the page, packed, again and again, and read it all."""
        sock = yield from self._greet(number)
        while True:
            sock.send(REQUEST[:-2] + b"Accept-Encoding: gzip\r\n\r\n")
            for _ in range(20):
                yield 0.1
                with suppress(*NOT_YET):
                    if not sock.recv(1 << 20):
                        return


def main() -> None:
    """Come and go as standard input says; say so when all have come, or gone."""
    attack: Attack | None = None
    for _ in sys.stdin:
        if attack is None:
            attack = Attack(int(sys.argv[1]), int(sys.argv[2]), tls="--tls" in sys.argv)
            attack.start()
            attack.wait_until_all_came(60.0)
        else:
            attack.stop()
            attack = None
        print("done", flush=True)


if __name__ == "__main__":
    main()

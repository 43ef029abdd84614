"""Measure scrapes: how many a second, and how long one takes beside clients that are stuck.

    python tests/bench/serve.py

The page is that of some 1000 label sets. Stuck clients are half slowloris, half readers that never read.
"""

from __future__ import annotations

import http.client
import socket
import statistics
import threading
import time

from sidecar.server import Server

PAGE = (
    b'ai_api_requests_total{provider="openai",model="gpt-4.1",status_code="200"} 123456.0\n'
    * 10_000
)
STUCK_CLIENTS = 200
SCRAPES = 1000


class Loop(threading.Thread):
    """Answers every ask with the same page."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.woken = threading.Event()
        self.server: Server | None = None

    def run(self) -> None:
        while True:
            self.woken.wait()
            self.woken.clear()
            if self.server is not None:
                self.server.answer(self.server.take_asks(), 200, PAGE, "text/plain")


def scrape_milliseconds(port: int, count: int, fields: dict[str, str]) -> list[float]:
    """Scrape on one kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    took = []
    for _ in range(count):
        started = time.perf_counter()
        connection.request("GET", "/metrics", headers=fields)
        connection.getresponse().read()
        took.append((time.perf_counter() - started) * 1000)
    connection.close()
    return took


def stick(port: int, number: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    sock.connect(("127.0.0.1", port))
    sock.sendall(
        b"GET /metrics HTTP/1.1\r\nX-a" if number % 2 else b"GET /metrics HTTP/1.1\r\n\r\n"
    )
    return sock


def show(name: str, took: list[float]) -> None:
    ordered = sorted(took)
    print(
        f"{name:34} median {statistics.median(took):7.2f} ms   p99 {ordered[int(len(ordered) * 0.99)]:7.2f} ms"
        f"   {1000 * len(took) / sum(took):7.0f} a second"
    )


def main() -> None:
    loop = Loop()

    def fine() -> tuple[int, bytes]:
        return 200, b"{}"

    server = loop.server = Server("127.0.0.1", 0, wake=loop.woken.set, health=fine, ready=fine)
    server.bind()
    server.start()
    loop.start()
    print(f"a page of {len(PAGE) / 1e6:.1f} MB, one scraper")
    show("plain", scrape_milliseconds(server.port, SCRAPES, {}))
    show("gzip", scrape_milliseconds(server.port, SCRAPES // 10, {"Accept-Encoding": "gzip"}))
    stuck = [stick(server.port, number) for number in range(STUCK_CLIENTS)]
    show(
        f"plain, beside {STUCK_CLIENTS} stuck clients",
        scrape_milliseconds(server.port, SCRAPES, {}),
    )
    for sock in stuck:
        sock.close()
    server.stop(1.0)


if __name__ == "__main__":
    main()

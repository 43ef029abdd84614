"""The port: pages for those who behave, one bounded slot for those who do not."""

from __future__ import annotations

import base64
import gzip
import http.client
import logging
import select
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sidecar.server import MAX_HEADER_BYTES, Ask, Deadlines, Server, Tls, read_users, tls_context

PAGE = b"# HELP a_total A.\n# TYPE a_total counter\na_total 1.0\n" * 40
BIG = b"ai_api_requests_total 1.0\n" * 200_000
TEXT = "text/plain; version=0.0.4; charset=utf-8"
PATIENCE_SECONDS = 10.0
"""How long a test waits for what must come; far more than it takes."""
SOON_SECONDS = 2.0
"""How long a scrape may take beside clients that misbehave, on a machine that has other work."""


class Loop(threading.Thread):
    """Stands where the daemon's loop stands: takes asks when woken, answers each key once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.woken = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.page: Callable[[Ask], tuple[int, bytes | list[bytes], str]] = lambda ask: (
            200,
            PAGE,
            TEXT,
        )
        self.batches: list[list[Ask]] = []
        self.server: Server | None = None
        self.is_ready = True
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            self.woken.wait()
            self.may_answer.wait()
            self.woken.clear()
            assert self.server is not None
            asks = self.server.take_asks()
            if asks:
                self.batches.append(asks)
            for key in {ask.key: None for ask in asks}:
                same = [ask for ask in asks if ask.key == key]
                self.server.answer(same, *self.page(same[0]))

    def health(self) -> tuple[int, bytes]:
        return 200, b'{"status":"healthy"}'

    def ready(self) -> tuple[int, bytes]:
        return (200, b'{"status":"ready"}') if self.is_ready else (503, b'{"status":"catching up"}')


class Served(NamedTuple):
    server: Server
    loop: Loop


@contextmanager
def serving(loop: Loop | None = None, **options: Any) -> Iterator[Served]:
    loop = loop or Loop()
    options = {"health": loop.health, "ready": loop.ready, **options}
    server = Server("127.0.0.1", 0, wake=loop.woken.set, **options)
    loop.server = server
    server.bind()
    server.start()
    loop.start()
    try:
        yield Served(server, loop)
    finally:
        server.stop(2.0)
        loop.ended = True
        loop.may_answer.set()
        loop.woken.set()
        loop.join(PATIENCE_SECONDS)
        assert not server.alive
        assert not loop.is_alive()


class Answer(NamedTuple):
    status: int
    fields: http.client.HTTPMessage
    body: bytes


def fetch(
    port: int,
    path: str = "/metrics",
    *,
    method: str = "GET",
    fields: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    seconds: float = PATIENCE_SECONDS,
) -> Answer:
    """Ask once on a connection of its own."""
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=seconds, context=tls)
    try:
        connection.request(method, path, headers=fields or {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.msg, answer.read())
    finally:
        connection.close()


def connect(port: int, data: bytes = b"", receive_buffer_bytes: int | None = None) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(PATIENCE_SECONDS)
    if receive_buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.connect(("127.0.0.1", port))
    if data:
        sock.sendall(data)
    return sock


def read_to_end(sock: socket.socket) -> bytes:
    """Read until the server closes; what had come before a reset counts too."""
    came = bytearray()
    with suppress(ConnectionResetError):
        while data := sock.recv(65536):
            came += data
    return bytes(came)


def talk(port: int, data: bytes) -> bytes:
    """Send these bytes and read until the server closes."""
    with connect(port) as sock:
        # refused half-way, the rest is not taken
        with suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(data)
        return read_to_end(sock)


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:40]
    return int(answer[9:12])


# what is served


def test_a_scrape_gets_the_page_that_the_loop_made() -> None:
    with serving() as (server, loop):
        answer = fetch(server.port, fields={"Accept": "text/plain"})

        assert (answer.status, answer.body) == (200, PAGE)
        assert answer.fields["Content-Type"] == TEXT
        assert answer.fields["Content-Length"] == str(len(PAGE))
        assert answer.fields["Vary"] == "Accept, Accept-Encoding"
        assert answer.fields["Cache-Control"] == "no-store"
        assert answer.fields["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in answer.fields
        assert [ask.key for ask in loop.batches[0]] == [("/metrics", "text/plain", "127.0.0.1")]


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, identity", False),
        ("*, gzip;q=0", False),
        ("identity", False),
        ("xgzip", False),
    ],
)
def test_gzip_is_served_where_it_is_accepted(accepted: str, is_packed: bool) -> None:
    with serving() as (server, _):
        answer = fetch(server.port, fields={"Accept-Encoding": accepted})

    assert answer.fields.get("Content-Encoding") == ("gzip" if is_packed else None)
    assert answer.fields["Content-Length"] == str(len(answer.body))
    assert (gzip.decompress(answer.body) if is_packed else answer.body) == PAGE


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
@pytest.mark.parametrize("number", [0, 1, 3, 20_000])
def test_a_page_in_many_parts_is_served_as_their_whole(number: int, accepted: str) -> None:
    parts = [b"part %d of the page\n" % place * 5 for place in range(number)]
    loop = Loop()
    loop.page = lambda ask: (200, parts, TEXT)
    with serving(loop) as (server, _):
        answer = fetch(server.port, fields={"Accept-Encoding": accepted})

    is_packed = answer.fields.get("Content-Encoding") == "gzip"
    assert is_packed == (accepted == "gzip" and number > 3)
    assert answer.fields["Content-Length"] == str(len(answer.body))
    assert (gzip.decompress(answer.body) if is_packed else answer.body) == b"".join(parts)


def test_head_gets_the_fields_of_the_page_and_shows_no_scraper_any_figure() -> None:
    with (
        serving() as (server, loop),
        connect(server.port, b"HEAD /metrics HTTP/1.0\r\n\r\n") as sock,
    ):
        answer = read_to_end(sock)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: %d\r\n" % len(PAGE) in answer
    assert answer.endswith(b"\r\n\r\n")
    assert loop.batches[0][0].scraper is None


def test_a_connection_is_kept_and_its_requests_are_answered_in_order() -> None:
    asked = (
        b"GET /health HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n"
    )
    last = b"GET /ready HTTP/1.1\r\nConnection: close\r\n\r\n"
    with serving() as (server, _):
        answers = talk(server.port, asked + last)

    assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [
        b"200",
        b"200",
        b"404",
        b"200",
    ]
    assert (
        answers.index(b"healthy")
        < answers.index(PAGE)
        < answers.index(b"not found")
        < answers.index(b'"ready"')
    )


def test_a_thousand_requests_sent_at_once_are_all_answered() -> None:
    with serving() as (server, _):
        answers = talk(
            server.port,
            b"GET /health HTTP/1.1\r\n\r\n" * 1000
            + b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n",
        )

    assert answers.count(b"HTTP/1.1 200 OK") == 1001


def test_http_1_0_is_closed_after_its_answer_unless_it_asks_to_be_kept() -> None:
    with serving() as (server, _):
        closed = talk(server.port, b"GET /health HTTP/1.0\r\n\r\n")
        kept = talk(
            server.port,
            b"GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /health HTTP/1.0\r\n\r\n",
        )

    assert closed.count(b"HTTP/1.1 200 OK") == 1
    assert kept.count(b"HTTP/1.1 200 OK") == 2


def test_a_client_that_sends_no_more_still_gets_its_answer() -> None:
    with serving() as (server, loop):
        loop.may_answer.clear()
        with connect(server.port, b"GET /metrics HTTP/1.1\r\n\r\n") as sock:
            sock.shutdown(socket.SHUT_WR)
            assert fetch(server.port, "/health").status == 200  # it has seen the end by now
            loop.may_answer.set()

            assert read_to_end(sock).endswith(PAGE)


def test_asks_that_wait_together_are_one_rendering() -> None:
    with serving() as (server, loop), ExitStack() as clients:
        loop.may_answer.clear()
        asked = b"GET /metrics?x=1 HTTP/1.1\r\nAccept: a/b\r\nConnection: close\r\n\r\n"
        socks = [clients.enter_context(connect(server.port, asked)) for _ in range(20)]
        assert fetch(server.port, "/health").status == 200
        loop.may_answer.set()

        assert all(read_to_end(sock).endswith(PAGE) for sock in socks)
        assert [len({ask.key for ask in batch}) for batch in loop.batches] == [1] * len(
            loop.batches
        )
        assert sum(map(len, loop.batches)) == 20


def test_only_the_pages_that_were_named_reach_the_loop() -> None:
    loop = Loop()
    loop.page = lambda ask: (200, ask.path.encode(), "text/plain")
    with serving(loop, pages=frozenset({"/metrics", "/status.json"})) as (server, _):
        assert fetch(server.port, "/status.json?a=b").body == b"/status.json"
        assert fetch(server.port, "/").status == 404


def test_concurrent_scrapers_all_get_a_whole_page() -> None:
    loop = Loop()
    loop.page = lambda ask: (200, BIG[:500_000], TEXT)
    with serving(loop) as (server, _), ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: fetch(server.port), range(200)))

    assert {(answer.status, len(answer.body)) for answer in answers} == {(200, 500_000)}


# what is refused

REFUSED = {
    "post": (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
    "delete": (b"DELETE / HTTP/1.1\r\n\r\n", 405),
    "unknown path": (b"GET /etc/passwd HTTP/1.0\r\n\r\n", 404),
    "path that climbs": (b"GET /metrics/../../etc/passwd HTTP/1.0\r\n\r\n", 404),
    "path with a nul": (b"GET /%00/metrics HTTP/1.0\r\n\r\n", 404),
    "proxy request": (b"GET http://169.254.169.254/ HTTP/1.1\r\n\r\n", 400),
    "no version": (b"GET /metrics\r\n\r\n", 400),
    "strange version": (b"GET /metrics HTTP/9.9\r\n\r\n", 400),
    "empty": (b"\r\n\r\n", 400),
    "tls on a plain port": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "field without a colon": (b"GET /metrics HTTP/1.1\r\nmarker-word\r\n\r\n", 400),
    "folded field": (b"GET /metrics HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n", 400),
    "body": (b"GET /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 413),
    "endless body": (b"GET /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
    "chunks": (b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n", 413),
    "endless request line": (b"GET /" + b"a" * 3_000_000, 414),
    "long request line": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
    "megabytes of header": (b"GET /metrics HTTP/1.1\r\n" + b"X-A: " + b"v" * 3_000_000, 431),
    "many fields": (b"GET /metrics HTTP/1.1\r\n" + b"X-A: v\r\n" * 5000 + b"\r\n", 431),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_scrape_is_refused_and_never_repeated(data: bytes, status: int) -> None:
    with serving() as (server, loop):
        answer = talk(server.port, data)

        assert status_of(answer) == status
        assert len(answer) < 400
        assert not any(
            word in answer for word in (b"marker-word", b"passwd", b"aaaa", b"Traceback")
        )
        assert (b"Allow: GET, HEAD\r\n" in answer) == (status == 405)
        assert loop.batches == []
        assert fetch(server.port).status == 200


@pytest.mark.parametrize(
    "name", ["post", "unknown path", "folded field", "body", "long request line", "many fields"]
)
def test_a_request_that_comes_byte_by_byte_is_answered_like_a_whole_one(name: str) -> None:
    data, status = REFUSED[name]
    with serving() as (server, _), connect(server.port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionResetError, BrokenPipeError):
            for at in range(len(data)):
                sock.send(data[at : at + 1])
        sock.shutdown(socket.SHUT_WR)

        assert status_of(read_to_end(sock)) == status


def test_a_page_before_all_is_read_is_503_at_once() -> None:
    loop = Loop()
    loop.is_ready = False
    with serving(loop) as (server, _):
        answer = fetch(server.port)

        assert (answer.status, answer.fields["Content-Type"]) == (503, "text/plain; charset=utf-8")
        assert answer.body.count(b"\n") == 1
        assert loop.batches == []
        assert (fetch(server.port, "/ready").status, fetch(server.port, "/health").status) == (
            503,
            200,
        )

        loop.is_ready = True
        assert (fetch(server.port, "/ready").status, fetch(server.port).body) == (200, PAGE)


def test_a_loop_that_does_not_answer_is_a_503_and_is_not_asked_for_it_later() -> None:
    with serving(deadlines=Deadlines(page_seconds=0.2)) as (server, loop):
        loop.may_answer.clear()

        assert fetch(server.port).status == 503
        assert fetch(server.port, "/health").status == 200

        assert server.take_asks() == []
        loop.may_answer.set()
        assert fetch(server.port).status == 200


def taken(served: Served) -> list[Ask]:
    """Take the asks in the loop's place, once there are some."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if asks := served.server.take_asks():
            return asks
        served.loop.woken.wait(0.05)
    raise AssertionError("nothing was asked for")


def test_an_answer_that_comes_too_late_is_sent_to_nobody() -> None:
    with serving(deadlines=Deadlines(page_seconds=0.2)) as served:
        server, loop = served
        loop.may_answer.clear()
        with connect(server.port, b"GET /metrics HTTP/1.1\r\n\r\n") as sock:
            asks = taken(served)
            answer = read_to_end(sock)
            server.answer(asks, 200, PAGE, TEXT)

            assert status_of(answer) == 503
            assert fetch(server.port, "/health").status == 200


def test_an_ask_is_answered_once() -> None:
    with serving() as served:
        server, loop = served
        loop.may_answer.clear()
        asked = b"GET /metrics HTTP/1.1\r\n\r\n"
        last = b"GET /health HTTP/1.0\r\n\r\n"
        with connect(server.port, asked) as sock:
            asks = taken(served)
            server.answer(asks, 200, PAGE, TEXT)
            server.answer(asks, 200, PAGE, TEXT)
            assert fetch(server.port, "/health").status == 200  # the turn that sent is over
            sock.sendall(last)

            assert read_to_end(sock).count(b"HTTP/1.1 200 OK") == 2


def test_a_bug_costs_one_connection_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def health() -> tuple[int, bytes]:
        raise LookupError("a bug")

    with caplog.at_level(logging.ERROR, "ai_sidecar"), serving(health=health) as (server, _):
        for _ in range(3):
            assert talk(server.port, b"GET /health HTTP/1.1\r\n\r\n") == b""

        assert fetch(server.port).status == 200
        assert server.alive
    assert [record.exc_info is not None for record in caplog.records] == [True]


# clients that misbehave


def test_silent_connections_beyond_all_slots_do_not_keep_a_scrape_out() -> None:
    with serving(max_connections=64) as (server, _), ExitStack() as clients:
        socks = [clients.enter_context(connect(server.port)) for _ in range(400)]
        answer = fetch(server.port, seconds=SOON_SECONDS)
        still_open = 0
        for sock in socks:
            sock.setblocking(False)
            try:
                assert sock.recv(1) == b""
            except BlockingIOError:
                still_open += 1

        assert answer.status == 200
        assert 0 < still_open <= 64


def test_silent_connections_are_closed_at_their_deadline() -> None:
    with (
        serving(deadlines=Deadlines(header_seconds=0.2)) as (server, _),
        connect(server.port) as sock,
    ):
        assert read_to_end(sock) == b""


def test_idle_connections_are_closed_at_their_deadline() -> None:
    with (
        serving(deadlines=Deadlines(idle_seconds=0.2)) as (server, _),
        connect(server.port, b"GET /health HTTP/1.1\r\n\r\n") as sock,
    ):
        assert read_to_end(sock).count(b"HTTP/1.1") == 1


def test_dribbled_headers_do_not_outlive_their_deadline_nor_delay_a_scrape() -> None:
    with serving(deadlines=Deadlines(header_seconds=1.0)) as (server, _), ExitStack() as clients:
        socks = [
            clients.enter_context(connect(server.port, b"GET /metrics HTTP/1.1\r\nX-a"))
            for _ in range(150)
        ]
        started = time.monotonic()
        worst_seconds = 0.0
        cut: set[socket.socket] = set()
        while len(cut) < len(socks) and time.monotonic() < started + PATIENCE_SECONDS:
            for sock in socks:
                try:
                    sock.send(b"a")
                except OSError:
                    cut.add(sock)
            asked = time.monotonic()
            assert fetch(server.port).status == 200
            worst_seconds = max(worst_seconds, time.monotonic() - asked)

        assert len(cut) == 150
        assert worst_seconds < SOON_SECONDS


@pytest.mark.parametrize("are_sent_together", [True, False], ids=["together", "apart"])
def test_a_second_request_has_a_deadline_of_its_own(are_sent_together: bool) -> None:
    first, half = b"GET /health HTTP/1.1\r\n\r\n", b"GET /hea"
    with (
        serving(deadlines=Deadlines(header_seconds=0.2, idle_seconds=60)) as (server, _),
        connect(server.port, first + half if are_sent_together else first) as sock,
    ):
        answer = b""
        while not answer.endswith(b"}"):
            answer += sock.recv(1) or pytest.fail("closed in mid-answer")
        if not are_sent_together:
            sock.sendall(half)

        assert read_to_end(sock) == b""


def test_slow_readers_neither_delay_others_nor_outlive_their_deadline() -> None:
    loop = Loop()
    loop.page = lambda ask: (200, BIG, TEXT)
    deadlines = Deadlines(write_seconds=0.3, header_seconds=1.5)
    with (
        serving(loop, deadlines=deadlines, max_held_bytes=1 << 30) as (server, _),
        ExitStack() as clients,
    ):
        asked = b"GET /metrics HTTP/1.1\r\n\r\n"
        slow = [clients.enter_context(connect(server.port, asked, 1024)) for _ in range(20)]
        started = time.monotonic()
        answer = fetch(server.port)
        took_seconds = time.monotonic() - started
        # when this silent one is cut, the deadlines of the slow ones are long over
        read_to_end(clients.enter_context(connect(server.port)))

        assert (answer.status, len(answer.body)) == (200, len(BIG))
        assert took_seconds < SOON_SECONDS
        assert all(len(read_to_end(sock)) < len(BIG) for sock in slow)


def test_a_reader_that_dribbles_does_not_outlive_the_deadline_of_the_whole_answer() -> None:
    loop = Loop()
    loop.page = lambda ask: (200, BIG, TEXT)
    deadlines = Deadlines(write_seconds=60, answer_seconds=0.3, header_seconds=1.5)
    with (
        serving(loop, deadlines=deadlines) as (server, _),
        connect(server.port, b"GET /metrics HTTP/1.1\r\n\r\n", 1024) as sock,
        connect(server.port) as clock,
    ):
        came = len(sock.recv(64))
        # when this silent one is cut, the deadline of the answer is long over
        while not select.select([clock], [], [], 0)[0]:
            came += len(sock.recv(64))

        assert came + len(read_to_end(sock)) < len(BIG)


def test_old_pages_are_let_go_of_before_they_fill_the_memory() -> None:
    loop = Loop()
    loop.page = lambda ask: (200, BIG + ask.accept.encode(), TEXT)
    with serving(loop, max_held_bytes=1) as (server, _), ExitStack() as clients:
        asked = b"GET /metrics HTTP/1.1\r\nAccept: %d\r\nConnection: close\r\n\r\n"
        slow = []
        for number in range(3):
            slow.append(clients.enter_context(connect(server.port, asked % number, 1024)))
            assert slow[-1].recv(9) == b"HTTP/1.1 "
            assert fetch(server.port, "/health").status == 200  # the turn that let go is over

        assert [len(read_to_end(sock)) > len(BIG) for sock in slow] == [False, False, True]


def test_who_waits_for_a_page_keeps_its_slot_beside_silent_ones() -> None:
    with serving(max_connections=3) as (server, loop), ExitStack() as clients:
        loop.may_answer.clear()
        asked = b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n"
        waiting = clients.enter_context(connect(server.port, asked))
        assert fetch(server.port, "/health").status == 200  # it is waiting by now
        for _ in range(20):
            clients.enter_context(connect(server.port))
        assert fetch(server.port, "/health").status == 200
        loop.may_answer.set()

        assert read_to_end(waiting).endswith(PAGE)


def test_slots_that_are_all_kept_idle_are_given_to_a_new_scrape_the_longest_idle_first() -> None:
    def use(sock: socket.socket) -> None:
        sock.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += sock.recv(1) or pytest.fail("closed in mid-answer")

    with serving(max_connections=4) as (server, _), ExitStack() as clients:
        idle = [clients.enter_context(connect(server.port)) for _ in range(4)]
        for at in (0, 1, 2, 3, 0):
            use(idle[at])

        assert fetch(server.port).status == 200
        assert read_to_end(idle[1]) == b""
        use(idle[0])


def test_slots_that_all_wait_for_a_hanging_loop_are_given_to_a_probe() -> None:
    with serving(max_connections=4) as (server, loop), ExitStack() as clients:
        loop.may_answer.clear()
        for _ in range(8):
            clients.enter_context(connect(server.port, b"GET /metrics HTTP/1.1\r\n\r\n"))

        assert fetch(server.port, "/health").status == 200


def test_a_process_without_descriptors_still_answers() -> None:
    program = """
        import os, resource, socket, sys
        from sidecar.server import Server
        answer = lambda: (200, b"{}")
        server = Server("127.0.0.1", 0, wake=lambda: None, health=answer, ready=answer)
        server.bind()
        server.start()
        with socket.create_connection(("127.0.0.1", server.port)) as probe:
            probe.sendall(b"GET /health HTTP/1.0\\r\\n\\r\\n")
            while probe.recv(4096):
                pass
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        print(server.port, flush=True)
        sys.stdin.read()
        server.stop(1.0)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        ExitStack() as clients,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        for _ in range(5):
            clients.enter_context(connect(port))
        statuses = [fetch(port, "/health").status for _ in range(5)]
        process.stdin.close()

        assert statuses == [200] * 5
        assert process.wait(PATIENCE_SECONDS) == 0


def test_stop_is_prompt_whatever_clients_hang_on() -> None:
    loop = Loop()
    loop.page = lambda ask: (200, BIG, TEXT)
    with serving(loop) as (server, _), ExitStack() as clients:
        for data in (
            b"",
            b"GET /metr",
            b"GET /metrics HTTP/1.1\r\n\r\n",
            b"GET /health HTTP/1.1\r\n\r\n",
        ):
            for _ in range(10):
                clients.enter_context(connect(server.port, data, 1024))
        assert fetch(server.port).status == 200
        loop.may_answer.clear()
        clients.enter_context(connect(server.port, b"GET /metrics HTTP/1.1\r\n\r\n"))
        assert fetch(server.port, "/health").status == 200

        started = time.monotonic()
        server.stop(5.0)
        took_seconds = time.monotonic() - started

        assert took_seconds < 1.0
        assert not server.alive
        with pytest.raises(ConnectionRefusedError):
            connect(server.port)


def test_stop_sends_what_has_been_answered() -> None:
    with serving() as served, ThreadPoolExecutor(1) as pool:
        server, loop = served
        loop.may_answer.clear()
        with connect(server.port, b"GET /metrics HTTP/1.1\r\n\r\n") as sock:
            server.answer(taken(served), 200, BIG, TEXT)
            assert sock.recv(1) == b"H"
            came = pool.submit(read_to_end, sock)
            server.stop(5.0)

            assert came.result(PATIENCE_SECONDS).endswith(b"\r\n\r\n" + BIG)


def test_a_port_that_is_taken_is_told_at_once() -> None:
    with serving() as (server, loop):
        other = Server(
            "127.0.0.1", server.port, wake=loop.woken.set, health=loop.health, ready=loop.ready
        )
        with pytest.raises(
            OSError, match=rf"--port: .* got {server.port} on 127\.0\.0\.1: Address already in use"
        ):
            other.bind()
        other.stop(1.0)


@pytest.mark.parametrize("host", ["name.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_told_at_once(host: str) -> None:
    loop = Loop()
    server = Server(host, 0, wake=loop.woken.set, health=loop.health, ready=loop.ready)
    with pytest.raises(OSError, match=f"--host: expected an address of this machine, got '{host}'"):
        server.bind()
    server.stop(1.0)


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0"])
def test_what_probes_call_localhost_is_served(host: str) -> None:
    loop = Loop()
    server = Server(host, 0, wake=loop.woken.set, health=loop.health, ready=loop.ready)
    server.bind()
    server.start()
    answer = fetch(server.port, "/health")
    server.stop(1.0)

    assert answer.status == 200


# TLS

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the openssl command makes the certificates"
)


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_authority(folder: Path, name: str) -> None:
    openssl(
        *(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ),
        *(
            "-subj",
            f"/CN={name}",
            "-keyout",
            folder / f"{name}.key",
            "-out",
            folder / f"{name}.pem",
        ),
    )


def make_certificate(folder: Path, name: str, authority: str) -> None:
    """Sign a certificate for 127.0.0.1."""
    openssl(
        *(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            f"/CN={name}",
        ),
        *(
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            folder / f"{name}.key",
            "-out",
            folder / f"{name}.csr",
        ),
    )
    openssl(
        *("x509", "-req", "-in", folder / f"{name}.csr", "-days", "2", "-copy_extensions", "copy"),
        *(
            "-CA",
            folder / f"{authority}.pem",
            "-CAkey",
            folder / f"{authority}.key",
            "-CAcreateserial",
        ),
        *("-out", folder / f"{name}.pem"),
    )


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    for authority in ("ca", "stranger"):
        make_authority(folder, authority)
    for name, authority in (
        ("server", "ca"),
        ("renewed", "ca"),
        ("client", "ca"),
        ("intruder", "stranger"),
    ):
        make_certificate(folder, name, authority)
    key = (
        "-in",
        folder / "server.key",
        "-out",
        folder / "locked.key",
        "-aes256",
        "-passout",
        "pass:marker-word",
    )
    openssl("ec", *key)
    (folder / "garbage.pem").write_text("marker-word\n")
    return folder


def client_context(certs: Path, name: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    if name is not None:
        context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    return context


def peer(port: int, context: ssl.SSLContext) -> bytes | None:
    """Give the certificate that is served."""
    with connect(port) as sock, context.wrap_socket(sock, server_hostname="127.0.0.1") as secure:
        return secure.getpeercert(binary_form=True)


@needs_openssl
def test_https_serves_large_pages_and_keeps_connections(certs: Path) -> None:
    loop = Loop()
    loop.page = lambda ask: (200, BIG, TEXT)
    context = client_context(certs)
    with serving(loop, tls=Tls(certs / "server.pem", certs / "server.key")) as (server, _):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=PATIENCE_SECONDS, context=context
        )
        for _ in range(3):
            connection.request("GET", "/metrics")
            assert connection.getresponse().read() == BIG
        first = connection.sock
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"healthy"}'
        assert connection.sock is first
        connection.close()


@needs_openssl
def test_https_is_ended_cleanly_after_the_last_answer(certs: Path) -> None:
    context = client_context(certs)
    with (
        serving(tls=Tls(certs / "server.pem", certs / "server.key")) as (server, _),
        connect(server.port) as sock,
        context.wrap_socket(
            sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False
        ) as secure,
    ):
        secure.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")

        assert read_to_end(secure).endswith(PAGE)


@needs_openssl
def test_handshakes_that_never_end_cost_slots_for_a_while_and_delay_nobody(certs: Path) -> None:
    tls = Tls(certs / "server.pem", certs / "server.key")
    deadlines = Deadlines(handshake_seconds=1.0)
    with serving(tls=tls, deadlines=deadlines) as (server, _), ExitStack() as clients:
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        socks = [
            clients.enter_context(connect(server.port, data))
            for data in (b"", hello)
            for _ in range(40)
        ]
        started = time.monotonic()
        answer = fetch(server.port, tls=client_context(certs))
        took_seconds = time.monotonic() - started

        assert answer.status == 200
        assert took_seconds < SOON_SECONDS
        assert all(read_to_end(sock) == b"" for sock in socks)


@needs_openssl
def test_plain_http_on_the_tls_port_is_closed_and_the_next_is_served(certs: Path) -> None:
    with serving(tls=Tls(certs / "server.pem", certs / "server.key")) as (server, _):
        assert b"a_total" not in talk(server.port, b"GET /metrics HTTP/1.1\r\n\r\n")

        assert fetch(server.port, tls=client_context(certs)).status == 200


@needs_openssl
def test_old_tls_is_refused(certs: Path) -> None:
    context = client_context(certs)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with serving(tls=Tls(certs / "server.pem", certs / "server.key")) as (server, _):
        with pytest.raises(OSError, match=r"(?i)alert|protocol|version|reset|EOF"):
            fetch(server.port, tls=context)

        assert fetch(server.port, tls=client_context(certs)).status == 200


@needs_openssl
@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)
def test_only_clients_of_the_named_authority_are_served(
    certs: Path, version: ssl.TLSVersion
) -> None:
    def context(name: str | None) -> ssl.SSLContext:
        made = client_context(certs, name)
        made.maximum_version = version
        return made

    tls = Tls(certs / "server.pem", certs / "server.key", certs / "ca.pem")
    with serving(tls=tls) as (server, loop):
        for name in (None, "intruder"):
            with pytest.raises((OSError, http.client.HTTPException)):
                fetch(server.port, tls=context(name))
            with pytest.raises((OSError, http.client.HTTPException)):
                fetch(server.port, "/health", tls=context(name))
        assert loop.batches == []

        assert fetch(server.port, tls=context("client")).status == 200


@needs_openssl
def test_renewed_certificates_are_served_and_bad_ones_refused(
    certs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"

    def put(name: str) -> None:
        for source, target in ((certs / f"{name}.pem", cert), (certs / f"{name}.key", key)):
            new = tmp_path / "new"
            shutil.copy(source, new)
            new.replace(target)

    put("server")
    tls = Tls(cert, key)
    context = client_context(certs)
    with serving(tls=tls) as (server, _):
        before = peer(server.port, context)
        put("renewed")
        assert tls.renew()
        after = peer(server.port, context)
        cert.write_text("marker-word")
        assert not tls.renew()

        assert before == ssl.PEM_cert_to_DER_cert((certs / "server.pem").read_text().strip())
        assert after == ssl.PEM_cert_to_DER_cert((certs / "renewed.pem").read_text().strip())
        assert peer(server.port, context) == after
    assert "the certificates stay as they were: --tls-cert" in caplog.text
    assert "marker-word" not in caplog.text


@needs_openssl
def test_a_changed_certificate_is_noticed_by_itself(certs: Path, tmp_path: Path) -> None:
    for suffix in ("pem", "key"):
        shutil.copy(certs / f"server.{suffix}", tmp_path / f"tls.{suffix}")
    context = client_context(certs)
    with serving(tls=Tls(tmp_path / "tls.pem", tmp_path / "tls.key")) as (server, _):
        before = peer(server.port, context)
        for suffix in ("pem", "key"):
            shutil.copy(certs / f"renewed.{suffix}", tmp_path / f"tls.{suffix}")
        until = time.monotonic() + PATIENCE_SECONDS
        while (after := peer(server.port, context)) == before and time.monotonic() < until:
            pass

        assert after != before


@needs_openssl
@pytest.mark.parametrize(
    ("cert", "key", "client_ca", "sentence"),
    [
        ("missing.pem", "server.key", None, "--tls-cert: .*missing.pem': No such file"),
        ("server.pem", "missing.key", None, "--tls-key: .*missing.key': No such file"),
        (
            "server.pem",
            "server.key",
            "missing.pem",
            "--tls-client-ca: .*missing.pem': No such file",
        ),
        (
            "garbage.pem",
            "server.key",
            None,
            "--tls-cert: expected certificates in PEM, got .*garbage.pem",
        ),
        (
            "server.pem",
            "garbage.pem",
            None,
            "--tls-key: expected a private key in PEM .*garbage.pem",
        ),
        (
            "server.pem",
            "client.key",
            None,
            "--tls-key: expected the key of .*server.pem', got .*client.key",
        ),
        ("server.pem", "locked.key", None, "--tls-key: .* without a password, got .*locked.key"),
        ("server.pem", None, None, "--tls-key: expected a private key in PEM .*server.pem"),
        (
            "server.pem",
            "server.key",
            "garbage.pem",
            "--tls-client-ca: expected certificates in PEM, got .*garbage.pem",
        ),
    ],
)
def test_a_bad_file_is_named_with_its_option(
    certs: Path, cert: str, key: str | None, client_ca: str | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        tls_context(certs / cert, key and certs / key, client_ca and certs / client_ca)  # type: ignore[arg-type] # never ""
    assert "\n" not in str(caught.value)
    assert "marker-word" not in str(caught.value)


# Basic auth


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def users(tmp_path: Path) -> dict[str, bytes]:
    bcrypt = pytest.importorskip("bcrypt")
    path = tmp_path / "users"
    hashed = bcrypt.hashpw("pä:ss".encode(), bcrypt.gensalt(4)).decode()
    other = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")
    path.write_text(f"# who may look\n\nann:{hashed}\nlong:{other}\n", encoding="utf-8")
    return read_users(path)


def test_only_who_knows_a_password_gets_a_page(users: dict[str, bytes]) -> None:
    with serving(users=users) as (server, loop):
        for fields in (
            {},
            basic("ann", "wrong"),
            basic("ann", ""),
            basic("nobody", "pä:ss"),
            basic("", ""),
            {"Authorization": "Basic !!!"},
            {"Authorization": "Basic " + base64.b64encode(b"no colon").decode()},
            {"Authorization": "Bearer abc"},
        ):
            answer = fetch(server.port, fields=fields)
            assert answer.status == 401
            assert answer.fields["WWW-Authenticate"].startswith("Basic realm=")
            assert fetch(server.port, "/not-there", fields=fields).status == 401
        assert loop.batches == []

        assert fetch(server.port, fields=basic("ann", "pä:ss")).body == PAGE
        assert fetch(server.port, "/not-there", fields=basic("ann", "pä:ss")).status == 404
        assert (
            fetch(
                server.port, fields=basic("long", "x" * 72 + "and what bcrypt does not look at")
            ).status
            == 200
        )


def test_probes_need_no_password(users: dict[str, bytes]) -> None:
    with serving(users=users) as (server, _):
        assert [fetch(server.port, path).status for path in ("/health", "/ready")] == [200, 200]


def test_a_scraper_pays_for_its_password_once(
    users: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    checked: list[bytes] = []
    check = bcrypt.checkpw

    def noting(password: bytes, hashed: bytes) -> bool:
        checked.append(password)
        return bool(check(password, hashed))

    monkeypatch.setattr(bcrypt, "checkpw", noting)
    with serving(users=users) as (server, _):
        for password in ("pä:ss", "wrong") * 3:
            fetch(server.port, fields=basic("ann", password))

    assert [word.decode() for word in checked] == ["pä:ss", "wrong", "wrong", "wrong"]


def test_connections_with_the_same_password_share_one_check(
    users: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    may_check = threading.Event()
    checked: list[bytes] = []
    check = bcrypt.checkpw

    def slowly(*pair: bytes) -> bool:
        checked.append(pair[0])
        may_check.wait(PATIENCE_SECONDS)
        return bool(check(*pair))

    monkeypatch.setattr(bcrypt, "checkpw", slowly)
    with serving(users=users) as (server, _), ExitStack() as clients:
        field = basic("ann", "pä:ss")["Authorization"].encode()
        asked = (
            b"GET /metrics HTTP/1.1\r\nConnection: close\r\nAuthorization: " + field + b"\r\n\r\n"
        )
        socks = [clients.enter_context(connect(server.port, asked)) for _ in range(10)]
        assert fetch(server.port, "/health").status == 200
        may_check.set()

        assert all(read_to_end(sock).endswith(PAGE) for sock in socks)
        assert len(checked) == 1


def test_guesses_beyond_a_few_at_once_are_turned_away_and_known_scrapers_are_not(
    users: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    may_check = threading.Event()
    check = bcrypt.checkpw
    with serving(users=users) as (server, _), ExitStack() as clients:
        assert fetch(server.port, fields=basic("ann", "pä:ss")).status == 200
        monkeypatch.setattr(
            bcrypt, "checkpw", lambda *pair: may_check.wait(PATIENCE_SECONDS) and check(*pair)
        )
        waiting = []
        for number in range(2):
            field = basic("ann", f"guess {number}")["Authorization"].encode()
            asked = b"GET /metrics HTTP/1.0\r\nAuthorization: " + field + b"\r\n\r\n"
            waiting.append(clients.enter_context(connect(server.port, asked)))
            assert fetch(server.port, "/health").status == 200  # it is being checked by now

        turned_away = fetch(server.port, fields=basic("ann", "guess 3"))
        assert (turned_away.status, turned_away.fields["Retry-After"]) == (503, "1")
        assert fetch(server.port, fields=basic("ann", "pä:ss")).status == 200
        may_check.set()
        assert [status_of(read_to_end(sock)) for sock in waiting] == [401, 401]


def test_a_check_that_takes_too_long_is_a_503(
    users: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    may_check = threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda *pair: may_check.wait(PATIENCE_SECONDS))
    with serving(users=users, deadlines=Deadlines(page_seconds=0.2)) as (server, _):
        assert fetch(server.port, fields=basic("ann", "pä:ss")).status == 503
        may_check.set()


def test_a_user_that_does_not_exist_takes_as_long_as_one_that_does() -> None:
    bcrypt = pytest.importorskip("bcrypt")
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(9))

    def seconds_of(act: Callable[[], object]) -> float:
        started = time.perf_counter()
        act()
        return time.perf_counter() - started

    check_seconds = min(seconds_of(lambda: bcrypt.checkpw(b"wrong", hashed)) for _ in range(5))
    with serving(users={"ann": hashed}) as (server, _):
        guesses = [basic(f"nobody{number}", "wrong") for number in range(3)]
        guess_seconds = min(
            seconds_of(partial(fetch, server.port, fields=guess)) for guess in guesses
        )

    assert guess_seconds > 0.8 * check_seconds


def test_renewed_users_are_asked_for_from_then_on(users: dict[str, bytes]) -> None:
    with serving(users=users) as (server, _):
        assert fetch(server.port, fields=basic("ann", "pä:ss")).status == 200
        server.renew_users({"bob": users["ann"]})

        assert fetch(server.port, fields=basic("ann", "pä:ss")).status == 401
        assert fetch(server.port, fields=basic("bob", "pä:ss")).status == 200


HASH = "$2b$04$" + "a" * 53


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"ann:{HASH}\nbob:marker-word\n", "expected user:bcrypt-hash in line 2 of"),
        ("marker-word\n", "expected user:bcrypt-hash in line 1 of"),
        (f":{HASH}\n", "expected user:bcrypt-hash in line 1 of"),
        ("ann:$2b$99$" + "a" * 53, "expected user:bcrypt-hash in line 1 of"),
        (f"ann:{HASH}\nann:{HASH}\n", "expected each user once .* line 2"),
        ("# nobody\n", "expected at least one line"),
        ("", "expected at least one line"),
    ],
)
def test_a_bad_file_of_users_is_told_in_one_sentence_that_repeats_none_of_it(
    tmp_path: Path, text: str, sentence: str
) -> None:
    pytest.importorskip("bcrypt")
    path = tmp_path / "users"
    path.write_text(text)

    with pytest.raises(ValueError, match=f"--auth-file: {sentence}") as caught:
        read_users(path)
    assert "marker-word" not in str(caught.value)


def test_a_file_of_users_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    pytest.importorskip("bcrypt")
    path = tmp_path / "users"
    with pytest.raises(ValueError, match=r"--auth-file: .*No such file"):
        read_users(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="--auth-file: expected text in UTF-8"):
        read_users(path)


def test_the_header_cap_is_what_a_scrape_with_cookies_needs() -> None:
    fields = {"Cookie": "a" * (MAX_HEADER_BYTES - 1000)}
    with serving() as (server, _):
        assert fetch(server.port, fields=fields).status == 200


def test_descriptors_are_all_given_back() -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    with serving() as (server, _):
        for _ in range(20):
            fetch(server.port)
            talk(server.port, b"garbage\r\n\r\n")

    assert count() == before

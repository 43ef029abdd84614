"""The port: one thread, every connection with a deadline, so that no client can delay a scrape.

The server moves bytes and nothing else. A page is made by the loop's thread, between two of its steps: the
server leaves an `Ask`, wakes the loop, and sends what the loop answers. Several asks that wait together are
answered from one moment. `/health` and `/ready` are answered here, so that they speak while the loop hangs.

Whatever a client does, it costs one slot of a bounded number for a bounded time: when all are taken, the one
that has been of no use for longest is given up for the new one. Nothing that a client sends is ever repeated
to it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import enum
import errno
import importlib
import logging
import os
import queue
import re
import resource
import selectors
import socket
import sys
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .digests import blake2b

if TYPE_CHECKING:
    # loaded where there is a certificate: it is a tenth of what a small sidecar holds
    import ssl

log = logging.getLogger("ai_sidecar")

PAGES = frozenset({"/metrics", "/status.json"})
"""What the loop answers, where nothing else is said."""

MAX_HEADER_BYTES = 16 * 1024
MAX_REQUEST_LINE_BYTES = 8 * 1024

_BACKLOG = 1024
_READ_BYTES = 16 * 1024  # a whole TLS record, so that none stays where the selector cannot see it
_WRITE_BYTES = (
    64 * 1024
)  # TLS tells of a piece only when all of it is gone: small, so that progress is seen
_SEND_BUFFER_BYTES = 256 * 1024  # what the kernel holds for a client that does not read
_MIN_GZIP_BYTES = 512
_CHUNK_BYTES = 256 * 1024  # of a page in many parts, so much is put together at a time
_MAX_JOINED_BYTES = 16 * 1024  # sent in one piece with its fields: one packet, one call
_REQUESTS_A_TURN = 16
_WELCOMES_A_TURN = 16
_HANDSHAKES_A_TURN = 4  # each is a signature
_HEARTBEAT_SECONDS = 5.0
_ACCEPT_PAUSE_SECONDS = 0.05
_SWITCH_SECONDS = 0.0005
"""How long the reading thread may keep the interpreter to itself while the server's thread waits for it.

Python's own 5 ms are waited for at each call that moves bytes: beside some hundred clients that adds up."""

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_CHALLENGE = b'WWW-Authenticate: Basic realm="ai-sidecar", charset="UTF-8"\r\n'
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_REFUSALS = {
    400: b"this is no HTTP request\n",
    401: b"a user and a password are expected\n",
    404: b"not found\n",
    405: b"GET and HEAD alone\n",
    413: b"a body is not expected\n",
    414: b"the request line is too long\n",
    431: b"the header is too long\n",
}


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A page that a client waits for."""

    path: str
    accept: str
    scraper: str | None
    """The address that asks, without its port; none for a HEAD, to which no figure is shown."""
    connection: _Connection = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str | None]:
        """Give what the page depends on: asks with one key can be answered with one page."""
        return self.path, self.accept, self.scraper


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long a client may take, in seconds."""

    handshake_seconds: float = 5.0
    """For a TLS handshake."""
    header_seconds: float = 5.0
    """From the connection, or the first byte of a later request, to the end of the header."""
    idle_seconds: float = 30.0
    """Between two requests of a connection."""
    page_seconds: float = 10.0
    """For the loop to make a page, and for a password to be checked."""
    write_seconds: float = 10.0
    """For some bytes of an answer to be taken."""
    answer_seconds: float = 60.0
    """For the whole answer to be taken."""
    linger_seconds: float = 2.0
    """For a refused client to hear why before the connection is cut."""


class _Phase(enum.Enum):
    HANDSHAKE = enum.auto()
    REQUEST = enum.auto()
    """The next request is waited for, or half there."""
    PAGE = enum.auto()
    """The loop, or the check of a password, is waited for."""
    ANSWER = enum.auto()
    LINGER = enum.auto()
    """Answered, and what still comes is thrown away: closing at once would take the answer from the client."""
    CLOSED = enum.auto()


class _Body:
    """What is sent after the header; it may come in many parts, which are packed without putting them together."""

    __slots__ = ("parts", "size")

    def __init__(self, body: bytes | Sequence[bytes]) -> None:
        self.parts = (body,) if isinstance(body, bytes) else body
        self.size = sum(map(len, self.parts))

    def whole(self) -> bytes:
        """Put it together, once for all who are sent it."""
        self.parts = (b"".join(self.parts),)
        return self.parts[0]

    def chunks(self) -> Iterator[bytes]:
        """Give all of it in pieces that are worth a call."""
        waiting: list[bytes] = []
        size = 0
        for part in self.parts:
            waiting.append(part)
            size += len(part)
            if size >= _CHUNK_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
        if waiting:
            yield b"".join(waiting)


class _Connection:
    __slots__ = (
        "address",
        "answer_by",
        "ask",
        "body",
        "buffer",
        "close_after",
        "credentials",
        "deadline",
        "events",
        "head",
        "is_at_end",
        "out",
        "phase",
        "refused",
        "served",
        "sock",
    )

    def __init__(self, sock: socket.socket, address: str, phase: _Phase) -> None:
        self.sock = sock
        self.address = address
        self.phase = phase
        self.deadline = 0.0
        self.answer_by = 0.0
        self.events = 0
        self.buffer = bytearray()
        self.head: _Head | None = None
        self.ask: Ask | None = None
        self.credentials: bytes | None = None
        """The digest of the user and password that are being checked."""
        self.out: deque[memoryview] = deque()
        self.body: _Body | None = None
        self.is_at_end = False
        """The client will send no more; it may still wait for its answer."""
        self.close_after = False
        self.refused = False
        self.served = 0


class Server:
    """Serves on one port from one thread of its own.

    `health` and `ready` give a status and a JSON body and are called in the server's thread. `wake` is called
    there too, whenever there is something for `take_asks`. `users` are names and bcrypt hashes (see
    `read_users`); where they are given, all but `/health` and `/ready` asks for one of them. `still` are pages
    that never change: path → body, content type, more lines of the header; they too speak while the loop hangs.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        wake: Callable[[], None],
        health: Callable[[], tuple[int, bytes]],
        ready: Callable[[], tuple[int, bytes]],
        pages: frozenset[str] = PAGES,
        still: Mapping[str, tuple[bytes, str, bytes]] | None = None,
        tls: Tls | None = None,
        users: Mapping[str, bytes] | None = None,
        deadlines: Deadlines | None = None,
        max_connections: int | None = None,
        max_held_bytes: int = 16 << 20,
    ) -> None:
        self._address = (host, port)
        self._wake_loop = wake
        self._health = health
        self._ready = ready
        self._pages = pages
        self._still = still or {}
        self._tls = tls
        self._not_now = _NOT_NOW if tls is None else (*_NOT_NOW, *tls.not_now)
        """What a call raises that would have to wait."""
        self._deadlines = deadlines or Deadlines()
        self._max_connections = max_connections or _default_max_connections()
        self._max_held_bytes = max_held_bytes
        """How much of pages that are no longer the newest is kept for clients that read slowly."""
        self._listener: socket.socket | None = None
        self._spare = -1
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, _Connection] = {}
        """In the order of their last use: being accepted, or having been answered."""
        self._asks: dict[Ask, None] = {}
        self._asks_lock = threading.Lock()
        self._answers: deque[tuple[list[Ask], int, _Body, str]] = deque()
        self._bell, self._bell_button = socket.socketpair()
        self._bell.setblocking(False)
        self._bell_button.setblocking(False)
        self._gate = _Gate(users, self._ring) if users is not None else None
        self._next_deadline = float("inf")
        self._accept_again: float | None = None
        self._stop_at: float | None = None
        self._packed: tuple[_Body, _Body] | None = None
        self._logged: set[tuple[type[BaseException], int]] = set()
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self.heartbeat = time.monotonic()
        """When the server's thread last had its turn, on the monotonic clock."""
        self.port = port
        """The port that is served on; after `bind` the real one."""

    @property
    def alive(self) -> bool:
        """Tell whether the server's thread lives and has had its turn of late."""
        return (
            self._thread.is_alive() and time.monotonic() - self.heartbeat < 3 * _HEARTBEAT_SECONDS
        )

    def bind(self) -> None:
        """Open the port; OSError where it cannot be had."""
        host, port = self._address
        listener = None
        try:
            found = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            # `localhost` may be both: the one that scrape configurations and probes mean
            family, kind, protocol, _, address = min(
                found, key=lambda one: one[0] != socket.AF_INET
            )
            listener = socket.socket(family, kind, protocol)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            if listener is not None:
                listener.close()
            reason = error.strerror or error
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                sentence = f"--host: expected an address of this machine, got {host!r}: {reason}"
            else:
                sentence = f"--port: expected a port that is free, got {port} on {host}: {reason}"
            raise OSError(sentence) from None
        listener.setblocking(False)
        self._listener = listener
        self.port = listener.getsockname()[1]

    def start(self) -> None:
        """Begin to serve."""
        if self._gate is not None:
            self._gate.start()
        sys.setswitchinterval(min(_SWITCH_SECONDS, sys.getswitchinterval()))
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Send what has been answered, as far as it goes in half of `seconds`, and close everything."""
        self._stop_at = time.monotonic() + min(0.5, seconds / 2)
        self._ring()
        if self._thread.is_alive():
            self._thread.join(seconds)
        else:
            self._close_all()

    def take_asks(self) -> list[Ask]:
        """Give the pages that are waited for; each must be answered."""
        with self._asks_lock:
            asks = list(self._asks)
            self._asks.clear()
        return asks

    def answer(
        self, asks: Iterable[Ask], status: int, body: bytes | Sequence[bytes], content_type: str
    ) -> None:
        """Answer these asks with one page, in one part or in many; any thread may call it."""
        self._answers.append((list(asks), status, _Body(body), content_type))
        self._ring()

    def renew_users(self, users: Mapping[str, bytes]) -> None:
        """Take these users from now on; any thread may call it. Those in force must not have been None."""
        if self._gate is None:
            raise ValueError(
                "--auth-file: expected to be set at the start, where it is to be renewed"
            )
        self._gate.renew(users)

    def _ring(self) -> None:
        # full: it is ringing already; closed: nobody is there any more
        with contextlib.suppress(OSError):
            self._bell_button.send(b"!")

    def _run(self) -> None:
        assert self._listener is not None, "bind comes before start"  # noqa: S101 - a bug of the caller's
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._keep_spare()
        try:
            while self._stop_at is None:
                self._take_turn()
            self._close_listener()
            while time.monotonic() < self._stop_at and self._is_answering():
                self._take_turn()
        finally:
            self._close_all()

    def _take_turn(self) -> None:
        try:
            self._turn()
        except Exception as error:
            # a bug of ours must be seen, and must not end the serving, nor spin
            self._log(error)
            time.sleep(_ACCEPT_PAUSE_SECONDS)

    def _turn(self) -> None:
        is_somebody_new = False
        handshakes = []
        for key, events in self._selector.select(self._patience_seconds()):
            if key.fileobj is self._bell:
                with contextlib.suppress(BlockingIOError):
                    self._bell.recv(4096)
            elif key.fileobj is self._listener:
                is_somebody_new = True
            elif key.data.phase is _Phase.HANDSHAKE:
                handshakes.append((key.data, events))
            else:
                self._guard(self._serve, key.data, events)
                if self._answers:
                    self._send_answers()
        if self._answers:
            self._send_answers()
        # who is here already comes first; what is left over is there at the next turn
        for connection, events in handshakes[:_HANDSHAKES_A_TURN]:
            self._guard(self._serve, connection, events)
        if is_somebody_new and self._listener is not None:
            self._accept()
        if self._gate is not None:
            for digest, is_right in self._gate.take_verdicts():
                for connection in self._gate.waiting.pop(digest, {}):
                    self._guard(self._admit, connection, is_right)
        now = self.heartbeat = time.monotonic()
        if now >= self._next_deadline:
            self._close_late(now)
        if (
            self._accept_again is not None
            and now >= self._accept_again
            and self._listener is not None
        ):
            self._accept_again = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _patience_seconds(self) -> float:
        if self._answers:
            return 0.0
        now = time.monotonic()
        until = min(now + _HEARTBEAT_SECONDS, self._next_deadline)
        for moment in (self._accept_again, self._stop_at):
            if moment is not None:
                until = min(until, moment)
        # a millisecond more, for epoll rounds up and the clock does not
        return max(0.0, until - now + 0.001)

    def _is_answering(self) -> bool:
        return bool(self._answers) or any(
            connection.phase is _Phase.ANSWER for connection in self._connections.values()
        )

    def _guard(self, act: Callable[..., None], connection: _Connection, *arguments: object) -> None:
        """Let this connection's trouble, and a bug of ours that it finds, end this connection alone."""
        if connection.phase is _Phase.CLOSED:
            return
        try:
            act(connection, *arguments)
        except OSError:
            self._close(connection)
        except Exception as error:
            self._log(error)
            self._close(connection)

    def _log(self, error: Exception) -> None:
        """Log a bug with its traceback, once for each place."""
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        key = (type(error), place.tb_lineno if place is not None else 0)
        if key not in self._logged and len(self._logged) < 100:
            self._logged.add(key)
            log.error("serving failed, for one client", exc_info=error)

    # coming and going

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - registered, so it is there
        is_out_of_descriptors = False
        for _ in range(_WELCOMES_A_TURN):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError:
                # Out of descriptors. Who is of no use makes room; where nobody is here, the spare one does.
                if is_out_of_descriptors or not self._make_room():
                    self._selector.unregister(self._listener)
                    self._accept_again = time.monotonic() + _ACCEPT_PAUSE_SECONDS
                    return
                is_out_of_descriptors = True
                continue
            self._welcome(sock, address[0])

    def _make_room(self) -> bool:
        if self._shed():
            return True
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
            return True
        return False

    def _keep_spare(self) -> None:
        if self._spare < 0 and self._stop_at is None:
            with contextlib.suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _welcome(self, sock: socket.socket, address: str) -> None:
        while len(self._connections) >= self._max_connections and self._shed():
            pass
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            if self._tls is not None:
                sock = self._tls.context().wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
        except OSError:  # gone already
            sock.close()
            return
        phase, seconds = _Phase.REQUEST, self._deadlines.header_seconds
        if self._tls is not None:
            phase, seconds = _Phase.HANDSHAKE, self._deadlines.handshake_seconds
        connection = _Connection(sock, address, phase)
        self._connections[sock] = connection
        self._let_wait(connection, seconds)
        self._watch(connection)

    def _shed(self) -> bool:
        """Close the connection that has been of no use for longest: one that waits for nothing, if there is one."""
        oldest: dict[int, _Connection] = {}
        for connection in self._connections.values():
            rank = _SHED_RANKS[connection.phase]
            oldest.setdefault(rank, connection)
            if rank == 0:
                break
        if not oldest:
            return False
        self._close(oldest[min(oldest)])
        return True

    def _close_late(self, now: float) -> None:
        for connection in [one for one in self._connections.values() if now >= one.deadline]:
            if connection.phase is _Phase.PAGE:
                self._guard(self._give_up, connection)
            else:
                self._close(connection)
        self._next_deadline = min(
            (one.deadline for one in self._connections.values()), default=float("inf")
        )

    def _give_up(self, connection: _Connection) -> None:
        self._withdraw(connection)
        connection.close_after = True
        self._reply(connection, 503, b"no page could be made in time\n", _TEXT)
        self._advance(connection)

    def _withdraw(self, connection: _Connection) -> None:
        """Wait no more for what this connection has asked for."""
        if connection.ask is not None:
            with self._asks_lock:
                self._asks.pop(connection.ask, None)
            connection.ask = None
        if connection.credentials is not None and self._gate is not None:
            waiting = self._gate.waiting.get(connection.credentials)
            if waiting is not None:
                waiting.pop(connection, None)
            connection.credentials = None

    def _close(self, connection: _Connection) -> None:
        if self._connections.pop(connection.sock, None) is None:
            return
        self._withdraw(connection)
        connection.phase = _Phase.CLOSED
        connection.out.clear()
        connection.body = None
        self._watch(connection)
        connection.sock.close()
        self._keep_spare()

    def _close_listener(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _close_all(self) -> None:
        self._close_listener()
        for connection in list(self._connections.values()):
            self._close(connection)
        if self._gate is not None:
            self._gate.stop()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        self._selector.close()
        self._bell.close()
        self._bell_button.close()

    def _let_wait(
        self, connection: _Connection, seconds: float, *, until: float = float("inf")
    ) -> None:
        connection.deadline = min(time.monotonic() + seconds, until)
        self._next_deadline = min(self._next_deadline, connection.deadline)

    def _watch(self, connection: _Connection) -> None:
        """Wait for what this connection's phase waits for.

        While it is being answered, what it sends is read up to the cap, so that one that has gone is noticed.
        """
        phase = connection.phase
        can_take = not connection.is_at_end and len(connection.buffer) < MAX_HEADER_BYTES
        events = 0
        if phase in (_Phase.REQUEST, _Phase.LINGER, _Phase.HANDSHAKE):
            events = selectors.EVENT_READ
        elif phase is _Phase.PAGE:
            events = selectors.EVENT_READ if can_take else 0
        elif phase is _Phase.ANSWER:
            events = selectors.EVENT_WRITE | (selectors.EVENT_READ if can_take else 0)
        self._select(connection, events)

    def _select(self, connection: _Connection, events: int) -> None:
        if events == connection.events:
            return
        if not events:
            self._selector.unregister(connection.sock)
        elif connection.events:
            self._selector.modify(connection.sock, events, connection)
        else:
            self._selector.register(connection.sock, events, connection)
        connection.events = events

    # one connection

    def _serve(self, connection: _Connection, events: int) -> None:
        if connection.phase is _Phase.HANDSHAKE:
            self._shake_hands(connection)
            return
        if events & selectors.EVENT_READ:
            self._read(connection)
        self._advance(connection)

    def _shake_hands(self, connection: _Connection) -> None:
        import ssl

        assert isinstance(connection.sock, ssl.SSLSocket)  # noqa: S101 - only such a one begins with this phase
        try:
            connection.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._select(connection, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._select(connection, selectors.EVENT_WRITE)
        else:
            connection.phase = _Phase.REQUEST
            self._let_wait(connection, self._deadlines.header_seconds)
            self._watch(connection)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_READ_BYTES)
        except self._not_now:
            return
        phase = connection.phase
        if not data:
            connection.is_at_end = True
            if phase in (_Phase.REQUEST, _Phase.LINGER):
                self._close(connection)
            return
        if phase is _Phase.LINGER:
            return
        if phase is _Phase.REQUEST and not connection.buffer and connection.served:
            self._let_wait(connection, self._deadlines.header_seconds)
        connection.buffer += data

    def _advance(self, connection: _Connection) -> None:
        """Send what is to be sent, and answer what has come, one request after the other."""
        for _ in range(_REQUESTS_A_TURN):
            if connection.phase is _Phase.ANSWER:
                self._write(connection)
            if connection.phase is not _Phase.REQUEST:
                break
            header = _cut_header(connection.buffer, is_first=not connection.served)
            if header is None:
                break
            if isinstance(header, bytes):
                self._request(connection, header)
            else:
                self._refuse(connection, header)
        # where there was more than one turn's worth, an answer is left to write, and that is the next turn
        self._watch(connection)

    def _request(self, connection: _Connection, header: bytes) -> None:
        head = _read_head(header)
        if head is None:
            self._refuse(connection, 400)
            return
        connection.head = head
        connection.close_after = not head.is_kept
        if head.method not in (b"GET", b"HEAD"):
            self._refuse(connection, 405, b"Allow: GET, HEAD\r\n")
        elif head.has_body:
            self._refuse(connection, 413)
        elif head.path == "/health":
            self._reply(connection, *self._health(), _JSON)
        elif head.path == "/ready":
            self._reply(connection, *self._ready(), _JSON)
        elif self._gate is not None:
            self._check_user(connection, head, self._gate)
        else:
            self._page(connection, head)

    def _page(self, connection: _Connection, head: _Head) -> None:
        if head.path in self._still:
            body, content_type, more = self._still[head.path]
            self._reply(connection, 200, body, content_type, more)
        elif head.path not in self._pages:
            self._reply(connection, 404, _REFUSALS[404], _TEXT)
        elif self._ready()[0] != 200:
            self._reply(connection, 503, b"not ready: the logs are still being read\n", _TEXT)
        else:
            scraper = connection.address if head.method == b"GET" else None
            connection.ask = Ask(head.path, head.accept, scraper, connection)
            connection.phase = _Phase.PAGE
            self._let_wait(connection, self._deadlines.page_seconds)
            with self._asks_lock:
                self._asks[connection.ask] = None
            self._wake_loop()

    def _check_user(self, connection: _Connection, head: _Head, gate: _Gate) -> None:
        credentials = _read_credentials(head.authorization)
        if credentials is None:
            self._reply(connection, 401, _REFUSALS[401], _TEXT, _CHALLENGE)
            return
        digest = gate.digest(*credentials)
        if gate.knows(digest):
            self._page(connection, head)
        elif gate.check(digest, *credentials, connection):
            connection.credentials = digest
            connection.phase = _Phase.PAGE
            self._let_wait(connection, self._deadlines.page_seconds)
        else:
            self._reply(
                connection, 503, b"too many passwords to check\n", _TEXT, b"Retry-After: 1\r\n"
            )

    def _admit(self, connection: _Connection, is_right: bool) -> None:
        connection.credentials = None
        assert connection.head is not None  # noqa: S101 - it has asked for something
        connection.phase = _Phase.REQUEST
        if is_right:
            self._page(connection, connection.head)
        else:
            self._reply(connection, 401, _REFUSALS[401], _TEXT, _CHALLENGE)
        self._advance(connection)

    def _send_answers(self) -> None:
        newest: _Body | None = None
        while self._answers:
            asks, status, body, content_type = self._answers.popleft()
            for ask in asks:
                connection = ask.connection
                if connection.ask is ask:
                    connection.ask = None
                    self._guard(self._send_page, connection, status, body, content_type)
                    newest = connection.body or newest
        self._packed = None
        self._let_go_of_old_pages(newest)

    def _send_page(
        self, connection: _Connection, status: int, body: _Body, content_type: str
    ) -> None:
        self._reply(connection, status, body, content_type)
        self._advance(connection)

    def _let_go_of_old_pages(self, newest: _Body | None) -> None:
        """Close who has been reading an old page for longest, while the old pages are more than may be held."""
        readers = [
            (connection, connection.body)
            for connection in self._connections.values()
            if connection.phase is _Phase.ANSWER
            and connection.body is not None
            and connection.body is not newest
        ]
        holders = Counter(body for _, body in readers)
        held_bytes = sum([body.size for body in holders])
        for connection, body in readers:
            if held_bytes <= self._max_held_bytes:
                return
            holders[body] -= 1
            if not holders[body]:
                held_bytes -= body.size
            self._close(connection)

    def _refuse(self, connection: _Connection, status: int, more: bytes = b"") -> None:
        """Answer what is no request for us, and read no more of it."""
        connection.close_after = connection.refused = True
        self._reply(connection, status, _REFUSALS[status], _TEXT, more)

    def _reply(
        self,
        connection: _Connection,
        status: int,
        body: bytes | _Body,
        content_type: str,
        more: bytes = b"",
    ) -> None:
        body = body if isinstance(body, _Body) else _Body(body)
        head = connection.head
        if (
            head is not None
            and head.accepts_gzip
            and body.size >= _MIN_GZIP_BYTES
            and status == 200
        ):
            body = self._gzip(body)
            more += b"Content-Encoding: gzip\r\n"
        lines = (
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\n"
            f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}\r\n"
            f"Content-Type: {content_type}\r\n"
            f"Content-Length: {body.size}\r\n"
            f"Connection: {'close' if connection.close_after else 'keep-alive'}\r\n"
            "Vary: Accept, Accept-Encoding\r\n"
            "Cache-Control: no-store\r\n"
            "X-Content-Type-Options: nosniff\r\n"
        )
        fields = lines.encode("latin-1") + more + b"\r\n"
        if head is not None and head.method == b"HEAD":
            body = _Body(b"")
        if body.size <= _MAX_JOINED_BYTES:
            connection.out.append(memoryview(fields + body.whole()))
        else:
            connection.body = body
            connection.out.extend((memoryview(fields), memoryview(body.whole())))
        connection.head = None
        connection.phase = _Phase.ANSWER
        connection.answer_by = time.monotonic() + self._deadlines.answer_seconds
        self._let_wait(connection, self._deadlines.write_seconds, until=connection.answer_by)

    def _gzip(self, body: _Body) -> _Body:
        """Pack a page once for all who wait for it."""
        if self._packed is None or self._packed[0] is not body:
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            packed = [packer.compress(chunk) for chunk in body.chunks()]
            self._packed = (body, _Body(b"".join([*packed, packer.flush()])))
        return self._packed[1]

    def _write(self, connection: _Connection) -> None:
        out = connection.out
        while out:
            try:
                sent = connection.sock.send(out[0][:_WRITE_BYTES])
            except self._not_now:
                return
            if sent == len(out[0]):
                out.popleft()
            else:
                out[0] = out[0][sent:]
            self._let_wait(connection, self._deadlines.write_seconds, until=connection.answer_by)
        connection.body = None
        connection.served += 1
        if connection.refused and not connection.is_at_end:
            connection.sock.shutdown(socket.SHUT_WR)
            connection.buffer.clear()
            connection.phase = _Phase.LINGER
            self._let_wait(connection, self._deadlines.linger_seconds)
        elif connection.close_after or (connection.is_at_end and not connection.buffer):
            self._say_goodbye(connection)
            self._close(connection)
        else:
            connection.phase = _Phase.REQUEST
            deadlines = self._deadlines
            self._let_wait(
                connection,
                deadlines.header_seconds if connection.buffer else deadlines.idle_seconds,
            )
            self._connections[connection.sock] = self._connections.pop(connection.sock)

    def _say_goodbye(self, connection: _Connection) -> None:
        if self._tls is not None:
            # tells the client that nothing was cut off; whether it listens is its own affair
            with contextlib.suppress(OSError, ValueError):
                self._tls.say_goodbye(connection.sock)


_NOT_NOW: tuple[type[OSError], ...] = (BlockingIOError, InterruptedError)

_SHED_RANKS = {
    _Phase.LINGER: 0,
    _Phase.HANDSHAKE: 1,
    _Phase.REQUEST: 1,
    _Phase.ANSWER: 2,
    _Phase.PAGE: 3,
    _Phase.CLOSED: 4,
}
"""Who goes first when there is no room: those that have been served, then those that ask for nothing yet."""


def _default_max_connections() -> int:
    """Give 512, or half of the descriptors that we may have: the other half is for logs."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft_limit == resource.RLIM_INFINITY:
        return 512
    return max(8, min(512, soft_limit // 2))


# requests


@dataclass(frozen=True, slots=True)
class _Head:
    """What is taken from the header of a request."""

    method: bytes
    path: str
    is_kept: bool
    has_body: bool
    accept: str
    accepts_gzip: bool
    authorization: bytes


def _cut_header(buffer: bytearray, *, is_first: bool) -> bytes | int | None:
    """Take the next header out of what has come; a status where it will never be one, None where more must come."""
    while not is_first and buffer.startswith(
        b"\r\n"
    ):  # RFC 9112, 2.2: some clients end a request with one more
        del buffer[:2]
    if not buffer:
        return None
    if not 0x41 <= buffer[0] <= 0x5A:  # no method begins otherwise: TLS, or noise
        return 400
    end = buffer.find(b"\r\n\r\n")
    line_end = buffer.find(b"\r\n")
    if (line_end if line_end >= 0 else len(buffer)) > MAX_REQUEST_LINE_BYTES:
        return 414
    if (end if end >= 0 else len(buffer)) > MAX_HEADER_BYTES:
        return 431
    if end < 0:
        return None
    header = bytes(buffer[:end])
    del buffer[: end + 4]
    return header


def _read_head(header: bytes) -> _Head | None:
    """Read the header of a request; None where it is not one."""
    line, *field_lines = header.split(b"\r\n")
    parts = line.split(b" ")
    if (
        len(parts) != 3
        or parts[2] not in (b"HTTP/1.0", b"HTTP/1.1")
        or not parts[1].startswith(b"/")
    ):
        return None
    fields: dict[bytes, bytes] = {}
    for field_line in field_lines:
        name, colon, value = field_line.partition(b":")
        if not colon or not name or name != name.strip():
            return None
        name = name.lower()
        fields[name] = fields[name] + b"," + value.strip() if name in fields else value.strip()
    wishes = {wish.strip() for wish in fields.get(b"connection", b"").lower().split(b",")}
    return _Head(
        method=parts[0],
        path=parts[1].partition(b"?")[0].decode("ascii", "replace"),
        is_kept=b"close" not in wishes and (parts[2] == b"HTTP/1.1" or b"keep-alive" in wishes),
        has_body=fields.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in fields,
        accept=fields.get(b"accept", b"").decode("latin-1"),
        accepts_gzip=_accepts_gzip(fields.get(b"accept-encoding", b"")),
        authorization=fields.get(b"authorization", b""),
    )


def _accepts_gzip(value: bytes) -> bool:
    """Tell whether an Accept-Encoding field allows gzip, by its name or by `*`."""
    allowed: dict[bytes, bool] = {}
    for part in value.lower().split(b","):
        name, *parameters = (piece.strip() for piece in part.split(b";"))
        weights = [one.partition(b"=")[2].strip() for one in parameters if one.startswith(b"q")]
        allowed[name] = not weights or weights[0].strip(b"0.") != b""
    return allowed.get(b"gzip", allowed.get(b"*", False))


def _read_credentials(authorization: bytes) -> tuple[bytes, bytes] | None:
    """Take user and password out of an Authorization field; None where it is not Basic."""
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon else None


# users

_BCRYPT = re.compile(rb"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_MAX_CHECKS = 8
_MAX_CHECKS_AN_ADDRESS = 2
_MAX_KNOWN = 256


def read_users(path: Path) -> dict[str, bytes]:
    """Read `user:bcrypt-hash` lines; ValueError, one sentence, where they cannot be read or are not such.

    What `htpasswd -B` writes. Empty lines and those that begin with `#` are passed over.
    """
    try:
        # found missing here, with a sentence, and not at the first scrape
        importlib.import_module("bcrypt")
    except ImportError:
        raise ValueError("--auth-file: expected the package bcrypt to be installed") from None
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"--auth-file: expected a file that can be read, got {str(path)!r}: {reason}"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"--auth-file: expected text in UTF-8, got {str(path)!r}") from None
    users: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        user, _, hashed = line.rpartition(":")
        match = _BCRYPT.fullmatch(hashed.encode())
        # the line is not repeated: who writes a password in its place would find it in the log
        if not user or ":" in user or match is None or not 4 <= int(match[1]) <= 31:
            raise ValueError(
                f"--auth-file: expected user:bcrypt-hash in line {number} of {str(path)!r}"
            )
        if user in users:
            raise ValueError(
                f"--auth-file: expected each user once in {str(path)!r}, got one again in line {number}"
            )
        users[user] = hashed.encode()
    if not users:
        raise ValueError(
            f"--auth-file: expected at least one line user:bcrypt-hash in {str(path)!r}"
        )
    return users


class _Gate:
    """Checks passwords in a thread of its own, for one check takes as long as a thousand scrapes.

    Who has been right is known from then on by a keyed hash, so that a scraper pays once. A user who does not
    exist takes as long as one who does. All but `digest`'s key and the users belongs to the server's thread.
    """

    def __init__(self, users: Mapping[str, bytes], ring: Callable[[], None]) -> None:
        self._ring = ring
        self._known: dict[bytes, None] = {}
        """The oldest use first."""
        self.waiting: dict[bytes, dict[_Connection, None]] = {}
        """Digest → who waits for its verdict, in the order of their coming."""
        self._asked_by: dict[bytes, str] = {}
        self._checks: queue.SimpleQueue[tuple[bytes, bytes, bytes] | None] = queue.SimpleQueue()
        self._verdicts: deque[tuple[bytes, bool]] = deque()
        self._thread = threading.Thread(target=self._run, name="passwords", daemon=True)
        self.renew(users)

    def renew(self, users: Mapping[str, bytes]) -> None:
        """Take these users, and know nobody any more: with another key no digest is found again."""
        rounds = max((int(hashed[4:6]) for hashed in users.values()), default=12)
        self._users = {user.encode(): hashed for user, hashed in users.items()}, rounds
        self._key = os.urandom(32)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._checks.put(None)

    def digest(self, user: bytes, password: bytes) -> bytes:
        """Name this user and password, for as long as we run, by nothing that tells them."""
        lengths = len(user).to_bytes(4, "big")
        digest: bytes = blake2b(lengths + user + password, key=self._key, digest_size=32).digest()
        return digest

    def knows(self, digest: bytes) -> bool:
        if digest not in self._known:
            return False
        del self._known[digest]
        self._known[digest] = None
        return True

    def check(self, digest: bytes, user: bytes, password: bytes, connection: _Connection) -> bool:
        """Have it checked for this connection; False where too many are being checked."""
        if digest in self.waiting:
            self.waiting[digest][connection] = None
            return True
        addresses = list(self._asked_by.values())
        # one address that guesses must not take the places of all others
        if (
            len(addresses) >= _MAX_CHECKS
            or addresses.count(connection.address) >= _MAX_CHECKS_AN_ADDRESS
        ):
            return False
        self._asked_by[digest] = connection.address
        self.waiting[digest] = {connection: None}
        self._checks.put((digest, user, password))
        return True

    def take_verdicts(self) -> list[tuple[bytes, bool]]:
        verdicts = []
        while self._verdicts:
            digest, is_right = self._verdicts.popleft()
            self._asked_by.pop(digest, None)
            if is_right:
                while len(self._known) >= _MAX_KNOWN:
                    del self._known[next(iter(self._known))]
                self._known[digest] = None
            verdicts.append((digest, is_right))
        return verdicts

    def _run(self) -> None:
        # loaded where a file of users is given, and installed only where one is wanted
        bcrypt = importlib.import_module("bcrypt")
        while (check := self._checks.get()) is not None:
            digest, user, password = check
            users, rounds = self._users
            hashed = users.get(user)
            try:
                # bcrypt looks at 72 bytes, as htpasswd does, and refuses more
                is_equal = bcrypt.checkpw(
                    password[:72], hashed or bcrypt.gensalt(rounds) + b"." * 31
                )
            except ValueError:
                is_equal = False
            self._verdicts.append((digest, is_equal and hashed is not None))
            self._ring()


# certificates


class Tls:
    """A certificate and its key, read again when their files change; ValueError, one sentence, for bad ones."""

    def __init__(self, cert: Path, key: Path | None = None, client_ca: Path | None = None) -> None:
        import ssl

        self.not_now: tuple[type[OSError], ...] = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        """What is raised where the other side must send, or take, something first."""
        self._files = (cert, key, client_ca)
        self._stamp = self._stamp_of_files()
        self._context = tls_context(cert, key, client_ca)
        self._looked = time.monotonic()

    def context(self) -> ssl.SSLContext:
        """Give what the next connection is served with. The files are looked at once a second at the most."""
        now = time.monotonic()
        if now - self._looked >= 1.0:
            self._looked = now
            self.renew()
        return self._context

    def renew(self) -> bool:
        """Read the files again where they changed; bad ones are refused, and the old ones stay."""
        stamp = self._stamp_of_files()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._context = tls_context(*self._files)
        except ValueError as error:
            # also while they are being replaced, one after the other: the next change is looked at again
            log.warning("the certificates stay as they were: %s", error)
            return False
        log.info("certificates read again")
        return True

    def say_goodbye(self, sock: socket.socket) -> None:
        """End the session of a connection that was made with our context."""
        import ssl

        if isinstance(sock, ssl.SSLSocket):
            sock.unwrap()

    def _stamp_of_files(self) -> list[tuple[int, int, int]]:
        stamps = []
        for path in self._files:
            try:
                status = path.stat() if path is not None else None
            except OSError:
                status = None
            stamps.append(
                (status.st_mtime_ns, status.st_ino, status.st_size)
                if status is not None
                else (0, 0, 0)
            )
        return stamps


def tls_context(
    cert: Path, key: Path | None = None, client_ca: Path | None = None
) -> ssl.SSLContext:
    """Make what TLS 1.2 and newer is served with; ValueError, one sentence, for a bad file.

    With `client_ca`, clients must show a certificate of that authority: no other is known.
    """
    import ssl

    for option, path in (("--tls-cert", cert), ("--tls-key", key), ("--tls-client-ca", client_ca)):
        if path is not None:
            _must_be_readable(option, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # an encrypted key must fail, and not ask the terminal for its password
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(_blame(error, cert, key or cert)) from None
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        if not _holds_certificates(context, client_ca):
            raise ValueError(
                f"--tls-client-ca: expected certificates in PEM, got {str(client_ca)!r}"
            )
    return context


def _must_be_readable(option: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"{option}: expected a file that can be read, got {str(path)!r}: {reason}"
        ) from None


def _blame(error: Exception, cert: Path, key: Path) -> str:
    import ssl

    if not _holds_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert):
        return f"--tls-cert: expected certificates in PEM, got {str(cert)!r}"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"--tls-key: expected the key of the certificate in {str(cert)!r}, got {str(key)!r}"
    return f"--tls-key: expected a private key in PEM without a password, got {str(key)!r}"


def _holds_certificates(context: ssl.SSLContext, path: Path) -> bool:
    import ssl

    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        return False
    return True

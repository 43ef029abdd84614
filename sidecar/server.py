"""The port: one thread, every connection with a deadline, so that no client can delay a scrape.

The server moves bytes and nothing else. A page is made by the loop's thread, between two of its steps: the
server leaves an `Ask`, wakes the loop, and sends what the loop answers. Several asks that wait together are
answered from one moment. Nothing that a client sends is ever repeated to it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger("ai_sidecar")

PAGES = frozenset({"/metrics", "/"})
"""What the loop answers."""

MAX_HEADER_BYTES = 16 * 1024
_BACKLOG = 1024
_STATUS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_SECURITY = b"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A page that a client waits for."""

    path: str
    accept: str
    scraper: str
    """The address that asks, without its port."""
    connection: _Connection = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long a client may take, in seconds."""

    header_seconds: float = 5.0
    """From the first byte of a request, or the connection, to the end of its header."""
    idle_seconds: float = 30.0
    """Between two requests of a connection."""
    write_seconds: float = 10.0
    """For the whole answer to be taken."""
    page_seconds: float = 20.0
    """For the loop to make a page."""


class _Connection:
    __slots__ = ("address", "ask", "close_after", "deadline", "head_only", "header", "out", "served", "sock", "wants_gzip")

    def __init__(self, sock: socket.socket, address: str, deadline: float) -> None:
        self.sock = sock
        self.address = address
        self.deadline = deadline
        self.header = bytearray()
        self.out: deque[memoryview] = deque()
        self.ask: Ask | None = None
        self.close_after = False
        self.head_only = False
        self.wants_gzip = False
        self.served = 0


class Server:
    """Serves on one port from one thread of its own."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        wake: Callable[[], None],
        health: Callable[[], tuple[int, bytes]],
        ready: Callable[[], tuple[int, bytes]],
        deadlines: Deadlines | None = None,
        max_connections: int = 512,
    ) -> None:
        self._address = (host, port)
        self._wake_loop = wake
        self._health = health
        self._ready = ready
        self._deadlines = deadlines or Deadlines()
        self._max_connections = max_connections
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, _Connection] = {}
        self._asks: deque[Ask] = deque()
        self._answers: deque[tuple[list[Ask], int, bytes, str]] = deque()
        self._bell, self._bell_button = socket.socketpair()
        self._bell.setblocking(False)
        self._bell_button.setblocking(False)
        self._is_stopping = False
        self._accept_again = 0.0
        self._packed: tuple[bytes, bytes] = (b"", b"")
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self.port = port
        """The port that is served on; after `bind` the real one."""

    def bind(self) -> None:
        """Open the port; OSError where it cannot be had."""
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise OSError(f"--port: expected a port that is free, got {port} on {host}: {error.strerror or error}") from None
        listener.setblocking(False)
        self._listener = listener
        self.port = listener.getsockname()[1]

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Send what has been answered, as far as it goes within `seconds`, and close everything."""
        self._is_stopping = True
        self._ring()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self._listener is not None:
            self._listener.close()

    def take_asks(self) -> list[Ask]:
        """Give the pages that are waited for; each must be answered."""
        asks = []
        while self._asks:
            asks.append(self._asks.popleft())
        return asks

    def answer(self, asks: list[Ask], status: int, body: bytes, content_type: str) -> None:
        """Answer these asks with one page; any thread may call it."""
        self._answers.append((asks, status, body, content_type))
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell_button.send(b"!")

    def _run(self) -> None:
        assert self._listener is not None, "bind comes before start"  # noqa: S101 - a bug of the caller's
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        stop_at: float | None = None
        while True:
            for key, events in self._selector.select(self._patience()):
                if key.fileobj is self._bell:
                    with contextlib.suppress(BlockingIOError):
                        self._bell.recv(4096)
                elif key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, _Connection):
                    self._serve(key.data, events)
            self._send_answers()
            now = time.monotonic()
            self._close_late(now)
            if self._accept_again and now >= self._accept_again:
                self._accept_again = 0.0
                self._selector.register(self._listener, selectors.EVENT_READ)
            if self._is_stopping:
                stop_at = stop_at or now + 0.5
                if now >= stop_at or not any(connection.out for connection in self._connections.values()):
                    break
        for connection in list(self._connections.values()):
            self._close(connection)
        self._selector.close()

    def _patience(self) -> float:
        return 0.05 if self._is_stopping or self._accept_again else 0.5

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - bind has been called
        for _ in range(64):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # out of descriptors: give up a connection that does nothing, and look again shortly
                self._shed()
                self._selector.unregister(self._listener)
                self._accept_again = time.monotonic() + 0.05
                return
            if len(self._connections) >= self._max_connections:
                self._shed()
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(sock, address[0], time.monotonic() + self._deadlines.header_seconds)
            self._connections[sock] = connection
            self._selector.register(sock, selectors.EVENT_READ, connection)

    def _shed(self) -> None:
        """Close the connection that has been silent for longest: one that waits for nothing, if there is one."""
        for connection in self._connections.values():
            if connection.ask is None and not connection.out:
                self._close(connection)
                return
        for connection in self._connections.values():
            self._close(connection)
            return

    def _serve(self, connection: _Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._write(connection)
            elif events & selectors.EVENT_READ:
                self._read(connection)
        except OSError:
            self._close(connection)
        except Exception:
            # a bug of ours must cost this connection only, and be seen
            log.exception("serving a connection failed")
            self._close(connection)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(8192)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            self._close(connection)
            return
        if not connection.header and connection.served:
            connection.deadline = time.monotonic() + self._deadlines.header_seconds
        connection.header += data
        self._next_request(connection)

    def _next_request(self, connection: _Connection) -> None:
        """Take the next whole request out of what has come; one at a time."""
        if connection.ask is not None or connection.out:
            if len(connection.header) > MAX_HEADER_BYTES:
                self._close(connection)
            return
        end = connection.header.find(b"\r\n\r\n")
        if end < 0:
            if len(connection.header) > MAX_HEADER_BYTES:
                connection.close_after = True
                self._reply(connection, 431, b"the request is too long\n", _TEXT)
            return
        if end > MAX_HEADER_BYTES:
            connection.close_after = True
            self._reply(connection, 431, b"the request is too long\n", _TEXT)
            return
        header = bytes(connection.header[:end])
        del connection.header[: end + 4]
        self._request(connection, header)

    def _request(self, connection: _Connection, header: bytes) -> None:
        line, *field_lines = header.split(b"\r\n")
        parts = line.split(b" ")
        connection.head_only = False
        connection.wants_gzip = False
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1.") or not parts[1].startswith(b"/"):
            connection.close_after = True
            self._reply(connection, 400, b"this is no HTTP request\n", _TEXT)
            return
        fields: dict[bytes, bytes] = {}
        for field_line in field_lines:
            name, colon, value = field_line.partition(b":")
            if not colon:
                connection.close_after = True
                self._reply(connection, 400, b"this is no HTTP request\n", _TEXT)
                return
            name = name.strip().lower()
            fields[name] = fields[name] + b"," + value.strip() if name in fields else value.strip()
        asked = fields.get(b"connection", b"").lower()
        connection.close_after = asked == b"close" or (parts[2] == b"HTTP/1.0" and asked != b"keep-alive")
        if fields.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in fields:
            connection.close_after = True
            self._reply(connection, 413, b"a body is not expected\n", _TEXT)
            return
        if parts[0] not in (b"GET", b"HEAD"):
            connection.close_after = True
            self._reply(connection, 405, b"GET and HEAD alone\n", _TEXT, b"Allow: GET, HEAD\r\n")
            return
        connection.head_only = parts[0] == b"HEAD"
        connection.wants_gzip = _accepts_gzip(fields.get(b"accept-encoding", b""))
        path = parts[1].partition(b"?")[0].decode("ascii", "replace")
        if path == "/health":
            self._reply(connection, *self._health(), _JSON)
        elif path == "/ready":
            self._reply(connection, *self._ready(), _JSON)
        elif path not in PAGES:
            self._reply(connection, 404, b"not found\n", _TEXT)
        elif path == "/metrics" and self._ready()[0] != 200:
            self._reply(connection, 503, b"catching up\n", _TEXT)
        else:
            connection.ask = Ask(path, fields.get(b"accept", b"").decode("latin-1"), connection.address, connection)
            connection.deadline = time.monotonic() + self._deadlines.page_seconds
            self._asks.append(connection.ask)
            self._wake_loop()

    def _send_answers(self) -> None:
        while self._answers:
            asks, status, body, content_type = self._answers.popleft()
            for ask in asks:
                connection = ask.connection
                if connection.ask is ask:
                    connection.ask = None
                    self._reply(connection, status, body, content_type)

    def _reply(self, connection: _Connection, status: int, body: bytes, content_type: str, more: bytes = b"") -> None:
        if connection.wants_gzip and len(body) > 512 and status == 200:
            body = self._gzip(body)
            more += b"Content-Encoding: gzip\r\n"
        head = (
            f"HTTP/1.1 {status} {_STATUS[status]}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            f"Vary: Accept, Accept-Encoding\r\nConnection: {'close' if connection.close_after else 'keep-alive'}\r\n"
        )
        connection.out.append(memoryview(head.encode("latin-1") + _SECURITY + more + b"\r\n"))
        if not connection.head_only and body:
            connection.out.append(memoryview(body))
        connection.deadline = time.monotonic() + self._deadlines.write_seconds
        self._write(connection)

    def _gzip(self, body: bytes) -> bytes:
        """Pack a page once for all who wait for it."""
        if self._packed[0] is not body:
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            self._packed = (body, packer.compress(body) + packer.flush())
        return self._packed[1]

    def _write(self, connection: _Connection) -> None:
        out = connection.out
        try:
            while out:
                sent = connection.sock.send(out[0])
                if sent == len(out[0]):
                    out.popleft()
                else:
                    out[0] = out[0][sent:]
        except (BlockingIOError, InterruptedError):
            self._selector.modify(connection.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
            return
        except OSError:
            self._close(connection)
            return
        if connection.close_after:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)
            self._close(connection)
            return
        connection.served += 1
        connection.deadline = time.monotonic() + self._deadlines.idle_seconds
        with contextlib.suppress(KeyError, ValueError):
            self._selector.modify(connection.sock, selectors.EVENT_READ, connection)
        # served ones are shed last
        self._connections[connection.sock] = self._connections.pop(connection.sock)
        if connection.header:
            self._next_request(connection)

    def _close_late(self, now: float) -> None:
        for connection in [one for one in self._connections.values() if now > one.deadline]:
            if connection.ask is not None:
                connection.ask = None
                connection.close_after = True
                self._reply(connection, 503, b"no page could be made in time\n", _TEXT)
            else:
                self._close(connection)

    def _close(self, connection: _Connection) -> None:
        if self._connections.pop(connection.sock, None) is None:
            return
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.sock)
        connection.ask = None
        connection.sock.close()


def _accepts_gzip(value: bytes) -> bool:
    for part in value.lower().split(b","):
        name, _, parameters = part.partition(b";")
        if name.strip() == b"gzip":
            weight = parameters.replace(b" ", b"")
            return not (weight.startswith(b"q=0") and not weight.strip(b"q=0."))
    return False

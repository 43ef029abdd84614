"""Sends pages to a Pushgateway, for jobs that end before anyone scrapes them.

A thread of its own waits for the network, so that a gateway that is slow or away never delays the reading.
Only the newest page is worth sending: one that waits is replaced.
"""

from __future__ import annotations

import base64
import logging
import socket
import threading
import time
from http.client import HTTPException
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from prometheus_client.exposition import basic_auth_handler, default_handler

from .exposition import TEXT

log = logging.getLogger("ai_sidecar")

TIMEOUT_SECONDS = 10.0
"""How long one push may take; at the end what is left of the time to stop."""
RETRY_SECONDS = 0.2
"""How soon the last push is tried again."""


class Pusher:
    """Sends the newest page of those it is given."""

    def __init__(self, url: str, results: dict[str, int]) -> None:
        """`results` counts pushes by how they went, `success` or `failure`; ValueError for a URL that is none."""
        self._url, self._auth = _address(url)
        self._woken = threading.Condition()
        self._page: bytes | None = None
        self._deadline: float | None = None
        self._has_failed = False
        self._results = results
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def push(self, page: bytes) -> None:
        """Send a page in the text format, without waiting for it."""
        with self._woken:
            self._page = page
            self._woken.notify()

    def push_last(self, page: bytes, seconds: float) -> bool:
        """Send a page, trying again until it is there or the time has passed; tell whether it is."""
        with self._woken:
            self._page = page
            self._deadline = time.monotonic() + seconds
            self._woken.notify()
        self._thread.join(seconds)
        is_there = not self._thread.is_alive() and not self._has_failed
        if not is_there:
            log.error("the last figures did not reach the Pushgateway")
        return is_there

    def _run(self) -> None:
        while True:
            with self._woken:
                while self._page is None:
                    self._woken.wait()
                page, self._page, deadline = self._page, None, self._deadline
            if deadline is None:
                self._send(page, TIMEOUT_SECONDS)
                continue
            while (left := deadline - time.monotonic()) > 0:
                if self._send(page, left):
                    return
                time.sleep(min(RETRY_SECONDS, left))
            return

    def _send(self, page: bytes, timeout: float) -> bool:
        headers = [("Content-Type", TEXT)]
        try:
            if self._auth is not None:
                basic_auth_handler(self._url, "PUT", timeout, headers, page, *self._auth)()
            else:
                default_handler(self._url, "PUT", timeout, headers, page)()
        except (OSError, HTTPException) as error:
            # refused, timed out, no such host, no HTTP, and every status of 400 and more
            self._results["failure"] += 1
            if not self._has_failed:
                log.warning("the figures cannot be pushed, it is tried again: %s", error)
            self._has_failed = True
            return False
        self._results["success"] += 1
        if self._has_failed:
            log.info("the figures can be pushed again")
        self._has_failed = False
        return True


def _address(url: str) -> tuple[str, tuple[str, str] | None]:
    """Give where to PUT, and the user and password that the URL names.

    A URL without `/metrics/job/…` in its path gets this job and this host as its grouping key: pushes of
    two pods must not replace each other.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ValueError(
            f"--push-url: expected the http or https address of a Pushgateway, got {_hidden(url)!r}"
        )
    path = parts.path.rstrip("/")
    if "/metrics/job" not in path:
        path += f"/metrics/job/ai-sidecar/{_grouping('instance', socket.gethostname())}"
    netloc = f"[{host}]" if ":" in host else host
    netloc += f":{port}" if port is not None else ""
    auth = None
    if parts.username is not None:
        auth = unquote(parts.username), unquote(parts.password or "")
    return urlunsplit((parts.scheme, netloc, path, "", "")), auth


def _grouping(label: str, value: str) -> str:
    if value and "/" not in value:
        return f"{label}/{quote(value, safe='')}"
    # the Pushgateway's own way for what a path cannot hold
    return f"{label}@base64/{base64.urlsafe_b64encode(value.encode()).decode() or '='}"


def _hidden(url: str) -> str:
    """Give a URL as it may be shown: without its password."""
    before, at, after = url.rpartition("@")
    scheme, slashes, _ = before.partition("://")
    return f"{scheme}{slashes}…@{after}" if at else url

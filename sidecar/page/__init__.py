"""The page for people: one answer that holds all it needs, and what a browser may do with it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import NamedTuple

from ..digests import sha256

_HERE = Path(__file__).parent


class Page(NamedTuple):
    """A page that never changes."""

    body: bytes
    content_type: str
    fields: bytes
    """More lines of the header, each with its end."""


def load() -> Page:
    """Put the page together. What is not in it a browser neither runs, loads nor asks, but the sidecar itself."""
    style, script = ((_HERE / name).read_bytes() for name in ("page.css", "page.js"))
    body = (_HERE / "page.html").read_bytes()
    body = body.replace(b"/* page.css */", style).replace(b"/* page.js */", script)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    fields = (
        f"Content-Security-Policy: {policy}\r\n"
        "X-Frame-Options: DENY\r\n"
        "Referrer-Policy: no-referrer\r\n"
    )
    return Page(body, "text/html; charset=utf-8", fields.encode())


def _hash(content: bytes) -> str:
    return f"'sha256-{base64.b64encode(sha256(content).digest()).decode()}'"

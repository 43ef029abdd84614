"""Takes a line, or a record, out of its wrapper: the container runtime's, a shipper's, a logger's.

Formats and public sources:

- CRI: `TIME stdout|stderr P|F text` (kubernetes/cri-api, `pkg/kubelet/kuberuntime/logs`); the kubelet
  splits a line at 16 KiB into `P` fragments and a last `F`.
- Docker json-file: `{"log": "text\\n", "stream": "stdout", "time": "…"}`; a fragment's `log` has no newline.
- Shippers and loggers put the record, or its JSON text, under one of `INNER_KEYS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import orjson

from .fields import get

MAX_DEPTH = 4
"""How many wrappers are opened, one in the other."""

INNER_KEYS = (
    "log_processed",
    "jsonPayload",
    "textPayload",
    "log",
    "message",
    "msg",
    "MESSAGE",
    "@message",
    "record.extra",
    "record.message",
    "data",
    "payload",
)

_LIST_KEYS = ("logEvents", "records")
"""CloudWatch subscriptions and Azure exports hold many records in one."""

_CRI = re.compile(rb"\d{4}-\d\d-\d\dT\S+ (stdout|stderr) ([PF])(?::\S*)? ?(.*)\Z", re.DOTALL)


def cri(line: bytes) -> tuple[str, bool, bytes] | None:
    """Give (stream, whether the line ends here, text) of a CRI line; `None` where it is none."""
    match = _CRI.match(line)
    if match is None:
        return None
    return match[1].decode(), match[2] == b"F", match[3]


class _DockerLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    log: str
    stream: Literal["stdout", "stderr"]
    time: msgspec.Raw


_docker_lines = msgspec.json.Decoder(_DockerLine).decode_lines


def cri_texts(lines: list[bytes]) -> bytes | None:
    """Take CRI lines out of their wrappers at once; `None` where not all of them are unsplit CRI lines."""
    first = _CRI.match(lines[0]) if lines else None
    if first is None:
        return None
    day, space, start = lines[0][:11], lines[0].find(b" "), first.start(3)
    mark = lines[0][space:start]
    if first[2] != b"F" or not mark.endswith(b" "):
        return None
    # all as the first: the same day, a time as long, the same stream
    texts = [
        line[start:]
        for line in lines
        if line[space:start] == mark and line[:11] == day and line.find(b" ") == space
    ]
    if len(texts) != len(lines):
        return None
    texts.append(b"")
    return b"\n".join(texts)


def docker_texts(whole: bytes) -> str | None:
    """Take lines of Docker's out of their wrappers at once; `None` where not all of them are whole ones."""
    try:
        records = _docker_lines(whole)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    texts = [record.log for record in records]
    text = "".join(texts)
    # one newline each, and none but at the end
    is_whole = len(texts) == text.count("\n") and all(text.endswith("\n") for text in texts)
    return text if is_whole else None


def docker(record: Any) -> tuple[str, bool, bytes] | None:
    """Give (stream, whether the line ends here, text) of a Docker json-file record; `None` where it is none."""
    if type(record) is not dict or len(record) > 4:
        return None
    text, stream = record.get("log"), record.get("stream")
    if type(text) is not str or type(stream) is not str or "time" not in record:
        return None
    return stream, text.endswith("\n"), text.rstrip("\r\n").encode("utf-8", "replace")


def inner(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the records that lie one wrapper deeper in `record`: several only where one holds a list."""
    for key in _LIST_KEYS:
        entries = record.get(key)
        if type(entries) is list and entries and type(entries[0]) is dict:
            for entry in entries:
                if type(entry) is dict:
                    yield entry
            return
    for key in INNER_KEYS:
        value = get(record, key) if "." in key else record.get(key)
        opened = _opened(value)
        if opened is not None:
            yield from opened
            return


def _opened(value: Any) -> list[dict[str, Any]] | None:
    kind = type(value)
    if kind is dict:
        return [value]
    if kind is list:
        # journald writes a MESSAGE that is not printable as an array of byte values
        if not value or type(value[0]) is not int:
            return None
        try:
            value = bytes(value)
        except (TypeError, ValueError):
            return None
    elif kind is not str:
        return None
    text = value.strip()
    if text[:1] not in ("{", b"{", "[", b"["):
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if type(found) is dict:
        return [found]
    if type(found) is list:
        records = [entry for entry in found if type(entry) is dict]
        return records or None
    return None

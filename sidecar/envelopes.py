"""Takes a line, or a record, out of its wrapper: the container runtime's, a shipper's, a logger's.

Formats and public sources:

- CRI: `TIME stdout|stderr P|F text` (kubernetes/cri-api, `pkg/kubelet/kuberuntime/logs`); the kubelet
  splits a line at 16 KiB into `P` fragments and a last `F`.
- Docker json-file: `{"log": "text\\n", "stream": "stdout", "time": "…"}`; a fragment's `log` has no newline.
- Shippers and loggers put the record, or its JSON text, under one of `INNER_KEYS`; what Fluent Bit merges to the
  top (`Merge_Log On`) needs no opening.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, Literal

import msgspec
import orjson

from .fields import get, timestamp
from .lines import has_lines

MAX_DEPTH = 4
"""How many wrappers are opened, one in the other."""

INNER_KEYS = (
    "log_processed",  # Fluent Bit's `Merge_Log_Key` as its manual has it: parsed, and raw beside it
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
    "event",  # structlog's message; Splunk's record
    "line",  # Loki's
    "LogMessage",  # Azure Monitor's
    "LogEntry",
)
"""Where a shipper or a logger puts a record, an object or its JSON text; the first that somebody claims counts."""

_LIST_KEYS = ("logEvents", "records")
"""CloudWatch subscriptions and Azure exports hold many records in one."""

_INNER_HEADS = frozenset([key.partition(".")[0] for key in (*_LIST_KEYS, *INNER_KEYS)])

OPENED = frozenset(
    [end for key in (*_LIST_KEYS, *INNER_KEYS) for end in (key, key.rpartition(".")[2])]
)
"""The keys at whose values `inner` looks."""

_CRI = re.compile(rb"\d{4}-\d\d-\d\dT\S+ (stdout|stderr) ([PF])(?::\S*)? ?(.*)\Z", re.DOTALL)


def cri(line: bytes) -> tuple[str, bool, bytes] | None:
    """Give (stream, whether the line ends here, text) of a CRI line; `None` where it is none."""
    match = _CRI.match(line)
    if match is None:
        return None
    return match[1].decode(), match[2] == b"F", match[3]


_CRI_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\S{1,40}) (?:stdout|stderr) [PF]")
_DOCKER_TIME = re.compile(rb'"time"\s*:\s*"([^"]{1,40})"\s*[,}]')


def time_of(line: bytes) -> float | None:
    """Give when the runtime wrote a line, Unix seconds, from its wrapper; `None` where it has none."""
    match = _CRI_TIME.match(line)
    if match is None and line[:7] == b'{"log":':
        # the last one: what the program wrote comes before
        found = list(_DOCKER_TIME.finditer(line, max(0, len(line) - 120)))
        match = found[-1] if found else None
    return timestamp(match[1].decode("ascii", "replace")) if match is not None else None


class _DockerLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    log: str
    stream: Literal["stdout", "stderr"]
    time: msgspec.Raw


_AS_DIGITS = bytes(ord("0") if byte in b"0123456789" else byte for byte in range(256))
_docker_lines = msgspec.json.Decoder(_DockerLine).decode_lines
_last = itemgetter(-1)


def cri_texts(lines: list[bytes]) -> bytes | None:
    """Take CRI lines out of their wrappers at once; `None` where not all of them are unsplit CRI lines."""
    first = _CRI.match(lines[0]) if lines else None
    if first is None or first[2] != b"F":
        return None
    start = first.start(3)
    head = lines[0][:start].translate(_AS_DIGITS)
    # all as the first, but for digits: a time that is written alike, the same stream
    if b"".join([line[:start] for line in lines]).translate(_AS_DIGITS) != head * len(lines):
        return None
    texts = [line[start:] for line in lines]
    texts.append(b"")
    return b"\n".join(texts)


def docker_texts(whole: bytes) -> tuple[bytes, int] | None:
    """Take lines of Docker's out of their wrappers at once, and count them; `None` where not all are whole ones."""
    try:
        texts = [record.log for record in _docker_lines(whole)]
        # one newline each, and none but at the end
        if {*map(_last, texts)} != {"\n"}:
            return None
        text = "".join(texts).encode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError, IndexError):
        return None
    number = len(texts)
    return (text, number) if has_lines(text, number) and has_lines(whole, number) else None


def docker(record: Any) -> tuple[str, bool, bytes] | None:
    """Give (stream, whether the line ends here, text) of a Docker json-file record; `None` where it is none."""
    if type(record) is not dict or len(record) > 4:
        return None
    text, stream = record.get("log"), record.get("stream")
    # other streams would each want a buffer for their unfinished line
    if type(text) is not str or stream not in ("stdout", "stderr") or "time" not in record:
        return None
    return stream, text.endswith("\n"), text.rstrip("\r\n").encode("utf-8", "replace")


def inner(record: dict[str, Any]) -> Iterator[list[dict[str, Any]] | bytes]:
    """Give the records that may lie one wrapper deeper in `record`, place by place.

    Several records only where one holds a list. Bytes are the first line, `{` or `[`, of a record that is
    printed over many lines, each in a wrapper of its own.
    """
    if _INNER_HEADS.isdisjoint(record):
        return
    for key in _LIST_KEYS:
        entries = record.get(key)
        if type(entries) is list and entries and type(entries[0]) is dict:
            yield [entry for entry in entries if type(entry) is dict]
            return
    for key in INNER_KEYS:
        value = get(record, key) if "." in key else record.get(key)
        if not value:
            continue
        opened = _opened(value)
        if opened is not None:
            yield opened
            if key == "log_processed":  # what is beside it is the same, not parsed
                return


def decoded(text: bytes) -> Any:
    """Decode a line that may be no JSON: then `None`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def line(record: Any) -> bytes | None:
    """Give the line of text that lies in a shipper's or a logger's record; `None` where there is none."""
    for _ in range(MAX_DEPTH):
        if type(record) is not dict:
            return None
        for key in INNER_KEYS:
            value = get(record, key) if "." in key else record.get(key)
            text = _text(value) if value else None
            if text is not None:
                break
        else:
            return None
        if text[:1] != b"{" or len(text) < 3:
            return text
        record = decoded(text)
    return None


def _text(value: Any) -> bytes | None:
    if type(value) is str:
        return value.rstrip("\r\n").encode("utf-8", "replace")
    if type(value) is list and value and type(value[0]) is int:
        # journald writes a MESSAGE that is not printable as an array of byte values
        try:
            return bytes(value).rstrip(b"\r\n")
        except (TypeError, ValueError):
            return None
    return None


def _opened(value: Any) -> list[dict[str, Any]] | bytes | None:
    if type(value) is dict:
        return [value]
    if type(value) is str and value[0] not in "{[ \t\r\n":
        return None
    text = _text(value)
    if text is None:
        return None
    text = text.strip()
    if text[:1] not in (b"{", b"["):
        return None
    if len(text) == 1:
        return text
    found = decoded(text)
    if type(found) is dict:
        return [found]
    if type(found) is list:
        return [entry for entry in found if type(entry) is dict] or None
    return None

"""Every sample in every envelope: whoever carries a log away from its writer, the totals stay the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_samples import SAMPLES, totals

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples is not there")

FILES = sorted(
    path.relative_to(SAMPLES).as_posix()
    for folder in (SAMPLES.iterdir() if SAMPLES.is_dir() else ())
    if folder.is_dir() and folder.name != "envelopes"
    for path in folder.iterdir()
)
SPLIT_BYTES = 16 * 1024
"""Where the kubelet and Docker cut a line."""


def cri(line: bytes) -> Iterator[bytes]:
    """Wrap as containerd and CRI-O do: what is over 16 KiB comes in parts, the last marked `F`."""
    parts = [line[at : at + SPLIT_BYTES] for at in range(0, len(line), SPLIT_BYTES)] or [b""]
    for number, part in enumerate(parts):
        tag = b"F" if number == len(parts) - 1 else b"P"
        yield b"2026-11-24T10:00:00.123456789Z stdout %s %s" % (tag, part)


def docker(line: bytes) -> Iterator[bytes]:
    """Wrap as Docker's json-file driver does: a part of a line has no newline at its end."""
    text = line.decode()
    parts = [text[at : at + SPLIT_BYTES] for at in range(0, len(text), SPLIT_BYTES)] or [""]
    for number, part in enumerate(parts):
        log = part + ("\n" if number == len(parts) - 1 else "")
        yield dump({"log": log, "stream": "stderr", "time": "2026-11-24T10:00:00.123456789Z"})


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def parsed(line: bytes) -> dict[str, Any] | None:
    """Give what a shipper that parses JSON makes of a line: only objects are merged or nested."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


_POD: dict[str, Any] = {
    "stream": "stdout",
    "kubernetes": {"pod_name": "app-1", "namespace_name": "ai", "labels": {"app": "app"}},
}


def fluent_bit(line: bytes) -> dict[str, Any]:
    """Wrap as the kubernetes filter does with `Merge_Log Off`, behind a `tail` that knows CRI."""
    return {"date": 1780315200.123, "log": line.decode(), **_POD}


def fluent_bit_merged_under_a_key(line: bytes) -> dict[str, Any]:
    """`Merge_Log On`, `Merge_Log_Key log_processed`, `Keep_Log On`: parsed and raw, to be counted once."""
    value = parsed(line)
    under = {} if value is None else {"log_processed": value}
    return {"date": 1780315200.123, "log": line.decode(), **under, **_POD}


def fluent_bit_merged_to_the_top(line: bytes) -> dict[str, Any]:
    """`Merge_Log On`, `Keep_Log Off`: the record's own fields among the shipper's, which come last."""
    value = parsed(line)
    return {"log": line.decode(), **_POD} if value is None else {**_POD, **value}


def fluentd(line: bytes) -> dict[str, Any]:
    return {"message": line.decode(), "docker": {"container_id": "c"}, "tag": "kube.app"}


def journald(line: bytes) -> dict[str, Any]:
    return {
        "__REALTIME_TIMESTAMP": "1780315200123456",
        "PRIORITY": "6",
        "_SYSTEMD_UNIT": "app.service",
        "MESSAGE": line.decode(),
    }


def journald_bytes(line: bytes) -> dict[str, Any]:
    """A message with an ANSI colour or a control character in it is an array of byte values."""
    return {**journald(line), "MESSAGE": list(line)}


def cloud_logging(line: bytes) -> dict[str, Any]:
    value = parsed(line)
    payload = {"textPayload": line.decode()} if value is None else {"jsonPayload": value}
    labels = {"k8s-pod/app": "app"}
    resource = {"type": "k8s_container", "labels": {"project_id": "p"}}
    return {"insertId": "a1", **payload, "resource": resource, "labels": labels, "severity": "INFO"}


def cloud_logging_text(line: bytes) -> dict[str, Any]:
    return {"insertId": "a1", "textPayload": line.decode(), "timestamp": "2026-06-01T12:00:00Z"}


def cloud_watch(line: bytes) -> dict[str, Any]:
    event = {"id": "1", "timestamp": 1780315200123, "message": line.decode()}
    noise = {"id": "2", "timestamp": 1780315200124, "message": "REPORT RequestId: 1 Duration: 5 ms"}
    return {
        "messageType": "DATA_MESSAGE",
        "logGroup": "/aws/lambda/f",
        "logEvents": [noise, event, noise],
    }


def lambda_text(line: bytes) -> dict[str, Any]:
    """Lambda's JSON log format, of a program that logs JSON as text."""
    return {
        "timestamp": "2026-06-01T12:00:00Z",
        "level": "INFO",
        "message": line.decode(),
        "requestId": "9f2",
    }


def lambda_object(line: bytes) -> dict[str, Any]:
    """The same for Node.js, where what is logged stays an object."""
    return {**lambda_text(line), "message": parsed(line) or line.decode()}


def filebeat(line: bytes) -> dict[str, Any]:
    return {
        "@timestamp": "2026-06-01T12:00:00Z",
        "@metadata": {"beat": "filebeat", "type": "_doc", "version": "8.15.0"},
        "log": {"offset": 12, "file": {"path": "/var/log/app.log"}},
        "message": line.decode(),
        "host": {"name": "node-1"},
    }


def vector(line: bytes) -> dict[str, Any]:
    return {
        "file": "/var/log/app.log",
        "host": "node-1",
        "message": line.decode(),
        "source_type": "file",
        "timestamp": "2026-06-01T12:00:00Z",
    }


def pino(line: bytes) -> dict[str, Any]:
    return {"level": 30, "time": 1780315200123, "pid": 7, "hostname": "h", "msg": line.decode()}


def structlog(line: bytes) -> dict[str, Any]:
    return {"event": line.decode(), "level": "info", "timestamp": "2026-06-01T12:00:00Z"}


def loguru(line: bytes) -> dict[str, Any]:
    text = line.decode()
    return {
        "text": f"2026-06-01 12:00:00.000 | INFO | app:f:1 - {text}\n",
        "record": {
            "elapsed": {"repr": "0:00:01", "seconds": 1.0},
            "exception": None,
            "extra": {},
            "level": {"icon": "i", "name": "INFO", "no": 20},
            "message": text,
            "name": "app",
            "time": {"repr": "2026-06-01 12:00:00+00:00", "timestamp": 1780315200.0},
        },
    }


def python_json_logger(line: bytes) -> dict[str, Any]:
    return {"asctime": "2026-06-01 12:00:00,115", "levelname": "INFO", "message": line.decode()}


def zap(line: bytes) -> dict[str, Any]:
    return {"level": "info", "ts": 1780315200.123, "caller": "app/a.go:1", "msg": line.decode()}


def fluent_bit_of_a_logger(line: bytes) -> dict[str, Any]:
    """Three deep: the line in a logger's message, in Docker's file, in the shipper's."""
    inner = dump(python_json_logger(line)).decode()
    return {"date": 1780315200.123, "log": inner + "\n", **_POD}


RECORDS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    function.__name__: function
    for function in (
        fluent_bit,
        fluent_bit_merged_under_a_key,
        fluent_bit_merged_to_the_top,
        fluentd,
        journald,
        journald_bytes,
        cloud_logging,
        cloud_logging_text,
        cloud_watch,
        lambda_text,
        lambda_object,
        filebeat,
        vector,
        pino,
        structlog,
        loguru,
        python_json_logger,
        zap,
        fluent_bit_of_a_logger,
    )
}
BYTES: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "cri": cri,
    "docker": docker,
    "cri_of_fluent_bit": lambda line: cri(dump(fluent_bit(line))),
    "docker_of_pino": lambda line: docker(dump(pino(line))),
}
BARE: dict[str, dict[str, dict[str, int]]] = {}
"""What each file gives as it is, found once."""


def bare(name: str) -> dict[str, dict[str, int]]:
    if name not in BARE:
        BARE[name] = totals(SAMPLES / name)
    return BARE[name]


def lines_of(name: str) -> list[bytes]:
    return [line for line in (SAMPLES / name).read_bytes().split(b"\n") if line.strip()]


def is_printed(name: str) -> bool:
    """Tell whether the records of a file go over many lines."""
    return not {b"{", b"["}.isdisjoint(lines_of(name))


CASES = [
    (name, envelope)
    for name in FILES
    for envelope in (*BYTES, *RECORDS)
    # its lines would lie in one subscription with other lines between them
    if not (envelope == "cloud_watch" and is_printed(name))
]


@pytest.mark.parametrize(("name", "envelope"), CASES)
def test_a_sample_in_an_envelope_gives_the_same_totals(
    name: str, envelope: str, tmp_path: Path
) -> None:
    log = tmp_path / "wrapped.log"
    if envelope in BYTES:
        wrapped = [part for line in lines_of(name) for part in BYTES[envelope](line)]
    else:
        wrapped = [dump(RECORDS[envelope](line)) for line in lines_of(name)]
    log.write_bytes(b"".join([line + b"\n" for line in wrapped]))

    assert totals(log) == bare(name)


def test_the_samples_are_many() -> None:
    assert len(FILES) > 50
    assert sum([is_printed(name) for name in FILES]) >= 5


def test_the_streams_of_a_container_do_not_break_each_others_records(tmp_path: Path) -> None:
    """A program prints its spans on stdout, over many lines, and logs on stderr in between."""
    name = "gemini-cli/telemetry_outfile_pretty.log"
    printed = [part for line in lines_of(name) for part in cri(line)]
    noise = next(cri(b"a line of text")).replace(b"stdout", b"stderr")
    log = tmp_path / "0.log"
    log.write_bytes(b"".join([line + b"\n" + noise + b"\n" for line in printed]))

    assert totals(log) == bare(name)

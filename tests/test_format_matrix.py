"""All formats beside one another: no line of one is claimed by another's parser, and no ordinary log by any."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_samples import EXPECTED, SAMPLES, totals

from sidecar import ParseError, Request
from sidecar.config import Config
from sidecar.daemon import Sidecar
from sidecar.pipeline import Installed
from sidecar.plugins import load

PARSERS: list[Installed] = [
    one for one in load(["auto"], {}) if one.name != "generic" and one.is_ours
]
NAMES = frozenset(one.name for one in PARSERS)
OWNERS: dict[str, tuple[str, ...]] = {
    "apisix": ("apisix",),
    "app-loggers": (),
    "azure-openai-diag": ("azure",),
    "bedrock-invocation": ("bedrock_log",),
    "claude-code": ("claude_code",),
    "cloudflare-ai-gateway": ("cloudflare",),
    "codex": ("codex",),
    "copilot-cli": ("copilot",),
    "droid": ("droid",),
    "envelopes": (),
    "envoy-ai-gateway": ("envoy",),
    "gemini-cli": ("gemini_cli",),
    "gemini-cli-chat": ("gemini_cli",),
    "higress": ("higress",),
    "kimi": ("kimi",),
    "kong": ("kong",),
    "litellm": ("litellm",),
    "openai-agents": ("agents_sdk",),
    "openclaw": ("openclaw",),
    "otel-sdk-console": ("otel_console",),
    "otlp-json": ("otlp",),
    "pi": ("openclaw",),
    # a program's lines round bodies of many providers; the bodies' own parsers are asked for those alone
    "provider-bodies": (),
    "qwen-code": ("qwen_code",),
    "simonw-llm": ("llm",),
}
"""Who may claim a line of a folder of samples; beside them only `generic`."""
GOLDEN = Path(__file__).parent / "golden"


def values(path: Path) -> Iterator[Any]:
    """Give the JSON values of a file, one on a line or printed over many."""
    decoder, text = json.JSONDecoder(), path.read_text(encoding="utf-8")
    if any(line in ("{", "[") for line in text.splitlines()):
        at = 0
        while text[at:].strip():
            value, at = decoder.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
            yield value
        return
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def records(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for value in values(path):
        found += [
            one for one in (value if isinstance(value, list) else [value]) if type(one) is dict
        ]
    return found


def claimed(found: list[dict[str, Any]]) -> Counter[str]:
    """Tell how many lines of one file each parser would claim, were it asked first, with a memory of its own."""
    claims: Counter[str] = Counter()
    memories: dict[str, dict[str, Any]] = {one.name: {} for one in PARSERS}
    for record in found:
        for one in PARSERS:
            try:
                if one.parser(record, memories[one.name]) is not None:
                    claims[one.name] += 1
            except ParseError:
                claims[one.name] += 1
    return claims


FILES = sorted(
    path.relative_to(SAMPLES).as_posix()
    for folder in (SAMPLES.iterdir() if SAMPLES.is_dir() else ())
    if folder.is_dir()
    for path in folder.iterdir()
)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples is not there")
@pytest.mark.parametrize("name", FILES)
def test_no_line_of_a_sample_is_claimed_by_anothers_parser(name: str) -> None:
    found = records_of_sample(name)
    owners = OWNERS[name.partition("/")[0]]

    claims = claimed(found)

    assert {who: count for who, count in claims.items() if who not in owners} == {}


def records_of_sample(name: str) -> list[dict[str, Any]]:
    if name.endswith(".log") and "envelopes/" in name:
        return []  # the runtime's envelopes are no JSON, or are opened before a parser is asked
    return records(SAMPLES / name)


GOLDEN_FILES = sorted(path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*.jsonl"))


def owner_of(golden: str) -> str:
    """Tell whose a golden file is: its folder's, else the longest parser's name that it begins with."""
    folder, slash, _ = golden.partition("/")
    if slash:
        return folder
    name = golden.removesuffix(".jsonl")
    return max(
        [one for one in NAMES if name == one or name.startswith(f"{one}_")], key=len, default=""
    )


@pytest.mark.parametrize("golden", GOLDEN_FILES)
def test_no_golden_line_is_claimed_by_anothers_parser(golden: str) -> None:
    owner = owner_of(golden)

    claims = claimed(records(GOLDEN / golden))

    assert {who: count for who, count in claims.items() if who != owner} == {}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples is not there")
def test_every_sample_has_an_owner_and_every_format_is_installed() -> None:
    assert {name.partition("/")[0] for name in FILES} == OWNERS.keys()
    assert {owner for owners in OWNERS.values() for owner in owners} <= NAMES


TIME = "2026-06-01T12:00:00.123Z"
ORDINARY: dict[str, dict[str, Any]] = {
    "pino access": {
        "level": 30,
        "time": 1780315200123,
        "pid": 7,
        "hostname": "pod-1",
        "req": {"id": 1, "method": "POST", "url": "/api/orders", "headers": {"host": "shop"}},
        "res": {"statusCode": 200, "headers": {"content-type": "application/json"}},
        "responseTime": 12,
        "msg": "request completed",
    },
    "pino error": {
        "level": 50,
        "time": 1780315200123,
        "pid": 7,
        "hostname": "pod-1",
        "err": {"type": "Error", "message": "connect ECONNREFUSED", "stack": "Error: …", "code": 1},
        "msg": "queue is down",
    },
    "pino with a type and a message": {
        "type": "message",
        "message": {"role": "user", "content": "hi"},
        "id": "m1",
        "timestamp": TIME,
    },
    "pino of a session": {"type": "session", "id": "s1", "timestamp": TIME, "msg": "began"},
    "structlog": {"event": "user_logged_in", "user": "u1", "level": "info", "timestamp": TIME},
    "structlog with a model": {"event": "model_loaded", "model": "yolo", "level": "info"},
    "structlog of a job": {
        "event": "job",
        "run_type": "tool",
        "status": "success",
        "id": "j1",
        "start_time": TIME,
        "end_time": TIME,
    },
    "loguru": {
        "text": "2026-06-01 12:00:00 | INFO | app:f:1 - order paid\n",
        "record": {
            "elapsed": {"repr": "0:00:01", "seconds": 1.0},
            "exception": None,
            "extra": {"order": 17, "tokens": 3},
            "level": {"icon": "i", "name": "INFO", "no": 20},
            "message": "order paid",
            "name": "app",
            "time": {"repr": "2026-06-01 12:00:00+00:00", "timestamp": 1780315200.0},
        },
    },
    "python-json-logger": {
        "asctime": "2026-06-01 12:00:00,115",
        "levelname": "ERROR",
        "name": "app.db",
        "message": "query failed",
        "exc_info": "Traceback (most recent call last): TimeoutError",
        "duration": 3,
    },
    "python-json-logger with JSON that is no call": {
        "levelname": "INFO",
        "message": '{"order": 17, "status": 200, "latency_ms": 12.5}',
    },
    "zap": {
        "level": "info",
        "ts": 1780315200.123,
        "caller": "http/server.go:42",
        "msg": "handled",
        "method": "GET",
        "path": "/api/v1/models",
        "status": 200,
        "duration": 0.0042,
    },
    "zap error": {
        "level": "error",
        "ts": 1780315200.1,
        "msg": "x",
        "error": "context deadline exceeded",
    },
    "slog": {
        "time": TIME,
        "level": "INFO",
        "msg": "request",
        "method": "GET",
        "status": 404,
        "duration": 4200000,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    },
    "zerolog": {
        "level": "warn",
        "component": "cache",
        "elapsed": 12.5,
        "time": 1780315200,
        "message": "cache miss",
    },
    "nginx json": {
        "time_local": "01/Jun/2026:12:00:00 +0000",
        "remote_addr": "10.0.0.1",
        "request": "GET /index.html HTTP/1.1",
        "status": "200",
        "body_bytes_sent": "512",
        "request_time": "0.012",
        "upstream_response_time": "0.010",
        "http_user_agent": "curl/8",
    },
    "envoy": {
        "start_time": TIME,
        "method": "GET",
        "path": "/",
        "response_code": 200,
        "response_flags": "-",
        "duration": 12,
        "x-request-id": "9f2",
        "upstream_cluster": "shop",
    },
    "kong without an AI plugin": {
        "started_at": 1780315200123,
        "latencies": {"request": 12, "proxy": 10, "kong": 2},
        "request": {"uri": "/", "method": "GET"},
        "response": {"status": 200},
        "service": {"name": "shop"},
    },
    "caddy": {
        "level": "info",
        "ts": 1780315200.1,
        "logger": "http.log.access",
        "msg": "handled request",
        "request": {"method": "GET", "uri": "/"},
        "duration": 0.004,
        "size": 10,
        "status": 200,
    },
    "logstash": {
        "@timestamp": TIME,
        "@version": "1",
        "message": "Started Application in 2.3 seconds",
        "logger_name": "com.acme.App",
        "level": "INFO",
    },
    "ecs": {
        "@timestamp": TIME,
        "log.level": "info",
        "message": "ok",
        "event": {"dataset": "app", "duration": 12},
        "service": {"name": "a"},
    },
    "azure activity": {
        "time": TIME,
        "resourceId": "/SUBSCRIPTIONS/X",
        "operationName": "Microsoft.Compute/virtualMachines/write",
        "category": "Administrative",
        "resultType": "Success",
        "durationMs": 12,
        "properties": {"statusCode": "Created"},
    },
    "cloud audit": {
        "protoPayload": {"methodName": "v1.compute.instances.insert", "status": {}},
        "insertId": "a",
        "resource": {"type": "gce_instance"},
        "timestamp": TIME,
    },
    "a span of HTTP": {
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "spanId": "00f067aa0ba902b7",
        "type": "SPAN",
        "name": "GET /",
        "duration_ms": 12,
    },
    "an event of analytics": {
        "event": "page_view",
        "properties": {"path": "/", "tokens": 5},
        "user_id": "u",
        "time": 1780315200,
    },
    "an event of a message bus": {
        "type": "order.created",
        "id": "e1",
        "data": {"id": 17, "usage": {"input": 3}},
        "timestamp": TIME,
    },
    "a chat message": {
        "type": "message",
        "role": "assistant",
        "text": "hi",
        "id": "m1",
        "timestamp": TIME,
    },
    "a metric of usage": {
        "type": "usage.record",
        "tenant": "t",
        "bytes": 12,
        "time": 1780315200123,
    },
    "a list of data": {"data": [{"id": 1}, {"id": 2}], "meta": {"page": 1}},
    "a trace of another kind": {"object": "trace", "id": "t1"},
    "a bare result": {"type": "result", "success": True, "duration_ms": 12},
}
"""Lines of programs that have nothing to do with models, some of whose words are those of a format."""


USAGE = {"prompt_tokens": 12, "completion_tokens": 3}
CALLS: dict[str, dict[str, Any]] = {
    "of a type that Kimi has too": {"type": "llm.request", "time": 1780315200123},
    "of a turn": {"type": "turn.completed", "time": 1780315200123},
    "of a message": {"type": "message", "id": "m1", "timestamp": TIME, "session_id": "s1"},
    "of a session": {"sessionID": "s1", "agent": "build", "timestamp": TIME},
    "of an event": {"event": "message_send", "time": 1780315200},
    "of a conversation": {"conversation_id": "c1", "prompt": "hi", "datetime_utc": TIME},
    "of a run": {"run_type": "llm", "trace_id": "t1"},
    "of a generation": {"type": "GENERATION", "traceId": "t1"},
    "of a span": {"object": "span", "trace_id": "t1", "started_at": TIME},
    "of a request": {"requestId": "r1", "sessionId": "s1", "timestamp": TIME},
    "of a gateway": {"response_code": 200, "duration": 12, "x-request-id": "r1"},
}
"""Lines of a program of its own on a call to a model, with words that a format has as well."""


@pytest.mark.parametrize("name", CALLS)
def test_a_programs_own_line_on_a_call_is_left_to_generic(name: str, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    line = {**CALLS[name], "model": "gpt-4o", "status": 200, "latency_ms": 812, "usage": USAGE}
    log.write_text(json.dumps(line) + "\n", encoding="utf-8")

    found = totals(log)

    assert (found["gpt-4o"]["requests"], found["gpt-4o"]["input_total"]) == (1, 12)


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_log_is_no_request(name: str, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text(json.dumps(ORDINARY[name]) + "\n", encoding="utf-8")

    assert totals(log) == {}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_log_between_the_lines_of_any_format_is_no_request(
    name: str, tmp_path: Path
) -> None:
    """A program logs beside what its client writes: what a parser remembers must not claim the next line."""
    for golden in GOLDEN_FILES:
        alone, mixed = tmp_path / "alone.log", tmp_path / "mixed.log"
        lines = (GOLDEN / golden).read_text(encoding="utf-8").splitlines()
        alone.write_text("".join([line + "\n" for line in lines]), encoding="utf-8")
        between = json.dumps(ORDINARY[name])
        mixed.write_text("".join([f"{line}\n{between}\n" for line in lines]), encoding="utf-8")

        assert totals(mixed) == totals(alone), golden


COPIES = {
    # spans of one run of the program, written by an exporter to a file and by one to the console
    ("otlp-json/openinference_spans.jsonl", "otel-sdk-console/openinference_console.jsonl"),
    ("otlp-json/traceloop_spans.jsonl", "otel-sdk-console/traceloop_console.jsonl"),
    # one run's transcript, and what it printed
    ("claude-code/cli_print_stream_json.jsonl", "claude-code/cli_2.1.197_real_1.jsonl"),
    # one export, as an array over many lines and as lines
    ("simonw-llm/llm_logs_json.json", "simonw-llm/llm_logs_as_lines.jsonl"),
    # written by hand, with the same message id in both
    ("claude-code/ccl_representative_messages.jsonl", "claude-code/ccl_edge_cases.jsonl"),
}
"""Pairs of samples that tell some of the same requests: in one directory those count once."""


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples is not there")
def test_all_samples_in_one_directory_give_the_sum_of_what_each_gives(tmp_path: Path) -> None:
    expected: list[Request] = []
    first_in: dict[str, str] = {}
    copies: set[tuple[str, str]] = set()
    told_twice: set[str] = set()
    for number, name in enumerate(EXPECTED):
        for request in requests_of(SAMPLES / name):
            before = first_in.get(request.id or "")
            if before is not None:
                copies.add((name, before))
                told_twice.add(str(request.id))
                continue
            if request.id is not None:
                first_in[request.id] = name
            expected.append(request)
        copy = tmp_path / f"{number:03}-{name.replace('/', '-')}"
        shutil.copyfile(SAMPLES / name, copy)

    found = requests_of(tmp_path)

    assert copies == COPIES
    assert Counter(told(found, told_twice)) == Counter(told(expected, told_twice))


def requests_of(path: Path) -> list[Request]:
    told: list[Request] = []
    sidecar = Sidecar(
        Config(log_paths=(str(path),)), version="test", observe=lambda one, _: told.append(one)
    )
    sidecar.read_all()
    return told


def told(requests: list[Request], told_twice: set[str]) -> list[str]:
    """Give each request as text; of what two files tell, which of them is first is not our affair."""
    return [one.id if one.id and one.id in told_twice else repr(one) for one in requests]

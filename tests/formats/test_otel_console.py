"""The SDKs' console exporters: Python's, Go's and JavaScript's objects."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_samples import EXPECTED as SURVEY
from test_samples import SAMPLES, expected_totals, totals

from parsers import gemini_cli, otel_console, otlp, qwen_code
from sidecar import Request

GOLDEN = Path(__file__).parents[1] / "golden" / "otel_console.jsonl"
EMPTY = msgspec.structs.asdict(Request())
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5-mini",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
}
RESOURCE = {"attributes": {"service.name": "shop"}}
TRACE, SPAN = "a" * 32, "b" * 16
EXPECTED = Request(
    provider="openai",
    model="gpt-5-mini",
    endpoint="chat",
    duration_seconds=2.0,
    input_tokens=100,
    output_tokens=20,
    timestamp=1_760_000_002.0,
    trace_id=TRACE,
    id=f"{TRACE}:{SPAN}",
)


def plain(request: Request) -> dict[str, Any]:
    fields = msgspec.structs.asdict(request)
    return {name: of for name, of in fields.items() if of != EMPTY[name]}


def only(record: Any) -> Request:
    (request,) = otel_console.parse(record, {}) or ()
    return request


PYTHON: dict[str, Any] = {
    "name": "chat gpt-5-mini",
    "context": {"trace_id": f"0x{TRACE}", "span_id": f"0x{SPAN}", "trace_state": "[]"},
    "kind": "SpanKind.CLIENT",
    "parent_id": None,
    "start_time": "2025-10-09T08:53:20.000000Z",
    "end_time": "2025-10-09T08:53:22.000000Z",
    "status": {"status_code": "UNSET"},
    "attributes": CHAT,
    "events": [],
    "links": [],
    "resource": RESOURCE,
}
JAVASCRIPT = {
    "resource": RESOURCE,
    "instrumentationScope": {"name": "ai"},
    "traceId": TRACE,
    "name": "chat gpt-5-mini",
    "id": SPAN,
    "kind": 2,
    "timestamp": 1_760_000_000_000_000,
    "duration": 2_000_000,
    "attributes": CHAT,
    "status": {"code": 0},
    "events": [],
    "links": [],
}
IN_MEMORY = {
    "_spanContext": {"traceId": TRACE, "spanId": SPAN, "traceFlags": 1},
    "kind": 2,
    "attributes": CHAT,
    "links": [],
    "events": [],
    "startTime": [1_760_000_000, 0],
    "resource": {"_rawAttributes": []},
    "instrumentationScope": {"name": "ai"},
    "name": "chat gpt-5-mini",
    "status": {"code": 0},
    "endTime": [1_760_000_002, 0],
    "_ended": True,
    "_duration": [2, 0],
}
GO = {
    "Name": "chat gpt-5-mini",
    "SpanContext": {"TraceID": TRACE, "SpanID": SPAN, "TraceFlags": "01", "Remote": False},
    "Parent": {"TraceID": "0" * 32, "SpanID": "0" * 16},
    "SpanKind": 3,
    "StartTime": "2025-10-09T08:53:20Z",
    "EndTime": "2025-10-09T08:53:22Z",
    "Attributes": [
        {"Key": key, "Value": {"Type": "INT64" if isinstance(of, int) else "STRING", "Value": of}}
        for key, of in CHAT.items()
    ],
    "Events": None,
    "Links": None,
    "Status": {"Code": "Unset", "Description": ""},
    "InstrumentationScope": {"Name": "acme"},
}


def test_golden_objects_of_the_real_exporters_give_what_is_written_beside_them() -> None:
    expected = json.loads(GOLDEN.with_suffix(".expected.json").read_text(encoding="utf-8"))
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()

    found = [
        [plain(one) for one in otel_console.parse(json.loads(line), {}) or ()] for line in lines
    ]

    assert expected == found


@pytest.mark.parametrize(
    "record", [PYTHON, JAVASCRIPT, IN_MEMORY, GO], ids=["python", "javascript", "in memory", "go"]
)
def test_each_shape_tells_the_same(record: dict[str, Any]) -> None:
    assert only(record) == EXPECTED


@pytest.mark.parametrize(
    "record",
    [
        {
            **PYTHON,
            "status": {"status_code": "ERROR", "description": "Error code: 429 - too fast"},
            "events": [
                {
                    "name": "exception",
                    "timestamp": "2025-10-09T08:53:22.000000Z",
                    "attributes": {"exception.type": "openai.RateLimitError"},
                }
            ],
        },
        {**JAVASCRIPT, "status": {"code": 2, "message": "Error code: 429 - Rate limit reached"}},
        {**GO, "Status": {"Code": "Error", "Description": "status 429, rate limit"}},
    ],
    ids=["python", "javascript", "go"],
)
def test_each_shape_tells_a_failure(record: dict[str, Any]) -> None:
    request = only(record)

    assert (request.status_code, request.error_type) == ("429", "rate_limit")


def test_the_first_token_is_an_event() -> None:
    event = {"name": "First Token Stream Event", "attributes": {}}
    python = {**PYTHON, "events": [{**event, "timestamp": "2025-10-09T08:53:20.500000Z"}]}
    javascript = {**JAVASCRIPT, "events": [{**event, "time": [1_760_000_000, 500_000_000]}]}

    assert only(python).time_to_first_token_seconds == 0.5
    assert only(javascript).time_to_first_token_seconds == 0.5


def test_the_id_is_that_of_the_same_span_in_otlp() -> None:
    pairs = [{"key": key, "value": {"stringValue": str(of)}} for key, of in CHAT.items()]
    span = {"traceId": TRACE, "spanId": SPAN, "attributes": pairs}
    (request,) = otlp.parse({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}, {}) or ()

    assert only(PYTHON).id == request.id


def test_a_javascript_log_record_is_read() -> None:
    record = {
        "resource": RESOURCE,
        "instrumentationScope": {"name": "ai"},
        "timestamp": 1_760_000_002_000_000,
        "traceId": TRACE,
        "spanId": SPAN,
        "severityNumber": 9,
        "body": "",
        "eventName": "gen_ai.client.inference.operation.details",
        "attributes": CHAT,
    }

    request = only(record)

    assert (request.input_tokens, request.timestamp) == (100, 1_760_000_002.0)


def test_spans_that_are_no_model_calls_are_recognised() -> None:
    assert otel_console.parse({**PYTHON, "attributes": {"http.route": "/"}}, {}) == []


@pytest.mark.parametrize(
    "record",
    [
        {"trace_id": TRACE, "span_id": SPAN, "level": "info", "event": "x", "attributes": {}},
        {"name": "x", "attributes": {"a": 1}, "resource": {}, "timestamp": 1},
        {"resource": {"type": "k8s_container"}, "timestamp": "2026-01-01T00:00:00Z", "severity": 1},
        {"SpanContext": {}},
        {"attributes": CHAT},
        {**CHAT, "response_code": 200},
    ],
)
def test_another_record_is_not_claimed(record: dict[str, Any]) -> None:
    assert otel_console.parse(record, {}) is None


@pytest.mark.parametrize("scope", ["gemini-cli", "qwen-code"])
def test_the_clis_files_of_the_same_shape_are_left_to_their_parsers(scope: str) -> None:
    record = {**IN_MEMORY, "instrumentationScope": {"name": scope}}
    theirs = {"gemini-cli": gemini_cli.parse, "qwen-code": qwen_code.parse}

    assert otel_console.parse(record, {}) is None
    assert theirs[scope](record, {}) == []


def test_objects_printed_over_many_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    lines = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(line, indent=4) + "\n" for line in lines))

    assert sum(row["requests"] for row in totals(path).values()) == 5


@pytest.mark.parametrize(
    "name", [name for name in SURVEY if name.split("/")[0] in ("otel-sdk-console",)]
)
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    assert totals(SAMPLES / name) == expected_totals(name)


if __name__ == "__main__":  # writes what comes out now; read the difference
    lines = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    out = [[plain(one) for one in otel_console.parse(line, {}) or ()] for line in lines]
    GOLDEN.with_suffix(".expected.json").write_text(json.dumps(out, indent=1) + "\n")
    sys.exit()

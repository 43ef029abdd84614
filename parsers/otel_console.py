"""OpenTelemetry SDKs' console exporters: their spans and log records, on one line or printed over many.

Turn it on: with Python's `ConsoleSpanExporter` and `ConsoleLogExporter` (`ConsoleLogRecordExporter`), Go's `stdouttrace`, and
JavaScript's, where a program writes the exported object, or the span itself, as JSON (the JavaScript
console exporter as it is prints no JSON). What the attributes mean is told in `parsers.otlp`.

Traps: objects are printed over many lines, back to back; a span's ids begin with `0x` in Python; times are
ISO 8601 (Python, Go), microseconds or `[seconds, nanoseconds]` (JavaScript). The files of Gemini CLI and
Qwen Code have the same shape and are left to their own parsers.

Cannot tell: what the instrumentation does not: mostly cost, an HTTP status, what is left of a rate limit, and often
the time to the first token.

Sources: https://github.com/open-telemetry/opentelemetry-python (sdk/trace/__init__.py `to_json`,
sdk/_logs/_internal/__init__.py `to_json`), https://github.com/open-telemetry/opentelemetry-js
(ConsoleSpanExporter.ts, Span.ts), https://github.com/open-telemetry/opentelemetry-go (exporters/stdout)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parsers.otlp import Span, ident, moment, read_event, read_spans
from sidecar import Memory, Record, Request, fields

_THEIRS = frozenset({"gemini-cli", "qwen-code"})
_LEVELS = ("severity_number", "severityNumber", "severity_text", "severityText", "_severityNumber")


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a span or a log record; one of metrics gives no request."""
    if "SpanContext" in record and type(record.get("SpanContext")) is dict:
        return read_spans([_go(record)], memory) if "StartTime" in record else None
    attributes = record.get("attributes")
    if type(attributes) is not dict:
        return None
    scope = fields.get(record, "instrumentationScope.name") or fields.get(
        record, "instrumentationLibrary.name"
    )
    event = attributes.get("event.name")
    is_theirs = type(event) is str and event.startswith(("gemini_cli.", "qwen-code."))
    if is_theirs or (type(scope) is str and scope in _THEIRS):
        return None
    if type(fields.get(record, "context.trace_id")) is str and "start_time" in record:
        return read_spans([_python(record, attributes)], memory)
    if "resource" not in record:
        return None
    is_span = type(record.get("name")) is str and "links" in record and "events" in record
    if is_span and ("duration" in record or "_duration" in record):
        return read_spans([_javascript(record, attributes)], memory)
    is_python = "trace_id" in record and "severity_number" in record
    is_javascript = "instrumentationScope" in record and (
        "hrTime" in record or "timestamp" in record
    )
    if (is_python or is_javascript) and any(key in record for key in ("body", "_body", *_LEVELS)):
        return read_event(_log(record, attributes), _names(record), memory)
    return None


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def _events(container: Record, key: str, names: tuple[str, str, str]) -> list[Any]:
    found = container.get(key)
    events = [one for one in found if type(one) is dict] if type(found) is list else []
    name, time, attributes = names
    return [
        (
            one.get(name),
            moment(one.get(time)),
            _pairs(one.get(attributes)),
        )
        for one in events
    ]


def _python(record: Record, attributes: Record) -> Span:
    return Span(
        name=_text(record.get("name")),
        attributes=attributes,
        trace_id=ident(fields.get(record, "context.trace_id")),
        span_id=ident(fields.get(record, "context.span_id")),
        parent_id=ident(record.get("parent_id")),
        started=moment(record.get("start_time")),
        ended=moment(record.get("end_time")),
        status=fields.get(record, "status.status_code"),
        message=fields.get(record, "status.description"),
        events=_events(record, "events", ("name", "timestamp", "attributes")),
    )


def _javascript(record: Record, attributes: Record) -> Span:
    started = moment(record.get("timestamp") or record.get("startTime"))
    ended = moment(record.get("endTime"))
    micros = fields.count(record.get("duration"))
    if ended is None and started is not None and micros is not None:
        ended = started + micros * 1000

    def first(*paths: str) -> str | None:
        return next((found for path in paths if (found := ident(fields.get(record, path)))), None)

    return Span(
        name=_text(record.get("name")),
        scope=_text(fields.get(record, "instrumentationScope.name")),
        attributes=attributes,
        trace_id=first("traceId", "_spanContext.traceId", "spanContext.traceId"),
        span_id=first("id", "_spanContext.spanId", "spanContext.spanId"),
        parent_id=first("parentSpanContext.spanId", "parentSpanId", "parentId"),
        started=started,
        ended=ended,
        status=fields.get(record, "status.code"),
        message=fields.get(record, "status.message"),
        events=_events(record, "events", ("name", "time", "attributes")),
    )


def _go(record: Record) -> Span:
    return Span(
        name=_text(record.get("Name")),
        scope=_text(fields.get(record, "InstrumentationScope.Name")),
        attributes=_pairs(record.get("Attributes")),
        trace_id=ident(fields.get(record, "SpanContext.TraceID")),
        span_id=ident(fields.get(record, "SpanContext.SpanID")),
        parent_id=ident(fields.get(record, "Parent.SpanID")),
        started=moment(record.get("StartTime")),
        ended=moment(record.get("EndTime")),
        status=fields.get(record, "Status.Code"),
        message=fields.get(record, "Status.Description"),
        events=_events(record, "Events", ("Name", "Time", "Attributes")),
    )


def _pairs(value: Any) -> Record:
    """Read attributes: an object, or Go's `[{"Key": …, "Value": {"Type": …, "Value": …}}]`."""
    if type(value) is dict:
        return value
    return {
        pair["Key"]: fields.get(pair, "Value.Value")
        for pair in (value if type(value) is list else ())
        if type(pair) is dict and type(pair.get("Key")) is str
    }


def _names(record: Record) -> list[Any]:
    return [record.get(key) for key in ("event_name", "eventName", "body", "_body")]


def _log(record: Record, attributes: Record) -> Span:
    context = record.get("spanContext")
    ids = context if type(context) is dict else record
    return Span(
        scope=_text(fields.get(record, "instrumentationScope.name")),
        attributes=attributes,
        trace_id=ident(ids.get("trace_id") or ids.get("traceId")),
        span_id=ident(ids.get("span_id") or ids.get("spanId")),
        ended=moment(record.get("timestamp") or record.get("hrTime"))
        or moment(record.get("observed_timestamp")),
    )


parse.keys = {"SpanContext": dict, "attributes": dict}  # type: ignore[attr-defined] # a function's own attribute

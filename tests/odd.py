"""Records that no gateway's parser may claim, and those in which something else stands than ever should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ORDINARY: list[dict[str, Any]] = [
    {},
    {"level": 30, "time": 1772359200000, "msg": "request completed", "responseTime": 12},
    {"event": "llm", "model": "gpt-4o", "provider": "openai", "duration_ms": 812, "path": "/v1/x"},
    {"ts": 1772359200.1, "logger": "http", "status": 200, "duration": 12, "request": {"uri": "/"}},
    {"id": "1", "object": "chat.completion", "model": "gpt-4o", "usage": {"prompt_tokens": 1}},
    {"remote_addr": "10.0.0.1", "request": "GET / HTTP/1.1", "status": 200, "request_time": "0.1"},
    {"records": [{"category": "RequestResponse"}], "result": [], "ai": {}, "llm_summary": {}},
    {"category": "Audit", "event": "login", "response_code": 200, "model": "gpt-4o"},
    {"ai": {"proxy": {}}, "ai_log": "-", "request_type": "ai", "schemaType": "Other"},
]
"""Ordinary lines, and near misses of several formats."""

NASTY: list[Any] = [
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    "-",
    "{",
    "[]",
    '"x"',
    [],
    [[]],
    [None],
    {},
    {"a": [1]},
]


def with_odd_values(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the record with each odd value, and itself, at each place in it."""
    odd = [*NASTY, record]

    def visit(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        yield path
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from visit(inner, (*path, key))
        elif isinstance(value, list):
            for place, inner in enumerate(value[:4]):
                yield from visit(inner, (*path, place))

    def put(value: Any, path: tuple[Any, ...], one: Any) -> Any:
        if not path:
            return one
        if isinstance(value, dict):
            return {**value, path[0]: put(value[path[0]], path[1:], one)}
        return [*value[: path[0]], put(value[path[0]], path[1:], one), *value[path[0] + 1 :]]

    for path in visit(record, ()):
        for one in odd:
            made = put(record, path, one)
            yield made if isinstance(made, dict) else {"message": made}

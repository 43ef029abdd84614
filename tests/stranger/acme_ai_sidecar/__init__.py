"""Acme's gateway: a line when a call begins, which names the model, and one when it ends, which has the rest.

Turn it on: `acme serve --audit-log /var/log/acme/audit.jsonl`.

Cannot tell: when the first token came.

Sources: made up.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar import Memory, ParseError, Parser, Record, Request, fields

MAX_OPEN = 64
"""Calls that are remembered between their two lines: what never ends must not fill the memory."""


def parse(record: Record, memory: Memory, /) -> Sequence[Request] | None:
    """Read a line: keep the model of a call that begins, give the request of one that ends."""
    kind = record.get("acme.event")
    if kind == "begin":
        models: dict[str, str] = memory.setdefault("models", {})
        call, model = fields.text(record.get("call")), fields.model(record.get("model"))
        if call is not None and model is not None:
            models[call] = model
            if len(models) > MAX_OPEN:
                del models[next(iter(models))]
        return []
    if kind != "end":
        return None
    call = fields.text(record.get("call"))
    if call is None:
        raise ParseError("an end without the id of its call")
    status = fields.status(record.get("http"))
    failed = status is not None and status >= "400"
    return [
        Request(
            provider="acme",
            model=memory.get("models", {}).pop(call, "unknown"),
            endpoint="/chat/completions",
            status_code=status or "200",
            error_type=fields.error_type(status) if failed else None,
            duration_seconds=fields.seconds(record.get("took"), "us"),
            input_tokens=fields.count(fields.get(record, "tokens.in")),
            output_tokens=fields.count(fields.get(record, "tokens.out")),
            id=call,
        )
    ]


_is_a_parser: Parser = parse

"""The formats that are understood out of the box: one module each, and how to write another.

A parser is a function from a decoded JSON object to the requests that finished in it:

    from sidecar import Memory, Record, Request, fields

    def parse(record: Record, memory: Memory) -> list[Request] | None:
        if record.get("kind") != "llm_call":
            return None                                  # not mine, ask the next
        return [
            Request(
                provider="acme",
                model=fields.model(fields.get(record, "req.model")) or "unknown",
                endpoint="/chat/completions",
                duration_seconds=fields.seconds(record.get("took_ms"), "ms"),
                input_tokens=fields.count(fields.get(record, "usage.in")),
                output_tokens=fields.count(fields.get(record, "usage.out")),
            )
        ]

`None` is not my format; a sequence, an empty one too, is mine, with what finished in it; `ParseError` is mine, but
broken. The functions of `fields` give `None` for whatever cannot be read and never raise, so a parser made of
them survives any object. What a field means (input with everything cached in it, output with the reasoning)
is told in `Request`.

Where a table can say it, write the table: it is shorter, and becomes faster code than one writes by hand:

    from sidecar import Table, compile_table

    parse = compile_table(Table.from_toml("acme", {
        "when": {"kind": "llm_call"},                    # these fields have these values
        "model": "req.model",
        "provider": {"const": "acme"},
        "duration": {"path": "took_ms", "unit": "ms"},   # the unit may be left out where the name tells it
        "input_tokens": ["usage.in", "usage.prompt"],    # the first that is there
    }))

It is the table that a user without Python writes under `[parsers.acme]` in the configuration file.

Install it by an entry point in the group `ai_sidecar.parsers`; its name is the parser's name:

    [project.entry-points."ai_sidecar.parsers"]
    acme = "acme_ai_sidecar:parse"

Put lines of a real log, without what is private, beside the figures they must give, as in `tests/golden/`. The first
line of the module's docstring is what `ai-sidecar parsers` shows; `tests/make_parsers_md.py` tells what else it has.

A cookbook
==========

Rename: the fields are there, under other names, and a failure has none of them.

    from sidecar import Request, Table, compile_table

    parse = compile_table(Table.from_toml("acme", {
        "when": {"event": ["llm.done", "llm.failed"]},   # one of these values
        "model": ["answered_by", "asked_for"],           # the model that answered, else the one asked for
        "status": "http",
        "error": ["err.code", "err.text"],               # all of them are looked at, the code believed first
        "input_tokens": "tok.in",
        "output_tokens": "tok.out",
    }))

    done = {"event": "llm.done", "asked_for": "m", "tok": {"in": 7, "out": 2}}
    failed = {"event": "llm.failed", "asked_for": "m", "http": 503, "err": {"code": "slow_down"}}
    assert parse(done, {}) == (Request(model="m", input_tokens=7, output_tokens=2),)
    assert parse(failed, {}) == (Request(model="m", status_code="503", error_type="overloaded"),)

Units, and parts: a duration has its unit in its name, in its text, or in the table; what the format counts beside
the input or the output is added to it; a word that only this format has is put into the house's.

    from sidecar import Request, Table, compile_table

    parse = compile_table(Table.from_toml("acme", {
        "when": {"v": 2, "model": True},                 # `true`: it is there, whatever it is
        "model": "model",
        "duration": "took_us",                           # its name tells the unit
        "time_to_first_token": {"path": "first", "as": "duration"},    # its text does: "1.5s", "250ms"
        "input_excludes_cache": True,
        "input_tokens": {"sum": ["tokens.text", "tokens.image"]},
        "cache_read_tokens": "tokens.cached",
        "cost": {"path": "price", "unit": "cents"},
        "finish_reason": {"path": "why", "map": {"full": "length", "done": "stop"}},
    }))

    line = {"v": 2, "model": "m", "took_us": 1500000, "first": "250ms", "price": "1.5", "why": "full"}
    [request] = parse({**line, "tokens": {"text": 7, "image": 3, "cached": 90}}, {})
    assert (request.duration_seconds, request.time_to_first_token_seconds) == (1.5, 0.25)
    assert (request.input_tokens, request.cache_read_tokens) == (100, 90)
    assert (str(request.cost_usd), request.finish_reason) == ("0.015", "length")

JSON in a string: a record under `message`, `msg`, `log`, `data` or `payload` is opened for you, also where it is
text. Anything else is a function that opens it and leaves the rest to a table.

    import json
    from collections.abc import Sequence
    from sidecar import Memory, ParseError, Record, Request, Table, compile_table, fields

    _read = compile_table(Table.of("acme", {
        "model": "model", "input_tokens": "usage.in", "output_tokens": "usage.out", "timestamp": "at",
    }))

    def parse(record: Record, memory: Memory) -> Sequence[Request] | None:
        text = record.get("ai_log")
        if type(text) is not str:
            return None
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            raise ParseError("an ai_log that is no JSON") from None     # never quote the record
        return _read({**inner, "at": record.get("time")}, memory) if type(inner) is dict else []

    line = {"time": "2026-01-01T00:00:00Z", "ai_log": '{"model": "m", "usage": {"in": 7, "out": 2}}'}
    at = fields.timestamp("2026-01-01T00:00:00Z")
    assert parse(line, {}) == (Request(model="m", input_tokens=7, output_tokens=2, timestamp=at),)

Memory over lines: the model stands on one line, the tokens on a later one. `memory` is a dict of the parser's own for
each file; it is saved with the position, so keep JSON values in it, few, and bounded.

    from sidecar import Memory, Record, Request, fields

    def parse(record: Record, memory: Memory) -> list[Request] | None:
        kind = record.get("type")
        if kind == "acme.session":
            memory["model"] = fields.model(record.get("model"))
            return []                                    # mine, but nothing finished here
        if kind != "acme.turn":
            return None
        total = fields.count(record.get("tokens_so_far"))
        if total is None:
            return []
        before = memory.get("tokens", 0)                 # a counter that adds up: count what came to it
        memory["tokens"] = total
        used = total - before if total >= before else total   # it began anew
        return [Request(model=memory.get("model") or "unknown", input_tokens=used)]

    memory: Memory = {}
    assert parse({"type": "acme.session", "model": "m"}, memory) == []
    assert parse({"type": "acme.turn", "tokens_so_far": 100}, memory) == [Request(model="m", input_tokens=100)]
    assert parse({"type": "acme.turn", "tokens_so_far": 130}, memory) == [Request(model="m", input_tokens=30)]

Snapshots of a stream: each line tells the request as it is so far. With one `id` the last line counts; a line that
is not `final` is held until a final one or another id comes, or the file is quiet. A copy of what was counted, in
whatever file, counts no more. An id that is the same for several requests (a session's, a trace's) is no id.

    from sidecar import Request, Table, compile_table

    parse = compile_table(Table.from_toml("acme", {
        "when": {"event": "llm.chunk"},
        "model": "model",
        "output_tokens": "out",
        "id": "request_id",
        "final": [{"path": "stop", "as": "yes"}, {"const": False}],     # final where a reason to stop is told
        "finish_reason": "stop",
    }))

    line = {"event": "llm.chunk", "model": "m", "request_id": "r1", "out": 1}
    so_far = Request(model="m", output_tokens=1, id="r1", final=False)
    whole = Request(model="m", output_tokens=9, id="r1", finish_reason="stop")
    assert parse(line, {}) == (so_far,)
    assert parse({**line, "out": 9, "stop": "end_turn"}, {}) == (whole,)

Variants: an old and a new version of a format, a good and a failed line. One table for each, asked in turn; what
they share is written once. With `needs`, a line that is of the format but tells of no finished request is none.

    from sidecar import Request, Table, compile_table

    _BOTH = {"provider": {"const": "acme"}, "model": "model", "duration": "latency_ms"}
    parse = compile_table(
        Table.of("acme", {**_BOTH, "when": {"acme": 2}, "needs": ["output_tokens|error"],
                          "input_tokens": "usage.in", "output_tokens": "usage.out", "error": "error"}),
        Table.of("acme", {**_BOTH, "when": {"acme_version": True}, "unless": {"debug": [True]},
                          "input_tokens": "tokens_in", "output_tokens": "tokens_out"}),
    )

    made = Request(provider="acme", model="m", input_tokens=7, output_tokens=2)
    assert parse({"acme": 2, "model": "m", "usage": {"in": 7, "out": 2}}, {}) == (made,)
    assert parse({"acme_version": "1.4", "model": "m", "tokens_in": 7, "tokens_out": 2}, {}) == (made,)
    assert parse({"acme": 2, "model": "m", "note": "begins"}, {}) == ()
    assert parse({"acme_version": "1.4", "debug": True}, {}) is None

Order: whoever tells its own format apart is asked in the order of the names. A parser that claims whatever looks like
a request says so, and is asked after the others:

    from sidecar import Memory, Record, Request, fields

    def parse(record: Record, memory: Memory) -> list[Request] | None:
        model = fields.model(record.get("model"))
        return None if model is None else [Request(model=model)]

    parse.rank = 10     # type: ignore[attr-defined] # a function's own attribute
"""

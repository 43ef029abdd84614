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

Put lines of a real log, without what is private, beside the figures they must give, as in `tests/golden/`.
The first line of the module's docstring is what `ai-sidecar parsers` shows.
"""

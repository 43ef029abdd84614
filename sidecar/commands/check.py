"""`ai-sidecar check`: is the configuration good, and what becomes of each line given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal

from ..config import Config
from ..daemon import Sidecar
from ..pipeline import Source
from ..prices import COST_TYPES, DOLLAR, PriceBook
from ..request import Request

_WHY_NOT = {
    "ignored": "JSON, but no finished request that any parser knows",
    "not_json": "no JSON",
    "malformed": "a parser knows the format, but the record is broken",
    "too_long": "longer than --max-line-bytes",
    "plugin_error": "the parser failed; its traceback is in the log above",
    "repeat": "its id has been counted before",
    "superseded": "a later line told the same request better",
}


def check(
    config: Config, sources: Iterable[tuple[str, Iterable[bytes]]], *, version: str
) -> Iterator[str]:
    """Give what to print: for each line its result, and for each request what was understood of it."""
    told: list[str] = []
    sidecar: Sidecar

    def observe(request: Request, parser: str) -> None:
        told.append(f"  request, claimed by {parser}")
        told.extend([f"    {name:<28} {value}" for name, value in _fields(request)])
        told.append(f"    {'cost':<28} {_cost(request, sidecar.book, config.cost_source)}")

    sidecar = Sidecar(config, version=version, observe=observe)
    yield f"configuration: good; parsers: {', '.join([one.name for one in sidecar.parsers])}"
    for name, lines in sources:
        source = Source(name)
        totals: Counter[str] = Counter()
        for number, line in enumerate(lines, 1):
            yield from _one(sidecar, source, f"{name}:{number}", line.rstrip(b"\n"), told, totals)
        before = dict(sidecar.health.lines)
        sidecar.pipeline.finish(source, None)
        totals.update(_difference(before, sidecar.health.lines))
        yield from told
        told.clear()
        yield f"{name}: " + (
            ", ".join([f"{count} {result}" for result, count in totals.items()]) or "no lines"
        )


def _one(
    sidecar: Sidecar, source: Source, where: str, line: bytes, told: list[str], totals: Counter[str]
) -> Iterator[str]:
    before = dict(sidecar.health.lines)
    if len(line) > sidecar.config.max_line_bytes:
        sidecar.pipeline.feed(source, [], too_long=1)
    else:
        sidecar.pipeline.feed(source, [line])
    results = _difference(before, sidecar.health.lines)
    totals.update(results)
    yield where
    yield from told
    if not told:
        for result in results or {"held": 1}:
            yield f"  {result}: {_WHY_NOT.get(result, 'part of a record that goes on in a later line')}"
    told.clear()


def _difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        result: count - before[result] for result, count in after.items() if count != before[result]
    }


def _fields(request: Request) -> Iterator[tuple[str, object]]:
    for name in request.__struct_fields__:
        value = getattr(request, name)
        if value is not None and value is not False and name not in ("final", "cost_usd"):
            yield name, value


def _cost(request: Request, book: PriceBook, cost_source: str) -> str:
    if request.cost_usd is not None and cost_source != "prices":
        return f"{request.cost_usd} USD, as the log tells it"
    if cost_source == "log":
        return "not known: the log tells none"
    if not request.input_tokens and not request.output_tokens:
        return "none: no tokens"
    price = book.price(request.provider, request.model)
    if price is not None and request.service_tier is not None:
        price = price.of_tier(request.service_tier)
    if price is None:
        return f"not known: no price for {request.model!r} at {request.provider!r}; counted as unpriced"
    parts = price.cost(request)
    split = ", ".join(
        [f"{kind} {_dollars(part)}" for kind, part in zip(COST_TYPES, parts, strict=True) if part]
    )
    return f"{_dollars(sum(parts))} USD by the price table ({split or 'free'})"


def _dollars(parts: int) -> str:
    return format((Decimal(parts) / DOLLAR).normalize(), "f")

"""`ai-sidecar check`: is the configuration good, and what becomes of each line given.

For each line: who claimed it and why, where each field came from, what it cost at which price, or why it did not
count. For each file: a summary. For lines that nobody understands: a table to paste. Of what stands in a log
only the values of the fields that are extracted are shown: no prompt, no answer, no message.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, BinaryIO

import click
import orjson

from .. import plugins
from ..config import Config
from ..daemon import Sidecar
from ..metrics import RESULTS
from ..pipeline import Installed, Pipeline, Source
from ..prices import COST_TYPES, DOLLAR, Price, PriceBook
from ..request import Memory, ParseError, Record, Request, checked
from . import origins
from .propose import MAX_RECORDS, Proposal, propose

Event = dict[str, Any]
"""What is told of a line, of a file, or of all: JSON values."""

Given = tuple[str, Callable[[], BinaryIO]]
"""A source to read: its name, and what opens it."""

LINES_IN_FULL = 100
"""Lines of a file that are told of in full, if nobody says otherwise; then a few of each kind."""
_OF_EACH_KIND = 3
_MAX_KEPT_LINE_BYTES = 64 * 1024
_MAX_MESSAGE_CHARACTERS = 200

_WHY_NOT = {
    "ignored": "JSON, but no finished request that any parser knows",
    "not_json": "no JSON",
    "malformed": "a parser knows the format, but the record is broken",
    "too_long": "longer than --max-line-bytes",
    "plugin_error": "the parser failed; its traceback is in the log above",
    "repeat": "its id has been counted before",
    "superseded": "a later line told the same request better",
    "held": "a later line may tell the same request better; it is counted when that is certain",
    "part": "part of a record that goes on in a later line",
}
_NEVER_MISSED = frozenset(
    {
        "status_code",
        "error_type",
        "served_from_cache",
        "final",
        "id",
        "batch_size",
        "audio_input_tokens",
        "audio_output_tokens",
        "cache_write_1h_tokens",
    }
)
"""Fields that only some requests have, or that always have a value."""


@dataclass(slots=True)
class _Claim:
    """What one parser made of one record."""

    installed: Installed
    record: Record
    memory: Memory = field(default_factory=dict)
    """What the parser remembered before it."""
    requests: Sequence[Request] = ()
    error: Exception | None = None


@dataclass(slots=True)
class _Counted:
    """A request that was counted, and the line that told it."""

    request: Request
    number: int


class _Watch:
    """Stands round each parser and sees what it is offered, and what it makes of it."""

    def __init__(self) -> None:
        self.offered: list[Record] = []
        """The records of this line, the outermost first."""
        self.claims: list[_Claim] = []

    def around(self, installed: Installed) -> Installed:
        """Give the parser with us round it; it has no way past us, so every line is seen."""

        def parser(record: Record, memory: Memory, /) -> Sequence[Request] | None:
            if not any(one is record for one in self.offered):
                self.offered.append(record)
            before = deepcopy(memory)
            try:
                requests = installed.parser(record, memory)
                if requests and not installed.is_ours:
                    checked(requests)
            except Exception as error:
                # whatever a stranger's parser raises: the pipeline decides what it is, we only tell of it
                self.claims.append(_Claim(installed, record, before, error=error))
                raise
            if requests is not None:
                self.claims.append(_Claim(installed, record, before, requests))
            return requests

        return Installed(installed.name, parser, installed.is_particular, installed.is_ours)

    def clear(self) -> None:
        self.offered.clear()
        self.claims.clear()


@dataclass(slots=True)
class _Summary:
    """What is known of one file at its end."""

    results: Counter[str] = field(default_factory=Counter)
    parsers: Counter[str] = field(default_factory=Counter)
    found: dict[str, set[str]] = field(default_factory=dict)
    cost: Decimal = Decimal(0)
    priced: int = 0
    unpriced: Counter[tuple[str, str]] = field(default_factory=Counter)


class Checker:
    """Reads sources line by line, and tells of each line, of each source, and of what nobody understands."""

    def __init__(self, config: Config, *, version: str) -> None:
        self.config = config
        self._sidecar = Sidecar(config, version=version)
        self._watch = _Watch()
        self._pipeline = Pipeline(
            [self._watch.around(one) for one in self._sidecar.parsers],
            self._sidecar.meter,
            self._sidecar.health,
            envelope=config.envelope,
            labels=tuple(config.labels.values()),
            max_line_bytes=config.max_line_bytes,
            observe=self._observe,
        )
        self._packages = {
            name: plugins.package(entry_point) for name, entry_point in plugins.installed().items()
        }
        self._counted: list[tuple[Request, str]] = []
        self._told: dict[int, _Counted] = {}
        """Requests that are not counted yet, by their identity, with the line that told them."""
        self._strange: list[tuple[Record, Request | None]] = []
        """Records that nobody understood, or somebody only in part; with what was read of them."""
        self._known: list[Record] = []

    @property
    def parsers(self) -> list[str]:
        """The names of those who are asked, in that order."""
        return [one.name for one in self._sidecar.parsers]

    def read(self, name: str, lines: BinaryIO, in_full: int | None) -> Iterator[Event]:
        """Tell of each line of a source, and at its end of all; `in_full`: of how many lines all is told."""
        source, summary = Source(name), _Summary()
        kinds: Counter[Any] = Counter()
        number = 0
        for line in _lines(lines, self.config.max_line_bytes):
            number += 1
            event = self._line(source, summary, number, line)
            kind = event["result"], *[claim.installed.name for claim in self._watch.claims]
            kinds[kind] += 1
            if in_full is None or number <= in_full or kinds[kind] <= _OF_EACH_KIND:
                # only now: to find where everything came from takes longer than to read it
                why = self._why(event["result"], line)
                yield {"source": name, **event, "why": why, "claims": self._claims()}
        before = dict(self._sidecar.health.lines)
        self._watch.clear()
        self._pipeline.finish(source, None)
        last = self._results(before)
        summary.results.update(last)
        late = self._take_counted(summary)
        if late or last:
            yield {
                "source": name,
                "line": number,
                "result": "end",
                "why": "the end of the file: nothing can come that tells it better",
                "claims": [],
                "counted_now": late,
                "results": last,
            }
        yield {"source": name, **self._summary(summary)}

    def proposals(self) -> list[Proposal]:
        """Guess tables for what nobody understood, or only in part."""
        found = propose([record for record, _ in self._strange], self._known, self.parsers)
        read = {id(record): request for record, request in self._strange}
        return [
            one
            for one in found
            if sum(map(_richness, one.requests))
            > sum([_richness(read.get(id(record))) for record in one.records])
        ]

    def _observe(self, request: Request, parser: str) -> None:
        self._counted.append((request, parser))

    def _results(self, before: dict[str, int]) -> Counter[str]:
        after = self._sidecar.health.lines
        return Counter({name: n for name in after if (n := after[name] - before.get(name, 0))})

    def _line(self, source: Source, summary: _Summary, number: int, line: bytes | int) -> Event:
        self._watch.clear()
        before = dict(self._sidecar.health.lines)
        held = source.held
        if isinstance(line, int):
            self._pipeline.feed(source, [], too_long=1)
        else:
            self._pipeline.feed(source, [line])
        results = self._results(before)
        summary.results.update(results)
        made = [request for claim in self._watch.claims for request in claim.requests]
        for request in made:
            self._told[id(request)] = _Counted(request, number)
        own = {id(request) for request, _ in self._counted} & {id(request) for request in made}
        late = self._take_counted(summary, without=own)
        superseded = results["superseded"]
        results.subtract({"request": len(late), "superseded": superseded})
        if source.held is not None and source.held is not held:
            result = "held"
        else:
            result = next((name for name in RESULTS if results[name] > 0), "part")
        if isinstance(line, bytes) and len(line) <= _MAX_KEPT_LINE_BYTES:
            self._keep()
        event: Event = {"line": number, "result": result}
        if late:
            event["counted_now"] = late
        if superseded:
            event["supersedes"] = superseded
        # what was neither counted nor is held was superseded, repeated, or never a request of its own
        kept = source.held[0] if source.held is not None else None
        self._told = {key: one for key, one in self._told.items() if one.request is kept}
        return event

    def _take_counted(self, summary: _Summary, without: Iterable[int] = ()) -> list[int]:
        """Add what was counted to the summary; give the lines that told what other lines brought to an end."""
        late: list[int] = []
        for request, parser in self._counted:
            summary.parsers[parser] += 1
            summary.found.setdefault(parser, set()).update(_known_fields(request))
            cost = cost_of(request, self._sidecar.book, self.config.cost_source)
            if cost["usd"] is not None:
                summary.cost += cost["usd"]
                summary.priced += 1
            elif cost["is_unpriced"]:
                summary.unpriced[request.provider, request.model] += 1
            told = self._told.pop(id(request), None)
            if id(request) not in without and told is not None:
                late.append(told.number)
        self._counted.clear()
        return late

    def _why(self, result: str, line: bytes | int) -> str:
        claims = self._watch.claims
        names = ", ".join(dict.fromkeys([claim.installed.name for claim in claims]))
        why = _WHY_NOT.get(result, "")
        errors = [claim.error for claim in claims if claim.error is not None]
        if result == "malformed" and errors:
            return f"{names} knows the format, but the record is broken: {_short(errors[-1])}"
        if result == "plugin_error" and errors:
            return f"{names} failed with {_type_and_place(errors[-1])}; this is its bug, the line is passed over"
        if result == "ignored" and claims:
            reasons = [
                *dict.fromkeys([reason for claim in claims for reason in _unfinished(claim)])
            ]
            return f"{names} knows the format; here it tells of no finished request" + (
                f": {'; '.join(reasons)}" if reasons else ""
            )
        if isinstance(line, int):
            return f"{line:,} bytes, {why} ({self.config.max_line_bytes:,})"
        text = line.strip(b" \t\r\n\0\xef\xbb\xbf")
        if result == "ignored" and not text:
            return "an empty line"
        if result == "ignored" and not self._watch.offered:
            return (
                "a part of a record that is printed over several lines"
                if text in (b"{", b"[")
                else ("JSON, but no object")
            )
        if result == "not_json" and text[:1] in (b"{", b"["):
            try:
                orjson.loads(text)
            except orjson.JSONDecodeError as error:
                is_cut = error.pos >= len(text)
                where = "ends too soon" if is_cut else f"breaks at character {error.pos + 1}"
                return f"{why}: it begins like it, but {where}"
        return why

    def _claims(self) -> list[Event]:
        """Tell of each parser that claimed something of this line, and of each request."""
        events: list[Event] = []
        for claim in self._watch.claims:
            parser = claim.installed.parser
            table = origins.claiming(parser, claim.record)
            because = (
                origins.signature(table, claim.record)
                if table is not None
                else origins.doc_line(parser)
            )
            events.append(
                {
                    "parser": claim.installed.name,
                    "package": self._packages.get(claim.installed.name, "your configuration"),
                    "kind": "table" if table is not None else "function",
                    "because": because,
                    "requests": [self._request(claim, request) for request in claim.requests],
                }
            )
        return events

    def _request(self, claim: _Claim, request: Request) -> Event:
        cost = cost_of(request, self._sidecar.book, self.config.cost_source)
        if cost["from"] == "prices":
            cost |= at_price_of(request, self._sidecar.book)
        told = origins.explain(claim.installed.parser, claim.record, claim.memory, request)
        return {
            "fields": {
                one.name: {
                    "value": float(one.value) if isinstance(one.value, Decimal) else one.value,
                    "from": list(one.paths),
                    "read_as": one.read,
                    "is_sure": one.is_sure,
                }
                for one in told
                if one.name != "cost_usd"
            },
            "cost": {**cost, "usd": None if cost["usd"] is None else float(cost["usd"])},
            "final": request.final,
        }

    def _keep(self) -> None:
        """Keep a record to guess a table from, or one that no guess may claim; not too many."""
        claims = [claim for claim in self._watch.claims if claim.error is None]
        if claims:
            claim = claims[-1]
            request = claim.requests[0] if claim.requests else None
            is_poor = request is not None and request.error_type is None and _richness(request) < 3
            tables = origins.tables_of(claim.installed.parser)
            # whoever claims what looks like a request, by no sign of a format
            is_anybodys = bool(tables) and not any(one.when for one in tables)
            is_vague = is_poor and (is_anybodys or not claim.installed.is_particular)
            if is_vague and len(self._strange) < MAX_RECORDS:
                self._strange.append((claim.record, request))
            elif len(self._known) < MAX_RECORDS:
                self._known += [one for one in self._watch.offered if not is_vague][:1]
        elif self._watch.offered and not self._watch.claims and len(self._strange) < MAX_RECORDS:
            # the innermost, since the wrapper may be another's
            self._strange.append((self._watch.offered[-1], None))

    def _summary(self, summary: _Summary) -> Event:
        missing = {
            parser: [
                name
                for name in Request.__struct_fields__
                if name not in _NEVER_MISSED and name not in summary.found.get(parser, ())
            ]
            for parser in summary.parsers
        }
        return {
            "lines": {name: summary.results[name] for name in RESULTS if summary.results[name]},
            "requests": dict(summary.parsers.most_common()),
            "never_found": missing,
            "cost_usd": float(summary.cost),
            "requests_with_cost": summary.priced,
            "without_price": [
                {"provider": provider, "model": model, "requests": count}
                for (provider, model), count in summary.unpriced.most_common()
            ],
        }


def _known_fields(request: Request) -> list[str]:
    return [
        name
        for name in Request.__struct_fields__
        if getattr(request, name) is not None and getattr(request, name) != "unknown"
    ]


def _richness(request: Request | None) -> int:
    """Count how much of what matters most is known of a request."""
    if request is None:
        return 0
    tokens = (request.input_tokens is not None) + (request.output_tokens is not None)
    return 1 + tokens if request.model != "unknown" else tokens


def _lines(file: BinaryIO, max_line_bytes: int) -> Iterator[bytes | int]:
    """Give each line without its end; of one that is too long only how long it is."""
    while line := file.readline(max_line_bytes + 2):
        if line.endswith(b"\n") or len(line) <= max_line_bytes:
            yield line.rstrip(b"\n")
            continue
        length = len(line)
        while (more := file.readline(1 << 20)) and not more.endswith(b"\n"):
            length += len(more)
        yield length + len(more.rstrip(b"\n"))


def _short(error: Exception) -> str:
    """Give a ParseError's words, which never quote the record; of another error only its type."""
    text = str(error) if isinstance(error, ParseError) else type(error).__name__
    return text[:_MAX_MESSAGE_CHARACTERS]


def _type_and_place(error: Exception) -> str:
    """Name an error's type and where it rose: its message may hold what stands in the log."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}"


def _unfinished(claim: _Claim) -> list[str]:
    table = origins.claiming(claim.installed.parser, claim.record)
    return (
        [f"it has no {one}" for one in origins.missing(table, claim.record)]
        if table is not None
        else []
    )


def cost_of(request: Request, book: PriceBook, cost_source: str) -> Event:
    """Tell what a request costs: dollars (`None`: not known), where that is from, and at which price."""
    told: Event = {"usd": None, "is_unpriced": False, "split": {}, "rates": {}, "rule": None}
    if request.cost_usd is not None and cost_source != "prices":
        return {**told, "usd": Decimal(str(request.cost_usd)), "from": "log"}
    if request.served_from_cache:
        return {**told, "from": "none: the client answered it from its own cache"}
    if not request.input_tokens and not request.output_tokens:
        return {**told, "from": "none: no tokens"}
    if cost_source == "log":
        return {**told, "is_unpriced": True, "from": "not known: the log tells none"}
    price = _price_of(request, book)
    if price is None:
        why = f"not known: no price for {request.model!r} at {request.provider!r}; counted as unpriced"
        return {**told, "is_unpriced": True, "from": why}
    parts = price.cost(request)
    dollars = [_dollars(part) for part in parts]
    return {
        **told,
        "usd": sum(dollars, Decimal(0)),
        "from": "prices",
        "split": {kind: float(one) for kind, one in zip(COST_TYPES, dollars, strict=True) if one},
    }


def _price_of(request: Request, book: PriceBook) -> Price | None:
    price = book.price(request.provider, request.model)
    if price is not None and request.service_tier is not None:
        return price.of_tier(request.service_tier)
    return price


def at_price_of(request: Request, book: PriceBook) -> Event:
    """Tell by which rule a request has its price, and the price of a million tokens of each kind it has."""
    price = _price_of(request, book)
    if price is None:
        return {}
    return {
        "rates": {kind: float(rate) for kind, rate in _rates(request, price)},
        "rule": book.rule(request.provider, request.model),
    }


def _rates(request: Request, price: Price) -> Iterator[tuple[str, Decimal]]:
    """Give the price of a million tokens of each kind that the request has, at its size and its time."""
    size, when = max(request.input_tokens or 0, 1), request.timestamp
    probes = (
        ("input", 0, size, Request(input_tokens=size, timestamp=when)),
        ("output", 1, 1, Request(input_tokens=size, output_tokens=1, timestamp=when)),
        ("cache_read", 2, size, Request(input_tokens=size, cache_read_tokens=size, timestamp=when)),
        (
            "cache_write",
            3,
            size,
            Request(input_tokens=size, cache_write_tokens=size, timestamp=when),
        ),
    )
    for kind, place, count, probe in probes:
        if getattr(request, f"{kind}_tokens"):
            yield kind, _dollars(price.cost(probe)[place]) * 1_000_000 / count


def _dollars(parts: int) -> Decimal:
    return Decimal(parts) / DOLLAR


# How it is told


def as_text(checker: Checker, sources: Iterable[Given], in_full: int | None) -> Iterator[str]:
    """Give what to print for people, with colours; what follows the first `[parsers.…]` is TOML to the end."""
    yield f"{click.style('configuration: good', fg='green')}; parsers: {', '.join(checker.parsers)}"
    for name, opened in sources:
        with opened() as lines:
            for event in checker.read(name, lines, LINES_IN_FULL if in_full is None else in_full):
                yield from _summary_text(event) if "lines" in event else _line_text(event)
    for proposal in checker.proposals():
        yield ""
        yield from _proposal_text(proposal)


def as_json(checker: Checker, sources: Iterable[Given], in_full: int | None) -> Iterator[str]:
    """Give one JSON document, an element on each line, as it comes: no file is too long for it."""
    yield '{"configuration": "good", "parsers": ' + json.dumps(checker.parsers) + ', "lines": ['
    summaries: list[Event] = []
    comma = ""
    for name, opened in sources:
        with opened() as lines:
            for event in checker.read(name, lines, in_full):
                if "lines" in event:
                    summaries.append(event)
                else:
                    yield comma + json.dumps(event)
                    comma = ","
    proposed = [
        {"name": one.name, "toml": one.toml, "would_count": len(one.requests)}
        for one in checker.proposals()
    ]
    yield f'], "summaries": {json.dumps(summaries)}, "proposals": {json.dumps(proposed)}}}'


_COLOURS = {
    "request": "green",
    "end": "green",
    "held": "yellow",
    "superseded": "yellow",
    "repeat": "yellow",
    "ignored": "bright_black",
    "part": "bright_black",
}


def _printable(value: object) -> str:
    """Keep a value from a log from steering the terminal."""
    text = str(value)
    return text if text.isprintable() else ascii(text)


def _line_text(event: Event) -> Iterator[str]:
    result = event["result"]
    head = click.style(f"{_printable(event['source'])}:{event['line']}", bold=True)
    word = click.style(result, fg=_COLOURS.get(result, "red"))
    why = f": {_printable(event['why'])}" if event["why"] else ""
    yield f"{head}  {word}{why}"
    if event.get("supersedes"):
        yield "  tells a request of an earlier line better; that line is superseded"
    if late := event.get("counted_now"):
        yield f"  with it is counted what was held back: line {', '.join(map(str, late))}"
    for claim in event["claims"]:
        yield (
            f"  claimed by {click.style(claim['parser'], fg='cyan')} ({claim['kind']} of {claim['package']}): "
            f"{_printable(claim['because'])}"
        )
        for request in claim["requests"]:
            yield from _request_text(request)


def _request_text(request: Event) -> Iterator[str]:
    for name, told in request["fields"].items():
        value = _printable(told["value"])
        yield f"    {click.style(name.ljust(28), fg='cyan')} {value:<24} {click.style(_place(told), dim=True)}"
    cost = request["cost"]
    yield f"    {click.style('cost'.ljust(28), fg='cyan')} {_cost_text(cost)}"


def _place(told: Event) -> str:
    paths = " + ".join(map(_printable, told["from"]))
    read = told["read_as"]
    if not paths:
        return {
            "const": "the table says so",
            "default": "nothing says otherwise",
        }.get(read, "the parser says so, or a line before this one")
    if read == "made of":
        paths = "made of " + paths
    elif read in ("ms", "us", "ns", "s", "min", "h"):
        paths += f", in {read}"
    elif read == "cents":
        paths += ", in cents"
    return paths if told["is_sure"] else f"probably {paths}"


def _cost_text(cost: Event) -> str:
    if cost["usd"] is None:
        colour = "yellow" if cost["is_unpriced"] else None
        return click.style(_printable(cost["from"]), fg=colour)
    usd = _number(cost["usd"])
    if cost["from"] == "log":
        return f"{usd} USD, as the log tells it"
    split = ", ".join([f"{kind} {_number(part)}" for kind, part in cost["split"].items()])
    rates = ", ".join([f"{kind} {_number(rate)}" for kind, rate in cost["rates"].items()])
    rule = f"{_printable(cost['rule'])}: {rates} for a million tokens"
    return f"{usd} USD by the price table ({split or 'free'}) {click.style(rule, dim=True)}"


def _number(value: float) -> str:
    return format(Decimal(repr(value)).normalize(), "f")


def _summary_text(event: Event) -> Iterator[str]:
    lines = ", ".join([f"{count} {result}" for result, count in event["lines"].items()])
    yield click.style(f"{_printable(event['source'])}: ", bold=True) + (lines or "no lines")
    for parser, count in event["requests"].items():
        missing = ", ".join(event["never_found"][parser])
        yield f"  {click.style(parser, fg='cyan')}: {_of(count, 'request')}" + (
            f"; never found: {missing}" if missing else ""
        )
    if event["requests_with_cost"]:
        yield f"  cost: {_number(event['cost_usd'])} USD for {_of(event['requests_with_cost'], 'request')}"
    for one in event["without_price"]:
        model = _printable(one["model"])
        yield click.style(
            f"  no price: {model} at {_printable(one['provider'])}, {_of(one['requests'], 'request')}; "
            f"[prices.models.{json.dumps(model)}] in the configuration gives it one",
            fg="yellow",
        )


def _of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _proposal_text(proposal: Proposal) -> Iterator[str]:
    requests = proposal.requests
    failed = sum([request.error_type is not None for request in requests])
    yield click.style(
        "# A guess for lines that nobody understands, or only in part. Look it over, and paste it into the file of\n"
        f"# --config. Of the lines above it reads {len(requests)}, {failed} of them failed: "
        f"{sum([request.input_tokens or 0 for request in requests])} tokens in, "
        f"{sum([request.output_tokens or 0 for request in requests])} out.",
        fg="bright_black",
    )
    yield proposal.toml.rstrip("\n")

"""What holds for any bytes of a log: for property tests, and for the fuzzer, which needs nothing of pytest.

Each `check_…` raises AssertionError, or whatever the program itself raises, where it does not hold.
"""

from __future__ import annotations

import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from prometheus_client.openmetrics.parser import (
    text_fd_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_fd_to_metric_families as parse_text

from sidecar import plugins, snapshot
from sidecar.exposition import Exposition
from sidecar.lines import LineSplitter
from sidecar.metrics import Health, Meter
from sidecar.pipeline import Installed, Pipeline, Source
from sidecar.prices import PriceBook
from sidecar.series import MODEL, Store

EXACT_MODEL = "exact-model-of-good-lines"
GOOD = {
    "ts": "2026-01-01T00:00:00Z",
    "provider": "openai",
    "model": EXACT_MODEL,
    "endpoint": "/v1/chat/completions",
    "status_code": 200,
    "latency_ms": 120.5,
    "usage": {"prompt_tokens": 10, "completion_tokens": 3},
}
GOOD_LINE = json.dumps(GOOD).encode()
BOOK = PriceBook()
MAX_LINE_BYTES = 8 << 20

_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_parsers: list[Installed] = []


class Counted:
    """A pipeline on one file, and everything that it has counted."""

    def __init__(
        self,
        *,
        at_once: bool = True,
        max_line_bytes: int = MAX_LINE_BYTES,
        max_series: int = 2000,
        labels: Sequence[str] = (),
    ) -> None:
        _parsers.extend([] if _parsers else plugins.load(["auto"], {}))
        self.max_line_bytes = max_line_bytes
        self.health = Health()
        self.store = Store(max_series, tuple([f"extra{number}" for number in range(len(labels))]))
        self.meter = Meter(self.store, BOOK)
        self.exposition = Exposition(self.store, self.meter, self.health)
        self.pipeline = Pipeline(
            _parsers,
            self.meter,
            self.health,
            labels=labels,
            max_line_bytes=max_line_bytes,
            # one who looks at each request keeps lines from being read from their bytes at once
            observe=None if at_once else lambda request, parser: None,
        )
        self.source = Source("app.log")
        self.lines = LineSplitter(max_line_bytes)

    def feed(self, chunks: Iterable[bytes]) -> Counted:
        """Count bytes as they come."""
        for chunk in chunks:
            lines = self.lines.feed(chunk)
            too_long, self.lines.too_long = self.lines.too_long, 0
            self.pipeline.feed(self.source, lines, too_long)
        return self

    def end(self) -> Counted:
        """Count what stands at the end without a newline, as of a file that will not grow any more."""
        rest = self.lines.finish()
        self.health.lines["too_long"] += self.lines.too_long
        self.pipeline.finish(self.source, rest)
        return self

    @property
    def figures(self) -> dict[str, Any]:
        """Everything that was counted, as values that can be compared."""
        figures: dict[str, Any] = orjson.loads(
            orjson.dumps(
                [self.store.dump(), self.health.dump(), self.pipeline.dump(), self.source.dump()]
            )
        )
        return figures

    @property
    def results(self) -> int:
        """How many lines have ended in a result."""
        return sum(self.health.lines.values())

    def exact(self) -> tuple[int, int, int]:
        """Give requests, input and output tokens of the good lines' model."""
        mine = [series for series in self.store.series if series.labels[MODEL] == EXACT_MODEL]
        return (
            sum([series.count for series in mine]),
            sum([series.input_tokens for series in mine]),
            sum([series.output_tokens for series in mine]),
        )


def check_log(data: bytes, *, pages: bool = True) -> None:
    """Check all that holds for a log of any bytes, with good lines between its own."""
    lines = [line for line in data.split(b"\n") if EXACT_MODEL.encode() not in line]
    check_neighbours(lines, pages=pages)
    check_ways(b"\n".join(lines))


def check_neighbours(lines: Sequence[bytes], *, pages: bool = True) -> Counted:
    """Check that good lines count exactly, whatever stands between them, and each line once."""
    counted = Counted()
    is_joined = False
    number = 0
    counted.feed([GOOD_LINE + b"\n"] * 3)
    for line in lines:
        for one in (line, GOOD_LINE):
            counted.feed([one + b"\n"])
            number += 1
            is_joined |= bool(counted.source.fragments or counted.source.printed)
            pending = counted.source.held_owes or is_joined
            assert counted.results <= number + 3
            assert counted.results == number + 3 or pending
    check_state(counted, pages=pages)
    counted.end()
    good = len(lines) + 3
    assert counted.exact() == (good, 10 * good, 3 * good)
    assert counted.results == number + 3 or is_joined
    assert counted.results >= good
    requests = sum([series.count for series in counted.store.series])
    assert sum(counted.health.requests.values()) == requests
    if pages:
        check_pages(counted)
    return counted


def check_ways(data: bytes) -> None:
    """Check that the same bytes give the same figures: whole or in pieces, read at once or the general way."""
    whole = Counted().feed([data]).end().figures
    size = 1 + zlib.crc32(data) % 37
    pieces = [data[start : start + size] for start in range(0, min(len(data), 2000), size)]
    taken = size * len(pieces)
    assert Counted().feed([*pieces, data[taken:]]).end().figures == whole
    assert Counted(at_once=False).feed([data]).end().figures == whole


def check_splits(data: bytes, cuts: Sequence[int], *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
    """Check that bytes cut anywhere give the figures of the whole, also where lines are too long."""
    at = sorted({min(cut, len(data)) for cut in cuts})
    chunks = [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]
    whole = Counted(max_line_bytes=max_line_bytes).feed([data])
    cut = Counted(max_line_bytes=max_line_bytes)
    for chunk in chunks:
        cut.feed([chunk])
        assert cut.lines.pending_bytes <= max_line_bytes
    assert cut.figures == whole.figures
    assert cut.lines.pending_bytes == whole.lines.pending_bytes
    assert cut.end().figures == whole.end().figures


def check_pages(counted: Counted) -> None:
    """Check that both pages are read by prometheus_client, and say what the series say."""
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        page, content_type = counted.exposition.page(accept, None)
        figures = read_page(page, is_openmetrics="openmetrics" in content_type)
        requests = sum([series.count for series in counted.store.series])
        assert figures["ai_api_requests_total"] == requests
        tokens = sum([series.input_tokens for series in counted.store.series])
        assert math.isclose(figures["ai_api_input_tokens_total"], tokens, rel_tol=1e-12)
        assert figures["ai_sidecar_lines_total"] == counted.results


def read_page(page: bytes, *, is_openmetrics: bool = False) -> dict[str, float]:
    """Read a page with prometheus_client's own parser; give the sum of each name's samples."""
    text = page.decode()
    assert _UNPRINTABLE.search(text) is None
    sums: dict[str, float] = {}
    seen = set()
    for family in (parse_openmetrics if is_openmetrics else parse_text)(io.StringIO(text)):
        for sample in family.samples:
            assert math.isfinite(sample.value), sample
            assert sample.value >= 0, sample
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in seen, f"twice on one page: {key}"
            seen.add(key)
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def check_state(counted: Counted, *, pages: bool = True) -> None:
    """Check that a state can be written of what was counted, and that what is read of it is the same."""
    state = {
        "store": counted.store.dump(),
        "exposition": counted.exposition.dump(),
        "health": counted.health.dump(),
        "ids": counted.pipeline.dump(),
        "source": counted.source.dump(),
    }
    data = snapshot.encode(state)
    read = snapshot.decode(data)
    again = Counted(max_line_bytes=counted.max_line_bytes)
    again.store.load(read["store"])
    again.exposition.load(read["exposition"])
    again.health.load(read["health"])
    again.pipeline.load(read["ids"])
    again.source = Source.load(read["source"])
    assert again.figures == counted.figures
    if pages:
        own = b"# HELP ai_sidecar_lines_total"
        before, after = (one.exposition.page("", None)[0] for one in (counted, again))
        assert after.partition(own)[0] == before.partition(own)[0]
        counted.exposition.load(read["exposition"])


def check_state_file(data: bytes, whole: bytes) -> None:
    """Check that bytes are read as a state, or refused with a sentence; never something between.

    `whole` is a good file: other bytes that are taken must say the same, or have a checksum of their own.
    """
    try:
        state = snapshot.decode(data)
    except ValueError:
        return
    assert type(state) is dict
    head, _, body = data.partition(b"\n")
    assert orjson.loads(head)["crc32"] == zlib.crc32(body)
    if zlib.crc32(body) == zlib.crc32(whole.partition(b"\n")[2]):
        assert state == snapshot.decode(whole)
    store = Store(2000)
    try:
        store.load(state["store"])
    except (KeyError, TypeError, ValueError):
        # a file that nobody wrote but its checksum fits: refused, and nothing done
        assert store.series == []


def check_input(data: bytes) -> None:
    """Check one input of the fuzzer: its first byte says what the rest is."""
    kind, rest = data[:1], data[1:]
    if kind == b"S":
        # how much is a line too long, where the bytes are cut, the bytes
        limit = 16 + 8 * rest[0] if rest else 16
        check_splits(rest[6:], [one * 7 for one in rest[1:6]], max_line_bytes=limit)
    elif kind == b"F":
        check_state_file(rest, _state_file())
    elif kind == b"J":
        check_state_of(rest)
    else:
        check_log(rest, pages=zlib.crc32(rest) % 4 == 0)


def check_state_of(body: bytes) -> None:
    """Check that a state of this JSON, under a good checksum, is taken as a whole or refused with a sentence."""
    head = orjson.dumps({"version": snapshot.VERSION, "crc32": zlib.crc32(body)})
    try:
        state = snapshot.decode(head + b"\n" + body)
    except ValueError:
        return
    counted = Counted()
    for part, load in (("store", counted.store.load), ("exposition", counted.exposition.load)):
        before = counted.store.dump()
        told: Any = state.get(part)
        try:
            load(told)
        except ValueError:
            assert counted.store.dump() == before


def _state_file() -> bytes:
    counted = Counted().feed([GOOD_LINE + b"\n"])
    return snapshot.encode({"store": counted.store.dump(), "exposition": counted.exposition.dump()})

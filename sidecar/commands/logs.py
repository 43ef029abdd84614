"""Reads whole logs once, old ones and packed ones among them, for commands that look back."""

from __future__ import annotations

import gc
import gzip
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from .. import plugins
from ..config import Config, ConfigError
from ..lines import LineSplitter
from ..metrics import Health, Meter
from ..periods import Slices
from ..pipeline import Pipeline, Source
from ..prices import PriceBook
from ..series import Store

_LOG_NAME = re.compile(r"\.(?:log|json|jsonl|ndjson)(?:[.-][0-9][0-9A-Za-z.:_-]*?)?(?:\.gz)?\Z")
"""`app.log`, and what rotation makes of it: `app.log.1`, `app.log.2.gz`, `app.log-20260101.gz`."""
_GZIP = b"\x1f\x8b"
_CHUNK_BYTES = 256 * 1024
"""As much as is counted at once: more would fall out of the cache."""
STANDARD_INPUT = "-"


class Reading:
    """What counts whole logs; the figures are in `store`."""

    def __init__(
        self,
        config: Config,
        *,
        max_series: int,
        slices: Slices | None = None,
        slice_label: str = "_time",
        duration_bounds_ns: Sequence[int] | None = None,
    ) -> None:
        """`slices` give a label more, the last of the store; ConfigError for bad prices or parsers."""
        try:
            self.book = PriceBook.load(config.prices_path, config.prices)
            parsers = plugins.load(config.parsers, config.tables)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.health = Health()
        extra = config.extra_labels
        if slices is not None:
            extra += (slice_label,)
        self.store = Store(max_series, extra)
        meter = (
            Meter(self.store, self.book, cost_source=config.cost_source)
            if duration_bounds_ns is None
            else Meter(
                self.store,
                self.book,
                cost_source=config.cost_source,
                duration_bounds_ns=duration_bounds_ns,
                first_token_bounds_ns=duration_bounds_ns,
            )
        )
        self._pipeline = Pipeline(
            parsers,
            meter,
            self.health,
            envelope=config.envelope,
            labels=tuple(config.labels.values()),
            path_labels=config.path_labels,
            max_line_bytes=config.max_line_bytes,
            slices=slices,
        )
        self._max_line_bytes = config.max_line_bytes
        self.files = 0
        self._broken: list[str] = []

    def read(self, paths: Iterable[str], tell: Callable[[str], None]) -> None:
        """Count every line of the logs; what of a file cannot be read is told, and the others go on."""
        gc.freeze()
        # a line leaves no circles of garbage, and each look for them costs as much as a line
        gc.set_threshold(50_000, 20, 50)
        for name, opened in sources(paths):
            self.files += 1
            source, lines = Source(name), LineSplitter(self._max_line_bytes)
            try:
                with opened() as file:
                    while data := file.read(_CHUNK_BYTES):
                        whole = lines.whole(data)
                        too_long, lines.too_long = lines.too_long, 0
                        self._pipeline.feed_whole(source, whole, too_long)
            except (OSError, EOFError, zlib.error) as error:
                tell(f"{name}: cannot be read to its end ({error}); what came before it is counted")
            rest = lines.finish()
            self.health.lines["too_long"] += lines.too_long
            self._pipeline.finish(source, rest)


def sources(paths: Iterable[str]) -> Iterator[tuple[str, Callable[[], BinaryIO]]]:
    """Give each log of files, directories and globs, and what opens it; ConfigError for a path that is not there.

    The one that was written first comes first.
    """
    found: dict[Path, None] = {}
    has_standard_input = False
    for text in paths:
        if text == STANDARD_INPUT:
            has_standard_input = True
            continue
        path = Path(text)
        if path.is_dir():
            some = [one for one in path.rglob("*") if _LOG_NAME.search(one.name) and one.is_file()]
        elif path.exists():
            some = [path]
        else:
            anchor = Path(path.anchor)
            pattern = str(path.relative_to(anchor)) if path.anchor else text
            is_glob = any(sign in text for sign in "*?[")
            some = [one for one in anchor.glob(pattern) if one.is_file()] if is_glob else []
            if not some:
                raise ConfigError(
                    f"--log-path: expected a log, a directory or a glob of such, got {text!r}"
                )
        found.update(dict.fromkeys(some))
    for path in sorted(found, key=lambda one: (one.stat().st_mtime, str(one))):
        yield str(path), lambda path=path: _opened(path)  # type: ignore[misc] # its own for each
    if has_standard_input:
        yield "standard input", lambda: sys.stdin.buffer


def _opened(path: Path) -> BinaryIO:
    file = path.open("rb")
    if file.peek(2)[:2] == _GZIP:
        return cast("BinaryIO", gzip.open(file))
    return file


def many(number: int, noun: str) -> str:
    """Write a number of things, with the noun as it is then."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

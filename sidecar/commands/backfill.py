"""`ai-sidecar backfill`: old logs → OpenMetrics with timestamps, Prometheus blocks, and a state to go on from."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import click
import msgspec

from ..archive import OldFile, Reading, beginning, find
from ..config import Config, ConfigError, labels_of
from ..daemon import STDIN, Sidecar, spare_the_collector
from ..envelopes import time_of
from ..exposition import Exposition
from ..fields import timestamp
from ..follow import Old
from ..history import Deltas, TimedMeter, nothing_of, steps_of
from ..metrics import Health, Meter
from ..pipeline import Pipeline, Source
from ..series import Store
from ..timeline import Timeline

log = logging.getLogger("ai_sidecar")

_WRITE_BUFFER_BYTES = 1 << 20
_REDRAW_SECONDS = 0.2
_PROMTOOL = "promtool"
_MAX_PROOFS = 64
"""Rotated files of which the state holds the proof too, for one that is copied or renamed later."""
_PROBE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a backfill is told beside the main job's configuration."""

    output: Path | None
    """Where the OpenMetrics text goes; `-` is standard output."""
    blocks: Path | None
    step_seconds: int
    since: float
    """Unix seconds; what ended before is left out."""
    until: float | None
    """What ended then or later is left out; `None` for the time at which it runs."""
    labels: Mapping[str, str]
    """On every sample: those that Prometheus gives to what it scrapes."""


@click.command()
@click.option(
    "--output", metavar="FILE", help="Where the OpenMetrics text goes; - is standard output."
)
@click.option(
    "--blocks",
    metavar="DIR",
    help="Make Prometheus blocks there, by promtool; it may be Prometheus' own storage directory.",
)
@click.option(
    "--step",
    type=click.IntRange(1, 3600),
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="One sample of each series for so many seconds, as a scrape would have given.",
)
@click.option(
    "--since", metavar="TIME", help="Leave out what ended before: ISO 8601 (UTC) or Unix seconds."
)
@click.option("--until", metavar="TIME", help="Leave out what ended then or later; by default now.")
@click.option(
    "--target-label",
    multiple=True,
    metavar="NAME=VALUE",
    help="A label on every sample, as Prometheus gives to what it scrapes: job=…, instance=….",
)
@click.pass_context
def backfill(context: click.Context, /, **options: Any) -> None:
    """Turn old logs, rotated and packed ones too, into the samples that Prometheus would have scraped.

    With --state-dir the sidecar goes on from there: no request is counted twice and none is missed.
    """
    config, version = context.obj(context)
    # temporary files are large: they go when we do
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run(config, _plan(config, options), version=version, terminal=sys.stderr)


def _plan(config: Config, options: Mapping[str, Any]) -> Plan:
    if not options["output"] and not options["blocks"]:
        raise ConfigError("--output: expected a file, or a directory for --blocks, got neither")
    if options["blocks"] and shutil.which(_PROMTOOL) is None:
        raise ConfigError(
            "--blocks: expected promtool on PATH (it comes with Prometheus), got none; --output needs none"
        )
    if config.state_dir is not None and any(
        (config.state_dir / name).exists() for name in ("state.json", "state.json.bak")
    ):
        raise ConfigError(
            f"--state-dir: expected a directory without a state, got {str(config.state_dir)!r}"
        )
    since, until = (_moment(name, options[name]) for name in ("since", "until"))
    if since is not None and until is not None and since >= until:
        raise ConfigError(f"--until: expected a time after --since, got {options['until']!r}")
    labels: dict[str, str] = {}
    for pair in options["target_label"]:
        name, equals, value = pair.partition("=")
        labels[name] = value
        if not equals:
            raise ConfigError(f"--target-label: expected NAME=VALUE, got {pair!r}")
    # the same names are free as for --label
    with _option("--target-label"):
        labels_of(tuple([f"{name}=value" for name in labels]), {})
    for name in labels:
        if name in config.labels:
            raise ConfigError(f"--target-label: expected a name that no --label has, got {name!r}")
    return Plan(
        output=Path(options["output"]) if options["output"] else None,
        blocks=Path(options["blocks"]) if options["blocks"] else None,
        step_seconds=options["step"],
        since=since or 0.0,
        until=until,
        labels=labels,
    )


@contextlib.contextmanager
def _option(name: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(str(error).replace("--label", name)) from None


def _moment(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    found = timestamp(text)
    if found is None:
        with contextlib.suppress(ValueError):
            # a day alone, in UTC as all of it
            found = timestamp(datetime.fromisoformat(text).isoformat() + "Z")
    if found is None:
        raise ConfigError(f"--{name}: expected a time in ISO 8601 or Unix seconds, got {text!r}")
    return found


def run(config: Config, plan: Plan, *, version: str, terminal: TextIO) -> None:
    """Do all of it; OSError where it cannot be read or written, and what was there before is untouched."""
    work = Backfill(config, plan, version=version, progress=Progress(terminal))
    spare_the_collector()
    work.run()


class Backfill:
    """One run: read, merge, write, save."""

    def __init__(
        self,
        config: Config,
        plan: Plan,
        *,
        version: str,
        progress: Progress,
        now: float | None = None,
    ) -> None:
        if STDIN in config.log_paths:
            raise ConfigError("--log-path: expected files to fill back from, got -")
        self._plan = plan
        self._progress = progress
        self._now = time.time() if now is None else now
        # what is not over yet has no samples; whole milliseconds are what Prometheus keeps
        end = min(plan.until if plan.until is not None else self._now, self._now)
        self._end = math.floor(end * 1000) / 1000
        self._cuts = config.state_dir is not None and plan.until is not None
        # where the live log is begun does not matter: all of it is history
        self._config = replace(config, begin_at_end=False)
        self._sidecar = Sidecar(self._config, version=version, meter=TimedMeter)
        meter = self._sidecar.meter
        assert isinstance(meter, TimedMeter)  # noqa: S101 - we asked for one
        self._meter = meter
        self._files: list[list[Any]] = []
        """What the state says of each file."""
        self._history: list[list[Any]] = []
        self._last: dict[str, tuple[Source, bytes | None]] = {}
        """Of each group of rotated files, the one read last, and its unfinished line."""
        self._reads_wrappers = False
        """The records of the file that is read tell no time, but their wrappers do."""
        self._probe = _Probe(self._sidecar)

    def run(self) -> None:
        """Make everything that is asked for, and only then put it in its place."""
        plan = self._plan
        directory = _directory_of(plan)
        self._sidecar.hold_state()
        with contextlib.ExitStack() as stack:
            scratch = _scratch(stack, directory)
            deltas = Deltas(scratch)
            self._meter.begin(
                deltas,
                step_seconds=plan.step_seconds,
                since=plan.since,
                until=plan.until if plan.until is not None else math.inf,
            )
            self._read(self._find())
            self._complain()
            timeline = self._merge(deltas, scratch)
            deltas.close()
            if plan.output is not None and str(plan.output) == "-":
                timeline.write(sys.stdout.buffer.write, self._progress.phase("writing"))
                sys.stdout.buffer.flush()
            elif plan.output is not None:
                new = scratch / "openmetrics"
                with new.open("wb", buffering=_WRITE_BUFFER_BYTES) as file:
                    timeline.write(file.write, self._progress.phase("writing"))
                    file.flush()
                    os.fsync(file.fileno())
            made = self._make_blocks(timeline, stack) if plan.blocks is not None else []
            # all is there: from here on it only gets its names
            for block in made:
                assert plan.blocks is not None  # noqa: S101 - blocks were made
                block.rename(plan.blocks / block.name)
            if plan.output is not None and str(plan.output) != "-":
                (scratch / "openmetrics").replace(plan.output)
            self._save()
            self._progress.end(self._summary(timeline, len(made)))
            timeline.close()

    def _find(self) -> list[OldFile]:
        """Give the files, each generation after the one before it, as far as their first times tell."""
        patterns = list(self._config.log_paths)
        files = find(patterns, list(self._sidecar.follower.paths()))
        if not files:
            raise OSError(
                f"--log-path: expected files with lines, found none in {', '.join(patterns)}"
            )
        return sorted(files, key=lambda file: (self._probe.first_time(file), file.mtime, file.path))

    def _read(self, files: list[OldFile]) -> None:
        progress = self._progress
        total = sum([file.size for file in files])
        show = progress.phase("reading", total_bytes=total)
        done = 0
        pipeline, meter = self._sidecar.pipeline, self._meter
        for file in files:
            reading = Reading(file, self._config.max_line_bytes)
            source = Source(file.path)
            before = self._last.pop(file.group, None)
            if before is not None:
                # the runtime may have begun a new file in the middle of a line that it splits
                source.follow(before[0])
            # the sidecar can go on in the middle of a file, but not of a packed one
            cuts = self._cuts and not file.is_packed
            meter.begin_file(min(file.mtime, self._end), now=self._now, cuts=cuts)
            self._reads_wrappers = self._probe.reads_wrappers(file)
            rest: int | None = None
            for whole, too_long in reading.whole():
                if rest is None:
                    rest = self._feed(source, whole, too_long, cuts=cuts)
                if before is not None:
                    pipeline.finish(*before)
                    before = None
                show((done + reading.read_bytes) / total)
                if rest is not None:
                    break
            if before is not None:
                pipeline.finish(*before)
            if rest is not None:
                reading.cut(rest)
            done += file.size
            self._sidecar.health.read_bytes += reading.read_bytes
            self._end_file(file, reading, source, is_cut=rest is not None)
            meter.end_file()
        meter.begin_file(self._end, now=self._now, cuts=False)
        for source, half in self._last.values():
            pipeline.finish(source, half)
        meter.end_file()

    def _end_file(self, file: OldFile, reading: Reading, source: Source, *, is_cut: bool) -> None:
        """Count what stands at the end of a file that grows no more; keep for the state what one does."""
        goes_on = self._config.state_dir is not None and (file.is_live or is_cut)
        if goes_on and not file.is_packed:
            proof = reading.proof() if reading.tail is not None else None
            if proof is not None and proof.position:
                lines = reading.lines
                self._files.append(
                    [
                        file.path,
                        file.path,
                        file.identity,
                        msgspec.to_builtins(proof),
                        lines.pending_bytes,
                        lines.dropping,
                        source.dump(),
                    ]
                )
        else:
            self._last[file.group] = source, reading.lines.finish()
            if self._config.state_dir is not None:
                old = Old.of(file.path, Path(file.path).stat())
                self._history.append([file.identity, *old.dump()])
                if file.is_live or (not file.is_packed and len(self._files) < _MAX_PROOFS):
                    self._files.append(
                        [
                            file.path,
                            file.path,
                            file.identity,
                            msgspec.to_builtins(reading.proof()),
                            0,
                            False,
                            Source(file.path).dump(),
                        ]
                    )
        reading.close()

    def _feed(self, source: Source, whole: bytes, too_long: int, *, cuts: bool) -> int | None:
        """Count whole lines; where the history ends among them, give how many bytes are left for later."""
        pipeline, meter, health = self._sidecar.pipeline, self._meter, self._sidecar.health
        if not cuts:
            self._feed_lines(source, whole, too_long)
            return None
        before = source.dump(), dict(health.lines), dict(health.requests), pipeline.dump()
        self._feed_lines(source, whole, too_long)
        if not meter.is_past:
            return None
        # the figures are those of the lines before; find how many these were, and be as after the last of them
        dumped, lines, requests, ids = before
        health.lines, health.requests = lines, requests
        pipeline.load(ids)
        again = Source.load(dumped)
        meter.is_past, meter.only_looks = False, True
        texts = whole.split(b"\n")[:-1]
        health.lines["too_long"] += too_long
        left = len(whole)
        for text in texts:
            kept = again.dump(), dict(health.lines), dict(health.requests), pipeline.dump()
            meter.hint = time_of(text)
            pipeline.feed(again, [text])
            if meter.is_past:
                break
            left -= len(text) + 1
        else:
            raise AssertionError("a line of the future is gone")
        meter.hint = None
        meter.is_past, meter.only_looks = False, False
        dumped, health.lines, health.requests, ids = kept
        pipeline.load(ids)
        found = Source.load(dumped)
        for name in Source.__slots__:
            setattr(source, name, getattr(found, name))
        return left

    def _feed_lines(self, source: Source, whole: bytes, too_long: int) -> None:
        """Count whole lines; where records tell no time but their wrappers do, one by one, by that."""
        meter, pipeline = self._meter, self._sidecar.pipeline
        untimed = meter.untimed
        if not self._reads_wrappers:
            pipeline.feed_whole(source, whole, too_long)
            self._reads_wrappers = (
                meter.untimed > untimed and time_of(whole[: whole.find(b"\n")]) is not None
            )
            return
        self._sidecar.health.lines["too_long"] += too_long
        for line in whole.split(b"\n")[:-1]:
            meter.hint = time_of(line)
            pipeline.feed(source, [line])
        meter.hint = None

    def _complain(self) -> None:
        meter = self._meter
        if meter.untimed:
            log.warning(
                "%d requests tell no time that can be: they stand under the time of the one before them",
                meter.untimed,
            )
        if self._cuts and meter.after:
            log.warning(
                "%d requests in packed files ended at --until or later: the sidecar will not read them either",
                meter.after,
            )
        if meter.before or meter.after:
            log.info(
                "%d requests were left out: %d before --since, %d at --until or later",
                meter.before + meter.after,
                meter.before,
                meter.after,
            )

    def _merge(self, deltas: Deltas, scratch: Path) -> Timeline:
        sidecar, plan = self._sidecar, self._plan
        totals = nothing_of(sidecar.store)
        exposition = Exposition(totals, sidecar.meter, Health(), zero_first=False)
        timeline = Timeline(
            exposition,
            scratch,
            step_seconds=plan.step_seconds,
            end=self._end,
            zero_first=self._config.zero_first,
            labels=plan.labels,
        )
        show = self._progress.phase("merging")
        for step in steps_of(deltas, totals):
            timeline.take(step)
            show(deltas.part_given)
        if plan.until is not None or self._config.state_dir is not None:
            timeline.last_until(self._end)
        sidecar.store.load(totals.dump())
        return timeline

    def _make_blocks(self, timeline: Timeline, stack: contextlib.ExitStack) -> list[Path]:
        """Make the blocks in a directory of our own; each from the text of its own two hours.

        promtool reads all of its input anew for every block, so it is given no more than one needs.
        """
        assert self._plan.blocks is not None  # noqa: S101 - blocks were asked for
        scratch = _scratch(stack, self._plan.blocks)
        blocks = scratch / "blocks"
        blocks.mkdir()
        text = scratch / "window"
        file: BinaryIO | None = None

        def begin(_: int) -> Callable[[bytes], object]:
            nonlocal file
            end()
            file = text.open("wb", buffering=_WRITE_BUFFER_BYTES)
            return file.write

        def end() -> None:
            if file is not None:
                file.close()
                done = subprocess.run(  # noqa: S603 - the user asked for it
                    [
                        _PROMTOOL,
                        "tsdb",
                        "create-blocks-from",
                        "openmetrics",
                        "-q",
                        str(text),
                        str(blocks),
                    ],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    raise OSError(f"--blocks: promtool failed: {done.stderr.strip()[:500]}")

        timeline.write_windows(begin, self._progress.phase("blocks"))
        end()
        return [path for path in sorted(blocks.iterdir()) if (path / "meta.json").is_file()]

    def _save(self) -> None:
        """Write the state from which the sidecar goes on."""
        if self._config.state_dir is None:
            return
        self._sidecar.follower.load(
            {"files": self._files, "old_history": self._history}, time.monotonic()
        )
        self._sidecar.save()
        if self._sidecar.health.state_saves.get("failure"):
            raise OSError(
                "--state-dir: the state could not be saved; what was written stands without it"
            )

    def _summary(self, timeline: Timeline, blocks: int) -> str:
        lines = self._sidecar.health.lines
        return (
            f"{sum(lines.values()):,} lines, {lines['request']:,} with requests, "
            f"{timeline.sample_count:,} samples" + (f", {blocks} blocks" if blocks else "")
        )


class _Probe:
    """Looks into the beginnings of files: from when are they, and do their records tell it?"""

    def __init__(self, sidecar: Sidecar) -> None:
        store = Store(1)
        self._times: list[float | None] = []
        self._pipeline = Pipeline(
            sidecar.parsers,
            Meter(store, sidecar.book),
            Health(),
            envelope=sidecar.config.envelope,
            observe=lambda request, _: self._times.append(request.timestamp),
        )
        self._reads_wrappers: set[tuple[int, int]] = set()

    def first_time(self, file: OldFile) -> float:
        """Give when the first request of a file ended, or its wrapper was written; else when the file was."""
        lines = beginning(file, _PROBE_BYTES).split(b"\n")[:-1]
        self._times.clear()
        source = Source(file.path)
        self._pipeline.feed(source, lines)
        self._pipeline.finish(source, None)
        told = [time for time in self._times if time is not None]
        wrapped = [time for time in map(time_of, lines[:1]) if time is not None]
        if wrapped and len(told) < len(self._times):
            self._reads_wrappers.add(file.identity)
        return next(iter([*told, *wrapped]), file.mtime)

    def reads_wrappers(self, file: OldFile) -> bool:
        """Tell whether some records tell no time, but their wrappers do."""
        return file.identity in self._reads_wrappers


class Progress:
    """How far it is, how fast, and how long it takes yet; drawn on a terminal alone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_drawn = stream.isatty()
        self._drawn_at = 0.0

    def phase(self, name: str, total_bytes: int = 0) -> Callable[[float], None]:
        """Begin a part of the work; give what is told how much of it is done, from 0 to 1."""
        start = time.monotonic()

        def show(part: float) -> None:
            now = time.monotonic()
            if now - self._drawn_at < _REDRAW_SECONDS:
                return
            self._drawn_at = now
            seconds = max(now - start, 1e-3)
            rate = f"{part * total_bytes / seconds / 1e6:7.1f} MB/s" if total_bytes else " " * 12
            left = seconds * (1 - part) / part if part else 0.0
            bar = "#" * int(part * 30)
            self._stream.write(
                f"\r{name:<8} [{bar:<30}] {part:4.0%} {rate}  {left // 60:3.0f}:{left % 60:02.0f} left "
            )
            self._stream.flush()

        return show if self._is_drawn else lambda _: None

    def end(self, summary: str) -> None:
        """Say what was done, in place of the bar."""
        if self._is_drawn:
            self._stream.write(f"\r\x1b[K{summary}\n")
            self._stream.flush()


def _scratch(stack: contextlib.ExitStack, directory: Path) -> Path:
    """Make a directory for temporary files that is gone with the stack."""
    return Path(
        stack.enter_context(
            tempfile.TemporaryDirectory(prefix=".ai-sidecar-backfill-", dir=directory)
        )
    )


def _directory_of(plan: Plan) -> Path:
    """Give where the temporary files go: beside what is made of them, so that a rename puts it in its place."""
    if plan.blocks is not None:
        try:
            plan.blocks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"--blocks: expected a directory that can be written, got {str(plan.blocks)!r}: {error.strerror}"
            ) from None
    if plan.output is None or str(plan.output) == "-":
        return plan.blocks if plan.blocks is not None else Path(tempfile.gettempdir())
    directory = plan.output.parent
    if not directory.is_dir() or not os.access(directory, os.W_OK) or plan.output.is_dir():
        raise ConfigError(
            f"--output: expected a file in a directory that can be written, got {str(plan.output)!r}"
        )
    return directory

"""Wires the rooms together: the one loop, the signals, the end.

One thread reads, counts and renders, a step at a time; the server's thread only moves bytes. So a page
is one moment of the log, and nothing needs a lock.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from . import malloc, plugins, snapshot
from .budgets import Budgets
from .config import Config, ConfigError
from .exposition import Exposition
from .follow import Follower
from .lines import LineSplitter
from .metrics import SCHEMAS, Health, Meter
from .pipeline import HOLD_SECONDS, Installed, Pipeline, Source
from .prices import PriceBook
from .recent import Recent
from .request import Request
from .series import Store
from .snapshot import StateDirectory
from .status import RENEW_SAVED_SECONDS, RENEW_SECONDS, File, Models, status
from .tail import CHUNK_BYTES, LONG_CHUNK_BYTES
from .watch import Bell, StandardInput, Watch

if TYPE_CHECKING:
    from .push import Pusher
    from .server import Ask

log = logging.getLogger("ai_sidecar")

STEP_BYTES = LONG_CHUNK_BYTES
"""How much of one file is read at the most before others, and scrapes, have their turn."""
DRAIN_SECONDS = 2.5
"""How long what is there is read at the end."""
LAST_PUSH_SECONDS = 1.5
"""How long the last push may take, so that all of the end stays under five seconds."""
ONCE_PUSH_SECONDS = 30.0
HANG_SECONDS = 30.0
"""How long the loop may be silent before /health says that it hangs."""
NEED_RESTART = (
    "auth_path", "begin_at_end", "envelope", "host", "labels", "max_line_bytes", "max_series", "port",
    "path_labels", "push_url", "schemas", "state_dir", "tls_cert", "tls_client_ca", "tls_key", "zero_first",
)  # fmt: skip
MIN_LOOK_SECONDS = 0.02
"""How often, at the most, events make us look for new files."""
LOOK_SHARE = 0.2
"""How much of the time, at the most, such looks may take where there are many files."""
REST_SECONDS = 0.01
"""How long a file that was read to its end is left alone, unless somebody asks: its next lines are read together."""
STDIN = "-"


class Sidecar:
    """Everything that is counted and what counts it; `step` is the whole of the work, without waiting."""

    def __init__(
        self,
        config: Config,
        *,
        version: str,
        observe: Callable[[Request, str], None] | None = None,
        meter: type[Meter] = Meter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` tells which day it is for budgets, Unix seconds."""
        self.config = config
        try:
            self.book = PriceBook.load(config.prices_path, config.prices)
            self.parsers: list[Installed] = plugins.load(config.parsers, config.tables)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self._observe, self._meter_type, self._clock = observe, meter, clock
        self.health = Health(version=version)
        self._begin()
        self.health.prices_timestamp_seconds = self.book.timestamp_seconds
        self._stdin_source = Source(STDIN)
        self._stdin_lines = LineSplitter(config.max_line_bytes)
        self._prices_mtime = self._mtime_of_prices()
        self._state = StateDirectory(config.state_dir) if config.state_dir is not None else None
        self._saved: object = None
        self._sequence = 0
        self._has_failed_to_save = False

    def _begin(self) -> None:
        """Make what counts, with nothing counted."""
        config = self.config
        self.store = Store(
            config.max_series, config.extra_labels, for_gen_ai="gen_ai" in config.schemas
        )
        self.budgets = Budgets(config.budgets, config.extra_labels, self._clock)
        self.meter = self._meter_type(
            self.store,
            self.book,
            cost_source=config.cost_source,
            budgets=self.budgets,
            families=tuple(family for name in config.schemas for family in SCHEMAS[name]),
        )
        self.exposition = Exposition(
            self.store,
            self.meter,
            self.health,
            zero_first=config.zero_first,
            # a job's figures begin with the job
            begins_at_zero=config.linger_seconds > 0,
            budgets=self.budgets,
        )
        self.history = Recent(self.store)
        self.models = Models(self.store)
        self.pipeline = Pipeline(
            self.parsers,
            self.meter,
            self.health,
            envelope=config.envelope,
            labels=tuple(config.labels.values()),
            path_labels=config.path_labels,
            max_line_bytes=config.max_line_bytes,
            observe=self._observe,
        )
        self.follower = Follower(
            [path for path in config.log_paths if path != STDIN],
            max_line_bytes=config.max_line_bytes,
            from_end=config.begin_at_end,
            health=self.health,
            feed=self.pipeline.feed_whole,
            finish=self.pipeline.finish,
        )

    def hold_state(self) -> None:
        """Take the state directory for ourselves; StateInUseError where another sidecar has it."""
        if self._state is not None:
            self._state.hold()

    def restore(self, now: float) -> None:
        """Go on from the last state that can be read; without one the log is read from its start."""
        if self._state is None:
            return
        is_there, unreadable = self._state.read(lambda state: self._take(state, now))
        if self._state.is_behind:
            # what is new since then may have been shown with its value: 0 now would be a step back
            self.exposition.forget_scrapers()
        if unreadable:
            saves = self.health.state_saves
            saves["unreadable"] = saves.get("unreadable", 0) + unreadable
            if not is_there:
                log.warning("no state can be used: the log is read again")

    def _take(self, state: dict[str, Any], now: float) -> None:
        """Go on from a state, all of it or nothing: counters without their positions would count the log twice."""
        nothing = deepcopy(self.health.dump())
        try:
            self.store.load(state["store"])
            self.exposition.load(state["exposition"])
            self.budgets.load(state.get("budgets", []))
            self.pipeline.load(state["ids"])
            self.follower.load(state["follow"], now)
            names = state["store"]["extra_labels"]
            for source in [generation.source for generation in self.follower.generations]:
                if source.held is not None:
                    request, extra, parser = source.held
                    values = dict(zip(names, extra, strict=True))
                    extra = tuple([values.get(name, "") for name in self.store.extra_labels])
                    source.held = (request, extra, parser)
            self.history.load(state.get("history", {}), time.time())
            self.health.load(state["health"])
            self._sequence = int(state["sequence"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # whole, but of another shape than ours
            for generation in self.follower.generations:
                generation.tail.close()
            self._begin()
            self.health.forget(nothing)
            raise ValueError(f"it does not fit ({type(error).__name__}: {error})") from None

    def save(self) -> None:
        """Save the state where something has changed since; a failure is said once, counted, and stops nothing."""
        if self._state is None:
            return
        health = self.health
        mark = (
            health.read_bytes,
            tuple(health.lines.values()),
            tuple(health.rotations.values()),
            self.exposition.shown,
            tuple(generation.identity for generation in self.follower.generations),
        )
        if mark == self._saved:
            return
        self._sequence += 1
        data = snapshot.encode(
            {
                "sequence": self._sequence,
                "store": self.store.dump(packed=True),
                "exposition": self.exposition.dump(),
                "health": health.dump(),
                "ids": self.pipeline.dump(),
                "budgets": self.budgets.dump(),
                "follow": self.follower.dump(),
                "history": self.history.dump(),
            }
        )
        try:
            self._state.write(data)
        except OSError as error:
            health.state_saves["failure"] = health.state_saves.get("failure", 0) + 1
            if not self._has_failed_to_save:
                log.error(
                    "the state cannot be saved (%s); counting goes on, and so does trying",
                    error.strerror,
                )
            self._has_failed_to_save = True
            return
        if self._has_failed_to_save:
            log.info("the state can be saved again")
        self._has_failed_to_save = False
        self._saved = mark
        health.state_saves["success"] = health.state_saves.get("success", 0) + 1
        health.state_last_save_timestamp_seconds = time.time()

    def step(self, budget_bytes: int = STEP_BYTES) -> bool:
        """Read and count what is there, at most `budget_bytes` of each file; True where there may be more."""
        is_busy = False
        for source, whole, too_long in self.follower.read(budget_bytes):
            self.pipeline.feed_whole(source, whole, too_long)
            is_busy = True
        return is_busy

    def feed_standard_input(self, data: bytes) -> None:
        """Count bytes of standard input; none is its end."""
        if data:
            whole = self._stdin_lines.whole(data)
            self.health.read_bytes += len(data)
            too_long, self._stdin_lines.too_long = self._stdin_lines.too_long, 0
            self.pipeline.feed_whole(self._stdin_source, whole, too_long)
        else:
            self.pipeline.finish(self._stdin_source, self._stdin_lines.finish())

    def read_all(self) -> None:
        """Read everything that is there now, to the last line that has no newline."""
        self.follower.look(0.0)
        while self.step():
            self.follower.check(0.0)
        self.follower.finish()
        if STDIN in self.config.log_paths:
            while data := os.read(sys.stdin.fileno(), CHUNK_BYTES):
                self.feed_standard_input(data)
            self.feed_standard_input(b"")

    def release_quiet(self, now: float) -> None:
        """Count held requests of files that have been quiet for long."""
        follower = self.follower
        for generation in [*follower.stirred]:
            if now - generation.last_change > HOLD_SECONDS:
                if generation.source.held is not None:
                    self.pipeline.release(generation.source)
                if not follower.may_have_more(generation):
                    del follower.stirred[generation]

    def status(self, now: float, started: float) -> bytes:
        """Give what the page for people draws from; `now` is on the monotonic clock."""
        return status(
            now=time.time(),
            started=started,
            store=self.store,
            health=self.health,
            history=self.history,
            models=self.models,
            paths=self.config.log_paths,
            files=[
                File(
                    path=generation.path,
                    read_bytes=generation.tail.offset,
                    lag_bytes=generation.lag_bytes,
                    idle_seconds=max(0.0, now - generation.last_change),
                    is_rotated=not generation.is_live,
                )
                for generation in self.follower.generations
            ],
            keeps_state=self._state is not None,
        )

    def use(self, config: Config, now: float) -> None:
        """Go on by another configuration; ValueError, and nothing done, where it is bad.

        What the series, the port or the state hang on needs a restart: it is named in the log and stays.
        """
        fixed = [
            name.replace("_", "-")
            for name in NEED_RESTART
            if getattr(config, name) != getattr(self.config, name)
        ]
        book = PriceBook.load(config.prices_path, config.prices)
        parsers = plugins.load(config.parsers, config.tables)
        if fixed:
            log.warning("only a restart brings another %s", ", ".join(fixed))
        self.config = replace(config, **{name: getattr(self.config, name) for name in NEED_RESTART})
        self.book = book
        self.budgets.use(config.budgets)
        self.meter.use(book, cost_source=config.cost_source)
        self.parsers = parsers
        sources = [generation.source for generation in self.follower.generations]
        self.pipeline.use(parsers, [*sources, self._stdin_source])
        self.follower.use([path for path in config.log_paths if path != STDIN], now)
        log.info("configuration read again")

    def renew_prices(self, *, force: bool = False) -> None:
        """Read the price file again where it changed; one that cannot be read is refused and the old one stays."""
        mtime = self._mtime_of_prices()
        if mtime == self._prices_mtime and not force:
            return
        self._prices_mtime = mtime
        try:
            self.book = PriceBook.load(self.config.prices_path, self.config.prices)
        except ValueError as error:
            log.warning("the prices stay as they were: %s", error)
            return
        self.meter.use(self.book)
        self.health.prices_timestamp_seconds = self.book.timestamp_seconds
        log.info("prices read again")

    def _mtime_of_prices(self) -> int:
        path = self.config.prices_path
        try:
            return path.stat().st_mtime_ns if path is not None else 0
        except OSError:
            return 0


def spare_the_collector() -> None:
    """Look for circles of garbage seldom: a line leaves none, and each look costs as much as a line."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def once(config: Config, *, version: str) -> bytes:
    """Read all there is and give the page, and push it where that is asked for; OSError where it cannot be."""
    sidecar = Sidecar(config, version=version)
    pusher = _pusher(sidecar)
    spare_the_collector()
    malloc.settle()
    sidecar.read_all()
    page = sidecar.exposition.page("text/plain", None)[0]
    if pusher is not None:
        pusher.start()
        if not pusher.push_last(page, ONCE_PUSH_SECONDS):
            raise OSError("--push-url: the page did not reach the Pushgateway")
    return page


def _pusher(sidecar: Sidecar) -> Pusher | None:
    """Make what pushes, where that is asked for; ConfigError for an address that is none."""
    if sidecar.config.push_url is None:
        return None
    # only who pushes needs it
    from .push import Pusher

    try:
        return Pusher(sidecar.config.push_url, sidecar.health.pushes)
    except ValueError as error:
        raise ConfigError(str(error)) from None


class Loop:
    """The one loop: it waits here and nowhere else."""

    def __init__(self, sidecar: Sidecar, reload: Callable[[], Config] | None = None) -> None:
        # what serves is not needed for a page on standard output
        from . import page
        from .server import Server, Tls, read_users

        self._sidecar = sidecar
        self._woken = Bell()
        self._is_stopping = False
        self._is_impatient = False
        self._reload = reload
        self._is_reload_due = False
        self._is_ready = False
        self._heartbeat = time.monotonic()
        self._started = time.time()
        config = sidecar.config
        try:
            self._tls = (
                Tls(config.tls_cert, config.tls_key, config.tls_client_ca)
                if config.tls_cert
                else None
            )
            users = read_users(config.auth_path) if config.auth_path else None
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.server = Server(
            config.host,
            config.port,
            wake=self._woken.set,
            health=self._health,
            ready=self._ready,
            still={"/": page.load()},
            tls=self._tls,
            users=users,
        )
        self._status = b""
        self._status_at = float("-inf")
        # one moment is shown to all who look at the page: many of them cost what one does
        renew_seconds = RENEW_SAVED_SECONDS if config.state_dir else RENEW_SECONDS
        self._status_seconds = renew_seconds / 2
        self._pusher = _pusher(sidecar)
        self._is_look_due = True
        self._watch = Watch()
        self._stdin = StandardInput(self._woken.set) if STDIN in config.log_paths else None

    def run(self) -> None:
        """Serve and count until told to stop."""
        for name, act in self._signals().items():
            signal.signal(name, act)
        self._sidecar.hold_state()
        self.server.bind()
        scheme = "https" if self._tls else "http"
        log.info("serving on %s://%s:%d", scheme, self._sidecar.config.host, self.server.port)
        self.server.start()
        if self._stdin is not None:
            self._stdin.start()
        if self._pusher is not None:
            self._pusher.start()
        sidecar = self._sidecar
        sidecar.restore(time.monotonic())
        next_look = next_save = next_push = earliest_look = 0.0
        unread_at_start: int | None = None
        try:
            while not self._is_stopping:
                now = self._heartbeat = time.monotonic()
                changed, is_name_new = self._watch.take()
                self._is_look_due |= is_name_new
                if self._is_look_due:
                    # a name has come or gone: look round soon, but not for each name of a storm
                    next_look = min(next_look, max(now, earliest_look))
                if self._woken.is_set() or changed or now >= next_look or not self._is_ready:
                    self._woken.clear()
                    if self._is_reload_due:
                        self._is_reload_due = False
                        self._read_again()
                        next_look = now
                    if now >= next_look:
                        sidecar.follower.look(
                            now, by_turns=self._watch.tells_all and not self._is_look_due
                        )
                        self._is_look_due = False
                        took = time.monotonic() - now
                        earliest_look = now + max(MIN_LOOK_SECONDS, took / LOOK_SHARE)
                        sidecar.release_quiet(now)
                        sidecar.renew_prices()
                        next_look = now + sidecar.config.poll_interval_seconds
                    else:
                        sidecar.follower.check(now, changed if self._watch.tells_all else None)
                if unread_at_start is None:
                    unread_at_start = sidecar.health.read_bytes + sidecar.follower.lag_bytes
                if self._is_ready:
                    sidecar.history.tick(time.time())
                is_busy = sidecar.step()
                is_fed = self._take_standard_input()
                if not self._is_ready and (
                    not (is_busy or is_fed) or sidecar.health.read_bytes >= unread_at_start
                ):
                    # what was there at the start is counted; a writer that never rests must not keep us waiting
                    sidecar.history.begin(time.time())
                    sidecar.save()
                    self._is_ready = True
                if self._is_ready and now >= next_save:
                    sidecar.save()
                    next_save = now + sidecar.config.state_interval_seconds
                if self._pusher is not None and self._is_ready and now >= next_push:
                    self._pusher.push(self._page_to_push())
                    next_push = now + sidecar.config.push_interval_seconds
                self._answer()
                if self._is_ready:
                    # not before, for it takes longer than reading a short log. What came before it gave no event
                    self._is_look_due |= self._watch.cover(sidecar.follower.directories())
                if is_busy or is_fed:
                    if self._is_ready and not (is_fed or sidecar.follower.has_more):
                        self._woken.wait(min(REST_SECONDS, next_look - time.monotonic()))
                    sidecar.follower.check_read(time.monotonic())
                    continue
                due = min(next_look, max(now, earliest_look)) if self._is_look_due else next_look
                self._woken.wait(due - time.monotonic(), self._watch.fd)
            self._drain()
            self._linger()
        finally:
            self._watch.stop()
            self.server.stop(1.0)

    def _signals(self) -> dict[signal.Signals, Callable[[int, FrameType | None], None]]:
        return {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._hang_up}

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        # told again, it does not linger
        self._is_impatient = self._is_stopping
        self._is_stopping = True
        self._woken.set()

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._is_reload_due = True
        self._woken.set()

    def _read_again(self) -> None:
        """Read configuration, prices, users and certificates again; what is bad is refused and the old stays."""
        sidecar = self._sidecar
        try:
            if self._reload is not None:
                sidecar.use(self._reload(), time.monotonic())
            if sidecar.config.auth_path:
                from .server import read_users

                self.server.renew_users(read_users(sidecar.config.auth_path))
        except ValueError as error:
            log.warning("the configuration stays as it was: %s", error)
        sidecar.renew_prices(force=True)
        if self._tls is not None:
            self._tls.renew()

    def _page_to_push(self) -> bytes:
        sidecar = self._sidecar
        # what others are shown has been saved before
        sidecar.save()
        sidecar.health.lag_bytes = sidecar.follower.lag_bytes
        return sidecar.exposition.page("text/plain", None)[0]

    def _drain(self) -> None:
        """Read what is there at the end, save, push."""
        deadline = time.monotonic() + max(DRAIN_SECONDS, self._sidecar.config.linger_seconds)
        self._sidecar.follower.look(time.monotonic())
        while self._sidecar.step() and time.monotonic() < deadline:
            self._heartbeat = time.monotonic()
            self._sidecar.follower.check(self._heartbeat)
            self._answer()
        if self._sidecar.config.state_dir is None:
            # nobody goes on from here: what is held, and a last line without its newline, count now or never
            self._sidecar.follower.finish()
        self._sidecar.save()
        self._answer()
        if self._pusher is not None:
            self._pusher.push_last(self._page_to_push(), LAST_PUSH_SECONDS)

    def _linger(self) -> None:
        """Serve on until each scraper has been shown the last figures, or the time for it has passed."""
        exposition = self._sidecar.exposition
        deadline = time.monotonic() + self._sidecar.config.linger_seconds
        last = exposition.page_number
        while not (self._is_impatient or exposition.has_told_all_since(last)):
            self._heartbeat = time.monotonic()
            if self._heartbeat >= deadline:
                return
            self._woken.wait(min(deadline - self._heartbeat, 1.0))
            self._woken.clear()
            self._answer()

    def _take_standard_input(self) -> bool:
        if self._stdin is None:
            return False
        data = self._stdin.take(CHUNK_BYTES)
        if data is None:
            return False
        self._sidecar.feed_standard_input(data)
        return bool(data)

    def _answer(self) -> None:
        asks = self.server.take_asks()
        if not asks:
            return
        sidecar = self._sidecar
        now = time.monotonic()
        for ask in asks:
            if ask.path == "/metrics":
                sidecar.exposition.meet(ask.scraper)
        is_status_due = now - self._status_at >= self._status_seconds
        if is_status_due or any(ask.path == "/metrics" for ask in asks):
            # what a page shows has been saved before
            sidecar.save()
        sidecar.health.lag_bytes = sidecar.follower.lag_bytes
        waiting: dict[tuple[str, str, str | None], list[Ask]] = {}
        for ask in asks:
            waiting.setdefault(ask.key, []).append(ask)
        for together in waiting.values():
            ask = together[0]
            body: bytes | list[bytes]
            if ask.path == "/metrics":
                body, content_type = sidecar.exposition.parts(ask.accept, ask.scraper)
            else:
                if is_status_due:
                    self._status, self._status_at = sidecar.status(now, self._started), now
                    is_status_due = False
                body, content_type = self._status, "application/json"
            self.server.answer(together, 200, body, content_type)

    def _health(self) -> tuple[int, bytes]:
        silent_seconds = time.monotonic() - self._heartbeat
        is_healthy = silent_seconds < HANG_SECONDS + self._sidecar.config.poll_interval_seconds
        body = {
            "status": "healthy" if is_healthy else "hanging",
            "uptime_seconds": round(time.time() - self._started, 3),
            "silent_seconds": round(silent_seconds, 3),
            "files": self._sidecar.health.files,
        }
        return (200 if is_healthy else 503), json.dumps(body).encode()

    def _ready(self) -> tuple[int, bytes]:
        if self._is_ready:
            return 200, b'{"status":"ready"}'
        return 503, b'{"status":"catching up"}'


def run(config: Config, *, version: str, reload: Callable[[], Config] | None = None) -> None:
    """Do the main job until SIGTERM or SIGINT; OSError where the port cannot be had.

    `reload` reads the configuration again at SIGHUP; ConfigError where it is not good any more.
    """
    loop = Loop(Sidecar(config, version=version), reload)
    spare_the_collector()
    malloc.settle()
    loop.run()

"""Faults that no other file of tests holds: what moves, what cannot be had for a while, what lies."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus import sidecar_process, wait_until
from test_follow import Run, append, line
from test_snapshot import Life
from workload import samples_of, total

from sidecar import follow
from sidecar.config import Config
from sidecar.daemon import Sidecar
from sidecar.tail import open_regular
from sidecar.watch import Watch


@pytest.fixture
def log(tmp_path: Path) -> Path:
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory / "app.log"


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


def archive(log: Path) -> None:
    (log.parent.parent / "archive").mkdir()
    log.rename(log.parent.parent / "archive" / "app.log")


def delete(log: Path) -> None:
    log.unlink()


def move_directory(log: Path) -> None:
    log.parent.rename(log.parent.with_name("moved"))
    log.parent.mkdir()


@pytest.mark.parametrize("go", [archive, delete, move_directory])
def test_a_file_that_is_gone_from_all_places_we_know_is_read_while_it_is_written(
    log: Path, go: Callable[[Path], None]
) -> None:
    append(log, 1)
    run = Run(log)
    run.look()
    with log.open("ab") as old:
        # what nobody has read yet, and the first half of a line
        old.write(line(10) + line(100)[:20])
        old.flush()
        go(log)
        assert run.look() == 11
        append(log, 1000)
        old.write(line(100)[20:])
        old.flush()
        assert run.look() == 1111


@pytest.mark.parametrize("begun_with", [b"banner of no use\n" * 100, line(1)], ids=len)
def test_a_truncated_file_that_begins_as_before_is_told_by_what_stood_last(
    log: Path, begun_with: bytes
) -> None:
    log.write_bytes(begun_with)
    append(log, 10)
    run = Run(log)
    before = run.look()
    log.write_bytes(begun_with)
    append(log, *range(20, 60))

    # what it begins with is counted again, for it was written again
    assert run.look() == before + (before - 10) + sum(range(20, 60))
    assert run.seen("truncate") == 1


def test_a_half_line_of_a_writer_that_died_costs_no_line_but_the_one_behind_it(log: Path) -> None:
    append(log, 1)
    run = Run(log)
    with log.open("ab") as file:
        file.write(line(5000)[:60])
        file.flush()
        assert run.look() == 1
        # its successor goes on in the middle of that line
        file.write(line(10) + line(100) + line(1000))

    assert run.look() in (1101, 1111)
    assert run.sidecar.health.lines["request"] + run.sidecar.health.lines["not_json"] == 4


def test_more_files_than_may_be_open_are_all_read(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.sidecar.follower._max_open = 10
    number_of_files = 300
    for number in range(number_of_files):
        append(tmp_path / f"f{number}.log", 1)
    assert run.look() == number_of_files
    run.look()
    open_ones = [one for one in run.sidecar.follower.generations if one.tail.fd >= 0]
    assert len(open_ones) <= 10
    for number in range(number_of_files):
        append(tmp_path / f"f{number}.log", 10)

    assert run.look() == 11 * number_of_files
    assert run.look() == 11 * number_of_files


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(24, "too many")], ids=str)
def test_a_file_that_cannot_be_opened_yet_is_told_and_read_as_soon_as_it_can(
    log: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    other = log.with_name("other.log")
    append(log, 1)
    append(other, 10)

    def refuse(path: str) -> tuple[int, os.stat_result] | None:
        if path == str(log):
            raise error
        return open_regular(path)

    monkeypatch.setattr(follow, "open_regular", refuse)
    run = Run(log.parent)
    assert run.look() == 10
    assert run.sidecar.health.unreadable_files == 1
    append(log, 100)
    append(other, 1000)
    assert run.look() == 1010
    monkeypatch.undo()

    assert run.look() == 1111
    assert run.sidecar.health.unreadable_files == 0


class _Refusing:
    """A libc that has no room for one more watch, or for any events at all."""

    def __init__(self, *, has_any: bool) -> None:
        self.has_any = has_any

    def inotify_init1(self, flags: int) -> int:
        ctypes.set_errno(errno.EMFILE)
        return os.open(os.devnull, os.O_RDONLY) if self.has_any else -1

    def inotify_add_watch(self, fd: int, directory: bytes, wanted: int) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1


@pytest.mark.parametrize("has_any", [False, True])
def test_without_events_it_is_said_once_and_nobody_is_harmed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    has_any: bool,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: _Refusing(has_any=has_any))
    watch = Watch()
    with caplog.at_level(logging.WARNING, "ai_sidecar"):
        for _ in range(3):
            assert not watch.cover({str(tmp_path)})
    watch.stop()

    # that looks alone find everything is what the tests of following are made of
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_with_other_paths_and_the_same_state_counting_goes_on_and_so_it_does_on_the_way_back(
    life: Life,
) -> None:
    first, other = life.directory / "app.log", life.directory / "other" / "app.log"
    append(first, 1)
    life.read()
    other.parent.mkdir()
    append(other, 10)
    append(first, 100)
    sidecar = Sidecar(
        Config(log_paths=(str(other),), state_dir=life.directory / "state"), version="test"
    )
    sidecar.restore(life.now)
    for _ in range(2):
        life.now += 2
        sidecar.follower.look(life.now)
        sidecar.step()
    sidecar.save()
    assert sum(series.input_tokens for series in sidecar.store.series) == 11
    append(other, 1000)

    # what was written meanwhile to what is followed again is read; the other file is not followed now
    assert life.again().read() == 111


def test_a_page_is_one_moment_of_the_log(tmp_path: Path) -> None:
    """However much is read meanwhile, each page has as many requests as tokens: each line tells one of both."""
    log = tmp_path / "app.log"
    written, torn, between = 0, [], 0
    with sidecar_process(log) as sidecar, log.open("ab") as file:

        def scraped() -> tuple[float, float]:
            page = samples_of(sidecar.page())
            return total(page, "ai_api_requests_total"), total(page, "ai_api_input_tokens_total")

        for _ in range(30):
            file.write(line(1) * 3000)
            file.flush()
            written += 3000
            requests, tokens = scraped()
            between += requests < written
            if requests != tokens:
                torn.append((requests, tokens))
        wait_until(lambda: scraped() == (written, written), "all that was written")

    assert torn == []
    assert between, "no page was made while lines were read"

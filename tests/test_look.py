"""What a look leaves out where nothing can have changed, and what tells that something has."""

from __future__ import annotations

import glob
import os
import re
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_follow import Run, append

from sidecar.follow import Rotated, _listed_by, rotated_names
from sidecar.watch import Bell, Watch

_heard: list[str] = []


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("os.scandir", "os.listdir", "open"):
        _heard.append(str(arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def ears() -> None:
    """Have the interpreter itself tell what is listed and opened; nobody can ask it to be silent again."""
    sys.addaudithook(_hear)


def age(*directories: Path) -> None:
    """Make directories look as if nothing had changed in them for long."""
    old = time.time() - 3600
    for directory in directories:
        os.utime(directory, (old, old))


def settled(run: Run, *directories: Path) -> Run:
    age(*directories)
    for _ in range(4):
        run.look()
    return run


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        append(tmp_path / name / "app.log", 1)
        append(tmp_path / name / "app.log.1", 1000)
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "*/*.log", "**/*.log", "a/app.log"])
def test_nothing_is_listed_where_no_directory_has_changed(logs: Path, pattern: str) -> None:
    run = settled(Run(logs / pattern if pattern else logs), logs, logs / "a", logs / "b")
    before = run.tokens

    append(logs / "a" / "app.log", 10)
    _heard.clear()
    assert run.look() == before + 10
    assert [path for path in _heard if path.startswith(str(logs))] == []


def test_what_comes_into_a_directory_that_was_quiet_is_found_at_the_next_look(logs: Path) -> None:
    run = settled(Run(logs / "*" / "*.log"), logs, logs / "a", logs / "b")

    append(logs / "a" / "new.log", 10)
    assert run.look() == 12
    age(logs / "a")
    settled(run)
    (logs / "c").mkdir()
    append(logs / "c" / "app.log", 100)
    assert run.look() == 112


def test_a_quiet_log_that_is_rotated_is_read_on_and_so_is_the_new_one(logs: Path) -> None:
    run = settled(Run(logs / "a" / "app.log"), logs / "a")

    (logs / "a" / "app.log").rename(logs / "a" / "app.log.2")
    append(logs / "a" / "app.log.2", 10)
    append(logs / "a" / "app.log", 100)
    assert run.look() == 111
    assert run.seen("rename") == 1


def test_a_link_that_leads_elsewhere_is_followed_though_its_directory_is_as_it_was(
    tmp_path: Path, logs: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "app.log").symlink_to(logs / "current" / "app.log")
    (logs / "current").symlink_to(logs / "a")
    run = settled(Run(links / "*.log"), links, logs, logs / "a", logs / "b")
    assert run.tokens == 1

    append(logs / "b" / "app.log", 10)
    (logs / "b" / "app.log.1").unlink()
    (logs / "next").symlink_to(logs / "b")
    (logs / "next").rename(logs / "current")
    assert run.look() == 12


def test_a_rotated_file_of_before_that_is_written_anew_is_read(logs: Path) -> None:
    run = settled(Run(logs / "a" / "app.log"), logs / "a")

    with (logs / "a" / "app.log.1").open("r+b") as file:
        file.truncate()
    append(logs / "a" / "app.log.1", 10)
    assert run.look() == 11


def test_an_empty_rotated_file_that_fills_is_read(logs: Path) -> None:
    (logs / "a" / "app.log.2").touch()
    run = settled(Run(logs / "a" / "app.log"), logs / "a")
    (logs / "a" / "app.log.3").touch()
    settled(run, logs / "a")

    append(logs / "a" / "app.log.3", 10)
    assert run.look() == 11


def test_by_turns_each_file_has_its_look_and_one_that_no_event_tells_of_has_each(
    tmp_path: Path,
) -> None:
    paths = [tmp_path / f"app{number}.log" for number in range(12)]
    for path in paths:
        append(path, 1)
    run = settled(Run(tmp_path), tmp_path)
    follower = run.sidecar.follower

    def turn() -> int:
        run.now += 2
        follower.look(run.now, by_turns=True)
        while run.sidecar.step():
            follower.check_read(run.now)
        return run.tokens

    for path in paths:
        append(path, 10)
    seen = [turn() for _ in range(5)]
    assert seen[-1] == 12 + 120
    assert max(now - before for now, before in zip(seen, [12, *seen], strict=False)) <= 30
    # they have changed and no event told of it: from now on each is looked at each time
    for path in paths:
        append(path, 100)
    assert turn() == 12 + 120 + 1200
    for path in paths:
        append(path, 1000)
        follower.check(run.now, [(str(tmp_path), path.name)])
    while run.sidecar.step():
        pass
    assert run.tokens == 12 + 120 + 1200 + 12000


_NAME = st.text("aå1.-_\n²٣lg", max_size=7)


@given(st.lists(_NAME, min_size=1, max_size=4), st.lists(_NAME, max_size=20))
def test_rotated_names_are_told_for_many_files_as_for_one(
    bases: list[str], names: list[str]
) -> None:
    rotated = Rotated(bases)
    names += [f"{base}.1" for base in bases]
    names += [f"{base.rpartition('.')[0]}-1.{base.rpartition('.')[2]}" for base in bases]
    for name in names:
        expected = any(re.match(rotated_names(base), name) for base in bases)
        assert rotated.has(name) == expected, name


@pytest.mark.parametrize(
    "pattern", ["*.log", "*/*.log", "**/*.log", "a*/**", "*/b/*.log", "**/b/c*"]
)
def test_the_directories_of_a_glob_are_those_it_lists(tmp_path: Path, pattern: str) -> None:
    for name in ("a", "a/b", "a/b/c", "d", "d/b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.log").touch()
    _heard.clear()
    glob.glob(str(tmp_path / pattern), recursive=True)  # noqa: PTH207 - as the follower does
    listed = {path.rstrip(os.sep) for path in _heard if path.startswith(str(tmp_path))}

    assert listed
    # it tries files as well
    assert {one for one in listed if Path(one).is_dir()} <= set(_listed_by(str(tmp_path / pattern)))


def test_events_tell_which_file_was_written_and_that_a_name_has_come(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    append(log, 1)
    watch = Watch()
    assert watch.cover({str(tmp_path)})
    assert watch.tells_all
    assert watch.take() == (set(), False)

    for _ in range(1000):
        append(log, 1)
    Bell().wait(10, watch.fd)
    assert watch.take() == ({(str(tmp_path), "app.log")}, False)

    log.rename(tmp_path / "app.log.1")
    assert watch.take() == (set(), True)
    # of a directory that has gone and come again it is told only after it is covered anew
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    tmp_path.mkdir()
    assert watch.take() == (set(), True)
    assert watch.cover({str(tmp_path), str(tmp_path)})
    append(log, 1)
    changed, is_look_due = watch.take()
    assert (str(tmp_path), "app.log") in changed
    assert is_look_due
    watch.stop()
    assert watch.take() == (set(), False)


def test_a_directory_that_cannot_be_watched_is_told(tmp_path: Path) -> None:
    watch = Watch()
    assert watch.cover({str(tmp_path), str(tmp_path / "missing")})
    assert not watch.tells_all
    watch.stop()


def test_a_bell_rung_before_the_wait_ends_it_at_once() -> None:
    bell = Bell()
    bell.set()
    bell.set()
    bell.wait(3600)
    assert bell.is_set()
    bell.clear()
    assert not bell.is_set()
    bell.wait(0)


@pytest.mark.parametrize("is_truncated_before_the_look", [False, True])
def test_a_copy_that_matches_the_glob_and_was_empty_when_it_was_met_is_not_counted_again(
    tmp_path: Path, is_truncated_before_the_look: bool
) -> None:
    log, copy = tmp_path / "app.log", tmp_path / "app-20260101.log"
    append(log, 1, 10)
    run = Run(tmp_path / "*.log")
    run.look()
    copy.touch()
    run.look()

    copy.write_bytes(log.read_bytes())
    if not is_truncated_before_the_look:
        assert run.look() == 11
    os.truncate(log, 0)
    append(log, 100)
    assert [run.look(), run.look()] == [111, 111]


def test_what_was_empty_and_is_moved_out_of_sight_with_its_first_lines_is_read(
    tmp_path: Path,
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    append(logs / "app.log", 1)
    (logs / "app-2.log").touch()
    run = Run(logs)
    run.look()

    append(logs / "app-2.log", 10)
    (logs / "app-2.log").rename(tmp_path / "moved")
    assert run.look() == 11

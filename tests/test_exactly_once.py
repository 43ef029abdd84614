"""Whatever dies, is rotated away or comes twice: a line is counted once, and what was shown never goes back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kills import check, run
from prometheus import needs_prometheus
from test_snapshot import Life, append, line

from sidecar import follow
from sidecar.tail import open_regular

PROMETHEUS = "10.0.0.1"


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


@needs_prometheus
def test_prometheus_records_what_was_written_whatever_is_killed(tmp_path: Path) -> None:
    outcome = run(tmp_path, "any", 8)

    assert outcome.rotations > 0
    check(outcome)


def shown(life: Life, scraper: str = PROMETHEUS) -> float | None:
    """Scrape as the loop does it: nothing is shown that was not saved; `None` where there is no series."""
    life.sidecar.exposition.meet(scraper)
    life.sidecar.save()
    page, _ = life.sidecar.exposition.page("text/plain", scraper)
    values = [
        float(text.rsplit(" ", 1)[1])
        for text in page.decode().splitlines()
        if text.startswith("ai_api_requests_total{")
    ]
    return sum(values) if values else None


def test_a_value_that_was_shown_after_its_zero_is_not_zero_after_a_kill(life: Life) -> None:
    assert shown(life) is None
    append(life.directory / "app.log", 1, 2, 3)
    life.read()
    assert shown(life) == 0
    # nothing was read since, and still there is something to save
    assert shown(life) == 3

    life.again()
    assert shown(life) == 3


def test_who_has_had_its_first_page_before_a_kill_is_shown_zero_first_after_it(life: Life) -> None:
    life.read()
    assert shown(life) is None
    life.again()
    append(life.directory / "app.log", 1, 2, 3)
    life.read()

    assert shown(life) == 0
    assert shown(life) == 3


def test_what_a_first_page_has_shown_is_not_zero_after_a_kill(life: Life) -> None:
    append(life.directory / "app.log", 1, 2, 3)
    life.read()
    assert shown(life) == 3

    life.again()
    assert shown(life) == 3


def spoil_newest(state: Path) -> None:
    (state / "state.json").write_bytes(b"{}")


def fall_back_twice(state: Path) -> None:
    """As if killed again after the newest was set aside, and before the next was written."""
    (state / "state.json").rename(state / "state.json.unreadable")
    (state / "behind").touch()


@pytest.mark.parametrize("lose", [spoil_newest, fall_back_twice])
def test_an_older_state_shows_no_zero_to_who_may_have_seen_the_value(
    life: Life, lose: Callable[[Path], None]
) -> None:
    assert shown(life) is None
    append(life.directory / "app.log", 1, 2, 3)
    life.read()
    assert [shown(life), shown(life)] == [0, 3]
    append(life.directory / "app.log", 4)
    life.read()
    lose(life.directory / "state")

    life.again().read()
    assert shown(life) == 4


def test_what_was_shown_while_the_disk_was_full_does_not_go_back(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(life) is None

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    append(life.directory / "app.log", 1, 2, 3)
    life.read()
    assert [shown(life), shown(life)] == [0, 3]
    monkeypatch.undo()

    life.again().read()
    assert shown(life) == 3
    assert not (life.directory / "state" / "behind").exists()


def test_killed_between_the_two_renames_the_last_state_is_used_as_it_is(life: Life) -> None:
    assert shown(life) is None
    append(life.directory / "app.log", 1, 2, 3)
    life.read()
    assert shown(life) == 0
    state = life.directory / "state"
    (state / "state.json").replace(state / "state.json.bak")

    life.again()
    assert shown(life) == 0
    assert shown(life) == 3


def test_the_two_states_are_never_one_file(life: Life) -> None:
    state = life.directory / "state"
    for number in range(3):
        append(life.directory / "app.log", number + 1)
        life.read()

    assert (state / "state.json").stat().st_nlink == (state / "state.json.bak").stat().st_nlink == 1


def rotate(log: Path, keep: Path) -> None:
    """Shift `.1` to `.2` and so on; what falls off the end keeps its number out of use under `keep`."""
    numbered = [log, *(log.with_name(f"{log.name}.{number}") for number in (1, 2, 3))]
    if numbered[-1].exists():
        os.link(numbered[-1], keep / str(len(list(keep.iterdir()))))
    for older, newer in zip(numbered[:0:-1], numbered[-2::-1], strict=True):
        if newer.exists():
            newer.replace(older)


def test_what_is_known_of_files_does_not_grow_with_rotations(
    life: Life, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(follow, "_MAX_ORPHANS", 5)
    log, keep = life.directory / "app.log", tmp_path_factory.mktemp("keep")
    for number in range(40):
        append(log, number + 1)
        life.read()
        rotate(log, keep)
        # long enough for a rotated file to be closed
        life.now += 100

    append(log, 0)
    assert life.read() == sum(range(1, 41))
    assert len(life.sidecar.follower.generations) <= 4 + 5


def test_who_goes_on_with_a_file_that_was_closed_is_read_under_its_later_name(
    life: Life, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log, keep = life.directory / "app.log", tmp_path_factory.mktemp("keep")
    append(log, 1)
    life.read()
    rotate(log, keep)
    append(log, 10)
    life.read()
    life.now += 100
    life.read()
    rotate(log, keep)
    append(log, 100)
    life.read()
    append(log.with_name("app.log.2"), 1000)

    assert life.read() == 1111


def test_a_number_of_old_history_that_has_come_back_is_a_missed_file(life: Life) -> None:
    log = life.directory / "app.log"
    old = log.with_name("app.log.1")
    append(old, *range(1000, 1100))
    append(log, 1)
    assert life.read() == 1
    # not one byte of what was there, under the same number
    old.write_bytes(line(50))

    assert life.again().read() == 51


def test_old_history_that_grows_stays_old(life: Life) -> None:
    log = life.directory / "app.log"
    append(log.with_name("app.log.1"), *range(1000, 1100))
    append(log, 1)
    assert life.read() == 1
    append(log.with_name("app.log.1"), 50)

    assert life.read() == 1
    assert life.again().read() == 1


def test_an_unread_rest_is_found_in_a_copy_however_many_files_are_gone(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_MAX_ORPHANS", 2)
    log = life.directory / "app.log"
    for number in range(4):
        log.touch()
        os.truncate(log, 0)
        append(log, number + 1)
        before = life.read()
    append(log, 100)
    shutil.copy(log, log.with_name("app.log.1"))
    # the copy is seen before the truncation
    life.now += 2
    life.sidecar.follower.look(life.now)
    os.truncate(log, 0)

    assert life.read() == before + 100


def chunk(tokens: int, *, is_last: bool = False) -> bytes:
    choices = [] if is_last else [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]
    record = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": choices,
        "usage": {"prompt_tokens": tokens, "completion_tokens": 1},
    }
    return json.dumps(record).encode() + b"\n"


def quiet(life: Life) -> int:
    life.read()
    life.now += 20
    life.sidecar.release_quiet(life.now)
    return life.read()


def test_an_open_stream_counts_though_its_file_was_truncated(life: Life) -> None:
    log = life.directory / "app.log"
    log.write_bytes(chunk(7))
    life.read()
    os.truncate(log, 0)

    assert quiet(life) == 7
    assert quiet(life.again()) == 7


def test_an_open_stream_counts_though_its_file_went_while_down(life: Life) -> None:
    log = life.directory / "app.log"
    log.write_bytes(chunk(7))
    life.read()
    log.unlink()

    assert quiet(life.again()) == 7


def test_an_open_stream_that_another_file_has_told_whole_is_not_counted_again(life: Life) -> None:
    (life.directory / "a.log").write_bytes(chunk(7))
    life.read()
    (life.directory / "b.log").write_bytes(chunk(7, is_last=True))
    assert life.read() == 7

    assert quiet(life) == 7


def part(tag: str, text: bytes, stream: str = "stdout") -> bytes:
    return f"2026-01-01T00:00:00Z {stream} {tag} ".encode() + text + b"\n"


def test_a_line_that_is_split_over_two_files_is_joined_whatever_comes_between(life: Life) -> None:
    log = life.directory / "app.log"
    text, other = line(7).rstrip(), line(10).rstrip()
    log.write_bytes(part("F", line(1).rstrip()))
    life.read()
    with log.open("ab") as file:
        # more than is read of a file in one step stands before the first half
        file.writelines([part("F", b"x" * 1000)] * 300)
        file.write(part("P", text[:20]) + part("P", other[:30], "stderr"))
    log.rename(log.with_name("app.log.1"))
    log.write_bytes(part("F", other[30:], "stderr"))

    assert life.read() == 11
    life.again()
    with log.open("ab") as file:
        file.write(part("F", text[20:]))
    assert life.read() == 18


def test_a_directory_that_cannot_be_read_for_a_moment_makes_nothing_new(
    life: Life, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(follow, "_MAX_ORPHANS", 2)
    log, keep = life.directory / "app.log", tmp_path_factory.mktemp("keep")
    append(log.with_name("app.log.old"), 5000)
    for number in range(4):
        append(log, number + 1)
        life.read()
        rotate(log, keep)
        life.now += 100
    append(log, 10)
    assert life.read() == 20
    life.now += 100
    life.read()

    def fail(path: str) -> None:
        raise OSError(24, "Too many open files", path)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", fail)
    life.read()
    monkeypatch.setattr(os, "scandir", scandir)

    assert life.read() == 20
    assert life.again().read() == 20


def test_a_line_is_joined_to_the_file_that_had_the_path_last(life: Life) -> None:
    log = life.directory / "app.log"
    text = line(10).rstrip()
    log.write_bytes(part("F", line(1).rstrip()))
    life.read()
    # what had the path before is found in its copy, after the file that has it now
    shutil.copy(log, log.with_name("app.log.1"))
    os.truncate(log, 0)
    append(log, 2)
    assert life.read() == 3
    with log.open("ab") as file:
        file.write(part("P", text[:20]))
    log.rename(log.with_name("app.log.2"))
    log.write_bytes(part("F", text[20:]))

    assert life.read() == 13


@pytest.mark.parametrize("is_read_first", [True, False])
def test_a_copy_of_what_nobody_has_read_yet_is_counted_once(
    life: Life, is_read_first: bool
) -> None:
    log = life.directory / "app.log"
    assert life.read() == 0
    append(log, *range(1, 20))
    shutil.copy(log, log.with_name("app.log.1"))
    # both are seen for the first time, and together
    life.sidecar.follower.look(life.now)
    if is_read_first:
        while life.sidecar.step():
            life.sidecar.follower.check(life.now)
    os.truncate(log, 0)
    append(log, 1000)

    assert life.read() == sum(range(1, 20)) + 1000
    assert life.again().read() == sum(range(1, 20)) + 1000


@pytest.mark.parametrize("read", [0, 19])
def test_what_is_truncated_between_a_look_and_the_reading_is_read_as_what_it_is(
    life: Life, read: int
) -> None:
    log = life.directory / "app.log"
    append(log, *range(1, read + 1))
    assert life.read() == sum(range(1, read + 1))
    append(log, 100)
    life.sidecar.follower.look(life.now)
    shutil.copy(log, log.with_name("app.log.1"))
    os.truncate(log, 0)
    append(log, *range(1000, 1100))
    life.sidecar.step()

    total = sum(range(1, read + 1)) + 100 + sum(range(1000, 1100))
    assert life.read() == total
    assert life.again().read() == total


def test_an_unread_rest_is_found_though_the_truncated_file_stays_empty(life: Life) -> None:
    log = life.directory / "app.log"
    append(log, 1)
    assert life.read() == 1
    append(log, 10)
    life.sidecar.follower.look(life.now)
    shutil.copy(log, log.with_name("app.log.1"))
    os.truncate(log, 0)
    life.sidecar.step()

    assert life.read() == 11


def test_a_copy_that_was_half_made_when_it_was_opened_is_known_after_the_truncation(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = life.directory / "app.log"
    copy = log.with_name("app.log.1")
    append(log, *range(1, 20))
    before = life.read()
    whole = log.read_bytes()
    copy.write_bytes(whole[:500])

    def open_slowly(path: str) -> tuple[int, os.stat_result] | None:
        opened = open_regular(path)
        if path == str(copy):
            copy.write_bytes(whole)
            os.truncate(log, 0)
        return opened

    monkeypatch.setattr(follow, "open_regular", open_slowly)
    life.sidecar.follower.look(life.now)
    monkeypatch.undo()
    append(log, 1000)

    assert life.read() == before + 1000
    assert life.again().read() == before + 1000


@pytest.mark.parametrize("had", [0, 49])
def test_a_number_that_comes_back_for_a_copy_makes_no_new_file_of_it(life: Life, had: int) -> None:
    log = life.directory / "app.log"
    old = log.with_name("app.log.1")
    append(log, *range(had))
    life.read()
    log.rename(old)
    append(log, 100)
    life.read()
    # long enough for the rotated file to be closed
    life.now += 100
    before = life.read()
    # the copy is made of its number: written in place, for the system gives numbers as it likes
    old.write_bytes(log.read_bytes())
    os.truncate(log, 0)
    append(log, 1000)

    assert life.read() == before + 1000
    assert life.read() == before + 1000
    assert life.again().read() == before + 1000


def test_a_missed_file_that_begins_as_another_is_no_copy_of_it(life: Life) -> None:
    log = life.directory / "app.log"
    log.write_bytes(b"begun\n")
    life.read()
    log.rename(log.with_name("app.log.1"))
    log.write_bytes(b"begun\n")
    append(log, 1, 10)
    log.rename(log.with_name("app.log.2"))
    log.write_bytes(b"begun\n")
    append(log, 100)

    assert life.read() == 111
    assert life.again().read() == 111

"""Which file is which after a rotation, with real files and looks that happen exactly when the test says."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest

from sidecar.config import Config
from sidecar.daemon import Sidecar


def line(tokens: int) -> bytes:
    record = {
        "ts": "2026-01-01T00:00:00Z",
        "model": "m",
        "status": 200,
        "usage": {"prompt_tokens": tokens},
    }
    return json.dumps({**record, "n": "x" * (tokens % 50)}).encode() + b"\n"


class Run:
    """A sidecar that looks when it is told to; the clock is given."""

    def __init__(self, *paths: Path | str, **options: bool) -> None:
        self.now = 0.0
        self.sidecar = Sidecar(Config(log_paths=tuple(map(str, paths)), **options), version="test")  # type: ignore[arg-type] # one option

    def look(self, seconds: float = 2.0) -> int:
        """Look and read everything; give the tokens counted so far."""
        self.now += seconds
        self.sidecar.follower.look(self.now)
        while self.sidecar.step():
            self.sidecar.follower.check(self.now)
        return self.tokens

    @property
    def tokens(self) -> int:
        return sum(series.input_tokens for series in self.sidecar.store.series)

    def seen(self, kind: str) -> int:
        return self.sidecar.health.rotations[kind]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def append(path: Path, *tokens: int) -> None:
    with path.open("ab") as file:
        file.writelines(line(count) for count in tokens)


def test_what_is_there_and_what_comes_is_read_once(log: Path) -> None:
    append(log, 1)
    run = Run(log)

    assert run.look() == 1
    append(log, 10)
    assert run.look() == 11
    assert run.look() == 11


def test_a_half_line_waits_for_its_end(log: Path) -> None:
    log.write_bytes(line(1) + line(10)[:20])
    run = Run(log)

    assert run.look() == 1
    with log.open("ab") as file:
        file.write(line(10)[20:])
    assert run.look() == 11


def test_both_files_are_read_after_a_rename_whoever_still_writes(log: Path, tmp_path: Path) -> None:
    append(log, 1)
    run = Run(log)
    run.look()
    with log.open("ab") as old:
        log.rename(tmp_path / "app.log.1")
        append(log, 10)
        old.write(line(100))
        old.flush()
        assert run.look() == 111
        old.write(line(1000))
        old.flush()
        assert run.look() == 1111
    assert run.seen("rename") == 1


def test_a_file_that_was_never_seen_under_its_live_name_is_read(log: Path, tmp_path: Path) -> None:
    append(log, 1)
    run = Run(log)
    run.look()
    log.rename(tmp_path / "app.log.2")
    append(log, 10)
    log.rename(tmp_path / "app.log.1")
    append(log, 100)

    assert run.look() == 111
    assert run.seen("missed") == 1


def test_old_history_beside_the_log_is_left_alone(log: Path, tmp_path: Path) -> None:
    append(tmp_path / "app.log.1", 1000)
    append(log, 1)
    run = Run(log)

    assert run.look() == 1
    (tmp_path / "app.log.1").rename(tmp_path / "app.log.2")
    log.rename(tmp_path / "app.log.1")
    append(log, 10)
    assert run.look() == 11


def test_a_rotated_name_that_still_matches_is_the_same_file(tmp_path: Path) -> None:
    append(tmp_path / "app.log", 1)
    run = Run(f"{tmp_path}/*.log")
    run.look()
    (tmp_path / "app.log").rename(tmp_path / "app-20260101.log")
    append(tmp_path / "app.log", 10)

    assert run.look() == 11


def test_a_file_deleted_right_after_a_burst_is_read_to_its_end(log: Path) -> None:
    append(log, 1)
    run = Run(log)
    run.look()
    append(log, 10)
    log.unlink()

    assert run.look() == 11


def test_a_truncated_file_is_read_from_its_start(log: Path) -> None:
    append(log, 1, 2, 3)
    run = Run(log)
    run.look()
    os.truncate(log, 0)
    append(log, 10)

    assert run.look() == 16
    assert run.seen("truncate") == 1


def test_a_truncated_file_that_has_grown_past_the_old_position_is_seen(log: Path) -> None:
    append(log, 1)
    run = Run(log)
    run.look()
    os.truncate(log, 0)
    append(log, *range(10, 40))

    assert run.look() == 1 + sum(range(10, 40))


def test_a_file_rewritten_at_the_same_size_is_seen(log: Path) -> None:
    append(log, 100)
    run = Run(log)
    run.look()
    size = log.stat().st_size
    log.write_bytes(line(150))
    os.utime(log, ns=(0, log.stat().st_mtime_ns + 10**9))

    assert log.stat().st_size == size
    assert run.look() == 250


def test_a_copy_is_not_counted_and_its_unread_rest_is(log: Path, tmp_path: Path) -> None:
    append(log, 1, 2)
    run = Run(log)
    run.look()
    append(log, 10)
    shutil.copy(log, tmp_path / "app.log.1")
    os.truncate(log, 0)
    append(log, 100)

    assert run.look() == 113
    assert run.look() == 113


def test_a_copy_that_matches_is_not_counted(tmp_path: Path) -> None:
    append(tmp_path / "app.log", *range(30))
    run = Run(f"{tmp_path}/*.log")
    before = run.look()
    shutil.copy(tmp_path / "app.log", tmp_path / "app-1.log")

    assert run.look() == before
    os.truncate(tmp_path / "app.log", 0)
    append(tmp_path / "app.log", 1000)
    assert run.look() == before + 1000


def test_a_copy_in_the_making_waits(tmp_path: Path) -> None:
    append(tmp_path / "app.log", *range(1, 30))
    run = Run(f"{tmp_path}/*.log")
    before = run.look()
    whole = (tmp_path / "app.log").read_bytes()
    (tmp_path / "app-1.log").write_bytes(whole[:100])

    assert run.look(0.1) == before
    (tmp_path / "app-1.log").write_bytes(whole)
    assert run.look(0.1) == before


def test_files_that_begin_alike_are_all_read(tmp_path: Path) -> None:
    for name in "abc":
        append(tmp_path / f"{name}.log", 5)
    run = Run(tmp_path)

    assert run.look() == 15
    for name in "abc":
        append(tmp_path / f"{name}.log", 10)
    assert run.look() == 45


def test_two_names_of_one_file_are_one_file(tmp_path: Path) -> None:
    append(tmp_path / "a.log", 1)
    (tmp_path / "b.log").hardlink_to(tmp_path / "a.log")
    (tmp_path / "c.log").symlink_to("a.log")

    assert Run(tmp_path).look() == 1


def test_a_link_that_turns_to_a_new_file_leaves_the_old_one_open(tmp_path: Path) -> None:
    link = tmp_path / "current.log"
    append(tmp_path / "one", 1)
    link.symlink_to("one")
    run = Run(link)
    run.look()
    append(tmp_path / "two", 10)
    link.unlink()
    link.symlink_to("two")
    append(tmp_path / "one", 100)

    assert run.look() == 111


def test_a_packed_generation_is_not_read_again(log: Path, tmp_path: Path) -> None:
    append(log, 1)
    run = Run(log)
    run.look()
    log.rename(tmp_path / "app.log.1")
    append(log, 10)
    run.look()
    with gzip.open(tmp_path / "app.log.1.gz", "wb") as packed:
        packed.write((tmp_path / "app.log.1").read_bytes())
    (tmp_path / "app.log.1").unlink()

    assert run.look() == 11


def test_a_hole_of_nuls_is_jumped_over(log: Path) -> None:
    append(log, 1)
    run = Run(log)
    run.look()
    with log.open("r+b") as file:
        file.truncate(0)
        file.seek(1 << 30)
        file.write(line(10))

    assert run.look() == 11
    assert run.sidecar.health.read_bytes < 1 << 24


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    append(tmp_path / "a.log", 1)
    os.mkfifo(tmp_path / "fifo.log")
    (tmp_path / "dir.log").mkdir()
    (tmp_path / "zero.log").symlink_to("/dev/zero")
    (tmp_path / "memory.log").symlink_to("/proc/self/mem")
    (tmp_path / "loop.log").symlink_to("loop.log")

    run = Run(f"{tmp_path}/*.log")

    assert run.look() == 1
    append(tmp_path / "a.log", 10)
    assert run.look() == 11


def test_a_directory_that_comes_goes_and_comes_again_is_followed(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    run = Run(f"{directory}/**/*.log")
    assert run.look() == 0
    (directory / "deep").mkdir(parents=True)
    append(directory / "deep" / "a.log", 1)
    assert run.look() == 1
    shutil.rmtree(directory)
    run.look()
    directory.mkdir()
    append(directory / "a.log", 10)

    assert run.look() == 11


def test_a_directory_means_its_logs_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for tokens, name in (
        (1, "a.log"),
        (10, "deep/b.jsonl"),
        (100, "deep/er/c.ndjson"),
        (1000, "d.json"),
        (5000, "e.txt"),
    ):
        append(tmp_path / name, tokens)

    assert Run(tmp_path).look() == 1111


def test_from_end_begins_behind_what_was_there_and_reads_new_files_whole(tmp_path: Path) -> None:
    append(tmp_path / "a.log", 1)
    run = Run(tmp_path, begin_at_end=True)
    assert run.look() == 0
    append(tmp_path / "a.log", 10)
    append(tmp_path / "b.log", 100)

    assert run.look() == 110


def test_a_line_longer_than_a_step_is_read_whole(log: Path) -> None:
    record = {"model": "m", "status": 200, "usage": {"prompt_tokens": 7}, "text": "y" * (3 << 20)}
    log.write_bytes(line(1) + json.dumps(record).encode() + b"\n" + line(10))

    assert Run(log).look() == 18


def test_an_idle_rotated_file_is_closed_and_its_whole_last_line_counted(
    log: Path, tmp_path: Path
) -> None:
    log.write_bytes(line(1) + line(10).rstrip())
    run = Run(log)
    run.look()
    log.rename(tmp_path / "app.log.1")
    append(log, 100)

    assert run.look() == 101
    assert run.look(3600) == 111
    assert run.look() == 111
    assert run.sidecar.health.held_files <= 1

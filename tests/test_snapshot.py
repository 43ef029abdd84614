"""Positions and counters are one point in the log: whatever happens, a line is counted once."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus import sidecar_process, wait_until

from sidecar import snapshot
from sidecar.config import Config
from sidecar.daemon import Sidecar
from sidecar.snapshot import StateDirectory


def line(tokens: int) -> bytes:
    record = {"ts": "2026-01-01T00:00:00Z", "model": "m", "status": 200}
    return json.dumps({**record, "usage": {"prompt_tokens": tokens}}).encode() + b"\n"


def append(path: Path, *tokens: int) -> None:
    with path.open("ab") as file:
        file.writelines(line(count) for count in tokens)


class Life:
    """One life of a sidecar on a state directory, from restore to save; `end` is a kill after the save."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 0.0
        self.sidecar = self._begun()

    def _begun(self) -> Sidecar:
        sidecar = Sidecar(
            Config(log_paths=(f"{self.directory}/*.log",), state_dir=self.directory / "state"),
            version="test",
        )
        sidecar.hold_state()
        sidecar.restore(self.now)
        return sidecar

    def again(self) -> Life:
        """Begin a new life: the old one's memory is gone."""
        for generation in self.sidecar.follower.generations:
            generation.tail.close()
        state = self.sidecar._state
        assert state is not None
        os.close(state._lock)
        self.sidecar = self._begun()
        return self

    def read(self, *, save: bool = True) -> int:
        """Look, read everything, save; give the tokens counted in all lives."""
        self.now += 2
        self.sidecar.follower.look(self.now)
        while self.sidecar.step():
            self.sidecar.follower.check(self.now)
        if save:
            self.sidecar.save()
        return sum(series.input_tokens for series in self.sidecar.store.series)


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


def test_counters_go_on_where_they_were(life: Life) -> None:
    log = life.directory / "app.log"
    append(log, 1)
    assert life.read() == 1
    append(log, 10)

    assert life.again().read() == 11


def test_what_was_counted_but_not_saved_is_read_again(life: Life) -> None:
    log = life.directory / "app.log"
    append(log, 1)
    life.read()
    append(log, 10)
    assert life.read(save=False) == 11

    assert life.again().read() == 11


def test_figures_stay_when_the_log_is_gone(life: Life) -> None:
    append(life.directory / "app.log", 1)
    life.read()
    (life.directory / "app.log").unlink()

    assert life.again().read() == 1


def test_a_half_line_is_completed_after_a_restart(life: Life) -> None:
    log = life.directory / "app.log"
    log.write_bytes(line(1) + line(10)[:30])
    assert life.read() == 1
    life.again()
    with log.open("ab") as file:
        file.write(line(10)[30:])

    assert life.read() == 11


def test_a_line_that_the_runtime_split_is_joined_over_a_restart(life: Life) -> None:
    log = life.directory / "app.log"
    text = line(7).rstrip()
    log.write_bytes(b"2026-01-01T00:00:00Z stdout P " + text[:20] + b"\n")
    life.read()
    life.again()
    with log.open("ab") as file:
        file.write(b"2026-01-01T00:00:00Z stdout F " + text[20:] + b"\n")

    assert life.read() == 7


def rename(log: Path) -> None:
    log.rename(log.with_name("app.log.1"))


def rename_twice(log: Path) -> None:
    log.rename(log.with_name("app.log.2"))
    append(log, 1000)
    log.rename(log.with_name("app.log.1"))


def copy_and_truncate(log: Path) -> None:
    shutil.copy(log, log.with_name("app.log.1"))
    os.truncate(log, 0)


def pack(log: Path) -> None:
    log.with_name("app.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()


def pack_with_a_long_history(log: Path) -> None:
    append(log.with_name("app.log.9"), 5000)
    pack(log)
    log.with_name("app.log.9").unlink()


@pytest.mark.parametrize(
    ("rotate", "missed"),
    [
        (rename, 0),
        (rename_twice, 1000),
        (copy_and_truncate, 0),
        (pack, 0),
        (pack_with_a_long_history, 0),
    ],
)
def test_a_rotation_while_down_loses_and_doubles_nothing(
    life: Life, rotate: Callable[[Path], None], missed: int
) -> None:
    log = life.directory / "app.log"
    append(log, *range(1, 20))
    before = life.read()
    append(log, 100)
    rotate(log)
    append(log, 10_000)

    assert life.again().read() == before + 100 + missed + 10_000
    assert life.again().read() == before + 100 + missed + 10_000


def test_a_finished_rotated_file_is_not_read_again(life: Life) -> None:
    log = life.directory / "app.log"
    append(log, 1)
    life.read()
    rename(log)
    append(log, 10)
    life.read()

    assert life.again().again().read() == 11


def test_the_same_inode_with_other_bytes_is_a_new_file(life: Life) -> None:
    log = life.directory / "app.log"
    append(log, 1)
    life.read()
    log.write_bytes(b"")
    append(log, *range(10, 40))

    assert life.again().read() == 1 + sum(range(10, 40))


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def nuls(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def later(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":999'))


@pytest.mark.parametrize("spoil", [torn, empty, nuls, later])
def test_a_state_that_cannot_be_read_is_set_aside_and_the_one_before_it_used(
    life: Life, spoil: Callable[[Path], None]
) -> None:
    log = life.directory / "app.log"
    append(log, 1)
    life.read()
    append(log, 10)
    life.read()
    spoil(life.directory / "state" / "state.json")

    assert life.again().read() == 11
    assert life.sidecar.health.state_saves["unreadable"] == 1
    assert (life.directory / "state" / "state.json.unreadable").exists()


@pytest.mark.parametrize("spoil", [torn, empty, nuls, later])
def test_without_any_state_the_log_is_read_again(life: Life, spoil: Callable[[Path], None]) -> None:
    log = life.directory / "app.log"
    append(log, 1)
    life.read()
    append(log, 10)
    life.read()
    for path in (life.directory / "state").glob("state.json*"):
        spoil(path)

    assert life.again().read() == 11


@pytest.mark.parametrize(
    "change",
    [
        {"exposition": {}},
        {"follow": {}},
        {"follow": {"files": [[1]], "old_history": []}},
        {"ids": 5},
        {"health": []},
        {"sequence": "x"},
        {"store": None},
    ],
    ids=str,
)
def test_a_state_that_does_not_fit_is_used_in_no_part(life: Life, change: dict[str, Any]) -> None:
    append(life.directory / "app.log", 1)
    life.read()
    path = life.directory / "state" / "state.json"
    path.with_name("state.json.bak").unlink(missing_ok=True)
    state = snapshot.decode(path.read_bytes())
    path.write_bytes(snapshot.encode({**state, **change}))

    assert life.again().read() == 1
    assert life.sidecar.health.state_saves["unreadable"] == 1
    assert path.with_name("state.json.unreadable").exists()


def test_with_another_label_counting_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    (tmp_path / "state").mkdir()

    def lived(labels: dict[str, str], *tokens: int, team: str) -> dict[tuple[str, ...], int]:
        config = Config(log_paths=(str(log),), state_dir=tmp_path / "state", labels=labels)
        sidecar = Sidecar(config, version="test")
        sidecar.restore(0.0)
        with log.open("ab") as file:
            for count in tokens:
                file.write(line(count).replace(b"{", b'{"team":"%s",' % team.encode(), 1))
        sidecar.follower.look(0.0)
        while sidecar.step():
            pass
        sidecar.save()
        for generation in sidecar.follower.generations:
            generation.tail.close()
        return {series.labels[6:]: series.input_tokens for series in sidecar.store.series}

    assert lived({}, 1, 2, team="red") == {(): 3}
    both = {"team": "team", "model_asked": "model"}
    assert lived(both, 10, team="blue") == {("", ""): 3, ("blue", "m"): 10}
    assert lived({"model_asked": "model"}, 100, team="red") == {("",): 3, ("m",): 110}
    assert lived({}, team="") == {(): 113}


def test_a_state_that_cannot_be_written_stops_nothing_and_leaves_the_last_one(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = life.directory / "app.log"
    append(log, 1)
    life.read()
    good = (life.directory / "state" / "state.json").read_bytes()

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    append(log, 10)

    assert life.read() == 11
    assert (life.directory / "state" / "state.json").read_bytes() == good
    assert life.sidecar.health.state_saves["failure"] == 1
    monkeypatch.undo()
    life.read()
    assert life.sidecar.health.state_saves["success"] == 2


def test_a_second_sidecar_on_one_state_directory_ends_with_one_sentence(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with sidecar_process(tmp_path / "a.log", "--state-dir", str(state)):
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "sidecar",
                "--log-path",
                "x",
                "--port",
                "0",
                "--state-dir",
                str(state),
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert second.returncode == 1
    assert "--state-dir" in second.stderr
    assert second.stderr.count("\n") == 1


def test_what_a_page_has_shown_is_there_after_kill_9(tmp_path: Path) -> None:
    log, state = tmp_path / "a.log", str(tmp_path / "state")

    def requests(page: str) -> float:
        start = "ai_api_requests_total{"
        return sum(
            float(text.rsplit(" ", 1)[1]) for text in page.splitlines() if text.startswith(start)
        )

    shown = 0.0
    for round_ in range(5):
        with sidecar_process(log, "--state-dir", state, "--state-interval", "3600") as sidecar:
            assert requests(sidecar.page()) == shown
            append(log, *range(round_ * 100, round_ * 100 + 49))
            shown = 49.0 * (round_ + 1)
            wait_until(lambda: requests(sidecar.page()) == shown, f"{shown} requests")  # noqa: B023 - called at once
            sidecar.popen.send_signal(signal.SIGKILL)
            sidecar.popen.wait()
        log.unlink()


@given(st.dictionaries(st.text(max_size=5), st.lists(st.integers(0, 2**53)), max_size=5), st.data())
def test_a_torn_state_is_never_taken_for_a_whole_one(
    state: dict[str, list[int]], data: st.DataObject
) -> None:
    whole = snapshot.encode(state)
    assert snapshot.decode(whole) == state
    at = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match="expected"):
        snapshot.decode(whole[:at])


def test_the_state_before_the_last_is_kept(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    directory.hold()
    for number in (1, 2, 3):
        directory.write(snapshot.encode({"sequence": number}))

    taken: list[dict[str, int]] = []
    assert directory.read(taken.append) == (True, 0)
    assert taken == [{"sequence": 3}]
    assert snapshot.decode((tmp_path / "state.json.bak").read_bytes()) == {"sequence": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "lock",
        "state.json",
        "state.json.bak",
    ]

"""Old logs become what Prometheus would have scraped, and the sidecar goes on from there."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math
import os
import pty
import random
import re
import shutil
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from prometheus import Prometheus, SidecarProcess, needs_prometheus, wait_until
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sidecar.cli import main
from sidecar.commands.demo import FORMATS, Call, Model
from sidecar.config import Config
from sidecar.daemon import once
from sidecar.metrics import DURATION_MS

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool on PATH (Debian: prometheus)"
)

START = 1_767_225_600.0  # 2026-01-01, on the hour
STEP = 15
DAY = 86400
GOLDEN = Path(__file__).parent / "golden"

Samples = dict[str, list[tuple[float, float]]]


def backfill(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["backfill", *[str(argument) for argument in arguments]])


def in_a_process(*arguments: str | Path) -> None:
    """Backfill in a process of its own: a state directory is held until that ends."""
    command = [
        sys.executable,
        "-m",
        "sidecar",
        "backfill",
        *[str(argument) for argument in arguments],
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # silent in a pipe
    assert not done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (0, "")


def line(at: float, **more: Any) -> str:
    record = {"ts": iso(at), "provider": "openai", "model": "gpt-4o", "status_code": 200}
    record |= {"endpoint": "/v1/chat/completions", "latency_ms": 120, **more}
    return json.dumps(record) + "\n"


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def samples(text: str) -> Samples:
    """Read an OpenMetrics text strictly: sample → its (time, value) pairs."""
    found: Samples = defaultdict(list)
    for family in families_of(text):
        for sample in family.samples:
            labels = ",".join(
                [f'{name}="{value}"' for name, value in sorted(sample.labels.items())]
            )
            assert sample.timestamp is not None
            found[f"{sample.name}{{{labels}}}"].append((float(sample.timestamp), sample.value))
    return found


def families_of(text: str) -> Iterator[Metric]:
    """Check that rows stand together and in order of time, and read what stands at each moment.

    prometheus_client's reader drops samples of a histogram that has several moments, so it gets them one by one.
    """
    heads: list[str] = []
    moments: dict[float, list[str]] = {}
    row, last, seen = "", 0.0, set()
    for number, text_line in enumerate(text.splitlines()):
        if text_line.startswith("#"):
            heads.append(text_line)
            for lines in moments.values():
                lines.append(text_line)
            continue
        sample, _, stamp = text_line.partition(" # ")[0].rpartition(" ")
        name, brace, labels = sample.rpartition(" ")[0].partition("{")
        now_row = (
            re.sub(r"_(bucket|count|sum)$", "", name) + brace + re.sub(r'le="[^"]*",?', "", labels)
        )
        assert now_row == row or now_row not in seen, f"line {number}: a row in two places"
        assert now_row != row or float(stamp) >= last, f"line {number}: time goes back"
        row, last = now_row, float(stamp)
        seen.add(row)
        moments.setdefault(last, list(heads)).append(text_line)
    assert heads[-1] == "# EOF"
    for moment in sorted(moments):
        page = "\n".join(moments[moment]) + "\n"
        yield from text_string_to_metric_families(page)  # type: ignore[no-untyped-call] # it has no types


def of(found: Samples, name: str, *parts: str) -> list[tuple[float, float]]:
    """Give the samples of the one series of this name whose labels hold all parts."""
    (key,) = [
        key for key in found if key.startswith(name + "{") and all(part in key for part in parts)
    ]
    return found[key]


def history(tmp_path: Path, *arguments: str | Path) -> Samples:
    """Backfill into a file, and read it."""
    output = tmp_path / "history.om"
    result = backfill(*arguments, "--output", output)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    text = output.read_text()
    assert text.endswith("# EOF\n")
    return samples(text)


def test_every_step_shows_what_had_ended_before_its_end(tmp_path: Path) -> None:
    times = [START + offset for offset in (1, 14.999, 15, 31, 100)]
    log = tmp_path / "app.log"
    log.write_text("".join([line(at) for at in times]))

    found = of(history(tmp_path, "--log-path", log), "ai_api_requests_total")

    stamps = [START + STEP * number for number in range(8)]
    assert found == [(stamp, sum(at < stamp for at in times)) for stamp in stamps]


def test_files_out_of_order_and_packed_give_what_one_in_order_gives(tmp_path: Path) -> None:
    dice = random.Random(8)
    records = [
        (
            at,
            line(
                at, model=dice.choice(["gpt-4o", "o3", "gpt-4.1"]), latency_ms=dice.randint(5, 900)
            ),
        )
        for at in sorted(START + dice.random() * 2 * DAY for _ in range(3000))
    ]
    ordered, shuffled = tmp_path / "ordered", tmp_path / "shuffled"
    ordered.mkdir()
    shuffled.mkdir()
    (ordered / "app.log").write_text("".join([text for _, text in records]))
    dice.shuffle(records)
    parts = [records[start::7] for start in range(7)]
    # one of them nearly in order, with late ones among it
    parts[0].sort(key=lambda record: record[0] + dice.random() * 300)
    names = (
        "app.log",
        "app.log.1",
        "app.log-20260102",
        "app.log.2.gz",
        "app.log.3.bz2",
        "app.log.4.xz",
        "app-2026.log.gz",
    )
    for name, part in zip(names, parts, strict=True):
        data = "".join([text for _, text in part]).encode()
        packed = {
            ".gz": gzip.compress(data),
            ".bz2": bz2.compress(data),
            ".xz": lzma.compress(data),
        }
        (shuffled / name).write_bytes(packed.get(Path(name).suffix, data))

    expected = history(tmp_path, "--log-path", ordered, "--step", "600")

    assert history(tmp_path, "--log-path", shuffled / "app.log", "--step", "600") == expected
    assert history(tmp_path, "--log-path", shuffled, "--step", "600") == expected
    assert history(tmp_path, "--log-path", str(shuffled / "app*"), "--step", "600") == expected
    assert (
        sum(
            values[-1][1]
            for key, values in expected.items()
            if key.startswith("ai_api_requests_total")
        )
        == 3000
    )


def test_more_late_requests_and_runs_than_are_kept_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.history.MAX_LATE", 16)
    monkeypatch.setattr("sidecar.history.MAX_RUNS", 3)
    monkeypatch.setattr("sidecar.columns.MAX_KEPT_BYTES", 500)
    dice = random.Random(9)
    times = [START + dice.random() * DAY for _ in range(2000)]
    log = tmp_path / "app.log"
    log.write_text("".join([line(at) for at in times]))

    found = of(history(tmp_path, "--log-path", log), "ai_api_requests_total")

    assert found == [(stamp, sum(at < stamp for at in times)) for stamp, _ in found]
    assert len(found) == (math.floor(max(times)) // STEP - math.floor(min(times)) // STEP) + 2


def test_a_copy_is_not_counted_twice(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    old = "".join([line(START + number) for number in range(100)])
    log.write_text(line(START + 200))
    (tmp_path / "app.log.1").write_text(old)
    (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(old[:5000].encode()))

    assert of(history(tmp_path, "--log-path", log), "ai_api_requests_total")[-1][1] == 101


def test_torn_gzip_gives_what_it_has(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text(line(START + 2000))
    dice = random.Random(1)
    old = "".join(
        [line(START + number, latency_ms=dice.random()) for number in range(1000)]
    ).encode()
    packed = gzip.compress(old)
    (tmp_path / "app.log.1.gz").write_bytes(packed[: len(packed) // 2])

    counted = of(history(tmp_path, "--log-path", log), "ai_api_requests_total")[-1][1]

    assert 300 < counted < 1000


def test_a_request_without_a_time_has_that_of_the_one_before(tmp_path: Path) -> None:
    timeless = line(0).replace('"ts"', '"no"')
    log = tmp_path / "app.log"
    log.write_text(timeless + line(START + 1) + timeless + line(START + 31) + timeless + timeless)
    zero_time = line(START).replace(iso(START), "0001-01-01T00:00:00Z")
    log.write_text(log.read_text() + zero_time + line(time.time() + 3 * DAY))

    found = of(history(tmp_path, "--log-path", log), "ai_api_requests_total")

    assert [value for _, value in found] == [0, 3, 3, 8]


def test_the_wrapper_tells_the_time_where_the_record_does_not(tmp_path: Path) -> None:
    timeless = line(0).replace('"ts"', '"no"')
    cri = tmp_path / "cri.log"
    cri.write_text(
        "".join([f"{iso(START + 20 * number)} stdout F {timeless}" for number in range(50)])
    )
    docker = tmp_path / "docker.log"
    docker.write_text(
        "".join(
            [
                json.dumps({"log": timeless, "stream": "stdout", "time": iso(START + 20 * number)})
                + "\n"
                for number in range(50)
            ]
        )
    )

    for log in (cri, docker):
        found = of(history(tmp_path, "--log-path", log), "ai_api_requests_total")
        assert found == [
            (stamp, sum(START + 20 * number < stamp for number in range(50))) for stamp, _ in found
        ]
        assert found[-1][1] == 50


def test_since_and_until_leave_out_what_is_outside(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("".join([line(START + number) for number in range(300)]))

    found = of(
        history(
            tmp_path, "--log-path", log, "--since", iso(START + 50), "--until", str(START + 110)
        ),
        "ai_api_requests_total",
    )

    assert [found[0], found[-1]] == [(START + 45, 0), (START + 110, 60)]
    assert all(value == min(60, max(0, stamp - START - 50)) for stamp, value in found)


def test_a_long_silence_has_no_samples(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text(line(START - 20 * 365 * DAY) + line(START + 1) + line(START + 40))

    found = of(history(tmp_path, "--log-path", log), "ai_api_requests_total")

    assert [value for _, value in found] == [0, 1, 1, 2, 2, 3]


def test_exemplars_histograms_and_labels_of_ones_own(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text(
        "".join(
            [
                line(
                    START + 10 * number,
                    trace_id=f"trace{number}",
                    latency_ms=40 * number,
                    team='a "b"\\',
                )
                for number in range(9)
            ]
        )
    )
    output = tmp_path / "history.om"

    result = backfill(
        *("--log-path", log, "--output", output, "--label", "team=team"),
        *("--target-label", "job=old", "--target-label", 'instance=h"1'),
    )

    assert result.exit_code == 0, result.output
    durations = [
        sample
        for family in families_of(output.read_text())
        if family.name == "ai_api_request_duration_milliseconds"
        for sample in family.samples
    ]
    assert {sample.labels["team"] for sample in durations} == {'a "b"\\'}
    assert {(sample.labels["job"], sample.labels["instance"]) for sample in durations} == {
        ("old", 'h"1')
    }
    exemplars = {
        sample.exemplar.labels["trace_id"]: (
            sample.exemplar.value,
            float(str(sample.exemplar.timestamp)),
        )
        for sample in durations
        if sample.exemplar
    }
    assert [exemplars["trace8"]] == [(320, START + 80)]
    by_bound = {
        sample.labels["le"]: sample.value
        for sample in durations
        if sample.name.endswith("_bucket") and float(str(sample.timestamp)) == START + 90
    }
    assert [by_bound[bound] for bound in ("100.0", "+Inf")] == [3, 9]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "--output: expected a file, or a directory for --blocks, got neither"),
        (["--output", "/nowhere/at/all"], "--output: expected a file in a directory that can be written"),
        (["--output", "x", "--since", "soon"], "--since: expected a time in ISO 8601 or Unix seconds, got 'soon'"),
        (["--output", "x", "--since", "2026-01-02", "--until", "2026-01-01"], "--until: expected a time after"),
        (["--output", "x", "--target-label", "job"], "--target-label: expected NAME=VALUE, got 'job'"),
        (["--output", "x", "--target-label", "model=a"], "--target-label: expected a label name that is free"),
        (["--output", "x", "--step", "0"], "0 is not in the range"),
        (["--output", "x", "--log-path", "-"], "--log-path: expected files to fill back from, got -"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Sequence[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.log").write_text(line(START))

    result = backfill("--log-path", "app.log", *options)

    assert result.exit_code == 2
    assert sentence in result.output
    assert result.output.count("\n") == 1


def test_blocks_need_promtool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "app.log"
    log.write_text(line(START))
    monkeypatch.setenv("PATH", str(tmp_path))

    result = backfill("--log-path", log, "--blocks", tmp_path / "blocks")

    assert (result.exit_code, "expected promtool on PATH" in result.output) == (2, True)


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "out"
    directory.mkdir()
    output = directory / "history.om"
    output.write_text("what was there")

    result = backfill("--log-path", tmp_path / "nothing.log", "--output", output)

    assert result.exit_code == 1
    assert output.read_text() == "what was there"
    assert list(directory.iterdir()) == [output]


def test_a_state_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    log, state = tmp_path / "app.log", tmp_path / "state"
    log.write_text(line(START))
    arguments = ("--log-path", log, "--output", tmp_path / "x", "--state-dir", state)
    assert backfill(*arguments).exit_code == 0

    result = backfill(*arguments)

    assert (result.exit_code, "expected a directory without a state" in result.output) == (2, True)


def test_what_until_leaves_is_counted_by_the_sidecar_and_nothing_twice(tmp_path: Path) -> None:
    dice = random.Random(5)
    log, state = tmp_path / "app.log", tmp_path / "state"
    texts = [
        # told on several lines, split by the runtime, out of order: the history may end in any of them
        f"{iso(START + number)} stdout {mark} {part}"
        for number in range(400)
        for mark, part in _split(
            line(START + number + dice.random() * 20, n=number), number % 7 == 0
        )
    ]
    log.write_text("".join(texts))
    old = "".join([line(START - 100 + number) for number in range(60)])
    (tmp_path / "app.log.1").write_text(old)
    (tmp_path / "app.log.2.gz").write_bytes(gzip.compress(old.replace("gpt-4o", "o3").encode()))

    output = tmp_path / "history.om"
    in_a_process(
        *("--log-path", log, "--output", output, "--until", str(START + 215), "--state-dir", state)
    )
    before = samples(output.read_text())
    shutil.move(tmp_path / "app.log.1", tmp_path / "app.log.3")
    with SidecarProcess(["--log-path", log, "--state-dir", state]) as sidecar:
        page = sidecar.page()

    ended = of(before, "ai_api_requests_total", '"gpt-4o"')[-1]
    assert ended[0] == START + 215
    assert 60 + 180 < ended[1] < 60 + 216
    total = {
        text.rpartition(" ")[0]: float(text.rpartition(" ")[2])
        for text in page.splitlines()
        if text.startswith("ai_api_requests_total")
    }
    assert sorted(total.values()) == [60, 60 + 400]
    (lines,) = [
        text
        for text in page.splitlines()
        if text.startswith('ai_sidecar_lines_total{result="request"}')
    ]
    assert float(lines.rpartition(" ")[2]) == 60 + 60 + 400


@pytest.mark.parametrize(
    "log", sorted(GOLDEN.glob("*/*.jsonl")), ids=lambda log: f"{log.parent.name}-{log.stem}"
)
def test_the_last_sample_of_each_series_is_what_is_served(tmp_path: Path, log: Path) -> None:
    copy = tmp_path / "app.log"
    copy.write_bytes(log.read_bytes())
    config = Config(log_paths=(str(copy),))
    page = once(config, version="0").decode()
    served = {
        key: float(value)
        for key, _, value in [text.rpartition(" ") for text in page.splitlines()]
        if key.startswith("ai_api_")
    }

    output = tmp_path / "history.om"
    assert backfill("--log-path", copy, "--output", output, "--step", "3600").exit_code == 0

    last: dict[str, float] = {}
    for text in output.read_text().splitlines():
        if not text.startswith("#"):
            sample, value, _ = text.partition(" # ")[0].rsplit(" ", 2)
            last[sample] = float(value)
    assert last == served


def test_a_gauge_is_what_the_latest_record_told_of_whatever_file(tmp_path: Path) -> None:
    told = [(START + number * 60 + 1, 1000 - number) for number in range(60)]
    for place in range(3):
        (tmp_path / f"pod-{place}.log").write_text(
            "".join([line(at, rate_limit_remaining_requests=left) for at, left in told[place::3]])
        )

    found = of(history(tmp_path, "--log-path", tmp_path), "ai_api_rate_limit_remaining")

    assert len(found) > 200
    assert found == [(at, max(told_ for told_ in told if told_[0] < at)[1]) for at, _ in found]


def test_a_packed_file_is_read_to_its_end_whatever_until_says(tmp_path: Path) -> None:
    log, state = tmp_path / "app.log", tmp_path / "state"
    log.write_text(line(START + 1000))
    texts = [line(START + (number * 37) % 100) for number in range(100)]
    (tmp_path / "app.log.1.gz").write_bytes(gzip.compress("".join(texts).encode()))

    found = history(tmp_path, "--log-path", log, "--until", str(START + 60), "--state-dir", state)

    assert of(found, "ai_api_requests_total")[-1] == (START + 60, 60)


def test_progress_is_drawn_on_a_terminal_and_nothing_is_left_when_it_is_ended(
    tmp_path: Path,
) -> None:
    log, output = tmp_path / "logs" / "app.log", tmp_path / "out" / "history.om"
    for path in (log, output):
        path.parent.mkdir()
    log.write_text(line(START) * 300_000)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "sidecar", "backfill"]
    command += ["--log-path", str(log), "--output", str(output)]
    process = subprocess.Popen(command, stderr=theirs)
    os.close(theirs)

    drawn = b""
    while b"left" not in drawn:
        drawn += os.read(ours, 1000)
    process.terminate()

    assert process.wait(30) == 130
    assert re.search(rb"reading .*%.*MB/s.*left", drawn), drawn
    assert list(output.parent.iterdir()) == []
    os.close(ours)


def _split(text: str, is_split: bool) -> list[tuple[str, str]]:
    if not is_split:
        return [("F", text)]
    return [("P", text[:40] + "\n"), ("F", text[40:])]


PRICES = {
    "gemini-2.5-flash": ("0.30", "2.50", "0.03"),
    "deepseek-chat": ("0.27", "1.10", "0.07"),
    "gpt-4.1": ("2.00", "8.00", "0.50"),
    "gpt-4o-mini": ("0.15", "0.60", "0.075"),
    "claude-sonnet-4-20250514": ("3.00", "15.00", "0.30"),
    "claude-3-5-haiku-20241022": ("0.80", "4.00", "0.08"),
    "gpt-4o": ("2.50", "10.00", "1.25"),
    "gemini-2.5-pro": ("1.25", "10.00", "0.31"),
}
"""USD for a million tokens: input, output, read from a cache."""

GEMINI = Model(
    provider="gemini",
    name="gemini-2.5-pro",
    endpoint="/v1beta/generateContent",
    tokens_per_second=60,
    input_tokens=2000,
    output_tokens=300,
)


class Week:
    """Made-up requests in five formats, written to files that are rotated and packed; and the truth about them."""

    def __init__(self, directory: Path, end: float) -> None:
        self._directory = directory
        self._dice = random.Random(7)
        self._number = 0
        self.calls: list[Call] = []
        for place in range(5):
            texts = [
                self.make(place, end - 7 * DAY + number * 7 * DAY / 900) for number in range(900)
            ]
            name = FORMATS[place].file_name if place < 4 else "edge.log"
            live = directory / name
            live.with_name(name + ".3.gz").write_bytes(gzip.compress("".join(texts[:300]).encode()))
            live.with_name(name + ".2.gz").write_bytes(
                gzip.compress("".join(texts[300:550]).encode())
            )
            live.with_name(name + "-20260101").write_text("".join(texts[550:700]))
            live.write_text("".join(texts[700:]))

    def write_live(self, at: float) -> None:
        """Append a line to each of the files."""
        for place in range(5):
            name = FORMATS[place].file_name if place < 4 else "edge.log"
            with (self._directory / name).open("a") as log:
                log.write(self.make(place, at))

    def make(self, place: int, at: float) -> str:
        """Make up a request that ended about then, and give its line."""
        dice = self._dice
        self._number += 1
        model = dice.choice(FORMATS[place].models) if place < 4 else GEMINI
        tokens_in = dice.randint(100, 5000)
        call = Call(
            model=model,
            # later ones are not always written later
            ended=round(at - dice.random() * 40, 3),
            duration_seconds=(dice.randint(2, 900) * 10 + 7) / 1000,
            first_token_seconds=0.015,
            status=429 if dice.random() < 0.05 else 200,
            input_tokens=tokens_in,
            cached_tokens=0 if place == 0 else tokens_in // 3,
            output_tokens=dice.randint(1, 900),
            number=self._number,
        )
        self.calls.append(call)
        record = FORMATS[place].write(call) if place < 4 else _gemini_body(call)
        text = json.dumps(record)
        if place == 1:
            return f"{iso(call.ended)} stdout F {text}\n"
        if place == 4:
            return (
                json.dumps({"log": text + "\n", "stream": "stdout", "time": iso(call.ended)}) + "\n"
            )
        return text + "\n"

    def requests(self) -> Counter[tuple[str, str]]:
        """Count the requests by model and status."""
        return Counter([(call.model.name, str(call.status)) for call in self.calls])

    def tokens(self, name: str) -> Counter[str]:
        """Add up tokens by model, of requests that were answered."""
        total: Counter[str] = Counter()
        for call in self.calls:
            total[call.model.name] += getattr(call, name) if call.status == 200 else 0
        return total

    def cents(self) -> dict[str, float]:
        """Add up what it cost by model, exactly."""
        total: dict[str, Decimal] = defaultdict(Decimal)
        for call in self.calls:
            if call.status == 200:
                of_input, of_output, of_read = map(Decimal, PRICES[call.model.name])
                fresh = call.input_tokens - call.cached_tokens
                used = (
                    fresh * of_input + call.output_tokens * of_output + call.cached_tokens * of_read
                )
                total[call.model.name] += used / 10_000
        return {model: float(cents) for model, cents in total.items()}

    def quantile(self, model: str, share: float) -> float:
        """Give a quantile of the durations, as Prometheus interpolates it from the buckets, in milliseconds."""
        durations = [
            round(call.duration_seconds * 1000) for call in self.calls if call.model.name == model
        ]
        counts = [0] * (len(DURATION_MS) + 1)
        for duration in durations:
            counts[bisect_left(DURATION_MS, duration)] += 1
        rank, so_far = share * len(durations), 0
        for place, count in enumerate(counts):
            if so_far + count >= rank:
                low = DURATION_MS[place - 1] if place else 0
                return low + (DURATION_MS[place] - low) * (rank - so_far) / count
            so_far += count
        raise AssertionError


def _gemini_body(call: Call) -> dict[str, Any]:
    used = {
        "promptTokenCount": call.input_tokens,
        "candidatesTokenCount": call.output_tokens,
        "cachedContentTokenCount": call.cached_tokens,
        "totalTokenCount": call.input_tokens + call.output_tokens,
    }
    body: dict[str, Any] = {"error": {"code": call.status, "status": "RESOURCE_EXHAUSTED"}}
    if call.status == 200:
        candidates = [{"content": {"role": "model"}, "finishReason": "STOP"}]
        body = {"candidates": candidates, "usageMetadata": used, "modelVersion": call.model.name}
    return {
        "time": iso(call.ended),
        "provider": "gemini",
        "model": call.model.name,
        "status": call.status,
        "latency_ms": round(call.duration_seconds * 1000),
        "response": body,
    }


@needs_prometheus
@needs_promtool
def test_a_week_in_prometheus_equals_the_truth_and_goes_on_live_without_a_seam(
    tmp_path: Path,
) -> None:
    logs, blocks, state = tmp_path / "logs", tmp_path / "tsdb", tmp_path / "state"
    logs.mkdir()
    week = Week(logs, time.time() - 2)
    config = tmp_path / "sidecar.toml"
    config.write_text(
        "".join(
            [
                f'[prices.models."{model}"]\ninput = {of_input}\noutput = {of_output}\ncache_read = {of_read}\n'
                for model, (of_input, of_output, of_read) in PRICES.items()
            ]
        )
    )
    reading = ("--log-path", logs, "--config", config, "--state-dir", state)

    in_a_process(
        *(*reading, "--blocks", blocks, "--output", tmp_path / "week.om", "--step", "300"),
        *("--target-label", "job=ai-sidecar", "--target-label", "instance=pod-1"),
    )

    assert not list(blocks.glob(".*"))
    end = time.time()
    with _prometheus(tmp_path, blocks, []) as prometheus:
        _check(prometheus, week, end)
        rows = prometheus.value('count({__name__=~"ai_api_.+"})', end)

    with SidecarProcess(reading) as sidecar:
        (tmp_path / "live").mkdir()
        with _prometheus(tmp_path / "live", blocks, [sidecar.target]) as prometheus:
            prometheus.wait_for_scrapes(2)
            for _ in range(20):
                week.write_live(time.time())
            wait_until(
                lambda: prometheus.value("sum(ai_api_requests_total)") == len(week.calls),
                "the live requests in Prometheus",
            )
            now = time.time()
            _check(prometheus, week, now)
            names = [
                sample.labels["__name__"]
                for sample in prometheus.query(
                    'count by (__name__) ({__name__=~"ai_api_.+_(total|bucket|count|sum)"})', now
                )
            ]
            assert len(names) > 15
            assert {
                name: prometheus.value(f"max(resets({name}[8d]))", now) for name in names
            } == dict.fromkeys(names, 0)
            # the series are the same ones: those that were there before the seam
            assert (
                prometheus.value('count(last_over_time({__name__=~"ai_api_.+"}[8d]))', now) == rows
            )
            over_seam = prometheus.value(
                "sum(last_over_time(ai_api_requests_total[8d])) - sum(ai_api_requests_total offset 1d)",
                now,
            )
            assert over_seam == sum([call.ended >= _shown(now - DAY) for call in week.calls])


def _shown(at: float) -> float:
    """Give the end of the last step of five minutes that Prometheus has at a moment."""
    return at // 300 * 300


def _prometheus(directory: Path, storage: Path, targets: list[str]) -> Prometheus:
    prometheus = Prometheus(directory, targets, storage=storage)
    document = json.loads(prometheus.config.read_text())
    document["scrape_configs"][0]["static_configs"][0]["labels"] = {"instance": "pod-1"}
    prometheus.config.write_text(json.dumps(document))
    return prometheus


def _check(prometheus: Prometheus, week: Week, at: float) -> None:
    """Compare what PromQL tells with the truth."""

    def by(expression: str, *labels: str) -> dict[Any, float]:
        names = ", ".join(labels)
        return {
            tuple([sample.labels[label] for label in labels])
            if len(labels) > 1
            else sample.labels[labels[0]]: sample.value
            for sample in prometheus.query(f"sum by ({names}) ({expression})", at)
        }

    assert by("ai_api_requests_total", "model", "status_code") == week.requests()
    assert by("ai_api_input_tokens_total", "model") == week.tokens("input_tokens")
    assert by("ai_api_cache_read_tokens_total", "model") == week.tokens("cached_tokens")
    assert by("ai_api_output_tokens_total", "model") == week.tokens("output_tokens")
    assert by("ai_api_cost_usd_cents_total", "model") == pytest.approx(week.cents(), rel=1e-12)
    assert sum(by("ai_api_unpriced_requests_total", "model").values()) == 0
    for share in (0.5, 0.95, 0.99):
        found = prometheus.query(
            f"histogram_quantile({share}, sum by (model, le) (ai_api_request_duration_milliseconds_bucket))",
            at,
        )
        assert {sample.labels["model"]: sample.value for sample in found} == pytest.approx(
            {model: week.quantile(model, share) for model in PRICES}, rel=1e-9
        )

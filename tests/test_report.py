"""`ai-sidecar report` tells what stands in the logs: figures by an independent reading of the same lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from test_samples import EXPECTED, FILES, SAMPLES

from sidecar.cli import main
from sidecar.commands.logs import Reading
from sidecar.commands.report import bar, make, quantile, tables
from sidecar.config import Config, tables_of
from sidecar.periods import Periods, Slices
from sidecar.pipeline import Source

Line = dict[str, Any]

START = datetime(2026, 1, 30, 20, tzinfo=UTC)
ENDPOINTS = ("/v1/chat/completions", "/v1/responses")


def line(moment: datetime | None = START, **more: Any) -> Line:
    record: Line = {
        "provider": "openai",
        "model": "gpt-4o",
        "endpoint": "/v1/chat/completions",
        "status_code": 200,
        "latency_ms": 800.5,
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }
    if moment is not None:
        record = {"ts": moment.isoformat().replace("+00:00", "Z"), **record}
    return {**record, **more}


def write(path: Path, lines: list[Line]) -> Path:
    path.write_text("".join([json.dumps(one) + "\n" for one in lines]))
    return path


def run(*arguments: str | Path, code: int = 0, before: tuple[str, ...] = ()) -> str:
    result = CliRunner().invoke(main, [*before, "report", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def document(*arguments: str | Path, before: tuple[str, ...] = ()) -> Any:
    return json.loads(run(*arguments, "--format", "json", before=before), parse_float=Decimal)


def rows(made: Any) -> dict[str, Any]:
    """Give the rows of a document by their keys."""
    return {" ".join([row[name] for name in made["by"]]): row for row in made["rows"]}


@pytest.mark.parametrize("name", FILES)
def test_a_sample_gives_its_expected_totals(name: str) -> None:
    names = {"input_total": "input_tokens", "cached_read": "cache_read_tokens"}
    names |= {"cache_write": "cache_write_tokens", "output_total": "output_tokens"}
    names |= {"reasoning": "reasoning_tokens", "requests": "requests", "errors": "errors"}
    expected = {
        "unknown" if model == "None" else model: {
            ours: row.get(theirs, 0) for theirs, ours in names.items()
        }
        for model, row in EXPECTED[name]["models"].items()
    }

    made = document(SAMPLES / name)

    found = {
        model: {ours: row[ours] for ours in names.values()} for model, row in rows(made).items()
    }
    assert found == {model: row for model, row in expected.items() if any(row.values())}
    assert made["total"]["requests"] == sum(row["requests"] for row in made["rows"])


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/samples is not there")
def test_there_are_samples() -> None:
    assert len(FILES) >= 15


def made_up(count: int, spell: Callable[[datetime], Any]) -> list[Line]:
    """Make lines over four days and the end of a month, whose times are spelt as `spell` does."""
    chance = random.Random(7)
    lines = []
    for number in range(count):
        moment = START + timedelta(seconds=number * 4 * 86_400 / count + chance.random() * 3)
        failed = chance.random() < 0.1
        lines.append(
            line(
                moment,
                ts=spell(moment),
                model=chance.choice(["gpt-4o", "gpt-4o-mini", "gpt-4.1"]),
                endpoint=chance.choice(ENDPOINTS),
                status_code=429 if failed else 200,
                usage={
                    "prompt_tokens": chance.randrange(5000),
                    "completion_tokens": chance.randrange(500),
                },
            )
        )
    return lines


OWN_FORMAT = """
[parsers.mine]
when = { "provider" = "openai" }
provider = "provider"
model = "model"
endpoint = "endpoint"
status = "status_code"
duration = "latency_ms"
input_tokens = "usage.prompt_tokens"
output_tokens = "usage.completion_tokens"
timestamp = "ts"
"""
"""A parser that is compiled anew for each test, and so has seen no other log."""


SPELLINGS: dict[str, Callable[[datetime], Any]] = {
    "ISO text": lambda moment: moment.isoformat(),
    "another zone's": lambda moment: moment.astimezone(ZoneInfo("Asia/Kathmandu")).isoformat(),
    "without a zone": lambda moment: moment.replace(tzinfo=None).isoformat(),
    "epoch seconds": lambda moment: moment.timestamp(),
    "epoch milliseconds": lambda moment: int(moment.timestamp() * 1000),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    ("unit", "form"),
    [("day", "%Y-%m-%d"), ("month", "%Y-%m"), ("hour", "%Y-%m-%dT%H:00%:z")],
)
def test_requests_are_counted_in_the_period_of_their_time(
    tmp_path: Path, spelling: str, unit: str, form: str
) -> None:
    zone = ZoneInfo("America/St_Johns")  # its hours begin at half past
    lines = made_up(3000, SPELLINGS[spelling])
    expected: dict[str, list[int]] = {}
    for one, moment in zip(lines, moments(3000), strict=True):
        there = moment.astimezone(zone)
        offset = there.strftime("%z")
        key = there.strftime(form.replace("%:z", f"{offset[:3]}:{offset[3:]}"))
        sums = expected.setdefault(key, [0, 0, 0, 0])
        for place, figure in enumerate(
            (
                1,
                one["status_code"] != 200,
                one["usage"]["prompt_tokens"],
                one["usage"]["completion_tokens"],
            )
        ):
            sums[place] += figure

    (tmp_path / "c.toml").write_text(OWN_FORMAT)
    path = write(tmp_path / "a.log", lines)

    made = document(
        path,
        *("--by", unit, "--zone", "America/St_Johns"),
        before=("--config", str(tmp_path / "c.toml")),
    )

    names = ("requests", "errors", "input_tokens", "output_tokens")
    assert {key: [row[name] for name in names] for key, row in rows(made).items()} == expected
    assert [row[unit] for row in made["rows"]] == sorted(expected)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_requests_are_counted_by_their_time_many_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    path = write(tmp_path / "a.log", made_up(3000, SPELLINGS[spelling]))
    tables = tables_of(tomllib.loads(OWN_FORMAT))
    slices = Slices(Periods("day"), since=START.timestamp() + 1000.5)
    reading = Reading(Config(log_paths=(), tables=tables), max_series=1000, slices=slices)
    one_by_one: list[bytes] = []
    read_one = reading._pipeline._line

    def line_read(source: Source, text: bytes) -> str | None:
        one_by_one.append(text)
        return read_one(source, text)

    monkeypatch.setattr(reading._pipeline, "_line", line_read)
    reading.read([str(path)], print)

    assert sum(series.count for series in reading.store.series) == 3000
    assert len(one_by_one) < 100


def moments(count: int) -> list[datetime]:
    return [datetime.fromisoformat(one["ts"]) for one in made_up(count, SPELLINGS["ISO text"])]


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("2026-02-01", None),
        (None, "2026-01-31T12:34:56.5+02:00"),
        ("2026-01-31T01:02:03", "2026-02-02"),
    ],
)
@pytest.mark.parametrize("by", ["model", "day"])
def test_only_requests_of_the_time_asked_for_are_told(
    tmp_path: Path, since: str | None, until: str | None, by: str
) -> None:
    def at(text: str) -> datetime:
        read = datetime.fromisoformat(text)
        return read if read.tzinfo else read.replace(tzinfo=UTC)

    path = write(tmp_path / "a.log", [*made_up(2000, SPELLINGS["ISO text"]), line(None)])
    inside = [
        one
        for one in moments(2000)
        if (since is None or one >= at(since)) and (until is None or one < at(until))
    ]
    window = [*(["--since", since] if since else []), *(["--until", until] if until else [])]

    made = document(path, *window, "--by", by)

    assert 0 < len(inside) < 2000
    assert made["total"]["requests"] == len(inside)
    assert made["requests_without_time"] == 1


def test_so_long_ago_is_from_now(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    path = write(tmp_path / "a.log", [line(now - timedelta(days=8)), line(now - timedelta(days=6))])

    assert document(path, "--since", "7d")["total"]["requests"] == 1


def test_a_request_without_a_time_is_of_no_day(tmp_path: Path) -> None:
    made = document(write(tmp_path / "a.log", [line(), line(None)]), "--by", "day")

    assert list(rows(made)) == ["2026-01-30", "unknown"]


def test_money_is_exact_and_what_the_cache_saved_is_told(tmp_path: Path) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 640},
    }
    path = write(
        tmp_path / "a.log", [line(usage=usage), line(), line(cost_usd=0.1), line(cost_usd=0.2)]
    )

    total = document(path)["total"]

    # gpt-4o: 2.50 in, 10.00 out, 1.25 from the cache
    by_price = Decimal(360 * 250 + 640 * 125 + 7 * 1000 + 100 * 250 + 10 * 1000) / 100_000_000
    assert total["cost_usd"] == by_price + Decimal("0.3")
    assert total["cache_savings_usd"] == Decimal(640 * 125) / 100_000_000


def test_writing_to_the_cache_is_set_against_what_it_saved(tmp_path: Path) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 0,
        "cache_read_input_tokens": 500,
        "cache_creation_input_tokens": 400,
    }
    config = """
[prices.models.m]
input = 4
cache_read = 1
cache_write = 5
"""
    (tmp_path / "c.toml").write_text(config)
    path = write(tmp_path / "a.log", [line(model="m", usage=usage)])

    total = document(path, before=("--config", str(tmp_path / "c.toml")))["total"]

    written, read = total["cache_write_tokens"], total["cache_read_tokens"]
    assert (written, read) == (400, 500)
    assert total["cache_savings_usd"] == Decimal(500 * 3 - 400) / 1_000_000


def test_quantiles_are_near_the_exact_ones(tmp_path: Path) -> None:
    chance = random.Random(3)
    values = [chance.lognormvariate(6.5, 1.1) for _ in range(5000)]
    path = write(
        tmp_path / "a.log", [line(latency_ms=value, ttft_ms=value / 4) for value in values]
    )

    total = document(path)["total"]

    ordered = sorted(values)
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = ordered[int(q * len(ordered))] / 1000
        assert float(total[f"duration_{name}_seconds"]) == pytest.approx(exact, rel=0.04)
        assert float(total[f"time_to_first_token_{name}_seconds"]) == pytest.approx(
            exact / 4, rel=0.04
        )


def test_a_quantile_of_nothing_is_none_and_beyond_all_bounds_the_last() -> None:
    assert quantile(None, 0.5) is None
    assert quantile([0] * 387, 0.5) is None
    assert quantile([*[0] * 386, 3], 0.5) == pytest.approx(3600, rel=0.04)


def test_rows_are_by_whatever_is_asked_for(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.log",
        [
            line(metadata={"team": "red"}),
            line(metadata={"team": "red"}, status_code=500, usage=None),
            line(metadata={"team": "blue"}, model="gpt-4o-mini", endpoint="/v1/responses"),
            line(),
        ],
    )

    def counts(*by: str, before: tuple[str, ...] = ()) -> dict[str, int]:
        arguments = [word for name in by for word in ("--by", name)]
        found = rows(document(path, *arguments, before=before))
        return {key: row["requests"] for key, row in found.items()}

    assert counts("provider") == {"openai": 4}
    assert counts("endpoint") == {"/chat/completions": 3, "/responses": 1}
    assert counts("error_type") == {"none": 3, "server": 1}
    assert counts("team=metadata.team") == {"red": 2, "blue": 1, "unknown": 1}
    assert counts("team", before=("--label", "team=metadata.team")) == counts("team=metadata.team")
    assert counts("team=metadata.team", "model") == {
        "red gpt-4o": 2,
        "blue gpt-4o-mini": 1,
        "unknown gpt-4o": 1,
    }
    assert counts("day", "model") == {"2026-01-30 gpt-4o": 3, "2026-01-30 gpt-4o-mini": 1}


def test_who_spent_most_comes_first(tmp_path: Path) -> None:
    lines = [line(cost_usd=cost, model=f"m{cost}", user=f"u{cost}") for cost in (1, 5, 3, 0.5)]
    path = write(tmp_path / "a.log", lines)

    made = document(path, "--top", "2", before=("--label", "who=user"))

    assert [row["model"] for row in made["rows"]] == ["m5", "m3", "m1", "m0.5"]
    assert made["top_spenders"] == [
        {
            "provider": "openai",
            "model": f"m{cost}",
            "endpoint": "/chat/completions",
            "who": f"u{cost}",
            "requests": 1,
            "cost_usd": cost,
        }
        for cost in (5, 3)
    ]


def test_rotated_and_packed_logs_are_read_and_other_files_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "deep"
    folder.mkdir(parents=True)
    write(folder / "app.log", [line()])
    write(folder / "app.log.1", [line()] * 2)
    write(folder / "app.log-20260101", [line()] * 4)
    for name, times in (("app.log.2.gz", 8), ("old.jsonl.gz", 16)):
        (folder / name).write_bytes(gzip.compress((json.dumps(line()) + "\n").encode() * times))
    write(folder / "app.log.bak", [line()] * 100)
    write(folder / "notes.txt", [line()] * 100)

    assert document(tmp_path / "logs")["total"]["requests"] == 31
    assert document(folder / "app.log*")["total"]["requests"] == 115, "a glob takes what it names"
    assert document(folder / "notes.txt")["files"] == 1


def test_a_packed_log_that_is_cut_off_is_told_and_read_as_far_as_it_goes(tmp_path: Path) -> None:
    noise = [line(trace_id=f"{random.Random(n).getrandbits(256):x}") for n in range(9000)]
    packed = gzip.compress("".join([json.dumps(one) + "\n" for one in noise]).encode())
    (tmp_path / "a.log.1.gz").write_bytes(packed[: len(packed) * 3 // 4])
    write(tmp_path / "b.log", [line()])

    result = CliRunner().invoke(main, ["report", str(tmp_path), "--format", "json"])

    assert result.exit_code == 0
    assert "a.log.1.gz: cannot be read to its end" in result.stderr
    assert result.stderr.count("\n") == 1
    assert 1000 < json.loads(result.stdout)["total"]["requests"] < 9001


def test_standard_input_is_read() -> None:
    text = json.dumps(line()) + "\n"

    result = CliRunner().invoke(main, ["report", "-", "--format", "json"], input=text * 3)

    assert json.loads(result.stdout)["total"]["requests"] == 3


def test_csv_has_a_header_and_plain_figures(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", [line(model='a,"b"\nc'), line(), line()])

    table = list(
        csv.DictReader(io.StringIO(run(path, "--format", "csv", "--by", "day", "--by", "model")))
    )

    assert [(row["day"], row["model"], row["requests"]) for row in table] == [
        ("2026-01-30", 'a,"b"\ufffdc', "1"),
        ("2026-01-30", "gpt-4o", "2"),
    ]
    assert table[1]["cost_usd"] == "0.0007"
    assert table[1]["time_to_first_token_p50_seconds"] == ""


def test_markdown_is_a_table_that_no_label_breaks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", [line(model="a|b`c"), line()])

    text = run(path, "--format", "markdown")

    lines = [one for one in text.splitlines() if one.startswith("|")]
    assert len(lines) == 5
    assert len({one.replace("\\|", "").count("|") for one in lines}) == 1
    assert r"a\|b\`c" in text
    assert '[models."a|b`c"]  # at openai\ninput =\noutput =\n' in text


def test_what_has_no_price_is_named_with_what_to_write(tmp_path: Path) -> None:
    names = ["acme-large", 'we"ird\\name', "acme-large"]
    path = write(tmp_path / "a.log", [line(model=name) for name in names])

    text = run(path)

    assert "No price is known for 2 models (3 requests)" in " ".join(text.split())
    snippet = text[text.index("[models.") :]
    prices = tomllib.loads(
        snippet.replace("input =", "input = 1").replace("output =", "output = 2")
    )
    assert set(prices["models"]) == set(names)
    (tmp_path / "prices.toml").write_text(snippet.replace("=\n", "= 1\n"))
    priced = document(path, before=("--prices", str(tmp_path / "prices.toml")))
    assert priced["unpriced"] == []
    assert priced["total"]["cost_usd"] == Decimal("0.00033")


@pytest.mark.parametrize("width", [60, 80, 132, 220])
def test_the_table_fits_the_terminal(tmp_path: Path, width: int) -> None:
    lines = [
        line(model=f"a-model-whose-name-is-rather-long-{n}", cost_usd=n, latency_ms=10.0**n)
        for n in range(6)
    ]
    path = write(
        tmp_path / "a.log", [*lines, line(model="[bold red]not markup[/]", cost_usd=0.001)]
    )

    result = CliRunner().invoke(main, ["report", str(path)], env={"COLUMNS": str(width)})

    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= width
    assert "█" in result.output
    assert "[bold red]" in result.output
    for figure in ("$5.00", "p99", "TTFT p50", "reasoning", "saved"):
        assert figure in result.output


def test_on_a_wide_terminal_it_is_one_table(tmp_path: Path) -> None:
    made = make(Config(log_paths=()), [str(write(tmp_path / "a.log", [line()]))])

    assert [len(tables(made, width)) for width in (220, 80)] == [1, 3]


def test_a_bar_is_as_long_as_its_share() -> None:
    assert [bar(share) for share in (0, 0.5, 1)] == ["", "█" * 6, "█" * 12]
    assert bar(1 / 96) == "▏"
    assert bar(0.5, is_plain=True) == "######"


def test_a_log_without_a_request_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text('hello\n{"a": 1}\n')

    text = run(tmp_path)

    assert "No finished request in 1 file (lines: 1 ignored, 1 not_json)" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "report: expected a log, a directory, a glob or -, got nothing"),
        (
            ("nonesuch.log",),
            "--log-path: expected a log, a directory or a glob of such, got 'nonesuch.log'",
        ),
        ((".", "--by", "colour"), "--by: expected provider, model,"),
        (
            (".", "--by", "day", "--by", "hour"),
            "--by: expected one of hour, day, month at the most",
        ),
        (
            (".", "--by", "model=x"),
            "--label: expected a label name that is free to use, got 'model'",
        ),
        ((".", "--since", "yesterday"), "--since: expected a time such as 2026-01-31"),
        ((".", "--zone", "Mars/Base"), "--zone: expected a time zone such as Europe/Berlin"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.log").touch()

    text = run(*arguments, code=2)

    assert text.startswith(f"ai-sidecar: {sentence}")
    assert text.count("\n") == 1


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_rich_one_sentence_says_how_to_install_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", [line()])
    start = "import sys; sys.modules['rich'] = None; from sidecar.cli import main; "

    table = python(f"{start}main(['report', {str(path)!r}])")
    markdown = python(f"{start}main(['report', {str(path)!r}, '--format', 'markdown'])")

    assert table.returncode == 2
    assert table.stderr.count("\n") == 1
    assert "pip install 'ai-sidecar[report]'" in table.stderr
    assert markdown.returncode == 0
    assert "| gpt-4o |" in markdown.stdout


def test_only_the_table_loads_rich(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", [line()])
    told = "\nfinally: print('rich' in sys.modules, file=sys.stderr)"

    def loads(arguments: list[str]) -> bool:
        code = f"import sys\nfrom sidecar.cli import main\ntry: main({arguments!r})"
        return python(code + told).stderr.strip().endswith("True")

    assert loads(["report", str(path)])
    assert not loads(["report", str(path), "--format", "json"])
    assert not loads(["--once", "--log-path", str(path)])


def test_rows_are_by_what_the_path_of_a_log_tells(tmp_path: Path) -> None:
    for app in ("web", "api", "api"):
        with (tmp_path / f"{app}.log").open("a") as file:
            file.write('{"model":"m","status":200,"usage":{"prompt_tokens":1}}\n')
    options = ["--path-label", r"(?P<app>[a-z]+)\.log$"]

    done = CliRunner().invoke(
        main, [*options, "report", str(tmp_path), "--by", "app", "--format", "json"]
    )

    rows = json.loads(done.output)["rows"]
    assert {row["app"]: row["requests"] for row in rows} == {"web": 1, "api": 2}

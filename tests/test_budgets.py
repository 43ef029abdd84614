"""Budgets: what is left of them, over kill -9, midnight and the end of a month. The clock is given, never awaited."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from runpy import run_path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from prometheus import Process, get, wait_until
from prometheus_client.parser import text_string_to_metric_families

from sidecar import budgets, snapshot
from sidecar.cli import main
from sidecar.config import Config, ConfigError, budgets_of, tables_of
from sidecar.daemon import Sidecar
from sidecar.periods import OUTSIDE, UNITS, UNKNOWN, Periods, Slices, zone_of

RULES: dict[str, Any] = run_path(
    str(Path(__file__).parent.parent / "dashboards" / "budget_rules.py")
)["GROUP"]
NOON = datetime(2026, 1, 30, 12, tzinfo=UTC)


def line(moment: datetime | None, cost: float, **more: Any) -> str:
    record = {"provider": "openai", "model": "m", "status_code": 200, "cost_usd": cost, **more}
    if moment is not None:
        record = {"ts": moment.isoformat(), **record}
    return json.dumps(record) + "\n"


class Clock:
    """A clock that is set."""

    def __init__(self, moment: datetime = NOON) -> None:
        self.moment = moment

    def __call__(self) -> float:
        return self.moment.timestamp()


class Life:
    """Lives of a sidecar on one log and one state directory."""

    def __init__(self, directory: Path, document: dict[str, Any], **config: Any) -> None:
        self.clock = Clock()
        self.now = 0.0
        self.log = directory / "a.log"
        self.log.touch()
        self._directory, self._config = directory, config
        self.begin(document)

    def begin(self, document: dict[str, Any]) -> None:
        labels = self._config.get("labels", {})
        self.config = Config(
            log_paths=(str(self.log),),
            state_dir=self._directory / "state",
            budgets=budgets_of({"budgets": document}, labels),
            **self._config,
        )
        before = getattr(self, "sidecar", None)
        if before is not None and before._state is not None:
            os.close(before._state._lock)
        self.sidecar = Sidecar(self.config, version="test", clock=self.clock)
        self.sidecar.hold_state()
        self.sidecar.restore(self.now)

    def write(self, *lines: str) -> None:
        with self.log.open("a") as file:
            file.writelines(lines)

    def read(self) -> dict[str, float]:
        """Read what is there, save, and give what the page says is left."""
        self.now += 2
        self.sidecar.follower.look(self.now)
        while self.sidecar.step():
            self.sidecar.follower.check(self.now)
        self.sidecar.save()
        return self.left()

    def left(self) -> dict[str, float]:
        return gauges(self.sidecar.exposition.page("text/plain", None)[0].decode())


def gauges(page: str, family: str = "ai_api_budget_remaining_usd") -> dict[str, float]:
    return {
        sample.labels["budget"]: sample.value
        for one in text_string_to_metric_families(page)
        if one.name == family
        for sample in one.samples
    }


DAY = {"all": {"usd": 10, "per": "day"}}


def test_what_is_left_is_the_budget_less_what_was_spent(tmp_path: Path) -> None:
    life = Life(tmp_path, {**DAY, "month": {"usd": Decimal("0.5"), "per": "month"}})
    life.write(line(NOON, 0.1), line(NOON, 0.2))

    left = life.read()

    assert left == {"all": 9.7, "month": 0.2}
    page = life.sidecar.exposition.page("text/plain", None)[0].decode()
    assert 'ai_api_budget_usd{budget="all",period="day"} 10.0' in page
    assert 'ai_api_budget_remaining_usd{budget="month",period="month"} 0.2' in page


def test_what_was_overspent_is_under_zero(tmp_path: Path) -> None:
    life = Life(tmp_path, DAY)
    life.write(line(NOON, 12.5))

    assert life.read() == {"all": -2.5}


def test_without_budgets_a_page_has_no_such_families(tmp_path: Path) -> None:
    life = Life(tmp_path, {})
    life.read()

    assert b"budget" not in life.sidecar.exposition.page("text/plain", None)[0]


def test_a_budget_counts_what_its_labels_fit(tmp_path: Path) -> None:
    document = {
        "openai": {"usd": 10, "per": "day", "match": {"provider": "OpenAI"}},
        "small": {"usd": 10, "per": "day", "match": {"model": "*-mini"}},
        "red": {"usd": 10, "per": "day", "match": {"team": "red", "provider": "anthropic"}},
        "azure": {"usd": 10, "per": "day", "match": {"provider": "azure"}},
    }
    life = Life(tmp_path, document, labels={"team": "metadata.team"})
    life.write(
        line(NOON, 1),
        line(NOON, 2, model="gpt-mini"),
        line(NOON, 4, provider="anthropic", model="c", metadata={"team": "red"}),
        line(NOON, 1.5, provider="anthropic", model="c-mini", metadata={"team": "blue"}),
        line(NOON, 0.5, provider="azure_openai", metadata={"team": "red"}),
    )

    assert life.read() == {"openai": 7, "small": 6.5, "red": 6, "azure": 9.5}


def test_at_midnight_it_is_whole_again_and_the_month_goes_on(tmp_path: Path) -> None:
    life = Life(tmp_path, {**DAY, "month": {"usd": 100, "per": "month"}})
    life.write(line(NOON, 3))
    assert life.read() == {"all": 7, "month": 97}

    life.clock.moment = datetime(2026, 1, 30, 23, 59, 59, 999_999, tzinfo=UTC)
    assert life.left() == {"all": 7, "month": 97}
    life.clock.moment = datetime(2026, 1, 31, tzinfo=UTC)
    assert life.left() == {"all": 10, "month": 97}
    life.clock.moment = datetime(2026, 2, 1, tzinfo=UTC)
    assert life.left() == {"all": 10, "month": 100}


@pytest.mark.parametrize(
    ("year", "month", "days"), [(2026, 2, 28), (2028, 2, 29), (2026, 4, 30), (2026, 12, 31)]
)
def test_a_month_ends_with_its_last_day(tmp_path: Path, year: int, month: int, days: int) -> None:
    life = Life(tmp_path, {"month": {"usd": 100, "per": "month"}})
    last = datetime(year, month, days, 23, 59, 59, tzinfo=UTC)
    life.clock.moment = last
    life.write(line(last.replace(day=1, hour=0, minute=0, second=0), 1), line(last, 2))
    assert life.read() == {"month": 97}

    life.clock.moment = last + timedelta(seconds=1)
    assert life.left() == {"month": 100}


def test_a_request_counts_in_the_day_of_its_own_time(tmp_path: Path) -> None:
    """However late its line is read, and where a client's clock is ahead of ours."""
    life = Life(tmp_path, DAY)
    midnight = datetime(2026, 1, 31, tzinfo=UTC)
    life.write(line(midnight + timedelta(seconds=2), 4))
    life.clock.moment = midnight - timedelta(seconds=1)
    assert life.read() == {"all": 10}

    life.clock.moment = midnight + timedelta(seconds=1)
    assert life.left() == {"all": 6}
    life.write(line(midnight - timedelta(seconds=5), 3), line(midnight, 1))
    assert life.read() == {"all": 5}


def test_a_log_of_months_is_no_expense_of_today(tmp_path: Path) -> None:
    life = Life(tmp_path, {**DAY, "month": {"usd": 100, "per": "month"}})
    life.write(*[line(NOON - timedelta(days=days), 1) for days in range(90)])

    assert life.read() == {"all": 9, "month": 70}


def test_a_request_without_a_time_counts_when_it_is_read(tmp_path: Path) -> None:
    life = Life(tmp_path, DAY)
    life.write(line(None, 1))

    assert life.read() == {"all": 9}


def test_a_clock_that_steps_back_over_midnight_loses_nothing(tmp_path: Path) -> None:
    life = Life(tmp_path, DAY)
    midnight = datetime(2026, 1, 31, tzinfo=UTC)
    life.clock.moment = midnight - timedelta(seconds=1)
    life.write(line(life.clock.moment, 1), line(midnight, 2))
    assert life.read() == {"all": 9}

    for step, left in ((1, 8.0), (-1, 9.0), (1, 8.0)):
        life.clock.moment = midnight + timedelta(seconds=step)
        assert life.left() == {"all": left}


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Africa/Cairo"]
)
def test_it_turns_over_at_midnight_of_the_zone_that_is_named(tmp_path: Path, zone: str) -> None:
    life = Life(tmp_path, {"all": {"usd": 10, "per": "day", "zone": zone}})
    midnight = datetime(2026, 3, 29, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    life.clock.moment = midnight - timedelta(seconds=1)
    life.write(line(midnight - timedelta(seconds=1), 1), line(midnight, 3))
    assert life.read() == {"all": 9}

    life.clock.moment = midnight
    assert life.left() == {"all": 7}


@pytest.mark.parametrize("is_at_once", [True, False], ids=["many at once", "one by one"])
def test_every_way_to_a_cost_is_an_expense(tmp_path: Path, is_at_once: bool) -> None:
    """Costs from the log in any spelling, by plain prices, tiers, caches, service tiers: the sum is that of the page."""
    usages = [
        {"prompt_tokens": 1000, "completion_tokens": 70},
        {
            "prompt_tokens": 1000,
            "completion_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 640},
        },
        {"prompt_tokens": 300_000, "completion_tokens": 1, "cache_creation_input_tokens": 5000},
    ]
    more = [
        {"cost_usd": cost, "usage": usage, "model": model, "service_tier": tier}
        for cost in (None, 0.1, 1e-9, 123456.789, 1e-20)
        for usage in usages
        for model in ("gpt-4o", "claude-sonnet-4-5", "unheard-of")
        for tier in ("default", "batch", "priority")
    ]
    config = Config(
        log_paths=(), budgets=budgets_of({"budgets": {"all": {"usd": 1, "per": "day"}}}, {})
    )
    tables = tables_of(
        {
            "parsers": {
                "mine": {
                    "when": {"provider": "openai"},
                    "provider": {"const": "unknown"},
                    "model": "model",
                    "cost": "cost_usd",
                    "service_tier": "service_tier",
                    "input_tokens": "usage.prompt_tokens",
                    "output_tokens": "usage.completion_tokens",
                    "cache_read_tokens": "usage.prompt_tokens_details.cached_tokens",
                    "cache_write_tokens": "usage.cache_creation_input_tokens",
                    "timestamp": "ts",
                }
            }
        }
    )
    path = tmp_path / "a.log"
    path.write_text("".join([line(NOON, 1, **one) for one in more]) * 3)
    sidecar = Sidecar(
        Config(log_paths=(str(path),), budgets=config.budgets, tables=tables),
        version="test",
        clock=Clock(),
        observe=None if is_at_once else lambda request, parser: None,
    )
    sidecar.read_all()

    counted = sum(
        getattr(series, f"cost_{kind}")
        for series in sidecar.store.series
        for kind in ("input", "output", "cache_read", "cache_write", "audio", "total")
    )
    budget, left = next(sidecar.budgets.remaining())
    assert budget.parts - left == counted > 0
    assert sum(series.unpriced for series in sidecar.store.series) == 3 * 3 * (3 + 2)


def test_it_goes_on_after_a_restart_and_forgets_what_was_another_budget(tmp_path: Path) -> None:
    life = Life(tmp_path, {**DAY, "month": {"usd": 100, "per": "month"}})
    life.write(line(NOON, 3))
    assert life.read() == {"all": 7, "month": 97}

    life.begin(
        {
            "all": {"usd": 20, "per": "day"},
            "month": {"usd": 100, "per": "month", "match": {"model": "x"}},
        }
    )
    assert life.read() == {"all": 17, "month": 100}, "another amount is the same budget"
    life.clock.moment += timedelta(days=1)
    life.begin(DAY)
    assert life.read() == {"all": 10}


def test_a_state_from_before_there_were_budgets_is_taken(tmp_path: Path) -> None:
    life = Life(tmp_path, {})
    life.write(line(NOON, 3))
    life.read()
    path = tmp_path / "state" / "state.json"
    state = snapshot.decode(path.read_bytes())
    del state["budgets"]
    path.write_bytes(snapshot.encode(state))

    life.begin(DAY)
    assert life.read() == {"all": 10}, "what was counted before is not read again"
    life.write(line(NOON, 1))

    assert life.read() == {"all": 9}


def test_a_reload_brings_other_budgets_and_the_same_go_on(tmp_path: Path) -> None:
    life = Life(tmp_path, {"all": {"usd": 10, "per": "day"}})
    life.write(line(NOON, 3))
    life.read()
    document = {"all": {"usd": 30, "per": "day"}, "new": {"usd": 5, "per": "month"}}
    life.sidecar.use(replace(life.config, budgets=budgets_of({"budgets": document}, {})), 0.0)
    life.write(line(NOON, 1))

    assert life.read() == {"all": 26, "new": 4}


PROGRAM = """
import sys
from pathlib import Path
from sidecar.config import Config, budgets_of
from sidecar.daemon import Loop, Sidecar
import logging
logging.basicConfig(level="INFO", stream=sys.stderr)
log, state, clock = map(Path, sys.argv[1:])
budgets = budgets_of({"budgets": {"day": {"usd": 100, "per": "day"}, "month": {"usd": 1000, "per": "month"}}}, {})
config = Config(log_paths=(str(log),), state_dir=state, host="127.0.0.1", port=0, poll_interval_seconds=0.05,
                state_interval_seconds=3600, budgets=budgets)
Loop(Sidecar(config, version="test", clock=lambda: float(clock.read_text()))).run()
"""


class Page:
    """The gauges of a sidecar that runs."""

    def __init__(self, process: Process) -> None:
        def address() -> str | None:
            told = [one.rsplit(" ", 1)[1] for one in process.lines if "serving on" in one]
            return told[0] if told else None

        self._url = wait_until(address, "an address")
        wait_until(lambda: get(f"{self._url}/ready")[0] == 200, "readiness")

    def left(self) -> dict[str, float]:
        return gauges(get(f"{self._url}/metrics")[1])

    def wait_for(self, left: dict[str, float]) -> None:
        wait_until(lambda: self.left() == pytest.approx(left), f"{left} to be left")


def test_what_a_page_has_shown_is_spent_after_kill_9(tmp_path: Path) -> None:
    """Real processes, killed again and again, over midnight and the end of the month."""
    log, state, clock = tmp_path / "a.log", tmp_path / "state", tmp_path / "clock"
    log.touch()

    def set_clock(moment: datetime) -> None:
        (tmp_path / "new").write_text(repr(moment.timestamp()))
        (tmp_path / "new").replace(clock)

    day, month = 0.0, 0.0
    moment = datetime(2026, 1, 30, 9, tzinfo=UTC)
    for number, hours in enumerate((0, 5, 11, 13, 24, 1)):
        before, moment = moment, moment + timedelta(hours=hours)
        day = 0.0 if moment.date() != before.date() else day
        month = 0.0 if moment.month != before.month else month
        set_clock(moment)
        with Process([sys.executable, "-c", PROGRAM, log, state, clock]) as process:
            page = Page(process)
            assert page.left() == pytest.approx({"day": 100 - day, "month": 1000 - month}), number
            with log.open("a") as file:
                file.writelines([line(moment, 0.25)] * 20)
            day, month = day + 5, month + 5
            page.wait_for({"day": 100 - day, "month": 1000 - month})
            process.popen.send_signal(signal.SIGKILL)
            process.popen.wait()
    assert (day, month) == (10.0, 10.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("budgets = 1", "--config: expected [budgets] to be a table, got 1"),
        (
            "[budgets]\na = 1",
            "[budgets.a]: expected a table such as { usd = 100, per = 'day' }, got 1",
        ),
        ("[budgets.a]\neuro = 1", "[budgets.a]: expected usd, per, zone or match, got 'euro'"),
        (
            "[budgets.a]\nper = 'day'",
            "[budgets.a] usd: expected an amount of US dollars over 0, got None",
        ),
        (
            "[budgets.a]\nusd = 0\nper = 'day'",
            "[budgets.a] usd: expected an amount of US dollars over 0, got 0",
        ),
        (
            "[budgets.a]\nusd = nan\nper = 'day'",
            "[budgets.a] usd: expected an amount of US dollars over 0, got NaN",
        ),
        (
            "[budgets.a]\nusd = true\nper = 'day'",
            "[budgets.a] usd: expected an amount of US dollars over 0, got True",
        ),
        (
            "[budgets.a]\nusd = 1\nper = 'week'",
            "[budgets.a] per: expected day or month, got 'week'",
        ),
        (
            "[budgets.a]\nusd = 1\nper = 'day'\nzone = 'Mars/Base'",
            "[budgets.a] zone: expected a time zone such as Europe/Berlin that this machine knows, got 'Mars/Base'",
        ),
        (
            "[budgets.a]\nusd = 1\nper = 'day'\nmatch = { team = 'red' }",
            "[budgets.a] match: expected provider, model or the name of a --label, got 'team'",
        ),
        (
            "[budgets.a]\nusd = 1\nper = 'day'\nmatch = { model = 3 }",
            "[budgets.a] match.model: expected a value or a glob, got 3",
        ),
    ],
)
def test_a_wrong_budget_is_refused_in_one_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)

    result = CliRunner().invoke(
        main, ["--config", str(path), "--once", "--log-path", str(tmp_path)]
    )

    assert (result.exit_code, result.output) == (2, f"ai-sidecar: {sentence}\n")


def test_a_zone_may_be_no_path() -> None:
    for name in ("../../etc/passwd", "/etc/localtime", "", "Europe", "\0"):
        with pytest.raises(ValueError, match="expected a time zone"):
            zone_of(name)


def test_budgets_that_cannot_be_loaded_are_refused() -> None:
    some = budgets.Budgets(budgets.read(DAY, ()), (), Clock())

    for dumped in ([1], [["a", 1]], [["a", [[1, "x"]]]]):
        with pytest.raises(ValueError, match=r".*"):
            some.load(dumped)


def test_a_config_error_is_what_a_bad_budget_raises() -> None:
    with pytest.raises(ConfigError):
        budgets_of({"budgets": {"a": {}}}, {})


@given(
    st.sampled_from(UNITS),
    st.sampled_from(
        [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Asia/Kathmandu",
            "Africa/Cairo",
            "Pacific/Apia",
        ]
    ),
    st.floats(1e9, 4e9),
    st.floats(-100_000, 100_000),
)
def test_periods_follow_each_other_without_a_gap(
    unit: str, zone: str, timestamp: float, step: float
) -> None:
    periods = Periods(unit, zone_of(zone))

    start, end = periods.bounds(timestamp)

    assert start <= timestamp < end
    assert periods.bounds(end)[0] == end or unit == "hour"
    assert (
        periods.name(start)
        == periods.name(timestamp)
        == Periods(unit, zone_of(zone)).name(timestamp)
    )
    # what is equal by the short way is equal by the long one
    other = timestamp + step
    slices = Slices(Periods(unit, zone_of(zone)), timestamp - 50_000, timestamp + 50_000)
    source = slices.source("t")
    if eval(source, {"t": timestamp}) == eval(source, {"t": other}):
        assert slices.label(timestamp) == slices.label(other)


def test_what_is_outside_of_a_window_is_by_itself() -> None:
    slices = Slices(None, 10.0, 20.0)

    assert [slices.label(time) for time in (9.9, 10.0, 19.9, 20.0, None)] == [
        OUTSIDE,
        "all",
        "all",
        OUTSIDE,
        UNKNOWN,
    ]


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool on PATH (Debian: prometheus)"
)


def write_rules(directory: Path) -> Path:
    path = directory / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [RULES]}))
    return path


@needs_promtool
def test_the_alert_rules_are_good(tmp_path: Path) -> None:
    result = subprocess.run(
        ["promtool", "check", "rules", write_rules(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(RULES['rules'])} rules found" in result.stdout


@needs_promtool
def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """Two sidecars spend of one budget; another is nearly spent; a third is spent fast."""
    minutes = 120

    def series(name: str, budget: str, pod: str, period: str, values: str) -> dict[str, str]:
        return {
            "series": f'{name}{{budget="{budget}",period="{period}",pod="{pod}"}}',
            "values": values,
        }

    def pods(budget: str, period: str, allowed: float, *left: str) -> list[dict[str, str]]:
        return [
            one
            for number, values in enumerate(left)
            for one in (
                series("ai_api_budget_usd", budget, str(number), period, f"{allowed}x{minutes}"),
                series("ai_api_budget_remaining_usd", budget, str(number), period, values),
            )
        ]

    def firing(alert: str) -> list[dict[str, str]]:
        return [{"budget": fired[1], "period": fired[2]} for fired in expected if fired[0] == alert]

    expected = [
        ("AiBudgetSpent", "shared", "day"),
        ("AiBudgetNearlySpent", "nearly", "month"),
        ("AiBudgetSpentSoon", "fast", "day"),
    ]
    inputs = [
        *pods("shared", "day", 10, f"4x{minutes}", f"5.5x{minutes}"),
        *pods("fine", "day", 10, f"4.5x{minutes}", f"8x{minutes}"),
        *pods("nearly", "month", 10, f"1.5x{minutes}"),
        # $0.25 a minute by each of two: after two hours $60 of $100 are spent, the rest is within two hours
        *pods("fast", "day", 100, f"100-0.25x{minutes}", f"100-0.25x{minutes}"),
        *pods("slow", "day", 100, f"100-0.05x{minutes}", f"100-0.05x{minutes}"),
    ]
    test = {
        "rule_files": [str(write_rules(tmp_path))],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    *inputs,
                    {
                        "series": 'ai_api_unpriced_requests_total{provider="acme",model="x"}',
                        "values": f"0+1x{minutes}",
                    },
                ],
                "promql_expr_test": [
                    {
                        "expr": f'count by (budget, alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
                        "eval_time": f"{minutes}m",
                        "exp_samples": [
                            {
                                "labels": f'{{alertname="{alert}", budget="{one["budget"]}"}}',
                                "value": 1,
                            }
                            for one in firing(alert)
                        ],
                    }
                    for alert in ("AiBudgetSpent", "AiBudgetNearlySpent", "AiBudgetSpentSoon")
                ]
                + [
                    {
                        "expr": 'count by (model) (ALERTS{alertname="AiBudgetLeavesOutUnpriced",alertstate="firing"})',
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": '{model="x"}', "value": 1}],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(test))

    result = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr

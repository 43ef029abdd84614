"""The page for people: it draws true figures, renews itself, and what a log says stays text."""

from __future__ import annotations

import http.client
import json
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import chromium, needs_chromium
from hypothesis import given
from hypothesis import strategies as st
from prometheus import SidecarProcess, get, sidecar_process, wait_until

from sidecar import page
from sidecar.metrics import DURATION_MS, Health, Meter
from sidecar.prices import PriceBook
from sidecar.recent import SLOT_SECONDS, SLOTS, Recent, Tally, quantile
from sidecar.request import Request
from sidecar.series import OTHER, Store
from sidecar.server import Server
from sidecar.status import MAX_ERRORS, MAX_FILES, MAX_MODELS, File, Models, status

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BOOK = PriceBook({"models": {"priced": {"input": 2, "output": 8}}})
NOON = 1_800_014_400.0
"""12:00 UTC, the start of a slot."""
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\">",
    "</td></table><script>document.title='owned'</script>",
    "\u202egpt-4\u202c&amp;<b>",
    "{{constructor}}${1}",
)


class World:
    """A store with its history, and a clock that is moved by hand."""

    def __init__(
        self, now: float = NOON, max_series: int = 2000, *, has_begun: bool = True
    ) -> None:
        self.now = now
        self.store = Store(max_series)
        self.meter = Meter(self.store, BOOK)
        self.health = Health("test")
        self.history = Recent(self.store)
        self.models = Models(self.store)
        if has_begun:
            self.history.begin(now)

    def add(self, count: int = 1, **fields: Any) -> None:
        request = {"provider": "acme", "model": "priced", "status_code": "200", **fields}
        for _ in range(count):
            self.meter.add(Request(**request))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.history.tick(self.now)

    def view(self) -> Any:
        return self.history.view(self.now, Tally(self.store.series))

    def status(self, **given: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "now": self.now,
            "started": NOON,
            "store": self.store,
            "health": self.health,
            "history": self.history,
            "models": self.models,
            "paths": ["/var/log/app"],
            "files": [],
            "keeps_state": False,
        }
        document: dict[str, Any] = json.loads(status(**{**arguments, **given}))
        return document


# Quantiles


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        pytest.param([0, 0, 0], 0.5, None, id="nothing was counted"),
        pytest.param([4, 0, 0], 0.5, 5.0, id="half of the first bucket, from 0"),
        pytest.param([0, 4, 0], 0.25, 12.5, id="a quarter of the second"),
        pytest.param([2, 2, 0], 0.5, 10.0, id="on a bound"),
        pytest.param([0, 0, 3], 0.5, 20.0, id="over every bound: the last one"),
        pytest.param([1, 0, 0], 1.0, 10.0, id="all"),
    ],
)
def test_a_quantile_is_estimated_as_prometheus_does(
    counts: list[int], share: float, expected: float | None
) -> None:
    assert quantile(counts, [10, 20], share) == expected


@given(
    st.lists(st.integers(0, 10**6), min_size=len(DURATION_MS) + 1, max_size=len(DURATION_MS) + 1),
    st.floats(0.01, 1),
)
def test_a_quantile_stands_in_the_bucket_that_holds_its_rank(
    counts: list[int], share: float
) -> None:
    estimate = quantile(counts, DURATION_MS, share)

    if not sum(counts):
        assert estimate is None
        return
    assert estimate is not None
    at_least = sum(
        count
        for count, bound in zip(counts, DURATION_MS, strict=False)
        if bound <= estimate * (1 + 1e-9)
    )
    at_most = sum(
        count
        for count, lower in zip(counts, (0, *DURATION_MS), strict=True)
        if lower < estimate * (1 + 1e-9) or lower == DURATION_MS[-1]
    )
    rank = share * sum(counts)
    assert at_least <= rank * (1 + 1e-9) or estimate == DURATION_MS[-1]
    assert at_most >= rank * (1 - 1e-9)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool on PATH")
def test_quantiles_equal_those_of_a_real_prometheus(tmp_path: Path) -> None:
    dice = random.Random(3)
    series = []
    tests = []
    for number in range(30):
        counts = [dice.choice((0, 0, 1, dice.randrange(1000))) for _ in (*DURATION_MS, None)]
        counts[dice.randrange(len(counts))] += 1
        for bound, so_far in zip((*DURATION_MS, "+Inf"), accumulate(counts), strict=True):
            series.append(
                {"series": f'x_bucket{{n="{number}",le="{bound}"}}', "values": str(so_far)}
            )
        for share in (0.5, 0.95, 0.99):
            ours = quantile(counts, DURATION_MS, share)
            query = f'histogram_quantile({share}, x_bucket{{n="{number}"}})'
            # equal to the last digits, which hang on the order of additions
            query = f"abs({query} - {ours}) <= bool 1e-12 * {ours}"
            sample = {"labels": f'{{n="{number}"}}', "value": 1}
            tests.append({"expr": query, "eval_time": "0m", "exp_samples": [sample]})
    # JSON is YAML
    path = tmp_path / "tests.yml"
    document = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}]}
    path.write_text(json.dumps(document))

    result = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, timeout=60
    )

    assert result.returncode == 0, result.stdout + result.stderr


# The last hour


def test_what_comes_in_a_slot_stands_in_its_point() -> None:
    world = World()
    world.add(3, duration_seconds=0.2, input_tokens=1_000_000, output_tokens=500_000)
    world.wait(SLOT_SECONDS)
    world.add(1, status_code="429", error_type="rate_limit")
    world.wait(SLOT_SECONDS)

    points = world.view().points

    assert [point.requests for point in points] == [3, 1, 0]
    assert [point.errors for point in points] == [0, 1, 0]
    assert [point.input_tokens for point in points] == [3_000_000, 0, 0]
    assert [point.output_tokens for point in points] == [1_500_000, 0, 0]
    assert [point.cost_usd for point in points] == [18.0, 0.0, 0.0]
    assert [point.duration_p50 for point in points] == [175.0, None, None]


def test_the_running_slot_is_in_the_view() -> None:
    world = World()
    world.wait(10)
    world.add(2)

    assert [point.requests for point in world.view().points] == [2]
    assert world.view().hour.requests == 2


def test_what_was_read_before_the_beginning_is_in_no_slot() -> None:
    world = World(has_begun=False)
    world.add(5, input_tokens=1_000_000)
    world.history.begin(NOON + 7)

    view = world.view()

    assert (view.hour.requests, view.today_usd, view.since) == (0, 0.0, NOON + 7)


def test_slots_in_which_nobody_looked_are_empty() -> None:
    world = World()
    world.add(2)
    world.wait(4 * SLOT_SECONDS)
    world.add(1)

    view = world.view()

    assert [point.requests for point in view.points] == [2, 0, 0, 0, 1]
    assert view.start == NOON


def test_an_hour_is_kept_and_no_more() -> None:
    world = World()
    for _ in range(3 * SLOTS):
        world.add(1)
        world.wait(SLOT_SECONDS)

    view = world.view()

    assert len(view.points) == SLOTS
    assert view.hour.requests == SLOTS - 1
    assert sum(point.requests for point in view.points) == view.hour.requests
    assert view.start == view.since == world.now - (SLOTS - 1) * SLOT_SECONDS


def test_after_a_night_asleep_nothing_is_left_of_the_hour() -> None:
    world = World()
    world.add(1)
    world.wait(10 * 3600)

    assert len(world.view().points) == SLOTS
    assert world.view().hour.requests == 0


@pytest.mark.parametrize("seconds", [-1, -SLOT_SECONDS, -600, -7200, -1e9])
def test_a_clock_that_is_set_back_loses_nothing_that_comes_after(seconds: float) -> None:
    world = World(NOON + 1)
    world.wait(seconds)
    world.add(2)

    assert world.view().points[-1].requests == 2


# Today


def test_today_begins_at_midnight_utc() -> None:
    world = World()
    world.add(1, input_tokens=1_000_000)
    world.wait(12 * 3600 - 1)
    assert world.view().today_usd == 2.0

    world.wait(1)
    world.add(1, input_tokens=500_000)

    assert world.view().today_usd == 1.0
    assert world.view().today_since == NOON + 12 * 3600


def test_today_goes_on_over_a_restart_with_what_was_written_meanwhile() -> None:
    old = World()
    old.add(1, input_tokens=1_000_000)
    new = World(has_begun=False)
    new.store.load(old.store.dump())
    new.history.load(json.loads(json.dumps(old.history.dump())), NOON + 60)
    new.add(1, input_tokens=500_000)
    new.history.begin(NOON + 61)

    assert new.view().today_usd == 3.0
    assert new.view().today_since == NOON


def test_another_day_does_not_go_on() -> None:
    old = World()
    old.add(1, input_tokens=1_000_000)
    new = World(NOON + 86400, has_begun=False)
    new.store.load(old.store.dump())
    new.history.load(old.history.dump(), NOON + 86400)
    new.history.begin(NOON + 86400)

    assert new.view().today_usd == 0.0


# What the page draws from


def test_the_status_tells_true_figures() -> None:
    world = World()
    world.add(
        3,
        duration_seconds=0.2,
        time_to_first_token_seconds=0.06,
        input_tokens=1_000_000,
        output_tokens=500_000,
        timestamp=NOON - 5,
    )
    world.add(1, status_code="429", error_type="rate_limit", duration_seconds=700.0)
    world.add(2, model="new", input_tokens=10)
    document = world.status()

    figures = {
        "requests": 4,
        "errors": 1,
        "unpriced": 0,
        "input_tokens": 3_000_000,
        "output_tokens": 1_500_000,
        "cost_usd": 18.0,
        "duration_p50": 200.0,
        "duration_p95": 300_000.0,
        "duration_p99": 300_000.0,
        "first_token_p50": 75.0,
        "first_token_p95": 97.5,
    }
    nothing = dict.fromkeys(
        ("duration_p50", "duration_p95", "duration_p99", "first_token_p50", "first_token_p95")
    )
    new = {
        **nothing,
        "requests": 2,
        "errors": 0,
        "unpriced": 2,
        "input_tokens": 20,
        "output_tokens": 0,
        "cost_usd": 0.0,
    }
    assert document["models"] == [
        {"provider": "acme", "model": "priced", **figures, "last_request": NOON - 5},
        {"provider": "acme", "model": "new", **new, "last_request": None},
    ]
    both = {**figures, "requests": 6, "unpriced": 2, "input_tokens": 3_000_020}
    assert document["total"] == document["hour"] == both
    assert document["today"] == {"cost_usd": 18.0, "since": NOON}
    assert document["unpriced_models"] == 1
    assert document["errors"] == [
        {"provider": "acme", "model": "priced", "error_type": "rate_limit", "requests": 1}
    ]
    history = document["history"]
    assert (history["requests"], history["errors"], history["cost_usd"]) == ([6], [1], [18.0])


def test_the_status_follows_what_is_counted_between_two_looks() -> None:
    world = World()
    for number in range(40):
        world.add(1, model=f"m{number % 7}", duration_seconds=0.01 * number, input_tokens=5)
        world.add(1, model="priced", status_code=str(200 + number % 3), output_tokens=number)
        looked_again = world.status()
        world.models = Models(world.store)

        assert looked_again == world.status()

    world.store.load(world.store.dump())
    assert world.status()["total"]["requests"] == 80


def test_the_status_is_bounded_and_sums_stay_exact() -> None:
    world = World()
    for number in range(2 * MAX_MODELS):
        world.add(1, model=f"m{number}", status_code="500", error_type="server")
    files = [
        File(
            path=f"/{number}",
            read_bytes=1,
            lag_bytes=number == 77,
            idle_seconds=1.0,
            is_rotated=False,
        )
        for number in range(2 * MAX_FILES)
    ]
    document = world.status(files=files)

    assert (len(document["models"]), document["other_models"]["models"]) == (MAX_MODELS, MAX_MODELS)
    assert sum(one["requests"] for one in document["models"]) == MAX_MODELS
    assert document["other_models"]["requests"] == MAX_MODELS
    assert document["total"]["errors"] == 2 * MAX_MODELS
    assert len(document["errors"]) == MAX_ERRORS
    assert document["other_errors"] == 2 * MAX_MODELS - MAX_ERRORS
    assert document["files"][0]["path"] == "/77"
    assert (len(document["files"]), document["other_files"]) == (MAX_FILES, MAX_FILES)


def test_what_came_after_the_cap_is_there_as_other() -> None:
    world = World(max_series=2)
    for number in range(9):
        world.add(1, model=f"m{number}")

    assert {one["model"] for one in world.status()["models"]} == {"m0", "m1", OTHER}
    assert world.status()["series"]["overflow"] == 7


def test_numbers_and_names_that_json_cannot_hold_do_no_harm() -> None:
    world = World()
    world.add(3, model="large", input_tokens=2**63 - 1)
    broken = File(
        path="/var/log/\udcff.log",
        read_bytes=0,
        lag_bytes=0,
        idle_seconds=0.0,
        is_rotated=False,
    )
    document = world.status(files=[broken], paths=["/\udcff"])

    assert document["total"]["input_tokens"] == pytest.approx(3 * 2**63)
    assert document["files"][0]["path"] == "/var/log/?.log"


# Served


def line(model: str = "gpt-4o", **fields: Any) -> str:
    record = {
        "ts": time.time(),
        "provider": "openai",
        "model": model,
        "endpoint": "/v1/chat/completions",
        "status_code": 200,
        "latency_ms": 800,
        "ttft_ms": 200,
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
    }
    return json.dumps({**record, **fields}) + "\n"


def append(log: Path, *lines: str) -> None:
    with log.open("a", encoding="utf-8") as out:
        out.writelines(lines)


def status_of(sidecar: SidecarProcess) -> dict[str, Any]:
    code, body = get(f"{sidecar.url}/status.json")
    assert code == 200, body
    document: dict[str, Any] = json.loads(body)
    return document


def fields_of(url: str, method: str = "GET") -> http.client.HTTPMessage:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, "/")
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        return answer.msg
    finally:
        connection.close()


def test_the_page_is_small_and_asks_nobody_else() -> None:
    body, _, fields = page.load()

    assert len(body) < 60_000
    # the name of SVG is a name, and fetched by nobody
    text = body.decode().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
    assert b"/* page." not in body
    policy = re.search(rb"Content-Security-Policy: (.*)\r\n", fields)
    assert policy is not None
    assert policy[1].startswith(b"default-src 'none'; ")
    assert b"unsafe" not in policy[1]


def test_the_page_is_served_with_its_policy(tmp_path: Path) -> None:
    with sidecar_process(tmp_path) as sidecar:
        fields = fields_of(sidecar.url)
        assert fields["Content-Type"] == "text/html; charset=utf-8"
        assert fields["X-Frame-Options"] == "DENY"
        assert "script-src 'sha256-" in fields["Content-Security-Policy"]
        assert fields_of(sidecar.url, "HEAD")["Content-Length"] == str(len(page.load().body))


def test_the_page_comes_while_the_loop_hangs_and_figures_when_the_logs_are_read() -> None:
    def fine() -> tuple[int, bytes]:
        return 200, b"{}"

    def reading() -> tuple[int, bytes]:
        return 503, b"{}"

    server = Server(
        "127.0.0.1", 0, wake=lambda: None, health=fine, ready=reading, still={"/": page.load()}
    )
    server.bind()
    server.start()
    try:
        assert get(f"http://127.0.0.1:{server.port}/")[1].encode() == page.load().body
        assert get(f"http://127.0.0.1:{server.port}/status.json")[0] == 503
    finally:
        server.stop(2.0)


def test_the_status_agrees_with_the_metrics_and_takes_nothing_from_a_scraper(
    tmp_path: Path,
) -> None:
    log = tmp_path / "app.log"
    with sidecar_process(log) as sidecar:
        sidecar.page()  # from here on a new series is shown as 0 first
        append(log, line(), line())
        wait_until(lambda: status_of(sidecar)["total"]["requests"] == 2, "two requests")
        labels = 'requests_total{endpoint="/chat/completions",model="gpt-4o",provider="openai",status_code="200"}'

        assert f"{labels} 0.0" in sidecar.page()
        assert f"{labels} 2.0" in sidecar.page()
        document = status_of(sidecar)
        cents = re.findall(r"^ai_api_cost_usd_cents_total\{.*\} (\S+)$", sidecar.page(), re.M)
        assert document["total"]["cost_usd"] == pytest.approx(sum(map(float, cents)) / 100)
        assert document["files"][0]["path"] == str(log)
        assert document["lines"]["request"] == 2


def test_what_the_status_has_shown_is_there_after_kill_9(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    options = ("--state-dir", str(tmp_path / "state"), "--state-interval", "3600")
    with sidecar_process(log, *options) as sidecar:
        append(log, *[line() for _ in range(100)])
        wait_until(lambda: status_of(sidecar)["total"]["requests"] == 100, "a hundred requests")
        today = status_of(sidecar)["today"]
        sidecar.popen.send_signal(signal.SIGKILL)
        sidecar.popen.wait()
    log.unlink()
    with sidecar_process(log, *options) as sidecar:
        assert status_of(sidecar)["total"]["requests"] == 100
        assert status_of(sidecar)["today"] == today


def test_a_user_is_asked_for_where_users_are_given(tmp_path: Path) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    users = tmp_path / "users"
    users.write_text("ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode() + "\n")
    with sidecar_process(tmp_path / "app.log", "--auth-file", str(users)) as sidecar:
        assert get(f"{sidecar.url}/")[0] == get(f"{sidecar.url}/status.json")[0] == 401
        allowed = {"Authorization": "Basic YW5uOnNlY3JldA=="}
        assert get(f"{sidecar.url}/", allowed)[0] == 200
        assert get(f"{sidecar.url}/status.json", allowed)[0] == 200


# In a real browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@contextmanager
def tab(browser: Browser, url: str, *, has_clock: bool = False, **options: Any) -> Iterator[Page]:
    """Open the page in a new tab; what it asks of others, or breaks, is an error.

    With a clock, the time of the page can be moved by hand.
    """
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)
    opened = browser.new_page(**options)
    if has_clock:
        opened.clock.install()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("dialog", lambda dialog: problems.append(dialog.message))
    opened.on(
        "request",
        lambda request: (
            None if request.url.startswith((url, "data:")) else problems.append(request.url)
        ),
    )
    opened.on(
        "console",
        lambda message: (
            problems.append(message.text) if "Content Security" in message.text else None
        ),
    )
    try:
        opened.goto(url)
        yield opened
        assert problems == []
    finally:
        opened.close()


def violations(opened: Page) -> list[str]:
    """Give what axe-core finds wrong, and where."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(opened).response["violations"]
    return [
        f"{one['id']}: {node['html']} {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
    ]


def rows_of(opened: Page, panel: str) -> list[list[str]]:
    rows: list[list[str]] = opened.evaluate(
        """panel => [...document.querySelectorAll(`#${panel} tbody tr`)].map(
            row => [...row.querySelectorAll("bdi")].map(cell => cell.textContent))""",
        panel,
    )
    return rows


@needs_chromium
def test_it_shows_the_true_figures_and_renews_itself(tmp_path: Path, browser: Browser) -> None:
    from playwright.sync_api import expect

    log = tmp_path / "app.log"
    log.touch()
    # USD for a million: 1000 input and 100 output tokens of it cost 0.0025 and 0.001
    with (
        sidecar_process(log, "--poll-interval", "0.2") as sidecar,
        tab(browser, sidecar.url) as opened,
    ):
        expect(opened.locator("#state")).to_have_text("Live")
        expect(opened.locator("#requests-big")).to_have_text("0")
        append(
            log,
            *[line() for _ in range(9)],
            line(status_code=429, error={"type": "rate_limit_error"}, usage=None),
            line("nobody-prices-this"),
            "no json\n",
        )
        expect(opened.locator("#requests-big")).to_have_text("11")
        expect(opened.locator("#requests-note")).to_have_text("9.1 % failed")
        expect(opened.locator("#cost-big")).to_have_text("$0.0315")
        expect(opened.locator("#tokens-big")).to_have_text("11,000")
        # between 500 and 1000 ms, and between 100 and 250
        expect(opened.locator("#latency-big")).to_have_text("750 ms")
        expect(opened.locator("#first-token-big")).to_have_text("175 ms")
        expect(opened.locator("#reading-big")).to_have_text("Caught up")
        expect(opened.locator("#lines-hint")).to_have_text("1 line could not be read.")
        expect(opened.locator("#notices")).to_contain_text("1 model has no price")
        models = rows_of(opened, "models")
        assert [row[:3] for row in models] == [
            ["gpt-4o", "10", "1"],
            ["nobody-prices-this", "1", "0"],
        ]
        assert [row[8:11] for row in models] == [
            ["9,000", "900", "$0.0315"],
            ["1,000", "100", "no price"],
        ]
        assert rows_of(opened, "errors") == [["gpt-4o", "rate_limit 1"]]
        assert rows_of(opened, "unpriced") == [["nobody-prices-this", "1"]]
        assert rows_of(opened, "files")[0][:2] == [str(log), "nothing"]
        assert ["not_json", "1", "no JSON"] in rows_of(opened, "lines")

        append(log, line())
        expect(opened.locator("#requests-big")).to_have_text("12")
        expect(opened.locator("#cost-big")).to_have_text("$0.0350")


@needs_chromium
def test_it_survives_the_sidecar_going_away_and_coming_back(
    tmp_path: Path, browser: Browser
) -> None:
    from playwright.sync_api import expect

    log = tmp_path / "app.log"
    append(log, line())
    with SidecarProcess(["--log-path", log]) as sidecar, tab(browser, sidecar.url) as opened:
        expect(opened.locator("#state")).to_have_text("Live")
        cells = rows_of(opened, "models")
        sidecar.stop()

        expect(opened.locator("#state")).to_contain_text("does not answer")
        expect(opened.locator("#state")).to_contain_text("What you see is of ")
        assert opened.title().startswith("not reachable")
        assert rows_of(opened, "models") == cells
        assert violations(opened) == []

        append(log, line())
        again = SidecarProcess(["--log-path", log])
        again.arguments[-1] = str(sidecar.port)
        with again:
            expect(opened.locator("#state")).to_contain_text("Live; it started again at ")
            expect(opened.locator("#models-hint")).to_contain_text("2 requests")
            assert opened.title() == "ai-sidecar"


@needs_chromium
def test_a_hostile_name_stays_text(tmp_path: Path, browser: Browser) -> None:
    from playwright.sync_api import expect

    log = tmp_path / "<b>&amp;.log"
    append(
        log,
        *[line(name, provider=name, status_code=500, error={"type": name}) for name in HOSTILE],
        *[line(name) for name in HOSTILE],
    )
    with sidecar_process(tmp_path) as sidecar:
        log.rename(tmp_path / "<i>&amp;.log")
        with tab(browser, sidecar.url) as opened:
            expect(opened.locator("#state")).to_have_text("Live")
            shown = {row[0] for row in rows_of(opened, "models")}
            assert shown == {one["model"] for one in status_of(sidecar)["models"]}
            assert HOSTILE[0] in shown
            assert opened.locator("img, i, main script, table b, header b").count() == 0
            assert str(tmp_path / "<i>&amp;.log") in {row[0] for row in rows_of(opened, "files")}
            assert opened.title() == "ai-sidecar"
            assert violations(opened) == []


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("has_figures", [True, False], ids=["figures", "empty"])
def test_axe_finds_nothing_and_nothing_is_cut_off(
    tmp_path: Path, browser: Browser, scheme: str, width: int, has_figures: bool
) -> None:
    from playwright.sync_api import expect

    log = tmp_path / "app.log"
    if has_figures:
        append(log, line(), line("x" * 120), line(status_code=500), "no json\n")
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    with sidecar_process(log) as sidecar:
        append(log, *[line() for _ in range(5)] if has_figures else [])
        with tab(browser, sidecar.url, **options) as opened:
            expect(opened.locator("#state")).to_have_text("Live")

            assert violations(opened) == []
            assert opened.evaluate("document.documentElement.scrollWidth") == width
            ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
            is_dark = sum(map(int, re.findall(r"\d+", ground)[:3])) < 3 * 128
            assert is_dark == (scheme == "dark")


@needs_chromium
def test_the_charts_are_read_with_the_keyboard(tmp_path: Path, browser: Browser) -> None:
    from playwright.sync_api import expect

    log = tmp_path / "app.log"
    log.touch()
    with sidecar_process(log) as sidecar, tab(browser, sidecar.url) as opened:
        append(log, line(), line())
        chart = opened.get_by_role("slider", name="Requests, chart of the last hour")
        expect(chart).to_have_attribute("aria-valuetext", "whole hour: answered 2, failed 0")
        opened.keyboard.press("Tab")
        expect(chart).to_be_focused()
        opened.keyboard.press("Home")
        expect(chart).to_have_attribute("aria-valuetext", re.compile(r"^30 seconds from \d\d:\d\d"))
        latency = opened.get_by_role("slider", name="Latency, chart of the last hour")
        expect(latency).to_have_attribute("aria-valuetext", re.compile(r"^30 seconds from "))
        opened.keyboard.press("Escape")
        expect(chart).to_have_attribute("aria-valuetext", "whole hour: answered 2, failed 0")


@needs_chromium
@pytest.mark.parametrize(
    ("code", "expected"), [(503, "still reading"), (401, "load this page again"), (500, "tries")]
)
def test_it_says_why_there_are_no_figures(
    tmp_path: Path, browser: Browser, code: int, expected: str
) -> None:
    from playwright.sync_api import expect

    with sidecar_process(tmp_path) as sidecar, tab(browser, sidecar.url) as opened:
        expect(opened.locator("#state")).to_have_text("Live")
        opened.route("**/status.json", lambda route: route.fulfill(status=code, body="no"))
        expect(opened.locator("#state")).to_contain_text(expected)
        opened.unroute("**/status.json")
        expect(opened.locator("#state")).to_have_text("Live")


@needs_chromium
def test_a_tab_that_nobody_looks_at_asks_for_nothing(tmp_path: Path, browser: Browser) -> None:
    from playwright.sync_api import expect

    with sidecar_process(tmp_path) as sidecar, tab(browser, sidecar.url, has_clock=True) as opened:
        expect(opened.locator("#state")).to_have_text("Live")
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        hide: Callable[[bool], object] = lambda is_hidden: opened.evaluate(  # noqa: E731 - one word of it changes
            """is_hidden => {
                Object.defineProperty(document, "hidden", { value: is_hidden, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            is_hidden,
        )
        hide(True)
        asked.clear()
        opened.clock.run_for(60_000)
        assert asked == []
        hide(False)
        wait_until(lambda: opened.evaluate("1") and asked, "it asks again")

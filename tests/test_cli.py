"""What a user types: one sentence and the right exit code where it is wrong."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from prometheus import Process, get, sidecar_process, wait_until

from sidecar import plugins

LINE = '{"model":"gpt-4o","provider":"openai","status":200,"latency_ms":5,"usage":{"prompt_tokens":7,"completion_tokens":1}}\n'


def run(
    *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(environment or {})},
    )


def sample(page: str, start: str) -> float:
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(start)
    )


WRONG = {
    "no path": ([], "--log-path"),
    "a parser nobody has": (["--log-path", "x", "--parser", "nope"], "--parser"),
    "a label without a path": (["--log-path", "x", "--label", "team"], "--label"),
    "a label that is taken": (["--log-path", "x", "--label", "model=a.b"], "--label"),
    "a label that is no name": (["--log-path", "x", "--label", "a-b=c"], "--label"),
    "an envelope nobody has": (["--log-path", "x", "--envelope", "xml"], "--envelope"),
    "a port out of range": (["--log-path", "x", "--port", "70000"], "--port"),
    "an option nobody has": (["--log-path", "x", "--nope"], "--nope"),
    "a key without a certificate": (["--log-path", "x", "--tls-key", "k"], "--tls-cert"),
    "a certificate that is not there": (
        ["--log-path", "x", "--tls-cert", "/nowhere"],
        "--tls-cert",
    ),
    "users that are not there": (["--log-path", "x", "--auth-file", "/nowhere"], "--auth-file"),
    "a file of prices that is not there": (["--log-path", "x", "--prices", "/nowhere"], "--prices"),
    "a configuration that is not there": (["--config", "/nowhere"], "--config"),
    "a line to check that is no file": (["check", "/nowhere"], "check"),
}


@pytest.mark.parametrize(("arguments", "named"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_sentence(arguments: list[str], named: str) -> None:
    result = run(*arguments)

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("ai-sidecar: ")
    assert result.stderr.count("\n") == 1
    assert named in result.stderr


def test_https_and_basic_auth_are_asked_for_where_they_are_set(tmp_path: Path) -> None:
    bcrypt = pytest.importorskip("bcrypt", reason="bcrypt is not installed")
    certificate, key, users = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "users"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    made += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    users.write_text(f"scraper:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    (tmp_path / "a.log").write_text(LINE)
    options = (
        "--tls-cert",
        str(certificate),
        "--tls-key",
        str(key),
        "--auth-file",
        str(users),
        "--host",
        "127.0.0.1",
    )
    arguments = [
        sys.executable,
        "-m",
        "sidecar",
        "--log-path",
        str(tmp_path / "a.log"),
        "--port",
        "0",
        *options,
    ]
    with Process(arguments) as sidecar:
        port = int(sidecar.wait_for_line(r"serving on https://127\.0\.0\.1:(\d+)")[1])
        context = ssl.create_default_context(cafile=str(certificate))

        def status(path: str, user: str | None) -> int:
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
            headers = (
                {"Authorization": "Basic " + b64encode(user.encode()).decode()} if user else {}
            )
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status

        wait_until(lambda: status("/ready", None) == 200, "it is ready")
        assert status("/metrics", None) == 401
        assert status("/metrics", "scraper:wrong") == 401
        assert status("/metrics", "scraper:secret") == 200


WRONG_FILES = {
    "no TOML": ("x", "TOML"),
    "an option nobody has": ("nope = 1", "'nope'"),
    "a table without a condition": ('[parsers.acme]\nmodel = "m"', "acme"),
    "a duration without a unit": (
        '[parsers.acme]\nwhen = {k = "v"}\nmodel = "m"\nduration = "took"',
        "acme",
    ),
    "a price that is none": ('[prices.models."m"]\ninput = "x"', "input"),
    "a label that is taken": ('[labels]\nmodel = "x"', "model"),
}


@pytest.mark.parametrize(("text", "named"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_configuration_file_is_one_sentence(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)

    result = run("--config", str(path), "--log-path", "x")

    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert named in result.stderr


def test_an_option_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LINE)
    config = tmp_path / "config.toml"
    config.write_text(f'log-path = ["{tmp_path}/a.log"]\ncost-source = "log"\nmax-series = 7\n')
    page = run("--config", str(config), "--once").stdout
    assert sample(page, "ai_api_unpriced_requests_total") == 1

    priced = run(
        "--config", str(config), "--once", environment={"AI_SIDECAR_COST_SOURCE": "prices"}
    ).stdout
    assert sample(priced, "ai_api_unpriced_requests_total") == 0

    by_option = run(
        "--config",
        str(config),
        "--once",
        "--cost-source",
        "log",
        environment={"AI_SIDECAR_COST_SOURCE": "prices"},
    ).stdout
    assert sample(by_option, "ai_api_unpriced_requests_total") == 1


def test_once_reads_files_and_standard_input(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LINE + LINE.rstrip())

    result = run("--once", "--log-path", str(tmp_path), "--log-path", "-", stdin=LINE)

    assert result.returncode == 0
    assert sample(result.stdout, "ai_api_requests_total{") == 3


def test_a_table_of_the_users_becomes_a_parser(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(
        json.dumps({"kind": "llm_call", "req": {"model": "m1"}, "took_ms": 250, "usage": {"in": 5}})
        + "\n"
    )
    config = tmp_path / "config.toml"
    config.write_text(
        """
        [parsers.acme]
        when = { "kind" = "llm_call" }
        model = "req.model"
        provider = { const = "acme" }
        duration = { path = "took_ms", unit = "ms" }
        input_tokens = ["usage.in", "usage.prompt"]
        """
    )

    page = run("--config", str(config), "--log-path", str(tmp_path / "a.log"), "--once").stdout

    assert 'ai_api_input_tokens_total{model="m1",provider="acme"} 5.0' in page
    assert 'ai_sidecar_requests_total{parser="acme"} 1.0' in page


def test_a_million_requests_of_five_tokens_cost_4000_cents(tmp_path: Path) -> None:
    line = '{"provider":"holysheep","model":"gpt-4.1","status":200,"usage":{"prompt_tokens":2,"completion_tokens":3}}\n'
    (tmp_path / "a.log").write_text(line * 1_000_000)

    page = run("--once", "--log-path", str(tmp_path / "a.log")).stdout

    assert (
        'ai_api_cost_usd_cents_total{cost_type="input",model="gpt-4.1",provider="holysheep"} 1600.0\n'
        in page
    )
    assert (
        'ai_api_cost_usd_cents_total{cost_type="output",model="gpt-4.1",provider="holysheep"} 2400.0\n'
        in page
    )


def test_a_port_that_is_taken_ends_it_with_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run(
            "--log-path",
            str(tmp_path),
            "--host",
            "127.0.0.1",
            "--port",
            str(taken.getsockname()[1]),
        )

    assert result.returncode == 1
    assert "--port" in result.stderr.splitlines()[-1]


def test_check_tells_what_becomes_of_a_line() -> None:
    result = run("check", LINE, '{"msg":"hello"}', "-", stdin="no json\n")

    assert result.returncode == 0
    assert "claimed by generic" in result.stdout
    assert "USD by the price table" in result.stdout
    assert "no finished request" in result.stdout
    assert "not_json" in result.stdout


def test_parsers_lists_what_is_installed() -> None:
    lines = run("parsers").stdout.splitlines()

    assert [line.split()[0] for line in lines] == sorted(plugins.installed())


def test_the_main_job_counts_serves_and_stops(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with sidecar_process(log) as sidecar:
        log.write_text(LINE * 3)
        wait_until(
            lambda: sample(sidecar.page(), "ai_api_requests_total{") == 3,
            "three requests on the page",
        )
        assert get(sidecar.url + "/health")[0] == 200
        assert json.loads(get(sidecar.url + "/health")[1])["status"] == "healthy"
        assert get(sidecar.url + "/ready")[0] == 200
        assert get(sidecar.url + "/nothing")[0] == 404
        sidecar.popen.send_signal(signal.SIGHUP)
        log.open("a").write(LINE)
        wait_until(
            lambda: sample(sidecar.page(), "ai_api_requests_total{") == 4,
            "four requests after SIGHUP",
        )
        assert sidecar.stop() == 0


def test_new_prices_hold_from_when_the_file_changes(tmp_path: Path) -> None:
    log, prices = tmp_path / "a.log", tmp_path / "prices.toml"
    line = '{"provider":"acme","model":"m","status":200,"usage":{"prompt_tokens":1000000,"completion_tokens":0}}\n'
    prices.write_text('[models."m"]\ninput = 1\noutput = 1\n')
    log.write_text(line)
    with sidecar_process(log, "--prices", str(prices), "--poll-interval", "0.1") as sidecar:
        cost = "ai_api_cost_usd_cents_total"
        wait_until(lambda: sample(sidecar.page(), cost) == 100, "one dollar")
        prices.write_text('[models."m"]\ninput = 3\noutput = 1\n')
        wait_until(
            lambda: any("prices read again" in text for text in sidecar.lines), "the new prices"
        )
        with log.open("a") as file:
            file.write(line)
        wait_until(lambda: sample(sidecar.page(), cost) == 400, "four dollars")

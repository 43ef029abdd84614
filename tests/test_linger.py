"""A job's end: what it wrote in its last instant is shown to whoever scrapes, before the sidecar goes."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus import (
    Prometheus,
    SidecarProcess,
    get,
    needs_prometheus,
    sidecar_process,
    wait_until,
)
from test_push import Gateway, gateway, needs_gateway

__all__ = ["gateway"]

LINE = (
    json.dumps(
        {
            "model": "gpt-4o",
            "provider": "openai",
            "status": 200,
            "usage": {"prompt_tokens": 10, "completion_tokens": 2},
        }
    )
    + "\n"
)
JOB = """
import os, signal, sys
path, text, number, sidecar = sys.argv[1:]
with open(path, "a") as file:
    file.write(text * int(number))
# the kubelet ends a native sidecar as soon as the job has ended
os.kill(int(sidecar), signal.SIGTERM)
"""
GRACE_SECONDS = 60.0
"""How long the sidecar may linger: no test waits for it to pass."""


def end_job(log: Path, number: int, sidecar: SidecarProcess) -> None:
    """Write the last lines, and end the sidecar in the same instant."""
    subprocess.run(
        [sys.executable, "-c", JOB, str(log), LINE, str(number), str(sidecar.popen.pid)], check=True
    )


def lingering(log: Path, *options: str) -> SidecarProcess:
    return SidecarProcess(["--log-path", log, "--linger", str(GRACE_SECONDS), *options])


def is_over(sidecar: SidecarProcess) -> bool:
    return sidecar.popen.poll() is not None


@needs_prometheus
@pytest.mark.parametrize("lines_before", [0, 5])
def test_prometheus_has_every_line_of_a_job_before_the_sidecar_goes(
    tmp_path: Path, lines_before: int
) -> None:
    """Also where the job's first line is in its last instant: `increase()` needs a 0 before it."""
    log = tmp_path / "job.log"
    log.write_text(LINE * lines_before)
    with lingering(log) as sidecar, Prometheus(tmp_path, [sidecar.target]) as prometheus:
        begun = time.time()
        prometheus.wait_for_scrapes(2)
        end_job(log, 7, sidecar)
        wait_until(lambda: is_over(sidecar), "the sidecar to end by itself")

        total = lines_before + 7
        assert sidecar.popen.returncode == 0
        window = f"[{int(time.time() - begun) + 60}s]"
        assert prometheus.value(f"max_over_time(ai_api_requests_total{window})") == total
        # from the first sample to the last, without the extrapolation of increase()
        first = prometheus.value(f"min_over_time(ai_api_requests_total{window})")
        assert first == 0


@needs_prometheus
def test_a_job_that_ends_before_its_first_scrape_waits_for_two(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.touch()
    with lingering(log) as sidecar:
        end_job(log, 7, sidecar)
        with Prometheus(tmp_path, [sidecar.target]) as prometheus:
            wait_until(lambda: is_over(sidecar), "the sidecar to end by itself")
            data = prometheus.api("query", {"query": "ai_api_requests_total[5m]"})

    [series] = data["result"]
    assert [float(value) for _, value in series["values"]] == [0, 7]


def test_it_waits_for_each_scraper_that_it_knows(tmp_path: Path) -> None:
    """Two Prometheus servers, as for high availability: one alone is not enough."""
    log = tmp_path / "job.log"
    log.write_text(LINE)
    # another loopback address is another scraper
    command = ["--log-path", str(log), "--linger", str(GRACE_SECONDS)]
    with SidecarProcess(command) as sidecar:
        for address in ("127.0.0.1", "127.0.0.2"):
            scrape_from(address, sidecar.port)
            scrape_from(address, sidecar.port)
        end_job(log, 1, sidecar)
        wait_until(lambda: " 2.0" in scrape_from("127.0.0.1", sidecar.port), "the last line")
        assert not is_over(sidecar)
        assert " 2.0" in scrape_from("127.0.0.2", sidecar.port)

        def ends_after_more_scrapes() -> bool:
            # the last line may have been on their pages before all was drained: they come again
            with contextlib.suppress(OSError, http.client.HTTPException):
                for address in ("127.0.0.1", "127.0.0.2"):
                    scrape_from(address, sidecar.port)
            return is_over(sidecar)

        wait_until(ends_after_more_scrapes, "the sidecar to end by itself")


def scrape_from(address: str, port: int) -> str:
    """Scrape from an address of our own; give the lines of requests."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=10, source_address=(address, 0)
    )
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    return "\n".join(line for line in page.splitlines() if line.startswith("ai_api_requests_total"))


def test_a_second_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.touch()
    with lingering(log) as sidecar:
        end_job(log, 1, sidecar)
        wait_until(lambda: scrape_from("127.0.0.1", sidecar.port), "the drained log")
        assert not is_over(sidecar)
        sidecar.popen.terminate()
        wait_until(lambda: is_over(sidecar), "the end")
        assert sidecar.popen.returncode == 0


def test_it_does_not_linger_longer_than_it_may(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.touch()
    with SidecarProcess(["--log-path", log, "--linger", "0.3"]) as sidecar:
        assert sidecar.stop(seconds=30) == 0


def test_it_is_healthy_while_it_lingers(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.touch()
    with lingering(log) as sidecar:
        sidecar.popen.terminate()
        assert get(f"{sidecar.url}/health")[0] == 200
        assert get(f"{sidecar.url}/ready")[0] == 200


@needs_gateway
def test_the_last_instant_of_a_job_is_pushed(gateway: Gateway, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text(LINE)
    url = gateway.url + "/metrics/job/nightly/instance/one"
    with sidecar_process(log, "--push-url", url, "--push-interval", "3600") as sidecar:
        end_job(log, 7, sidecar)
        wait_until(lambda: is_over(sidecar), "the sidecar to end")

    assert gateway.requests() == {("nightly", "one"): 8}


@needs_gateway
def test_a_last_line_without_its_newline_counts_where_nobody_goes_on(
    gateway: Gateway, tmp_path: Path
) -> None:
    log = tmp_path / "job.log"
    log.write_text(LINE + LINE.rstrip("\n"))
    url = gateway.url + "/metrics/job/nightly/instance/one"
    with sidecar_process(log, "--push-url", url) as sidecar:
        assert sidecar.stop() == 0

    assert gateway.requests() == {("nightly", "one"): 2}


def test_a_last_line_without_its_newline_waits_where_a_state_is_kept(tmp_path: Path) -> None:
    """The next process goes on in the middle of the line: counted now, its rest would be another line."""
    log = tmp_path / "app.log"
    log.write_text(LINE + LINE[:30])
    for number, rest in ((1, LINE[30:]), (2, "")):
        with sidecar_process(log, "--state-dir", tmp_path / "state") as sidecar:
            page = sidecar.page()
            assert f'ai_sidecar_lines_total{{result="request"}} {number}.0' in page
            assert 'ai_sidecar_lines_total{result="not_json"} 0.0' in page
        with log.open("a") as file:
            file.write(rest)


def test_scrapes_are_answered_while_a_long_rest_is_read(tmp_path: Path) -> None:
    """A job that wrote faster than was read: all of it is read, for as long as it may linger."""
    log = tmp_path / "job.log"
    log.touch()
    with lingering(log) as sidecar:
        scrape_from("127.0.0.1", sidecar.port)
        end_job(log, 100_000, sidecar)
        last = ""
        while not is_over(sidecar):
            try:
                last = scrape_from("127.0.0.1", sidecar.port)
            except OSError:
                break
    assert last.endswith(" 100000.0")

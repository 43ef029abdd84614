"""The demo shows the main job at work: live figures of four formats, and an end by itself."""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from sidecar.commands.demo import FORMATS, Client, read_page

DEMO = [sys.executable, "-m", "sidecar", "demo"]


def test_the_demo_shows_figures_of_four_formats_and_ends_by_itself() -> None:
    result = subprocess.run(
        [*DEMO, "--port", "0", "--seconds", "6", "--rate", "50"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert result.returncode == 0, result.stderr
    assert "open http://127.0.0.1:" in result.stdout
    last_table = result.stdout.rpartition("\nmodel ")[2]
    shown = {
        format_.name: int(requests.replace(",", ""))
        for format_ in FORMATS
        for requests in re.findall(rf"{re.escape(format_.name)} +([\d,]+) ", last_table)
    }
    assert {name for name, requests in shown.items() if requests > 0} == {
        format_.name for format_ in FORMATS
    }


def test_every_line_that_the_demo_writes_is_a_request_that_is_understood_and_priced(
    tmp_path: Path,
) -> None:
    client = Client(tmp_path, random.Random(1))
    for _ in range(300):  # fewer for each file than make it rotate
        client.write_line()
    result = subprocess.run(
        [sys.executable, "-m", "sidecar", "--log-path", tmp_path, "--once"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    rows, parsers = read_page(result.stdout)

    assert sum(row.requests for row in rows.values()) == sum(parsers.values()) == 300
    assert set(rows) == {model.name for format_ in FORMATS for model in format_.models}
    assert all(row.cost_usd_cents > 0 for row in rows.values())
    assert sum(row.errors for row in rows.values()) > 0


def test_a_port_that_is_taken_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = subprocess.run(
            [*DEMO, "--port", port, "--seconds", "5"], capture_output=True, text=True, timeout=60
        )

    assert result.returncode == 1
    assert port in result.stderr
    assert "Traceback" not in result.stderr


def test_sigterm_ends_the_demo_and_leaves_neither_process_nor_directory() -> None:
    with subprocess.Popen([*DEMO, "--port", "0"], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        head = [demo.stdout.readline(), demo.stdout.readline()]
        demo.send_signal(signal.SIGTERM)
        demo.stdout.read()
        assert demo.wait(30) == 0

    directory = Path(head[0].split()[-1])
    port = re.search(r":(\d+)/", head[1])
    assert port is not None
    assert not directory.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port[1]))) != 0

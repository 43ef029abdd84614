"""A hundred hostile clients of all kinds at once: scrapes are answered, and all that they took is given back."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from attack import Attack
from prometheus import wait_until
from test_server import PAGE, fetch, make_authority, make_certificate, needs_openssl, serving

from sidecar.server import Server, Tls

CLIENTS = 100


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def check_attack(
    server: Server, answer: Callable[[], bytes], *, tls: bool, before: tuple[int, int]
) -> None:
    """Have them come, scrape beside them, have them go."""
    attack = Attack(server.port, CLIENTS, tls=tls)
    attack.start()
    try:
        assert attack.wait_until_all_came(60.0)
        for _ in range(20):
            assert answer() == PAGE
            assert len(server._connections) <= CLIENTS + 2
            # both ends of each connection are ours here; the rest is what accepting and coming back need
            assert descriptors() <= before[0] + 2 * CLIENTS + 20
            assert threading.active_count() == before[1] + 1
    finally:
        attack.stop()
    wait_until(lambda: descriptors() <= before[0], "all descriptors to be given back")
    assert threading.active_count() == before[1]
    assert answer() == PAGE


def test_scrapes_are_answered_beside_hostile_clients_and_nothing_is_left_of_them() -> None:
    with serving() as (server, _):
        fetch(server.port)
        before = descriptors(), threading.active_count()

        check_attack(server, lambda: fetch(server.port).body, tls=False, before=before)


@needs_openssl
def test_the_same_over_tls(tmp_path: Path) -> None:
    make_authority(tmp_path, "ca")
    make_certificate(tmp_path, "server", "ca")
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with serving(tls=Tls(tmp_path / "server.pem", tmp_path / "server.key")) as (server, _):
        fetch(server.port, tls=context)
        before = descriptors(), threading.active_count()

        check_attack(server, lambda: fetch(server.port, tls=context).body, tls=True, before=before)


def test_more_hostile_clients_than_there_are_slots_keep_no_scrape_out() -> None:
    with serving(max_connections=20) as (server, _):
        attack = Attack(server.port, CLIENTS)
        attack.start()
        try:
            assert attack.wait_until_all_came(60.0)
            for _ in range(20):
                assert fetch(server.port).body == PAGE
                assert len(server._connections) <= 20
        finally:
            attack.stop()


def test_the_reading_thread_lets_the_servers_thread_have_its_turn() -> None:
    """Python's own 5 ms for each call that moves bytes would make a scrape beside many clients slow."""
    script = (
        "import sys\n"
        "from sidecar.server import Server\n"
        "fine = lambda: (200, b'')\n"
        "server = Server('127.0.0.1', 0, wake=lambda: None, health=fine, ready=fine)\n"
        "server.bind()\n"
        "server.start()\n"
        "print(sys.getswitchinterval() < 0.001)\n"
        "server.stop(1.0)\n"
    )

    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60
    )

    assert told.stdout == "True\n"

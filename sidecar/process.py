"""The `process_*` families that every exporter has, from what the kernel tells of us."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path

from .metrics import OwnFamily, counter, gauge

_PROC = Path("/proc")


class ProcessCollector:
    """Gives the `process_*` families; none where there is no `/proc`."""

    def __init__(self) -> None:
        self._boot_time = _boot_time()
        """Unix seconds."""

    def collect(self) -> Iterable[OwnFamily]:
        """Give the families as they stand."""
        if self._boot_time is None:
            return
        try:
            # the name of the program stands before them, and may hold anything
            figures = (_PROC / "self" / "stat").read_bytes().rpartition(b")")[2].split()
            open_files = sum(1 for _ in (_PROC / "self" / "fd").iterdir())
        except OSError:
            return
        user, system, start, virtual, resident = [int(figures[at]) for at in (11, 12, 19, 20, 21)]
        ticks = os.sysconf("SC_CLK_TCK")
        yield gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual)
        yield gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            resident * resource.getpagesize(),
        )
        yield gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            self._boot_time + start / ticks,
        )
        yield counter(
            "process_cpu_seconds",
            "Total user and system CPU time spent in seconds.",
            user / ticks + system / ticks,
        )
        yield gauge("process_open_fds", "Number of open file descriptors.", open_files)
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield gauge(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            float("inf") if most == resource.RLIM_INFINITY else most,
        )


def _boot_time() -> float | None:
    try:
        rows = (_PROC / "stat").read_bytes().splitlines()
    except OSError:
        return None
    return next((float(row.split()[1]) for row in rows if row.startswith(b"btime ")), None)

"""What the sidecar tells of itself: line for line what prometheus_client would make of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client import ProcessCollector as TheirProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from sidecar import budgets
from sidecar.exposition import write_own
from sidecar.metrics import BudgetCollector, Health, HealthCollector, OwnFamily
from sidecar.process import ProcessCollector
from sidecar.series import Store


class Theirs:
    """Our families as objects of prometheus_client."""

    def __init__(self, families: Iterable[OwnFamily]) -> None:
        self.families = list(families)

    def collect(self) -> Iterable[Metric]:
        """Give them anew."""
        for family in self.families:
            metric = Metric(family.name, family.documentation, family.type)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric


def assert_written_alike(families: Iterable[OwnFamily]) -> None:
    families = list(families)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Theirs(families))
    assert b"".join([write_own(one, False) for one in families]) == generate_latest(registry)
    ours = b"".join([write_own(one, True) for one in families]) + b"# EOF\n"
    assert ours == generate_openmetrics(registry)  # type: ignore[no-untyped-call] # it has no types


@given(st.dictionaries(st.text(max_size=8), st.integers(0, 10**12), max_size=4))
def test_what_we_count_of_our_work_is_written_as_prometheus_client_writes_it(
    requests: dict[str, int],
) -> None:
    health = Health("1.2+\\\"\n'")
    health.requests.update(requests)
    health.read_bytes = health.lag_bytes = sum(requests.values())
    health.state_last_save_timestamp_seconds = 1_767_225_600.25

    assert_written_alike(HealthCollector(health, Store(1)).collect())


@pytest.mark.parametrize("spent_parts", [0, 7 * 10**30, 10**35, 3 * 10**26])
def test_budgets_are_too_also_where_less_than_nothing_is_left(spent_parts: int) -> None:
    kept = budgets.Budgets(
        budgets.read({'o"n\\e': {"usd": 5, "per": "day"}}, ()), (), lambda: 1_767_225_600.0
    )
    kept.spend(("openai", "gpt-4.1"), spent_parts, 1_767_225_600.0)

    assert_written_alike(BudgetCollector(kept).collect())


@given(st.floats(allow_nan=False))
def test_any_figure_is(value: float) -> None:
    family = OwnFamily("some", 'What\nis "quoted" \\ and not.', "gauge")
    assert_written_alike([family.add(value, b="1", a="2")])


def test_the_process_tells_what_that_of_prometheus_client_does() -> None:
    ours = {one.name: one for one in ProcessCollector().collect()}
    theirs = {one.name: one for one in TheirProcessCollector(registry=None).collect()}

    assert [*ours] == [*theirs]
    for name, family in ours.items():
        other = theirs[name]
        assert (family.documentation, family.type) == (other.documentation, other.type)
        [sample], [expected] = family.samples, other.samples
        assert (sample.name, sample.labels) == (expected.name, expected.labels)
    for name in ("process_start_time_seconds", "process_max_fds"):
        assert ours[name].samples[0].value == theirs[name].samples[0].value
    started = datetime.fromtimestamp(ours["process_start_time_seconds"].samples[0].value, UTC)
    assert started < datetime.now(UTC)


def test_what_the_process_holds_is_seen_to_grow() -> None:
    def value(name: str) -> float:
        return next(
            one.samples[0].value for one in ProcessCollector().collect() if one.name == name
        )

    files, memory = value("process_open_fds"), value("process_resident_memory_bytes")
    ends = os.pipe()
    held = b"x" * (64 << 20)
    try:
        assert value("process_open_fds") == files + 2
        assert value("process_resident_memory_bytes") > memory + len(held) / 2
    finally:
        for end in ends:
            os.close(end)


def test_a_sidecar_that_serves_without_tls_loads_neither_tls_nor_prometheus_client() -> None:
    code = (
        "import sys, sidecar.daemon, sidecar.server, sidecar.page\n"
        "print(*{'ssl', '_ssl', 'prometheus_client', 'http.server'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == []

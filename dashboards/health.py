"""*Sidecar health*: whether what the other dashboards show can be relied on."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard, timeseries

from .panels import PLAIN, Row, Steps, bars, course, figure, laid_out, query
from .promql import of_sidecar as of
from .targets import LAG_BYTES, PRICES_MAX_AGE_DAYS, UNREADABLE_SHARE

LINES = "ai_sidecar_lines_total"
UNREADABLE = 'result=~"malformed|too_long|plugin_error"'
OF_TARGET = "{{pod}} {{instance}}"
LAG_STEPS: Steps = [(None, "green"), (LAG_BYTES, "yellow"), (64 * LAG_BYTES, "red")]


def rate(counter: str, by: str, *matchers: str) -> str:
    """Give how much a counter grows a second, of all chosen sidecars."""
    return f"sum by ({by}) (rate({of(counter, *matchers)}[$__rate_interval]))"


def increase(counter: str, *matchers: str) -> str:
    """Give what a counter has grown by in the chosen time range, of all chosen sidecars."""
    return f"sum(increase({of(counter, *matchers)}[$__range]))"


def of_each(
    title: str, description: str, expression: str, unit: str, steps: Steps = PLAIN
) -> timeseries.Panel:
    """Make a line for each sidecar."""
    return course(title, description, [query(expression, OF_TARGET)], unit, steps)


def by(
    title: str, description: str, counter: str, label: str, factor: int = 60
) -> timeseries.Panel:
    """Make what a counter grows by in a minute, by one of its labels."""
    asked = query(f"{rate(counter, label)} * {factor}", f"{{{{{label}}}}}")
    return course(title, description, [asked], "short", is_stacked=True)


def with_targets(expression: str) -> str:
    """Take the largest of each target."""
    return f"max by (instance, pod) ({expression})"


def make() -> dashboard.Dashboard:
    """Make the dashboard."""
    age_of_prices = f"(time() - min({of('ai_sidecar_prices_timestamp_seconds')})) / 86400"
    files: Sequence[tuple[str, str]] = (
        ("ai_sidecar_files", "followed"),
        ("ai_sidecar_held_files", "rotated, still open"),
        ("ai_sidecar_unreadable_files", "cannot be opened"),
    )
    rows: list[Row] = [
        (
            "At a glance",
            [
                figure(
                    "Sidecars",
                    "That are scraped at the moment.",
                    f"count({of('ai_sidecar_build_info')})",
                    "short",
                    0,
                    [(None, "red"), (1, "green")],
                    width=3,
                ),
                figure(
                    "Behind the log",
                    "Bytes of logs that the sidecar which is furthest behind has not read yet.",
                    f"max({of('ai_sidecar_lag_bytes')})",
                    "bytes",
                    0,
                    LAG_STEPS,
                    width=3,
                ),
                figure(
                    "Unreadable share",
                    "Lines in the chosen time range that were broken, too long, or broke a parser: their requests are"
                    " missing. ai-sidecar check tells why.",
                    f"100 * {increase(LINES, UNREADABLE)} / ({increase(LINES)} > 0)",
                    "percent",
                    2,
                    [(None, "green"), (100 * UNREADABLE_SHARE, "red")],
                    width=3,
                ),
                figure(
                    "Files that cannot be opened",
                    "Followed files that the sidecar may not read.",
                    f"sum({of('ai_sidecar_unreadable_files')})",
                    "short",
                    0,
                    [(None, "green"), (1, "red")],
                    width=3,
                ),
                figure(
                    "Failed saves",
                    "Attempts to save the state that failed in the chosen time range.",
                    increase("ai_sidecar_state_saves_total", 'result="failure"'),
                    "short",
                    0,
                    [(None, "green"), (0.5, "red")],
                    width=3,
                ),
                figure(
                    "Counted under _other",
                    "Requests in the chosen time range with more label combinations than --max-series keeps.",
                    increase("ai_sidecar_series_overflow_total"),
                    "short",
                    0,
                    [(None, "green"), (0.5, "orange")],
                    width=3,
                ),
                figure(
                    "Age of the prices",
                    "Days since the date of the oldest price table in use.",
                    age_of_prices,
                    "d",
                    0,
                    [(None, "green"), (PRICES_MAX_AGE_DAYS, "orange")],
                    width=3,
                ),
                figure(
                    "Youngest",
                    "Seconds since the sidecar that started last has started.",
                    f"time() - max({of('process_start_time_seconds')}"
                    f" and on (job, instance) {of('ai_sidecar_build_info')})",
                    "s",
                    0,
                    width=3,
                ),
            ],
        ),
        (
            "Reading",
            [
                by(
                    "Lines a minute by result",
                    "What became of each line; every line ends in exactly one result.",
                    LINES,
                    "result",
                ),
                by(
                    "Requests a minute by parser",
                    "Requests counted, by the parser that read them.",
                    "ai_sidecar_requests_total",
                    "parser",
                ),
                course(
                    "Bytes read a second",
                    "Of logs, by sidecar.",
                    [query(rate("ai_sidecar_read_bytes_total", "instance, pod"), OF_TARGET)],
                    "Bps",
                    is_stacked=True,
                ),
                of_each(
                    "Behind the log, by sidecar",
                    "Bytes of logs that were not read yet.",
                    with_targets(of("ai_sidecar_lag_bytes")),
                    "bytes",
                    LAG_STEPS,
                ),
                course(
                    "Files",
                    "Those that the followed paths lead to, and rotated ones that are read to their end.",
                    [query(f"sum({of(metric)})", legend) for metric, legend in files],
                    "short",
                ),
                by(
                    "Rotations an hour by kind",
                    "missed: a generation that was never seen, read from its beginning.",
                    "ai_sidecar_rotations_total",
                    "kind",
                    3600,
                ),
            ],
        ),
        (
            "State, series, prices",
            [
                by(
                    "Saves a minute by result",
                    "Attempts to save the state under --state-dir.",
                    "ai_sidecar_state_saves_total",
                    "result",
                ),
                of_each(
                    "Seconds since the last save",
                    "The state is saved when something has changed: without requests this grows.",
                    f"time() - {with_targets(of('ai_sidecar_state_last_save_timestamp_seconds'))}",
                    "s",
                ),
                by(
                    "Pushes a minute by result",
                    "Pages pushed to a Pushgateway.",
                    "ai_sidecar_pushes_total",
                    "result",
                ),
                of_each(
                    "Series kept",
                    "Label combinations; --max-series caps them, 2000 unless told.",
                    with_targets(of("ai_sidecar_series")),
                    "short",
                    [(None, "green"), (2000, "orange")],
                ),
                of_each(
                    "Age of the prices, by sidecar",
                    "Days since the date of the price table.",
                    f"(time() - {with_targets(of('ai_sidecar_prices_timestamp_seconds'))}) / 86400",
                    "d",
                    [(None, "green"), (PRICES_MAX_AGE_DAYS, "orange")],
                ),
                bars(
                    "Versions",
                    "How many sidecars of each version are scraped at the moment.",
                    f"count by (version) ({of('ai_sidecar_build_info')})",
                    "{{version}}",
                    "short",
                    0,
                ),
            ],
        ),
        (
            "What it takes",
            [
                of_each(
                    "Processor",
                    "Cores in use.",
                    f"{rate('process_cpu_seconds_total', 'job, instance, pod')}"
                    f" and on (job, instance) {of('ai_sidecar_build_info')}",
                    "short",
                ),
                of_each(
                    "Memory",
                    "Resident bytes.",
                    f"{of('process_resident_memory_bytes')}"
                    f" and on (job, instance) {of('ai_sidecar_build_info')}",
                    "bytes",
                ),
                of_each(
                    "Open file descriptors",
                    "As a share of those that it may open.",
                    f"100 * {of('process_open_fds')} / {of('process_max_fds')}"
                    f" and on (job, instance) {of('ai_sidecar_build_info')}",
                    "percent",
                    [(None, "green"), (80, "red")],
                ),
            ],
        ),
    ]
    return laid_out(
        "AI calls / Sidecar health",
        "ai-sidecar-health",
        "Whether the sidecars read all there is, save it, and are up to date.",
        rows,
        None,
    )

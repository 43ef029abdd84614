"""What is good enough, in one place: objectives, budgets and limits of the rules and of the dashboards' colours."""

from __future__ import annotations

AVAILABILITY_OBJECTIVE = 0.995
"""The share of requests that must not fail by anybody's fault but the caller's, over 30 days."""
CALLERS_OWN_ERRORS = (
    "authentication",
    "cancelled",
    "content_filter",
    "context_length",
    "invalid_request",
    "not_found",
    "permission",
)
"""Error types that the caller has to mend: they do not count against the objective.

`rate_limit` does count: the caller gets no answer, and it is not the request that is wrong.
"""

LATENCY_OBJECTIVE = 0.95
"""The share of requests that must take no longer than `LATENCY_MS`, over 30 days.

Under 1 - 1 / 14.4 even an outage of everything would not burn fast enough to be told.
"""
LATENCY_MS = 30_000
"""A bucket bound of `ai_api_request_duration_milliseconds`."""

BURNS: tuple[tuple[str, tuple[tuple[str, str, float], ...]], ...] = (
    ("page", (("5m", "1h", 14.4), ("30m", "6h", 6.0))),
    ("ticket", (("2h", "1d", 3.0), ("6h", "3d", 1.0))),
)
"""Severity, and for each its pairs of a short and a long window, with the burn rate that both must exceed.

14.4 for an hour is 2 % of the budget of 30 days, 6 for six hours 5 %, and 1 all of it by the end. The short window
lets the alert end soon after the trouble: https://sre.google/workbook/alerting-on-slos/
"""
MIN_REQUESTS = 100
"""With fewer in a window one failure is no rate: no alert on a share is raised."""

DAILY_BUDGET_USD = 100.0
"""For each job and namespace, over any 24 hours."""
COST_ANOMALY_FACTOR = 2.0
"""How many times the dearest hour of the week before the last hour may cost."""
COST_ANOMALY_MIN_USD = 1.0
"""An hour that costs less is never called an anomaly."""

RATE_LIMIT_HEADROOM = 0.1
"""The share of the most that was left within a day, under which little is left."""
UNPRICED_SHARE = 0.01
TRUNCATED_SHARE = 0.05
UNREADABLE_SHARE = 0.01
LAG_BYTES = 1 << 20
"""How far behind a sidecar may be that has had ten minutes to catch up."""
PRICES_MAX_AGE_DAYS = 90

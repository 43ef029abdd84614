"""Recording and alert rules for Prometheus, within the syntax of 2.42."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from .targets import (
    AVAILABILITY_OBJECTIVE,
    BURNS,
    CALLERS_OWN_ERRORS,
    COST_ANOMALY_FACTOR,
    COST_ANOMALY_MIN_USD,
    DAILY_BUDGET_USD,
    LAG_BYTES,
    LATENCY_MS,
    LATENCY_OBJECTIVE,
    MIN_REQUESTS,
    PRICES_MAX_AGE_DAYS,
    RATE_LIMIT_HEADROOM,
    TRUNCATED_SHARE,
    UNPRICED_SHARE,
    UNREADABLE_SHARE,
)

RUNBOOK_URL = "RUNBOOK.md"
"""Where the runbook is; `python -m dashboards.make --runbook-url URL` puts in where you publish it."""

JOB = ("job", "namespace")
PROVIDER = (*JOB, "provider")
MODEL = (*PROVIDER, "model")

WINDOWS = tuple(
    dict.fromkeys(
        window for _, pairs in BURNS for short, long, _ in pairs for window in (short, long)
    )
)
LONG_WINDOWS = tuple(dict.fromkeys(long for _, pairs in BURNS for _, long, _ in pairs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A series that is computed at each evaluation."""

    name: str
    expression: str
    labels: tuple[str, ...]
    """Those that it has, where they are there at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What somebody should look at, and what to do then."""

    name: str
    expression: str
    severity: str
    """`page`: now; `ticket`: in working hours."""
    summary: str
    """One line: what is wrong, and where."""
    description: str
    """The figures."""
    action: str
    """What to do first."""
    dashboard: str
    """The uid of the dashboard that shows it."""
    lasts: str = "0m"
    """How long it must hold before anybody is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rules that are evaluated together, in this order."""

    name: str
    rules: tuple[Record, ...] | tuple[Alert, ...]
    interval: str | None = None
    """`None`: as often as Prometheus is told to."""


def total(counter: str, by: tuple[str, ...], window: str, *matchers: str) -> str:
    """Give how much a counter grows a second in all, over a window."""
    selector = f"{counter}{{{', '.join(matchers)}}}" if matchers else counter
    return f"sum by ({', '.join(by)}) (rate({selector}[{window}]))"


def share(
    part: str, whole: str, by: tuple[str, ...], window: str, *matchers: str, base: str | None = None
) -> str:
    """Give which share of a counter another one is: 0 where that has no series, absent where nothing came."""
    of_whole = total(whole, by, window)
    of_part = total(part, by, window, *matchers)
    return f"({of_part} or 0 * {total(base or whole, by, window)})\n/ ({of_whole} > 0)"


def _of_slo(window: str) -> tuple[Record, Record]:
    own = "|".join(CALLERS_OWN_ERRORS)
    duration = "ai_api_request_duration_milliseconds"
    in_time = total(f"{duration}_bucket", PROVIDER, window, f'le="{LATENCY_MS:.1f}"')
    return (
        Record(
            name=f"provider:ai_api_errors:ratio_rate{window}",
            expression=share(
                "ai_api_errors_total",
                "ai_api_requests_total",
                PROVIDER,
                window,
                f'error_type!~"{own}"',
            ),
            labels=PROVIDER,
        ),
        Record(
            name=f"provider:ai_api_slow_requests:ratio_rate{window}",
            expression=f"1 - {in_time}\n/ ({total(f'{duration}_count', PROVIDER, window)} > 0)",
            labels=PROVIDER,
        ),
    )


def _headroom(gauge: str) -> str:
    by = ", ".join(MODEL)
    # the provider's limit itself is in no log: the most that was left within a day stands for it
    return f"min by ({by}) ({gauge})\n/ (max by ({by}) (max_over_time({gauge}[1d])) > 0)"


NAMES = Group(
    name="ai-sidecar-names",
    # a new series is 0 on one page only: as often as anybody scrapes, so that this 0 is recorded too
    interval="5s",
    rules=(
        Record(
            name="ai_api_cost_usd_cents",
            expression="ai_api_cost_usd_cents_total",
            labels=("job", "instance", "namespace", "pod", "provider", "model", "cost_type"),
        ),
    ),
)

RECORDS = Group(
    name="ai-sidecar-records",
    rules=(
        *(record for window in WINDOWS for record in _of_slo(window)),
        *(
            Record(
                name=f"provider:ai_api_requests:increase{window}",
                expression=f"sum by ({', '.join(PROVIDER)}) (increase(ai_api_requests_total[{window}]))",
                labels=PROVIDER,
            )
            for window in LONG_WINDOWS
        ),
        *(
            Record(
                name=f"job:ai_api_cost_usd:increase{window}",
                expression=f"sum by ({', '.join(JOB)}) (increase(ai_api_cost_usd_cents_total[{window}])) / 100",
                labels=JOB,
            )
            for window in ("1h", "1d")
        ),
        Record(
            name="model:ai_api_requests:increase1h",
            expression=f"sum by ({', '.join(MODEL)}) (increase(ai_api_requests_total[1h]))",
            labels=MODEL,
        ),
        Record(
            name="model:ai_api_unpriced_requests:ratio_rate1h",
            expression=share(
                "ai_api_unpriced_requests_total", "ai_api_requests_total", MODEL, "1h"
            ),
            labels=MODEL,
        ),
        Record(
            name="model:ai_api_truncated:ratio_rate1h",
            expression=share(
                "ai_api_finish_reasons_total",
                "ai_api_finish_reasons_total",
                MODEL,
                "1h",
                'finish_reason="length"',
            ),
            labels=MODEL,
        ),
        Record(
            name="model:ai_api_rate_limit_remaining:ratio_max1d",
            expression=_headroom("ai_api_rate_limit_remaining"),
            labels=MODEL,
        ),
        Record(
            name="model:ai_api_rate_limit_remaining_tokens:ratio_max1d",
            expression=_headroom("ai_api_rate_limit_remaining_tokens"),
            labels=MODEL,
        ),
    ),
)


def _burn(record: str, objective: float, severity: str) -> str:
    budget = 1 - objective
    pairs = dict(BURNS)[severity]
    return "\nor\n".join(
        f"(\n  {record}:ratio_rate{short} > {factor:g} * {budget:g}"
        f"\n  and {record}:ratio_rate{long} > {factor:g} * {budget:g}"
        f"\n  and provider:ai_api_requests:increase{long} >= {MIN_REQUESTS}\n)"
        for short, long, factor in pairs
    )


_OF_PROVIDER = "{{ $labels.provider }} ({{ $labels.job }} {{ $labels.namespace }})"
_OF_MODEL = "{{ $labels.provider }} {{ $labels.model }} ({{ $labels.job }} {{ $labels.namespace }})"
_OF_JOB = "{{ $labels.job }} {{ $labels.namespace }}"
_OF_TARGET = "{{ $labels.instance }} {{ $labels.pod }}"
_PERCENT = "{{ $value | humanizePercentage }}"

ALERTS = Group(
    name="ai-sidecar-alerts",
    rules=(
        Alert(
            name="AiApiErrorBudgetBurnsFast",
            expression=_burn("provider:ai_api_errors", AVAILABILITY_OBJECTIVE, "page"),
            severity="page",
            lasts="2m",
            summary=f"Calls to {_OF_PROVIDER} fail",
            description=f"{_PERCENT} of the requests fail, the caller's own mistakes aside; "
            f"{1 - AVAILABILITY_OBJECTIVE:.1%} is what 30 days allow.",
            action="Look which error type it is. Of the provider (server, overloaded, timeout): see its status page, "
            "then switch to another model or provider. rate_limit: send less, or ask for more.",
            dashboard="ai-sidecar-latency",
        ),
        Alert(
            name="AiApiErrorBudgetBurnsSlowly",
            expression=_burn("provider:ai_api_errors", AVAILABILITY_OBJECTIVE, "ticket"),
            severity="ticket",
            lasts="15m",
            summary=f"Calls to {_OF_PROVIDER} fail more often than they may",
            description=f"{_PERCENT} of the requests fail, the caller's own mistakes aside; at this rate the budget "
            f"of {1 - AVAILABILITY_OBJECTIVE:.1%} does not last for 30 days.",
            action="Look which model and which error type grew over the days, and mend or move it.",
            dashboard="ai-sidecar-latency",
        ),
        Alert(
            name="AiApiLatencyBudgetBurnsFast",
            expression=_burn("provider:ai_api_slow_requests", LATENCY_OBJECTIVE, "page"),
            severity="page",
            lasts="2m",
            summary=f"Calls to {_OF_PROVIDER} are slow",
            description=f"{_PERCENT} of the requests take longer than {LATENCY_MS / 1000:g} s; "
            f"{1 - LATENCY_OBJECTIVE:.0%} is what 30 days allow.",
            action="Compare the time to the first token with the time per output token: is it the provider's queue, "
            "its speed, or longer answers? Then switch the model, or shorten prompts and answers.",
            dashboard="ai-sidecar-latency",
        ),
        Alert(
            name="AiApiLatencyBudgetBurnsSlowly",
            expression=_burn("provider:ai_api_slow_requests", LATENCY_OBJECTIVE, "ticket"),
            severity="ticket",
            lasts="15m",
            summary=f"Calls to {_OF_PROVIDER} are slow more often than they may be",
            description=f"{_PERCENT} of the requests take longer than {LATENCY_MS / 1000:g} s; at this rate the "
            f"budget of {1 - LATENCY_OBJECTIVE:.0%} does not last for 30 days.",
            action="Look which model and endpoint got slower over the days, and whether its answers got longer.",
            dashboard="ai-sidecar-latency",
        ),
        Alert(
            name="AiApiCostAnomaly",
            # six hours aside, so that it does not end by becoming usual; where there was nothing a day ago, nobody
            # knows yet what an hour costs
            expression=f"job:ai_api_cost_usd:increase1h > {COST_ANOMALY_FACTOR:g}"
            " * max_over_time(job:ai_api_cost_usd:increase1h[7d] offset 6h)\n"
            f"and job:ai_api_cost_usd:increase1h > {COST_ANOMALY_MIN_USD:g}\n"
            "and job:ai_api_cost_usd:increase1h offset 1d",
            severity="page",
            lasts="5m",
            summary=f"AI calls of {_OF_JOB} cost far more than usual",
            description='{{ $value | printf "%.2f" }} USD in the last hour: more than '
            f"{COST_ANOMALY_FACTOR:g} times the dearest hour of the week before, the last six hours aside.",
            action="Look which model and which kind of token it is. A loop, a retry storm or a lost prompt cache "
            "shows in requests, errors and cache hit ratio; stop its caller.",
            dashboard="ai-sidecar-cost",
        ),
        Alert(
            name="AiApiCostOverDailyBudget",
            expression=f"job:ai_api_cost_usd:increase1d > {DAILY_BUDGET_USD:g}",
            severity="ticket",
            lasts="5m",
            summary=f"AI calls of {_OF_JOB} are over their daily budget",
            description='{{ $value | printf "%.2f" }} USD in the last 24 hours; the budget is '
            f"{DAILY_BUDGET_USD:g} USD.",
            action="See which models took it. Cap or move what is not worth it, or set the budget anew.",
            dashboard="ai-sidecar-cost",
        ),
        Alert(
            name="AiApiRateLimitRequestsLow",
            # what was answered last stays on the page: without requests it tells of the past
            expression=f"model:ai_api_rate_limit_remaining:ratio_max1d < {RATE_LIMIT_HEADROOM:g}\n"
            f"and {total('ai_api_requests_total', MODEL, '5m')} > 0",
            severity="ticket",
            lasts="5m",
            summary=f"{_OF_MODEL} is near its limit of requests",
            description=f"{_PERCENT} of the most requests that were left within a day are left.",
            action="Spread the requests or batch them, move some to another model or key, or ask the provider for more.",
            dashboard="ai-sidecar-latency",
        ),
        Alert(
            name="AiApiRateLimitTokensLow",
            expression=f"model:ai_api_rate_limit_remaining_tokens:ratio_max1d < {RATE_LIMIT_HEADROOM:g}\n"
            f"and {total('ai_api_requests_total', MODEL, '5m')} > 0",
            severity="ticket",
            lasts="5m",
            summary=f"{_OF_MODEL} is near its limit of tokens",
            description=f"{_PERCENT} of the most tokens that were left within a day are left.",
            action="Shorten prompts, lower max_tokens, use the prompt cache, or ask the provider for more.",
            dashboard="ai-sidecar-latency",
        ),
        Alert(
            name="AiApiUnpricedRequests",
            expression=f"model:ai_api_unpriced_requests:ratio_rate1h > {UNPRICED_SHARE:g}\n"
            f"and model:ai_api_requests:increase1h >= {MIN_REQUESTS}",
            severity="ticket",
            lasts="15m",
            summary=f"No price is known for {_OF_MODEL}",
            description=f"{_PERCENT} of its requests have no price: the cost that is shown is too low by theirs.",
            action="Give the model a price or an alias in a file for --prices; a running sidecar reads it by itself.",
            dashboard="ai-sidecar-cost",
        ),
        Alert(
            name="AiApiTruncatedAnswers",
            expression=f"model:ai_api_truncated:ratio_rate1h > {TRUNCATED_SHARE:g}\n"
            f"and model:ai_api_requests:increase1h >= {MIN_REQUESTS}",
            severity="ticket",
            lasts="15m",
            summary=f"Answers of {_OF_MODEL} are cut off",
            description=f"{_PERCENT} of the answers ended at the limit of tokens.",
            action="Raise max_tokens, or ask for shorter answers; a reasoning model may spend the limit on thinking.",
            dashboard="ai-sidecar-latency",
        ),
        Alert(
            name="AiSidecarAbsent",
            expression="absent_over_time(ai_sidecar_build_info[10m])",
            severity="page",
            lasts="5m",
            summary="No ai-sidecar is scraped at all",
            description="Nothing has been told of AI calls for ten minutes: neither cost nor failures.",
            action="See under Status, Targets in Prometheus whether the targets are there: if not, the scrape "
            "configuration or the annotations; if they are down, the pods.",
            dashboard="ai-sidecar-health",
        ),
        Alert(
            name="AiSidecarDown",
            expression="up == 0\nand on (job, instance) count_over_time(ai_sidecar_build_info[1d])",
            severity="ticket",
            lasts="5m",
            summary=f"ai-sidecar on {_OF_TARGET} does not answer",
            description="Prometheus cannot scrape it. With --state-dir nothing is lost as long as the log is there.",
            action="Look at its log and its last exit code; /ready answers 503 while it catches up after a start.",
            dashboard="ai-sidecar-health",
        ),
        Alert(
            name="AiSidecarLagging",
            expression=f"min_over_time(ai_sidecar_lag_bytes[10m]) > {LAG_BYTES}",
            severity="ticket",
            lasts="5m",
            summary=f"ai-sidecar on {_OF_TARGET} is behind its log",
            description="It was {{ $value | humanize1024 }}B behind or more for ten minutes: figures come late.",
            action="See whether it gets the processor time it asks for (its limit), and whether the log grows faster "
            "than usual; narrow --log-path to what has AI calls.",
            dashboard="ai-sidecar-health",
        ),
        Alert(
            name="AiSidecarStateNotSaved",
            expression='increase(ai_sidecar_state_saves_total{result="failure"}[10m]) > 0',
            severity="ticket",
            lasts="10m",
            summary=f"ai-sidecar on {_OF_TARGET} cannot save its state",
            description='{{ $value | printf "%.0f" }} attempts failed in ten minutes: after a restart it would count '
            "from its last saved state.",
            action="See its log for the reason: the disk of --state-dir is full, read-only, or not its own.",
            dashboard="ai-sidecar-health",
        ),
        Alert(
            name="AiSidecarPricesOld",
            expression=f"(time() - ai_sidecar_prices_timestamp_seconds) / 86400 > {PRICES_MAX_AGE_DAYS}",
            severity="ticket",
            lasts="1h",
            summary=f"The prices of ai-sidecar on {_OF_TARGET} are old",
            description='They are of {{ $value | printf "%.0f" }} days ago: what has become cheaper or dearer since '
            "is counted wrongly, and newer models not at all.",
            action="Take a newer version of ai-sidecar, or keep your own prices with --prices.",
            dashboard="ai-sidecar-health",
        ),
        Alert(
            name="AiSidecarLinesUnreadable",
            expression="sum without (result) (rate(ai_sidecar_lines_total"
            '{result=~"malformed|too_long|plugin_error"}[1h]))\n'
            "/ (sum without (result) (rate(ai_sidecar_lines_total[1h])) > 0)"
            f" > {UNREADABLE_SHARE:g}\n"
            f"and sum without (result) (increase(ai_sidecar_lines_total[1h])) >= {MIN_REQUESTS}",
            severity="ticket",
            lasts="15m",
            summary=f"ai-sidecar on {_OF_TARGET} cannot read part of its log",
            description=f"{_PERCENT} of the lines of the last hour were broken, too long, or broke a parser: "
            "their requests are missing.",
            action="Run ai-sidecar check on the log: it tells for each line why it does not count.",
            dashboard="ai-sidecar-health",
        ),
        Alert(
            name="AiSidecarFilesUnreadable",
            expression="ai_sidecar_unreadable_files > 0",
            severity="ticket",
            lasts="10m",
            summary=f"ai-sidecar on {_OF_TARGET} may not open its log",
            description="{{ $value }} files cannot be opened: their requests are missing.",
            action="Give its user the right to read them: fsGroup in Kubernetes, a common group elsewhere.",
            dashboard="ai-sidecar-health",
        ),
        Alert(
            name="AiSidecarSeriesOverflow",
            expression="increase(ai_sidecar_series_overflow_total[1h]) > 0",
            severity="ticket",
            lasts="15m",
            summary=f"ai-sidecar on {_OF_TARGET} has more label combinations than it keeps",
            description='{{ $value | printf "%.0f" }} requests of the last hour were counted under _other.',
            action="See which label has so many values (a --label with ids?); drop it, or raise --max-series.",
            dashboard="ai-sidecar-health",
        ),
    ),
)

GROUPS = (NAMES, RECORDS, ALERTS)
"""Alerts ask what is recorded before them."""


def records() -> tuple[Record, ...]:
    """Give every recording rule."""
    return tuple(rule for group in GROUPS for rule in group.rules if isinstance(rule, Record))


def alerts() -> tuple[Alert, ...]:
    """Give every alert rule."""
    return tuple(rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert))


def _document(rule: Record | Alert, runbook_url: str) -> dict[str, Any]:
    if isinstance(rule, Record):
        return {"record": rule.name, "expr": rule.expression}
    return {
        "alert": rule.name,
        "expr": rule.expression,
        "for": rule.lasts,
        "labels": {"severity": rule.severity},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "action": rule.action,
            "runbook_url": f"{runbook_url}#{rule.name.lower()}",
            "dashboard": f"/d/{rule.dashboard}",
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as they are."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_Dumper.add_representer(str, _text)


def text(runbook_url: str = RUNBOOK_URL) -> str:
    """Give `rules.yaml`."""
    groups = [
        {
            "name": group.name,
            **({"interval": group.interval} if group.interval else {}),
            "rules": [_document(rule, runbook_url) for rule in group.rules],
        }
        for group in GROUPS
    ]
    made: str = yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=10_000)
    return (
        "# Made by `python -m dashboards.make` from rules.py and targets.py: change those.\n" + made
    )

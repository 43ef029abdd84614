"""*Latency and reliability*: how slow, how often they fail, and how long the error budget lasts."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard, prometheus

from .panels import (
    ERROR_STEPS,
    LATENCY_STEPS,
    Row,
    Steps,
    course,
    distribution,
    figure,
    laid_out,
    quantiles,
    query,
)
from .promql import Calls
from .rules import WINDOWS
from .targets import (
    AVAILABILITY_OBJECTIVE,
    LATENCY_MS,
    LATENCY_OBJECTIVE,
    RATE_LIMIT_HEADROOM,
    TRUNCATED_SHARE,
)

LATENCY = "ai_api_request_duration_milliseconds"
FIRST_TOKEN = "ai_api_time_to_first_token_milliseconds"  # noqa: S105  a metric, not a password
PER_TOKEN = "ai_api_time_per_output_token_milliseconds"  # noqa: S105  a metric, not a password
REQUESTS = "ai_api_requests_total"
ERRORS = "ai_api_errors_total"
FINISHED = "ai_api_finish_reasons_total"
OF_PROVIDER = '{job=~"$job", namespace=~"$namespace", provider=~"$provider"}'
OF_MODEL = '{job=~"$job", namespace=~"$namespace", provider=~"$provider", model=~"$model"}'

BURN_STEPS: Steps = [(None, "green"), (1, "yellow"), (6, "orange"), (14.4, "red")]
FIRST_TOKEN_STEPS: Steps = [(None, "green"), (2_500, "yellow"), (10_000, "red")]
HEADROOM_STEPS: Steps = [(None, "red"), (100 * RATE_LIMIT_HEADROOM, "yellow"), (50, "green")]


def make(calls: Calls) -> dashboard.Dashboard:
    """Make the dashboard."""
    in_time = calls.increase(f"{LATENCY}_bucket", "", f'le="{LATENCY_MS:.1f}"')
    slow = f"1 - {in_time} / ({calls.increase(f'{LATENCY}_count')} > 0)"
    cut_off = calls.share(FINISHED, FINISHED, "increase", "$__range", "", 'finish_reason="length"')

    def burn(record: str, objective: float, window: str) -> str:
        worst = f"max by (provider) (provider:{record}:ratio_rate{window}{OF_PROVIDER})"
        return f"{worst} / {1 - objective:g}"

    def burns(record: str, objective: float) -> list[prometheus.Dataquery]:
        return [
            query(burn(record, objective, window), f"{{{{provider}}}} {window}")
            for window in WINDOWS
            if window in ("5m", "1h", "6h", "3d")
        ]

    rows: list[Row] = [
        (
            "At a glance",
            [
                *(
                    figure(
                        f"P{q * 100:.0f} latency",
                        f"{q * 100:.0f} of 100 requests in the chosen time range took less."
                        " Interpolated within a histogram bucket.",
                        calls.quantile(q, LATENCY, "$__range"),
                        "ms",
                        0,
                        LATENCY_STEPS,
                        width=3,
                    )
                    for q in (0.50, 0.95, 0.99)
                ),
                figure(
                    "P95 time to first token",
                    "95 of 100 streamed answers in the chosen time range began sooner.",
                    calls.quantile(0.95, FIRST_TOKEN, "$__range"),
                    "ms",
                    0,
                    FIRST_TOKEN_STEPS,
                    width=3,
                ),
                figure(
                    "P50 time per output token",
                    "Half of the streamed answers in the chosen time range came faster, after their first token.",
                    calls.quantile(0.50, PER_TOKEN, "$__range"),
                    "ms",
                    1,
                    [(None, "green"), (50, "yellow"), (150, "red")],
                    width=3,
                ),
                figure(
                    "Slow share",
                    f"Requests in the chosen time range that took longer than {LATENCY_MS / 1000:g} s.",
                    f"100 * ({slow})",
                    "percent",
                    2,
                    [(None, "green"), (100 * (1 - LATENCY_OBJECTIVE), "red")],
                    width=3,
                ),
                figure(
                    "Error rate",
                    "Failed requests as a share of all in the chosen time range.",
                    f"100 * {calls.share(ERRORS, REQUESTS, 'increase', '$__range')}",
                    "percent",
                    2,
                    ERROR_STEPS,
                    width=3,
                ),
                figure(
                    "Cut off share",
                    "Answers that ended at the limit of tokens, as a share of those whose end is known.",
                    f"100 * {cut_off}",
                    "percent",
                    2,
                    [(None, "green"), (100 * TRUNCATED_SHARE, "orange")],
                    width=3,
                ),
            ],
        ),
        (
            "Latency",
            [
                course(
                    "Latency by model",
                    "The time that 50, 95 and 99 of 100 requests stayed under. Interpolated within a histogram bucket.",
                    quantiles(calls, LATENCY, "model", "{{model}}", has_exemplars=True),
                    "ms",
                    LATENCY_STEPS,
                    width=12,
                ),
                distribution(
                    "Distribution of latency",
                    "How many requests fell into each bucket of the histogram.",
                    calls,
                    LATENCY,
                    "ms",
                    width=12,
                ),
                course(
                    "Time to first token by model",
                    "The time in which 50, 95 and 99 of 100 streamed answers began.",
                    quantiles(calls, FIRST_TOKEN, "model", "{{model}}", has_exemplars=True),
                    "ms",
                    FIRST_TOKEN_STEPS,
                ),
                course(
                    "Time per output token by model",
                    "Time for each output token after the first of a streamed answer.",
                    quantiles(calls, PER_TOKEN, "model", "{{model}}", (0.50, 0.95)),
                    "ms",
                    [(None, "green"), (50, "yellow"), (150, "red")],
                ),
                course(
                    "P95 latency by endpoint",
                    "95 of 100 requests took less. Interpolated within a histogram bucket.",
                    quantiles(
                        calls, LATENCY, "endpoint", "{{endpoint}}", (0.95,), has_exemplars=True
                    ),
                    "ms",
                    LATENCY_STEPS,
                ),
            ],
        ),
        (
            "Failures",
            [
                course(
                    "Error rate by model",
                    "Failed requests as a share of all.",
                    [
                        query(
                            f"100 * {calls.share(ERRORS, REQUESTS, 'rate', '$__rate_interval', 'model')}",
                            "{{model}}",
                        )
                    ],
                    "percent",
                    ERROR_STEPS,
                ),
                course(
                    "Errors a minute by type",
                    "Failed requests by the provider's own code, else by their status.",
                    [query(f"{calls.rate(ERRORS, 'error_type')} * 60", "{{error_type}}")],
                    "short",
                    is_stacked=True,
                ),
                course(
                    "Requests a minute by status",
                    "By HTTP status; 0 where there was no answer.",
                    [query(f"{calls.rate(REQUESTS, 'status_code')} * 60", "{{status_code}}")],
                    "short",
                    is_stacked=True,
                ),
                course(
                    "Finish reasons, a minute",
                    "Why answers ended; length: at the limit of tokens.",
                    [query(f"{calls.rate(FINISHED, 'finish_reason')} * 60", "{{finish_reason}}")],
                    "short",
                    is_stacked=True,
                ),
                course(
                    "Seconds since the last request by model",
                    "As the log tells it: a program that has stopped asking shows here first.",
                    [
                        query(
                            f"time() - max by (model) ({calls.of('ai_api_last_request_timestamp_seconds')})",
                            "{{model}}",
                        )
                    ],
                    "s",
                ),
                course(
                    "Requests in a batch, the mean",
                    "Of requests that are sent as one batch.",
                    [
                        query(
                            f"{calls.rate('ai_api_batch_size_sum', 'model')}"
                            f" / ({calls.rate('ai_api_batch_size_count', 'model')} > 0)",
                            "{{model}}",
                        )
                    ],
                    "short",
                ),
            ],
        ),
        (
            "Rate limits",
            [
                course(
                    "Requests left before the limit",
                    "As the provider answered last; of several pods the one that has least.",
                    [
                        query(
                            f"min by (provider, model) ({calls.of('ai_api_rate_limit_remaining')})",
                            "{{provider}} {{model}}",
                        )
                    ],
                    "short",
                ),
                course(
                    "Tokens left before the limit",
                    "As the provider answered last; of several pods the one that has least.",
                    [
                        query(
                            f"min by (provider, model) ({calls.of('ai_api_rate_limit_remaining_tokens')})",
                            "{{provider}} {{model}}",
                        )
                    ],
                    "short",
                ),
                course(
                    "Headroom",
                    "What is left as a share of the most that was left within a day, from the recording rules; "
                    "the pod does not narrow it.",
                    [
                        query(
                            "100 * min by (provider, model)"
                            f" (model:ai_api_rate_limit_remaining:ratio_max1d{OF_MODEL})",
                            "{{provider}} {{model}} requests",
                        ),
                        query(
                            "100 * min by (provider, model)"
                            f" (model:ai_api_rate_limit_remaining_tokens:ratio_max1d{OF_MODEL})",
                            "{{provider}} {{model}} tokens",
                        ),
                    ],
                    "percent",
                    HEADROOM_STEPS,
                ),
            ],
        ),
        (
            "Objectives (from the recording rules; model and pod do not narrow them)",
            [
                course(
                    "Burn of the error budget",
                    "How many times faster than 30 days allow the budget is used up, over windows of that length;"
                    f" the objective is {AVAILABILITY_OBJECTIVE:.1%} of requests without failure, the caller's own"
                    " mistakes aside. 14.4 over an hour pages.",
                    burns("ai_api_errors", AVAILABILITY_OBJECTIVE),
                    "short",
                    BURN_STEPS,
                    width=12,
                ),
                course(
                    "Burn of the latency budget",
                    "How many times faster than 30 days allow the budget is used up, over windows of that length;"
                    f" the objective is {LATENCY_OBJECTIVE:.0%} of requests within {LATENCY_MS / 1000:g} s.",
                    burns("ai_api_slow_requests", LATENCY_OBJECTIVE),
                    "short",
                    BURN_STEPS,
                    width=12,
                ),
            ],
        ),
    ]
    return laid_out(
        "AI calls / Latency and reliability",
        "ai-sidecar-latency",
        "How long calls to AI models take, how often they fail, and how near they are to their limits.",
        rows,
        calls,
        since="now-3h",
    )

"""*Overview*: how many calls, how slow, how many failed, what they cost."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .panels import (
    ERROR_STEPS,
    LATENCY_STEPS,
    TODAY,
    Row,
    bars,
    course,
    figure,
    laid_out,
    quantiles,
    query,
)
from .promql import Calls, of_sidecar

LATENCY = "ai_api_request_duration_milliseconds"
FIRST_TOKEN = "ai_api_time_to_first_token_milliseconds"  # noqa: S105  a metric, not a password
REQUESTS = "ai_api_requests_total"
COST = "ai_api_cost_usd_cents_total"


def make(calls: Calls) -> dashboard.Dashboard:
    """Make the dashboard."""
    tokens = " + ".join(
        calls.total("rate", f"ai_api_{kind}_tokens_total", "5m") for kind in ("input", "output")
    )
    rows: list[Row] = [
        (
            "At a glance",
            [
                figure(
                    "P50 latency",
                    "Half of the requests in the chosen time range took less. Interpolated within a histogram bucket.",
                    calls.quantile(0.50, LATENCY, "$__range"),
                    "ms",
                    0,
                    LATENCY_STEPS,
                ),
                figure(
                    "P95 latency",
                    "95 of 100 requests in the chosen time range took less. Interpolated within a histogram bucket.",
                    calls.quantile(0.95, LATENCY, "$__range"),
                    "ms",
                    0,
                    LATENCY_STEPS,
                ),
                figure(
                    "P95 time to first token",
                    "95 of 100 streamed answers in the chosen time range began sooner.",
                    calls.quantile(0.95, FIRST_TOKEN, "$__range"),
                    "ms",
                    0,
                    [(None, "green"), (2_500, "yellow"), (10_000, "red")],
                ),
                figure(
                    "Requests a minute",
                    "Over the last five minutes. A retry is a request of its own.",
                    f"{calls.total('rate', REQUESTS, '5m')} * 60",
                    "short",
                    1,
                ),
                figure(
                    "Error rate",
                    "Failed requests as a share of all in the chosen time range.",
                    f"100 * {calls.share('ai_api_errors_total', REQUESTS, 'increase', '$__range')}",
                    "percent",
                    2,
                    ERROR_STEPS,
                ),
                figure(
                    "Tokens a minute",
                    "All input and output tokens, cached and reasoning ones among them, over the last five minutes.",
                    f"({tokens}) * 60",
                    "short",
                    0,
                ),
                figure(
                    "Cost today",
                    "US dollars since midnight, whatever the time range. Requests without a known price are not in it.",
                    calls.or_zero(f"{calls.increase(COST)} / 100", "increase", "$__range"),
                    "currencyUSD",
                    2,
                ).time_from(TODAY),
                figure(
                    "Cost a month ahead",
                    "US dollars that 30 days cost if each is like the last 24 hours.",
                    f"30 * {calls.or_zero(calls.total('increase', COST, '24h') + ' / 100', 'increase', '24h')}",
                    "currencyUSD",
                    0,
                ),
                figure(
                    "Unpriced today",
                    "Requests with tokens but without a known price since midnight: the cost is too low by theirs."
                    " Give the model a price with --prices.",
                    calls.or_zero(
                        calls.increase("ai_api_unpriced_requests_total"), "increase", "$__range"
                    ),
                    "short",
                    0,
                    # increase() is rarely a whole number, but never under the number that was counted
                    [(None, "green"), (0.5, "orange")],
                ).time_from(TODAY),
                figure(
                    "Cache hit ratio",
                    "Input tokens that the provider read from its prompt cache, as a share of all input tokens.",
                    f"100 * {calls.increase('ai_api_cache_read_tokens_total')}"
                    f" / ({calls.increase('ai_api_input_tokens_total')} > 0)",
                    "percent",
                    1,
                ),
                figure(
                    "Models in use",
                    "Models that were asked in the chosen time range.",
                    f"count({calls.total('increase', REQUESTS, '$__range', 'provider, model')} > 0)",
                    "short",
                    0,
                ),
                figure(
                    "Behind the log",
                    "Bytes of logs that the sidecar which is furthest behind has not read yet.",
                    f"max({of_sidecar('ai_sidecar_lag_bytes')})",
                    "bytes",
                    0,
                    [(None, "green"), (1 << 20, "yellow"), (1 << 26, "red")],
                ),
            ],
        ),
        (
            "Over time",
            [
                course(
                    "Latency by model",
                    "The time that 50, 95 and 99 of 100 requests stayed under. Interpolated within a histogram bucket.",
                    quantiles(calls, LATENCY, "model", "{{model}}", has_exemplars=True),
                    "ms",
                    LATENCY_STEPS,
                    width=12,
                ),
                course(
                    "Cost an hour by model",
                    "US dollars an hour, at the rate of the moment.",
                    [query(f"{calls.rate(COST, 'model')} * 36", "{{model}}")],
                    "currencyUSD",
                    width=12,
                    is_stacked=True,
                ),
                course(
                    "Requests a minute by model",
                    "A retry is a request of its own.",
                    [query(f"{calls.rate(REQUESTS, 'model')} * 60", "{{model}}")],
                    "short",
                    is_stacked=True,
                ),
                course(
                    "Errors a minute by type",
                    "Failed requests by the provider's own code, else by their status.",
                    [
                        query(
                            f"{calls.rate('ai_api_errors_total', 'error_type')} * 60",
                            "{{error_type}}",
                        )
                    ],
                    "short",
                    is_stacked=True,
                ),
                bars(
                    "Cost by model",
                    "US dollars in the chosen time range, the ten most expensive models.",
                    f"topk(10, {calls.increase(COST, 'model')} / 100)",
                    "{{model}}",
                    "currencyUSD",
                    2,
                ),
            ],
        ),
    ]
    return laid_out(
        "AI calls / Overview",
        "ai-sidecar-overview",
        "Calls to AI models as ai-sidecar reads them from the logs of their clients.",
        rows,
        calls,
    )

"""*OpenTelemetry names*: the calls of sidecars that serve the `gen_ai` schema."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .panels import (
    ERROR_STEPS,
    TODAY,
    Row,
    Steps,
    bars,
    course,
    distribution,
    figure,
    laid_out,
    quantiles,
    query,
)
from .promql import Calls

LATENCY = "gen_ai_client_operation_duration_seconds"
FIRST_CHUNK = "gen_ai_client_operation_time_to_first_chunk_seconds"
TOKENS = "gen_ai_client_token_usage"
REQUESTS = f"{LATENCY}_count"
COST = "gen_ai_client_cost_usd_total"
MODEL = "gen_ai_request_model"
FAILED = 'error_type!=""'

LATENCY_STEPS: Steps = [(None, "green"), (5, "yellow"), (30, "red")]
FIRST_CHUNK_STEPS: Steps = [(None, "green"), (2.5, "yellow"), (10, "red")]


def make(extra_labels: tuple[str, ...]) -> dashboard.Dashboard:
    """Make the dashboard."""
    calls = Calls(
        provider="gen_ai_provider_name", model=MODEL, requests=REQUESTS, extra_labels=extra_labels
    )
    rows: list[Row] = [
        (
            "At a glance",
            [
                *(
                    figure(
                        f"P{q * 100:.0f} latency",
                        f"{q * 100:.0f} of 100 operations in the chosen time range took less."
                        " Interpolated within a histogram bucket.",
                        calls.quantile(q, LATENCY, "$__range"),
                        "s",
                        2,
                        LATENCY_STEPS,
                        width=3,
                    )
                    for q in (0.50, 0.95)
                ),
                figure(
                    "P95 time to first chunk",
                    "95 of 100 streamed answers in the chosen time range began sooner.",
                    calls.quantile(0.95, FIRST_CHUNK, "$__range"),
                    "s",
                    2,
                    FIRST_CHUNK_STEPS,
                    width=3,
                ),
                figure(
                    "Operations a minute",
                    "With a known duration, over the last five minutes. A retry is an operation of its own.",
                    f"{calls.total('rate', REQUESTS, '5m')} * 60",
                    "short",
                    1,
                    width=3,
                ),
                figure(
                    "Error rate",
                    "Failed operations as a share of all in the chosen time range.",
                    f"100 * {calls.share(REQUESTS, REQUESTS, 'increase', '$__range', '', FAILED)}",
                    "percent",
                    2,
                    ERROR_STEPS,
                    width=3,
                ),
                figure(
                    "Tokens a minute",
                    "Input and output tokens over the last five minutes.",
                    f"{calls.total('rate', f'{TOKENS}_sum', '5m')} * 60",
                    "short",
                    0,
                    width=3,
                ),
                figure(
                    "Cost today",
                    "US dollars since midnight, whatever the time range. Requests without a known price are not in it.",
                    calls.or_zero(calls.increase(COST), "increase", "$__range"),
                    "currencyUSD",
                    2,
                    width=3,
                ).time_from(TODAY),
                figure(
                    "Cost a month ahead",
                    "US dollars that 30 days cost if each is like the last 24 hours.",
                    f"30 * {calls.or_zero(calls.total('increase', COST, '24h'), 'increase', '24h')}",
                    "currencyUSD",
                    0,
                    width=3,
                ),
            ],
        ),
        (
            "Over time",
            [
                course(
                    "Latency by model",
                    "The time that 50, 95 and 99 of 100 operations stayed under.",
                    quantiles(calls, LATENCY, MODEL, f"{{{{{MODEL}}}}}", has_exemplars=True),
                    "s",
                    LATENCY_STEPS,
                    width=12,
                ),
                distribution(
                    "Distribution of latency",
                    "How many operations fell into each bucket of the histogram.",
                    calls,
                    LATENCY,
                    "s",
                    width=12,
                ),
                course(
                    "Time to first chunk by model",
                    "The time in which 50, 95 and 99 of 100 streamed answers began.",
                    quantiles(calls, FIRST_CHUNK, MODEL, f"{{{{{MODEL}}}}}", has_exemplars=True),
                    "s",
                    FIRST_CHUNK_STEPS,
                ),
                course(
                    "Operations a minute by name",
                    "chat, embeddings and whatever else is done.",
                    [
                        query(
                            f"{calls.rate(REQUESTS, 'gen_ai_operation_name')} * 60",
                            "{{gen_ai_operation_name}}",
                        )
                    ],
                    "short",
                    is_stacked=True,
                ),
                course(
                    "Errors a minute by type",
                    "Failed operations by the provider's own code, else by their status.",
                    [
                        query(
                            f"{calls.rate(REQUESTS, 'error_type', FAILED)} * 60",
                            "{{error_type}}",
                        )
                    ],
                    "short",
                    is_stacked=True,
                ),
                course(
                    "Tokens a minute by type",
                    "As OpenTelemetry names them.",
                    [
                        query(
                            f"{calls.rate(f'{TOKENS}_sum', 'gen_ai_token_type')} * 60",
                            "{{gen_ai_token_type}}",
                        )
                    ],
                    "short",
                    is_stacked=True,
                ),
                course(
                    "Cost an hour by model",
                    "US dollars an hour, at the rate of the moment.",
                    [query(f"{calls.rate(COST, MODEL)} * 3600", f"{{{{{MODEL}}}}}")],
                    "currencyUSD",
                    is_stacked=True,
                ),
                bars(
                    "Cost by model",
                    "US dollars in the chosen time range, the ten most expensive models.",
                    f"topk(10, {calls.increase(COST, MODEL)})",
                    f"{{{{{MODEL}}}}}",
                    "currencyUSD",
                    2,
                ),
                course(
                    "Tokens of an operation by type",
                    "50 and 95 of 100 operations took fewer: what grows here grows in latency and in cost.",
                    quantiles(
                        calls, TOKENS, "gen_ai_token_type", "{{gen_ai_token_type}}", (0.50, 0.95)
                    ),
                    "short",
                    width=12,
                ),
                bars(
                    "Operations by the model that answered",
                    "In the chosen time range, the ten most asked.",
                    f"topk(10, {calls.increase(REQUESTS, 'gen_ai_response_model')})",
                    "{{gen_ai_response_model}}",
                    "short",
                    0,
                    width=12,
                ),
            ],
        ),
    ]
    return laid_out(
        "AI calls / OpenTelemetry names",
        "ai-sidecar-gen-ai",
        "Calls to AI models by the names of OpenTelemetry: for sidecars that serve --schema gen_ai.",
        rows,
        calls,
    )

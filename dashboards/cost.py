"""*Cost and tokens*: what was paid, for what, and what it would have been."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .panels import TODAY, Row, bars, course, figure, laid_out, query
from .promql import Calls
from .targets import DAILY_BUDGET_USD, UNPRICED_SHARE

REQUESTS = "ai_api_requests_total"
COST = "ai_api_cost_usd_cents_total"
UNPRICED = "ai_api_unpriced_requests_total"
INPUT = "ai_api_input_tokens_total"
OUTPUT = "ai_api_output_tokens_total"
CACHE_READ = "ai_api_cache_read_tokens_total"
CACHE_WRITE = "ai_api_cache_write_tokens_total"
REASONING = "ai_api_reasoning_tokens_total"
OF_JOB = '{job=~"$job", namespace=~"$namespace"}'


def saved_by_caching(calls: Calls, function: str, window: str) -> str:
    """Give the cents that each model would have cost more had no input token been cached.

    What an uncached token costs is told by those that were not cached. Only where what was read from the cache has
    a cost of its own: else the log told the sum alone, or a read costs as much as any other token.
    """
    by = "provider, model"

    def of(counter: str, *matchers: str) -> str:
        return calls.total(function, counter, window, by, *matchers)

    read, written = of(CACHE_READ), of(CACHE_WRITE)
    uncached = f"({of(INPUT)} - {read} - {written} > 0)"
    of_uncached = of(COST, 'cost_type="input"')
    price = f"{of_uncached} / {uncached}"
    paid = of(COST, 'cost_type=~"cache_read|cache_write"')
    is_read = of(COST, 'cost_type="cache_read"')
    return f"(({read} + {written}) * {price} - {paid} and {is_read} > 0)"


def make(calls: Calls) -> dashboard.Dashboard:
    """Make the dashboard."""
    cost = calls.increase(COST)
    unpriced = calls.share(UNPRICED, REQUESTS, "increase", "$__range")
    saved = saved_by_caching(calls, "increase", "$__range")
    budget = [(None, "green"), (0.8 * DAILY_BUDGET_USD, "yellow"), (DAILY_BUDGET_USD, "red")]
    share_steps = [(None, "green"), (100 * UNPRICED_SHARE, "orange")]
    rows: list[Row] = [
        (
            "Cost",
            [
                figure(
                    "Cost today",
                    "US dollars since midnight, whatever the time range. Requests without a known price are not in it.",
                    calls.or_zero(f"{cost} / 100", "increase", "$__range"),
                    "currencyUSD",
                    2,
                    width=3,
                ).time_from(TODAY),
                figure(
                    "Cost in the time range",
                    "US dollars in the chosen time range. Requests without a known price are not in it.",
                    calls.or_zero(f"{cost} / 100", "increase", "$__range"),
                    "currencyUSD",
                    2,
                    width=3,
                ),
                figure(
                    "Cost a month ahead",
                    "US dollars that 30 days cost if each is like the last 24 hours.",
                    f"30 * {calls.or_zero(calls.total('increase', COST, '24h') + ' / 100', 'increase', '24h')}",
                    "currencyUSD",
                    0,
                    width=3,
                ),
                figure(
                    "Cost of 1000 requests",
                    "US dollars for a thousand requests at the mean of the chosen time range, failed ones among them.",
                    f"10 * {calls.or_zero(cost, 'increase', '$__range')} / ({calls.increase(REQUESTS)} > 0)",
                    "currencyUSD",
                    2,
                    width=3,
                ),
                figure(
                    "Saved by caching",
                    "US dollars that the input of the chosen time range would have cost more without the provider's"
                    " prompt cache, what writing to it costs taken off. Only of models that are priced by kind of token.",
                    f"sum({saved}) / 100",
                    "currencyUSD",
                    2,
                    [(None, "red"), (0, "green")],
                    width=3,
                ),
                figure(
                    "Cache hit ratio",
                    "Input tokens that the provider read from its prompt cache, as a share of all input tokens.",
                    f"100 * {calls.increase(CACHE_READ)} / ({calls.increase(INPUT)} > 0)",
                    "percent",
                    1,
                    width=3,
                ),
                figure(
                    "Unpriced share",
                    "Requests with tokens for which no price is known, as a share of all: the cost is too low by theirs."
                    " Give the model a price with --prices.",
                    f"100 * {unpriced}",
                    "percent",
                    2,
                    share_steps,
                    width=3,
                ),
                figure(
                    "Cost of a million tokens",
                    "US dollars for a million tokens, input and output alike, at the mean of the chosen time range.",
                    f"10000 * {calls.or_zero(cost, 'increase', '$__range')}"
                    f" / ({calls.increase(INPUT)} + {calls.increase(OUTPUT)} > 0)",
                    "currencyUSD",
                    2,
                    width=3,
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
                    "Cost an hour by kind",
                    "US dollars an hour, by what they were paid for. total: the log told only the sum.",
                    [query(f"{calls.rate(COST, 'cost_type')} * 36", "{{cost_type}}")],
                    "currencyUSD",
                    width=12,
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
                bars(
                    "Cost by provider",
                    "US dollars in the chosen time range, the ten most expensive providers.",
                    f"topk(10, {calls.increase(COST, 'provider')} / 100)",
                    "{{provider}}",
                    "currencyUSD",
                    2,
                ),
                bars(
                    "Cost by job and namespace",
                    "US dollars in the chosen time range, the ten most expensive.",
                    f"topk(10, {calls.increase(COST, 'job, namespace')} / 100)",
                    "{{job}} {{namespace}}",
                    "currencyUSD",
                    2,
                ),
                course(
                    "Cost of 1000 requests by model",
                    "US dollars for a thousand requests, failed ones among them.",
                    [
                        query(
                            f"10 * {calls.rate(COST, 'model')} / ({calls.rate(REQUESTS, 'model')} > 0)",
                            "{{model}}",
                        )
                    ],
                    "currencyUSD",
                ),
                course(
                    "Saved an hour by caching",
                    "US dollars an hour that input would have cost more without the provider's prompt cache, what"
                    " writing to it costs taken off. Under zero: more is written than is ever read.",
                    [
                        query(
                            f"sum by (model) ({saved_by_caching(calls, 'rate', '$__rate_interval')}) * 36",
                            "{{model}}",
                        )
                    ],
                    "currencyUSD",
                    [(None, "red"), (0, "green")],
                    can_be_negative=True,
                ),
                course(
                    "Unpriced share by model",
                    "Requests with tokens for which no price is known, as a share of all.",
                    [
                        query(
                            f"100 * {calls.share(UNPRICED, REQUESTS, 'rate', '$__rate_interval', 'model')}",
                            "{{model}}",
                        )
                    ],
                    "percent",
                    share_steps,
                ),
            ],
        ),
        (
            "Budget (from the recording rules; provider, model and pod do not narrow it)",
            [
                course(
                    "Last 24 hours against the daily budget",
                    f"US dollars of the 24 hours before each moment; the budget is {DAILY_BUDGET_USD:g} USD.",
                    [query(f"job:ai_api_cost_usd:increase1d{OF_JOB}", "{{job}} {{namespace}}")],
                    "currencyUSD",
                    budget,
                    width=12,
                ),
                course(
                    "Last hour against the dearest of the week",
                    "US dollars of the hour before each moment, and the dearest of the week before, the last six aside:"
                    " what the alert on an anomaly compares.",
                    [
                        query(
                            f"job:ai_api_cost_usd:increase1h{OF_JOB}",
                            "{{job}} {{namespace}}",
                        ),
                        query(
                            f"max_over_time(job:ai_api_cost_usd:increase1h{OF_JOB}[7d] offset 6h)",
                            "{{job}} {{namespace}} dearest",
                        ),
                    ],
                    "currencyUSD",
                    width=12,
                ),
            ],
        ),
        (
            "Tokens",
            [
                course(
                    "Tokens a minute by kind",
                    "Disjoint: input that was not cached, read from and written to the cache, answer, reasoning.",
                    [
                        query(
                            f"({calls.rate(INPUT)} - {calls.rate(CACHE_READ)} - {calls.rate(CACHE_WRITE)}) * 60",
                            "input",
                        ),
                        query(f"{calls.rate(CACHE_READ)} * 60", "cache read"),
                        query(f"{calls.rate(CACHE_WRITE)} * 60", "cache write"),
                        query(f"({calls.rate(OUTPUT)} - {calls.rate(REASONING)}) * 60", "output"),
                        query(f"{calls.rate(REASONING)} * 60", "reasoning"),
                    ],
                    "short",
                    is_stacked=True,
                ),
                course(
                    "Input tokens a minute by model",
                    "All input tokens, those read from and written to a cache among them.",
                    [query(f"{calls.rate(INPUT, 'model')} * 60", "{{model}}")],
                    "short",
                    is_stacked=True,
                ),
                course(
                    "Output tokens a minute by model",
                    "All output tokens, reasoning among them.",
                    [query(f"{calls.rate(OUTPUT, 'model')} * 60", "{{model}}")],
                    "short",
                    is_stacked=True,
                ),
                course(
                    "Cache hit ratio by model",
                    "Input tokens that the provider read from its prompt cache, as a share of all input tokens.",
                    [
                        query(
                            f"100 * {calls.rate(CACHE_READ, 'model')} / ({calls.rate(INPUT, 'model')} > 0)",
                            "{{model}}",
                        )
                    ],
                    "percent",
                ),
                course(
                    "Output tokens for each request by model",
                    "The mean; what grows here grows in latency and in cost.",
                    [
                        query(
                            f"{calls.rate(OUTPUT, 'model')} / ({calls.rate(REQUESTS, 'model')} > 0)",
                            "{{model}}",
                        )
                    ],
                    "short",
                ),
                course(
                    "Answered by the client's own cache, a minute",
                    "Requests that cost nothing since the client had the answer.",
                    [
                        query(
                            f"{calls.rate('ai_api_client_cache_hits_total', 'model')} * 60",
                            "{{model}}",
                        )
                    ],
                    "short",
                    is_stacked=True,
                ),
            ],
        ),
    ]
    return laid_out(
        "AI calls / Cost and tokens",
        "ai-sidecar-cost",
        "What calls to AI models cost and how many tokens they took, as ai-sidecar reads it from the logs.",
        rows,
        calls,
        since="now-24h",
    )

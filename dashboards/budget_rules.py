"""Alert rules for budgets, as data: they go with `[budgets]` in the sidecar's configuration.

`ai_api_budget_usd` is what a budget allows, `ai_api_budget_remaining_usd` what is left of it now. Each sidecar knows
its own log alone, so what several of them have spent of a budget of the same name is added up here.
"""

from __future__ import annotations

from typing import Any

SPENT = "sum by (budget, period) (ai_api_budget_usd - ai_api_budget_remaining_usd)"
"""What all sidecars have spent of each budget in the period that is now."""
ALLOWED = "max by (budget, period) (ai_api_budget_usd)"
"""What each budget allows: every sidecar is told the same."""

RULES: tuple[dict[str, Any], ...] = (
    {
        "alert": "AiBudgetSpent",
        "expr": f"{SPENT} >= {ALLOWED}",
        "labels": {"severity": "critical"},
        "annotations": {
            "summary": "The budget {{ $labels.budget }} is spent",
            "description": '${{ printf "%.2f" $value }} have been spent of the budget {{ $labels.budget }} '
            "of this {{ $labels.period }}: that is all of it, or more.",
        },
    },
    {
        "alert": "AiBudgetNearlySpent",
        "expr": f"({SPENT} / {ALLOWED} >= 0.8) < 1",
        "for": "1m",
        "labels": {"severity": "warning"},
        "annotations": {
            "summary": "The budget {{ $labels.budget }} is nearly spent",
            "description": "{{ $value | humanizePercentage }} of the budget {{ $labels.budget }} "
            "of this {{ $labels.period }} are spent.",
        },
    },
    {
        "alert": "AiBudgetSpentSoon",
        # at midnight what is left jumps up, and a slope over that is none of spending: it alerts of nothing then
        "expr": f"({ALLOWED} - {SPENT} > 0)"
        " and sum by (budget, period) (predict_linear(ai_api_budget_remaining_usd[1h], 2 * 3600)"
        f" - ai_api_budget_usd) + {ALLOWED} < 0",
        "for": "10m",
        "labels": {"severity": "warning"},
        "annotations": {
            "summary": "The budget {{ $labels.budget }} will be spent within two hours",
            "description": 'At the rate of the last hour the ${{ printf "%.2f" $value }} that are left of the budget '
            "{{ $labels.budget }} of this {{ $labels.period }} will be spent within two hours.",
        },
    },
    {
        "alert": "AiBudgetLeavesOutUnpriced",
        "expr": "sum by (provider, model) (increase(ai_api_unpriced_requests_total[1h])) > 0 "
        "and on () count(ai_api_budget_usd) > 0",
        "for": "10m",
        "labels": {"severity": "warning"},
        "annotations": {
            "summary": "Budgets leave out {{ $labels.model }}, which has no price",
            "description": '{{ printf "%.0f" $value }} requests of {{ $labels.model }} at {{ $labels.provider }} in the '
            "last hour had no price, so no budget counts them: tell the sidecar what they cost with --prices.",
        },
    },
)
"""Rules as Prometheus has them in the `rules` of a group."""

GROUP: dict[str, Any] = {"name": "ai-budgets", "rules": list(RULES)}

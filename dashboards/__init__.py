"""Grafana dashboards, recording and alert rules, and what makes them: `python -m dashboards.make`.

`targets` holds what you may want to change: objectives, budgets, limits. `rules` makes the rules, one module for
each dashboard the rest. What is committed beside them is what they make.
"""

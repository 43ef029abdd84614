"""Writes the Grafana dashboards and the rules of this folder: `python -m dashboards.make`.

Needs `grafana-foundation-sdk==0.0.21`, exactly (a plain install gives an older build), and PyYAML.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import cost, gen_ai, health, latency, overview, rules
from .promql import Calls

FOLDER = Path(__file__).parent


def files(extra_labels: Sequence[str] = (), runbook_url: str = rules.RUNBOOK_URL) -> dict[str, str]:
    """Give the text of each file that is made here, by its name.

    Each of `extra_labels` (those that the sidecars are given with `--label`) becomes a variable.
    """
    calls = Calls(extra_labels=tuple(extra_labels))
    encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
    dashboards = {
        "overview.json": overview.make(calls),
        "cost.json": cost.make(calls),
        "latency.json": latency.make(calls),
        "health.json": health.make(),
        "gen_ai.json": gen_ai.make(calls.extra_labels),
    }
    made = {name: encoder.encode(made.build()) + "\n" for name, made in dashboards.items()}
    return {**made, "rules.yaml": rules.text(runbook_url)}


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.make", description=__doc__)
    parser.add_argument(
        "--label", action="append", default=[], help="an extra label that gets a variable"
    )
    parser.add_argument(
        "--runbook-url", default=rules.RUNBOOK_URL, help="where RUNBOOK.md is published"
    )
    parser.add_argument("--output", type=Path, default=FOLDER, help="the folder to write to")
    options = parser.parse_args()
    for name, text in files(options.label, options.runbook_url).items():
        (options.output / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

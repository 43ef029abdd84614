"""What a dashboard asks its data source, read from its JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

ALL: Mapping[str, str] = {"provider": ".*", "model": ".*"}
"""What the variables stand for where the viewer has chosen nothing."""


def panels_of(dashboard: Json) -> list[Json]:
    """Give every panel, those inside of collapsed rows among them."""
    return [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", ()))]


def drawn_panels_of(dashboard: Json) -> list[Json]:
    """Give the panels that ask for figures."""
    return [panel for panel in panels_of(dashboard) if panel["type"] not in ("row", "text")]


def queries_of(dashboard: Json) -> Iterator[tuple[str, Json]]:
    """Give the title of its panel and the target of every query."""
    for panel in drawn_panels_of(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target


def substituted(expression: str, selection: Mapping[str, str] = ALL) -> str:
    """Put in what Grafana puts in for the variables of an expression; its range is an hour."""
    values = {"__range": "1h", "__rate_interval": "1m", **selection}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expression)

"""Makes the Grafana dashboards of this folder: `python dashboards/make.py` writes each as JSON beside it.

Needs `grafana-foundation-sdk==0.0.21`, exactly: a plain install gives an older build.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardSpecialValueMapOptions,
    FieldColorModeId,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).parent

DATA_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
SELECTED = 'provider=~"$provider", model=~"$model"'
"""The matchers that every query has."""
TODAY = "now/d"
"""A panel's own range: from midnight, in the dashboard's time zone, until now."""
NOTHING = "–"
"""Shown where there is no figure, such as a latency without a request."""

STAT_WIDTH, STAT_HEIGHT = 4, 4

Panel = stat.Panel | timeseries.Panel | bargauge.Panel
Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour holds; the first has no value."""


def quantile(q: float, window: str, by: str = "") -> str:
    """Give the latency in milliseconds that a share `q` of the requests stayed under."""
    labels = f"le, {by}" if by else "le"
    buckets = f"ai_api_request_duration_milliseconds_bucket{{{SELECTED}}}[{window}]"
    return f"histogram_quantile({q:.2f}, sum by ({labels}) (rate({buckets})))"


def total(function: str, counter: str, window: str, by: str = "") -> str:
    """Give the sum of a counter's `rate` or `increase` over all its labels but `by`."""
    grouping = f" by ({by}) " if by else ""
    return f"sum{grouping}({function}({counter}{{{SELECTED}}}[{window}]))"


def or_zero(expression: str, window: str) -> str:
    """Give 0 where a counter has no series yet, but only where requests are there at all.

    `or vector(0)` would show a zero also where nothing is scraped.
    """
    return f"({expression} or 0 * {total('increase', 'ai_api_requests_total', window)})"


def query(
    expression: str, legend: str, *, is_instant: bool = False, has_exemplars: bool = False
) -> prometheus.Dataquery:
    """Make one query of a panel."""
    made = prometheus.Dataquery().datasource(DATA_SOURCE).expr(expression).legend_format(legend)
    made = made.exemplar(has_exemplars).format(PromQueryFormat.TIME_SERIES)
    return made.instant() if is_instant else made.range()


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    """Make absolute thresholds."""
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def figure(
    title: str, description: str, expression: str, unit: str, decimals: int, steps: Steps
) -> stat.Panel:
    """Make a single number, asked for at the end of the range."""
    absent = DashboardSpecialValueMapOptions(
        match=SpecialValueMatch.NULL_AND_NAN, result=ValueMappingResult(text=NOTHING)
    )
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .with_target(query(expression, title, is_instant=True).ref_id("A"))
        .unit(unit)
        .decimals(decimals)
        .no_value(NOTHING)
        .mappings([SpecialValueMap(options=absent)])
        .thresholds(thresholds(steps))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(STAT_WIDTH)
        .height(STAT_HEIGHT)
    )


def course(
    title: str, description: str, queries: Sequence[prometheus.Dataquery], unit: str
) -> timeseries.Panel:
    """Make lines over time, with a table of their figures below."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .min(0)
        .no_value(NOTHING)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .line_width(1)
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
    )
    for letter, made in zip(ascii_uppercase, queries, strict=False):
        panel = panel.with_target(made.ref_id(letter))
    return panel


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    """Draw the lines upon each other, where their sum is a figure of its own."""
    return panel.fill_opacity(30).stacking(
        common.StackingConfig().mode(StackingMode.NORMAL).group("A")
    )


def data_source_variable() -> dashboard.DatasourceVariable:
    """Let the viewer choose which Prometheus is asked."""
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def label_variable(name: str, label: str, metric: str) -> dashboard.QueryVariable:
    """Let the viewer choose one, several or all values that a label has."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATA_SOURCE)
        .query({"query": f"label_values({metric}, {name})", "refId": f"{name}-values"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        # shorter than all values joined with |, and what comes while one looks is in it
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def overview() -> dashboard.Dashboard:
    """Make *Overview*: how many calls, how slow, how many failed, what they cost."""
    made = (
        dashboard.Dashboard("AI calls / Overview")
        .uid("ai-sidecar-overview")
        .description("Calls to AI models as ai-sidecar reads them from the logs of their clients.")
        .tags(["ai-sidecar"])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .with_variable(data_source_variable())
        .with_variable(label_variable("provider", "Provider", "ai_api_requests_total"))
        .with_variable(
            label_variable("model", "Model", 'ai_api_requests_total{provider=~"$provider"}')
        )
    )
    panels: list[Panel] = [
        figure(
            "P50 latency",
            "Half of the requests in the chosen time range took less. Interpolated within a histogram bucket.",
            quantile(0.50, "$__range"),
            "ms",
            0,
            [(None, "green"), (5_000, "yellow"), (30_000, "red")],
        ),
        figure(
            "Requests a minute",
            "Over the last five minutes. A retry is a request of its own.",
            f"{total('rate', 'ai_api_requests_total', '5m')} * 60",
            "short",
            1,
            [(None, "blue")],
        ),
        figure(
            "Error rate",
            "Failed requests as a share of all in the chosen time range.",
            f"100 * {or_zero(total('increase', 'ai_api_errors_total', '$__range'), '$__range')}"
            f" / ({total('increase', 'ai_api_requests_total', '$__range')} > 0)",
            "percent",
            2,
            [(None, "green"), (1, "yellow"), (5, "red")],
        ),
        figure(
            "Cost today",
            "US dollars since midnight, whatever the time range. Requests without a known price are not in it.",
            or_zero(
                f"{total('increase', 'ai_api_cost_usd_cents_total', '$__range')} / 100", "$__range"
            ),
            "currencyUSD",
            2,
            [(None, "blue")],
        ).time_from(TODAY),
        figure(
            "Unpriced today",
            "Requests with tokens but without a known price since midnight: the cost is too low by theirs."
            " Give the model a price with --prices.",
            or_zero(total("increase", "ai_api_unpriced_requests_total", "$__range"), "$__range"),
            "short",
            0,
            # increase() is rarely a whole number, but never under the number that was counted
            [(None, "green"), (0.5, "orange")],
        ).time_from(TODAY),
        figure(
            "Tokens a minute",
            "All input and output tokens, cached and reasoning ones among them, over the last five minutes.",
            f"({total('rate', 'ai_api_input_tokens_total', '5m')}"
            f" + {total('rate', 'ai_api_output_tokens_total', '5m')}) * 60",
            "short",
            0,
            [(None, "blue")],
        ),
        course(
            "Latency by model",
            "The time that 50, 95 and 99 of 100 requests stayed under. Interpolated within a histogram bucket.",
            [
                query(
                    quantile(q, "$__rate_interval", "model"),
                    f"{{{{model}}}} p{q * 100:.0f}",
                    has_exemplars=q == 0.99,
                )
                for q in (0.50, 0.95, 0.99)
            ],
            "ms",
        )
        .thresholds(thresholds([(None, "green"), (5_000, "yellow"), (30_000, "red")]))
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
        .span(12)
        .height(9),
        stacked(
            course(
                "Cost an hour by model",
                "US dollars an hour, at the rate of the moment.",
                [
                    query(
                        f"{total('rate', 'ai_api_cost_usd_cents_total', '$__rate_interval', 'model')} * 36",
                        "{{model}}",
                    )
                ],
                "currencyUSD",
            )
        )
        .span(12)
        .height(9),
        stacked(
            course(
                "Requests a minute by model",
                "A retry is a request of its own.",
                [
                    query(
                        f"{total('rate', 'ai_api_requests_total', '$__rate_interval', 'model')} * 60",
                        "{{model}}",
                    )
                ],
                "short",
            )
        )
        .span(8)
        .height(8),
        stacked(
            course(
                "Errors a minute by type",
                "Failed requests by the provider's own code, else by their status.",
                [
                    query(
                        f"{total('rate', 'ai_api_errors_total', '$__rate_interval', 'error_type')} * 60",
                        "{{error_type}}",
                    )
                ],
                "short",
            )
        )
        .span(8)
        .height(8),
        bargauge.Panel()
        .title("Cost by model")
        .description("US dollars in the chosen time range, the ten most expensive models.")
        .datasource(DATA_SOURCE)
        .with_target(
            query(
                f"topk(10, {total('increase', 'ai_api_cost_usd_cents_total', '$__range', 'model')} / 100)",
                "{{model}}",
                is_instant=True,
            ).ref_id("A")
        )
        .unit("currencyUSD")
        .decimals(2)
        .min(0)
        .no_value(NOTHING)
        .thresholds(thresholds([(None, "blue")]))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .display_mode(BarGaugeDisplayMode.BASIC)
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(8)
        .height(8),
    ]
    for number, panel in enumerate(panels, 1):
        made = made.with_panel(panel.id(number))
    return made


DASHBOARDS = {"overview.json": overview}


def files() -> dict[str, str]:
    """Give the text of each file of this folder that is made here."""
    encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
    return {name: encoder.encode(make().build()) + "\n" for name, make in DASHBOARDS.items()}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")

"""Panels, variables, links and annotations: what the dashboards are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
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
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from . import promql

DATA_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "ai-sidecar"
TODAY = "now/d"
"""A panel's own range: from midnight, in the dashboard's time zone, until now."""
NOTHING = "–"
"""Shown where there is no figure, such as a latency without a request."""

Panel = stat.Panel | timeseries.Panel | bargauge.Panel | heatmap.Panel
Row = tuple[str, Sequence[Panel]]
"""A heading, and what stands below it until the next."""
Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour holds; the first has no value."""

PLAIN: Steps = [(None, "blue")]
"""For what is neither good nor bad."""
LATENCY_STEPS: Steps = [(None, "green"), (5_000, "yellow"), (30_000, "red")]
"""Of milliseconds."""
ERROR_STEPS: Steps = [(None, "green"), (1, "yellow"), (5, "red")]
"""Of percent."""


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
    title: str,
    description: str,
    expression: str,
    unit: str,
    decimals: int,
    steps: Steps = PLAIN,
    *,
    width: int = 4,
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
        .span(width)
        .height(4)
    )


def course(
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    unit: str,
    steps: Steps = PLAIN,
    *,
    width: int = 8,
    is_stacked: bool = False,
    can_be_negative: bool = False,
) -> timeseries.Panel:
    """Make lines over time, with a table of their figures below; stacked where their sum is a figure of its own.

    Thresholds that say more than a colour are drawn as lines of their own.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .no_value(NOTHING)
        .thresholds(thresholds(steps))
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
        .span(width)
        .height(8)
    )
    if not can_be_negative:
        panel = panel.min(0)
    if len(steps) > 1:
        panel = panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        )
    if is_stacked:
        panel = panel.fill_opacity(30).stacking(
            common.StackingConfig().mode(StackingMode.NORMAL).group("A")
        )
    for letter, made in zip(ascii_uppercase, queries, strict=False):
        panel = panel.with_target(made.ref_id(letter))
    return panel


def bars(
    title: str,
    description: str,
    expression: str,
    legend: str,
    unit: str,
    decimals: int,
    *,
    width: int = 8,
) -> bargauge.Panel:
    """Make a bar for each series, asked for at the end of the range."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .with_target(query(expression, legend, is_instant=True).ref_id("A"))
        .unit(unit)
        .decimals(decimals)
        .min(0)
        .no_value(NOTHING)
        .thresholds(thresholds(PLAIN))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .display_mode(BarGaugeDisplayMode.BASIC)
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(width)
        .height(8)
    )


def distribution(
    title: str, description: str, calls: promql.Calls, histogram: str, unit: str, *, width: int
) -> heatmap.Panel:
    """Make a heat map of a histogram: how many observations fell into each bucket."""
    asked = query(
        calls.total("increase", f"{histogram}_bucket", "$__rate_interval", "le"), "{{le}}"
    )
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .with_target(asked.format(PromQueryFormat.HEATMAP).exemplar(True).ref_id("A"))
        .unit(unit)
        .thresholds(thresholds(PLAIN))
        .calculate(False)
        .cell_gap(1)
        .color(
            heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64)
        )
        .rows_frame(heatmap.RowsHeatmapOptions().layout(HeatmapCellLayout.LE))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .span(width)
        .height(8)
    )


def quantiles(
    calls: promql.Calls,
    histogram: str,
    by: str,
    legend: str,
    shares: Sequence[float] = (0.50, 0.95, 0.99),
    *,
    has_exemplars: bool = False,
) -> list[prometheus.Dataquery]:
    """Ask for quantiles of a histogram over time; the highest brings the exemplars, once."""
    return [
        query(
            calls.quantile(q, histogram, "$__rate_interval", by),
            f"{legend} p{q * 100:.0f}",
            has_exemplars=has_exemplars and q == max(shares),
        )
        for q in shares
    ]


def data_source_variable() -> dashboard.DatasourceVariable:
    """Let the viewer choose which Prometheus is asked."""
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def label_variable(name: str, title: str, selector: str, label: str) -> dashboard.QueryVariable:
    """Let the viewer choose one, several or all values that a label has."""
    return (
        dashboard.QueryVariable(name)
        .label(title)
        .datasource(DATA_SOURCE)
        .query({"query": f"label_values({selector}, {label})", "refId": f"{name}-values"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        # shorter than all values joined with |, what comes while one looks is in it, and what has no such label
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def restarts() -> dashboard.AnnotationQuery:
    """Mark the moments at which a sidecar has started, in a new pod too."""
    age = f"time() - {promql.of_sidecar('process_start_time_seconds')} < 120"
    expression = f"{age} and on (job, instance) {promql.of_sidecar('ai_sidecar_build_info')}"
    return (
        dashboard.AnnotationQuery()
        .name("Sidecar starts")
        .datasource(DATA_SOURCE)
        .enable(True)
        .icon_color("purple")
        .expr(expression)
        .step("60s")
        .title_format("ai-sidecar started")
        .text_format("{{instance}} {{pod}}")
        .tag_keys("job,namespace,pod")
    )


def laid_out(
    title: str,
    uid: str,
    description: str,
    rows: Sequence[Row],
    calls: promql.Calls | None,
    *,
    since: str = "now-1h",
) -> dashboard.Dashboard:
    """Make a dashboard of its rows; `calls` are what its variables for provider and model choose from."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .annotation(restarts())
        .link(
            dashboard.DashboardLink("AI calls")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(data_source_variable())
    )
    narrower = ""
    for name, label in (("job", "Job"), ("namespace", "Namespace"), ("pod", "Pod")):
        selector = f"ai_sidecar_build_info{{{narrower}}}" if narrower else "ai_sidecar_build_info"
        made = made.with_variable(label_variable(name, label, selector, name))
        narrower += f'{", " if narrower else ""}{name}=~"${name}"'
    if calls is not None:
        requests = calls.requests
        of_provider = f'{requests}{{{promql.TARGET}, {calls.provider}=~"$provider"}}'
        made = made.with_variable(
            label_variable("provider", "Provider", f"{requests}{{{promql.TARGET}}}", calls.provider)
        ).with_variable(label_variable("model", "Model", of_provider, calls.model))
        for label in calls.extra_labels:
            made = made.with_variable(label_variable(label, label, of_provider, label))
        # whatever else a label is called: Grafana adds these to every query
        made = made.with_variable(
            dashboard.AdHocVariable("filters").label("Other labels").datasource(DATA_SOURCE)
        )
    number = 0
    for heading, panels in rows:
        number += 1
        made = made.with_row(dashboard.Row(heading).id(number))
        for panel in panels:
            number += 1
            made = made.with_panel(panel.id(number))
    return made

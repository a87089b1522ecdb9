"""What the panels of all dashboards share: colours, words, units and the ways to draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    DynamicConfigValue,
    FieldColorModeId,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.queries import coded
from quota.decision import Phase, PoolName, Status

Drawn = TypeVar("Drawn", bargauge.Panel, stat.Panel, statetimeline.Panel, timeseries.Panel)
Panel = bargauge.Panel | stat.Panel | statetimeline.Panel | table.Panel | text.Panel | timeseries.Panel

YUAN = "currency:¥"
"""Grafana has no unit for the renminbi; this is its way to make one."""

NOT_TODAY_S = 86_400
"""Stands for an infinite forecast, because no value can be mapped to a word by being infinite."""

WHOSE = "Of the events that quotad is fed: the exchange's own balance only if that is the whole market."

NAMES = {
    PoolName.NB_SH: "NB-SH 沪股通",
    PoolName.NB_SZ: "NB-SZ 深股通",
    PoolName.SB_SH: "SB-SH 港股通(沪)",
    PoolName.SB_SZ: "SB-SZ 港股通(深)",
}

# Red, orange, yellow, green and purple say how things are; the pools have colours that say nothing.
_POOL_COLOURS = {
    PoolName.NB_SH: "#3274D9",
    PoolName.NB_SZ: "#8AB8FF",
    PoolName.SB_SH: "#1F9E89",
    PoolName.SB_SZ: "#7ED6C4",
}
STATUS_COLOURS = {
    "open": "green",
    "suspended": "yellow",
    "closed": "text",
    "exhausted": "red",
    "halted": "purple",
}
_PHASE_COLOURS = {
    "closed": "text",
    "opening": "light-blue",
    "continuous": "green",
    "break": "light-yellow",
    "closing": "light-orange",
}


# Queries.


def over_time(expr: str, legend: str, ref: str = "A") -> prometheus.Dataquery:
    """Ask Prometheus for a range."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref).range()


def now(expr: str, legend: str, ref: str = "A") -> prometheus.Dataquery:
    """Ask Prometheus for the present value."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref).instant()


def column(expr: str, ref: str) -> prometheus.Dataquery:
    """Ask Prometheus for the present values as a column of a table."""
    return now(expr, "", ref).format(PromQueryFormat.TABLE)


# Colours and words.


def steps(*pairs: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colour by value: from which value on which colour."""
    marks = [Threshold(value=value, color=colour) for value, colour in pairs]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(marks)


def plain() -> dashboard.ThresholdsConfig:
    """Give every value the colour of text: it is neither good nor bad."""
    return steps((None, "text"))


def used_steps(whole: float = 1) -> dashboard.ThresholdsConfig:
    """Colour a used share by the levels at which quotad alerts: 70, 90 and 100 per cent."""
    return steps((None, "green"), (0.7 * whole, "yellow"), (0.9 * whole, "orange"), (whole, "red"))


def eta_steps() -> dashboard.ThresholdsConfig:
    """Colour the time left by the times at which the alerts warn: 30 and 10 minutes."""
    return steps((None, "red"), (600, "orange"), (1800, "yellow"), (3600, "green"))


def pace_steps() -> dashboard.ThresholdsConfig:
    """Colour the pace: above 1 the quota does not last."""
    return steps((None, "green"), (0.9, "yellow"), (1, "orange"), (1.2, "red"))


def words(*pairs: tuple[float, str, str]) -> ValueMap:
    """Write certain values as words: value, word, colour."""
    return ValueMap(
        {
            f"{value:g}": ValueMappingResult(text=word, color=colour, index=place)
            for place, (value, word, colour) in enumerate(pairs)
        }
    )


def unknown(word: str = "unknown") -> SpecialValueMap:
    """Write what is not known as a word: it is not zero."""
    result = ValueMappingResult(text=word, color="text")
    return SpecialValueMap(
        DashboardSpecialValueMapOptions(match=SpecialValueMatch.NULL_AND_NAN, result=result)
    )


def mapping(states: Iterable[str], colours: Mapping[str, str]) -> ValueMap:
    """Give the numbers of ``coded`` their words and colours back."""
    return words(*((place, str(state), colours[state]) for place, state in enumerate(states)))


def status_words() -> ValueMap:
    """Write statuses."""
    return mapping(Status, STATUS_COLOURS)


def phase_words() -> ValueMap:
    """Write phases."""
    return mapping(Phase, _PHASE_COLOURS)


def eta_words() -> ValueMap:
    """Write the two ends of a forecast."""
    return words((0, "used up", "red"), (NOT_TODAY_S, "not today", "green"))


def yes_no(yes: str = "connected", no: str = "away") -> ValueMap:
    """Write a metric that is 0 or 1."""
    return words((0, no, "red"), (1, yes, "green"))


def named(panel: Drawn) -> Drawn:
    """Give each pool, whose series is called by its name alone, its Chinese name and its own colour."""
    for pool, name in NAMES.items():
        colour = {"mode": "fixed", "fixedColor": _POOL_COLOURS[pool]}
        properties = [DynamicConfigValue("displayName", name)]
        if isinstance(panel, timeseries.Panel):
            properties.append(DynamicConfigValue("color", colour))
        panel.override_by_name(str(pool), properties)
    return panel


# Drawing.


def last() -> common.ReduceDataOptions:
    """Show the latest value, known or not: an old one would look like the present."""
    return common.ReduceDataOptions().calcs(["last"]).fields("")


def legend(*calcs: str) -> common.VizLegendOptions:
    """Put the legend below: a table where it shows figures, else one line."""
    shape = shapes.LegendDisplayMode.TABLE if calcs else shapes.LegendDisplayMode.LIST
    options = common.VizLegendOptions().display_mode(shape).placement(shapes.LegendPlacement.BOTTOM)
    return options.show_legend(show_legend=True).calcs(list(calcs))


def lines(title: str, description: str, unit: str, calcs: Sequence[str] = ()) -> timeseries.Panel:
    """Start a panel of lines; where a value is not known, the line is broken."""
    tooltip = common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI)
    tooltip = tooltip.sort(shapes.SortOrder.DESCENDING)
    panel = timeseries.Panel().title(title).description(description).unit(unit).legend(legend(*calcs))
    panel = panel.tooltip(tooltip).line_width(1).fill_opacity(5)
    return panel.show_points(shapes.VisibilityMode.NEVER).span_nulls(span_nulls=False)


def bars(title: str, description: str, unit: str = "short") -> timeseries.Panel:
    """Start a panel of counts, drawn as bars from zero."""
    panel = lines(title, description, unit, ("sum",)).min(0).draw_style(shapes.GraphDrawStyle.BARS)
    return panel.fill_opacity(60)


def step_lines(title: str, description: str, unit: str) -> timeseries.Panel:
    """Start a panel of values that jump."""
    return lines(title, description, unit).line_interpolation(shapes.LineInterpolation.STEP_AFTER)


def threshold_lines(panel: timeseries.Panel, marks: dashboard.ThresholdsConfig) -> timeseries.Panel:
    """Draw thresholds as dashed lines."""
    style = common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(marks).thresholds_style(style)


def dashed(panel: timeseries.Panel, name: str, colour: str) -> timeseries.Panel:
    """Draw a series as a dashed line without area: it is a yardstick, not a measurement."""
    return panel.override_by_name(
        name,
        [
            DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}),
            DynamicConfigValue("custom.fillOpacity", 0),
            DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour}),
        ],
    )


def coloured(panel: timeseries.Panel, pattern: str, colour: str) -> timeseries.Panel:
    """Give the series whose names match a pattern a colour."""
    return panel.override_by_regexp(
        pattern, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})]
    )


def figures(title: str, description: str, unit: str) -> stat.Panel:
    """Start a panel of present values in large type."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .mappings([unknown()])
        .no_value("unknown")
        .thresholds(plain())
        .color_mode(shapes.BigValueColorMode.VALUE)
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .justify_mode(shapes.BigValueJustifyMode.CENTER)
        .reduce_options(last())
    )


def timeline(title: str, description: str, metric: str) -> statetimeline.Panel:
    """One band per pool, in the words of its states."""
    states, known = (Status, status_words()) if metric == "quota_status" else (Phase, phase_words())
    tooltip = common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.SINGLE)
    panel = statetimeline.Panel().title(title).description(description).mappings([known])
    panel = panel.with_target(over_time(coded(metric, states), "{{pool}}"))
    panel = panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS)).thresholds(plain())
    panel = panel.merge_values(merge_values=True).show_value(shapes.VisibilityMode.AUTO)
    panel = panel.row_height(0.8).fill_opacity(80).line_width(0).no_value("unknown").tooltip(tooltip)
    return named(panel.legend(common.VizLegendOptions().show_legend(show_legend=False)))

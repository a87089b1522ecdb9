"""The overview of the pools as code: ``python -m grafana.overview`` writes the dashboard's JSON.

The words of statuses and phases come from ``quota.decision``, so a new one cannot be forgotten here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardSpecialValueMapOptions,
    DataSourceRef,
    FieldColorModeId,
    GridPos,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
)

from quota.decision import Phase, Status

OUTPUT = Path(__file__).parent / "dashboards" / "overview.json"

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_POOL = '{pool=~"$pool"}'
_YUAN = "currency:¥"
_WHOSE = "Of the events that quotad is fed: the exchange's own balance only if that is the whole market."
_STATUS_COLOURS = {
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
    "closing": "orange",
}


_Panel = stat.Panel | bargauge.Panel | statetimeline.Panel | timeseries.Panel


def query(expr: str, legend: str, ref: str = "A") -> prometheus.Dataquery:
    """Ask Prometheus for a range."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref).range()


def now(expr: str, legend: str, ref: str = "A") -> prometheus.Dataquery:
    """Ask Prometheus for the present value."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref).instant()


def coded(metric: str, states: Iterable[str]) -> str:
    """Number the present state: one series per pool, whose value is the state's place.

    A pool that was never read is in no state, and has no value.
    """
    name = metric.removeprefix("quota_")
    parts = (
        f'(({metric}{{pool=~"$pool", {name}="{state}"}} == 1) * 0 + {place})'
        for place, state in enumerate(states)
    )
    return f"max by (pool) ({' or '.join(parts)})"


def mapping(states: Iterable[str], colours: Mapping[str, str]) -> ValueMap:
    """Give the numbers of ``coded`` their words and colours back."""
    return ValueMap(
        {
            str(place): ValueMappingResult(text=str(state), color=colours[state], index=place)
            for place, state in enumerate(states)
        }
    )


def unknown() -> SpecialValueMap:
    """Write what is not known as a word: it is not zero."""
    result = ValueMappingResult(text="unknown", color="text")
    return SpecialValueMap(
        DashboardSpecialValueMapOptions(match=SpecialValueMatch.NULL_AND_NAN, result=result)
    )


def steps(*pairs: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colour by value: from which value on which colour."""
    marks = [Threshold(value=value, color=colour) for value, colour in pairs]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(marks)


def fixed(mode: FieldColorModeId) -> dashboard.FieldColor:
    """Choose how a panel colours its values."""
    return dashboard.FieldColor().mode(mode)


def last() -> common.ReduceDataOptions:
    """Show the latest value, known or not: an old one would look like the present."""
    return common.ReduceDataOptions().calcs(["last"]).fields("")


def lines(unit: str) -> timeseries.Panel:
    """Start a panel of lines; where a value is not known, the line is broken."""
    legend = (
        common.VizLegendOptions().display_mode(shapes.LegendDisplayMode.LIST).show_legend(show_legend=True)
    )
    tooltip = common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI)
    panel = timeseries.Panel().unit(unit).legend(legend.placement(shapes.LegendPlacement.BOTTOM))
    return panel.tooltip(tooltip).line_width(1).fill_opacity(5).show_points(shapes.VisibilityMode.NEVER)


def remaining() -> stat.Panel:
    """Each pool's balance."""
    return (
        stat.Panel()
        .title("Remaining")
        .description(f"Balance in RMB; below zero and above the quota as it comes. {_WHOSE}")
        .with_target(now(f"quota_balance_yuan{_POOL}", "{{pool}}"))
        .unit(_YUAN)
        .decimals(3)
        .mappings([unknown()])
        .thresholds(steps((None, "red"), (0.01, "green")))
        .color_mode(shapes.BigValueColorMode.VALUE)
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .reduce_options(last())
    )


def used() -> bargauge.Panel:
    """Each pool's used share."""
    return (
        bargauge.Panel()
        .title("Used")
        .description(f"Share of the day's quota that is used. {_WHOSE}")
        .with_target(now(f"quota_used_ratio{_POOL}", "{{pool}}"))
        .unit("percentunit")
        .decimals(1)
        .min(0)
        .max(1)
        .mappings([unknown()])
        .thresholds(steps((None, "green"), (0.5, "yellow"), (0.7, "orange"), (0.9, "red")))
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .reduce_options(last())
    )


def timeline(title: str, description: str, expr: str, words: ValueMap) -> statetimeline.Panel:
    """One band per pool, in the words of its states."""
    panel = statetimeline.Panel().title(title).description(description).with_target(query(expr, "{{pool}}"))
    return (
        panel.mappings([words])
        .color_scheme(fixed(FieldColorModeId.THRESHOLDS))
        .merge_values(merge_values=True)
        .show_value(shapes.VisibilityMode.AUTO)
        .row_height(0.8)
        .fill_opacity(80)
    )


def statuses() -> statetimeline.Panel:
    """Each pool's status over time."""
    text = "The first that holds: halted, exhausted, closed, suspended, open. Sells are taken in all of them."
    return timeline("Status", text, coded("quota_status", Status), mapping(Status, _STATUS_COLOURS))


def phases() -> statetimeline.Panel:
    """Each pool's phase over time."""
    text = "The phase of the trading day, by the store's clock."
    return timeline("Phase", text, coded("quota_phase", Phase), mapping(Phase, _PHASE_COLOURS))


def balance() -> timeseries.Panel:
    """Balances over time."""
    panel = lines(_YUAN).title("Balance").description(f"In RMB. {_WHOSE}")
    return panel.with_target(query(f"quota_balance_yuan{_POOL}", "{{pool}}"))


def decisions() -> timeseries.Panel:
    """Decisions a second by verdict."""
    expr = f"sum by (side, verdict) (rate(quota_decisions_total{_POOL}[$__rate_interval])) > 0"
    text = "First decisions on new orders per second, whoever asked: a gateway in the store or MQTT."
    panel = lines("ops").title("Decisions by verdict").description(text)
    return panel.with_target(query(expr, "{{side}} {{verdict}}"))


def level() -> timeseries.Panel:
    """Alert levels over time."""
    text = "Highest alert level reached, in per cent of the quota; left again one per cent below."
    panel = lines("percent").title("Level").description(text).min(0).max(100)
    panel = panel.line_interpolation(shapes.LineInterpolation.STEP_AFTER)
    return panel.with_target(query(f"quota_level{_POOL}", "{{pool}}"))


def lag() -> timeseries.Panel:
    """How late events are decided."""
    text = "From an event's own time to its decision. Clocks that disagree show here too."
    panel = lines("s").title("Event lag").description(text)
    for ref, share in (("A", 0.5), ("B", 0.99)):
        buckets = "sum by (le) (rate(quota_event_lag_seconds_bucket[$__rate_interval]))"
        panel.with_target(query(f"histogram_quantile({share}, {buckets})", f"{share:.0%}", ref))
    return panel


def connected() -> stat.Panel:
    """Whether the broker and the store are reached."""
    words = ValueMap(
        {
            "0": ValueMappingResult(text="away", color="red", index=0),
            "1": ValueMappingResult(text="connected", color="green", index=1),
        }
    )
    return (
        stat.Panel()
        .title("Connections")
        .description("Whether this daemon reaches the broker and the store.")
        .with_target(now("quota_feed_connected", "broker", "A"))
        .with_target(now("quota_redis_connected", "store", "B"))
        .mappings([words])
        .no_value("no daemon")
        .color_mode(shapes.BigValueColorMode.BACKGROUND)
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .reduce_options(last())
    )


def dead_letters() -> timeseries.Panel:
    """Events that could not be applied."""
    text = "Events that were mistakes: not applied, kept under the topic dead. Any at all is worth a look."
    expr = 'sum by (pool, event) (increase(quota_events_total{outcome="dead"}[$__rate_interval])) > 0'
    panel = lines("short").title("Dead letters").description(text).min(0)
    return panel.draw_style(shapes.GraphDrawStyle.BARS).with_target(query(expr, "{{pool}} {{event}}"))


LAYOUT: tuple[tuple[_Panel, GridPos], ...] = (
    (remaining(), GridPos(h=6, w=12, x=0, y=0)),
    (used(), GridPos(h=6, w=8, x=12, y=0)),
    (connected(), GridPos(h=6, w=4, x=20, y=0)),
    (statuses(), GridPos(h=7, w=12, x=0, y=6)),
    (phases(), GridPos(h=7, w=12, x=12, y=6)),
    (balance(), GridPos(h=9, w=12, x=0, y=13)),
    (decisions(), GridPos(h=9, w=12, x=12, y=13)),
    (level(), GridPos(h=7, w=8, x=0, y=22)),
    (lag(), GridPos(h=7, w=8, x=8, y=22)),
    (dead_letters(), GridPos(h=7, w=8, x=16, y=22)),
)


def overview() -> str:
    """Build the dashboard and write it as JSON."""
    pools = dashboard.QueryVariable("pool").label("Pool").datasource(_SOURCE)
    pools = pools.query("label_values(quota_seq, pool)").refresh(VariableRefresh.ON_DASHBOARD_LOAD)
    built = (
        dashboard.Dashboard("quotad: pools")
        .uid("quotad-overview")
        .description(f"Daily quota of Stock Connect. {_WHOSE}")
        .tags(["quotad"])
        .timezone("Asia/Shanghai")
        .time("now-6h", "now")
        .refresh("5s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(pools.multi(multi=True).include_all(include_all=True).all_value(".*"))
    )
    for number, (panel, place) in enumerate(LAYOUT, start=1):
        built.with_panel(panel.id(number).datasource(_SOURCE).grid_pos(place))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(overview(), "utf-8")
    print(f"wrote {OUTPUT}")

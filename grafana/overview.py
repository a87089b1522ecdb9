"""The desk's dashboard: four pools on one screen."""

from __future__ import annotations

from grafana_foundation_sdk.builders import bargauge, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue

from grafana.board import Board, changes, one_job, pools, to_pool, whose
from grafana.panels import (
    NAMES,
    NOT_TODAY_S,
    WHOSE,
    YUAN,
    coloured,
    column,
    dashed,
    eta_steps,
    eta_words,
    figures,
    last,
    lines,
    named,
    now,
    over_time,
    pace_steps,
    step_lines,
    steps,
    threshold_lines,
    timeline,
    unknown,
    used_steps,
    yes_no,
)
from grafana.queries import OF_POOL, decided, of_pool

_THIS_POOL = "${__field.labels.pool}"
_ALL_COUNTED = "quota_decisions_total"


def remaining() -> stat.Panel:
    """Each pool's balance."""
    text = f"Balance in RMB; below zero and above the quota as it comes. {WHOSE}"
    panel = figures("Remaining, of the events that quotad is fed", text, YUAN).decimals(3)
    panel = panel.with_target(now(of_pool("quota_balance_yuan"), "{{pool}}"))
    panel = panel.thresholds(steps((None, "red"), (0.01, "green"))).data_links([to_pool(_THIS_POOL)])
    panel = panel.orientation(shapes.VizOrientation.VERTICAL)
    return named(panel.text_mode(shapes.BigValueTextMode.VALUE_AND_NAME))


def live() -> stat.Panel:
    """Whether the figures are of this moment."""
    text = (
        "Whether any daemon reaches the broker and any the store, and how long ago the pool that was "
        "read least recently was read. Away or old: what you see here is not the present."
    )
    oldest = f"max(time() - max by (pool) (quota_pool_read_timestamp_seconds{{{OF_POOL}}}))"
    marks = {"mode": "absolute", "steps": [{"value": None, "color": "green"}, {"value": 15, "color": "red"}]}
    panel = figures("Is it live", text, "none").mappings([yes_no(), unknown()]).no_value("no daemon")
    panel = panel.with_target(now('max(quota_feed_connected{job=~"$job"})', "broker", "A"))
    panel = panel.with_target(now('max(quota_redis_connected{job=~"$job"})', "store", "B"))
    panel = panel.with_target(now(oldest, "age", "C")).orientation(shapes.VizOrientation.HORIZONTAL)
    return panel.override_by_query(
        "C",
        [
            DynamicConfigValue("unit", "s"),
            DynamicConfigValue("decimals", 0),
            DynamicConfigValue("mappings", []),
            DynamicConfigValue("thresholds", marks),
        ],
    )


def used() -> bargauge.Panel:
    """Each pool's used share."""
    panel = bargauge.Panel().title("Used").description(f"Share of the day's quota that is used. {WHOSE}")
    panel = panel.with_target(now(of_pool("quota_used_ratio"), "{{pool}}")).unit("percentunit").decimals(1)
    panel = panel.min(0).max(1).mappings([unknown()]).no_value("unknown").thresholds(used_steps())
    panel = panel.orientation(shapes.VizOrientation.HORIZONTAL).reduce_options(last())
    panel = panel.display_mode(shapes.BarGaugeDisplayMode.BASIC).value_mode(shapes.BarGaugeValueMode.TEXT)
    return named(panel.show_unfilled(show_unfilled=True).data_links([to_pool(_THIS_POOL)]))


def eta() -> stat.Panel:
    """When each pool will be used up."""
    text = (
        "Time until the pool is used up, the break included, as things go now; not today where it "
        "will not be before the close; unknown where no day is open."
    )
    expr = f"clamp_max({of_pool('quota_exhaustion_eta_seconds', fold='min')}, {NOT_TODAY_S})"
    panel = figures("Used up in", text, "s").decimals(0).mappings([eta_words(), unknown()])
    panel = panel.with_target(now(expr, "{{pool}}")).thresholds(eta_steps())
    panel = panel.orientation(shapes.VizOrientation.VERTICAL).data_links([to_pool(_THIS_POOL)])
    return named(panel.text_mode(shapes.BigValueTextMode.VALUE_AND_NAME))


def against_pace(title: str) -> timeseries.Panel:
    """Balance, the day's pace line, and the line below which the exchanges publish figures."""
    text = (
        "Below the pace line, the quota goes faster than on a usual day that uses all of it. The "
        f"exchanges publish a figure only below 30 per cent of the quota. {WHOSE}"
    )
    limit = of_pool("quota_limit_yuan")
    panel = lines(title, text, YUAN).axis_soft_min(0).line_width(2).fill_opacity(10)
    panel = panel.with_target(over_time(of_pool("quota_balance_yuan"), "balance", "A"))
    panel = panel.with_target(
        over_time(f"{limit} * on (pool) (1 - {of_pool('quota_usual_day_ratio')})", "pace", "B")
    )
    panel = panel.with_target(over_time(f"0.3 * {limit}", "published below", "C"))
    panel = dashed(dashed(panel, "pace", "orange"), "published below", "text")
    return coloured(panel, "/^balance$/", "blue")


def statuses() -> statetimeline.Panel:
    """Each pool's status over time."""
    text = "The first that holds: halted, exhausted, closed, suspended, open. Sells are taken in all of them."
    return timeline("Status", text, "quota_status")


def today() -> table.Panel:
    """Accepted and refused, and how the day goes, in figures."""
    text = (
        "First decisions of the pool's day; sells are refused for mistakes and out of hours only. Net "
        "use is what the pool lost a second over ten minutes; pace above 1 does not last to the close."
    )
    panel = table.Panel().title("Today").description(text).unit("short").mappings([unknown()])
    for ref, expr, _ in COLUMNS:
        panel.with_target(column(expr, ref))
    names = {f"Value #{ref}": name for ref, _, name in COLUMNS} | {"pool": "Pool"}
    order = {"pool": 0} | {f"Value #{ref}": place for place, (ref, _, _) in enumerate(COLUMNS, start=1)}
    options = {"excludeByName": {"Time": True}, "renameByName": names, "indexByName": order}
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(DataTransformerConfig(id_val="organize", options=options))
    known = [{"type": "value", "options": {str(pool): {"text": name} for pool, name in NAMES.items()}}]
    panel.override_by_name(
        "Pool", [DynamicConfigValue("mappings", known), DynamicConfigValue("custom.width", 150)]
    )
    panel.override_by_name("Net use", [DynamicConfigValue("unit", YUAN), DynamicConfigValue("decimals", 1)])
    panel.override_by_name("Usual day", [DynamicConfigValue("unit", "percentunit")])
    panel.override_by_name("Pace", _PACE_CELL)
    return panel.no_value("unknown").cell_height(shapes.TableCellHeight.SM)


def _counted(*labels: str) -> str:
    return f"sum by (pool) ({of_pool(_ALL_COUNTED, *labels, by='pool, side, verdict')})"


COLUMNS = (
    ("A", _counted('side="buy"', 'verdict="accepted"'), "Buys accepted"),
    ("B", _counted('side="buy"', 'verdict!="accepted"'), "Buys refused"),
    ("C", _counted('side="sell"', 'verdict="accepted"'), "Sells accepted"),
    ("D", _counted('side="sell"', 'verdict!="accepted"'), "Sells refused"),
    ("E", of_pool("quota_net_use_yuan_per_second", 'window="10m"'), "Net use"),
    ("F", of_pool("quota_pace_ratio"), "Pace"),
    ("G", of_pool("quota_usual_day_ratio"), "Usual day"),
)

_PACE_CELL = [
    DynamicConfigValue("decimals", 2),
    DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
    DynamicConfigValue("thresholds", pace_steps().build()),
]


def accepted_and_refused() -> timeseries.Panel:
    """Buys a second, accepted above the line and refused below."""
    text = "First decisions on buys per second, accepted above the line and refused below it."
    panel = lines("Buys accepted and refused", text, "ops", ("mean", "max"))
    accepted = decided("pool", 'side="buy"', 'verdict="accepted"')
    refused = decided("pool", 'side="buy"', 'verdict!="accepted"')
    panel = panel.with_target(over_time(accepted, "{{pool}} accepted", "A"))
    panel = panel.with_target(over_time(refused, "{{pool}} refused", "B"))
    panel = panel.override_by_regexp("/ refused$/", [DynamicConfigValue("custom.transform", "negative-Y")])
    return coloured(coloured(panel, "/ accepted$/", "green"), "/ refused$/", "red")


def pace() -> timeseries.Panel:
    """Pace over time."""
    text = "Used share against the share of the usual day that has gone by; above 1 it does not last."
    panel = lines("Pace", text, "none", ("last",)).decimals(2).min(0)
    panel = panel.with_target(over_time(of_pool("quota_pace_ratio"), "{{pool}}"))
    return named(threshold_lines(panel, steps((None, "transparent"), (1, "red"))))


def levels() -> timeseries.Panel:
    """Alert levels over time."""
    text = "Highest alert level reached, in per cent of the quota; left again one per cent below."
    panel = step_lines("Level", text, "percent").min(0).max(100)
    return named(panel.with_target(over_time(of_pool("quota_level"), "{{pool}}")))


def phases() -> statetimeline.Panel:
    """Each pool's phase over time."""
    return timeline("Phase", "The phase of the trading day, by the store's clock.", "quota_phase")


def board() -> Board:
    """Put it on one screen of 1080 lines: 22 rows; what is below them is for a second look."""
    repeated = against_pace("$pool: balance and pace").repeat("pool").repeat_direction("h").max_per_row(4)
    return Board(
        "overview",
        f"The daily quota of Stock Connect, for the desk. {WHOSE}",
        (one_job(), pools()),
        (
            (remaining(), (0, 0, 20, 4)),
            (live(), (20, 0, 4, 9)),
            (used(), (0, 4, 10, 5)),
            (eta(), (10, 4, 10, 5)),
            (repeated, (0, 9, 24, 7)),
            (statuses(), (0, 16, 11, 6)),
            (today(), (11, 16, 13, 6)),
            (accepted_and_refused(), (0, 22, 12, 9)),
            (pace(), (12, 22, 12, 9)),
            (phases(), (0, 31, 12, 6)),
            (levels(), (12, 31, 12, 6)),
            (whose(), (0, 37, 24, 3)),
        ),
        changes(),
    )

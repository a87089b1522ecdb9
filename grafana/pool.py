"""The dashboard of one pool: what its balance is made of, what was decided, and where it is going."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, ValueMap

from grafana.board import Board, changes, one_job, one_pool, whose
from grafana.overview import against_pace, levels, phases, statuses
from grafana.panels import (
    NOT_TODAY_S,
    WHOSE,
    YUAN,
    bars,
    coloured,
    eta_steps,
    eta_words,
    figures,
    lines,
    now,
    over_time,
    pace_steps,
    phase_words,
    status_words,
    steps,
    threshold_lines,
    unknown,
    used_steps,
    words,
)
from grafana.queries import OF_POOL, coded, decided, of_pool, quantile
from quota.decision import Phase, Status

_JOB = 'job=~"$job"'
_ETA = f"clamp_max({of_pool('quota_exhaustion_eta_seconds', fold='min')}, {NOT_TODAY_S})"
TERMS = (
    ("Limit", "quota_limit_yuan"),
    ("− open buys", "quota_open_buy_orders_yuan"),
    ("− filled buys", "quota_filled_buys_yuan"),
    ("+ filled sells", "quota_filled_sells_yuan"),
    ("= balance", "quota_balance_yuan"),
)
"""The terms of the balance, as they are added up."""


def _word(title: str, description: str, expr: str, known: ValueMap) -> stat.Panel:
    panel = figures(title, description, "none").mappings([known, unknown()])
    panel = panel.color_mode(shapes.BigValueColorMode.BACKGROUND)
    return panel.with_target(now(expr, "{{pool}}"))


def status() -> stat.Panel:
    """What the pool does now."""
    text = "The first that holds: halted, exhausted, closed, suspended, open. Sells are taken in all of them."
    return _word("Status", text, coded("quota_status", Status), status_words())


def phase() -> stat.Panel:
    """Where the trading day is."""
    return _word("Phase", "The phase of the trading day.", coded("quota_phase", Phase), phase_words())


def used() -> stat.Panel:
    """How much of the quota is used."""
    panel = figures("Used", f"Share of the day's quota that is used. {WHOSE}", "percentunit").decimals(1)
    return panel.with_target(now(of_pool("quota_used_ratio"), "{{pool}}")).thresholds(used_steps())


def eta() -> stat.Panel:
    """When it will be used up."""
    text = "Time until the pool is used up, the break included; not today where it lasts to the close."
    panel = figures("Used up in", text, "s").decimals(0).mappings([eta_words(), unknown()])
    return panel.with_target(now(_ETA, "{{pool}}")).thresholds(eta_steps())


def pace() -> stat.Panel:
    """Whether it lasts."""
    text = "Used share against the share of the usual day that has gone by; above 1 it does not last."
    panel = figures("Pace", text, "none").decimals(2).thresholds(pace_steps())
    return panel.with_target(now(of_pool("quota_pace_ratio"), "{{pool}}"))


def read_age() -> stat.Panel:
    """How old these figures are."""
    text = "How long ago the store was last asked for this pool: usually less than two scrapes."
    expr = f"time() - max by (pool) (quota_pool_read_timestamp_seconds{{{OF_POOL}}})"
    panel = figures("Age", text, "s").decimals(0).thresholds(steps((None, "green"), (15, "red")))
    return panel.with_target(now(expr, "{{pool}}"))


def trading_day() -> stat.Panel:
    """Which day is open."""
    text = "Midnight of the pool's open trading day in China; unknown where no day is open."
    panel = figures("Trading day", text, "dateTimeAsIso")
    return panel.with_target(now(f"1000 * {of_pool('quota_trading_day_timestamp_seconds')}", "{{pool}}"))


def verified() -> stat.Panel:
    """When the journal was last checked."""
    text = "When quotad verify last folded the pool's journal and compared it with the record."
    panel = figures("Verified", text, "dateTimeFromNow").mappings([words((0, "never", "text")), unknown()])
    return panel.with_target(now(f"1000 * {of_pool('quota_verified_timestamp_seconds')}", "{{pool}}"))


def differences() -> stat.Panel:
    """What that check found."""
    text = "Differences that the last quotad verify of the open day found; any at all is a fault."
    panel = figures("Differences", text, "none").mappings([unknown("not verified")])
    panel = panel.thresholds(steps((None, "green"), (1, "red")))
    return panel.with_target(now(of_pool("quota_verify_differences"), "{{pool}}"))


def journal() -> stat.Panel:
    """How long the day's journal is."""
    text = "Number of the last entry of the day's journal: every change of the pool has one."
    panel = figures("Journal entries", text, "locale")
    return panel.with_target(now(of_pool("quota_seq"), "{{pool}}"))


def sum_of_terms() -> stat.Panel:
    """Write the balance as the sum that it is."""
    text = f"Quota − buys in the book − buys traded + sells traded = balance, in RMB. {WHOSE}"
    panel = figures("Limit − open buys − filled buys + filled sells = balance", text, YUAN).decimals(3)
    for ref, (title, metric) in zip("ABCDE", TERMS, strict=True):
        panel.with_target(now(of_pool(metric), title, ref))
    panel = panel.text_mode(shapes.BigValueTextMode.VALUE_AND_NAME)
    marks = steps((None, "red"), (0.01, "green")).build()
    return panel.override_by_name("= balance", [DynamicConfigValue("thresholds", marks)])


def terms() -> timeseries.Panel:
    """How each term has grown."""
    text = f"The three terms that move the balance, in RMB; the limit is in the sum above. {WHOSE}"
    panel = lines("Terms of the balance", text, YUAN, ("last", "max")).min(0)
    for ref, (title, metric) in zip("ABC", TERMS[1:4], strict=True):
        panel.with_target(over_time(of_pool(metric), title, ref))
    for name, colour in (("open", "yellow"), ("filled buys", "orange"), ("filled sells", "green")):
        panel = coloured(panel, f"/{name}/", colour)
    return panel


def net_use() -> timeseries.Panel:
    """How fast the quota goes."""
    text = "What the pool loses per second of open market, in RMB; below zero it recovers."
    panel = lines("Net use per second", text, YUAN, ("last", "max")).axis_centered_zero(
        axis_centered_zero=False
    )
    for ref, window in (("A", "1m"), ("B", "10m")):
        expr = of_pool("quota_net_use_yuan_per_second", f'window="{window}"')
        panel.with_target(over_time(expr, f"over {window}", ref))
    return panel


def forecast() -> timeseries.Panel:
    """What was expected, and when."""
    text = "Time until the pool is used up, as expected at each moment; above the chart: not today."
    panel = lines("Used up in", text, "s").min(0).max(6 * 3600).with_target(over_time(_ETA, "used up in"))
    return threshold_lines(panel, steps((None, "transparent"), (600, "red"), (1800, "orange")))


def used_and_usual() -> timeseries.Panel:
    """The day's use against the usual day."""
    text = "Share of the quota that is used, and share of the usual day's use that has gone by."
    panel = lines("Used and usual", text, "percentunit", ("last",)).axis_soft_min(0).axis_soft_max(1)
    panel = panel.with_target(over_time(of_pool("quota_used_ratio"), "used", "A"))
    panel = panel.with_target(over_time(of_pool("quota_usual_day_ratio"), "usual day", "B"))
    return coloured(coloured(panel, "/^used$/", "blue"), "/^usual day$/", "orange")


def paces() -> timeseries.Panel:
    """The pace over the day."""
    text = "Used share divided by the usual day's share; above 1 the quota does not last to the close."
    panel = lines("Pace", text, "none", ("last", "max")).decimals(2).min(0)
    panel = panel.with_target(over_time(of_pool("quota_pace_ratio"), "pace"))
    return threshold_lines(panel, steps((None, "transparent"), (1, "red")))


def decisions() -> timeseries.Panel:
    """Decisions a second by verdict."""
    text = "First decisions on new orders per second, whoever asked: a gateway in the store or MQTT."
    panel = lines("Decisions by verdict", text, "ops", ("mean", "max")).min(0)
    panel = panel.with_target(over_time(decided("side, verdict"), "{{side}} {{verdict}}"))
    panel = coloured(panel, "/ accepted$/", "green")
    return coloured(panel, "/^buy (exhausted|insufficient)$/", "red")


def violations() -> timeseries.Panel:
    """Facts that should not be."""
    text = "Facts that should not be, such as a refused order that traded. Any at all is worth a look."
    count = f"increase(quota_violations_total{{{OF_POOL}}}[$__rate_interval])"
    panel = bars("Violations", text)
    return panel.with_target(over_time(f"max by (kind) ({count})", "{{kind}}"))


def missing() -> timeseries.Panel:
    """Numbered events that have not come."""
    text = "Events that their sources numbered and that have not come, and for how long the oldest has not."
    panel = lines("Missing events", text, "none", ("last", "max")).min(0).decimals(0)
    for ref, (title, metric) in zip(
        "ABC",
        (
            ("missing", "quota_gap_events"),
            ("of them not listed", "quota_gap_unlisted_events"),
            ("not watched", "quota_gap_unwatched_events"),
        ),
        strict=True,
    ):
        panel.with_target(over_time(of_pool(metric), title, ref))
    panel.with_target(over_time(of_pool("quota_gap_oldest_seconds"), "oldest, in seconds", "D"))
    return coloured(panel, "/^missing$/", "red")


def lag() -> timeseries.Panel:
    """How late events are decided, over all pools: the slowest daemon counts."""
    text = "From an event's own time to its decision, of all pools, in the slowest of the daemons."
    panel = lines("Event lag", text, "s", ("mean", "max")).min(0)
    for ref, share in (("A", 0.5), ("B", 0.99)):
        expr = f"max({quantile(share, 'quota_event_lag_seconds', _JOB)})"
        panel.with_target(over_time(expr, f"p{100 * share:g}", ref))
    return panel


def board() -> Board:
    """Put it together: what is, what it is made of, where it goes, what was decided."""
    top = (status(), phase(), used(), eta(), pace(), read_age())
    bottom = (trading_day(), journal(), verified(), differences())
    return Board(
        "pool",
        f"One pool of Stock Connect: the terms of its balance, its decisions, its forecast. {WHOSE}",
        (one_job(), one_pool()),
        (
            *((panel, (4 * place, 0, 4, 4)) for place, panel in enumerate(top)),
            (sum_of_terms(), (0, 4, 24, 4)),
            (against_pace("Balance and pace"), (0, 8, 12, 9)),
            (terms(), (12, 8, 12, 9)),
            (statuses(), (0, 17, 12, 3)),
            (phases(), (12, 17, 12, 3)),
            (net_use(), (0, 20, 8, 8)),
            (forecast(), (8, 20, 8, 8)),
            (paces(), (16, 20, 8, 8)),
            (decisions(), (0, 28, 12, 9)),
            (used_and_usual(), (12, 28, 12, 9)),
            (levels(), (0, 37, 6, 7)),
            (lag(), (6, 37, 6, 7)),
            (violations(), (12, 37, 6, 7)),
            (missing(), (18, 37, 6, 7)),
            *((panel, (6 * place, 44, 6, 4)) for place, panel in enumerate(bottom)),
            (whose(), (0, 48, 24, 3)),
        ),
        changes(),
    )

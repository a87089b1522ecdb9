"""What a daemon does with events: how many, how fast, how late, and how many are under way."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from grafana.panels import bars, coloured, lines, over_time, steps, threshold_lines
from grafana.queries import increase, of_daemon, quantile, rate

_WINDOW = 1000
"""The default of the setting mqtt.window: so many deliveries may wait for their acknowledgement."""


def throughput() -> timeseries.Panel:
    """Events a second by what became of them."""
    text = "Events per second, by what became of them: applied, known already, an id reused, or dead."
    panel = lines("Events by outcome", text, "ops", ("mean", "max")).min(0)
    expr = rate("quota_events_total", by="instance, outcome")
    panel = panel.with_target(over_time(expr, "{{instance}} {{outcome}}"))
    return coloured(panel, "/ dead$/", "red")


def kinds() -> timeseries.Panel:
    """Events a second by their kind."""
    text = "Events per second, by what they are; what cannot be decoded is unknown."
    panel = lines("Events by kind", text, "ops", ("mean", "max")).min(0)
    expr = rate("quota_events_total", by="instance, event")
    return panel.with_target(over_time(expr, "{{instance}} {{event}}"))


def _quantiles(panel: timeseries.Panel, histogram: str) -> timeseries.Panel:
    for ref, share in (("A", 0.5), ("B", 0.99)):
        panel.with_target(over_time(quantile(share, histogram), f"{{{{instance}}}} p{100 * share:g}", ref))
    return panel


def durations() -> timeseries.Panel:
    """How long the store takes."""
    text = "How long the store took for a batch, as half and as 99 per cent of the batches had it."
    return _quantiles(
        lines("Duration of a batch", text, "s", ("mean", "max")).min(0), "quota_apply_duration_seconds"
    )


def lag() -> timeseries.Panel:
    """How late events are decided."""
    text = "From an event's own time to its decision. Clocks that disagree show here too."
    return _quantiles(lines("Event lag", text, "s", ("mean", "max")).min(0), "quota_event_lag_seconds")


def batches() -> timeseries.Panel:
    """How large the batches are."""
    text = "Events in a batch: they grow under load, which is how throughput does."
    panel = _quantiles(
        lines("Events in a batch", text, "short", ("mean", "max")).min(0), "quota_batch_events"
    )
    mean = f"{rate('quota_batch_events_sum')} / {rate('quota_batch_events_count')}"
    return panel.with_target(over_time(mean, "{{instance}} mean", "C"))


def batch_rate() -> timeseries.Panel:
    """How many batches."""
    panel = lines("Batches", "Batches per second that went to the store.", "ops", ("mean", "max")).min(0)
    return panel.with_target(over_time(rate("quota_batch_events_count"), "{{instance}}"))


def busy() -> timeseries.Panel:
    """How busy the store is with the daemon's batches."""
    text = "Share of the time in which a batch was under way in the store: near 100 % is the limit."
    panel = lines("Time in the store", text, "percentunit", ("mean", "max")).min(0).axis_soft_max(1)
    return panel.with_target(over_time(rate("quota_apply_duration_seconds_sum"), "{{instance}}"))


def unacknowledged() -> timeseries.Panel:
    """How full the window is."""
    text = (
        "Deliveries that the daemon has not acknowledged yet: what the broker will send again if it "
        f"ends now. The line is the default of mqtt.window, {_WINDOW}; at the window the broker waits."
    )
    panel = lines("Acknowledgement window", text, "short", ("mean", "max")).min(0).axis_soft_max(_WINDOW)
    panel = panel.with_target(over_time(of_daemon("quota_unacknowledged_messages"), "{{instance}}"))
    return threshold_lines(panel, steps((None, "transparent"), (_WINDOW, "red")))


def dead_letters() -> timeseries.Panel:
    """Events that could not be applied."""
    text = "Events that were mistakes: not applied, kept under the topic dead. Any at all is worth a look."
    expr = increase("quota_events_total", 'outcome="dead"', by="instance, pool, event")
    return bars("Dead letters", text).with_target(over_time(f"{expr} > 0", "{{instance}} {{pool}} {{event}}"))


def rate_refused() -> timeseries.Panel:
    """Conversion rates that came too late."""
    text = "Conversion rates refused because the pool's day had begun with another."
    return bars("Rates refused", text).with_target(
        over_time(increase("quota_rate_refused_total"), "{{instance}}")
    )

"""The record of the day: can it be written, how fast, how much, and how far behind the journals it is."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from grafana.panels import lines, over_time, step_lines, unknown, yes_no
from grafana.queries import of_daemon, quantile, rate


def writable() -> timeseries.Panel:
    """Whether it can be written."""
    text = "1 while the record of the day can be written. At 0 nothing is acknowledged."
    panel = step_lines("Record of the day", text, "none").min(0).max(1)
    panel = panel.mappings([yes_no("written", "stuck"), unknown("none is kept")])
    return panel.with_target(over_time(of_daemon("quota_capture_writable"), "{{instance}}"))


def behind() -> timeseries.Panel:
    """How much it lacks."""
    text = "Journal entries that the record of the day lacks: what is lost if the store is lost now."
    panel = lines("Entries not recorded yet", text, "short", ("last", "max")).min(0)
    return panel.with_target(over_time(of_daemon("quota_capture_entries_behind"), "{{instance}} {{pool}}"))


def durations() -> timeseries.Panel:
    """How long the disk takes."""
    text = "How long a write to the record took, as 99 per cent of the writes had it, and on average."
    panel = lines("Duration of a write", text, "s", ("mean", "max")).min(0)
    late = quantile(0.99, "quota_capture_duration_seconds")
    panel = panel.with_target(over_time(late, "{{instance}} p99"))
    total, count = (rate(f"quota_capture_duration_seconds_{part}") for part in ("sum", "count"))
    return panel.with_target(over_time(f"{total} / {count}", "{{instance}} mean", "B"))


def written() -> timeseries.Panel:
    """How much is written."""
    text = "Bytes of the record of the day that are written in a second."
    panel = lines("Written per second", text, "bytes", ("mean", "max")).min(0)
    return panel.with_target(over_time(rate("quota_capture_bytes_total"), "{{instance}}"))

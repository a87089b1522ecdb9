"""The engineers' dashboard: what each daemon does, how fast, and whether it is well."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.models import common as shapes

from grafana import record, traffic
from grafana.board import Board, instances, jobs
from grafana.panels import (
    bars,
    figures,
    lines,
    now,
    over_time,
    step_lines,
    steps,
    threshold_lines,
    unknown,
    words,
    yes_no,
)
from grafana.queries import increase, of_daemon, rate


def _state(title: str, description: str, metric: str, yes: str, no: str) -> stat.Panel:
    panel = figures(title, description, "none").mappings([yes_no(yes, no), unknown()]).no_value("no daemon")
    panel = panel.color_mode(shapes.BigValueColorMode.BACKGROUND)
    return panel.with_target(now(of_daemon(metric), "{{instance}}"))


def up() -> stat.Panel:
    """Whether Prometheus reaches the daemons."""
    return _state("Scraped", "Whether Prometheus could read the daemon's metrics.", "up", "up", "down")


def broker() -> stat.Panel:
    """Whether the broker is reached."""
    return _state(
        "Broker", "Whether the daemon reaches the broker.", "quota_feed_connected", "connected", "away"
    )


def store() -> stat.Panel:
    """Whether the store is reached."""
    text = "Whether the store answers the daemon."
    return _state("Store", text, "quota_redis_connected", "connected", "away")


def version() -> stat.Panel:
    """What runs."""
    panel = figures("Version", "The version of quotad that each daemon runs.", "none")
    panel = panel.with_target(now(of_daemon("quota_build_info"), "{{version}}"))
    return panel.text_mode(shapes.BigValueTextMode.NAME)


def uptime() -> stat.Panel:
    """How long they run."""
    panel = figures("Running for", "How long each daemon has been running.", "s").decimals(0)
    expr = f"time() - {of_daemon('quota_process_start_time_seconds')}"
    return panel.with_target(now(expr, "{{instance}}"))


def calendar() -> stat.Panel:
    """How long the table of trading days lasts."""
    text = "How long the built-in table of trading days still lasts; quotad has to be updated before that."
    panel = figures("Calendar lasts", text, "s").decimals(0)
    panel = panel.thresholds(steps((None, "red"), (30 * 86_400, "yellow"), (60 * 86_400, "green")))
    return panel.with_target(now(of_daemon("quota_calendar_left_seconds"), "{{instance}}"))


def skew() -> stat.Panel:
    """Whether the clocks agree."""
    text = "The store's clock minus the daemon's. More than a second apart, the daemon is not ready."
    panel = figures("Clock skew", text, "s").decimals(3)
    marks = steps((None, "red"), (-1, "yellow"), (-0.5, "green"), (0.5, "yellow"), (1, "red"))
    return panel.with_target(now(of_daemon("quota_clock_skew_seconds"), "{{instance}}")).thresholds(marks)


def last_event() -> stat.Panel:
    """How long it has been quiet."""
    text = "How long ago the daemon last applied events; in an open phase, minutes are long."
    applied = of_daemon("quota_last_event_timestamp_seconds")
    expr = f"(time() - {applied}) * ({applied} > bool 0) - ({applied} == bool 0)"
    panel = figures("Last event", text, "s").decimals(0)
    panel = panel.mappings([words((-1, "none yet", "text")), unknown()])
    return panel.with_target(now(expr, "{{instance}}"))


def connections() -> timeseries.Panel:
    """Connections over time."""
    text = "1 while the daemon reaches the broker and the store, 0 while it does not."
    panel = step_lines("Connections", text, "none").min(0).max(1).mappings([yes_no(), unknown()])
    panel = panel.with_target(over_time(of_daemon("quota_feed_connected"), "{{instance}} broker", "A"))
    return panel.with_target(over_time(of_daemon("quota_redis_connected"), "{{instance}} store", "B"))


def reconnects() -> timeseries.Panel:
    """How often the broker was lost."""
    text = (
        "Times the broker was reached again after it had been lost, and times it had then forgotten our "
        "session: what it held for us is gone, and its sources have to send again."
    )
    panel = bars("Reconnects", text)
    panel = panel.with_target(over_time(increase("quota_feed_reconnects_total"), "{{instance}}", "A"))
    return panel.with_target(
        over_time(increase("quota_feed_sessions_lost_total"), "{{instance}} session lost", "B")
    )


def reads() -> timeseries.Panel:
    """How old each daemon's sight of each pool is."""
    text = "How long ago each daemon last read each pool: usually less than two scrapes."
    panel = lines("Age of the pools as read", text, "s", ("last", "max")).min(0)
    expr = f"time() - ({of_daemon('quota_pool_read_timestamp_seconds')} > 0)"
    panel = panel.with_target(over_time(expr, "{{instance}} {{pool}}"))
    return threshold_lines(panel, steps((None, "transparent"), (15, "red")))


def disagreement() -> timeseries.Panel:
    """Whether the daemons see the same."""
    text = (
        "Journal entries between the daemon that has seen most of a pool and the one that has seen least. "
        "They are scraped at different moments, so a few under load are nothing; hundreds that stay are."
    )
    seq = of_daemon("quota_seq")
    panel = lines("Disagreement between daemons", text, "short", ("last", "max")).min(0)
    return panel.with_target(
        over_time(f"max by (job, pool) ({seq}) - min by (job, pool) ({seq})", "{{pool}}")
    )


def memory() -> timeseries.Panel:
    """Memory."""
    panel = lines("Memory", "Resident memory of the process.", "bytes", ("last", "max")).min(0)
    return panel.with_target(over_time(of_daemon("quota_process_resident_memory_bytes"), "{{instance}}"))


def cpu() -> timeseries.Panel:
    """Processor time."""
    panel = lines(
        "Processor", "Share of one core that the process uses.", "percentunit", ("mean", "max")
    ).min(0)
    return panel.with_target(over_time(rate("quota_process_cpu_seconds_total"), "{{instance}}"))


def files() -> timeseries.Panel:
    """Open files."""
    panel = lines(
        "Open files", "Share of the file descriptors that the process may open.", "percentunit", ("last",)
    )
    share = f"{of_daemon('quota_process_open_fds')} / {of_daemon('quota_process_max_fds')}"
    return panel.min(0).with_target(over_time(share, "{{instance}}"))


def clocks() -> timeseries.Panel:
    """Clock skew over time."""
    text = "The store's clock minus the daemon's; more than a second apart, the daemon is not ready."
    panel = lines("Clock skew", text, "s", ("last", "min", "max"))
    panel = panel.with_target(over_time(of_daemon("quota_clock_skew_seconds"), "{{instance}}"))
    return threshold_lines(panel, steps((None, "red"), (-1, "transparent"), (1, "red")))


def board() -> Board:
    """Put it together: is it well, how much does it do, what is under way, what does it cost."""
    top = (up(), broker(), store(), version(), uptime(), last_event(), skew(), calendar())
    return Board(
        "daemon",
        "The daemons of quotad, for engineers: throughput, durations, delivery, connections, memory.",
        (jobs(), instances()),
        (
            *((panel, (3 * place, 0, 3, 4)) for place, panel in enumerate(top)),
            (traffic.throughput(), (0, 4, 12, 9)),
            (traffic.kinds(), (12, 4, 12, 9)),
            (traffic.lag(), (0, 13, 8, 8)),
            (traffic.durations(), (8, 13, 8, 8)),
            (traffic.unacknowledged(), (16, 13, 8, 8)),
            (traffic.batches(), (0, 21, 8, 8)),
            (traffic.batch_rate(), (8, 21, 8, 8)),
            (traffic.busy(), (16, 21, 8, 8)),
            (traffic.dead_letters(), (0, 29, 8, 7)),
            (reconnects(), (8, 29, 8, 7)),
            (traffic.rate_refused(), (16, 29, 8, 7)),
            (connections(), (0, 36, 8, 7)),
            (reads(), (8, 36, 8, 7)),
            (disagreement(), (16, 36, 8, 7)),
            (memory(), (0, 43, 6, 7)),
            (cpu(), (6, 43, 6, 7)),
            (files(), (12, 43, 6, 7)),
            (clocks(), (18, 43, 6, 7)),
            (record.writable(), (0, 50, 6, 7)),
            (record.behind(), (6, 50, 6, 7)),
            (record.durations(), (12, 50, 6, 7)),
            (record.written(), (18, 50, 6, 7)),
        ),
    )

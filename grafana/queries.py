"""The dashboards' PromQL. Two daemons may watch the same pools, and every query has to survive that.

A pool's figures are the store's, so each replica tells the same ones: adding them up would count a
pool twice. They are taken from the replicas that read the store last, one value for each pool. What
a daemon says of itself is asked for each instance.
"""

from __future__ import annotations

from collections.abc import Iterable

OF_POOL = 'job=~"$job", pool=~"$pool"'
OF_DAEMON = 'job=~"$job", instance=~"$instance"'

BEHIND_S = 30
"""How far behind the latest reader a replica may be to count, as in the rules of Prometheus."""

_READ = f"quota_pool_read_timestamp_seconds{{{OF_POOL}}}"
_FRESH = f"{_READ} >= on (pool) group_left () (max by (pool) ({_READ}) - {BEHIND_S})"


def of_pool(metric: str, *labels: str, fold: str = "max", by: str = "pool") -> str:
    """Ask for a pool's figure, once for each pool, from the replicas that are not behind."""
    selector = ", ".join((OF_POOL, *labels))
    return _folded(f"{metric}{{{selector}}}", fold, by)


def coded(metric: str, states: Iterable[str]) -> str:
    """Number the present state: one series per pool, whose value is the state's place.

    A pool that was never read is in no state, and has no value.
    """
    label = metric.removeprefix("quota_")
    parts = (
        f'({metric}{{{OF_POOL}, {label}="{state}"}} == 1) * 0 + {place}' for place, state in enumerate(states)
    )
    return _folded(f"({' or '.join(parts)})", "max", "pool")


def _folded(vector: str, fold: str, by: str) -> str:
    return f"{fold} by ({by}) ({vector} and on (job, instance, pool) ({_FRESH}))"


def decided(by: str, *labels: str) -> str:
    """Ask for decisions a second: of each replica first, then once for each pool, then added up."""
    selector = ", ".join((OF_POOL, *labels))
    rates = f"rate(quota_decisions_total{{{selector}}}[$__rate_interval])"
    return f"sum by ({by}) (max by (pool, side, verdict) ({rates}))"


def of_daemon(metric: str, *labels: str) -> str:
    """Ask each chosen daemon for a figure of its own."""
    return f"{metric}{{{', '.join((OF_DAEMON, *labels))}}}"


def rate(metric: str, *labels: str, by: str = "instance") -> str:
    """Ask each chosen daemon how fast one of its counters grows."""
    return f"sum by ({by}) (rate({of_daemon(metric, *labels)}[$__rate_interval]))"


def increase(metric: str, *labels: str, by: str = "instance") -> str:
    """Ask each chosen daemon how much one of its counters grew."""
    return f"sum by ({by}) (increase({of_daemon(metric, *labels)}[$__rate_interval]))"


def quantile(share: float, histogram: str, selector: str = OF_DAEMON) -> str:
    """Ask for a quantile of each daemon: buckets of different daemons are never mixed."""
    buckets = f"sum by (instance, le) (rate({histogram}_bucket{{{selector}}}[$__rate_interval]))"
    return f"histogram_quantile({share}, {buckets})"


def began(status: str) -> str:
    """Ask for the moments, in milliseconds, at which pools came into a status.

    A graph of a day has steps of minutes, and a status may hold for seconds. So each step looks at
    all of its interval, and gives the moment at which the status was first seen in it, unless the
    status held already when the interval began.
    """
    series = f'quota_status{{{OF_POOL}, status="{status}"}}'
    seen = f"min by (pool) (min_over_time(timestamp({series} == 1)[$__interval:]))"
    return f"1000 * {seen} unless on (pool) (max by (pool) ({series} offset $__interval) == 1)"


def resumed() -> str:
    """Ask for the moments at which pools that had been refusing buys came open again."""
    refusing = f'quota_status{{{OF_POOL}, status=~"suspended|exhausted|halted"}} offset $__interval'
    return f"{began('open')} and on (pool) (max by (pool) ({refusing}) == 1)"

"""What Prometheus sees of the pools and of this daemon.

The figures of the pools are in ``figures.py``. Everything else is counted here, in the daemon's
one thread. Every series exists from the start, and no label ever takes a value from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import nan

from prometheus_client import CollectorRegistry, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from quota.decision import Outcome, PoolName
from quota.figures import Missing, PoolFigures, Shown
from quota.forecast import Forecast
from quota.ledger import Snapshot
from quota.store.record import Verified

EVENTS = ("new", "cancelled", "rejected", "fill", "bust", "fx", "unknown")
"""The values of the label ``event``: what arrives by its name, the undecodable as ``unknown``."""

EventKey = tuple[PoolName | None, str, Outcome]

_LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_APPLY_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2)
_CAPTURE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(slots=True, eq=False)
class _Counts(Collector):
    """What this daemon counts: plain integers, because only its one thread writes them."""

    events: dict[EventKey, int]
    rate_refused: int = 0
    reconnects: int = 0
    captured: int = 0
    sessions_lost: int = 0

    def collect(self) -> Iterator[Metric]:
        """Write the daemon's counters."""
        text = "Events received, by what became of them; pool - where they belong to none."
        family = CounterMetricFamily("quota_events", text, labels=("pool", "event", "outcome"))
        for (pool, event, outcome), count in self.events.items():
            family.add_metric((pool or "-", event, outcome), count)
        yield family
        text = "Conversion rates refused because the pool's day had begun with another."
        yield CounterMetricFamily("quota_rate_refused", text, value=self.rate_refused)
        text = "Times the broker was reached again after it had been lost."
        yield CounterMetricFamily("quota_feed_reconnects", text, value=self.reconnects)
        text = "Bytes written to the record of the day."
        yield CounterMetricFamily("quota_capture_bytes", text, value=self.captured)
        text = "Times the broker had forgotten our session, and what it held for us."
        yield CounterMetricFamily("quota_feed_sessions_lost", text, value=self.sessions_lost)


class Metrics:
    """All metrics of a daemon that serves ``served``, in a registry of their own.

    Every method is cheap enough to be called per event or per batch (about a microsecond).
    """

    def __init__(self, served: Sequence[PoolName], version: str) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._shown = {pool: Shown() for pool in served}
        self._counts = _Counts(dict.fromkeys(product((*served, None), EVENTS, Outcome), 0))
        self.registry.register(PoolFigures(self._shown))
        self.registry.register(self._counts)
        ProcessCollector(namespace="quota", registry=self.registry)
        Info("quota_build", "The program that runs.", registry=self.registry).info({"version": version})
        self._build_gauges()
        self._build_histograms()

    def _build_gauges(self) -> None:
        self._feed_connected = self._gauge("quota_feed_connected", "Whether the broker is reached.")
        self._redis_connected = self._gauge("quota_redis_connected", "Whether the store answers.")
        self._unacknowledged = self._gauge(
            "quota_unacknowledged_messages", "Deliveries not acknowledged yet."
        )
        self._last_event = self._gauge(
            "quota_last_event_timestamp_seconds", "When events were last applied; 0 before the first."
        )
        self._skew = self._gauge(
            "quota_clock_skew_seconds", "The store's clock minus ours; NaN until compared."
        )
        self._calendar_left = self._gauge(
            "quota_calendar_left_seconds", "How long the table of trading days still lasts; NaN until read."
        )
        self._capture_writable = self._gauge(
            "quota_capture_writable", "Whether the record of the day can be written; NaN where there is none."
        )
        self._capture_writable.set(nan)
        self._skew.set(nan)
        self._calendar_left.set(nan)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    def _build_histograms(self) -> None:
        self._lag = self._histogram(
            "quota_event_lag_seconds", "From an event's own time to its decision.", _LAG_S
        )
        self._apply = self._histogram("quota_apply_duration_seconds", "One batch in the store.", _APPLY_S)
        self._capture = self._histogram(
            "quota_capture_duration_seconds", "One write to the record of the day.", _CAPTURE_S
        )
        self._batch = self._histogram("quota_batch_events", "Events in one batch.", _BATCH)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def pool(self, name: PoolName, snapshot: Snapshot) -> None:
        """Show this snapshot from now on."""
        self._shown[name].snapshot = snapshot

    def day_due(self, name: PoolName, *, due: bool) -> None:
        """Say whether a trading day of the pool should be open and is not."""
        self._shown[name].day_due = due

    def forecast(self, name: PoolName, forecast: Forecast) -> None:
        """Show what is expected of a pool from now on."""
        self._shown[name].forecast = forecast

    def verified(self, name: PoolName, verified: Verified | None) -> None:
        """Show the result of the last verification from now on."""
        self._shown[name].verified = verified

    def missing(self, name: PoolName, missing: Missing) -> None:
        """Show what is missing of a pool's sources from now on."""
        self._shown[name].missing = missing

    def event(self, pool: PoolName | None, event: str, outcome: Outcome, count: int = 1) -> None:
        """Count events of one outcome. A name that is none of ours is ``unknown``, a pool none."""
        key = pool, event, outcome
        known = self._counts.events
        known[key if key in known else self._unknown(pool, event, outcome)] += count

    def _unknown(self, pool: PoolName | None, event: str, outcome: Outcome) -> EventKey:
        return pool if pool in self._shown else None, event if event in EVENTS else "unknown", outcome

    def lag(self, seconds: float) -> None:
        """Observe how long after its own time an event was decided."""
        self._lag.observe(seconds)

    def applied(self, events: int, seconds: float) -> None:
        """Observe one batch and how long the store took for it."""
        self._batch.observe(events)
        self._apply.observe(seconds)
        self._last_event.set_to_current_time()

    def connected(self, *, feed: bool | None = None, store: bool | None = None) -> None:
        """Say whether the broker and the store are reached; None leaves it as it was."""
        if feed is not None:
            self._feed_connected.set(feed)
        if store is not None:
            self._redis_connected.set(store)

    def reconnects(self, total: int, sessions_lost: int = 0) -> None:
        """Say how often the broker was reached again since the start, and how often it knew us no more."""
        self._counts.reconnects, self._counts.sessions_lost = total, sessions_lost

    def unacknowledged(self, messages: int) -> None:
        """Say how many deliveries are waiting for their acknowledgement."""
        self._unacknowledged.set(messages)

    def rate_refused(self) -> None:
        """Count a conversion rate that came too late."""
        self._counts.rate_refused += 1

    def captured(self, size: int, seconds: float) -> None:
        """Observe a write to the record of the day: its bytes, and how long it took with its fsync."""
        self._counts.captured += size
        self._capture.observe(seconds)

    def capture_writable(self, *, writable: bool) -> None:
        """Say whether the record of the day can be written."""
        self._capture_writable.set(writable)

    def capture_behind(self, name: PoolName, entries: int) -> None:
        """Say how many entries of a pool the record of the day lacks."""
        self._shown[name].unrecorded = entries

    def skew(self, seconds: float) -> None:
        """Say how far the store's clock is ahead of ours, in seconds."""
        self._skew.set(seconds)

    def calendar_left(self, days: int) -> None:
        """Say how many days the table of trading days still lasts."""
        self._calendar_left.set(days * 86_400)

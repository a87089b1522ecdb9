"""The figures of the pools, as Prometheus asks for them.

They are read from the latest look at each pool, so they are the store's own, whoever changed
them. Not known is not zero: a figure is NaN where no day is open, and before the store was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import product
from math import nan

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from quota.decision import Phase, PoolName, Side, Status, Verdict, Violation
from quota.events import MARKET_TZ
from quota.forecast import UNKNOWN, Forecast
from quota.ledger import Snapshot
from quota.pool import Pool
from quota.store.record import Verified

_POOL = ("pool", "direction", "exchange")


@dataclass(frozen=True, slots=True)
class Missing:
    """What is missing of the sources that number their events: how many events, and for how long."""

    events: int
    oldest_s: float
    unlisted: int
    unwatched: int


@dataclass(slots=True)
class Shown:
    """What is shown of a pool: the latest look, the forecast after it, the last verification."""

    snapshot: Snapshot | None = None
    forecast: Forecast = UNKNOWN
    verified: Verified | None = None
    day_due: bool = False
    missing: Missing | None = None
    unrecorded: int = 0

    @property
    def pool(self) -> Pool | None:
        """The pool's record, where a day is open."""
        return self.snapshot.pool if self.snapshot else None

    @property
    def checked(self) -> Verified | None:
        """The last verification, where it was one of the day that is open."""
        same = self.verified and self.pool and self.verified.trading_day == self.pool.trading_day
        return self.verified if same else None


def _yuan(fen: int) -> float:
    return fen / 100


def _midnight_s(trading_day: str) -> float:
    return datetime.fromisoformat(trading_day).replace(tzinfo=MARKET_TZ).timestamp()


_FIGURES: tuple[tuple[str, str, Callable[[Pool], float]], ...] = (
    ("quota_limit_yuan", "The day's quota in RMB.", lambda pool: _yuan(pool.limit_fen)),
    (
        "quota_balance_yuan",
        "What is left of the quota in RMB, by the events that quotad is fed.",
        lambda pool: _yuan(pool.balance_fen),
    ),
    (
        "quota_used_ratio",
        "1 - balance / limit: below 0 and above 1 as it comes.",
        lambda pool: pool.used_ratio,
    ),
    ("quota_seq", "Number of the pool's last journal entry of the day.", lambda pool: pool.seq),
    ("quota_level", "Highest alert level reached, in per cent of the quota.", lambda pool: pool.level),
    (
        "quota_open_buy_orders_yuan",
        "Limit value in RMB of buys that rest in the book.",
        lambda pool: _yuan(pool.open_buy_fen),
    ),
    ("quota_filled_buys_yuan", "Traded value of buys in RMB.", lambda pool: _yuan(pool.filled_buy_fen)),
    ("quota_filled_sells_yuan", "Traded value of sells in RMB.", lambda pool: _yuan(pool.filled_sell_fen)),
    (
        "quota_trading_day_timestamp_seconds",
        "Midnight (UTC+8) of the pool's open trading day.",
        lambda pool: _midnight_s(pool.trading_day),
    ),
)


_EXPECTED: tuple[tuple[str, str, Callable[[Forecast], float]], ...] = (
    (
        "quota_exhaustion_eta_seconds",
        "Market seconds until the quota is used up; +Inf when it will not be before the close.",
        lambda forecast: forecast.eta_s,
    ),
    (
        "quota_usual_day_ratio",
        "Share of the usual day's net use that has gone by at this time of day.",
        lambda forecast: forecast.usual_share,
    ),
    (
        "quota_pace_ratio",
        "Used share of the quota by the share of the usual day that has gone by.",
        lambda forecast: forecast.pace,
    ),
)
_GAPS: tuple[tuple[str, str, Callable[[Missing], float]], ...] = (
    (
        "quota_gap_events",
        "Events that their sources have numbered and that are missing now.",
        lambda missing: missing.events,
    ),
    (
        "quota_gap_oldest_seconds",
        "For how long the oldest of them has been missing; 0 where none is.",
        lambda missing: missing.oldest_s,
    ),
    (
        "quota_gap_unlisted_events",
        "Those of them that came to be too many to list: they stay until somebody accepts them.",
        lambda missing: missing.unlisted,
    ),
    (
        "quota_gap_unwatched_events",
        "Numbered events of the day from sources beyond those that are watched.",
        lambda missing: missing.unwatched,
    ),
)
_WINDOWS: tuple[tuple[str, Callable[[Forecast], float]], ...] = (
    ("1m", lambda forecast: forecast.net_use_1m),
    ("10m", lambda forecast: forecast.net_use_10m),
)


@dataclass(frozen=True, slots=True, eq=False)
class PoolFigures(Collector):
    """What is shown of each pool, as metric families."""

    shown: Mapping[PoolName, Shown]

    def collect(self) -> Iterator[Metric]:
        """Write all pool metrics."""
        for name, text, figure in _FIGURES:
            yield self._gauge(name, text, partial(_of_pool, figure))
        for name, text, expected in _EXPECTED:
            yield self._gauge(name, text, partial(_of_forecast, expected))
        for name, text, gaps in _GAPS:
            yield self._gauge(name, text, partial(_of_missing, gaps))
        yield self._net_use()
        yield from self._looks()
        yield self._states("status", Status, lambda pool: pool.status)
        yield self._states("phase", Phase, lambda pool: pool.phase)
        yield self._decisions()
        yield self._violations()

    def _known(self) -> Iterable[tuple[tuple[str, ...], Pool | None, float]]:
        """Each pool's labels, its record where a day is open, and what a count is where none is.

        None was decided where no day is open. Before the first look nobody knows: a 0 there would
        look like a jump by the whole day's count afterwards.
        """
        for name, it in self.shown.items():
            yield _labels(name), it.pool, 0 if it.snapshot else nan

    def _gauge(self, name: str, text: str, figure: Callable[[Shown], float]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=_POOL)
        for pool, it in self.shown.items():
            family.add_metric(_labels(pool), figure(it))
        return family

    def _net_use(self) -> Metric:
        text = "Net use of the quota in RMB per second of open market, over a window."
        family = GaugeMetricFamily("quota_net_use_yuan_per_second", text, labels=(*_POOL, "window"))
        for pool, it in self.shown.items():
            for window, rate in _WINDOWS:
                family.add_metric((*_labels(pool), window), rate(it.forecast))
        return family

    def _looks(self) -> Iterator[Metric]:
        """When the pool was read, and what the last verification of its day said."""
        yield self._gauge(
            "quota_pool_read_timestamp_seconds",
            "When the pool was last read, by the store's clock; 0 before that.",
            lambda it: it.snapshot.server_ms / 1000 if it.snapshot else 0,
        )
        yield self._gauge(
            "quota_day_due",
            "1 while a trading day should be open and is not, 0 otherwise.",
            lambda it: float(it.day_due),
        )
        yield self._gauge(
            "quota_capture_entries_behind",
            "Journal entries of the pool that the record of the day lacked when it was last written.",
            lambda it: it.unrecorded,
        )
        yield self._gauge(
            "quota_verified_timestamp_seconds",
            "When the pool's open day was last verified; 0 before that.",
            lambda it: it.checked.time_ms / 1000 if it.checked else 0,
        )
        yield self._gauge(
            "quota_verify_differences",
            "What the last verification of the open day found; NaN before one was made.",
            lambda it: it.checked.differences if it.checked else nan,
        )

    def _states(self, word: str, states: Iterable[str], state_of: Callable[[Pool], str]) -> Metric:
        """One series per state: 1 for the present one. A pool never read is in none of them."""
        text = f"1 for the pool's present {word}, 0 for the others."
        family = GaugeMetricFamily(f"quota_{word}", text, labels=(*_POOL, word))
        for name, it in self.shown.items():
            present = it.snapshot and (state_of(it.pool) if it.pool else "closed")
            for state in states:
                family.add_metric((*_labels(name), state), float(state == present))
        return family

    def _decisions(self) -> Metric:
        text = "First decisions of the pool's day on new orders, whoever asked."
        family = CounterMetricFamily("quota_decisions", text, labels=(*_POOL, "side", "verdict"))
        for labels, pool, unread in self._known():
            for side, verdict in product(Side, Verdict):
                count = pool.decided.get((side, verdict), 0) if pool else unread
                family.add_metric((*labels, side, verdict), count)
        return family

    def _violations(self) -> Metric:
        text = "Facts of the pool's day that should not be, once per order and kind."
        family = CounterMetricFamily("quota_violations", text, labels=(*_POOL, "kind"))
        for labels, pool, unread in self._known():
            for kind in Violation:
                family.add_metric((*labels, kind), pool.violated.get(kind, 0) if pool else unread)
        return family


def _of_pool(figure: Callable[[Pool], float], it: Shown) -> float:
    return figure(it.pool) if it.pool else nan


def _of_forecast(figure: Callable[[Forecast], float], it: Shown) -> float:
    return figure(it.forecast)


def _of_missing(figure: Callable[[Missing], float], it: Shown) -> float:
    return figure(it.missing) if it.missing else nan


def _labels(pool: PoolName) -> tuple[str, str, str]:
    return pool, pool.direction, pool.exchange

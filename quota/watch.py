"""What the daemon shows of the pools, five times a second, whoever moved them.

Status, alerts and metrics come from the pool itself (its hash and its changes), so a reservation
made by a gateway over Redis shows like an order that came over MQTT.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

import structlog

from quota.clock import MarketClock, iso
from quota.course import Course, Phases
from quota.day import segments
from quota.days import Days
from quota.decision import Phase, PoolName, Status
from quota.errors import FeedUnavailable, LedgerUnavailable
from quota.feed import Alert, Feed, StatusReport
from quota.gaps import GapWatch
from quota.ledger import Ledger, Snapshot
from quota.metrics import Metrics
from quota.notify import Notifier
from quota.pool import Change

TICK_S = 0.2
_QUIET_S, _BUSY_S = 4.5, 1.0
_MARK_S = 5.0
_SKEW_MAX_S = 1.0
_CALENDAR_WARNING_DAYS = 30

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Told:
    """What the world was last told of a pool, and when on our loop's clock.

    ``change`` is the last one whose alert the broker confirmed, ``confirming`` waits for the next.
    """

    report: StatusReport | None = None
    at: float = 0.0
    change: str = ""
    confirming: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Watch:
    """Looks at the served pools and tells of them."""

    feed: Feed
    ledger: Ledger
    days: Days
    metrics: Metrics
    notifier: Notifier = field(default_factory=Notifier)
    store_up: bool = False
    skew_s: float = 0.0
    trouble: str = "starting"
    courses: dict[PoolName, Course] = field(init=False)
    gaps: GapWatch = field(init=False)
    _told: dict[PoolName, _Told] = field(default_factory=dict)
    _marked_at: float = -_MARK_S

    def __post_init__(self) -> None:
        self.courses = {pool: Course(pool) for pool in self.days.pools}
        self.gaps = GapWatch(self.ledger, self.metrics)

    async def run(self) -> None:
        """Tick for ever. Raises LedgerCorrupt or ConfigError, after which nobody should go on."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            await self.tick()
            self.notifier.alive()
            self.notifier.status(self.summary())
            await asyncio.sleep(max(0.0, TICK_S - (loop.time() - started)))

    async def tick(self) -> None:
        """Look at every pool once, and tell what is new."""
        try:
            for pool in self.days.pools:
                await self._look(pool)
            self._store(up=True)
        except LedgerUnavailable as error:
            self._store(up=False, trouble=str(error))
        self.metrics.connected(feed=self.feed.connected, store=self.store_up)
        self.metrics.reconnects(self.feed.reconnects, self.feed.sessions_lost)
        self.metrics.unacknowledged(self.feed.unacknowledged)
        if self.store_up and self.feed.connected:
            self._mark_if_due()

    def _store(self, *, up: bool, trouble: str = "") -> None:
        if up != self.store_up:
            if up:
                log.info("store.reached")
            else:
                log.warning("store.lost", reason=trouble)
        self.store_up, self.trouble = up, trouble

    async def _look(self, pool: PoolName) -> None:
        told = self._told.setdefault(pool, _Told())
        snapshot = await self.days.look(pool, told.change)
        self.skew_s = (snapshot.server_ms - MarketClock.local_ms()) / 1000
        self.metrics.skew(self.skew_s)
        self.metrics.pool(pool, snapshot)
        self.metrics.day_due(pool, due=self.days.due(pool) is not None)
        await self.gaps.look(pool, snapshot)
        clock = self.days.almanac.clock
        if snapshot.pool is not None:
            phases = phases_of(snapshot.pool.schedule, clock)
            self.courses[pool].observe(snapshot.pool, clock.at_ms(snapshot.server_ms), phases)
            self.metrics.forecast(pool, self.courses[pool].forecast())
        self.metrics.calendar_left(
            self.days.almanac.calendar.days_left(clock.at_ms(snapshot.server_ms).date())
        )
        with suppress(FeedUnavailable):
            self._tell_status(pool, told, report_of(pool, snapshot, clock))
            confirmed = told.confirming is None or told.confirming.done()
            after = _later(told.change or "0-0", snapshot.published)
            if confirmed and snapshot.last_change != after:
                await self._tell_changes(pool, told, after)

    def _tell_status(self, pool: PoolName, told: _Told, report: StatusReport) -> None:
        """Publish a report: at once when a word of it changed, else once a second, else every five."""
        now, last = asyncio.get_running_loop().time(), told.report
        words = (report.status, report.phase, report.level, report.trading_day)
        if last is not None and words == (last.status, last.phase, last.level, last.trading_day):
            pause = _QUIET_S if (report.seq, report.limit_fen) == (last.seq, last.limit_fen) else _BUSY_S
            if now - told.at < pause - TICK_S / 2:
                return
        self.feed.send(report)
        self._told[pool].report, self._told[pool].at = report, now

    async def _tell_changes(self, pool: PoolName, told: _Told, after: str) -> None:
        """Publish the changes after an id; a later tick has the store remember how far we are.

        A broker that hangs confirms nothing: that must not keep us from looking.
        """
        changes = await self.ledger.changes(pool, after)
        for change in changes:
            log.info("pool.changed", pool=pool, **facts(change))
            if change.kind in {"status", "level"}:
                self.feed.send(alert_of(pool, change, self.days.almanac.clock))
        if changes:
            told.confirming = asyncio.create_task(self._confirm(told, changes[-1].id))

    async def _confirm(self, told: _Told, change: str) -> None:
        with suppress(FeedUnavailable):
            await self.feed.flush()
            told.change = change

    def _mark_if_due(self) -> None:
        """Where a day waits for the leftovers of the one before, ask the broker to say when they are in."""
        now = asyncio.get_running_loop().time()
        if self.days.any_due() and now - self._marked_at >= _MARK_S:
            self._marked_at = now
            with suppress(FeedUnavailable):
                self.days.expect(self.feed.mark())

    def reports(self) -> Sequence[StatusReport]:
        """The pools as they were last seen."""
        clock = self.days.almanac.clock
        return [report_of(pool, snapshot, clock) for pool, snapshot in self.days.snapshots.items()]

    def unready(self) -> Sequence[str]:
        """Why we are not ready to serve; empty when we are."""
        reasons = []
        if not self.store_up:
            reasons.append(f"the store is away: {self.trouble}")
        if not self.feed.connected:
            sends = self.feed.unacknowledged > 0
            reasons.append(f"the broker is {'still sending what it kept for us' if sends else 'away'}")
        if abs(self.skew_s) > _SKEW_MAX_S:
            reasons.append(f"our clock and the store's are {self.skew_s:+.3f} s apart")
        reasons += [
            f"{pool}: the day {due} is not open yet"
            for pool in self.days.snapshots
            if (due := self.days.due(pool)) is not None
        ]
        return reasons

    def summary(self) -> str:
        """Say in a line how we and the pools are."""
        pools = ", ".join(f"{report.pool} {report.status}" for report in self.reports())
        return "; ".join([pools, *self.unready()])

    def missing(self) -> Sequence[str]:
        """Which numbered events are missing, beyond what another order explains."""
        return list(self.gaps.warnings())

    def warnings(self) -> Sequence[str]:
        """What will need a person soon, though we are ready."""
        calendar, clock = self.days.almanac.calendar, self.days.almanac.clock
        left = calendar.days_left(clock.today())
        ends = [f"the table of trading days ends in {left} days, on {calendar.ends}"]
        doubts = self.days.witness.doubts
        return [
            *(
                f"{pool}: halted, the store changed and is not attested: {why}"
                for pool, why in doubts.items()
            ),
            *(ends if left < _CALENDAR_WARNING_DAYS else ()),
        ]


def _later(change: str, other: str) -> str:
    """The later one of two ids. The store may know more: what came back with a lost day was told before."""
    return max(change, other, key=lambda it: tuple(map(int, it.split("-"))))


@lru_cache(maxsize=64)
def phases_of(schedule: str, clock: MarketClock) -> Phases:
    """Read a schedule by the market's clock."""
    return tuple((clock.at_ms(starts_ms), phase) for starts_ms, phase in segments(schedule))


def report_of(name: PoolName, snapshot: Snapshot, clock: MarketClock) -> StatusReport:
    """Build the report of a pool from a look at it."""
    pool, time = snapshot.pool, iso(clock.at_ms(snapshot.server_ms))
    return StatusReport(
        pool=name,
        trading_day=pool.trading_day if pool else None,
        phase=pool.phase if pool else Phase.CLOSED,
        status=pool.status if pool else Status.CLOSED,
        limit_fen=pool.limit_fen if pool else None,
        balance_fen=pool.balance_fen if pool else None,
        used_ratio=round(pool.used_ratio, 6) if pool else None,
        level=pool.level if pool else 0,
        rate=pool.rate if pool else None,
        seq=pool.seq if pool else None,
        time=time,
    )


def alert_of(pool: PoolName, change: Change, clock: MarketClock) -> Alert:
    """Build the alert of a change of status or level."""
    level = change.kind == "level"
    return Alert(
        pool=pool,
        kind=change.kind,
        was=int(change.was) if level else change.was,
        now=int(change.now) if level else change.now,
        balance_fen=change.balance_fen,
        used_ratio=round(1 - change.balance_fen / change.limit_fen, 6),
        seq=change.seq,
        reason=change.reason,
        time=iso(clock.at_ms(change.time_ms)),
    )


def facts(change: Change) -> dict[str, object]:
    """The keys under which a change is logged."""
    return {
        "kind": change.kind,
        "was": change.was,
        "now": change.now,
        "seq": change.seq,
        "balance_fen": change.balance_fen,
        "reason": change.reason,
    }

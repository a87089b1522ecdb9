"""Which trading day each pool should have open, and how it opens.

A day opens when the store's own clock says its date has come, and only after what the broker
still held for the day before has been taken in (the daemon sees to that).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import structlog
from msgspec.structs import replace

from quota.clock import MarketClock
from quota.config import Market
from quota.decision import PoolName
from quota.errors import ConfigError
from quota.ledger import Ledger, Snapshot
from quota.money import RATE_ONE, rate_text
from quota.pool import Opening
from quota.rulebook import Calendar, daily_quota_fen, schedule
from quota.witness import Witness

_AHEAD_MS = 1_000
"""By how much the store's clock may be ahead of ours."""

_CLOSED_DAYS = 31
"""Longer than any closure: beyond the calendar's end a day counts as itself."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Almanac:
    """What the settings and the rulebook say of any day. ``rates`` are the rates heard of days to come."""

    clock: MarketClock
    calendar: Calendar
    market: Market
    levels: tuple[int, ...]
    open_late: bool
    rates: dict[str, str] = field(default_factory=dict)

    def trades(self, pool: PoolName, day: date) -> bool:
        """Whether the pool trades on that day."""
        return self.calendar.trades(pool, day)

    def latest_day(self) -> str:
        """Say the trading day that it is, or that was last: the latest on which a pool of ours trades."""
        day = self.clock.today()
        for past in range(_CLOSED_DAYS):
            if any(self.trades(pool, day - timedelta(past)) for pool in self.market.pools):
                return (day - timedelta(past)).isoformat()
        return day.isoformat()

    def opening(self, pool: PoolName, day: date) -> Opening:
        """Build what the day of a pool starts with."""
        limit_fen = self.market.limit_fen(pool) or daily_quota_fen(pool, day)
        if limit_fen is None:
            raise ValueError(f"{pool} had no quota on {day}")
        return Opening(
            trading_day=day.isoformat(),
            limit_fen=limit_fen,
            rate=self._rate(pool, day),
            schedule=schedule(pool, day, self.clock, self.calendar),
            admission=self.market.admission,
            levels=self.levels,
            resumes_in_opening=pool.northbound or self.market.southbound_opening_resumes,
            origin="real" if self.clock.real else "at",
            open_late=self.open_late,
            keep_days=self.market.keep_days,
        )

    def _rate(self, pool: PoolName, day: date) -> str:
        if pool.northbound:
            return rate_text(RATE_ONE)
        return self.rates.get(day.isoformat()) or self.market.hkd_cny or rate_text(RATE_ONE)


class Days:
    """The open days of the served pools, as the last look at each of them showed."""

    def __init__(self, ledger: Ledger, almanac: Almanac, pools: Sequence[PoolName]) -> None:
        self._ledger = ledger
        self.almanac = almanac
        self.pools = tuple(pools)
        self.snapshots: dict[PoolName, Snapshot] = {}
        self.witness = Witness(ledger)
        self._marks: dict[str, date] = {}

    async def look(self, pool: PoolName, published: str = "") -> Snapshot:
        """Judge a pool's clock and remember how it stands; where its store has changed, say what we know.

        A day that we know was open and that the store has lost is opened at once, halted: what comes
        now belongs to it.
        """
        snapshot = await self._ledger.tick(pool, published)
        if await self.witness.attests(pool, snapshot):
            snapshot = await self._ledger.tick(pool, published)
            await self.witness.attests(pool, snapshot)
        self.snapshots[pool] = snapshot
        day = self.due(pool)
        if day is not None and self.witness.knew(pool, day.isoformat()):
            await self._open(pool, day)
        return self.snapshots[pool]

    def due(self, pool: PoolName) -> date | None:
        """The day that should open by now; None where the open one is right."""
        snapshot = self.snapshots[pool]
        today = self._today(snapshot)
        if not self.almanac.trades(pool, today):
            return None
        if snapshot.pool is not None and snapshot.pool.trading_day >= today.isoformat():
            return None
        return today

    def _today(self, snapshot: Snapshot) -> date:
        """The market's date when a look was taken, by the store's clock."""
        return self.almanac.clock.at_ms(snapshot.server_ms).date()

    async def notice_midnight(self, pool: PoolName) -> None:
        """Look again where the last look may be of the day before: what comes now may be of the next."""
        clock = self.almanac.clock
        latest = clock.at_ms(clock.local_ms() + _AHEAD_MS)
        if clock.at_ms(self.snapshots[pool].server_ms).date() != latest.date():
            await self.look(pool)

    def any_due(self) -> bool:
        """Whether a day waits to be opened."""
        return any(self.due(pool) is not None for pool in self.snapshots)

    async def begin(self) -> None:
        """Look at every pool; open today where nothing of an earlier day can be left to take in.

        Raises ConfigError when the store may not serve this clock.
        """
        for pool in self.pools:
            snapshot = await self.look(pool)
            if snapshot.pool is not None and snapshot.pool.origin == "real" and not self.almanac.clock.real:
                opened = f"the real clock opened {snapshot.pool.trading_day} in this store"
                raise ConfigError(f"{pool}: {opened}: it refuses --at")
            today = self._today(snapshot)
            self._refuse_a_day_of_another_clock(pool, snapshot, today)
            if self.almanac.trades(pool, today) and (self.due(pool) is None or snapshot.pool is None):
                await self._open(pool, today)

    def _refuse_a_day_of_another_clock(self, pool: PoolName, snapshot: Snapshot, today: date) -> None:
        """A day that ``--at`` opened ahead of us would stay open until its date has come and gone."""
        opened = snapshot.pool
        if opened is None or opened.origin != "at" or not self.almanac.clock.real:
            return
        if opened.trading_day >= today.isoformat():
            raise ConfigError(
                f"{pool}: {opened.trading_day} was opened with --at: go on with --at, or with another store"
            )

    async def open_due(self, pool: PoolName, day: date) -> None:
        """Open this day if it is the one that is due.

        Who asks again after midnight, because the store was away, means the day of his first asking.
        """
        if self.due(pool) == day:
            await self._open(pool, day)

    def expect(self, mark: str) -> None:
        """Remember for which day a mark was asked: what comes before it is what was left of those before.

        One that comes a day later says nothing of what was published in between.
        """
        waiting = [day for pool in self.snapshots if (day := self.due(pool)) is not None]
        if not waiting:
            return
        day = max(waiting)
        self._marks = {name: asked for name, asked in self._marks.items() if asked == day} | {mark: day}

    async def open_marked(self, pool: PoolName, mark: str) -> None:
        """Open the day that is due, if it is the one for which this mark was asked."""
        if (day := self._marks.get(mark)) is not None:
            await self.open_due(pool, day)

    async def _open(self, pool: PoolName, day: date) -> None:
        opening = self.almanac.opening(pool, day)
        seen = self.snapshots[pool].pool
        is_new = seen is None or seen.trading_day != opening.trading_day
        if is_new and self.witness.misses(pool, opening.trading_day):
            opening = replace(opening, open_late=False, lost=True)
        try:
            if await self._ledger.open_day(pool, opening):
                log.info("day.opened", pool=pool, trading_day=day.isoformat())
        except ConfigError:
            # Midnight came between our look and our asking, or the clock was set back over one: the date is
            # another one now, and the store is right to refuse.
            if self._today(await self.look(pool)) == day:
                raise
            return
        await self.look(pool)

    async def rate(self, trading_day: str, rate: str) -> bool:
        """Take the day's rate in; False where a pool refused it, because its events have begun."""
        self._remember(trading_day, rate)
        outcomes = {
            pool: await self._ledger.set_rate(pool, trading_day, rate)
            for pool in self.pools
            if not pool.northbound
        }
        log.info("rate.heard", trading_day=trading_day, rate=rate, outcomes=outcomes)
        return "refused" not in outcomes.values()

    def _remember(self, trading_day: str, rate: str) -> None:
        """Keep a rate for a day that is still to open, and none of days that are over for the store."""
        rates = self.almanac.rates
        looks = map(self._today, self.snapshots.values())
        today = min(looks, default=self.almanac.clock.today()).isoformat()
        rates[trading_day] = rate
        for day in [day for day in rates if day < today]:
            del rates[day]

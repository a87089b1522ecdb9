"""The record of the day for tests of recovery: in memory, written as the recorder would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from quota.accounts import Account, account_of
from quota.captured import Captured, Journalled, Opened
from quota.days import Days
from quota.decision import PoolName
from quota.errors import CaptureUnavailable
from quota.events import Event
from quota.journal import Entry
from quota.pool import Pool
from quota.proof.verify import Record


@dataclass(slots=True)
class Notes:
    """What was written down. ``trouble`` lets reading fail."""

    written: list[Captured] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    trouble: str = ""

    async def day(self, trading_day: str, pool: PoolName) -> Account | None:
        if self.trouble:
            raise CaptureUnavailable(self.trouble)
        return account_of(self.written, trading_day, pool)

    async def delivered(self, trading_day: str, pool: PoolName) -> Sequence[Event]:
        if self.trouble:
            raise CaptureUnavailable(self.trouble)
        return [event for event in self.events if pool and trading_day]

    async def follow(self, days: Days, record: Record, pool: PoolName) -> None:
        """Write down what is new of a pool that is trusted, as it is seen now."""
        snapshot = await days.look(pool)
        if snapshot.pool is None or not days.witness.trusts(pool, snapshot):
            return
        day = snapshot.pool.trading_day
        account = account_of(self.written, day, pool)
        if account is None:
            self.written.append(Opened(time_ms=snapshot.server_ms, pool=pool, terms=begun(snapshot.pool)))
        known = len(account.entries) if account else 0
        async for entry in record.journal(pool, snapshot.pool.seq, known):
            self.written.append(Journalled(pool=pool, trading_day=day, entry=entry))

    def entries(self, pool: PoolName, day: str) -> Sequence[Entry]:
        """The entries of a day."""
        account = account_of(self.written, day, pool)
        return account.entries if account else []


def begun(pool: Pool) -> Pool:
    """A pool as its day opened."""
    fresh = Pool(
        trading_day=pool.trading_day, limit_fen=pool.limit_fen, rate=pool.rate, schedule=pool.schedule
    )
    return replace(
        fresh,
        admission=pool.admission,
        levels=pool.levels,
        resumes_in_opening=pool.resumes_in_opening,
        origin=pool.origin,
    )

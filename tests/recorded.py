"""A pool in a real store that is written down into a notebook."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from quota.captured import Captured, Changed, Journalled, Opened
from quota.clock import MarketClock
from quota.config import load
from quota.days import Almanac, Days
from quota.decision import PoolName
from quota.journal import Entry
from quota.ledger import RedisLedger
from quota.metrics import Metrics
from quota.pool import Pool
from quota.recorder import Journals, Recorder
from quota.rulebook import Calendar
from tests.agreement.trading import POOL, opening
from tests.captures import Notebook


class Followed:
    """A pool in a real store, and a recorder with a notebook."""

    def __init__(self, client: Redis, ledger: RedisLedger, pool: PoolName = POOL) -> None:
        self.client, self.ledger, self.pool = client, ledger, pool
        market = load(None, {"QUOTA_MARKET__POOLS": pool, "QUOTA_MARKET__HKD_CNY": "0.91250"}).market
        almanac = Almanac(MarketClock(), Calendar.load(), market, levels=(50,), open_late=True)
        self.days = Days(ledger, almanac, [pool])
        self.metrics = Metrics([pool], "1")
        self.book = Notebook()
        self.recorder = self.begun()

    def begun(self, record: Journals | None = None) -> Recorder:
        """Begin anew, with nothing but what was written down."""
        return Recorder(self.book, record or self.ledger.record, self.days, self.metrics)

    async def open_day(self, **changed: Any) -> None:  # noqa: ANN401 - fields of an opening
        await self.ledger.open_day(self.pool, await opening(self.client, **changed))

    async def look(self) -> None:
        """Look until there is no more to write down."""
        await self.days.look(self.pool)
        while await self.recorder.look():
            pass

    def accounts(self) -> list[list[Captured]]:
        """What was written down, cut where an account begins."""
        cut: list[list[Captured]] = []
        for record in self.book.records:
            if isinstance(record, Opened):
                cut.append([])
            cut[-1].append(record)
        return cut

    def terms(self) -> Pool:
        """The terms of the last account."""
        first = self.accounts()[-1][0]
        assert isinstance(first, Opened)
        return first.terms

    def changes(self) -> list[tuple[str, str, str]]:
        """The changes, with the day that each was taken for."""
        return [
            (record.trading_day, record.change.kind, record.change.now)
            for record in self.book.records
            if isinstance(record, Changed)
        ]

    async def stored(self) -> list[Entry]:
        """The journal as the store has it."""
        pool = await self.ledger.record.read(self.pool)
        assert pool is not None
        return [entry async for entry in self.ledger.record.journal(self.pool, pool.seq)]

    def written(self) -> list[Entry]:
        """The entries of the last account."""
        return [record.entry for record in self.accounts()[-1] if isinstance(record, Journalled)]

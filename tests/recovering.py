"""A daemon in memory whose store can lose what it had, with a record of the day and its recovery."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from quota.book import Book
from quota.days import Days
from quota.decision import PoolName, Status
from quota.events import Cancelled
from quota.recovery import Recovery
from tests.agreement.trading import buy
from tests.folded import Record
from tests.notes import Notes
from tests.rigs import NB_SH, Rig, rig, running, until

ORDER = '{"event": "new", "order_id": "%s", "side": "%s", "price": "1.00", "quantity": 100}'


@dataclass(slots=True)
class Site:
    """A daemon in memory with its record and its recovery."""

    rig: Rig
    record: Record
    notes: Notes
    recovery: Recovery

    async def order(self, order_id: str, side: str = "buy") -> str:
        """Have an order decided over MQTT; its verdict."""
        before = len(self.rig.desk.replies())
        self.rig.desk.bring(self.rig.desk.orders(ORDER % (order_id, side)))
        await until(lambda: len(self.rig.desk.replies()) > before)
        return str(self.rig.desk.replies()[-1].verdict)

    async def written(self) -> None:
        """Have all of the pool written down."""
        await self.notes.follow(self.rig.days, self.record, NB_SH)

    def changes_to(self, book: Book, run_id: str = "another") -> None:
        """Let the store come back as another server, with this."""
        self.rig.store.books[NB_SH], self.rig.store.run_id = book, run_id

    async def looks(self, times: int = 3) -> Status:
        """Look at the pool as the watch does, and let the recovery look; the pool's status then."""
        for _ in range(times):
            await self.rig.days.look(NB_SH)
            await open_due(self.rig.days)
            await self.recovery.look(NB_SH)
        snapshot = await self.rig.days.look(NB_SH)
        assert snapshot.pool is not None
        return snapshot.pool.status

    def ids(self) -> list[str]:
        """Which orders the journal names, in its order."""
        return [entry.event.split()[1] for entry in self.rig.store.books[NB_SH].journal if not entry.is_act]

    def restarted(self) -> Site:
        """A fresh daemon over the same store and the same record."""
        return site_of(self.rig.restarted(), self.notes, resumes=self.recovery.resumes)


async def open_due(days: Days, pool: PoolName = NB_SH) -> None:
    """Open the day that is due, if any."""
    if (day := days.due(pool)) is not None:
        await days.open_due(pool, day)


def site_of(here: Rig, notes: Notes, *, resumes: bool) -> Site:
    record = Record()
    record.books = here.store.books
    return Site(here, record, notes, Recovery(here.store, record, here.days, notes, resumes))


@asynccontextmanager
async def sited(monkeypatch: pytest.MonkeyPatch, *, resumes: bool = True) -> AsyncIterator[Site]:
    """A site whose daemon runs; whether it may resume a rebuilt day by itself."""
    here = site_of(rig(monkeypatch), Notes(), resumes=resumes)
    async with running(here.rig):
        yield here


async def morning(site: Site) -> Book:
    """Take orders in and write them down; the store as it was before the last two."""
    for name in ("a", "b", "c"):
        await site.order(name)
    await site.rig.store.reserve(NB_SH, buy("gw"), 60_000)
    early = copy.deepcopy(site.rig.store.books[NB_SH])
    await site.order("d")
    await site.rig.store.apply(NB_SH, [Cancelled(order_id="a")])
    await site.written()
    return early

"""One pool twice: in the model and in a store. Every call goes to both, and must do the same.

What is compared after each step is the whole state, as state.py reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from quota.day import REBUILT
from quota.decision import Decision, Outcome, PoolName, Side, Verdict
from quota.doubt import Claim
from quota.errors import LedgerCorrupt
from quota.events import Event, NewOrder
from quota.journal import Entry
from quota.ledger import Act, Attestation, RedisLedger, Replayed
from quota.library import Library
from quota.pool import Opening, Pool
from quota.store.record import keys
from tests.agreement.solo import Solo, said
from tests.agreement.state import (
    DOUBTED,
    ELSEWHERE,
    HOUR_MS,
    answered,
    command,
    contents,
    identity,
    ours_of,
    same,
    schedule_of,
    server_ms,
    theirs_of,
    timeless,
)

__all__ = ["Solo", "Twin", "fresh_twin"]


class Twin(Solo):
    """The same pool in a MemoryLedger and in a store."""

    def __init__(self, client: Redis, now_ms: int, name: PoolName = PoolName.NB_SH) -> None:
        super().__init__(now_ms, name)
        self.client, self.store = client, RedisLedger(Library(client))

    # What can be done, to both.

    async def stand_at(self, place: str) -> None:
        was = self.pool
        await super().stand_at(place)
        assert was is not None
        key, moved = keys(self.name)[0], schedule_of(place, self.now_ms)
        frame: Any = await self.client.hget(key, "frame")
        await self.client.hset(key, "schedule", moved)
        if frame is not None:
            await self.client.hset(key, "frame", frame.decode().replace(was.schedule, moved))

    async def age(self, hours: int) -> None:
        await super().age(hours)
        await self._align()

    async def _align(self) -> None:
        """Give the store's holds the moments of the model's, whose clock stands still."""
        book = self.model.books[self.name]
        for order_id, lapses_ms in book.holds.items():
            await self.client.zadd(keys(self.name)[3], {order_id: lapses_ms}, xx=True)
        if book.pool is not None and book.pool.next_lapse_ms:
            await self.client.hset(keys(self.name)[0], "next_lapse", str(book.pool.next_lapse_ms))

    async def _check_moments(self, order_id: str) -> None:
        """See that a hold ends in the store when it should, but for the time that went by since we began."""
        book = self.model.books[self.name]
        score = await self.client.zscore(keys(self.name)[3], order_id)
        assert (score is None) == (order_id not in book.holds)
        assert 0 <= (score or 0) - book.holds.get(order_id, 0) < HOUR_MS // 2
        told: Any = await self.client.hget(keys(self.name)[0], "next_lapse")
        ours = book.pool.next_lapse_ms if book.pool else 0
        assert 0 <= int(told or "0") - ours < HOUR_MS // 2

    async def store_changes(self) -> None:
        was = self.pool
        await super().store_changes()
        assert was is not None
        attested = REBUILT if was.attested == REBUILT else ELSEWHERE
        key = keys(self.name)[0]
        frame: Any = await self.client.hget(key, "frame")
        rest = frame.decode().split("\n")[:-2] if was.attested else frame.decode().split("\n")
        frame = "\n".join([*rest, attested, DOUBTED])
        await self.client.hset(key, mapping={"attested": attested, "doubted": DOUBTED, "frame": frame})

    async def version_1(self) -> None:
        await super().version_1()
        key = keys(self.name)[0]
        frame: Any = await self.client.hget(key, "frame")
        await self.client.hset(key, "frame", "\n".join(frame.decode().split("\n")[:-2]))
        await self.client.hdel(key, "attested", "doubted")

    async def open_day(self, opening: Opening) -> object:
        self.model.run_id = await identity(self.client)
        ours = await super().open_day(opening)
        assert await said(self.store.open_day(self.name, opening)) == ours
        return ours

    async def apply(self, *events: Event) -> list[Decision]:
        ours = await super().apply(*events)
        assert list(await self.store.apply(self.name, events)) == ours
        return ours

    async def reserve(self, order: NewOrder, hold_ms: int | None = None) -> Decision:
        ours = await super().reserve(order, hold_ms)
        args = [order.order_id, order.side, order.price, str(order.quantity), order.source or "-"]
        args += [] if hold_ms is None else [str(hold_ms)]
        try:
            theirs = await command(self.client, "FCALL", "quota_reserve", 6, *keys(self.name), *args)
        except ResponseError as error:
            theirs = str(error).partition(" ")[0]
        assert theirs == ("QUOTAINVALID" if ours.outcome is Outcome.DEAD else reserved(ours))
        await self._check_moments(order.order_id)
        await self._align()
        return ours

    async def release(self, order_id: str) -> object:
        ours = await super().release(order_id)
        try:
            theirs: object = await self.store.release(self.name, order_id)
        except LedgerCorrupt as error:
            theirs = str(error).removeprefix("redis: ")
        assert theirs == ours
        return ours

    async def attest(self, *claims: Claim, put_back: bool = False) -> Attestation:
        ours = await super().attest(*claims, put_back=put_back)
        theirs = await self.store.attest(self.name, claims, put_back=put_back)
        assert (theirs.outcome, timeless(theirs.detail)) == (ours.outcome, timeless(ours.detail))
        return ours

    async def replay(self, terms: Pool, entries: Sequence[Entry]) -> Replayed:
        ours = await super().replay(terms, entries)
        assert await self.store.replay(self.name, terms, entries) == ours
        if (aside := self.model.books[self.name].aside) is not None:
            same(await theirs_of(self.client, self.name, "rebuilt"), ours_of(aside))
        return ours

    async def adopt(self, trading_day: str, seq: int, live_seq: int = 0) -> Replayed:
        ours = await super().adopt(trading_day, seq, live_seq)
        assert await self.store.adopt(self.name, trading_day, seq, live_seq) == ours
        return ours

    async def check(self, side: Side) -> Verdict:
        """Ask what an order would get; the store must stay as it is."""
        ours = await super().check(side)
        before = await contents(self.client)
        theirs = await command(self.client, "FCALL_RO", "quota_check", 1, keys(self.name)[0], side)
        pool = self.seen
        balance, seq = (pool.balance_fen, pool.seq) if pool else (None, None)
        words = (pool.status, pool.phase) if pool else ("closed", "closed")
        assert theirs == [ours.encode(), balance, seq, *(word.encode() for word in words)]
        assert await contents(self.client) == before
        return ours

    async def operate(self, act: Act) -> object:
        ours = await super().operate(act)
        assert await said(self.store.operate(self.name, act)) == ours
        return ours

    async def set_rate(self, trading_day: str, rate: str) -> str:
        ours = await super().set_rate(trading_day, rate)
        assert await self.store.set_rate(self.name, trading_day, rate) == ours
        return ours

    async def tick(self, *, publish: bool) -> Pool | None:
        ours = await super().tick(publish=publish)
        theirs = await self.store.tick(self.name)
        assert _ageless(theirs.pool) == _ageless(ours)
        if publish and ours is not None:
            again = await self.store.tick(self.name, theirs.last_change)
            assert again.published == theirs.last_change
        return ours

    # Whether both are the same.

    async def agree(self) -> None:
        """Compare the whole state of the two."""
        same(await theirs_of(self.client, self.name), ours_of(self.model.books[self.name]))


def reserved(decision: Decision) -> list[object]:
    """Write a decision as ``quota_reserve`` replies it."""
    assert decision.verdict is not None
    replayed = int(decision.outcome is Outcome.DUPLICATE)
    words = (decision.verdict.encode(), decision.status.encode())
    return [words[0], decision.balance_fen, decision.seq, replayed, words[1]]


async def fresh_twin(client: Redis, name: PoolName = PoolName.NB_SH) -> Twin:
    """Begin with an empty store that holds the library."""
    await client.flushall()
    await Library(client).load()
    twin = Twin(client, await server_ms(client), name)
    twin.model.run_id = await identity(client)
    return twin


def _ageless(pool: Pool | None) -> Pool | None:
    """A pool without the moment at which an operator answered for its store."""
    return replace(pool, doubted=answered(pool.doubted)) if pool else None

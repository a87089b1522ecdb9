"""One pool twice: in the model and in a store. Every call goes to both, and must do the same.

What is compared after each step is the whole state, as state.py reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from quota import rules
from quota.day import judged
from quota.decision import Decision, Outcome, PoolName, Side, Verdict
from quota.errors import ConfigError
from quota.events import Event, NewOrder
from quota.ledger import Act, RedisLedger
from quota.library import Library
from quota.memory import MemoryLedger
from quota.pool import Opening, Order, Pool
from quota.record import keys
from quota.rules import checked_verdict
from tests.agreement.state import State, command, contents, ours_of, schedule_of, server_ms, theirs_of


class Solo:
    """A pool in a MemoryLedger alone, at one moment of the store's clock."""

    def __init__(self, now_ms: int, name: PoolName = PoolName.NB_SH) -> None:
        self.now_ms, self.name, self.place = now_ms, name, "before"
        self.model = MemoryLedger(lambda: now_ms)

    @property
    def pool(self) -> Pool | None:
        """The model's pool."""
        return self.model.books[self.name].pool

    async def open_day(self, opening: Opening) -> object:
        """Open a day; a refusal is returned as its text."""
        return await _said(self.model.open_day(self.name, opening))

    async def stand_at(self, place: str) -> None:
        """Let time pass, unnoticed: the clock stays, the day's schedule moves."""
        book = self.model.books[self.name]
        assert book.pool is not None
        self.place = place
        book.pool = replace(book.pool, schedule=schedule_of(place, self.now_ms))

    async def apply(self, *events: Event) -> list[Decision]:
        """Apply a batch."""
        return list(await self.model.apply(self.name, events))

    async def reserve(self, order: NewOrder) -> Decision:
        """Decide an order as a gateway does: as the ``new`` that it stands for.

        One that cannot be applied is malformed: it leaves no trace.
        """
        book = self.model.books[self.name]
        known = book.orders.get(order.order_id, Order())
        _, _, decision = rules.apply(book.pool, known, None, order, now_ms=self.now_ms)
        if decision.outcome is not Outcome.DEAD:
            (decision,) = await self.model.apply(self.name, [order])
        return decision

    async def check(self, side: Side) -> Verdict:
        """Ask what an order would get."""
        return checked_verdict(self.pool and judged(self.pool, self.now_ms), side)

    async def operate(self, act: Act) -> object:
        """Carry out an operator's act; a refusal is returned as its text."""
        return await _said(self.model.operate(self.name, act))

    async def set_rate(self, trading_day: str, rate: str) -> str:
        """Set the rate."""
        return await self.model.set_rate(self.name, trading_day, rate)

    async def tick(self, *, publish: bool) -> Pool | None:
        """Judge the clock; with ``publish`` say that all changes were published."""
        seen = await self.model.tick(self.name)
        if publish and seen.pool is not None:
            await self.model.tick(self.name, seen.last_change)
        return seen.pool

    async def agree(self) -> None:
        """There is nobody to disagree with."""


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

    async def open_day(self, opening: Opening) -> object:
        ours = await super().open_day(opening)
        assert await _said(self.store.open_day(self.name, opening)) == ours
        return ours

    async def apply(self, *events: Event) -> list[Decision]:
        ours = await super().apply(*events)
        assert list(await self.store.apply(self.name, events)) == ours
        return ours

    async def reserve(self, order: NewOrder) -> Decision:
        ours = await super().reserve(order)
        args = (order.order_id, order.side, order.price, str(order.quantity), order.source or "-")
        try:
            theirs = await command(self.client, "FCALL", "quota_reserve", 6, *keys(self.name), *args)
        except ResponseError as error:
            theirs = str(error).partition(" ")[0]
        assert theirs == ("QUOTAINVALID" if ours.outcome is Outcome.DEAD else reserved(ours))
        return ours

    async def check(self, side: Side) -> Verdict:
        """Ask what an order would get; the store must stay as it is."""
        ours = await super().check(side)
        before = await contents(self.client)
        theirs = await command(self.client, "FCALL_RO", "quota_check", 1, keys(self.name)[0], side)
        pool = self.pool and judged(self.pool, self.now_ms)
        balance, seq = (pool.balance_fen, pool.seq) if pool else (None, None)
        words = (pool.status, pool.phase) if pool else ("closed", "closed")
        assert theirs == [ours.encode(), balance, seq, *(word.encode() for word in words)]
        assert await contents(self.client) == before
        return ours

    async def operate(self, act: Act) -> object:
        ours = await super().operate(act)
        assert await _said(self.store.operate(self.name, act)) == ours
        return ours

    async def set_rate(self, trading_day: str, rate: str) -> str:
        ours = await super().set_rate(trading_day, rate)
        assert await self.store.set_rate(self.name, trading_day, rate) == ours
        return ours

    async def tick(self, *, publish: bool) -> Pool | None:
        ours = await super().tick(publish=publish)
        theirs = await self.store.tick(self.name)
        assert theirs.pool == ours
        if publish and ours is not None:
            again = await self.store.tick(self.name, theirs.last_change)
            assert again.published == theirs.last_change
        return ours

    # Whether both are the same.

    async def agree(self) -> None:
        """Compare the whole state of the two."""
        ours = ours_of(self.model.books[self.name])
        theirs = await theirs_of(self.client, self.name)
        for part in State.__struct_fields__:
            assert getattr(theirs, part) == getattr(ours, part), part


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
    return Twin(client, await server_ms(client), name)


async def _said(call: Awaitable[object]) -> object:
    try:
        return await call
    except ConfigError as refusal:
        return str(refusal)

"""One pool twice: in the model and in a store. Every call goes to both, and must do the same.

What is compared after each step is the whole state, as state.py reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from quota.decision import Attest, Decision, Outcome, PoolName, Side, Verdict
from quota.doubt import Claim
from quota.errors import ConfigError, LedgerCorrupt
from quota.events import Event, NewOrder
from quota.ledger import Act, Attestation, RedisLedger
from quota.library import Library
from quota.memory import MemoryLedger
from quota.pool import Opening, Pool
from quota.rules import checked_verdict
from quota.store.record import keys
from tests.agreement.state import (
    DOUBTED,
    ELSEWHERE,
    HOUR_MS,
    NEVER_MS,
    State,
    command,
    contents,
    identity,
    ours_of,
    schedule_of,
    server_ms,
    theirs_of,
    timeless,
)


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

    async def age(self, hours: int) -> None:
        """Let so many hours of every hold pass, unnoticed: the clock stays, the holds' moments move."""
        book = self.model.books[self.name]
        assert book.pool is not None
        book.holds = {name: ms - hours * HOUR_MS for name, ms in book.holds.items()}
        if book.pool.next_lapse_ms:
            book.pool = replace(book.pool, next_lapse_ms=book.pool.next_lapse_ms - hours * HOUR_MS)

    async def store_changes(self) -> None:
        """Let the pool stand on another server than the one on which it was attested."""
        book = self.model.books[self.name]
        assert book.pool is not None
        book.pool = replace(book.pool, attested=ELSEWHERE, doubted=DOUBTED)

    async def version_1(self) -> None:
        """Let the pool be one that was opened before servers were attested."""
        book = self.model.books[self.name]
        assert book.pool is not None
        book.pool = replace(book.pool, attested="", doubted="")

    async def reserve(self, order: NewOrder, hold_ms: int | None = None) -> Decision:
        """Decide an order as a gateway does. One that cannot be applied is malformed: it leaves no trace."""
        return self.model.decide(self.name, order, hold_ms)

    async def release(self, order_id: str) -> object:
        """Give a reservation back; what cannot be given back is returned as its text."""
        try:
            return await self.model.release(self.name, order_id)
        except LedgerCorrupt as error:
            return str(error)

    async def attest(self, *claims: Claim) -> Attestation:
        """Say that the store has lost nothing."""
        return await self.model.attest(self.name, claims)

    async def attest_last(self, behind: int, *, wrong: bool = False, long_ago: bool = False) -> Attest:
        """Attest with an entry of the journal, so many before the last; -1 is one that never was."""
        journal = self.model.books[self.name].journal
        seq = max(0, len(journal) - behind)
        known = journal[seq - 1].balance_fen if 0 < seq <= len(journal) else 0
        return (await self.attest(Claim(seq, known + wrong, 1 if long_ago else NEVER_MS))).outcome

    @property
    def seen(self) -> Pool | None:
        """The pool as whoever looks now would see it."""
        return self.model.seen(self.name)

    async def check(self, side: Side) -> Verdict:
        """Ask what an order would get."""
        return checked_verdict(self.seen, side)

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
        key = keys(self.name)[0]
        frame: Any = await self.client.hget(key, "frame")
        rest = frame.decode().split("\n")[:-2] if was.attested else frame.decode().split("\n")
        frame = "\n".join([*rest, ELSEWHERE, DOUBTED])
        await self.client.hset(key, mapping={"attested": ELSEWHERE, "doubted": DOUBTED, "frame": frame})

    async def version_1(self) -> None:
        await super().version_1()
        key = keys(self.name)[0]
        frame: Any = await self.client.hget(key, "frame")
        await self.client.hset(key, "frame", "\n".join(frame.decode().split("\n")[:-2]))
        await self.client.hdel(key, "attested", "doubted")

    async def open_day(self, opening: Opening) -> object:
        self.model.run_id = await identity(self.client)
        ours = await super().open_day(opening)
        assert await _said(self.store.open_day(self.name, opening)) == ours
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

    async def attest(self, *claims: Claim) -> Attestation:
        ours = await super().attest(*claims)
        theirs = await self.store.attest(self.name, claims)
        assert (theirs.outcome, timeless(theirs.detail)) == (ours.outcome, timeless(ours.detail))
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

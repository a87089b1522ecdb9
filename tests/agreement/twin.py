"""One pool twice: in the model and in a store. Every call goes to both, and must do the same.

What is compared after each call is the whole state: every field of the pool's hash, every order,
every execution, the journal and the changes. Times and stream ids are the store's own.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from quota import library, rules
from quota.day import judged
from quota.decision import Decision, Outcome, PoolName, Side, Verdict
from quota.errors import ConfigError
from quota.events import Event, NewOrder
from quota.journal import Entry
from quota.ledger import Act, RedisLedger, change_of, keys, order_of, pool_of
from quota.library import Library
from quota.memory import MemoryLedger
from quota.pool import Change, Execution, Opening, Order, Pool
from quota.rules import checked_verdict

DAY = "2026-11-23"
HOUR_MS = 3_600_000
PLACES = ("before", "opening", "morning", "break", "afternoon", "closing", "after")
"""Where in a day the clock can stand: each is a phase, two of them are ``continuous``."""

_SEGMENTS = ("opening", "continuous", "break", "continuous", "closing", "closed")
_PRIVATE = {"frame", "published", "last_change"}
_SIDES = (None, *Side)


def schedule_of(place: str, now_ms: int) -> str:
    """Write a day's schedule in which now is an hour into ``place`` and an hour from the next."""
    stands = PLACES.index(place)
    return " ".join(
        f"{now_ms + (2 * (segment - stands) + 1) * HOUR_MS} {phase}"
        for segment, phase in enumerate(_SEGMENTS)
    )


def frame_names() -> list[str]:
    """Read from the library which fields its frame holds, in order."""
    match = re.search(r"local FRAME = \{(.*?)\}", library.SOURCE, re.DOTALL)
    return re.findall(r"'(\w+)'", match[1]) if match else []


def fields_of(pool: Pool) -> dict[str, str]:
    """Write a pool as its hash must read, field by field."""
    flags = ("began", "exhausted", "suspended", "resumes_in_opening")
    counts = ("limit_fen", "balance_fen", "open_buy_fen", "filled_buy_fen", "filled_sell_fen", "seq", "level")
    texts = ("trading_day", "rate", "schedule", "admission", "phase", "status", "halted", "origin")
    fields = {name: str(int(getattr(pool, name))) for name in flags + counts}
    fields |= {name: str(getattr(pool, name)) for name in texts}
    fields |= {"levels": " ".join(map(str, pool.levels)), "kept": " ".join(pool.kept)}
    decided = {(Side.BUY, Verdict.ACCEPTED): 0} | pool.decided
    fields |= {f"decided_{side}_{verdict}": str(count) for (side, verdict), count in decided.items()}
    return fields | {f"violated_{kind}": str(count) for kind, count in pool.violated.items()}


class State(msgspec.Struct):
    """Everything that is kept of a pool, with the store's own times and ids left out."""

    fields: dict[str, str]
    pool: Pool | None
    orders: dict[str, Any]
    executions: dict[str, Execution]
    changes: list[Change]
    journal: list[Entry]
    days: list[str]


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
            theirs = await self._fcall("FCALL", "quota_reserve", 6, *keys(self.name), *args)
        except ResponseError as error:
            theirs = str(error).partition(" ")[0]
        assert theirs == ("QUOTAINVALID" if ours.outcome is Outcome.DEAD else reserved(ours))
        return ours

    async def check(self, side: Side) -> Verdict:
        """Ask what an order would get; the store must stay as it is."""
        ours = await super().check(side)
        before = await contents(self.client)
        theirs = await self._fcall("FCALL_RO", "quota_check", 1, keys(self.name)[0], side)
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

    async def _fcall(self, *words: str | int) -> Any:  # noqa: ANN401 - as the function replies
        return await self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    # Whether both are the same.

    async def agree(self) -> None:
        """Compare the whole state of the two."""
        ours, theirs = self._ours(), await self._theirs()
        for part in State.__struct_fields__:
            assert getattr(theirs, part) == getattr(ours, part), part

    def _ours(self) -> State:
        book = self.model.books[self.name]
        return State(
            fields=fields_of(book.pool) if book.pool else {},
            pool=book.pool,
            orders=dict(book.orders),
            executions=dict(book.executions),
            changes=[replace(change, id="", time_ms=0) for change in book.changes],
            journal=[replace(entry, time_ms=0) for entry in book.journal],
            days=sorted(book.pool.kept) if book.pool else [],
        )

    async def _theirs(self) -> State:
        pool, orders, execs, changes, journal = keys(self.name)[:3] + keys(self.name)[4:]
        async with self.client.pipeline(transaction=False) as pipe:
            for name in (pool, orders, execs):
                pipe.execute_command("HGETALL", name)
            for name in (changes, journal):
                pipe.execute_command("XRANGE", name, "-", "+")
            pipe.execute_command("KEYS", f"quota:{{{self.name}}}:*")
            raw: Any = await pipe.execute()
        fields = _texts(raw[0])
        self._check_frame(fields, raw[3])
        return State(
            fields={name: text for name, text in fields.items() if name not in _PRIVATE},
            pool=pool_of(fields),
            orders={name.decode(): order_of(record) for name, record in raw[1].items()},
            executions={name.decode(): execution_of(record) for name, record in raw[2].items()},
            changes=[replace(change_of("", entry), time_ms=0) for _, entry in raw[3]],
            journal=[replace(Entry.read(key.decode(), _texts(entry)), time_ms=0) for key, entry in raw[4]],
            days=sorted({name.decode().split(":")[3] for name in raw[5] if name.count(b":") == 3}),
        )

    @staticmethod
    def _check_frame(fields: Mapping[str, str], changes: Sequence[Any]) -> None:
        """See that the frame says what the fields say, and that the last change is known by its id."""
        if not fields:
            return
        assert changes
        assert fields["last_change"] == changes[-1][0].decode()
        if "frame" in fields:
            assert fields["frame"].split("\n") == [fields.get(name) for name in frame_names()]


def execution_of(record: bytes) -> Execution:
    """Read an execution's record: five MessagePack values, one after the other."""
    order_id, side, price, quantity, busted = msgspec.msgpack.decode(b"\x95" + record)
    known = _SIDES[side]
    assert known is not None
    return Execution(order_id, known, price, quantity, bool(busted))


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


async def server_ms(client: Redis) -> int:
    """Read the store's clock."""
    seconds, micros = await client.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def contents(client: Redis) -> dict[bytes, Any]:
    """Take a copy of every key. DUMP would do, but a hash that rehashes dumps in another order."""
    names: Any = sorted(await client.keys("*"))
    return {name: await _content(client, name) for name in names}


async def _content(client: Redis, name: bytes) -> Any:  # noqa: ANN401 - whatever it holds
    match await client.type(name):
        case b"hash":
            return await client.hgetall(name)
        case b"stream":
            return await client.xrange(name)
        case _:
            return await client.dump(name)


async def _said(call: Awaitable[object]) -> object:
    try:
        return await call
    except ConfigError as refusal:
        return str(refusal)


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): text.decode() for name, text in fields.items()}

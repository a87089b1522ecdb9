"""A day that was played by the rules in memory, with all that its record says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from feeds.archive import Archive
from feeds.codec import decode
from quota.captured import Captured, Changed, Delivered, Journalled, Opened
from quota.clock import MarketClock
from quota.decision import Decision, PoolName, Side, Verdict
from quota.events import NewOrder
from quota.ledger import Act
from quota.memory import MemoryLedger
from quota.pool import Opening, Pool
from quota.rulebook import Calendar, schedule
from tests.captures import kept
from tests.rigs import ms
from tests.traffic import RATE, made

DAY = "2026-11-23"
LIMIT_FEN = 60_000_000_000
CALENDAR = Calendar.load()
ACTS = (
    Act(act="halt", reason="drill", user="ann", host="desk"),
    Act(act="resume", reason="drill over", user="ann", host="desk"),
    Act(act="limit", reason="less", user="bob", host="desk", limit_fen=1_000_000),
)


@dataclass(slots=True)
class Played:
    """What was played: the record, in the order of a daemon, and what the ledger said."""

    ledger: MemoryLedger
    records: list[Captured] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    told: dict[PoolName, tuple[int, int]] = field(default_factory=dict)

    def follow(self) -> None:
        """Write down what is new, as the recorder does."""
        for pool in PoolName:
            book, (seq, change) = self.ledger.books[pool], self.told.get(pool, (0, 0))
            self.records += [
                Journalled(pool=pool, trading_day=DAY, entry=entry) for entry in book.journal[seq:]
            ]
            self.records += [Changed(pool=pool, trading_day=DAY, change=it) for it in book.changes[change:]]
            self.told[pool] = len(book.journal), len(book.changes)

    def pool(self, name: PoolName) -> Pool:
        pool = self.ledger.books[name].pool
        assert pool is not None
        return pool

    def entries(self, pool: PoolName) -> list[Journalled]:
        return [it for it in self.records if isinstance(it, Journalled) and it.pool is pool]

    def without(self, gone: Callable[[Captured], bool]) -> list[Captured]:
        return [record for record in self.records if not gone(record)]


def opening(pool: PoolName) -> Opening:
    return Opening(
        trading_day=DAY,
        limit_fen=LIMIT_FEN,
        rate="1.00000" if pool.northbound else RATE,
        schedule=schedule(pool, date.fromisoformat(DAY), MarketClock(), CALENDAR),
        open_late=True,
    )


async def played(seed: int = 1, events: int = 1_000) -> Played:
    """Play a day: traffic of a seed from 09:00 to 16:30, gateways beside it, acts in the middle."""
    now = [ms(f"{DAY}T09:00:00+08:00")]
    here = Played(MemoryLedger(lambda: now[0]))
    for pool in PoolName:
        await here.ledger.open_day(pool, opening(pool))
        here.records.append(Opened(time_ms=now[0], pool=pool, terms=here.pool(pool)))
    messages = made(seed, events).messages
    step_ms = (ms(f"{DAY}T16:30:00+08:00") - now[0]) // len(messages)
    for place, (topic, payloads) in enumerate(messages):
        now[0] += step_ms
        await deliver(here, now[0], topic, json.dumps(payloads).encode())
        await beside(here, place, len(messages))
        here.follow()
    await deliver(here, now[0], "connect/NB-SH/orders", b"no <JSON>")
    await deliver(here, now[0], "connect/NB-HK/orders", b"{}")
    return here


async def deliver(here: Played, time_ms: int, topic: str, payload: bytes) -> None:
    here.records.append(Delivered(time_ms=time_ms, topic=topic, payload=payload))
    said = decode(topic, payload, "connect", frozenset(PoolName))
    assert said is not None
    if said.pool is not None and said.events:
        here.decisions += await here.ledger.apply(said.pool, said.events)


async def beside(here: Played, place: int, of: int) -> None:
    """What did not come over MQTT."""
    pool = list(PoolName)[place % 4]
    if place % 5 == 0:
        order = NewOrder(order_id=f"g{place}", side=Side.BUY, price="10.00", quantity=100, source="gate")
        reserved = await here.ledger.reserve(pool, order, 1_000 if place % 10 else None)
        if place % 3 == 0 and reserved.verdict is Verdict.ACCEPTED:
            await here.ledger.release(pool, f"g{place}")
    if place in {of // 4, of // 3, of // 2}:
        act = ACTS[[of // 4, of // 3, of // 2].index(place)]
        for name in PoolName:
            await here.ledger.operate(name, act)


async def archived(folder: Path, records: Sequence[Captured], **settings: str) -> Archive:
    """Keep records in files of the day, a hundred in a write, and have them read."""
    batches = [records[start : start + 100] for start in range(0, len(records), 100)]
    await kept(folder, *batches, **settings)
    return Archive(folder, settings.get("client_id", "quotad"), "connect")

"""A daemon that dies at a chosen step, a broker that delivers again, and what a death may not change.

Every call to the feed, to the ledger and to the record of the day is two steps, one before it has its
effect and one after; so is every acknowledgement. From its death on, a daemon does nothing more, as after
SIGKILL.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, cast

from msgspec.structs import replace

from quota.captured import Capture, Captured, Delivered
from quota.clock import MarketClock
from quota.config import Settings, load
from quota.daemon import Daemon
from quota.days import Almanac, Days
from quota.decision import Verdict
from quota.errors import LedgerUnavailable
from quota.feed import Delivery, Feed
from quota.journal import Entry
from quota.ledger import Ledger, RedisLedger
from quota.memory import MemoryLedger
from quota.metrics import Metrics
from quota.numbers import Source
from quota.proof.verify import verify
from quota.rulebook import Calendar
from tests.captures import Notebook
from tests.morning import MISTAKES, NEWS, NUMBERS, morning
from tests.rigs import MONDAY, NB_SH, SB_SH, Desk, until

POOLS = (NB_SH, SB_SH)
SLOW_TURNS = 20


class Died(BaseException):
    """What ends a daemon like SIGKILL: nothing of ours catches it."""


@dataclass(slots=True)
class Life:
    """The steps of one daemon; it dies at the step ``until``, and every step after it dies too."""

    until: int = 0
    steps: int = 0

    @property
    def over(self) -> bool:
        return 0 < self.until <= self.steps

    def step(self) -> None:
        self.steps += not self.over
        if self.over:
            raise Died


class Mortal:
    """A part of a daemon: each call of it, and of a ledger's sources, is a step before and one after."""

    def __init__(self, part: object, life: Life) -> None:
        self._part, self._life = part, life

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the part has
        found = getattr(self._part, name)
        if name == "sources":
            return Mortal(found, self._life)
        if asyncio.iscoroutinefunction(found):
            return self._awaited(found)
        return self._called(found) if callable(found) else found

    def _awaited(self, call: Any) -> Any:  # noqa: ANN401 - any method
        async def stepped(*words: Any, **named: Any) -> Any:  # noqa: ANN401 - its own signature
            self._life.step()
            done = await call(*words, **named)
            self._life.step()
            return done

        return stepped

    def _called(self, call: Any) -> Any:  # noqa: ANN401 - any method
        def stepped(*words: Any, **named: Any) -> Any:  # noqa: ANN401 - its own signature
            self._life.step()
            done = call(*words, **named)
            self._life.step()
            return done

        return stepped


@dataclass(slots=True)
class Broker(Desk):
    """A feed that delivers again, to the next daemon and in order, what was not acknowledged."""

    queue: list[Delivery] = field(default_factory=list)
    at_once: int = 2

    def deliver(self, life: Life) -> None:
        """Hand everything that is left to a new connection, a few messages at a time."""
        self._held = [replace(each, acknowledge=self._ack(each, life)) for each in self.queue]
        self._stirred = asyncio.Event()

    def _ack(self, delivery: Delivery, life: Life) -> Any:  # noqa: ANN401 - a call without arguments
        def done() -> None:
            life.step()
            self.queue = [each for each in self.queue if each is not delivery]
            life.step()

        return done

    async def receive(self) -> Sequence[Delivery]:
        while not self._held:
            self._stirred.clear()
            await self._stirred.wait()
        taken, self._held = self._held[: self.at_once], self._held[self.at_once :]
        return taken


@dataclass(slots=True)
class Slow(Notebook):
    """A record of the day that takes longer than the rules: who does not wait for it is too early."""

    async def keep(self, records: Sequence[Captured]) -> None:
        for _ in range(SLOW_TURNS):
            await asyncio.sleep(0)
        await Notebook.keep(self, records)


class Played(NamedTuple):
    """What is left of a morning, and the life of the daemon that began it."""

    broker: Broker
    record: Notebook
    life: Life


@cache
def settings() -> Settings:
    limits = {"QUOTA_MARKET__LIMITS_YUAN__NB_SH": "10000.00", "QUOTA_MARKET__LIMITS_YUAN__SB_SH": "50000.00"}
    return load(None, limits | {"QUOTA_MARKET__HKD_CNY": "0.91250"})


calendar = cache(Calendar.load)


def almanac_at(server_ms: int) -> Almanac:
    """Let it be ten o'clock of a trading day when the server says ``server_ms``; no rate is heard yet."""
    return Almanac(
        clock=MarketClock(datetime.fromisoformat(f"{MONDAY}T10:00+08:00"), server_ms, real=False),
        calendar=calendar(),
        market=settings().market,
        levels=settings().alerts.levels,
        open_late=True,
    )


async def lived(broker: Broker, record: Notebook, ledger: Ledger, server_ms: int, life: Life) -> None:
    """Let one daemon begin its days and consume, until it dies or everything is acknowledged."""
    feed, store = cast("Feed", Mortal(broker, life)), cast("Ledger", Mortal(ledger, life))
    days = Days(store, almanac_at(server_ms), POOLS)
    daemon = Daemon(feed, store, days, Metrics(POOLS, "1"), cast("Capture", Mortal(record, life)))
    broker.deliver(life)

    async def whole() -> None:
        while True:
            with suppress(LedgerUnavailable):
                await days.begin()
                break
        await daemon.consume()

    before = asyncio.all_tasks()
    task = asyncio.create_task(whole())
    await until(lambda: task.done() or not broker.queue)
    if not life.over:
        daemon.stop()
        await task
        return
    with suppress(Died):
        await task
    for found in await asyncio.gather(*(asyncio.all_tasks() - before), return_exceptions=True):
        assert found is None or isinstance(found, Died | list), found


async def played(ledger: Ledger, server_ms: int, dies_at: int) -> Played:
    """Play the morning with a death at this step and another daemon after it; 0 is no death."""
    broker, record, life = Broker(), Slow(), Life(dies_at)
    broker.queue = morning(broker)
    await lived(broker, record, ledger, server_ms, life)
    if life.over:
        await lived(broker, record, ledger, server_ms, Life())
    assert broker.queue == []
    return Played(broker, record, life)


async def judge(play: Played, ledger: Ledger) -> None:
    """Judge what a death may not change: answers, the record of the day, the numbers that have come."""
    judge_answers(play.broker)
    judge_record(play.record)
    await judge_numbers(ledger)


def judge_answers(broker: Broker) -> None:
    """Every order is answered, no order in two ways, and every mistake is told."""
    words: dict[str, set[str]] = defaultdict(set)
    for reply in broker.replies():
        words[reply.order_id].add(reply.verdict)
    assert set(words) == NEWS
    assert words["a"] == {Verdict.ACCEPTED, Verdict.ID_REUSED}
    assert all(len(words[order_id]) == 1 for order_id in NEWS - {"a"}), words
    assert len(set(broker.reasons())) == MISTAKES


def judge_record(record: Notebook) -> None:
    """Everything that was acknowledged, which is the whole morning, was written down, in its order."""
    written = [(one.topic, one.payload) for one in record.records if isinstance(one, Delivered)]
    assert list(dict.fromkeys(written)) == [(one.topic, one.payload) for one in morning(Broker())]


async def judge_numbers(ledger: Ledger) -> None:
    """Missing are the numbers that no event brought, and no others."""
    for pool in POOLS:
        register = await ledger.sources.read(pool)
        assert {name: _heard(source) for name, source in register.sources.items()} == NUMBERS[pool]


def _heard(source: Source) -> tuple[int, list[int]]:
    (epoch,) = source.epochs
    return epoch.last, [number for gap in epoch.gaps for number in range(gap.first, gap.last + 1)]


async def judge_store(ledger: RedisLedger, model: MemoryLedger) -> None:
    """Compare what is stored with the model: all but times, and who the server is."""
    for pool in POOLS:
        stored, book = await ledger.record.read(pool), model.books[pool]
        assert stored is not None
        assert book.pool is not None
        assert replace(stored, attested="") == replace(book.pool, attested="")
        entries = [entry async for entry in ledger.record.journal(pool, stored.seq)]
        assert [entry.seq for entry in entries] == list(range(1, stored.seq + 1))
        assert _timeless(entries) == _timeless(book.journal)
        assert (await verify(ledger.record, pool)).differences == ()


def _timeless(entries: list[Entry]) -> list[Entry]:
    return [replace(entry, time_ms=0) for entry in entries]

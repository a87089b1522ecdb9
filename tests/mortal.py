"""A daemon that dies at a chosen step, a broker that delivers again, and a morning to live through.

Every call to the feed and to the ledger is two steps, one before it has its effect and one after; so
is every acknowledgement. From its death on, a daemon does nothing more, as after SIGKILL.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from msgspec.structs import replace

from quota.clock import MarketClock
from quota.config import load
from quota.daemon import Daemon
from quota.days import Almanac, Days
from quota.decision import Verdict
from quota.errors import LedgerUnavailable
from quota.feed import Delivery, Feed
from quota.journal import Entry
from quota.ledger import Ledger, RedisLedger
from quota.memory import MemoryLedger
from quota.metrics import Metrics
from quota.proof.verify import verify
from quota.rulebook import Calendar
from tests.rigs import MONDAY, NB_SH, SB_SH, Desk, until

POOLS = (NB_SH, SB_SH)
MISTAKES = 2


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
    """A part of a daemon, each of whose calls is a step before and a step after."""

    def __init__(self, part: object, life: Life) -> None:
        self._part, self._life = part, life

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the part has
        found = getattr(self._part, name)
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


def order(order_id: str, amount: str, source: str = "") -> str:
    side, price, quantity = amount.split()
    by = f', "source": "{source}"' if source else ""
    return (
        f'{{"event": "new", "order_id": "{order_id}", "side": "{side}", "price": "{price}", '
        f'"quantity": {quantity}{by}}}'
    )


def fill(order_id: str, amount: str) -> str:
    return order(order_id, amount).replace('"new"', f'"fill", "exec_id": "{order_id}-1"')


def morning(broker: Broker) -> list[Delivery]:
    """A day in small: a limit that is used up, facts before their order, duplicates, mistakes, a rate."""
    a, b = order("a", "buy 10.00 400"), order("b", "buy 10.00 500", "gw1")
    return [
        broker.rate(MONDAY, "0.91000"),
        broker.orders(f"[{a}, {b}]"),
        broker.orders(order("s", "buy 100.00 10"), SB_SH),
        broker.orders(a),
        broker.fills(f"[{fill('a', 'buy 9.99 100')}, {fill('late', 'sell 5.00 10')}]"),
        broker.orders(order("c", "buy 10.00 600", "gw2")),
        Delivery("mark", b"mark", lambda: None, mark="mark"),
        broker.orders(order("d", "buy 10.00 1")),
        broker.orders("not JSON"),
        broker.orders('{"event": "cancelled", "order_id": "b"}'),
        broker.fills(f"[{fill('late', 'sell 5.00 10')}, {fill('a', 'sell 9.99 100')}]"),
        broker.orders(f"[{order('e', 'buy 1.00 1')}, {order('a', 'buy 10.00 401')}]"),
        broker.orders(order("late", "sell 5.00 10")),
        broker.fills(fill("s", "buy 99.00 10"), SB_SH),
        broker.orders(order("f", "sell 1.00 1"), SB_SH),
    ]  # fmt: skip


NEWS = {"a", "b", "c", "d", "e", "f", "s", "late"}


def almanac_at(server_ms: int) -> Almanac:
    """Let it be ten o'clock of a trading day when the server says ``server_ms``; no rate is heard yet."""
    limits = {"QUOTA_MARKET__LIMITS_YUAN__NB_SH": "10000.00", "QUOTA_MARKET__LIMITS_YUAN__SB_SH": "50000.00"}
    settings = load(None, limits | {"QUOTA_MARKET__HKD_CNY": "0.91250"})
    return Almanac(
        clock=MarketClock(datetime.fromisoformat(f"{MONDAY}T10:00+08:00"), server_ms, real=False),
        calendar=Calendar.load(),
        market=settings.market,
        levels=settings.alerts.levels,
        open_late=True,
    )


async def lived(broker: Broker, ledger: Ledger, server_ms: int, life: Life) -> None:
    """Let one daemon begin its days and consume, until it dies or everything is acknowledged."""
    feed, store = cast("Feed", Mortal(broker, life)), cast("Ledger", Mortal(ledger, life))
    days = Days(store, almanac_at(server_ms), POOLS)
    daemon = Daemon(feed, store, days, Metrics(POOLS, "1"))
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


async def played(ledger: Ledger, server_ms: int, dies_at: int) -> tuple[Broker, Life]:
    """Play the morning with a death at this step and another daemon after it; 0 is no death."""
    broker, life = Broker(), Life(dies_at)
    broker.queue = morning(broker)
    await lived(broker, ledger, server_ms, life)
    if life.over:
        await lived(broker, ledger, server_ms, Life())
    assert broker.queue == []
    return broker, life


def judge_answers(broker: Broker) -> None:
    """Every order is answered, no order in two ways, and every mistake is told."""
    words: dict[str, set[str]] = defaultdict(set)
    for reply in broker.replies():
        words[reply.order_id].add(reply.verdict)
    assert set(words) == NEWS
    assert words["a"] == {Verdict.ACCEPTED, Verdict.ID_REUSED}
    assert all(len(words[order_id]) == 1 for order_id in NEWS - {"a"}), words
    assert len(set(broker.reasons())) == MISTAKES


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

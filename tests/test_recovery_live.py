"""Real stores that lose data while gateways trade: buys wait, and what was answered stands again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from quota.clock import MarketClock
from quota.config import load
from quota.days import Almanac, Days
from quota.decision import PoolName, Side, Verdict
from quota.endpoints import Redis as Settings
from quota.errors import LedgerUnavailable
from quota.events import NewOrder
from quota.ledger import Act, RedisLedger
from quota.library import Library
from quota.proof.verify import verify
from quota.recovery import Recovery
from quota.rulebook import Calendar
from quota.running import ended
from quota.store.nodes import connected
from quota.store.record import keys
from tests.agreement.trading import buy
from tests.daemons import AT, DAY, Durable
from tests.fleet import Watched, say, watched
from tests.notes import Notes
from tests.recovering import open_due

POOL = PoolName.NB_SH
CHARGE_FEN = 100


def order_of(order_id: str) -> NewOrder:
    """The order of an id; those that are called so sell."""
    side = Side.SELL if order_id.startswith("sell") else Side.BUY
    return NewOrder(order_id=order_id, side=side, price="1.00", quantity=1)


@dataclass(slots=True)
class Post:
    """A daemon's looks at a real store, its recovery, and a gateway; ``told`` is what that was answered."""

    ledger: RedisLedger
    days: Days
    recovery: Recovery
    notes: Notes
    told: dict[str, tuple[Verdict, int | None]] = field(default_factory=dict)

    async def look(self) -> None:
        """Look once, as the daemon's tasks do; a store that is away is looked at again."""
        with suppress(LedgerUnavailable):
            await self.notes.follow(self.days, self.ledger.record, POOL)
            await open_due(self.days, POOL)
            await self.recovery.look(POOL)

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(0.01)

    async def ask(self, order_id: str) -> Verdict:
        """Ask until there is an answer, and keep the first."""
        order = order_of(order_id)
        async with asyncio.timeout(20):
            while True:
                with suppress(LedgerUnavailable):
                    answer = await self.ledger.reserve(POOL, order)
                    if answer.seq is not None:
                        return self.told.setdefault(order_id, (answer.verdict, answer.seq))[0]
                await asyncio.sleep(0.01)

    async def trade(self, name: str, orders: int) -> None:
        """Ask for some orders, one after the other."""
        for number in range(orders):
            await self.ask(f"{name}{number}")

    async def written(self) -> None:
        """Wait until all that was answered is written down."""
        seq = max(seq or 0 for _, seq in self.told.values())
        await self.until(lambda: len(self.notes.entries(POOL, DAY)) >= seq)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - other processes set no event of ours
                await asyncio.sleep(0.01)

    async def opens_again(self, name: str) -> None:
        """Ask with new ids until a buy gets in; none before that does but as ``halted``."""
        number = 0
        while (verdict := await self.ask(f"{name}{number}")) is not Verdict.ACCEPTED:
            assert verdict is Verdict.HALTED
            number += 1

    async def stands(self, before: dict[str, tuple[Verdict, int | None]]) -> None:
        """See that every order has its first answer, and those from before the loss their number too."""
        for order_id, (verdict, seq) in self.told.items():
            side = Side.SELL if order_id.startswith("sell") else Side.BUY
            again = await self.ledger.reserve(
                POOL, NewOrder(order_id=order_id, side=side, price="1.00", quantity=1)
            )
            assert (again.verdict, again.replayed) == (verdict, True), order_id
            assert order_id not in before or again.seq == seq
        pool = await self.ledger.record.read(POOL)
        assert pool is not None
        bought = [
            it for it, (verdict, _) in self.told.items() if verdict is Verdict.ACCEPTED and it[:4] != "sell"
        ]
        assert pool.limit_fen - pool.balance_fen == CHARGE_FEN * len(bought)
        assert (await verify(self.ledger.record, POOL)).differences == ()


@asynccontextmanager
async def posted(url: str, notes: Notes, *, resumes: bool = True) -> AsyncIterator[Post]:
    """Look after a store until the end."""
    nodes = connected(Settings(url=url, deadline_ms=1000))
    ledger = RedisLedger(library := Library(nodes))
    await library.load()
    settings = load(None, {"QUOTA_MARKET__POOLS": POOL, "QUOTA_MARKET__LIMITS_YUAN__NB_SH": "1000000.00"})
    clock = MarketClock(datetime.fromisoformat(AT), await library.server_ms(), 1.0, real=False)
    almanac = Almanac(clock, Calendar.load(), settings.market, settings.alerts.levels, open_late=True)
    days = Days(ledger, almanac, (POOL,))
    recovery = Recovery(ledger, ledger.record, days, notes, resumes)
    await recovery.learn()
    await days.begin()
    post = Post(ledger, days, recovery, notes)
    watching = asyncio.create_task(post.watch())
    try:
        yield post
    finally:
        await ended({watching})
        await nodes.aclose()


@pytest.fixture(params=["valkey", "redis"])
def durable(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Durable]:
    store = Durable(tmp_path, request.param)
    store.start()
    yield store
    store.stop()


def emptied(store: Durable) -> None:
    """Lose everything."""
    with store.client() as client:
        client.flushall()


def started_again(store: Durable) -> None:
    """End it at once, and start it again with what it had written."""
    store.stop()
    store.start()


async def test_everything_is_lost_in_mid_traffic(durable: Durable) -> None:
    async with posted(durable.url, Notes()) as post:
        await post.trade("early", 300)
        await post.written()
        before = dict(post.told)
        await asyncio.to_thread(emptied, durable)
        trading = asyncio.create_task(post.opens_again("late"))
        await asyncio.to_thread(started_again, durable)
        await post.ask("sell")
        await trading
        await post.trade("after", 20)
        await post.stands(before)
        assert post.recovery.warnings() == []


async def test_an_older_copy_is_restored(durable: Durable, tmp_path: Path) -> None:
    files, copy = tmp_path / "appendonlydir", tmp_path / "copy"
    async with posted(durable.url, Notes()) as post:
        await post.trade("early", 50)
        await post.written()
        await asyncio.to_thread(durable.stop)
        await asyncio.to_thread(shutil.copytree, files, copy)
        await asyncio.to_thread(durable.start)
        await post.trade("later", 50)
        await post.until(lambda: post.days.witness.trusts(POOL, post.days.snapshots[POOL]))
        await post.opens_again("again")
        await post.written()
        before = dict(post.told)
        await asyncio.to_thread(durable.stop)
        await asyncio.to_thread(shutil.rmtree, files)
        await asyncio.to_thread(shutil.copytree, copy, files)
        await asyncio.to_thread(durable.start)
        await post.ask("sell")
        await post.opens_again("late")
        await post.stands(before)


async def test_store_and_daemon_start_again_together(durable: Durable) -> None:
    notes = Notes()
    async with posted(durable.url, notes) as post:
        await post.trade("early", 50)
        await post.written()
    await asyncio.to_thread(durable.stop)
    await asyncio.to_thread(durable.start)
    async with posted(durable.url, notes) as again:
        again.told = dict(post.told)
        await again.opens_again("first")
        await again.stands(post.told)


async def test_an_operator_says_when_it_goes_on(durable: Durable) -> None:
    async with posted(durable.url, Notes(), resumes=False) as post:
        await post.trade("early", 50)
        await post.written()
        before = dict(post.told)
        await asyncio.to_thread(emptied, durable)
        await post.until(lambda: "an operator has to resume it" in str(post.recovery.warnings()))
        assert await post.ask("held") is Verdict.HALTED
        act = Act(act="resume", reason="compared", user="ann", host="desk")
        await post.ledger.operate(POOL, act)
        assert await post.ask("free") is Verdict.ACCEPTED
        await post.stands(before)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as servers:
        yield servers


async def test_a_failover_that_lost_answers_is_made_good(fleet: Watched) -> None:
    async with posted(f"redis+sentinel://127.0.0.1:{fleet.sentinel}/quota/0", Notes()) as post:
        await post.trade("kept", 20)
        await say(fleet.primary.port, "WAIT", 1, 5000)
        await say(fleet.primary.port, "ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
        await say(fleet.primary.port, "CLIENT", "KILL", "TYPE", "replica")
        await post.trade("lost", 20)
        await post.written()
        before = dict(post.told)
        fleet.primary.stop()
        await post.opens_again("late")
        await post.stands(before)
        assert await say(fleet.replica.port, "EXISTS", f"{keys(POOL)[0]}:{DAY}.lost") == 1


async def test_two_daemons_rebuild_the_same_day(durable: Durable) -> None:
    notes = Notes()
    async with posted(durable.url, notes) as post, posted(durable.url, notes) as other:
        await post.trade("early", 100)
        await post.written()
        before = dict(post.told)
        await asyncio.to_thread(emptied, durable)
        await post.opens_again("late")
        await other.until(lambda: not other.recovery.warnings())
        await post.stands(before)


async def test_buys_refused_while_it_is_lost_stay_refused(durable: Durable) -> None:
    async with posted(durable.url, Notes(), resumes=False) as post:
        await post.trade("early", 5)
        await post.written()
        await asyncio.to_thread(emptied, durable)
        assert await post.ask("held") is Verdict.HALTED
        await post.until(lambda: "an operator has to resume it" in str(post.recovery.warnings()))
        answer = await post.ledger.reserve(POOL, buy("held"))
        assert (answer.verdict, answer.replayed) == (Verdict.HALTED, True)

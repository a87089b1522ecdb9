"""What a gateway answers without asking, on real stores: only what is certain, and no longer than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from quota.decision import Side, Status, Verdict
from quota.gate.answers import USED_UP, Answer, Result
from quota.gateway import PreTrade, PreTradeSync
from quota.ledger import Act, RedisLedger
from quota.library import Library
from quota.store.record import keys
from tests.agreement.trading import HALT, POOL, opening
from tests.rigs import SOON_S
from tests.servers import Store
from tests.wires import Wire

REOPEN = Act(act="limit", reason="test", user="ann", host="desk", limit_fen=9_000_000, reopen=True)
LIMIT = Act(act="limit", reason="test", user="ann", host="desk", limit_fen=1_000_001)
RESUME = Act(act="resume", reason="test", user="ann", host="desk")
PLENTY_MS = 20_000

Look = Callable[[], Awaitable[Answer]]


@pytest.fixture
async def wire(store: Store) -> AsyncIterator[Wire]:
    """A wire that can be cut."""
    async with Wire(store.port) as passing:
        yield passing


@pytest.fixture
async def used_up(client: Redis, ledger: RedisLedger, wire: Wire) -> AsyncIterator[PreTrade]:
    """A gateway of which the pool is exhausted, and which knows it."""
    await ledger.open_day(POOL, await opening(client))
    async with PreTrade(wire.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        await gate.reserve(POOL, "big", "buy", "10000.00", 1)
        await until(lambda: gate.check(POOL, "buy"), local=True)
        yield gate


async def until(look: Look, *, local: bool) -> Answer:
    """Look again until the answer is local, or is not."""
    async with asyncio.timeout(SOON_S):
        while (answer := await look()).local is not local:  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(0)
    return answer


async def test_after_exhaustion_first_buys_are_refused_without_asking(
    used_up: PreTrade, wire: Wire, client: Redis
) -> None:
    pieces, orders = wire.pieces, await client.hlen(keys(POOL)[1])
    answer = await used_up.reserve(POOL, "n", "buy", "1", 1, first=True)
    assert answer == await used_up.check(POOL, Side.BUY) == USED_UP
    assert (answer.outcome, answer.verdict, answer.local) == (Result.REFUSED, Verdict.EXHAUSTED, True)
    assert (answer.seq, answer.balance_fen) == (None, None)
    assert (wire.pieces, await client.hlen(keys(POOL)[1])) == (pieces, orders)


async def test_an_id_that_may_have_been_accepted_is_asked_for(used_up: PreTrade) -> None:
    answer = await used_up.reserve(POOL, "big", "buy", "10000.00", 1)
    assert (answer.verdict, answer.replayed, answer.local) == (Verdict.ACCEPTED, True, False)


async def test_sells_and_the_status_are_always_asked_for(used_up: PreTrade) -> None:
    sell = await used_up.reserve(POOL, "s", "sell", "1", 1, first=True)
    assert (sell.verdict, sell.local) == (Verdict.ACCEPTED, False)
    assert not (await used_up.check(POOL, "sell")).local
    status = await used_up.status(POOL)
    assert (status.status, status.balance_fen, status.local) == (Status.EXHAUSTED, 0, False)


async def test_malformed_arguments_are_told_even_then(used_up: PreTrade) -> None:
    with pytest.raises(ValueError, match="price: must be above zero"):
        await used_up.reserve(POOL, "n", "buy", "0", 1, first=True)


async def test_another_pool_is_another_matter(used_up: PreTrade) -> None:
    assert not (await used_up.check("NB-SZ", "buy")).local


async def test_a_reopening_ends_it(used_up: PreTrade, ledger: RedisLedger) -> None:
    await ledger.operate(POOL, REOPEN)
    answer = await until(lambda: used_up.reserve(POOL, "n", "buy", "1", 1, first=True), local=False)
    assert answer.verdict is Verdict.ACCEPTED


async def test_a_halt_ends_it_and_the_resumption_brings_it_back(
    used_up: PreTrade, ledger: RedisLedger
) -> None:
    await ledger.operate(POOL, HALT)
    answer = await until(lambda: used_up.check(POOL, "buy"), local=False)
    assert answer.verdict is Verdict.HALTED
    await ledger.operate(POOL, RESUME)
    assert await until(lambda: used_up.check(POOL, "buy"), local=True) == USED_UP


async def test_a_change_of_the_limit_is_asked_about(used_up: PreTrade, ledger: RedisLedger) -> None:
    await ledger.operate(POOL, LIMIT)
    answer = await until(lambda: used_up.check(POOL, "buy"), local=False)
    assert (answer.verdict, answer.balance_fen) == (Verdict.EXHAUSTED, 1)


async def test_another_day_ends_it(used_up: PreTrade, ledger: RedisLedger, client: Redis) -> None:
    await ledger.open_day(POOL, await opening(client, trading_day="2026-11-24"))
    answer = await until(lambda: used_up.check(POOL, "buy"), local=False)
    assert answer.verdict is Verdict.ACCEPTED


async def test_an_emptied_store_ends_it(used_up: PreTrade, client: Redis) -> None:
    """No change tells of it: the follower notices that the stream is another one."""
    await client.flushall()
    answer = await until(lambda: used_up.check(POOL, "buy"), local=False)
    assert answer.verdict is Verdict.CLOSED


async def test_a_lost_connection_ends_it(used_up: PreTrade, wire: Wire) -> None:
    wire.still.clear()
    wire.cut()
    asked = await until_asked(used_up, wire)
    assert (asked.verdict, asked.local) == (Verdict.EXHAUSTED, False)


async def test_a_connection_that_says_nothing_ends_it(used_up: PreTrade, wire: Wire) -> None:
    wire.still.clear()
    asked = await until_asked(used_up, wire)
    assert (asked.verdict, asked.local) == (Verdict.EXHAUSTED, False)


async def until_asked(gate: PreTrade, wire: Wire) -> Answer:
    """Look until a look waits for the store, and then let the store be heard."""
    async with asyncio.timeout(SOON_S):
        while True:
            looking = asyncio.create_task(gate.check(POOL, "buy"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not looking.done():
                wire.still.set()
                return await looking


async def test_an_answer_that_a_change_overtook_teaches_nothing(
    client: Redis, ledger: RedisLedger, store: Store
) -> None:
    """The refusal is on its way while the pool is reopened; it arrives after the news of that."""
    await ledger.open_day(POOL, await opening(client))
    async with Wire(store.port) as slow, PreTrade(slow.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        await gate.reserve(POOL, "big", "buy", "10000.00", 1)
        await until(lambda: gate.check(POOL, "buy"), local=True)
        latch = gate._latches[POOL]
        heard = latch.heard
        await ledger.operate(POOL, REOPEN)
        await until(lambda: gate.check(POOL, "buy"), local=False)
        latch.learn(heard)
        assert not (await gate.check(POOL, "buy")).local


async def test_a_caller_of_nothing_but_local_answers_hears_of_the_reopening(
    used_up: PreTrade, ledger: RedisLedger
) -> None:
    """Such a caller never waits for anything: the client itself lets the loop turn now and then."""
    await ledger.operate(POOL, REOPEN)
    async with asyncio.timeout(SOON_S):
        while (await used_up.reserve(POOL, "n", "buy", "1", 1, first=True)).local:
            pass


@pytest.mark.usefixtures("sync_used_up")
def test_threads_get_local_answers_too(store: Store) -> None:
    with PreTradeSync(store.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        answers = (gate.reserve("NB-SH", "n", "buy", "1", 1, first=True) for _ in range(100_000))
        assert next(answer for answer in answers if answer.local) == USED_UP
        assert gate.check("NB-SH", "buy") == USED_UP


@pytest.fixture
def sync_used_up(store: Store) -> None:
    """An exhausted pool, made without a loop of the test's own."""

    async def make() -> None:
        async with Redis.from_url(store.url, protocol=2) as client:
            functions = Library(client)
            await functions.load()
            await RedisLedger(functions).open_day(POOL, await opening(client))
        async with PreTrade(store.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
            await gate.reserve(POOL, "big", "buy", "10000.00", 1)

    asyncio.run(make())

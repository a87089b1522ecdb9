"""Holds and attestation against a real store: its clock, its rights, many lapses at once."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from quota.decision import Attest, Release, Side, Status, Verdict
from quota.doubt import Claim
from quota.errors import LedgerCorrupt
from quota.events import Cancelled
from quota.ledger import RedisLedger, Released
from quota.memory import MemoryLedger
from quota.pool import Opening
from quota.proof.verify import verify
from quota.store.record import keys
from tests.agreement.holding import many_strays, overslept, strays
from tests.agreement.state import HOUR_MS, schedule_of
from tests.agreement.trading import POOL, buy, opening
from tests.agreement.twin import Twin, fresh_twin

SOON_S = 10.0


async def traded(client: Redis, place: str = "morning", limit_fen: int = 100_000_000) -> Twin:
    """Begin a day that stands at a place."""
    twin = await fresh_twin(client)
    day = await opening(client, limit_fen=limit_fen, schedule=schedule_of(place, twin.now_ms))
    await twin.open_day(day)
    twin.place = place
    return twin


def lapsed(twin: Twin) -> list[str]:
    """The ids that have lapsed, in their order."""
    lines = [entry.event.split(" ") for entry in twin.model.books[twin.name].journal]
    return [words[1] for words in lines if words[0] == "lapsed"]


# Many at once.


async def test_a_hundred_lapse_in_a_call_oldest_first(client: Redis) -> None:
    twin = await traded(client)
    for number in range(250):
        await twin.reserve(buy(f"o{number:03d}"), (2 - number % 2) * HOUR_MS)
    await twin.age(2)
    order = [f"o{number:03d}" for number in (*range(1, 250, 2), *range(0, 250, 2))]
    for call, expected in enumerate((100, 200, 250, 250)):
        await twin.check(Side.BUY)
        await (twin.reserve(buy("late"), HOUR_MS) if call == 1 else twin.tick(publish=False))
        await twin.agree()
        assert lapsed(twin) == order[:expected]
    assert twin.pool is not None
    assert twin.pool.balance_fen == 100_000_000 - 100


async def test_more_than_a_hundred_that_ended_before_trading_began(client: Redis) -> None:
    twin = await fresh_twin(client)
    await overslept(twin, 250, 0)
    assert twin.pool is not None
    assert twin.pool.balance_fen < 0
    assert await twin.check(Side.BUY) is Verdict.ACCEPTED
    assert (await twin.reserve(buy("late"))).verdict is Verdict.ACCEPTED
    await twin.agree()
    assert twin.pool is not None
    assert (len(lapsed(twin)), twin.pool.balance_fen, twin.pool.status) == (250, -50, Status.EXHAUSTED)


@pytest.mark.parametrize(("early", "calls"), [(50, (100, 170)), (120, (120, 220, 240))])
async def test_those_that_ended_later_wait_behind_the_hundred(
    client: Redis, early: int, calls: tuple[int, ...]
) -> None:
    twin = await fresh_twin(client)
    await overslept(twin, early, 120)
    for expected in calls:
        await twin.check(Side.BUY)
        await twin.tick(publish=False)
        await twin.agree()
        assert len(lapsed(twin)) == expected
    assert twin.pool is not None
    assert twin.pool.status is Status.OPEN


async def test_a_hold_of_no_reservation_goes_without_effect(client: Redis) -> None:
    await strays(await traded(client))


async def test_many_of_them_at_one_moment_go_too(client: Redis) -> None:
    await many_strays(await traded(client))


async def test_a_batch_confirms_many(client: Redis) -> None:
    twin = await traded(client)
    for number in range(150):
        await twin.reserve(buy(f"o{number}"), HOUR_MS)
    await twin.apply(*(buy(f"o{number}") for number in range(0, 150, 2)))
    await twin.apply(*(Cancelled(order_id=f"o{number}") for number in range(1, 150, 4)))
    await twin.agree()
    assert len(twin.model.books[twin.name].holds) == 150 - 75 - 38


# The server's own clock.


@pytest.fixture
async def opened(client: Redis, ledger: RedisLedger) -> RedisLedger:
    """A ledger whose pool is in its morning."""
    await ledger.open_day(POOL, await opening(client))
    return ledger


async def test_a_hold_ends_by_the_servers_clock(opened: RedisLedger) -> None:
    answer = await opened.reserve(POOL, buy("a"), 30)
    assert (answer.verdict, answer.balance_fen, answer.replayed) == (Verdict.ACCEPTED, 999_900, False)
    assert await opened.check(POOL, Side.BUY) == (Verdict.ACCEPTED, 999_900, Status.OPEN)
    await due(opened)
    assert await opened.record.holds(POOL)
    assert (await opened.reserve(POOL, buy("a"))).verdict is Verdict.ID_REUSED
    assert not await opened.record.holds(POOL)
    assert (await verify(opened.record, POOL)).differences == ()


async def test_its_moment_is_the_servers_plus_the_hold(client: Redis, opened: RedisLedger) -> None:
    await opened.reserve(POOL, buy("a"), 86_400_000)
    (entry,) = await opened.record.latest(POOL, 1)
    assert await opened.record.holds(POOL) == {"a": entry.time_ms + 86_400_000}
    assert await client.hget(keys(POOL)[0], "next_lapse") == str(entry.time_ms + 86_400_000).encode()
    assert entry.event == "new a buy 1.00 1 hold_ms=86400000"


# What the two ledgers answer.


@pytest.fixture
async def both(opened: RedisLedger, client: Redis) -> tuple[RedisLedger, MemoryLedger]:
    """The store and the model, on the same day."""
    model = MemoryLedger(lambda: 1)
    day: Opening = await opening(client, schedule="0 continuous")
    await model.open_day(POOL, day)
    return opened, model


async def test_releases_are_answered_as_the_contract_says(
    both: tuple[RedisLedger, MemoryLedger],
) -> None:
    for ledger in both:
        await ledger.reserve(POOL, buy("a"))
        assert await ledger.release(POOL, "a") == Released(Release.RELEASED, 1_000_000, 2)
        assert await ledger.release(POOL, "b") == Released(Release.UNKNOWN, 1_000_000, 3)
        await ledger.apply(POOL, [buy("c")])
        assert await ledger.release(POOL, "c") == Released(Release.SETTLED, 999_900, 4)
        with pytest.raises(LedgerCorrupt, match="out_of_range"):
            await ledger.reserve(POOL, buy("d", 4_500_000_000_000_000))


async def test_without_a_day_nothing_can_be_released(ledger: RedisLedger) -> None:
    assert await ledger.release(POOL, "a") == Released(Release.UNKNOWN, None, None)
    assert (await ledger.attest(POOL, [Claim(0, 0, 1)])).outcome is Attest.REFUSED


async def due(ledger: RedisLedger) -> None:
    """Wait until a hold has ended that takes all the charge with it."""
    async with asyncio.timeout(SOON_S):
        while (await ledger.check(POOL, Side.BUY))[1] != 1_000_000:
            pass

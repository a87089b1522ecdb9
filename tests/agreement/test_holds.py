"""Holds and attestation against a real store: its clock, its rights, many lapses at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from quota import library
from quota.decision import Attest, Release, Side, Status, Verdict
from quota.errors import ConfigError, LedgerCorrupt
from quota.events import Cancelled
from quota.ledger import RedisLedger, Released
from quota.library import Library
from quota.memory import MemoryLedger
from quota.pool import Opening
from quota.record import keys
from quota.verify import verify
from tests.agreement.state import HOUR_MS, linked, schedule_of
from tests.agreement.trading import POOL, buy, opening, unchanged
from tests.agreement.twin import Twin, fresh_twin
from tests.servers import Store

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
    twin = await traded(client, "opening", 15_000)
    for number in range(150):
        await twin.reserve(buy(f"o{number:03d}"), HOUR_MS)
    assert twin.pool is not None
    assert twin.pool.status is Status.SUSPENDED
    await twin.age(4)
    await twin.stand_at("morning")
    await twin.tick(publish=False)
    await twin.agree()
    assert (twin.pool.balance_fen, twin.pool.status) == (10_000, Status.OPEN)


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
    async with asyncio.timeout(SOON_S):
        while (await opened.check(POOL, Side.BUY))[1] != 1_000_000:
            pass
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
        assert await ledger.attest(POOL, 1, 5) == await both[1].attest(POOL, 1, 5)
        with pytest.raises(LedgerCorrupt, match="out_of_range"):
            await ledger.reserve(POOL, buy("d", 4_500_000_000_000_000))


async def test_without_a_day_nothing_can_be_released(ledger: RedisLedger) -> None:
    assert await ledger.release(POOL, "a") == Released(Release.UNKNOWN, None, None)
    assert (await ledger.attest(POOL, 0, 0)).outcome is Attest.REFUSED


# Rights are asked for before anything is written.


async def limited(client: Redis, store: Store, rules: str) -> RedisLedger:
    """A ledger of a user who may not do everything."""
    await client.execute_command("ACL", "SETUSER", "gateway", "on", ">secret", "+@all", "~*", *rules.split())  # type: ignore[no-untyped-call] # redis-py leaves it untyped
    url = store.url.replace("redis://", "redis://gateway:secret@")
    return RedisLedger(Library(Redis.from_url(url, protocol=2, single_connection_client=True)))


async def closed(ledger: RedisLedger) -> None:
    await ledger._library._nodes.aclose()


@pytest.mark.parametrize("level", ["plain", "exact"])
async def test_who_may_not_hold_writes_nothing(
    client: Redis, store: Store, opened: RedisLedger, level: str
) -> None:
    gateway = await limited(client, store, "-zadd")
    if level == "exact":
        await opened.apply(POOL, [buy("x", 4_999)])
    async with unchanged(client):
        with pytest.raises(ConfigError):
            await gateway.reserve(POOL, buy("a", 1), 1000)
    assert (await gateway.reserve(POOL, buy("a", 1))).verdict is Verdict.ACCEPTED
    await closed(gateway)


async def test_who_may_not_end_a_hold_writes_nothing(
    client: Redis, store: Store, opened: RedisLedger
) -> None:
    gateway = await limited(client, store, "-zrem")
    await gateway.reserve(POOL, buy("a"), 86_400_000)
    async with unchanged(client):
        with pytest.raises(ConfigError):
            await gateway.release(POOL, "a")
        with pytest.raises(ConfigError):
            await gateway.apply(POOL, [buy("a")])
    assert (await opened.release(POOL, "a")).outcome is Release.RELEASED
    await closed(gateway)


async def test_who_may_not_ask_which_server_it_is_writes_nothing(
    client: Redis, store: Store, opened: RedisLedger
) -> None:
    gateway = await limited(client, store, "-info")
    await client.function_load(library.SOURCE, replace=True)
    async with unchanged(client):
        for _ in range(2):
            with pytest.raises(ConfigError):
                await gateway.reserve(POOL, buy("a"))
    assert (await opened.reserve(POOL, buy("a"))).verdict is Verdict.ACCEPTED
    assert (await gateway.reserve(POOL, buy("b"))).verdict is Verdict.ACCEPTED
    await closed(gateway)


# Another server with the same keys.


async def test_a_copy_of_a_store_takes_no_buys_until_it_is_attested(
    tmp_path: Path, client: Redis, store: Store, opened: RedisLedger
) -> None:
    await opened.reserve(POOL, buy("a"))
    await opened.reserve(POOL, buy("b"))
    other = Store(tmp_path, store.name)
    other.start()
    try:
        async with linked(other) as link:
            for name in keys(POOL):
                if (dump := await client.dump(name)) is not None:
                    await link.restore(name, 0, dump)
            copy = RedisLedger(Library(link))
            await Library(link).load()
            assert await copy.check(POOL, Side.BUY) == (Verdict.HALTED, 999_800, Status.HALTED)
            assert (await copy.reserve(POOL, buy("c"))).verdict is Verdict.HALTED
            assert (await copy.reserve(POOL, buy("b"))).replayed
            for seq in (4, 3):  # what came after the change stands for nothing that was lost
                refused = await copy.attest(POOL, seq, 999_800)
                assert (refused.outcome, refused.detail) == (Attest.REFUSED, "seq: the store ended at 2")
            assert (await copy.attest(POOL, 2, 999_800)).outcome is Attest.ATTESTED
            assert (await copy.reserve(POOL, buy("d"))).verdict is Verdict.ACCEPTED
            reasons = [change.reason for change in await copy.changes(POOL, "0-0")]
            assert reasons[-2:] == ["store changed", "attested"]
    finally:
        other.stop()

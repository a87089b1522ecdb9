"""A pool that stands on another server than the one that answered for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from quota import library
from quota.decision import Attest, Side, Status, Verdict
from quota.doubt import Claim
from quota.ledger import RedisLedger
from quota.library import Library
from quota.store.record import keys
from tests.agreement.state import NEVER_MS, identity, linked
from tests.agreement.trading import POOL, buy, opening
from tests.servers import Store

SOON_S = 10.0


@pytest.fixture
async def opened(client: Redis, ledger: RedisLedger) -> RedisLedger:
    """A ledger whose pool is in its morning."""
    await ledger.open_day(POOL, await opening(client))
    return ledger


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
            assert (await copy.attest(POOL, [Claim(2, 999_800, NEVER_MS)])).outcome is Attest.ATTESTED
            assert (await copy.reserve(POOL, buy("d"))).verdict is Verdict.ACCEPTED
            reasons = [change.reason for change in await copy.changes(POOL, "0-0")]
            assert reasons[-2:] == ["store changed", "attested"]
    finally:
        other.stop()


# A former primary that comes back.


async def follows(link: Redis, port: int) -> None:
    """Let a store take another one's data over, and wait until it has it."""
    await link.replicaof("127.0.0.1", str(port))
    async with asyncio.timeout(SOON_S):
        while (await told_by(link))["master_link_status"] != "up":
            pass


async def told_by(link: Redis) -> dict[str, object]:
    facts: dict[str, object] = await link.info("replication")
    return facts


async def test_a_former_primary_that_comes_back_is_another_server(tmp_path: Path) -> None:
    stores = [Store(tmp_path / name, "redis", ("--repl-diskless-sync-delay", "0")) for name in "ab"]
    try:
        for store in stores:
            store.directory.mkdir()
            await asyncio.to_thread(store.start)
        async with linked(stores[0]) as a, linked(stores[1]) as b:
            await Library(a).load()
            first = RedisLedger(Library(a))
            await first.open_day(POOL, await opening(a))
            await first.reserve(POOL, buy("both"))
            was = await identity(a)
            await follows(b, stores[0].port)
            await b.replicaof("NO", "ONE")
            await first.reserve(POOL, buy("lost"))
            snapshot = await first.tick(POOL)
            assert snapshot.pool is not None
            assert snapshot.run_id == snapshot.pool.attested == was
            await follows(a, stores[1].port)
            await a.replicaof("NO", "ONE")
            assert (await identity(a)).partition("-")[0] == was.partition("-")[0]
            assert (await first.reserve(POOL, buy("after"))).verdict is Verdict.HALTED
            assert (await first.tick(POOL)).run_id != was
            assert (await first.attest(POOL, [Claim(2, 999_800, NEVER_MS)])).outcome is Attest.REFUSED
    finally:
        for store in stores:
            store.stop()


async def test_a_library_that_is_loaded_again_is_on_the_same_server(
    client: Redis, opened: RedisLedger
) -> None:
    await opened.reserve(POOL, buy("a"))
    await client.function_load(library.SOURCE, replace=True)
    assert (await opened.reserve(POOL, buy("b"))).verdict is Verdict.ACCEPTED

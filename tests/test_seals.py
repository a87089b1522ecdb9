"""What confirms an answer goes with the server: turned in mid-traffic, promoted, asked again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from quota.decision import Verdict
from quota.endpoints import Redis as Settings
from quota.errors import ConfigError, LedgerUnavailable
from quota.gate.answers import Released, Result
from quota.gateway import PreTrade
from quota.ledger import RedisLedger
from quota.library import Library
from quota.store.durability import Durability
from quota.store.nodes import connected
from tests.agreement.trading import POOL, buy, opening
from tests.fleet import linked, say
from tests.servers import Store
from tests.test_durability import ALWAYS, EVERY_SECOND, NEVER, RULE, on, server, trades

__all__ = ["server"]

SOON_S = 10.0
AT_ONCE = ("--repl-diskless-sync-delay", "0")


@asynccontextmanager
async def ledger_at(port: int, within_ms: int = 100) -> AsyncIterator[RedisLedger]:
    """A ledger whose answers have to be on the disk of whatever server is at that port."""
    nodes = connected(Settings(url=f"redis://127.0.0.1:{port}/0"))
    library = Library(nodes, Durability.FSYNC, within_ms)
    await library.load()
    yield RedisLedger(library)
    await nodes.aclose()


# Turned in mid-traffic.

TURNED = [("appendfsync", "everysec"), ("no-appendfsync-on-rewrite", "yes"), ("appendonly", "no")]


@on("redis", ALWAYS)
@pytest.mark.parametrize(("name", "value"), TURNED, ids=[name for name, _ in TURNED])
async def test_a_server_that_is_set_otherwise_in_mid_traffic_confirms_nothing_until_it_is_set_back(
    server: Store, name: str, value: str
) -> None:
    await trades(server.port)
    async with (
        PreTrade(server.url, source="gw", deadline_ms=500, durability="fsync") as gate,
        ledger_at(server.port) as ledger,
    ):
        assert (await gate.reserve(POOL, "a", "buy", "1.00", 1)).verdict is Verdict.ACCEPTED
        assert (await ledger.apply(POOL, [buy("m")]))[0].verdict is Verdict.ACCEPTED
        (before,) = {
            v for k, v in zip(*[iter(await say(server.port, "CONFIG", "GET", name))] * 2, strict=True)
        }
        await say(server.port, "CONFIG", "SET", name, value)
        answer = await gate.reserve(POOL, "b", "buy", "1.00", 1)
        assert (answer.outcome, answer.verdict) == (Result.UNKNOWN, None)
        assert f"no disk has confirmed it in time ({name} {value})" in answer.reason
        with pytest.raises(LedgerUnavailable, match=f"no disk has confirmed it in time .{name} {value}"):
            await ledger.apply(POOL, [buy("n")])
        await say(server.port, "CONFIG", "SET", name, before)
        assert (await gate.reserve(POOL, "b", "buy", "1.00", 1)).replayed
        assert (await ledger.apply(POOL, [buy("n")]))[0].replayed


# Another server in the place of the one that was checked.


@pytest.fixture
def place(tmp_path: Path) -> Iterator[list[Store]]:
    """A store that always syncs; who takes its place is put into the list."""
    stores = [Store(tmp_path, "redis", ALWAYS)]
    stores[0].start()
    yield stores
    stores[-1].stop()


def taken_over(stores: list[Store], name: str, options: tuple[str, ...]) -> Store:
    """Start another server on the port of the last one, with the file of that one if it can read it."""
    last = stores[-1]
    last.stop()
    directory = last.directory
    if name != last.name:
        directory = last.directory / name
        directory.mkdir()
    stores.append(Store(directory, name, options, port=last.port))
    stores[-1].start()
    return stores[-1]


async def test_a_promoted_server_that_cannot_keep_a_ledger_is_refused_by_the_next_look(
    place: list[Store],
) -> None:
    await trades(place[0].port)
    async with ledger_at(place[0].port) as ledger:
        await ledger.tick(POOL)
        taken_over(place, "redis", (*ALWAYS, "--maxmemory-policy", "allkeys-lru"))
        with pytest.raises(ConfigError, match="set noeviction"):
            await asked_until_it_answers(ledger)


async def asked_until_it_answers(ledger: RedisLedger) -> None:
    """Look at the pool; the connection to the server before is lost first."""
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                await ledger.tick(POOL)
            except LedgerUnavailable:
                continue
            return


async def test_nothing_is_confirmed_on_a_promoted_server_that_does_not_sync(place: list[Store]) -> None:
    await trades(place[0].port)
    async with ledger_at(place[0].port) as ledger:
        await ledger.tick(POOL)
        assert (await ledger.apply(POOL, [buy("a")]))[0].verdict is Verdict.ACCEPTED
        taken_over(place, "redis", EVERY_SECOND)
        for _ in range(2):  # the first finds the connection lost
            with pytest.raises(LedgerUnavailable):
                await ledger.apply(POOL, [buy("b")])
        with pytest.raises(ConfigError, match=RULE):
            await ledger.tick(POOL)
        with pytest.raises(ConfigError, match=RULE):
            await ledger.apply(POOL, [buy("c")])


async def test_a_promoted_server_of_another_kind_confirms_in_its_own_way(place: list[Store]) -> None:
    await trades(place[0].port)
    async with ledger_at(place[0].port, within_ms=10_000) as ledger:
        await ledger.tick(POOL)
        assert (await ledger.apply(POOL, [buy("a")]))[0].verdict is Verdict.ACCEPTED
        await trades(taken_over(place, "valkey", EVERY_SECOND).port)
        await asked_until_it_answers(ledger)
        assert (await ledger.apply(POOL, [buy("b")]))[0].verdict is Verdict.ACCEPTED


async def test_a_server_of_another_kind_that_lost_everything_confirms_in_its_own_way(
    place: list[Store],
) -> None:
    await trades(place[0].port)
    async with ledger_at(place[0].port, within_ms=10_000) as ledger:
        await ledger.tick(POOL)
        port = taken_over(place, "valkey", EVERY_SECOND).port
        await asked_until_it_answers(ledger)
        async with Redis(port=port, protocol=2) as client:
            assert await ledger.open_day(POOL, await opening(client))


async def test_a_primary_that_took_another_ones_data_over_and_its_place_again_is_another_store(
    tmp_path: Path,
) -> None:
    """It is the same process, with the same run_id, and what it alone had taken in is gone."""
    first, second = (Store(tmp_path / name, "redis", AT_ONCE) for name in ("first", "second"))
    try:
        for store in (first, second):
            store.directory.mkdir()
            store.start()
        await trades(first.port)
        await say(second.port, "REPLICAOF", "127.0.0.1", first.port)
        await linked(first.port)
        await say(second.port, "REPLICAOF", "NO", "ONE")
        async with PreTrade(first.url, source="gw", deadline_ms=2000) as gate:
            assert (await gate.reserve(POOL, "lost", "buy", "1.00", 1)).verdict is Verdict.ACCEPTED
            await say(first.port, "REPLICAOF", "127.0.0.1", second.port)
            await linked(second.port)
            await say(first.port, "REPLICAOF", "NO", "ONE")
            assert (await gate.reserve(POOL, "next", "buy", "1.00", 1)).verdict is Verdict.HALTED
            assert (await gate.reserve(POOL, "sold", "sell", "1.00", 1)).verdict is Verdict.ACCEPTED
    finally:
        first.stop()
        second.stop()


# Asked again on another connection.


@on("valkey", NEVER)
async def test_a_first_answer_that_is_on_no_disk_is_not_confirmed_to_who_asks_again_elsewhere(
    server: Store,
) -> None:
    """A server confirms at once to a connection that wrote nothing: each answer writes something."""
    await trades(server.port)
    async with (
        PreTrade(server.url, source="gw", deadline_ms=2000) as quick,
        PreTrade(server.url, source="gw", deadline_ms=100, durability="fsync") as sure,
    ):
        assert (await quick.reserve(POOL, "a", "buy", "1.00", 1)).verdict is Verdict.ACCEPTED
        again = await sure.reserve(POOL, "a", "buy", "1.00", 1)
        assert (again.outcome, again.verdict) == (Result.UNKNOWN, None)
        assert (await quick.release(POOL, "a")).released is Released.RELEASED
    async with PreTrade(server.url, source="gw", deadline_ms=100, durability="fsync") as sure:
        assert (await sure.release(POOL, "a")).outcome is Result.UNKNOWN
    async with ledger_at(server.port) as ledger, Redis(port=server.port, protocol=2) as client:
        await RedisLedger(Library(client)).apply(POOL, [buy("m")])
        with pytest.raises(LedgerUnavailable, match="no disk has confirmed it in time"):
            await ledger.apply(POOL, [buy("m")])

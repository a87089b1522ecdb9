"""What the store has done and nobody heard of: its answers break off after any number of bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from quota.endpoints import Redis as RedisSettings
from quota.gate.answers import Result
from quota.gateway import PreTrade
from quota.ledger import RedisLedger
from quota.library import Library
from quota.memory import MemoryLedger
from quota.proof.verify import verify
from quota.store.nodes import connected
from tests.agreement.state import server_ms
from tests.agreement.trading import POOL, opening
from tests.mortal import judge, judge_store, played
from tests.scale import cases
from tests.servers import Store
from tests.weir import Weir

CALLS = (
    ("reserve", "a", "buy", "10.00", 400),
    ("reserve", "b", "buy", "10.00", 500),
    ("reserve", "s", "sell", "1.00", 100),
    ("release", "b"),
    ("reserve", "c", "buy", "10.00", 700),
    ("reserve", "d", "buy", "10.00", 1),
    ("reserve", "a", "buy", "10.00", 400),
)
"""What a gateway asks: buys until the quota is used up, one of them given back, and a repeat."""


@pytest.mark.soak
async def test_after_any_byte_towards_the_daemon_nothing_is_lost_or_done_twice(
    store: Store,
    client: Redis,
    ledger: RedisLedger,
    counted: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The long form tries every byte. Retries do not wait here."""
    monkeypatch.setattr("quota.daemon._RETRY_S", (0.001, 0.01))
    now_ms = await server_ms(client)
    model = MemoryLedger(lambda: now_ms)
    await played(model, now_ms, 0)
    struck, stride = 1, cases(211, 1)
    async with Weir(store.port) as weir:
        spare = 1
        while struck:
            store.clean()
            await ledger._library.load()
            weir.again(spare=spare)
            nodes = connected(RedisSettings(url=f"redis://127.0.0.1:{weir.port}/0"))
            play = await played(RedisLedger(Library(nodes)), now_ms, 0)
            await nodes.aclose()
            await judge(play, ledger)
            await judge_store(ledger, model)
            struck, spare = weir.struck, spare + stride
    assert spare > 4 * stride
    counted(f"answers to the daemon broken off: {spare // stride - 1} times, {store.name}")


async def worked(port: int) -> list[tuple[str, str]]:
    """Ask for everything in order, each until there is an answer; return the answers."""
    told: list[tuple[str, str]] = []
    async with PreTrade(f"redis://127.0.0.1:{port}/0", source="gw", deadline_ms=2000) as gate:
        for name, *words in CALLS:
            while (answer := await getattr(gate, name)(POOL, *words)).outcome is Result.UNKNOWN:
                pass
            told.append((str(words[0]), str(answer.released or answer.verdict)))
    return told


async def kept(client: Redis) -> dict[str, object]:
    """What the store has in the end, without times."""
    record = RedisLedger(Library(client)).record
    pool = await record.read(POOL)
    assert pool is not None
    entries = [entry async for entry in record.journal(POOL, pool.seq)]
    assert [entry.seq for entry in entries] == list(range(1, pool.seq + 1))
    assert (await verify(record, POOL)).differences == ()
    return {"pool": replace(pool, schedule=""), "entries": [replace(entry, time_ms=0) for entry in entries]}


@pytest.mark.soak
async def test_after_any_byte_towards_a_gateway_asking_again_gets_the_same(
    store: Store, client: Redis, ledger: RedisLedger, counted: Callable[[str], None]
) -> None:
    async def day() -> None:
        store.clean()
        await ledger._library.load()
        await ledger.open_day(POOL, await opening(client))

    await day()
    told = await worked(store.port)
    assert [word for _, word in told] == [
        "accepted", "accepted", "accepted", "released", "accepted", "exhausted", "accepted"
    ]  # fmt: skip
    wanted, struck, spare = await kept(client), 1, 0
    async with Weir(store.port) as weir:
        while struck:
            spare += cases(17, 1)
            await day()
            weir.again(spare=spare)
            assert await worked(weir.port) == told
            assert await kept(client) == wanted
            struck = weir.struck
    assert spare > len(CALLS)
    counted(f"answers to a gateway broken off: {spare // cases(17, 1) - 1} times, {store.name}")

"""Which rights the functions need, and that one that is missing shows before anything is written."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

from quota import library
from quota.decision import Release, Side, Status, Verdict
from quota.errors import ConfigError
from quota.ledger import RedisLedger
from quota.library import Library
from tests.agreement.trading import POOL, buy, opening, unchanged
from tests.servers import Store


@pytest.fixture
async def opened(client: Redis, ledger: RedisLedger) -> RedisLedger:
    """A ledger whose pool is in its morning."""
    await ledger.open_day(POOL, await opening(client))
    return ledger


async def due(ledger: RedisLedger) -> None:
    """Wait until a hold has ended that takes all the charge with it."""
    async with asyncio.timeout(10):
        while (await ledger.check(POOL, Side.BUY))[1] != 1_000_000:
            pass


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


def rights(function: str) -> str:
    """Read from the contract which commands a function needs, as rules of an access list."""
    text = (Path(__file__).parents[2] / "docs" / "contract.md").read_text().partition("### Rights")[2]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return " ".join(f"+{word}" for line in lines for word in _commands(line, function))


def _commands(line: str, function: str) -> list[str]:
    functions, _, commands = line.strip("|").partition("|")
    wanted = functions.strip() == "all" or f"`{function}`" in functions
    return re.findall("`([A-Z_]+)`", commands) if wanted else []


async def test_the_rights_that_the_contract_names_suffice(
    client: Redis, store: Store, opened: RedisLedger
) -> None:
    basic = "-@all +hello +client +select +auth"
    asks = await limited(client, store, f"{basic} {rights('quota_check')}")
    await opened.reserve(POOL, buy("due"), 1)
    await due(opened)
    assert await asks.check(POOL, Side.BUY) == (Verdict.ACCEPTED, 1_000_000, Status.OPEN)
    with pytest.raises(ConfigError):
        await asks.reserve(POOL, buy("a"))
    await closed(asks)
    await client.acl_deluser("gateway")
    gateway = await limited(client, store, f"{basic} {rights('quota_reserve')}")
    assert await gateway.check(POOL, Side.BUY) == (Verdict.ACCEPTED, 1_000_000, Status.OPEN)
    assert (await gateway.reserve(POOL, buy("a"), 86_400_000)).verdict is Verdict.ACCEPTED
    assert (await gateway.release(POOL, "a")).outcome is Release.RELEASED
    assert (await gateway.reserve(POOL, buy("b", 20_000), 86_400_000)).verdict is Verdict.ACCEPTED
    assert (await gateway.reserve(POOL, buy("b", 20_000))).replayed
    assert (await gateway.reserve(POOL, buy("c"))).verdict is Verdict.EXHAUSTED
    assert (await gateway.release(POOL, "b")).outcome is Release.RELEASED
    await closed(gateway)

"""The functions in a store: loaded, lost, too new, forbidden; and a store that cannot serve."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from quota import library
from quota.decision import Side, Status, Verdict
from quota.errors import ConfigError, LedgerUnavailable
from quota.ledger import RedisLedger
from quota.library import Library, check_version, check_words
from quota.store.record import keys
from tests.agreement.state import command, contents, versioned
from tests.agreement.trading import HALT, POOL, buy, opening, unchanged
from tests.servers import Store


async def test_a_lost_library_is_loaded_again_in_the_middle(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.apply(POOL, [buy("a")])
    await client.function_flush()
    (decision,) = await ledger.apply(POOL, [buy("a")])
    assert (decision.replayed, decision.seq) == (True, 1)


async def test_a_check_can_be_the_first_call_after_a_restart(client: Redis, ledger: RedisLedger) -> None:
    day = await opening(client)
    await ledger.open_day(POOL, day)
    await client.function_load(library.SOURCE, replace=True)
    name = keys(POOL)[0]
    frame: Any = await client.hget(name, "frame")
    if frame is not None:
        await client.hset(name, "frame", frame.replace(b"\ncontinuous\n", b"\nopening\n"))
    await client.hset(name, "phase", "opening")
    assert await ledger.check(POOL, Side.BUY) == (Verdict.ACCEPTED, 1_000_000, Status.OPEN)


async def test_a_newer_library_in_the_store_is_left_alone(client: Redis) -> None:
    await client.function_load(versioned(library.VERSION + 1))
    with pytest.raises(ConfigError, match=f"version {library.VERSION + 1}"):
        await Library(client).load()
    assert (await command(client, "FCALL_RO", "quota_describe", 0))[0] == library.VERSION + 1


async def test_an_older_library_is_replaced(client: Redis) -> None:
    await client.function_load(versioned(library.VERSION - 1))
    await Library(client).load()
    assert (await command(client, "FCALL_RO", "quota_describe", 0))[0] == library.VERSION


async def test_another_text_of_the_same_version_is_replaced(client: Redis) -> None:
    lax = library.SOURCE.replace("if frame.exhausted then return 'exhausted' end\n  if", "if", 1)
    assert lax != library.SOURCE
    await client.function_load(lax.replace(library.DIGEST, "0" * 16), replace=True)
    await Library(client).load()
    assert (await command(client, "FCALL_RO", "quota_describe", 0))[-1] == library.DIGEST.encode()


async def test_a_library_that_speaks_other_words_is_refused(client: Redis) -> None:
    other = library.SOURCE.replace(
        "local VERDICTS = {'accepted', 'exhausted',", "local VERDICTS = {'accepted', 'empty',"
    )
    assert other != library.SOURCE
    await client.function_load(other)
    with pytest.raises(ConfigError, match="other words"):
        await Library(client).load()


def test_words_in_another_order_are_other_words() -> None:
    with pytest.raises(ConfigError, match="other words"):
        check_words([library.VERSION, [b"sell", b"buy"], b""])


@pytest.mark.parametrize(
    "facts",
    [
        {"redis_version": "6.2.14"},
        {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "7.0.0"},
        {"redis_version": ""},
        {},
    ],
)
def test_a_store_that_is_too_old_is_refused(facts: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="at least 7"):
        check_version(facts)


@pytest.mark.parametrize(
    "facts",
    [
        {"redis_version": "7.0.15"},
        {"redis_version": "8.2.1"},
        {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2"},
        {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "7.2.5"},
    ],
)
def test_a_store_that_is_new_enough_is_taken(facts: dict[str, str]) -> None:
    check_version(facts)


async def test_a_store_that_evicts_keys_is_refused(client: Redis) -> None:
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ConfigError, match="noeviction"):
            await Library(client).load()
    finally:
        await client.config_set("maxmemory-policy", "noeviction")


# The store cannot, or may not.


async def test_out_of_memory_is_away_for_now(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.apply(POOL, [buy("a")])
    async with unchanged(client):
        await client.config_set("maxmemory", 1)
        for call in (ledger.apply(POOL, [buy("b")]), ledger.tick(POOL), ledger.operate(POOL, HALT)):
            with pytest.raises(LedgerUnavailable):
                await call
        assert await ledger.check(POOL, Side.BUY) == (Verdict.ACCEPTED, 999_900, Status.OPEN)
        await client.config_set("maxmemory", 0)
    (decision,) = await ledger.apply(POOL, [buy("b")])
    assert decision.verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("rules", ["+@all -fcall ~*", "+@all ~other:*", "+@all -xadd ~*", "+@all -hset ~*"])
async def test_a_missing_permission_is_the_operators_mistake(
    client: Redis, store: Store, ledger: RedisLedger, rules: str
) -> None:
    await ledger.open_day(POOL, await opening(client))
    await command(client, "ACL", "SETUSER", "gateway", "on", ">secret", *rules.split())
    async with Redis.from_url(store.url, username="gateway", password="secret") as link:  # noqa: S106 - a test's
        before = await contents(client)
        with pytest.raises(ConfigError):
            await RedisLedger(Library(link)).apply(POOL, [buy("a")])
        assert await contents(client) == before


async def test_a_wrong_password_is_the_operators_mistake(store: Store) -> None:
    async with Redis.from_url(store.url, username="gateway", password="wrong") as link:  # noqa: S106 - a test's
        with pytest.raises(ConfigError):
            await Library(link).load()


async def test_a_store_that_is_away_is_waited_for(store: Store) -> None:
    async with Redis.from_url(store.url.replace(str(store.port), "1"), retry=None) as link:
        with pytest.raises(LedgerUnavailable):
            await Library(link).load()

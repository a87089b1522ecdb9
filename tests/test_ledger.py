"""The ledger against a real store: what it costs, reservations, days, and what it reads back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from quota.day import OPENED_LATE, date_of
from quota.decision import Outcome, PoolName, Status, Verdict
from quota.errors import ConfigError, LedgerCorrupt
from quota.events import Event
from quota.journal import read_line
from quota.ledger import Act, RedisLedger
from quota.library import Library
from quota.pool import Pool
from quota.store.record import keys
from tests.agreement.malformed import refuses_malformed
from tests.agreement.state import DAY, server_ms
from tests.agreement.trading import HALT, POOL, buy, fill, opening, unchanged

# What it costs.


async def commands_of(client: Redis, call: Callable[[], Awaitable[object]]) -> list[str]:
    """Watch the store while a call runs: the commands of clients, not those inside functions."""
    async with client.monitor() as monitor:
        await client.echo("begins")
        await call()
        await client.echo("ends")
        lines = [await monitor.next_command()]
        while lines[-1]["command"] != "ECHO ends":
            lines.append(await monitor.next_command())
    seen = [line["command"] for line in lines if line["client_type"] != "lua"]
    return seen[seen.index("ECHO begins") + 1 : -1]


async def test_a_batch_is_one_round_trip(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    batch = [event for n in range(500) for event in (buy(f"o{n}"), fill(f"o{n}"))]
    seen = await commands_of(client, lambda: ledger.apply(POOL, batch))
    assert [line.split()[:2] for line in seen] == [["FCALL", "quota_apply"]]


async def test_a_tick_is_one_round_trip(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    seen = await commands_of(client, lambda: ledger.tick(POOL, "0-0"))
    assert [line.split()[:2] for line in seen] == [["FCALL", "quota_tick"]]


# Reservations, as the contract has them.


async def test_malformed_reservations_are_refused_and_write_nothing(
    client: Redis, ledger: RedisLedger
) -> None:
    await ledger.open_day(POOL, await opening(client))
    await refuses_malformed(client)


async def test_a_check_with_wrong_arguments_is_malformed(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    name = keys(POOL)[0]
    for words in ((1, name), (1, name, "both"), (1, name, "buy", "more"), (0, "buy"), (2, name, name, "buy")):
        with pytest.raises(LedgerCorrupt, match="QUOTAINVALID"):
            await Library(client).command("FCALL_RO", "quota_check", *words)


# Days.


async def test_the_old_day_is_set_aside_and_ends_by_itself(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.apply(POOL, [buy("a"), fill("a")])
    await ledger.open_day(POOL, await opening(client, trading_day="2026-11-24"))
    for name, old in zip(keys(POOL), keys(POOL, DAY), strict=True):
        assert await client.ttl(name) in {-1, -2}
        assert (await client.ttl(old) > 0) is (not old.endswith(f"holds:{DAY}"))
    assert [*await client.hgetall(keys(POOL, DAY)[1])] == [b"a"]
    await ledger.open_day(POOL, await opening(client, trading_day="2026-11-25"))
    assert not await client.keys(f"*{DAY}")
    assert await _kept(client) == "2026-11-24"


async def test_changes_that_were_not_published_are_carried_over(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    first = await ledger.tick(POOL)
    await ledger.tick(POOL, first.last_change)
    await ledger.operate(POOL, HALT)
    await ledger.open_day(POOL, await opening(client, trading_day="2026-11-24"))
    found = await ledger.changes(POOL, first.last_change)
    assert [change.kind for change in found][:2] == ["status", "day"]
    assert (await ledger.tick(POOL)).published == first.last_change


async def test_the_real_clock_opens_its_own_date_only(client: Redis, ledger: RedisLedger) -> None:
    day = await opening(client, origin="real", trading_day="2020-01-02")
    with pytest.raises(ConfigError, match="the server's date is not 2020-01-02"):
        await ledger.open_day(POOL, day)
    today = date_of(await server_ms(client))
    opened = await ledger.open_day(POOL, await opening(client, origin="real", trading_day=today))
    assert opened
    with pytest.raises(ConfigError, match="refuses --at"):
        await ledger.open_day(POOL, await opening(client, trading_day="2099-01-01"))


async def test_a_day_opened_with_at_goes_on_with_at(client: Redis, ledger: RedisLedger) -> None:
    today = date_of(await server_ms(client))
    assert await ledger.open_day(POOL, await opening(client, trading_day=today))
    assert not await ledger.open_day(POOL, await opening(client, trading_day=today))
    with pytest.raises(ConfigError, match="go on with --at"):
        await ledger.open_day(POOL, await opening(client, origin="real", trading_day=today))


async def test_a_day_that_opens_late_says_why_it_is_halted(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client, open_late=False))
    pool = await _pool(ledger)
    assert (pool.status, pool.halted) == (Status.HALTED, OPENED_LATE)
    assert {change.reason for change in await ledger.changes(POOL, "0-0")} == {OPENED_LATE}


@pytest.mark.parametrize("limit_fen", [0, -1, 4_500_000_000_000_001])
async def test_a_limit_out_of_range_is_refused(client: Redis, ledger: RedisLedger, limit_fen: int) -> None:
    await ledger.open_day(POOL, await opening(client))
    act = Act(act="limit", limit_fen=limit_fen, reason="test", user="ann", host="desk")
    async with unchanged(client):
        with pytest.raises(ConfigError, match="limit: must be above zero"):
            await ledger.operate(POOL, act)


# The rest of what it reads.


async def test_the_journal_is_read_page_by_page(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client, limit_fen=10**9))
    batch: list[Event] = [buy(f"o{n}") for n in range(2500)]
    await ledger.apply(POOL, batch)
    entries = [entry async for entry in ledger.record.journal(POOL, 2400)]
    assert [entry.seq for entry in entries] == list(range(1, 2401))
    assert read_line(entries[-1].event) == batch[2399]


async def test_orders_are_found_by_their_ids(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.apply(POOL, [buy("a")])
    known, unknown = await ledger.record.orders(POOL, ["a", "b"])
    assert known is not None
    assert (known.verdict, unknown) == (Verdict.ACCEPTED, None)


async def test_pools_do_not_share(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    (decision,) = await ledger.apply(PoolName.NB_SZ, [buy("a")])
    assert (decision.outcome, decision.verdict) == (Outcome.APPLIED, Verdict.CLOSED)
    assert (await ledger.tick(PoolName.NB_SZ)).pool is None


async def _pool(ledger: RedisLedger) -> Pool:
    pool = (await ledger.tick(POOL)).pool
    assert pool is not None
    return pool


async def _kept(client: Redis) -> str:
    kept: Any = await client.hget(keys(POOL)[0], "kept")
    return str(kept.decode())

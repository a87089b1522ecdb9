"""The ledger against a real store: what it costs, and what happens when the store is not as it should be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from quota import library
from quota.day import OPENED_LATE, date_of
from quota.decision import Outcome, PoolName, Side, Status, Verdict
from quota.errors import ConfigError, LedgerCorrupt, LedgerUnavailable
from quota.events import Cancelled, Event, Fill, NewOrder
from quota.journal import Entry, read_line
from quota.ledger import KEY_PARTS, Act, RedisLedger, change_of, keys, order_of, pool_of
from quota.library import Library, check_version, check_words
from quota.pool import Opening, Pool
from tests.agreement.malformed import refuses_malformed
from tests.agreement.twin import DAY, contents, schedule_of, server_ms
from tests.servers import Store

POOL = PoolName.NB_SH
HALT = Act(act="halt", reason="test", user="ann", host="desk")


@pytest.fixture
async def client(store: Store) -> AsyncIterator[Redis]:
    """A client of the store."""
    async with Redis.from_url(store.url) as link:
        yield link


@pytest.fixture
async def ledger(client: Redis) -> RedisLedger:
    """A ledger whose library is loaded."""
    functions = Library(client)
    await functions.load()
    return RedisLedger(functions)


async def opening(client: Redis, **changed: Any) -> Opening:  # noqa: ANN401 - fields of an opening
    """A day that is in its morning now."""
    schedule = schedule_of("morning", await server_ms(client))
    fields = {
        "trading_day": DAY,
        "limit_fen": 1_000_000,
        "rate": "1.00000",
        "origin": "at",
        "open_late": True,
    }
    return Opening(**{**fields, "schedule": schedule, **changed})


def buy(order_id: str, quantity: int = 1) -> NewOrder:
    """A buy of so many yuan."""
    return NewOrder(order_id=order_id, side=Side.BUY, price="1.00", quantity=quantity)


def fill(order_id: str) -> Fill:
    """A fill of one yuan."""
    return Fill(order_id=order_id, exec_id=f"{order_id}-1", side=Side.BUY, price="1.00", quantity=1)


@asynccontextmanager
async def unchanged(client: Redis) -> AsyncIterator[None]:
    """Whatever fails inside leaves every key as it was."""
    before = await contents(client)
    yield
    assert await contents(client) == before


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


# The library.


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
    newer = library.SOURCE.replace("local VERSION = 1\n", "local VERSION = 2\n")
    assert newer != library.SOURCE
    await client.function_load(newer)
    with pytest.raises(ConfigError, match="version 2"):
        await Library(client).load()
    assert (await client.execute_command("FCALL_RO", "quota_describe", 0))[0] == 2  # type: ignore[no-untyped-call]


async def test_an_older_library_is_replaced(client: Redis) -> None:
    await client.function_load(library.SOURCE.replace("local VERSION = 1\n", "local VERSION = 0\n"))
    await Library(client).load()
    assert (await client.execute_command("FCALL_RO", "quota_describe", 0))[0] == 1  # type: ignore[no-untyped-call]


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
        check_words([1, [b"sell", b"buy"]])


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


# The store is not as it should be: nothing is written.


@pytest.mark.parametrize("part", [part for part in KEY_PARTS if part not in {"holds", "changes"}])
async def test_a_key_of_another_type_stops_a_batch(client: Redis, ledger: RedisLedger, part: str) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.apply(POOL, [buy("a"), fill("a")])
    await _spoil(client, part)
    async with unchanged(client):
        with pytest.raises(LedgerCorrupt):
            await ledger.apply(POOL, [buy("b"), fill("b"), Cancelled(order_id="b")])


async def test_changes_of_another_type_stop_a_batch_that_changes_the_status(
    client: Redis, ledger: RedisLedger
) -> None:
    await ledger.open_day(POOL, await opening(client))
    await _spoil(client, "changes")
    async with unchanged(client):
        with pytest.raises(LedgerCorrupt):
            await ledger.apply(POOL, [buy("b", 1_000_000), fill("b")])
        with pytest.raises(LedgerCorrupt):
            await ledger.operate(POOL, HALT)
        with pytest.raises(LedgerCorrupt):
            await ledger.changes(POOL, "0-0")


@pytest.mark.parametrize("part", ["pool", "orders", "journal"])
async def test_a_key_of_another_type_stops_a_reservation(
    client: Redis, ledger: RedisLedger, part: str
) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.apply(POOL, [buy("a")])
    await _spoil(client, part)
    for order_id in ("b", "c"):
        async with unchanged(client):
            with pytest.raises(LedgerCorrupt):
                await _reserve(client, order_id)


@pytest.mark.parametrize("part", ["pool", "changes"])
@pytest.mark.parametrize("again", [True, False])
async def test_a_key_of_another_type_stops_an_opening(
    client: Redis, ledger: RedisLedger, part: str, *, again: bool
) -> None:
    day = await opening(client)
    if again:
        await ledger.open_day(POOL, day)
        day = await opening(client, trading_day="2026-11-24")
    await _spoil(client, part)
    async with unchanged(client):
        with pytest.raises(LedgerCorrupt):
            await ledger.open_day(POOL, day)


SUMS = ("balance_fen", "open_buy_fen", "filled_buy_fen", "filled_sell_fen")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *((field, text) for field in ("frame", *SUMS) for text in ("", "abc", "1", "nan", None)),
        *((field, text) for field in ("seq", "decided_buy_accepted") for text in ("", "abc", None)),
    ],
)
async def test_a_spoilt_pool_is_noticed(
    client: Redis, ledger: RedisLedger, field: str, text: str | None
) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.apply(POOL, [buy("a"), buy("b")])
    if text is None:
        await client.hdel(keys(POOL)[0], field)
    else:
        await client.hset(keys(POOL)[0], field, text)
    async with unchanged(client):
        with pytest.raises(LedgerCorrupt):
            await ledger.apply(POOL, [buy("c")])
        with pytest.raises(LedgerCorrupt):
            await _reserve(client, "c")


async def test_a_spoilt_counter_is_noticed_before_anything_is_written(
    client: Redis, ledger: RedisLedger
) -> None:
    await ledger.open_day(POOL, await opening(client))
    await client.hset(keys(POOL)[0], "decided_sell_accepted", "many")
    sell = NewOrder(order_id="s", side=Side.SELL, price="1", quantity=1)
    async with unchanged(client):
        with pytest.raises(LedgerCorrupt):
            await ledger.apply(POOL, [sell])


async def test_a_journal_that_is_ahead_of_its_pool_is_noticed(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    await client.xadd(keys(POOL)[5], {"event": "new a buy 1 1"}, id="7-0")
    async with unchanged(client):
        with pytest.raises(LedgerCorrupt):
            await ledger.apply(POOL, [buy("a")])


@pytest.mark.parametrize("part", ["orders", "execs"])
async def test_a_spoilt_record_is_noticed(client: Redis, ledger: RedisLedger, part: str) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.apply(POOL, [buy("a"), fill("a")])
    await client.hset(keys(POOL)[KEY_PARTS.index(part)], "a" if part == "orders" else "a-1", b"\xc1?")
    async with unchanged(client):
        with pytest.raises(LedgerCorrupt):
            await ledger.apply(POOL, [buy("b"), fill("a")])


def test_records_that_cannot_be_read_are_corrupt() -> None:
    with pytest.raises(LedgerCorrupt, match="pool"):
        pool_of({"trading_day": DAY})
    with pytest.raises(LedgerCorrupt, match="changes"):
        change_of("1-0", {b"kind": b"level"})
    with pytest.raises(LedgerCorrupt, match="journal"):
        Entry.read("1-0", {"event": "halt"})
    with pytest.raises(LedgerCorrupt, match="journal"):
        read_line("new a buy 1")
    assert pool_of({}) is None


def test_an_order_record_reads_back() -> None:
    order = order_of(bytes([1, 10, 2, 1, 7, 1, 10, 10, 0, 4]))
    assert (order.side, order.verdict, order.seq, order.open_milli) == (Side.BUY, Verdict.ACCEPTED, 7, 10)
    assert [str(kind) for kind in order.violations] == ["above_limit"]


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


@pytest.mark.parametrize("rules", ["+@all -fcall ~*", "+@all ~other:*", "+@all -xadd ~*"])
async def test_a_missing_permission_is_the_operators_mistake(
    client: Redis, store: Store, ledger: RedisLedger, rules: str
) -> None:
    await ledger.open_day(POOL, await opening(client))
    await client.execute_command("ACL", "SETUSER", "gateway", "on", ">secret", *rules.split())  # type: ignore[no-untyped-call]
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
    entries = [entry async for entry in ledger.journal(POOL, 2400)]
    assert [entry.seq for entry in entries] == list(range(1, 2401))
    assert read_line(entries[-1].event) == batch[2399]


async def test_orders_are_found_by_their_ids(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.apply(POOL, [buy("a")])
    known, unknown = await ledger.orders(POOL, ["a", "b"])
    assert known is not None
    assert (known.verdict, unknown) == (Verdict.ACCEPTED, None)


async def test_pools_do_not_share(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    (decision,) = await ledger.apply(PoolName.NB_SZ, [buy("a")])
    assert (decision.outcome, decision.verdict) == (Outcome.APPLIED, Verdict.CLOSED)
    assert (await ledger.tick(PoolName.NB_SZ)).pool is None


async def _spoil(client: Redis, part: str) -> None:
    name = keys(POOL)[KEY_PARTS.index(part)]
    await client.delete(name)
    await client.rpush(name, "a list") if part != "holds" else await client.set(name, "text")


async def _reserve(client: Redis, order_id: str) -> object:
    return await Library(client).call("quota_reserve", keys(POOL), order_id, "buy", "1.00", "1", "-")


async def _pool(ledger: RedisLedger) -> Pool:
    pool = (await ledger.tick(POOL)).pool
    assert pool is not None
    return pool


async def _kept(client: Redis) -> str:
    kept: Any = await client.hget(keys(POOL)[0], "kept")
    return str(kept.decode())

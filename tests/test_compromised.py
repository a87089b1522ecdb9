"""A gateway that has been taken over: what it can do with its user's rights, and what shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from quota.decision import PoolName, Side, Violation
from quota.events import Fill
from quota.ledger import RedisLedger
from quota.library import Library
from quota.proof.verify import verify
from quota.store.record import RedisRecord, keys
from tests.agreement.state import command
from tests.agreement.trading import buy, opening
from tests.guarded import Guarded, guarded_store

POOL = PoolName.NB_SH
HASH, ORDERS, EXECS, HOLDS, CHANGES, JOURNAL = keys(POOL)
LIMIT = 1_000_000
Deed = Callable[[Redis], Awaitable[None]]


@pytest.fixture(scope="module", params=["redis", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_store(tmp_path_factory.mktemp("guarded"), request.param) as guarded:
        yield guarded


@pytest.fixture
async def ledger(store: Guarded) -> AsyncIterator[RedisLedger]:
    """A day with an order, a fill and a reservation, opened by the daemon's user."""
    store.clean()
    async with store.client("quotad") as client, store.client("gateway") as gateway:
        functions = Library(client)
        await functions.load()
        ledger = RedisLedger(functions)
        await ledger.open_day(POOL, await opening(client, limit_fen=LIMIT))
        fill = Fill(order_id="a", exec_id="a-1", side=Side.BUY, price="1.00", quantity=1)
        await ledger.apply(POOL, [buy("a", 100), fill])
        await reserve(gateway, "r", 60_000)
        yield ledger


async def reserve(gateway: Redis, order_id: str, *hold: str | int) -> None:
    """Reserve as an honest gateway does."""
    words: tuple[str | int, ...] = (
        "FCALL",
        "quota_reserve",
        6,
        *keys(POOL),
        order_id,
        "buy",
        "1.00",
        "100",
        "gw1",
        *hold,
    )
    reply = await command(gateway, *words)
    assert reply[0] == b"accepted"


async def found(store: Guarded) -> str:
    async with store.client("operator") as operator:
        return "\n".join((await verify(RedisRecord(Library(operator)), POOL)).differences)


# By hand, into the keys. ----------------------------------------------------------------------


async def more_room(gateway: Redis) -> None:
    """Give the pool room that it has not."""
    await command(gateway, "HSET", HASH, "balance_fen", LIMIT * 2)


async def balanced_room(gateway: Redis) -> None:
    """The same, with sums that add up."""
    open_fen = int(await command(gateway, "HGET", HASH, "open_buy_fen"))
    balance_fen = int(await command(gateway, "HGET", HASH, "balance_fen"))
    sums = ("open_buy_fen", open_fen - 10_000, "balance_fen", balance_fen + 10_000)
    await command(gateway, "HSET", HASH, *sums)


async def another_frame(gateway: Redis) -> None:
    """Lift the limit of the day in the frame alone."""
    frame = (await command(gateway, "HGET", HASH, "frame")).decode()
    await command(gateway, "HSET", HASH, "frame", frame.replace(f"\n{LIMIT}\n", f"\n{LIMIT * 9}\n", 1))


async def another_verdict(gateway: Redis) -> None:
    """Put another order's record in the place of one."""
    await command(gateway, "HSET", ORDERS, "a", await command(gateway, "HGET", ORDERS, "r"))


async def an_order_of_nobody(gateway: Redis) -> None:
    """Add an order that no entry tells of."""
    await command(gateway, "HSET", ORDERS, "ghost", await command(gateway, "HGET", ORDERS, "r"))


async def an_execution_of_nobody(gateway: Redis) -> None:
    """Have a fill that is to come look as if it had been counted."""
    await command(gateway, "HSET", EXECS, "ghost", "no record")


async def a_number_that_is_gone(gateway: Redis) -> None:
    """Let the journal have a gap."""
    await command(gateway, "XADD", JOURNAL, "9-0", "event", "new x buy 1.00 1", "verdict", "accepted",
                  "balance_fen", 1, "status", "open", "phase", "continuous", "time_ms", 1)  # fmt: skip
    await command(gateway, "HSET", HASH, "seq", 9)


async def a_hold_of_nobody(gateway: Redis) -> None:
    """Hold an id that nobody has reserved, far away."""
    await command(gateway, "ZADD", HOLDS, 9_999_999_999_999, "ghost")


async def an_empty_journal(gateway: Redis) -> None:
    """Have the journal drop its entries for the sake of a new one, and that one too."""
    seq = int(await command(gateway, "HGET", HASH, "seq")) + 1
    await command(gateway, "XADD", JOURNAL, "MAXLEN", 0, f"{seq}-0", "event", "new x buy 1.00 1")
    await command(gateway, "HSET", HASH, "seq", seq)
    assert await command(gateway, "XLEN", JOURNAL) == 0


async def a_shorter_journal(gateway: Redis) -> None:
    """The same, leaving one entry, so that the numbers go on from there."""
    seq = int(await command(gateway, "HGET", HASH, "seq")) + 1
    entry = ("event", "new x buy 1.00 1", "verdict", "accepted", "balance_fen", 1, "status", "open")
    words = (*entry, "phase", "continuous", "time_ms", 1)
    await command(gateway, "XADD", JOURNAL, "MAXLEN", 1, f"{seq}-0", *words)
    await command(gateway, "HSET", HASH, "seq", seq)


async def a_hold_that_is_gone(gateway: Redis) -> None:
    """Let a reservation never lapse."""
    await command(gateway, "ZREM", HOLDS, "r")


DEEDS: dict[str, tuple[Deed, str]] = {
    "more room": (more_room, "balance_fen"),
    "room that adds up": (balanced_room, "open_buy_fen"),
    "a frame with another limit": (another_frame, "frame"),
    "another order's record": (another_verdict, "order a: the store has"),
    "an order of nobody": (an_order_of_nobody, "pool orders: is"),
    "an execution of nobody": (an_execution_of_nobody, "pool execs: is"),
    "a gap in the journal": (a_number_that_is_gone, "is missing, 9 comes next"),
    "an empty journal": (an_empty_journal, "the journal ends at 0"),
    "a shorter journal": (a_shorter_journal, "is missing"),
    "a hold that is gone": (a_hold_that_is_gone, "hold r: the store has None"),
    "a hold of nobody": (a_hold_of_nobody, "hold ghost: the store has"),
}


OUT_OF_REACH = {("operator", "a hold of nobody")}


@pytest.mark.parametrize("user", ["gateway", "operator"])
@pytest.mark.parametrize("deed", DEEDS)
async def test_verify_shows_what_was_written_by_hand(
    store: Guarded, ledger: RedisLedger, deed: str, user: str
) -> None:
    assert not await found(store)
    write, shown = DEEDS[deed]
    async with store.client(user) as client:
        if (user, deed) in OUT_OF_REACH:
            with pytest.raises(NoPermissionError):
                await write(client)
            return
        await write(client)
    assert shown in await found(store), ledger


async def test_a_gateway_reads_all_orders_of_its_pools(store: Guarded, ledger: RedisLedger) -> None:
    async with store.client("gateway") as gateway:
        entries = await command(gateway, "XREVRANGE", JOURNAL, "+", "-")
    assert len(entries) == len(await ledger.record.latest(POOL, 9))


async def test_a_bogus_hold_is_named_until_it_is_due_and_stops_nothing(
    store: Guarded, ledger: RedisLedger
) -> None:
    far_ms = 9_000_000_000_000
    async with store.client("gateway") as gateway:
        await command(gateway, "ZADD", HOLDS, far_ms, "ghost")
    assert f"hold ghost: the store has {far_ms}, the fold has None" in await found(store)
    async with store.client("gateway") as gateway:
        await command(gateway, "ZADD", HOLDS, 1, "ghost")
        await command(gateway, "HSET", HASH, "next_lapse", 1)
    assert (await ledger.tick(POOL)).pool is not None
    (decision,) = await ledger.apply(POOL, [buy("b")])
    assert decision.verdict == "accepted"
    assert not await found(store)


# With the functions, as anybody may. ----------------------------------------------------------


async def test_quota_that_is_kept_by_reservations_shows_in_the_journal(
    store: Guarded, ledger: RedisLedger
) -> None:
    async with store.client("gateway") as gateway:
        for number in range(20):
            await reserve(gateway, f"kept-{number}")
    entries = await ledger.record.latest(POOL, 20)
    assert all("source=gw1" in entry.event for entry in entries)
    assert not await found(store)


async def test_an_order_of_another_that_is_released_and_sent_is_a_violation(
    store: Guarded, ledger: RedisLedger
) -> None:
    async with store.client("gateway") as gateway:
        assert (await command(gateway, "FCALL", "quota_release", 6, *keys(POOL), "r"))[0] == b"released"
    (decision,) = await ledger.apply(POOL, [buy("r", 100)])
    assert decision.verdict == "accepted"
    pool = (await ledger.tick(POOL)).pool
    assert pool is not None
    assert pool.violated == {Violation.SPENT_ORDER: 1}


# What is out of its reach. --------------------------------------------------------------------


async def test_entries_of_the_journal_cannot_be_changed_nor_the_pool_removed(
    store: Guarded, ledger: RedisLedger
) -> None:
    before = await ledger.record.latest(POOL, 9)
    async with store.client("gateway") as gateway:
        deeds: tuple[tuple[str | int, ...], ...] = (
            *(("DEL", HASH), ("UNLINK", JOURNAL), ("XDEL", JOURNAL, "1-0"), ("XTRIM", JOURNAL, "MAXLEN", 0)),
            *(("RENAME", JOURNAL, ORDERS), ("FLUSHALL",), ("HDEL", ORDERS, "a"), ("FUNCTION", "FLUSH")),
            *(("HSET", f"quota:{{{POOL}}}:verified", "differences", "0"), ("SET", HASH, "x")),
            ("FCALL", "quota_operate", 6, HASH, ORDERS, EXECS, HOLDS, CHANGES, JOURNAL, "x"),
        )
        for words in deeds:
            with pytest.raises(NoPermissionError):
                await command(gateway, *words)
    assert await ledger.record.latest(POOL, 9) == before
    assert not await found(store)


TOLD = (
    *("`verify`", "MAXLEN 0`", "read all orders", "QUOTACORRUPT", "An operator's password"),
    *("`spent_order`", "bogus hold", "drop a hold", "`connect/+/orders/%u`"),
)


@pytest.mark.parametrize("words", TOLD)
def test_the_threats_that_are_tested_here_are_told(words: str) -> None:
    assert words in (Path(__file__).parent.parent / "docs" / "security.md").read_text("utf-8")

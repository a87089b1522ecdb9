"""A store that holds what cannot be ours: it is noticed, and nothing is written."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from quota.decision import Side, Verdict
from quota.errors import LedgerCorrupt
from quota.events import Cancelled, NewOrder
from quota.journal import Entry, read_line
from quota.ledger import RedisLedger
from quota.library import Library
from quota.proof.verify import verify
from quota.store.record import KEY_PARTS, change_of, keys, order_of, pool_of
from tests.agreement.state import DAY
from tests.agreement.trading import HALT, POOL, buy, fill, opening, unchanged


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


async def test_holds_of_another_type_stop_what_would_touch_them(client: Redis, ledger: RedisLedger) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.reserve(POOL, buy("a"), 86_400_000)
    await _spoil(client, "holds")
    async with unchanged(client):
        for order in (buy("b"), buy("c", 6_000)):
            with pytest.raises(LedgerCorrupt):
                await ledger.reserve(POOL, order, 1000)
        with pytest.raises(LedgerCorrupt):
            await ledger.release(POOL, "a")
        with pytest.raises(LedgerCorrupt):
            await ledger.apply(POOL, [buy("a")])
    await client.hset(keys(POOL)[0], "next_lapse", "1")
    async with unchanged(client):
        with pytest.raises(LedgerCorrupt):
            await ledger.tick(POOL)


@pytest.mark.parametrize("ghost", ["nobody", "sold", "confirmed"])
async def test_a_hold_of_what_is_no_reservation_goes_and_verify_tells_of_it_before(
    client: Redis, ledger: RedisLedger, ghost: str
) -> None:
    await ledger.open_day(POOL, await opening(client))
    await ledger.reserve(POOL, NewOrder(order_id="sold", side=Side.SELL, price="1", quantity=1))
    await ledger.reserve(POOL, buy("confirmed"))
    await ledger.apply(POOL, [buy("confirmed")])
    before = (await ledger.tick(POOL)).pool
    await client.zadd(keys(POOL)[3], {ghost: 1})
    await client.hset(keys(POOL)[0], "next_lapse", "1")
    told = f"hold {ghost}: the store has 1, the fold has None"
    assert (await verify(ledger.record, POOL)).differences == (told,)
    assert (await ledger.reserve(POOL, buy("confirmed"))).replayed
    assert (await ledger.tick(POOL)).pool == before
    assert (await verify(ledger.record, POOL)).differences == ()


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
        *(("next_lapse", text) for text in ("", "abc")),
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
    for text in ("new a buy 1", "lapsed", "lapsed a b", "released ä", "revived a"):
        with pytest.raises(LedgerCorrupt, match="journal"):
            read_line(text)
    assert pool_of({}) is None


def test_an_order_record_reads_back() -> None:
    order = order_of(bytes([1, 10, 2, 1, 7, 1, 10, 10, 0, 4]))
    assert (order.side, order.verdict, order.seq, order.open_milli) == (Side.BUY, Verdict.ACCEPTED, 7, 10)
    assert [str(kind) for kind in order.violations] == ["above_limit"]
    assert not order.reserved
    reserved = order_of(bytes([1, 10, 2, 1, 7, 0, 0, 0, 0, 0xCC, 0x84]))
    assert (reserved.reserved, reserved.spent, reserved.open_milli) == (True, False, 20)
    spent = order_of(bytes([1, 10, 2, 1, 7, 0, 0, 0, 0, 0xCD, 1, 0]))
    assert (spent.reserved, spent.spent, spent.open_milli) == (False, True, 0)


async def _spoil(client: Redis, part: str) -> None:
    name = keys(POOL)[KEY_PARTS.index(part)]
    await client.delete(name)
    await client.rpush(name, "a list") if part != "holds" else await client.set(name, "text")


async def _reserve(client: Redis, order_id: str) -> object:
    return await Library(client).call("quota_reserve", keys(POOL), order_id, "buy", "1.00", "1", "-")

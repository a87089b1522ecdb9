"""Verify finds what is broken and names it, finds nothing where nothing is, and locks nobody out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from redis import Redis

from quota.decision import Side, Verdict, Violation
from quota.events import Event
from quota.journal import Entry
from quota.ledger import Act
from quota.pool import Order, Pool
from quota.proof.verify import Findings, verify
from quota.store.record import keys
from tests.daemons import DAY, House, house, new
from tests.folded import OPENING, POOL, Record, said
from tests.tap import Tap, until, until_now
from tests.traffic import made

LIMIT = Act(act="limit", reason="more", user="me", host="here", limit_fen=60_000_000)


def events(seed: int = 7, count: int = 2_000) -> list[Event]:
    payloads = [event for topic, some in made(seed, count).messages if f"/{POOL}/" in topic for event in some]
    return [msgspec.convert(event, Event) for event in payloads]


@pytest.fixture
async def record() -> Record:
    """A day with everything in it, a changed limit too."""
    record = Record()
    await record.open_day(POOL, OPENING)
    happened = events()
    await record.apply(POOL, happened[:200])
    await record.operate(POOL, LIMIT)
    await record.apply(POOL, happened[200:])
    return record


async def test_a_good_day_has_no_differences(record: Record) -> None:
    found = await verify(record, POOL)
    assert found.differences == ()
    assert (found.trading_day, found.entries) == (DAY, record.book.journal[-1].seq)
    assert found.orders == len(record.book.orders)


async def test_a_pool_that_never_opened_has_none() -> None:
    assert await verify(Record(), POOL) == Findings(POOL, None, 0, 0, ())


FIGURES: dict[str, Callable[[Pool], Pool]] = {
    "limit_fen": lambda pool: replace(pool, limit_fen=pool.limit_fen + 1),
    "open_buy_fen": lambda pool: replace(pool, open_buy_fen=pool.open_buy_fen - 1),
    "filled_buy_fen": lambda pool: replace(pool, filled_buy_fen=pool.filled_buy_fen + 1),
    "filled_sell_fen": lambda pool: replace(pool, filled_sell_fen=0),
    "decided": lambda pool: replace(pool, decided=pool.decided | {(Side.BUY, Verdict.ACCEPTED): 1}),
    "violated": lambda pool: replace(pool, violated={}),
}


@pytest.mark.parametrize("figure", FIGURES)
async def test_a_figure_of_the_pool_that_is_wrong_is_named(record: Record, figure: str) -> None:
    assert record.book.pool is not None
    record.book.pool = FIGURES[figure](record.book.pool)
    found = await verify(record, POOL)
    assert len(found.differences) == 1
    assert found.differences[0].startswith(f"pool {figure}: the store has ")


ORDERS: dict[str, Callable[[Order], Order]] = {
    "side": lambda order: replace(order, side=Side.SELL if order.side is Side.BUY else Side.BUY),
    "price": lambda order: replace(order, price_milli=order.price_milli + 1),
    "quantity": lambda order: replace(order, quantity=order.quantity + 1),
    "verdict": lambda order: replace(order, verdict=Verdict.CLOSED),
    "seq": lambda order: replace(order, seq=order.seq + 1),
    "filled": lambda order: replace(order, filled=order.filled + 1),
    "value": lambda order: replace(order, value_milli=order.value_milli + 1),
    "top": lambda order: replace(order, top_milli=order.top_milli + 1),
    "off the book": lambda order: replace(order, off_book=not order.off_book),
    "violations": lambda order: replace(order, violations=order.violations ^ {Violation.OVERFILLED}),
}


@pytest.mark.parametrize("what", ORDERS)
async def test_an_order_that_is_wrong_is_named(record: Record, what: str) -> None:
    order_id = random.Random(what).choice(sorted(record.book.orders))
    record.book.orders[order_id] = ORDERS[what](record.book.orders[order_id])
    found = await verify(record, POOL)
    assert len(found.differences) == 1
    assert found.differences[0].startswith(f"order {order_id}: the store has Order(")


async def test_an_execution_that_is_wrong_is_named(record: Record) -> None:
    exec_id, execution = next(iter(record.book.executions.items()))
    record.book.executions[exec_id] = replace(execution, busted=not execution.busted)
    assert said(await verify(record, POOL)).startswith(f"execution {exec_id}: the store has Execution(")


async def test_an_order_that_is_gone_is_named(record: Record) -> None:
    order_id = random.Random(3).choice(sorted(record.book.orders))
    del record.book.orders[order_id]
    assert said(await verify(record, POOL)).startswith(f"order {order_id}: the store has None, the fold has")


ENTRIES: dict[str, tuple[Callable[[Entry], Entry], str]] = {
    "balance": (lambda entry: replace(entry, balance_fen=entry.balance_fen + 1), "balance_fen is"),
    "violations": (lambda entry: replace(entry, violations=(Violation.SPENT_ORDER,)), "violations are"),
    "event": (lambda entry: replace(entry, event="cancelled nobody"), "balance_fen is"),
    "verdict": (lambda entry: replace(entry, verdict=None), "has no verdict"),
}


@pytest.mark.parametrize("what", ENTRIES)
async def test_an_entry_that_is_wrong_is_named(record: Record, what: str) -> None:
    spoil, text = ENTRIES[what]
    accepted = [entry for entry in record.book.journal if entry.verdict is Verdict.ACCEPTED]
    entry = next(entry for entry in accepted if " buy " in entry.event)
    record.book.journal[entry.seq - 1] = spoil(entry)
    assert said(await verify(record, POOL)).startswith(f"seq {entry.seq}: {text}")


async def test_an_entry_that_is_missing_is_named(record: Record) -> None:
    seq = random.Random(5).randrange(1, record.book.journal[-1].seq)
    del record.book.journal[seq - 1]
    assert said(await verify(record, POOL)).startswith(f"seq {seq}: is missing, {seq + 1} comes next")


async def test_a_journal_that_ends_early_is_named(record: Record) -> None:
    last = record.book.journal.pop()
    assert f"seq {last.seq}: the journal ends at {last.seq - 1}" in said(await verify(record, POOL))


async def test_an_act_with_the_wrong_limit_is_named(record: Record) -> None:
    (act,) = [entry for entry in record.book.journal if entry.is_act]
    record.book.journal[act.seq - 1] = replace(act, was_fen=1)
    assert said(await verify(record, POOL)) == f"seq {act.seq}: was_fen is 1, the fold has 50000000"


async def test_what_happens_meanwhile_is_no_difference(record: Record) -> None:
    touched = sorted(record.book.orders)[:20]
    news = [msgspec.convert({"event": "cancelled", "order_id": order_id}, Event) for order_id in touched]

    def happen() -> None:
        for event in news:
            record._apply(record.book, event, 1)

    record.meanwhile = happen
    assert said(await verify(record, POOL)) == ""


async def test_a_day_that_begins_meanwhile_is_no_difference(record: Record) -> None:
    tomorrow = replace(OPENING, trading_day="2026-11-24")

    def happen() -> None:
        opening = record.open_day(POOL, tomorrow)
        with pytest.raises(StopIteration):
            opening.send(None)
        record._apply(record.book, events()[0], 1)

    record.meanwhile = happen
    found = await verify(record, POOL)
    assert (said(found), found.trading_day) == ("", "2026-11-24")


# The same through the command line, over a real store while a real daemon works.


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        yield home


POOL_KEY, ORDERS_KEY, EXECS_KEY, HOLDS_KEY, _, JOURNAL_KEY = keys(POOL)
SPOILT: dict[str, tuple[Callable[[Redis], object], str]] = {
    "a sum of the pool": (
        lambda redis: redis.hincrby(POOL_KEY, "open_buy_fen", 1),
        "pool open_buy_fen: the store has 400001, the fold has 400000",
    ),
    "an order": (
        lambda redis: redis.eval(
            "redis.call('HSET', KEYS[1], '1', redis.call('HGET', KEYS[1], '2'))", 1, ORDERS_KEY
        ),
        "order 1: the store has Order(",
    ),
    "the balance": (lambda redis: redis.hset(POOL_KEY, "balance_fen", 77), "pool balance_fen: is '77'"),
    "the status": (lambda redis: redis.hset(POOL_KEY, "status", "exhausted"), "pool status: is 'exhausted'"),
    "a field of the frame": (lambda redis: redis.hset(POOL_KEY, "halted", "why"), "pool frame: is"),
    "an order too many": (
        lambda redis: redis.hset(ORDERS_KEY, "ghost", "x"),
        "pool orders: is 5, should be 4",
    ),
    "an execution too many": (
        lambda redis: redis.hset(EXECS_KEY, "ghost", "x"),
        "pool execs: is 1, should be 0",
    ),
    "a hold too many": (
        lambda redis: redis.zadd(HOLDS_KEY, {"1": 5}),
        "hold 1: the store has 5, the fold has None",
    ),
    "an entry": (lambda redis: redis.xdel(JOURNAL_KEY, "2-0"), "seq 2: is missing, 3 comes next"),
    "the last entry": (lambda redis: redis.xdel(JOURNAL_KEY, "4-0"), "seq 4: the journal ends at 3"),
}


async def test_the_command_names_what_is_broken_and_exits_1(home: House) -> None:
    with Tap(home.broker.port) as tap:
        tap.say(f"connect/{POOL}/orders", [new(str(number)) for number in range(4)])
        await until(lambda: home.seq() == 4)
        kept = home.redis.dump(POOL_KEY), home.redis.dump(ORDERS_KEY), home.redis.dump(JOURNAL_KEY)
    raw = Redis(port=home.store.port)
    saved = {key: raw.dump(key) for key in keys(POOL)}
    assert all(kept)
    for spoil, text in SPOILT.values():
        assert home.quotad.does("verify").returncode == 0
        spoil(home.redis)
        told = home.quotad.does("verify")
        assert (told.returncode, text in told.stdout) == (1, True), told
        for key, dump in saved.items():
            raw.delete(key)
            if dump is not None:
                raw.restore(key, 0, dump, replace=True)
    raw.close()


async def test_the_command_finds_nothing_while_traffic_flows(home: House) -> None:
    day = made(11, 12_000)
    with Tap(home.broker.port, ("connect/+/decisions/#",)) as tap:
        for topic, payloads in day.messages:
            tap.say(topic, payloads)
        await until(lambda: home.seqs() > 100)
        before = home.seqs()
        told = await asyncio.to_thread(home.quotad.does, "verify")
        assert (told.returncode, told.stdout.count("agree")) == (0, 4), told.stdout
        assert home.seqs() > before
        await until(lambda: sum(b'"last"' in body for _, body in list(tap.heard)) == 4)
        assert home.quotad.does("verify").returncode == 0

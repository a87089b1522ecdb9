"""Twenty thousand events through a real broker into a real store, while things die."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest

from quota.decision import PoolName, Verdict
from quota.endpoints import Redis as RedisSettings
from quota.ledger import RedisLedger
from quota.library import Library
from quota.money import yuan_to_fen
from quota.store.nodes import connected
from quota.store.record import keys
from tests import traffic
from tests.daemons import House, house
from tests.proxy import Proxy
from tests.tap import Tap, until, until_now
from tests.traffic import LIMITS_YUAN, TOML, Traffic

EVENTS = 20_000
ANSWERS = ("connect/+/decisions/#", "connect/+/dead")
SUMS = (
    "limit_fen", "balance_fen", "open_buy_fen", "filled_buy_fen", "filled_sell_fen", "seq", "status", "level",
    "decided", "violated",
)  # fmt: skip


def speak(tap: Tap, day: Traffic) -> None:
    for topic, payloads in day.messages:
        tap.say(topic, payloads if len(payloads) > 1 else payloads[0])


def through(tap: Tap) -> bool:
    """Whether the last order of every pool has its answer: everything before it was taken in."""
    return sum(b'"last"' in body for _, body in list(tap.heard)) >= len(PoolName)


def verdicts_of(tap: Tap) -> dict[str, dict[str, set[str]]]:
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for reply in tap.replies():
        found[reply["pool"]][reply["order_id"]].add(reply["verdict"])
    return found


async def judge(home: House, tap: Tap, day: Traffic) -> None:
    """Compare everything that came of the day with everything that should have."""
    verdicts = verdicts_of(tap)
    answered = {(pool, order_id) for pool, orders in verdicts.items() for order_id in orders}
    assert answered == day.news()
    dead = {json.dumps(json.loads(letter["payload"]), sort_keys=True) for letter in tap.on("dead")}
    assert dead == day.dead()
    pools, _ = await traffic.expected(day)
    client = connected(RedisSettings(url=home.store.url))
    ledger = RedisLedger(Library(client))
    for pool in PoolName:
        stored = await ledger.record.read(pool)
        assert {name: getattr(stored, name) for name in SUMS} == {
            name: getattr(pools[pool], name) for name in SUMS
        }
        entries = [entry.seq async for entry in ledger.record.journal(pool, 10**9)]
        assert entries == list(range(1, pools[pool].seq + 1))
        first = first_verdicts(day, pool, verdicts[pool])
        rate = "1" if pool.northbound else traffic.RATE
        used = traffic.contributions(day.lives[pool], first, rate)
        assert pools[pool].balance_fen == yuan_to_fen(LIMITS_YUAN[pool]) - used
    await client.aclose()
    verified = await asyncio.to_thread(home.quotad.does, "verify")
    assert (verified.returncode, verified.stdout.count("journal and records agree")) == (0, 4)


def first_verdicts(day: Traffic, pool: PoolName, verdicts: dict[str, set[str]]) -> dict[str, str]:
    """All decisions of one order agree, but for those on another order with its id."""
    reused = {life.order_id for life in day.lives[pool] if life.reused}
    for order_id, words in verdicts.items():
        assert (Verdict.ID_REUSED in words) == (order_id in reused), order_id
    kept = {order_id: words - {Verdict.ID_REUSED} for order_id, words in verdicts.items()}
    assert all(len(words) == 1 for words in kept.values())
    return {order_id: next(iter(words)) for order_id, words in kept.items()}


async def end(home: House) -> None:
    """End the daemon in good order: nothing is left for it at the broker."""
    home.quotad.ask_to_end()
    assert await asyncio.to_thread(home.quotad.code, 5) == 0
    assert await asyncio.to_thread(home.left) == []


@pytest.mark.parametrize("store", ["valkey", "redis"])
async def test_killed_three_times_and_nothing_is_lost_or_counted_twice(tmp_path: Path, store: str) -> None:
    day = traffic.made(2, EVENTS)
    assert day.events >= EVENTS
    moments = sorted(random.Random(store).sample(range(500, 12_000), 3))
    with house(tmp_path, store, toml=TOML) as home, Tap(home.broker.port, ANSWERS) as tap:
        home.quotad.start()
        await until(lambda: home.quotad.ready)
        speaking = asyncio.create_task(asyncio.to_thread(speak, tap, day))
        for moment in moments:
            await until(partial(reached, home, moment))
            home.quotad.kill()
            assert not through(tap)
            home.quotad.start()
        await speaking
        await until(lambda: through(tap))
        await judge(home, tap, day)
        await end(home)


@pytest.mark.parametrize("store", ["valkey", "redis"])
async def test_store_cut_off_three_times_and_nothing_is_lost_or_counted_twice(
    tmp_path: Path, store: str
) -> None:
    day = traffic.made(3, EVENTS)
    with house(tmp_path, store, toml=TOML) as home, Tap(home.broker.port, ANSWERS) as tap:
        async with Proxy(home.store.port) as proxy:
            proxy.cuts = [(60_000, "request torn"), (250_000, "reply lost"), (500_000, "reply torn")]
            home.quotad.store_port = proxy.port
            home.quotad.write()
            home.quotad.start()
            await until(lambda: home.seqs() == 0 and home.redis.exists(keys(PoolName.SB_SZ)[0]))
            await asyncio.to_thread(until_now, lambda: home.quotad.ready)
            await asyncio.to_thread(speak, tap, day)
            await until(lambda: through(tap))
            assert proxy.done == ["request torn", "reply lost", "reply torn"]
            await judge(home, tap, day)
            await end(home)


async def test_told_to_stop_in_the_middle_it_finishes_what_it_holds(tmp_path: Path) -> None:
    day = traffic.made(5, EVENTS)
    with house(tmp_path, toml=TOML) as home, Tap(home.broker.port, ANSWERS) as tap:
        home.quotad.start()
        await until(lambda: home.quotad.ready)
        speaking = asyncio.create_task(asyncio.to_thread(speak, tap, day))
        await until(lambda: home.seqs() >= 2_000)
        home.quotad.ask_to_end()
        assert await asyncio.to_thread(home.quotad.code, 5) == 0
        assert not through(tap)
        await speaking
        await until(lambda: tap.settled)
        home.quotad.start()
        await until(lambda: through(tap))
        await judge(home, tap, day)
        await end(home)
        assert len(tap.replies()) == asked(day)


def reached(home: House, moment: int) -> bool:
    return home.seqs() >= moment


def asked(day: Traffic) -> int:
    """How many decisions are due where nothing comes twice from the broker."""
    events = [event for _, payloads in day.messages for event in payloads]
    return sum(event["event"] == "new" and "time" not in event for event in events)

"""Twenty thousand events through a real broker into a real store, while things die."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from quota.decision import PoolName
from quota.store.record import keys
from tests import traffic
from tests.daemons import House, house
from tests.judged import ANSWERS, end, judge, speak, through
from tests.proxy import Proxy
from tests.scale import cases, first_seed
from tests.tap import SOON_S, Tap, until, until_now
from tests.traffic import TOML, Traffic

EVENTS = 20_000


async def verified(home: House) -> None:
    """Let the command that people use say the same."""
    done = await asyncio.to_thread(home.quotad.does, "verify")
    assert (done.returncode, done.stdout.count("journal and records agree")) == (0, 4)


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
        await verified(home)
        await end(home)


@pytest.mark.soak
@pytest.mark.parametrize("store", ["valkey", "redis"])
async def test_store_cut_off_again_and_again_and_nothing_is_lost_or_counted_twice(
    tmp_path: Path, store: str, counted: Callable[[str], None]
) -> None:
    day = traffic.made(3, EVENTS * cases(1, 3))
    rng = random.Random(f"{store} {first_seed()}")
    kinds = ["request torn", "reply lost", "reply torn"] * cases(3, 10)
    rng.shuffle(kinds)
    with house(tmp_path, store, toml=TOML) as home, Tap(home.broker.port, ANSWERS) as tap:
        async with Proxy(home.store.port) as proxy:
            places = sorted(rng.sample(range(60_000, 600_000), len(kinds)))
            proxy.cuts = list(zip(places, kinds, strict=True))
            home.quotad.store_port = proxy.port
            home.quotad.write()
            home.quotad.start()
            await until(lambda: home.seqs() == 0 and home.redis.exists(keys(PoolName.SB_SZ)[0]))
            await asyncio.to_thread(until_now, lambda: home.quotad.ready)
            await asyncio.to_thread(speak, tap, day)
            await until(lambda: through(tap), SOON_S * len(kinds))  # after each the daemon waits, up to 2 s
            assert proxy.done == kinds
            await judge(home, tap, day)
            await verified(home)
            await end(home)
    counted(f"the way to the store cut: {len(kinds)} times, {store}")


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
        await verified(home)
        await end(home)
        assert len(tap.replies()) == asked(day)


def reached(home: House, moment: int) -> bool:
    return home.seqs() >= moment


def asked(day: Traffic) -> int:
    """How many decisions are due where nothing comes twice from the broker."""
    events = [event for _, payloads in day.messages for event in payloads]
    return sum(event["event"] == "new" and "time" not in event for event in events)

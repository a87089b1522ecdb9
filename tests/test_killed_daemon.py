"""The real daemon is killed at the n-th command to the store or packet of the broker, and started again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import traffic
from tests.daemons import House, house
from tests.judged import ANSWERS, end, judge, speak, through
from tests.scale import SOAK
from tests.tap import Tap, until
from tests.traffic import TOML, Traffic
from tests.weir import Weir, packets

EVENTS = 16
SAMPLES = 2
UNITS_AT_LEAST = 40


@dataclass(slots=True)
class Stage:
    """A house whose daemon speaks through a weir to its store, and through another to its broker."""

    home: House
    tap: Tap
    to_store: Weir
    to_broker: Weir
    day: Traffic

    async def play(self, weir: Weir, at: int) -> int:
        """Play a fresh day with a death at this unit; say how many it took without one, or 0."""
        self.home.redis.flushall()
        self.home.redis.function_flush()
        self.tap.heard.clear()
        self.to_store.again()
        self.to_broker.again()
        weir.again(at=at)
        await asyncio.to_thread(speak, self.tap, self.day)
        await until(lambda: self.tap.settled)
        self.home.quotad.start()
        await until(lambda: weir.struck or through(self.tap))
        units, weir.at = weir.passed, 0
        if weir.struck:
            self.home.quotad.start()
        await until(lambda: through(self.tap) and self.idle)
        await judge(self.home, self.tap, self.day)
        await end(self.home)
        return 0 if weir.struck else units

    @property
    def idle(self) -> bool:
        """Whether the daemon serves, and has acknowledged whatever came."""
        quotad = self.home.quotad
        return quotad.ready and quotad.metric("quota_unacknowledged_messages") == 0


@asynccontextmanager
async def staged(directory: Path) -> AsyncIterator[Stage]:
    """Set the stage, with a session at the broker that is the daemon's already."""
    with house(directory, toml=TOML) as home, Tap(home.broker.port, ANSWERS) as tap:
        to_broker = Weir(home.broker.port, packets, packets, home.quotad.kill)
        async with Weir(home.store.port, strike=home.quotad.kill) as to_store, to_broker:
            home.quotad.store_port, home.quotad.broker_port = to_store.port, to_broker.port
            home.quotad.write()
            stage = Stage(home, tap, to_store, to_broker, traffic.made(7, EVENTS))
            home.quotad.start()
            await until(lambda: home.quotad.ready)
            await end(home)
            yield stage


def moments(units: int, seed: str) -> Iterator[int]:
    """Where it dies: at every unit in the long form, else at some of the earlier ones."""
    if SOAK:
        yield from range(1, 10 * units)
    else:
        yield from sorted(random.Random(seed).sample(range(1, units // 2), SAMPLES))


@pytest.mark.soak
@pytest.mark.parametrize("where", ["to_store", "to_broker"])
async def test_killed_at_any_command_or_packet_it_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, where: str, counted: Callable[[str], None]
) -> None:
    async with staged(tmp_path) as stage:
        weir: Weir = getattr(stage, where)
        units, deaths = await stage.play(weir, 0), 0
        assert units > UNITS_AT_LEAST
        for at in moments(units, where):
            if await stage.play(weir, at):
                break
            deaths += 1
        assert deaths >= SAMPLES
        counted(f"the daemon killed, at another place {where} each time: {deaths} times")

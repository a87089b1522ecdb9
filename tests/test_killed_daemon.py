"""The real daemon is killed at the n-th command to the store or packet of the broker, and started again."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from quota.captured import Captured, Delivered, Journalled
from quota.decision import PoolName
from tests import traffic
from tests.captures import read
from tests.daemons import House, house
from tests.judged import ANSWERS, end, judge, speak, spoken, through
from tests.scale import SOAK, cases
from tests.tap import Tap, until
from tests.traffic import TOML, Traffic
from tests.weir import Weir, packets

EVENTS = 16
SAMPLES = 2
UNITS_AT_LEAST = 40


@dataclass(slots=True)
class Stage:
    """A house whose daemon speaks through a weir to its store, and through another to its broker.

    Each play has a record of the day of its own: from another's, its day would be put back.
    """

    home: House
    tap: Tap
    to_store: Weir
    to_broker: Weir
    day: Traffic
    plays: int = 0

    @property
    def folder(self) -> Path:
        """Where the record of this play is."""
        return self.home.quotad.directory / f"record-{self.plays}"

    def write(self) -> None:
        """Write the settings of this play."""
        self.home.quotad.toml = f'{TOML}\n[capture]\nfolder = "{self.folder}"'
        self.home.quotad.write()

    async def play(self, weir: Weir, at: int) -> int:
        """Play a fresh day with a death at this unit; say how many it took without one, or 0."""
        self.home.redis.flushall()
        self.home.redis.function_flush()
        self.tap.heard.clear()
        self.plays += 1
        self.write()
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
        await until(lambda: self.followed)
        await judge(self.home, self.tap, self.day)
        await end(self.home)
        judge_record(read(self.folder), self.day, self.home)
        return 0 if weir.struck else units

    @property
    def idle(self) -> bool:
        """Whether the daemon serves, and has acknowledged whatever came."""
        quotad = self.home.quotad
        return quotad.ready and quotad.metric("quota_unacknowledged_messages") == 0

    @property
    def followed(self) -> bool:
        """Whether the record has reached every pool's last entry."""
        last = {it.pool: it.entry.seq for it in read(self.folder) if isinstance(it, Journalled)}
        return all(last.get(pool) == self.home.seq(pool) for pool in PoolName)


def judge_record(found: list[Captured], day: Traffic, home: House) -> None:
    """Every message was written down, and every entry in its order; what stands twice is the same."""
    said = Counter((topic, json.dumps(body)) for topic, body in spoken(day))
    came = Counter((it.topic, it.payload.decode()) for it in found if isinstance(it, Delivered))
    assert said <= came
    for pool in PoolName:
        written = [it.entry for it in found if isinstance(it, Journalled) and it.pool is pool]
        kept = {entry.seq: entry for entry in written}
        assert list(kept) == list(range(1, home.seq(pool) + 1))
        assert all(entry == kept[entry.seq] for entry in written)


@asynccontextmanager
async def staged(directory: Path) -> AsyncIterator[Stage]:
    """Set the stage, with a session at the broker that is the daemon's already."""
    with house(directory) as home, Tap(home.broker.port, ANSWERS) as tap:
        to_broker = Weir(home.broker.port, packets, packets, home.quotad.kill)
        async with Weir(home.store.port, strike=home.quotad.kill) as to_store, to_broker:
            home.quotad.store_port, home.quotad.broker_port = to_store.port, to_broker.port
            stage = Stage(home, tap, to_store, to_broker, traffic.made(7, EVENTS))
            stage.write()
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
        else:
            assert not SOAK, "it died wherever it was told to, and never got through"
        assert deaths >= cases(SAMPLES, units // 2)
        counted(f"the daemon killed, at another place {where} each time: {deaths} times")

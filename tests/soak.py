"""Mixed traffic for a long time while things fail at random, and what it may leave behind.

Everything comes from a seed: the traffic, slice by slice, which fault comes when, and how many messages
long it lasts. What the pools should hold is summed by the contract's formula from the slices, made again.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis

from feeds.capture_reading import files_of, records, survey
from quota.captured import Delivered, Journalled
from quota.decision import PoolName, Side, Verdict
from quota.desk.operator import PATIENT_MS
from quota.endpoints import Redis as RedisSettings
from quota.gateway import PreTrade
from quota.ledger import RedisLedger
from quota.library import Library
from quota.money import yuan_to_fen
from quota.proof.verify import verify
from quota.store.nodes import connected
from quota.store.record import keys
from tests import traffic
from tests.daemons import House
from tests.shift import CHARGE_FEN, PRICE, QUANTITY
from tests.strikes import (
    OF_THE_BROKER,
    OF_THE_DAEMON,
    OF_THE_STORE,
    Fault,
    Struck,
    cut_off,
)
from tests.tap import Tap, until
from tests.traffic import LIMITS_YUAN, Traffic, limits

FAULTS = (*OF_THE_STORE, cut_off, *OF_THE_BROKER, *OF_THE_DAEMON)
RECOVERS_S = 120.0
GATEWAY = PoolName.NB_SZ
LASTS = LIMITS_YUAN | dict.fromkeys((GATEWAY, PoolName.SB_SH), "90000000000")
"""Two pools are exhausted in the first minute, two take buys for hours."""

BETWEEN = 100
"""How many events pass between two orders of the gateway."""

_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much comes how fast: a fault in every ``between`` events."""

    seed: int
    events_per_s: int
    slices: int
    between: int
    longest: int

    def slice(self, number: int) -> Traffic:
        """Make the traffic of a slice, the same every time."""
        return traffic.made(self.seed + number, self.between, f"{number}-", mistakes=False)


@dataclass(slots=True)
class Footprint:
    """What the processes hold of what leaks: the daemon's memory, and descriptors."""

    daemon_mb: float
    daemon_files: int
    store_files: int
    broker_files: int

    @classmethod
    def of(cls, home: House) -> Footprint:
        """Look at a house."""
        processes = (home.quotad.process, home.store.process, home.broker.process)
        files = [len(list(Path(f"/proc/{process.pid}/fd").iterdir())) for process in processes if process]
        return cls(home.quotad.rss_mb(), *files)


@dataclass(slots=True)
class Course:
    """One run of a plan. ``said`` counts the events published, ``faults`` what has come."""

    plan: Plan
    struck: Struck
    tap: Tap
    said: int = 0
    over: bool = False
    reserved: dict[str, Verdict] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    prints: list[Footprint] = field(default_factory=list)

    @property
    def toml(self) -> str:
        """What the daemon is set to: these limits, and a record of the day."""
        return f'{limits(LASTS)}\n[capture]\nfolder = "{self.folder}"'

    @property
    def folder(self) -> Path:
        """Where the record of the day is."""
        return self.home.store.directory / "capture"

    @property
    def accepted(self) -> int:
        """How many of the gateway's orders were accepted."""
        return list(self.reserved.values()).count(Verdict.ACCEPTED)

    @property
    def home(self) -> House:
        """Where it plays."""
        return self.struck.home

    async def run(self) -> None:
        """Publish everything; strike once in every slice; wait until all of it is taken in."""
        speaking = asyncio.create_task(asyncio.to_thread(self._speak))
        trading = asyncio.create_task(self._trade())
        rng = random.Random(self.plan.seed)
        for number in range(self.plan.slices):
            await self._reached(number * self.plan.between + rng.randrange(self.plan.between // 2))
            await self._strike(rng.choice(FAULTS), rng.randint(1, self.plan.longest))
        await speaking
        await until(lambda: self.tap.settled, RECOVERS_S)
        self.over = True
        await trading
        await until(lambda: self._taken_in, RECOVERS_S)
        self.prints.append(Footprint.of(self.home))

    def _speak(self) -> None:
        """Publish the slices, never faster than planned."""
        began = time.monotonic()
        for number in range(self.plan.slices):
            for topic, payloads in self.plan.slice(number).messages:
                ahead_s = began + self.said / self.plan.events_per_s - time.monotonic()
                time.sleep(max(0.0, ahead_s))
                self.tap.say(topic, payloads)
                self.said += len(payloads)

    async def _trade(self) -> None:
        """Reserve as a gateway does, each order until it is answered."""
        url = f"redis://127.0.0.1:{self.struck.to_store.port}/0"
        async with PreTrade(url, source="gw", deadline_ms=200, durability="fsync") as gate:
            while not self.over:
                name, then = f"gw-{len(self.reserved)}", self.said + BETWEEN
                answer = await gate.reserve(GATEWAY, name, Side.BUY, PRICE, QUANTITY)
                if answer.verdict is not None:
                    self.reserved[name] = answer.verdict
                    await until(partial(self._passed, then), RECOVERS_S)

    def _passed(self, events: int) -> bool:
        return self.over or self.said >= events

    async def _strike(self, fault: Fault, events: int) -> None:
        """Let a fault last for so many events, and wait until everybody is well again."""
        async with fault(self.struck):
            await self._reached(self.said + events)
        await self._well(fault)
        footprint = Footprint.of(self.home)
        self.faults.append(fault.__name__)
        self.prints.append(footprint)
        print(f"{self.said:>9} events, {fault.__name__} for {events}: {footprint}", flush=True)  # noqa: T201 - make soak shows it

    async def _well(self, fault: Fault) -> None:
        """Wait until the daemon is ready; where it is not in time, say why."""
        try:
            await until(lambda: self.home.quotad.ready, RECOVERS_S)
        except TimeoutError:
            raise AssertionError((fault.__name__, self.home.quotad.get("/-/ready"))) from None

    async def _reached(self, events: int) -> None:
        all_of_it = self.plan.slices * self.plan.between
        await until(lambda: self.said >= min(events, all_of_it), RECOVERS_S + events / self.plan.events_per_s)

    @property
    def _taken_in(self) -> bool:
        """Whether the last order of every pool is decided, and nothing waits."""
        last, quotad = f"{self.plan.slices - 1}-last", self.home.quotad
        decided = (self.home.redis.hexists(f"quota:{{{pool}}}:orders", last) for pool in PoolName)
        return all(decided) and quotad.ready and quotad.metric("quota_unacknowledged_messages") == 0

    async def judge(self) -> None:
        """Everything is there once, what the pools hold is right, and verify agrees."""
        nodes = connected(RedisSettings(url=self.home.store.url, deadline_ms=PATIENT_MS))
        ledger = RedisLedger(Library(nodes))
        used = dict.fromkeys(PoolName, 0)
        used[GATEWAY] = CHARGE_FEN * self.accepted
        for number in range(self.plan.slices):
            made = await asyncio.to_thread(self.plan.slice, number)  # the daemon's weir goes on meanwhile
            for pool, lives in made.lives.items():
                verdicts = await _verdicts(ledger, pool, [life.order_id for life in lives])
                known = [life.order_id for life in lives if life.new is not None]
                assert verdicts.keys() >= set(known)
                used[pool] += traffic.contributions(lives, verdicts, "1" if pool.northbound else traffic.RATE)
        for pool in PoolName:
            stored = await ledger.record.read(pool)
            assert stored is not None
            assert stored.balance_fen == yuan_to_fen(LASTS[pool]) - used[pool], pool
            assert (await verify(ledger.record, pool)).differences == ()
        mine = await _verdicts(ledger, GATEWAY, list(self.reserved))
        assert mine == self.reserved
        assert self.accepted > self.said // BETWEEN // 3
        await nodes.aclose()
        await until(lambda: self._recorded == self._journalled, RECOVERS_S)
        await asyncio.to_thread(self._judge_record)

    @property
    def _journalled(self) -> dict[PoolName, int]:
        """How far the journals go."""
        return {pool: int(self.home.redis.hget(keys(pool)[0], "seq") or 0) for pool in PoolName}

    @property
    def _recorded(self) -> dict[PoolName, int]:
        """How far the record of the day goes."""
        return {pool: at.seq for pool, at in survey(files_of(self.folder)[-1]).reached.items()}

    def _judge_record(self) -> None:
        """Everything that was said is in the record, and every entry of every journal."""
        slices = map(self.plan.slice, range(self.plan.slices))
        said = {
            hash((topic, json.dumps(payloads).encode())) for it in slices for topic, payloads in it.messages
        }
        reached = dict.fromkeys(PoolName, 0)
        for _, record in records(files_of(self.folder)):
            if isinstance(record, Delivered):
                said.discard(hash((record.topic, record.payload)))
            elif isinstance(record, Journalled):
                assert record.entry.seq <= reached[record.pool] + 1
                reached[record.pool] = max(reached[record.pool], record.entry.seq)
        assert not said
        assert reached == self._journalled

    def judge_leaks(self, growth_mb: float, growth_files: int) -> None:
        """Nothing grows from the first look to the last; every key but the open day's has an end."""
        first, last = self.prints[0], self.prints[-1]
        assert max(each.daemon_mb for each in self.prints) < first.daemon_mb + growth_mb, self.prints
        for name in ("daemon_files", "store_files", "broker_files"):
            assert getattr(last, name) <= getattr(first, name) + growth_files, self.prints
        ours = {key for pool in PoolName for key in keys(pool)}
        assert set(_endless(self.home.redis)) <= ours


async def _verdicts(ledger: RedisLedger, pool: PoolName, ids: list[str]) -> dict[str, Any]:
    """What was decided on these orders, of those that are known."""
    found: dict[str, Any] = {}
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        for order_id, order in zip(page, await ledger.record.orders(pool, page), strict=True):
            if order is not None:
                found[order_id] = order.verdict
    return found


def _endless(redis: Redis) -> Iterator[str]:
    """The keys that nobody will ever take away."""
    for name in redis.scan_iter(count=_PAGE):
        if redis.ttl(name) == -1:
            yield str(name)

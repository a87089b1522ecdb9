"""A daemon to measure: the parts that ``quotad run`` puts together, but for the pages and the screen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from time import perf_counter

import structlog

from bench.stores import DAY, Store
from feeds.mqtt import MqttFeed, MqttSettings
from quota.clock import MarketClock
from quota.config import Market
from quota.days import Almanac, Days
from quota.decision import Decision, PoolName
from quota.endpoints import Redis as RedisSettings
from quota.events import Event
from quota.ledger import RedisLedger
from quota.library import Library
from quota.metrics import Metrics
from quota.rulebook import Calendar
from quota.running import Running
from quota.store.nodes import connected

_POLL_S = 0.002


class Counting(RedisLedger):
    """The real ledger; it counts what was applied."""

    applied = 0

    async def apply(self, pool: PoolName, events: Sequence[Event]) -> Sequence[Decision]:
        """Apply, and count."""
        decisions = await super().apply(pool, events)
        self.applied += sum(decision.seq is not None for decision in decisions)
        return decisions


@asynccontextmanager
async def feed_at(port: int) -> AsyncIterator[MqttFeed]:
    """Connect the daemon's feed; leaving keeps its session."""
    async with MqttFeed(MqttSettings(host="127.0.0.1", port=port)) as feed:
        while not feed.connected:  # noqa: ASYNC110 - a feed has no event for it
            await asyncio.sleep(_POLL_S)
        yield feed


async def run_daemon(store: Store, port: int, pool: PoolName, events: int) -> float:
    """Run the daemon until it has dealt with that many events; returns the seconds it took."""
    client = connected(RedisSettings(url=store.url))
    library = Library(client)
    ledger = Counting(library)
    days = await _days(library, ledger, pool)
    started = perf_counter()
    async with MqttFeed(MqttSettings(host="127.0.0.1", port=port)) as feed:
        running = Running(
            feed=feed,
            ledger=ledger,
            library=library,
            days=days,
            metrics=Metrics([pool], "bench"),
            record=ledger.record,
        )
        life = asyncio.create_task(running.run())
        while ledger.applied < events or feed.unacknowledged:
            await asyncio.sleep(_POLL_S)
            if life.done():
                life.result()
        await feed.flush()
        seconds = perf_counter() - started
        running.stop()
        await life
    await client.aclose()
    return seconds


async def _days(library: Library, ledger: RedisLedger, pool: PoolName) -> Days:
    at = datetime.fromisoformat(f"{DAY}T10:00:00+08:00")
    almanac = Almanac(
        clock=MarketClock(at, await library.server_ms(), real=False),
        calendar=Calendar.load(closed=[], extra=[], half_days=[]),
        market=Market(pools=(pool,)),
        levels=(50, 70, 90, 100),
        open_late=True,
    )
    return Days(ledger, almanac, (pool,))


structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))

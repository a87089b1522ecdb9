"""The simulated market over a real broker: it asks, takes answers, ends, and fails clearly."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

import aiomqtt
import msgspec
import pytest

from feeds import simulator
from feeds.scenario import clock_s
from feeds.simulator import DaySummary, Simulator
from quota.clock import MarketClock
from quota.decision import Phase, PoolName, Status, Verdict
from quota.embedded import embedded_broker
from quota.errors import FeedUnavailable
from quota.events import Event, Heartbeat, NewOrder
from quota.feed import Reply, StatusReport
from tests.tiny_market import MIDNIGHT, Pool


class Daemon:
    """Answers like quotad over a real broker, from the tiny model."""

    def __init__(self, port: int, clock: MarketClock) -> None:
        self._client = aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5)
        self._clock = clock
        self._decoder = msgspec.json.Decoder(Event | Heartbeat)
        self.numbers: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        self.said: dict[tuple[str, str], int] = {}
        self._seq = 0
        self.pools = {name: Pool(name) for name in PoolName}
        self.topics: Counter[str] = Counter()
        self.serving = asyncio.Event()

    async def serve(self) -> None:
        async with self._client as client:
            await client.subscribe([("q/+/orders/#", 1), ("q/+/fills/#", 1)])
            for pool in self.pools.values():
                await client.publish(f"q/{pool.name}/status", self._status(pool), qos=1, retain=True)
            self.serving.set()
            async for message in client.messages:
                await self._answer(client, str(message.topic), message.payload)

    async def _answer(self, client: aiomqtt.Client, topic: str, payload: object) -> None:
        assert isinstance(payload, bytes)
        _, name, kind, source = topic.split("/")
        event = self._decoder.decode(payload)
        assert event.source == source
        if isinstance(event, Heartbeat):
            self.said[name, source] = event.sequence
            return
        self.numbers[name, source].append(event.sequence)
        self.topics[f"{kind}/{source}"] += 1
        self._seq += 1
        verdict = self.pools[PoolName(name)].apply(event, self._clock.now())
        if isinstance(event, NewOrder) and verdict is not None:
            reply = self._reply(PoolName(name), event, verdict)
            await client.publish(f"q/{name}/decisions/{source}", msgspec.json.encode([reply]), qos=1)

    def _reply(self, name: PoolName, order: NewOrder, verdict: Verdict) -> Reply:
        pool = self.pools[name]
        return Reply(
            order_id=order.order_id,
            pool=name,
            side=order.side,
            verdict=verdict,
            balance_fen=round(pool.balance_fen),
            status=pool.status,
            seq=self._seq,
            replayed=False,
            time=order.time,
        )

    def _status(self, pool: Pool) -> bytes:
        report = StatusReport(
            pool=pool.name,
            trading_day="2026-11-23",
            phase=Phase.CONTINUOUS,
            status=Status.OPEN,
            limit_fen=pool.limit_fen,
            balance_fen=pool.limit_fen,
            used_ratio=0.0,
            level=0,
            rate=None,
            seq=0,
            time="2026-11-23T09:00:00.000+08:00",
        )
        return msgspec.json.encode(report)


def _clock(at: str, speed: float) -> MarketClock:
    moment = MIDNIGHT + timedelta(seconds=clock_s(at))
    return MarketClock(at=moment, server_ms=MarketClock.local_ms(), speed=speed, real=False)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel until it ends: wait_for, inside aiomqtt, may swallow a cancellation before Python 3.12."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


async def test_over_a_real_broker_orders_are_answered_and_the_day_ends() -> None:
    async with embedded_broker() as url:
        clock = _clock("15:57:00", 300.0)
        daemon = Daemon(urlsplit(url).port or 0, clock)
        serving = asyncio.create_task(daemon.serve())
        await daemon.serving.wait()
        summary = await Simulator(url, "q", clock, 1).run()
        south = summary.pools[PoolName.SB_SH], summary.pools[PoolName.SB_SZ]
        await _until(lambda: daemon.topics["orders/gateway"] >= sum(pool.orders for pool in south))
        await _until(lambda: daemon.topics["fills/exchange"] >= sum(it.fills + it.busts for it in south))
        await _until(lambda: daemon.said == {place: len(sent) for place, sent in daemon.numbers.items()})
        await _end(serving)
    assert all(sorted(sent) == list(range(1, len(sent) + 1)) for sent in daemon.numbers.values())
    assert isinstance(summary, DaySummary)
    assert (summary.trading_day, summary.seed) == (MIDNIGHT.date(), 1)
    assert summary.pools[PoolName.NB_SH].orders == 0, "the mainland has closed"
    assert sum(pool.orders for pool in south) == daemon.topics["orders/gateway"] > 50
    assert sum(pool.fills + pool.busts for pool in south) == daemon.topics["fills/exchange"] > 20
    assert all(pool.accepted > (pool.orders - pool.unanswered) / 2 for pool in south)
    assert not any(verdict is Verdict.ID_REUSED for pool in south for verdict in pool.refused)


async def test_without_a_daemon_it_waits_a_while_and_plays_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "FIRST_STATUS_S", 0.01)
    async with embedded_broker() as url:
        summary = await Simulator(url, "q", _clock("16:00:00", 2000.0), 1).run()
    south = summary.pools[PoolName.SB_SH]
    assert south.orders == south.unanswered > 0


async def test_a_broker_that_goes_away_ends_it_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "FIRST_STATUS_S", 0.01)
    async with embedded_broker() as url:
        market = Simulator(url, "q", _clock("10:00:00", 1.0), 1)
        playing = asyncio.create_task(market.run())
        async with asyncio.timeout(20), aiomqtt.Client("127.0.0.1", urlsplit(url).port or 0) as watcher:
            await watcher.subscribe("q/#", qos=1)
            await anext(aiter(watcher.messages))
    with pytest.raises(FeedUnavailable, match="the simulated market has lost its broker"):
        await playing


async def test_no_broker_at_all_is_said_clearly() -> None:
    with pytest.raises(FeedUnavailable, match="lost its broker"):
        await Simulator("mqtt://127.0.0.1:1", "q", _clock("10:00:00", 1.0), 1).run()


async def test_cancelling_it_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "FIRST_STATUS_S", 0.01)
    async with embedded_broker() as url:
        before = asyncio.all_tasks()
        market = Simulator(url, "q", _clock("10:00:00", 107.0), 1)
        playing = asyncio.create_task(market.run())
        await _until(lambda: market._crowds[PoolName.NB_SH].summary().orders > 0)
        playing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await playing
        await _until(lambda: asyncio.all_tasks() == before)

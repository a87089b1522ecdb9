"""A simulated market that talks MQTT like anybody else: gateways and the exchange of four pools.

Only the wire and the pace may live here. What is sent is drawn in feeds/crowd.py and
feeds/exchange.py, after the plot in feeds/scenario.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from urllib.parse import urlsplit

import aiomqtt
import msgspec

from feeds.crowd import SOURCE, Crowd, PoolSummary, PoolView
from feeds.numbering import Numbering
from feeds.scenario import LAST_S, LIMITS_YUAN
from quota.clock import MarketClock
from quota.decision import PoolName
from quota.errors import FeedUnavailable
from quota.events import MARKET_TZ, Bust, Event, Fill, Heartbeat
from quota.feed import Reply, StatusReport

STEP_S = 0.05
"""How often the market moves, in real seconds."""

FIRST_STATUS_S = 10.0
"""How long the pools are waited for before the market opens without them."""

_ANSWER_S = 10.0
_QOS = 1

_REPLIES = msgspec.json.Decoder(tuple[Reply, ...])
_STATUS = msgspec.json.Decoder(StatusReport)


_NOTHING = PoolView()


@dataclass(frozen=True, slots=True)
class DaySummary:
    """What the simulated day was: what was sent, and what the pools answered."""

    trading_day: date
    seed: int
    pools: dict[PoolName, PoolSummary]


@dataclass(frozen=True, slots=True)
class _Shown:
    """The newest that a pool has shown, with its ``seq``: the two topics overtake each other."""

    view: PoolView = _NOTHING
    seq: int = -1


class Simulator:
    """The market of one day over MQTT 5, at the pace of a clock; drawn from ``seed``.

    Where it cannot keep the pace, it leaves out orders and never lags. It does not reconnect:
    ``run`` raises FeedUnavailable when the broker is away.
    """

    def __init__(self, url: str, root: str, clock: MarketClock, seed: int) -> None:
        self._url = urlsplit(url)
        self._root = root
        self._clock = clock
        self._seed = seed
        self._crowds = {pool: Crowd(pool, seed) for pool in LIMITS_YUAN}
        self._shown = {pool: _Shown() for pool in LIMITS_YUAN}
        self._numbering = Numbering()
        self._all_shown = asyncio.Event()

    async def run(self) -> DaySummary:
        """Play the day to its end, 16:11 by the clock, and tell what it was."""
        try:
            async with self._connection() as client:
                await client.subscribe([(topic, _QOS) for topic in self._heard()])
                async with _listening(self._listen(client)) as listener:
                    await self._play(client, listener)
        except aiomqtt.MqttError as error:
            raise FeedUnavailable(f"the simulated market has lost its broker: {error}") from error
        pools = {pool: crowd.summary() for pool, crowd in self._crowds.items()}
        return DaySummary(self._clock.today(), self._seed, pools)

    def _connection(self) -> aiomqtt.Client:
        client = aiomqtt.Client(
            self._url.hostname or "127.0.0.1",
            self._url.port or 1883,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            timeout=_ANSWER_S,
            max_inflight_messages=1000,
        )
        client.pending_calls_threshold = 1000  # a step sends its events at once: nothing to warn of
        return client

    def _topic(self, pool: PoolName, *levels: str) -> str:
        return "/".join((self._root, pool, *levels))

    def _heard(self) -> list[str]:
        """What we listen to: of every pool its status, and the answers to our gateway."""
        pools = list(self._crowds)
        statuses = [self._topic(pool, "status") for pool in pools]
        return statuses + [self._topic(pool, "decisions", SOURCE) for pool in pools]

    async def _play(self, client: aiomqtt.Client, listener: asyncio.Task[None]) -> None:
        """Step by step until the day is over, each step when it is due or at once if that has gone."""
        await self._wait_for_pools(listener)
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not listener.done() and not _over(now := self._clock.now()):
            await self._publish(client, self._step(now))
            due = max(due + STEP_S, loop.time())
            await asyncio.sleep(due - loop.time())
        if listener.done():
            listener.result()
        await self._publish(client, self._heartbeats(at_once=True))

    async def _wait_for_pools(self, listener: asyncio.Task[None]) -> None:
        """Give the daemon time to show the day, and go on without it in the end."""
        waiting = asyncio.ensure_future(self._all_shown.wait())
        try:
            await asyncio.wait(
                (waiting, listener), timeout=FIRST_STATUS_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()

    def _step(self, now: datetime) -> list[tuple[str, bytes]]:
        """What every pool's market does now, as topics and payloads."""
        events = [
            (self._topic_of(pool, event), msgspec.json.encode(self._numbering.numbered(pool, event)))
            for pool, crowd in self._crowds.items()
            for event in crowd.step(now, self._shown[pool].view)
        ]
        return events + self._heartbeats()

    def _heartbeats(self, *, at_once: bool = False) -> list[tuple[str, bytes]]:
        return [
            (self._topic_of(pool, heartbeat), msgspec.json.encode(heartbeat))
            for pool, heartbeat in self._numbering.heartbeats(at_once=at_once)
        ]

    def _topic_of(self, pool: PoolName, event: Event | Heartbeat) -> str:
        kind = "fills" if isinstance(event, Fill | Bust) else "orders"
        return self._topic(pool, kind, event.source)

    async def _publish(self, client: aiomqtt.Client, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send in order and wait until the broker has it all, which is what slows us down with it."""
        await asyncio.gather(*(client.publish(topic, payload, qos=_QOS) for topic, payload in messages))

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Take in decisions and statuses as long as the broker brings them."""
        async for message in client.messages:
            pool = PoolName(str(message.topic).removeprefix(self._root + "/").partition("/")[0])
            if not isinstance(message.payload, bytes):
                continue
            if message.topic.matches(self._topic(pool, "status")):
                self._take_status(pool, _STATUS.decode(message.payload))
            else:
                self._take_replies(pool, _REPLIES.decode(message.payload))

    def _take_status(self, pool: PoolName, report: StatusReport) -> None:
        if report.trading_day != self._clock.today().isoformat():
            return  # retained from another day
        view = PoolView(report.balance_fen, report.limit_fen, report.status)
        self._show(pool, view, report.seq)
        if all(shown.seq >= 0 for shown in self._shown.values()):
            self._all_shown.set()

    def _take_replies(self, pool: PoolName, replies: Sequence[Reply]) -> None:
        now = self._clock.now()
        limit_fen = self._shown[pool].view.limit_fen
        for reply in replies:
            self._crowds[pool].answered(reply.order_id, reply.verdict, now)
            self._show(pool, PoolView(reply.balance_fen, limit_fen, reply.status), reply.seq)

    def _show(self, pool: PoolName, view: PoolView, seq: int | None) -> None:
        """Keep the newest. A status may change without a ``seq``: the clock takes none."""
        if seq is not None and seq >= self._shown[pool].seq:
            self._shown[pool] = _Shown(view, seq)


def _over(now: datetime) -> bool:
    midnight = datetime.combine(now.astimezone(MARKET_TZ).date(), datetime.min.time(), MARKET_TZ)
    return now >= midnight + timedelta(seconds=LAST_S)


@asynccontextmanager
async def _listening(listen: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run it beside the block and end it with the block."""
    task = asyncio.create_task(listen)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])

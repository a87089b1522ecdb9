"""A daemon without servers: a feed in memory, a ledger in memory that can go away, and a clock to set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from feeds.codec import decode
from quota.clock import MarketClock
from quota.config import load
from quota.daemon import Daemon
from quota.days import Almanac, Days
from quota.decision import Decision, PoolName
from quota.errors import FeedUnavailable, LedgerUnavailable, QuotaError
from quota.events import MARKET_TZ, Event
from quota.feed import DeadLetter, Delivery, Message, RateNotice, Replies, Reply
from quota.ledger import Snapshot
from quota.memory import MemoryLedger
from quota.metrics import Metrics
from quota.pool import Opening, Pool
from quota.rulebook import Calendar

NB_SH, SB_SH = PoolName.NB_SH, PoolName.SB_SH
FRIDAY, SUNDAY, MONDAY = "2026-11-20", "2026-11-22", "2026-11-23"
TRADING = f"{MONDAY}T10:00"
SOON_S = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110 - a condition from outside has no event
            await asyncio.sleep(0.001)


def ms(text: str) -> int:
    """Say what the server's clock shows at a moment of the market."""
    return int(datetime.fromisoformat(text).replace(tzinfo=MARKET_TZ).timestamp() * 1000)


@dataclass(slots=True)
class Desk:
    """A feed in memory. ``happened`` lists what was done, in order; ``away`` lets sending fail."""

    happened: list[str] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)
    acknowledged: list[bytes] = field(default_factory=list)
    marks: int = 0
    away: bool = False
    hangs: bool = False
    broken: QuotaError | None = None
    connected: bool = True
    reconnects: int = 0
    sessions_lost: int = 0
    unacknowledged: int = 0
    _held: list[Delivery] = field(default_factory=list)
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> Sequence[Delivery]:
        while True:
            if self.broken is not None:
                raise self.broken
            if self._held:
                taken, self._held = self._held, []
                return taken
            self._stirred.clear()
            await self._stirred.wait()

    def _check(self) -> None:
        if self.away:
            raise FeedUnavailable("the broker is away")

    def send(self, message: Message) -> None:
        self._check()
        self.happened.append(type(message).__name__)
        self.sent.append(message)

    async def room(self) -> None:
        """There always is."""

    async def flush(self) -> None:
        self._check()
        if self.hangs:
            await asyncio.Event().wait()

    def mark(self) -> str:
        self._check()
        self.marks += 1
        self.bring(Delivery("mark", b"mark", lambda: None, mark="mark"))
        return "mark"

    def bring(self, *deliveries: Delivery) -> None:
        """Deliver these together."""
        self._held += deliveries
        self._stirred.set()

    def fail(self, error: QuotaError) -> None:
        """End the feed with an error."""
        self.broken = error
        self._stirred.set()

    def message(self, topic: str, payload: bytes) -> Delivery:
        """Build the delivery of an MQTT message as the real feed would."""
        decoded = decode(topic, payload, "connect", frozenset(PoolName))
        assert decoded is not None
        return Delivery(
            topic,
            payload,
            lambda: self._acknowledge(payload),
            decoded.pool,
            decoded.events,
            decoded.places,
            decoded.mistakes,
            decoded.rate,
            numbers=decoded.numbers,
        )

    def orders(self, payload: str, pool: PoolName = NB_SH) -> Delivery:
        """Build a delivery on a pool's topic of orders."""
        return self.message(f"connect/{pool}/orders", payload.encode())

    def fills(self, payload: str, pool: PoolName = NB_SH) -> Delivery:
        """Build a delivery on a pool's topic of fills."""
        return self.message(f"connect/{pool}/fills", payload.encode())

    def rate(self, trading_day: str, rate: str) -> Delivery:
        """Build the delivery of a rate."""
        payload = rate.encode()
        notice = RateNotice(trading_day, rate)
        return Delivery("connect/fx", payload, lambda: self._acknowledge(payload), rate=notice)

    def _acknowledge(self, payload: bytes) -> None:
        self.happened.append("acknowledged")
        self.acknowledged.append(payload)

    def replies(self) -> list[Reply]:
        """All answers sent, in order."""
        return [reply for message in self.sent if isinstance(message, Replies) for reply in message.replies]

    def verdicts(self) -> list[str]:
        """The answers' verdicts."""
        return [str(reply.verdict) for reply in self.replies()]

    def reasons(self) -> list[str]:
        """The dead letters' reasons."""
        return [message.mistake.reason for message in self.sent if isinstance(message, DeadLetter)]


class Store(MemoryLedger):
    """A ledger in memory that can be away, wrong or slow, and remembers the sizes of its batches."""

    def __init__(self, desk: Desk, now_ms: Callable[[], int]) -> None:
        super().__init__(now_ms)
        self.desk = desk
        self.batches: list[int] = []
        self.trouble: QuotaError | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.attempts = 0

    def leave(self) -> None:
        """Go away until ``come_back``."""
        self.trouble = LedgerUnavailable("redis: away")

    def come_back(self) -> None:
        """Answer again."""
        self.trouble = None

    def _check(self) -> None:
        self.attempts += 1
        if self.trouble is not None:
            raise self.trouble

    async def apply(self, pool: PoolName, events: Sequence[Event]) -> Sequence[Decision]:
        self._check()
        await self.open.wait()
        self.batches.append(len(events))
        self.desk.happened.append("applied")
        return await super().apply(pool, events)

    async def tick(self, pool: PoolName, published: str = "") -> Snapshot:
        self._check()
        return await super().tick(pool, published)

    async def open_day(self, pool: PoolName, opening: Opening) -> bool:
        self._check()
        return await super().open_day(pool, opening)


@dataclass(slots=True)
class Rig:
    """Everything around a daemon; ``now_ms`` is the time of the server and of ours."""

    desk: Desk
    store: Store
    days: Days
    metrics: Metrics
    daemon: Daemon
    now: list[int]
    consuming: asyncio.Task[None] | None = None

    def at(self, text: str) -> None:
        """Set all clocks."""
        self.now[0] = ms(text)

    def pool(self, name: PoolName = NB_SH) -> Pool:
        """The pool as it is."""
        pool = self.store.books[name].pool
        assert pool is not None
        return pool

    def day(self, name: PoolName = NB_SH) -> str | None:
        """The pool's open day."""
        pool = self.store.books[name].pool
        return pool.trading_day if pool else None

    def count(self, pool: str, event: str, outcome: str) -> float:
        """Read the counter of events."""
        labels = {"pool": pool, "event": event, "outcome": outcome}
        return self.metrics.registry.get_sample_value("quota_events_total", labels) or 0.0

    def start(self) -> asyncio.Task[None]:
        """Let the daemon consume."""
        self.consuming = asyncio.create_task(self.daemon.consume())
        return self.consuming

    def restarted(self) -> Rig:
        """Another daemon over what this one left."""
        return _rig(self.desk, self.store, self.days.almanac, self.now)


def _rig(desk: Desk, store: Store, almanac: Almanac, now: list[int]) -> Rig:
    days, metrics = Days(store, almanac, tuple(PoolName)), Metrics(tuple(PoolName), "1")
    return Rig(desk, store, days, metrics, Daemon(desk, store, days, metrics), now)


def rig(monkeypatch: Any, at: str = TRADING, **market: str) -> Rig:  # noqa: ANN401 - pytest's own
    """Build a rig whose clocks all show ``at``; ``market`` are settings of that section."""
    now = [ms(at)]
    monkeypatch.setattr(MarketClock, "local_ms", staticmethod(lambda: now[0]))
    chosen = {"hkd_cny": "0.91250", "open_late": "open", "limits_yuan__NB_SH": "10000.00"} | market
    settings = load(None, {f"QUOTA_MARKET__{name.upper()}": text for name, text in chosen.items()})
    almanac = Almanac(
        clock=MarketClock(),
        calendar=Calendar.load(),
        market=settings.market,
        levels=settings.alerts.levels,
        open_late=settings.market.open_late == "open",
    )
    desk = Desk()
    return _rig(desk, Store(desk, lambda: now[0]), almanac, now)


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    """Let a rig's daemon begin its days and consume; stop it at the end."""
    await rig.days.begin()
    consuming = rig.start()
    try:
        yield rig
    finally:
        rig.store.open.set()
        rig.daemon.stop()
        with suppress(QuotaError):
            await consuming

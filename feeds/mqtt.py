"""The MQTT feed: it connects, subscribes, delivers, sends, and connects again by itself.

Nothing is acknowledged before the daemon says so. The broker keeps the session, so what was
not acknowledged on a lost connection comes again on the next one.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, Self

import aiomqtt
import structlog

from feeds.broker import MqttSettings, client_tls, new_client, subscribe, until_lost
from feeds.claim import Claim
from feeds.codec import decode, encode
from feeds.pump import Pump
from feeds.session import Arrival, Session
from quota.errors import FeedTaken, FeedUnavailable
from quota.feed import Delivery, Message

__all__ = ["MqttFeed", "MqttSettings", "client_tls"]

RECEIVE_EVENTS: Final = 4_096
RECEIVE_BYTES: Final = 16 * 1024 * 1024
"""After how many events, mistakes and bytes one ``receive`` leaves the rest to the next."""

CLOSE_SECONDS: Final = 2.0
"""How long a clean close waits for the broker to take our last words."""

log = structlog.get_logger(__name__)


class MqttFeed:
    """The Feed over MQTT 5. Use as a context manager; one task may receive."""

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self._arrivals: deque[Arrival] = deque()
        self._stirred = asyncio.Event()
        self._session: Session | None = None
        self._subscribed = False
        self._life: asyncio.Task[None] | None = None
        self._end: BaseException | None = None
        self._was_here = False
        self._claim = Claim()
        self.reconnects = 0
        self.sessions_lost = 0

    @property
    def connected(self) -> bool:
        """Whether the broker is reached and our subscriptions stand."""
        return self._subscribed

    @property
    def unacknowledged(self) -> int:
        """How many messages of this connection wait for their acknowledgement."""
        return self._session.unacknowledged if self._session else 0

    async def __aenter__(self) -> Self:
        self._life = asyncio.create_task(self._live(), name="mqtt-feed")
        self._life.add_done_callback(self._on_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            with suppress(FeedUnavailable, TimeoutError):
                self._session.publish(self._settings.presence_topic, b"offline", retain=True)
                await asyncio.wait_for(self._session.flush(), CLOSE_SECONDS)
        while self._life is not None and not self._life.done():
            self._life.cancel()  # Python 3.11 loses a cancellation that meets the end of a wait_for
            await asyncio.wait({self._life}, timeout=CLOSE_SECONDS)

    async def receive(self) -> Sequence[Delivery]:
        """Wait for the first delivery and return what has come, oldest first.

        Whoever receives can send: what a kept session brings before we have subscribed again is
        handed out too, because some brokers wait for its acknowledgement first (rumqttd). Raises
        FeedTaken when another daemon has taken our session, FeedUnavailable after a close.
        """
        while True:
            if self._end is not None:
                raise self._end
            if self._session is not None and (deliveries := self._take()):
                return deliveries
            self._stirred.clear()
            await self._stirred.wait()

    def _take(self) -> list[Delivery]:
        deliveries: list[Delivery] = []
        events = size = 0
        while self._arrivals and events < RECEIVE_EVENTS and size < RECEIVE_BYTES:
            delivery = self._deliver(self._arrivals.popleft())
            if delivery is not None:
                deliveries.append(delivery)
                events += len(delivery.events) + len(delivery.mistakes) + 1
                size += len(delivery.payload)
        return deliveries

    def _deliver(self, arrival: Arrival) -> Delivery | None:
        """Decode one message; None where it is somebody else's, and then it is done with."""
        decoded = decode(arrival.topic, arrival.payload, self._settings.root, self._settings.served)
        if decoded is None or arrival.id < 0:
            arrival.session.acknowledge(arrival)
        if decoded is None:
            return None
        return Delivery(
            arrival.topic,
            arrival.payload,
            partial(arrival.session.acknowledge, arrival),
            decoded.pool,
            decoded.events,
            decoded.places,
            decoded.mistakes,
            decoded.rate,
            decoded.mark,
            decoded.numbers,
        )

    def send(self, message: Message) -> None:
        """Hand a message to the broker, QoS 1, after everything sent before.

        Raises FeedUnavailable when the broker is away or confirms nothing any more; what was
        not acknowledged until then is delivered again by the next connection.
        """
        topic, payload, retain = encode(message, self._settings.root)
        self._ready().publish(topic, payload, retain=retain)

    async def flush(self) -> None:
        """Wait until the broker has confirmed everything sent; raises FeedUnavailable."""
        await self._ready().flush()

    async def room(self) -> None:
        """Wait until there is room for another batch's answers; raises FeedUnavailable."""
        if self._session is not None:
            await self._session.room()

    def mark(self) -> str:
        """Send ourselves a message behind all that the broker holds for us; return its name."""
        if not self._subscribed:
            raise FeedUnavailable("the broker has not granted our subscriptions yet")
        name = uuid.uuid4().hex
        self._ready().publish(self._settings.mark_topic, name.encode())
        return name

    def _ready(self) -> Session:
        if self._session is None:
            raise FeedUnavailable("the broker is away")
        return self._session

    def _on_arrival(self, arrival: Arrival) -> None:
        if arrival.topic == self._settings.claim_topic:
            self._claim.hear(arrival.payload)
            arrival.session.acknowledge(arrival)
            return
        self._arrivals.append(arrival)
        self._stirred.set()

    def _on_end(self, life: asyncio.Task[None]) -> None:
        self._end = FeedUnavailable("the feed is closed") if life.cancelled() else life.exception()
        self._stirred.set()

    async def _live(self) -> None:
        """Connect, and connect again, until closed or taken over for good."""
        failures, gave_way = 0, False
        while not gave_way:
            began = time.monotonic()
            try:
                await self._connect_once()
            except* FeedTaken:
                gave_way = True
            except* (aiomqtt.MqttError, FeedUnavailable, OSError) as lost:
                log.warning("feed.lost", reasons=[str(error.__cause__ or error) for error in lost.exceptions])
            if not gave_way:
                failures = 0 if time.monotonic() - began > self._settings.backoff_max_s else failures + 1
                await asyncio.sleep(self._delay_s(failures))
        raise FeedTaken(f"another daemon runs with the client id {self._settings.client_id!r}")

    def _delay_s(self, failures: int) -> float:
        """Draw a delay (full jitter): many clients of a broker that returns must not come at once."""
        bound = min(self._settings.backoff_max_s, self._settings.backoff_min_s * 2.0 ** min(failures, 32))
        return random.uniform(0, bound)  # noqa: S311 - jitter, not cryptography

    async def _connect_once(self) -> None:
        """Live through one connection; returns or raises MqttError when it is lost."""
        client = new_client(self._settings)
        pump = Pump(client, self._settings.keepalive_s)
        session = Session(client, pump, self._settings.window, self._on_arrival)
        try:
            async with client, asyncio.TaskGroup() as tasks:
                self._session = session
                self._stirred.set()
                tasks.create_task(until_lost(client))
                await self._open(client, session)
        finally:
            self._leave(session)
            pump.close()

    def _leave(self, session: Session) -> None:
        """Forget what came over a lost connection and was not received: it comes again."""
        self._session, self._subscribed = None, False
        session.close()
        self._arrivals = deque(arrival for arrival in self._arrivals if arrival.id < 0)

    def _give_way_if_younger(self) -> None:
        """Another daemon uses our client id: stop if it was there before us."""
        log.warning("feed.taken", client_id=self._settings.client_id, we_are_younger=self._claim.younger)
        if self._claim.younger:
            raise FeedTaken

    async def _open(self, client: aiomqtt.Client, session: Session) -> None:
        """Subscribe and say that we are here.

        The broker confirms our presence behind the claim that it retained, so by then we know
        whether another daemon had the session since we last did, and give way before we claim it.
        """
        settings = self._settings
        await subscribe(client, settings, kept=session.kept)
        session.publish(settings.presence_topic, b"online", retain=True)
        await session.flush()
        if self._claim.contested:
            self._give_way_if_younger()
        if self._claim.follows and not session.kept:
            self.sessions_lost += 1
            log.warning("feed.session_lost", client_id=settings.client_id)
        session.publish(settings.claim_topic, self._claim.make(), retain=True)
        self.reconnects += self._was_here
        self._was_here = True
        self._subscribed = True
        log.info("feed.connected", host=settings.host, port=settings.port)

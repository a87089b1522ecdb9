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
from feeds.codec import decode, encode
from feeds.session import Arrival, Session
from feeds.wire import Pump
from quota.errors import FeedTaken, FeedUnavailable
from quota.feed import Delivery, Message

__all__ = ["MqttFeed", "MqttSettings", "client_tls"]

RECEIVE_EVENTS: Final = 4_096
"""After how many events one ``receive`` leaves the rest to the next."""

CLOSE_SECONDS: Final = 2.0
"""How long a clean close waits for the broker to take our last words."""

_TAKEN: Final = 0x8E

log = structlog.get_logger(__name__)


class MqttFeed:
    """The Feed over MQTT 5. Use as a context manager; one task may receive."""

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self._arrivals: deque[Arrival] = deque()
        self._stirred = asyncio.Event()
        self._session: Session | None = None
        self._life: asyncio.Task[None] | None = None
        self._end: BaseException | None = None
        self._first_at: float | None = None
        self.reconnects = 0

    @property
    def connected(self) -> bool:
        """Whether the broker is reached and our subscriptions stand."""
        return self._session is not None

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
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})

    async def receive(self) -> Sequence[Delivery]:
        """Wait for the first delivery and return what has come, oldest first.

        Nothing is handed out before we can also send, so whoever receives can answer. Raises
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
        events = 0
        while self._arrivals and events < RECEIVE_EVENTS:
            delivery = self._deliver(self._arrivals.popleft())
            if delivery is not None:
                deliveries.append(delivery)
                events += len(delivery.events) + 1
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

    def mark(self) -> str:
        """Send ourselves a message behind all that the broker holds for us; return its name."""
        name = uuid.uuid4().hex
        self._ready().publish(f"{self._settings.presence_topic}/mark", name.encode())
        return name

    def _ready(self) -> Session:
        if self._session is None:
            raise FeedUnavailable("the broker is away")
        return self._session

    def _on_arrival(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        self._stirred.set()

    def _on_end(self, life: asyncio.Task[None]) -> None:
        self._end = FeedUnavailable("the feed is closed") if life.cancelled() else life.exception()
        self._stirred.set()

    async def _live(self) -> None:
        """Connect, and connect again, until closed or taken over for good."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._connect_once()
            except* (aiomqtt.MqttError, FeedUnavailable, OSError) as lost:
                log.warning("feed.lost", reasons=[str(error.__cause__ or error) for error in lost.exceptions])
            failures = 0 if time.monotonic() - began > self._settings.backoff_max_s else failures + 1
            await asyncio.sleep(self._delay_s(failures))

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
                tasks.create_task(until_lost(client))
                await self._open(client, session)
        finally:
            self._leave(session)
            pump.close()
            self._check_taken(session)

    def _leave(self, session: Session) -> None:
        """Forget what came over a lost connection and was not received: it comes again."""
        self._session = None
        session.close()
        self._arrivals = deque(arrival for arrival in self._arrivals if arrival.id < 0)

    def _check_taken(self, session: Session) -> None:
        """Give way to the daemon that took our session, if we are the younger one."""
        if session.reason is None or session.reason.value != _TAKEN:
            return
        log.warning("feed.taken", client_id=self._settings.client_id)
        if self._first_at is None or time.monotonic() - self._first_at < self._settings.young_s:
            raise FeedTaken(f"another daemon runs with the client id {self._settings.client_id!r}")

    async def _open(self, client: aiomqtt.Client, session: Session) -> None:
        await subscribe(client, self._settings)
        session.publish(self._settings.presence_topic, b"online", retain=True)
        self.reconnects += self._first_at is not None
        self._first_at = self._first_at or time.monotonic()
        self._session = session
        self._stirred.set()
        log.info("feed.connected", host=self._settings.host, port=self._settings.port)

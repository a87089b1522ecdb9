"""One connection to the broker: what the product's feed takes for aiomqtt's client, paho and the pump."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self

import aiomqtt

from feeds.wire import Publication
from tests.simulation.loop import SimulatedLoop

if TYPE_CHECKING:
    from tests.simulation.broker import Broker

_INSTANT_S = 1e-6


@dataclass(slots=True)
class Pipe:
    """Brings things to the other end, in order, each after a while, as long as ``open`` says so."""

    loop: SimulatedLoop
    rng: Random
    open: Callable[[], bool]
    _last_s: float = 0.0

    def put(self, step: Callable[[], object]) -> None:
        """Send something on its way."""
        slow = self.rng.random() < 0.1
        arrives = self.loop.time() + self.rng.uniform(0, 0.05 if slow else 0.002)
        self._last_s = max(arrives, self._last_s + _INSTANT_S)
        self.loop.call_at(self._last_s, self._arrive, step)

    def _arrive(self, step: Callable[[], object]) -> None:
        if self.open():
            step()


class Line:
    """One connection: the client's paho, the pump under it, and the broker's end."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.loop, self.rng = broker, broker.loop, broker.rng
        self.up = False
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self._down, self._back = (Pipe(self.loop, self.rng, lambda: self.up) for _ in range(2))
        self._mids = self._unconfirmed = self._take_max = 0
        # What feeds.session asks of paho.
        self.on_publish: Callable[..., None] = lambda *_: None
        self.on_connect: Callable[..., None] = lambda *_: None
        self.on_disconnect: Callable[..., None] = lambda *_: None
        # What feeds.session asks of the pump.
        self.paused = False
        self.arrived: Callable[[Publication], None] = lambda _: None
        self._unread: deque[Callable[[], object]] = deque()

    @property
    def _client(self) -> Self:
        return self

    # The client of aiomqtt, as far as feeds.mqtt uses it.

    async def __aenter__(self) -> Self:
        await asyncio.sleep(self.rng.uniform(0, 0.05))
        if self.broker.away or self.rng.random() < self.broker.unreachable:
            raise aiomqtt.MqttError("connection refused")
        self.up = True
        self._take_max = self.rng.choice((1, 2, 5, 100))
        properties = SimpleNamespace(ReceiveMaximum=self._take_max)
        flags = SimpleNamespace(session_present=True)
        self.on_connect(self, None, flags, 0, properties)
        self.broker.accept(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut(now=True)

    async def subscribe(self) -> None:
        """Subscribe, as feeds.broker does; retained messages come at once."""
        granted: asyncio.Future[None] = self.loop.create_future()
        self._back.put(lambda: self._subscribed(granted))
        await asyncio.wait({granted, self.lost}, return_when=asyncio.FIRST_COMPLETED)
        if not granted.done():
            raise aiomqtt.MqttError("disconnected while subscribing")

    def _subscribed(self, granted: asyncio.Future[None]) -> None:
        self.broker.subscribed(self)
        self._down.put(lambda: self._come(lambda: _settle(granted)))

    async def until_lost(self) -> None:
        """Wait for the end."""
        await asyncio.shield(self.lost)
        raise aiomqtt.MqttError("disconnected")

    # paho.

    def manual_ack_set(self, *, on: bool) -> None:
        """Acknowledge nothing by itself."""
        assert on

    def disable_logger(self) -> None:
        """Say nothing."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> SimpleNamespace:  # noqa: FBT001 - paho's signature
        """Send a publication; the broker's confirmation comes back."""
        assert qos == 1
        self._mids += 1
        mid = self._mids
        self._unconfirmed += 1
        self.broker.flooded |= self._unconfirmed > self._take_max
        self._back.put(lambda: self._take(mid, topic, payload, retain=retain))
        return SimpleNamespace(mid=mid)

    def _take(self, mid: int, topic: str, payload: bytes, *, retain: bool) -> None:
        self.broker.take(topic, payload, retain=retain)
        self._down.put(lambda: self._come(lambda: self._confirmed(mid)))

    def _confirmed(self, mid: int) -> None:
        self._unconfirmed -= 1
        self.on_publish(self, None, mid, SimpleNamespace(is_failure=False))

    def ack(self, message_id: int, qos: int) -> None:
        """Acknowledge a message by its id on this connection."""
        assert qos == 1
        self._back.put(lambda: self.broker.acknowledge(self, message_id))

    # The pump.

    def pause(self) -> None:
        """Read no more."""
        self.paused = True

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        self.loop.call_soon(self._read)

    def close(self) -> None:
        """Let go."""
        self.cut(now=True)

    def deliver(self, topic: str, message_id: int, payload: bytes) -> None:
        """Send a message down to the client."""
        publication = Publication(topic, message_id, payload)
        self._down.put(lambda: self._come(lambda: self.arrived(publication)))

    def _come(self, packet: Callable[[], object]) -> None:
        """What has come is read in its order, and not while reading is paused."""
        self._unread.append(packet)
        self._read()

    def _read(self) -> None:
        while self._unread and not self.paused:
            self._unread.popleft()()

    def cut(self, *, now: bool = True) -> None:
        """Break the connection; without ``now`` the client hears of it after a while."""
        self.up = False
        self._unread.clear()
        self.broker.forget(self)
        self.loop.call_later(0 if now else self.rng.uniform(0, 0.3), _settle, self.lost)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

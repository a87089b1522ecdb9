"""What the tests of the MQTT feed share: a quick feed, and ways to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiomqtt

from feeds.mqtt import MqttFeed, MqttSettings
from quota.decision import PoolName
from quota.errors import FeedUnavailable
from quota.feed import DeadLetter, Delivery, Mistake
from tests.servers import Mosquitto

SOON_S = 20.0
ORDERS = "connect/NB-SH/orders"
LETTER = DeadLetter(PoolName.NB_SH, Mistake("why", "where", b"what"))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110 - a condition from outside has no event
            await asyncio.sleep(0.005)


def settings(port: int, **changes: Any) -> MqttSettings:  # noqa: ANN401 - any setting
    quick: dict[str, Any] = {"backoff_min_s": 0.02, "backoff_max_s": 0.2, "host": "127.0.0.1", "port": port}
    return MqttSettings(**(quick | changes))


@asynccontextmanager
async def feed_at(port: int, **changes: Any) -> AsyncIterator[MqttFeed]:  # noqa: ANN401 - any setting
    async with MqttFeed(settings(port, **changes)) as feed:
        await until(lambda: feed.connected)
        yield feed


def order(name: object) -> bytes:
    return b'{"event":"cancelled","order_id":"%s"}' % str(name).encode()


async def publish(broker: Mosquitto, *payloads: bytes, topic: str = ORDERS, qos: int = 1) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for payload in payloads:
            await client.publish(topic, payload, qos=qos)


async def take(feed: MqttFeed, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(SOON_S):
        while len(taken) < count:
            taken += await feed.receive()
    return taken


async def receive_for_ever(feed: MqttFeed) -> None:
    async with asyncio.timeout(SOON_S):
        while True:
            await feed.receive()


async def take_up_to_mark(feed: MqttFeed) -> list[str]:
    """Everything that the broker still holds for us, acknowledged."""
    await until(lambda: feed.connected)
    mark, names = feed.mark(), list[str]()
    async with asyncio.timeout(SOON_S):
        while True:
            for delivery in await feed.receive():
                delivery.acknowledge()
                if delivery.mark == mark:
                    return names
                names += ids([delivery])


def send_many(feed: MqttFeed, count: int) -> None:
    for _ in range(count):
        feed.send(LETTER)


def ids(deliveries: list[Delivery]) -> list[str]:
    return [event.order_id for delivery in deliveries for event in delivery.events]


async def presence(broker: Mosquitto, seen: list[str]) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("connect/daemon/quotad", qos=1)
        seen.append("watching")
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            seen.append(message.payload.decode())


def cut(feed: MqttFeed) -> None:
    """Let the connection die as in an accident."""
    assert feed._session is not None
    feed._session._pump.cut()


async def settled(feed: MqttFeed) -> None:
    """Wait until the connection that the feed believes in is one that the broker answers on."""
    answered = False
    while not answered:
        await until(lambda: feed.connected)
        with suppress(FeedUnavailable):
            feed.send(LETTER)
            await feed.flush()
            answered = True


async def take_marks(feed: MqttFeed) -> None:
    """Wait until the broker has seen what we did: our own mark comes back after it."""
    mark = feed.mark()
    async with asyncio.timeout(SOON_S):
        while not any(delivery.mark == mark for delivery in await feed.receive()):
            pass

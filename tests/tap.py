"""Somebody at the broker, for tests: talks, listens, and looks at what the broker still holds."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.servers import START_SECONDS

SOON_S = 30.0


async def until(condition: Callable[[], object], seconds: float = SOON_S) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(0.01)


def until_now(condition: Callable[[], object], seconds: float = SOON_S) -> None:
    """Wait as ``until`` does, where no loop runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@dataclass(slots=True)
class Tap:
    """Somebody at the broker: publishes with QoS 1, and writes down what he hears, in order.

    ``guest`` is who comes where not everybody may: user, password and the file of the authority.
    """

    port: int
    topics: tuple[str, ...] = ("connect/#",)
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    retained: list[tuple[str, bytes]] = field(default_factory=list)
    guest: tuple[str, str, Path] | None = None
    _sent: int = 0
    _confirmed: int = 0
    _listening: threading.Event = field(default_factory=threading.Event)
    _client: mqtt.Client | None = None

    def __enter__(self) -> Self:
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(500)
        client.on_connect = lambda *_: self._connected(client)
        client.on_subscribe = lambda *_: self._listening.set()
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.reconnect_delay_set(1, 1)
        if self.guest is not None:
            client.username_pw_set(*self.guest[:2])
            client.tls_set(str(self.guest[2]))
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        assert self._listening.wait(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._client is not None
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: mqtt.Client) -> None:
        client.subscribe([(topic, 1) for topic in self.topics])

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        kept = self.retained if message.retain else self.heard
        kept.append((message.topic, bytes(message.payload)))

    def _on_publish(self, *_: object) -> None:
        self._confirmed += 1

    def say(
        self, topic: str, payload: bytes | str | dict[str, Any] | list[Any], *, retain: bool = False
    ) -> None:
        """Publish a payload; what is no text is written as JSON."""
        assert self._client is not None
        body = payload if isinstance(payload, bytes | str) else json.dumps(payload)
        self._sent += 1
        self._client.publish(topic, body, 1, retain)

    @property
    def settled(self) -> bool:
        """Whether the broker has confirmed everything said."""
        return self._confirmed >= self._sent

    def on(self, end: str) -> list[Any]:
        """What was heard live on the topics that contain this, as JSON; arrays are taken apart."""
        found = [json.loads(body) for topic, body in list(self.heard) if f"/{end}" in topic]
        return [item for body in found for item in (body if isinstance(body, list) else [body])]

    def replies(self) -> list[dict[str, Any]]:
        """All decisions heard."""
        return self.on("decisions/")


def left(port: int, client_id: str) -> list[bytes]:
    """Take a client's session over and return what the broker holds for it, marks apart."""
    found: list[tuple[str, bytes]] = []
    mark = f"connect/daemon/{client_id}/mark"
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5, manual_ack=True)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho leaves it untyped
    properties.SessionExpiryInterval = 3600

    def hear(_client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        found.append((message.topic, bytes(message.payload)))

    client.on_message = hear
    client.connect("127.0.0.1", port, clean_start=False, properties=properties)
    client.loop_start()
    try:
        client.publish(mark, b"the end", 1)
        until_now(lambda: (mark, b"the end") in found)
    finally:
        client.disconnect()
        client.loop_stop()
    return [payload for topic, payload in found if topic != mark]

"""What mosquitto.conf promises: a session that is away misses nothing, over a restart of the broker too."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.deployed import running
from tests.guarded import Gate, guarded_broker
from tests.scripted import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    packet,
    publish,
    read_packet,
)

WINDOW = 1000
MESSAGES = 3 * WINDOW
DUPLICATE = 0x08
SESSION_EXPIRY = b"\x05\x11" + (86_400).to_bytes(4)


async def mqtt(gate: Gate, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Resume a user's session (MQTT 5) by hand, so that no client's own queue is in between."""
    reader, writer = await asyncio.open_connection("localhost", gate.port, ssl=gate.tls())
    words = (name, name, gate.password(name))
    known = b"".join(len(word).to_bytes(2) + word.encode() for word in words)
    writer.write(packet(CONNECT, b"\x00\x04MQTT\x05\xc0\x00\x00" + SESSION_EXPIRY + known))
    kind, body = await read_packet(reader)
    assert (kind, body[1]) == (CONNACK, 0)
    return reader, writer


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.write(packet(DISCONNECT, b""))
    writer.close()
    await writer.wait_closed()


async def subscribe(gate: Gate) -> None:
    reader, writer = await mqtt(gate, "quotad")
    topic = b"connect/+/orders/#"
    writer.write(packet(SUBSCRIBE | 2, b"\x00\x01\x00" + len(topic).to_bytes(2) + topic + b"\x01"))
    kind, body = await read_packet(reader)
    assert (kind, body[-1]) == (SUBACK, 1)
    await leave(writer)


async def publish_all(gate: Gate) -> None:
    reader, writer = await mqtt(gate, "gateway")
    for first in range(1, MESSAGES, WINDOW):
        for number in range(first, first + WINDOW):
            writer.write(publish("connect/NB-SH/orders/gateway", number, b"%d" % number))
        for _ in range(WINDOW):
            assert (await read_packet(reader))[0] == PUBACK
    await leave(writer)


async def receive_all(gate: Gate) -> list[int]:
    """Take messages as quotad does: a thousand may wait for their acknowledgement."""
    reader, writer = await mqtt(gate, "quotad")
    received: list[int] = []
    for _ in range(0, MESSAGES, WINDOW):
        window = [await read_packet(reader) for _ in range(WINDOW)]
        for kind, body in window:
            assert kind & ~DUPLICATE == PUBLISH | 2
            start = 2 + int.from_bytes(body[:2])
            received.append(int(body[start + 3 :]))
            writer.write(packet(PUBACK, body[start : start + 2]))
    await leave(writer)
    return received


async def test_the_broker_keeps_every_message_for_a_session_that_is_away(tmp_path: Path) -> None:
    with guarded_broker(tmp_path, "gateway") as gate:
        await subscribe(gate)
        await publish_all(gate)
    with running(gate.command, gate.port, tmp_path):
        async with asyncio.timeout(20):
            assert await receive_all(gate) == list(range(1, MESSAGES + 1))

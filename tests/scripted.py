"""A broker that misbehaves on purpose: it floods, keeps quiet or confirms late, and writes down what came."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Self

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    0x10,
    0x20,
    0x30,
    0x40,
    0x80,
    0x90,
    0xC0,
    0xD0,
    0xE0,
)


def packet(kind: int, body: bytes) -> bytes:
    """Frame one MQTT packet."""
    length, rest = b"", len(body)
    while True:
        rest, low = divmod(rest, 128)
        length += bytes([low | (0x80 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


def publish(topic: str, message_id: int, payload: bytes) -> bytes:
    """Write a PUBLISH with QoS 1."""
    name = topic.encode()
    head = len(name).to_bytes(2) + name + message_id.to_bytes(2) + b"\x00"
    return packet(PUBLISH | 2, head + payload)


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one MQTT packet: its first byte and its body."""
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind, await reader.readexactly(length)


@dataclass(slots=True)
class ScriptedBroker:
    """Accepts everybody, and then does as its fields say.

    ``flood`` is sent to who has claimed the session, ``receive_maximum`` announced, every subscription
    answered with ``granted``; where it does not confirm, it still does so for what a connection
    begins with. With ``first`` the flood comes at once, and the subscription waits until that many
    acknowledgements have come. With ``kept`` it says that it has kept our session. ``endless`` comes again
    after each acknowledgement, and then no ping is answered. ``seen`` lists the first half-byte of each
    packet that came, in order.
    """

    flood: bytes = b""
    receive_maximum: int | None = None
    confirms: bool = True
    granted: int = 1
    first: int = 0
    kept: bool = False
    endless: bytes = b""
    seen: list[int] = field(default_factory=list)
    unconfirmed: list[int] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    granting: bytes = b""
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.connections += 1
        try:
            while True:
                kind, body = await read_packet(reader)
                self.seen.append(kind & 0xF0)
                self._answer(kind, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        match kind & 0xF0:
            case 0x10:
                limit = b"" if self.receive_maximum is None else b"\x21" + self.receive_maximum.to_bytes(2)
                writer.write(packet(CONNACK, bytes([self.kept, 0, len(limit)]) + limit))
                writer.write(self.flood if self.first else b"")
            case 0x80:
                self.granting = packet(SUBACK, body[:2] + b"\x00" + bytes([0, *[self.granted] * 4]))
            case 0x30:
                end = 2 + int.from_bytes(body[:2])
                self.unconfirmed.append(int.from_bytes(body[end : end + 2]))
                if self.confirms or b"/daemon/" in body[:end]:
                    self.confirm()
                if body[:end].endswith(b"/claim") and not self.first:
                    writer.write(self.flood)
            case 0x40:
                writer.write(self.endless)
            case 0xC0 if not self.endless:
                writer.write(packet(PINGRESP, b""))
        if self.granting and self.seen.count(PUBACK) >= self.first:
            writer.write(self.granting)
            self.granting = b""

    def confirm(self) -> None:
        """Send the confirmations that are due."""
        for message_id in self.unconfirmed:
            self._writers[-1].write(packet(PUBACK, message_id.to_bytes(2)))
        self.unconfirmed.clear()

"""A weir between the daemon and a server: what passes is counted, and the n-th thing breaks something.

Units are commands to a store and packets to and from a broker; a store's answers are counted as they
come. With ``spare`` everything breaks after so many bytes towards the client: the reply to what the
server has done is lost, or half of it arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

_CHUNK = 64 * 1024
Cut = Callable[[bytearray], Iterator[bytes]]


def pieces(buffer: bytearray) -> Iterator[bytes]:
    """Take everything as it came."""
    if buffer:
        yield bytes(buffer)
        buffer.clear()


def packets(buffer: bytearray) -> Iterator[bytes]:
    """Take whole MQTT packets off the front."""
    while (size := _packet_size(buffer)) and len(buffer) >= size:
        yield bytes(buffer[:size])
        del buffer[:size]


def _packet_size(buffer: bytearray) -> int:
    """Say how long the first packet is; 0 where its head is not there yet."""
    length = 0
    for place, byte in enumerate(buffer[1:5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return 2 + place + length
    return 0


def commands(buffer: bytearray) -> Iterator[bytes]:
    """Take whole commands to a store off the front."""
    while (size := _command_size(buffer)) and len(buffer) >= size:
        yield bytes(buffer[:size])
        del buffer[:size]


def _command_size(buffer: bytearray) -> int:
    """Say how long the first command is; 0 where it is not all there yet."""
    end = buffer.find(b"\r\n")
    if end < 0:
        return 0
    place = end + 2
    for _ in range(int(buffer[1:end])):
        end = buffer.find(b"\r\n", place)
        if end < 0:
            return 0
        place = end + 2 + int(buffer[place + 1 : end]) + 2
    return place


@dataclass(slots=True)
class Weir:
    """Passes everything on, one unit after the other. ``strike`` is called before unit ``at`` passes.

    ``passed`` counts the units, ``back`` the bytes towards clients, ``struck`` what was broken;
    ``delay_s`` is how long each unit is kept.
    """

    server_port: int
    forth: Cut = commands
    backwards: Cut = pieces
    strike: Callable[[], object] = lambda: None
    at: int = 0
    spare: int | None = None
    delay_s: float = 0.0
    passed: int = 0
    back: int = 0
    struck: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._server.wait_closed()

    def again(self, *, at: int = 0, spare: int | None = None) -> None:
        """Count from the start, and break at another place."""
        self.cut()
        self.passed = self.back = self.struck = 0
        self.at, self.spare = at, spare

    def cut(self) -> None:
        """Break all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._writers.add(writer)
        try:
            await self._link(reader, writer)
        finally:
            self._serving.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self.server_port)
        except OSError:
            return
        self._writers.add(forth)
        ways = {
            asyncio.create_task(self._pass(reader, forth, self.forth, client=False)),
            asyncio.create_task(self._pass(back, writer, self.backwards, client=True)),
        }
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        self._writers.discard(forth)
        for one in (writer, forth):
            one.transport.abort()
        await asyncio.wait(ways)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, units: Cut, *, client: bool
    ) -> None:
        buffer = bytearray()
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                buffer += chunk
                for unit in units(buffer):
                    if self._strikes():
                        return
                    await asyncio.sleep(self.delay_s)
                    kept = self._kept(len(unit)) if client else len(unit)
                    writer.write(unit[:kept])
                    if kept < len(unit):
                        await writer.drain()
                        self.cut()
                        return
                await writer.drain()

    def _strikes(self) -> bool:
        """Count a unit; break everything where it is the one."""
        self.passed += 1
        if self.passed != self.at:
            return False
        self.struck += 1
        self.strike()
        self.cut()
        return True

    def _kept(self, size: int) -> int:
        """Count bytes towards a client; say how many of them still pass."""
        self.back += size
        if self.spare is None or self.back <= self.spare:
            return size
        kept, self.spare = self.spare - (self.back - size), None
        self.struck += 1
        return kept

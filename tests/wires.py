"""A wire to a store that can be slow, stand still, lose an answer or break: for tests of gateways."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

_CHUNK = 64 * 1024


@dataclass(slots=True)
class Wire:
    """Passes bytes between callers and a store.

    ``pieces`` counts what callers sent, read by read. ``still`` holds everything back until it is
    set again. ``lossy`` is how many of the next replies are lost with their connection, after the
    store has carried the request out. ``jitter`` cuts replies into pieces with turns of the loop
    between them.
    """

    store_port: int
    port: int = 0
    pieces: int = 0
    connections: int = 0
    lossy: int = 0
    jitter: random.Random | None = None
    still: asyncio.Event = field(default_factory=asyncio.Event)
    marked: bytes = b"quota_reserve"
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where callers connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        self.still.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def refuse(self) -> None:
        """Take no new connections; those that are there stay."""
        assert self._server is not None
        self._server.close()

    def cut(self) -> None:
        """Break all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        with suppress(OSError):
            back, forth = await asyncio.open_connection("127.0.0.1", self.store_port)
            self._writers |= {writer, forth}
            answering = asyncio.create_task(self._answer(back, writer))
            try:
                await self._request(reader, forth)
            finally:
                answering.cancel()
                await asyncio.wait({answering})
                for one in (writer, forth):
                    self._writers.discard(one)
                    one.transport.abort()
        self._tasks.discard(task)

    async def _request(self, reader: asyncio.StreamReader, forth: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while request := await reader.read(_CHUNK):
                await self.still.wait()
                self.pieces += self.marked in request
                forth.write(request)

    async def _answer(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while reply := await back.read(_CHUNK):
                await self.still.wait()
                if self.lossy and b"accepted" in reply:
                    self.lossy -= 1
                    writer.transport.abort()
                    return
                await self._pass(reply, writer)
        writer.transport.abort()

    async def _pass(self, reply: bytes, writer: asyncio.StreamWriter) -> None:
        while reply and self.jitter is not None:
            size = self.jitter.randint(1, len(reply))
            writer.write(reply[:size])
            reply = reply[size:]
            for _ in range(self.jitter.randint(0, 3)):
                await asyncio.sleep(0)
        if reply:
            writer.write(reply)

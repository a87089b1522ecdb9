"""A connection to the store that breaks on purpose, at the worst moments."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

_CHUNK = 64 * 1024


@dataclass(slots=True)
class Proxy:
    """Passes bytes on to a store until a batch is on its way past the next of ``cuts``.

    A cut is a number of bytes after which it falls due, and what then breaks: ``request torn``
    (the store gets half of a batch), ``reply lost`` (the batch is committed, and nobody hears of
    it), ``reply torn`` (half the reply arrives). Each cuts all connections.
    """

    store_port: int
    cuts: list[tuple[int, str]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    port: int = 0
    _breaking: bool = False
    _passed: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._cut()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self.store_port)
        self._writers |= {writer, forth}
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._pass(reader, writer, back, forth)
        for one in (writer, forth):
            self._writers.discard(one)
            one.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamReader,
        forth: asyncio.StreamWriter,
    ) -> None:
        """Take turns: a client of ours waits for each reply before it asks again."""
        answering = asyncio.create_task(_copy(back, writer))
        try:
            while request := await reader.read(_CHUNK):
                self._passed += len(request)
                kind = self._due(request)
                if not kind:
                    forth.write(request)
                    continue
                answering.cancel()
                await asyncio.wait({answering})
                if kind == "request torn":
                    forth.write(request[: len(request) // 2])
                    await forth.drain()
                else:
                    forth.write(request)
                    rest = asyncio.create_task(_copy(reader, forth))
                    reply = await back.read(_CHUNK)
                    rest.cancel()
                    await asyncio.wait({rest})
                    writer.write(reply[: len(reply) // 2] if kind == "reply torn" else b"")
                    with suppress(OSError):  # who gave up meanwhile has lost his reply all the same
                        await writer.drain()
                self.done.append(kind)
                self._breaking = False
                self._cut()
                return
        finally:
            answering.cancel()
            await asyncio.wait({answering})

    def _due(self, request: bytes) -> str:
        """What is to break now, one thing at a time; empty for nothing."""
        is_due = bool(self.cuts) and self._passed >= self.cuts[0][0] and not self._breaking
        if not is_due or b"quota_apply" not in request:
            return ""
        self._breaking = True
        return self.cuts.pop(0)[1]

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)

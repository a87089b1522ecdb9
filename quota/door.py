"""The server of the pages: a guest in the daemon's loop that takes no more than its share of it.

Connections are taken one by one, so many in a second and so many at a time; who comes beyond that
waits outside, in the system's own queue. A flood may keep everybody from the page, and never the
daemon from its work.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from quota.errors import ConfigError

MOST = 256
"""How many connections there may be at a time."""

RATE_PER_S = 200
"""How many connections are taken in a second, at most."""

HEAD_S = 10.0
"""How long a client may take to say what it wants, from its connection or the last answer on."""

HEAD_BYTES = 16 * 1024
"""How long that may be."""

_HANDSHAKE_S = 5.0
_GRACE_S = 1
_TURN_S = 0.05


def tls_of(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """Build what proves who we are; raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        raise ConfigError(
            f"http.cert_file: cannot use {cert_file} and {key_file} ({error.strerror})"
        ) from None
    return context


class _Guest(H11Protocol):
    """A connection that is closed when it does not say in time what it wants."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Wait no more once there is a request."""
        super().data_received(data)
        if self._late is not None and self.cycle is not None and not self.cycle.response_complete:
            self._late.cancel()
            self._late = None

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._await_request()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(HEAD_S, self.transport.abort)


class Door(uvicorn.Server):
    """A server that is a guest: signals belong to the daemon, and so does most of its loop."""

    def __init__(self, app: Starlette, tls: ssl.SSLContext | None) -> None:
        super().__init__(_config(app))
        self.servers = []
        self._tls = tls
        self._coming = set[asyncio.Task[None]]()
        self._taking: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections."""
        (listener,) = sockets or [socket.socket()]
        listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._taking = asyncio.create_task(self._take(listener), name="door")
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, and let everybody go."""
        for task in filter(None, (self._taking, *self._coming)):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await super().shutdown(sockets)

    async def _take(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        began, taken = loop.time(), 0
        while True:
            if len(self.server_state.connections) + len(self._coming) >= MOST:
                await asyncio.sleep(_TURN_S)
                continue
            if taken >= RATE_PER_S and (early_s := began + 1 - loop.time()) > 0:
                await asyncio.sleep(early_s)
            if loop.time() - began >= 1:
                began, taken = loop.time(), 0
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # too many open files, or a client that is gone already
                await asyncio.sleep(_TURN_S)
                continue
            taken += 1
            task = loop.create_task(self._let_in(connection))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)

    async def _let_in(self, connection: socket.socket) -> None:
        """Begin with one client; one that cannot agree on TLS with us is let go."""
        options: dict[str, Any] = (
            {"ssl": self._tls, "ssl_handshake_timeout": _HANDSHAKE_S} if self._tls else {}
        )
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self._guest, connection, **options)
        except OSError:
            connection.close()

    def _guest(self) -> _Guest:
        return _Guest(self.config, self.server_state, {})


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Guest,
        log_config=None,
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_graceful_shutdown=_GRACE_S,
    )

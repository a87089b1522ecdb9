"""The pages of a daemon: the live page, metrics, health, readiness and the pools, inside its loop.

Nothing here decides or remembers anything: each page asks the functions it was given.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Protocol

import msgspec
from prometheus_client import CollectorRegistry, make_asgi_app
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quota.door import Door
from quota.errors import ConfigError
from quota.feed import StatusReport
from quota.lock import STRANGER, Lock
from quota.page.broadcast import Broadcast

_FILES = str(files("quota").joinpath("page", "static"))

_GUARDS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""What every answer tells a browser: run our own files only, and let nobody frame or embed us."""


class View(Protocol):
    """What the live page is told: see ``live.py``."""

    def clock(self) -> object:
        """The moment of what is shown."""
        ...

    def state(self) -> object:
        """The page but for its chart and its tape."""
        ...

    def tape(self) -> object:
        """The last entries and changes."""
        ...

    def day(self) -> object:
        """The charts of the day."""
        ...


class _Nothing:
    """A view of nothing, for pages without a daemon."""

    def clock(self) -> None:
        """No time."""

    def state(self) -> None:
        """No pools."""

    def tape(self) -> None:
        """No entries."""

    def day(self) -> tuple[object, ...]:
        """No charts."""
        return ()


_NOTHING = _Nothing()


@dataclass(frozen=True, slots=True)
class _Pages:
    """The pages, and where they take what they show."""

    pools: Callable[[], Sequence[StatusReport]]
    ready: Callable[[], Sequence[str]]
    warnings: Callable[[], Sequence[str]]
    view: View
    broadcast: Broadcast

    async def index(self, _: Request) -> Response:
        """Send the live page; what it shows it fetches itself."""
        return FileResponse(f"{_FILES}/index.html")

    async def live(self, _: Request) -> Response:
        """Tell one more listener of the pools, for as long as it listens."""
        return self.broadcast.answer()

    async def day(self, _: Request) -> Response:
        """Send the charts of the day."""
        return _json(self.view.day(), status=200)

    async def healthy(self, _: Request) -> Response:
        """Say that the process lives: who can answer at all is healthy."""
        return PlainTextResponse("healthy\n")

    async def readiness(self, request: Request) -> Response:
        """Say whether events are taken and decided; 503 otherwise, with the reasons for who may know."""
        reasons = self.ready()
        if STRANGER in request.scope:
            return _json({"ready": not reasons}, status=503 if reasons else 200)
        body = {"ready": not reasons, "reasons": reasons, "warnings": self.warnings()}
        return _json(body, status=503 if reasons else 200)

    async def reports(self, _: Request) -> Response:
        """List the pools with the fields of the status topic."""
        return _json(self.pools(), status=200)


def _json(content: object, *, status: int) -> Response:
    return Response(
        msgspec.json.encode(content),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


@dataclass(frozen=True, slots=True)
class _Asgi:
    """An application as the endpoint of a route; Starlette would take a bare function for a page."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Guarded:
    """Adds our headers to every answer, and has a browser ask again for what says nothing of it."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_GUARDS)
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        await self.app(scope, receive, send_guarded)


def app(  # noqa: PLR0913 - all that the pages show is handed in
    registry: CollectorRegistry,
    *,
    pools: Callable[[], Sequence[StatusReport]],
    ready: Callable[[], Sequence[str]],
    warnings: Callable[[], Sequence[str]] = tuple,
    view: View = _NOTHING,
    token: str | None = None,
) -> Starlette:
    """Build the pages.

    ``ready`` returns the reasons for which the daemon is not ready, if any; ``warnings`` what will
    need a person soon though it is; ``view`` is what the live page shows, and ``token`` what one
    has to know to see any of it.
    """
    broadcast = Broadcast(view.clock, {"state": view.state, "tape": view.tape})
    pages = _Pages(pools, ready, warnings, view, broadcast)
    built = Starlette(
        routes=[
            Route("/", pages.index),
            Mount("/page", StaticFiles(directory=_FILES)),
            Route("/metrics", _Asgi(make_asgi_app(registry)), methods=["GET"]),
            Route("/-/healthy", pages.healthy),
            Route("/-/ready", pages.readiness),
            Route("/api/pools", pages.reports),
            Route("/api/live", pages.live, methods=["GET"]),
            Route("/api/day", pages.day),
        ],
        middleware=[Middleware(_Guarded), Middleware(Lock, token=token)],
    )
    built.state.broadcast = broadcast
    return built


@asynccontextmanager
async def serving(
    app: Starlette, host: str, port: int, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve the pages; yields the address really bound, as ``host:port``. Port 0 takes a free one.

    Raises ConfigError when the address cannot be bound. Logs nothing but its own errors.
    """
    listener = _bound(host, port)
    address = _written(listener)
    server = Door(app, tls)
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield address
    finally:
        app.state.broadcast.end()
        server.should_exit = True
        await running


def _bound(host: str, port: int) -> socket.socket:
    """Listen before the server runs, so that nobody is turned away once the address is known."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"http.listen: cannot bind {host}:{port} ({os.strerror(error.errno or 0)})"
        ) from None


def _written(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

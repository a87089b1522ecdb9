"""The pages of a daemon: metrics, health, readiness and the pools, served inside its loop.

Nothing here decides or remembers anything: each page asks the functions it was given.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import msgspec
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from quota.errors import ConfigError
from quota.feed import StatusReport

_GRACE_S = 1

_INDEX = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>quotad</title>
<h1>quotad</h1>
<p>The balances are those of the events that quotad is fed.</p>
<ul>
<li><a href="/api/pools">pools</a></li>
<li><a href="/metrics">metrics</a></li>
<li><a href="/-/healthy">healthy</a></li>
<li><a href="/-/ready">ready</a></li>
</ul>
</html>
"""


@dataclass(frozen=True, slots=True)
class _Pages:
    """The pages, and where they take what they show."""

    registry: CollectorRegistry
    pools: Callable[[], Sequence[StatusReport]]
    ready: Callable[[], Sequence[str]]
    warnings: Callable[[], Sequence[str]]

    async def index(self, _: Request) -> Response:
        """Link to the others."""
        return HTMLResponse(_INDEX)

    async def metrics(self, request: Request) -> Response:
        """Write the metrics in the format that is asked for."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.registry), headers={"content-type": content_type})

    async def healthy(self, _: Request) -> Response:
        """Say that the process lives: who can answer at all is healthy."""
        return PlainTextResponse("healthy\n")

    async def readiness(self, _: Request) -> Response:
        """Say whether events are taken and decided; 503 with the reasons otherwise."""
        reasons = self.ready()
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


def app(
    registry: CollectorRegistry,
    *,
    pools: Callable[[], Sequence[StatusReport]],
    ready: Callable[[], Sequence[str]],
    warnings: Callable[[], Sequence[str]] = tuple,
) -> Starlette:
    """Build the pages.

    ``ready`` returns the reasons for which the daemon is not ready, if any; ``warnings`` what will
    need a person soon though it is.
    """
    pages = _Pages(registry, pools, ready, warnings)
    return Starlette(
        routes=[
            Route("/", pages.index),
            Route("/metrics", pages.metrics),
            Route("/-/healthy", pages.healthy),
            Route("/-/ready", pages.readiness),
            Route("/api/pools", pages.reports),
        ]
    )


class _Server(uvicorn.Server):
    """A server that is a guest: signals belong to the daemon."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def serving(app: Starlette, host: str, port: int) -> AsyncIterator[str]:
    """Serve the pages; yields the address really bound, as ``host:port``. Port 0 takes a free one.

    Raises ConfigError when the address cannot be bound. Logs nothing but its own errors.
    """
    listener = _bound(host, port)
    address = _written(listener)
    server = _Server(_config(app))
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield address
    finally:
        server.should_exit = True
        await running


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


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

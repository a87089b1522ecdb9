"""A served daemon without the daemon, and somebody who asks for its pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette

from quota.decision import PoolName
from quota.feed import StatusReport
from quota.http import app
from quota.metrics import Metrics


@dataclass(slots=True)
class Site:
    """A served daemon without the daemon: what it would tell can be set."""

    reasons: list[str] = field(default_factory=list)
    reports: list[StatusReport] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    address: str = ""
    token: str | None = None

    def app(self) -> Starlette:
        registry = Metrics(tuple(PoolName), "1").registry
        return app(
            registry, pools=lambda: self.reports, ready=lambda: self.reasons, view=self, token=self.token
        )

    def clock(self) -> str:
        return "10:00"

    def state(self) -> list[str]:
        return self.told

    def tape(self) -> list[str]:
        return []

    def day(self) -> list[str]:
        return ["chart"]


async def get(address: str, path: str, *headers: str) -> tuple[int, str, str]:
    """Ask for a page; return its status, its headers and its text."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    lines = (f"GET {path} HTTP/1.0", f"Host: {address}", *headers, "", "")
    writer.write("\r\n".join(lines).encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[asyncio.StreamReader]:
    """Listen to the live stream; its headers are read."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /api/live HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    assert b"content-type: text/event-stream" in head
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()

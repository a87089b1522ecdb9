"""What the server of the pages takes at most: connections, heads, and anybody's patience."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from quota import door
from quota.door import tls_of
from quota.http import serving
from tests.certificates import certify
from tests.sites import Site, get

Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def link(address: str, stack: AsyncExitStack) -> Link:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    stack.callback(writer.close)
    return reader, writer


async def closed(reader: asyncio.StreamReader) -> bytes:
    """Read up to the end; a connection that is reset has ended too."""
    async with asyncio.timeout(5):
        with suppress(ConnectionResetError):
            return await reader.read()
        return b""


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_who_comes_beyond_the_most_waits_until_another_leaves(
    monkeypatch: pytest.MonkeyPatch, stack: AsyncExitStack
) -> None:
    monkeypatch.setattr(door, "MOST", 4)
    async with serving(Site().app(), "127.0.0.1", 0) as address:
        held = [await link(address, stack) for _ in range(4)]
        asking = asyncio.create_task(get(address, "/-/healthy"))
        done, _ = await asyncio.wait({asking}, timeout=0.3)
        assert not done
        held[0][1].close()
        assert (await asking)[0] == 200


async def test_so_many_are_taken_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "RATE_PER_S", 5)
    async with serving(Site().app(), "127.0.0.1", 0) as address:
        began = time.monotonic()
        for _ in range(11):
            assert (await get(address, "/-/healthy"))[0] == 200
        assert time.monotonic() - began > 1.9


async def test_who_says_nothing_or_only_half_is_let_go(
    monkeypatch: pytest.MonkeyPatch, stack: AsyncExitStack
) -> None:
    monkeypatch.setattr(door, "HEAD_S", 0.3)
    async with serving(Site().app(), "127.0.0.1", 0) as address:
        silent, _ = await link(address, stack)
        half, writer = await link(address, stack)
        again, other = await link(address, stack)
        other.write(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await again.readuntil(b"healthy\n")).startswith(b"HTTP/1.1 200")
        for byte in (b"G", b"E", b"T"):
            writer.write(byte)
            other.write(byte)
        assert await closed(silent) == await closed(half) == await closed(again) == b""


async def test_who_listens_is_not_let_go_for_saying_nothing(
    monkeypatch: pytest.MonkeyPatch, stack: AsyncExitStack
) -> None:
    monkeypatch.setattr(door, "HEAD_S", 0.2)
    site = Site()
    async with serving(site.app(), "127.0.0.1", 0) as address:
        reader, writer = await link(address, stack)
        writer.write(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(5):
            for number in range(4):  # looked at five times a second
                site.told = [str(number)]
                await reader.readuntil(b'["%d"]' % number)


@pytest.mark.parametrize("head", [b"GET /" + b"x" * 40_000, b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000])
async def test_a_head_is_bounded(head: bytes, stack: AsyncExitStack) -> None:
    async with serving(Site().app(), "127.0.0.1", 0) as address:
        reader, writer = await link(address, stack)
        writer.write(head)
        assert (await closed(reader)).startswith(b"HTTP/1.1 400")


async def test_who_begins_no_tls_is_counted_and_let_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stack: AsyncExitStack
) -> None:
    monkeypatch.setattr(door, "_HANDSHAKE_S", 0.3)
    certify(tmp_path, "localhost")
    tls = tls_of(tmp_path / "localhost.pem", tmp_path / "localhost.key")
    async with serving(Site().app(), "127.0.0.1", 0, tls=tls) as address:
        silent, _ = await link(address, stack)
        assert await closed(silent) == b""

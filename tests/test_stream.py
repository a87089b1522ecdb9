"""The live stream, heard over a real connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest

from quota.http import serving
from quota.page import broadcast
from quota.page.broadcast import LISTENERS
from tests.sites import Site, get, listening


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with serving(site.app(), "127.0.0.1", 0) as site.address:
        yield site


async def test_a_listener_hears_the_state_and_what_becomes_of_it(site: Site) -> None:
    site.told = ["first"]
    async with asyncio.timeout(5), listening(site.address) as reader:
        await reader.readuntil(b'event: state\ndata: ["first"]\n\n')
        site.told = ["second"]
        await reader.readuntil(b'event: state\ndata: ["second"]\n\n')


async def test_one_listener_too_many_is_turned_away_and_let_in_when_another_leaves(site: Site) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(10):
        async with listening(site.address):
            for _ in range(LISTENERS - 1):
                await stack.enter_async_context(listening(site.address))
            assert (await get(site.address, "/api/live"))[0] == 503
        while True:
            with suppress(AssertionError):
                await stack.enter_async_context(listening(site.address))
                break


async def test_the_end_does_not_wait_for_listeners(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(5), serving(site.app(), "127.0.0.1", 0) as site.address:
            reader = await stack.enter_async_context(listening(site.address))
            await reader.readuntil(b"event: tape")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 1.0
        await reader.read()
    assert caplog.text == ""


async def test_a_listener_that_takes_nothing_is_let_go_and_costs_little(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "PATIENCE_S", 0.2)
    site.told = ["x" * 2_000_000]
    served = site.app()
    async with serving(served, "127.0.0.1", 0) as address:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port))) as deaf:
            deaf.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(10):
                while not served.state.broadcast.listeners:  # noqa: ASYNC110 - the server sets no event of ours
                    await asyncio.sleep(0.01)
                number = 0
                while served.state.broadcast.listeners:
                    number += 1
                    site.told = [str(number) + "x" * 2_000_000]
                    await asyncio.sleep(0.01)

"""Rules of the stream: the latest state for everybody, encoded once, queued for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from quota.page import broadcast
from quota.page.broadcast import LISTENERS, Broadcast

TICK_S = 0.005


class Show:
    """A state to set, that counts how often it was asked for."""

    def __init__(self) -> None:
        self.value = 0
        self.asked = 0
        self.broadcast = Broadcast(lambda: "clock", {"state": self.state, "tape": lambda: "tape"})

    def state(self) -> int:
        self.asked += 1
        return self.value


@pytest.fixture
async def show(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Show]:
    monkeypatch.setattr(broadcast, "TICK_S", TICK_S)
    show = Show()
    yield show
    show.broadcast.end()
    while show.broadcast.listeners:
        show.broadcast.leave()


async def until_told(events: AsyncIterator[bytes], text: bytes) -> bytes:
    """Read until a text is told; return the last chunk."""
    async with asyncio.timeout(5):
        async for chunk in events:
            if text in chunk:
                return chunk
    raise AssertionError(f"{text!r} was never told")


async def test_the_whole_state_comes_at_once_the_clock_first(show: Show) -> None:
    async with aclosing(show.broadcast.events()) as events:
        assert await anext(events) == b"retry: 1000\n\n"
        first = await anext(events)
    assert first == b'event: clock\ndata: "clock"\n\nevent: state\ndata: 0\n\nevent: tape\ndata: "tape"\n\n'


async def test_only_what_changed_is_told_again(show: Show) -> None:
    show.broadcast.join()
    async with aclosing(show.broadcast.events()) as events:
        await until_told(events, b"data: 0")
        show.value = 1
        assert b"tape" not in await until_told(events, b"data: 1")


async def test_a_listener_that_was_away_gets_the_latest_and_nothing_else(show: Show) -> None:
    show.broadcast.join()
    async with aclosing(show.broadcast.events()) as slow, aclosing(show.broadcast.events()) as quick:
        await until_told(slow, b"data: 0")
        for value in range(1, 6):
            show.value = value
            await until_told(quick, b"data: %d" % value)
        assert b"data: 5" in await anext(slow)


async def test_the_clock_is_told_though_nothing_changes(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "HEARTBEAT_S", 4 * TICK_S)
    moments = iter(range(1_000))
    show.broadcast = Broadcast(lambda: next(moments), {"state": show.state})
    show.broadcast.join()
    async with aclosing(show.broadcast.events()) as events:
        await until_told(events, b"data: 0")
        assert await until_told(events, b"event: clock") == b"event: clock\ndata: 1\n\n"


async def test_many_listeners_cost_no_more_states_than_one(show: Show) -> None:
    for _ in range(LISTENERS):
        show.broadcast.join()
    looking = [task for task in asyncio.all_tasks() if task.get_name() == "broadcast"]
    assert len(looking) == 1


async def test_nothing_is_asked_for_while_nobody_listens(show: Show) -> None:
    show.broadcast.join()
    looking = next(task for task in asyncio.all_tasks() if task.get_name() == "broadcast")
    show.broadcast.leave()
    await asyncio.wait([looking], timeout=5)
    assert looking.cancelled()


async def test_too_many_listeners_are_turned_away(show: Show) -> None:
    assert show.broadcast.answer().status_code == 200
    for _ in range(LISTENERS):
        show.broadcast.join()
    refused = show.broadcast.answer()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")


async def test_the_end_ends_all_streams_at_once(show: Show) -> None:
    show.broadcast.join()
    events = show.broadcast.events()
    await until_told(events, b"data: 0")
    show.broadcast.end()
    assert await anext(events) == b"event: ended\ndata: null\n\n"
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    assert show.broadcast.answer().status_code == 503

"""What a shared connection never sends, and when another is made beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from quota.gate.answers import Result
from quota.gate.line import Call, Line
from quota.gate.trunk import Switchboard
from quota.gate.wire import packed
from quota.gateway import PreTrade
from quota.ledger import RedisLedger
from quota.library import Library
from quota.store.record import keys
from tests.agreement.trading import POOL, opening
from tests.rigs import SOON_S
from tests.servers import Store
from tests.wires import Wire

PLENTY_MS = 20_000


@pytest.fixture
async def day(client: Redis, ledger: RedisLedger) -> None:
    """A day of 10,000 yuan that trades."""
    await ledger.open_day(POOL, await opening(client))


def board_of(gate: PreTrade) -> Switchboard:
    """The connections of a gateway that was entered."""
    assert gate._board is not None
    return gate._board


async def until(rule: Callable[[], bool]) -> None:
    """Wait for a condition, by a deadline."""
    async with asyncio.timeout(SOON_S):
        while not rule():  # noqa: ASYNC110 - what is looked at sets no event
            await asyncio.sleep(0)


@pytest.mark.usefixtures("day")
@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_is_to_be_asked_again_is_not_once_its_caller_gave_up(
    store: Store, client: Redis, *, cancelled: bool
) -> None:
    """The store has lost its functions; they come back when nobody waits for the call any more."""
    async with PreTrade(store.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        board = board_of(gate)
        await client.function_flush()
        asked = asyncio.create_task(gate.reserve(POOL, "a", "buy", "1", 1))
        await until(lambda: bool(board._open and board._open[-1].said))
        call = board._open[-1]
        if cancelled:
            asked.cancel()
            await asyncio.wait({asked})
        else:
            call.future.set_result(None)
            assert (await asked).outcome is Result.UNKNOWN
        await Library(client).load()
        board._submit(call)
        assert (await gate.status(POOL)).outcome is Result.ACCEPTED
    assert await client.hlen(keys(POOL)[1]) == 0


async def test_a_call_that_is_dropped_takes_its_asking_with_it(store: Store, client: Redis) -> None:
    """ASKING alone would be about the next call, and could have a node answer without the pool."""
    await client.config_resetstat()
    async with PreTrade(store.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        board = board_of(gate)
        first, dropped, kept = (
            Call(packed("ECHO", word), POOL, board.loop.create_future(), 0.0) for word in ("1", "2", "3")
        )
        dropped.asking = kept.asking = True
        for call in (first, dropped, kept):
            board._trunk.ask(call)
        dropped.future.cancel()
        board._trunk.ask(dropped)
        assert (await first.future, await kept.future) == (b"1", b"3")
    stats: Any = await client.info("commandstats")
    assert (stats["cmdstat_echo"]["calls"], stats["cmdstat_asking"]["calls"]) == (2, 1)


@pytest.mark.usefixtures("day")
async def test_a_silent_connection_is_replaced_ever_less_eagerly_and_kept_once_it_is_heard(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []
    opened = Line.open

    async def counted(*words: Any) -> Line:  # noqa: ANN401 - as Line.open takes them
        tries.append(time.monotonic())
        return await opened(*words)

    async with Wire(store.port) as wire, PreTrade(wire.url, source="gw1", deadline_ms=100) as gate:
        await gate.reserve(POOL, "a", "buy", "1", 1)
        trunk = board_of(gate)._trunk
        line = trunk.line
        monkeypatch.setattr("quota.gate.trunk.Line.open", counted)
        wire.refuse()
        wire.still.clear()
        assert (await gate.reserve(POOL, "b", "buy", "1", 1)).outcome is Result.UNKNOWN
        await until(lambda: len(tries) > 6)
        assert tries[6] - tries[0] > 0.25
        wire.still.set()
        await until(lambda: trunk._connecting is None)
        assert trunk.line is line

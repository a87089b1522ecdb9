"""The daemon dies at any step of an event's way: the next one ends where a day without a death ends."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from quota.ledger import RedisLedger
from quota.memory import MemoryLedger
from tests.agreement.state import server_ms
from tests.mortal import judge, judge_store, played
from tests.scale import cases
from tests.servers import Store

STEPS_AT_LEAST = 100


async def test_wherever_it_dies_the_books_are_those_of_a_day_without_a_death(
    counted: Callable[[str], None],
) -> None:
    now_ms = time.time_ns() // 1_000_000
    untouched = MemoryLedger(lambda: now_ms)
    life = (await played(untouched, now_ms, 0)).life
    assert life.steps > STEPS_AT_LEAST
    for step in range(1, life.steps + 2):
        ledger = MemoryLedger(lambda: now_ms)
        play = await played(ledger, now_ms, step)
        await judge(play, ledger)
        assert play.life.over == (step <= life.steps)
        assert ledger.books == untouched.books, step
    counted(f"the daemon dead at any step, in memory: {life.steps} times")


@pytest.mark.soak
async def test_wherever_it_dies_the_store_ends_as_the_model_does(
    store: Store, ledger: RedisLedger, counted: Callable[[str], None]
) -> None:
    """The store's clock is real, so times differ; all the rest is what the rules say."""
    now_ms = await server_ms(ledger._library._nodes.of(""))
    model = MemoryLedger(lambda: now_ms)
    life = (await played(model, now_ms, 0)).life
    stride = cases(7, 1)
    for step in range(stride, life.steps + stride + 1, stride):
        store.clean()
        await ledger._library.load()
        play = await played(ledger, now_ms, step)
        await judge(play, ledger)
        assert play.life.over == (step <= life.steps)
        await judge_store(ledger, model)
    counted(f"the daemon dead at any step, in a store: {life.steps // stride} times, {store.name}")

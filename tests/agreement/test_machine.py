"""A tiny world in which everything collides: model and store must agree after every step.

Ten fen of quota and amounts of a few fen: with real amounts the boundaries are never met.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from quota.decision import Admission, PoolName, Side
from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected
from quota.ledger import Act
from quota.library import Library
from quota.pool import Opening
from tests.agreement.state import HOUR_MS, PLACES, linked, schedule_of, server_ms
from tests.agreement.twin import Twin, fresh_twin
from tests.agreement.walk import walk
from tests.scale import SOAK, cases
from tests.servers import Store

T = TypeVar("T")

DAYS = ("2026-11-20", "2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26")
BUYS, SELLS = ("a", "b", "c", "d", "e"), ("s",)
EXECS = ("u", "v", "w", "x", "y", "z")
WALKS = cases(60, 3_000)
pytestmark = pytest.mark.soak
SETTINGS = settings(
    max_examples=cases(100, 3_000),
    derandomize=not SOAK,
    database=None,
    deadline=None,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)

prices = st.sampled_from(("0.01", "0.010", "0.02", "0.013", "0.005"))
quantities = st.integers(1, 2)
times = st.sampled_from(("",) * 30 + ("2026-11-23T10:00:00+08:00", "2026-11-23T17:00:00Z"))


@st.composite
def amounts(draw: st.DrawFn) -> dict[str, Any]:
    """Draw whose amount: an order keeps its side, most of the time."""
    order_id = draw(st.sampled_from(BUYS + SELLS))
    usual, other = (Side.SELL, Side.BUY) if order_id in SELLS else (Side.BUY, Side.SELL)
    return {
        "order_id": order_id,
        "side": draw(st.sampled_from((usual,) * 6 + (other,))),
        "price": draw(prices),
        "quantity": draw(quantities),
        "time": draw(times),
    }


news = st.builds(lambda fields: NewOrder(**fields), amounts())
reservations = st.builds(
    lambda fields, source: NewOrder(**{**fields, "time": "", "source": source}),
    amounts(),
    st.sampled_from(("", "gw1")),
)
holds = st.sampled_from((None, HOUR_MS, HOUR_MS, 2 * HOUR_MS, 3 * HOUR_MS))
executions = st.builds(
    lambda kind, fields, exec_id: kind(exec_id=exec_id, **fields),
    st.sampled_from((Fill, Fill, Bust)),
    amounts(),
    st.sampled_from(EXECS),
)
endings = st.builds(
    lambda kind, order_id, time: kind(order_id=order_id, time=time),
    st.sampled_from((Cancelled, Rejected)),
    st.sampled_from(BUYS + SELLS),
    times,
)
events: st.SearchStrategy[Event] = st.one_of(news, news, news, executions, executions, endings)
limits = st.integers(1, 12)
acts = st.one_of(
    st.builds(lambda: {"act": "halt"}),
    st.builds(lambda: {"act": "resume"}),
    st.builds(lambda fen, again: {"act": "limit", "limit_fen": fen, "reopen": again}, limits, st.booleans()),
)


@st.composite
def openings(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the settings of a day, all but its schedule and what hangs on the direction."""
    return {
        "trading_day": draw(st.sampled_from(DAYS)),
        "limit_fen": draw(limits),
        "admission": draw(st.sampled_from(tuple(Admission))),
        "levels": draw(st.sampled_from(((50, 70, 90, 100), (1, 2, 100), (50,)))),
        "open_late": draw(st.booleans()),
        "keep_days": draw(st.integers(0, 2)),
    }


class Machine(RuleBasedStateMachine):
    """Everything that can be done to a pool, in any order."""

    def __init__(self, runner: asyncio.Runner, client: Redis) -> None:
        super().__init__()
        self.runner = runner
        self.twin = Twin(client, self.run(server_ms(client)))
        self.run(emptied(client))

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call on the machine's only loop."""
        return self.runner.run(call)

    @initialize(
        name=st.sampled_from((PoolName.NB_SH, PoolName.SB_SZ)),
        opening=openings(),
        place=st.sampled_from(("opening", "before", "opening", "morning", "morning")),
    )
    def begins(self, name: PoolName, opening: dict[str, Any], place: str) -> None:
        self.twin.name = name
        self.opens(opening | {"trading_day": DAYS[1], "open_late": True}, place)

    @rule(opening=openings(), place=st.sampled_from(("opening", "before", "morning")))
    def opens(self, opening: dict[str, Any], place: str) -> None:
        north = self.twin.name.northbound
        day = Opening(
            **opening,
            rate="1.00000" if north else "0.91250",
            resumes_in_opening=north,
            schedule=schedule_of(place, self.twin.now_ms),
            origin="at",
        )
        if isinstance(self.run(self.twin.open_day(day)), bool):
            self.twin.place = place

    @precondition(lambda self: self.twin.pool is not None)
    @rule(steps=st.sampled_from((1, 1, 1, 1, 1, 2, 3, -1, -3)))
    def time_passes(self, steps: int) -> None:
        place = PLACES.index(self.twin.place) + steps
        self.run(self.twin.stand_at(PLACES[max(0, min(place, len(PLACES) - 1))]))

    @rule(batch=st.lists(events, min_size=2, max_size=8))
    def happen(self, batch: list[Event]) -> None:
        self.run(self.twin.apply(*batch))

    @rule(order=news)
    def order_arrives(self, order: NewOrder) -> None:
        self.run(self.twin.apply(order))

    @rule(event=executions | endings)
    def fact_arrives(self, event: Event) -> None:
        self.run(self.twin.apply(event))

    @rule(event=events)
    def happens_twice(self, event: Event) -> None:
        self.run(self.twin.apply(event, event))

    @rule(order=reservations, hold_ms=holds)
    def reserves(self, order: NewOrder, hold_ms: int | None) -> None:
        self.run(self.twin.reserve(order, hold_ms))

    @rule(order_id=st.sampled_from(BUYS + SELLS))
    def releases(self, order_id: str) -> None:
        self.run(self.twin.release(order_id))

    @precondition(lambda self: self.twin.pool is not None)
    @rule(hours=st.integers(1, 3))
    def holds_end(self, hours: int) -> None:
        self.run(self.twin.age(hours))

    @precondition(lambda self: self.twin.pool is not None)
    @rule()
    def store_changes(self) -> None:
        self.run(self.twin.store_changes())

    @rule(behind=st.integers(-1, 2), wrong=st.booleans(), long_ago=st.booleans())
    def attests(self, behind: int, *, wrong: bool, long_ago: bool) -> None:
        self.run(self.twin.attest_last(behind, wrong=wrong, long_ago=long_ago))

    @rule(side=st.sampled_from(tuple(Side)))
    def asks(self, side: Side) -> None:
        self.run(self.twin.check(side))

    @rule(act=acts)
    def operates(self, act: dict[str, Any]) -> None:
        self.run(self.twin.operate(Act(reason="why not", user="ann", host="desk", **act)))

    @rule(day=st.sampled_from(DAYS[1:3]), rate=st.sampled_from(("0.91250", "0.90001", "1.00000")))
    def changes_rate(self, day: str, rate: str) -> None:
        self.run(self.twin.set_rate(day, rate))

    @rule(publish=st.booleans())
    def ticks(self, *, publish: bool) -> None:
        self.run(self.twin.tick(publish=publish))

    @invariant()
    def agree(self) -> None:
        self.run(self.twin.agree())


async def emptied(client: Redis) -> None:
    """Forget all keys; the functions stay."""
    await client.flushall()


def explore(store: Store, chosen: settings) -> None:
    """Run the machine against a store; raises AssertionError where the two disagree."""
    with asyncio.Runner() as runner:
        client = linked(store)
        try:
            runner.run(Library(client).load())
            run_state_machine_as_test(lambda: Machine(runner, client), settings=chosen)  # type: ignore[arg-type] # a factory serves as a type
        finally:
            runner.run(client.aclose())


def test_model_and_store_agree_whatever_happens(store: Store) -> None:
    explore(store, SETTINGS)


async def test_model_and_store_agree_on_long_walks(store: Store) -> None:
    async with linked(store) as client:
        for seed in range(WALKS):
            await walk(await fresh_twin(client), random.Random(seed), steps=40)

"""Facts may come twice, late and in any order around the decisions: the sums are the same."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quota.decision import Side
from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected
from quota.ledger import Act
from quota.pool import Opening
from tests.agreement.state import DAY, HOUR_MS, linked, schedule_of
from tests.agreement.twin import Solo, fresh_twin
from tests.servers import Store

NOW_MS = 1_795_406_400_000
PRICES = ("0.01", "0.013", "1.01", "2.5")

Sums = tuple[int, int, int, int]


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    """Draw what is true of some orders: each a new, some fills, some busts, perhaps an end."""
    return [event for number in range(draw(st.integers(1, 3))) for event in story(draw(st.randoms()), number)]


def story(rng: Random, number: int) -> list[Event]:
    """Tell what is true of one order. Its facts do not contradict each other."""
    order_id, side = f"o{number}", rng.choice((Side.BUY, Side.BUY, Side.SELL))
    price, quantity = rng.choice(PRICES), rng.randint(1, 4)
    events: list[Event] = [NewOrder(order_id=order_id, side=side, price=price, quantity=quantity)]
    for place in range(rng.randint(0, 3)):
        fields = (order_id, f"{order_id}-{place}", side, rng.choice(PRICES), rng.randint(1, 2))
        events += _trade(rng, fields)
    if rng.random() < 0.4:
        events.append(rng.choice((Cancelled, Rejected))(order_id=order_id))
    return events


def _trade(rng: Random, fields: tuple[str, str, Side, str, int]) -> list[Event]:
    order_id, exec_id, side, price, quantity = fields
    done = Fill(order_id=order_id, exec_id=exec_id, side=side, price=price, quantity=quantity)
    undone = Bust(order_id=order_id, exec_id=exec_id, side=side, price=price, quantity=quantity)
    told: tuple[list[Event], ...] = ([done], [done], [done, undone], [undone])
    return rng.choice(told)


def shuffled(events: list[Event], rng: Random) -> list[Event]:
    """Put the same facts in another order, some of them twice."""
    again = events + [event for event in events if rng.random() < 0.3]
    rng.shuffle(again)
    return again


async def sums_of(world: Solo, events: list[Event], *, halted: bool) -> Sums:
    """Trade on a fresh pool with room for everything, or none for any fresh buy."""
    opening = Opening(
        trading_day=DAY,
        limit_fen=100_000_000,
        rate="0.91250",
        schedule=schedule_of("morning", world.now_ms),
        origin="at",
        open_late=True,
    )
    await world.open_day(opening)
    if halted:
        await world.operate(Act(act="halt", reason="test", user="u", host="h"))
    await world.apply(*events)
    await world.agree()
    pool = world.pool
    assert pool is not None
    return pool.open_buy_fen, pool.filled_buy_fen, pool.filled_sell_fen, pool.balance_fen


@given(stories(), st.randoms(), st.booleans())
@settings(derandomize=True, database=None, deadline=None, max_examples=150)
async def test_any_order_of_the_same_facts_ends_the_same(
    events: list[Event],
    rng: Random,
    halted: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    told = await sums_of(Solo(NOW_MS), events, halted=halted)
    if halted:
        # A refused order is in the book only if it trades, so begin with what is known to be.
        assert told == await sums_of(Solo(NOW_MS), list(reversed(events)), halted=halted)
    assert told == await sums_of(Solo(NOW_MS), shuffled(events, rng), halted=halted)


async def reserved_sums_of(world: Solo, events: list[Event], rng: Random) -> Sums:
    """Trade the same, but reserve, release and let lapse some of the orders wherever it happens to be."""
    await sums_of(world, [], halted=False)
    orders = [event for event in events if isinstance(event, NewOrder)]
    for event in events:
        order = rng.choice(orders)
        match rng.randrange(5):
            case 0:
                await world.reserve(order, rng.choice((None, HOUR_MS, 2 * HOUR_MS)))
            case 1:
                await world.release(order.order_id)
            case 2:
                await world.age(1)
        await world.apply(event)
    await world.age(24)
    await world.tick(publish=False)
    await world.agree()
    pool = world.pool
    assert pool is not None
    return pool.open_buy_fen, pool.filled_buy_fen, pool.filled_sell_fen, pool.balance_fen


@given(stories(), st.randoms())
@settings(derandomize=True, database=None, deadline=None, max_examples=300)
async def test_reservations_make_no_difference_to_what_was_sent(events: list[Event], rng: Random) -> None:
    told = await sums_of(Solo(NOW_MS), events, halted=False)
    assert told == await reserved_sums_of(Solo(NOW_MS), shuffled(events, rng), rng)


@pytest.mark.parametrize("seed", range(5))
async def test_nor_do_they_in_the_store(store: Store, seed: int) -> None:
    rng = Random(seed)
    events = [event for number in range(6) for event in story(rng, number)]
    async with linked(store) as client:
        told = await sums_of(await fresh_twin(client), events, halted=False)
        for _ in range(3):
            assert told == await reserved_sums_of(await fresh_twin(client), shuffled(events, rng), rng)


@pytest.mark.parametrize("seed", range(5))
async def test_it_holds_in_the_store_too(store: Store, seed: int) -> None:
    rng = Random(seed)
    events = [event for number in range(6) for event in story(rng, number)]
    async with linked(store) as client:
        ends = {
            await sums_of(await fresh_twin(client), told, halted=False)
            for told in (events, events[::-1], shuffled(events, rng), shuffled(events, rng))
        }
    assert len(ends) == 1

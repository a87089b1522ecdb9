"""A seeded random walk in a tiny world: quick, deep, and the same one every time.

Hypothesis finds the smallest example and repeats itself on the way; this one does not.
"""

from __future__ import annotations

from random import Random

from quota.decision import Admission, PoolName, Side
from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected
from quota.ledger import Act
from quota.pool import Opening
from tests.agreement.state import HOUR_MS, PLACES, schedule_of
from tests.agreement.twin import Twin

DAYS = ("2026-11-20", "2026-11-23", "2026-11-24", "2026-11-25")
ORDERS = "abcdefghijkl"
HOLDS = (None, *(hours * HOUR_MS for hours in (1, 1, 2, 3, 24)))
PRICES = ("0.01", "0.010", "0.01", "0.02", "0.013", "0.005")
TIMES = ("",) * 30 + ("2026-11-23T10:00:00+08:00", "2026-11-23T17:00:00Z")


async def walk(twin: Twin, rng: Random, *, steps: int) -> None:
    """Do anything at all, many times; raises AssertionError where model and store differ."""
    twin.name = rng.choice((PoolName.NB_SH, PoolName.SB_SZ))
    if rng.random() < 0.95:
        await _open(twin, rng, DAYS[1])
    for _ in range(steps):
        await _step(twin, rng)
        await twin.agree()


async def _step(twin: Twin, rng: Random) -> None:
    draw = rng.random()
    if draw < 0.5:
        await twin.apply(*(event(rng) for _ in range(rng.choice((1, 1, 2, 6)))))
    elif draw < 0.63:
        await twin.reserve(new(rng, source=rng.choice(("", "gw1"))), rng.choice(HOLDS))
    elif draw < 0.67:
        await twin.release(rng.choice(ORDERS))
    elif draw < 0.73:
        await twin.check(rng.choice(tuple(Side)))
    elif draw < 0.85:
        await _pass_time(twin, rng)
    else:
        await _act(twin, rng)


async def _pass_time(twin: Twin, rng: Random) -> None:
    if twin.pool is not None and rng.random() < 0.4:
        await twin.age(rng.choice((1, 1, 2, 3)))
    elif twin.pool is not None:
        place = PLACES.index(twin.place) + rng.choice((0, 1, 1, 1, 1, 2, 3, -1))
        await twin.stand_at(PLACES[max(0, min(place, len(PLACES) - 1))])
    elif rng.random() < 0.5:
        await _open(twin, rng, DAYS[1])


async def _act(twin: Twin, rng: Random) -> None:
    draw = rng.random()
    if draw < 0.25:
        await _open(twin, rng, rng.choice(DAYS))
    elif draw < 0.3:
        if twin.pool is not None:
            await (twin.store_changes() if rng.random() < 0.8 else twin.version_1())
    elif draw < 0.35:
        behind = rng.choice((-1, 0, 0, 1, 2))
        await twin.attest_last(behind, wrong=rng.random() < 0.2, long_ago=rng.random() < 0.2)
    elif draw < 0.4:
        await twin.set_rate(rng.choice(DAYS[1:3]), rng.choice(("0.91250", "0.90001", "1.00000")))
    elif draw < 0.6:
        await twin.tick(publish=rng.random() < 0.5)
    else:
        act = rng.choice(("halt", "resume", "resume", "limit", "limit"))
        limit, again = (rng.randint(1, 30), rng.random() < 0.5) if act == "limit" else (0, False)
        await twin.operate(
            Act(act=act, limit_fen=limit, reopen=again, reason="why not", user="ann", host="desk")
        )


async def _open(twin: Twin, rng: Random, day: str) -> None:
    north = twin.name.northbound
    place = rng.choice(("before", "opening", "morning"))
    opening = Opening(
        trading_day=day,
        limit_fen=rng.randint(1, 14),
        rate="1.00000" if north else "0.91250",
        schedule=schedule_of(place, twin.now_ms),
        admission=rng.choice(tuple(Admission)),
        levels=rng.choice(((50, 70, 90, 100), (1, 2, 100), (50,))),
        resumes_in_opening=north,
        origin="at",
        open_late=rng.random() < 0.9,
        keep_days=rng.randint(0, 2),
    )
    if isinstance(await twin.open_day(opening), bool):
        twin.place = place


def event(rng: Random) -> Event:
    """Any event of the tiny world."""
    draw = rng.random()
    if draw < 0.45:
        return new(rng, time=rng.choice(TIMES))
    if draw < 0.6:
        kind = rng.choice((Cancelled, Rejected))
        return kind(order_id=rng.choice(ORDERS), time=rng.choice(TIMES))
    order_id = rng.choice(ORDERS)
    return rng.choice((Fill, Fill, Fill, Bust))(
        order_id=order_id,
        exec_id=f"{order_id}{rng.randint(1, 2)}" if rng.random() < 0.95 else "a1",
        side=_side(rng, order_id),
        price=_price(order_id, rng),
        quantity=rng.choice((1, 1, 1, 2)),
        time=rng.choice(TIMES),
    )


def new(rng: Random, *, time: str = "", source: str = "") -> NewOrder:
    """Any order of the tiny world."""
    order_id = rng.choice(ORDERS)
    return NewOrder(
        order_id=order_id,
        side=_side(rng, order_id),
        price=_price(order_id, rng),
        quantity=rng.choice((1, 2, 2, 2)),
        time=time,
        source=source,
    )


def _side(rng: Random, order_id: str) -> Side:
    usual, other = (Side.SELL, Side.BUY) if order_id in "cfi" else (Side.BUY, Side.SELL)
    return other if rng.random() < 0.05 else usual


def _price(order_id: str, rng: Random) -> str:
    return rng.choice(PRICES) if rng.random() < 0.3 else PRICES[ord(order_id) % len(PRICES)]

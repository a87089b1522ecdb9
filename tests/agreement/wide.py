"""Real amounts, up to the contract's bounds and past them, chosen where arithmetic goes wrong.

Random amounts hardly ever do: a trial needed 270,000 of them to show one fen. These lie where a
conversion leaves almost nothing or almost a fen, at the places where a total is split, where a
product passes 2^53, at the bounds, and where the balance meets zero or a level, each by one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from math import gcd
from random import Random

from quota.decision import Admission, Decision, Side
from quota.events import Bust, Cancelled, Event, Fill, NewOrder
from quota.ledger import Act
from quota.money import BOUND, price_text, rate_e5, rate_text
from quota.pool import Opening, Pool
from tests.agreement.state import DAY, HOUR_MS, schedule_of
from tests.agreement.twin import Solo, Twin

RATES = (100_000, 91_250, 99_999, 100_001, 999_999, 1, 7, 123_457, 900_001)
TOP_MILLI = 9_999_999_999_999_999
BATCH = 50


async def widen(twin: Twin, rng: Random, *, days: int, batches: int = 4) -> None:
    """Trade on some days; raises AssertionError where model and store differ."""
    for number in range(days):
        await _open(twin, rng, date.fromisoformat(DAY) + timedelta(days=number))
        market = Market(rng)
        for _ in range(batches):
            await _trade(twin, market)
            await twin.agree()
            for _ in range(5):
                assert twin.pool is not None
                hours = len(market.orders) % 3
                await twin.reserve(market.new(twin.pool), hours * HOUR_MS if hours else None)
            await twin.agree()
            await twin.release(market.orders[-3][0])
            await twin.age(1)
            await _relimit(twin, rng)
            await twin.agree()


async def _trade(twin: Twin, market: Market) -> None:
    """Apply a batch to the store in one call, having asked the model one by one."""
    events: list[Event] = []
    expected: list[Decision] = []
    for _ in range(BATCH):
        pool = twin.pool
        assert pool is not None
        events.append(market.event(pool))
        expected += await Solo.apply(twin, events[-1])
    assert list(await twin.store.apply(twin.name, events)) == expected


async def _open(twin: Twin, rng: Random, day: date) -> None:
    rate = rng.choice((*RATES, 100_000, 91_250, rng.randint(1, 999_999)))
    opening = Opening(
        trading_day=day.isoformat(),
        limit_fen=_limit(rng),
        rate=rate_text(rate),
        schedule=schedule_of("opening", twin.now_ms),
        admission=rng.choice(tuple(Admission)),
        levels=rng.choice(((50, 70, 90, 100), (1, 33, 67, 99), (50,))),
        origin="at",
        open_late=True,
        keep_days=0,
    )
    assert await twin.open_day(opening) is True


async def _relimit(twin: Twin, rng: Random) -> None:
    act = Act(act="limit", limit_fen=_limit(rng), reason="wide", user="u", host="h")
    await twin.operate(act)


def _limit(rng: Random) -> int:
    some = rng.randint(1, BOUND)
    return rng.choice((BOUND, BOUND - 1, some, some, 10 ** rng.randint(3, 15) + rng.randint(-1, 1)))


class Market:
    """Orders and fills of one day, each chosen to hurt."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.orders: list[tuple[str, Side]] = []
        self.fills: list[Fill] = []

    def event(self, pool: Pool) -> Event:
        """Choose what happens next to a pool in this state."""
        draw = self.rng.random()
        if draw < 0.4 or not self.orders:
            return self.new(pool)
        if draw < 0.75:
            return self._fill(pool)
        if draw < 0.9 or not self.fills:
            return Cancelled(order_id=self.rng.choice(self.orders)[0])
        fill = self.rng.choice(self.fills)
        return Bust(
            order_id=fill.order_id,
            exec_id=fill.exec_id,
            side=fill.side,
            price=fill.price,
            quantity=fill.quantity,
        )

    def new(self, pool: Pool) -> NewOrder:
        """Choose a new order."""
        side = self.rng.choice((Side.BUY, Side.BUY, Side.BUY, Side.SELL))
        order_id = f"o{len(self.orders)}"
        self.orders.append((order_id, side))
        price, quantity = self._amount(pool, side)
        return NewOrder(order_id=order_id, side=side, price=price, quantity=quantity)

    def _fill(self, pool: Pool) -> Fill:
        order_id, side = self.rng.choice(self.orders[-8:])
        price, quantity = self._amount(pool, side)
        fill = Fill(
            order_id=order_id, exec_id=f"e{len(self.fills)}", side=side, price=price, quantity=quantity
        )
        self.fills.append(fill)
        return fill

    def _amount(self, pool: Pool, side: Side) -> tuple[str, int]:
        """Choose a value in thousandths and divide it into a price and a quantity."""
        value = self.rng.choice(_VALUES)(self.rng, pool, side)
        value = max(1, min(value, TOP_MILLI))
        quantity = self.rng.choice((1, 1, 1, 2, 3, 5, 10, 100, 10_000, value))
        if value % quantity or quantity > BOUND:
            quantity = 1
        return price_text(value // quantity), quantity


# Values in thousandths. A conversion never has less than a fen between two of them.


def _residue(rng: Random, pool: Pool, _: Side) -> int:
    """Convert to a whole number of fen but for a few millionths, more or less."""
    rate = rate_e5(pool.rate)
    common = gcd(rate, 1_000_000)
    modulus = 1_000_000 // common
    few = rng.randint(-8, 8) * pow(rate // common, -1, modulus) % modulus
    return _magnitude(rng) // modulus * modulus + few


def _multiple(rng: Random, _: Pool, __: Side) -> int:
    """Meet the places where a total is split, by one."""
    unit = rng.choice((10, 1_000_000, 1_000_000_000))
    return _magnitude(rng) // unit * unit + rng.randint(-1, 1)


def _double(rng: Random, pool: Pool, _: Side) -> int:
    """Make a product with the rate that is near a power of two, about where doubles end."""
    return (1 << rng.randint(52, 62)) // rate_e5(pool.rate) + rng.randint(-1, 1)


def _bound(rng: Random, pool: Pool, side: Side) -> int:
    """Bring an order, or a sum of the pool, to the bound."""
    room = {Side.BUY: BOUND - pool.open_buy_fen, Side.SELL: BOUND - pool.filled_sell_fen}[side]
    spare = pool.balance_fen + BOUND if side is Side.BUY else BOUND - pool.balance_fen
    return rng.choice((BOUND, _milli_of(room, pool), _milli_of(spare, pool))) + rng.randint(-1, 1)


def _meeting(rng: Random, pool: Pool, side: Side) -> int:
    """Bring the balance to zero or to a level, up or down."""
    level = rng.choice((*pool.levels, *(level - 1 for level in pool.levels), 100))
    target = level * pool.limit_fen // 100 + rng.choice((0, 0, 1))
    missing = target - pool.used_fen if side is Side.BUY else pool.used_fen - target
    return _milli_of(abs(missing) + rng.choice((-1, 0, 0, 1)), pool)


def _any(rng: Random, _: Pool, __: Side) -> int:
    return _magnitude(rng)


_VALUES: tuple[Callable[[Random, Pool, Side], int], ...] = (
    _residue,
    _residue,
    _residue,
    _multiple,
    _double,
    _bound,
    _meeting,
    _meeting,
    _any,
)


def _milli_of(fen: int, pool: Pool) -> int:
    """Return the largest value that costs no more than so many fen."""
    return max(1, fen) * 1_000_000 // rate_e5(pool.rate)


def _magnitude(rng: Random) -> int:
    """Draw a number of any length up to the bound: each length as likely as another."""
    return min(BOUND, rng.randint(1, 10 ** rng.randint(2, 16)))

"""The simulated exchange across the border, for one pool: what becomes of accepted orders.

Pure: time comes as an argument, chance from the caller's generator, and facts go out as the
events that any exchange would report. It keeps account of what its facts do to the balance.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from random import Random

from feeds.scenario import hours_of
from feeds.shares import on_tick, price_text, tick_milli
from quota.decision import PoolName, Side
from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected

SOURCE = "exchange"

_FIRST_LOOK_S = 40.0
_NEXT_LOOK_S = 150.0
_AUCTION_S = 300.0
_BUST_AFTER_S = 240.0
_MOST_FACTS = 6

_REJECTS = 0.012
_CANCELS = 0.11
_RESTS = 0.12
_WHOLE = 0.5
_IMPROVES = 0.4
_BUSTS = 0.004


@dataclass(frozen=True, slots=True)
class Resting:
    """An order in the book, and how much of it is left."""

    order: NewOrder
    left: int


@dataclass(slots=True)
class Told:
    """How many facts of each kind the exchange has reported."""

    fills: int = 0
    busts: int = 0
    cancels: int = 0
    rejects: int = 0


class Exchange:
    """The book of one pool. ``balance_milli`` is what its orders did to the balance.

    An order is looked at when its time has come, and what happens to it is drawn then.
    """

    def __init__(self, pool: PoolName, chance: Random) -> None:
        self.told = Told()
        self.balance_milli = 0
        self._pool = pool
        self._hours = hours_of(pool)
        self._chance = chance
        self._book: dict[str, Resting] = {}
        self._looks: list[tuple[float, int, str | Fill]] = []
        self._looked = 0
        self._executions = 0

    def accept(self, order: NewOrder, at_s: float) -> None:
        """Take an accepted order into the book."""
        self._book[order.order_id] = Resting(order, order.quantity)
        if order.side is Side.BUY:
            self.balance_milli -= order.price_milli * order.quantity
        self._look_later(order.order_id, at_s, _FIRST_LOOK_S)

    def due(self, at_s: float, time: str) -> list[Event]:
        """The facts whose time has come, some at a time: the rest follows with the next call."""
        facts: list[Event] = []
        while self._looks and self._looks[0][0] <= at_s and len(facts) < _MOST_FACTS:
            subject = heapq.heappop(self._looks)[2]
            fact = self._bust(subject, time) if isinstance(subject, Fill) else self._look(subject, at_s, time)
            if fact is not None:
                facts.append(fact)
        return facts

    def pull(self, wanted_milli: float, most: int, time: str) -> list[Event]:
        """Cancel the oldest resting buys until that much is given back, at most so many."""
        pulled: list[Event] = []
        goal = self.balance_milli + wanted_milli
        buys = [order_id for order_id, it in self._book.items() if it.order.side is Side.BUY]
        for order_id in buys[:most]:
            if self.balance_milli >= goal:
                break
            pulled.append(self._cancel(order_id, time))
        return pulled

    def _look_later(self, subject: str | Fill, at_s: float, mean_s: float) -> None:
        """Look at it again after a while, when the market trades."""
        self._looked += 1
        when = at_s + self._chance.expovariate(1.0 / mean_s)
        trades = self._hours.trades_from(when)
        spread = self._chance.uniform(0.0, _AUCTION_S if trades < self._hours.closes else 60.0)
        heapq.heappush(self._looks, (trades + spread if trades > when else when, self._looked, subject))

    def _look(self, order_id: str, at_s: float, time: str) -> Event | None:
        resting = self._book.get(order_id)
        if resting is None:
            return None
        drawn = self._chance.random()
        if drawn < _REJECTS and resting.left == resting.order.quantity:
            return self._reject(order_id, time)
        if drawn < _REJECTS + _CANCELS:
            return self._cancel(order_id, time)
        self._look_later(order_id, at_s, _NEXT_LOOK_S)
        return None if drawn < _REJECTS + _CANCELS + _RESTS else self._fill(resting, at_s, time)

    def _fill(self, resting: Resting, at_s: float, time: str) -> Fill:
        order = resting.order
        self._executions += 1
        self.told.fills += 1
        fill = Fill(
            order_id=order.order_id,
            exec_id=f"{order.order_id}-{self._executions}",
            side=order.side,
            price=price_text(self._traded_at(order)),
            quantity=self._part(resting.left),
            time=time,
            source=SOURCE,
        )
        self._settle(resting, fill)
        if self._chance.random() < _BUSTS:
            self._look_later(fill, at_s, _BUST_AFTER_S)
        return fill

    def _settle(self, resting: Resting, fill: Fill) -> None:
        better = resting.order.price_milli - fill.price_milli if fill.side is Side.BUY else fill.price_milli
        self.balance_milli += better * fill.quantity
        if fill.quantity == resting.left:
            del self._book[fill.order_id]
        else:
            self._book[fill.order_id] = replace(resting, left=resting.left - fill.quantity)

    def _traded_at(self, order: NewOrder) -> int:
        """The limit, or some ticks better, in thousandths."""
        limit = order.price_milli
        if self._chance.random() >= _IMPROVES:
            return limit
        better = self._chance.randint(1, 3) * tick_milli(self._pool, limit)
        return on_tick(self._pool, limit - better if order.side is Side.BUY else limit + better)

    def _part(self, left: int) -> int:
        """All that is left, or a part in steps of fifty (every lot is a multiple)."""
        if self._chance.random() < _WHOLE:
            return left
        return min(left, max(1, round(left * self._chance.uniform(0.2, 0.8) / 50)) * 50)

    def _cancel(self, order_id: str, time: str) -> Cancelled:
        self.told.cancels += 1
        self._off_book(order_id)
        return Cancelled(order_id=order_id, time=time, source=SOURCE)

    def _reject(self, order_id: str, time: str) -> Rejected:
        self.told.rejects += 1
        self._off_book(order_id)
        return Rejected(order_id=order_id, time=time, source=SOURCE)

    def _off_book(self, order_id: str) -> None:
        resting = self._book.pop(order_id)
        if resting.order.side is Side.BUY:
            self.balance_milli += resting.order.price_milli * resting.left

    def _bust(self, fill: Fill, time: str) -> Bust:
        self.told.busts += 1
        value = fill.price_milli * fill.quantity
        self.balance_milli += value if fill.side is Side.BUY else -value
        return Bust(
            order_id=fill.order_id,
            exec_id=fill.exec_id,
            side=fill.side,
            price=fill.price,
            quantity=fill.quantity,
            time=time,
            source=SOURCE,
        )

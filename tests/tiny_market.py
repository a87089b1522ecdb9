"""A tiny model of a pool, straight from the market rules, and whole days played in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from feeds.crowd import Crowd, PoolView
from feeds.scenario import HKD_CNY, LAST_S, LIMITS_YUAN, clock_s
from feeds.simulator import STEP_S
from quota.decision import Phase, PoolName, Side, Status, Verdict
from quota.events import MARKET_TZ, Bust, Cancelled, Event, Fill, NewOrder, Rejected
from quota.money import RATE_ONE, rate_e5, yuan_to_fen

MIDNIGHT = datetime(2026, 11, 23, tzinfo=MARKET_TZ)
STEP = timedelta(seconds=STEP_S * 107)
REFUSING = {
    Status.SUSPENDED: Verdict.SUSPENDED,
    Status.EXHAUSTED: Verdict.EXHAUSTED,
    Status.CLOSED: Verdict.CLOSED,
}
NORTHBOUND = "09:10 opening 09:30 continuous 11:30 break 12:55 continuous 14:57 closing 15:00 closed"
SOUTHBOUND = "09:00 opening 09:30 continuous 12:00 break 13:00 continuous 16:00 closing 16:10 closed"


@dataclass(slots=True)
class Pool:
    """A tiny model of one pool, straight from the market rules; ``left`` is an order's rest."""

    name: PoolName
    balance_fen: float = 0
    status: Status = Status.CLOSED
    exhausted: bool = False
    suspended: bool = False
    left: dict[str, int] = field(default_factory=dict)
    orders: dict[str, NewOrder] = field(default_factory=dict)
    history: list[tuple[str, Status]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.balance_fen = self.limit_fen

    @property
    def limit_fen(self) -> int:
        return yuan_to_fen(LIMITS_YUAN[self.name])

    def view(self) -> PoolView:
        return PoolView(round(self.balance_fen), self.limit_fen, self.status)

    def fen(self, price_milli: int, quantity: int) -> float:
        rate = RATE_ONE if self.name.northbound else rate_e5(HKD_CNY)
        return price_milli * quantity * rate / 1_000_000

    def phase(self, now: datetime) -> Phase:
        at_s, phase = (now - MIDNIGHT).total_seconds(), Phase.CLOSED
        words = (NORTHBOUND if self.name.northbound else SOUTHBOUND).split()
        for starts, name in zip(words[::2], words[1::2], strict=True):
            if at_s >= clock_s(starts):
                phase = Phase(name)
        return phase

    def judge(self, now: datetime) -> None:
        phase = self.phase(now)
        if phase is Phase.OPENING:
            self.suspended = self.balance_fen <= 0 or (self.suspended and not self.name.northbound)
        elif phase is not Phase.CLOSED:
            self.suspended = False
            self.exhausted |= self.balance_fen <= 0
        self.status = Status.SUSPENDED if self.suspended else Status.OPEN
        if phase is Phase.CLOSED:
            self.status = Status.CLOSED
        if self.exhausted:
            self.status = Status.EXHAUSTED
        if not self.history or self.history[-1][1] is not self.status:
            self.history.append((f"{now:%H:%M:%S}", self.status))

    def apply(self, event: Event, now: datetime) -> Verdict | None:
        self.judge(now)
        verdict = None
        match event:
            case NewOrder():
                verdict = self._decide(event, now)
            case Fill():
                self._fill(event)
            case Bust():
                gain = 1 if event.side is Side.BUY else -1
                self.balance_fen += gain * self.fen(event.price_milli, event.quantity)
            case Cancelled() | Rejected():
                self._give_back(self.orders[event.order_id], self.left.pop(event.order_id))
        self.judge(now)
        return verdict

    def _decide(self, order: NewOrder, now: datetime) -> Verdict:
        verdict = Verdict.ACCEPTED if order.side is Side.SELL else REFUSING.get(self.status)
        if verdict is None:
            verdict = Verdict.CLOSED if self.phase(now) is Phase.BREAK else Verdict.ACCEPTED
        if verdict is Verdict.ACCEPTED:
            self.orders[order.order_id] = order
            self.left[order.order_id] = order.quantity
            self._give_back(order, -order.quantity)
        return verdict

    def _give_back(self, order: NewOrder, quantity: int) -> None:
        if order.side is Side.BUY:
            self.balance_fen += self.fen(order.price_milli, quantity)

    def _fill(self, fill: Fill) -> None:
        order = self.orders[fill.order_id]
        assert fill.side is order.side
        self.left[fill.order_id] -= fill.quantity
        assert self.left[fill.order_id] >= 0, "more than was left"
        price = fill.price_milli
        if order.side is Side.BUY:
            assert price <= order.price_milli, "a buy above its limit"
            price = order.price_milli - price
        else:
            assert price >= order.price_milli, "a sell below its limit"
        self.balance_fen += self.fen(price, fill.quantity)


@dataclass(slots=True)
class Day:
    """One pool's day as it was played: what was sent when, and the pool after it."""

    pool: Pool
    crowd: Crowd
    sent: list[tuple[datetime, Event]] = field(default_factory=list)
    balances: list[tuple[datetime, float]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def balance_at(self, clock: str) -> float:
        moment = MIDNIGHT + timedelta(seconds=clock_s(clock))
        return next(share for at, share in reversed(self.balances) if at <= moment)

    def statuses(self) -> list[Status]:
        return [status for _, status in self.pool.history]


def play(
    name: PoolName,
    seed: int,
    *,
    delay_steps: int = 1,
    step: timedelta = STEP,
    lost: Callable[[str], bool] = lambda _order_id: False,
) -> Day:
    """Play a day in virtual time; answers and views are late by some steps, and some never come."""
    day = Day(Pool(name), Crowd(name, seed))
    answers: deque[list[tuple[str, Verdict]]] = deque([] for _ in range(delay_steps))
    views = deque([PoolView()] * delay_steps)
    now = MIDNIGHT + timedelta(seconds=clock_s("08:59:40"))
    while (now - MIDNIGHT).total_seconds() < LAST_S:
        for order_id, verdict in answers.popleft():
            day.crowd.answered(order_id, verdict, now)
        day.pool.judge(now)
        events = day.crowd.step(now, views.popleft())
        told = [(event.order_id, day.pool.apply(event, now)) for event in events]
        answers.append([(of, word) for of, word in told if word is not None and not lost(of)])
        views.append(day.pool.view())
        day.sent += [(now, event) for event in events]
        day.steps.append(len(events))
        day.balances.append((now, day.pool.balance_fen / day.pool.limit_fen))
        now += step
    return day


@cache
def quiet_day(name: PoolName) -> Day:
    """One day as it usually goes, for tests that only look at what was sent."""
    return play(name, 4)

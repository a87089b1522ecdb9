"""Everybody who trades through one pool: sends orders so that the plot of the day comes true.

Pure: ``step(now, view)`` returns the events to send. It steers by what the pool shows (the
balance and status of decisions and of the status topic), because other orders than ours may
be about, answers may be late and chance is chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from feeds.exchange import Exchange
from feeds.scenario import HKD_CNY, LIMITS_YUAN, Act, act_at, activity, hours_of, wanted_at
from feeds.shares import MEAN_MILLI, Tape, price_text
from quota.clock import iso
from quota.decision import PoolName, Side, Status, Verdict
from quota.events import MARKET_TZ, Event, NewOrder
from quota.money import RATE_ONE, rate_e5, yuan_to_fen

SOURCE = "gateway"

ORDERS_PER_S = 0.125
"""New orders of one pool in a second of the market, at an activity of 1."""

LONGEST_STEP_S = 20.0
"""Who comes later than this has missed the orders of the time before."""

PATIENCE_S = 900.0
"""How long a decision is waited for, in the market's time: 8 s at the usual speed."""

_AHEAD_S = 300.0
_DRIVE_AHEAD_S = 45.0
_STAYS = 0.7
_LEAST_SHARE = 0.1
_MOST_SCALE = 20.0
_LARGEST = 0.03
_WHILE_REFUSED = 0.7
_WHILE_SUSPENDED = 0.6
_TRUST = 0.15
_PULLS = 8
_SWELL = 0.03
_TIDE_S = 2_700.0


@dataclass(frozen=True, slots=True)
class PoolView:
    """What a pool shows of itself; None where it has not said so yet."""

    balance_fen: int | None = None
    limit_fen: int | None = None
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """One pool's day. ``unanswered`` orders never got a decision, or only after the end."""

    orders: int
    accepted: int
    refused: dict[Verdict, int]
    unanswered: int
    fills: int
    busts: int
    cancels: int
    rejects: int


@dataclass(frozen=True, slots=True)
class _Lean:
    """How orders lean now: the share of buys, and how much larger each side's orders are."""

    buys: float
    buy_scale: float
    sell_scale: float


@dataclass(slots=True)
class _Answers:
    """What our orders were told."""

    orders: int = 0
    accepted: int = 0
    refused: dict[Verdict, int] = field(default_factory=dict)


class Crowd:
    """The orders of one pool's day, drawn from a seed: the same answers bring the same day."""

    def __init__(self, pool: PoolName, seed: int) -> None:
        chance = Random(f"{pool}:{seed}")  # noqa: S311 - a market, not a secret
        self._pool = pool
        self._seed = seed
        self._chance = chance
        self._hours = hours_of(pool)
        self._rate = RATE_ONE if pool.northbound else rate_e5(HKD_CNY)
        self._tape = Tape(pool, chance)
        self._tide = chance.random()
        self._exchange = Exchange(pool, chance)
        self._answers = _Answers()
        self._asked: dict[str, tuple[NewOrder, float]] = {}
        self._asked_fen = 0.0
        self._shown: frozenset[Status] = frozenset()
        self._view = PoolView()
        self._astray_fen = 0.0
        self._last_s: float | None = None
        self._owed = 0.0
        self._began = ""

    def answered(self, order_id: str, verdict: Verdict, now: datetime) -> None:
        """Take a decision: only what was accepted goes to the exchange."""
        order, _ = self._asked.pop(order_id, (None, 0.0))
        if order is None:
            return
        self._asked_fen -= self._charge_fen(order)
        if verdict is Verdict.ACCEPTED:
            self._answers.accepted += 1
            self._exchange.accept(order, _seconds(now))
        else:
            self._answers.refused[verdict] = self._answers.refused.get(verdict, 0) + 1

    def step(self, now: datetime, view: PoolView) -> list[Event]:
        """What happens between the last step and now: facts first, then cancels and orders."""
        at_s, time = _seconds(now), iso(now)
        passed_s = min(LONGEST_STEP_S, at_s - self._last_s) if self._last_s is not None else 0.0
        self._last_s = at_s
        self._began = self._began or f"{now:%H%M%S}"
        self._observe(view)
        self._forget(at_s)
        events = self._exchange.due(at_s, time)
        if self._hours.takes_orders(at_s):
            act = act_at(self._pool, at_s, self._shown)
            events += self._pulled(act, at_s, time)
            events += self._orders(act, at_s, passed_s, time)
        return events

    def summary(self) -> PoolSummary:
        """The day so far."""
        answers, told = self._answers, self._exchange.told
        return PoolSummary(
            orders=answers.orders,
            accepted=answers.accepted,
            refused=dict(answers.refused),
            unanswered=answers.orders - answers.accepted - sum(answers.refused.values()),
            fills=told.fills,
            busts=told.busts,
            cancels=told.cancels,
            rejects=told.rejects,
        )

    @property
    def _limit_fen(self) -> int:
        return self._view.limit_fen or yuan_to_fen(LIMITS_YUAN[self._pool])

    @property
    def _balance_fen(self) -> float:
        """The balance as we reckon it: our own account at once, what the pool shows with a delay."""
        return self._limit_fen + self._own_fen + self._astray_fen

    @property
    def _own_fen(self) -> float:
        return self._exchange.balance_milli * self._rate / 1_000_000

    def _observe(self, view: PoolView) -> None:
        """Correct our account by what is shown, slowly: some of our facts are still on their way."""
        self._view = view
        if view.status is not None:
            self._shown |= {view.status}
        if view.balance_fen is not None:
            self._astray_fen += _TRUST * (view.balance_fen - self._balance_fen)

    def _forget(self, at_s: float) -> None:
        """Give up waiting for decisions that never came."""
        while self._asked:
            order, asked_s = next(iter(self._asked.values()))
            if at_s - asked_s < PATIENCE_S:
                break
            del self._asked[order.order_id]
            self._asked_fen -= self._charge_fen(order)

    def _charge_fen(self, order: NewOrder) -> float:
        if order.side is Side.SELL:
            return 0.0
        return order.price_milli * order.quantity * self._rate / 1_000_000

    def _pulled(self, act: Act, at_s: float, time: str) -> list[Event]:
        """Cancel resting buys where the plot wants a higher balance."""
        missing = wanted_at(self._pool, at_s) * self._limit_fen - self._balance_fen
        if not act.pulls or missing <= 0:
            return []
        return self._exchange.pull(missing * 1_000_000 / self._rate, _PULLS, time)

    def _orders(self, act: Act, at_s: float, passed_s: float, time: str) -> list[Event]:
        """Draw the orders of the time that passed: as many as the hour brings, as the plot leans."""
        self._owed += ORDERS_PER_S * activity(self._pool, at_s) * passed_s
        count = int(self._owed + self._chance.random())
        self._owed -= count
        lean = self._lean(act, at_s)
        drawn = (self._order(act, lean, at_s, time) for _ in range(count))
        return [order for order in drawn if order is not None]

    def _lean(self, act: Act, at_s: float) -> _Lean:
        """How to lean so that the balance is where the plot wants it in a while."""
        driving = act.drive is not None and act.drive not in self._shown
        ahead_s = _DRIVE_AHEAD_S if driving else _AHEAD_S
        late = driving and at_s + ahead_s >= act.until
        wanted = act.balance if late else wanted_at(self._pool, at_s + ahead_s) + self._swell(at_s)
        asked_fen = 0.0 if driving else self._asked_fen  # a drive that overshoots still arrives
        needed_fen = self._balance_fen - asked_fen - wanted * self._limit_fen
        mean_fen = MEAN_MILLI * self._rate / 1_000_000
        usual_fen = ORDERS_PER_S * activity(self._pool, at_s) * ahead_s * mean_fen * _STAYS
        push = needed_fen / usual_fen
        buys = min(1 - _LEAST_SHARE, max(_LEAST_SHARE, 0.5 + push / 2))
        if self._view.status is Status.SUSPENDED:
            buys = _WHILE_SUSPENDED  # who is refused for a while keeps trying
        sells_trade = at_s >= self._hours.matches  # before, larger sells would help nobody
        return _Lean(buys, _scale(push), _scale(-push) if sells_trade else 1.0)

    def _swell(self, at_s: float) -> float:
        """Tides around the plot, so that a pool breathes: a share of the limit, none before it trades."""
        if at_s < self._hours.starts:
            return 0.0
        return _SWELL * math.sin(math.tau * (at_s / _TIDE_S + self._tide))

    def _order(self, act: Act, lean: _Lean, at_s: float, time: str) -> NewOrder | None:
        """One order; None where a buy is not even tried, as the pool refuses them."""
        buying = self._chance.random() < lean.buys
        scale = lean.buy_scale if buying else lean.sell_scale
        if buying and self._view.status not in {None, Status.OPEN}:
            if self._chance.random() >= _WHILE_REFUSED:
                return None
            scale = 1.0
        order = self._drawn(at_s, time, scale, buying=buying)
        if buying and self._balance_fen - self._asked_fen - self._charge_fen(order) < self._floor_fen(act):
            order = self._drawn(at_s, time, lean.sell_scale, buying=False)
        self._answers.orders += 1
        self._asked[order.order_id] = (order, at_s)
        self._asked_fen += self._charge_fen(order)
        return order

    def _floor_fen(self, act: Act) -> float:
        """Below this no buy is sent; while buys are refused for good they may be seen to be.

        Where cancels are about to reopen the pool, one on its way would close it again.
        """
        refused = self._view.status in {Status.SUSPENDED, Status.EXHAUSTED} and not act.pulls
        return -math.inf if refused else act.floor * self._limit_fen

    def _drawn(self, at_s: float, time: str, scale: float, *, buying: bool) -> NewOrder:
        most_milli = _LARGEST * self._limit_fen * 1_000_000 / self._rate
        quote = self._tape.quote(at_s, buying=buying, scale=scale, most_milli=most_milli)
        return NewOrder(
            order_id=f"s{self._seed}-{self._began}-{self._answers.orders + 1:06d}",
            side=Side.BUY if buying else Side.SELL,
            price=price_text(quote.price_milli),
            quantity=quote.quantity,
            symbol=quote.symbol,
            time=time,
            source=SOURCE,
        )


def _scale(push: float) -> float:
    """Larger orders where leaning alone is not enough."""
    return min(_MOST_SCALE, max(1.0, push / (1 - 2 * _LEAST_SHARE)))


def _seconds(now: datetime) -> float:
    """Seconds since midnight in the market's time."""
    at = now.astimezone(MARKET_TZ)
    return at.hour * 3600 + at.minute * 60 + at.second + at.microsecond / 1e6

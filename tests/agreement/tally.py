"""What a pool must come to, reckoned straight from the market rules, with nothing of quota/rules.py.

Whole fen at a rate of one. A buy gets in while something is left; what was accepted is charged until it
trades, is cancelled or is given back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

from quota.decision import Side, Verdict
from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected
from tests.agreement.steps import Asked, Call, Later, Returned, Told


class Line(NamedTuple):
    """One order, as it is known."""

    content: tuple[str, int, int] | None = None
    verdict: Verdict | None = None
    side: str = ""
    traded: int = 0
    value: int = 0
    off: bool = False
    reserved: bool = False
    held: bool = False
    spent: bool = False

    @property
    def charge(self) -> int:
        """What it takes from the balance: less than nothing for what was sold."""
        if self.side == Side.SELL:
            return -self.value
        if self.content is None or self.spent or self.off:
            return self.value
        in_book = self.verdict is Verdict.ACCEPTED or self.traded > 0
        _, price, quantity = self.content
        return self.value + (max(0, quantity - self.traded) * price if in_book else 0)


@dataclass(frozen=True, slots=True)
class Tally:
    """A pool in one phase. ``shut`` is what refuses there with nothing left, ``sticky`` whether it lasts."""

    limit: int
    shut: Verdict
    sticky: bool
    closed: bool = False
    lines: dict[str, Line] = field(default_factory=dict)

    @property
    def balance(self) -> int:
        """What is left."""
        return self.limit - sum(line.charge for line in self.lines.values())

    def after(self, step: Call | Later) -> tuple[Tally, Verdict | None]:
        """Take a step; tell what it must be answered, if it asks for a decision."""
        match step:
            case Told((event,)):
                return self._told(event)
            case Asked(order, hold_ms):
                return self._asked(order, held=bool(hold_ms))
            case Returned(order_id):
                return self._returned(order_id), None
            case Later():
                return self._without_holds(), None
            case _:
                return self._judged(self.lines), None

    def _asked(self, order: NewOrder, *, held: bool) -> tuple[Tally, Verdict]:
        line = self.lines.get(order.order_id, Line())
        if line.verdict is not None or line.spent:
            known = line.content == content(order) and not line.spent
            return self, (line.verdict or Verdict.ID_REUSED) if known else Verdict.ID_REUSED
        verdict = self._verdict(line, order)
        mine = verdict is Verdict.ACCEPTED and order.side is Side.BUY and not line.traded and not line.off
        line = line._replace(
            content=content(order), verdict=verdict, side=order.side, reserved=mine, held=held and mine
        )
        return self._with(order.order_id, line), verdict

    def _verdict(self, line: Line, order: NewOrder) -> Verdict:
        if order.side is Side.SELL or line.traded:
            return Verdict.ACCEPTED
        return self.shut if self.closed else Verdict.ACCEPTED

    def _told(self, event: Event) -> tuple[Tally, Verdict | None]:
        line = self.lines.get(event.order_id, Line())
        match event:
            case NewOrder():
                return self._arrived(line, event)
            case Cancelled() | Rejected():
                return self._with(event.order_id, line._replace(off=True, reserved=False, held=False)), None
            case Fill() | Bust():
                value = event.price_milli // 10 * event.quantity
                traded = line._replace(side=event.side, reserved=False, held=False, spent=False)
                if isinstance(event, Bust):  # each script busts what it has filled
                    return self._with(event.order_id, traded._replace(value=line.value - value)), None
                traded = traded._replace(traded=line.traded + event.quantity, value=line.value + value)
                return self._with(event.order_id, traded), None
            case _:
                assert_never(event)

    def _arrived(self, line: Line, order: NewOrder) -> tuple[Tally, Verdict]:
        if line.spent and (line.verdict is None or line.content == content(order)):
            sent = Line(content(order), Verdict.ACCEPTED, order.side, off=line.off)
            return self._with(order.order_id, sent), Verdict.ACCEPTED
        here, verdict = self._asked(order, held=False)
        line = here.lines[order.order_id]
        if verdict is line.verdict and line.content == content(order):
            return here._with(order.order_id, line._replace(reserved=False, held=False)), verdict
        return here, verdict

    def _returned(self, order_id: str) -> Tally:
        line = self.lines.get(order_id, Line())
        if line.reserved or (line.verdict is None and not line.traded and not line.off):
            line = line._replace(reserved=False, held=False, spent=True)
        return self._with(order_id, line)

    def _without_holds(self) -> Tally:
        ended = {
            name: line._replace(reserved=False, held=False, spent=True)
            for name, line in self.lines.items()
            if line.held
        }
        return self._judged(self.lines | ended)

    def _with(self, order_id: str, line: Line) -> Tally:
        return self._judged(self.lines | {order_id: line})

    def _judged(self, lines: dict[str, Line]) -> Tally:
        after = Tally(self.limit, self.shut, self.sticky, self.closed, lines)
        closed = after.balance <= 0 or (self.closed and self.sticky)
        return Tally(self.limit, self.shut, self.sticky, closed, lines)


def content(order: NewOrder) -> tuple[str, int, int]:
    """What an id stands for: its side, its price in fen, its quantity."""
    return order.side, order.price_milli // 10, order.quantity

"""What the orders of a journal take from their pool: the arithmetic of the contract, and no more.

It shares nothing with the rules that decided but the words and the rounding, so that a mistake of
theirs does not hide here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from quota.decision import Side, Verdict, Violation
from quota.events import Bust, Event, Fill, NewOrder
from quota.journal import End, Entry, hold_ms_of
from quota.money import fen_down, fen_up
from quota.proof.flaws import Complaint, Flaw

_DEAD = frozenset({Violation.EXEC_REUSED, Violation.SIDE_CONFLICT, Violation.OUT_OF_RANGE})
"""With one of these an entry only tells that something could not be applied."""


class Ruling(msgspec.Struct, frozen=True):
    """A verdict in the journal, and the balance after it.

    ``was_published`` says that it came over MQTT: its line is not marked as that of a reservation.
    """

    seq: int
    order: NewOrder
    verdict: Verdict
    balance_fen: int
    was_published: bool


@dataclass(slots=True)
class Trace:
    """One order, as far as the journal was read.

    ``ruling`` is its latest verdict, ``first_seq`` the number of its first one, ``seen`` the first
    number that names it. ``heard``: something was heard of it besides its reservation. ``spells``
    are the numbers from and until which its id was spent.
    """

    seen: int
    side: Side | None = None
    ruling: Ruling | None = None
    first_seq: int = 0
    filled: int = 0
    value_milli: int = 0
    off_book: bool = False
    spent: bool = False
    heard: bool = False
    spells: list[list[int]] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        """Whether its latest verdict is a yes."""
        return self.ruling is not None and self.ruling.verdict is Verdict.ACCEPTED

    @property
    def reserved(self) -> bool:
        """Whether it can be a reservation still: an accepted buy, and nothing else known of it."""
        return self.accepted and self.side is Side.BUY and not self.heard and not self.spent

    @property
    def unheard(self) -> bool:
        """Whether nothing is known of it but its id."""
        return self.ruling is None and not (self.filled or self.off_book or self.spent)

    @property
    def open_milli(self) -> int:
        """What still rests in the book."""
        if self.ruling is None or self.off_book or self.spent or not (self.accepted or self.filled):
            return 0
        return max(0, self.ruling.order.quantity - self.filled) * self.ruling.order.price_milli

    def used_fen(self, rate: int) -> int:
        """What it takes from the pool; negative where it brings something."""
        if self.side is Side.SELL:
            return -fen_down(self.value_milli, rate)
        return fen_up(self.open_milli + self.value_milli, rate)

    def bars(self, seq: int, side: Side, price_milli: int, quantity: int) -> bool:
        """Whether its id was not to be had for such an order after the entry of that number."""
        if any(begins <= seq < ends for begins, ends in self.spells):
            return True
        if self.ruling is not None and self.first_seq <= seq:
            order = self.ruling.order
            return (order.side, order.price_milli, order.quantity) != (side, price_milli, quantity)
        return self.seen <= seq and self.side not in {None, side}


@dataclass(slots=True)
class Traces:
    """All orders of a journal. ``rulings`` finds the verdicts by their number."""

    rate_e5: int
    orders: dict[str, Trace] = field(default_factory=dict)
    rulings: dict[int, Ruling] = field(default_factory=dict)
    _executions: set[str] = field(default_factory=set)

    def of(self, said: Event | End, seq: int) -> Trace:
        """Find an order, or begin its trace."""
        if (trace := self.orders.get(said.order_id)) is None:
            trace = self.orders[said.order_id] = Trace(seq)
        return trace

    def take(self, entry: Entry, said: Event | End, trace: Trace) -> Iterator[Complaint]:
        """Take a line in; yields what cannot be."""
        match said:
            case NewOrder():
                yield from self._ruled(entry, said, trace)
            case End():
                yield from _ended(entry, said, trace)
            case _ if not _DEAD.isdisjoint(entry.violations):
                return
            case Fill() | Bust():
                self._traded(entry, said, trace)
            case _:
                trace.off_book = trace.heard = True

    def _ruled(self, entry: Entry, order: NewOrder, trace: Trace) -> Iterator[Complaint]:
        if entry.verdict is None:
            if Violation.OUT_OF_RANGE not in entry.violations:
                yield Complaint(Flaw.NO_VERDICT, entry.seq, order.order_id, "was asked for")
            return
        if trace.ruling is not None and not trace.spent:
            what = f"is {entry.verdict}, and was {trace.ruling.verdict} under seq {trace.ruling.seq}"
            yield Complaint(Flaw.TWO_VERDICTS, entry.seq, order.order_id, what)
        trace.heard = trace.heard or trace.spent
        _revive(trace, entry.seq)
        trace.side = order.side
        was_published = hold_ms_of(entry.event) is None
        trace.ruling = Ruling(entry.seq, order, entry.verdict, entry.balance_fen, was_published)
        trace.first_seq = trace.first_seq or entry.seq
        self.rulings[entry.seq] = trace.ruling

    def _traded(self, entry: Entry, trade: Fill | Bust, trace: Trace) -> None:
        _revive(trace, entry.seq)
        trace.side, trace.heard = trade.side, True
        value = trade.price_milli * trade.quantity
        if trade.exec_id in self._executions:
            trace.value_milli -= value
            return
        self._executions.add(trade.exec_id)
        trace.filled += trade.quantity
        trace.value_milli += value if isinstance(trade, Fill) else 0


def _revive(trace: Trace, seq: int) -> None:
    if trace.spent:
        trace.spent = False
        trace.spells[-1][1] = seq


def _ended(entry: Entry, end: End, trace: Trace) -> Iterator[Complaint]:
    """Let a reservation end; only a release may be of an id of which nothing is known."""
    if not trace.reserved and not (end.how == "released" and trace.unheard):
        yield Complaint(Flaw.NO_RESERVATION, entry.seq, end.order_id, f"was {end.how}, and had none to end")
        return
    if end.how == "confirmed":
        trace.heard = True
    elif Violation.OUT_OF_RANGE not in entry.violations:
        trace.spent = True
        trace.spells.append([entry.seq, 1 << 62])

"""Walks a journal again, entry by entry, and says where its pool was not fair. Pure, in linear time.

It needs the journal alone: an entry has the balance, the phase and the status after it, so who
should have got in next follows from those that came before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from quota.decision import Admission, Phase, Side, Status, Verdict
from quota.events import NewOrder
from quota.journal import Entry, read_line
from quota.money import RATE_ONE, fen_up, rate_e5
from quota.pool import Pool
from quota.proof.flaws import Complaint, Flaw
from quota.proof.traces import Trace, Traces

_TRADING = frozenset({Phase.CONTINUOUS, Phase.BREAK, Phase.CLOSING})
_SHUT = frozenset({Phase.CLOSED, Phase.BREAK})
_NAMES = {
    Verdict.ACCEPTED: Flaw.ACCEPTED_SHUT,
    Verdict.EXHAUSTED: Flaw.NOT_EXHAUSTED,
    Verdict.SUSPENDED: Flaw.NOT_SUSPENDED,
    Verdict.HALTED: Flaw.NOT_HALTED,
    Verdict.CLOSED: Flaw.NOT_CLOSED,
    Verdict.INSUFFICIENT: Flaw.NOT_TOO_LARGE,
    Verdict.ID_REUSED: Flaw.NO_VERDICT,
}
"""What is wrong where this verdict was given and another was due."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal does not say of its day: how the opening suspends, whether buys must fit, the rate."""

    resumes_in_opening: bool = True
    must_fit: bool = False
    rate_e5: int = RATE_ONE

    @classmethod
    def of(cls, pool: Pool) -> Terms:
        """Take them from the pool's record."""
        return cls(
            resumes_in_opening=pool.resumes_in_opening,
            must_fit=pool.admission is Admission.MUST_FIT,
            rate_e5=rate_e5(pool.rate),
        )


@dataclass(slots=True)
class Gate:
    """What keeps buys out, as far as the journal was read.

    ``closed`` is before trading or after it, and the journal may not say which: where that decides
    whether an empty pool is exhausted, there is ``doubt``.
    """

    resumes_in_opening: bool
    exhausted: bool = False
    suspended: bool = False
    halted: bool = False
    doubt: bool = False
    _opened: bool = False
    _began: bool = False

    def judge(self, phase: Phase, *, empty: bool) -> None:
        """Judge the balance by the phase."""
        self._opened = self._opened or phase is Phase.OPENING
        begins = not self._began and (phase in _TRADING or (phase is Phase.CLOSED and self._opened))
        self._began = self._began or begins
        self.doubt = phase is Phase.CLOSED and not self._began and (self.doubt or empty)
        if phase in _TRADING or begins:
            self.exhausted = self.exhausted or empty
            self.suspended = False
        elif phase is Phase.OPENING:
            self.suspended = empty or (self.suspended and not self.resumes_in_opening)

    def status(self, phase: Phase) -> Status:
        """The status that is due."""
        if self.halted:
            return Status.HALTED
        if self.exhausted:
            return Status.EXHAUSTED
        if phase is Phase.CLOSED:
            return Status.CLOSED
        return Status.SUSPENDED if self.suspended else Status.OPEN

    def refusal(self, phase: Phase) -> Verdict | None:
        """What a buy would get; None where it would get in."""
        if self.halted:
            return Verdict.HALTED
        if self.exhausted:
            return Verdict.EXHAUSTED
        if phase in _SHUT:
            return Verdict.CLOSED
        return Verdict.SUSPENDED if self.suspended else None

    def believe(self, entry: Entry) -> None:
        """Go by an entry's word from here on, so that one flaw is told once."""
        if entry.status is not Status.HALTED:
            self.halted, self.exhausted = False, entry.status is Status.EXHAUSTED


@dataclass(slots=True)
class Retrace:
    """The day as its journal tells it so far.

    ``balances`` has the balance after each number, ``last_at`` the last number with each balance,
    ``emptied`` the first with nothing left. ``unheard_halts`` counts the stretches that were halted
    without an act: the day began so, or the store changed.
    """

    terms: Terms
    seq: int = 0
    balance_fen: int | None = None
    balances: dict[int, int] = field(default_factory=dict)
    last_at: dict[int, int] = field(default_factory=dict)
    emptied: int | None = None
    unheard_halts: int = 0
    traces: Traces = field(init=False)
    gate: Gate = field(init=False)
    _unheard: bool = False

    def __post_init__(self) -> None:
        self.traces = Traces(self.terms.rate_e5)
        self.gate = Gate(self.terms.resumes_in_opening)

    def take(self, entry: Entry) -> Iterator[Complaint]:
        """Take the next entry in; yields what is wrong with it. After a gap it is taken at its word."""
        follows = entry.seq == self.seq + 1
        if not follows:
            yield Complaint(Flaw.MISSING, self.seq + 1, "", f"is not in the journal: {entry.seq} comes next")
        self._look_for_halt(entry)
        self.gate.judge(entry.phase, empty=self._empty)
        found = [*(self._act(entry) if entry.is_act else self._line(entry))]
        self._turn(entry)
        found += self._status(entry)
        yield from found if follows else ()
        self.gate.believe(entry)

    @property
    def _empty(self) -> bool:
        return self.balance_fen is not None and self.balance_fen <= 0

    def _look_for_halt(self, entry: Entry) -> None:
        """Notice a halt that no act began."""
        halted = entry.event == "halt" or (self.gate.halted and entry.event != "resume")
        unheard = entry.status is Status.HALTED and not halted
        self.unheard_halts += unheard and not self._unheard
        self._unheard = unheard

    def _turn(self, entry: Entry) -> None:
        self.seq, self.balance_fen = entry.seq, entry.balance_fen
        self.balances[entry.seq], self.last_at[entry.balance_fen] = entry.balance_fen, entry.seq
        if self.emptied is None and self._empty:
            self.emptied = entry.seq
        self.gate.judge(entry.phase, empty=self._empty)
        if entry.event == "limit" and entry.reopen and not self._empty:
            self.gate.exhausted = False

    def _status(self, entry: Entry) -> Iterator[Complaint]:
        due, found = self.gate.status(entry.phase), entry.status
        doubtful = self.gate.doubt and found in {Status.EXHAUSTED, Status.CLOSED}
        if found is not due and not doubtful and not self._unheard:
            yield Complaint(Flaw.STATUS, entry.seq, "", f"is {found}, the entries so far make it {due}")

    def _act(self, entry: Entry) -> Iterator[Complaint]:
        yield from self._balance(entry, entry.was_fen - entry.limit_fen)
        if entry.event != "limit":
            self.gate.halted = entry.event == "halt"

    def _line(self, entry: Entry) -> Iterator[Complaint]:
        said, rate = read_line(entry.event), self.terms.rate_e5
        trace = self.traces.of(said, entry.seq)
        used_fen = trace.used_fen(rate)
        if isinstance(said, NewOrder) and entry.verdict is not None:
            yield from self._verdict(entry, said, trace, entry.verdict)
        yield from self.traces.take(entry, said, trace)
        yield from self._balance(entry, trace.used_fen(rate) - used_fen)

    def _balance(self, entry: Entry, used_fen: int) -> Iterator[Complaint]:
        if self.balance_fen is not None and entry.balance_fen != self.balance_fen - used_fen:
            what = f"is {entry.balance_fen}, the entries so far make it {self.balance_fen - used_fen}"
            yield Complaint(Flaw.BALANCE, entry.seq, "", what)

    def _verdict(self, entry: Entry, order: NewOrder, trace: Trace, verdict: Verdict) -> Iterator[Complaint]:
        if self.gate.doubt and verdict is Verdict.EXHAUSTED:
            return
        if verdict is not (due := self._due(entry, order, trace)):
            what = f"got {verdict} where {due} was due, with a balance of {self.balance_fen}"
            yield Complaint(_NAMES[verdict], entry.seq, order.order_id, what)

    def _due(self, entry: Entry, order: NewOrder, trace: Trace) -> Verdict:
        """The verdict that is due. A sell, and what was sent or traded already, gets in always."""
        if order.side is Side.SELL or trace.filled or trace.spent:
            return Verdict.ACCEPTED
        if self._unheard:
            return Verdict.HALTED
        if (refusal := self.gate.refusal(entry.phase)) is not None:
            return refusal
        open_milli = 0 if trace.off_book else order.price_milli * order.quantity
        charge_fen = fen_up(open_milli, self.terms.rate_e5)
        if self.terms.must_fit and charge_fen > self._found_fen(entry, charge_fen):
            return Verdict.INSUFFICIENT
        return Verdict.ACCEPTED

    def _found_fen(self, entry: Entry, charge_fen: int) -> int:
        """The balance that a buy found; before the first entry, the one that its own entry tells of."""
        if self.balance_fen is not None:
            return self.balance_fen
        return entry.balance_fen + (charge_fen if entry.verdict is Verdict.ACCEPTED else 0)

"""Holds what gateways were answered against the journal: who came first was served first.

A history has a line of JSON for each call of a gateway; docs/history.md tells which. Linear in
time but for one sort: the journal is walked once, then the calls. Pure but for reading files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from quota.decision import PoolName, Side, Verdict
from quota.errors import ConfigError
from quota.gate.answers import Result
from quota.journal import Entry
from quota.money import price_milli
from quota.proof.flaws import Complaint, Flaw
from quota.proof.retrace import Retrace, Terms
from quota.proof.traces import Ruling

_NEVER = 1 << 62
"""Later than anything: the end of a call that was not answered."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One reservation that a gateway asked for, and what it heard.

    The moments are nanoseconds of a monotonic clock; ``clock`` names it, and only moments of one
    clock are compared. ``answered_ns`` is None, or when the gateway gave up, where the outcome is
    unknown. ``local``: the client answered by itself.
    """

    pool: PoolName
    order_id: str
    side: Side
    price: str
    quantity: int
    clock: str
    called_ns: int
    answered_ns: int | None
    outcome: Result
    verdict: Verdict | None = None
    seq: int | None = None
    balance_fen: int | None = None
    replayed: bool = False
    local: bool = False

    def __post_init__(self) -> None:
        price_milli(self.price)

    @property
    def ended_ns(self) -> int:
        """When it was over: a call that got no answer may still take effect."""
        return _NEVER if self.answered_ns is None or self.outcome is Result.UNKNOWN else self.answered_ns

    @property
    def contradiction(self) -> str:
        """Tell how a line contradicts itself; empty where it does not."""
        known = (self.verdict, self.answered_ns)
        if self.outcome is Result.UNKNOWN:
            return "is unknown, and has an answer" if (self.verdict, self.seq) != (None, None) else ""
        if None in known or (self.outcome is Result.ACCEPTED) != (self.verdict is Verdict.ACCEPTED):
            return f"is {self.outcome} with verdict {self.verdict}, answered at {self.answered_ns}"
        if self.answered_ns is not None and self.answered_ns < self.called_ns:
            return "was answered before it was called"
        if (self.seq is None) != (self.balance_fen is None):
            return "has a seq or a balance alone"
        if self.seq is not None and (self.local or self.seq < (self.verdict is not Verdict.ID_REUSED)):
            return f"cannot have seq {self.seq}"
        return ""


_DECODER = msgspec.json.Decoder(Call)


def read_history(path: Path) -> Iterator[Call]:
    """Read a file; a last line without its line feed was being written, and does not count.

    Raises ConfigError naming the line that is none.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield _call(line, f"{path}:{number}")
    except OSError as error:
        raise ConfigError(f"history {path}: {error.strerror}") from None


def _call(line: bytes, place: str) -> Call:
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"history {place}: {error}") from None


@dataclass(slots=True)
class Span:
    """When something must have happened, by one clock: not before, and not after."""

    not_before: int = -_NEVER
    not_after: int = _NEVER


@dataclass(slots=True)
class Timeline:
    """One clock's knowledge of when each number was given.

    Number n stands at place 2n. What was seen after it and before the next stands at 2n + 1, and
    what was seen before the day opened at -1.
    """

    spans: dict[int, Span] = field(default_factory=dict)

    def know(self, place: int, *, not_before: int = -_NEVER, not_after: int = _NEVER) -> None:
        """Take in that what stands at a place happened within these moments."""
        span = self.spans.get(place)
        if span is None:
            span = self.spans[place] = Span()
        span.not_before = max(span.not_before, not_before)
        span.not_after = min(span.not_after, not_after)

    def complaints(self) -> Iterator[Complaint]:
        """Walk up the places: nothing may have ended before something below it began.

        A number may not be known before it was asked for either; what stands at an odd place are
        several sights, each for itself.
        """
        latest, below = -_NEVER, 0
        for place in sorted(self.spans):
            span = self.spans[place]
            own = not place % 2 and span.not_before > latest
            begun, begun_at = (span.not_before, place) if own else (latest, below)
            if span.not_after < begun:
                what = f"was seen {begun - span.not_after} ns before seq {begun_at // 2} was asked for"
                yield Complaint(Flaw.REAL_TIME, max(0, place // 2), "", what)
            if span.not_before > latest:
                latest, below = span.not_before, place


@dataclass(slots=True)
class Histories:
    """Takes the calls on a pool whose journal was walked to its end."""

    journal: Retrace
    timelines: dict[str, Timeline] = field(default_factory=dict)
    _firsts: set[int] = field(default_factory=set)
    _asked: dict[str, tuple[str, int]] = field(default_factory=dict)

    def take(self, call: Call) -> Iterator[Complaint]:
        """Take a call in; yields what the journal does not bear out."""
        if contradiction := call.contradiction:
            yield Complaint(Flaw.CONTRADICTION, call.seq, call.order_id, contradiction)
            return
        self._ask(call)
        if call.outcome is Result.UNKNOWN:
            return
        if call.seq is None:
            yield from self._without_number(call)
        elif call.verdict is Verdict.ID_REUSED:
            yield from self._reused(call, call.seq)
        else:
            yield from self._ruled(call, call.seq)

    def end(self) -> Iterator[Complaint]:
        """Compare the moments, once all calls were taken."""
        orders, rulings = self.journal.traces.orders, self.journal.traces.rulings
        for order_id, (clock, called_ns) in self._asked.items():
            first_seq = orders[order_id].first_seq
            if clock and not rulings[first_seq].was_published:
                self._timeline(clock).know(2 * first_seq, not_before=called_ns)
        for timeline in self.timelines.values():
            yield from timeline.complaints()

    def _timeline(self, clock: str) -> Timeline:
        if (timeline := self.timelines.get(clock)) is None:
            timeline = self.timelines[clock] = Timeline()
        return timeline

    def _ask(self, call: Call) -> None:
        """Remember when an order was first asked for; of one asked for by two clocks nothing is known."""
        trace = self.journal.traces.orders.get(call.order_id)
        if call.local or trace is None or trace.ruling is None or not _is_of(call, trace.ruling):
            return
        clock, called_ns = self._asked.get(call.order_id, (call.clock, call.called_ns))
        same = clock == call.clock
        self._asked[call.order_id] = (clock if same else "", min(called_ns, call.called_ns))

    def _without_number(self, call: Call) -> Iterator[Complaint]:
        """Check an answer of the client's own, or of a store in which no day was open."""
        emptied, timeline = self.journal.emptied, self._timeline(call.clock)
        if call.local and (call.verdict, call.side) != (Verdict.EXHAUSTED, Side.BUY):
            yield Complaint(Flaw.CONTRADICTION, None, call.order_id, f"is local with verdict {call.verdict}")
        elif call.local and emptied is None:
            what = "was refused by its client, and the pool was never empty"
            yield Complaint(Flaw.NOT_EXHAUSTED, None, call.order_id, what)
        elif call.local and emptied is not None:
            timeline.know(2 * emptied + 1, not_after=call.ended_ns)
        elif call.verdict is not (Verdict.ACCEPTED if call.side is Side.SELL else Verdict.CLOSED):
            yield Complaint(Flaw.NO_ENTRY, None, call.order_id, f"was answered {call.verdict} without a seq")
        else:
            timeline.know(-1, not_before=call.called_ns, not_after=call.ended_ns)

    def _ruled(self, call: Call, seq: int) -> Iterator[Complaint]:
        """Check an answer that stands in the journal, the first or a replay."""
        ruling = self.journal.traces.rulings.get(seq)
        found = _unlike(call, ruling) or self._another_balance(call, seq)
        if found is None and not call.replayed and seq in self._firsts:
            found = Flaw.TWO_FIRSTS, "was given as the first answer before"
        if found is not None:
            yield Complaint(found[0], seq, call.order_id, found[1])
            return
        not_before = -_NEVER
        if not call.replayed:
            self._firsts.add(seq)
            not_before = call.called_ns
        self._timeline(call.clock).know(2 * seq, not_before=not_before, not_after=call.ended_ns)

    def _another_balance(self, call: Call, seq: int) -> tuple[Flaw, str] | None:
        """A replay tells the balance of its own moment, all others that after their entry."""
        said, then = call.balance_fen, self.journal.balances[seq]
        right = said is not None and (
            self.journal.last_at.get(said, -1) >= seq if call.replayed else said == then
        )
        return None if right else (Flaw.ANOTHER_BALANCE, f"was told {said}, the journal has {then}")

    def _reused(self, call: Call, seq: int) -> Iterator[Complaint]:
        """Check that an id was taken when the entry of that number was the last."""
        trace = self.journal.traces.orders.get(call.order_id)
        if seq and seq not in self.journal.balances:
            yield Complaint(
                Flaw.NO_ENTRY, seq, call.order_id, "was told so, and the journal does not reach it"
            )
        elif seq and (found := self._another_balance(call, seq)):
            yield Complaint(found[0], seq, call.order_id, found[1])
        elif trace is None or not trace.bars(seq, call.side, price_milli(call.price), call.quantity):
            yield Complaint(Flaw.NOT_REUSED, seq, call.order_id, "was free, or the same order")
        else:
            timeline = self._timeline(call.clock)
            timeline.know(2 * seq + 1, not_before=call.called_ns, not_after=call.ended_ns)


def _is_of(call: Call, ruling: Ruling) -> bool:
    order = ruling.order
    asked = (call.order_id, call.side, price_milli(call.price), call.quantity)
    return asked == (order.order_id, order.side, order.price_milli, order.quantity)


def _unlike(call: Call, ruling: Ruling | None) -> tuple[Flaw, str] | None:
    """Tell how an answer differs from the verdict of its number."""
    if ruling is None:
        return Flaw.NO_ENTRY, f"was answered {call.verdict}, and no verdict of the journal has that number"
    if not _is_of(call, ruling):
        return Flaw.ANOTHER_ORDER, f"was answered by the number of {ruling.order.order_id}"
    if call.verdict is not ruling.verdict:
        return Flaw.ANOTHER_VERDICT, f"was answered {call.verdict}, the journal has {ruling.verdict}"
    return None


def complaints(calls: Iterable[Call], entries: Iterable[Entry], terms: Terms) -> Iterator[Complaint]:
    """Hold the calls on a pool against its journal of the day; yields every flaw."""
    journal = Retrace(terms)
    for entry in entries:
        yield from journal.take(entry)
    yield from answered(calls, journal)


def answered(calls: Iterable[Call], journal: Retrace) -> Iterator[Complaint]:
    """Hold the calls on a pool against its journal, walked to its end; yields every flaw."""
    histories = Histories(journal)
    for call in calls:
        yield from histories.take(call)
    yield from histories.end()

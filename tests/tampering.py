"""Ways to tamper with the answers and the journal of a day, each with the flaw that it must show.

They are of the day that test_history.py tells; numbers and orders are the ones told there.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from quota.decision import Phase, Side, Status, Verdict
from quota.gate.answers import Result
from quota.journal import Entry
from quota.proof.flaws import Flaw
from quota.proof.history import Call

Calls = list[Call]
Entries = list[Entry]
Tampering = Callable[[Calls, Entries], object]
APART_NS = 10_000
"""How far apart the calls of the day are."""


def at(calls: Calls, order_id: str, *, nth: int = 0) -> int:
    return [place for place, call in enumerate(calls) if call.order_id == order_id][nth]


def called(order_id: str, nth: int = 0, /, **fields: object) -> Tampering:
    """Change an answer."""

    def tamper(calls: Calls, _: Entries) -> None:
        place = at(calls, order_id, nth=nth)
        calls[place] = replace(calls[place], **fields)

    return tamper


def entered(seq: int, **fields: object) -> Tampering:
    """Change an entry."""

    def tamper(_: Calls, entries: Entries) -> None:
        entries[seq - 1] = replace(entries[seq - 1], **fields)

    return tamper


def both(order_id: str, seq: int, verdict: Verdict, **fields: object) -> Tampering:
    """Change a verdict in the journal and in the answer alike."""

    def tamper(calls: Calls, entries: Entries) -> None:
        outcome = Result.ACCEPTED if verdict is Verdict.ACCEPTED else Result.REFUSED
        called(order_id, verdict=verdict, outcome=outcome)(calls, entries)
        entered(seq, verdict=verdict, **fields)(calls, entries)

    return tamper


def exchanged(first: str, second: str) -> Tampering:
    """Let two orders of the same content change places, in the journal and in the answers."""

    def tamper(calls: Calls, entries: Entries) -> None:
        places = at(calls, first), at(calls, second)
        ours = [calls[place] for place in places]
        for place, other in zip(places, reversed(ours), strict=True):
            calls[place] = replace(calls[place], seq=other.seq, balance_fen=other.balance_fen)
        events = {call.seq: entries[(call.seq or 0) - 1].event for call in ours}
        for call, other in zip(ours, reversed(ours), strict=True):
            entered(call.seq or 0, event=events[other.seq])(calls, entries)

    return tamper


def shifted(from_seq: int, fen: int) -> Tampering:
    """Let every balance from a number on be another, in the journal and in the answers."""

    def tamper(calls: Calls, entries: Entries) -> None:
        for place, entry in enumerate(entries):
            if entry.seq >= from_seq:
                entries[place] = replace(entry, balance_fen=entry.balance_fen + fen)
        for place, call in enumerate(calls):
            if call.seq and call.balance_fen is not None and call.seq >= from_seq:
                calls[place] = replace(call, balance_fen=call.balance_fen + fen)

    return tamper


def again(_: Calls, entries: Entries) -> None:
    """Journal a second verdict of an id."""
    last = entries[-1]
    entries.append(
        replace(last, seq=last.seq + 1, event=entries[0].event, phase=Phase.BREAK, verdict=Verdict.CLOSED)
    )


def local(**fields: object) -> Tampering:
    """Add an answer that a client gave by itself."""

    def tamper(calls: Calls, _: Entries) -> None:
        calls.append(
            replace(
                calls[at(calls, "b9")],
                order_id="own",
                seq=None,
                balance_fen=None,
                local=True,
                **fields,
            )
        )

    return tamper


def moved(order_id: str, ns: int, nth: int = 0) -> Tampering:
    """Let a call have been made, and answered, at another time."""

    def tamper(calls: Calls, _: Entries) -> None:
        place = at(calls, order_id, nth=nth)
        call = calls[place]
        answered_ns = None if call.answered_ns is None else call.answered_ns + ns
        calls[place] = replace(call, called_ns=call.called_ns + ns, answered_ns=answered_ns)

    return tamper


def several(*tamperings: Tampering) -> Tampering:
    """Do them all."""

    def tamper(calls: Calls, entries: Entries) -> None:
        for each in tamperings:
            each(calls, entries)

    return tamper


LONG_NS = 20 * APART_NS
NO_DAY = {"seq": None, "balance_fen": None, "verdict": Verdict.CLOSED, "outcome": Result.REFUSED}
OPEN = {"status": Status.OPEN}
TAMPERINGS: dict[str, tuple[Flaw, Tampering]] = {
    "a lost entry": (Flaw.MISSING, lambda _, entries: entries.pop(9)),
    "an entry twice": (Flaw.MISSING, lambda _, entries: entries.insert(9, entries[9])),
    "two entries in the wrong order": (Flaw.MISSING, lambda _, entries: entries.insert(4, entries.pop(5))),
    "a charge without an entry": (Flaw.BALANCE, shifted(6, -100)),
    "a charge that is too small": (Flaw.BALANCE, shifted(14, 1)),
    "a limit that was another before": (Flaw.BALANCE, entered(18, was_fen=999)),
    "an order of another size in the journal": (Flaw.BALANCE, entered(19, event="new b10 buy 1.00 2")),
    "a latch that is lost": (Flaw.STATUS, entered(16, **OPEN)),
    "a latch without cause": (Flaw.STATUS, entered(12, status=Status.EXHAUSTED)),
    "a halt that ends by itself": (Flaw.STATUS, entered(8, verdict=Verdict.ACCEPTED, **OPEN)),
    "an accepted buy after the latch": (Flaw.ACCEPTED_SHUT, both("b8", 15, Verdict.ACCEPTED)),
    "an accepted buy though the balance came back": (
        Flaw.ACCEPTED_SHUT,
        both("b9", 17, Verdict.ACCEPTED, **OPEN),
    ),
    "an accepted buy while suspended": (Flaw.ACCEPTED_SHUT, both("b2", 3, Verdict.ACCEPTED)),
    "an accepted buy while halted": (Flaw.ACCEPTED_SHUT, both("b4", 8, Verdict.ACCEPTED)),
    "an accepted buy in the break": (Flaw.ACCEPTED_SHUT, both("b12", 21, Verdict.ACCEPTED)),
    "exhausted while the pool was open": (Flaw.NOT_EXHAUSTED, both("b10", 19, Verdict.EXHAUSTED)),
    "exhausted in the opening phase": (Flaw.NOT_EXHAUSTED, both("b2", 3, Verdict.EXHAUSTED)),
    "suspended in continuous trading": (Flaw.NOT_SUSPENDED, both("b8", 15, Verdict.SUSPENDED)),
    "suspended though the balance came back": (Flaw.NOT_SUSPENDED, both("b3", 5, Verdict.SUSPENDED)),
    "halted before the halt": (Flaw.NOT_HALTED, both("b3", 5, Verdict.HALTED)),
    "closed in an open phase": (Flaw.NOT_CLOSED, both("b10", 19, Verdict.CLOSED)),
    "insufficient where orders need not fit": (Flaw.NOT_TOO_LARGE, both("b10", 19, Verdict.INSUFFICIENT)),
    "a sell that was refused": (Flaw.NOT_EXHAUSTED, both("s0", 6, Verdict.EXHAUSTED)),
    "an order without a verdict": (Flaw.NO_VERDICT, entered(15, verdict=None)),
    "two verdicts of one id": (Flaw.TWO_VERDICTS, again),
    "a lapse of what was confirmed": (Flaw.NO_RESERVATION, entered(16, event="lapsed b5")),
    "a confirmation of a sell": (Flaw.NO_RESERVATION, entered(11, event="confirmed s0")),
    "a release of what was refused": (Flaw.NO_RESERVATION, entered(13, event="released b4")),
    "an accepted order that says refused": (Flaw.CONTRADICTION, called("b0", outcome=Result.REFUSED)),
    "an answer before its call": (Flaw.CONTRADICTION, called("b0", answered_ns=1)),
    "an unknown call with a number": (Flaw.CONTRADICTION, called("b11", seq=20)),
    "a number without a balance": (Flaw.CONTRADICTION, called("b0", balance_fen=None)),
    "a client's own yes": (Flaw.CONTRADICTION, local(verdict=Verdict.ACCEPTED, outcome=Result.ACCEPTED)),
    "an answer that the journal does not reach": (Flaw.NO_ENTRY, lambda _, entries: entries.pop()),
    "an answer with the number of an act": (Flaw.NO_ENTRY, called("b10", seq=18)),
    "a verdict without a number": (
        Flaw.NO_ENTRY,
        called("b8", **(NO_DAY | {"verdict": Verdict.EXHAUSTED})),
    ),
    "an id_reused that the journal does not reach": (Flaw.NO_ENTRY, called("b6", 1, seq=99)),
    "swapped numbers": (Flaw.ANOTHER_ORDER, several(called("b3", seq=10), called("b5", seq=5))),
    "an order of another size": (Flaw.ANOTHER_ORDER, called("b3", quantity=2)),
    "an order of another side": (Flaw.ANOTHER_ORDER, called("s0", side=Side.BUY)),
    "a refusal that the journal has as accepted": (
        Flaw.ANOTHER_VERDICT,
        called("b10", verdict=Verdict.EXHAUSTED, outcome=Result.REFUSED),
    ),
    "another refusal than the journal's": (Flaw.ANOTHER_VERDICT, called("b8", verdict=Verdict.HALTED)),
    "another balance": (Flaw.ANOTHER_BALANCE, called("b3", balance_fen=299)),
    "a replay with a balance that never was": (Flaw.ANOTHER_BALANCE, called("b5", 1, balance_fen=201)),
    "a replay with a balance from before": (Flaw.ANOTHER_BALANCE, called("b5", 1, balance_fen=-100)),
    "an id_reused with another balance": (Flaw.ANOTHER_BALANCE, called("b6", 1, balance_fen=1)),
    "an id_reused of an id that nobody used": (Flaw.NOT_REUSED, called("b5", 2, order_id="x")),
    "an id_reused of the same order": (Flaw.NOT_REUSED, called("b5", 2, quantity=1)),
    "two first answers": (Flaw.TWO_FIRSTS, called("b5", 1, replayed=False)),
    "two orders that changed places": (Flaw.REAL_TIME, exchanged("b3", "b5")),
    "an order that was asked for after the next": (Flaw.REAL_TIME, moved("b3", LONG_NS)),
    "a refusal that came before what caused it": (Flaw.REAL_TIME, moved("b8", -LONG_NS)),
    "a replay before it was first asked for": (Flaw.REAL_TIME, moved("b5", -LONG_NS, nth=1)),
    "an unknown order that stands before its call": (
        Flaw.REAL_TIME,
        several(moved("b11", LONG_NS), moved("b11", 2 * LONG_NS, nth=1)),
    ),
    "an id_reused before the order": (Flaw.REAL_TIME, moved("b5", -LONG_NS, nth=2)),
    "no day after the day was open": (Flaw.REAL_TIME, called("b8", **NO_DAY)),
    "a client's own no before the pool was empty": (Flaw.REAL_TIME, local(called_ns=1, answered_ns=2)),
}

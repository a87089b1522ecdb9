"""What a record says of a day, so that the day can be put back: pure.

Where entries are missing, what was delivered stands in for them: facts apply whatever the order, but
which verdict an order got, and what gateways did, nobody can know any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import assert_never

from msgspec.structs import replace

from quota.accounts import Account, opening_terms
from quota.captured import Captured, Changed, Delivered, Journalled, Opened
from quota.decision import Phase, PoolName, Status
from quota.events import Event, NewOrder
from quota.journal import Entry, line
from quota.pool import Pool
from quota.proof.open_days import Decode, OpenDays
from quota.proof.report import Missing
from quota.proof.retrace import Retrace, Terms


@dataclass(slots=True)
class Told:
    """What the record tells of a pool's day: its last account, and what was delivered."""

    terms: Pool | None = None
    entries: list[Entry] = field(default_factory=list)
    delivered: list[tuple[int, Event]] = field(default_factory=list)
    _stated: bool = False

    def open(self, terms: Pool) -> None:
        """Take the terms in; entry 1 behind them begins another account."""
        self.terms, self._stated = terms, True

    def enter(self, entry: Entry) -> None:
        """Take an entry in; one that is there already is the same."""
        if self._stated and entry.seq == 1:
            self.entries = []
        self._stated = False
        if not self.entries or entry.seq > self.entries[-1].seq:
            self.entries.append(entry)

    def missing(self) -> list[Missing]:
        """List the numbers that are missing between the entries."""
        numbers = [0, *(entry.seq for entry in self.entries)]
        return [Missing(before + 1, after - 1) for before, after in pairwise(numbers) if after > before + 1]


@dataclass(slots=True)
class Days:
    """What a record tells of each pool's days. ``decode`` reads deliveries."""

    decode: Decode
    told: dict[tuple[str, PoolName], Told] = field(default_factory=dict)
    _open: OpenDays = field(default_factory=OpenDays)
    _early: list[tuple[PoolName, int, Event]] = field(default_factory=list)

    def take(self, record: Captured) -> None:
        """Take a record in."""
        self._open.take(record)
        match record:
            case Delivered():
                self._deliver(record)
            case Opened(pool=pool, terms=terms):
                self._of(terms.trading_day, pool).open(terms)
            case Journalled(pool=pool, trading_day=day, entry=entry):
                self._of(day, pool).enter(entry)
            case Changed():
                pass
            case _:
                assert_never(record)

    def _of(self, day: str, pool: PoolName) -> Told:
        return self.told.setdefault((day, pool), Told())

    def _deliver(self, record: Delivered) -> None:
        said = self.decode(record)
        if said is None or said.pool is None:
            return
        for event in said.events:
            if (day := self._open.of(said.pool)) is None:
                self._early.append((said.pool, record.time_ms, event))
            else:
                self._of(day, said.pool).delivered.append((record.time_ms, event))

    def days(self) -> Sequence[str]:
        """List the days of which the terms are known, ascending."""
        return sorted({day for (day, _), told in self.told.items() if told.terms is not None})

    def of(self, day: str) -> dict[PoolName, Told]:
        """Return what is told of a day; what came before any terms belongs to the first."""
        pools = {pool: self.told[day, pool] for pool in PoolName if (day, pool) in self.told}
        if day == next(iter(self.days()), None):
            for pool, told in pools.items():
                early = [(at, event) for name, at, event in self._early if name is pool]
                told.delivered = early + told.delivered
        return pools


@dataclass(frozen=True, slots=True)
class Plan:
    """How a pool's day is put back: these entries in this order, onto these terms.

    The first ``known`` have their number; the others (number 0) take the next one. ``stand_in`` are the
    lines of what was delivered and stands in no entry.
    """

    terms: Pool
    entries: Sequence[Entry]
    known: int
    missing: Sequence[Missing]
    stand_in: frozenset[str]
    last_fen: int | None

    def unknown(self, journal: Sequence[Entry]) -> Iterator[str]:
        """Say what cannot be known of a day that was put back."""
        for gap in self.missing:
            yield f"entries {gap.first} to {gap.last} are missing: what they said cannot be known"
        applied = [entry for entry in journal[self.known :] if entry.event in self.stand_in]
        for entry in applied:
            name, order_id = entry.event.split(" ")[:2]
            if name == "new":
                yield f"order {order_id}: its seq and its verdict cannot be known (here {entry.verdict})"
            else:
                yield f"{name} of {order_id}: its seq cannot be known"


def planned(told: Told) -> Plan | None:
    """Plan how a day is put back; None where its terms are not known."""
    if told.terms is None:
        return None
    missing = told.missing()
    known = missing[0].first - 1 if missing else len(told.entries)
    before, behind = told.entries[:known], told.entries[known:]
    last_ms = before[-1].time_ms if before else 0
    bound_ms = behind[0].time_ms if behind else None
    stand_in = [_unnumbered(event, _between(at, last_ms, bound_ms)) for at, event in _unheard(told)]
    return Plan(
        terms=opening_terms(Account(told.terms, told.entries)),
        entries=[*before, *stand_in, *(replace(entry, seq=0) for entry in behind)],
        known=known,
        missing=missing,
        stand_in=frozenset(entry.event for entry in stand_in),
        last_fen=told.entries[-1].balance_fen if told.entries else None,
    )


def _between(at_ms: int, first_ms: int, last_ms: int | None) -> int:
    return max(first_ms, at_ms if last_ms is None else min(at_ms, last_ms))


def _unheard(told: Told) -> list[tuple[int, Event]]:
    """What was delivered and stands in no entry, each once and in its order."""
    heard = {entry.event.rpartition(" hold_ms=")[0] or entry.event for entry in told.entries}
    decided = {text.split(" ", 2)[1] for text in heard if text.startswith("new ")}
    found: list[tuple[int, Event]] = []
    for at_ms, event in told.delivered:
        text = line(event)
        if text not in heard and not (isinstance(event, NewOrder) and event.order_id in decided):
            found.append((at_ms, event))
            heard.add(text)
    return found


def _unnumbered(event: Event, time_ms: int) -> Entry:
    return Entry(
        seq=0,
        event=line(event),
        verdict=None,
        balance_fen=0,
        status=Status.CLOSED,
        phase=Phase.CLOSED,
        time_ms=time_ms,
    )


def compared(plan: Plan, journal: Iterable[Entry]) -> Iterator[str]:
    """Hold a journal against the entries that have a number; yields what differs.

    Balance, verdict and number have to be the same, and so has the text.
    """
    found = iter(journal)
    for entry in plan.entries[: plan.known]:
        other = next(found, None)
        if other is None:
            yield f"seq {entry.seq}: is not there"
            return
        for name in ("seq", "event", "verdict", "balance_fen"):
            if (was := getattr(entry, name)) != (now := getattr(other, name)):
                yield f"seq {entry.seq}: {name} was {was}, and is {now}"


def retraced(plan: Plan) -> Iterator[str]:
    """Walk the entries again; yields each verdict, balance and status that was not due."""
    journal = Retrace(Terms.of(plan.terms))
    for entry in plan.entries[: plan.known]:
        for complaint in journal.take(entry):
            yield str(complaint)

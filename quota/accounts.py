"""What was written down of a pool's day, as a lost one is rebuilt from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from quota.captured import Captured, Journalled, Opened
from quota.day import BY_STORE
from quota.decision import Outcome, PoolName, Status
from quota.doubt import Claim
from quota.events import Event
from quota.journal import Entry, line
from quota.pool import Pool
from quota.witness import Batch, Known


class Account(msgspec.Struct, frozen=True):
    """What was written down of a pool's day: the pool before its first entry, and its entries from 1 on."""

    terms: Pool
    entries: Sequence[Entry]


class Recorded(Protocol):
    """The record of the day, as it is read. Both raise CaptureUnavailable."""

    async def day(self, trading_day: str, pool: PoolName) -> Account | None:
        """Read the last account of a pool's day; None where there is none."""
        ...

    async def delivered(self, trading_day: str, pool: PoolName) -> Sequence[Event]:
        """Read the events of a pool that came over MQTT on that day, in their order."""
        ...


def account_of(records: Iterable[Captured], trading_day: str, pool: PoolName) -> Account | None:
    """Read the last account of a pool's day; what stands twice is the same, and a gap ends it.

    Terms alone are no other account: a rate may be set when an operator has acted already.
    """
    terms: Pool | None = None
    entries: list[Entry] = []
    stated = False
    for record in records:
        match record:
            case Opened(pool=name, terms=begun) if (name, begun.trading_day) == (pool, trading_day):
                terms, stated = begun, True
            case Journalled(pool=name, trading_day=day, entry=entry) if (name, day) == (pool, trading_day):
                if stated and entry.seq == 1:
                    entries = []
                stated = False
                if entry.seq == len(entries) + 1:
                    entries.append(entry)
            case _:
                pass
    return None if terms is None else Account(terms, entries)


def last_of(account: Account) -> Known:
    """Tell the last number that was written down, and the balance after it."""
    terms = opening_terms(account)
    last = account.entries[-1] if account.entries else None
    claim = Claim(last.seq, last.balance_fen, last.time_ms) if last else Claim(0, terms.limit_fen, 0)
    return Known(trading_day=terms.trading_day, server="", claim=claim)


def opening_terms(account: Account) -> Pool:
    """Show a pool as its day opened. The first act on the limit knows what it was until then."""
    terms = account.terms
    first = next((entry for entry in account.entries if entry.event == "limit"), None)
    return replace(
        terms,
        limit_fen=first.was_fen if first else terms.limit_fen,
        halted="" if terms.halted in BY_STORE else terms.halted,
    )


def recent_entries(batches: Sequence[Batch], trading_day: str) -> list[Entry]:
    """Write what a daemon was answered as the journal may have had it, in the order of its numbers.

    What was decided while the pool was halted may come from a changed store, and is left out.
    """
    entries = {
        decision.seq: Entry(
            seq=decision.seq,
            event=line(event),
            verdict=decision.verdict,
            balance_fen=decision.balance_fen,
            status=decision.status,
            phase=decision.phase,
            time_ms=batch.time_ms,
        )
        for batch in batches
        if batch.trading_day == trading_day
        for event, decision in zip(batch.events, batch.decisions, strict=True)
        if decision.seq is not None and decision.balance_fen is not None
        if decision.outcome is Outcome.APPLIED and decision.status is not Status.HALTED
    }
    return [entry for _, entry in sorted(entries.items())]

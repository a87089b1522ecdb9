"""Everything that is kept of one pool in memory, and how it is written: what the keys are to the store."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from quota import day
from quota.decision import Outcome
from quota.journal import Entry
from quota.pool import Change, Execution, Order, Pool
from quota.rules import Step


@dataclass(slots=True)
class Book:
    """Everything kept of one pool. ``aside`` is a lost day that is put back beside it."""

    pool: Pool | None = None
    orders: dict[str, Order] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    journal: list[Entry] = field(default_factory=list)
    published: str = "0-0"
    next_rate: tuple[str, str] = ("", "")
    holds: dict[str, int] = field(default_factory=dict)
    aside: Book | None = None

    def copied(self) -> Book:
        """Copy it, so that what is done to the copy leaves it as it is."""
        seen = copy.copy(self)
        seen.orders, seen.executions, seen.holds = dict(self.orders), dict(self.executions), dict(self.holds)
        seen.changes, seen.journal = list(self.changes), list(self.journal)
        return seen

    def become(self, pool: Pool, now_ms: int, reason: str) -> None:
        """Put a pool in the place of the one before, and note what changed."""
        if self.pool is not None:
            self.note(day.changes(self.pool, pool, now_ms=now_ms, reason=reason))
        self.pool = pool

    def note(self, changes: Sequence[Change]) -> None:
        """Add changes, each with the next id."""
        for change in changes:
            last = number_of(self.changes[-1].id if self.changes else self.published)
            self.changes.append(replace(change, id=f"{last[0] + 1}-0"))

    def write(self, step: Step, order_id: str, text: str, now_ms: int) -> None:
        """Keep what a step made of an order, and journal it."""
        self.become(step.pool, now_ms, f"{text.partition(' ')[0]} {order_id}")
        if step.order is not None:
            self.orders[order_id] = step.order
            if not step.order.reserved:
                self.holds.pop(order_id, None)
        verdict = step.decision.verdict if step.decision.outcome is Outcome.APPLIED else None
        entry = entry_of(step.pool, now_ms, text)
        self.journal.append(replace(entry, verdict=verdict, violations=step.violations))


def entry_of(pool: Pool, now_ms: int, event: str) -> Entry:
    """Write the entry of what has just been numbered."""
    return Entry(
        seq=pool.seq,
        event=event,
        verdict=None,
        balance_fen=pool.balance_fen,
        status=pool.status,
        phase=pool.phase,
        time_ms=now_ms,
    )


def number_of(entry_id: str) -> tuple[int, int]:
    """Read an id of a stream."""
    ms, _, place = entry_id.partition("-")
    return int(ms), int(place)

"""The rules behind the Ledger protocol, in memory: for tests, rehearsals and agreement.

It keeps what the store keeps (orders, executions, changes, journal), so that the whole state of
the two can be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from quota import day, doubt, holds, rules
from quota.decision import Attest, Decision, Outcome, PoolName, Release, Status, Violation
from quota.doubt import Claim
from quota.errors import ConfigError, LedgerCorrupt
from quota.events import Bust, Event, Fill, NewOrder
from quota.journal import End, Entry, held_line, line
from quota.ledger import Act, Attestation, Released, Reservation, Snapshot
from quota.numbers import MemorySources
from quota.pool import Change, Execution, Opening, Order, Pool


@dataclass(slots=True)
class Book:
    """Everything kept of one pool."""

    pool: Pool | None = None
    orders: dict[str, Order] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    journal: list[Entry] = field(default_factory=list)
    published: str = "0-0"
    next_rate: tuple[str, str] = ("", "")
    holds: dict[str, int] = field(default_factory=dict)


class MemoryLedger:
    """A Ledger without a store; ``now_ms`` is the server's clock, ``run_id`` may be set to another's."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.run_id = "memory"
        self.books = {name: Book() for name in PoolName}
        self.sources = MemorySources(now_ms, self.books)

    async def apply(self, pool: PoolName, events: Sequence[Event]) -> Sequence[Decision]:
        """Apply events one by one, at one moment."""
        book, now_ms = self.books[pool], self._now_ms()
        self._catch_up(book, now_ms)
        return [self._apply(book, event, now_ms) for event in events]

    def _apply(self, book: Book, event: Event, now_ms: int) -> Decision:
        execution = book.executions.get(event.exec_id) if isinstance(event, Fill | Bust) else None
        order = book.orders.get(event.order_id, Order())
        _, step, decision = rules.apply(book.pool, order, execution, event, now_ms=now_ms)
        if step is None:
            return decision
        if decision.outcome is Outcome.DUPLICATE:
            self._write(book, step, event.order_id, End("confirmed", event.order_id).line(), now_ms)
            return decision
        if step.execution is not None and isinstance(event, Fill | Bust):
            book.executions[event.exec_id] = step.execution
        self._write(book, step, event.order_id, line(event), now_ms)
        return decision

    def _write(self, book: Book, step: rules.Step, order_id: str, text: str, now_ms: int) -> None:
        """Keep what a step made of an order, and journal it."""
        self._become(book, step.pool, now_ms, f"{text.partition(' ')[0]} {order_id}")
        if step.order is not None:
            book.orders[order_id] = step.order
            if not step.order.reserved:
                book.holds.pop(order_id, None)
        decided = step.decision.outcome is Outcome.APPLIED
        entry = _entry(step.pool, now_ms, text)
        verdict = step.decision.verdict if decided else None
        book.journal.append(replace(entry, verdict=verdict, violations=step.violations))

    # Reservations.

    def decide(self, pool: PoolName, order: NewOrder, hold_ms: int | None) -> Decision:
        """Decide an order that a gateway asks for; a dead one has left no trace."""
        now_ms = self._now_ms()
        book = self._seen(pool, now_ms)
        known = book.orders.get(order.order_id, Order())
        _, step, decision = holds.reserve(book.pool, known, order, now_ms=now_ms)
        if decision.outcome is Outcome.DEAD:
            return decision
        self.books[pool] = book
        if step is None:
            return decision
        if hold_ms is None or step.order is None or not step.order.reserved:
            self._write(book, step, order.order_id, line(order), now_ms)
        else:
            book.holds[order.order_id] = now_ms + hold_ms
            step = step._replace(pool=holds.with_lapse(step.pool, now_ms + hold_ms))
            self._write(book, step, order.order_id, held_line(order, hold_ms), now_ms)
        return decision

    async def reserve(self, pool: PoolName, order: NewOrder, hold_ms: int | None = None) -> Reservation:
        """Decide and charge an order as gateways do."""
        decision = self.decide(pool, order, hold_ms)
        if decision.verdict is None:
            raise LedgerCorrupt(f"QUOTAINVALID {decision.reason}")
        replayed = decision.outcome is Outcome.DUPLICATE
        return Reservation(decision.verdict, decision.balance_fen, decision.seq, replayed, decision.status)

    async def release(self, pool: PoolName, order_id: str) -> Released:
        """Give back a reservation that was never sent."""
        now_ms = self._now_ms()
        book = self._seen(pool, now_ms)
        if book.pool is None:
            return Released(Release.UNKNOWN, None, None)
        order = book.orders.get(order_id, Order())
        outcome = holds.released(order)
        if outcome is not Release.SETTLED and not order.spent:
            step = holds.spent(book.pool, order)
            if step is None:
                raise LedgerCorrupt(f"QUOTAINVALID {rules.REASONS[Violation.OUT_OF_RANGE]}")
            step = rules.numbered(step, now_ms)
            self._write(book, step, order_id, End("released", order_id).line(), now_ms)
        self.books[pool] = book
        return Released(outcome, book.pool.balance_fen, book.pool.seq)

    # What every call begins with.

    def _catch_up(self, book: Book, now_ms: int) -> None:
        """Bring a pool up to the present moment: its server, its holds, its clock."""
        if book.pool is None:
            return
        self._become(book, doubt.guarded(book.pool, self.run_id), now_ms, day.STORE_CHANGED)
        if 0 < book.pool.next_lapse_ms <= now_ms:
            for order_id in holds.due(book.pool, book.holds, now_ms):
                self._lapse(book, book.pool, order_id, now_ms)
            next_lapse_ms = min(book.holds.values(), default=0)
            book.pool = replace(book.pool, next_lapse_ms=next_lapse_ms)
        self._become(book, day.judged(book.pool, now_ms), now_ms, "clock")

    def _lapse(self, book: Book, pool: Pool, order_id: str, now_ms: int) -> None:
        at_ms = holds.as_of(pool, book.holds.pop(order_id), now_ms)
        pool = day.judged(pool, at_ms)
        self._become(book, pool, now_ms, "clock")
        order = book.orders.get(order_id, Order())
        if not order.reserved:
            return
        step = rules.numbered(holds.lapsed(pool, order), at_ms)
        self._write(book, step, order_id, End("lapsed", order_id).line(), now_ms)

    def _seen(self, pool: PoolName, now_ms: int) -> Book:
        """Show a book as it is at this moment, and leave the book itself as it is."""
        book = self.books[pool]
        seen = copy.copy(book)
        seen.orders, seen.holds = dict(book.orders), dict(book.holds)
        seen.changes, seen.journal = list(book.changes), list(book.journal)
        self._catch_up(seen, now_ms)
        return seen

    def seen(self, pool: PoolName) -> Pool | None:
        """Show a pool as a gateway's check sees it: nothing is changed."""
        return self._seen(pool, self._now_ms()).pool

    async def tick(self, pool: PoolName, published: str = "") -> Snapshot:
        """Judge the clock, return the pool."""
        book, now_ms = self.books[pool], self._now_ms()
        if book.pool is not None:
            self._catch_up(book, now_ms)
            book.published = published or book.published
        last = book.changes[-1].id if book.changes else "0-0"
        return Snapshot(now_ms, book.pool, book.published, last, self.run_id)

    async def open_day(self, pool: PoolName, opening: Opening) -> bool:
        """Open a day, or find it open."""
        book, now_ms = self.books[pool], self._now_ms()
        if (refused := day.opening_refused(book.pool, opening, now_ms)) is not None:
            raise ConfigError(f"{pool}: {refused}")
        if book.next_rate[0] == opening.trading_day:
            opening = replace(opening, rate=book.next_rate[1])
        if book.pool is not None and book.pool.trading_day == opening.trading_day:
            moved = opening.schedule if opening.origin == "at" else book.pool.schedule
            book.pool = replace(book.pool, schedule=moved)
            self._catch_up(book, now_ms)
            return False
        late = day.is_late(book.pool, opening, self.run_id, now_ms)
        fresh = day.opened(book.pool, opening, self.run_id, now_ms)
        carried = [change for change in book.changes if _number(change.id) > _number(book.published)]
        was, book.pool, book.changes = book.pool, None, carried
        book.orders, book.executions, book.holds, book.journal, book.next_rate = {}, {}, {}, [], ("", "")
        self._note(book, day.changes(was, fresh, now_ms=now_ms, reason=day.OPENED_LATE if late else "opened"))
        book.pool = fresh
        return True

    async def changes(self, pool: PoolName, after: str) -> Sequence[Change]:
        """Return the changes after an id."""
        return [change for change in self.books[pool].changes if _number(change.id) > _number(after)]

    async def set_rate(self, pool: PoolName, trading_day: str, rate: str) -> str:
        """Set the rate, unless an event has come."""
        book, now_ms = self.books[pool], self._now_ms()
        if book.pool is None or book.pool.trading_day != trading_day:
            if book.pool is not None and trading_day > book.pool.trading_day:
                book.next_rate = (trading_day, rate)
            return "other_day"
        if book.pool.rate == rate:
            return "same"
        if book.orders or book.executions:
            return "refused"
        self._catch_up(book, now_ms)
        self._become(book, replace(book.pool, rate=rate), now_ms, "rate")
        return "set"

    async def operate(self, pool: PoolName, act: Act) -> Status:
        """Carry out an operator's act."""
        now_ms = self._now_ms()
        book = self._seen(pool, now_ms)
        if (was := book.pool) is None:
            raise ConfigError(f"{pool}: {rules.NO_DAY}")
        if (refused := day.words_refused(act.reason, act.user, act.host)) is not None:
            raise ConfigError(f"{pool}: {refused}")
        after = _acted(pool, was, act, self.run_id, now_ms)
        self.books[pool] = book
        self._become(book, after, now_ms, act.reason)
        entry = replace(_entry(after, now_ms, act.act), reason=act.reason, user=act.user, host=act.host)
        limits = replace(entry, was_fen=was.limit_fen, limit_fen=after.limit_fen, reopen=act.reopen)
        book.journal.append(limits)
        return after.status

    async def attest(self, pool: PoolName, claims: Sequence[Claim]) -> Attestation:
        """Say which numbers we know."""
        book, now_ms = self.books[pool], self._now_ms()
        if book.pool is None:
            return Attestation(Attest.REFUSED, rules.NO_DAY)
        came_with = book.pool.seq
        self._catch_up(book, now_ms)
        was, known = book.pool, doubt.doubt_of(book.pool)
        is_doubted, is_attested = known.server == self.run_id, was.attested == self.run_id
        inherited, lost = (known.seq, known.lost) if is_doubted else (came_with, "")
        entries = {entry.seq: entry for entry in book.journal}
        lost = lost or next(filter(None, (doubt.lost_of(claim, inherited, entries) for claim in claims)), "")
        if lost:
            after = doubt.doubted(was, self.run_id, lost) if is_attested else doubt.known_lost(was, lost)
            self._become(book, after, now_ms, day.STORE_CHANGED)
            return Attestation(Attest.REFUSED, lost)
        if is_attested:
            return Attestation(Attest.ALREADY)
        if late := doubt.stale(claims, inherited, entries):
            return Attestation(Attest.REFUSED, late)
        self._become(book, doubt.attested(was, self.run_id), now_ms, "attested")
        return Attestation(Attest.ATTESTED)

    def _become(self, book: Book, pool: Pool, now_ms: int, reason: str) -> None:
        if book.pool is not None:
            self._note(book, day.changes(book.pool, pool, now_ms=now_ms, reason=reason))
        book.pool = pool

    def _note(self, book: Book, changes: Sequence[Change]) -> None:
        for change in changes:
            last = _number(book.changes[-1].id if book.changes else book.published)
            book.changes.append(replace(change, id=f"{last[0] + 1}-0"))


def _acted(name: PoolName, pool: Pool, act: Act, run_id: str, now_ms: int) -> Pool:
    match act.act:
        case "halt":
            return day.halted(pool, act.reason, now_ms)
        case "resume":
            if not pool.halted:
                raise ConfigError(f"{name}: the pool is not halted")
            return day.resumed(pool, run_id, now_ms)
        case "limit":
            if (refused := day.limit_refused(pool, act.limit_fen)) is not None:
                raise ConfigError(f"{name}: {refused}")
            return day.limited(pool, act.limit_fen, now_ms, reopen=act.reopen)
        case _:
            raise ConfigError(f"{name}: unknown act {act.act!r}")


def _entry(pool: Pool, now_ms: int, event: str) -> Entry:
    return Entry(
        seq=pool.seq,
        event=event,
        verdict=None,
        balance_fen=pool.balance_fen,
        status=pool.status,
        phase=pool.phase,
        time_ms=now_ms,
    )


def _number(entry_id: str) -> tuple[int, int]:
    ms, _, place = entry_id.partition("-")
    return int(ms), int(place)

"""The rules behind the Ledger protocol, in memory: for tests, rehearsals and agreement.

It keeps what the store keeps (orders, executions, changes, journal), so that the whole state of
the two can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from quota import day, doubt, holds, rebuild, rules
from quota.book import Book, entry_of, number_of
from quota.decision import Attest, Decision, Outcome, PoolName, Release, Status, Violation
from quota.doubt import Claim
from quota.errors import ConfigError, LedgerCorrupt
from quota.events import Bust, Event, Fill, NewOrder
from quota.journal import End, Entry, held_line, line
from quota.ledger import Act, Attestation, Released, Replayed, Reservation, Snapshot
from quota.numbers import MemorySources
from quota.pool import Change, Opening, Order, Pool

__all__ = ["Book", "MemoryLedger"]


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
            book.write(step, event.order_id, End("confirmed", event.order_id).line(), now_ms)
            return decision
        if step.execution is not None and isinstance(event, Fill | Bust):
            book.executions[event.exec_id] = step.execution
        book.write(step, event.order_id, line(event), now_ms)
        return decision

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
        text = line(order)
        if step.order is not None and step.order.reserved:
            text = held_line(order, hold_ms or 0)
            if hold_ms is not None:
                book.holds[order.order_id] = now_ms + hold_ms
                step = step._replace(pool=holds.with_lapse(step.pool, now_ms + hold_ms))
        book.write(step, order.order_id, text, now_ms)
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
            book.write(step, order_id, End("released", order_id).line(), now_ms)
        self.books[pool] = book
        return Released(outcome, book.pool.balance_fen, book.pool.seq)

    # What every call begins with.

    def _catch_up(self, book: Book, now_ms: int) -> None:
        """Bring a pool up to the present moment: its server, its holds, its clock."""
        if book.pool is None:
            return
        book.become(doubt.guarded(book.pool, self.run_id), now_ms, day.STORE_CHANGED)
        if 0 < book.pool.next_lapse_ms <= now_ms:
            for order_id in holds.due(book.pool, book.holds, now_ms):
                self._lapse(book, book.pool, order_id, now_ms)
            next_lapse_ms = min(book.holds.values(), default=0)
            book.pool = replace(book.pool, next_lapse_ms=next_lapse_ms)
        book.become(day.judged(book.pool, now_ms), now_ms, "clock")

    def _lapse(self, book: Book, pool: Pool, order_id: str, now_ms: int) -> None:
        at_ms = holds.as_of(pool, book.holds.pop(order_id), now_ms)
        pool = day.judged(pool, at_ms)
        book.become(pool, now_ms, "clock")
        order = book.orders.get(order_id, Order())
        if not order.reserved:
            return
        step = rules.numbered(holds.lapsed(pool, order), at_ms)
        book.write(step, order_id, End("lapsed", order_id).line(), now_ms)

    def _seen(self, pool: PoolName, now_ms: int) -> Book:
        """Show a book as it is at this moment, and leave the book itself as it is."""
        seen = self.books[pool].copied()
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
        carried = [change for change in book.changes if number_of(change.id) > number_of(book.published)]
        was, book.pool, book.changes = book.pool, None, carried
        book.orders, book.executions, book.holds, book.journal, book.next_rate = {}, {}, {}, [], ("", "")
        book.note(day.changes(was, fresh, now_ms=now_ms, reason=day.OPENED_LATE if late else "opened"))
        book.pool = fresh
        return True

    async def changes(self, pool: PoolName, after: str) -> Sequence[Change]:
        """Return the changes after an id."""
        return [change for change in self.books[pool].changes if number_of(change.id) > number_of(after)]

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
        book.become(replace(book.pool, rate=rate), now_ms, "rate")
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
        book.become(after, now_ms, act.reason)
        entry = replace(entry_of(after, now_ms, act.act), reason=act.reason, user=act.user, host=act.host)
        limits = replace(entry, was_fen=was.limit_fen, limit_fen=after.limit_fen, reopen=act.reopen)
        book.journal.append(limits)
        return after.status

    async def attest(self, pool: PoolName, claims: Sequence[Claim], *, put_back: bool = False) -> Attestation:
        """Say which numbers we know."""
        book, now_ms = self.books[pool], self._now_ms()
        if book.pool is None:
            return Attestation(Attest.REFUSED, rules.NO_DAY)
        came_with = book.pool.seq
        self._catch_up(book, now_ms)
        was, known = book.pool, doubt.doubt_of(book.pool)
        if was.attested == doubt.PUT_BACK_AGAIN or (was.attested == day.REBUILT and not put_back):
            return Attestation(Attest.REFUSED, doubt.PUT_BACK)
        is_doubted, is_attested = known.server == self.run_id, was.attested == self.run_id
        inherited, lost = (known.seq, known.lost) if is_doubted else (came_with, "")
        entries = {entry.seq: entry for entry in book.journal}
        stand = doubt.standing(was, self.run_id, claims)
        lost = lost or next(filter(None, (doubt.lost_of(claim, inherited, entries) for claim in stand)), "")
        if lost:
            after = doubt.doubted(was, self.run_id, lost) if is_attested else doubt.known_lost(was, lost)
            book.become(after, now_ms, day.STORE_CHANGED)
            return Attestation(Attest.REFUSED, lost)
        if is_attested:
            return Attestation(Attest.ALREADY)
        if late := doubt.stale(claims, inherited, entries):
            return Attestation(Attest.REFUSED, late)
        book.become(doubt.attested(was, self.run_id), now_ms, "attested")
        return Attestation(Attest.ATTESTED)

    async def replay(self, pool: PoolName, terms: Pool, entries: Sequence[Entry]) -> Replayed:
        """Put entries of a lost day back, beside the pool."""
        book = self.books[pool]
        if (refused := rebuild.refused(book.pool, terms.trading_day, self.run_id)) is not None:
            return Replayed(0, refused)
        aside = book.aside
        if aside is None or aside.pool is None or aside.pool.trading_day != terms.trading_day:
            book.aside = None
            last_change = book.changes[-1].id if book.changes else book.published
            aside = rebuild.begun(terms, entries[0].time_ms if entries else 0, last_change)
        replayed = rebuild.put_back(aside, entries)
        if not replayed.detail:
            book.aside = aside
        return replayed

    async def adopt(self, pool: PoolName, trading_day: str, seq: int, live_seq: int) -> Replayed:
        """Put the day that was put back in the pool's place."""
        book = self.books[pool]
        live, aside = book.pool, book.aside
        done = live is not None and (live.trading_day, live.attested) == (trading_day, day.REBUILT)
        if live is not None and aside is None and done:
            return Replayed(live.seq)
        refused = rebuild.adoption_refused(book, trading_day, seq, live_seq, self.run_id)
        if refused is not None or aside is None or aside.pool is None:
            return Replayed(aside.pool.seq if aside and aside.pool else 0, refused or "")
        if wrong := rebuild.put_since_back(book, aside, live_seq):
            return Replayed(aside.pool.seq, wrong)
        self.books[pool] = rebuild.adopted(live, aside, book.next_rate, self.run_id, self._now_ms())
        return Replayed(self._last_seq(pool))

    def _last_seq(self, pool: PoolName) -> int:
        return self.books[pool].journal[-1].seq if self.books[pool].journal else 0


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

"""The rules behind the Ledger protocol, in memory: for tests, rehearsals and agreement.

It keeps what the store keeps (orders, executions, changes, journal), so that the whole state of
the two can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from quota import day, rules
from quota.decision import Decision, PoolName, Status, Verdict
from quota.errors import ConfigError
from quota.events import Bust, Event, Fill
from quota.journal import Entry, line
from quota.ledger import Act, Snapshot
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


class MemoryLedger:
    """A Ledger without a store; ``now_ms`` is the server's clock."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.books = {name: Book() for name in PoolName}

    async def apply(self, pool: PoolName, events: Sequence[Event]) -> Sequence[Decision]:
        """Apply events one by one, at one moment."""
        now_ms = self._now_ms()
        return [self._apply(self.books[pool], event, now_ms) for event in events]

    def _apply(self, book: Book, event: Event, now_ms: int) -> Decision:
        execution = book.executions.get(event.exec_id) if isinstance(event, Fill | Bust) else None
        order = book.orders.get(event.order_id, Order())
        judged, step, decision = rules.apply(book.pool, order, execution, event, now_ms=now_ms)
        if judged is None:
            return decision
        self._become(book, judged, now_ms, "clock")
        if step is not None and step.order is not None:
            self._become(book, step.pool, now_ms, f"{_name(event)} {event.order_id}")
            book.orders[event.order_id] = step.order
            if step.execution is not None and isinstance(event, Fill | Bust):
                book.executions[event.exec_id] = step.execution
            verdict = decision.verdict if decision.verdict is not Verdict.ID_REUSED else None
            entry = _entry(step.pool, now_ms, line(event))
            book.journal.append(replace(entry, verdict=verdict, violations=step.violations))
        return decision

    async def tick(self, pool: PoolName, published: str = "") -> Snapshot:
        """Judge the clock, return the pool."""
        book, now_ms = self.books[pool], self._now_ms()
        if book.pool is not None:
            self._become(book, day.judged(book.pool, now_ms), now_ms, "clock")
            book.published = published or book.published
        last = book.changes[-1].id if book.changes else "0-0"
        return Snapshot(now_ms, book.pool, book.published, last)

    async def open_day(self, pool: PoolName, opening: Opening) -> bool:
        """Open a day, or find it open."""
        book, now_ms = self.books[pool], self._now_ms()
        if (refused := day.opening_refused(book.pool, opening, now_ms)) is not None:
            raise ConfigError(f"{pool}: {refused}")
        if book.next_rate[0] == opening.trading_day:
            opening = replace(opening, rate=book.next_rate[1])
        fresh = day.opened(book.pool, opening, now_ms)
        if book.pool is not None and book.pool.trading_day == opening.trading_day:
            self._become(book, fresh, now_ms, "clock")
            return False
        carried = [change for change in book.changes if _number(change.id) > _number(book.published)]
        was, book.pool, book.changes = book.pool, None, carried
        book.orders, book.executions, book.journal, book.next_rate = {}, {}, [], ("", "")
        late = fresh.halted == day.OPENED_LATE and was is None
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
        self._become(book, day.judged(book.pool, now_ms), now_ms, "clock")
        self._become(book, replace(book.pool, rate=rate), now_ms, "rate")
        return "set"

    async def operate(self, pool: PoolName, act: Act) -> Status:
        """Carry out an operator's act."""
        book, now_ms = self.books[pool], self._now_ms()
        if book.pool is None:
            raise ConfigError(f"{pool}: {rules.NO_DAY}")
        if (refused := day.reason_refused(act.reason)) is not None:
            raise ConfigError(f"{pool}: {refused}")
        was = day.judged(book.pool, now_ms)
        after = _acted(pool, was, act, now_ms)
        self._become(book, was, now_ms, "clock")
        self._become(book, after, now_ms, act.reason)
        entry = replace(_entry(after, now_ms, act.act), reason=act.reason, user=act.user, host=act.host)
        limits = replace(entry, was_fen=was.limit_fen, limit_fen=after.limit_fen, reopen=act.reopen)
        book.journal.append(limits)
        return after.status

    def _become(self, book: Book, pool: Pool, now_ms: int, reason: str) -> None:
        if book.pool is not None:
            self._note(book, day.changes(book.pool, pool, now_ms=now_ms, reason=reason))
        book.pool = pool

    def _note(self, book: Book, changes: Sequence[Change]) -> None:
        for change in changes:
            last = _number(book.changes[-1].id if book.changes else book.published)
            book.changes.append(replace(change, id=f"{last[0] + 1}-0"))


def _acted(name: PoolName, pool: Pool, act: Act, now_ms: int) -> Pool:
    match act.act:
        case "halt":
            return day.halted(pool, act.reason, now_ms)
        case "resume":
            if not pool.halted:
                raise ConfigError(f"{name}: the pool is not halted")
            return day.resumed(pool, now_ms)
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


def _name(event: Event) -> str:
    return str(type(event).__struct_config__.tag)


def _number(entry_id: str) -> tuple[int, int]:
    ms, _, place = entry_id.partition("-")
    return int(ms), int(place)

"""Folds the journal of a day and compares what it finds with what the store says.

It locks nothing and may run while everybody works: entries are compared with the fold as it
goes, order records only where nothing has touched them since, the pool's own figures only where
nothing was written meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from quota import holds, rules
from quota.charge import with_parts
from quota.decision import Outcome, PoolName, Violation
from quota.errors import LedgerCorrupt
from quota.events import Bust, Event, Fill, NewOrder
from quota.journal import End, Entry, hold_ms_of, read_line
from quota.pool import Change, Execution, Order, Pool
from quota.uncollected import uncollected

_PAGE = 1000
_SUMS = ("limit_fen", "open_buy_fen", "filled_buy_fen", "filled_sell_fen", "seq", "decided", "violated")


class Record(Protocol):
    """The side of a ledger that keeps what verify reads."""

    async def read(self, pool: PoolName) -> Pool | None:
        """Read the pool as it was last written."""
        ...

    def journal(self, pool: PoolName, last_seq: int, after_seq: int = 0) -> AsyncIterator[Entry]:
        """Read the journal after a number up to another."""
        ...

    async def orders(self, pool: PoolName, ids: Sequence[str]) -> Sequence[Order | None]:
        """Read order records."""
        ...

    async def executions(
        self, pool: PoolName, ids: Sequence[str], order_ids: Mapping[int, str]
    ) -> Sequence[Execution | None]:
        """Read execution records; ``order_ids`` names the orders by the seq of their decision."""
        ...

    async def holds(self, pool: PoolName) -> Mapping[str, int]:
        """Read the holds: the reservations that lapse, and when."""
        ...

    async def contradictions(self, pool: PoolName, orders: int, executions: int) -> Sequence[str]:
        """Say where the pool contradicts itself, or holds more or fewer records than these."""
        ...

    async def changes(self, pool: PoolName, after: str) -> Sequence[Change]:
        """Read the changes after an id."""
        ...


@dataclass(slots=True)
class Fold:
    """The day as its journal tells it. ``pool`` holds the sums alone, no status and no clock.

    The journal does not say who asked first: an accepted buy of which nothing else is known counts
    as reserved. Only of a reservation with a hold, in ``holds``, it is certain.
    """

    pool: Pool
    orders: dict[str, Order] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    holds: dict[str, int] = field(default_factory=dict)

    def take(self, entry: Entry) -> Iterator[str]:
        """Take one entry in; yields what is wrong with it."""
        if entry.seq != self.pool.seq + 1:
            yield f"seq {self.pool.seq + 1}: is missing, {entry.seq} comes next"
        if entry.is_act:
            yield from self._act(entry)
        else:
            yield from self._line(entry, read_line(entry.event))
        self.pool = replace(self.pool, seq=entry.seq)
        if entry.balance_fen != self.pool.balance_fen:
            yield f"seq {entry.seq}: balance_fen is {entry.balance_fen}, the fold has {self.pool.balance_fen}"

    def _act(self, entry: Entry) -> Iterator[str]:
        if entry.was_fen != self.pool.limit_fen:
            yield f"seq {entry.seq}: was_fen is {entry.was_fen}, the fold has {self.pool.limit_fen}"
        self.pool = replace(self.pool, limit_fen=entry.limit_fen)

    def _line(self, entry: Entry, event: Event | End) -> Iterator[str]:
        order = self.orders.get(event.order_id, Order())
        if isinstance(event, End):
            step = ended(self.pool, order, event)
        elif isinstance(event, NewOrder):
            if entry.verdict is None and Violation.OUT_OF_RANGE not in entry.violations:
                yield f"seq {entry.seq}: has no verdict"
            step = decided_as(self.pool, order, event, entry)
        elif isinstance(event, Fill | Bust):
            step = rules.apply_execution(self.pool, order, self.executions.get(event.exec_id), event)
        else:
            step = rules.apply_off_book(self.pool, order)
        if step.order is None:
            yield f"seq {entry.seq}: {entry.event.partition(' ')[0]} of {event.order_id} changes nothing"
            return
        if step.violations != entry.violations:
            yield f"seq {entry.seq}: violations are {entry.violations}, the fold has {step.violations}"
        if step.execution is not None and isinstance(event, Fill | Bust):
            self.executions[event.exec_id] = step.execution
        self.orders[event.order_id] = step.order
        self.pool = counted(step)
        self._hold(entry, event, step.order)

    def _hold(self, entry: Entry, event: Event | End, order: Order) -> None:
        if isinstance(event, End) or not order.reserved:
            self.holds.pop(event.order_id, None)
        elif hold_ms := hold_ms_of(entry.event):
            self.holds[event.order_id] = entry.time_ms + hold_ms

    def agrees(self, order_id: str, found: Order | None) -> bool:
        """Whether an order's record is what the journal tells."""
        told = self.orders[order_id]
        return found == told or (order_id not in self.holds and found == replace(told, reserved=False))


def ended(pool: Pool, order: Order, end: End) -> rules.Step:
    """Let a reservation end as the journal says; only a release may be of an id that was never seen."""
    nothing = rules.Step(pool, rules.decided(pool, Outcome.DUPLICATE))
    if end.how == "released" and order.unheard and not order.spent:
        return holds.spent(pool, order) or nothing
    if not order.reserved:
        return nothing
    if end.how == "confirmed":
        return nothing._replace(order=replace(order, reserved=False))
    return holds.lapsed(pool, order)


def decided_as(pool: Pool, order: Order, event: NewOrder, entry: Entry) -> rules.Step:
    """Apply a new order with the verdict that the journal has for it."""
    if entry.verdict is None:
        return rules.broken(pool, order, Violation.OUT_OF_RANGE)
    known = replace(
        order,
        side=event.side,
        price_milli=event.price_milli,
        quantity=event.quantity,
        verdict=entry.verdict,
        seq=entry.seq,
        spent=False,
    )
    known = known if order.spent else holds.as_reserved(known)
    settled, violations = rules.with_violations(order, known)
    after = with_parts(pool, order, settled)
    counts = dict(after.decided)
    counts[event.side, entry.verdict] = counts.get((event.side, entry.verdict), 0) + 1
    decision = rules.decided(after, Outcome.APPLIED, entry.verdict)
    return rules.Step(replace(after, decided=counts), decision, settled, None, violations)


def counted(step: rules.Step) -> Pool:
    """Count a step's violations in its pool."""
    counts = dict(step.pool.violated)
    for violation in step.violations:
        counts[violation] = counts.get(violation, 0) + 1
    return replace(step.pool, violated=counts)


@dataclass(frozen=True, slots=True)
class Findings:
    """What verify found of one pool: how much it read, and what differs."""

    pool: PoolName
    trading_day: str | None
    entries: int
    orders: int
    differences: tuple[str, ...]


async def verify(record: Record, name: PoolName) -> Findings:
    """Compare a pool's journal with its records; begins again where a day opens meanwhile.

    What cannot be read at all is a difference too. Raises LedgerUnavailable, or LedgerCorrupt where
    not even the pool can be read.
    """
    while (stored := await record.read(name)) is not None:
        try:
            with uncollected():
                findings = await _verified(record, name, stored)
        except LedgerCorrupt as error:
            return Findings(name, stored.trading_day, stored.seq, 0, (f"cannot be read: {error}",))
        now = await record.read(name)
        if now is not None and now.trading_day == stored.trading_day:
            return findings
    return Findings(name, None, 0, 0, ())


async def _verified(record: Record, name: PoolName, stored: Pool) -> Findings:
    fold = Fold(replace(_empty(stored), limit_fen=await _opening_limit(record, name, stored)))
    differences: list[str] = []
    async for entry in record.journal(name, stored.seq):
        differences += fold.take(entry)
    if fold.pool.seq != stored.seq:
        differences.append(f"seq {stored.seq}: the journal ends at {fold.pool.seq}")
    differences += await _order_differences(record, name, fold, stored.seq)
    differences += await _pool_differences(record, name, fold)
    return Findings(name, stored.trading_day, fold.pool.seq, len(fold.orders), tuple(differences))


def _empty(stored: Pool) -> Pool:
    return Pool(
        trading_day=stored.trading_day, limit_fen=stored.limit_fen, rate=stored.rate, schedule=stored.schedule
    )


async def _opening_limit(record: Record, name: PoolName, stored: Pool) -> int:
    """Find the limit with which the day opened; the entry ``day`` of the changes has it."""
    after = "0-0"
    while page := await record.changes(name, after):
        for change in page:
            if change.kind == "day" and change.now == stored.trading_day:
                return change.limit_fen
        after = page[-1].id
    return stored.limit_fen


async def _order_differences(record: Record, name: PoolName, fold: Fold, last_seq: int) -> list[str]:
    ids, doubtful = list(fold.orders), dict[str, Order | None]()
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        found = zip(page, await record.orders(name, page), strict=True)
        doubtful |= {order_id: order for order_id, order in found if not fold.agrees(order_id, order)}
    touched = await _touched_since(record, name, last_seq)
    return [
        f"order {order_id}: the store has {order}, the fold has {fold.orders[order_id]}"
        for order_id, order in doubtful.items()
        if order_id not in touched
    ]


async def _touched_since(record: Record, name: PoolName, last_seq: int) -> set[str]:
    now = await record.read(name)
    if now is None or now.seq <= last_seq:
        return set()
    return {
        read_line(entry.event).order_id
        async for entry in record.journal(name, now.seq, last_seq)
        if not entry.is_act
    }


async def _pool_differences(record: Record, name: PoolName, fold: Fold) -> list[str]:
    """Compare everything that only holds while nothing is written: looked at twice to know that."""
    stored = await record.read(name)
    if not _is_at(stored, fold):
        return []
    differences = [
        f"pool {figure}: the store has {getattr(stored, figure)}, the fold has {getattr(fold.pool, figure)}"
        for figure in _SUMS
        if getattr(stored, figure) != getattr(fold.pool, figure)
    ]
    differences += await record.contradictions(name, len(fold.orders), len(fold.executions))
    differences += await _execution_differences(record, name, fold)
    differences += await _hold_differences(record, name, fold, stored)
    return differences if _is_at(await record.read(name), fold) else []


async def _hold_differences(record: Record, name: PoolName, fold: Fold, stored: Pool | None) -> list[str]:
    found = await record.holds(name)
    differences = [
        f"hold {order_id}: the store has {found.get(order_id)}, the fold has {fold.holds.get(order_id)}"
        for order_id in sorted({*found, *fold.holds})
        if found.get(order_id) != fold.holds.get(order_id)
    ]
    next_lapse_ms, first = stored.next_lapse_ms if stored else 0, min(found.values(), default=0)
    if first and not 0 < next_lapse_ms <= first:
        differences.append(f"pool next_lapse: is {next_lapse_ms}, but the first hold ends at {first}")
    return differences


def _is_at(stored: Pool | None, fold: Fold) -> bool:
    return stored is not None and (stored.trading_day, stored.seq) == (fold.pool.trading_day, fold.pool.seq)


async def _execution_differences(record: Record, name: PoolName, fold: Fold) -> list[str]:
    ids, differences = list(fold.executions), []
    order_ids = {order.seq: order_id for order_id, order in fold.orders.items() if order.seq}
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        for exec_id, found in zip(page, await record.executions(name, page, order_ids), strict=True):
            if found != fold.executions[exec_id]:
                differences.append(
                    f"execution {exec_id}: the store has {found}, the fold has {fold.executions[exec_id]}"
                )
    return differences

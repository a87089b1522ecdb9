"""The store of the simulation: the rules in memory, and notes of what the journal does not say."""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from quota.book import Book, number_of
from quota.day import STORE_CHANGED, date_of
from quota.decision import Attest, Decision, PoolName, Status
from quota.doubt import Claim
from quota.events import Event, Numbers
from quota.journal import Entry
from quota.ledger import Act, Attestation, Snapshot
from quota.numbers import MemorySources
from quota.pool import Change, Opening
from tests.folded import Record
from tests.simulation.loop import SimulatedLoop

T = TypeVar("T")


class Applied(NamedTuple):
    """An event that the store took in for the daemon, and what came of it; ``today`` is the market's date."""

    step: int
    pool: PoolName
    day: str
    event: Event
    decision: Decision
    today: str


class Arrived(NamedTuple):
    """Numbers that the store took down, and for which day."""

    step: int
    pool: PoolName
    day: str
    numbers: Sequence[Numbers]


class Note(NamedTuple):
    """Something without a number that happened to a pool's day after a number: what a model has to do too."""

    after_seq: int
    now_ms: int
    what: str
    run_id: str
    detail: Any = None


class Truth(Record):
    """The store itself. It keeps the days that are over, and notes what the journal does not say."""

    def __init__(self, loop: SimulatedLoop, now_ms: Callable[[], int]) -> None:
        super().__init__()
        self._now_ms = now_ms
        self.sources = MemorySources(now_ms, self.books)
        self._loop = loop
        self.over: dict[tuple[PoolName, str], Book] = {}
        self.applied: list[Applied] = []
        self.arrivals: list[Arrived] = []
        self.page_size = 1_000
        self.rates: list[tuple[int, str]] = []
        self.notes: dict[tuple[PoolName, str], list[Note]] = {}
        self.looked_ms: dict[tuple[PoolName, str], int] = {}
        self.outcomes: set[str] = set()
        self.committed: Callable[[], object] = lambda: None
        self.opened: Callable[[PoolName], object] = lambda _pool: None
        self.before_opening: Callable[[], object] = lambda: None
        self.away = False

    def day(self, pool: PoolName) -> str:
        """The open day."""
        book = self.books[pool]
        return book.pool.trading_day if book.pool else ""

    def seq(self, pool: PoolName) -> int:
        """The last number."""
        book = self.books[pool]
        return book.pool.seq if book.pool else 0

    def reached(self) -> object:
        """Tell how far it has come: the open days, their last numbers, and which of the sources' are here."""
        days = [(self.day(pool), self.seq(pool)) for pool in self.books]
        return days, [dict(register.sources) for register in self.sources.registers.values()]

    def note(self, pool: PoolName, what: str, detail: object = None) -> None:
        """Note what a model has to do too."""
        note = Note(self.seq(pool), self._now_ms(), what, self.run_id, detail)
        self.notes.setdefault((pool, self.day(pool)), []).append(note)

    async def arrived(self, pool: PoolName, numbers: Sequence[Numbers]) -> None:
        """Take down numbers, and note that."""
        await self.sources.arrived(pool, numbers)
        self.arrivals.append(Arrived(self._loop.steps, pool, self.day(pool), numbers))

    def _book(self, pool: PoolName, day: str) -> Book:
        return self.over[pool, day] if (pool, day) in self.over else self.books[pool]

    async def changes(self, pool: PoolName, after: str, day: str = "") -> Sequence[Change]:
        changes = self._book(pool, day).changes
        return [change for change in changes if number_of(change.id) > number_of(after)]

    async def page(self, pool: PoolName, first_seq: int, day: str = "") -> Sequence[Entry]:
        """Read a page of a journal."""
        return self._book(pool, day).journal[first_seq - 1 : first_seq - 1 + self.page_size]

    def _looked(self, pool: PoolName) -> None:
        self.looked_ms[pool, self.day(pool)] = self._now_ms()

    async def tick(self, pool: PoolName, published: str = "") -> Snapshot:
        snapshot = await super().tick(pool, published)
        self._looked(pool)
        return snapshot

    async def apply(self, pool: PoolName, events: Sequence[Event]) -> Sequence[Decision]:
        decisions = await super().apply(pool, events)
        self._looked(pool)
        self.committed()
        step, day, today = self._loop.steps, self.day(pool), date_of(self._now_ms())
        self.applied += [
            Applied(step, pool, day, event, decision, today)
            for event, decision in zip(events, decisions, strict=True)
        ]
        return decisions

    async def open_day(self, pool: PoolName, opening: Opening) -> bool:
        self.before_opening()
        before = copy.copy(self.books[pool])
        next_rate = before.next_rate
        opened = await super().open_day(pool, opening)
        if opened:
            self.opened(pool)
            if before.pool is not None:
                self.over[pool, before.pool.trading_day] = before
            self.note(pool, "opened", (opening, before.pool, next_rate))
        return opened

    async def set_rate(self, pool: PoolName, trading_day: str, rate: str) -> str:
        self.rates.append((self._loop.steps, rate))
        outcome = await super().set_rate(pool, trading_day, rate)
        self.outcomes.add(outcome)
        if outcome == "set":
            self.note(pool, "rate", rate)
        return outcome

    async def attest(self, pool: PoolName, claims: Sequence[Claim], *, put_back: bool = False) -> Attestation:
        said = await super().attest(pool, claims, put_back=put_back)
        self._looked(pool)
        if said.outcome is not Attest.ALREADY:
            self.note(pool, "attested", claims)
        return said

    async def operate(self, pool: PoolName, act: Act) -> Status:
        status = await super().operate(pool, act)
        self._looked(pool)
        return status

    def become(self, run_id: str) -> None:
        """Be another server from now on."""
        self.run_id = run_id
        for pool in self.books:
            if self.books[pool].pool is not None:
                self.note(pool, "store", run_id)

    def halted_by_itself(self, pool: PoolName) -> bool:
        """Whether a pool is halted because the store changed."""
        book = self.books[pool]
        return book.pool is not None and book.pool.halted == STORE_CHANGED


def done_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    raise AssertionError("the store in memory does not wait")

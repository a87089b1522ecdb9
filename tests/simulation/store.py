"""The store of the simulation: the rules in memory, behind links that lose requests and replies."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, TypeVar

from quota.day import STORE_CHANGED, date_of
from quota.decision import Attest, Decision, PoolName, Status
from quota.doubt import Claim
from quota.errors import LedgerUnavailable
from quota.events import Event, NewOrder, Numbers
from quota.ledger import Act, Attestation, Released, Reservation, Snapshot
from quota.memory import Book
from quota.numbers import Register
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
        self._loop = loop
        self.over: dict[tuple[PoolName, str], Book] = {}
        self.applied: list[Applied] = []
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

    def note(self, pool: PoolName, what: str, detail: object = None) -> None:
        """Note what a model has to do too."""
        note = Note(self.seq(pool), self._now_ms(), what, self.run_id, detail)
        self.notes.setdefault((pool, self.day(pool)), []).append(note)

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

    async def attest(self, pool: PoolName, claims: Sequence[Claim]) -> Attestation:
        said = await super().attest(pool, claims)
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


@dataclass(slots=True)
class Link:
    """A way to the store that loses requests and replies: for a daemon, for a gateway, for an operator.

    ``loss`` is how often. A link that is ``cut`` does nothing any more, and what was on its way may
    still arrive. ``losses`` counts by kind.
    """

    truth: Truth
    loop: SimulatedLoop
    rng: Random
    loss: float = 0.0
    is_cut: bool = False
    losses: dict[str, int] = field(default_factory=lambda: {"before": 0, "after": 0, "late": 0})
    _late: list[Callable[[], object]] = field(default_factory=list)
    _last_s: float = 0.0

    async def ask(self, step: Callable[[], Coroutine[Any, Any, T]], *, may_be_late: bool = False) -> T:
        """Send a request; its effect and its answer are two moments, and either may be lost."""
        if self.is_cut:
            await self.loop.create_future()
        done: asyncio.Future[T] = self.loop.create_future()
        fates = ("before", "after", "late" if may_be_late else "before")
        fate = self.rng.choice(fates) if self.rng.random() < self.loss else ""
        arrives = self.loop.time() + self.rng.uniform(0, 0.003)
        self._last_s = max(arrives, self._last_s + 1e-6)
        self.loop.call_at(self._last_s, self._arrive, step, done, fate)
        return await done

    def _arrive(self, step: Callable[[], Coroutine[Any, Any, T]], done: asyncio.Future[T], fate: str) -> None:
        if self.truth.away or fate == "before":
            self._fail(done, "before")
        elif fate == "late":
            self._late.append(lambda: done_now(step()))
            self.loop.call_later(self.rng.uniform(0, 0.3), self.land)
            self._fail(done, "late")
        elif self.is_cut and self.rng.random() < 0.5:
            return
        else:
            try:
                answer = done_now(step())
            except Exception as error:  # noqa: BLE001 - whatever the store says goes to who asked
                _settle(done, error)
                return
            if fate == "after":
                self._fail(done, "after")
            else:
                self.loop.call_later(self.rng.uniform(0, 0.002), _answer, done, answer)

    def _fail(self, done: asyncio.Future[Any], kind: str) -> None:
        self.losses[kind] += 1
        delay = self.rng.choice((0.0, 0.0, 0.2))
        self.loop.call_later(delay, _settle, done, LedgerUnavailable(f"redis: lost {kind}"))

    def land(self) -> None:
        """Let what was late arrive now."""
        while self._late:
            self._late.pop(0)()

    def cut(self) -> None:
        """Do nothing any more: who used this is dead."""
        self.is_cut = True

    # The ledger of the daemon.

    async def apply(self, pool: PoolName, events: Sequence[Event]) -> Sequence[Decision]:
        """Apply events."""
        return await self.ask(lambda: self.truth.apply(pool, events), may_be_late=True)

    async def tick(self, pool: PoolName, published: str = "") -> Snapshot:
        """Judge the clock."""
        return await self.ask(lambda: self.truth.tick(pool, published))

    async def open_day(self, pool: PoolName, opening: Opening) -> bool:
        """Open a day."""
        return await self.ask(lambda: self.truth.open_day(pool, opening))

    async def changes(self, pool: PoolName, after: str) -> Sequence[Change]:
        """Read the changes."""
        return await self.ask(lambda: self.truth.changes(pool, after))

    async def set_rate(self, pool: PoolName, trading_day: str, rate: str) -> str:
        """Set the rate."""
        return await self.ask(lambda: self.truth.set_rate(pool, trading_day, rate))

    async def operate(self, pool: PoolName, act: Act) -> Status:
        """Carry out an act."""
        return await self.ask(lambda: self.truth.operate(pool, act))

    async def attest(self, pool: PoolName, claims: Sequence[Claim]) -> Attestation:
        """Give a word."""
        return await self.ask(lambda: self.truth.attest(pool, claims))

    @property
    def sources(self) -> LinkedSources:
        """Which numbers have come."""
        return LinkedSources(self)

    # What gateways ask for.

    async def reserve(self, pool: PoolName, order: NewOrder, hold_ms: int | None) -> Reservation:
        """Reserve."""
        return await self.ask(lambda: self.truth.reserve(pool, order, hold_ms))

    async def release(self, pool: PoolName, order_id: str) -> Released:
        """Give back."""
        return await self.ask(lambda: self.truth.release(pool, order_id))

    # What the page reads.

    async def latest(self, *_: object) -> list[Any]:
        """Nothing: the page is not played."""
        return []

    async def sampled(self, *_: object) -> list[Any]:
        """Nothing."""
        return []

    async def verified(self, *_: object) -> None:
        """Nothing."""


class LinkedSources(NamedTuple):
    """The numbers of the sources, over the same link."""

    link: Link

    async def arrived(self, pool: PoolName, numbers: Sequence[Numbers]) -> None:
        """Take down numbers."""
        sources = self.link.truth.sources
        await self.link.ask(lambda: sources.arrived(pool, numbers))

    async def read(self, pool: PoolName) -> Register:
        """Read them."""
        sources = self.link.truth.sources
        return await self.link.ask(lambda: sources.read(pool))


def done_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    raise AssertionError("the store in memory does not wait")


def _answer(future: asyncio.Future[T], answer: T) -> None:
    if not future.done():
        future.set_result(answer)


def _settle(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

"""The ways to the store: links that lose requests and replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, TypeVar

from quota.decision import Decision, PoolName, Status
from quota.doubt import Claim
from quota.errors import LedgerUnavailable
from quota.events import Event, NewOrder, Numbers
from quota.journal import Entry
from quota.ledger import Act, Attestation, Released, Reservation, Snapshot
from quota.numbers import Register
from quota.pool import Change, Opening, Pool
from tests.simulation.loop import SimulatedLoop
from tests.simulation.store import Truth

T = TypeVar("T")


@dataclass(slots=True)
class Link:
    """A way to the store that loses requests and replies: for a daemon, for a gateway, for an operator.

    ``loss`` is how often. A link that is ``cut`` does nothing any more, and what was on its way may
    still arrive. ``losses`` counts by kind; a reply counts as lost where there was a commit before it.
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
            self.losses["before"] += 1
            self._fail(done, "before")
        elif fate == "late":
            self._late.append(lambda: self._carry_out(step(), self.loop.create_future(), fate))
            self.loop.call_later(self.rng.uniform(0, 0.3), self.land)
            self.losses["late"] += 1
            self._fail(done, fate)
        elif self.is_cut and self.rng.random() < 0.5:
            return
        else:
            self._carry_out(step(), done, fate)

    def _carry_out(self, doing: Coroutine[Any, Any, T], done: asyncio.Future[T], fate: str) -> None:
        """Let the store do what it does at once; others come between that and the rest.

        The rules do all at once. A fault may wait, as who needs two commands of a store for one thing.
        """
        before = self.truth.reached() if fate == "after" else None
        try:
            doing.send(None)
        except StopIteration as end:
            if fate == "after":
                self.losses["after"] += before != self.truth.reached()
                self._fail(done, fate)
            elif not fate:
                self.loop.call_later(self.rng.uniform(0, 0.002), _answer, done, end.value)
        except Exception as error:  # noqa: BLE001 - whatever the store says goes to who asked
            _settle(done, error)
        else:
            self.loop.call_later(self.rng.uniform(0, 0.2), self._carry_out, doing, done, fate)

    def _fail(self, done: asyncio.Future[Any], kind: str) -> None:
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

    async def changes(self, pool: PoolName, after: str, day: str = "") -> Sequence[Change]:
        """Read the changes."""
        return await self.ask(lambda: self.truth.changes(pool, after, day))

    async def set_rate(self, pool: PoolName, trading_day: str, rate: str) -> str:
        """Set the rate."""
        return await self.ask(lambda: self.truth.set_rate(pool, trading_day, rate))

    async def operate(self, pool: PoolName, act: Act) -> Status:
        """Carry out an act."""
        return await self.ask(lambda: self.truth.operate(pool, act))

    async def attest(self, pool: PoolName, claims: Sequence[Claim], *, put_back: bool = False) -> Attestation:
        """Give a word."""
        return await self.ask(lambda: self.truth.attest(pool, claims, put_back=put_back))

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

    # What the recorder reads.

    async def read(self, pool: PoolName) -> Pool | None:
        """Read a pool."""
        return await self.ask(lambda: self.truth.read(pool))

    async def page(self, pool: PoolName, first_seq: int, day: str = "") -> Sequence[Entry]:
        """Read a page of a journal."""
        return await self.ask(lambda: self.truth.page(pool, first_seq, day))

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
        truth = self.link.truth
        await self.link.ask(lambda: truth.arrived(pool, numbers), may_be_late=True)

    async def read(self, pool: PoolName) -> Register:
        """Read them."""
        sources = self.link.truth.sources
        return await self.link.ask(lambda: sources.read(pool))


def _answer(future: asyncio.Future[T], answer: T) -> None:
    if not future.done():
        future.set_result(answer)


def _settle(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

"""A small world, walked exhaustively: every step on every state that can be reached, in model and store.

Equal states have equal futures, so a breadth-first search over *states* goes through every sequence of
steps: those of length n are all covered once every state that n - 1 steps can reach has had every step
tried on it. Where no new state turns up any more, every sequence of any length is covered.

Two states count as equal when everything that a decision reads is equal: the moment, the pool, the
orders, the executions and the holds. What is only ever added to is left out of that and begins anew at
every step (journal and changes empty, the counts at ``COUNTED``), and the numbers of the orders are
written anew from 1 on in their order, because a number is never read but to be followed, repeated, or
to name its order. What a step adds is compared in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec.structs import astuple, replace

from quota import day
from quota.decision import PoolName, Side, Verdict, Violation
from quota.memory import Book, MemoryLedger
from quota.pool import Opening, Order, Pool
from tests.agreement.state import ELSEWHERE
from tests.agreement.steps import Call, Elsewhere, Later, Played, Step, Told, play, replied
from tests.agreement.trial import SERVER, Bench, by_id_of, differs, kept_of

COUNTED: dict[tuple[Side, Verdict], int] = {
    (Side.BUY, Verdict.ACCEPTED): 7,
    (Side.BUY, Verdict.SUSPENDED): 5,
}
VIOLATED = {Violation.ABOVE_LIMIT: 3}
"""Where counts begin at every step: above zero, so that one that is written afresh shows."""

_TOGETHER = 24


class World(NamedTuple):
    """A day, the moments at which anything may happen, and the steps of which sequences are made."""

    name: str
    pool: PoolName
    opening: Opening
    moments: tuple[int, ...]
    steps: tuple[Step, ...]

    @property
    def calls(self) -> tuple[Call, ...]:
        """The steps that call the store."""
        return tuple(step for step in self.steps if not isinstance(step, Later | Elsewhere))


class State(NamedTuple):
    """Where a world stands: a moment's place, its book, the executions that call their order by its id."""

    place: int
    book: Book
    by_id: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[Any, ...]:
        """Everything that a decision reads."""
        book = self.book
        assert book.pool is not None
        facts = (book.orders, book.executions, book.holds)
        pool = astuple(book.pool)[:-2]
        return self.place, pool, book.next_rate, *(frozenset(fact.items()) for fact in facts), self.by_id


class Trait(NamedTuple):
    """What kind of step went from what kind of state to what: for telling what was seen at all."""

    step: str
    said: tuple[str, str] | None
    order: tuple[str, ...]
    was: tuple[str, str, bool]
    now: tuple[str, str, bool]
    violations: tuple[str, ...]


@dataclass(slots=True)
class Found:
    """What a search came to. ``depth`` is up to what length every sequence is covered."""

    world: World
    depth: int = 0
    closed: bool = False
    cases: int = 0
    states: int = 0
    traits: Counter[Trait] = field(default_factory=Counter)

    @property
    def sequences(self) -> int:
        """How many sequences of steps there are up to the length that is covered."""
        return sum(len(self.world.steps) ** length for length in range(1, self.depth + 1))

    def __str__(self) -> str:
        reach = "of any length" if self.closed else f"of up to {self.depth} steps, part of the longer ones"
        return (
            f"{self.world.name}: {len(self.world.steps)} steps, {self.states} states, {self.cases} cases: "
            f"every sequence {reach} ({self.sequences:.3g} of up to {self.depth} steps)"
        )


def begun(world: World) -> State:
    """Open the world's day at its first moment."""
    pool = day.opened(None, world.opening, SERVER, world.moments[0])
    return canonical(0, Book(pool=pool), frozenset())


def canonical(place: int, book: Book, by_id: frozenset[str]) -> State:
    """Write the numbers anew, and forget what is only ever added to."""
    assert book.pool is not None
    ranks = {seq: rank for rank, seq in enumerate(sorted(o.seq for o in book.orders.values() if o.seq), 1)}
    orders = {name: _ranked(order, ranks) for name, order in book.orders.items()}
    pool = replace(book.pool, seq=len(ranks), decided=COUNTED, violated=VIOLATED)
    kept = Book(pool, orders, book.executions, holds=book.holds, next_rate=book.next_rate)
    return State(place, kept, by_id)


def _ranked(order: Order, ranks: dict[int, int]) -> Order:
    return order if ranks.get(order.seq, 0) == order.seq else replace(order, seq=ranks[order.seq])


def moved(world: World, state: State, step: Later | Elsewhere) -> State | None:
    """Move the world without calling anybody; None at the end of its moments."""
    if isinstance(step, Later):
        place = max(0, min(state.place + step.moments, len(world.moments) - 1))
        return state._replace(place=place) if place != state.place else None
    assert state.book.pool is not None
    return state._replace(book=_copied(state.book, replace(state.book.pool, attested=ELSEWHERE, doubted="")))


def _copied(book: Book, pool: Pool) -> Book:
    return Book(
        pool, dict(book.orders), dict(book.executions), holds=dict(book.holds), next_rate=book.next_rate
    )


def stepped(world: World, state: State, step: Call) -> tuple[Book, Played]:
    """Take a step in the model, from a copy of a state."""
    now_ms = world.moments[state.place]
    ledger = MemoryLedger(lambda: now_ms)
    assert state.book.pool is not None
    ledger.books[world.pool] = _copied(state.book, state.book.pool)
    played = play(ledger, world.pool, step)
    return ledger.books[world.pool], played


# The search.


class Search:
    """Tries every step on every state of a world, on every bench, until ``most`` cases are through.

    With a ``breadth`` it goes on with that many states of each length only, spread evenly: it sees a part
    of everything, and covers every sequence only of the first few lengths.
    """

    def __init__(self, world: World, benches: Sequence[Bench], most: int, breadth: int = 0) -> None:
        self.world, self.benches, self.most, self.breadth = world, tuple(benches), most, breadth
        self.found = Found(world)
        first = begun(world)
        self._seen = {first.key}
        self._here: list[State] = [first]

    def run(self) -> Found:
        """Go through length after length; raises AssertionError where model and store differ."""
        found, whole = self.found, True
        while self._here and found.cases < self.most:
            here = self._chosen()
            whole, self._here = whole and len(here) == len(self._here), []
            for start in range(0, len(here), _TOGETHER):
                self._try(here[start : start + _TOGETHER])
            found.depth += whole
        found.states, found.closed = len(self._seen), whole and not self._here
        return found

    def _chosen(self) -> list[State]:
        """Choose the states to go on with: all of them, unless that is too many."""
        room = -(-(self.most - self.found.cases) // len(self.world.calls))
        room = min(room, self.breadth or room)
        return self._here[:: -(-len(self._here) // room)]

    def _try(self, states: Sequence[State]) -> None:
        calls = self.world.calls
        for bench in self.benches:
            for state in states:
                now_ms = self.world.moments[state.place]
                bench.ask(self.world.pool, now_ms, kept_of(state.book, state.by_id), calls)
        ours = [[stepped(self.world, state, step) for step in calls] for state in states]
        for bench in self.benches:
            for state, mine in zip(states, ours, strict=True):
                self._compare(state, mine, bench.answer(), meets=bench is self.benches[-1])
        self.found.cases += len(states) * len(calls)

    def _compare(
        self, state: State, mine: list[tuple[Book, Played]], answer: list[Any], *, meets: bool
    ) -> None:
        for step, (book, played), (reply, *kept) in zip(self.world.calls, mine, answer, strict=True):
            said = replied(step, reply)
            assert said == played.reply, f"{self.world.name}: {step} on {state}: {said} for {played.reply}"
            where = differs(book, kept)
            assert not where, f"{self.world.name}: {step} on {state}: {where}: {kept} for {book}"
            if meets:
                self.found.traits[trait(state, step, book, played)] += 1
                self._meet(canonical(state.place, book, by_id_of(kept[2])))
        if meets:
            self._move_on(state)

    def _move_on(self, state: State) -> None:
        for step in self.world.steps:
            if not isinstance(step, Later | Elsewhere):
                continue
            if (there := moved(self.world, state, step)) is not None:
                self._meet(there)

    def _meet(self, state: State) -> None:
        key = state.key
        if key not in self._seen:
            self._seen.add(key)
            self._here.append(state)


def trait(state: State, step: Call, book: Book, played: Played) -> Trait:
    """Tell what kind of thing happened."""
    was, now = state.book.pool, book.pool
    assert was is not None
    assert now is not None
    decision = played.decisions[-1] if played.decisions else None
    violations = book.journal[-1].violations if book.journal else ()
    return Trait(
        _name(step),
        (str(decision.outcome), str(decision.verdict)) if decision else None,
        _order_words(state.book, step),
        (was.phase, was.status, was.balance_fen > 0),
        (now.phase, now.status, now.balance_fen > 0),
        tuple(map(str, violations)),
    )


def _name(step: Call) -> str:
    if isinstance(step, Told):
        return type(step.events[-1]).__name__
    return type(step).__name__


def _order_words(book: Book, step: Call) -> tuple[str, ...]:
    match step:
        case Told(events):
            order_id = events[-1].order_id
        case _:
            order_id = getattr(step, "order_id", "") or getattr(getattr(step, "order", None), "order_id", "")
    order = book.orders.get(order_id)
    return () if order is None else _words_of(order)


@lru_cache(maxsize=4096)
def _words_of(order: Order) -> tuple[str, ...]:
    flags = {"off_book": order.off_book, "spent": order.spent, "reserved": order.reserved}
    words = [name for name, holds in flags.items() if holds]
    return (*words, str(order.verdict or "unknown"), *(("traded",) if order.filled else ()))

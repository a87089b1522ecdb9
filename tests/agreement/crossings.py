"""Three gateways and the feed on one pool: every order in which their steps can fall.

Each of the four goes through a script of its own. All interleavings of the four are walked, step by step,
in the model; every step that is new (a step on a state) is tried in the stores too. See small.py for when
two states are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

from quota.decision import PoolName, Verdict
from quota.events import NewOrder
from quota.memory import Book
from quota.pool import Opening
from tests.agreement.small import State, World, begun, canonical, moved, stepped
from tests.agreement.steps import Asked, Call, Later, Looked, Played, Returned, Told, replied
from tests.agreement.tally import Tally, content
from tests.agreement.trial import Bench, by_id_of, differs, kept_of
from tests.agreement.worlds import SELL, bust, cancelled, fill, new, opening

Script = tuple[Call | Later, ...]
_AHEAD = 400


class Day(NamedTuple):
    """Where the four meet: a pool, its limit, a phase; what refuses there, and whether it lasts."""

    name: str
    pool: PoolName
    limit_fen: int
    starts_ms: int
    shut: Verdict
    sticky: bool

    @property
    def world(self) -> World:
        """The day as a small world; its second moment is when the holds have ended."""
        chosen: Opening = opening(self.pool, self.limit_fen, rate="1.00000")
        return World(self.name, self.pool, chosen, (self.starts_ms, self.starts_ms + 500), ())


DAYS = (
    Day("trading", PoolName.NB_SH, 3, 2000, Verdict.EXHAUSTED, sticky=True),
    Day("a northbound auction", PoolName.NB_SZ, 3, 1000, Verdict.SUSPENDED, sticky=False),
    Day("a southbound opening", PoolName.SB_SH, 3, 1000, Verdict.SUSPENDED, sticky=True),
    Day("a day with room", PoolName.SB_SZ, 100, 2000, Verdict.EXHAUSTED, sticky=True),
)


def _asked(name: str, price: str = "0.01", hold_ms: int = 0) -> Asked:
    return Asked(new(name, price), hold_ms)


def _told(*events: NewOrder | object) -> Script:
    return tuple(Told((event,)) for event in events)  # type: ignore[arg-type] # events, all of them


FIRST: tuple[Script, ...] = (
    (_asked("a"), _asked("a")),
    (_asked("a"), Returned("a")),
    (Returned("a"), _asked("a")),
    (_asked("a", hold_ms=500), _asked("c")),
)
SECOND: tuple[Script, ...] = (
    (_asked("b"), Returned("b")),
    (_asked("b"), _asked("b", "0.02")),
    (_asked("b", hold_ms=500), _asked("b")),
    (Asked(new("s", side=SELL)), _asked("b")),
)
THIRD: tuple[Script, ...] = (
    (_asked("a"), Returned("a")),
    (_asked("c"), _asked("a", "0.02")),
    (_asked("c"), _asked("c")),
)
FEED: tuple[Script, ...] = (
    _told(new("a"), fill("ax")),
    _told(cancelled("a"), new("a")),
    _told(fill("bx"), cancelled("b")),
    _told(fill("sx", side=SELL), bust("sx", side=SELL)),
    (Later(), *_told(new("a"))),
)
CROSSINGS = tuple(product(FIRST, SECOND, THIRD, FEED))
"""Two steps each, eight in all: 8! / (2! 2! 2! 2!) interleavings of each of these."""

INTERLEAVINGS = 2520


class Edge(NamedTuple):
    """What a step made of a state."""

    there: State
    verdict: Verdict | None
    numbers: int


@dataclass(slots=True)
class Walk:
    """Goes through all interleavings of scripts on a day; raises AssertionError where a rule is broken."""

    day: Day
    benches: Sequence[Bench]
    interleavings: int = 0
    steps: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    _edges: dict[object, Edge] = field(default_factory=dict)
    _untried: list[tuple[State, Call, Book, Played]] = field(default_factory=list)
    _ends: set[int] = field(default_factory=set)

    @property
    def tried(self) -> int:
        """How many different steps were taken in model and stores."""
        return len(self._edges)

    def __str__(self) -> str:
        crossed = self.interleavings // INTERLEAVINGS
        return (
            f"three gateways and the feed, {self.day.name}: {crossed} crossings, {self.interleavings} "
            f"interleavings of eight steps, {self.tried} different steps tried in model and stores"
        )

    def all_of(self, scripts: tuple[Script, ...]) -> None:
        """Walk one crossing."""
        day = self.day
        self._ends = set()
        start = begun(day.world)
        self._walk(scripts, start, Tally(day.limit_fen, day.shut, day.sticky), {})
        if day.limit_fen > 10 and not self._depends_on_order(scripts):
            assert len(self._ends) == 1, f"{scripts}: {self._ends}"
            self.seen["one end of all orders"] += 1
        self.check()

    @staticmethod
    def _depends_on_order(scripts: tuple[Script, ...]) -> bool:
        """Whether who comes first decides what an id stands for, or whether a hold lapses."""
        steps = [step for script in scripts for step in script]
        orders = {(s.order.order_id, content(s.order)) for s in steps if isinstance(s, Asked)}
        conflict = len({name for name, _ in orders}) < len(orders)
        return conflict or any(isinstance(step, Later) for step in steps)

    def _walk(
        self, scripts: tuple[Script, ...], state: State, tally: Tally, told: dict[str, Verdict]
    ) -> None:
        if not any(scripts):
            self._end(state, tally)
            return
        for place, script in enumerate(scripts):
            if not script:
                continue
            step, left = script[0], (*scripts[:place], script[1:], *scripts[place + 1 :])
            after, must = tally.after(step)
            if isinstance(step, Later):
                there = moved(self.day.world, state, step)
                assert there is not None
                self._walk(left, there, after, told)
                continue
            edge = self._edge(state, step)
            assert edge.verdict == must, f"{self.day.name}: {step} after {told}: {edge.verdict}, not {must}"
            self._walk(left, edge.there, after, self._answered(told, tally, step, edge.verdict))

    def _end(self, state: State, tally: Tally) -> None:
        pool = self._edge(state, Looked()).there.book.pool
        assert pool is not None
        assert pool.balance_fen == tally.balance
        self._ends.add(pool.balance_fen)
        self.interleavings += 1

    def _answered(
        self, told: dict[str, Verdict], tally: Tally, step: Call, verdict: Verdict | None
    ) -> dict[str, Verdict]:
        """See that no id has two verdicts, and that nobody is refused while something is left."""
        order = _order_of(step)
        if order is None or verdict is None or verdict is Verdict.ID_REUSED:
            self.seen[str(verdict)] += 1
            return told
        name = f"{order.order_id} {content(order)}"
        line = tally.lines.get(order.order_id)
        if name in told:
            sent_all_the_same = line is not None and line.spent and isinstance(step, Told)
            assert verdict is told[name] or sent_all_the_same, f"{step}: {verdict} after {told}"
            self.seen["sent though spent" if sent_all_the_same else f"{verdict} again"] += 1
            return told
        if verdict is not Verdict.ACCEPTED:
            assert tally.closed, f"{step}: {verdict} with {tally.balance} left"
            self.seen["refused"] += 1
            if tally.balance > 0:
                self.seen["refused with something left again"] += 1
        return told | {name: verdict}

    def _edge(self, state: State, step: Call) -> Edge:
        key = (state.key, step)
        known = self._edges.get(key)
        if known is not None:
            self.steps += 1
            return known
        book, played = stepped(self.day.world, state, step)
        assert state.book.pool is not None
        assert book.pool is not None
        first, last = state.book.pool.seq + 1, book.pool.seq
        assert [entry.seq for entry in book.journal] == list(range(first, last + 1))
        by_id = _by_id(state, book)
        verdict = played.decisions[0].verdict if played.decisions else None
        edge = self._edges[key] = Edge(canonical(state.place, book, by_id), verdict, len(book.journal))
        self._untried.append((state, step, book, played))
        self.steps += 1
        if len(self._untried) == _AHEAD:
            self.check()
        return edge

    def check(self) -> None:
        """Take in the stores the steps that were new in the model."""
        untried, self._untried = self._untried, []
        for bench in self.benches:
            for state, step, _, _ in untried:
                now_ms = self.day.world.moments[state.place]
                bench.ask(self.day.pool, now_ms, kept_of(state.book, state.by_id), (step,))
            for state, step, book, played in untried:
                ((reply, *found),) = bench.answer()
                assert replied(step, reply) == played.reply, f"{step} on {state}: {reply}"
                where = differs(book, found)
                assert not where, f"{step} on {state}: {where}: {found}"
                assert by_id_of(found[2]) == _by_id(state, book)


def _by_id(state: State, book: Book) -> frozenset[str]:
    """Which executions call their order by its id: those that came before anything was decided of it."""
    fresh = {
        name
        for name, trade in book.executions.items()
        if state.book.executions.get(name) != trade
        and not state.book.orders.get(trade.order_id, book.orders[trade.order_id]).seq
    }
    known = {name for name in state.by_id if state.book.executions[name] == book.executions[name]}
    return frozenset(known | fresh)


def _order_of(step: Call) -> NewOrder | None:
    if isinstance(step, Asked):
        return step.order
    if isinstance(step, Told) and isinstance(step.events[0], NewOrder):
        return step.events[0]
    return None


def chosen(every: int) -> Iterator[tuple[Day, tuple[Script, ...]]]:
    """Every so-many-th crossing of each day, beginning at another place in each."""
    for place, day in enumerate(DAYS):
        for scripts in CROSSINGS[place % every :: every]:
            yield day, scripts

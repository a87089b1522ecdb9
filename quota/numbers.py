"""Which numbers of their sources have come to a pool, and which are missing.

A source may number its events, from 1 in each epoch of its own. What is kept is what is missing: a
number beyond the last one known opens a gap, its arrival closes it, and coming twice or in another order
makes no difference. Everything is bounded; what a bound cuts off stays counted. ``quota/lua/gaps.lua``
does the same in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from quota.decision import PoolName
from quota.events import Numbers
from quota.money import BOUND
from quota.pool import Pool

GAPS_MAX: Final = 256
"""How many gaps of a source are listed; of one more the oldest is only counted from then on."""

EPOCHS_MAX: Final = 16
"""How many epochs of a source are known; one more has the oldest forgotten, its gaps stay counted."""

SOURCES_MAX: Final = 1_000
"""How many sources of a pool are watched; the events of others are counted as unwatched."""

NOTES_MAX: Final = 32
"""How many acceptances of a pool are remembered."""


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Numbers that are missing, both ends among them, and since when by the store's clock."""

    first: int
    last: int
    since_ms: int


class Epoch(msgspec.Struct, frozen=True, array_like=True):
    """One count of a source: how far it is known to go, and its gaps, ascending."""

    name: str
    last: int = 0
    gaps: tuple[Gap, ...] = ()


class Source(msgspec.Struct, frozen=True, array_like=True):
    """A source on a trading day. ``unlisted`` is how many numbers are missing that are in no gap any more."""

    day: str
    unlisted: int = 0
    unlisted_since_ms: int = 0
    epochs: tuple[Epoch, ...] = ()

    @property
    def missing(self) -> int:
        """How many numbers are missing."""
        listed = sum(gap.last - gap.first + 1 for epoch in self.epochs for gap in epoch.gaps)
        return self.unlisted + listed

    @property
    def since_ms(self) -> int:
        """Since when something is missing; 0 where nothing is."""
        times = [gap.since_ms for epoch in self.epochs for gap in epoch.gaps]
        return min([*times, *([self.unlisted_since_ms] if self.unlisted else [])], default=0)


class Accepted(msgspec.Struct, frozen=True, array_like=True):
    """That somebody gave up on what was missing of a source, and who."""

    source: str
    missing: int
    reason: str
    user: str
    host: str
    time_ms: int = 0


class Acceptance(msgspec.Struct, frozen=True, array_like=True):
    """What is given up: exactly what was seen, so that nothing goes with it that came later."""

    numbers: Sequence[Numbers]
    unlisted: Sequence[tuple[str, int]]
    notes: Sequence[Accepted]


class Full(msgspec.Struct, frozen=True, array_like=True):
    """On which day there were too many sources, and how many events of others came."""

    day: str = ""
    unwatched: int = 0


@dataclass(slots=True)
class Register:
    """What is kept of all sources of a pool."""

    sources: dict[str, Source] = field(default_factory=dict)
    full: Full = field(default_factory=Full)
    accepted: tuple[Accepted, ...] = ()

    def missing_on(self, day: str) -> Mapping[str, Source]:
        """Return the sources of which something is missing on a day, by their names."""
        return {name: it for name, it in sorted(self.sources.items()) if it.day == day and it.missing}

    def unwatched_on(self, day: str) -> int:
        """Say how many events of a day came from sources beyond those that are watched."""
        return self.full.unwatched if self.full.day == day else 0


class Sources(Protocol):
    """Where it is kept which numbers have come. Every method is atomic for its pool, and safe to repeat.

    Both raise LedgerUnavailable when the store is away.
    """

    async def arrived(self, pool: PoolName, numbers: Sequence[Numbers]) -> None:
        """Take down numbers that have come; whoever calls it has their events in the ledger by then."""
        ...

    async def read(self, pool: PoolName) -> Register:
        """Return what is kept of a pool's sources."""
        ...


def joined(numbers: Iterable[Numbers]) -> Sequence[Numbers]:
    """Join runs that continue each other: of a source's hundred events one run is left."""
    runs: list[Numbers] = []
    latest: dict[tuple[str, str], int] = {}
    for run in numbers:
        key = run.source, run.epoch
        place = latest.get(key)
        if place is not None and run.first == runs[place].last + 1:
            runs[place] = replace(runs[place], last=run.last)
        else:
            latest[key] = len(runs)
            runs.append(run)
    return runs


def on_day(source: Source | None, day: str) -> Source:
    """Return a source as a day begins with it: what was missing on another day is over with that one."""
    if source is None:
        return Source(day)
    if source.day == day:
        return source
    return Source(day, epochs=tuple(replace(epoch, gaps=()) for epoch in source.epochs))


def heard(source: Source, run: Numbers, now_ms: int) -> Source:
    """Take down a run of numbers of a source."""
    epochs = {epoch.name: epoch for epoch in source.epochs}
    epochs[run.epoch] = _heard(epochs.get(run.epoch, Epoch(run.epoch)), run, now_ms)
    return _bounded(replace(source, epochs=tuple(epochs.values())))


def _heard(epoch: Epoch, run: Numbers, now_ms: int) -> Epoch:
    gaps = [left for gap in epoch.gaps for left in _left_of(gap, run)]
    if run.first > epoch.last + 1:
        gaps.append(Gap(epoch.last + 1, run.first - 1, now_ms))
    return Epoch(epoch.name, max(epoch.last, run.last), tuple(gaps))


def _left_of(gap: Gap, run: Numbers) -> Iterator[Gap]:
    """What is missing still of a gap; an empty run, which a heartbeat is, takes nothing out of it."""
    if run.first > run.last or run.last < gap.first or gap.last < run.first:
        yield gap
        return
    if gap.first < run.first:
        yield replace(gap, last=run.first - 1)
    if run.last < gap.last:
        yield replace(gap, first=run.last + 1)


def _bounded(source: Source) -> Source:
    """Forget the oldest epoch and the oldest gap where they are too many; their numbers stay counted."""
    if len(source.epochs) > EPOCHS_MAX:
        source = _counting(source, source.epochs[0].gaps)
        source = replace(source, epochs=source.epochs[1:])
    while sum(len(epoch.gaps) for epoch in source.epochs) > GAPS_MAX:
        place = next(place for place, epoch in enumerate(source.epochs) if epoch.gaps)
        epochs = list(source.epochs)
        source = _counting(source, epochs[place].gaps[:1])
        epochs[place] = replace(epochs[place], gaps=epochs[place].gaps[1:])
        source = replace(source, epochs=tuple(epochs))
    return source


def _counting(source: Source, gaps: Sequence[Gap]) -> Source:
    """Count gaps that are not listed any more."""
    for gap in gaps:
        unlisted = min(source.unlisted + gap.last - gap.first + 1, BOUND)
        since_ms = min(source.unlisted_since_ms or gap.since_ms, gap.since_ms)
        source = replace(source, unlisted=unlisted, unlisted_since_ms=since_ms)
    return source


def take_down(register: Register, day: str, numbers: Sequence[Numbers], now_ms: int) -> None:
    """Take down numbers of any sources; there is room for so many sources only."""
    for run in numbers:
        if run.source not in register.sources and not _has_room(register, day):
            come = max(0, run.last - run.first + 1)
            register.full = Full(day, min(register.full.unwatched + come, BOUND))
        else:
            known = on_day(register.sources.get(run.source), day)
            register.sources[run.source] = heard(known, run, now_ms)


def _has_room(register: Register, day: str) -> bool:
    """Whether one more source may be watched; once a day those go for it that were not heard on it."""
    if len(register.sources) >= SOURCES_MAX and register.full.day != day:
        register.full = Full(day)
        register.sources = {name: it for name, it in register.sources.items() if it.day == day}
    return len(register.sources) < SOURCES_MAX


def accept(register: Register, day: str, acceptance: Acceptance, now_ms: int) -> None:
    """Give up what is missing: what is accepted counts as if it had come."""
    sources = register.sources
    for run in acceptance.numbers:
        if run.source in sources:
            sources[run.source] = heard(on_day(sources[run.source], day), run, now_ms)
    for name, count in acceptance.unlisted:
        if name in sources:
            known = on_day(sources[name], day)
            left = max(0, known.unlisted - count)
            since_ms = known.unlisted_since_ms if left else 0
            sources[name] = replace(known, unlisted=left, unlisted_since_ms=since_ms)
    notes = [replace(note, time_ms=now_ms) for note in acceptance.notes]
    register.accepted = (*register.accepted, *notes)[-NOTES_MAX:]


def given_up(sources: Mapping[str, Source], *, reason: str, user: str, host: str) -> Acceptance:
    """Write that somebody gives up all that is missing of sources, as he has seen them."""
    return Acceptance(
        numbers=[
            Numbers(name, epoch.name, gap.first, gap.last)
            for name, it in sources.items()
            for epoch in it.epochs
            for gap in epoch.gaps
        ],
        unlisted=[(name, it.unlisted) for name, it in sources.items() if it.unlisted],
        notes=[Accepted(name, it.missing, reason, user, host) for name, it in sources.items()],
    )


class _Kept(Protocol):
    """What is read of a ledger's books: which day is open."""

    pool: Pool | None


class MemorySources:
    """The Sources without a store, beside the books of a ledger in memory."""

    def __init__(self, now_ms: Callable[[], int], books: Mapping[PoolName, _Kept]) -> None:
        self._now_ms, self._books = now_ms, books
        self.registers = {pool: Register() for pool in PoolName}

    def _day(self, pool: PoolName) -> str:
        kept = self._books[pool].pool
        return kept.trading_day if kept else ""

    async def arrived(self, pool: PoolName, numbers: Sequence[Numbers]) -> None:
        """Take down numbers that have come."""
        take_down(self.registers[pool], self._day(pool), numbers, self._now_ms())

    async def accept(self, pool: PoolName, acceptance: Acceptance) -> None:
        """Give up what is missing."""
        accept(self.registers[pool], self._day(pool), acceptance, self._now_ms())

    async def read(self, pool: PoolName) -> Register:
        """Return what is kept."""
        return self.registers[pool]

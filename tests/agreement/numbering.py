"""Numbers that come in every order, are given up, and outlive a day: to the model and to a store alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace
from redis.asyncio import Redis

from quota import library, numbers
from quota.decision import PoolName
from quota.events import Numbers
from quota.library import Library
from quota.numbers import Acceptance, Accepted, Full, MemorySources, Register, Source
from quota.store.sources import RedisSources
from tests.agreement.state import command

POOL = PoolName.NB_SH
DAYS = ("2026-11-23", "2026-11-24")
TINY = {"GAPS_MAX": 4, "EPOCHS_MAX": 3, "SOURCES_MAX": 3, "NOTES_MAX": 2}
"""Bounds so small that a short walk meets all of them."""

STRANGE = Acceptance([Numbers("nobody", "1", 1, 3)], [("nobody", 2), ("none", 1)], [])
"""Somebody gives up what is missing of sources that nobody has heard of."""

_BOUNDS = "GAPS_MAX, EPOCHS_MAX, SOURCES_MAX, NOTES_MAX = "
_USUAL = _BOUNDS + ", ".join(str(getattr(numbers, name)) for name in TINY)


def with_tiny_bounds(source: str) -> str:
    """Write the library with the tiny bounds."""
    assert source.count(_USUAL) == 1, "the bounds of the model and of the store are not the same"
    return source.replace(_USUAL, _BOUNDS + ", ".join(map(str, TINY.values())))


def accepting(register: Register, day: str, *names: str) -> Acceptance:
    """Write that somebody gives up all that he sees to be missing of these sources."""
    sources = {name: it for name, it in register.missing_on(day).items() if name in names}
    return numbers.given_up(sources, reason="test", user="ann", host="desk")


def shown(register: Register) -> tuple[Mapping[str, Source], Full, tuple[Accepted, ...]]:
    """Show what is kept, but for the clock: of a time no more than whether there is one."""
    sources = {name: _timeless(it) for name, it in register.sources.items()}
    return sources, register.full, tuple(replace(note, time_ms=0) for note in register.accepted)


def _timeless(source: Source) -> Source:
    epochs = [
        replace(epoch, gaps=tuple(replace(gap, since_ms=min(1, gap.since_ms)) for gap in epoch.gaps))
        for epoch in source.epochs
    ]
    return replace(source, epochs=tuple(epochs), unlisted_since_ms=min(1, source.unlisted_since_ms))


@dataclass(slots=True)
class Pair:
    """The model and a store, told the same."""

    client: Redis
    theirs: RedisSources
    books: dict[PoolName, Any] = field(default_factory=dict)
    ours: MemorySources = field(init=False)

    def __post_init__(self) -> None:
        self.ours = MemorySources(lambda: 1, self.books)

    async def begin(self, day: str) -> None:
        """Open a day."""
        self.books[POOL] = SimpleNamespace(pool=SimpleNamespace(trading_day=day))
        await command(self.client, "HSET", f"quota:{{{POOL}}}:pool", "trading_day", day)

    @property
    def day(self) -> str:
        """The open day."""
        return str(self.books[POOL].pool.trading_day)

    async def arrived(self, *runs: Numbers) -> None:
        """Numbers have come to both."""
        await self.ours.arrived(POOL, runs)
        await self.theirs.arrived(POOL, runs)

    async def accept(self, *names: str) -> None:
        """Give up what is missing of these, in both."""
        for sources in (self.ours, self.theirs):
            await sources.accept(POOL, accepting(await sources.read(POOL), self.day, *names))

    async def agree(self) -> None:
        """Model and store keep the same, and the store's key expires."""
        ours, theirs = await self.ours.read(POOL), await self.theirs.read(POOL)
        assert shown(ours) == shown(theirs)
        assert await command(self.client, "TTL", f"quota:{{{POOL}}}:sources") != -1


async def pair(client: Redis, source: str = library.SOURCE) -> Pair:
    """Begin with an empty store that has this library."""
    await client.flushall()
    await client.function_load(source, replace=True)
    both = Pair(client, RedisSources(Library(client)))
    await both.begin(DAYS[0])
    return both


def drawn(chance: Random) -> Numbers:
    """Draw a run: usually of one number, sometimes of more, sometimes a heartbeat's."""
    first = chance.randint(1, 14)
    last = first + chance.choice((-1, 0, 0, 0, 0, 1, 3))
    return Numbers(chance.choice("abbbcde"), chance.choice("11112345"), first, last)


async def wander(both: Pair, chance: Random, steps: int) -> None:
    """Let all kinds of things happen; raises AssertionError where the two disagree."""
    for _ in range(steps):
        match chance.randint(0, 20):
            case 0:
                await both.begin(chance.choice(DAYS))
            case 1 | 2:
                await both.accept(*chance.sample("abcde", 2))
            case 3:
                await both.ours.accept(POOL, STRANGE)
                await both.theirs.accept(POOL, STRANGE)
            case _:
                await both.arrived(*(drawn(chance) for _ in range(chance.randint(1, 4))))
        await both.agree()

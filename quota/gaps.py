"""What is told of numbers that are missing: figures, log lines and warnings.

A gap of a moment is events in another order, so nothing is said of one that is younger than the grace;
the figures have it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from quota.clock import MarketClock, iso
from quota.decision import PoolName
from quota.figures import Missing
from quota.ledger import Ledger, Snapshot
from quota.metrics import Metrics
from quota.numbers import SOURCES_MAX, Accepted, Gap, Register, Source

GRACE_MS = 5_000
"""For how long a number may be missing before anything is said of it."""

RANGES_TOLD = 8
"""How many ranges of a source a line or a warning names."""

SOURCES_TOLD = 5
"""How many sources of a pool the warnings name."""

_LOOK_S = 1.0

log = structlog.get_logger(__name__)

Place = tuple[str, str]
"""A source and an epoch of it."""


@dataclass(slots=True)
class _Seen:
    """What was last read of a pool, and what has been said of it. ``told`` are gaps as they were then."""

    looked_at: float = 0.0
    missing: Mapping[str, Source] = field(default_factory=dict)
    unwatched: int = 0
    now_ms: int = 0
    told: dict[Place, tuple[Gap, ...]] = field(default_factory=dict)
    accepted: tuple[Accepted, ...] | None = None


@dataclass(slots=True)
class GapWatch:
    """Reads once a second what is missing of each pool, whoever took it down."""

    ledger: Ledger
    metrics: Metrics
    every_s: float = _LOOK_S
    _seen: dict[PoolName, _Seen] = field(default_factory=dict)

    async def look(self, pool: PoolName, snapshot: Snapshot) -> None:
        """Read a pool's sources if it is time, and tell what is new. Raises LedgerUnavailable."""
        now, seen = asyncio.get_running_loop().time(), self._seen.setdefault(pool, _Seen())
        if seen.looked_at and now - seen.looked_at < self.every_s:
            return
        register = await self.ledger.sources.read(pool)
        seen.looked_at, seen.now_ms = now, snapshot.server_ms
        day = snapshot.pool.trading_day if snapshot.pool else ""
        seen.missing, seen.unwatched = register.missing_on(day), register.unwatched_on(day)
        self.metrics.missing(pool, _figures(seen))
        self._tell_accepted(pool, seen, register)
        self._tell_gaps(pool, seen)

    def _tell_accepted(self, pool: PoolName, seen: _Seen, register: Register) -> None:
        """Log what operators gave up since the last look; what we find at first is no news."""
        for note in register.accepted:
            if seen.accepted is not None and note not in seen.accepted:
                log.warning("gap.accepted", pool=pool, **facts(note))
        seen.accepted = register.accepted

    def _tell_gaps(self, pool: PoolName, seen: _Seen) -> None:
        """Log the gaps that have outlasted the grace, and those that are gone."""
        now = {(name, epoch.name): epoch.gaps for name, it in seen.missing.items() for epoch in it.epochs}
        for place, gaps in now.items():
            told = seen.told.get(place, ())
            fresh = tuple(
                gap for gap in gaps if seen.now_ms - gap.since_ms >= GRACE_MS and not _meets(gap, told)
            )
            if fresh:
                source, epoch = place
                log.warning(
                    "gap.opened",
                    pool=pool,
                    source=source,
                    epoch=epoch,
                    missing=_sum(fresh),
                    ranges=ranges(fresh),
                )
                seen.told[place] = (*told, *fresh)
        for place, told in list(seen.told.items()):
            left = tuple(gap for gap in told if _meets(gap, now.get(place, ())))
            gone = tuple(gap for gap in told if gap not in left)
            if gone:
                source, epoch = place
                missing = seen.missing[source].missing if source in seen.missing else 0
                log.info(
                    "gap.closed", pool=pool, source=source, epoch=epoch, ranges=ranges(gone), missing=missing
                )
            seen.told[place] = left
            if not left:
                del seen.told[place]

    def warnings(self) -> Iterator[str]:
        """Say what is missing for longer than the grace."""
        for pool, seen in self._seen.items():
            late = {name: it for name, it in seen.missing.items() if seen.now_ms - it.since_ms >= GRACE_MS}
            for name, it in list(late.items())[:SOURCES_TOLD]:
                yield f"{pool}: {sentence(name, it)}"
            if (more := len(late) - SOURCES_TOLD) > 0:
                yield f"{pool}: of {more} more sources events are missing"
            yield from (f"{pool}: {text}" for text in unwatched(seen.unwatched))


def unwatched(events: int) -> Sequence[str]:
    """Say that sources came for whom there was no room, if any did."""
    beyond = f"sources beyond the {SOURCES_MAX} that are watched"
    return [f"{events} numbered events came from {beyond}"] if events else []


def sentence(name: str, source: Source, most: int | None = RANGES_TOLD) -> str:
    """Say in a line what is missing of a source, and since when; so many ranges of an epoch at most."""
    parts = [f"{epoch.name} {ranges(epoch.gaps, most)}" for epoch in source.epochs if epoch.gaps]
    if source.unlisted:
        parts.append(f"{source.unlisted} not listed")
    since = iso(MarketClock().at_ms(source.since_ms))
    count = "1 event" if source.missing == 1 else f"{source.missing} events"
    return f"{count} of {name} missing since {since} ({'; '.join(parts)})"


def ranges(gaps: Sequence[Gap], most: int | None = RANGES_TOLD) -> str:
    """Write gaps as people do: ``3, 7-12``; of many the first."""
    words = [str(gap.first) if gap.first == gap.last else f"{gap.first}-{gap.last}" for gap in gaps]
    told = words[:most]
    more = [f"{len(words) - len(told)} more ranges"] if len(words) > len(told) else []
    return ", ".join([*told, *more])


def facts(note: Accepted) -> dict[str, object]:
    """The keys under which an acceptance is logged."""
    return {
        "source": note.source,
        "missing": note.missing,
        "reason": note.reason,
        "user": note.user,
        "host": note.host,
    }


def _figures(seen: _Seen) -> Missing:
    sources = seen.missing.values()
    since_ms = min((it.since_ms for it in sources), default=0)
    return Missing(
        events=sum(it.missing for it in sources),
        oldest_s=max(0.0, (seen.now_ms - since_ms) / 1000) if since_ms else 0.0,
        unlisted=sum(it.unlisted for it in sources),
        unwatched=seen.unwatched,
    )


def _meets(gap: Gap, others: Sequence[Gap]) -> bool:
    """Whether any number of a gap is in one of these."""
    return any(gap.first <= other.last and other.first <= gap.last for other in others)


def _sum(gaps: Sequence[Gap]) -> int:
    return sum(gap.last - gap.first + 1 for gap in gaps)

"""What is read from the store once a second, beside the ticks: the latest entries, the day's changes.

None of it decides anything, and nobody waits for it: it is for those who look at the pools, and
it is the same after a restart, because the store remembers it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import msgspec
import structlog

from quota.clock import iso
from quota.course import Course, Point
from quota.days import Days
from quota.decision import PoolName, Side, Verdict
from quota.errors import LedgerUnavailable
from quota.events import NewOrder
from quota.journal import Entry, read_line
from quota.metrics import Metrics
from quota.pool import Change, Pool
from quota.store.record import Verified

LOOK_S = 1.0
LATEST = 60
CHANGES = 100
_RECALLED = 240

log = structlog.get_logger(__name__)


class Record(Protocol):
    """The side of the store that is read here."""

    async def latest(self, pool: PoolName, count: int) -> Sequence[Entry]:
        """Read the last entries of the journal, newest first."""
        ...

    async def sampled(self, pool: PoolName, last_seq: int, count: int) -> Sequence[Entry]:
        """Read at most so many entries, spread evenly over the day, ascending."""
        ...

    async def changes(self, pool: PoolName, after: str) -> Sequence[Change]:
        """Read the changes after an id."""
        ...

    async def verified(self, pool: PoolName) -> Verified | None:
        """Read the result of the last verification."""
        ...


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """A decision on a new order as the journal tells it, whoever asked for it."""

    pool: PoolName
    order_id: str
    side: Side
    price: str
    quantity: int
    source: str
    verdict: Verdict
    balance_fen: int
    seq: int
    time: str


@dataclass(slots=True)
class _Seen:
    """How far a pool has been followed: its day, its number, its last change."""

    trading_day: str = ""
    seq: int = -1
    change: str = "0-0"


@dataclass(slots=True)
class Follower:
    """Follows the journals and the changes of the served pools.

    ``latest`` holds the last entries of each pool, newest first; ``changes`` those of its day,
    oldest first; ``failing`` says of which pool they cannot be read, and why.
    """

    record: Record
    days: Days
    courses: Mapping[PoolName, Course]
    metrics: Metrics
    latest: dict[PoolName, tuple[Entry, ...]] = field(default_factory=dict)
    changes: dict[PoolName, tuple[Change, ...]] = field(default_factory=dict)
    failing: dict[PoolName, str] = field(default_factory=dict)
    _seen: dict[PoolName, _Seen] = field(default_factory=dict)

    async def run(self) -> None:
        """Look once a second for ever."""
        while True:
            for name in self.days.pools:
                await self.look(name)
            await asyncio.sleep(LOOK_S)

    async def look(self, name: PoolName) -> None:
        """Read what is new of a pool whose day is open.

        Whatever comes in the way (a record that cannot be read, a right that is missing) is told
        once and tried again: deciding does not need any of this, so it must not end it.
        """
        snapshot = self.days.snapshots.get(name)
        if snapshot is None or snapshot.pool is None:
            return
        try:
            await self._follow(name, snapshot.pool, snapshot.last_change)
        except LedgerUnavailable:
            return  # the watch tells of it
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no reason to stop deciding
            if self.failing.get(name) != str(error):
                log.warning("follow.failed", pool=name, reason=str(error))
            self.failing[name] = str(error)
        else:
            self.failing.pop(name, None)

    def warnings(self) -> Sequence[str]:
        """What cannot be shown of the pools, and why."""
        return [f"{name}: its journal cannot be followed: {reason}" for name, reason in self.failing.items()]

    def decided(self, count: int) -> list[Decided]:
        """The last decisions over all pools, newest first."""
        clock = self.days.almanac.clock
        entries = sorted(
            ((pool, entry) for pool, page in self.latest.items() for entry in page),
            key=lambda it: (it[1].time_ms, it[1].seq),
            reverse=True,
        )
        found = (_decided(pool, entry, iso(clock.at_ms(entry.time_ms))) for pool, entry in entries)
        return list(islice(filter(None, found), count))

    async def _follow(self, name: PoolName, pool: Pool, last_change: str) -> None:
        self.metrics.verified(name, await self.record.verified(name))
        seen = self._seen.get(name)
        if seen is None or seen.trading_day != pool.trading_day:
            seen = _Seen(pool.trading_day)
            self.latest[name] = self.changes[name] = ()
            await self._read_changes(name, seen)
            await self._recall(name, pool)
            self._seen[name] = seen
        if seen.change != last_change:
            await self._read_changes(name, seen)
        if seen.seq != pool.seq:
            self.latest[name] = tuple(await self.record.latest(name, LATEST))
            seen.seq = pool.seq

    async def _recall(self, name: PoolName, pool: Pool) -> None:
        """Tell the course what the day was before we came, from entries spread over it."""
        clock = self.days.almanac.clock
        points: list[Point] = []
        limits = [(change.seq, change.limit_fen) for change in self.changes[name]]
        for entry in await self.record.sampled(name, pool.seq, _RECALLED):
            limit_fen = next((limit for seq, limit in reversed(limits) if seq <= entry.seq), pool.limit_fen)
            points.append(Point(clock.at_ms(entry.time_ms), limit_fen - entry.balance_fen))
        self.courses[name].recall(points)

    async def _read_changes(self, name: PoolName, seen: _Seen) -> None:
        """Read the changes since the last look; those of earlier days are passed over."""
        while page := await self.record.changes(name, seen.change):
            for change in page:
                fresh = () if change.kind == "day" else self.changes[name]
                self.changes[name] = (*fresh, change)[-CHANGES:]
            seen.change = page[-1].id


def _decided(pool: PoolName, entry: Entry, time: str) -> Decided | None:
    """Read an entry as a decision; None where it is another event, or an operator's act."""
    if entry.verdict is None or entry.is_act:
        return None
    order = read_line(entry.event)
    if not isinstance(order, NewOrder):
        return None
    return Decided(
        pool=pool,
        order_id=order.order_id,
        side=order.side,
        price=order.price,
        quantity=order.quantity,
        source=order.source,
        verdict=entry.verdict,
        balance_fen=entry.balance_fen,
        seq=entry.seq,
        time=time,
    )

"""Follows the pools' journals and changes into the record of the day, in order and without a gap.

What gateways do over the store never comes over MQTT, so the journal is what a day is rebuilt from.
Nothing here decides anything; where it cannot go on, it says so and tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from quota.captured import (
    Captured,
    Changed,
    Journalled,
    Opened,
    Reached,
    Recording,
    digest,
    reached_after,
    terms_digest,
)
from quota.day import OPENED_LATE, STORE_CHANGED, judged, levelled
from quota.days import Days
from quota.decision import PoolName, Status
from quota.errors import CaptureUnavailable, LedgerUnavailable
from quota.journal import Entry
from quota.ledger import Snapshot
from quota.metrics import Metrics
from quota.pool import Change, Pool

LOOK_S = 0.2
_HALTED = "halted before the first entry"

log = structlog.get_logger(__name__)


class Journals(Protocol):
    """The side of the store that is read here; ``day`` names an earlier day that is still kept."""

    async def read(self, pool: PoolName) -> Pool | None:
        """Read a pool as it was last written."""
        ...

    async def page(self, pool: PoolName, first_seq: int, day: str = "") -> Sequence[Entry]:
        """Read a page of the journal from a number on."""
        ...

    async def changes(self, pool: PoolName, after: str, day: str = "") -> Sequence[Change]:
        """Read a page of the changes after an id."""
        ...


@dataclass(slots=True)
class Recorder:
    """Writes down what the served pools' journals and changes say.

    ``failing`` says of which pool that cannot be read, and why.
    """

    capture: Recording
    record: Journals
    days: Days
    metrics: Metrics
    failing: dict[PoolName, str] = field(default_factory=dict)
    _at: dict[PoolName, Reached] = field(default_factory=dict)
    _servers: dict[PoolName, str] = field(default_factory=dict)
    _began: bool = False
    _unread: str = ""

    async def run(self) -> None:
        """Look five times a second for ever; where there is more, rest only as long as the page took.

        So deciding has at least half of the time, however far we are behind.
        """
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            more = await self.look()
            await asyncio.sleep(min(LOOK_S, loop.time() - started) if more else LOOK_S)

    async def look(self) -> bool:
        """Write down a page of each pool; whether there may be more."""
        try:
            if not self._began:
                self._at = dict(await self.capture.reached())
                self._began, self._unread = True, ""
        except CaptureUnavailable as error:
            self._unread = str(error)
        self.metrics.capture_writable(writable=not self._trouble)
        if not self._began:
            return False
        return any([await self._look(name) for name in self.days.pools])

    @property
    def _trouble(self) -> str:
        """Why the record cannot be gone on with; nobody may have tried to write to it yet."""
        return self.capture.trouble or self._unread

    def unready(self) -> Sequence[str]:
        """Why nothing can be acknowledged; empty where it can."""
        trouble = self._trouble
        return [f"the record of the day cannot be written: {trouble}"] if trouble else []

    def behind(self) -> bool:
        """Whether a pool has more than was written down."""
        at = self._at
        return any(
            name not in at or (at[name].trading_day, at[name].seq) != (pool.trading_day, pool.seq)
            for name, it in self.days.snapshots.items()
            if (pool := it.pool) is not None
        )

    def warnings(self) -> Sequence[str]:
        """What cannot be written down of the pools, and why."""
        return [f"{name}: its journal cannot be recorded: {reason}" for name, reason in self.failing.items()]

    async def _look(self, name: PoolName) -> bool:
        """Write down what is new of a pool whose day is open. What fails is no reason to stop deciding."""
        snapshot = self.days.snapshots.get(name)
        if snapshot is None or snapshot.pool is None or not self.days.witness.trusts(name, snapshot):
            return (
                False  # what a store has taken that lost entries stands behind what it had, once that is back
            )
        try:
            more = await self._follow(name, snapshot, snapshot.pool)
        except (LedgerUnavailable, CaptureUnavailable):
            return False  # the watch and the capture tell of it
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no reason to stop deciding
            if self.failing.get(name) != str(error):
                log.warning("recorder.failed", pool=name, reason=str(error))
            self.failing[name] = str(error)
            return False
        self.failing.pop(name, None)
        return more

    async def _follow(self, name: PoolName, snapshot: Snapshot, seen: Pool) -> bool:
        at = self._at.get(name)
        if at is not None and at.trading_day < seen.trading_day and await self._finish(name, at):
            return True
        if at is None or (at.trading_day, at.terms) != (seen.trading_day, terms_digest(seen)):
            return await self._state_terms(name, snapshot, seen)
        same_server = self._servers.get(name) == snapshot.run_id
        if same_server and (at.seq, at.change) == (seen.seq, snapshot.last_change):
            return False
        entries, changes = await self._entries(name, at), await self._changes(name, at)
        if not await self._is_open(name, at.trading_day):
            return False  # what was read may be of the next day
        if entries is None:
            return await self._begin_again(name, snapshot, seen)
        await self._keep(name, at, entries, changes)
        self._servers[name] = snapshot.run_id
        behind = seen.seq - self._at[name].seq
        self.metrics.capture_behind(name, max(0, behind))
        return behind > 0 and bool(entries)

    async def _begin_again(self, name: PoolName, snapshot: Snapshot, seen: Pool) -> bool:
        """Begin a second account; not of a store that lost entries, whose day is to be put back."""
        again = await self.days.look(name)
        if again.pool is None or not self.days.witness.trusts(name, again):
            return False
        at = self._at.pop(name)
        log.warning("recorder.begun_again", pool=name, trading_day=at.trading_day, after_seq=at.seq)
        return await self._state_terms(name, snapshot, seen)

    async def _is_open(self, name: PoolName, trading_day: str) -> bool:
        """Whether a day is still the one that is open. A day never comes back."""
        pool = await self.record.read(name)
        return pool is not None and pool.trading_day == trading_day

    async def _finish(self, name: PoolName, at: Reached) -> bool:
        """Write down a page of what is left of a day that is over; False where nothing is."""
        entries = await self._entries(name, at, at.trading_day)
        if entries is None:
            log.warning("recorder.gap", pool=name, trading_day=at.trading_day, after_seq=at.seq)
            return False
        changes = await self._changes(name, at, at.trading_day)
        await self._keep(name, at, entries, changes)
        return bool(entries or changes)

    async def _entries(self, name: PoolName, at: Reached, day: str = "") -> Sequence[Entry] | None:
        """Read the entries behind the last one; None where the store does not have that one any more."""
        page = await self.record.page(name, max(at.seq, 1), day)
        if not at.seq:
            return page
        if not page or page[0].seq != at.seq or digest(page[0]) != at.entry:
            return None
        return page[1:]

    async def _changes(self, name: PoolName, at: Reached, day: str = "") -> Sequence[Change]:
        """Read the changes behind the last one; at first, those of this day only."""
        page = await self.record.changes(name, at.change, day)
        if at.change != "0-0":
            return page
        begins = (place for place, change in enumerate(page) if _opens(change, at.trading_day))
        return page[next(begins, 0) :]

    async def _keep(
        self, name: PoolName, at: Reached, entries: Sequence[Entry], changes: Sequence[Change]
    ) -> None:
        """Write a page down; entries come before changes."""
        day, seq = at.trading_day, at.seq
        for entry in entries:
            if entry.seq != seq + 1:
                log.warning("recorder.gap", pool=name, trading_day=day, after_seq=seq)
            seq = entry.seq
        records: list[Captured] = [
            *(Journalled(pool=name, trading_day=day, entry=entry) for entry in entries),
            *(Changed(pool=name, trading_day=day, change=change) for change in changes),
        ]
        await self.capture.keep(records)
        self._at = reached_after(self._at, records)
        self.days.witness.written(name, day, self._at[name].seq)

    async def _state_terms(self, name: PoolName, snapshot: Snapshot, seen: Pool) -> bool:
        """Write the terms of a day down, by which its account begins or goes on; False where it is over."""
        changes, entries = await self.record.changes(name, "0-0"), await self.record.page(name, 1)
        if not await self._is_open(name, seen.trading_day):
            return False
        opening = next((change for change in changes if _opens(change, seen.trading_day)), None)
        opened_ms = opening.time_ms if opening else snapshot.server_ms
        halted = _halted_at_first(seen, entries, changes)
        terms = _terms(seen, opening.limit_fen if opening else seen.limit_fen, halted)
        opened = Opened(time_ms=opened_ms, pool=name, terms=levelled(judged(terms, opened_ms)))
        await self.capture.keep([opened])
        self._at = reached_after(self._at, [opened])
        log.info("recorder.began", pool=name, trading_day=seen.trading_day)
        return True


def _opens(change: Change, trading_day: str) -> bool:
    return change.kind == "day" and change.now == trading_day


def _terms(seen: Pool, limit_fen: int, halted: str) -> Pool:
    """Build a pool as its day opened: nothing used, no number given. A rate is set before any event."""
    return Pool(
        trading_day=seen.trading_day,
        limit_fen=limit_fen,
        rate=seen.rate,
        schedule=seen.schedule,
        admission=seen.admission,
        levels=seen.levels,
        resumes_in_opening=seen.resumes_in_opening,
        halted=halted,
        origin=seen.origin,
        kept=seen.kept,
        attested=seen.attested,
    )


def _halted_at_first(seen: Pool, entries: Sequence[Entry], changes: Sequence[Change]) -> str:
    """Tell why a day opened halted; empty where it did not. The first entry tells, where there is one."""
    if any(change.reason == STORE_CHANGED and not change.seq for change in changes):
        return ""
    if not entries:
        return "" if seen.halted == STORE_CHANGED else seen.halted
    first = entries[0]
    if first.event != "resume" and (first.status is not Status.HALTED or first.event == "halt"):
        return ""
    if any(change.reason == OPENED_LATE for change in changes):
        return OPENED_LATE
    return seen.halted if seen.halted not in {"", STORE_CHANGED} else _HALTED

"""The record of the day as recovery reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from msgspec.structs import replace

from feeds.capture_format import HEAD_BYTES, Head, Kept, Line, Mark, Name, lines_of
from feeds.capture_format import decode as kept_of
from feeds.capture_reading import Flaw, Torn, Unit, files_of, records, survey, walk
from feeds.codec import decode
from quota.accounts import Account, Last, account_of
from quota.captured import Captured, Delivered, Journalled, Opened
from quota.decision import PoolName
from quota.errors import CaptureUnavailable
from quota.events import Event

_SKEW_MS = 1000
_OF_INTEREST = (b'{"record":"entry"', b'{"record":"reached"', b'{"record":"head"')

P = ParamSpec("P")
T = TypeVar("T")


class _Found(NamedTuple):
    """The records of a pool, and what is wrong with the files behind the last entry among them."""

    records: Sequence[Captured]
    flaws: Sequence[Flaw]
    unsure: str


@dataclass(frozen=True, slots=True)
class FileRecorded:
    """A Recorded over the files of one daemon. All reading is done in a thread."""

    folder: Path
    client_id: str
    root: str

    async def last(self, trading_day: str) -> Mapping[PoolName, Last | None]:
        """Tell the last number of the pools of which a day was written; None where that cannot be read."""
        return await self._away(self._last, trading_day)

    async def day(self, trading_day: str, pool: PoolName) -> Account | None:
        """Read the last account of a pool's day."""
        return await self._away(self._account, trading_day, pool)

    async def delivered(self, trading_day: str, pool: PoolName) -> Sequence[Event]:
        """Read the events of a pool that came over MQTT."""
        return await self._away(self._delivered, trading_day, pool)

    async def _away(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(read, *args, **kwargs)
        except OSError as error:
            raise CaptureUnavailable(f"{self.folder}: {error}") from error

    def _last(self, day: str) -> dict[PoolName, Last | None]:
        """Read backwards until each pool's last entry is found: a day has many."""
        own = self._files(day)
        if not own:
            return dict.fromkeys(PoolName) if files_of(self.folder, day=day) else {}
        wanted: dict[PoolName, int] | None = None
        found: dict[PoolName, Last | None] = {}
        for record in _backwards(own):
            if isinstance(record, Mark | Head) and wanted is None:
                reached = record.reached.items()
                wanted = {pool: at.seq for pool, at in reached if at.trading_day == day}
                found = {pool: Last() if not seq else None for pool, seq in wanted.items()}
            elif isinstance(record, Journalled) and wanted is not None and record.trading_day == day:
                entry, pool = record.entry, record.pool
                if found.get(pool, True) is None and entry.seq == wanted[pool]:
                    found[pool] = Last(entry.seq, entry.balance_fen, entry.time_ms)
            if wanted is not None and None not in found.values():
                return found
        return found if wanted is not None else dict.fromkeys(PoolName if any(map(_is_spoilt, own)) else ())

    def _files(self, day: str) -> list[Path]:
        """List the files that a day's records may be in, whatever our clock said when they were written.

        The day may have been opened by a daemon whose clock was before ours, and a file of a coming day is
        gone on with.
        """
        own = files_of(self.folder, self.client_id)
        first = next((place for place, path in enumerate(own) if _day_of(path) >= day), len(own))
        while first and any(at.trading_day >= day for at in survey(own[first - 1]).reached.values()):
            first -= 1
        return own[first:]

    def _account(self, day: str, pool: PoolName) -> Account | None:
        found = self._found(day, pool)
        account = account_of(found.records, day, pool)
        if account is None:
            self._refuse(day, found.flaws)
            return None
        missing = account.missing or found.unsure
        return replace(
            account, missing=f"{missing}: {found.flaws[0]}" if missing and found.flaws else missing
        )

    def _refuse(self, day: str, flaws: Sequence[Flaw]) -> None:
        """Say why there is no account, where there may have been one."""
        flaws = [flaw for flaw in flaws if flaw.file >= day]
        if flaws:
            raise CaptureUnavailable(f"the record of {day} is damaged: {flaws[0]}")
        names = [Name.read(path.name) for path in files_of(self.folder, day=day)]
        others = sorted({name.client_id for name in names if name is not None} - {self.client_id})
        if others:
            raise CaptureUnavailable(
                f"nothing of {day} was written down as {self.client_id!r}, only as {', '.join(others)}"
            )

    def _found(self, day: str, pool: PoolName) -> _Found:
        flaws: list[Flaw] = []
        found: list[Captured] = []
        before = last = 0
        for _, record in records(self._files(day), flaws):
            if isinstance(record, Opened | Journalled) and (record.pool, _of(record)) == (pool, day):
                found.append(record)
                before = len(flaws)
                last = record.entry.seq if isinstance(record, Journalled) else last
        unsure = f"entries from {last + 1} on may be missing" if len(flaws) > before else ""
        return _Found(found, flaws, unsure)

    def _delivered(self, day: str, pool: PoolName) -> list[Event]:
        """Read up to the next day's opening; without a time, what came before this one's is not of it."""
        served, flaws = frozenset((pool,)), list[Flaw]()
        opened_ms, taken, before = 0, list[tuple[int, Sequence[Event]]](), 0
        for _, record in records(self._files(day), flaws):
            if isinstance(record, Delivered):
                it = decode(record.topic, record.payload, self.root, served)
                if it is not None and it.pool is pool:
                    taken.append((record.time_ms, it.events))
            elif isinstance(record, Opened) and record.pool is pool:
                if record.terms.trading_day > day and opened_ms:
                    break
                if record.terms.trading_day == day and not opened_ms:
                    opened_ms, before = record.time_ms, len(taken)
        return [
            event
            for place, (time_ms, events) in enumerate(taken)
            for event in events
            if event.market_date is not None or place >= before or time_ms >= opened_ms - _SKEW_MS
        ]


def _day_of(path: Path) -> str:
    name = Name.read(path.name)
    return name.day if name is not None else ""


def _of(record: Opened | Journalled) -> str:
    return record.terms.trading_day if isinstance(record, Opened) else record.trading_day


def _is_spoilt(path: Path) -> bool:
    """Whether anything was ever confirmed in a file, though nothing of it can be read."""
    with path.open("rb") as file:
        return any(not isinstance(piece, Torn) for piece in walk(file))


def _backwards(paths: Sequence[Path]) -> Iterator[Kept]:
    """Read entries, and how far the pools were written down, the last first, without what is damaged."""
    for path in reversed(paths):
        with path.open("rb") as file:
            units = [(unit.offset, unit.head.frame_bytes) for unit in walk(file) if isinstance(unit, Unit)]
            for offset, size in reversed(units):
                file.seek(offset + HEAD_BYTES)
                yield from _of_unit(file.read(size))


def _of_unit(frame: bytes) -> Iterator[Kept]:
    try:
        for text in reversed(lines_of(frame)):
            kept = Line.read(text).kept
            if kept.startswith(_OF_INTEREST):
                yield kept_of(kept)
    except ValueError:
        return  # who reads the account names the flaw

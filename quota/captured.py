"""What the record of a day holds: deliveries as they came, entries and changes as they were followed.

The daemon has it kept outside the store, so that a day can be rebuilt where the store lost it.

Of each pool's day there is an account: ``Opened`` with the terms of the day at its number 0, then the
journal from entry 1 on, and the changes. Where the terms become others (a rate that is set before the
first event), ``Opened`` comes again with the new ones, which are those that count, and the account
goes on. Where the store does not continue what was written, because it lost entries, ``Opened`` comes
again and after it entry 1: a second account, of what the store says now, beside what it had said.
After damage to a file, or between ``Opened`` and entry 1, an entry or a change may come twice, and is
the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol, assert_never

import msgspec

from quota.decision import PoolName
from quota.errors import ConfigError
from quota.journal import Entry
from quota.pool import Change, Pool


class Delivered(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="delivery"):
    """One message from the broker, byte for byte; ``time_ms`` is when we took it, by our clock."""

    time_ms: int
    topic: str
    payload: bytes


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="opened"):
    """The terms of a pool's day: the pool at number 0, as the day opened. The last ones of a day count.

    ``time_ms`` is when it opened by the server's clock, where the changes still tell; else when we looked.
    """

    time_ms: int
    pool: PoolName
    terms: Pool


class Journalled(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="entry"):
    """An entry of a pool's journal."""

    pool: PoolName
    trading_day: str
    entry: Entry


class Changed(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="change"):
    """A change of a pool's status, phase, level, limit or day."""

    pool: PoolName
    trading_day: str
    change: Change


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """How far the last account of a pool goes: its day, its last number and the id of its last change.

    ``terms`` and ``entry`` are digests of the terms and of the last entry: by them it is told whether
    the store still continues this account. ``origin`` is the clock that opened the day, ``real`` or ``at``.
    """

    trading_day: str
    terms: str
    origin: str = "real"
    seq: int = 0
    entry: str = ""
    change: str = "0-0"


Captured = Delivered | Opened | Journalled | Changed


class Capture(Protocol):
    """Where the record of the day goes."""

    async def keep(self, records: Sequence[Captured]) -> None:
        """Write records behind those before them; they are on the disk when this returns.

        Raises CaptureUnavailable when they cannot be written: nothing may be acknowledged then.
        """
        ...


class Recording(Capture, Protocol):
    """A record of the day that knows how far it goes, over restarts too."""

    @property
    def trouble(self) -> str:
        """Why it cannot be written now; empty where it can."""
        ...

    async def reached(self) -> Mapping[PoolName, Reached]:
        """Tell how far each pool has been written down. Raises CaptureUnavailable."""
        ...


def reached_after(
    reached: Mapping[PoolName, Reached], records: Sequence[Captured]
) -> dict[PoolName, Reached]:
    """Tell how far each pool has been written down once these records are."""
    now = dict(reached)
    last: dict[tuple[PoolName, type], Journalled | Changed] = {}
    for record in records:
        match record:
            case Delivered():
                pass
            case Opened(pool=pool, terms=terms):
                was = now.get(pool)
                if was is None or was.trading_day != terms.trading_day:
                    was = Reached(trading_day=terms.trading_day, terms="", origin=terms.origin)
                now[pool] = msgspec.structs.replace(was, terms=terms_digest(terms))
            case Journalled(pool=pool) | Changed(pool=pool):
                last[pool, type(record)] = record
            case _:
                assert_never(record)
    for (pool, _), followed in last.items():
        now[pool] = _advanced(now.get(pool), followed)
    return now


def _advanced(at: Reached | None, record: Journalled | Changed) -> Reached:
    """Take a record in; of a day that is over there may be one behind the next day's terms."""
    at = at or Reached(trading_day=record.trading_day, terms="")
    if record.trading_day != at.trading_day:
        return at
    if isinstance(record, Changed):
        return msgspec.structs.replace(at, change=record.change.id)
    return msgspec.structs.replace(at, seq=record.entry.seq, entry=digest(record.entry))


def refuse_another_clock(reached: Mapping[PoolName, Reached], today: str, *, is_real: bool) -> None:
    """Keep rehearsals and real days apart: a lost day of the one is not to be put back from the other.

    Raises ConfigError.
    """
    for at in reached.values():
        if at.origin == "real" and not is_real:
            raise ConfigError(
                f"capture.folder: has the record of {at.trading_day}: --at needs another folder"
            )
        if at.origin == "at" and is_real and at.trading_day >= today:
            opened = f"{at.trading_day} was opened with --at"
            raise ConfigError(f"capture.folder: {opened}: go on with --at, or with another folder")


def digest(record: msgspec.Struct) -> str:
    """Make a short name of a record's content."""
    return hashlib.blake2b(msgspec.json.encode(record), digest_size=8).hexdigest()


def terms_digest(pool: Pool) -> str:
    """Make a short name of what entries count by and no entry tells. The limit is told by entries."""
    terms = Pool(
        trading_day=pool.trading_day,
        limit_fen=0,
        rate=pool.rate,
        schedule=pool.schedule,
        admission=pool.admission,
        levels=pool.levels,
        resumes_in_opening=pool.resumes_in_opening,
        origin=pool.origin,
    )
    return digest(terms)

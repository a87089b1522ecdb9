"""What the record of a day holds: deliveries as they came, entries and changes as they were followed.

The daemon has it kept outside the store, so that a day can be rebuilt where the store lost it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from quota.decision import PoolName
from quota.journal import Entry
from quota.pool import Change, Pool


class Delivered(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="delivery"):
    """One message from the broker, byte for byte; ``time_ms`` is when we took it, by our clock."""

    time_ms: int
    topic: str
    payload: bytes


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="opened"):
    """A pool as it was when its day was first seen: the terms that its entries count from."""

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


Captured = Delivered | Opened | Journalled | Changed


class Capture(Protocol):
    """Where the record of the day goes."""

    async def keep(self, records: Sequence[Captured]) -> None:
        """Write records behind those before them; they are on the disk when this returns.

        Raises CaptureUnavailable when they cannot be written: nothing may be acknowledged then.
        """
        ...

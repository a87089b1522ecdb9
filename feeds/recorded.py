"""The record of the day as recovery reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feeds.capture_reading import Flaw, files_of, records
from feeds.codec import decode
from quota.accounts import Account, account_of
from quota.captured import Captured, Delivered
from quota.decision import PoolName
from quota.errors import CaptureUnavailable
from quota.events import Event


@dataclass(frozen=True, slots=True)
class FileRecorded:
    """A Recorded over the files of one daemon."""

    folder: Path
    client_id: str
    root: str

    async def day(self, trading_day: str, pool: PoolName) -> Account | None:
        """Read the last account of a pool's day."""
        return account_of(await self._read(trading_day), trading_day, pool)

    async def delivered(self, trading_day: str, pool: PoolName) -> Sequence[Event]:
        """Read the events of a pool that came over MQTT."""
        served = frozenset(PoolName)
        taken = (record for record in await self._read(trading_day) if isinstance(record, Delivered))
        decoded = (decode(record.topic, record.payload, self.root, served) for record in taken)
        return [event for it in decoded if it is not None and it.pool is pool for event in it.events]

    async def _read(self, day: str) -> list[Captured]:
        return await asyncio.to_thread(self._read_files, day)

    def _read_files(self, day: str) -> list[Captured]:
        flaws: list[Flaw] = []
        try:
            return [record for _, record in records(files_of(self.folder, self.client_id, day=day), flaws)]
        except OSError as error:
            raise CaptureUnavailable(f"{self.folder}: {error}") from error

"""Puts a lost day back beside a pool, and in its place once all that the pool has is in it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from msgspec.structs import replace

from quota.accounts import Account, opening_terms, recent_entries
from quota.day import REBUILT
from quota.days import Days
from quota.decision import PoolName
from quota.journal import Entry
from quota.ledger import Ledger, Replayed
from quota.pool import Pool
from quota.proof.verify import Record

PAGE = 300
_TRIES = 100

log = structlog.get_logger(__name__)


class Stopped(Exception):
    """Why a day cannot be rebuilt now."""


@dataclass(frozen=True, slots=True)
class Reinstatement:
    """Puts days back from their accounts, from what we were answered, and from what the store took since."""

    ledger: Ledger
    record: Record
    days: Days

    async def put_back(self, pool: PoolName, account: Account) -> None:
        """Put a day in its place, unless another daemon has. Raises Stopped where that cannot be."""
        try:
            await self._put_back(pool, account)
        except Stopped:
            if not await self._done_by_another(pool):
                raise

    async def _put_back(self, pool: PoolName, account: Account) -> None:
        terms, entries = opening_terms(account), account.entries
        came = await self._begin(pool, terms, entries)
        came = await self._replay(pool, terms, entries[came:], came)
        came = await self._replay_recent(pool, terms, came)
        read = 0
        for _ in range(_TRIES):
            live = await self.record.read(pool)
            live_seq = live.seq if live is not None and live.trading_day == terms.trading_day else 0
            since = [replace(entry, seq=0) for entry in await self._since(pool, entries, read, live_seq)]
            came, read = await self._replay(pool, terms, since, came), live_seq
            if await self._done_by_another(pool):
                return  # what stands beside the pool is none of its day
            done = await self.ledger.adopt(pool, terms.trading_day, came, live_seq)
            if not done.detail:
                behind = done.seq - len(entries)
                log.info("recovery.adopted", pool=pool, seq=done.seq, written=len(entries), behind=behind)
                return
            if not done.detail.startswith(("live_seq", "seq")):
                raise Stopped(done.detail)
            if done.seq < came:
                raise Stopped("what was put back is there no more")
            came = done.seq  # another daemon puts the same day back, and was further
        raise Stopped("the pool moves on too fast")

    async def _begin(self, pool: PoolName, terms: Pool, entries: Sequence[Entry]) -> int:
        """Go on where an earlier try or another daemon has come to, if that was with the same account."""
        came = self._came(await self.ledger.replay(pool, terms, entries[:1]))
        last = min(came, len(entries))
        return self._came(await self.ledger.replay(pool, terms, entries[last - 1 : last]))

    async def _done_by_another(self, pool: PoolName) -> bool:
        """Whether another daemon has put the same day in its place meanwhile."""
        snapshot = await self.days.look(pool)
        put_back = snapshot.pool is not None and snapshot.pool.attested == REBUILT
        return put_back or self.days.witness.trusts(pool, snapshot)

    async def _replay(self, pool: PoolName, terms: Pool, entries: Sequence[Entry], came: int) -> int:
        """Put entries back, page by page; those that are there already are passed over."""
        for start in range(0, len(entries), PAGE):
            came = self._came(await self.ledger.replay(pool, terms, entries[start : start + PAGE]))
        return came

    @staticmethod
    def _came(replayed: Replayed) -> int:
        if replayed.detail:
            raise Stopped(replayed.detail)
        return replayed.seq

    async def _replay_recent(self, pool: PoolName, terms: Pool, came: int) -> int:
        """Put back what we were answered and nobody had written down: under its number where it follows."""
        recent = recent_entries(self.days.witness.recent(pool), terms.trading_day)
        later = [entry for entry in recent if entry.seq > came]
        numbered = [entry for place, entry in enumerate(later) if entry.seq == came + 1 + place]
        replayed = await self.ledger.replay(pool, terms, numbered)
        came = came if replayed.detail else replayed.seq
        return await self._replay(pool, terms, [replace(entry, seq=0) for entry in later], came)

    async def _since(self, pool: PoolName, written: Sequence[Entry], read: int, live_seq: int) -> list[Entry]:
        """What the store has that was not written down: all from the first difference on."""
        since: list[Entry] = []
        async for entry in self.record.journal(pool, live_seq, read):
            same = not read and not since and entry.seq <= len(written) and written[entry.seq - 1] == entry
            if not same:
                since.append(entry)
        return since

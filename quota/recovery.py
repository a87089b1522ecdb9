"""Rebuilds a day that a store has lost, from the record of the day and from what the store took since.

What was answered first stands, under its number; behind it comes what this daemon was answered and
nobody had written down yet, and then what the store took after it had lost entries. Until that is in
place and verified the pool is halted: it decides no buys, sells and facts go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from quota.accounts import Account, Recorded, last_of, opening_terms, recent_entries
from quota.day import REBUILT
from quota.days import Days
from quota.decision import Attest, PoolName
from quota.errors import CaptureUnavailable, LedgerUnavailable
from quota.events import Event, NewOrder
from quota.journal import Entry
from quota.ledger import Ledger, Replayed, Snapshot
from quota.pool import Pool
from quota.proof.verify import Record, verify
from quota.witness import Known

LOOK_S = 0.2
PAGE = 300
_AGAIN_S = 30.0
_TRIES = 100

log = structlog.get_logger(__name__)


class Stopped(Exception):
    """Why a day cannot be rebuilt now."""


class _Rebuilt(NamedTuple):
    """A day that is in place, its last number that was written down, and orders whose answer nobody knows."""

    known: Known
    orders: Sequence[NewOrder]


@dataclass(slots=True)
class Recovery:
    """Looks after pools whose store has lost something. ``waiting`` says what a pool waits for.

    With ``resumes`` a rebuilt day that verifies is attested at once; otherwise an operator resumes it.
    """

    ledger: Ledger
    record: Record
    days: Days
    recorded: Recorded
    resumes: bool
    waiting: dict[PoolName, str] = field(default_factory=dict)
    _rebuilt: dict[PoolName, _Rebuilt] = field(default_factory=dict)
    _again: dict[PoolName, float] = field(default_factory=dict)

    async def learn(self) -> None:
        """Before the first look: know the last numbers that were written down, as if we had been there."""
        clock = self.days.almanac.clock
        for pool in self.days.pools:
            try:
                account = await self.recorded.day(clock.today().isoformat(), pool)
            except CaptureUnavailable as error:
                log.warning("recovery.failed", pool=pool, reason=str(error))
                continue
            if account is not None:
                self.days.witness.learn(pool, last_of(account))

    async def run(self) -> None:
        """Look for ever."""
        while True:
            for pool in self.days.pools:
                await self.look(pool)
            await asyncio.sleep(LOOK_S)

    async def look(self, pool: PoolName) -> None:
        """Rebuild a pool whose store has lost something; see a rebuilt one to its end.

        Whatever comes in the way is told once and tried again: it is no reason to stop deciding.
        """
        snapshot, now = self.days.snapshots.get(pool), asyncio.get_running_loop().time()
        if snapshot is None or snapshot.pool is None or now < self._again.get(pool, 0.0):
            return
        try:
            if pool in self._rebuilt:
                await self._finish(pool, snapshot)
            elif self.days.witness.trusts(pool, snapshot):
                self.waiting.pop(pool, None)
            else:
                await self._recover(pool, snapshot.pool)
        except LedgerUnavailable:
            return  # the watch tells of it
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no reason to stop deciding
            self._again[pool] = now + _AGAIN_S
            if self.waiting.get(pool) != str(error):
                log.warning("recovery.failed", pool=pool, reason=str(error))
            self.waiting[pool] = str(error)

    def warnings(self) -> Sequence[str]:
        """What pools wait for."""
        return [f"{pool}: the store lost entries of its day: {why}" for pool, why in self.waiting.items()]

    async def _recover(self, pool: PoolName, live: Pool) -> None:
        known = self.days.witness.known.get(pool)
        trading_day = known.trading_day if known else live.trading_day
        account = await self.recorded.day(trading_day, pool)
        if account is None:
            raise Stopped(f"nothing of {trading_day} was written down")
        if live.attested != REBUILT:
            if await self._has_all(pool, last_of(account)):
                return
            log.warning("recovery.began", pool=pool, trading_day=trading_day, entries=len(account.entries))
            try:
                await self._rebuild(pool, account)
            except Stopped:
                if not await self._done_by_another(pool):
                    raise
        if (differences := (await verify(self.record, pool)).differences) != ():
            raise Stopped(f"the day that was put back does not verify: {differences[0]}")
        orders = await self._take_delivered(pool, trading_day)
        self._rebuilt[pool] = _Rebuilt(last_of(account), orders)
        self.waiting[pool] = "they are put back, and an operator has to resume it"
        log.warning("recovery.rebuilt", pool=pool, trading_day=trading_day)
        await self._finish(pool, await self.days.look(pool))

    async def _has_all(self, pool: PoolName, written: Known) -> bool:
        """Attest a store that has all that was written down and all that we know: nothing is to be done."""
        witness = self.days.witness
        if pool in witness.lost:
            return False
        last = max(written, witness.known.get(pool, written), key=lambda it: (it.trading_day, it.claim.seq))
        if (await self.ledger.attest(pool, [last.claim])).outcome is Attest.REFUSED:
            return False
        log.info("store.attested", pool=pool, seq=last.claim.seq, balance_fen=last.claim.balance_fen)
        await self.days.look(pool)
        return True

    async def _rebuild(self, pool: PoolName, account: Account) -> None:
        """Put a day back beside the pool, and in its place once all that the pool has is in it too."""
        terms, entries = opening_terms(account), account.entries
        came = (await self._page(pool, terms, entries[:1])).seq
        came = await self._replay(pool, terms, entries[came:], came)
        came = await self._replay_recent(pool, terms, came)
        read = 0
        for _ in range(_TRIES):
            live = await self.record.read(pool)
            live_seq = live.seq if live is not None and live.trading_day == terms.trading_day else 0
            since = [replace(entry, seq=0) for entry in await self._since(pool, entries, read, live_seq)]
            came, read = await self._replay(pool, terms, since, came), live_seq
            done = await self.ledger.adopt(pool, terms.trading_day, came, live_seq)
            if not done.detail:
                behind = done.seq - len(entries)
                log.info("recovery.adopted", pool=pool, seq=done.seq, written=len(entries), behind=behind)
                return
            if not done.detail.startswith(("live_seq", "seq")):
                raise Stopped(done.detail)
            came = done.seq  # another daemon puts the same day back, and was further
        raise Stopped("the pool moves on too fast")

    async def _done_by_another(self, pool: PoolName) -> bool:
        """Whether another daemon has put the same day in its place meanwhile."""
        snapshot = await self.days.look(pool)
        put_back = snapshot.pool is not None and snapshot.pool.attested == REBUILT
        return put_back or self.days.witness.trusts(pool, snapshot)

    async def _replay(self, pool: PoolName, terms: Pool, entries: Sequence[Entry], came: int) -> int:
        """Put entries back, page by page; those that are there already are passed over."""
        for start in range(0, len(entries), PAGE):
            came = (await self._page(pool, terms, entries[start : start + PAGE])).seq
        return came

    async def _page(self, pool: PoolName, terms: Pool, entries: Sequence[Entry]) -> Replayed:
        replayed = await self.ledger.replay(pool, terms, entries)
        if replayed.detail:
            raise Stopped(replayed.detail)
        return replayed

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

    async def _take_delivered(self, pool: PoolName, trading_day: str) -> list[NewOrder]:
        """Take in all facts that came over MQTT; return the orders of which the ledger knows nothing.

        They are decided once the pool takes buys again: how they were answered, nobody knows.
        """
        delivered = await self.recorded.delivered(trading_day, pool)
        facts: list[Event] = [event for event in delivered if not isinstance(event, NewOrder)]
        orders = [event for event in delivered if isinstance(event, NewOrder)]
        for start in range(0, len(facts), PAGE):
            await self.ledger.apply(pool, facts[start : start + PAGE])
        unknown: list[NewOrder] = []
        for start in range(0, len(orders), PAGE):
            page = orders[start : start + PAGE]
            found = await self.record.orders(pool, [order.order_id for order in page])
            unknown += [
                order for order, it in zip(page, found, strict=True) if it is None or it.verdict is None
            ]
        return unknown

    async def _finish(self, pool: PoolName, snapshot: Snapshot) -> None:
        """Attest a rebuilt pool where we may; once it is attested, have the orders decided that remain."""
        (known, orders), seen = self._rebuilt[pool], snapshot.pool
        if seen is not None and seen.trading_day == known.trading_day:
            if seen.attested == REBUILT and not self.resumes:
                return
            if seen.attested == REBUILT:
                # What stands behind the last number that was written down, we have put there ourselves.
                claim = replace(known.claim, at_ms=snapshot.server_ms)
                said = await self.ledger.attest(pool, [claim])
                if said.outcome is Attest.REFUSED:
                    raise Stopped(f"it is not attested: {said.detail}")
            for start in range(0, len(orders), PAGE):
                await self.ledger.apply(pool, orders[start : start + PAGE])
        del self._rebuilt[pool]
        self.waiting.pop(pool, None)
        await self.days.look(pool)
        log.info("recovery.ended", pool=pool, seq=known.claim.seq, undecided=len(orders))

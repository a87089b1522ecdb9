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

from quota.accounts import Recorded, last_of
from quota.day import REBUILT
from quota.days import Days
from quota.decision import Attest, PoolName
from quota.doubt import FRESH_MS, PUT_BACK_AGAIN, Claim, doubt_of
from quota.errors import CaptureUnavailable, LedgerUnavailable
from quota.events import Event, NewOrder
from quota.ledger import Ledger, Snapshot
from quota.pool import Pool
from quota.proof.verify import Record, verify
from quota.reinstate import PAGE, Reinstatement, Stopped
from quota.uncollected import uncollected
from quota.witness import Known

LOOK_S = 0.2
_AGAIN_S, _AWAY_S = 30.0, 1.0
_LAG_MS = 2_000
"""How far the record may be behind what we saw: so much of what gateways were answered it never had."""

log = structlog.get_logger(__name__)


class _Rebuilt(NamedTuple):
    """A day that is in place, its last number that was written down, and orders whose answer nobody knows.

    They are decided once the pool takes buys: one that is halted would refuse them for good.
    """

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

    def __post_init__(self) -> None:
        self.days.witness.remembers = True

    async def learn(self) -> None:
        """Before the first look: know the last numbers that were written down, as if we had been there."""
        today, witness = self.days.almanac.clock.today().isoformat(), self.days.witness
        try:
            last = await self.recorded.last(today)
        except CaptureUnavailable as error:
            last = dict.fromkeys(self.days.pools)
            for pool in self.days.pools:
                log.warning("recovery.failed", pool=pool, reason=str(error))
        for pool in self.days.pools:
            if (it := last.get(pool)) is not None:
                known = Known(today, "", Claim(it.seq, it.balance_fen, it.time_ms))
                witness.learn(pool, known, attests=self.resumes)
            elif pool in last:
                witness.suspect(pool, today)

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
        if snapshot is None or snapshot.pool is None:
            return
        if pool not in self._rebuilt and self.days.witness.trusts(pool, snapshot):
            self.waiting.pop(pool, None)
            self._again.pop(pool, None)
            return
        if now < self._again.get(pool, 0.0):
            return
        try:
            if pool in self._rebuilt:
                await self._finish(pool, snapshot)
            else:
                with uncollected():
                    await self._recover(pool, snapshot.pool)
        except LedgerUnavailable:
            self._again[pool] = now + _AWAY_S  # the watch tells of it
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
        written = await self._put_back(pool, live, trading_day)
        if written is None:
            return
        if (differences := (await verify(self.record, pool)).differences) != ():
            raise Stopped(f"the day that was put back does not verify: {differences[0]}")
        await self._demand_what_we_saw(pool, written)
        orders = await self._take_delivered(pool, trading_day)
        self._rebuilt[pool] = _Rebuilt(written, orders)
        self.waiting[pool] = "they are put back, and an operator has to resume it"
        log.warning("recovery.rebuilt", pool=pool, trading_day=trading_day)
        await self._finish(pool, await self.days.look(pool))

    async def _put_back(self, pool: PoolName, live: Pool, trading_day: str) -> Known | None:
        """See that the day is in its place; return its last number that was written down.

        None where the store has lost nothing. The account, the largest thing here, is let go of.
        """
        account = await self.recorded.day(trading_day, pool)
        if account is None:
            raise Stopped(f"nothing of {trading_day} was written down")
        if account.missing:
            raise Stopped(f"the record of {trading_day} is damaged: {account.missing}")
        written = last_of(account)
        if live.attested == REBUILT:
            await self._demand(pool, written.claim)
            return written
        if live.attested != PUT_BACK_AGAIN and await self._has_all(pool, live, written):
            return None
        log.warning("recovery.began", pool=pool, trading_day=trading_day, entries=len(account.entries))
        await Reinstatement(self.ledger, self.record, self.days).put_back(pool, account)
        return written

    async def _demand_what_we_saw(self, pool: PoolName, written: Known) -> None:
        """See that the last number that we saw is there, or was seen too late to be written down."""
        known = self.days.witness.known.get(pool, written)
        seen, last = known.claim, written.claim
        if known.trading_day != written.trading_day or seen.seq <= last.seq:
            return
        if seen.at_ms - last.at_ms > _LAG_MS and not await self._has(pool, seen):
            raise Stopped(f"seq {last.seq + 1} to {seen.seq} were answered and not written down")

    async def _has(self, pool: PoolName, claim: Claim) -> bool:
        """Whether the store has a number, with the same balance after it, and no later than it was seen."""
        there = [entry async for entry in self.record.journal(pool, claim.seq, claim.seq - 1)]
        return not claim.seq or any(
            it.balance_fen == claim.balance_fen and it.time_ms <= claim.at_ms + FRESH_MS for it in there
        )

    async def _demand(self, pool: PoolName, claim: Claim) -> None:
        """See that a day that another daemon has put back has what we wrote down last."""
        if not await self._has(pool, claim):
            raise Stopped(f"entry {claim.seq} of the record is not in the day that was put back")

    async def _has_all(self, pool: PoolName, live: Pool, written: Known) -> bool:
        """Attest a store that has all that was written down and all that we know: nothing is to be done.

        Where we know it from the record alone, an operator says whether there was more.
        """
        witness = self.days.witness
        if pool in witness.lost:
            return False
        known = witness.known.get(pool, written)
        last = max(known, written, key=lambda it: (it.trading_day, it.claim.seq))
        if not known.server and not self.resumes:
            doubt = doubt_of(live)
            if not doubt.lost and doubt.seq >= last.claim.seq and await self._has(pool, last.claim):
                raise Stopped("none that were written down; whether there were more, an operator has to say")
            return False
        if (await self.ledger.attest(pool, [last.claim])).outcome is Attest.REFUSED:
            return False
        log.info("store.attested", pool=pool, seq=last.claim.seq, balance_fen=last.claim.balance_fen)
        await self.days.look(pool)
        return True

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
        """Attest a rebuilt pool where we may; once it takes buys, have the orders decided that remain.

        One whose store has changed again meanwhile is looked at as if it had never been rebuilt.
        """
        (known, orders), seen = self._rebuilt[pool], snapshot.pool
        if seen is not None and seen.trading_day == known.trading_day:
            if seen.attested == REBUILT and self.resumes:
                seen = await self._attested(pool, known, snapshot)
            is_attested = seen.attested in {snapshot.run_id, ""}
            if seen.attested == REBUILT or (is_attested and seen.halted):
                return
            for start in range(0, len(orders) if is_attested else 0, PAGE):
                await self.ledger.apply(pool, orders[start : start + PAGE])
            if is_attested:
                log.info("recovery.ended", pool=pool, seq=known.claim.seq, undecided=len(orders))
        del self._rebuilt[pool]
        self.waiting.pop(pool, None)
        await self.days.look(pool)

    async def _attested(self, pool: PoolName, known: Known, snapshot: Snapshot) -> Pool:
        """Attest a rebuilt pool; return it as it is then.

        What stands behind the last number that was written down, we have put there ourselves.
        """
        claim = replace(known.claim, at_ms=snapshot.server_ms)
        said = await self.ledger.attest(pool, [claim], put_back=True)
        seen = (await self.days.look(pool)).pool
        if said.outcome is Attest.REFUSED or seen is None:
            raise Stopped(f"it is not attested: {said.detail}")
        return seen

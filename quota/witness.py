"""What this daemon has seen of the pools, and its word for it when their store has changed.

A server that restarts or takes a primary's place may lack the last answers, and its pools are then
halted. A former primary that comes back does not know that others have answered in its place. Who has
seen a pool's last numbers can tell whether they are there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from quota.clock import MarketClock
from quota.day import REBUILT
from quota.decision import Attest, Decision, Outcome, PoolName, Status
from quota.doubt import PUT_BACK_AGAIN, Claim
from quota.events import Event
from quota.ledger import Attestation, Ledger, Snapshot
from quota.pool import Pool

GONE = "the store has nothing of the day any more"
_UNSEEN = "this daemon has not seen the day on the store before"
_AGAIN = "its day was put back, and its store has changed again since"
_ONLY_READ = "this daemon has not seen the day, but read of it"
_RECENT_MAX = 20_000
"""How many events of a pool that were decided and not written down are kept, in whole batches."""

log = structlog.get_logger(__name__)


class Known(NamedTuple):
    """The last number of a day that we know, and on which server (empty: that is not known)."""

    trading_day: str
    server: str
    claim: Claim


class Batch(NamedTuple):
    """What the ledger did for us at one moment of our clock, on the day that we knew to be open."""

    trading_day: str
    time_ms: int
    events: Sequence[Event]
    decisions: Sequence[Decision]

    def is_in(self, trading_day: str, seq: int) -> bool:
        """Whether all of it stands in what was written of a day up to a number."""
        last = max((decision.seq or 0 for decision in self.decisions), default=0)
        return (self.trading_day, last) <= (trading_day, seq)


@dataclass(slots=True)
class _Recent:
    """Batches, oldest first, and how many events they hold."""

    batches: deque[Batch] = field(default_factory=deque)
    events: int = 0

    def add(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.events += len(batch.events)
        while self.events > _RECENT_MAX and len(self.batches) > 1:
            self._forget()

    def written(self, trading_day: str, seq: int) -> None:
        while self.batches and self.batches[0].is_in(trading_day, seq):
            self._forget()

    def _forget(self) -> None:
        self.events -= len(self.batches.popleft().events)


class Witness:
    """Remembers each pool's last numbers, and what was decided for us lately.

    ``doubts`` says why a pool's store was not attested; ``lost`` are the pools whose day had to be opened
    anew, because the store had nothing of it any more. ``known`` are numbers of attested servers; what was
    acknowledged on one that was not is owed by the next one. What was decided lately is kept with
    ``remembers``, until it is ``written``.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.remembers = False
        self.doubts: dict[PoolName, str] = {}
        self.lost: set[PoolName] = set()
        self.known: dict[PoolName, Known] = {}
        self._ledger = ledger
        self._owed: dict[PoolName, Known] = {}
        self._recent: dict[PoolName, _Recent] = {}
        self._refused: dict[PoolName, str] = {}
        self._halted_on: dict[PoolName, str] = {}
        self._skews_ms: dict[PoolName, int] = {}
        self._begun: dict[PoolName, str] = {}
        self._attests_what_it_read = True

    def learn(self, pool: PoolName, known: Known, *, attests: bool = True) -> None:
        """Take in what was written down before we came; what we have seen ourselves counts more.

        Without ``attests`` a store that has it may lack what came after it, for all we know.
        """
        self._attests_what_it_read = attests
        if pool not in self.known:
            self.known[pool] = known

    def day(self, pool: PoolName) -> str:
        """The day that we know to be open; empty where we know none."""
        known = self.known.get(pool)
        return known.trading_day if known else ""

    def suspect(self, pool: PoolName, trading_day: str) -> None:
        """Take in that a day was open, of which nobody can tell us how far it went."""
        self._begun[pool] = trading_day

    def decided(
        self, pool: PoolName, trading_day: str, events: Sequence[Event], decisions: Sequence[Decision]
    ) -> None:
        """Take in what the ledger did for us, asked while we knew this day to be open.

        What a halted pool says may come from a changed store.
        """
        known, now_ms = self.known.get(pool), MarketClock.local_ms()
        if self.remembers and any(it.status is not Status.HALTED for it in decisions):
            self._recent.setdefault(pool, _Recent()).add(Batch(trading_day, now_ms, events, decisions))
        if known is None or known.trading_day != trading_day:
            return
        for decision in decisions:
            seq, balance_fen = decision.seq, decision.balance_fen
            if decision.outcome is not Outcome.APPLIED or seq is None or balance_fen is None:
                continue
            claim = Claim(seq, balance_fen, now_ms + self._skews_ms.get(pool, 0))
            if decision.status is Status.HALTED:
                owed = self._owed.get(pool)
                server = owed.server if owed else self._halted_on.get(pool, "")
                self._owed[pool] = Known(trading_day, server, claim)
            elif seq > self.known[pool].claim.seq:
                self.known[pool] = known._replace(claim=claim)

    def recent(self, pool: PoolName) -> Sequence[Batch]:
        """What was decided for us lately and is not written down, oldest first."""
        return tuple(self._recent[pool].batches) if pool in self._recent else ()

    def written(self, pool: PoolName, trading_day: str, seq: int) -> None:
        """Forget what stands in the record of a day, up to this number."""
        if pool in self._recent:
            self._recent[pool].written(trading_day, seq)

    def trusts(self, pool: PoolName, snapshot: Snapshot) -> bool:
        """Whether a pool as it was seen has, as far as anybody knows, all that was answered."""
        seen = snapshot.pool
        return seen is not None and seen.attested in {snapshot.run_id, ""} and pool not in self.lost

    async def attests(self, pool: PoolName, snapshot: Snapshot, before: Known | None) -> bool:
        """Take in a look at a pool; say True where our word has just changed whether it takes buys.

        ``before`` is what we knew when we asked for that look: what was decided meanwhile may be younger than
        it. A day that was put back waits for its recovery. Raises LedgerUnavailable.
        """
        seen, server = snapshot.pool, snapshot.run_id
        self._skews_ms[pool] = snapshot.server_ms - MarketClock.local_ms()
        if seen is None:
            return False
        self._halted_on[pool] = server if seen.attested == server and seen.halted else ""
        if (owed := self._owed.get(pool)) is not None and not owed.server:
            self._owed[pool] = owed._replace(server=server)
        is_attested, is_refused = seen.attested == server, self._refused.get(pool) == server
        is_put_back = seen.attested in {REBUILT, PUT_BACK_AGAIN}
        settled = is_refused or pool in self.lost or is_put_back
        if seen.attested == PUT_BACK_AGAIN:
            self.doubts[pool] = _AGAIN
        if is_attested and (settled or not _surprises(before, seen)):
            self._trust(pool, seen, snapshot.server_ms)
            return False
        return not settled and await self._vouches(pool, snapshot, seen)

    async def _vouches(self, pool: PoolName, snapshot: Snapshot, seen: Pool) -> bool:
        """Say what we know; whether that changed anything."""
        server = snapshot.run_id
        said = await self._give_word(pool, seen, server)
        if said.outcome is Attest.REFUSED:
            self._refused[pool], self.doubts[pool] = server, said.detail
            log.warning("store.not_attested", pool=pool, reason=said.detail)
            return seen.attested == server
        if said.outcome is Attest.ATTESTED:
            claim = self.known[pool].claim
            log.info("store.attested", pool=pool, seq=claim.seq, balance_fen=claim.balance_fen)
            return True
        self._trust(pool, seen, snapshot.server_ms)
        return seen.attested != server

    def knew(self, pool: PoolName, trading_day: str) -> bool:
        """Whether we know that a day was open."""
        known = self.known.get(pool)
        return trading_day in {known.trading_day if known else "", self._begun.get(pool)}

    def misses(self, pool: PoolName, trading_day: str) -> bool:
        """Whether a day that is to open is one that we know was open: then the store has lost all of it."""
        if not self.knew(pool, trading_day):
            return False
        log.warning("store.not_attested", pool=pool, reason=GONE)
        self.lost.add(pool)
        self.doubts[pool] = GONE
        return True

    async def _give_word(self, pool: PoolName, seen: Pool, server: str) -> Attestation:
        known = self.known.get(pool)
        if known is None or known.trading_day != seen.trading_day:
            return Attestation(Attest.REFUSED, _UNSEEN)
        if not (known.server or self._attests_what_it_read or seen.attested == server):
            return Attestation(Attest.REFUSED, _ONLY_READ)
        owed = self._owed.get(pool)
        claims = [known.claim]
        if owed is not None and owed.trading_day == seen.trading_day and owed.server != server:
            claims.append(owed.claim)
        return await self._ledger.attest(pool, claims)

    def _trust(self, pool: PoolName, seen: Pool, at_ms: int) -> None:
        """Remember an attested pool; a decision may have told of a later number than this look.

        Of a day that was opened anew the halt says that it lacks something, until an operator lifts it.
        """
        if pool in self.lost and seen.halted:
            return
        known = self.known.get(pool)
        now = Known(seen.trading_day, seen.attested, Claim(seen.seq, seen.balance_fen, at_ms))
        doubted = pool in self._refused or pool in self.lost
        if known is None or doubted or known[:2] != now[:2] or known.claim.seq < now.claim.seq:
            self.known[pool] = now
        elif known.claim.seq == now.claim.seq and known.claim.at_ms < at_ms:
            self.known[pool] = now  # a clock that was set back makes nothing older than it was
        self.lost.discard(pool)
        for doubts in (self.doubts, self._refused, self._owed):
            doubts.pop(pool, None)


def _surprises(known: Known | None, seen: Pool) -> bool:
    """Whether an attested pool is on another server than the one we knew, or behind what we knew."""
    if known is None or known.trading_day != seen.trading_day:
        return False
    return known.server != seen.attested or seen.seq < known.claim.seq

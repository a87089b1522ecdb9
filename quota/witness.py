"""What this daemon has seen of the pools, and its word for it when their store has changed.

A server that restarts or takes a primary's place may lack the last answers, and its pools are then
halted. Who has seen a pool's last number, and the balance after it, can tell whether they are there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from quota.clock import MarketClock
from quota.day import OPENED_LATE, REBUILT, STORE_CHANGED
from quota.decision import Attest, Decision, Outcome, PoolName, Status
from quota.events import Event
from quota.ledger import Attestation, Ledger, Snapshot
from quota.pool import Pool

GONE = "the store has nothing of the day any more"
_UNSEEN = "this daemon has not seen the day on the store before"
_BATCHES = 200

log = structlog.get_logger(__name__)


class Known(NamedTuple):
    """The last number of a day that we saw, on a server that was attested, and the balance after it."""

    trading_day: str
    server: str
    seq: int
    balance_fen: int


class Batch(NamedTuple):
    """What the ledger did for us at one moment of our clock, on the day that we knew to be open."""

    trading_day: str
    time_ms: int
    events: Sequence[Event]
    decisions: Sequence[Decision]


class Witness:
    """Remembers each pool's last number, and what was decided for us lately.

    ``doubts`` says why a pool's store was not attested; ``lost`` are the pools whose day had to be
    opened anew, because the store had nothing of it any more.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.doubts: dict[PoolName, str] = {}
        self.lost: set[PoolName] = set()
        self.known: dict[PoolName, Known] = {}
        self._ledger = ledger
        self._recent: dict[PoolName, deque[Batch]] = {}
        self._refused: dict[PoolName, str] = {}

    def learn(self, pool: PoolName, known: Known) -> None:
        """Take in what was written down before we came; what we have seen ourselves counts more."""
        if pool not in self.known:
            self.known[pool] = known

    def decided(self, pool: PoolName, events: Sequence[Event], decisions: Sequence[Decision]) -> None:
        """Take in what the ledger did for us. What a halted pool says may come from a changed store."""
        known = self.known.get(pool)
        batch = Batch(known.trading_day if known else "", MarketClock.local_ms(), events, decisions)
        self._recent.setdefault(pool, deque(maxlen=_BATCHES)).append(batch)
        for decision in decisions:
            seq, balance_fen = decision.seq, decision.balance_fen
            fresh = decision.outcome is Outcome.APPLIED and decision.status is not Status.HALTED
            if known and fresh and seq is not None and balance_fen is not None and seq > known.seq:
                known = self.known[pool] = known._replace(seq=seq, balance_fen=balance_fen)

    def recent(self, pool: PoolName) -> Sequence[Batch]:
        """What was decided for us lately, oldest first."""
        return tuple(self._recent.get(pool, ()))

    def trusts(self, pool: PoolName, snapshot: Snapshot) -> bool:
        """Whether a pool as it was seen has, as far as anybody knows, all that was answered."""
        seen = snapshot.pool
        return seen is not None and seen.attested in {snapshot.run_id, ""} and pool not in self.lost

    async def attests(self, pool: PoolName, snapshot: Snapshot) -> bool:
        """Take in a look at a pool; say True where our word has just ended the halt of a changed store.

        Raises LedgerUnavailable.
        """
        seen = snapshot.pool
        if seen is None:
            return False
        if seen.attested == snapshot.run_id:
            self._trust(pool, seen)
            return False
        if seen.halted != STORE_CHANGED or self._refused.get(pool) == snapshot.run_id:
            return False
        known = self.known.get(pool)
        said = await self._give_word(pool, seen, known)
        if known and said.outcome is Attest.ATTESTED:
            log.info("store.attested", pool=pool, seq=known.seq, balance_fen=known.balance_fen)
        if said.outcome is Attest.REFUSED:
            self._refused[pool], self.doubts[pool] = snapshot.run_id, said.detail
            log.warning("store.not_attested", pool=pool, reason=said.detail)
        return said.outcome is not Attest.REFUSED

    def knew(self, pool: PoolName, trading_day: str) -> bool:
        """Whether we know that a day was open."""
        known = self.known.get(pool)
        return known is not None and known.trading_day == trading_day

    def misses(self, pool: PoolName, trading_day: str) -> bool:
        """Whether a day that is to open is one that we know was open: then the store has lost all of it."""
        if not self.knew(pool, trading_day):
            return False
        log.warning("store.not_attested", pool=pool, reason=GONE)
        self.lost.add(pool)
        self.doubts[pool] = GONE
        return True

    async def _give_word(self, pool: PoolName, seen: Pool, known: Known | None) -> Attestation:
        if known is None or known.trading_day != seen.trading_day:
            return Attestation(Attest.REFUSED, _UNSEEN)
        return await self._ledger.attest(pool, known.seq, known.balance_fen)

    def _trust(self, pool: PoolName, seen: Pool) -> None:
        """Remember an attested pool; a decision may have told of a later number than this look.

        Of a day that was opened anew the halt says that it lacks something, until an operator lifts it.
        """
        if pool in self.lost and seen.halted in {OPENED_LATE, REBUILT}:
            return
        known, now = self.known.get(pool), Known(seen.trading_day, seen.attested, seen.seq, seen.balance_fen)
        if known is None or known[:2] != now[:2] or known.seq < now.seq:
            self.known[pool] = now
        self.lost.discard(pool)
        self.doubts.pop(pool, None)
        self._refused.pop(pool, None)

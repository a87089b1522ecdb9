"""What this daemon has seen of the pools, and its word for it when their store has changed.

A server that restarts or takes a primary's place may lack the last answers, and its pools are then
halted. A former primary that comes back does not know that others have answered in its place. Who has
seen a pool's last numbers can tell whether they are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog

from quota.clock import MarketClock
from quota.decision import Attest, Decision, Outcome, PoolName, Status
from quota.doubt import Claim
from quota.ledger import Attestation, Ledger, Snapshot
from quota.pool import Pool

_GONE = "the store has nothing of the day any more"
_UNSEEN = "this daemon has not seen the day on the store before"

log = structlog.get_logger(__name__)


class _Seen(NamedTuple):
    """The last number of a day that we saw, and on which server (empty: we do not know yet)."""

    trading_day: str
    server: str
    claim: Claim


class Witness:
    """Remembers each pool's last numbers. ``doubts`` says why a pool's store was not attested.

    ``known`` are numbers of attested servers, ``owed`` those that were acknowledged on one that was not.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.doubts: dict[PoolName, str] = {}
        self._ledger = ledger
        self._known: dict[PoolName, _Seen] = {}
        self._owed: dict[PoolName, _Seen] = {}
        self._refused: dict[PoolName, str] = {}
        self._skew_ms = 0

    def decided(self, pool: PoolName, decisions: Sequence[Decision]) -> None:
        """Take in what the ledger did for us. What a halted pool says may come from a changed store."""
        known, at_ms = self._known.get(pool), MarketClock.local_ms() + self._skew_ms
        if known is None:
            return
        for decision in decisions:
            seq, balance_fen = decision.seq, decision.balance_fen
            if decision.outcome is not Outcome.APPLIED or seq is None or balance_fen is None:
                continue
            claim = Claim(seq, balance_fen, at_ms)
            if decision.status is Status.HALTED:
                owed = self._owed.get(pool)
                self._owed[pool] = _Seen(known.trading_day, owed.server if owed else "", claim)
            elif seq > self._known[pool].claim.seq:
                self._known[pool] = known._replace(claim=claim)

    async def attests(self, pool: PoolName, snapshot: Snapshot) -> bool:
        """Take in a look at a pool; say True where our word has just changed whether it takes buys.

        Raises LedgerUnavailable.
        """
        seen, server = snapshot.pool, snapshot.run_id
        self._skew_ms = snapshot.server_ms - MarketClock.local_ms()
        if seen is None:
            return False
        if (owed := self._owed.get(pool)) is not None and not owed.server:
            self._owed[pool] = owed._replace(server=server)
        is_attested, is_refused = seen.attested == server, self._refused.get(pool) == server
        if is_attested and (is_refused or not self._surprises(pool, seen)):
            self._trust(pool, seen, snapshot.server_ms)
            return False
        if is_refused:
            return False
        said = await self._give_word(pool, seen, server)
        if said.outcome is Attest.REFUSED:
            self._refused[pool], self.doubts[pool] = server, said.detail
            log.warning("store.not_attested", pool=pool, reason=said.detail)
            return is_attested
        if said.outcome is Attest.ATTESTED:
            claim = self._known[pool].claim
            log.info("store.attested", pool=pool, seq=claim.seq, balance_fen=claim.balance_fen)
            return True
        self._trust(pool, seen, snapshot.server_ms)
        return not is_attested

    def misses(self, pool: PoolName, trading_day: str) -> bool:
        """Whether a day that is to open is one that we have seen open: then the store has lost all of it."""
        known = self._known.get(pool)
        if known is None or known.trading_day != trading_day:
            return False
        log.warning("store.not_attested", pool=pool, reason=_GONE)
        return True

    def _surprises(self, pool: PoolName, seen: Pool) -> bool:
        """Whether an attested pool is on another server than the one we know, or behind what we know."""
        known = self._known.get(pool)
        if known is None or known.trading_day != seen.trading_day:
            return False
        return known.server != seen.attested or seen.seq < known.claim.seq

    async def _give_word(self, pool: PoolName, seen: Pool, server: str) -> Attestation:
        known = self._known.get(pool)
        if known is None or known.trading_day != seen.trading_day:
            return Attestation(Attest.REFUSED, _UNSEEN)
        owed = self._owed.get(pool)
        claims = [known.claim]
        if owed is not None and owed.trading_day == seen.trading_day and owed.server != server:
            claims.append(owed.claim)
        return await self._ledger.attest(pool, claims)

    def _trust(self, pool: PoolName, seen: Pool, at_ms: int) -> None:
        """Remember an attested pool; a decision may have told of a later number than this look."""
        known = self._known.get(pool)
        now = _Seen(seen.trading_day, seen.attested, Claim(seen.seq, seen.balance_fen, at_ms))
        same = known is not None and known[:2] == now[:2] and pool not in self._refused
        if known is None or not same or known.claim.seq <= now.claim.seq:
            self._known[pool] = now
        for doubts in (self.doubts, self._refused, self._owed):
            doubts.pop(pool, None)

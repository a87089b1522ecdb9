"""What this daemon has seen of the pools, and its word for it when their store has changed.

A server that restarts or takes a primary's place may lack the last answers, and its pools are then
halted. Who has seen a pool's last number, and the balance after it, can tell whether they are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog

from quota.day import STORE_CHANGED
from quota.decision import Attest, Decision, Outcome, PoolName, Status
from quota.ledger import Attestation, Ledger, Snapshot
from quota.pool import Pool

_GONE = "the store has nothing of the day any more"
_UNSEEN = "this daemon has not seen the day on the store before"

log = structlog.get_logger(__name__)


class _Known(NamedTuple):
    """The last number of a day that we saw, on a server that was attested, and the balance after it."""

    trading_day: str
    server: str
    seq: int
    balance_fen: int


class Witness:
    """Remembers each pool's last number. ``doubts`` says why a pool's store was not attested."""

    def __init__(self, ledger: Ledger) -> None:
        self.doubts: dict[PoolName, str] = {}
        self._ledger = ledger
        self._known: dict[PoolName, _Known] = {}
        self._refused: dict[PoolName, str] = {}

    def decided(self, pool: PoolName, decisions: Sequence[Decision]) -> None:
        """Take in what the ledger did for us. What a halted pool says may come from a changed store."""
        known = self._known.get(pool)
        for decision in decisions:
            seq, balance_fen = decision.seq, decision.balance_fen
            fresh = decision.outcome is Outcome.APPLIED and decision.status is not Status.HALTED
            if known and fresh and seq is not None and balance_fen is not None and seq > known.seq:
                known = self._known[pool] = known._replace(seq=seq, balance_fen=balance_fen)

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
        known = self._known.get(pool)
        said = await self._give_word(pool, seen, known)
        if known and said.outcome is Attest.ATTESTED:
            log.info("store.attested", pool=pool, seq=known.seq, balance_fen=known.balance_fen)
        if said.outcome is Attest.REFUSED:
            self._refused[pool], self.doubts[pool] = snapshot.run_id, said.detail
            log.warning("store.not_attested", pool=pool, reason=said.detail)
        return said.outcome is not Attest.REFUSED

    def misses(self, pool: PoolName, trading_day: str) -> bool:
        """Whether a day that is to open is one that we have seen open: then the store has lost all of it."""
        known = self._known.get(pool)
        if known is None or known.trading_day != trading_day:
            return False
        log.warning("store.not_attested", pool=pool, reason=_GONE)
        return True

    async def _give_word(self, pool: PoolName, seen: Pool, known: _Known | None) -> Attestation:
        if known is None or known.trading_day != seen.trading_day:
            return Attestation(Attest.REFUSED, _UNSEEN)
        return await self._ledger.attest(pool, known.seq, known.balance_fen)

    def _trust(self, pool: PoolName, seen: Pool) -> None:
        """Remember an attested pool; a decision may have told of a later number than this look."""
        known, now = (
            self._known.get(pool),
            _Known(seen.trading_day, seen.attested, seen.seq, seen.balance_fen),
        )
        if known is None or known[:2] != now[:2] or known.seq < now.seq:
            self._known[pool] = now
        self.doubts.pop(pool, None)
        self._refused.pop(pool, None)

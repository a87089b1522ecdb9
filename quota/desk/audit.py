"""Auditing a day from the command line: journals against records, and histories against journals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from quota.clock import MarketClock
from quota.config import Settings
from quota.decision import PoolName
from quota.desk.operator import PATIENT_MS, ledger_of
from quota.errors import ConfigError, LedgerCorrupt, QuotaError
from quota.proof.flaws import Complaint
from quota.proof.history import Call, answered, read_history
from quota.proof.retrace import Retrace, Terms
from quota.proof.verify import Findings, verify
from quota.store.record import RedisRecord, Verified
from quota.uncollected import uncollected

_SHOWN = 100
"""How many flaws of a pool are listed, at most."""


async def verify_pools(settings: Settings, histories: Sequence[Path]) -> int:
    """Verify every pool, and the histories against the journals; exit 1 if anything differs."""
    calls = _calls(settings, histories)
    differ = False
    async with ledger_of(settings.redis, PATIENT_MS) as ledger:
        for pool in settings.market.pools:
            findings = await _verified(ledger.record, pool)
            Console().out("\n".join(sentences(findings)), highlight=False)
            differ = differ or bool(findings.differences)
            await _note(ledger.record, findings)
        for pool in calls:
            with uncollected():
                proof = await _proved(ledger.record, pool, calls[pool])
            Console().out("\n".join(proof.sentences()), highlight=False)
            differ = differ or bool(proof.flaws)
    return 1 if differ else 0


async def _verified(record: RedisRecord, pool: PoolName) -> Findings:
    try:
        return await verify(record, pool)
    except LedgerCorrupt as error:
        return Findings(pool, None, 0, 0, (f"the pool cannot be read: {error}",))


async def _note(record: RedisRecord, findings: Findings) -> None:
    """Leave the result where the daemons find it, for their metrics, if the store lets us write."""
    if findings.trading_day is None:
        return
    result = Verified(
        trading_day=findings.trading_day,
        seq=findings.entries,
        differences=len(findings.differences),
        time_ms=MarketClock.local_ms(),
    )
    try:
        await record.note(findings.pool, result)
    except QuotaError as error:
        Console(stderr=True).out(
            f"{findings.pool}: the result is not in the metrics: {error}", highlight=False
        )


def sentences(findings: Findings) -> list[str]:
    """Say what verify found of a pool."""
    if findings.trading_day is None:
        return [f"{findings.pool}: {text}" for text in findings.differences or ("no day was ever opened",)]
    read = f"{findings.pool} {findings.trading_day}: {findings.entries} entries, {findings.orders} orders"
    if not findings.differences:
        return [f"{read}: journal and records agree"]
    return [
        f"{read}: {len(findings.differences)} differences",
        *(f"  {text}" for text in findings.differences),
    ]


def _calls(settings: Settings, histories: Sequence[Path]) -> Mapping[PoolName, Sequence[Call]]:
    """Read the histories, by pool; raises ConfigError."""
    calls: dict[PoolName, list[Call]] = {pool: [] for pool in settings.market.pools if histories}
    for path in histories:
        for call in read_history(path):
            if call.pool not in calls:
                raise ConfigError(f"history {path}: {call.pool} is not one of market.pools")
            calls[call.pool].append(call)
    return calls


class Proof(msgspec.Struct, frozen=True):
    """What the histories and the journal of a pool prove, or what is wrong with them."""

    pool: PoolName
    calls: int
    entries: int
    flaws: Sequence[Complaint]
    unheard_halts: int

    def sentences(self) -> list[str]:
        """Say it."""
        read = f"{self.pool} history: {self.calls} calls, {self.entries} entries"
        if not self.flaws:
            texts = [f"{read}: first come, first served"]
        else:
            texts = [f"{read}: {len(self.flaws)} flaws", *(f"  {flaw}" for flaw in self.flaws[:_SHOWN])]
            texts += [f"  and {len(self.flaws) - _SHOWN} more"] if len(self.flaws) > _SHOWN else []
        if self.unheard_halts:
            texts.append(
                f"  halted {self.unheard_halts} times without an act: opened so, or the store changed"
            )
        return texts


async def _proved(record: RedisRecord, pool: PoolName, calls: Sequence[Call]) -> Proof:
    """Hold the calls on a pool against its journal, which was read after them."""
    stored = await record.read(pool)
    journal, flaws = Retrace(Terms.of(stored) if stored else Terms()), list[Complaint]()
    async for entry in record.journal(pool, stored.seq if stored else 0):
        flaws += journal.take(entry)
    flaws += answered(calls, journal)
    return Proof(pool, len(calls), journal.seq, flaws, journal.unheard_halts)

"""Puts a day back from its record: in memory to check it, or into an empty store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from rich.console import Console

from quota.config import Capture, Settings
from quota.decision import PoolName
from quota.desk.console import yuan
from quota.desk.operator import PATIENT_MS, ledger_of
from quota.desk.reporting import Archive
from quota.errors import ConfigError
from quota.journal import Entry
from quota.ledger import RedisLedger
from quota.memory import MemoryLedger
from quota.money import fen_to_yuan
from quota.pool import Pool
from quota.proof.replay import Days, Plan, compared, planned, retraced
from quota.proof.verify import verify
from quota.uncollected import uncollected

_PAGE: Final = 300
_SHOWN: Final = 100


def read(archive: Archive, files: Sequence[Path], day: str) -> tuple[str, dict[PoolName, Plan]]:
    """Plan the day that is in files; raises ConfigError where it is none, or more than one."""
    days = Days(archive.decoded)
    try:
        for record in archive.records(files):
            days.take(record)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    known = days.days()
    if not known:
        raise ConfigError("the files have the terms of no day: give all files of the day")
    if not day and len(known) > 1:
        raise ConfigError(f"the files are of {', '.join(known)}: choose with --day")
    day = day or known[0]
    plans = {pool: plan for pool, told in days.of(day).items() if (plan := planned(told)) is not None}
    if not plans:
        raise ConfigError(f"the files have the terms of {', '.join(known)}, not of {day}")
    return day, plans


async def dry_run(archive: Archive, files: Sequence[Path], day: str) -> int:
    """Put a day back in memory and compare; exit 1 where anything differs or cannot be known."""
    day, plans = read(archive, files, day)
    good = True
    for name, plan in plans.items():
        ledger = MemoryLedger(lambda: 0)
        replayed = await ledger.replay(name, plan.terms, plan.entries)
        book = ledger.books[name].aside
        found = [replayed.detail] if book is None or replayed.detail else _differences(plan, book.journal)
        found += islice(retraced(plan), _SHOWN + 1)
        good &= _tell(day, name, plan, found, book.pool if book else None)
    return _end(archive, good)


async def restore(settings: Settings, archive: Archive, files: Sequence[Path], day: str) -> int:
    """Put a day back into an empty store, pool by pool, each of them halted until it is resumed."""
    with uncollected():
        return await _restore(settings, archive, *read(archive, files, day))


async def _restore(settings: Settings, archive: Archive, day: str, plans: Mapping[PoolName, Plan]) -> int:
    good = True
    async with ledger_of(settings.redis, PATIENT_MS) as ledger:
        await _demand_empty(ledger, plans)
        for name, plan in plans.items():
            found = [text async for text in _restored(ledger, name, plan)]
            good &= _tell(day, name, plan, found, await ledger.record.read(name))
    return _end(archive, good)


async def _demand_empty(ledger: RedisLedger, plans: Mapping[PoolName, Plan]) -> None:
    for name in plans:
        if (stored := await ledger.record.read(name)) is not None:
            raise ConfigError(
                f"{name}: the store has {stored.trading_day}: a day goes into an empty one only"
            )


async def _restored(ledger: RedisLedger, name: PoolName, plan: Plan) -> AsyncIterator[str]:
    """Put a pool back; yields what went wrong, and what differs."""
    came = 0
    for start in range(0, len(plan.entries) or 1, _PAGE):
        replayed = await ledger.replay(name, plan.terms, plan.entries[start : start + _PAGE])
        came = replayed.seq
        if replayed.detail:
            yield replayed.detail
            return
    adopted = await ledger.adopt(name, plan.terms.trading_day, came, 0)
    if adopted.detail:
        yield adopted.detail
        return
    for text in _differences(plan, [entry async for entry in ledger.record.journal(name, adopted.seq)]):
        yield text
    for text in (await verify(ledger.record, name)).differences:
        yield text


def as_of(settings: Settings, plans: Mapping[PoolName, Plan]) -> Settings:
    """Set what a rehearsal goes by: the pools and terms of that day, and no record of its own."""
    terms = {name: plan.terms for name, plan in plans.items()}
    first = next(iter(terms.values()))
    market: dict[str, object] = {
        "pools": tuple(terms),
        "limits_yuan": {name: fen_to_yuan(pool.limit_fen) for name, pool in terms.items()},
        "admission": first.admission,
    }
    for pool in (pool for name, pool in terms.items() if not name.northbound):
        market |= {"hkd_cny": pool.rate, "southbound_opening_resumes": pool.resumes_in_opening}
    return settings.model_copy(
        update={
            "market": settings.market.model_copy(update=market),
            "alerts": settings.alerts.model_copy(update={"levels": first.levels}),
            "capture": Capture(),
        }
    )


def _differences(plan: Plan, journal: Sequence[Entry]) -> list[str]:
    """Say what cannot be known of a day that was put back, and what is not as it was."""
    said = [*plan.unknown(journal), *compared(plan, journal)]
    last_fen = journal[-1].balance_fen if journal else plan.terms.limit_fen
    if plan.last_fen not in {None, last_fen}:
        said.append(f"the balance is {last_fen} fen, after the last entry it was {plan.last_fen}")
    return said


def _tell(day: str, name: PoolName, plan: Plan, found: Sequence[str], after: Pool | None) -> bool:
    """Say what became of a pool; whether it is as it was, and all of it known."""
    state = f", balance {yuan(after.balance_fen)}, seq {after.seq}" if after else ""
    verdict = "as it was" if not found else "not as it was, or not known:"
    lines = [f"{name} {day}: {plan.known} entries put back{state}: {verdict}"]
    lines += [f"  {text}" for text in found[:_SHOWN]]
    lines += [f"  and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    Console().out("\n".join(lines), highlight=False)
    return not found


def _end(archive: Archive, good: bool) -> int:  # noqa: FBT001 - what it has found
    flaws = [f"the record is damaged: {flaw}" for flaw in archive.flaws]
    if flaws:
        Console().out("\n".join(flaws), highlight=False)
    return 0 if good and not flaws else 1

"""What operators do about numbered events that are missing: list them, and accept that they stay away."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from rich.console import Console

from quota.clock import MarketClock, iso
from quota.config import Settings
from quota.decision import PoolName
from quota.desk.operator import checked_reason, ledger_of, user
from quota.gaps import sentence, unwatched
from quota.ledger import RedisLedger
from quota.numbers import Accepted, Register, Source, given_up


async def gaps(settings: Settings, pools: Sequence[PoolName]) -> int:
    """List what is missing, every range of it; exit 1 where anything is."""
    found = False
    console = Console()
    async with ledger_of(settings.redis) as ledger:
        for pool in pools:
            register, day = await _register(ledger, pool)
            lines = list(_lines(pool, register, day))
            missing = register.missing_on(day)
            found = found or bool(missing)
            console.out("\n".join(lines or [f"{pool}: nothing is missing"]), highlight=False)
    return 1 if found else 0


async def accept(settings: Settings, pools: Sequence[PoolName], names: Sequence[str], reason: str) -> int:
    """Accept what is missing of these sources, as it is now, in the operator's name."""
    checked_reason(reason)
    console = Console()
    async with ledger_of(settings.redis) as ledger:
        for pool in pools:
            register, day = await _register(ledger, pool)
            known = {name: it for name, it in register.missing_on(day).items() if name in names}
            if known:
                deed = given_up(known, reason=reason, user=user(), host=socket.gethostname())
                await ledger.sources.accept(pool, deed)
            for line in _told(pool, known):
                console.out(line, highlight=False)
    return 0


async def _register(ledger: RedisLedger, pool: PoolName) -> tuple[Register, str]:
    """Read a pool's sources, and which day is open."""
    open_pool = await ledger.record.read(pool)
    return await ledger.sources.read(pool), open_pool.trading_day if open_pool else ""


def _lines(pool: PoolName, register: Register, day: str) -> Sequence[str]:
    late = unwatched(register.unwatched_on(day))
    return [
        *(f"{pool}: {sentence(name, it, most=None)}" for name, it in register.missing_on(day).items()),
        *(f"{pool}: {text}" for text in late),
        *(f"{pool}: {_note(note)}" for note in register.accepted),
    ]


def _note(note: Accepted) -> str:
    at = iso(MarketClock().at_ms(note.time_ms))
    return (
        f"{note.missing} of {note.source} were accepted by {note.user} on {note.host} at {at}: {note.reason}"
    )


def _told(pool: PoolName, known: Mapping[str, Source]) -> Sequence[str]:
    if not known:
        return [f"{pool}: nothing is missing of these sources"]
    return [f"{pool}: accepted: {sentence(name, it, most=None)}" for name, it in known.items()]

"""What operators do from the command line: look, check, verify, act. Straight to the store."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from rich.console import Console
from rich.live import Live
from rich.prompt import Confirm

from quota.clock import MarketClock, iso
from quota.config import Settings
from quota.decision import PoolName, Side, Verdict
from quota.desk.console import plain, table, yuan
from quota.endpoints import Redis
from quota.errors import ConfigError
from quota.feed import StatusReport
from quota.ledger import Act, RedisLedger
from quota.library import Library
from quota.pool import Pool
from quota.store.nodes import connected
from quota.watch import report_of

PATIENT_MS = 10_000
"""How long we wait for an answer, at least, where a whole day is read or put back."""

_WATCH_S = 1.0
_REASON_MAX = 256
_REFUSED = 3  # 2 is a command line that is not understood


@asynccontextmanager
async def ledger_of(settings: Redis, least_ms: int = 0) -> AsyncIterator[RedisLedger]:
    """Reach a store for a while, with our library loaded. No answer is given up before ``least_ms``."""
    nodes = connected(settings.model_copy(update={"deadline_ms": max(settings.deadline_ms, least_ms)}))
    try:
        library = Library(nodes, settings.durability, settings.deadline_ms * 3 // 4)
        await library.load()
        yield RedisLedger(library)
    finally:
        await nodes.aclose()


async def reports(ledger: RedisLedger, pools: Sequence[PoolName]) -> list[StatusReport]:
    """Look at the pools."""
    clock = MarketClock()
    return [report_of(pool, await ledger.tick(pool), clock) for pool in pools]


async def status(settings: Settings, *, watch: bool, json: bool) -> int:
    """Show the pools, once or until interrupted."""
    console = Console()
    pools = settings.market.pools
    async with ledger_of(settings.redis) as ledger:
        if json or not (watch or console.is_terminal):
            while True:
                now = await reports(ledger, pools)
                lines = [msgspec.json.encode(now).decode()] if json else [plain(report) for report in now]
                console.out("\n".join(lines), highlight=False)
                if not watch:
                    return 0
                await asyncio.sleep(_WATCH_S)
        with Live(console=console, auto_refresh=False) as live:
            while True:
                shown = table(await reports(ledger, pools), (), at=iso(MarketClock().now()), rates={})
                live.update(shown, refresh=True)
                if not watch:
                    return 0
                await asyncio.sleep(_WATCH_S)


async def check(settings: Settings, pool: PoolName, side: Side) -> int:
    """Tell what an order would get: exit 0 for accepted, 3 for a refusal."""
    async with ledger_of(settings.redis) as ledger:
        verdict, balance_fen, state = await ledger.check(pool, side)
    Console().out(f"{pool} {side}: {verdict} (balance {yuan(balance_fen)}, {state})", highlight=False)
    return 0 if verdict is Verdict.ACCEPTED else _REFUSED


def user() -> str:
    """Name who acts; in a container a user may have a number only."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"


def checked_reason(reason: str) -> None:
    """Raise ConfigError unless it may stand as somebody's reason."""
    if not 0 < len(reason) <= _REASON_MAX or not reason.isprintable() or not reason.strip():
        raise ConfigError(f"--reason: must be 1 to {_REASON_MAX} printable characters")


async def act(settings: Settings, pool: PoolName, name: str, reason: str, **limit: int) -> int:
    """Carry out an act in the operator's name; ``limit`` is its ``limit_fen`` and ``reopen``."""
    checked_reason(reason)
    deed = Act(
        act=name,
        reason=reason,
        user=user(),
        host=socket.gethostname(),
        limit_fen=limit.get("limit_fen", 0),
        reopen=bool(limit.get("reopen", False)),
    )
    async with ledger_of(settings.redis) as ledger:
        before = await ledger.record.read(pool)
        if name == "limit" and before is not None and not _sure(before, deed):
            return 1
        state = await ledger.operate(pool, deed)
        (report,) = await reports(ledger, [pool])
    was = f", the limit was {before.limit_fen / 100:,.2f} RMB" if name == "limit" and before else ""
    Console().out(
        f"{name} {pool}: done; the pool is now {state}{was}", plain(report), sep="\n", highlight=False
    )
    return 0


def _sure(pool: Pool, deed: Act) -> bool:
    """Ask a person at a terminal before a limit that leaves nothing: it can close the pool for the day."""
    balance_fen = pool.balance_fen - pool.limit_fen + deed.limit_fen
    if balance_fen > 0 or not sys.stdin.isatty():
        return True
    question = (
        f"Of {deed.limit_fen / 100:,.2f} RMB {balance_fen / 100:,.2f} would be left: no more buys. Go on?"
    )
    return Confirm.ask(question, default=False)

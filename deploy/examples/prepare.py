"""Prepare an empty store for the conformance file: ``python deploy/examples/prepare.py redis://HOST:PORT/DB``.

Four pools in four states, whatever the time of day: NB-SH trades with 1,000,000.00 RMB; NB-SZ is in
its opening phase with 10,000.00 RMB and takes only orders that fit; SB-SH trades at a rate of 0.91250
and is halted by an operator; of SB-SZ no day was ever opened. A store that holds anything is refused.
"""  # noqa: INP001 - a script

from __future__ import annotations

import asyncio
import sys

from redis.asyncio import Redis

from quota.decision import Admission, PoolName
from quota.ledger import Act, RedisLedger
from quota.library import Library
from quota.pool import Opening

DAY = "2026-11-23"


def opening(limit_fen: int, **changed: str) -> Opening:
    """A day that stays in one phase for ever."""
    fields = {"rate": "1.00000", "schedule": "1 continuous", **changed}
    return Opening(
        trading_day=DAY,
        limit_fen=limit_fen,
        rate=fields["rate"],
        schedule=fields["schedule"],
        admission=Admission(fields.get("admission", "positive_balance")),
        origin="at",
        open_late=True,
    )


async def prepare(url: str) -> None:
    """Load the functions and open the days."""
    async with Redis.from_url(url, protocol=2) as client:
        if await client.dbsize():
            raise SystemExit("this store is not empty: give one that nobody uses")
        functions = Library(client)
        await functions.load()
        ledger = RedisLedger(functions)
        await ledger.open_day(PoolName.NB_SH, opening(100_000_000))
        await ledger.open_day(PoolName.NB_SZ, opening(1_000_000, schedule="1 opening", admission="must_fit"))
        await ledger.open_day(PoolName.SB_SH, opening(1_000_000, rate="0.91250"))
        halt = Act(act="halt", reason="conformance", user="prepare", host="localhost")
        await ledger.operate(PoolName.SB_SH, halt)


if __name__ == "__main__":
    asyncio.run(prepare(sys.argv[1]))

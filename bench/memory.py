"""What an order with two fills takes in the store, ids of 16 characters, journal apart.

The figure is the difference of ``used_memory`` before and after, with the journal removed; what
MEMORY USAGE says of the two hashes stands beside it.
"""

from __future__ import annotations

from typing import Any

from bench.market import fill, fresh_ids, new
from bench.rows import Bar, Row
from bench.stores import Store, ledger_of, opened
from quota.decision import PoolName
from quota.store.record import keys

POOL = PoolName.NB_SH
SIZE = 128


async def measure(store: Store, *, quick: bool) -> list[Row]:
    """Measure bytes per order."""
    orders = 2_000 if quick else 200_000
    async with ledger_of(store) as ledger:
        await opened(store, ledger, POOL)
        before = store.number("memory", "used_memory")
        for start in range(0, orders, SIZE):
            ids = fresh_ids(min(SIZE, orders - start))
            await ledger.apply(POOL, [new(order_id) for order_id in ids])
            for word in "ab":
                await ledger.apply(POOL, [fill(order_id, word + order_id[1:]) for order_id in ids])
    store.admin.delete(keys(POOL)[5])
    bytes_each = (store.number("memory", "used_memory") - before) / orders
    usage = [_usage(store, key) / orders for key in (1, 2)]
    return [
        Row(
            what="store per order with two fills, journal apart",
            unit="bytes",
            figure=bytes_each,
            bar=Bar(300),
            note=f"{orders:,} orders; MEMORY USAGE: orders {usage[0]:.0f}, execs {usage[1]:.0f}",
        )
    ]


def _usage(store: Store, key: int) -> float:
    said: Any = store.admin.memory_usage(keys(POOL)[key], samples=0)
    return float(said)

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
from quota.ledger import keys

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
    note = f"{orders:,} orders; MEMORY USAGE: orders {_usage(store, 1) / orders:.0f}, execs {_usage(store, 2) / orders:.0f}"
    what = "store per order with two fills, journal apart"
    return [Row(what=what, unit="bytes", figure=bytes_each, bar=Bar(300), note=note)]


def _usage(store: Store, key: int) -> float:
    said: Any = store.admin.memory_usage(keys(POOL)[key], samples=0)
    return float(said)

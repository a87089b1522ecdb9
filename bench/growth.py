"""What an event costs as the pool grows: 10⁴, 10⁵ and 10⁶ orders side by side in one store.

The events are those of a day's later hours (new orders, fills and cancels of orders that have long
been there, drawn at random), packed beforehand in calls of 256, so what is timed is the store and
one round trip per call.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

from bench.market import afterwards, fresh_ids, new
from bench.rows import Bar, Row, compared, in_turns
from bench.stores import Store, ledger_of, opened
from quota.decision import PoolName
from quota.ledger import RedisLedger
from quota.rows import packed
from quota.store.record import keys

SIZE = 256
POOLS = (PoolName.NB_SH, PoolName.NB_SZ, PoolName.SB_SH)


async def measure(store: Store, *, quick: bool) -> list[Row]:
    """Measure microseconds per event."""
    counts = (100, 1_000, 10_000) if quick else (10_000, 100_000, 1_000_000)
    calls, rounds = (1, 3) if quick else (2, 41)
    async with ledger_of(store) as ledger:
        await opened(store, ledger, *POOLS)
        drawn = [
            await _filled(ledger, pool, total, calls * rounds)
            for pool, total in zip(POOLS, counts, strict=True)
        ]
    legs = {
        str(total): lambda pool=pool, orders=orders: _per_event_us(store, pool, orders, calls)
        for total, pool, orders in zip(counts, POOLS, drawn, strict=True)
    }
    figures = await in_turns(rounds, legs)
    least, middle, most = (figures[str(total)] for total in counts)
    against = f"µs with {counts[0]:,}"
    return [
        compared((f"one event with {total:,} orders in the pool", "µs", against), times, least, bar)
        for total, times, bar in ((counts[1], middle, None), (counts[2], most, Bar(1.5)))
    ]


async def _filled(ledger: RedisLedger, pool: PoolName, total: int, calls: int) -> Iterator[str]:
    """Fill a pool with orders; returns those that will be spoken of later, in random order."""
    wanted = calls * SIZE // 4
    drawn: list[str] = []
    for start in range(0, total, SIZE):
        ids = fresh_ids(min(SIZE, total - start))
        await ledger.apply(pool, [new(order_id) for order_id in ids])
        drawn += ids if total <= wanted else random.sample(ids, min(len(ids), -(-wanted * len(ids) // total)))
    random.shuffle(drawn)
    return iter(drawn * (wanted // len(drawn) + 1))


async def _per_event_us(store: Store, pool: PoolName, orders: Iterator[str], calls: int) -> float:
    batches = [packed(afterwards([next(orders) for _ in range(SIZE // 4)])) for _ in range(calls)]
    return _seconds(store, pool, batches) / (calls * SIZE) * 1e6


def _seconds(store: Store, pool: PoolName, batches: Sequence[bytes]) -> float:
    client: Any = store.admin
    started = perf_counter()
    for batch in batches:
        client.execute_command("FCALL", "quota_apply", 6, *keys(pool), batch)
    return perf_counter() - started

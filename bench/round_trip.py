"""One reservation, there and back, against PING on the same connection.

Both commands are packed beforehand and go the same way: one redis-py ``Connection`` (hiredis
parser, RESP2), ``send_packed_command`` and ``read_response``, and nothing else between two looks
at the clock. Every reservation is a first buy under an id of its own, and is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any

import redis

from bench.market import fresh_ids
from bench.rows import Bar, Row, compared, in_turns
from bench.stores import Store, ledger_of, opened
from quota.decision import PoolName
from quota.ledger import keys

POOL = PoolName.NB_SH
Packed = Sequence[bytes]


async def measure(store: Store, *, quick: bool) -> list[Row]:
    """Measure the median and the 99th percentile."""
    async with ledger_of(store) as ledger:
        await opened(store, ledger, POOL)
    trips, rounds = (200, 3) if quick else (2_000, 15)
    connection: Any = redis.Connection(host="127.0.0.1", port=store.port, protocol=2)
    connection.connect()
    try:
        return _rows(connection, trips, rounds)
    finally:
        connection.disconnect()


def _rows(connection: Any, trips: int, rounds: int) -> list[Row]:  # noqa: ANN401 - redis-py is untyped
    tails: dict[str, list[float]] = {"reserve": [], "ping": []}

    def leg(name: str, commands: Sequence[Packed]) -> float:
        times = _times_us(connection, commands)
        tails[name].append(times[len(times) * 99 // 100])
        return times[len(times) // 2]

    ping: Packed = connection.pack_command("PING")
    medians = in_turns(
        rounds,
        {
            "reserve": lambda _: leg("reserve", _reservations(connection, trips)),
            "ping": lambda _: leg("ping", [ping] * trips),
        },
    )
    what = "one quota_reserve round trip"
    return [
        compared((f"{what}, p50", "µs", "µs PING"), medians["reserve"], medians["ping"], Bar(1.4)),
        compared((f"{what}, p99", "µs", "µs PING"), tails["reserve"], tails["ping"], Bar(1.6)),
    ]


def _reservations(connection: Any, trips: int) -> list[Packed]:  # noqa: ANN401 - redis-py is untyped
    head = ("FCALL", "quota_reserve", 6, *keys(POOL))
    return [
        connection.pack_command(*head, order_id, "buy", "10.25", "200", "gw1")
        for order_id in fresh_ids(trips)
    ]


def _times_us(connection: Any, commands: Sequence[Packed]) -> list[float]:  # noqa: ANN401 - redis-py is untyped
    """Send one after the other; microseconds of each, ascending."""
    send, receive, times = connection.send_packed_command, connection.read_response, []
    for command in commands:
        started = perf_counter_ns()
        send(command, check_health=False)
        reply = receive()
        times.append((perf_counter_ns() - started) / 1_000)
    assert reply in (b"PONG", "PONG") or reply[0] == b"accepted", reply  # noqa: S101 - or we measured errors
    return sorted(times)

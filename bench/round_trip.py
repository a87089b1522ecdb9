"""One reservation, there and back, against PING on the same connection.

All commands are packed beforehand and go the same way: one redis-py ``Connection`` (hiredis
parser, RESP2), ``send_packed_command`` and ``read_response``, and nothing else between two looks
at the clock. Every reservation is a first buy under an id of its own, and is accepted.

Where the two processes run decides what a PING costs (about 65 µs when the other core has to wake
up, 18 µs on one core), and a scheduler left alone changes its mind from run to run: so each is
pinned, and both ways are measured. An empty function with the same keys and arguments shows what
the store itself takes for any function: every 50th call it collects Lua's garbage, which is the p99.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any

import msgspec
import redis

from bench.market import fresh_ids
from bench.rows import Bar, Leg, Row, compared, in_turns
from bench.stores import Store, ledger_of, opened
from quota.decision import PoolName
from quota.store.record import keys

POOL = PoolName.NB_SH
Packed = Sequence[bytes]
Figures = Mapping[str, list[float]]
_WARM_UP = 50
_EMPTY = """#!lua name=bench
redis.register_function('bench_empty', function() return {'accepted', 5199999999999, 1, 0, 'open'} end)
"""


async def measure(store: Store, *, quick: bool) -> list[Row]:
    """Measure the median and the 99th percentile, with a core for each process and with one for both."""
    async with ledger_of(store) as ledger:
        await opened(store, ledger, POOL)
    store.admin.function_load(_EMPTY, replace=True)
    trips, rounds = (200, 3) if quick else (500, 41)
    first, *others = sorted(os.sched_getaffinity(0))
    rows: list[Row] = []
    for words, core in {"own cores": others[:1], "one core": [first]}.items():
        if core:
            with _pinned({0: first, store.pid: core[0]}):
                rows += await _rows(store.port, words, trips, rounds)
    return rows


@contextmanager
def _pinned(cores: Mapping[int, int]) -> Iterator[None]:
    """Hold each process (0 is ours) on a core."""
    before = {process: os.sched_getaffinity(process) for process in cores}
    try:
        for process, core in cores.items():
            os.sched_setaffinity(process, {core})
        yield
    finally:
        for process, allowed in before.items():
            os.sched_setaffinity(process, allowed)


async def _rows(port: int, words: str, trips: int, rounds: int) -> list[Row]:
    connect: Any = redis.Connection
    connection = connect(host="127.0.0.1", port=port, protocol=2)
    connection.connect()
    tails: dict[str, list[float]] = {"ping": [], "bench_empty": [], "quota_reserve": []}

    def leg(name: str) -> Leg:
        async def run() -> float:
            times = _times_us(connection, _commands(connection, name, trips))
            tails[name].append(times[trips * 99 // 100])
            return times[trips // 2]

        return run

    medians = await in_turns(rounds, {name: leg(name) for name in tails})
    connection.disconnect()
    return [
        _row(f"one quota_reserve round trip, {words}, p50", medians, Bar(1.4)),
        _row(f"one quota_reserve round trip, {words}, p99", tails, Bar(1.6)),
    ]


def _row(what: str, figures: Figures, bar: Bar) -> Row:
    row = compared((what, "µs", "µs PING"), figures["quota_reserve"], figures["ping"], bar)
    empty = compared(("", "", ""), figures["bench_empty"], figures["ping"], bar)
    return msgspec.structs.replace(row, note=f"an empty function takes {empty.ratio:.2f} × PING")


def _commands(connection: Any, name: str, trips: int) -> list[Packed]:  # noqa: ANN401 - redis-py is untyped
    if name == "ping":
        return [connection.pack_command("PING")] * trips
    head = ("FCALL", name, 6, *keys(POOL))
    return [
        connection.pack_command(*head, order_id, "buy", "10.25", "200", "gw1")
        for order_id in fresh_ids(trips)
    ]


def _times_us(connection: Any, commands: Sequence[Packed]) -> list[float]:  # noqa: ANN401 - redis-py is untyped
    """Send one after the other; microseconds of each, ascending. The first PINGs only warm up."""
    send, receive, times = connection.send_packed_command, connection.read_response, []
    ping: Packed = connection.pack_command("PING")
    for command in [ping] * _WARM_UP + list(commands):
        started = perf_counter_ns()
        send(command, check_health=False)
        reply = receive()
        times.append((perf_counter_ns() - started) / 1_000)
    if reply != b"PONG" and reply[0] != b"accepted":
        raise AssertionError(f"we measured {reply}")
    return sorted(times[_WARM_UP:])

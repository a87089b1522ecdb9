"""The gateway's client: how long a caller waits, how many callers it serves, and what it spares.

Every reservation is a first buy under an id of its own, and is accepted. The PING is redis-py's own,
with hiredis, on the same loop. In the open loop a call begins when its time has come, whether or not
the one before has been answered, and is timed from then on; the loop is never idle, so what is
measured is the call and not a timer. The other two libraries' functions do less: they count.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import Any

import msgspec
from limits import RateLimitItemPerDay
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.asyncio import Redis

from bench.market import fresh_ids
from bench.rows import Bar, Leg, Row, compared, in_turns
from bench.stores import Store, ledger_of, opened
from quota.decision import PoolName
from quota.gate.answers import unknown
from quota.gate.wire import keys, packed
from quota.gateway import PreTrade, Question
from quota.ledger import Act

POOL = PoolName.NB_SH
CALLERS = 64
PER_SECOND = 2_000
_SHARES = (50.0, 99.0, 99.9)
_COUNTER = """
local used = redis.call('INCRBY', KEYS[1], ARGV[1])
if used > tonumber(ARGV[2]) then return 0 end
return 1
"""
_PLENTY = 4_000_000_000_000
_DEADLINE_MS = 10_000

Ask = Callable[[], Awaitable[object]]


async def measure(store: Store, *, quick: bool) -> list[Row]:
    """Measure all four."""
    async with ledger_of(store) as ledger:
        await opened(store, ledger, POOL)
    async with PreTrade(store.url, source="gw1", deadline_ms=_DEADLINE_MS) as gate:
        async with Redis(port=store.port, protocol=2, max_connections=10_000) as client:
            rows = await _latency(gate, client, 200 if quick else 1_000, 3 if quick else 21)
        calls, rounds = (640, 3) if quick else (16_000, 7)
        rows += await _sharing(store, gate, calls, rounds)
        rows += await _others(store, gate, calls, rounds)
        rows += await _local(store, gate, 500 if quick else 5_000, rounds)
    return rows


def _reserve(gate: PreTrade) -> Ask:
    return lambda: gate.reserve(POOL, fresh_ids(1)[0], "buy", "10.25", 200)


# One after the other, at a rate.


async def _latency(gate: PreTrade, client: Redis, calls: int, rounds: int) -> list[Row]:
    ping = Question(packed("PING"), POOL, lambda _: unknown("a PING"))
    asks: dict[str, Ask] = {
        "reserve": _reserve(gate),
        "ping": client.ping,
        "ours": lambda: gate.answered(ping),
    }
    tails: dict[str, list[list[float]]] = {name: [] for name in asks}
    await asyncio.gather(*(client.ping() for _ in range(CALLERS)))  # connections are made beforehand

    def leg(name: str) -> Leg:
        async def run() -> float:
            times = await _open_loop(asks[name], calls)
            tails[name].append([times[int(len(times) * share / 100)] for share in _SHARES])
            return times[len(times) // 2]

        return run

    await in_turns(rounds, {name: leg(name) for name in asks})
    what = f"PreTrade.reserve, open loop at {PER_SECOND:,}/s, p"
    of = {name: list(zip(*figures, strict=True)) for name, figures in tails.items()}
    rows = []
    for place, (share, bar) in enumerate(zip(_SHARES, (Bar(1.5), Bar(1.5), None), strict=True)):
        own = compared(("", "", ""), of["reserve"][place], of["ours"][place], None)
        row = compared((f"{what}{share:g}", "µs", "µs PING"), of["reserve"][place], of["ping"][place], bar)
        rows.append(
            msgspec.structs.replace(row, note=f"{own.ratio:.2f} × a PING over PreTrade's own connection")
        )
    return rows


async def _open_loop(ask: Ask, calls: int) -> list[float]:
    """Begin a call every half millisecond; microseconds of each, ascending."""
    times: list[float] = []

    async def one(due: float) -> None:
        await ask()
        times.append((perf_counter() - due) * 1e6)

    begun = perf_counter() + 0.001
    tasks = []
    for number in range(calls):
        due = begun + number / PER_SECOND
        while perf_counter() < due:  # noqa: ASYNC110 - a timer is too coarse for this
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return sorted(times)


# Many at once.


async def _per_second(asks: Sequence[Ask], calls: int) -> float:
    """Let every caller call one time after the other, all at once."""

    async def caller(ask: Ask) -> None:
        for _ in range(calls // len(asks)):
            await ask()

    began = perf_counter()
    await asyncio.gather(*map(caller, asks))
    return calls / (perf_counter() - began)


def _throughput(asks: Mapping[str, Sequence[Ask]], calls: int) -> dict[str, Leg]:
    def leg(callers: Sequence[Ask]) -> Leg:
        return lambda: _per_second(callers, calls)

    return {name: leg(callers) for name, callers in asks.items()}


def _plainly(client: Redis) -> Ask:
    """The same call by redis-py, which gives each caller a connection of its own."""
    send: Any = client.execute_command
    head = ("FCALL", "quota_reserve", 6, *keys(POOL))
    return lambda: send(*head, *fresh_ids(1), "buy", "10.25", "200", "gw1")


@asynccontextmanager
async def _alone(store: Store) -> AsyncIterator[list[Ask]]:
    """The same calls by the same code, a connection for each caller."""
    async with AsyncExitStack() as stack:
        gates = [PreTrade(store.url, source="gw1", deadline_ms=_DEADLINE_MS) for _ in range(CALLERS)]
        yield [_reserve(await stack.enter_async_context(gate)) for gate in gates]


async def _sharing(store: Store, gate: PreTrade, calls: int, rounds: int) -> list[Row]:
    taking_turns = asyncio.Lock()

    async def by_turns() -> None:
        async with taking_turns:
            await gate.reserve(POOL, fresh_ids(1)[0], "buy", "10.25", 200)

    async with _alone(store) as alone, Redis(port=store.port, protocol=2) as client:
        asks: dict[str, Sequence[Ask]] = {
            "shared": [_reserve(gate)] * CALLERS,
            "redis-py, a connection for each": [_plainly(client)] * CALLERS,
            "one call at a time": [by_turns] * CALLERS,
            "a PreTrade for each": alone,
        }
        figures = await in_turns(rounds, _throughput(asks, calls))
    bars = (Bar(3, at_most=False), Bar(3, at_most=False), None)
    return [
        compared(
            (f"{CALLERS} callers of PreTrade.reserve, against {name}", "/s", "/s"),
            figures["shared"],
            figures[name],
            bar,
        )
        for name, bar in zip(list(asks)[1:], bars, strict=True)
    ]


async def _others(store: Store, gate: PreTrade, calls: int, rounds: int) -> list[Row]:
    """The same work by `limits`, and by a counter of one's own."""
    place = f"async+redis://127.0.0.1:{store.port}/0"
    storage = RedisStorage(place, implementation="redispy")
    limiter, daily = FixedWindowRateLimiter(storage), RateLimitItemPerDay(_PLENTY)
    async with Redis(port=store.port, protocol=2) as client:
        digest = await client.script_load(_COUNTER)
        asks: dict[str, Sequence[Ask]] = {
            "ours": [_reserve(gate)] * CALLERS,
            "limits": [lambda: limiter.hit(daily, "NB-SH", cost=205_000)] * CALLERS,
            "evalsha": [lambda: client.evalsha(digest, 1, "counter", 205_000, _PLENTY)] * CALLERS,
        }
        figures = await in_turns(rounds, _throughput(asks, calls))
        single = await in_turns(rounds, _throughput({n: a[:1] for n, a in asks.items()}, calls // 16))
    bridge: Any = storage.bridge
    await bridge.storage.aclose()  # limits has no way to close what it opened
    what, bar = "PreTrade.reserve", Bar(1, at_most=False)
    return [
        compared((f"{what}, {callers}, against {words}", "/s", "/s"), found["ours"], found[name], bar)
        for callers, found in ((f"{CALLERS} callers", figures), ("one caller", single))
        for name, words in (
            ("limits", "limits (async, fixed window)"),
            ("evalsha", "a counter by EVALSHA"),
        )
    ]


# After exhaustion.


async def _local(store: Store, gate: PreTrade, calls: int, rounds: int) -> list[Row]:
    await gate.reserve(POOL, "the-last", "buy", "52000000000.00", 1)
    while not (await gate.check(POOL, "buy")).local:  # noqa: ASYNC110 - the client shows no event for it
        await asyncio.sleep(0)
    asks: dict[str, Sequence[Ask]] = {
        "local": [lambda: gate.reserve(POOL, fresh_ids(1)[0], "buy", "10.25", 200, first=True)],
        "asked": [_reserve(gate)],
    }
    figures = await in_turns(rounds, _throughput(asks, calls))
    words = ("refusals after exhaustion, one caller, answered locally", "/s", "/s asked")
    row = compared(words, figures["local"], figures["asked"], Bar(20, at_most=False))
    lag = [await _lag_us(store, gate) for _ in range(rounds)]
    return [
        row,
        Row(
            what=f"news of a reopening in a storm of {CALLERS} callers",
            unit="µs",
            figure=sorted(lag)[len(lag) // 2],
            low=min(lag),
            high=max(lag),
            note="from the store's answer to the operator to the first answer that is not local: "
            f"{min(lag):.0f} to {max(lag):.0f} µs over {len(lag)} reopenings",
        ),
    ]


async def _lag_us(store: Store, gate: PreTrade) -> float:
    """Reopen the pool in a storm of local refusals, and see how long they go on; then use it up again."""
    ends: list[float] = []

    async def storm(number: int) -> None:
        order_id = f"storm{number}-{perf_counter():.9f}"
        while (await gate.reserve(POOL, order_id, "buy", "10.25", 200, first=True)).local:
            pass
        ends.append(perf_counter())

    async with ledger_of(store) as ledger:
        callers = [asyncio.create_task(storm(number)) for number in range(CALLERS)]
        await asyncio.sleep(0.01)
        act = Act(
            act="limit", reason="bench", user="bench", host="bench", limit_fen=_PLENTY * 100, reopen=True
        )
        await ledger.operate(POOL, act)
        reopened = perf_counter()
        await asyncio.gather(*callers)
        await ledger.operate(POOL, msgspec.structs.replace(act, limit_fen=1, reopen=False))
    while not (await gate.check(POOL, "buy")).local:  # noqa: ASYNC110 - the client shows no event for it
        await asyncio.sleep(0)
    return max(0.0, (min(ends) - reopened) * 1e6)

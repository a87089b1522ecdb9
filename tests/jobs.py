"""What the users of the store are there for: a job for each, with all that it may meet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from quota.decision import PoolName, Side
from quota.doubt import Claim
from quota.events import Bust, Cancelled, Event, Numbers
from quota.ledger import Act, RedisLedger
from quota.library import Library
from quota.numbers import Source, given_up
from quota.proof.verify import verify
from quota.store.record import RedisRecord, Verified, keys
from tests.agreement.past import slept
from tests.agreement.state import command, server_ms
from tests.agreement.trading import HALT, buy, fill, opening

POOL = PoolName.SB_SZ
KEYS = keys(POOL)
LIMIT = 1_000_000
Job = Callable[[Redis, Redis], Awaitable[None]]
NOT_OPEN = keys(PoolName.SB_SH)[0]


async def refused(client: Redis, *words: str | int) -> bool:
    """Whether a command is not allowed; that it fails for another reason is no matter."""
    try:
        await command(client, *words)
    except NoPermissionError:
        return True
    except ResponseError as error:
        return "ACL failure" in str(error) or "NOPERM" in str(error)
    return False


async def allowed(client: Redis, *words: str | int) -> None:
    assert not await refused(client, *words), words


# What each of them is there for. --------------------------------------------------------------


async def as_daemon(client: Redis, other: Redis) -> None:
    """Load the library, open days, take events, follow, and be asked by clients' own habits."""
    functions = Library(client)
    await functions.load()
    ledger = RedisLedger(functions)
    day = await opening(client, limit_fen=LIMIT, keep_days=0)
    assert await ledger.open_day(POOL, day)
    assert await ledger.set_rate(POOL, day.trading_day, "0.90000") == "set"
    gone = Bust(order_id="c", exec_id="c-1", side=Side.BUY, price="1.00", quantity=1)
    events: list[Event] = [
        buy("a"),
        fill("a"),
        buy("b"),
        Cancelled(order_id="b"),
        gone,
        buy("huge", 20_000),
        buy("late"),
    ]
    await lapse(other)
    await ledger.apply(POOL, events)
    await ledger.sources.arrived(POOL, [Numbers("gw1", "e", 2, 2)])
    assert (await ledger.sources.read(POOL)).sources["gw1"].missing == 1
    snapshot = await ledger.tick(POOL, "0-1")
    assert snapshot.pool is not None
    await ledger.attest(POOL, [Claim(snapshot.pool.seq, snapshot.pool.balance_fen, snapshot.server_ms)])
    assert await ledger.changes(POOL, "0-0")
    assert await ledger.record.latest(POOL, 5)
    assert await ledger.record.sampled(POOL, snapshot.pool.seq, 5)
    assert not (await verify(ledger.record, POOL)).differences
    await ledger.record.verified(POOL)
    assert await ledger.open_day(POOL, await opening(client, trading_day="2026-11-24", keep_days=0))
    assert await ledger.open_day(POOL, await opening(client, trading_day="2026-11-25", keep_days=0))
    await put_back(ledger, await server_ms(client))
    for words in (("CLIENT", "SETNAME", "quotad"), ("PING",), ("WAIT", 0, 1), ("CLUSTER", "SLOTS")):
        await allowed(client, *words)


async def put_back(ledger: RedisLedger, now_ms: int) -> None:
    """Put a day back, an entry at a time, whose holds ended before its trading began."""
    past = await slept(now_ms, "2026-11-26")
    for entry in past.journal:
        assert (await ledger.replay(POOL, past.terms, [entry])).detail == ""
    assert (await ledger.adopt(POOL, "2026-11-26", len(past.journal), 0)).detail == ""


async def reserve(client: Redis, order_id: str, side: str, price: str, *more: str | int) -> Any:  # noqa: ANN401 - a reply
    quantity, *hold = more
    return await command(
        client, "FCALL", "quota_reserve", 6, *KEYS, order_id, side, price, quantity, "gw1", *hold
    )


async def lapse(client: Redis) -> None:
    """Make a reservation whose time is over when the next call comes."""
    assert (await reserve(client, "short", "buy", "1.00", 1, 1))[0] == b"accepted"
    due_ms = await server_ms(client) + 2
    while await server_ms(client) < due_ms:
        await client.ping()


async def as_gateway(client: Redis, _: Redis) -> None:
    """Reserve in every way, release, let a hold lapse, and follow what changes."""
    await lapse(client)
    for order, verdict in (
        (("plain", "buy", "1.00", 100), b"accepted"),
        (("plain", "buy", "1.00", 100), b"accepted"),
        (("plain", "buy", "1.00", 200), b"id_reused"),
        (("sold", "sell", "1.00", 100), b"accepted"),
        (("held", "buy", "1.00", 1, 60_000), b"accepted"),
        (("last", "buy", "1.00", 9_900, 60_000), b"accepted"),
        (("after", "buy", "1.00", 1), b"exhausted"),
    ):
        assert (await reserve(client, *order))[0] == verdict, order
    released = await command(client, "FCALL", "quota_release", 6, *KEYS, "held")
    assert released[0] == b"released"
    assert (await command(client, "FCALL_RO", "quota_check", 1, KEYS[0], "buy"))[0] == b"exhausted"
    assert (await command(client, "FCALL_RO", "quota_check", 1, NOT_OPEN, "buy"))[0] == b"closed"
    (last,) = await command(client, "XREVRANGE", KEYS[4], "+", "-", "COUNT", 1)
    assert last
    assert await command(client, "XREAD", "COUNT", 1, "BLOCK", 1, "STREAMS", KEYS[4], "0-0")
    for words in (
        *(("PING",), ("WAIT", 0, 1), ("CLIENT", "SETNAME", "gw1"), ("ASKING",)),
        *(("CLUSTER", "SLOTS"), ("CLUSTER", "NODES"), ("CLUSTER", "SHARDS")),
    ):
        await allowed(client, *words)


async def as_monitor(client: Redis, _: Redis) -> None:
    """Look at everything, also by ``quotad check``, and change nothing."""
    functions = Library(client)
    await functions.load()
    assert (await RedisLedger(functions).check(POOL, Side.BUY))[0] == "accepted"
    assert (await RedisLedger(functions).check(PoolName.SB_SH, Side.BUY))[0] == "closed"
    assert not (await verify(RedisRecord(functions), POOL)).differences
    for words in (
        *(("HGET", KEYS[0], "seq"), ("XLEN", KEYS[5]), ("XREVRANGE", KEYS[5], "+", "-"), ("ZCARD", KEYS[3])),
        *(("XREAD", "COUNT", 1, "STREAMS", KEYS[4], "0-0"), ("TIME",), ("CLUSTER", "SLOTS")),
        *(("PING",), ("HMGET", KEYS[0], "seq"), ("HLEN", KEYS[1]), ("INFO",)),
        ("CLIENT", "SETNAME", "grafana"),
    ):
        await allowed(client, *words)


async def as_operator(client: Redis, other: Redis) -> None:
    """Do what the commands of quotad do: status, check, verify, halt, resume, limit."""
    functions = Library(client)
    await functions.load()
    ledger = RedisLedger(functions)
    await lapse(other)
    assert (await ledger.tick(POOL)).pool is not None
    await ledger.check(POOL, Side.SELL)
    assert (await ledger.check(PoolName.SB_SH, Side.BUY))[0] == "closed"
    assert await ledger.operate(POOL, HALT) == "halted"
    resume = Act(act="resume", reason="test", user="ann", host="desk")
    assert await ledger.operate(POOL, resume) == "open"
    limit = Act(act="limit", reason="test", user="ann", host="desk", limit_fen=LIMIT + 1)
    assert await ledger.operate(POOL, limit) == "open"
    findings = await verify(ledger.record, POOL)
    assert not findings.differences
    noted = Verified(trading_day="2026-11-23", seq=1, differences=0, time_ms=1)
    await ledger.record.note(POOL, noted)
    deed = given_up({"gw1": Source("2026-11-23", 1)}, reason="test", user="ann", host="desk")
    await ledger.sources.accept(POOL, deed)
    assert (await ledger.sources.read(POOL)).accepted
    for words in (("HGET", KEYS[0], "seq"), ("CLIENT", "SETNAME", "ann"), ("PING",), ("CLUSTER", "SLOTS")):
        await allowed(client, *words)


async def as_keeper(client: Redis, _: Redis) -> None:
    """Make a copy of the store's file, and have the users read again."""
    for words in (
        *(("PING",), ("INFO",), ("ACL", "LOG")),
        *(("CONFIG", "GET", "appendfsync"), ("CONFIG", "SET", "auto-aof-rewrite-percentage", 100)),
        ("ACL", "LOAD"),
    ):
        await allowed(client, *words)


JOBS: dict[str, Job] = {
    "quotad": as_daemon,
    "gateway": as_gateway,
    "monitor": as_monitor,
    "operator": as_operator,
    "keeper": as_keeper,
}

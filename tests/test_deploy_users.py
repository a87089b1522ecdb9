"""The users of the store: each can do its job, with nothing that it does not need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from quota import library
from quota.decision import PoolName, Side
from quota.endpoints import Redis as Settings
from quota.errors import ConfigError, QuotaError
from quota.events import Bust, Cancelled, Event
from quota.ledger import Act, RedisLedger
from quota.library import Library
from quota.proof.verify import verify
from quota.store.nodes import connected
from quota.store.record import RedisRecord, Verified, keys
from tests.agreement.past import slept
from tests.agreement.state import command, server_ms
from tests.agreement.trading import HALT, buy, fill, opening
from tests.deployed import DEPLOY, rendered, running
from tests.forbidden import FORBIDDEN, OTHERS
from tests.guarded import Guarded, guarded_store, store_program
from tests.servers import free_port

POOL = PoolName.SB_SZ
KEYS = keys(POOL)
HASH, JOURNAL = KEYS[0], KEYS[5]
LIMIT = 1_000_000
USERS = ("quotad", "gateway", "monitor", "operator", "keeper")
Job = Callable[[Redis, Redis], Awaitable[None]]


@pytest.fixture(scope="module", params=["redis", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_store(tmp_path_factory.mktemp("guarded"), request.param) as guarded:
        yield guarded


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
    snapshot = await ledger.tick(POOL, "0-1")
    assert snapshot.pool is not None
    await ledger.attest(POOL, snapshot.pool.seq, snapshot.pool.balance_fen)
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
    (last,) = await command(client, "XREVRANGE", KEYS[4], "+", "-", "COUNT", 1)
    assert last
    assert await command(client, "XREAD", "COUNT", 1, "BLOCK", 1, "STREAMS", KEYS[4], "0-0")
    for words in (("PING",), ("WAIT", 0, 1), ("CLUSTER", "SLOTS")):
        await allowed(client, *words)


async def as_monitor(client: Redis, _: Redis) -> None:
    """Look at everything, and change nothing."""
    assert (await command(client, "FCALL_RO", "quota_check", 1, KEYS[0], "buy"))[0] == b"accepted"
    assert not (await verify(RedisRecord(Library(client)), POOL)).differences
    for words in (
        *(("HGET", KEYS[0], "seq"), ("XLEN", KEYS[5]), ("XREVRANGE", KEYS[5], "+", "-"), ("ZCARD", KEYS[3])),
        *(("XREAD", "COUNT", 1, "STREAMS", KEYS[4], "0-0"), ("TIME",), ("CLUSTER", "SLOTS")),
        *(("PING",), ("HMGET", KEYS[0], "seq"), ("HLEN", KEYS[1]), ("INFO",)),
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
    assert await ledger.operate(POOL, HALT) == "halted"
    resume = Act(act="resume", reason="test", user="ann", host="desk")
    assert await ledger.operate(POOL, resume) == "open"
    limit = Act(act="limit", reason="test", user="ann", host="desk", limit_fen=LIMIT + 1)
    assert await ledger.operate(POOL, limit) == "open"
    findings = await verify(ledger.record, POOL)
    assert not findings.differences
    noted = Verified(trading_day="2026-11-23", seq=1, differences=0, time_ms=1)
    await ledger.record.note(POOL, noted)
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


async def prepared(store: Guarded, tester: Redis, user: str) -> None:
    """An open day, and a library that does not know yet on which server it is."""
    store.clean()
    if user != "quotad":
        functions = Library(tester)
        await functions.load()
        await RedisLedger(functions).open_day(POOL, await opening(tester, limit_fen=LIMIT))
        await tester.function_load(library.SOURCE, replace=True)


async def does(store: Guarded, user: str) -> None:
    """Let a user do its job."""
    async with (
        Redis(port=store.port, username="tester", password="", protocol=2) as tester,
        store.client(user) as client,
    ):
        await prepared(store, tester, user)
        await JOBS[user](client, tester)


@pytest.mark.parametrize("user", USERS)
async def test_a_user_can_do_its_job(store: Guarded, user: str) -> None:
    await does(store, user)


@pytest.mark.parametrize("user", USERS)
async def test_a_user_may_nothing_that_its_job_does_not_need(store: Guarded, user: str) -> None:
    rules = store.rules(user)
    unneeded = []
    try:
        for right in [rule for rule in rules if rule[0] in "+~%"]:
            store.become(user, ["reset", *(rule for rule in rules if rule != right)])
            try:
                await does(store, user)
            except (QuotaError, NoPermissionError, ResponseError, AssertionError):
                continue
            unneeded.append(right)
    finally:
        store.become(user, rules)
    assert not unneeded


@pytest.mark.parametrize("user", USERS)
async def test_a_user_may_nothing_else(store: Guarded, user: str) -> None:
    async with store.client(user) as client:
        for line in (*FORBIDDEN, *OTHERS[user]):
            words: list[str] = []
            for part in line.split():
                words += (
                    KEYS if part == "{keys}" else [part.replace("{key}", HASH).replace("{journal}", JOURNAL)]
                )
            assert await refused(client, *words), line


def keeps_out(port: int, user: str | None, password: str | None) -> bool:
    """Whether a store lets a user do nothing at all."""
    once = Retry(NoBackoff(), 0)
    with SyncRedis(port=port, username=user, password=password, protocol=2, retry=once) as client:
        try:
            client.ping()
        except (AuthenticationError, ResponseError):
            return True
    return False


def test_nobody_comes_in_without_a_password_nor_with_a_wrong_one(store: Guarded) -> None:
    for user, password in (
        (None, None),
        ("default", ""),
        ("gateway", ""),
        ("gateway", "wrong"),
        ("root", "x"),
    ):
        assert keeps_out(store.port, user, password), user


async def test_a_store_whose_users_have_no_passwords_yet_lets_nobody_in(tmp_path: Path) -> None:
    port = free_port()
    moved = {
        "\nport 6379": f"\nport {port}",
        "dir /var/lib/redis": f"dir {tmp_path}",
        "/etc/redis/users.acl": str(DEPLOY / "users.acl"),
    }
    command = [store_program("redis"), rendered("redis.conf", tmp_path, moved)]
    with running(command, port, tmp_path):
        for user in (None, *USERS):
            assert keeps_out(port, user, ""), user


async def test_quotad_says_whose_mistake_a_wrong_password_is(store: Guarded) -> None:
    wrong = Settings(url=f"redis://127.0.0.1:{store.port}", username="quotad", password=SecretStr("s3cr3t"))
    nodes = connected(wrong)
    with pytest.raises(ConfigError) as error:
        await Library(nodes).load()
    await nodes.aclose()
    assert "s3cr3t" not in str(error.value)

"""What an answer has outlived before it is given: each durability, on real servers that are killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from quota.decision import PoolName, Verdict
from quota.errors import BadArgument, ConfigError, LedgerUnavailable
from quota.gate.answers import Result
from quota.gateway import PreTrade, PreTradeSync
from quota.ledger import RedisLedger
from quota.library import Library
from quota.store.durability import Durability, Seal, seal_of
from quota.store.record import keys
from tests.agreement.trading import POOL, buy, opening
from tests.daemons import Quotad, new
from tests.fleet import Watched, say, watched
from tests.servers import Mosquitto, Store
from tests.shift import CHARGE_FEN, working
from tests.tap import Tap, until, until_now

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")
NEVER = ("--appendonly", "yes", "--appendfsync", "no")
NO_FILE = ("--appendonly", "no")
RULE = (
    "durability fsync: this server has no WAITAOF, so it needs appendonly yes, appendfsync always "
    "and no-appendfsync-on-rewrite no"
)


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store; the parameter is its name and the options with which it runs."""
    name, options = request.param
    store = Store(tmp_path, name, options)
    store.start()
    yield store
    store.stop()


def on(name: str, options: tuple[str, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", [(name, options)], indirect=True, ids=[f"{name} {options[-1]}"])


async def seal(server: Store, durability: Durability) -> Seal | None:
    async with Redis(port=server.port, protocol=2) as client:
        return await seal_of(client.execute_command, durability, 500)


# What a server can.


@on("valkey", EVERY_SECOND)
async def test_where_the_server_has_waitaof_that_is_awaited(server: Store) -> None:
    assert await seal(server, Durability.FSYNC) == Seal(("WAITAOF", 1, 0, 500), "disk")
    assert await seal(server, Durability.REPLICA) == Seal(("WAIT", 1, 500), "replica")
    assert await seal(server, Durability.MEMORY) is None


@on("valkey", NO_FILE)
async def test_waitaof_without_a_file_is_refused_at_the_start(server: Store) -> None:
    with pytest.raises(ConfigError, match="durability fsync: WAITAOF cannot be used"):
        await seal(server, Durability.FSYNC)


@on("redis", ALWAYS)
async def test_a_server_without_waitaof_is_asked_each_time_whether_it_still_always_syncs(
    server: Store,
) -> None:
    found = await seal(server, Durability.FSYNC)
    assert found is not None
    assert found.words == ("CONFIG", "GET", "appendonly", "appendfsync", "no-appendfsync-on-rewrite")
    assert found.holds(await say(server.port, *found.words))
    assert not any(found.holds(reply) for reply in (None, [], 1, [1, 0], ResponseError("NOPERM")))


@pytest.mark.parametrize(
    "server",
    [
        ("redis", EVERY_SECOND),
        ("redis", NO_FILE),
        ("redis", (*ALWAYS, "--no-appendfsync-on-rewrite", "yes")),
    ],
    indirect=True,
    ids=["every second", "no file", "not while it rewrites"],
)
async def test_a_server_without_waitaof_has_to_sync_always(server: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=RULE):
        async with PreTrade(server.url, source="gw", durability="fsync"):
            pass
    with pytest.raises(ConfigError, match=RULE), PreTradeSync(server.url, source="gw", durability="fsync"):
        pass
    store = f'url = "{server.url}"\ndurability = "fsync"'
    with Mosquitto(tmp_path) as broker, Quotad(tmp_path, 0, broker.port, store=store, at=None) as quotad:
        quotad.start()
        assert await asyncio.to_thread(quotad.code, 20) == 1
        assert f"quotad: {RULE}" in quotad.log


@on("redis", ALWAYS)
async def test_who_may_not_ask_how_the_server_syncs_is_told(server: Store) -> None:
    await say(server.port, "ACL", "SETUSER", "gateway", "on", ">secret", "~*", "+@all", "-config")
    url = f"redis://gateway:secret@127.0.0.1:{server.port}/0"
    with pytest.raises(ConfigError, match="CONFIG GET is needed"):
        async with PreTrade(url, source="gw", durability="fsync"):
            pass


def test_another_word_is_refused() -> None:
    with pytest.raises(BadArgument, match="durability: must be one of memory, fsync, replica"):
        PreTrade("redis://127.0.0.1:1", source="gw", durability="disk")


# What is not confirmed is not answered.


async def trades(port: int) -> None:
    """Load the library and open a day."""
    async with Redis(port=port, protocol=2) as client:
        functions = Library(client)
        await functions.load()
        await RedisLedger(functions).open_day(POOL, await opening(client))


@on("valkey", NEVER)
async def test_what_the_disk_has_not_confirmed_is_unknown_and_asked_again_it_is_the_same(
    server: Store,
) -> None:
    await trades(server.port)
    async with PreTrade(server.url, source="gw", deadline_ms=100, durability="fsync") as gate:
        answer = await gate.reserve(POOL, "a", "buy", "10.00", 1)
        assert (answer.outcome, answer.verdict) == (Result.UNKNOWN, None)
        assert "no disk has confirmed it in time" in answer.reason
        assert await say(server.port, "HEXISTS", keys(POOL)[1], "a") == 1
        assert (await gate.status(POOL)).verdict is Verdict.ACCEPTED
        await say(server.port, "CONFIG", "SET", "appendfsync", "always")
        async with asyncio.timeout(10):
            while (answer := await gate.reserve(POOL, "a", "buy", "10.00", 1)).outcome is Result.UNKNOWN:
                pass
        assert (answer.verdict, answer.seq, answer.replayed) == (Verdict.ACCEPTED, 1, True)
        assert (await gate.release(POOL, "a")).outcome is Result.ACCEPTED


@on("valkey", NEVER)
async def test_what_the_disk_has_not_confirmed_the_ledger_has_not_done(server: Store) -> None:
    await trades(server.port)
    async with Redis(port=server.port, protocol=2) as client:
        ledger = RedisLedger(Library(client, Durability.FSYNC, 100))
        with pytest.raises(LedgerUnavailable, match="decided, but no disk has confirmed it in time"):
            await ledger.apply(POOL, [buy("a")])
        await say(server.port, "CONFIG", "SET", "appendfsync", "always")
        async with asyncio.timeout(10):
            while True:
                try:
                    (decision,) = await ledger.apply(POOL, [buy("a")])
                except LedgerUnavailable:
                    continue
                break
        assert (decision.verdict, decision.seq, decision.replayed) == (Verdict.ACCEPTED, 1, True)


@on("valkey", ALWAYS)
async def test_one_batch_is_sealed_once(server: Store) -> None:
    await trades(server.port)
    async with (
        PreTrade(server.url, source="gw", deadline_ms=20_000, durability="fsync") as gate,
        Redis(port=server.port, protocol=2) as client,
    ):
        before = (await client.info("commandstats"))["cmdstat_waitaof"]["calls"]
        answers = await asyncio.gather(*(gate.reserve(POOL, f"o{n}", "buy", "1", 1) for n in range(64)))
        after = (await client.info("commandstats"))["cmdstat_waitaof"]["calls"]
    assert {answer.verdict for answer in answers} == {Verdict.ACCEPTED}
    assert 1 <= after - before <= 3


# Servers that are killed.


@dataclass(slots=True)
class Site:
    """A store, a broker and a daemon."""

    server: Store
    broker: Mosquitto
    quotad: Quotad


@pytest.fixture
def home(server: Store, tmp_path: Path) -> Iterator[Site]:
    store = f'url = "{server.url}"\ndurability = "fsync"'
    with (
        Mosquitto(tmp_path) as broker,
        Quotad(tmp_path, 0, broker.port, store=store, toml=f'pools = ["{POOL}"]') as quotad,
    ):
        quotad.start()
        until_now(lambda: quotad.ready)
        yield Site(server, broker, quotad)


@pytest.mark.parametrize(
    "server", [("valkey", ALWAYS), ("redis", ALWAYS)], indirect=True, ids=["waitaof", "always"]
)
async def test_what_is_on_the_disk_outlives_a_killed_server(home: Site, tmp_path: Path) -> None:
    with Tap(home.broker.port, ("connect/+/decisions/#",)) as tap:
        async with working(home.server.url, [POOL], "fsync") as shift:
            for number in range(100):
                tap.say(f"connect/{POOL}/orders", new(f"m-{number}"))
            await until(lambda: len(shift.answered()) > 200)
            home.server.stop()
            home.server.start()
            before = len(shift.answered(Verdict.ACCEPTED))
            await until(lambda: len(shift.answered(Verdict.ACCEPTED)) > before + 200)
            await until(lambda: len({reply["order_id"] for reply in tap.replies()}) == 100)
        async with working(home.server.url, [POOL], "fsync") as asking:
            asking.over = True
            asking.calls = shift.calls
            await asking.finish()
            await asking.still_stands()
        taken = {reply["order_id"] for reply in tap.replies() if reply["verdict"] == "accepted"}
    taken |= {call.order_id for call in shift.answered(Verdict.ACCEPTED)}
    limit, balance = await say(home.server.port, "HMGET", keys(POOL)[0], "limit_fen", "balance_fen")
    assert int(limit) - int(balance) == CHARGE_FEN * len(taken)
    assert "store.attested" in home.quotad.log
    done = await asyncio.to_thread(home.quotad.does, "verify", "--history", str(shift.history(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as fleet:
        yield fleet


async def test_without_its_replica_nothing_is_answered_or_acknowledged(pair: Watched, tmp_path: Path) -> None:
    store = f'url = "{pair.primary.url}"\ndurability = "replica"'
    pools = f'pools = ["{PoolName.NB_SH}"]'
    with (
        Mosquitto(tmp_path) as broker,
        Quotad(tmp_path, 0, broker.port, store=store, toml=pools) as quotad,
        Tap(broker.port, ("connect/+/decisions/#",)) as tap,
    ):
        quotad.start()
        await until(lambda: quotad.ready)
        assert pair.replica.process is not None
        pair.replica.process.send_signal(signal.SIGSTOP)
        try:
            tap.say(f"connect/{POOL}/orders", new("m"))
            await until(lambda: "no replica has confirmed it in time" in quotad.log)
            async with PreTrade(pair.primary.url, source="gw", deadline_ms=200, durability="replica") as gate:
                assert (await gate.reserve(POOL, "a", "buy", "10.00", 100)).outcome is Result.UNKNOWN
            assert tap.replies() == []
            assert quotad.metric("quota_unacknowledged_messages") == 1
        finally:
            pair.replica.process.send_signal(signal.SIGCONT)
        await until(lambda: [reply["verdict"] for reply in tap.replies()] == ["accepted"])
        async with PreTrade(pair.primary.url, source="gw", deadline_ms=5000, durability="replica") as gate:
            again = await gate.reserve(POOL, "a", "buy", "10.00", 100)
        assert (again.verdict, again.replayed) == (Verdict.ACCEPTED, True)
        assert (await asyncio.to_thread(quotad.does, "verify")).returncode == 0

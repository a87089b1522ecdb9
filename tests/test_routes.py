"""Ways to a store: every kind of URL against real servers, ready clients, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import Sentinel

from quota.decision import PoolName, Verdict
from quota.errors import ConfigError
from quota.gate.answers import Answer, Result
from quota.gateway import PreTrade, PreTradeSync
from quota.ledger import RedisLedger
from quota.library import Library
from quota.store.record import keys
from quota.store.routes import route_to
from tests.agreement.state import command
from tests.agreement.trading import POOL, opening
from tests.certificates import certify
from tests.fleet import Watched, joined, move, redis_servers, say, watched
from tests.rigs import SOON_S
from tests.servers import Store

PLENTY_MS = 20_000
SECRET = "an unlikely secret"  # noqa: S105 - a test's


async def asked(store: Any) -> Answer:  # noqa: ANN401 - all that a gateway takes
    """Look at the pool by this way."""
    async with PreTrade(store, source="gw1", deadline_ms=PLENTY_MS) as gate:
        return await gate.status(POOL)


async def trades(client: Redis) -> None:
    """Load the library and open a day."""
    functions = Library(client)
    await functions.load()
    await RedisLedger(functions).open_day(POOL, await opening(client))


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a name short enough for a unix socket."""
    return tmp_path_factory.mktemp("way")


async def test_a_plain_url_and_its_database(store: Store) -> None:
    async with Redis(port=store.port, db=3, protocol=2) as client:
        await trades(client)
    assert (await asked(store.url)).verdict is Verdict.CLOSED
    assert (await asked(f"redis://127.0.0.1:{store.port}/3")).verdict is Verdict.ACCEPTED


async def test_a_unix_socket(directory: Path) -> None:
    with redis_servers(directory, f"--unixsocket {directory}/s"):
        async with Redis(unix_socket_path=f"{directory}/s", protocol=2) as client:
            await trades(client)
        assert (await asked(f"unix://{directory}/s")).verdict is Verdict.ACCEPTED


async def test_tls_and_only_with_the_right_authority(directory: Path) -> None:
    ca = certify(directory, "localhost")
    lines = f"--tls-port {{port}} --port 0 --tls-ca-cert-file {ca} --tls-auth-clients no"
    files = f"--tls-cert-file {directory}/localhost.pem --tls-key-file {directory}/localhost.key"
    with redis_servers(directory, lines, files) as (port,):
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={ca}"
        async with Redis.from_url(url, protocol=2) as client:
            await trades(client)
            assert (await asked(client)).verdict is Verdict.ACCEPTED
        assert (await asked(url)).verdict is Verdict.ACCEPTED
        async with PreTrade(f"rediss://localhost:{port}/0", source="gw1", deadline_ms=30) as gate:
            answer = await gate.status(POOL)
        assert answer.outcome is Result.UNKNOWN
        assert "certificate verify failed" in answer.reason


@pytest.fixture
async def guarded(store: Store, client: Redis) -> Store:
    """A store with a user for gateways."""
    await trades(client)
    await command(client, "ACL", "SETUSER", "gateway", "on", f">{SECRET}", "~quota:*", "+@all")
    return store


async def test_a_password_from_the_url_or_from_a_file(guarded: Store, directory: Path) -> None:
    (directory / "password").write_text(f"{SECRET}\n")
    place = f"127.0.0.1:{guarded.port}/0"
    escaped = SECRET.replace(" ", "%20")
    assert (await asked(f"redis://gateway:{escaped}@{place}")).verdict is Verdict.ACCEPTED
    by_file = f"redis://gateway@{place}?password_file={directory}/password"
    assert (await asked(by_file)).verdict is Verdict.ACCEPTED


async def test_a_wrong_password_is_told_at_the_start_and_not_repeated(guarded: Store) -> None:
    with pytest.raises(ConfigError, match=r"WRONGPASS|invalid username") as caught:
        await asked(f"redis://gateway:wrong-secret@127.0.0.1:{guarded.port}/0")
    assert "wrong-secret" not in repr(caught.value)


async def test_a_call_that_the_user_may_not_make_is_unknown(guarded: Store, client: Redis) -> None:
    await command(client, "ACL", "SETUSER", "gateway", "-fcall")
    url = f"redis://gateway:{SECRET.replace(' ', '%20')}@127.0.0.1:{guarded.port}/0"
    async with PreTrade(url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        answer = await gate.reserve(POOL, "a", "buy", "1", 1)
    assert (answer.outcome, answer.may_send("buy"), answer.may_send("sell")) == (Result.UNKNOWN, False, True)
    assert "fcall" in answer.reason


async def test_a_ready_client_is_followed_and_left_alone(store: Store, client: Redis) -> None:
    await trades(client)
    async with Redis.from_url(store.url) as speaks_resp3:
        assert (await asked(speaks_resp3)).verdict is Verdict.ACCEPTED
        assert await speaks_resp3.ping()


@pytest.mark.usefixtures("day_in_store")
def test_a_ready_client_for_threads(store: Store) -> None:
    with (
        SyncRedis(port=store.port) as ready,
        PreTradeSync(ready, source="gw1", deadline_ms=PLENTY_MS) as gate,
    ):
        assert gate.status("NB-SH").verdict is Verdict.ACCEPTED


@pytest.fixture
def day_in_store(store: Store) -> None:
    """A day that trades, opened without a loop of the test's own."""

    async def open_day() -> None:
        async with Redis.from_url(store.url, protocol=2) as client:
            await trades(client)

    asyncio.run(open_day())


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:6379",
        "127.0.0.1:6379",
        "redis://127.0.0.1:port/0",
        "redis://127.0.0.1:6379/zero",
        "redis://127.0.0.1:6379/0?no_such_option=1",
        "redis+cluster://127.0.0.1:6379/1",
        "redis+cluster://127.0.0.1",
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel://127.0.0.1:26379,nothing/quota/0",
        "redis+nothing://127.0.0.1:6379",
        "redis://u:an-unlikely-secret@127.0.0.1:6379/0?password_file=/no/such/file",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^url: ") as caught:
        route_to(url)
    assert "unlikely" not in str(caught.value)


@pytest.mark.parametrize("kind", ["redis", "redis+cluster", "redis+sentinel"])
def test_a_route_that_is_written_out_shows_no_password(kind: str) -> None:
    path = "/quota/0?sentinel_password=hunter2" if kind == "redis+sentinel" else ""
    route = route_to(f"{kind}://gateway:hunter2@127.0.0.1:6379{path}")
    shown = f"{route!r} {route} {route.client(('127.0.0.1', 6379), 1.0)!r} {route.connection(None)!r}"
    assert "hunter2" not in shown
    with SyncRedis(password="hunter2") as ready:  # noqa: S106 - a test's
        assert "hunter2" not in repr(route_to(ready))


# A cluster.


@pytest.fixture
def cluster(directory: Path) -> Iterator[list[int]]:
    """Three primaries."""
    with redis_servers(directory, "--cluster-enabled yes --cluster-port {bus}", count=3) as ports:
        asyncio.run(joined(ports))
        yield ports


async def opened_everywhere(ports: list[int]) -> dict[PoolName, int]:
    """Load the library on every node and open a day in all pools; return where each is."""
    places: dict[PoolName, int] = {}
    for port in ports:
        async with Redis(port=port, protocol=2) as client:
            functions = Library(client)
            await functions.load()
            for pool in PoolName:
                try:
                    await RedisLedger(functions).open_day(pool, await opening(client))
                except ConfigError:
                    continue
                places[pool] = port
    return places


async def test_in_a_cluster_each_pool_is_found_on_its_node(cluster: list[int]) -> None:
    places = await opened_everywhere(cluster)
    assert len(set(places.values())) > 1
    for seed in cluster:
        async with PreTrade(f"redis+cluster://127.0.0.1:{seed}", source="gw1", deadline_ms=PLENTY_MS) as gate:
            orders = (gate.reserve(pool, f"o{seed}", "buy", "1", 1) for pool in PoolName for _ in range(2))
            answers = await asyncio.gather(*orders)
            assert {answer.verdict for answer in answers} == {Verdict.ACCEPTED}
    for pool, port in places.items():
        assert await say(port, "HLEN", keys(pool)[1]) == len(cluster)


async def test_in_a_cluster_local_answers_are_given_too(cluster: list[int]) -> None:
    await opened_everywhere(cluster)
    url = f"redis+cluster://127.0.0.1:{cluster[0]},127.0.0.1:{cluster[1]}"
    async with PreTrade(url, source="gw1", deadline_ms=PLENTY_MS) as gate, asyncio.timeout(SOON_S):
        for pool in PoolName:
            await gate.reserve(pool, "big", "buy", "10000.00", 1)
            while not (await gate.check(pool, "buy")).local:  # noqa: ASYNC110 - other processes set no event of ours
                await asyncio.sleep(0)


async def test_a_pool_that_moves_is_followed(cluster: list[int]) -> None:
    """Its slot is given to another node while orders are asked for: each is answered once, by its node."""
    places = await opened_everywhere(cluster)
    source = places[POOL]
    target = next(port for port in cluster if port != source)
    async with PreTrade(f"redis+cluster://127.0.0.1:{source}", source="gw1", deadline_ms=PLENTY_MS) as gate:
        before = await gate.reserve(POOL, "a", "buy", "1", 1)
        await move(keys(POOL)[0], source, target)
        replayed = await gate.reserve(POOL, "a", "buy", "1", 1)
        after = await gate.reserve(POOL, "b", "buy", "1", 1)
    assert (before.seq, replayed.seq, replayed.replayed, after.seq) == (1, 1, True, 2)


async def test_a_ready_cluster_client(cluster: list[int]) -> None:
    await opened_everywhere(cluster)
    async with RedisCluster(host="127.0.0.1", port=cluster[2]) as ready:
        assert (await asked(ready)).verdict is Verdict.ACCEPTED


async def test_a_node_of_a_cluster_taken_for_a_single_server_is_said(cluster: list[int]) -> None:
    places = await opened_everywhere(cluster)
    wrong = next(port for port in cluster if port != places[POOL])
    answer = await asked(f"redis://127.0.0.1:{wrong}")
    assert (answer.outcome, answer.reason.split(" ")[0]) == (Result.UNKNOWN, "MOVED")


# Sentinel.


@pytest.fixture
def under_sentinel(directory: Path) -> Iterator[Watched]:
    """A primary with a replica."""
    with watched(directory) as fleet:
        yield fleet


async def test_under_sentinel_the_primary_is_found_before_and_after_a_failover(
    under_sentinel: Watched,
) -> None:
    async with Redis(port=under_sentinel.primary.port, protocol=2) as client:
        await trades(client)
        await client.wait(1, 5000)
    url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{under_sentinel.sentinel}/quota/0"
    async with PreTrade(url, source="gw1", deadline_ms=200) as gate:
        async with asyncio.timeout(SOON_S):
            while (await gate.reserve(POOL, "a", "buy", "1", 1)).outcome is Result.UNKNOWN:
                pass
        under_sentinel.primary.stop()
        async with asyncio.timeout(3 * SOON_S):
            while (found := await gate.reserve(POOL, "b", "sell", "1", 1)).outcome is Result.UNKNOWN:
                pass
    assert found.verdict is Verdict.ACCEPTED
    assert await say(under_sentinel.replica.port, "HEXISTS", keys(POOL)[1], "b") == 1


async def test_a_ready_client_of_a_sentinel(under_sentinel: Watched) -> None:
    async with Redis(port=under_sentinel.primary.port, protocol=2) as client:
        await trades(client)
    async with (
        Sentinel([("127.0.0.1", under_sentinel.sentinel)]) as sentinel,  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        sentinel.master_for("quota") as ready,
    ):
        assert (await asked(ready)).verdict is Verdict.ACCEPTED

"""Three primaries with the pools on different nodes: the daemon, gateways, and a node that joins."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as Gone

from quota import library
from quota.decision import PoolName, Verdict
from quota.errors import ConfigError, LedgerUnavailable
from quota.library import Library
from quota.store.nodes import Nodes
from quota.store.record import keys
from quota.store.routes import route_to
from tests.agreement.state import versioned
from tests.daemons import Quotad, new
from tests.fleet import SLOTS, joined, linked, met, move, redis_servers, say
from tests.servers import Mosquitto
from tests.shift import CHARGE_FEN, working
from tests.tap import Tap, until, until_now

OPTIONS = "--cluster-enabled yes --cluster-port {bus} --repl-diskless-sync-delay 0"
POOL = PoolName.NB_SH


@dataclass(slots=True)
class Site:
    """A cluster, a broker and a daemon."""

    ports: list[int]
    broker: Mosquitto
    quotad: Quotad

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.ports[0]},127.0.0.1:{self.ports[1]}"

    def place(self, pool: PoolName) -> int:
        """The node that has a pool's slot from the beginning."""
        slot = key_slot(keys(pool)[0].encode())
        return next(port for port, (_, last) in zip(self.ports, SLOTS, strict=True) if slot <= last)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Site]:
    with (
        redis_servers(tmp_path, OPTIONS, count=3) as ports,
        Mosquitto(tmp_path) as broker,
    ):
        asyncio.run(joined(ports))
        url = ",".join(f"127.0.0.1:{port}" for port in ports)
        with Quotad(tmp_path, 0, broker.port, store=f'url = "redis+cluster://{url}"') as quotad:
            quotad.start()
            until_now(lambda: quotad.ready)
            yield Site(ports, broker, quotad)


@contextmanager
def another(directory: Path) -> Iterator[int]:
    """A fourth node, which is in no cluster yet."""
    fresh = directory / "fourth"
    fresh.mkdir()
    with redis_servers(fresh, OPTIONS) as (port,):
        yield port


async def field(port: int, name: str, pool: PoolName = POOL) -> str:
    return str((await say(port, "HGET", keys(pool)[0], name)).decode())


async def versions(*ports: int) -> list[Any]:
    """What library each of these nodes has."""
    return [(await say(port, "FCALL_RO", "quota_describe", 0))[0] for port in ports]


async def test_the_daemon_and_gateways_find_each_pool_and_follow_one_that_moves_to_a_new_primary(
    home: Site, tmp_path: Path
) -> None:
    assert len({home.place(pool) for pool in PoolName}) > 1
    assert await versions(*home.ports) == [library.VERSION] * 3
    with another(tmp_path) as fourth, Tap(home.broker.port, ("connect/+/decisions/#",)) as tap:
        await met(fourth, home.ports)
        async with working(home.url, list(PoolName), deadline_ms=500) as shift:
            await until(lambda: all(len(shift.answered(pool=pool)) > 50 for pool in PoolName))
            await move(keys(POOL)[0], home.place(POOL), fourth)
            await until(lambda: "store.attested" in home.quotad.log)
            before = len(shift.answered(Verdict.ACCEPTED, POOL))
            await until(lambda: len(shift.answered(Verdict.ACCEPTED, POOL)) > before + 50)
            for pool in PoolName:
                tap.say(f"connect/{pool}/orders", new("m"))
            await until(lambda: len(tap.replies()) == len(PoolName))
        assert {reply["verdict"] for reply in tap.replies()} == {"accepted"}
        assert await versions(fourth) == [library.VERSION]
        used = int(await field(fourth, "limit_fen")) - int(await field(fourth, "balance_fen"))
        taken = {call.order_id for call in shift.answered(Verdict.ACCEPTED, POOL)} | {"m"}
        assert used == CHARGE_FEN * len(taken)
        done = await asyncio.to_thread(home.quotad.does, "verify", "--history", str(shift.history(tmp_path)))
        assert done.returncode == 0, done.stdout + done.stderr
        assert home.quotad.ready


async def test_a_replica_that_takes_its_primary_s_place_is_followed_and_attested(
    home: Site, tmp_path: Path
) -> None:
    with another(tmp_path) as fourth:
        await met(fourth, home.ports)
        dying = home.place(POOL)
        await say(fourth, "CLUSTER", "REPLICATE", (await say(dying, "CLUSTER", "MYID")).decode())
        await linked(dying)
        others = [port for port in home.ports if port != dying]
        url = f"redis+cluster://127.0.0.1:{others[0]},127.0.0.1:{others[1]}"
        async with working(url, [POOL], "replica", deadline_ms=500) as shift:
            await until(lambda: len(shift.answered()) > 50)
            with suppress(Gone):
                await say(dying, "SHUTDOWN", "NOSAVE", "NOW", "FORCE")
            await say(fourth, "CLUSTER", "FAILOVER", "TAKEOVER")
            await until(lambda: "store.attested" in home.quotad.log)
            shift.over = True
        async with working(url, [POOL]) as asking:
            asking.over = True
            asking.calls = shift.calls
            await asking.finish()
            await asking.still_stands()
        await until(lambda: home.quotad.ready)


async def test_a_primary_that_loses_the_library_gets_it_again_and_another_one_is_refused(home: Site) -> None:
    for port in home.ports:
        await say(port, "FUNCTION", "FLUSH")
    with Tap(home.broker.port, ("connect/+/decisions/#",)) as tap:
        for pool in PoolName:
            tap.say(f"connect/{pool}/orders", new("m"))
        await until(lambda: len(tap.replies()) == len(PoolName))
    async with Redis(port=home.ports[2]) as client:
        await client.function_load(
            "#!lua name=quota\nredis.register_function('f', function() end)", replace=True
        )
    with pytest.raises(ConfigError, match="another library"):
        await loaded(home.url)


async def test_a_new_primary_with_a_newer_library_ends_the_daemon(home: Site, tmp_path: Path) -> None:
    with another(tmp_path) as fourth:
        await met(fourth, home.ports)
        newer = versioned(library.VERSION + 1)
        await say(fourth, "FUNCTION", "LOAD", newer)
        await move(keys(POOL)[0], home.place(POOL), fourth)
        assert await asyncio.to_thread(home.quotad.code, 20) == 1
        told = f"has version {library.VERSION + 1} of the library quota, this quotad speaks {library.VERSION}"
        assert told in home.quotad.log
        assert await versions(fourth) == [library.VERSION + 1]


async def test_a_cluster_of_which_nobody_answers_is_away() -> None:
    with pytest.raises(LedgerUnavailable):
        await loaded("redis+cluster://127.0.0.1:1,127.0.0.1:2")


async def loaded(url: str) -> None:
    """Load the library as the daemon does."""
    route = route_to(url)
    nodes = Nodes(lambda address: route.client(address, 1.0), route.seeds, route)
    try:
        await Library(nodes).load()
    finally:
        await nodes.aclose()

"""A pool's slot is on its way to another node: a gateway with its user's rights is answered all the while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from quota.decision import Verdict
from quota.gate.answers import Released
from quota.gateway import PreTrade
from quota.ledger import RedisLedger
from quota.library import Library
from quota.store.nodes import Nodes
from quota.store.record import keys
from quota.store.routes import route_to
from tests.agreement.trading import POOL, buy, fill, opening
from tests.fleet import SLOTS, joined, moved, moving, redis_servers, say
from tests.guarded import credentials

OPTIONS = "--cluster-enabled yes --cluster-port {bus}"
TRUSTED = "user default on nopass ~* &* +@all\n"
KEY = keys(POOL)[0]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return credentials(tmp_path)


@pytest.fixture
def cluster(tmp_path: Path, secrets: Path) -> Iterator[list[int]]:
    """Three primaries with the shipped user ``gateway``; the one that has the pool comes first."""
    lines = (secrets / "users.acl").read_text().splitlines()
    (gateway,) = (line for line in lines if line.startswith("user gateway "))
    users = tmp_path / "users.acl"
    users.write_text(f"{gateway}\n{TRUSTED}")
    with redis_servers(tmp_path, OPTIONS, f"--aclfile {users}", count=3) as ports:
        asyncio.run(joined(ports))
        slot = key_slot(KEY.encode())
        places = dict(zip(ports, SLOTS, strict=True))
        yield sorted(ports, key=lambda port: not places[port][0] <= slot <= places[port][1])


async def trades(port: int) -> None:
    """Open a day on which all six keys of the pool are there: several keys are asked for at once."""
    route = route_to(f"redis+cluster://127.0.0.1:{port}")
    nodes = Nodes(lambda address: route.client(address, 5.0), route.seeds, route)
    functions = Library(nodes)
    await functions.load()
    ledger = RedisLedger(functions)
    await ledger.open_day(POOL, await opening(nodes.of(KEY)))
    await ledger.apply(POOL, [buy("m"), fill("m")])
    await ledger.reserve(POOL, buy("held"), 86_400_000)
    await nodes.aclose()


async def test_what_is_on_its_way_is_asked_for_where_it_is(cluster: list[int], secrets: Path) -> None:
    source, target, _ = cluster
    await trades(source)
    password = (secrets / "redis.gateway").read_text().strip()
    url = f"redis+cluster://gateway:{password}@127.0.0.1:{source}"
    async with PreTrade(url, source="gw1", deadline_ms=5000) as gate:
        before = await gate.reserve(POOL, "a", "buy", "1", 1)
        await moving(KEY, source, target)
        assert await say(source, "DBSIZE") == 0
        again = await gate.reserve(POOL, "a", "buy", "1", 1)
        orders = [gate.reserve(POOL, f"b{number}", "sell", "1", 1, hold_ms=60_000) for number in range(8)]
        taken = await asyncio.gather(*orders)
        assert (await gate.check(POOL, "sell")).verdict is Verdict.ACCEPTED
        assert (await gate.release(POOL, "held")).released is Released.RELEASED
        asked = await say(target, "INFO", "commandstats")
        await moved(KEY, source, target)
        after = await gate.reserve(POOL, "c", "sell", "1", 1)
    assert before.seq is not None
    assert (again.verdict, again.seq, again.replayed) == (Verdict.ACCEPTED, before.seq, True)
    assert {answer.verdict for answer in taken} == {Verdict.ACCEPTED}
    assert after.verdict is Verdict.ACCEPTED
    assert asked["cmdstat_asking"]["calls"] >= 11

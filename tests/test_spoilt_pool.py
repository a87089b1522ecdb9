"""One pool is spoilt: the steps of the operations page bring the others back at once, and it later."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from quota.decision import PoolName
from quota.store.record import keys
from tests.daemons import new
from tests.guarded import guarded_store
from tests.machine import Machine
from tests.tap import Tap, until
from tests.test_running import BY_HAND, COMMANDS, NB_SH, ORDERS, answered, host, tap, with_users

__all__ = ["host", "tap"]


async def test_a_spoilt_pool_is_found_left_out_laid_aside_and_opened_anew(host: Machine, tap: Tap) -> None:
    with_users(host)
    tap.say(ORDERS, new("a", source="gw1"))
    await until(lambda: answered(tap) == {"a"})
    host.home.redis.hset(NB_SH[0], "balance_fen", "x")
    assert await asyncio.to_thread(host.home.quotad.code) == 1
    assert "QUOTACORRUPT" in host.log.read_text().splitlines()[-1]
    order = (*keys(PoolName.NB_SZ), "gw-1", "buy", "1.00", "100", "gw1")
    reply: Any = host.home.redis.fcall("quota_reserve", 6, *order)
    assert reply[0] == "accepted"
    tap.say("connect/NB-SZ/orders/gw1", new("waits", source="gw1"))
    await asyncio.to_thread(host.run, '! quotad halt NB-SH --reason "x" --config /etc/quotad/quotad.toml')

    found = await asyncio.to_thread(host.run, COMMANDS["which"])
    assert (
        found.count("journal and records agree"),
        "NB-SH 2026-11-23: 1 entries, 1 orders: 1 diff" in found,
    ) == (
        3,
        True,
    )
    await asyncio.to_thread(host.run, COMMANDS["without"])
    await until(lambda: "waits" in answered(tap))
    assert host.home.quotad.pool("NB-SH") == {}

    await asyncio.to_thread(host.run, COMMANDS["aside"])
    said = await asyncio.to_thread(host.run, COMMANDS["back"])
    assert said.count("journal and records agree") == 4
    tap.say(ORDERS, [new("a", source="gw1"), new("b", source="gw1")])
    await until(lambda: answered(tap) == {"a", "waits", "b"})
    assert (host.home.seq(), host.home.redis.hget(f"{NB_SH[0]}:spoilt", "balance_fen")) == (2, "x")
    assert host.home.quotad.does("verify").returncode == 0


def test_who_is_shut_out_of_the_store_is_out_at_once(tmp_path: Path) -> None:
    (commands,) = (text for text in BY_HAND if "reset off" in text)
    with guarded_store(tmp_path) as store, store.sync("gateway") as gateway, store.sync("operator") as other:
        assert gateway.ping()
        users = tmp_path / "users.acl"
        edit, load = commands.replace("/etc/redis/users.acl", str(users)).splitlines()
        subprocess.run(["bash", "-c", edit], check=True)
        load = load.replace("/etc/quotad/secrets", str(store.secrets))
        command = ["bash", "-c", load.replace("redis-cli", f"redis-cli -e -p {store.port}")]
        said = subprocess.run(command, check=True, text=True, capture_output=True)
        assert said.stdout == "OK\n"
        with pytest.raises(RedisError):
            gateway.ping()
        assert other.ping()

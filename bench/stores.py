"""The store that is measured: a server of our own, our library in it, pools open the whole day."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from quota.decision import PoolName
from quota.desk import operator
from quota.embedded import free_port, valkey_binary
from quota.endpoints import Redis as RedisSettings
from quota.errors import ConfigError
from quota.ledger import RedisLedger
from quota.pool import Opening

DAY = "2026-11-23"
_START_S = 10.0
_LIMIT_FEN = 5_200_000_000_000
_OPTIONS = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--lazyfree-lazy-user-del", "no")


@dataclass(frozen=True, slots=True)
class Store:
    """A running server: its process, its port, a client for what is not measured, and its name."""

    pid: int
    port: int
    admin: redis.Redis
    name: str

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def number(self, section: str, field: str) -> float:
        """Read one figure of INFO."""
        facts: Any = self.admin.info(section)
        return float(facts[field])


def program(kind: str) -> str | None:
    """The program of a kind of store, ``redis`` or ``valkey``; None where it is not installed."""
    if kind == "redis":
        return shutil.which("redis-server")
    try:
        return valkey_binary()
    except ConfigError:
        return shutil.which("valkey-server")


@contextmanager
def started(kind: str) -> Iterator[Store]:
    """Run a store without persistence, as our own child."""
    binary = program(kind)
    if binary is None:
        raise ConfigError(f"{kind}-server is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="quotad-bench-") as home:
        process = subprocess.Popen(
            [binary, "--port", str(port), "--dir", home, *_OPTIONS],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(port)
            admin = redis.Redis(port=port, socket_timeout=120)
            yield Store(process.pid, port, admin, _name_of(admin))
        finally:
            process.kill()
            process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _name_of(admin: redis.Redis) -> str:
    facts: Any = admin.info("server")
    name = str(facts.get("server_name", "redis"))
    memory: Any = admin.info("memory")
    return f"{name} {facts.get(f'{name}_version', facts['redis_version'])} ({memory['mem_allocator']})"


def ledger_of(store: Store) -> AbstractAsyncContextManager[RedisLedger]:
    """Connect as the daemon does, with patience for a busy machine."""
    return operator.ledger_of(RedisSettings(url=store.url, deadline_ms=60_000))


async def opened(store: Store, ledger: RedisLedger, *pools: PoolName) -> None:
    """Empty the store and open a day in these pools that trades until the end of time."""
    store.admin.flushall(asynchronous=False)
    for pool in pools:
        await ledger.open_day(
            pool,
            Opening(
                trading_day=DAY,
                limit_fen=_LIMIT_FEN,
                rate="1.00000" if pool.northbound else "0.91250",
                schedule="1 continuous",
                origin="at",
                open_late=True,
            ),
        )

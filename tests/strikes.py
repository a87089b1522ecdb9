"""Faults of real servers for tests: each is a context within which it lasts."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass

from tests.daemons import House
from tests.fleet import say
from tests.tap import until
from tests.weir import Weir

LATE_S = 1.5
"""Later than the deadline of the daemon of the house."""

SLOW_S = 0.1


@dataclass(slots=True)
class Struck:
    """A house in mid-traffic, and what stands before its store and its broker."""

    home: House
    to_store: Weir
    to_broker: Weir

    @property
    def store_pid(self) -> int:
        """The process of the store."""
        assert self.home.store.process is not None
        return self.home.store.process.pid

    async def config(self, *words: str | int) -> None:
        """Change a setting of the store."""
        await say(self.home.store.port, "CONFIG", "SET", *words)


@contextmanager
def _asleep(process: subprocess.Popen[bytes] | None) -> Iterator[None]:
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def killed(struck: Struck) -> AsyncIterator[None]:
    """It is killed, and started again with its file."""
    struck.home.store.stop()
    yield
    await asyncio.to_thread(struck.home.store.start)


@asynccontextmanager
async def paused(struck: Struck) -> AsyncIterator[None]:
    """It hangs."""
    with _asleep(struck.home.store.process):
        yield


@asynccontextmanager
async def slow(struck: Struck) -> AsyncIterator[None]:
    """Every answer comes later than the daemon waits."""
    struck.to_store.delay_s = LATE_S
    yield
    struck.to_store.delay_s = 0.0


@asynccontextmanager
async def full(struck: Struck) -> AsyncIterator[None]:
    """It has no memory left for writes."""
    await struck.config("maxmemory", 1, "maxmemory-policy", "noeviction")
    yield
    await struck.config("maxmemory", 0)


@asynccontextmanager
async def without_replicas(struck: Struck) -> AsyncIterator[None]:
    """It refuses writes because nobody copies them."""
    await struck.config("min-replicas-to-write", 1)
    yield
    await struck.config("min-replicas-to-write", 0)


@asynccontextmanager
async def read_only(struck: Struck) -> AsyncIterator[None]:
    """It is made a replica of nobody, as by a Sentinel that errs, and a primary again."""
    await say(struck.home.store.port, "REPLICAOF", "127.0.0.1", 1)
    yield
    await say(struck.home.store.port, "REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def out_of_descriptors(struck: Struck) -> AsyncIterator[None]:
    """Everybody has to connect again, and nobody is let in; it says so of every turn of its loop."""
    soft, hard = resource.prlimit(struck.store_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(struck.store_pid, resource.RLIMIT_NOFILE, (3, hard))
    struck.to_store.cut()
    yield
    resource.prlimit(struck.store_pid, resource.RLIMIT_NOFILE, (soft, hard))
    os.truncate(struck.home.store.log, 0)


Fault = Callable[[Struck], AbstractAsyncContextManager[None]]
OF_THE_STORE = (killed, paused, slow, full, without_replicas, read_only, out_of_descriptors)


@asynccontextmanager
async def cut_off(struck: Struck) -> AsyncIterator[None]:
    """All connections to it break."""
    struck.to_store.cut()
    yield


@asynccontextmanager
async def broker_restarted(struck: Struck) -> AsyncIterator[None]:
    """It ends in good order, and keeps what it holds."""
    await asyncio.to_thread(struck.home.broker.stop)
    yield
    await asyncio.to_thread(struck.home.broker.start)


@asynccontextmanager
async def broker_paused(struck: Struck) -> AsyncIterator[None]:
    """It hangs."""
    with _asleep(struck.home.broker.process):
        yield


@asynccontextmanager
async def broker_slow(struck: Struck) -> AsyncIterator[None]:
    """Everything between it and the daemon takes its time."""
    struck.to_broker.delay_s = SLOW_S
    yield
    struck.to_broker.delay_s = 0.0


@asynccontextmanager
async def broker_cut_off(struck: Struck) -> AsyncIterator[None]:
    """The daemon's connection to it breaks."""
    struck.to_broker.cut()
    yield


@asynccontextmanager
async def daemon_killed(struck: Struck) -> AsyncIterator[None]:
    """It is killed, and started again."""
    struck.home.quotad.kill()
    yield
    struck.home.quotad.start()


@asynccontextmanager
async def daemon_restarted(struck: Struck) -> AsyncIterator[None]:
    """It is told to end, and started again."""
    await until(lambda: struck.home.quotad.ready)
    struck.home.quotad.ask_to_end()
    assert await asyncio.to_thread(struck.home.quotad.code, 10) == 0
    yield
    struck.home.quotad.start()


@asynccontextmanager
async def broker_killed(struck: Struck) -> AsyncIterator[None]:
    """It is killed, and comes back with what it had saved."""
    await asyncio.to_thread(struck.home.broker.kill)
    yield
    await asyncio.to_thread(struck.home.broker.start)


@asynccontextmanager
async def daemon_paused(struck: Struck) -> AsyncIterator[None]:
    """It takes nothing, and the broker has to keep what comes."""
    with _asleep(struck.home.quotad.process):
        yield


OF_THE_BROKER = (broker_restarted, broker_paused, broker_slow, broker_cut_off)
OF_THE_DAEMON = (daemon_killed, daemon_restarted)

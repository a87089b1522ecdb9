"""More than one store: a cluster of three primaries, and a primary with a replica under a Sentinel."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tests.servers import START_SECONDS, Store, binary, free_port, wait_for_port

_AT_ONCE = ("--repl-diskless-sync-delay", "0")
SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))


@contextmanager
def redis_servers(directory: Path, *lines: str, count: int = 1) -> Iterator[list[int]]:
    """Run redis-servers with these options: ``{port}`` is the server's own, ``{bus}`` another free one."""
    ports, processes = [free_port() for _ in range(count)], []
    try:
        for port in ports:
            home = directory / str(port)
            home.mkdir()
            options = [word for line in lines for word in line.format(port=port, bus=free_port()).split()]
            command = [binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)]
            with (home / "log").open("ab") as log:
                process = subprocess.Popen([*command, "--save", "", *options], stdout=log, stderr=log)
            processes.append(process)
            wait_for_port(port, process, home / "log")
        yield ports
    finally:
        for process in processes:
            process.kill()
            process.wait(START_SECONDS)


async def say(port: int, *words: str | int) -> Any:  # noqa: ANN401 - as the command replies
    """Send one command to one server."""
    async with Redis(port=port, protocol=2) as client:
        return await client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


async def joined(ports: list[int]) -> None:
    """Make a cluster of these, a third of the slots each, and wait until it serves."""
    for port, (first, last) in zip(ports, SLOTS, strict=True):
        await say(port, "CLUSTER", "ADDSLOTSRANGE", first, last)
        await say(port, "CLUSTER", "MEET", "127.0.0.1", ports[0], await _bus(ports[0]))
    async with asyncio.timeout(START_SECONDS):
        for port in ports:
            while not await _serves(port, len(ports)):  # noqa: ASYNC110 - other processes set no event of ours
                await asyncio.sleep(0.02)


async def _bus(port: int) -> int:
    """Read the port on which a node talks with other nodes."""
    found = re.search(rf":{port}@(\d+)", await _text(port, "NODES"))
    assert found is not None
    return int(found[1])


async def _serves(port: int, nodes: int) -> bool:
    text = await _text(port, "INFO")
    return "cluster_state:ok" in text and f"cluster_known_nodes:{nodes}\r" in text


async def _text(port: int, what: str) -> str:
    """Read what a node says of its cluster, as it is written."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"CLUSTER {what}\r\n".encode())
    size = int((await reader.readline())[1:])
    text = (await reader.readexactly(size)).decode()
    writer.close()
    await writer.wait_closed()
    return text


async def met(port: int, ports: list[int]) -> None:
    """Let another node join a cluster, without any slot, and wait until all know it."""
    await say(port, "CLUSTER", "MEET", "127.0.0.1", ports[0], await _bus(ports[0]))
    async with asyncio.timeout(START_SECONDS):
        for each in (port, *ports):
            while not await _serves(each, len(ports) + 1):  # noqa: ASYNC110 - other processes set no event of ours
                await asyncio.sleep(0.02)


async def move(key: str, source: int, target: int) -> None:
    """Move a key's slot with all that is in it, as redis-cli --cluster reshard does."""
    await moving(key, source, target)
    await moved(key, source, target)


async def moving(key: str, source: int, target: int) -> None:
    """Begin to move a key's slot: all that is in it is there, and the slot itself still here."""
    slot = await say(source, "CLUSTER", "KEYSLOT", key)
    ids = {port: (await say(port, "CLUSTER", "MYID")).decode() for port in (source, target)}
    await say(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    await say(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    names = await say(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
    await say(source, "MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS", *names)


async def moved(key: str, source: int, target: int) -> None:
    """End a move: the slot follows what was in it."""
    slot = await say(source, "CLUSTER", "KEYSLOT", key)
    identity = (await say(target, "CLUSTER", "MYID")).decode()
    for port in (target, source):
        await say(port, "CLUSTER", "SETSLOT", slot, "NODE", identity)


@dataclass(slots=True)
class Watched:
    """A primary, a replica of it, and a Sentinel that watches them as ``quota``."""

    primary: Store
    replica: Store
    sentinel: int
    process: subprocess.Popen[bytes]


@contextmanager
def watched(directory: Path, *lines: str) -> Iterator[Watched]:
    """Run them, with more lines of the Sentinel's settings, and wait until it knows the replica."""
    primary, replica = (Store(directory / name, "redis", _AT_ONCE) for name in ("first", "second"))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for store in (primary, replica):
            store.directory.mkdir()
            store.start()
        asyncio.run(say(replica.port, "REPLICAOF", "127.0.0.1", primary.port))
        port = free_port()
        configuration = directory / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor quota 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds quota 300\nsentinel failover-timeout quota 2000\n"
            + "".join(f"{line}\n" for line in lines)
        )
        log = directory / "sentinel.log"
        with log.open("ab") as output:
            command = [binary("redis-server"), str(configuration), "--sentinel"]
            processes.append(subprocess.Popen(command, stdout=output, stderr=output))
        wait_for_port(port, processes[0], log)
        asyncio.run(_known(port))
        asyncio.run(linked(primary.port))
        yield Watched(primary, replica, port, processes[0])
    finally:
        for process in processes:
            process.kill()
            process.wait(START_SECONDS)
        primary.stop()
        replica.stop()


async def linked(port: int) -> None:
    """Wait until a primary's writes reach a replica; for a second after its copy they may not yet."""
    key = "{NB-SH}:linked"
    async with (
        asyncio.timeout(2 * START_SECONDS),
        Redis(port=port, single_connection_client=True, protocol=2) as client,
    ):
        await client.set(key, "")
        while await client.wait(1, 100) < 1:
            pass
        await client.delete(key)


async def _known(port: int) -> None:
    async with asyncio.timeout(2 * START_SECONDS):
        while not await say(port, "SENTINEL", "REPLICAS", "quota"):  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(0.05)

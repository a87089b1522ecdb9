"""What a broker with mosquitto.conf confirms is in the ledger, or in a gap that is counted and told."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from quota.decision import PoolName
from quota.numbers import Source
from quota.store.record import keys
from quota.store.sources import sources_key
from tests.daemons import Quotad, new
from tests.deployed import DEPLOY, rendered, running
from tests.guarded import Gate, credentials
from tests.scale import cases
from tests.servers import START_SECONDS, Store, binary, free_port
from tests.tap import until, until_now

ORDERS = "connect/NB-SH/orders/gw1"
EVENTS, TO_A_MESSAGE = cases(600, 3_600), 4
"""Sent again, they are fewer than a broker with a short queue may have on the way."""
POOL = PoolName.NB_SH


class Guarded(Quotad):
    """A daemon that comes to the guarded broker."""

    def write(self) -> None:
        """Write the settings, with TLS to the broker."""
        super().write()
        text = self.config.read_text().replace("mqtt://127.0.0.1", "mqtts://localhost")
        self.config.write_text(text)


@dataclass(slots=True)
class Site:
    """A broker with the settings of the deployment, a store, and a daemon that is not started yet."""

    gate: Gate
    quotad: Quotad
    redis: Redis
    broker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it serves."""
        self.quotad.start()
        until_now(lambda: self.quotad.ready)

    def stop(self) -> None:
        """Let the daemon end in good order; the broker keeps its session."""
        self.quotad.ask_to_end()
        assert self.quotad.code() == 0

    async def send(self, numbers: Sequence[int], heartbeat: int | None = None) -> None:
        """Send numbered orders, and how far the numbers go; the broker has confirmed all of it then."""
        orders = [new(str(number), "sell 1.00 1", epoch="e", sequence=number) for number in numbers]
        payloads: list[Any] = [orders[at : at + TO_A_MESSAGE] for at in range(0, len(orders), TO_A_MESSAGE)]
        if heartbeat is not None:
            payloads.append({"event": "heartbeat", "epoch": "e", "sequence": heartbeat})
        async with self.gate.client("gw1", max_inflight_messages=1000) as client:
            client.pending_calls_threshold = len(payloads) + 1
            await asyncio.gather(*(client.publish(ORDERS, json.dumps(it), qos=1) for it in payloads))

    def gap(self) -> float:
        """How many events the daemon says are missing."""
        return self.quotad.metric('quota_gap_events{pool="NB-SH"}')

    def known(self) -> set[int]:
        """The orders that the ledger knows."""
        found: Any = self.redis.hkeys(keys(POOL)[1])
        return set(map(int, found))

    def listed(self) -> set[int]:
        """The numbers that the store lists as missing."""
        with Redis(port=self.quotad.store_port) as client:
            packed: Any = client.hget(sources_key(POOL), "gw1")
        gaps = [gap for epoch in msgspec.msgpack.decode(packed, type=Source).epochs for gap in epoch.gaps]
        return {number for gap in gaps for number in range(gap.first, gap.last + 1)}


def command_of(directory: Path, port: int, secrets: Path, queued: str) -> list[str]:
    """Write mosquitto.conf for a port and a directory, and the command that runs it."""
    changes = {
        "listener 8883 127.0.0.1": f"listener {port} 127.0.0.1",
        "/etc/mosquitto/certs/server.pem": f"{secrets}/server.pem",
        "/etc/mosquitto/certs/server.key": f"{secrets}/server.key",
        "/etc/mosquitto/passwords": f"{secrets}/passwords",
        "/etc/mosquitto/topics.acl": str(DEPLOY / "topics.acl"),
        "persistence_location /var/lib/mosquitto/": f"persistence_location {directory}/\nuser root",
        "\nmax_queued_messages 0": f"\nmax_queued_messages {queued}",
    }
    return [binary("mosquitto"), "-c", rendered("mosquitto.conf", directory, changes)]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Open a site; the broker keeps so many messages for a session that is away, 0 is as shipped."""
    port, secrets = free_port(), credentials(tmp_path, "--source", "gw1")
    store = Store(tmp_path, "redis")
    store.start()
    mqtt = f'username = "quotad"\npassword_file = "{secrets}/mqtt.quotad"\nca_file = "{secrets}/ca.pem"'

    def open_site(queued: str) -> Site:
        gate = Gate(port, secrets, tmp_path, command_of(tmp_path, port, secrets, queued))
        return Site(gate, quotad, redis)

    try:
        with (
            Guarded(tmp_path, store.port, port, mqtt=mqtt) as quotad,
            Redis(port=store.port, decode_responses=True) as redis,
        ):
            yield open_site
    finally:
        store.stop()


async def lost_is_found(site: Site) -> None:
    """Everything confirmed is in the ledger or in the gap, which is told; sent again, it closes."""
    everything = set(range(1, EVENTS + 1))
    await until(lambda: site.gap() > 0)
    await until(lambda: site.gap() == len(everything) - len(site.known()))
    missing = everything - site.known()
    assert missing
    assert site.listed() == missing
    await until(lambda: "gap.opened" in site.quotad.log)
    assert site.quotad.metric('quota_gap_oldest_seconds{pool="NB-SH"}') > 0
    warnings = json.loads(site.quotad.get("/-/ready")[1])["warnings"]
    assert any(f"{len(missing)} events of gw1 missing" in warning for warning in warnings)
    assert f"{len(missing)} events of gw1 missing" in first_of(site, "/api/live")
    await site.send(range(1, EVENTS + 1))
    await until(lambda: site.gap() == 0)
    assert site.known() == everything
    assert site.listed() == set()
    await until(lambda: "gap.closed" in site.quotad.log)
    assert int(site.redis.hget(keys(POOL)[0], "seq") or 0) == EVENTS


def first_of(site: Site, path: str) -> str:
    """Read what a page sends until it speaks of what is missing."""
    link = http.client.HTTPConnection("127.0.0.1", site.quotad.port, timeout=5)
    link.request("GET", path)
    answer = link.getresponse()
    text = b""
    while b"missing" not in text and len(text) < 100_000:
        text += answer.read1(65_536)
    link.close()
    return text.decode()


@pytest.mark.soak
async def test_what_a_full_queue_drops_is_a_gap_until_it_is_sent_again(opened: Callable[[str], Site]) -> None:
    site = opened("50")
    with running(site.gate.command, site.gate.port, site.gate.directory):
        site.start()
        await site.send(range(1, 101))
        await until(lambda: len(site.known()) == 100)
        site.stop()
        await site.send(range(101, EVENTS + 1))
        site.start()
        await until(lambda: len(site.known()) > 100)
        await site.send([], heartbeat=EVENTS)
        await lost_is_found(site)


@pytest.mark.soak
async def test_what_a_broker_loses_that_is_killed_is_a_gap_until_it_is_sent_again(
    opened: Callable[[str], Site],
) -> None:
    site = opened("0")
    with running(site.gate.command, site.gate.port, site.gate.directory) as broker:
        site.start()
        await site.send(range(1, 101))
        await until(lambda: len(site.known()) == 100)
        site.stop()
        await site.send(range(101, EVENTS + 1))
        broker.kill()
        broker.wait(START_SECONDS)
    with running(site.gate.command, site.gate.port, site.gate.directory):
        site.start()
        await site.send([], heartbeat=EVENTS)
        await lost_is_found(site)


async def test_a_gap_that_stays_is_accepted_by_an_operator(opened: Callable[[str], Site]) -> None:
    site = opened("0")
    with running(site.gate.command, site.gate.port, site.gate.directory):
        site.start()
        await site.send([1, 2, 5], heartbeat=9)
        await until(lambda: site.gap() == 6)
        said = site.quotad.does("gaps", "--pool", "NB-SH")
        assert said.returncode == 1
        assert said.stdout.startswith("NB-SH: 6 events of gw1 missing since ")
        assert said.stdout.endswith("(e 3-4, 6-9)\n")
        await until(lambda: "gap.opened" in site.quotad.log)
        accepting = ("gaps", "--accept", "gw1", "--accept", "nobody", "--reason", "lost for good")
        said = site.quotad.does(*accepting)
        assert said.returncode == 0
        assert "NB-SH: accepted: 6 events of gw1 missing since" in said.stdout
        assert "SB-SZ: nothing is missing of these sources" in said.stdout
        await until(lambda: site.gap() == 0)
        await until(lambda: "gap.accepted" in site.quotad.log)
        told = site.quotad.does("gaps")
        assert told.returncode == 0
        assert "NB-SH: 6 of gw1 were accepted by " in told.stdout
        assert "lost for good" in told.stdout
        assert "lost for good" in site.quotad.log
    assert int(site.redis.ttl(sources_key(POOL))) > 0

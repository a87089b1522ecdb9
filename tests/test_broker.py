"""Settings, passwords, certificates and refusals: how a connection begins."""

from __future__ import annotations

import gc
import subprocess
from pathlib import Path

import aiomqtt
import pytest

from feeds.mqtt import MqttFeed, client_tls
from quota.errors import ConfigError
from tests.certificates import certify
from tests.feeding import LETTER, ORDERS, feed_at, ids, order, settings, take, until
from tests.scripted import ScriptedBroker
from tests.servers import Mosquitto, binary


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    passwords = tmp_path / "passwords"
    subprocess.run([binary("mosquitto_passwd"), "-b", "-c", passwords, "quotad", "secret"], check=True)
    return passwords


async def test_wrong_password_and_right_one(tmp_path: Path, password_file: Path) -> None:
    with Mosquitto(tmp_path, (f"password_file {password_file}",), anonymous=False) as broker:
        async with feed_at(broker.port, username="quotad", password="secret") as feed:  # noqa: S106 - a test's
            assert feed.connected
        async with MqttFeed(settings(broker.port, username="quotad", password="guess")) as feed:  # noqa: S106 - a test's
            await until(lambda: "not authorised" in broker.log.read_text())
            assert not feed.connected


async def test_refused_subscription_is_no_connection() -> None:
    script = ScriptedBroker(granted=0x87)
    async with script, MqttFeed(settings(script.port)) as feed:
        await until(lambda: script.connections > 2)
        assert not feed.connected


async def test_tls_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    ca, host = certify(tmp_path, "localhost", "quotad"), tmp_path / "localhost"
    lines = (f"cafile {ca}", f"certfile {host}.pem", f"keyfile {host}.key", "require_certificate true")
    with Mosquitto(tmp_path, lines) as broker:
        tls = client_tls(str(ca), str(tmp_path / "quotad.pem"), str(tmp_path / "quotad.key"))
        async with feed_at(broker.port, host="localhost", tls=tls, window=100) as feed:
            inside = aiomqtt.Client("localhost", broker.port, tls_context=tls)
            async with inside as client:
                for number in range(300):
                    await client.publish(ORDERS, order(number) + b" " * 5_000, qos=1)
            got: list[str] = []
            while len(got) < 300:
                for delivery in await take(feed, 1):
                    got += ids([delivery])
                    delivery.acknowledge()
            assert got == [str(number) for number in range(300)]
            feed.send(LETTER)
            await feed.flush()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves the socket to the GC
async def test_broker_that_cannot_prove_itself_is_refused(tmp_path: Path) -> None:
    ca, host = certify(tmp_path, "localhost"), tmp_path / "localhost"
    with Mosquitto(tmp_path, (f"cafile {ca}", f"certfile {host}.pem", f"keyfile {host}.key")) as broker:
        tls = client_tls(None, None, None)
        async with MqttFeed(settings(broker.port, host="localhost", tls=tls)) as feed:
            await until(lambda: "alert unknown ca" in broker.log.read_text())
            assert not feed.connected
    del feed
    gc.collect()


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    for wrong in (
        {"client_id": "a/b"},
        {"client_id": ""},
        {"root": "a/#"},
        {"window": 0},
        {"window": 70_000},
    ):
        with pytest.raises(ConfigError):
            settings(1, **wrong)
    (tmp_path / "empty.pem").write_text("")
    for file in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigError, match=file):
            client_tls(str(tmp_path / file), None, None)
    assert "secret" not in repr(settings(1, password="secret"))  # noqa: S106 - a test's

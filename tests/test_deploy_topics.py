"""Who may say and hear what at the broker: nobody speaks for another, nobody hears another's answers."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from feeds.mqtt import MqttFeed
from quota.errors import FeedTaken
from tests.feeding import order, receive_for_ever, settings, take, until
from tests.guarded import Gate, guarded_broker
from tests.servers import binary
from tests.tap import until_now

ORDER = b'{"event": "new", "order_id": "1", "side": "buy", "price": "1.00", "quantity": 1}'
NOT_AUTHORIZED, FAILURES = 135, 128


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with guarded_broker(tmp_path_factory.mktemp("gate"), "gw1", "gw2", "quotad-2") as gate:
        yield gate


def come(gate: Gate, codes: list[Any], **known: Any) -> Client | None:  # noqa: ANN401 - user, password, tls
    """Come to the broker, whoever he says that he is; None where it does not let him in."""
    client, answers = Client(CallbackAPIVersion.VERSION2, client_id="x", protocol=MQTTv5), list[Any]()
    client.on_connect = lambda _c, _u, _f, code, _p: answers.append(code)
    client.on_publish = lambda _c, _u, _m, code, _p: codes.append(code.value)
    if known.get("user"):
        client.username_pw_set(known["user"], known.get("password"))
    if known.get("tls", True):
        client.tls_set_context(gate.tls())
    try:
        client.connect("localhost", gate.port)
        while not answers and client.loop(0.1) == MQTT_ERR_SUCCESS:
            pass
    except OSError:
        return None
    return client if answers and not answers[0].is_failure else None


def may(gate: Gate, user: str, topic: str, payload: bytes = ORDER, *, retain: bool = False) -> bool:
    """Publish; whether the broker takes it. After a refusal this broker ends the connection."""
    codes = list[Any]()
    client = come(gate, codes, user=user, password=gate.password(user))
    assert client is not None
    client.publish(topic, payload, 1, retain)
    until_now(lambda: codes or client.loop(0.1) != MQTT_ERR_SUCCESS)
    client.disconnect()
    assert codes in ([], [NOT_AUTHORIZED]) or codes[0] < FAILURES
    return bool(codes) and codes[0] < FAILURES


def connects(gate: Gate, **known: Any) -> bool:  # noqa: ANN401 - user, password, tls
    """Whether the broker lets somebody in."""
    client = come(gate, [], **known)
    if client is not None:
        client.disconnect()
    return client is not None


async def hears(gate: Gate, user: str, topic: str, speaker: str) -> bool:
    """Whether a user who asks for a topic, or for its like of all pools, hears what is said there."""
    async with gate.client(user) as listener:
        for asked in (topic, topic.replace("NB-SH", "+")):
            await listener.subscribe(asked, qos=1)
        assert await asyncio.to_thread(may, gate, speaker, topic)
        own = f"connect/NB-SH/decisions/{user}"
        if user != "gw1" or topic == own:
            return await anything(listener)
        await listener.subscribe(own, qos=1)
        assert await asyncio.to_thread(may, gate, "quotad", own, b"end")
        async with asyncio.timeout(5):
            return (await anext(listener.messages)).payload != b"end"


async def anything(listener: aiomqtt.Client) -> bool:
    """Whether something comes before the broker's own version, which is asked for last."""
    await listener.subscribe("$SYS/broker/version", qos=1)
    async with asyncio.timeout(5):
        return not (await anext(listener.messages)).topic.matches("$SYS/#")


# Who comes in. --------------------------------------------------------------------------------


def test_only_who_has_a_password_comes_in_and_by_tls_only(gate: Gate) -> None:
    password = gate.password("gw1")
    assert connects(gate, user="gw1", password=password)
    assert not connects(gate)
    assert not connects(gate, user="gw1", password="wrong")  # noqa: S106 - a test's
    assert not connects(gate, user="gw2", password=password)
    assert not connects(gate, user="nobody", password=password)
    assert not connects(gate, user="gw1", password=password, tls=False)


# Who may speak where. -------------------------------------------------------------------------

POOLS = ("NB-SH", "NB-SZ", "SB-SH", "SB-SZ")


def test_a_source_speaks_on_its_own_topics(gate: Gate) -> None:
    for pool in POOLS:
        assert may(gate, "gw1", f"connect/{pool}/orders/gw1")
        assert may(gate, "gw1", f"connect/{pool}/fills/gw1")


FOREIGN = (
    *("connect/NB-SH/orders", "connect/NB-SH/fills", "connect/NB-SH/orders/", "connect/NB-SH/orders/-"),
    *(
        "connect/NB-SH/orders/gw2",
        "connect/NB-SH/fills/gw2",
        "connect/NB-SH/orders/gw1/x",
        "connect/orders/gw1",
    ),
    *(
        "connect/NB-SH/decisions/gw1",
        "connect/NB-SH/decisions/gw2",
        "connect/NB-SH/status",
        "connect/NB-SH/alerts",
    ),
    *(
        "connect/NB-SH/dead",
        "connect/-/dead",
        "connect/fx",
        "connect/daemon/quotad",
        "connect/daemon/quotad/claim",
    ),
    *("connect/daemon/quotad/mark", "other/NB-SH/orders/gw1", "gw1"),
)


@pytest.mark.parametrize("user", ["gw1", "monitor", "health"])
def test_nobody_speaks_where_he_has_no_business(gate: Gate, user: str) -> None:
    for topic in FOREIGN:
        assert not may(gate, user, topic), topic
        assert not may(gate, user, topic, retain=True), topic


@pytest.mark.parametrize("user", ["monitor", "rates", "health"])
def test_who_has_another_office_is_no_source(gate: Gate, user: str) -> None:
    for kind in ("orders", "fills"):
        assert not may(gate, user, f"connect/NB-SH/{kind}/{user}")


def test_the_rate_is_brought_by_its_own_user_alone(gate: Gate) -> None:
    assert may(gate, "rates", "connect/fx", b"{}", retain=True)
    assert may(gate, "rates", "connect/fx", b"", retain=True)
    assert not may(gate, "rates", "connect/NB-SH/status")


def test_the_daemon_speaks_for_the_pools_and_not_for_the_senders(gate: Gate) -> None:
    for end in ("decisions/gw1", "decisions/-", "status", "alerts", "dead"):
        assert may(gate, "quotad", f"connect/NB-SH/{end}"), end
    for topic in (*(f"connect/NB-SH/{end}" for end in ("orders", "orders/gw1", "fills/gw1")), "connect/fx"):
        assert not may(gate, "quotad", topic), topic


# Who hears what. ------------------------------------------------------------------------------


async def test_a_source_hears_its_own_decisions_and_nothing_else(gate: Gate) -> None:
    assert await hears(gate, "gw1", "connect/NB-SH/decisions/gw1", "quotad")
    for topic in (
        *(
            "connect/NB-SH/decisions/gw2",
            "connect/NB-SH/decisions/-",
            "connect/NB-SH/status",
            "connect/NB-SH/alerts",
        ),
        *("connect/NB-SH/dead", "connect/daemon/quotad"),
    ):
        assert not await hears(gate, "gw1", topic, "quotad"), topic
    assert not await hears(gate, "gw1", "connect/NB-SH/orders/gw2", "gw2")


@pytest.mark.parametrize(
    "wide", ["#", "connect/#", "connect/+/decisions/#", "connect/+/decisions/+", "+/+/+/+"]
)
async def test_a_wide_subscription_brings_no_more(gate: Gate, wide: str) -> None:
    async with gate.client("gw1") as listener:
        await listener.subscribe(wide, qos=1)
        for source, word in (("gw2", b"gw2"), ("-", b"-"), ("gw1", b"gw1"), ("gw1", b"end")):
            topic = f"connect/NB-SH/decisions/{source}"
            assert await asyncio.to_thread(may, gate, "quotad", topic, word)
        heard = list[bytes]()
        while b"end" not in heard:
            async with asyncio.timeout(5):
                heard.append(bytes((await anext(listener.messages)).payload))
        assert heard == [b"gw1", b"end"]


async def test_who_looks_hears_the_pools_and_no_orders(gate: Gate) -> None:
    for topic in (
        "connect/NB-SH/status",
        "connect/NB-SH/alerts",
        "connect/NB-SH/dead",
        "connect/daemon/quotad",
    ):
        assert await hears(gate, "monitor", topic, "quotad"), topic
    assert not await hears(gate, "monitor", "connect/NB-SH/decisions/gw1", "quotad")
    assert not await hears(gate, "monitor", "connect/NB-SH/orders/gw1", "gw1")


# The daemon. ----------------------------------------------------------------------------------


def of_daemon(gate: Gate, **more: Any) -> Any:  # noqa: ANN401 - fields of MqttSettings
    known = {"username": "quotad", "password": gate.password("quotad"), "client_id": "quotad"}
    return settings(gate.port, host="localhost", tls=gate.tls(), **(known | more))


async def test_a_source_that_calls_itself_quotad_takes_nothing_over(gate: Gate) -> None:
    async with MqttFeed(of_daemon(gate)) as feed:
        await until(lambda: feed.connected)
        async with gate.client("gw1", identifier="quotad", clean_start=True) as thief:
            await thief.publish("connect/NB-SH/orders/gw1", order(7), qos=1)
            await thief.publish("connect/NB-SH/fills/gw1", b"nonsense", qos=1)
            (first, *_) = await take(feed, 2)
        assert [event.order_id for event in first.events] == ["7"]
        assert (feed.connected, feed.reconnects) == (True, 0)


async def test_of_two_daemons_by_one_name_the_younger_stops(gate: Gate) -> None:
    async with MqttFeed(of_daemon(gate)) as elder:
        await until(lambda: elder.connected)
        async with MqttFeed(of_daemon(gate)) as younger:
            with pytest.raises(FeedTaken):
                await receive_for_ever(younger)
        await until(lambda: elder.connected)


async def test_the_check_of_the_brokers_life_shows_no_password(gate: Gate) -> None:
    options = f"XDG_CONFIG_HOME={gate.secrets}/health"
    command = ["env", options, binary("mosquitto_sub"), "--cafile", f"{gate.secrets}/ca.pem"]
    command += ["-h", "localhost", "-p", str(gate.port), "-t", "$SYS/broker/version", "-C", "1", "-W", "5"]
    said = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout.split()[0]) == (0, "mosquitto")
    assert gate.password("health") not in " ".join(command)


def test_the_broker_tells_no_password(gate: Gate) -> None:
    secrets = [gate.password(user) for user in ("quotad", "gw1", "gw2")]
    assert gate.log
    assert not [secret for secret in secrets if secret in gate.log]

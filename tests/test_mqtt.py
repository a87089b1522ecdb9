"""The MQTT feed against a real mosquitto, and against a broker that misbehaves."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from feeds.mqtt import MqttFeed, MqttSettings, client_tls
from feeds.session import SENT_MAX
from quota.decision import PoolName
from quota.errors import ConfigError, FeedTaken, FeedUnavailable
from quota.feed import DeadLetter, Delivery, Mistake
from tests import scripted
from tests.certificates import certify
from tests.scripted import ScriptedBroker
from tests.servers import Mosquitto, binary

SOON_S = 20.0
ORDERS = "connect/NB-SH/orders"
LETTER = DeadLetter(PoolName.NB_SH, Mistake("why", "where", b"what"))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110 - a condition from outside has no event
            await asyncio.sleep(0.005)


def settings(port: int, **changes: Any) -> MqttSettings:  # noqa: ANN401 - any setting
    quick: dict[str, Any] = {"backoff_min_s": 0.02, "backoff_max_s": 0.2, "host": "127.0.0.1", "port": port}
    return MqttSettings(**(quick | changes))


@asynccontextmanager
async def feed_at(port: int, **changes: Any) -> AsyncIterator[MqttFeed]:  # noqa: ANN401 - any setting
    async with MqttFeed(settings(port, **changes)) as feed:
        await until(lambda: feed.connected)
        yield feed


def order(name: object) -> bytes:
    return b'{"event":"cancelled","order_id":"%s"}' % str(name).encode()


async def publish(broker: Mosquitto, *payloads: bytes, topic: str = ORDERS, qos: int = 1) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for payload in payloads:
            await client.publish(topic, payload, qos=qos)


async def take(feed: MqttFeed, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(SOON_S):
        while len(taken) < count:
            taken += await feed.receive()
    return taken


async def receive_for_ever(feed: MqttFeed) -> None:
    async with asyncio.timeout(SOON_S):
        while True:
            await feed.receive()


async def take_up_to_mark(feed: MqttFeed) -> list[str]:
    """Everything that the broker still holds for us, acknowledged."""
    mark, names = feed.mark(), list[str]()
    async with asyncio.timeout(SOON_S):
        while True:
            for delivery in await feed.receive():
                delivery.acknowledge()
                if delivery.mark == mark:
                    return names
                names += ids([delivery])


def send_many(feed: MqttFeed, count: int) -> None:
    for _ in range(count):
        feed.send(LETTER)


def ids(deliveries: list[Delivery]) -> list[str]:
    return [event.order_id for delivery in deliveries for event in delivery.events]


async def presence(broker: Mosquitto, seen: list[str]) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("connect/daemon/quotad", qos=1)
        seen.append("watching")
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            seen.append(message.payload.decode())


async def test_messages_come_in_order_and_are_told_apart(broker: Mosquitto) -> None:
    async with feed_at(broker.port) as feed:
        await publish(broker, order(1), order(2), b"nonsense")
        first, second, bad = await take(feed, 3)
        assert ids([first, second]) == ["1", "2"]
        assert (first.pool, first.payload, first.topic) == (PoolName.NB_SH, order(1), ORDERS)
        assert [mistake.payload for mistake in bad.mistakes] == [b"nonsense"]


async def test_unacknowledged_comes_again_and_acknowledged_does_not(broker: Mosquitto) -> None:
    async with feed_at(broker.port) as feed:
        await publish(broker, *map(order, range(6)))
        for delivery in (await take(feed, 6))[::2]:
            delivery.acknowledge()
        assert feed.unacknowledged == 3
    async with feed_at(broker.port) as feed:
        assert await take_up_to_mark(feed) == ["1", "3", "5"]
        assert feed.unacknowledged == 0
    async with feed_at(broker.port) as feed:
        assert await take_up_to_mark(feed) == []


async def test_message_that_was_not_received_yet_comes_once_on_the_next_connection(broker: Mosquitto) -> None:
    async with feed_at(broker.port) as feed:
        await publish(broker, order(1))
        await until(lambda: feed.unacknowledged)
        cut(feed)
        await until(lambda: feed.reconnects)
        assert await take_up_to_mark(feed) == ["1"]


def cut(feed: MqttFeed) -> None:
    """Let the connection die as in an accident."""
    assert feed._session is not None
    feed._session._pump.cut()


async def test_acknowledgement_of_an_old_connection_means_nothing(broker: Mosquitto) -> None:
    async with feed_at(broker.port) as feed:
        await publish(broker, order(1))
        (old,) = await take(feed, 1)
        cut(feed)
        (again,) = await take(feed, 1)
        assert ids([again]) == ["1"]
        old.acknowledge()
        assert feed.unacknowledged == 1
        cut(feed)
        (third,) = await take(feed, 1)
        third.acknowledge()
        third.acknowledge()
        assert await take_up_to_mark(feed) == []


async def test_mark_comes_behind_everything_that_the_broker_holds(broker: Mosquitto) -> None:
    async with feed_at(broker.port):
        pass
    await publish(broker, *map(order, range(500)))
    async with feed_at(broker.port, window=50) as feed:
        assert await take_up_to_mark(feed) == [str(number) for number in range(500)]


async def test_pool_that_we_do_not_serve_is_acknowledged_and_left_alone(broker: Mosquitto) -> None:
    async with feed_at(broker.port, served=frozenset({PoolName.NB_SZ})) as feed:
        await publish(broker, order(1))
        await publish(broker, order(2), topic="connect/NB-SZ/orders")
        assert await take_up_to_mark(feed) == ["2"]
        assert feed.unacknowledged == 0


@pytest.mark.parametrize(
    "topic", ["connect/NB-SH/orders/a/b", "connect/NB-XX/fills", "connect/daemon/orders"]
)
async def test_topics_that_nobody_should_use_arrive_as_mistakes(broker: Mosquitto, topic: str) -> None:
    async with feed_at(broker.port) as feed:
        await publish(broker, order(1), topic=topic)
        (delivery,) = await take(feed, 1)
        assert delivery.events == ()
        assert len(delivery.mistakes) == 1


async def test_retained_rate_comes_with_every_connection(broker: Mosquitto) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.publish("connect/fx", b'{"trading_day":"2026-11-23","rate":"0.9"}', qos=1, retain=True)
    for _ in range(2):
        async with feed_at(broker.port) as feed:
            (delivery,) = await take(feed, 1)
            assert delivery.rate is not None
            delivery.acknowledge()


async def test_qos_0_needs_no_acknowledgement(broker: Mosquitto) -> None:
    async with feed_at(broker.port) as feed:
        await publish(broker, order(1), qos=0)
        (delivery,) = await take(feed, 1)
        assert ids([delivery]) == ["1"]
        assert feed.unacknowledged == 0
        delivery.acknowledge()
        assert await take_up_to_mark(feed) == []


async def test_what_we_send_arrives_and_is_confirmed(broker: Mosquitto) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client, feed_at(broker.port) as feed:
        await client.subscribe("connect/NB-SH/dead", qos=1)
        send_many(feed, 200)
        await feed.flush()
        async with asyncio.timeout(SOON_S):
            for _ in range(200):
                message = await anext(client.messages)
                assert message.payload == b'{"reason":"why","topic":"where","payload":"what"}'


async def test_presence_follows_the_connection(broker: Mosquitto) -> None:
    seen: list[str] = []
    watch = asyncio.create_task(presence(broker, seen))
    await until(lambda: seen)
    async with feed_at(broker.port) as feed:
        await until(lambda: seen[-1] == "online")
        cut(feed)
        await until(lambda: feed.reconnects)
        await until(lambda: seen[-2:] == ["offline", "online"])
    await until(lambda: len(seen) == 5)
    assert seen == ["watching", "online", "offline", "online", "offline"]
    watch.cancel()


@pytest.mark.parametrize("kill", [False, True])
async def test_broker_that_ends_and_starts_again_finds_us_again(tmp_path: Path, *, kill: bool) -> None:
    with Mosquitto(tmp_path, persistent=True) as broker:
        async with feed_at(broker.port) as feed:
            await publish(broker, order(1), order(2))
            one, _ = await take(feed, 2)
            one.acknowledge()
            await take_marks(feed)
            broker.restart(kill=kill)
            await until(lambda: feed.reconnects)
            assert await take_up_to_mark(feed) == ["2"]


async def take_marks(feed: MqttFeed) -> None:
    """Wait until the broker has seen what we did: our own mark comes back after it."""
    mark = feed.mark()
    async with asyncio.timeout(SOON_S):
        while not any(delivery.mark == mark for delivery in await feed.receive()):
            pass


async def test_broker_away_is_said_at_once_and_does_not_end_the_feed(broker: Mosquitto) -> None:
    async with feed_at(broker.port) as feed:
        broker.kill()
        await until(lambda: not feed.connected)
        assert feed.unacknowledged == 0
        for attempt in (partial(feed.send, LETTER), feed.mark):
            with pytest.raises(FeedUnavailable):
                attempt()
        with pytest.raises(FeedUnavailable):
            await feed.flush()
        broker.start()
        await until(lambda: feed.connected)


async def test_feed_waits_for_a_broker_that_is_not_there_yet(broker: Mosquitto) -> None:
    broker.stop()
    async with MqttFeed(settings(broker.port)) as feed:
        receiving = asyncio.create_task(feed.receive())
        broker.start()
        await until(lambda: feed.connected)
        await publish(broker, order(1))
        assert ids(list(await receiving)) == ["1"]


async def test_flush_ends_with_the_connection(broker: Mosquitto) -> None:
    async with feed_at(broker.port) as feed:
        assert broker.process is not None
        await feed.flush()
        broker.process.send_signal(signal.SIGSTOP)
        feed.send(LETTER)
        flushing = asyncio.create_task(feed.flush())
        await until(lambda: feed._session is not None and feed._session._flushes)
        broker.kill()
        with pytest.raises(FeedUnavailable):
            await flushing


async def settled(feed: MqttFeed) -> None:
    """Wait until the connection that the feed believes in is one that the broker answers on."""
    answered = False
    while not answered:
        await until(lambda: feed.connected)
        with suppress(FeedUnavailable):
            feed.send(LETTER)
            await feed.flush()
            answered = True


async def test_the_younger_of_two_daemons_stops_and_nothing_is_lost(broker: Mosquitto) -> None:
    sent = [str(number) for number in range(300)]
    async with feed_at(broker.port, young_s=0.0) as elder:
        await publish(broker, *map(order, sent[:100]))
        got = set(ids(await take(elder, 50)))
        async with MqttFeed(settings(broker.port)) as younger:
            await publish(broker, *map(order, sent[100:200]))
            with pytest.raises(FeedTaken, match="client id 'quotad'"):
                await receive_for_ever(younger)
            assert not younger.connected
            await publish(broker, *map(order, sent[200:]))
            await settled(elder)
            got |= set(await take_up_to_mark(elder))
        assert got == set(sent)


async def test_online_is_what_remains_after_a_fight_for_the_session(broker: Mosquitto) -> None:
    seen: list[str] = []
    async with feed_at(broker.port, young_s=0.0) as elder:
        async with MqttFeed(settings(broker.port)) as younger:
            with pytest.raises(FeedTaken):
                await younger.receive()
        await settled(elder)
        watch = asyncio.create_task(presence(broker, seen))
        await until(lambda: len(seen) == 2)
        assert seen[-1] == "online"
        watch.cancel()


async def test_big_backlog_passes_through_a_small_window(broker: Mosquitto) -> None:
    async with feed_at(broker.port):
        pass
    names = [str(number) for number in range(2_000)]
    await publish(
        broker, *(b"[" + b",".join(map(order, names[at : at + 2])) + b"]" for at in range(0, 2000, 2))
    )
    async with feed_at(broker.port, window=10) as feed:
        got: list[str] = []
        while len(got) < len(names):
            deliveries = await take(feed, 1)
            assert feed.unacknowledged <= 2 * 10 + 256
            got += ids(deliveries)
            for delivery in deliveries:
                delivery.acknowledge()
        assert got == names


async def test_one_huge_message_passes(broker: Mosquitto) -> None:
    async with feed_at(broker.port) as feed:
        await publish(broker, b"x" * 70_000_000, order(1))
        huge, small = await take(feed, 1), list[Delivery]()
        for delivery in huge:
            delivery.acknowledge()
        if len(huge) == 1:
            small = await take(feed, 1)
        assert len(huge[0].payload) == 70_000_000
        assert ids(huge[1:] + small) == ["1"]


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    passwords = tmp_path / "passwords"
    subprocess.run([binary("mosquitto_passwd"), "-b", "-c", passwords, "quotad", "secret"], check=True)
    return passwords


async def test_wrong_password_and_right_one(tmp_path: Path, password_file: Path) -> None:
    with Mosquitto(tmp_path, (f"password_file {password_file}",), anonymous=False) as broker:
        async with feed_at(broker.port, username="quotad", password="secret") as feed:  # noqa: S106
            assert feed.connected
        async with MqttFeed(settings(broker.port, username="quotad", password="guess")) as feed:  # noqa: S106
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
    assert "secret" not in repr(settings(1, password="secret"))  # noqa: S106


def flood(count: int, size: int = 0) -> bytes:
    return b"".join(
        scripted.publish(ORDERS, number, order(number) + b" " * size) for number in range(1, count + 1)
    )


async def test_broker_that_floods_is_left_unread_and_pinged() -> None:
    async with (
        ScriptedBroker(flood=flood(5_000)) as broker,
        feed_at(broker.port, window=10, keepalive_s=2) as feed,
    ):
        taken = await take(feed, 1)
        await until(lambda: broker.seen.count(scripted.PINGREQ) >= 3)
        taken += await take(feed, 1) if len(taken) < 276 else []
        assert len(taken) <= 2 * 10 + 256 + 2
        assert feed.unacknowledged == len(taken)
        while len(taken) < 5_000:
            for delivery in taken:
                delivery.acknowledge()
            taken += await take(feed, 1)
        assert ids(taken) == [str(number) for number in range(1, 5_001)]
        await until(lambda: broker.seen.count(scripted.PINGREQ) >= 4)
        assert feed.reconnects == 0


async def test_bytes_have_a_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.session.HELD_BYTES_MAX", 1_000_000)
    async with ScriptedBroker(flood=flood(100, 100_000)) as broker, feed_at(broker.port) as feed:
        taken = await take(feed, 10)
        assert feed._session is not None
        assert feed._session._pump.paused
        assert len(taken) <= 12
        while len(taken) < 100:
            for delivery in taken:
                delivery.acknowledge()
            taken += await take(feed, 1)


async def test_flush_reads_on_while_reading_is_paused() -> None:
    async with (
        ScriptedBroker(flood=flood(2_000), confirms=False) as broker,
        feed_at(broker.port, window=1) as feed,
    ):
        assert feed._session is not None
        await until(lambda: feed._session is not None and feed._session._pump.paused)
        feed.send(LETTER)
        await until(lambda: broker.unconfirmed)
        broker.confirm()
        async with asyncio.timeout(SOON_S):
            await feed.flush()


def sent(broker: ScriptedBroker, count: int) -> bool:
    return broker.seen.count(scripted.PUBLISH) == count


async def test_acknowledgement_never_overtakes_the_reply_before_it() -> None:
    script = ScriptedBroker(flood=flood(1), receive_maximum=1, confirms=False)
    async with script as broker, feed_at(broker.port) as feed:
        (delivery,) = await take(feed, 1)
        opened = broker.seen.count(scripted.PUBLISH)
        send_many(feed, 3)
        delivery.acknowledge()
        for count in range(1, 4):
            assert scripted.PUBACK not in broker.seen
            await until(partial(sent, broker, opened + count))
            assert len(broker.unconfirmed) == 1
            broker.confirm()
        await until(lambda: scripted.PUBACK in broker.seen)
        assert sent(broker, opened + 3)
        await feed.flush()


async def test_broker_that_confirms_nothing_is_given_up() -> None:
    async with ScriptedBroker(confirms=False) as broker, feed_at(broker.port) as feed:
        with pytest.raises(FeedUnavailable, match="confirm"):
            send_many(feed, SENT_MAX + 1)
        await until(lambda: feed.reconnects)


async def test_close_does_not_wait_for_a_dead_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.mqtt.CLOSE_SECONDS", 0.05)
    async with ScriptedBroker(confirms=False) as broker:
        async with feed_at(broker.port) as feed:
            pass
        with pytest.raises(FeedUnavailable, match="closed"):
            await feed.receive()
        await until(lambda: scripted.DISCONNECT in broker.seen)

"""The MQTT feed against a real mosquitto: nothing lost, nothing acknowledged too early."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from pathlib import Path

import aiomqtt
import pytest

from feeds.mqtt import MqttFeed
from quota.decision import PoolName
from quota.errors import FeedTaken, FeedUnavailable
from quota.feed import Delivery
from tests.feeding import (
    LETTER,
    ORDERS,
    SOON_S,
    cut,
    feed_at,
    ids,
    order,
    presence,
    publish,
    receive_for_ever,
    send_many,
    settings,
    settled,
    take,
    take_marks,
    take_up_to_mark,
    until,
)
from tests.servers import Mosquitto


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


async def test_the_younger_of_two_daemons_stops_and_nothing_is_lost(broker: Mosquitto) -> None:
    sent = [str(number) for number in range(300)]
    async with feed_at(broker.port) as elder:
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
    async with feed_at(broker.port) as elder:
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
        await publish(broker, b"x" * 30_000_000, order(1))
        huge, small = await take(feed, 1), list[Delivery]()
        for delivery in huge:
            delivery.acknowledge()
        if len(huge) == 1:
            small = await take(feed, 1)
        assert len(huge[0].payload) == 30_000_000
        assert ids(huge[1:] + small) == ["1"]

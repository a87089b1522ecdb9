"""The MQTT feed against a broker that floods, keeps quiet or confirms late."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from feeds.codec import ARRAY_MAX
from feeds.mqtt import RECEIVE_EVENTS, MqttFeed
from feeds.session import SENT_MAX
from quota.errors import FeedUnavailable
from quota.feed import Delivery
from tests import scripted
from tests.feeding import (
    LETTER,
    ORDERS,
    SOON_S,
    feed_at,
    ids,
    order,
    send_many,
    settings,
    take,
    until,
)
from tests.scripted import ScriptedBroker


def flood(count: int, size: int = 0) -> bytes:
    return b"".join(
        scripted.publish(ORDERS, number, order(number) + b" " * size) for number in range(1, count + 1)
    )


async def all_of(feed: MqttFeed, taken: list[Delivery], count: int) -> None:
    """Acknowledge what was taken and take more, until it is so many, and all acknowledged."""
    while True:
        for delivery in taken:
            delivery.acknowledge()
        if len(taken) >= count:
            return
        taken += await take(feed, 1)


async def confirmed(broker: ScriptedBroker, waiting: asyncio.Task[None]) -> None:
    """Confirm what is sent; then who waits for it goes on."""
    broker.confirm()
    async with asyncio.timeout(SOON_S):
        await waiting


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
        await all_of(feed, taken, 5_000)
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
        await all_of(feed, taken, 100)


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


async def test_long_topics_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.session.HELD_BYTES_MAX", 500_000)
    topic = f"{ORDERS}/{'x' * 50_000}"
    script = ScriptedBroker(flood=b"".join(scripted.publish(topic, it, b"{}") for it in range(1, 51)))
    async with script as broker, feed_at(broker.port) as feed:
        assert len(await take(feed, 10)) <= 12
        assert feed._session is not None
        assert feed._session._pump.paused


async def test_what_is_read_for_a_confirmation_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.session.HELD_BYTES_MAX", 1_000_000)
    script = ScriptedBroker(flood=flood(100, 100_000), confirms=False)
    async with script as broker, feed_at(broker.port) as feed:
        assert feed._session is not None
        taken = await take(feed, 1)
        taken[0].acknowledge()
        feed.send(LETTER)
        flushing = asyncio.create_task(feed.flush())
        await until(
            lambda: feed._session is not None and feed._session._pump.paused and feed.unacknowledged > 12
        )
        assert 2_000_000 <= feed._session._held_bytes <= 2_200_000
        assert feed.unacknowledged <= 21
        assert not flushing.done()
        await all_of(feed, taken, 100)
        assert feed._session._held_bytes == 0
        await confirmed(broker, flushing)
        assert feed.reconnects == 0


@pytest.mark.parametrize(
    ("name", "most", "held"),
    [("HELD_BYTES_MAX", 100_000, 800), ("_HELD_MAX", 300, 302)],
    ids=["bytes", "number"],
)
async def test_many_small_messages_have_a_bound_too(
    monkeypatch: pytest.MonkeyPatch, name: str, most: int, held: int
) -> None:
    monkeypatch.setattr(f"feeds.session.{name}", most)
    script = ScriptedBroker(flood=flood(3_000), confirms=False)
    async with script as broker, feed_at(broker.port, window=1) as feed:
        feed.send(LETTER)
        flushing = asyncio.create_task(feed.flush())
        await until(
            lambda: feed._session is not None and feed._session._pump.paused and feed.unacknowledged > 290
        )
        assert feed.unacknowledged <= held
        await all_of(feed, await take(feed, 1), 3_000)
        await confirmed(broker, flushing)
        assert feed._session is not None
        assert feed._session._held_bytes == 0


async def test_who_waits_for_room_behind_too_much_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.session.HELD_BYTES_MAX", 1_000_000)
    script = ScriptedBroker(flood=flood(100, 100_000), receive_maximum=2, confirms=False)
    async with script as broker, feed_at(broker.port) as feed:
        first, *_ = await take(feed, 1)
        send_many(feed, 2)
        first.acknowledge()
        await feed.room()
        send_many(feed, 1)
        with pytest.raises(FeedUnavailable, match="gone"):
            await feed.room()
        assert scripted.PUBACK in broker.seen
        await until(lambda: feed.reconnects and feed.connected)
        assert ids(await take(feed, 1))[0] == "1"


async def test_who_could_acknowledge_nothing_yet_reads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.session.HELD_BYTES_MAX", 1_000_000)
    script = ScriptedBroker(flood=flood(100, 100_000), receive_maximum=1, confirms=False)
    async with script as broker, feed_at(broker.port) as feed:
        first, *_ = await take(feed, 1)
        send_many(feed, 2)
        first.acknowledge()
        waiting = asyncio.create_task(feed.room())
        await until(lambda: feed.unacknowledged == 99)
        await confirmed(broker, waiting)
        await until(lambda: scripted.PUBACK in broker.seen)
        assert broker.connections == 1


async def test_room_is_there_as_soon_as_the_broker_takes_more() -> None:
    async with ScriptedBroker(receive_maximum=2, confirms=False) as broker, feed_at(broker.port) as feed:
        send_many(feed, 3)
        waiting = asyncio.create_task(feed.room())
        await until(lambda: len(broker.unconfirmed) == 2)
        assert not waiting.done()
        await confirmed(broker, waiting)


async def test_room_comes_before_the_end_of_a_flush_that_was_asked_for_earlier() -> None:
    async with ScriptedBroker(receive_maximum=2, confirms=False) as broker, feed_at(broker.port) as feed:
        send_many(feed, 4)
        flushing, waiting = asyncio.create_task(feed.flush()), asyncio.create_task(feed.room())
        await until(lambda: len(broker.unconfirmed) == 2)
        await confirmed(broker, waiting)
        await until(lambda: len(broker.unconfirmed) == 2)
        assert not flushing.done()
        await confirmed(broker, flushing)


def test_the_answers_of_what_is_received_at_once_find_room() -> None:
    assert RECEIVE_EVENTS + ARRAY_MAX < SENT_MAX - SENT_MAX // 2


async def test_a_broker_that_sets_no_limit_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.session.SENT_MAX", 10)
    async with ScriptedBroker(confirms=False) as broker, feed_at(broker.port) as feed:
        send_many(feed, 6)
        waiting = asyncio.create_task(feed.room())
        await until(lambda: len(broker.unconfirmed) == 6)
        assert not waiting.done()
        await confirmed(broker, waiting)


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


async def test_old_messages_can_be_acknowledged_before_the_subscription_stands() -> None:
    script = ScriptedBroker(flood=flood(5), first=5)
    async with script, MqttFeed(settings(script.port)) as feed:
        for delivery in await take(feed, 5):
            assert not feed.connected
            with pytest.raises(FeedUnavailable, match="subscriptions"):
                feed.mark()
            feed.send(LETTER)
            delivery.acknowledge()
        await until(lambda: feed.connected)


async def test_who_works_through_what_the_broker_kept_is_not_cut_off_for_it() -> None:
    patience = settings(0, connect_timeout_s=0.05, keepalive_s=1)
    async with ScriptedBroker(flood=flood(5), first=5, kept=True) as broker:
        async with MqttFeed(replace(patience, port=broker.port)) as feed:
            taken = await take(feed, 5)
            await until(lambda: broker.seen.count(scripted.PINGREQ) >= 2)
            assert not feed.connected
            for delivery in taken:
                delivery.acknowledge()
            await until(lambda: feed.connected)
        assert broker.connections == 1


async def test_a_new_session_that_grants_nothing_is_given_up() -> None:
    async with ScriptedBroker(first=1) as broker, MqttFeed(settings(broker.port, connect_timeout_s=0.05)):
        await until(lambda: broker.connections >= 2)


async def test_a_broker_that_sends_all_the_time_is_not_silent() -> None:
    endless = scripted.publish(ORDERS, 1, order(1))
    script = ScriptedBroker(flood=endless, endless=endless)
    async with script as broker, feed_at(broker.port, keepalive_s=1) as feed:
        while broker.seen.count(scripted.PINGREQ) < 3:
            for delivery in await take(feed, 1):
                delivery.acknowledge()
        assert broker.connections == 1


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

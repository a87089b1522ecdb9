"""The whole way: from the broker's queue through the real daemon to committed, answered, acknowledged.

The messages wait in the broker before a leg begins: every session that will be measured has
subscribed and gone, the broker has queued the same messages for each, and nobody publishes while
the clock runs, so no publisher takes a share of the processor from anybody. The clock starts
before the connection is made and stops when everything is acknowledged (for the daemon: committed,
answered and confirmed as well). Both run on uvloop, in this process, by the same broker.

The bars are held against aiomqtt as it would stand in the daemon's place: MQTT 5, kept session,
the same receive maximum. Its default, MQTT 3.1.1, has no properties to parse, is three times as
fast for that, and stands beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.daemons import feed_at, run_daemon
from bench.market import messages, session
from bench.rows import Bar, Row, compared
from bench.stores import Store, ledger_of, opened
from quota.decision import PoolName
from quota.embedded import embedded_broker

POOL = PoolName.NB_SH
ARRAY = 50
_TOPICS = (f"connect/{POOL}/orders/#", f"connect/{POOL}/fills/#")
Queue = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Course:
    """Where a leg runs: the broker's port and the store."""

    port: int
    store: Store


async def measure(store: Store, *, quick: bool) -> list[Row]:
    """Measure events per second."""
    singles, in_arrays, rounds = (300, 1_000, 2) if quick else (10_000, 30_000, 9)
    rates: dict[str, list[float]] = {"receive": [], "receive_v311": [], "singles": [], "arrays": []}
    async with embedded_broker() as url:
        course = Course(int(url.rpartition(":")[2]), store)
        for number in range(rounds):
            for name, rate in (await _round(course, singles, in_arrays, number)).items():
                rates[name].append(rate)
    against = "/s aiomqtt receive-only"
    return [
        compared((f"{what}, {words}", "/s", f"{against}, {version}"), rates[figure], rates[baseline], bar)
        for what, figure, least in (
            ("single events, MQTT to acknowledged", "singles", 0.7),
            ("payloads of 50 events, MQTT to acknowledged", "arrays", 4),
        )
        for words, version, baseline, bar in (
            ("like for like", "MQTT 5", "receive", Bar(least, at_most=False)),
            ("for reference", "MQTT 3.1.1", "receive_v311", None),
        )
    ]


async def _round(course: Course, singles: int, in_arrays: int, number: int) -> dict[str, float]:
    """Run all legs on the same single messages, then the daemon on arrays."""
    legs: dict[str, Callable[[], Awaitable[float]]] = {
        "receive": lambda: _receive_only(course, aiomqtt.ProtocolVersion.V5, singles),
        "singles": lambda: _daemon(course, singles),
        "receive_v311": lambda: _receive_only(course, aiomqtt.ProtocolVersion.V311, singles),
    }
    await _subscribe_all(course)
    await asyncio.to_thread(_queue, course.port, list(messages(POOL, session(singles), 1)))
    figures = {name: await legs[name]() for name in list(legs)[:: -1 if number % 2 else 1]}
    await _forget_receivers(course)
    await asyncio.to_thread(_queue, course.port, list(messages(POOL, session(in_arrays), ARRAY)))
    figures["arrays"] = await _daemon(course, in_arrays)
    return figures


def _receiver(port: int, version: aiomqtt.ProtocolVersion, *, kept: bool = True) -> aiomqtt.Client:
    """A client as aiomqtt makes it, whose session is kept, with the daemon's window on MQTT 5."""
    if version is aiomqtt.ProtocolVersion.V311:
        return aiomqtt.Client(
            "127.0.0.1", port, identifier="receiver311", protocol=version, clean_session=not kept
        )
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho leaves it untyped
    properties.SessionExpiryInterval = 3_600 if kept else 0
    properties.ReceiveMaximum = 1_000
    return aiomqtt.Client(
        "127.0.0.1",
        port,
        identifier="receiver5",
        protocol=version,
        clean_start=not kept,
        properties=properties,
    )


async def _subscribe_all(course: Course) -> None:
    for version in (aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311):
        async with _receiver(course.port, version) as client:
            await client.subscribe([(topic, 1) for topic in _TOPICS])
    async with feed_at(course.port):
        pass


async def _forget_receivers(course: Course) -> None:
    for version in (aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311):
        async with _receiver(course.port, version, kept=False):
            pass


def _queue(port: int, queue: Queue) -> None:
    """Publish with QoS 1 and wait until the broker has everything."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(0)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for sent in [client.publish(topic, payload, qos=1) for topic, payload in queue]:
        sent.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


async def _receive_only(course: Course, version: aiomqtt.ProtocolVersion, count: int) -> float:
    started = perf_counter()
    async with _receiver(course.port, version) as client:
        left = count
        async for _ in client.messages:
            left -= 1
            if not left:
                break
        return count / (perf_counter() - started)


async def _daemon(course: Course, events: int) -> float:
    async with ledger_of(course.store) as ledger:
        await opened(course.store, ledger, POOL)
    return events / await run_daemon(course.store, course.port, POOL, events)

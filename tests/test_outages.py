"""The store or the broker goes away: nothing is lost, nothing invented, and it goes on by itself."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import AT, DAY, House, house, new
from tests.tap import Tap, until, until_now

EVENTS = 20_000
GROWTH_MB = 20
ORDERS = "connect/NB-SH/orders"
ENDS_S = 5.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        yield home


@pytest.fixture
def tap(home: House) -> Iterator[Tap]:
    with Tap(home.broker.port, ("connect/+/decisions/#", "connect/+/status", "connect/+/dead")) as tap:
        yield tap


def reasons(home: House) -> list[str]:
    code, body = home.quotad.get("/-/ready")
    found: list[str] = json.loads(body)["reasons"] if body else []
    assert (code == 503) == bool(found)
    return found


def stop(process: subprocess.Popen[bytes] | None) -> None:
    assert process is not None
    process.send_signal(signal.SIGSTOP)


def go_on(process: subprocess.Popen[bytes] | None) -> None:
    assert process is not None
    process.send_signal(signal.SIGCONT)


def speak(tap: Tap) -> None:
    for number in range(1, EVENTS):
        tap.say(ORDERS, new(str(number)))


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_store_away_holds_everything_back_and_nothing_grows(home: House, tap: Tap, how: str) -> None:
    tap.say(ORDERS, new("before"))
    await until(lambda: len(tap.replies()) == 1)
    if how == "stopped":
        stop(home.store.process)
    else:
        home.store.stop()
    tap.say(ORDERS, new("0"))
    await until(lambda: any(reason.startswith("the store is away: redis: ") for reason in reasons(home)))
    await until(lambda: home.quotad.metric("quota_redis_connected") == 0)
    before_mb = home.quotad.rss_mb()
    await asyncio.to_thread(speak, tap)
    await until(lambda: tap.settled)
    assert home.quotad.rss_mb() - before_mb < GROWTH_MB
    assert len(tap.replies()) == 1
    assert home.quotad.get("/-/healthy")[0] == 200
    if how == "stopped":
        go_on(home.store.process)
    else:
        home.store.start()
    await until(lambda: len(tap.replies()) >= EVENTS + 1)
    assert {reply["order_id"] for reply in tap.replies()} == {"before", *map(str, range(EVENTS))}
    assert home.seq() == EVENTS + 1
    await until(lambda: home.quotad.ready)
    await until(lambda: home.quotad.metric("quota_redis_connected") == 1)
    await ends_in_order(home)


async def ends_in_order(home: House) -> None:
    home.quotad.ask_to_end()
    assert await asyncio.to_thread(home.quotad.code, ENDS_S) == 0
    assert await asyncio.to_thread(home.left) == []


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_told_to_stop_while_the_store_is_away_it_ends_and_loses_nothing(
    home: House, tap: Tap, how: str
) -> None:
    if how == "stopped":
        stop(home.store.process)
    else:
        home.store.stop()
    for number in range(100):
        tap.say(ORDERS, new(str(number)))
    await until(lambda: reasons(home))
    started = time.monotonic()
    home.quotad.ask_to_end()
    assert await asyncio.to_thread(home.quotad.code, 2 * ENDS_S) == 0
    assert time.monotonic() - started < ENDS_S
    if how == "stopped":
        go_on(home.store.process)
    else:
        home.store.start()
    assert tap.replies() == []
    home.quotad.start()
    await until(lambda: home.seq() == 100)
    await until(lambda: len(tap.replies()) == 100)


async def test_told_to_stop_while_nobody_answers_it_ends_all_the_same(home: House) -> None:
    stop(home.store.process)
    stop(home.broker.process)
    started = time.monotonic()
    home.quotad.ask_to_end()
    try:
        assert await asyncio.to_thread(home.quotad.code, 2 * ENDS_S) == 0
    finally:
        go_on(home.broker.process)
    assert time.monotonic() - started < ENDS_S


async def test_store_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    with house(tmp_path, at=None) as home:
        home.store.stop()
        home.quotad.start()
        await until(lambda: reasons(home))
        assert reasons(home)[0].startswith("the store is away: redis: ")
        home.store.start()
        await until(lambda: home.quotad.ready)


async def test_broker_away_leaves_the_pools_their_phases(tmp_path: Path) -> None:
    """The market clock stands a few seconds before the break, and passes it without a broker."""
    with house(tmp_path, at=f"{DAY}T11:29:54+08:00") as home:
        home.quotad.start()
        await until(lambda: home.quotad.ready)
        assert home.quotad.pool("NB-SH")["phase"] == "continuous"
        home.broker.stop()
        await until(lambda: reasons(home) == ["the broker is away"])
        await until(lambda: home.quotad.metric("quota_feed_connected") == 0)
        await until(lambda: home.quotad.pool("NB-SH")["phase"] == "break")
        assert home.redis.hget("quota:{NB-SH}:pool", "phase") == "break"
        home.broker.start()
        await until(lambda: home.quotad.ready)
        await until(lambda: home.quotad.metric("quota_feed_connected") == 1)
        with Tap(home.broker.port) as tap:
            await until(lambda: dict(tap.retained).get("connect/daemon/quotad") == b"online")
            tap.say(ORDERS, new("2"))
            await until(lambda: [reply["verdict"] for reply in tap.replies()] == ["closed"])
            reports = tap.on("status")
            assert all(report["phase"] == "break" for report in reports if report["pool"].startswith("NB"))


async def test_broker_that_hangs_leaves_the_pools_their_phases(tmp_path: Path) -> None:
    """It keeps the connection and confirms nothing: an alert that waits for it must not stop the watch."""
    with house(tmp_path, at=f"{DAY}T11:29:55+08:00") as home:
        home.quotad.start()
        await until(lambda: home.quotad.ready)
        stop(home.broker.process)
        try:
            assert home.quotad.does("halt", "NB-SZ", "--reason", "an alert is due").returncode == 0
            await until(lambda: home.redis.hget("quota:{NB-SH}:pool", "phase") == "break", 10)
            await until(lambda: home.quotad.pool("NB-SH")["phase"] == "break", 3)
        finally:
            go_on(home.broker.process)
        cursor = ("quota:{NB-SZ}:pool", "published", "last_change")
        await until(lambda: len(set(home.redis.hmget(*cursor))) == 1)


async def test_broker_that_comes_and_goes_in_mid_traffic_costs_nothing(home: House) -> None:
    names = {str(number) for number in range(3_000)}
    with Tap(home.broker.port, ("connect/NB-SH/decisions/#",)) as tap:
        for name in sorted(names):
            tap.say(ORDERS, new(name))
        for moment in (500, 1_500):
            await until(partial(reached, home, moment))
            home.broker.restart()
        await until(lambda: tap.settled and home.seq() == len(names))
    entries: Any = home.redis.xrange("quota:{NB-SH}:journal")
    assert {fields["event"].split()[1] for _, fields in entries} == names
    await until(lambda: home.quotad.ready)
    assert home.quotad.does("verify").returncode == 0
    await ends_in_order(home)


def reached(home: House, seq: int) -> bool:
    return home.seq() >= seq


async def test_a_store_that_holds_what_cannot_be_ours_ends_it_and_nothing_is_acknowledged(
    home: House, tap: Tap
) -> None:
    home.redis.set("quota:{NB-SH}:orders", "somebody else's")
    tap.say(ORDERS, new("1"))
    assert await asyncio.to_thread(home.quotad.code, 10) == 1
    assert "quotad: redis: WRONGTYPE" in home.quotad.log
    assert "Traceback" not in home.quotad.log
    assert await asyncio.to_thread(home.left) == [json.dumps(new("1")).encode()]
    assert home.seq() == 0


async def test_restart_with_another_at_moves_the_schedule_and_nothing_else(home: House, tap: Tap) -> None:
    tap.say(ORDERS, new("1"))
    await until(lambda: home.seq() == 1)
    assert home.quotad.at == AT
    home.quotad.ask_to_end()
    assert home.quotad.code(ENDS_S) == 0
    home.quotad.at = f"{DAY}T11:40:00+08:00"
    home.quotad.start()
    await until(lambda: home.quotad.ready)
    pool = home.quotad.pool("NB-SH")
    assert (pool["phase"], pool["status"], pool["seq"]) == ("break", "open", 1)
    assert pool["limit_fen"] - pool["balance_fen"] == 100_000
    home.quotad.ask_to_end()
    assert home.quotad.code(ENDS_S) == 0
    home.quotad.at = "2026-11-20T10:00:00+08:00"
    home.quotad.start()
    assert home.quotad.code(30) == 1
    assert f"the store's day is {DAY}: a day never goes back" in home.quotad.log


async def test_a_flood_of_mistakes_is_told_and_what_stands_behind_it_is_decided(home: House) -> None:
    """Fifteen arrays of a thousand mistakes are more than may be sent without a confirmation."""
    home.quotad.kill()
    with Tap(home.broker.port, ("connect/+/decisions/#", "connect/+/dead")) as tap:
        for _ in range(15):
            tap.say(ORDERS, [{}] * 1000)
        tap.say(ORDERS, new("behind"))
        home.quotad.start()
        await until(lambda: any(b"behind" in body for _, body in tap.heard))
        await until(lambda: sum(topic.endswith("/dead") for topic, _ in tap.heard) == 15_000)
    assert reasons(home) == []


@pytest.mark.usefixtures("home")
async def test_a_time_at_the_end_of_the_calendar_is_a_mistake_and_no_end(tap: Tap) -> None:
    tap.say(ORDERS, new("far", time="9999-12-31T23:59:59-12:00"))
    tap.say(ORDERS, new("near"))
    await until(lambda: any(b"near" in body for _, body in tap.heard))
    rule = b"time: must be RFC 3339"
    await until(lambda: any(rule in body for topic, body in tap.heard if topic.endswith("/dead")))

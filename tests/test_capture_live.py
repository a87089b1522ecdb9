"""A daemon between real servers: what it has acknowledged stands in the record of its day."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from feeds.capture_reading import files_of, records
from quota.captured import Captured, Changed, Delivered, Journalled, Opened
from quota.decision import PoolName
from quota.store.record import keys
from tests.captures import fill, small_disk
from tests.daemons import House, house, new
from tests.scale import cases
from tests.tap import Tap, until_now

ORDERS = "connect/NB-SH/orders/gw"
NB_SH = PoolName.NB_SH
FULL = cases(1, 20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "capture"


@pytest.fixture
def home(tmp_path: Path, folder: Path) -> Iterator[House]:
    with house(tmp_path, toml=f'[capture]\nfolder = "{folder}"\n') as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        yield home


@pytest.fixture
def tap(home: House) -> Iterator[Tap]:
    with Tap(home.broker.port) as tap:
        yield tap


def written(folder: Path) -> list[Captured]:
    """Everything in the record; a flaw ends the test."""
    return [record for _, record in records(files_of(folder))]


def orders(found: list[Captured]) -> list[str]:
    """The ids of the orders that were delivered, in their order."""
    return [
        json.loads(record.payload)["order_id"]
        for record in found
        if isinstance(record, Delivered) and record.topic == ORDERS
    ]


def payloads(found: list[Captured]) -> set[bytes]:
    """What was delivered on that topic, byte for byte."""
    return {it.payload for it in found if isinstance(it, Delivered) and it.topic == ORDERS}


def entries(found: list[Captured], pool: PoolName = NB_SH) -> list[int]:
    return [it.entry.seq for it in found if isinstance(it, Journalled) and it.pool is pool]


def reserve(home: House, order_id: str) -> Any:  # noqa: ANN401 - as the function replies
    """Reserve as a gateway does, past the daemon."""
    return home.redis.fcall("quota_reserve", 6, *keys(NB_SH), order_id, "buy", "10.00", "100", "gw2")


def reaches(home: House, seq: int) -> bool:
    return home.seq() >= seq


def test_every_order_and_every_entry_of_the_day_is_there_once_and_in_order(
    home: House, tap: Tap, folder: Path
) -> None:
    sent = [str(number) for number in range(300)]
    for number in sent:
        tap.say(ORDERS, new(number))
        if int(number) % 10 == 0:
            reserve(home, f"r{number}")
    tap.say("connect/NB-SH/orders", b"no JSON")
    until_now(lambda: home.seq() == 330 and len(entries(written(folder))) == 330)
    until_now(lambda: {it.pool for it in written(folder) if isinstance(it, Changed)} == set(PoolName))
    home.quotad.ask_to_end()
    assert home.quotad.code() == 0
    found = written(folder)
    assert orders(found) == sent
    assert entries(found) == list(range(1, 331))
    assert [it.pool for it in found if isinstance(it, Opened)] == list(PoolName)
    assert any(isinstance(it, Delivered) and it.payload == b"no JSON" for it in found)


def test_killed_and_started_again_it_lacks_nothing_that_was_acknowledged(
    home: House, tap: Tap, folder: Path
) -> None:
    lives, each = 3, 300
    for life in range(lives):
        at_least = home.seq() + 1 + each // 20
        for number in range(each):
            tap.say(ORDERS, new(f"{life}-{number}"))
        for number in range(0, each, 20):
            reserve(home, f"r{life}-{number}")
        until_now(partial(reaches, home, at_least))
        home.quotad.kill()
        home.quotad.start()
    until_now(lambda: home.quotad.ready and home.seq() == lives * (each + each // 20))
    until_now(lambda: len(entries(written(folder))) == home.seq())
    home.quotad.ask_to_end()
    assert home.quotad.code() == 0
    assert home.left() == []
    found = written(folder)
    assert set(orders(found)) == {f"{life}-{number}" for life in range(lives) for number in range(each)}
    assert entries(found) == list(range(1, home.seq() + 1))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 256 * FULL) as disk:
        yield disk


def test_on_a_full_disk_nothing_is_acknowledged_that_is_not_written(tmp_path: Path, disk: Path) -> None:
    with house(tmp_path, toml=f'[capture]\nfolder = "{disk}"\n') as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        with Tap(home.broker.port) as tap:
            sent = [os.urandom(6_000) for _ in range(15)]
            tap.say(ORDERS, sent[0])
            until_now(lambda: payloads(written(disk)) == {sent[0]})
            fill(disk)
            for payload in sent[1:]:
                tap.say(ORDERS, payload)
            until_now(lambda: home.quotad.metric("quota_capture_writable") == 0)
            assert "cannot be written: " in home.quotad.get("/-/ready")[1]
            home.quotad.kill()
            here, waiting = payloads(written(disk)), set(home.left())
            assert here | waiting == set(sent)
            assert waiting


@pytest.mark.soak
def test_a_daemon_on_a_full_disk_goes_on_by_itself_when_there_is_room(
    tmp_path: Path, disk: Path, counted: Callable[[str], None]
) -> None:
    with house(tmp_path, toml=f'[capture]\nfolder = "{disk}"\n') as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        with Tap(home.broker.port) as tap:
            for done in range(0, 200 * FULL, 200):
                filler = fill(disk)
                for number in range(done, done + 200):
                    tap.say(ORDERS, new(str(number), symbol="x" * 60))
                until_now(lambda: home.quotad.metric("quota_capture_writable") == 0)
                filler.unlink()
                until_now(lambda: home.quotad.ready and home.quotad.metric("quota_capture_writable") == 1)
                until_now(lambda done=done: len(entries(written(disk))) == done + 200)  # type: ignore[misc]  # mypy cannot infer a bound default
        home.quotad.ask_to_end()
        assert home.quotad.code() == 0
        assert home.left() == []
        assert set(orders(written(disk))) == set(map(str, range(200 * FULL)))
        assert entries(written(disk)) == list(range(1, 200 * FULL + 1))
    counted(f"a full disk: {FULL} times")

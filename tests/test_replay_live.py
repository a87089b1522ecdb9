"""A day between real servers, from its record: its report, its check, another store, a rehearsal."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feeds.capture_reading import files_of, records
from feeds.player import Player
from quota.captured import Delivered, Journalled
from quota.clock import MarketClock
from quota.decision import PoolName
from quota.errors import FeedUnavailable
from quota.journal import Entry
from quota.store.record import keys
from tests.captures import delivered
from tests.daemons import DAY, QUOTAD, House, house, new
from tests.dayrecord import archived, played
from tests.servers import Mosquitto, free_port
from tests.tap import Tap, until, until_now

NB_SH = PoolName.NB_SH
ORDERS = "connect/NB-SH/orders/gw"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "capture"


@pytest.fixture
def home(tmp_path: Path, folder: Path) -> Iterator[House]:
    with house(tmp_path, toml=f'[capture]\nfolder = "{folder}"\n') as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        yield home


def fill(order_id: str) -> dict[str, Any]:
    said = {"event": "fill", "order_id": order_id, "exec_id": f"{order_id}-1", "side": "buy"}
    return said | {"price": "10.00", "quantity": 50}


def journal(home: House) -> list[Entry]:
    """The journal of the pool, as the store has it."""
    stored: Any = home.redis.xrange(keys(NB_SH)[5])
    return [Entry.read(entry_id, fields) for entry_id, fields in stored]


def recorded(folder: Path) -> list[Entry]:
    found = (record for _, record in records(files_of(folder)))
    return [record.entry for record in found if isinstance(record, Journalled) and record.pool is NB_SH]


def trade(home: House, folder: Path) -> None:
    """Trade a little by all ways, and end the daemon once it is written down."""
    with Tap(home.broker.port) as tap:
        for number in range(60):
            tap.say(ORDERS, new(str(number)))
            tap.say("connect/NB-SH/fills/ex", fill(str(number)))
            home.redis.fcall("quota_reserve", 6, *keys(NB_SH), f"r{number}", "buy", "10.00", "100", "gw2")
        tap.say(ORDERS, b"no JSON")
        until_now(lambda: home.seq() == 180)
    assert home.quotad.does("halt", "NB-SH", "--reason", "drill").returncode == 0
    until_now(lambda: len(recorded(folder)) == 181)
    home.quotad.ask_to_end()
    assert home.quotad.code() == 0


def test_the_days_report_and_a_store_that_was_emptied_agree_with_what_was_there(
    home: House, folder: Path
) -> None:
    trade(home, folder)
    before = journal(home)
    files = [str(path) for path in files_of(folder)]
    assert home.quotad.does("report", DAY).returncode == 0
    report = json.loads((folder / f"{DAY}_{home.quotad.name}.report.json").read_bytes())
    hashed = hashlib.sha256(b"".join(msgspec.json.encode(entry) + b"\n" for entry in before)).hexdigest()
    (pool,) = (it for it in report["pools"] if it["pool"] == NB_SH)
    assert (pool["journal_sha256"], pool["entries"], pool["dead"]["another_day"]) == (hashed, 181, 0)
    assert list(pool["dead"]["undecodable"].values()) == [1]
    checked = home.quotad.does("replay", "--dry-run", *files)
    assert (checked.returncode, checked.stdout.count("as it was")) == (0, 4)
    refused = home.quotad.does("replay", *files)
    assert (refused.returncode, "a day goes into an empty one only" in refused.stderr) == (1, True)
    home.redis.flushall()
    restored = home.quotad.does("replay", *files)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert journal(home) == before
    verified = home.quotad.does("verify")
    assert (verified.returncode, "181 entries" in verified.stdout) == (0, True)


async def test_a_rehearsal_keeps_the_order_and_waits_for_what_is_not_due(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000]
    monkeypatch.setattr(MarketClock, "local_ms", staticmethod(lambda: now[0]))
    said = [delivered(number, str(number).encode()) for number in range(-50, 100)]
    mark = Delivered(time_ms=0, topic="connect/daemon/quotad/mark", payload=b"m")
    with Tap(broker.port) as tap:
        clock = MarketClock()
        url = f"mqtt://127.0.0.1:{broker.port}"
        player = Player(url, "connect", clock, [mark, *said], clock.at_ms, lambda: True)
        playing = asyncio.create_task(player.run())
        await until(lambda: len(tap.heard) == 51)
        now[0] = 1_050
        await until(lambda: len(tap.heard) == 101)
        now[0] = 10_000
        assert await playing == 150
        await until(lambda: len(tap.heard) == 150)
        assert tap.heard == [(it.topic, it.payload) for it in said]


async def test_a_rehearsal_without_a_broker_says_so() -> None:
    clock = MarketClock()
    player = Player(f"mqtt://127.0.0.1:{free_port()}", "connect", clock, [], clock.at_ms, lambda: True)
    with pytest.raises(FeedUnavailable, match="the rehearsal has lost its broker"):
        await player.run()


def test_a_day_is_rehearsed_by_servers_of_our_own_and_leaves_the_record_alone(tmp_path: Path) -> None:
    day = asyncio.run(played(seed=3, events=200))
    asyncio.run(archived(tmp_path, day.records))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    told = subprocess.run(
        [QUOTAD, "replay", *map(str, files_of(tmp_path)), "--at", f"{DAY}T15:00:00+08:00", "--speed", "3000"],
        env=environment() | {"QUOTA_CAPTURE__FOLDER": str(tmp_path), "QUOTA_MARKET__HKD_CNY": "0.5"},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert (told.returncode, told.stdout.count("journal and records agree")) == (0, 4)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    orders = {
        order_id for order_id, order in day.ledger.books[NB_SH].orders.items() if not order_id.startswith("g")
    }
    assert f"NB-SH {DAY}: " in told.stdout
    assert f", {len(orders)} orders: journal" in told.stdout


def environment() -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("QUOTA_")}
    return kept | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}

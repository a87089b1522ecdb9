"""The record of the day in files: what was kept is there, in order, whatever happened meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from feeds.capture_reading import Place, files_of, records
from quota.captured import Captured
from quota.errors import ConfigError
from tests.captures import (
    DAY,
    POOL,
    capturing,
    changed,
    delivered,
    journalled,
    kept,
    only,
    opened,
    read,
)
from tests.rigs import until

EVERYTHING: list[Captured] = [
    delivered(1),
    opened(),
    journalled(1),
    changed(1),
    delivered(2, b"\xff\x00 no UTF-8"),
    delivered(3, b""),
]


async def test_what_was_kept_is_read_back_in_its_order(tmp_path: Path) -> None:
    await kept(tmp_path, EVERYTHING[:2], EVERYTHING[2:])
    assert read(tmp_path) == EVERYTHING


async def test_a_restart_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for number in range(3):
        await kept(tmp_path, [delivered(number)])
    assert [place.number for place, _ in records([only(tmp_path)])] == [1, 2, 3]


def test_any_tool_can_read_it_and_payloads_are_legible_where_they_are_text(tmp_path: Path) -> None:
    asyncio.run(kept(tmp_path, [delivered(1, "沪股通".encode())], [delivered(2, b"\xff\x00")]))
    text = subprocess.run(["zstdcat", only(tmp_path)], capture_output=True, check=True).stdout.decode()
    head, first, second = (json.loads(line)["kept"] for line in text.splitlines())
    assert (head["record"], head["day"], head["part"]) == ("head", DAY, 1)
    assert first == {
        "record": "delivery",
        "time_ms": 1_001,
        "topic": "connect/NB-SH/orders/gw",
        "payload": "沪股通",
    }
    assert second["payload_base64"] == "/wA="


async def test_another_day_and_a_full_file_begin_another_one_and_names_sort(tmp_path: Path) -> None:
    await kept(tmp_path, [delivered(1)], [delivered(2)], rotate_bytes=1)
    await kept(tmp_path, [delivered(3)], day="2026-11-24")
    assert [path.name for path in files_of(tmp_path)] == [
        "2026-11-23_quotad_000001.jsonl.zst",
        "2026-11-23_quotad_000002.jsonl.zst",
        "2026-11-24_quotad_000001.jsonl.zst",
    ]
    assert read(tmp_path) == [delivered(number) for number in (1, 2, 3)]
    assert read(tmp_path, day="2026-11-24") == [delivered(3)]


async def test_who_comes_while_a_write_is_under_way_shares_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    gate, fsync = threading.Event(), os.fsync
    async with capturing(tmp_path, wrote=sizes) as capture:
        await capture.keep([delivered(0)])
        monkeypatch.setattr("os.fsync", lambda file: (gate.wait(10), fsync(file)))
        first = asyncio.create_task(capture.keep([delivered(1)]))
        await until(lambda: capture._since is not None)
        others = [asyncio.create_task(capture.keep([delivered(number)])) for number in range(2, 50)]
        await asyncio.sleep(0)
        assert not any(one.done() for one in (first, *others))
        gate.set()
        await asyncio.gather(first, *others)
    assert len(sizes) == 3
    assert read(tmp_path) == [delivered(number) for number in range(50)]


async def test_it_is_on_the_disk_before_anybody_is_told_and_so_is_the_name_of_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = list[str](), os.fsync

    def seen(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", seen)
    async with capturing(tmp_path) as capture:
        await capture.keep([delivered(1)])
        assert synced == [tmp_path.name, only(tmp_path).name]
        await capture.keep([delivered(2)])
        assert synced[2:] == [only(tmp_path).name]


async def test_who_gives_up_waiting_holds_up_nobody(tmp_path: Path) -> None:
    async with capturing(tmp_path) as capture:
        leaving = asyncio.create_task(capture.keep([delivered(1)]))
        staying = asyncio.create_task(capture.keep([delivered(2)]))
        await asyncio.sleep(0)
        leaving.cancel()
        await staying
    assert read(tmp_path)[-1] == delivered(2)


async def test_a_second_daemon_of_our_name_is_told_who_writes_already(tmp_path: Path) -> None:
    async with capturing(tmp_path):
        with pytest.raises(ConfigError, match=rf"process {os.getpid()} writes to .* as 'quotad' already"):
            async with capturing(tmp_path):
                pass
    async with capturing(tmp_path):
        pass


async def test_two_daemons_share_a_folder_each_with_files_of_its_own(tmp_path: Path) -> None:
    async with capturing(tmp_path) as one, capturing(tmp_path, client_id="quotad-2") as other:
        await asyncio.gather(one.keep([delivered(1)]), other.keep([delivered(2)]))
    assert read(tmp_path, client_id="quotad") == [delivered(1)]
    assert read(tmp_path, client_id="quotad-2") == [delivered(2)]
    assert read(tmp_path) == [delivered(1), delivered(2)]


@pytest.mark.parametrize("place", ["", "file/below"])
async def test_a_folder_that_cannot_be_is_the_operators_mistake(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / place if place else tmp_path / "file"
    with pytest.raises(ConfigError, match=r"capture\.folder: .*"):
        async with capturing(folder):
            pass


async def test_old_days_go_when_another_begins_and_nothing_else_does(tmp_path: Path) -> None:
    foreign = [
        tmp_path / name for name in ("2026-11-01_quotad_000001.jsonl", "notes", "2026-11-01.jsonl.zst")
    ]
    for path in foreign:
        path.write_text("somebody else's")
    await kept(tmp_path, [delivered(0)], day="2026-11-16", client_id="other")
    for day in (16, 17, 18, 19, 20):
        await kept(tmp_path, [delivered(day)], day=f"2026-11-{day}", keep_days=2)
    assert [path.name[:17] for path in files_of(tmp_path)] == [
        "2026-11-16_other_",
        "2026-11-18_quotad",
        "2026-11-19_quotad",
        "2026-11-20_quotad",
    ]
    assert all(path.exists() for path in foreign)
    assert read(tmp_path, client_id="quotad") == [delivered(day) for day in (18, 19, 20)]


async def test_it_knows_how_far_each_pool_was_written_down(tmp_path: Path) -> None:
    await kept(tmp_path, [opened()], [journalled(1), journalled(2)], [changed(7)])
    await kept(tmp_path, *([delivered(number)] for number in range(20)), rotate_bytes=600)
    assert len(files_of(tmp_path)) > 1
    async with capturing(tmp_path) as capture:
        at = (await capture.reached())[POOL]
    assert (at.trading_day, at.seq, at.change) == (DAY, 2, "7-0")
    assert at.entry
    assert at.terms


async def test_places_name_the_file_and_the_record(tmp_path: Path) -> None:
    await kept(tmp_path, [delivered(1)], [delivered(2)])
    assert [place for place, _ in records([only(tmp_path)])] == [
        Place("2026-11-23_quotad_000001.jsonl.zst", 1),
        Place("2026-11-23_quotad_000001.jsonl.zst", 2),
    ]

"""When the report of a day is written: by itself after the close, again with what came later, on demand."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from feeds.archive import Archive
from feeds.capture_reading import files_of
from quota.cli import app
from quota.desk.reporting import DayEnd
from tests.captures import become, content, delivered, journalled, kept, opened
from tests.rigs import Rig, rig

DAY, NEXT = "2026-11-23", "2026-11-24"
REPORT = f"{DAY}_quotad.report.json"


class Site:
    """A rig whose day ends, and who writes its report."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.folder, self.is_behind = rig, folder, False
        self.day_end = self.begun()

    def begun(self) -> DayEnd:
        archive = Archive(self.folder, "quotad", "connect")
        return DayEnd(self.rig.days, lambda: archive, self.folder, "1", lambda: self.is_behind)

    async def look(self, at: str) -> list[str]:
        """Look at a time; which days were written."""
        self.rig.at(at)
        for pool in self.rig.days.pools:
            await self.rig.days.look(pool)
        with capture_logs() as logs:
            await self.day_end.look()
        return [log["trading_day"] for log in logs if log["event"] == "report.written"]

    async def open(self, at: str) -> None:
        self.rig.at(at)
        await self.rig.days.begin()
        for pool in self.rig.days.pools:
            if (day := self.rig.days.due(pool)) is not None:
                await self.rig.days.open_due(pool, day)


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    site = Site(rig(monkeypatch), tmp_path)
    await kept(tmp_path, [opened(), journalled(1)])
    await site.open(f"{DAY}T08:00:00+08:00")
    return site


async def test_it_is_written_once_after_all_pools_have_closed(site: Site) -> None:
    assert await site.look(f"{DAY}T09:00:00+08:00") == []
    assert await site.look(f"{DAY}T12:00:00+08:00") == []
    assert await site.look(f"{DAY}T15:30:00+08:00") == []  # southbound is open until 16:10
    assert await site.look(f"{DAY}T16:11:00+08:00") == []
    assert await site.look(f"{DAY}T16:13:00+08:00") == [DAY]
    assert await site.look(f"{DAY}T16:14:00+08:00") == []
    assert (site.folder / REPORT).stat().st_mode & 0o7 == 0


async def test_it_waits_for_the_journals_but_not_for_ever(site: Site) -> None:
    site.is_behind = True
    assert await site.look(f"{DAY}T16:15:00+08:00") == []
    assert await site.look(f"{DAY}T16:21:00+08:00") == [DAY]


async def test_at_the_next_opening_it_is_written_again_with_what_came_later(site: Site) -> None:
    assert await site.look(f"{DAY}T17:00:00+08:00") == [DAY]
    before = content(site.folder / REPORT)
    await kept(site.folder, [journalled(2)])
    await site.open(f"{NEXT}T00:00:10+08:00")
    assert await site.look(f"{NEXT}T00:00:11+08:00") == [DAY]
    assert b'"entries": 2' in content(site.folder / REPORT)
    assert b'"entries": 1' in before


async def test_a_daemon_that_was_away_writes_what_is_missing_or_old(site: Site) -> None:
    await site.open(f"{NEXT}T08:00:00+08:00")
    assert await site.look(f"{NEXT}T08:00:01+08:00") == [DAY]
    site.day_end = site.begun()
    assert await site.look(f"{NEXT}T08:00:02+08:00") == []
    (capture,) = files_of(site.folder)
    written = (site.folder / REPORT).stat().st_mtime
    os.utime(capture, (written + 1, written + 1))
    site.day_end = site.begun()
    assert await site.look(f"{NEXT}T08:00:03+08:00") == [DAY]


async def test_nothing_is_written_while_a_pool_trades(site: Site) -> None:
    await site.open(f"{NEXT}T10:00:00+08:00")
    assert await site.look(f"{NEXT}T10:00:01+08:00") == []


async def test_what_fails_is_told_once_and_ends_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def full(*_: object) -> None:
        looks.append("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("quota.desk.reporting._put", full)
    monkeypatch.setattr("quota.desk.reporting.LOOK_S", 0.001)
    await site.look(f"{DAY}T16:11:00+08:00")
    site.rig.at(f"{DAY}T17:00:00+08:00")
    for pool in site.rig.days.pools:
        await site.rig.days.look(pool)
    with capture_logs() as logs:
        running = asyncio.create_task(site.day_end.run())
        while len(looks) < 3 and not running.done():  # noqa: ASYNC110 - nobody tells when it has looked
            await asyncio.sleep(0.001)
        assert not running.done()
        running.cancel()
        await asyncio.wait({running})
    assert [log["event"] for log in logs] == ["report.failed"]
    assert "No space left on device" in logs[0]["reason"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("QUOTA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("QUOTA_CAPTURE__FOLDER", str(tmp_path / "record"))
    asyncio.run(kept(tmp_path / "record", [opened(), journalled(1), delivered(1)], client_id="one"))
    return tmp_path / "record"


def does(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_says_where_it_has_written(folder: Path, tmp_path: Path) -> None:
    told = does("report", DAY)
    assert (told.exit_code, told.output.splitlines()) == (
        0,
        [f"{folder / DAY}_one.report.html", f"{folder / DAY}_one.report.json"],
    )
    told = does("report", DAY, "--capture", folder, "--out", tmp_path)
    assert told.exit_code == 0
    assert (tmp_path / f"{DAY}_one.report.html").exists()


def test_the_command_exits_1_where_the_record_is_damaged(folder: Path) -> None:
    (path,) = files_of(folder)
    spoilt = bytearray(content(path))
    spoilt[60] ^= 1
    become(path, spoilt)
    told = does("report", DAY)
    assert told.exit_code == 1
    assert f"the record is damaged: {path.name}: record 0" in told.output


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("report", "monday"), 2, "must be a date like 2026-11-23"),
        (("report", "2026-02-30"), 2, "must be a date like 2026-11-23"),
        (("report", "2026-11-20"), 1, f"no record of 2026-11-20 by one; of these days there is: {DAY}"),
        (("report", DAY, "--out", "/nowhere/at/all"), 1, "/nowhere/at/all: No such file or directory"),
        (("report", DAY, "--capture", "/nowhere/at/all"), 1, "/nowhere/at/all: No such file or directory"),
    ],
)
def test_the_command_says_what_is_wrong(folder: Path, words: tuple[str, ...], code: int, text: str) -> None:
    assert folder.is_dir()
    told = does(*words)
    assert told.exit_code == code
    assert text in " ".join(told.output.split())


def test_of_two_daemons_records_ours_is_taken_and_strangers_are_named(folder: Path) -> None:
    asyncio.run(kept(folder, [opened()], client_id="two"))
    assert "has records of one, two, none of quotad" in does("report", DAY).output
    asyncio.run(kept(folder, [opened()], client_id="quotad"))
    assert does("report", DAY).output.count("_quotad.report") == 2

"""Whose a delivery is: of the day that was open when it came, in whichever file it stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from feeds.archive import Archive
from quota.captured import Captured, Delivered, Opened
from quota.daemon import Daemon
from quota.decision import PoolName
from quota.desk.reporting import report_of
from quota.pool import Pool
from quota.proof.open_days import OpenDays
from quota.proof.replay import Days
from quota.proof.report import PoolDay, Report
from tests.captures import POOL, Notebook, journalled, kept
from tests.rigs import ms, rig, running, until
from tests.test_daemon import new

FRIDAY, SATURDAY, SUNDAY, MONDAY, TUESDAY = (f"2026-11-{day}" for day in (20, 21, 22, 23, 24))


def opened(day: str, pool: PoolName = POOL) -> Opened:
    terms = Pool(trading_day=day, limit_fen=1_000_000, rate="1.00000", schedule="1 continuous")
    return Opened(time_ms=ms(f"{day}T00:00:20"), pool=pool, terms=terms)


def dated(day: str) -> str:
    return new("1", extra=f',"time":"{day}T10:00:00+08:00"')


def came(at: str, payload: str = "x") -> Delivered:
    return Delivered(time_ms=ms(at), topic=f"connect/{POOL}/orders", payload=payload.encode())


async def reports(folder: Path, files: dict[str, Sequence[Captured]]) -> dict[str, Report]:
    """Keep a file for each day of the clock; returns the reports."""
    for day, records in files.items():
        await kept(folder, records, day=day)
    archive = Archive(folder, "quotad", "connect")
    return {day: report_of(archive, day, "1", stopped=lambda: False) for day in files}


def pool_of(report: Report) -> PoolDay | None:
    return next((it for it in report.pools if it.pool is POOL), None)


def dead(report: Report) -> tuple[int, int]:
    """Count events of another day, and what could not be read."""
    day = pool_of(report)
    return (day.dead.another_day, sum(day.dead.undecodable.values())) if day else (0, 0)


async def test_the_reports_of_two_days_have_each_dead_letter_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, book = rig(monkeypatch, f"{MONDAY}T15:00"), Notebook()
    here.daemon = Daemon(here.desk, here.store, here.days, here.metrics, book)

    async def bring(*payloads: str) -> None:
        for payload in payloads:
            acknowledged = len(here.desk.acknowledged)
            here.desk.bring(here.desk.orders(payload, POOL))
            await until(lambda: len(here.desk.acknowledged) > acknowledged)  # noqa: B023 - awaited at once

    async with running(here):
        book.records.append(opened(MONDAY))
        await bring("x", dated(TUESDAY))
        monday, book.records = book.records, []
        here.at(f"{TUESDAY}T00:00:10")
        await bring("x", dated(MONDAY), dated(FRIDAY))
        assert here.day(POOL) == MONDAY
        await bring(dated(TUESDAY))
        assert here.day(POOL) == TUESDAY
        book.records.append(opened(TUESDAY))
        await bring("x", "x", dated(MONDAY))
    told = await reports(tmp_path, {MONDAY: monday, TUESDAY: book.records})
    assert {day: dead(report) for day, report in told.items()} == {MONDAY: (2, 2), TUESDAY: (1, 2)}
    assert len(here.desk.reasons()) == 7
    assert [report.delivered.messages for report in told.values()] == [2, 7]


async def test_what_came_over_a_weekend_is_of_the_friday(tmp_path: Path) -> None:
    files: dict[str, Sequence[Captured]] = {
        FRIDAY: [opened(FRIDAY), came(f"{FRIDAY}T15:00")],
        SATURDAY: [came(f"{SATURDAY}T15:00"), came(f"{SATURDAY}T15:00", dated(SATURDAY))],
        SUNDAY: [came(f"{SUNDAY}T15:00")],
        MONDAY: [opened(MONDAY), came(f"{MONDAY}T15:00")],
        TUESDAY: [opened(TUESDAY), came(f"{TUESDAY}T15:00")],
    }
    told = await reports(tmp_path, files)
    assert [dead(report) for report in told.values()] == [(1, 3), (0, 0), (0, 0), (0, 1), (0, 1)]
    assert [name[:10] for name in told[FRIDAY].read_too] == [SATURDAY, SUNDAY, MONDAY]


async def test_a_pool_that_is_served_no_more_has_no_later_file_read(tmp_path: Path) -> None:
    files: dict[str, Sequence[Captured]] = {
        FRIDAY: [opened(FRIDAY), opened(FRIDAY, PoolName.SB_SH)],
        MONDAY: [opened(MONDAY)],
        TUESDAY: [opened(TUESDAY)],
    }
    told = await reports(tmp_path, files)
    assert [name[:10] for name in told[FRIDAY].read_too] == [MONDAY]


async def test_before_the_first_terms_of_all_what_comes_is_of_the_first_day(tmp_path: Path) -> None:
    told = await reports(tmp_path, {MONDAY: [came(f"{MONDAY}T08:59"), opened(MONDAY)]})
    assert dead(told[MONDAY]) == (0, 1)


async def test_what_is_of_no_pool_is_counted_with_the_messages_of_its_file(tmp_path: Path) -> None:
    stray = Delivered(time_ms=ms(f"{TUESDAY}T00:00:05"), topic="connect/NB-HK/orders", payload=b"{}")
    told = await reports(tmp_path, {MONDAY: [opened(MONDAY)], TUESDAY: [stray, opened(TUESDAY)]})
    assert [sum(it.delivered.dead.undecodable.values()) for it in told.values()] == [0, 1]


def test_where_the_terms_stand_in_another_file_the_first_entry_tells() -> None:
    days = OpenDays()
    for seq, day, open_day in ((8, MONDAY, MONDAY), (1, TUESDAY, TUESDAY), (9, MONDAY, TUESDAY)):
        days.take(replace(journalled(seq), trading_day=day))
        assert days.of(POOL) == open_day


async def test_replay_and_report_go_by_the_same_day(tmp_path: Path) -> None:
    late = came(f"{TUESDAY}T00:00:05", dated(MONDAY))
    told = await reports(tmp_path, {MONDAY: [opened(MONDAY)], TUESDAY: [late, opened(TUESDAY)]})
    assert {dead(report) for report in told.values()} == {(0, 0)}
    archive = Archive(tmp_path, "quotad", "connect")
    days = Days(archive.decoded)
    for record in archive.records([*archive.paths(MONDAY), *archive.paths(TUESDAY)]):
        days.take(record)
    assert [len(days.of(day)[POOL].delivered) for day in (MONDAY, TUESDAY)] == [1, 0]

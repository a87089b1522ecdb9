"""The report of a day: its figures are those of the ledger, its hashes anybody's, its page harmless."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feeds.archive import Archive
from quota.captured import Captured, Changed, Delivered, Journalled, Opened
from quota.decision import Outcome, PoolName, Side, Verdict, Violation
from quota.desk.reporting import report_of, write
from quota.page.printed import page
from quota.proof.report import Report
from quota.rules import ANOTHER_DAY, REASONS
from tests.captures import become, content, only
from tests.dayrecord import ACTS, DAY, LIMIT_FEN, Played, archived, played

NB_SH = PoolName.NB_SH


@pytest.fixture(scope="module")
def day() -> Played:
    return asyncio.run(played())


def made(archive: Archive) -> Report:
    return report_of(archive, DAY, "1", stopped=lambda: False)


async def of(folder: Path, records: list[Captured]) -> Report:
    return made(await archived(folder, records))


async def test_its_figures_are_those_of_the_ledger(day: Played, tmp_path: Path) -> None:
    report = await of(tmp_path, day.records)
    assert [it.pool for it in report.pools] == list(PoolName)
    for it in report.pools:
        pool, book = day.pool(it.pool), day.ledger.books[it.pool]
        counted = {(side, verdict): n for side, by in it.decisions.items() for verdict, n in by.items()}
        assert counted == pool.decided
        assert it.violations == pool.violated
        assert (it.entries, it.missing, it.accounts) == (pool.seq, 0, 1)
        assert it.last is not None
        assert (it.last.balance_fen, it.limit_fen) == (pool.balance_fen, pool.limit_fen)
        assert it.lowest is not None
        assert it.lowest.balance_fen == min(entry.balance_fen for entry in book.journal)
        assert it.peak is not None
        assert it.peak.entries == max(Counter(entry.time_ms // 1000 for entry in book.journal).values())
        assert [turn.now for turn in it.turns] == [change.now for change in book.changes]
        assert [(deed.act, deed.user) for deed in it.deeds] == [(act.act, act.user) for act in ACTS]
        ours = Counter(entry.event.split(" ")[0] for entry in book.journal if entry.verdict is None)
        assert it.facts == {
            name: count for name, count in ours.items() if name not in {"halt", "resume", "limit"}
        }
    refused = {verdict for it in report.pools for verdict in it.decisions[Side.BUY]}
    assert {Verdict.ACCEPTED, Verdict.HALTED, Verdict.CLOSED, Verdict.EXHAUSTED} <= refused


async def test_events_that_could_not_be_applied_are_counted_by_their_reasons(
    day: Played, tmp_path: Path
) -> None:
    report = await of(tmp_path, day.records)
    counted = Counter({ANOTHER_DAY: sum(it.dead.another_day for it in report.pools)})
    for it in report.pools:
        counted.update(it.dead.inapplicable)
    assert counted == Counter(it.reason for it in day.decisions if it.outcome is Outcome.DEAD)
    assert counted.keys() == {ANOTHER_DAY, *REASONS.values()}
    assert sum(it.dead.events for it in report.pools) == counted.total() + 1  # and one is no JSON


async def test_a_reservation_that_could_not_end_is_no_dead_letter(day: Played, tmp_path: Path) -> None:
    """Nobody delivered it: its hold lapsed where a total would have passed the bound."""
    last = day.entries(NB_SH)[-1]
    lapsed = msgspec.structs.replace(
        last.entry, seq=last.entry.seq + 1, event="lapsed 1", violations=(Violation.OUT_OF_RANGE,)
    )
    pool = (await of(tmp_path, [*day.records, msgspec.structs.replace(last, entry=lapsed)])).pools[0]
    assert pool.violations[Violation.OUT_OF_RANGE] == 1
    assert REASONS[Violation.OUT_OF_RANGE] not in pool.dead.inapplicable


async def test_it_says_the_terms_and_the_phases_as_they_were_due(day: Played, tmp_path: Path) -> None:
    terms = (await of(tmp_path, day.records)).pools[0].terms
    assert terms is not None
    assert (terms.limit_fen, terms.opened_at[:19]) == (LIMIT_FEN, f"{DAY}T09:00:00")
    assert [it.at[11:19] for it in terms.phases][:2] == ["09:10:00", "09:30:00"]


async def test_what_could_not_be_decoded_is_a_dead_letter(day: Played, tmp_path: Path) -> None:
    report = await of(tmp_path, day.records)
    assert report.pools[0].dead.undecodable == {"payload: is not JSON (invalid character (byte 4))": 1}
    assert report.delivered.dead.undecodable == {"topic: 'NB-HK' is no pool": 1}
    assert report.delivered.messages == sum(isinstance(it, Delivered) for it in day.records)


async def test_its_hashes_are_what_anybody_gets(day: Played, tmp_path: Path) -> None:
    report = await of(tmp_path, day.records)
    for it in report.pools:
        lines = [msgspec.json.encode(entry) + b"\n" for entry in day.ledger.books[it.pool].journal]
        assert it.journal_sha256 == hashlib.sha256(b"".join(lines)).hexdigest()
    ((name, size, sha256),) = [(it.name, it.bytes, it.sha256) for it in report.files]
    assert (name, size) == (only(tmp_path).name, len(content(only(tmp_path))))
    assert sha256 == hashlib.sha256(content(only(tmp_path))).hexdigest()


async def test_what_stands_twice_counts_once(day: Played, tmp_path: Path) -> None:
    entry, change = day.entries(NB_SH)[50], next(it for it in day.records if isinstance(it, Changed))
    once = await of(tmp_path / "once", day.records)
    twice = await of(tmp_path / "twice", [*day.records, entry, change])
    assert twice.pools == once.pools


async def test_where_the_store_lost_entries_the_last_account_counts(day: Played, tmp_path: Path) -> None:
    opened = next(it for it in day.records if isinstance(it, Opened) and it.pool is NB_SH)
    later = day.entries(NB_SH)[:20]
    report = await of(tmp_path, [*day.records, opened, *later])
    assert (report.pools[0].accounts, report.pools[0].entries) == (2, 20)
    assert "The store lost entries" in page(report)


async def test_terms_that_change_before_the_first_event_are_no_other_account(
    day: Played, tmp_path: Path
) -> None:
    place = day.records.index(day.entries(NB_SH)[0]) + 1
    opened = next(it for it in day.records if isinstance(it, Opened) and it.pool is NB_SH)
    report = await of(tmp_path, [*day.records[:place], opened, *day.records[place:]])
    assert (report.pools[0].accounts, report.pools[0].entries) == (1, day.pool(NB_SH).seq)


async def test_missing_entries_are_counted_and_said(day: Played, tmp_path: Path) -> None:
    gone = {it.entry.seq for it in day.entries(NB_SH)[9:15]}
    lacking = day.without(lambda it: isinstance(it, Journalled) and it.pool is NB_SH and it.entry.seq in gone)
    pool = (await of(tmp_path, lacking)).pools[0]
    assert pool.missing == 6
    assert [(it.first, it.last) for it in pool.first_missing] == [(10, 15)]


async def test_the_rest_of_a_day_is_found_in_the_files_of_the_next(day: Played, tmp_path: Path) -> None:
    cut = len(day.records) - 40
    await archived(tmp_path, day.records[:cut])
    opened = next(it for it in day.records if isinstance(it, Opened))
    later = msgspec.structs.replace(opened.terms, trading_day="2026-11-24")
    tomorrow = [Opened(time_ms=1, pool=pool, terms=later) for pool in PoolName]
    archive = await archived(tmp_path, [*day.records[cut:], *tomorrow], day="2026-11-24")
    report = made(archive)
    assert [it.entries for it in report.pools] == [day.pool(pool).seq for pool in PoolName]
    assert (len(report.files), len(report.read_too)) == (1, 1)


async def test_a_damaged_file_is_named_and_the_rest_counts(day: Played, tmp_path: Path) -> None:
    archive = await archived(tmp_path, day.records)
    spoilt = bytearray(content(only(tmp_path)))
    spoilt[len(spoilt) // 2] ^= 1
    become(only(tmp_path), spoilt)
    report = made(archive)
    assert len(report.flaws) == 1
    assert report.flaws[0].startswith(only(tmp_path).name)
    assert report.flaws[0] in page(report)
    assert sum(it.entries for it in report.pools) > 0


HOSTILE = '<script>alert(1)</script><img src="http://evil.example/">\u202e&amp;'


async def test_nothing_that_somebody_wrote_is_more_than_text(day: Played, tmp_path: Path) -> None:
    change = next(it for it in day.records if isinstance(it, Changed) and it.pool is NB_SH)
    turned = msgspec.structs.replace(
        change.change, id="9999999999999-0", reason=HOSTILE, was=HOSTILE, now=HOSTILE
    )
    act = next(it for it in day.entries(NB_SH) if it.entry.is_act).entry
    wild = msgspec.structs.replace(
        act, seq=day.pool(NB_SH).seq + 1, user=HOSTILE, host=HOSTILE, reason=HOSTILE, event="halt"
    )
    more: list[Captured] = [
        msgspec.structs.replace(change, change=turned),
        Journalled(pool=NB_SH, trading_day=DAY, entry=wild),
        Delivered(time_ms=1, topic=f"connect/{HOSTILE}", payload=b""),
    ]
    text = page(await of(tmp_path, [*day.records, *more]))
    assert HOSTILE not in text
    assert text.count("&lt;script&gt;") >= 5
    assert not re.search(r"<(script|img|link|iframe|object)", text)
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text


async def test_the_page_asks_nobody_for_anything_and_says_what_matters(day: Played, tmp_path: Path) -> None:
    report = await of(tmp_path, day.records)
    text = page(report)
    assert not re.search(r"(src=|href|url\(|@import|https?:)", text)
    assert "@page { size: A4" in text
    for it in report.pools:
        assert it.last is not None
        assert f"{it.last.balance_fen / 100:,.2f}" in text
        assert it.journal_sha256 in text
    assert report.files[0].sha256 in text
    assert "drill over" in text


def test_it_is_written_whole_and_reads_back(day: Played, tmp_path: Path) -> None:
    report = asyncio.run(of(tmp_path / "record", day.records))
    paths = write(report, tmp_path)
    assert sorted(path.name for path in paths) == [f"{DAY}_quotad.report.html", f"{DAY}_quotad.report.json"]
    read: dict[str, Any] = json.loads(next(path for path in paths if path.suffix == ".json").read_bytes())
    assert read["pools"][0]["journal_sha256"] == report.pools[0].journal_sha256
    assert {path.name for path in tmp_path.iterdir()} == {"record", *(path.name for path in paths)}

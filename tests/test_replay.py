"""A day comes back from its record: the same balances, verdicts and numbers, or a word on what is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from feeds.archive import Archive
from quota.captured import Captured, Delivered, Journalled, Opened
from quota.config import Settings, load
from quota.decision import PoolName
from quota.desk.replaying import dry_run, restore
from quota.errors import ConfigError
from quota.journal import Entry
from quota.ledger import RedisLedger
from quota.proof.replay import Told, compared, planned
from quota.proof.verify import verify
from tests.captures import become, content, only
from tests.dayrecord import DAY, Played, archived, played
from tests.servers import Store

NB_SH = PoolName.NB_SH


@pytest.fixture(scope="module")
def day() -> Played:
    return asyncio.run(played(seed=2, events=800))


async def checked(
    folder: Path, records: Sequence[Captured], capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    """The code of a dry run over these records, and its lines."""
    archive = await archived(folder, records)
    code = await dry_run(archive, archive.paths(DAY), "")
    return code, capsys.readouterr().out.splitlines()


def told(lines: Sequence[str]) -> list[str]:
    """What was said below the line of a pool."""
    return [line.strip() for line in lines if line.startswith("  ")]


def altered(day: Played, seq: int, **fields: object) -> list[Captured]:
    """The record with another entry in the place of one of NB-SH's."""
    records = list(day.records)
    place = records.index(day.entries(NB_SH)[seq - 1])
    entry = msgspec.structs.replace(day.entries(NB_SH)[seq - 1].entry, **fields)
    records[place] = Journalled(pool=NB_SH, trading_day=DAY, entry=entry)
    return records


def lacking(day: Played, first: int, last: int) -> list[Captured]:
    """The record without some entries of NB-SH."""
    return day.without(
        lambda it: isinstance(it, Journalled) and it.pool is NB_SH and first <= it.entry.seq <= last
    )


async def test_a_whole_record_gives_the_day_as_it_was(
    day: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = await checked(tmp_path, day.records, capsys)
    assert [line.rpartition(": ")[2] for line in lines] == ["as it was"] * 4
    for pool, line in zip(PoolName, lines, strict=True):
        assert line.startswith(f"{pool} {DAY}: {day.pool(pool).seq} entries put back")
    assert code == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"balance_fen": 1}, "balance_fen: is"), ({"verdict": "halted"}, "halted without a halt")],
    ids=["balance", "verdict"],
)
async def test_an_entry_that_does_not_follow_is_named(
    day: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, object], said: str
) -> None:
    seq = next(
        it.entry.seq
        for it in day.entries(NB_SH)
        if it.entry.verdict == "accepted" and " buy " in it.entry.event
    )
    code, lines = await checked(tmp_path, altered(day, seq, **fields), capsys)
    assert code == 1
    assert any(line.startswith(f"seq {seq}: ") and said in line for line in told(lines))
    assert sum(line.endswith("as it was") for line in lines) == 3


async def test_where_entries_are_missing_deliveries_stand_in_and_what_is_unknown_is_listed(
    day: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = [it.entry for it in day.entries(NB_SH)[19:60]]
    code, lines = await checked(tmp_path, lacking(day, 20, 60), capsys)
    assert code == 1
    said = told(lines)
    assert said[0] == "entries 20 to 60 are missing: what they said cannot be known"
    orders = {line.split(" ")[1].rstrip(":") for line in said if line.startswith("order ")}
    known = {delivered.split(" ")[1] for delivered in delivered_news(day)}
    assert orders == {entry.event.split(" ")[1] for entry in gone if entry.event.startswith("new ")} & known
    assert orders
    facts = [
        line for line in said if line.endswith("its seq cannot be known") and not line.startswith("order")
    ]
    assert facts


def delivered_news(day: Played) -> set[str]:
    return {
        f"new {event['order_id']}"
        for record in day.records
        if isinstance(record, Delivered) and record.topic == f"connect/{NB_SH}/orders"
        for event in payload(record)
        if event["event"] == "new"
    }


def payload(record: Delivered) -> list[dict[str, str]]:
    try:
        said = msgspec.json.decode(record.payload)
    except msgspec.DecodeError:
        return []
    return said if isinstance(said, list) else [said]


async def test_of_a_lost_end_the_deliveries_are_applied_behind_the_last_entry(
    day: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = day.pool(NB_SH).seq
    code, lines = await checked(tmp_path, lacking(day, last - 10, last), capsys)
    assert code == 1
    assert told(lines)
    assert "are missing" not in " ".join(lines)


async def test_without_any_entry_the_facts_alone_make_a_day(
    day: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = await checked(tmp_path, day.without(lambda it: isinstance(it, Journalled)), capsys)
    assert code == 1
    assert all(": 0 entries put back" in line for line in lines if line.startswith(tuple(PoolName)))
    assert any(line.startswith("order ") for line in told(lines))


async def test_damage_is_named_and_the_rest_is_checked(
    day: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = await archived(tmp_path, day.records)
    spoilt = bytearray(content(only(tmp_path)))
    spoilt[len(spoilt) // 2] ^= 1
    become(only(tmp_path), spoilt)
    assert await dry_run(archive, archive.paths(DAY), "") == 1
    assert f"the record is damaged: {only(tmp_path).name}" in capsys.readouterr().out


async def test_of_several_days_one_is_chosen(day: Played, tmp_path: Path) -> None:
    opened = next(it for it in day.records if isinstance(it, Opened))
    tomorrow = msgspec.structs.replace(opened.terms, trading_day="2026-11-24")
    later = msgspec.structs.replace(opened, terms=tomorrow)
    archive = await archived(tmp_path, [*day.records, later])
    with pytest.raises(ConfigError, match="are of 2026-11-23, 2026-11-24: choose with --day"):
        await dry_run(archive, archive.paths(DAY), "")
    assert await dry_run(archive, archive.paths(DAY), DAY) == 0
    with pytest.raises(ConfigError, match="not of 2026-11-25"):
        await dry_run(archive, archive.paths(DAY), "2026-11-25")


async def test_files_that_are_not_there_or_hold_no_day_are_said(tmp_path: Path) -> None:
    archive = Archive(tmp_path, "quotad", "connect")
    with pytest.raises(ConfigError, match="No such file"):
        await dry_run(archive, [tmp_path / "none"], "")
    with pytest.raises(ConfigError, match="the terms of no day"):
        await dry_run(archive, [], "")


def settings_of(store: Store) -> Settings:
    return load(None, {"QUOTA_MARKET__HKD_CNY": "0.91250", "QUOTA_REDIS__URL": store.url})


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quota.desk.replaying._PAGE", 70)


async def test_into_an_empty_store_the_day_comes_back_entry_by_entry(
    day: Played, tmp_path: Path, store: Store, ledger: RedisLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = await archived(tmp_path, day.records)
    code = await restore(settings_of(store), archive, archive.paths(DAY), "")
    assert capsys.readouterr().out.count("as it was") == 4
    assert code == 0
    for name in PoolName:
        stored, pool = await ledger.record.read(name), day.pool(name)
        assert stored is not None
        assert (stored.seq, stored.balance_fen, stored.decided) == (pool.seq, pool.balance_fen, pool.decided)
        found: list[Entry] = [entry async for entry in ledger.record.journal(name, stored.seq)]
        assert found == day.ledger.books[name].journal
        assert stored.halted
        assert (await verify(ledger.record, name)).differences == ()


async def test_a_store_gets_what_the_check_in_memory_has_said(
    day: Played, tmp_path: Path, store: Store, ledger: RedisLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = await archived(tmp_path, lacking(day, 20, 60))
    assert await dry_run(archive, archive.paths(DAY), "") == 1
    said = capsys.readouterr().out
    assert await restore(settings_of(store), archive, archive.paths(DAY), "") == 1
    assert capsys.readouterr().out == said
    for name in PoolName:
        assert (await verify(ledger.record, name)).differences == ()


@pytest.mark.parametrize(
    "field", [{"seq": 7}, {"event": "halt"}, {"verdict": "halted"}, {"balance_fen": 1}], ids=str
)
def test_whatever_differs_of_an_entry_is_said(day: Played, field: dict[str, object]) -> None:
    entries = [it.entry for it in day.entries(NB_SH)]
    plan = planned(Told(day.pool(NB_SH), entries))
    assert plan is not None
    assert list(compared(plan, entries)) == []
    other = [*entries[:20], msgspec.structs.replace(entries[20], **field), *entries[21:]]
    ((said),) = compared(plan, other)
    assert said.startswith(f"seq 21: {next(iter(field))} was ")
    assert list(compared(plan, entries[:-1])) == [f"seq {len(entries)}: is not there"]


async def test_a_store_that_is_not_empty_is_left_alone(
    day: Played, tmp_path: Path, store: Store, client: Redis, ledger: RedisLedger
) -> None:
    archive = await archived(tmp_path, day.records)
    await restore(settings_of(store), archive, archive.paths(DAY), "")
    before = await client.dbsize()
    with pytest.raises(ConfigError, match="NB-SH: the store has 2026-11-23: a day goes into an empty one"):
        await restore(settings_of(store), archive, archive.paths(DAY), "")
    assert await client.dbsize() == before
    assert ledger is not None

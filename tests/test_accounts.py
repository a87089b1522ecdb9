"""What recovery reads in the record: the last number at the start, the account, and what is missing of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from feeds.recorded import FileRecorded
from quota.accounts import Last, account_of
from quota.captured import Captured
from quota.errors import CaptureUnavailable
from tests.captures import DAY, POOL, become, content, journalled, kept, only, opened, writes


def test_with_other_terms_an_account_goes_on() -> None:
    again = replace(opened(), terms=replace(opened().terms, rate="0.91250"))
    account = account_of([opened(), journalled(1), again, journalled(2)], DAY, POOL)
    assert account is not None
    assert [entry.seq for entry in account.entries] == [1, 2]
    assert account.terms.rate == "0.91250"


def test_behind_other_terms_entry_one_begins_another_account() -> None:
    found: list[Captured] = [opened(), journalled(1), journalled(2), opened(), journalled(1)]
    account = account_of(found, DAY, POOL)
    assert account is not None
    assert [entry.seq for entry in account.entries] == [1]


def test_a_gap_is_named_until_it_is_filled() -> None:
    found: list[Captured] = [opened(), journalled(1), journalled(4)]
    account = account_of(found, DAY, POOL)
    assert account is not None
    assert account.missing == "entries 2 to 3 are missing"
    healed = account_of([*found, *map(journalled, (2, 3, 4))], DAY, POOL)
    assert healed is not None
    assert (len(healed.entries), healed.missing) == (4, "")


async def test_the_last_number_is_found_from_the_end(tmp_path: Path) -> None:
    await kept(tmp_path, [opened()], [journalled(1)], [journalled(2)])
    recorded = FileRecorded(tmp_path, "quotad", "connect")
    assert await recorded.last(DAY) == {POOL: Last(2, 999_998, 2_002)}
    assert await recorded.last("2026-11-24") == {}


async def test_of_a_damaged_end_it_is_told_what_may_be_missing(tmp_path: Path) -> None:
    await kept(tmp_path, [opened()], [journalled(1)], [journalled(2)])
    whole, last = content(only(tmp_path)), writes(only(tmp_path))[-1]
    become(only(tmp_path), whole[: -len(last)] + last[:-1] + bytes([last[-1] ^ 1]))
    recorded = FileRecorded(tmp_path, "quotad", "connect")
    account = await recorded.day(DAY, POOL)
    assert account is not None
    assert account.missing.startswith("entries from 2 on may be missing")
    assert await recorded.last(DAY) == {POOL: Last(1, 999_999, 2_001)}


async def test_the_record_of_another_client_id_says_that_a_day_was_begun(tmp_path: Path) -> None:
    await kept(tmp_path, [opened(), journalled(1)])
    recorded = FileRecorded(tmp_path, "other", "connect")
    assert (await recorded.last(DAY))[POOL] is None
    with pytest.raises(CaptureUnavailable, match="only as quotad"):
        await recorded.day(DAY, POOL)

"""What recovery knows: of the record the last number, the account, what is missing; and what is not in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from feeds.recorded import FileRecorded
from quota.accounts import Last, account_of
from quota.captured import Captured, reached_after, refuse_another_clock
from quota.decision import Decision, Outcome, Phase, Status, Verdict
from quota.errors import CaptureUnavailable, ConfigError
from quota.events import Cancelled
from quota.memory import MemoryLedger
from quota.witness import Witness
from tests.captures import DAY, POOL, become, content, delivered, journalled, kept, only, opened, writes


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


def order(name: str, time_ms: int, more: str = "") -> Captured:
    said = f'"order_id": "{name}", "side": "buy", "price": "1.00", "quantity": 1{more}'
    return replace(delivered(0, f'{{"event": "new", {said}}}'.encode()), time_ms=time_ms)


YESTERDAY, TOMORROW, NEXT_YEAR = "2026-11-20", "2026-11-24", "2027-11-23"


@pytest.mark.parametrize("wrong", [YESTERDAY, NEXT_YEAR])
async def test_a_day_is_found_whatever_our_clock_said_when_it_was_written_down(
    tmp_path: Path, wrong: str
) -> None:
    await kept(tmp_path, [opened(YESTERDAY)], day=wrong)
    await kept(tmp_path, [opened(), journalled(1), order("a", 2)], day=wrong)
    await kept(tmp_path, [journalled(2), order("b", 3)])
    recorded = FileRecorded(tmp_path, "quotad", "connect")
    account = await recorded.day(DAY, POOL)
    assert account is not None
    assert [entry.seq for entry in account.entries] == [1, 2]
    assert (await recorded.last(DAY))[POOL] == Last(2, 999_998, 2_002)
    assert len(await recorded.delivered(DAY, POOL)) == 2


async def test_of_a_day_are_the_events_from_its_opening_to_the_next(tmp_path: Path) -> None:
    dated = ', "time": "2026-11-23T09:30:00+08:00"'
    leftovers = [order("leftover", 90_000), order("early", 90_000, dated)]
    await kept(
        tmp_path,
        [
            *leftovers,
            order("meanwhile", 99_500),
            replace(opened(), time_ms=100_000),
            order("in-time", 100_001),
            order("by-a-slow-clock", 50_000),
        ],
        [opened(TOMORROW), order("of-tomorrow", 900_000)],
    )
    taken = await FileRecorded(tmp_path, "quotad", "connect").delivered(DAY, POOL)
    assert [event.order_id for event in taken] == ["early", "meanwhile", "in-time", "by-a-slow-clock"]


@pytest.mark.parametrize(
    ("origin", "now", "refused"),
    [
        ("real", "real", ""),
        ("at", "at", ""),
        ("real", "at", f"has the record of {DAY}: --at needs another folder"),
        ("at", "real", f"{DAY} was opened with --at: go on with --at, or with another folder"),
    ],
)
def test_rehearsals_and_real_days_have_folders_of_their_own(origin: str, now: str, refused: str) -> None:
    begun = replace(opened(), terms=replace(opened().terms, origin=origin))
    reached = reached_after({}, [begun, journalled(1)])
    if not refused:
        refuse_another_clock(reached, DAY, is_real=now == "real")
        return
    with pytest.raises(ConfigError, match=refused):
        refuse_another_clock(reached, DAY, is_real=now == "real")


def test_a_rehearsal_that_is_over_is_in_nobodys_way() -> None:
    begun = replace(opened(), terms=replace(opened().terms, origin="at"))
    refuse_another_clock(reached_after({}, [begun]), TOMORROW, is_real=True)


def applied(*seqs: int) -> list[Decision]:
    return [
        Decision(Outcome.APPLIED, Verdict.ACCEPTED, "", 1, it, Status.OPEN, Phase.CONTINUOUS) for it in seqs
    ]


def remembered(witness: Witness) -> list[int | None]:
    return [decision.seq for batch in witness.recent(POOL) for decision in batch.decisions]


def test_what_was_decided_is_remembered_until_it_is_written_down() -> None:
    witness, event = Witness(MemoryLedger(lambda: 0)), Cancelled(order_id="a")
    witness.decided(POOL, DAY, [event], applied(1))
    assert remembered(witness) == []
    witness.remembers = True
    for seqs in ((2, 3), (4,), (5,)):
        witness.decided(POOL, DAY, [event] * len(seqs), applied(*seqs))
    witness.written(POOL, DAY, 2)
    assert remembered(witness) == [2, 3, 4, 5]
    witness.written(POOL, DAY, 4)
    assert remembered(witness) == [5]
    witness.written(POOL, "2026-11-22", 99)
    assert remembered(witness) == [5]
    witness.decided(POOL, "2026-11-24", [event], applied(1))
    witness.written(POOL, "2026-11-24", 1)
    assert remembered(witness) == []


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quota.witness._RECENT_MAX", 3)
    witness, event = Witness(MemoryLedger(lambda: 0)), Cancelled(order_id="a")
    witness.remembers = True
    for seqs in ((1,), (2, 3), (4,), (5, 6, 7, 8)):
        witness.decided(POOL, DAY, [event] * len(seqs), applied(*seqs))
        assert remembered(witness)[-len(seqs) :] == list(seqs)
        assert len(remembered(witness)) <= max(3, len(seqs))
    witness.written(POOL, DAY, 8)
    for seq in (9, 10, 11):
        witness.decided(POOL, DAY, [event], applied(seq))
    assert remembered(witness) == [9, 10, 11]

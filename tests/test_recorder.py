"""What the recorder writes down of a pool in a real store: all of it, in order, whoever did it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from structlog.testing import capture_logs

from quota.captured import Journalled
from quota.day import OPENED_LATE
from quota.decision import PoolName
from quota.ledger import Act, RedisLedger
from quota.store.record import keys
from tests.agreement.state import DAY
from tests.agreement.trading import HALT, POOL, buy, fill
from tests.captures import Notebook
from tests.recorded import Followed

NEXT = "2026-11-24"
LIMIT = Act(act="limit", reason="more", user="ann", host="desk", limit_fen=2_000_000)
RESUME = Act(act="resume", reason="over", user="ann", host="desk")


@pytest.fixture
async def followed(client: Redis, ledger: RedisLedger) -> Followed:
    return Followed(client, ledger)


async def test_an_account_begins_with_the_pool_at_number_0_and_has_every_entry(followed: Followed) -> None:
    await followed.open_day()
    first = await followed.ledger.record.read(POOL)
    await followed.look()
    await followed.ledger.apply(POOL, [buy("1"), fill("1"), buy("2", 9_000)])
    await followed.ledger.reserve(POOL, buy("redis"))
    await followed.ledger.operate(POOL, HALT)
    await followed.look()
    assert followed.terms() == first
    assert followed.written() == await followed.stored()
    assert [entry.seq for entry in followed.written()] == [1, 2, 3, 4, 5]
    assert followed.changes() == [
        (DAY, "day", DAY),
        (DAY, "limit", "1000000"),
        (DAY, "rate", "1.00000"),
        (DAY, "phase", "continuous"),
        (DAY, "status", "open"),
        (DAY, "level", "90"),
        (DAY, "status", "halted"),
    ]
    assert {record.trading_day for record in followed.book.records if isinstance(record, Journalled)} == {DAY}


@pytest.mark.parametrize("late", ["", OPENED_LATE], ids=["open", "opened late"])
async def test_who_comes_late_writes_the_same_account_as_who_was_there(followed: Followed, late: str) -> None:
    await followed.open_day(open_late=not late)
    await followed.look()
    if late:
        await followed.ledger.operate(POOL, RESUME)
    await followed.ledger.apply(POOL, [buy("1"), buy("2", 9_000)])
    await followed.ledger.operate(POOL, LIMIT)
    await followed.ledger.operate(POOL, HALT)
    await followed.look()
    (there,) = followed.accounts()
    followed.book = Notebook()
    followed.recorder = followed.begun()
    await followed.look()
    (came_late,) = followed.accounts()
    assert came_late[0] == there[0]
    assert followed.terms().halted == late
    assert followed.terms().limit_fen == 1_000_000
    assert sorted(map(repr, came_late)) == sorted(map(repr, there))


async def test_after_a_restart_it_goes_on_where_it_was(followed: Followed) -> None:
    await followed.open_day()
    for number in range(5):
        await followed.ledger.apply(POOL, [buy(f"{number}-{place}") for place in range(number)])
        followed.recorder = followed.begun()
        await followed.look()
    assert len(followed.accounts()) == 1
    assert followed.book.entries() == list(range(1, 11))
    assert len(followed.changes()) == 5


async def test_more_than_a_page_comes_in_pages(followed: Followed) -> None:
    await followed.open_day()
    await followed.ledger.apply(POOL, [buy(str(number)) for number in range(2_500)])
    await followed.look()
    assert followed.book.entries() == list(range(1, 2_501))
    assert followed.book.attempts > 3
    labels = {"pool": POOL, "direction": POOL.direction, "exchange": POOL.exchange}
    assert followed.metrics.registry.get_sample_value("quota_capture_entries_behind", labels) == 0


async def test_a_rate_that_is_set_begins_the_account_again(client: Redis, ledger: RedisLedger) -> None:
    south = PoolName.SB_SH
    followed = Followed(client, ledger, south)
    await followed.open_day(rate="0.91250")
    await followed.look()
    await ledger.operate(south, HALT)
    await ledger.set_rate(south, DAY, "0.92000")
    await followed.look()
    assert len(followed.accounts()) == 2
    assert followed.terms().rate == "0.92000"
    assert [entry.event for entry in followed.written()] == ["halt"]


async def test_what_could_not_be_written_down_is_when_it_can(followed: Followed) -> None:
    await followed.open_day()
    await followed.look()
    followed.book.trouble = "No space left on device"
    await followed.ledger.apply(POOL, [buy("1")])
    await followed.look()
    assert followed.recorder.unready() == ["the record of the day cannot be written: No space left on device"]
    assert followed.metrics.registry.get_sample_value("quota_capture_writable") == 0
    await followed.ledger.apply(POOL, [buy("2")])
    followed.book.trouble = ""
    await followed.look()
    assert followed.book.entries() == [1, 2]
    assert followed.recorder.unready() == []
    assert followed.metrics.registry.get_sample_value("quota_capture_writable") == 1


async def test_an_entry_that_cannot_be_read_is_said_and_holds_up_nobody(followed: Followed) -> None:
    await followed.open_day()
    await followed.look()
    await followed.ledger.apply(POOL, [buy("1")])
    await followed.client.xadd(keys(POOL)[5], {"event": "x"}, id="2-0")
    with capture_logs() as logs:
        await followed.look()
        await followed.look()
    assert [log["event"] for log in logs] == ["recorder.failed"]
    (warning,) = followed.recorder.warnings()
    assert warning.startswith("NB-SH: its journal cannot be recorded: journal 2-0")


async def test_where_nothing_is_new_nothing_is_read(followed: Followed) -> None:
    await followed.open_day()
    await followed.look()

    class Silent:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"{name} was asked for")

    followed.recorder.record = Silent()  # type: ignore[assignment]  # it is not to be asked
    await followed.look()
    assert followed.recorder.failing == {}


async def test_what_is_written_down_need_not_be_remembered(followed: Followed) -> None:
    witness, events = followed.days.witness, [buy("1"), buy("2")]
    witness.remembers = True
    await followed.open_day()
    await followed.look()
    decided = await followed.ledger.apply(POOL, events)
    witness.decided(POOL, DAY, events, decided)
    await followed.look()
    assert witness.recent(POOL) == ()
    witness.decided(POOL, DAY, [buy("4")], [replace(decided[-1], seq=4)])
    await followed.ledger.apply(POOL, [fill("1")])
    await followed.look()
    assert [batch.decisions[0].seq for batch in witness.recent(POOL)] == [4]

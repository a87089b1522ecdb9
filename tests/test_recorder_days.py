"""What the recorder writes down where a day ends, or where the store has lost a part of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from quota.captured import Changed, Journalled
from quota.decision import PoolName
from quota.journal import Entry
from quota.ledger import Act, RedisLedger
from quota.pool import Change, Pool
from quota.store.record import keys
from tests.agreement.state import DAY
from tests.agreement.trading import POOL, buy
from tests.recorded import Followed

NEXT = "2026-11-24"


@pytest.fixture
async def followed(client: Redis, ledger: RedisLedger) -> Followed:
    return Followed(client, ledger)


async def test_what_was_left_of_a_day_comes_before_the_next_one(followed: Followed) -> None:
    await followed.open_day()
    await followed.ledger.apply(POOL, [buy("1")])
    await followed.look()
    await followed.ledger.apply(POOL, [buy("2"), buy("3", 9_000)])
    await followed.open_day(trading_day=NEXT)
    await followed.ledger.apply(POOL, [buy("1")])
    await followed.look()
    first, second = followed.accounts()
    assert [record.entry.seq for record in first if isinstance(record, Journalled)] == [1, 2, 3]
    assert [record.entry.seq for record in second if isinstance(record, Journalled)] == [1]
    assert {record.trading_day for record in first[1:] if isinstance(record, Journalled | Changed)} == {DAY}
    assert {record.trading_day for record in second[1:] if isinstance(record, Journalled | Changed)} == {NEXT}
    assert (DAY, "level", "90") in followed.changes()
    assert followed.changes().count((NEXT, "day", NEXT)) == 1


async def test_a_day_that_the_store_has_no_more_is_said_and_the_next_one_is_written(
    followed: Followed,
) -> None:
    await followed.open_day()
    await followed.ledger.apply(POOL, [buy("1")])
    await followed.look()
    await followed.ledger.apply(POOL, [buy("2")])
    await followed.open_day(trading_day=NEXT, keep_days=0)
    with capture_logs() as logs:
        await followed.look()
    gaps = [log for log in logs if log["event"] == "recorder.gap"]
    assert [(gap["trading_day"], gap["after_seq"]) for gap in gaps] == [(DAY, 1)]
    assert followed.terms().trading_day == NEXT


class Turning:
    """A record whose day turns just before a page is read."""

    def __init__(self, followed: Followed) -> None:
        self.followed, self.turned = followed, False

    async def read(self, pool: PoolName) -> Pool | None:
        return await self.followed.ledger.record.read(pool)

    async def changes(self, pool: PoolName, after: str, day: str = "") -> Sequence[Change]:
        return await self.followed.ledger.record.changes(pool, after, day)

    async def page(self, pool: PoolName, first_seq: int, day: str = "") -> Sequence[Entry]:
        if not self.turned:
            self.turned = True
            await self.followed.open_day(trading_day=NEXT)
            await self.followed.ledger.apply(pool, [buy(str(number)) for number in range(9)])
        return await self.followed.ledger.record.page(pool, first_seq, day)


async def test_a_day_that_turns_while_a_page_is_read_takes_no_entry_of_the_next(followed: Followed) -> None:
    await followed.open_day()
    await followed.look()
    await followed.ledger.apply(POOL, [buy("1"), buy("2")])
    await followed.days.look(POOL)
    followed.recorder = followed.begun(Turning(followed))
    await followed.recorder.look()
    await followed.look()
    first, second = followed.accounts()
    assert [record.entry.seq for record in first if isinstance(record, Journalled)] == [1, 2]
    assert [record.entry.seq for record in second if isinstance(record, Journalled)] == list(range(1, 10))


@pytest.mark.parametrize("since", [1, 5], ids=["behind", "ahead"])
async def test_a_store_that_lost_entries_gets_another_account_beside_the_old_one(
    followed: Followed, since: int
) -> None:
    await followed.open_day()
    await followed.ledger.apply(POOL, [buy("1")])
    before = await followed.client.dump(keys(POOL)[0]), await followed.client.dump(keys(POOL)[5])
    await followed.ledger.apply(POOL, [buy("2"), buy("3")])
    await followed.look()
    for key, copy in zip((keys(POOL)[0], keys(POOL)[5]), before, strict=True):
        await followed.client.restore(key, 0, copy or b"", replace=True)
    await followed.client.hdel(keys(POOL)[1], "2", "3")
    await followed.ledger.apply(POOL, [buy(f"new-{number}") for number in range(since)])
    with capture_logs() as logs:
        await followed.look()
        if POOL in followed.days.witness.doubts:  # it waits until somebody has answered for what is left
            assert len(followed.accounts()) == 1
            await followed.ledger.operate(POOL, Act(act="resume", reason="known", user="u", host="h"))
            await followed.look()
    assert "recorder.begun_again" in [log["event"] for log in logs]
    old, now = followed.accounts()
    assert [record.entry.event.split()[1] for record in old if isinstance(record, Journalled)] == [
        "1",
        "2",
        "3",
    ]
    events = [record.entry.event for record in now if isinstance(record, Journalled)]
    assert [event.split()[1] for event in events if event != "resume"] == [
        "1",
        *(f"new-{number}" for number in range(since)),
    ]
    assert old[0] == now[0]

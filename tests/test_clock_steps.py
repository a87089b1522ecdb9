"""Clocks that step, leap over midnight, or disagree: by clocks that the test sets.

The store's clock decides; the daemon's own says only how far the two are apart.
"""

from __future__ import annotations

import pytest

from quota.decision import PoolName, Release, Side, Status, Verdict
from quota.events import NewOrder
from tests.clocks import HOUR_MS, SATURDAY, TUESDAY, WEDNESDAY, Clocks, clocks_apart, new
from tests.rigs import MONDAY, NB_SH, SB_SH, running, until


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return clocks_apart(monkeypatch)


def buy(order_id: str) -> NewOrder:
    return NewOrder(order_id=order_id, side=Side.BUY, price="1.00", quantity=1)


# The store's clock steps.


@pytest.mark.parametrize("back_to", ["09:20", "08:00", "00:00"])
async def test_a_clock_that_is_set_back_reopens_nothing(here: Clocks, back_to: str) -> None:
    async with running(here.rig):
        await here.give(new("all", price="10000.00"))
        assert here.rig.pool().exhausted
        here.rig.at(f"{MONDAY}T{back_to}")
        await here.look()
        await here.give('{"event": "cancelled", "order_id": "all"}', new("more"))
        here.rig.at(f"{MONDAY}T10:00")
        await here.give(new("again"))
    assert here.rig.desk.verdicts() == ["accepted", "exhausted", "exhausted"]


async def test_a_clock_that_is_set_back_into_the_opening_counts_as_the_opening_again(here: Clocks) -> None:
    async with running(here.rig):
        await here.give(new("1"))
        here.rig.at(f"{MONDAY}T09:20")
        await here.give(new("2", price="9999.00"), new("3"))
        assert here.rig.pool().status is Status.SUSPENDED
        here.rig.at(f"{MONDAY}T09:30")
        await here.look()
        assert here.rig.pool().status is Status.EXHAUSTED
    assert here.rig.desk.verdicts() == ["accepted", "accepted", "suspended"]


async def test_a_clock_that_is_set_back_over_midnight_goes_back_to_no_day(here: Clocks) -> None:
    here.rig.at(f"{TUESDAY}T00:01")
    async with running(here.rig):
        await here.give(new("1", TUESDAY))
        here.rig.at(f"{MONDAY}T23:59")
        await here.look()
        await here.mark()
        assert not here.rig.days.any_due()
        await here.give(new("2", MONDAY), new("3", TUESDAY))
        assert (here.rig.day(), here.rig.pool().seq) == (TUESDAY, 2)
    assert here.rig.desk.reasons()[-1] == "time: another day than the pool's open day"


async def test_a_clock_that_is_set_back_between_the_look_and_the_opening_stops_nobody(here: Clocks) -> None:
    """The store refuses the day; it opens when its date has come again."""
    async with running(here.rig):
        here.rig.at(f"{TUESDAY}T00:00")
        await here.look()
        here.rig.now[0] -= 500
        await here.mark()
        assert here.rig.day() == MONDAY
        here.rig.now[0] += 500
        await here.look()
        await here.mark()
        assert {here.rig.day(pool) for pool in PoolName} == {TUESDAY}


async def test_a_leap_over_midnight_and_the_whole_night_opens_the_day_before_its_first_event(
    here: Clocks,
) -> None:
    here.rig.at(f"{MONDAY}T23:59:59.900")
    async with running(here.rig):
        here.rig.at(f"{TUESDAY}T09:31")
        await here.give(new("old", MONDAY), new("new", TUESDAY))
        assert (here.rig.day(), here.rig.pool().seq) == (TUESDAY, 1)
    assert here.rig.desk.verdicts() == ["closed", "accepted"]


async def test_a_leap_over_a_whole_trading_day_opens_the_day_that_is(here: Clocks) -> None:
    async with running(here.rig):
        here.rig.at(f"{WEDNESDAY}T10:00")
        await here.give(new("monday", MONDAY), new("tuesday", TUESDAY), new("wednesday", WEDNESDAY))
        assert (here.rig.day(), here.rig.pool().kept) == (WEDNESDAY, (MONDAY,))
    assert here.rig.desk.verdicts() == ["closed", "accepted"]
    assert here.rig.desk.reasons() == ["time: another day than the pool's open day"]


async def test_holds_end_by_the_stores_clock_whichever_way_it_steps(here: Clocks) -> None:
    store = here.rig.store
    async with running(here.rig):
        await store.reserve(NB_SH, buy("back"), HOUR_MS)
        here.rig.now[0] -= HOUR_MS // 4
        await here.look()
        here.rig.now[0] += HOUR_MS // 4 + HOUR_MS - 1
        await here.look()
        assert store.books[NB_SH].holds
        here.rig.now[0] += 1
        await here.look()
        assert not store.books[NB_SH].holds
        assert (await store.release(NB_SH, "back")).outcome is Release.RELEASED
        assert (await store.reserve(NB_SH, buy("back"))).verdict is Verdict.ID_REUSED


# Our own clock is another than the store's.


@pytest.mark.parametrize("ahead_h", [-26, -1, 1, 26])
async def test_our_own_clock_opens_no_day_and_closes_none(here: Clocks, ahead_h: int) -> None:
    here.ahead_ms = ahead_h * HOUR_MS
    async with running(here.rig):
        await here.give(new("1", MONDAY))
        await here.mark()
        assert (here.rig.day(), here.rig.pool().status) == (MONDAY, "open")
        watch = await here.watched()
        assert watch.unready() == [f"our clock and the store's are {-ahead_h * 3600:+.3f} s apart"]
    assert here.rig.desk.verdicts() == ["accepted"]


@pytest.mark.parametrize("ahead_ms", [-900, 0, 900])
async def test_at_midnight_the_store_may_be_a_little_ahead_of_us_or_behind(
    here: Clocks, ahead_ms: int
) -> None:
    here.ahead_ms = ahead_ms
    here.rig.at(f"{MONDAY}T23:59:50")
    async with running(here.rig):
        here.rig.at(f"{TUESDAY}T00:00")
        await here.give(new("first", TUESDAY))
        assert here.rig.day() == TUESDAY
    assert here.rig.desk.reasons() == []


async def test_an_event_of_a_date_that_has_not_come_by_the_store_opens_nothing(here: Clocks) -> None:
    here.rig.at(f"{MONDAY}T23:59:59.700")
    here.ahead_ms = 600
    async with running(here.rig):
        await here.give(new("early", TUESDAY))
        assert here.rig.day() == MONDAY
    assert here.rig.desk.reasons() == ["time: another day than the pool's open day"]


@pytest.mark.parametrize("ahead_h", [0, 72])
async def test_a_rate_is_kept_for_a_day_that_has_not_come_by_the_store(here: Clocks, ahead_h: int) -> None:
    here.ahead_ms = ahead_h * HOUR_MS
    here.rig.at(f"{SATURDAY}T10:00")
    async with running(here.rig):
        here.rig.desk.bring(here.rig.desk.rate(MONDAY, "0.90000"))
        await until(lambda: here.rig.desk.acknowledged)
        here.rig.at(f"{MONDAY}T08:00")
        await here.give(new("1", MONDAY), pool=SB_SH)
        assert here.rig.pool(SB_SH).rate == "0.90000"

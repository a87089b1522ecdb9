"""A daemon that slept, days that open late, weekends, other time zones: by clocks that the test sets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from quota import day
from quota.clock import MarketClock
from quota.decision import PoolName, Side, Status
from quota.events import MARKET_TZ, NewOrder
from quota.rulebook import Calendar, schedule
from tests.clocks import HALT, HOUR_MS, TUESDAY, Clocks, clocks_apart, new
from tests.rigs import FRIDAY, MONDAY, NB_SH, ms, running


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return clocks_apart(monkeypatch)


# A daemon that slept.


async def test_a_daemon_that_slept_for_an_hour_finds_the_phases_that_went_by(here: Clocks) -> None:
    """Nobody looked from the auction until the morning: the start of trading is judged all the same."""
    here.rig.at(f"{MONDAY}T09:15")
    async with running(here.rig):
        await here.give(new("all", price="10000.00"))
        assert here.rig.pool().status is Status.SUSPENDED
        here.rig.at(f"{MONDAY}T10:15")
        await here.give('{"event": "cancelled", "order_id": "all"}', new("more"))
        assert here.rig.pool().status is Status.EXHAUSTED
    assert here.rig.desk.verdicts() == ["accepted", "exhausted"]


async def test_what_a_sleeper_missed_is_told_when_it_wakes(here: Clocks) -> None:
    async with running(here.rig):
        await here.watched()
        await here.rig.store.operate(NB_SH, HALT)
        here.rig.at(f"{MONDAY}T11:00")
        here.rig.desk.sent.clear()
        watch = await here.watched()
        assert [report.status for report in watch.reports()] == ["halted", "open", "open", "open"]
        assert "Alert" in {type(message).__name__ for message in here.rig.desk.sent}
        here.rig.at(f"{MONDAY}T10:30")
        await watch.tick()
        assert watch.unready() == []


async def test_holds_that_ended_while_everybody_slept_are_given_back_before_trading_is_judged(
    here: Clocks,
) -> None:
    here.rig.at(f"{MONDAY}T09:15")
    async with running(here.rig):
        order = NewOrder(order_id="all", side=Side.BUY, price="10000.00", quantity=1)
        await here.rig.store.reserve(NB_SH, order, 60_000)
        here.rig.at(f"{MONDAY}T10:15")
        await here.give(new("more"))
    assert here.rig.desk.verdicts() == ["accepted"]


# Days that open late, weekends, other zones.


@pytest.mark.parametrize(
    ("at", "phase", "verdict"),
    [
        ("09:20", "opening", "accepted"),
        ("11:45", "break", "closed"),
        ("14:58", "closing", "accepted"),
        ("16:30", "closed", "closed"),
        ("23:59", "closed", "closed"),
    ],
)
async def test_a_day_that_opens_late_begins_in_the_phase_that_is(
    here: Clocks, at: str, phase: str, verdict: str
) -> None:
    async with running(here.rig):
        here.rig.at(f"{TUESDAY}T{at}")
        await here.give(new("1", TUESDAY))
        pool = here.rig.pool()
        assert (pool.trading_day, pool.phase, pool.exhausted) == (TUESDAY, phase, False)
    assert here.rig.desk.verdicts() == [verdict]


async def test_a_weekend_hour_by_hour_opens_nothing_until_monday(here: Clocks) -> None:
    here.rig.at(f"{FRIDAY}T15:30")
    async with running(here.rig):
        while here.rig.now[0] < ms(f"{MONDAY}T00:00"):
            await here.look()
            assert not here.rig.days.any_due()
            await here.mark()
            assert (here.rig.day(), here.rig.pool().phase) == (FRIDAY, "closed")
            here.rig.now[0] += HOUR_MS // 2
        await here.look()
        await here.mark()
        assert {here.rig.day(pool) for pool in PoolName} == {MONDAY}


@pytest.fixture(params=["America/New_York", "Europe/London", "Australia/Lord_Howe", "UTC"])
def _elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the machine stand in another zone, most of them with daylight saving."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_elsewhere")
def test_the_zone_of_the_machine_and_its_daylight_saving_change_no_day() -> None:
    calendar, clock = Calendar.load(), MarketClock()
    for turn in ("2026-03-09", "2026-03-30", "2026-10-26", "2026-11-02"):  # the day after a Sunday's change
        of_day = datetime.fromisoformat(turn).date()
        starts = [
            clock.at_ms(starts_ms) for starts_ms, _ in day.segments(schedule(NB_SH, of_day, clock, calendar))
        ]
        assert [f"{at:%H:%M}" for at in starts][:2] == ["09:10", "09:30"]
        assert {at.utcoffset() for at in starts} == {timedelta(hours=8)}
        midnight = datetime.combine(of_day, datetime.min.time(), MARKET_TZ)
        assert day.date_of(round(midnight.timestamp() * 1000)) == turn
        assert day.date_of(round(midnight.timestamp() * 1000) - 1) < turn


def test_a_sped_up_clock_is_a_line_over_the_stores_and_steps_with_it() -> None:
    clock = MarketClock(datetime(2026, 11, 23, 1, tzinfo=UTC), 1_000_000, speed=60.0, real=False)
    noon = datetime(2026, 11, 23, 12, tzinfo=MARKET_TZ)
    assert clock.at_ms(clock.ms_at(noon)) == noon
    assert clock.at_ms(1_000_000 - 1000) == clock.at - timedelta(minutes=1)

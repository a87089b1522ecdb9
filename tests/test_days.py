"""When days open, by a clock that the test sets: after the leftovers, on trading days, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

import pytest
from msgspec import structs

from quota.book import Book
from quota.clock import MarketClock
from quota.decision import PoolName
from quota.errors import ConfigError
from quota.events import MARKET_TZ
from tests.rigs import FRIDAY, MONDAY, NB_SH, SB_SH, SUNDAY, Rig, rig, running, until

TUESDAY = "2026-11-24"
HOLIDAY = "2026-10-01"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return rig(monkeypatch, f"{MONDAY}T10:00")


def new(order_id: str, day: str = "") -> str:
    time = f',"time":"{day}T10:00:00+08:00"' if day else ""
    return f'{{"event":"new","order_id":"{order_id}","side":"buy","price":"1.00","quantity":1{time}}}'


async def give(here: Rig, *payloads: str, pool: PoolName = NB_SH) -> None:
    """Deliver payloads one by one in one go, and wait until they are done with."""
    done = len(here.desk.acknowledged)
    here.desk.bring(*(here.desk.orders(payload, pool) for payload in payloads))
    await until(lambda: len(here.desk.acknowledged) == done + len(payloads))


async def mark(here: Rig) -> None:
    """Let the broker say that the leftovers are in."""
    here.days.expect(here.desk.mark())
    await give(here, "?")  # what comes behind the mark is done with after it


def days(here: Rig) -> set[str | None]:
    return {here.day(pool) for pool in PoolName}


async def test_an_empty_store_opens_at_once(here: Rig) -> None:
    async with running(here):
        assert days(here) == {MONDAY}
        assert here.pool().limit_fen == 1_000_000
        assert here.pool(SB_SH).limit_fen == 4_200_000_000_000
        assert here.pool(SB_SH).rate == "0.91250"


@pytest.mark.parametrize("day", [SUNDAY, HOLIDAY])
async def test_nothing_opens_on_a_day_that_does_not_trade(here: Rig, day: str) -> None:
    here.at(f"{day}T10:00")
    async with running(here):
        await mark(here)
        await give(here, new("1", day))
        assert here.days.due(NB_SH) is None
        assert days(here) == {None}
    assert here.desk.verdicts() == ["closed"]


async def test_over_a_weekend_the_last_day_stays_open_and_closed(here: Rig) -> None:
    here.at(f"{FRIDAY}T15:30")
    async with running(here):
        here.at(f"{SUNDAY}T10:00")
        await here.days.look(NB_SH)
        await mark(here)
        await give(here, new("late", FRIDAY), new("now"))
        assert here.day() == FRIDAY
    assert here.desk.verdicts() == ["closed", "closed"]


async def test_after_midnight_the_day_opens_on_the_mark_and_not_before(here: Rig) -> None:
    async with running(here):
        here.at(f"{TUESDAY}T00:00")
        for pool in PoolName:
            await here.days.look(pool)
        await give(here, new("late", MONDAY), new("undated"))
        assert days(here) == {MONDAY}
        assert here.pool().seq == 2
        assert here.days.any_due()
        await mark(here)
        assert days(here) == {TUESDAY}
        assert not here.days.any_due()
        assert here.pool().seq == 0
    assert here.desk.reasons() == ["payload: is not JSON (invalid character (byte 0))"]


async def test_a_mark_that_was_asked_for_an_earlier_day_opens_nothing(here: Rig) -> None:
    """What was published since it was asked for stands behind it in the broker's queue."""
    async with running(here):
        here.at(f"{TUESDAY}T00:00")
        await here.days.look(NB_SH)
        here.days.expect("mark")
        here.at("2026-11-25T00:00")
        await here.days.look(NB_SH)
        here.desk.mark()
        await give(here, "?")
        assert here.day() == MONDAY
        await mark(here)
        assert here.day() == "2026-11-25"


async def test_a_day_whose_midnight_comes_before_it_is_opened_is_no_mistake(here: Rig) -> None:
    async with running(here):
        here.at(f"{TUESDAY}T23:59")
        await here.days.look(NB_SH)
        here.at("2026-11-25T00:00")
        await here.days.open_due(NB_SH, date(2026, 11, 24))
        assert here.day() == MONDAY
        assert str(here.days.due(NB_SH)) == "2026-11-25"


async def test_a_day_that_is_asked_for_again_after_midnight_is_still_the_same(here: Rig) -> None:
    """The store was away meanwhile: what is left of that day has not been taken in yet."""
    async with running(here):
        here.at(f"{TUESDAY}T23:59")
        await here.days.look(NB_SH)
        await here.days.open_due(NB_SH, date(2026, 11, 24))
        here.at("2026-11-25T00:00")
        await here.days.look(NB_SH)
        await here.days.open_due(NB_SH, date(2026, 11, 24))
        assert here.day() == TUESDAY


async def test_the_first_event_of_the_new_day_opens_it_for_its_pool(here: Rig) -> None:
    async with running(here):
        here.at(f"{TUESDAY}T09:31")
        await give(here, new("a", MONDAY), new("b"), new("c", TUESDAY), new("d"), new("e", MONDAY))
        assert (here.day(), here.day(SB_SH)) == (TUESDAY, MONDAY)
        assert here.pool().seq == 2
    assert here.desk.verdicts() == ["closed", "closed", "accepted", "accepted"]
    assert here.desk.reasons() == ["time: another day than the pool's open day"]


async def test_events_of_a_day_that_began_since_the_last_look_are_not_called_mistakes(here: Rig) -> None:
    """The watch looks five times a second, and while the store is away not at all."""
    async with running(here):
        here.at(f"{TUESDAY}T00:00")
        await give(here, new("first", TUESDAY))
        assert here.day() == TUESDAY
    assert here.desk.reasons() == []


async def test_an_outage_over_midnight_loses_no_day(here: Rig) -> None:
    async with running(here):
        here.store.leave()
        here.desk.bring(here.desk.orders(new("old", MONDAY)))
        attempts = here.store.attempts
        await until(lambda: here.store.attempts > attempts)
        here.at(f"{TUESDAY}T10:00")
        here.desk.bring(here.desk.orders(new("older", MONDAY)), here.desk.orders(new("new", TUESDAY)))
        here.store.come_back()
        await until(lambda: len(here.desk.acknowledged) == 3)
        assert (here.day(), here.pool().seq) == (TUESDAY, 1)
    assert here.desk.verdicts() == ["closed", "closed", "accepted"]
    assert here.desk.reasons() == []


async def test_a_daemon_that_starts_on_the_next_day_takes_the_leftovers_in_first(here: Rig) -> None:
    async with running(here):
        await give(here, new("1"))
    here.at(f"{TUESDAY}T10:00")
    async with running(here.restarted()) as later:
        assert later.day() == MONDAY
        await give(later, new("2", MONDAY))
        assert later.day() == MONDAY
        await mark(later)
        assert (later.day(), later.pool().seq) == (TUESDAY, 0)
        assert later.pool().kept == (MONDAY,)
    assert here.desk.verdicts() == ["accepted", "closed"]
    assert len(here.desk.reasons()) == 1  # the question mark of the mark


async def test_a_restart_in_the_middle_of_the_day_changes_nothing(here: Rig) -> None:
    async with running(here):
        await give(here, new("1"))
    before = here.store.books[NB_SH]
    kept = Book(before.pool, dict(before.orders), dict(before.executions), list(before.changes))
    here.at(f"{MONDAY}T10:05")
    async with running(here.restarted()) as later:
        after = later.store.books[NB_SH]
        assert (after.pool, after.orders, after.executions, after.changes) == (
            kept.pool,
            kept.orders,
            kept.executions,
            kept.changes,
        )
        await give(later, new("1"))
    assert [reply.replayed for reply in here.desk.replies()] == [False, True]


@pytest.mark.parametrize(
    ("at", "setting", "halted"),
    [("08:59", "halt", False), ("09:10", "halt", True), ("16:30", "halt", True), ("09:10", "open", False)],
)
async def test_an_empty_store_that_opens_late_opens_halted(
    monkeypatch: pytest.MonkeyPatch, at: str, setting: str, *, halted: bool
) -> None:
    here = rig(monkeypatch, f"{MONDAY}T{at}", open_late=setting)
    async with running(here):
        assert bool(here.pool().halted) == halted


async def test_a_store_that_knows_the_day_before_never_opens_late(monkeypatch: pytest.MonkeyPatch) -> None:
    here = rig(monkeypatch, f"{MONDAY}T08:00", open_late="halt")
    async with running(here):
        here.at(f"{TUESDAY}T11:00")
        await give(here, new("1", TUESDAY))
        assert (here.day(), here.pool().halted) == (TUESDAY, "")


async def test_at_moves_the_schedule_and_nothing_else(here: Rig) -> None:
    travelled = with_at(here, f"{MONDAY}T09:30")
    async with running(travelled):
        await give(travelled, new("1"))
        before = travelled.pool()
    async with running(with_at(here, f"{MONDAY}T11:40")) as moved:
        after = moved.pool()
        assert (before.phase, after.phase) == ("continuous", "break")
        assert after.schedule != before.schedule
        assert (after.seq, after.balance_fen, after.trading_day) == (1, before.balance_fen, MONDAY)


def with_at(here: Rig, at: str) -> Rig:
    clock = MarketClock(datetime.fromisoformat(at).replace(tzinfo=MARKET_TZ), here.now[0], real=False)
    moved = here.restarted()
    moved.days.almanac = replace(here.days.almanac, clock=clock)
    return moved


async def test_a_store_of_the_real_clock_refuses_at_and_the_other_way_round(
    monkeypatch: pytest.MonkeyPatch, here: Rig
) -> None:
    async with running(here):
        pass
    with pytest.raises(ConfigError, match="the real clock opened 2026-11-23 in this store: it refuses --at"):
        await with_at(here, f"{MONDAY}T10:00").days.begin()
    for other_day in (TUESDAY, SUNDAY):
        with pytest.raises(ConfigError, match="the real clock opened 2026-11-23 in this store"):
            await with_at(here, f"{other_day}T10:00").days.begin()
    other = rig(monkeypatch, f"{MONDAY}T10:00")
    async with running(with_at(other, f"{MONDAY}T10:00")):
        pass
    with pytest.raises(ConfigError, match="2026-11-23 was opened with --at: go on with --at"):
        await other.restarted().days.begin()


async def test_a_day_that_a_set_clock_opened_ahead_of_us_is_not_taken_for_today(here: Rig) -> None:
    async with running(here):
        pass
    here.store.books[NB_SH].pool = structs.replace(here.pool(), origin="at", trading_day=TUESDAY)
    with pytest.raises(ConfigError, match=f"NB-SH: {TUESDAY} was opened with --at: go on with --at"):
        await here.days.begin()


async def test_a_rate_counts_until_the_first_event_and_is_refused_after_it(here: Rig) -> None:
    async with running(here):
        here.desk.bring(here.desk.rate(MONDAY, "0.90000"))
        await until(lambda: here.pool(SB_SH).rate == "0.90000")
        await give(here, new("1"), pool=SB_SH)
        here.desk.bring(here.desk.rate(MONDAY, "0.90000"), here.desk.rate(MONDAY, "0.80000"))
        await until(lambda: len(here.desk.acknowledged) == 4)
        assert here.pool(SB_SH).rate == "0.90000"
        assert here.pool(PoolName.SB_SZ).rate == "0.80000"
        assert here.pool().rate == "1.00000"
    assert here.metrics.registry.get_sample_value("quota_rate_refused_total") == 1


async def test_a_rate_for_tomorrow_is_used_when_tomorrow_opens(here: Rig) -> None:
    async with running(here):
        here.desk.bring(here.desk.rate(TUESDAY, "0.90000"))
        await until(lambda: here.desk.acknowledged)
        assert here.pool(SB_SH).rate == "0.91250"
        here.at(f"{TUESDAY}T00:00")
        await give(here, new("1", TUESDAY), pool=SB_SH)
        assert (here.day(SB_SH), here.pool(SB_SH).rate) == (TUESDAY, "0.90000")


async def test_rates_of_days_long_gone_are_not_kept(here: Rig) -> None:
    async with running(here):
        for day in range(10, 20):
            here.desk.bring(here.desk.rate(f"2026-11-{day}", "0.90000"))
        await until(lambda: len(here.desk.acknowledged) == 10)
    assert here.days.almanac.rates == {}

"""The rulebook against named facts: each row is something that happened or was announced."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import pytest

from quota.clock import MarketClock
from quota.decision import Phase, PoolName
from quota.events import MARKET_TZ
from quota.rulebook import (
    ASSUMED,
    Calendar,
    aggregate_closes_buys,
    aggregate_quota_fen,
    daily_quota_fen,
    phases,
    schedule,
)

NB_SH, NB_SZ, SB_SH, SB_SZ = PoolName.NB_SH, PoolName.NB_SZ, PoolName.SB_SH, PoolName.SB_SZ
BUILT_IN = Calendar.load()


def day(text: str) -> date:
    return date.fromisoformat(text)


@pytest.mark.parametrize(
    ("pool", "on", "yuan"),
    [
        (NB_SH, "2014-11-16", None),  # the eve of the launch
        (NB_SH, "2014-11-17", 13_000_000_000),
        (SB_SH, "2014-11-17", 10_500_000_000),
        (NB_SH, "2014-12-09", 13_000_000_000),  # market rules, T1
        (NB_SH, "2017-10-23", 13_000_000_000),  # T4: balance 14.18 bn of 13
        (NB_SH, "2018-04-30", 13_000_000_000),
        (SB_SZ, "2018-04-30", 10_500_000_000),
        (NB_SH, "2018-05-01", 52_000_000_000),
        (SB_SZ, "2018-05-01", 42_000_000_000),
        (SB_SH, "2020-04-17", 42_000_000_000),  # T3
        (NB_SZ, "2016-12-04", None),  # the eve of Shenzhen's launch
        (SB_SZ, "2016-12-04", None),
        (NB_SZ, "2016-12-05", 13_000_000_000),
        (SB_SZ, "2016-12-05", 10_500_000_000),
        (NB_SZ, "2026-11-23", 52_000_000_000),
    ],
)
def test_the_daily_quota_is_the_one_of_its_date(pool: PoolName, on: str, yuan: int | None) -> None:
    assert daily_quota_fen(pool, day(on)) == (None if yuan is None else yuan * 100)


@pytest.mark.parametrize(
    ("pool", "on", "left_yuan", "shut"),
    [
        (NB_SH, "2015-07-06", 13_000_000_000, False),  # exactly one daily quota is enough
        (NB_SH, "2015-07-06", 12_999_999_999, True),
        (SB_SH, "2015-07-06", 10_500_000_000, False),
        (SB_SH, "2015-07-06", 10_499_999_999, True),
        (NB_SH, "2016-08-15", 0, True),
        (NB_SH, "2016-08-16", 0, False),  # abolished
        (NB_SZ, "2016-12-05", 0, False),  # Shenzhen never had one
    ],
)
def test_an_aggregate_balance_under_one_daily_quota_shuts_the_next_day(
    pool: PoolName, on: str, left_yuan: int, *, shut: bool
) -> None:
    assert aggregate_closes_buys(pool, day(on), aggregate_balance_fen=left_yuan * 100) is shut


def test_the_aggregate_quota_was_300_bn_north_and_250_bn_south() -> None:
    assert aggregate_quota_fen(NB_SH, day("2014-11-17")) == 30_000_000_000_000
    assert aggregate_quota_fen(SB_SH, day("2016-08-15")) == 25_000_000_000_000
    assert aggregate_quota_fen(SB_SH, day("2016-08-16")) is None
    assert aggregate_quota_fen(NB_SH, day("2014-11-16")) is None


NORTHBOUND = "09:10 opening 09:30 continuous 11:30 break 12:55 continuous 14:57 closing 15:00 closed"
NO_AUCTION = "09:10 opening 09:30 continuous 11:30 break 12:55 continuous 15:00 closed"
SOUTHBOUND = "09:00 opening 09:30 continuous 12:00 break 13:00 continuous 16:00 closing 16:10 closed"
SOUTH_HALF = "09:00 opening 09:30 continuous 12:00 closing 12:10 closed"


@pytest.mark.parametrize(
    ("pool", "on", "half_day", "timetable"),
    [
        (NB_SH, "2026-11-23", False, NORTHBOUND),
        (NB_SZ, "2026-11-23", False, NORTHBOUND),
        (NB_SH, "2026-12-24", True, NORTHBOUND),
        (SB_SH, "2026-11-23", False, SOUTHBOUND),
        (SB_SZ, "2026-12-24", True, SOUTH_HALF),
        (NB_SH, "2018-08-17", False, NO_AUCTION),  # the last Friday before Shanghai's closing auction
        (NB_SH, "2018-08-20", False, NORTHBOUND),
        (NB_SZ, "2018-08-17", False, NORTHBOUND),
        (SB_SH, "2016-07-22", False, SOUTHBOUND.replace("closing 16:10 ", "")),  # before Hong Kong's
        (SB_SH, "2016-07-25", False, SOUTHBOUND),
        (SB_SH, "2015-12-24", True, SOUTH_HALF.replace("closing 12:10 ", "")),
    ],
)
def test_the_phases_of_a_day(pool: PoolName, on: str, timetable: str, *, half_day: bool) -> None:
    found = phases(pool, day(on), half_day=half_day)
    assert " ".join(f"{at:%H:%M} {phase}" for at, phase in found) == timetable


@pytest.mark.parametrize("pool", PoolName)
@pytest.mark.parametrize("half_day", [False, True])
def test_phases_ascend_within_the_day_in_market_time_and_end_closed(
    pool: PoolName, *, half_day: bool
) -> None:
    found = phases(pool, day("2026-11-23"), half_day=half_day)
    assert all(at.tzinfo is MARKET_TZ and at.date() == day("2026-11-23") for at, _ in found)
    assert all(earlier[0] < later[0] for earlier, later in pairwise(found))
    assert [phase for _, phase in found].index(Phase.CLOSED) == len(found) - 1


def test_a_schedule_is_written_in_the_servers_milliseconds() -> None:
    opens = int(datetime(2026, 11, 23, 1, 10, tzinfo=UTC).timestamp() * 1000)
    written = schedule(NB_SH, day("2026-11-23"), MarketClock(), BUILT_IN).split()
    assert written[1::2] == ["opening", "continuous", "break", "continuous", "closing", "closed"]
    minutes = (0, 20, 140, 225, 347, 350)
    assert [int(ms) for ms in written[::2]] == [opens + minute * 60_000 for minute in minutes]


def test_a_schedule_follows_a_clock_that_starts_elsewhere_and_runs_faster() -> None:
    at = datetime(2026, 11, 23, 9, 29, 50, tzinfo=MARKET_TZ)
    clock = MarketClock(at=at, server_ms=1_000_000, speed=10.0, real=False)
    written = schedule(SB_SH, day("2026-11-23"), clock, BUILT_IN).split()
    assert written[2:4] == ["1001000", "continuous"]  # ten seconds away, at ten times the speed
    assert written[:2] == [str(1_000_000 - 1_790_000 // 10), "opening"]


def test_the_schedule_of_a_half_day_ends_at_ten_past_twelve_southbound() -> None:
    closes = int(datetime(2026, 12, 24, 12, 10, tzinfo=MARKET_TZ).timestamp() * 1000)
    assert schedule(SB_SH, day("2026-12-24"), MarketClock(), BUILT_IN).endswith(f" {closes} closed")


def test_a_day_without_trading_is_closed_from_its_midnight() -> None:
    midnight = int(datetime(2026, 11, 22, tzinfo=MARKET_TZ).timestamp() * 1000)
    assert schedule(NB_SH, day("2026-11-22"), MarketClock(), BUILT_IN) == f"{midnight} closed"


NONE, NORTH, SOUTH, BOTH = (False, False), (True, False), (False, True), (True, True)


@pytest.mark.parametrize(
    ("on", "directions", "why"),
    [
        ("2014-11-16", NONE, "the Sunday before the launch"),
        ("2014-11-17", BOTH, "the launch"),
        ("2014-12-24", SOUTH, "half day; the 25th is a holiday in Hong Kong, so no T+1 northbound"),
        (
            "2014-12-29",
            NORTH,
            "T+2 southbound: the 31st is a half day, 1 and 2 January are mainland holidays",
        ),
        ("2014-12-31", NORTH, "the same; northbound settles on 5 January"),
        ("2015-09-02", NORTH, "Hong Kong settles on the 4th, a mainland holiday"),
        ("2015-09-03", NONE, "70 years after the war: both sides shut"),
        ("2015-12-31", BOTH, "announced: a southbound morning; both settle after a holiday that both share"),
        ("2016-02-03", BOTH, "settles on the 4th and 5th, before the new year"),
        ("2016-02-04", NORTH, "announced: no southbound from 4 to 13 February"),
        ("2016-06-07", NORTH, "announced: no southbound from 7 June for a holiday of the 9th and 10th"),
        ("2016-06-08", NORTH, "T+1 is the 10th, T+2 the 13th: the first shut is enough"),
        ("2016-08-01", BOTH, "nobody knew of typhoon Nida yet"),
        ("2016-08-02", NONE, "typhoon Nida"),
        ("2016-10-20", BOTH, "nobody knew of typhoon Haima yet"),
        ("2016-10-21", NONE, "typhoon Haima"),
        ("2017-08-23", NONE, "typhoon Hato"),
        ("2018-04-26", NORTH, "announced: no southbound from 26 April to 1 May"),
        ("2018-09-26", BOTH, "announced: southbound between two holidays"),
        ("2018-12-24", SOUTH, "half day; no T+1 northbound"),
        ("2020-10-13", NONE, "tropical storm Nangka"),
        ("2021-10-13", NONE, "typhoon Kompasu"),
        ("2021-12-29", NORTH, "announced: no southbound from 29 to 31 December"),
        ("2022-11-02", BOTH, "tropical storm Nalgae took the afternoon only"),
        ("2023-04-06", SOUTH, "the old rule: the next day is Good Friday"),
        ("2023-04-27", BOTH, "the reform's first additional southbound day"),
        ("2023-04-28", BOTH, "its second"),
        ("2023-05-25", BOTH, "the reform's first additional northbound day"),
        ("2023-05-26", NONE, "Buddha's birthday in Hong Kong"),
        ("2023-07-17", NONE, "typhoon Talim"),
        ("2023-09-01", NONE, "typhoon Saola, which exchange-calendars does not have"),
        ("2023-09-08", NONE, "black rain, which exchange-calendars does not have"),
        ("2023-10-20", BOTH, "the reform's second additional northbound day"),
        ("2023-12-22", BOTH, "its third"),
        ("2024-09-06", NONE, "typhoon Yagi"),
        ("2025-09-24", BOTH, "typhoon Ragasa: weather no longer closes the market"),
        ("2026-02-13", BOTH, "the last day before the new year"),
        ("2026-02-16", NONE, "Hong Kong has a half day, the mainland a holiday"),
        ("2026-02-24", BOTH, "the first day after it"),
        ("2026-04-07", NONE, "the day after Easter Monday in Hong Kong"),
        ("2026-09-25", NONE, "mid-autumn on the mainland"),
        ("2026-10-19", NONE, "Chung Yeung in Hong Kong"),
        ("2026-11-22", NONE, "a Sunday"),
        ("2026-11-23", BOTH, "a Monday"),
        ("2026-12-24", BOTH, "half day"),
        ("2026-12-25", NONE, "Christmas in Hong Kong"),
        ("2026-12-31", BOTH, "half day, the table's last"),
    ],
)
def test_the_days_that_trade(on: str, directions: tuple[bool, bool], why: str) -> None:
    assert (BUILT_IN.trades(NB_SH, day(on)), BUILT_IN.trades(SB_SH, day(on))) == directions, why


@pytest.mark.parametrize(
    ("first", "last"),
    [("2025-10-01", "2025-10-08"), ("2026-10-01", "2026-10-07"), ("2026-02-14", "2026-02-23")],
)
def test_nothing_trades_in_a_golden_week(first: str, last: str) -> None:
    length = (day(last) - day(first)).days
    week = [day(first) + timedelta(n) for n in range(length + 1)]
    assert not [on for on in week for pool in PoolName if BUILT_IN.trades(pool, on)]
    assert all(BUILT_IN.trades(pool, day(last) + timedelta(1)) for pool in PoolName)


def test_shenzhen_trades_from_its_launch_on_the_days_of_shanghai() -> None:
    assert not BUILT_IN.trades(NB_SZ, day("2016-12-02"))
    assert BUILT_IN.trades(NB_SH, day("2016-12-02"))
    assert BUILT_IN.trades(NB_SZ, day("2016-12-05"))
    assert BUILT_IN.trades(SB_SZ, day("2016-12-05"))
    assert not BUILT_IN.trades(SB_SZ, day("2021-12-29"))


@pytest.mark.parametrize("pool", PoolName)
def test_no_weekend_ever_trades(pool: PoolName) -> None:
    first = day("2014-11-01")
    days = (first + timedelta(n) for n in range((BUILT_IN.ends - first).days + 1))
    assert not [on for on in days if on.weekday() > 4 and BUILT_IN.trades(pool, on)]


def test_since_the_reform_both_directions_share_their_days() -> None:
    reform = day("2023-04-24")
    assert {on for on in BUILT_IN.northbound ^ BUILT_IN.southbound if on >= reform} == set()
    assert len([on for on in BUILT_IN.northbound - BUILT_IN.southbound if on < reform]) > 50


def test_the_half_days_of_2026_are_three_eves() -> None:
    eves = sorted(on for on in BUILT_IN.half_days if on.year == 2026)
    assert eves == [day("2026-02-16"), day("2026-12-24"), day("2026-12-31")]
    assert BUILT_IN.half_day(day("2026-12-24"))
    assert not BUILT_IN.half_day(day("2026-12-23"))


def test_the_operator_closes_opens_and_shortens_days() -> None:
    ours = Calendar.load(closed=[day("2026-11-25")], extra=[day("2026-11-22")], half_days=[day("2026-11-26")])
    assert not any(ours.trades(pool, day("2026-11-25")) for pool in PoolName)
    assert all(ours.trades(pool, day("2026-11-22")) for pool in PoolName)
    assert ours.half_day(day("2026-11-26"))
    assert ours.half_day(day("2026-12-24"))
    assert BUILT_IN.trades(NB_SH, day("2026-11-25"))


def test_a_day_cannot_be_both_closed_and_open() -> None:
    with pytest.raises(ValueError, match=r"^2026-11-25 is both closed and open$"):
        Calendar.load(closed=[day("2026-11-25")], extra=[day("2026-11-25")])


def test_no_override_opens_a_pool_before_it_existed() -> None:
    ours = Calendar.load(extra=[day("2014-11-14"), day("2014-11-22")])
    assert not ours.trades(NB_SH, day("2014-11-14"))
    assert ours.trades(NB_SH, day("2014-11-22"))
    assert not ours.trades(NB_SZ, day("2014-11-22"))


def test_beyond_the_table_only_listed_days_trade() -> None:
    ours = Calendar.load(extra=[day("2027-01-05")])
    assert ours.ends == day("2026-12-31")
    assert ours.trades(SB_SZ, day("2027-01-05"))
    assert not ours.trades(SB_SZ, day("2027-01-06"))
    assert [ours.days_left(day(on)) for on in ("2026-12-01", "2026-12-31", "2027-01-02")] == [30, 0, -2]


def test_what_is_assumed_stands_in_one_table() -> None:
    assert ASSUMED.southbound_opening_resumes is False
    assert ASSUMED.northbound_half_day_closes == time(15)
    with pytest.raises(AttributeError):
        ASSUMED.northbound_opens = time(9)  # type: ignore[misc] # frozen: it must raise

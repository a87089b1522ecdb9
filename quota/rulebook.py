"""What the market fixed: quotas by date, the phases of a day, and the days that trade.

Pure: tables, and functions of a pool and a date. The trading days are a committed table,
``calendar.txt``, made by ``deploy/calendar/make_table.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from importlib.resources import files
from typing import TYPE_CHECKING, Self

from quota.decision import Phase, PoolName
from quota.events import MARKET_TZ

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quota.clock import MarketClock


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What no text that we read settles. All of it, and nowhere else.

    A wrong guess is corrected here (or by the setting that a comment names). One has no value:
    which reference rate (buy, sell, middle) the southbound quota uses is not published, so
    whoever sets ``market.hkd_cny`` chooses; the middle rate is the suggestion.
    """

    # A southbound buy refused in the opening phase stays refused until 09:30 even if the balance
    # recovers: written for Shenzhen, taken for Shanghai. Setting: market.southbound_opening_resumes.
    southbound_opening_resumes: bool = False
    # Input of northbound orders starts five minutes before the call auction of 09:15, and the
    # minutes 09:25 to 09:30 between auction and trading count as opening.
    northbound_opens: time = time(9, 10)
    # On a Hong Kong half day northbound runs to the mainland's close.
    northbound_half_day_closes: time = time(15)


ASSUMED = Assumptions()

SHANGHAI_SINCE = date(2014, 11, 17)
SHENZHEN_SINCE = date(2016, 12, 5)
AGGREGATE_ENDED = date(2016, 8, 16)
SHANGHAI_CLOSING_AUCTION_SINCE = date(2018, 8, 20)
"""SSE, 2018: "Adjusted Market-closing Trading Mechanism to Come into Effect on Aug. 20"
(english.sse.com.cn/news/newsrelease/c/4947833.shtml). Shenzhen had one before the link opened."""
HONG_KONG_CLOSING_AUCTION_SINCE = date(2016, 7, 25)
"""HKEX, first phase. Not every share was in it; the pool's phases are those of the shares that were."""

_BILLION_FEN = 100_000_000_000
_DAILY_QUOTA = (  # since, northbound, southbound: fen, per pool; the latest first
    (date(2018, 5, 1), 52 * _BILLION_FEN, 42 * _BILLION_FEN),
    (SHANGHAI_SINCE, 13 * _BILLION_FEN, 105 * _BILLION_FEN // 10),
)
_AGGREGATE_QUOTA = (300 * _BILLION_FEN, 250 * _BILLION_FEN)


def opened_on(pool: PoolName) -> date:
    """The pool's first trading day."""
    return SHANGHAI_SINCE if pool.exchange == "SH" else SHENZHEN_SINCE


def daily_quota_fen(pool: PoolName, day: date) -> int | None:
    """The pool's quota on that day, in fen; None before the pool existed."""
    if day < opened_on(pool):
        return None
    north, south = next((north, south) for since, north, south in _DAILY_QUOTA if since <= day)
    return north if pool.northbound else south


def aggregate_quota_fen(pool: PoolName, day: date) -> int | None:
    """The aggregate quota of Shanghai's first two years, in fen; None where there is none."""
    if pool.exchange != "SH" or not SHANGHAI_SINCE <= day < AGGREGATE_ENDED:
        return None
    north, south = _AGGREGATE_QUOTA
    return north if pool.northbound else south


def aggregate_closes_buys(pool: PoolName, day: date, *, aggregate_balance_fen: int) -> bool:
    """Whether buys are shut for the whole of ``day``.

    ``aggregate_balance_fen`` is what was left of the aggregate quota when the trading day before
    ended: less than one daily quota stops the buys of the next day, not of its own.
    """
    quota = daily_quota_fen(pool, day)
    return aggregate_quota_fen(pool, day) is not None and quota is not None and aggregate_balance_fen < quota


Timetable = tuple[tuple[time, Phase], ...]


def _northbound(pool: PoolName, day: date, *, half_day: bool) -> Timetable:
    closes = ASSUMED.northbound_half_day_closes if half_day else time(15)
    auction = pool.exchange == "SZ" or day >= SHANGHAI_CLOSING_AUCTION_SINCE
    full = (
        (ASSUMED.northbound_opens, Phase.OPENING),
        (time(9, 30), Phase.CONTINUOUS),
        (time(11, 30), Phase.BREAK),
        (time(12, 55), Phase.CONTINUOUS),  # input; trading from 13:00
        *(((time(14, 57), Phase.CLOSING),) if auction else ()),
    )
    return (*(entry for entry in full if entry[0] < closes), (closes, Phase.CLOSED))


def _southbound(day: date, *, half_day: bool) -> Timetable:
    morning = ((time(9), Phase.OPENING), (time(9, 30), Phase.CONTINUOUS))
    if half_day:
        return morning + _southbound_end(day, time(12))
    afternoon = ((time(12), Phase.BREAK), (time(13), Phase.CONTINUOUS))
    return morning + afternoon + _southbound_end(day, time(16))


def _southbound_end(day: date, ends: time) -> Timetable:
    if day < HONG_KONG_CLOSING_AUCTION_SINCE:
        return ((ends, Phase.CLOSED),)
    return ((ends, Phase.CLOSING), (ends.replace(minute=10), Phase.CLOSED))  # random from minute 8 on


def phases(pool: PoolName, day: date, *, half_day: bool) -> tuple[tuple[datetime, Phase], ...]:
    """From which moment (UTC+8) which phase holds on a trading day; before the first it is closed.

    ``half_day`` is Hong Kong's. The last entry is always the one that closes the day.
    """
    if pool.northbound:
        timetable = _northbound(pool, day, half_day=half_day)
    else:
        timetable = _southbound(day, half_day=half_day)
    return tuple((datetime.combine(day, at, MARKET_TZ), phase) for at, phase in timetable)


def schedule(pool: PoolName, day: date, clock: MarketClock, calendar: Calendar) -> str:
    """Write the day's phases as a pool keeps them: ``"<ms> <phase> <ms> <phase> …"``.

    The milliseconds are the server's, so that whoever asks the server sees the same phases,
    wherever the market clock stands. A day that does not trade is closed from its midnight on.
    """
    moments: tuple[tuple[datetime, Phase], ...]
    if calendar.trades(pool, day):
        moments = phases(pool, day, half_day=calendar.half_day(day))
    else:
        moments = ((datetime.combine(day, time(), MARKET_TZ), Phase.CLOSED),)
    return " ".join(f"{clock.ms_at(at)} {phase}" for at, phase in moments)


@dataclass(frozen=True, slots=True)
class Calendar:
    """The days that trade, with the operator's corrections applied.

    ``ends`` is the last day that the built-in table knows: after it, only days that the
    operator lists trade. Closing on ignorance is the safe side: no buy is let in by mistake.
    """

    northbound: frozenset[date]
    southbound: frozenset[date]
    half_days: frozenset[date]
    ends: date

    @classmethod
    def load(
        cls, *, closed: Iterable[date] = (), extra: Iterable[date] = (), half_days: Iterable[date] = ()
    ) -> Self:
        """Read the built-in table; then ``closed`` days do not trade and ``extra`` days do.

        Both hold for all pools. ``half_days`` are Hong Kong's and do not make a day trade.
        Raises ValueError where a day is both closed and extra.
        """
        shut, more = frozenset(closed), frozenset(extra)
        if both := sorted(shut & more):
            raise ValueError(f"{both[0]} is both closed and open")
        letters = _read_table()
        return cls(
            northbound=_days(letters, "BNbn") - shut | more,
            southbound=_days(letters, "BSbs") - shut | more,
            half_days=_days(letters, "bnsh") | frozenset(half_days),
            ends=max(letters),
        )

    def trades(self, pool: PoolName, day: date) -> bool:
        """Whether the pool trades on that day."""
        return day >= opened_on(pool) and day in (self.northbound if pool.northbound else self.southbound)

    def half_day(self, day: date) -> bool:
        """Whether Hong Kong closes at noon on that day."""
        return day in self.half_days

    def days_left(self, today: date) -> int:
        """How many days the table still covers after today; negative once it has run out."""
        return (self.ends - today).days


def _read_table() -> dict[date, str]:
    """Read ``calendar.txt``: a line per month, a letter per day."""
    lines = files("quota").joinpath("calendar.txt").read_text("utf-8").splitlines()
    months = (line.split() for line in lines if not line.startswith("#"))
    return {
        date.fromisoformat(f"{month}-{number:02d}"): letter
        for month, row in months
        for number, letter in enumerate(row, start=1)
    }


def _days(letters: dict[date, str], wanted: str) -> frozenset[date]:
    return frozenset(day for day, letter in letters.items() if letter in wanted)

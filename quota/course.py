"""The course of one pool's day: how much was used when, kept small, and what follows from it."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from math import inf, nan
from operator import itemgetter
from typing import NamedTuple

from quota.decision import Phase, PoolName
from quota.forecast import UNKNOWN, Forecast, Speed, UsualDay, expected_eta_s
from quota.pool import Pool

Phases = Sequence[tuple[datetime, Phase]]
"""From which moment of the market's clock which phase holds, ascending; ``closed`` before the first."""

MOST_POINTS = 300
"""How many points of a day are kept for a chart, the newest not counted."""

_EVERY_S = 5.0
_MINUTE_S, _TEN_MINUTES_S = 60.0, 600.0
_PACE_FROM = 0.01
_FEN = 100


class Point(NamedTuple):
    """How much of the quota was used at a moment of the market's clock."""

    at: datetime
    used_fen: int


class _Day:
    """What is kept of one trading day: the last ten open minutes, points for a chart, the speed."""

    def __init__(self, usual: UsualDay) -> None:
        self.usual = usual
        self.points: list[Point] = []
        self.speed = Speed()
        self._recent: deque[tuple[float, int]] = deque()  # open seconds, used fen
        self._due_s = self._point_due_s = 0.0
        self._apart_s = usual.clock_s[-1] / MOST_POINTS

    def take(self, at: datetime, used_fen: int) -> None:
        """Take in a look, where the last one that was taken is a few seconds ago."""
        clock_s = (at - self.usual.opens).total_seconds()
        if clock_s < self._due_s:
            if not self._recent:  # before the open, as it will be at the open
                self._sample(0.0, used_fen)
            return
        self._due_s = clock_s + _EVERY_S
        clock_s = self.usual.clock(at)
        self._sample(clock_s, used_fen)
        if clock_s >= self._point_due_s and clock_s < self.usual.clock_s[-1]:
            self._point_due_s = clock_s + self._apart_s
            self.points.append(Point(at, used_fen))

    def _sample(self, clock_s: float, used_fen: int) -> None:
        """Remember ten minutes of open market; while it is shut no time goes by."""
        open_s, recent = self.usual.open_at(clock_s), self._recent
        if recent and open_s <= recent[-1][0]:
            return
        recent.append((open_s, used_fen))
        while len(recent) > 1 and recent[1][0] <= open_s - _TEN_MINUTES_S:
            recent.popleft()
        self.speed.take(open_s=open_s, share=self.usual.share_at(clock_s), used_fen=used_fen)

    def net_use(self, clock_s: float, used_fen: int, window_s: float) -> float:
        """Yuan of net use per open second over the last ``window_s`` of them.

        NaN where less than half of them are known. While the market is shut no time goes by: what
        changes then is not spread over the minutes before.
        """
        open_s, recent = self.usual.open_at(clock_s), self._recent
        since_s = max(open_s - window_s, recent[0][0]) if recent else open_s
        if open_s - since_s < window_s / 2:
            return nan
        if open_s <= recent[-1][0]:
            used_fen = recent[-1][1]
        return (used_fen - self._used_at(since_s)) / (open_s - since_s) / _FEN

    def _used_at(self, open_s: float) -> float:
        """How much was used after so many open seconds: on the line between two looks."""
        recent = self._recent
        right = bisect_right(recent, open_s, key=itemgetter(0))
        since_s, used_fen = recent[right - 1]
        if right == len(recent):
            return used_fen
        until_s, later_fen = recent[right]
        return used_fen + (later_fen - used_fen) * (open_s - since_s) / (until_s - since_s)


class Course:
    """What one pool's day was like so far. A new trading day begins a new one by itself."""

    def __init__(self, name: PoolName) -> None:
        self.name = name
        self.phases: Phases = ()
        self._pool: Pool | None = None
        self._at: datetime | None = None
        self._day: _Day | None = None
        self._recalled: list[Point] = []

    def observe(self, pool: Pool, at: datetime, phases: Phases) -> None:
        """Take in how the pool stands now. Cheap: it is called five times a second."""
        known = self._pool is not None and self._pool.trading_day == pool.trading_day
        same = phases is self.phases or phases == self.phases
        earlier = self._day.points if known and self._day is not None else []
        self._pool, self._at, self.phases = pool, at, phases
        if not (known and same):
            self._begin([*self._recalled, *earlier])
            self._recalled = []
        if self._day is not None:
            self._day.take(at, pool.used_fen)

    def recall(self, points: Iterable[Point]) -> None:
        """Take in points of the same day from before the first look, ascending."""
        self._recalled = list(points)
        if self._day is None:
            return  # until the first look tells which day it is
        looks = self._day.points
        began = looks[0].at if looks else self._at
        self._begin([*(point for point in self._recalled if began is None or point.at < began), *looks])
        self._recalled = []

    def _begin(self, points: Iterable[Point]) -> None:
        """Begin the day, with what is known of it already."""
        usual = UsualDay.of(self.name, self.phases)
        self._day = None if usual is None else _Day(usual)
        for at, used_fen in points:
            if self._day is not None and self._pool is not None and _is_on(at, self._pool.trading_day):
                self._day.take(at, used_fen)

    def points(self) -> Sequence[Point]:
        """The day so far, at most a few hundred points, ascending; thinned evenly in time."""
        if self._day is None or self._pool is None or self._at is None:
            return ()
        kept, usual = self._day.points, self._day.usual
        closes = usual.opens + timedelta(seconds=usual.clock_s[-1])
        newest = Point(min(self._at, closes), self._pool.used_fen)
        if newest.at < usual.opens or (kept and newest.at <= kept[-1].at):
            return tuple(kept)
        return (*kept, newest)

    def forecast(self) -> Forecast:
        """What is expected as of the last look."""
        day, pool, at = self._day, self._pool, self._at
        if day is None or pool is None or at is None or not _is_on(at, pool.trading_day):
            return UNKNOWN
        clock_s = day.usual.clock(at)
        share = day.usual.share_at(clock_s)
        return Forecast(
            net_use_1m=day.net_use(clock_s, pool.used_fen, _MINUTE_S),
            net_use_10m=day.net_use(clock_s, pool.used_fen, _TEN_MINUTES_S),
            eta_s=_eta_s(day, pool, at),
            usual_share=share,
            pace=pool.used_ratio / share if share >= _PACE_FROM else nan,
        )

    def usual(self) -> Sequence[tuple[datetime, float]]:
        """The share of the usual day's net use that has gone by, at moments from open to close."""
        if self._day is None:
            return ()
        usual = self._day.usual
        return [
            (usual.opens + timedelta(seconds=clock_s), share)
            for clock_s, share in zip(usual.clock_s, usual.shares, strict=True)
        ]


def _eta_s(day: _Day, pool: Pool, at: datetime) -> float:
    """Seconds until the pool is used up: none if it is, infinite when the day is over without that."""
    if pool.exhausted or pool.balance_fen <= 0:
        return 0.0
    since_open_s = (at - day.usual.opens).total_seconds()
    if since_open_s >= day.usual.clock_s[-1]:
        return inf
    to_open_s = max(0.0, -since_open_s)
    clock_s = max(0.0, since_open_s)
    speed = day.speed.fen_per_day()
    return to_open_s + expected_eta_s(day.usual, clock_s, balance_fen=pool.balance_fen, fen_per_day=speed)


def _is_on(at: datetime, trading_day: str) -> bool:
    return at.date().isoformat() == trading_day

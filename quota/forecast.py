"""When a pool will be used up, and how fast: pure, from the course of its day.

A day has two clocks besides the market's. Open seconds leave out the break. The usual day goes from
0 at the open to 1 at the close, fast where the market is usually busy. On that clock a use that
follows the usual day is even, so what was used lately per share of the usual day can be carried
forward, over the break and into the close.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import accumulate, pairwise
from math import exp, inf, nan
from typing import NamedTuple, Self

from quota.decision import Phase, PoolName


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of a pool. NaN is not known; ``eta_s`` is infinite where it will not be used up.

    Seconds are the market's, the break included; rates are yuan of net use per second of open market.
    """

    net_use_1m: float = nan
    net_use_10m: float = nan
    eta_s: float = nan
    usual_share: float = nan
    pace: float = nan


UNKNOWN = Forecast()


@dataclass(frozen=True, slots=True)
class Spread:
    """How the net use of the usual day spreads, in per cent of a full day.

    ``opening`` and ``closing`` are for those phases as a whole. ``half_hours`` are for continuous
    trading: from when on, and how much in half an hour. A day with other phases (half days, the
    years without a closing auction) takes the rows that it has time for, scaled to 100 again.
    """

    opening: float
    closing: float
    half_hours: tuple[tuple[time, float], ...]


# Our ASSUMPTION, all of it and nowhere else: no published figure says how the net use of a quota
# spreads over the day. It is drawn after what is written about turnover: a quarter to a third of the
# mainland's in the first half hour, a small hump after the break, a rise to the close in Hong Kong.
# To correct it: take the used share of your pools at these times on some weeks of days (Prometheus has
# it as quota_pace_ratio times quota_usual_day_ratio), average it by the time of day, and write down how
# much each row added, in per cent of the day's. A wrong row moves `pace` by as much; a forecast follows
# the day's own speed within the half hour, and hardly minds.
NORTHBOUND = Spread(
    opening=6.0,
    closing=1.5,
    half_hours=(
        (time(9, 30), 21.0), (time(10), 13.0), (time(10, 30), 10.0), (time(11), 8.5),
        (time(12, 55), 10.0), (time(13, 30), 9.0), (time(14), 9.5), (time(14, 30), 11.0),
    ),
)  # fmt: skip
SOUTHBOUND = Spread(
    opening=5.0,
    closing=4.0,
    half_hours=(
        (time(9, 30), 13.0), (time(10), 10.0), (time(10, 30), 8.0), (time(11), 7.0), (time(11, 30), 6.0),
        (time(13), 7.5), (time(13, 30), 7.0), (time(14), 7.0), (time(14, 30), 7.0), (time(15), 8.0),
        (time(15, 30), 9.5),
    ),
)  # fmt: skip

_HALF_HOUR = timedelta(minutes=30)


class _Piece(NamedTuple):
    """A piece of the day in which the usual use is even; nothing of it in the break."""

    starts: datetime
    ends: datetime
    weight: float

    @property
    def lasts_s(self) -> float:
        return (self.ends - self.starts).total_seconds()


@dataclass(frozen=True, slots=True)
class UsualDay:
    """The usual day in the phases of this one: lines between corners.

    At ``clock_s`` after ``opens`` the market was open for ``open_s``, and ``shares`` of the usual
    day's net use have gone by.
    """

    opens: datetime
    clock_s: tuple[float, ...]
    open_s: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, name: PoolName, phases: Sequence[tuple[datetime, Phase]]) -> Self | None:
        """Lay the usual day over the phases of a day; None where it never opens."""
        spread = NORTHBOUND if name.northbound else SOUTHBOUND
        pieces = [
            piece
            for (starts, phase), (ends, _) in pairwise(phases)
            for piece in _pieces(spread, phase, starts, ends)
        ]
        busy = [number for number, piece in enumerate(pieces) if piece.weight]
        if not busy:
            return None
        pieces = pieces[busy[0] : busy[-1] + 1]
        total = sum(piece.weight for piece in pieces)
        gone = [*accumulate(piece.weight / total for piece in pieces)][:-1]
        return cls(
            opens=pieces[0].starts,
            clock_s=(0.0, *accumulate(piece.lasts_s for piece in pieces)),
            open_s=(0.0, *accumulate(piece.lasts_s if piece.weight else 0.0 for piece in pieces)),
            shares=(0.0, *gone, 1.0),
        )

    def clock(self, at: datetime) -> float:
        """Seconds of the market's clock since the open, none before it and no more after the close."""
        return min(max(0.0, (at - self.opens).total_seconds()), self.clock_s[-1])

    def open_at(self, clock_s: float) -> float:
        """For how many seconds the market was open by then."""
        return _on_line(self.clock_s, self.open_s, clock_s)

    def share_at(self, clock_s: float) -> float:
        """Which share of the usual day has gone by then."""
        return _on_line(self.clock_s, self.shares, clock_s)

    def share_after(self, open_s: float) -> float:
        """Which share of the usual day has gone by when the market was open for so long."""
        return _on_line(self.open_s, self.shares, min(open_s, self.open_s[-1]))

    def clock_at(self, share: float) -> float:
        """When a share of the usual day has gone by; infinite where that is not before the close."""
        if share >= 1:
            return inf
        right = max(1, bisect_left(self.shares, share))
        return _between(self.shares, self.clock_s, right, share)


def _pieces(spread: Spread, phase: Phase, starts: datetime, ends: datetime) -> Iterator[_Piece]:
    """Cut a phase where the table has another row."""
    if phase is Phase.OPENING or phase is Phase.CLOSING:
        yield _Piece(starts, ends, spread.opening if phase is Phase.OPENING else spread.closing)
    elif phase is Phase.CONTINUOUS:
        turns = [datetime.combine(starts, since, starts.tzinfo) for since, _ in spread.half_hours]
        for since, until in pairwise([starts, *(turn for turn in turns if starts < turn < ends), ends]):
            _, weight = spread.half_hours[max(0, bisect_right(turns, since) - 1)]
            yield _Piece(since, until, weight * ((until - since) / _HALF_HOUR))
    else:
        yield _Piece(starts, ends, 0.0)


def _on_line(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Read a line between corners, where ``x`` lies between the first and the last."""
    return _between(xs, ys, min(bisect_right(xs, x), len(xs) - 1), x)


def _between(xs: Sequence[float], ys: Sequence[float], right: int, x: float) -> float:
    left = right - 1
    return ys[left] + (ys[right] - ys[left]) * (x - xs[left]) / (xs[right] - xs[left])


# How the speed is judged. The figures were chosen on days of seeds that `bench/forecast.py` does not
# report on; around them the outcome hardly changes.
_MEMORY_S = 2_400.0
"""After so many open seconds a use counts for 1/e of what it did."""
_DAY_COUNTS = 0.03
"""The day so far counts as much as this share of a usual day would that was just seen."""
_LEAST_SHARE = 0.1
"""The day so far is spread over this much of a usual day at least: its first orders are not the whole of
it, and in the opening auction no sell has traded yet that would give something back."""
_ALLOWANCE, _SOON_S = 0.2, 1_800.0
"""We reckon with so much more than was used lately, in the next open half hour: a busy spell is likelier to
take more than the speed says in half an hour than in half a day, and a late warning is dearer."""


@dataclass(slots=True)
class Speed:
    """How fast a day uses its quota, per usual day: what was used lately, and a little the day so far.

    One memory that fades, on the clock of the usual day: a large order counts once and fades, a busy
    half hour carries on, and a busy opening does not make a busy afternoon.
    """

    open_s: float | None = None
    share: float = 0.0
    used_fen: int = 0
    lately_fen: float = 0.0
    lately_share: float = 0.0

    def take(self, *, open_s: float, share: float, used_fen: int) -> None:
        """Take in how much is used by now. The first look only tells where to begin."""
        if self.open_s is not None:
            fades = exp((self.open_s - open_s) / _MEMORY_S)
            self.lately_fen = self.lately_fen * fades + (used_fen - self.used_fen)
            self.lately_share = self.lately_share * fades + (share - self.share)
        self.open_s, self.share, self.used_fen = open_s, share, used_fen

    def fen_per_day(self) -> float:
        """What a usual day would use at this speed; below zero where the quota recovers."""
        day = self.used_fen / max(self.share, _LEAST_SHARE)
        return (self.lately_fen + _DAY_COUNTS * day) / (self.lately_share + _DAY_COUNTS)


def expected_eta_s(usual: UsualDay, clock_s: float, *, balance_fen: int, fen_per_day: float) -> float:
    """Seconds until a balance is used up at a speed, break included; infinite where not before the close."""
    if balance_fen <= 0:
        return 0.0
    if fen_per_day <= 0:
        return inf
    gone = usual.share_at(clock_s)
    soon = usual.share_after(usual.open_at(clock_s) + _SOON_S) - gone
    needed = balance_fen / fen_per_day
    ahead = min(soon * _ALLOWANCE, needed * _ALLOWANCE / (1 + _ALLOWANCE))
    return max(0.0, usual.clock_at(gone + needed - ahead) - clock_s)

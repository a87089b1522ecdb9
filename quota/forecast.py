"""When a pool will be used up, and how fast: pure, from the course of its day.

The use of a day is told on two clocks. Open seconds leave out the break and the closed hours. The
usual day's clock goes from 0 at the open to 1 at the close, fast where the market is usually busy:
on it, an even use is one that follows the usual day, and so it can be carried forward.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import pairwise
from math import nan
from typing import Self

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
class Shares:
    """How the net use of a usual day spreads: per cent in both auctions, and per half hour from when."""

    opening: float
    closing: float
    half_hours: tuple[tuple[time, float], ...]


NORTHBOUND = Shares(
    opening=6.0,
    closing=2.0,
    half_hours=(
        (time(9, 30), 20.0), (time(10), 13.0), (time(10, 30), 10.0), (time(11), 8.5),
        (time(12, 55), 9.0), (time(13, 30), 9.0), (time(14), 10.0), (time(14, 30), 12.0),
    ),
)  # fmt: skip
SOUTHBOUND = Shares(
    opening=5.0,
    closing=4.0,
    half_hours=(
        (time(9, 30), 13.0), (time(10), 10.0), (time(10, 30), 8.0), (time(11), 7.0), (time(11, 30), 6.0),
        (time(13), 7.0), (time(13, 30), 6.5), (time(14), 6.5), (time(14, 30), 7.0), (time(15), 8.5),
        (time(15, 30), 11.0),
    ),
)  # fmt: skip

_OPEN = {Phase.OPENING, Phase.CONTINUOUS, Phase.CLOSING}


@dataclass(frozen=True, slots=True)
class UsualDay:
    """The usual day in the phases of this one: at ``clock_s`` after ``opens`` which share has gone by.

    ``open_s`` are the open seconds at the same moments.
    """

    opens: datetime
    clock_s: tuple[float, ...]
    open_s: tuple[float, ...]
    shares: tuple[float, ...]
    trading_s: float

    @classmethod
    def of(cls, name: PoolName, phases: Sequence[tuple[datetime, Phase]]) -> Self | None:
        """Spread the table over the phases of a day; None where it never opens."""
        spread = NORTHBOUND if name.northbound else SOUTHBOUND
        pieces = [
            piece
            for (starts, phase), (ends, _) in pairwise(phases)
            for piece in _pieces(spread, phase, starts, ends)
        ]
        while pieces and pieces[0][2] == 0:
            pieces.pop(0)
        if not pieces:
            return None
        opens, total = pieces[0][0], sum(part for *_, part in pieces)
        clock, opened, gone = [0.0], [0.0], [0.0]
        for starts, ends, part in pieces:
            clock.append((ends - opens).total_seconds())
            opened.append(opened[-1] + ((ends - starts).total_seconds() if part else 0.0))
            gone.append(gone[-1] + part / total)
        gone[-1] = 1.0
        trading = next((at for at, phase in phases if phase is Phase.CONTINUOUS), opens)
        return cls(opens, tuple(clock), tuple(opened), tuple(gone), (trading - opens).total_seconds())


def _pieces(
    spread: Shares, phase: Phase, starts: datetime, ends: datetime
) -> Iterator[tuple[datetime, datetime, float]]:
    """Cut a phase where the table changes: from when to when, and how much of the usual day."""
    if phase is Phase.OPENING:
        yield starts, ends, spread.opening
    elif phase is Phase.CLOSING:
        yield starts, ends, spread.closing
    elif phase is Phase.CONTINUOUS:
        turns = [datetime.combine(starts, at, starts.tzinfo) for at, _ in spread.half_hours]
        cuts = [starts, *(turn for turn in turns if starts < turn < ends), ends]
        for since, until in pairwise(cuts):
            row = max(0, bisect_right(turns, since) - 1)
            yield since, until, spread.half_hours[row][1] * ((until - since) / timedelta(minutes=30))
    else:
        yield starts, ends, 0.0

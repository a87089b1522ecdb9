"""The course of one pool's day: how much was used when, kept small, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from quota.decision import Phase, PoolName
from quota.forecast import UNKNOWN, Forecast
from quota.pool import Pool

Phases = Sequence[tuple[datetime, Phase]]
"""From which moment of the market's clock which phase holds, ascending; ``closed`` before the first."""


class Point(NamedTuple):
    """How much of the quota was used at a moment of the market's clock."""

    at: datetime
    used_fen: int


class Course:
    """What one pool's day was like so far. A new trading day begins a new one by itself."""

    def __init__(self, name: PoolName) -> None:
        self.name = name
        self.phases: Phases = ()

    def observe(self, pool: Pool, at: datetime, phases: Phases) -> None:
        """Take in how the pool stands now. Cheap: it is called five times a second."""

    def recall(self, points: Iterable[Point]) -> None:
        """Take in points of the same day from before the first look, ascending."""

    def points(self) -> Sequence[Point]:
        """The day so far, at most a few hundred points, ascending; thinned evenly in time."""
        return ()

    def forecast(self) -> Forecast:
        """What is expected as of the last look."""
        return UNKNOWN

    def usual(self) -> Sequence[tuple[datetime, float]]:
        """The share of the usual day's net use that has gone by, at moments from open to close."""
        return ()

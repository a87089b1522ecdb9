"""How a pool stands at a moment of the market's clock, and how much that matters.

Pure. Nothing is taken for now that is known of earlier only, and nothing is expected without evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf, isnan

from quota.decision import Phase, PoolName, Status
from quota.forecast import UNKNOWN, Forecast
from quota.pool import Pool

WATCH_S = 1_800.0
"""How long before its expected end a pool is one to watch, in seconds of the market."""

WATCH_RATIO = 0.9
"""From which used share on a pool is one to watch, whatever is expected."""

EARLY_SHARE, EARLY_RATIO = 0.15, 0.7
"""Before this share of the usual day has gone by no end is told: the opening takes much and gives much
back. A pool that has used so much of its limit by then is one to watch all the same."""

NAMES = {
    PoolName.NB_SH: ("Northbound Shanghai", "沪股通"),
    PoolName.NB_SZ: ("Northbound Shenzhen", "深股通"),
    PoolName.SB_SH: ("Southbound Shanghai", "港股通(沪)"),
    PoolName.SB_SZ: ("Southbound Shenzhen", "港股通(深)"),
}
"""The pools' names in English and Chinese."""


class Tone(StrEnum):
    """How much a sentence matters: all is well, nothing happens, look at it, buys are stopped."""

    OK = "ok"
    QUIET = "quiet"
    WATCH = "watch"
    TROUBLE = "trouble"


class Known(StrEnum):
    """How well a pool is known: as it is now, as it once was, or not at all."""

    NOW = "now"
    ONCE = "once"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Standing:
    """A pool at a moment of the market's clock.

    ``phases`` are those of its day; ``since`` is when its status began, ``opens`` when its next
    trading day does: None where that is not known. ``fed`` is whether orders and trades come in.
    """

    pool: Pool | None
    now: datetime
    phases: Sequence[tuple[datetime, Phase]] = ()
    since: datetime | None = None
    opens: datetime | None = None
    half_day: bool = False
    forecast: Forecast = UNKNOWN
    known: Known = Known.NOW
    fed: bool = True

    @property
    def phase(self) -> Phase:
        """The phase as it was last judged."""
        return self.pool.phase if self.pool else Phase.CLOSED

    @property
    def status(self) -> Status:
        """The status as it was last judged."""
        return self.pool.status if self.pool else Status.CLOSED

    @property
    def over(self) -> bool:
        """Whether the day is over, as against not begun."""
        return self.phase is Phase.CLOSED and (not self.phases or self.now >= self.phases[0][0])

    @property
    def next_phase(self) -> tuple[datetime, Phase] | None:
        """The phase that follows today, and when it begins."""
        return next((each for each in self.phases if each[0] > self.now), None)

    @property
    def stops(self) -> tuple[datetime, Phase] | None:
        """The next phase that takes no buys."""
        shut = {Phase.BREAK, Phase.CLOSED}
        return next((each for each in self.phases if each[0] > self.now and each[1] in shut), None)

    @property
    def starts(self) -> datetime | None:
        """When continuous trading first begins."""
        return next((at for at, phase in self.phases if phase is Phase.CONTINUOUS), None)

    @property
    def stopped(self) -> bool:
        """Whether something other than the clock has stopped the buys."""
        return self.status in {Status.HALTED, Status.EXHAUSTED, Status.SUSPENDED}

    @property
    def current(self) -> bool:
        """Whether it is known as it is now, with all that was ordered and traded."""
        return self.known is Known.NOW and self.fed

    @property
    def begun(self) -> bool:
        """Whether orders or trades have come today: without any there is nothing to go by."""
        pool = self.pool
        return pool is not None and bool(
            any(pool.decided.values()) or pool.filled_buy_fen or pool.filled_sell_fen
        )

    @property
    def early(self) -> bool:
        """Whether too little has been seen of the day to say how it goes on."""
        return not self.begun or self.forecast.usual_share < EARLY_SHARE

    @property
    def used_up_at(self) -> datetime | None:
        """When the quota is expected to be used up, where it may be: buys that are refused use nothing."""
        eta_s = self.forecast.eta_s
        if self.pool is None or not self.current or self.stopped or self.early:
            return None
        return None if isnan(eta_s) or eta_s in {0.0, inf} else self.now + timedelta(seconds=eta_s)

    @property
    def tone(self) -> Tone:
        """How much this pool matters now."""
        ended = self.status is Status.EXHAUSTED and self.over
        if self.stopped and not ended:
            return Tone.TROUBLE
        if self.pool is None or not self.current or self.phase in {Phase.CLOSED, Phase.BREAK}:
            return Tone.QUIET
        soon = self.used_up_at is not None and self.forecast.eta_s <= WATCH_S
        much = self.pool.used_ratio >= (EARLY_RATIO if self.early else WATCH_RATIO)
        return Tone.WATCH if soon or much else Tone.OK

    @property
    def word(self) -> str:
        """A word or a few for the status and what the phase makes of it."""
        if self.known is Known.NEVER:
            return "Not known"
        once = self.known is Known.ONCE
        if self.pool is None:
            return "No day was open" if once else "No day open"
        if self.status is Status.OPEN and self.phase is Phase.BREAK:
            return "Was in the break" if once else "Break"
        return f"Was {self.status}" if once else self.status.capitalize()

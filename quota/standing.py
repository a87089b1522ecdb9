"""How a pool stands, in sentences: what it takes now, why, until when, and what is to be expected.

Pure. A sentence here says the same as the words of the status, for a reader who does not know them.
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


@dataclass(frozen=True, slots=True)
class Standing:
    """A pool at a moment of the market's clock.

    ``phases`` are those of its day; ``since`` is when its status began, ``opens`` when its next
    trading day does: None where that is not known.
    """

    pool: Pool | None
    now: datetime
    phases: Sequence[tuple[datetime, Phase]] = ()
    since: datetime | None = None
    opens: datetime | None = None
    half_day: bool = False
    forecast: Forecast = UNKNOWN

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
    def used_up_at(self) -> datetime | None:
        """When the quota is expected to be used up, if it will before the close."""
        eta_s = self.forecast.eta_s
        return None if isnan(eta_s) or eta_s in {0.0, inf} else self.now + timedelta(seconds=eta_s)

    @property
    def stopped(self) -> bool:
        """Whether something other than the clock has stopped the buys."""
        return self.status in {Status.HALTED, Status.EXHAUSTED, Status.SUSPENDED}

    @property
    def tone(self) -> Tone:
        """How much this pool matters now."""
        ended = self.status is Status.EXHAUSTED and self.over
        if self.stopped and not ended:
            return Tone.TROUBLE
        if self.pool is None or self.phase in {Phase.CLOSED, Phase.BREAK}:
            return Tone.QUIET
        soon = self.used_up_at is not None and self.forecast.eta_s <= WATCH_S
        return Tone.WATCH if soon or self.pool.used_ratio >= WATCH_RATIO else Tone.OK

    @property
    def word(self) -> str:
        """One word or two for the status and what the phase makes of it."""
        if self.pool is None:
            return "No day open"
        if self.status is Status.OPEN and self.phase is Phase.BREAK:
            return "Break"
        return self.status.capitalize()


def hour(moment: datetime) -> str:
    """Write a time of today."""
    return f"{moment:%H:%M}"


def day_and_hour(moment: datetime) -> str:
    """Write a moment of another day."""
    return f"{moment:%a} {moment.day} {moment:%b}, {moment:%H:%M}"


def span(seconds: float) -> str:
    """Write how long something takes, in minutes or hours."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:  # noqa: PLR2004 - minutes of an hour
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def meaning(at: Standing) -> str:
    """Say what the pool takes now."""
    match at.status:
        case Status.HALTED:
            return "Buys are refused; sells are taken."
        case Status.EXHAUSTED if not at.over:
            return "No more buys today; sells are taken."
        case Status.EXHAUSTED | Status.CLOSED:
            return _shut(at)
        case Status.SUSPENDED:
            return "Buys are refused for now; sells are taken."
        case Status.OPEN if at.phase is Phase.BREAK:
            return "Buys are refused during the break; sells are taken."
        case _:
            return f"Buys and sells are taken{_until_stop(at)}."


def _shut(at: Standing) -> str:
    if at.pool is None:
        return "No trading day is open: buys are refused."
    return "The trading day is over: buys are refused." if at.over else "The trading day has not begun."


def _until_stop(at: Standing) -> str:
    if at.stops is None:
        return ""
    moment, phase = at.stops
    return f" until the {'break' if phase is Phase.BREAK else 'close'} at {hour(moment)}"


def why(at: Standing) -> str:
    """Say why buys are refused; empty where they are not, or where the clock says it all."""
    pool = at.pool
    if pool is None or not at.stopped:
        return ""
    since = f" at {hour(at.since)}" if at.since else ""
    if at.status is Status.HALTED:
        return f"An operator halted it{since}: {pool.halted}"
    if at.status is Status.SUSPENDED:
        return f"The quota was used up{since}, within the opening phase."
    if pool.balance_fen > 0:
        back = f"{100 * pool.balance_fen / pool.limit_fen:.0f} %"
        return f"Used up{since}. The balance is back at {back}, which does not reopen it."
    return f"The quota was used up{since}."


def until(at: Standing) -> str:
    """Say when buys are taken again; empty where they are."""
    if at.status is Status.HALTED:
        return "An operator resumes it. A halt outlasts the day."
    if at.status is Status.SUSPENDED:
        return _until_resumed(at)
    if at.status is Status.OPEN:
        following = at.next_phase if at.phase is Phase.BREAK else None
        return hour(following[0]) if following else ""
    if at.status is Status.CLOSED and at.pool is not None and not at.over and at.next_phase:
        return f"{hour(at.next_phase[0])}, when the {at.next_phase[1]} phase begins"
    quota = " with the full quota" if at.status is Status.EXHAUSTED else ""
    return f"{day_and_hour(at.opens)}{quota}" if at.opens else "The next trading day, which is not known"


def _until_resumed(at: Standing) -> str:
    starts = hour(at.starts) if at.starts else "continuous trading"
    if at.pool is not None and at.pool.resumes_in_opening:
        return f"The balance is above zero. If it is not by {starts}: no more buys today."
    return f"{starts}, if the balance is above zero then. If not: no more buys today."


def outlook(at: Standing) -> str:
    """Say whether the quota will last; empty where nobody knows."""
    if at.pool is None:
        return ""
    if at.pool.exhausted:
        return f"Used up since {hour(at.since)}" if at.since and not at.pool.halted else "Used up"
    if at.over:
        return "Lasted until the close"
    if at.used_up_at is not None:
        return f"Used up about {hour(at.used_up_at)}"
    if at.forecast.eta_s == inf:
        return "Lasts until the close"
    return "Used up" if at.forecast.eta_s == 0 else ""


def told(at: Standing) -> str:
    """Finish the sentence that begins with the pool's name, for a pool in trouble or to watch."""
    if at.tone is Tone.WATCH and at.pool is not None:
        if at.used_up_at is not None:
            return f"is expected to be used up at about {hour(at.used_up_at)}, in {span(at.forecast.eta_s)}."
        return f"has used {100 * at.pool.used_ratio:.0f} % of its limit."
    since = f" since {hour(at.since)}" if at.since else ""
    says = meaning(at)
    return f"is {at.status}{since}: {says[0].lower()}{says[1:]} {_ends(at)}"


def _ends(at: Standing) -> str:
    """Say in a headline when buys are taken again."""
    match at.status:
        case Status.HALTED:
            return "It ends when an operator resumes the pool."
        case Status.SUSPENDED if at.pool is not None and at.pool.resumes_in_opening:
            return "It ends when the balance is above zero."
        case Status.SUSPENDED if at.starts is not None:
            return f"It ends at {hour(at.starts)} if the balance is above zero then."
        case Status.EXHAUSTED if at.opens is not None:
            return f"It ends {day_and_hour(at.opens)}."
        case _:
            return ""

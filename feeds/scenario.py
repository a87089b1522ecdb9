"""The plot of the simulated day: when each pool trades, how busily, and where its balance goes.

A table and pure functions of it. What makes the plot come true is feeds/crowd.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from quota.decision import PoolName, Status

LIMITS_YUAN: dict[PoolName, str] = {
    PoolName.NB_SH: "200000000.00",
    PoolName.NB_SZ: "250000000.00",
    PoolName.SB_SH: "200000000.00",
    PoolName.SB_SZ: "300000000.00",
}
"""The shares of the quota that the simulated broker has for itself, in yuan."""

HKD_CNY = "0.91250"
"""The day's conversion rate: RMB for one HKD."""


def clock_s(text: str) -> float:
    """Seconds since midnight of ``HH:MM`` or ``HH:MM:SS``."""
    hours, minutes, seconds = (*text.split(":"), "0")[:3]
    return int(hours) * 3600.0 + int(minutes) * 60.0 + int(seconds)


@dataclass(frozen=True, slots=True)
class Hours:
    """A market's day in seconds since midnight.

    Orders rest from ``opens`` until ``matches``, when the auction trades them; from
    ``closing`` they rest again until ``closes``.
    """

    opens: float
    matches: float
    starts: float
    breaks: float
    resumes: float
    trades_again: float
    closing: float
    closes: float

    def takes_orders(self, at_s: float) -> bool:
        """Whether orders are entered now: not before the day, not in the break, not after."""
        return self.opens <= at_s < self.breaks or self.resumes <= at_s < self.closes

    def trades_from(self, at_s: float) -> float:
        """The first moment from now on at which something can trade."""
        if at_s < self.matches:
            return self.matches
        if self.breaks <= at_s < self.trades_again:
            return self.trades_again
        return self.closes if self.closing <= at_s < self.closes else at_s


def _hours(text: str) -> Hours:
    return Hours(*(clock_s(word) for word in text.split()))


NORTHBOUND = _hours("09:10 09:25 09:30 11:30 12:55 13:00 14:57 15:00")
SOUTHBOUND = _hours("09:00 09:20 09:30 12:00 13:00 13:00 16:00 16:10")
LAST_S = clock_s("16:11:30")
"""When the day is over for the simulation: the last auction's trades are told."""


def hours_of(pool: PoolName) -> Hours:
    """The hours of the market across the border."""
    return NORTHBOUND if pool.northbound else SOUTHBOUND


@dataclass(frozen=True, slots=True)
class Act:
    """A piece of the plot: at ``until`` the balance shall be ``balance``, a share of the limit.

    No buy is sent that could take it below ``floor``. A ``drive`` goes on until the pool has
    shown that status, at most to ``latest``. ``pulls``: resting buys are cancelled where the
    balance would be too low otherwise.
    """

    until: float
    balance: float
    floor: float = 0.07
    drive: Status | None = None
    latest: float = 0.0
    pulls: bool = False


def _act(until: str, balance: float, floor: float = 0.07) -> Act:
    return Act(clock_s(until), balance, floor)


def _pull(until: str, balance: float) -> Act:
    return Act(clock_s(until), balance, pulls=True)


def _drive(until: str, status: Status, latest: str) -> Act:
    return Act(clock_s(until), -0.03, -math.inf, drive=status, latest=clock_s(latest))


PLOT: dict[PoolName, tuple[Act, ...]] = {
    PoolName.NB_SH: (  # suspended and resumed inside the auction, then open all day
        _act("09:10", 1.0), _act("09:14:40", 0.2, 0.18), _drive("09:15:40", Status.SUSPENDED, "09:20"),
        _act("09:20:30", -0.03), _pull("09:23:30", 0.28), _act("09:30", 0.28, 0.2), _act("10:30", 0.42),
        _act("11:30", 0.24), _act("13:30", 0.38), _act("14:30", 0.16), _act("15:00", 0.24),
    ),
    PoolName.SB_SH: (  # suspended until 09:30 whatever the balance, then open
        _act("09:00", 1.0), _act("09:06", 0.4, 0.25), _drive("09:09", Status.SUSPENDED, "09:16"),
        _act("09:14", -0.03), _pull("09:18:30", 0.3), _act("09:30", 0.3, 0.2), _act("10:30", 0.45),
        _act("12:00", 0.25), _act("14:00", 0.4), _act("15:40", 0.15), _act("16:10", 0.22),
    ),
    PoolName.NB_SZ: (  # exhausted for good in the afternoon, though sells bring the balance back
        _act("09:10", 1.0), _act("09:30", 0.8, 0.4), _act("10:30", 0.52, 0.3), _act("11:30", 0.46, 0.2),
        _act("13:30", 0.22, 0.1), _drive("13:45", Status.EXHAUSTED, "14:40"), _act("13:50", 0.0),
        _act("14:40", 0.14), _act("15:00", 0.16),
    ),
    PoolName.SB_SZ: (  # net selling: the day ends above the quota
        _act("09:00", 1.0), _act("09:30", 0.86, 0.5), _act("11:00", 0.95, 0.4), _act("12:00", 1.0, 0.4),
        _act("14:30", 1.07, 0.4), _act("15:50", 1.13, 0.9), _act("16:10", 1.14, 0.9),
    ),
}  # fmt: skip


def act_at(pool: PoolName, at_s: float, shown: frozenset[Status]) -> Act:
    """The act in force, where ``shown`` holds the statuses that the pool has shown so far."""
    acts = PLOT[pool]
    for act in acts:
        if at_s < act.until or (act.drive is not None and act.drive not in shown and at_s < act.latest):
            return act
    return acts[-1]


def wanted_at(pool: PoolName, at_s: float) -> float:
    """Where the balance shall be, a share of the limit: a line from act to act."""
    acts = PLOT[pool]
    for before, act in pairwise(acts):
        if at_s < act.until:
            passed = max(0.0, at_s - before.until) / (act.until - before.until)
            return before.balance + (act.balance - before.balance) * passed
    return acts[-1].balance


def activity(pool: PoolName, at_s: float) -> float:
    """How busy a pool is, 1 on average: a U over the day, crowded before an auction matches."""
    hours = hours_of(pool)
    if at_s < hours.matches:
        return 2.0
    if at_s < hours.starts:
        return 0.6
    morning = math.exp((hours.starts - at_s) / 1200.0)
    evening = math.exp((at_s - hours.closing) / 1500.0) if at_s < hours.closing else 1.0
    return 0.75 + 0.9 * morning + 0.8 * evening

"""A whole trading day with its breaks, and a quiet weekend, as promtool plays them.

The rules know no clock, and no window of theirs is longer than ten minutes. So the night after the
day and the weekend are cut short.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from quota.decision import Phase, PoolName, Status
from tests.promtool import STEP_S, Case, hold, written

Figure = Callable[[int], float | str]
"""A figure at a second since midnight."""

START, END = "08:45", "17:50"
OPEN_PHASES = {"opening", "continuous", "closing"}


def clock(text: str) -> int:
    hours, minutes, *seconds = map(int, text.split(":"))
    return hours * 3600 + minutes * 60 + sum(seconds)


def steps(text: str) -> Figure:
    """Read ``09:00 word, 09:30 other``: each holds until the next."""
    words = [part.split() for part in text.split(", ")]
    moments = [clock(moment) for moment, _ in words]
    return lambda at: words[bisect_right(moments, at) - 1][1]


def line(text: str) -> Figure:
    """Read ``09:00 0.1, 09:30 0.4``: straight from each to the next."""
    points = [(clock(moment), float(value)) for moment, value in map(str.split, text.split(", "))]

    def at_moment(at: int) -> float:
        for (start, low), (end, high) in pairwise(points):
            if start <= at < end:
                return low + (high - low) * (at - start) / (end - start)
        return points[-1][1]

    return at_moment


# 16:40 stands for the next morning: the day opens, and its phases follow as on the day before.
NORTH = (
    "08:45 closed, 09:10 opening, 09:30 continuous, 11:30 break, 12:55 continuous, 14:57 closing, "
    "15:00 closed, 17:10 opening, 17:30 continuous"
)
SOUTH = (
    "08:45 closed, 09:00 opening, 09:30 continuous, 12:00 break, 13:00 continuous, 16:00 closing, "
    "16:10 closed, 17:00 opening, 17:30 continuous"
)
PHASES = {pool: steps(NORTH if pool.northbound else SOUTH) for pool in PoolName}
USED = {
    "NB-SH": line(
        "08:45 0, 09:10 0, 11:30 0.45, 13:00 0.45, 14:23 1, "
        "14:24 1.002, 14:40 0.98, 16:40 0.98, 16:40 0, 17:50 0.1"
    ),
    "NB-SZ": line("08:45 0, 09:10 0, 11:00 0.72, 13:30 0.72, 13:36 0.6, 16:40 0.6, 16:40 0, 17:50 0.1"),
    "SB-SH": line(
        "08:45 0, 09:00 0, 09:15 1.01, 09:25 1.01, 09:29 0.96, 09:30 0.4, "
        "16:10 0.6, 16:40 0.6, 16:40 0, 17:50 0.1"
    ),
    "SB-SZ": line("08:45 0, 09:00 0, 16:10 0.69, 16:40 0.69, 16:40 0, 17:50 0.1"),
}
STATUSES = {
    "NB-SH": steps("08:45 closed, 09:10 open, 14:23 exhausted, 16:40 closed, 17:10 open"),
    "NB-SZ": steps("08:45 closed, 09:10 open, 10:00 halted, 10:05 open, 15:00 closed, 17:10 open"),
    "SB-SH": steps("08:45 closed, 09:00 open, 09:15 suspended, 09:30 open, 16:10 closed, 17:00 open"),
    "SB-SZ": steps("08:45 closed, 09:00 open, 16:10 closed, 17:00 open"),
}
REFUSED = {
    "NB-SH": line("08:45 0, 14:23 0, 15:00 900, 16:40 900, 16:40 0, 17:50 0"),
    "SB-SH": line("08:45 0, 09:15 0, 09:30 400, 16:40 400, 16:40 0, 17:50 0"),
}
USED_UP = clock("14:23")

LEVELS = ["QuotaUsed70 NB-SH", "QuotaUsed90 NB-SH"]
FORECAST = ["QuotaExhaustionIn30Minutes NB-SH", "QuotaExhaustionIn10Minutes NB-SH"]
SUSPENDED = ["QuotaUsed70 SB-SH", "QuotaUsed90 SB-SH", "QuotaUsed100 SB-SH", "QuotaSuspended SB-SH"]
STANDING = ["QuotaUsed70 NB-SZ"]
REFUSALS = "QuotaBuysRefused NB-SH,verdict=exhausted"
TOLD: Mapping[str, Sequence[str]] = {
    "09:20": [*SUSPENDED, "QuotaBuysRefused SB-SH,verdict=suspended"],
    "09:33": ["QuotaResumed SB-SH"],
    "10:03": ["QuotaHalted NB-SZ"],
    "10:07": ["QuotaResumed NB-SZ"],
    "11:29": STANDING,
    "11:31": STANDING,
    "12:54": STANDING,
    "12:56": STANDING,
    "13:39": LEVELS[:1],
    "13:52": LEVELS[:1],
    "13:54": [*LEVELS[:1], *FORECAST[:1]],
    "14:09": [*LEVELS, *FORECAST[:1]],
    "14:14": [*LEVELS, *FORECAST],
    "14:22": [*LEVELS, *FORECAST],
    "14:24": [*LEVELS, "QuotaUsed100 NB-SH", "QuotaExhausted NB-SH", REFUSALS],
    "14:50": [*LEVELS, "QuotaExhausted NB-SH", REFUSALS],
    "15:01": [*LEVELS, REFUSALS],
}
EVER: Mapping[tuple[str, str], Sequence[str]] = {
    ("08:45", "09:10"): (),
    ("09:36", "09:59"): (),
    ("10:11", "10:56"): (),
    ("11:00", "13:30"): STANDING,
    ("13:34", "13:37"): (),
    ("15:04", END): (),
}


def eta(at: int) -> float | str:
    """The forecast sees it coming after the break; used up is 0, and a new day knows nothing of it."""
    if clock("13:00") <= at < clock("16:40"):
        return max(0, USED_UP - at)
    return "Inf"


def flow(pool: PoolName) -> Figure:
    """Count the events of the pool: some every step while orders can come, none at other times."""
    moments = range(clock(START), clock(END) + STEP_S, STEP_S)
    counts, count = {}, 0
    for at in moments:
        count += 5 * (PHASES[pool](at) in OPEN_PHASES)
        counts[at] = count
    return counts.__getitem__


def is_now(figure: Figure, word: str) -> Figure:
    return lambda at: int(figure(at) == word)


def of_pool(pool: PoolName) -> Iterator[tuple[str, str, Figure]]:
    yield "quota_used_ratio", "", USED[pool]
    yield "quota_exhaustion_eta_seconds", "", eta if pool == "NB-SH" else lambda _: "Inf"
    yield "quota_trading_day_timestamp_seconds", "", steps("08:45 86400, 16:40 172800")
    yield "quota_pool_read_timestamp_seconds", "", lambda at: at - clock(START)
    yield "quota_verify_differences", "", lambda _: "NaN"
    for status in Status:
        yield "quota_status", f', status="{status}"', is_now(STATUSES[pool], status)
    for phase in Phase:
        yield "quota_phase", f', phase="{phase}"', is_now(PHASES[pool], phase)
    verdict = "exhausted" if pool.northbound else "suspended"
    refused = REFUSED.get(pool, lambda _: 0)
    yield "quota_decisions_total", f', side="buy", verdict="{verdict}"', refused


def of_day() -> Iterator[tuple[str, Figure]]:
    yield 'up{job="quotad", instance="a"}', lambda _: 1
    yield 'quota_build_info{job="quotad", instance="a"}', lambda _: 1
    yield 'quota_feed_connected{job="quotad", instance="a"}', lambda _: 1
    yield 'quota_redis_connected{job="quotad", instance="a"}', lambda _: 1
    for pool in PoolName:
        own = f'job="quotad", instance="a", pool="{pool}"'
        yield f'quota_events_total{{{own}, event="new", outcome="applied"}}', flow(pool)
        more = f'{own}, direction="{pool.direction}", exchange="{pool.exchange}"'
        for name, labels, figure in of_pool(pool):
            yield f"{name}{{{more}{labels}}}", figure


def sampled(figure: Figure) -> str:
    return " ".join(str(figure(at)) for at in range(clock(START), clock(END) + STEP_S, STEP_S))


def test_a_trading_day_tells_what_happens_and_nothing_else(tmp_path: Path) -> None:
    start = clock(START)
    case = Case(
        "a trading day",
        {},
        {clock(moment) - start: alerts for moment, alerts in TOLD.items()},
        {(clock(first) - start, clock(last) - start): alerts for (first, last), alerts in EVER.items()},
    )
    series = {name: sampled(figure) for name, figure in of_day()}
    hold([written(case, series, STEP_S)], tmp_path)


def test_the_forecast_comes_before_the_exhaustion() -> None:
    fired = {name: min(clock(at) for at, told in TOLD.items() if name in told) for name in FORECAST}
    assert [(USED_UP - at) // 60 for at in fired.values()] == [29, 9]


def test_nothing_fires_on_a_quiet_weekend(tmp_path: Path) -> None:
    """Friday ended above its quota, with refusals, violations and a dead letter; nobody moves since."""
    hours = 1
    samples = hours * 3600 // STEP_S
    labels = 'job="quotad", instance="a", pool="NB-SH"'
    of_pool = f'{labels}, direction="northbound", exchange="SH"'
    values = {
        'up{job="quotad", instance="a"}': "1",
        'quota_build_info{job="quotad", instance="a"}': "1",
        'quota_feed_connected{job="quotad", instance="a"}': "1",
        'quota_redis_connected{job="quotad", instance="a"}': "1",
        'quota_clock_skew_seconds{job="quotad", instance="a"}': "0.001",
        f"quota_used_ratio{{{of_pool}}}": "1.02",
        f"quota_exhaustion_eta_seconds{{{of_pool}}}": "0",
        f"quota_seq{{{of_pool}}}": "81234",
        f"quota_limit_yuan{{{of_pool}}}": "52000000000",
        f"quota_trading_day_timestamp_seconds{{{of_pool}}}": "86400",
        f'quota_status{{{of_pool}, status="exhausted"}}': "1",
        f'quota_phase{{{of_pool}, phase="closed"}}': "1",
        f'quota_phase{{{of_pool}, phase="continuous"}}': "0",
        f'quota_decisions_total{{{of_pool}, side="buy", verdict="exhausted"}}': "900",
        f'quota_violations_total{{{of_pool}, kind="overfilled"}}': "2",
        f"quota_verify_differences{{{of_pool}}}": "0",
        f'quota_events_total{{{labels}, event="new", outcome="applied"}}': "81000",
        f'quota_events_total{{{labels}, event="new", outcome="dead"}}': "1",
        'quota_event_lag_seconds_bucket{job="quotad", instance="a", le="5.0"}': "80000",
        'quota_event_lag_seconds_bucket{job="quotad", instance="a", le="+Inf"}': "81000",
    }
    series = {name: f"{value}+0x{samples}" for name, value in values.items()}
    series[f"quota_pool_read_timestamp_seconds{{{of_pool}}}"] = f"0+{STEP_S}x{samples}"
    series['quota_calendar_left_seconds{job="quotad", instance="a"}'] = f"9000000-{STEP_S}x{samples}"
    case = Case("a weekend", {}, {}, {(0, hours * 3600): ()})
    hold([written(case, series, STEP_S)], tmp_path)

"""The course of a pool's day: what it says in every phase, and how little it keeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import pairwise
from math import inf, isnan

import pytest

from quota.course import MOST_POINTS, Course, Phases, Point
from quota.decision import Phase, PoolName
from quota.events import MARKET_TZ
from quota.forecast import UNKNOWN, Forecast
from quota.pool import Pool
from quota.rulebook import phases

NB_SH, SB_SH = PoolName.NB_SH, PoolName.SB_SH
MONDAY, TUESDAY = "2026-11-23", "2026-11-24"
LIMIT_FEN = 52_000_000_000_00
NORTH = phases(NB_SH, date.fromisoformat(MONDAY), half_day=False)
SOUTH = phases(SB_SH, date.fromisoformat(MONDAY), half_day=False)
HALF = phases(SB_SH, date.fromisoformat(MONDAY), half_day=True)

Use = Callable[[float], float]
"""The used share of the limit, so many seconds after the first look."""


def at(text: str, day: str = MONDAY) -> datetime:
    return datetime.fromisoformat(f"{day}T{text}").replace(tzinfo=MARKET_TZ)


def pool(used: float, *, limit_fen: int = LIMIT_FEN, day: str = MONDAY, exhausted: bool = False) -> Pool:
    return Pool(
        trading_day=day,
        limit_fen=limit_fen,
        rate="1",
        schedule="",
        filled_buy_fen=round(used * LIMIT_FEN),
        exhausted=exhausted,
    )


def watched(course: Course, times: Phases, span: str, use: Use, every_s: float = 5.0) -> Forecast:
    """Look from the first moment of ``span`` to the other, and say what is expected then."""
    since, until = span.split()
    began, now = at(since), at(since)
    while now <= at(until):
        course.observe(pool(use((now - began).total_seconds())), now, times)
        now += timedelta(seconds=every_s)
    return course.forecast()


def even(share: float, hours: float = 1.0) -> Use:
    return lambda passed_s: share * passed_s / (hours * 3600)


def yuan_per_s(share: float, hours: float = 1.0) -> float:
    return share * LIMIT_FEN / 100 / (hours * 3600)


def test_nothing_is_known_before_the_first_look() -> None:
    course = Course(NB_SH)
    assert course.forecast() is UNKNOWN
    assert list(course.points()) == list(course.usual()) == []


@pytest.mark.parametrize("every_s", [0.2, 5.0, 21.6], ids=["real time", "5 s", "speed 108"])
def test_net_use_is_yuan_per_open_second_at_any_pace_of_looks(every_s: float) -> None:
    told = watched(Course(NB_SH), NORTH, "09:30:00 10:00:00", even(0.2), every_s)
    assert told.net_use_1m == pytest.approx(yuan_per_s(0.2), rel=1e-3)
    assert told.net_use_10m == pytest.approx(yuan_per_s(0.2), rel=1e-3)


def test_net_use_looks_back_one_minute_and_ten() -> None:
    """Eight minutes of nothing, then two at full speed."""
    told = watched(Course(NB_SH), NORTH, "10:00:00 10:10:00", lambda s: max(0.0, s - 480) / 1e4)
    assert told.net_use_1m == pytest.approx(LIMIT_FEN / 100 / 1e4)
    assert told.net_use_10m == pytest.approx(LIMIT_FEN / 100 / 1e4 / 5)


def test_net_use_is_unknown_until_half_its_minutes_are_known() -> None:
    course = Course(NB_SH)
    assert isnan(watched(course, NORTH, "09:05:00 09:10:29", even(0.1)).net_use_1m)
    told = watched(course, NORTH, "09:10:30 09:14:55", even(0.1))
    assert not isnan(told.net_use_1m)
    assert isnan(told.net_use_10m)
    assert not isnan(watched(course, NORTH, "09:15:00 09:15:05", even(0.1)).net_use_10m)


def test_what_changes_while_the_market_is_shut_is_no_use_of_the_minutes_before() -> None:
    course = Course(NB_SH)
    before = watched(course, NORTH, "11:00:00 11:35:00", lambda _: 0.1)
    after = watched(course, NORTH, "11:36:00 11:40:00", lambda _: 0.0)
    assert (before.net_use_1m, after.net_use_1m, after.net_use_10m) == (0.0, 0.0, 0.0)


def test_recovering_pool_has_a_negative_net_use_and_is_not_expected_to_be_used_up() -> None:
    told = watched(Course(NB_SH), NORTH, "10:00:00 11:00:00", lambda s: 0.9 - 0.3 * s / 3600)
    assert told.net_use_10m == pytest.approx(yuan_per_s(-0.3), rel=1e-3)
    assert told.eta_s == inf


def test_the_break_is_no_time_for_net_use() -> None:
    def use(passed_s: float) -> float:  # from 11:00: an even use but for the 85 minutes of the break
        return 0.2 * (passed_s - max(0.0, min(passed_s, 6900.0) - 1800.0)) / 3600

    told = watched(Course(NB_SH), NORTH, "11:00:00 12:58:00", use)
    assert told.net_use_1m == pytest.approx(yuan_per_s(0.2), rel=1e-3)
    assert told.net_use_10m == pytest.approx(yuan_per_s(0.2), rel=1e-3)


def test_an_eta_counts_the_break() -> None:
    """Ten minutes of morning are too few for what is left, so the afternoon will see the end of it."""
    told = watched(Course(NB_SH), NORTH, "09:30:00 11:20:00", even(0.5))
    assert at("12:55:00") < at("11:20:00") + timedelta(seconds=told.eta_s) < at("13:15:00")


def test_nothing_burns_in_the_break() -> None:
    """The moment at which the pool will be used up stays where it is, all through the break."""
    course = Course(NB_SH)
    watched(course, NORTH, "09:30:00 11:30:00", even(0.48))
    ends = []
    for text in ("11:31", "12:00", "12:54:59"):
        course.observe(pool(0.96), at(text), NORTH)
        ends.append(at(text) + timedelta(seconds=course.forecast().eta_s))
    assert max(ends) - min(ends) < timedelta(seconds=1)
    assert at("12:55:00") < min(ends) < at("13:30:00")


def test_a_use_that_will_not_last_to_the_close_is_no_exhaustion_before_it() -> None:
    """Half an hour on, a straight line would be used up; the market shuts in ten minutes."""
    told = watched(Course(NB_SH), NORTH, "13:00:00 14:50:00", even(0.46))
    assert told.eta_s == inf


def test_the_usual_opening_is_not_taken_for_the_speed_of_the_day() -> None:
    """A pool on its way to 80 per cent, after twenty minutes that used twice the average of the day."""
    told = watched(Course(NB_SH), NORTH, "09:10:00 09:30:00", even(0.8 * 0.06, 1 / 3))
    assert told.eta_s == inf
    assert told.pace == pytest.approx(0.8, rel=0.15)


def test_used_up_is_zero_seconds_away() -> None:
    course = Course(NB_SH)
    for stands in (pool(1.0), pool(1.01), pool(0.9, exhausted=True)):
        course.observe(stands, at("10:00"), NORTH)
        assert course.forecast().eta_s == 0
        course.observe(stands, at("15:30"), NORTH)
        assert course.forecast().eta_s == 0


def test_after_the_close_nothing_is_used_up_any_more() -> None:
    course = Course(NB_SH)
    assert 0 < watched(course, NORTH, "13:00:00 14:40:00", even(0.57)).eta_s < 20 * 60
    course.observe(pool(0.97), at("15:00:00"), NORTH)
    told = course.forecast()
    assert (told.eta_s, told.usual_share) == (inf, 1.0)
    assert told.pace == pytest.approx(0.97)


def test_before_the_open_the_day_has_no_pace() -> None:
    course = Course(SB_SH)
    course.observe(pool(0.0), at("08:00"), SOUTH)
    told = course.forecast()
    assert (told.eta_s, told.usual_share) == (inf, 0.0)
    assert isnan(told.pace)
    assert isnan(told.net_use_10m)
    assert course.points() == ()


def test_pace_is_unknown_below_one_per_cent_of_the_usual_day() -> None:
    course = Course(NB_SH)
    watched(course, NORTH, "09:10:00 09:11:00", even(0.1))
    assert isnan(course.forecast().pace)
    watched(course, NORTH, "09:11:05 09:15:00", even(0.1))
    assert course.forecast().pace > 0


def test_pace_1_is_the_usual_day_of_a_quota_that_is_used_up_at_the_close() -> None:
    course = Course(SB_SH)
    course.observe(pool(0.0), SOUTH[0][0], SOUTH)
    for moment, share in course.usual()[1:]:
        course.observe(pool(share), moment, SOUTH)
        assert course.forecast().usual_share == pytest.approx(share)
        assert course.forecast().pace == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "times"), [(NB_SH, NORTH), (SB_SH, SOUTH), (SB_SH, HALF)])
def test_the_usual_curve_goes_from_open_to_close_in_a_few_lines(name: PoolName, times: Phases) -> None:
    course = Course(name)
    course.observe(pool(0.0), times[0][0], times)
    curve = course.usual()
    assert (curve[0], curve[-1]) == ((times[0][0], 0.0), (times[-1][0], 1.0))
    assert 5 < len(curve) < 40
    for (before, less), (after, more) in pairwise(curve):
        assert before < after
        assert less <= more


def test_a_changed_limit_is_no_use() -> None:
    course = Course(NB_SH)
    told = watched(course, NORTH, "10:00:00 10:30:00", even(0.8))
    course.observe(pool(0.4, limit_fen=2 * LIMIT_FEN), at("10:30:05"), NORTH)
    after = course.forecast()
    assert after.net_use_1m == pytest.approx(told.net_use_1m, rel=0.1)
    assert after.net_use_10m == pytest.approx(told.net_use_10m, rel=0.1)
    assert after.pace == pytest.approx(told.pace / 2, rel=0.01)
    assert told.eta_s < after.eta_s


def test_a_new_trading_day_begins_a_new_course() -> None:
    course = Course(NB_SH)
    watched(course, NORTH, "09:10:00 14:00:00", even(0.1))
    tomorrow = phases(NB_SH, date.fromisoformat(TUESDAY), half_day=False)
    course.observe(pool(0.0, day=TUESDAY), at("09:10:00", TUESDAY), tomorrow)
    assert list(course.points()) == [Point(at("09:10:00", TUESDAY), 0)]
    assert isnan(course.forecast().net_use_10m)
    assert course.forecast().eta_s == inf


@pytest.mark.parametrize(
    ("now", "times"),
    [(at("10:00", TUESDAY), NORTH), (at("10:00"), ()), (at("10:00"), ((at("00:00"), Phase.CLOSED),))],
    ids=["the day after", "no phases", "closed all day"],
)
def test_where_no_day_is_open_nothing_is_expected(now: datetime, times: Phases) -> None:
    course = Course(NB_SH)
    course.observe(pool(0.5), now, times)
    assert course.forecast() is UNKNOWN


@pytest.mark.parametrize("early", [True, False], ids=["before the first look", "after it"])
def test_what_is_recalled_is_as_good_as_seen(early: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    seen = Course(NB_SH)
    watched(seen, NORTH, "09:30:00 10:30:00", even(0.6))
    recalling = Course(NB_SH)
    past = [Point(at("09:30:00") + timedelta(minutes=n), round(0.01 * n * LIMIT_FEN)) for n in range(60)]
    stale = [Point(at("14:00:00", "2026-11-20"), 5)]
    if early:
        recalling.recall([*stale, *past])
    recalling.observe(pool(0.6), at("10:30:00"), NORTH)
    if not early:
        recalling.recall([*stale, *past])
    assert recalling.points()[0] == past[0]
    assert recalling.points()[-1] == Point(at("10:30:00"), round(0.6 * LIMIT_FEN))
    expected, told = seen.forecast(), recalling.forecast()
    assert told.eta_s == pytest.approx(expected.eta_s, rel=0.1)
    assert told.net_use_10m == pytest.approx(expected.net_use_10m, rel=0.01)


def test_a_start_in_mid_day_goes_by_the_day_so_far() -> None:
    course = Course(NB_SH)
    course.observe(pool(0.9), at("11:00:00"), NORTH)
    told = course.forecast()
    assert isnan(told.net_use_1m)
    assert 0 < told.eta_s < 3600
    assert told.pace > 1


def test_a_moved_schedule_keeps_what_was_seen() -> None:
    """`--at` moves the phases of the day that is open, by a few milliseconds of rounding at least."""
    course = Course(NB_SH)
    watched(course, NORTH, "09:30:00 10:30:00", even(0.6))
    moved = tuple((moment + timedelta(milliseconds=1), phase) for moment, phase in NORTH)
    kept = course.points()
    course.observe(pool(0.6), at("10:30:05"), moved)
    assert course.points()[0] == kept[0]
    assert len(course.points()) > len(kept) * 0.9
    assert course.usual()[0][0] == moved[0][0]


@pytest.mark.parametrize("every_s", [1.0, 21.6])
def test_a_day_is_kept_small_and_evenly(every_s: float) -> None:
    course = Course(SB_SH)
    watched(course, SOUTH, "08:30:00 18:00:00", even(0.1), every_s)
    points = course.points()
    assert MOST_POINTS * 0.9 <= len(points) <= MOST_POINTS + 1
    assert SOUTH[0][0] <= points[0].at
    assert points[-1].at == SOUTH[-1][0]
    gaps = [(after.at - before.at).total_seconds() for before, after in pairwise(points)]
    assert min(gaps[:-1]) > 0
    assert max(gaps) < 86 + 2 * every_s + 5
    assert course._day is not None
    assert len(course._day._recent) < 130

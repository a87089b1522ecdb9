"""The forecast: the usual day laid over real phases, the speed of a day, and what beats what."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise
from math import inf, isinf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.forecast import FOR_S, METHODS, SCRAPE_S, Score, lead_min, predict_linear, scores
from bench.sessions import KINDS, LIMIT_FEN, STEP_S, Session, drawn
from quota import forecast
from quota.course import Course
from quota.decision import Phase, PoolName
from quota.events import MARKET_TZ
from quota.forecast import Speed, UsualDay, expected_eta_s
from quota.pool import Pool
from quota.rulebook import phases

NB_SH, SB_SH = PoolName.NB_SH, PoolName.SB_SH
MONDAY = date(2026, 11, 23)
MINUTE, HOUR = 60.0, 3600.0


def usual_of(pool: PoolName, day: date = MONDAY, *, half_day: bool = False) -> UsualDay:
    usual = UsualDay.of(pool, phases(pool, day, half_day=half_day))
    assert usual is not None
    return usual


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{MONDAY}T{text}").replace(tzinfo=MARKET_TZ)


NORTH, SOUTH = usual_of(NB_SH), usual_of(SB_SH)


@pytest.mark.parametrize(
    ("pool", "day", "half_day", "open_min"),
    [
        (NB_SH, MONDAY, False, 20 + 120 + 125),
        (NB_SH, MONDAY, True, 20 + 120 + 125),  # Hong Kong's half day is a whole one northbound
        (NB_SH, date(2014, 12, 9), False, 20 + 120 + 125),  # no closing auction yet
        (SB_SH, MONDAY, False, 30 + 150 + 180 + 10),
        (SB_SH, MONDAY, True, 30 + 150 + 10),
        (SB_SH, date(2014, 12, 9), False, 30 + 150 + 180),
    ],
)
def test_the_usual_day_goes_from_0_to_1_in_the_open_time_of_every_day(
    pool: PoolName, day: date, open_min: int, *, half_day: bool
) -> None:
    usual = usual_of(pool, day, half_day=half_day)
    assert usual.open_s[-1] == open_min * 60
    assert (usual.shares[0], usual.shares[-1]) == (0.0, 1.0)
    for corners in (usual.clock_s, usual.open_s, usual.shares):
        assert list(corners) == sorted(corners)


def test_nothing_of_the_usual_day_goes_by_in_the_break() -> None:
    for usual, breaks, resumes in ((NORTH, "11:30", "12:55"), (SOUTH, "12:00", "13:00")):
        before, after = usual.clock(at(breaks)), usual.clock(at(resumes))
        assert usual.share_at(before) == usual.share_at((before + after) / 2) == usual.share_at(after)
        assert usual.open_at(before) == usual.open_at(after)


def test_the_first_half_hour_of_the_usual_day_uses_more_than_any_other() -> None:
    for usual in (NORTH, SOUTH):
        starts = usual.clock(at("09:30"))
        rises = [
            usual.share_at(starts + (n + 1) * HOUR / 2) - usual.share_at(starts + n * HOUR / 2)
            for n in range(10)
        ]
        assert max(rises) == rises[0]


def test_a_day_that_never_opens_has_no_usual_day() -> None:
    assert UsualDay.of(NB_SH, ()) is None
    assert UsualDay.of(NB_SH, ((at("00:00"), Phase.CLOSED),)) is None


def test_a_share_of_the_usual_day_is_reached_when_it_has_gone_by() -> None:
    for clock_s in (0.0, 5 * MINUTE, 61 * MINUTE, 4.5 * HOUR):
        assert NORTH.clock_at(NORTH.share_at(clock_s)) == pytest.approx(clock_s)
    assert NORTH.clock_at(1.0) == inf


def test_a_use_that_follows_the_usual_day_has_one_speed_all_day() -> None:
    speed = Speed()
    for clock_s in range(0, int(NORTH.clock_s[-1]), 20):
        share = NORTH.share_at(clock_s)
        speed.take(open_s=NORTH.open_at(clock_s), share=share, used_fen=round(share * 1e12))
        if share > 0.1:
            assert speed.fen_per_day() == pytest.approx(1e12, rel=1e-3)


def test_a_speed_forgets() -> None:
    speed = Speed()
    speed.take(open_s=0, share=0, used_fen=0)
    speed.take(open_s=600, share=0.1, used_fen=50)
    fast = speed.fen_per_day()
    speed.take(open_s=7_200, share=0.5, used_fen=52)
    assert speed.fen_per_day() < fast / 5


def test_what_was_used_before_the_first_look_is_the_day_so_far() -> None:
    speed = Speed()
    speed.take(open_s=7_200, share=0.5, used_fen=500)
    assert speed.fen_per_day() == pytest.approx(1000)


def test_a_pool_on_its_way_to_95_per_cent_is_not_expected_to_be_used_up() -> None:
    for text in ("10:00", "11:00", "14:00", "14:50"):
        clock_s = NORTH.clock(at(text))
        used = 0.95 * NORTH.share_at(clock_s)
        balance_fen = round((1 - used) * LIMIT_FEN)
        eta_s = expected_eta_s(NORTH, clock_s, balance_fen=balance_fen, fen_per_day=0.95 * LIMIT_FEN)
        assert isinf(eta_s)


def test_the_same_quota_lasts_shorter_in_the_busy_hour_than_in_a_quiet_one() -> None:
    etas = [
        expected_eta_s(NORTH, NORTH.clock(at(text)), balance_fen=10**11, fen_per_day=10**12)
        for text in ("09:30", "10:30", "13:30")
    ]
    assert etas[0] < etas[1] < etas[2] < HOUR


@given(
    clock_s=st.floats(0, SOUTH.clock_s[-1]),
    fen_per_day=st.floats(-1e16, 1e16),
    balances=st.lists(st.integers(-(10**16), 10**16), min_size=2, max_size=5),
)
def test_an_eta_is_never_negative_and_grows_with_the_balance(
    clock_s: float, fen_per_day: float, balances: list[int]
) -> None:
    etas = [
        expected_eta_s(SOUTH, clock_s, balance_fen=balance, fen_per_day=fen_per_day)
        for balance in sorted(balances)
    ]
    assert min(etas) >= 0
    for less, more in pairwise(etas):
        assert less <= more
    for eta_s in etas:
        assert isinf(eta_s) or clock_s + eta_s <= SOUTH.clock_s[-1] + 1e-6


# The comparison.


@cache
def compared() -> dict[str, Score]:
    return scores(7, 60)


@pytest.mark.parametrize("other", [name for name in METHODS if name != "ours"])
def test_ours_warns_earlier_and_less_for_nothing_than(other: str) -> None:
    ours, theirs = compared()["ours"], compared()[other]
    assert ours.median_min > theirs.median_min
    assert ours.false_days < theirs.false_days
    assert len(ours.leads_min) >= 20


def test_the_simulated_days_are_of_every_kind_and_the_same_for_the_same_seed() -> None:
    days = [drawn(3, number) for number in range(60)]
    assert {day.kind for day in days} == set(KINDS)
    assert 20 <= sum(day.exhausted for day in days) <= 40
    assert {day.pool for day in days} == {NB_SH, SB_SH}
    assert [drawn(3, number).used_fen for number in range(5)] == [day.used_fen for day in days[:5]]
    for day in days:
        assert day.exhausted == (max(day.used_fen) >= LIMIT_FEN)
        for moment, phase, _ in day.moments():
            assert phase is not Phase.CLOSED or moment == day.phases[-1][0]


def session(used_fen: list[int]) -> Session:
    return Session("own", NB_SH, phases(NB_SH, MONDAY, half_day=False), used_fen, exhausted=True)


def test_predict_linear_goes_on_along_the_line_through_its_window() -> None:
    """An even use reaches the limit in half an hour from the scrape on that is half an hour before it."""
    steps = 2 * 3600 // STEP_S
    day = session([LIMIT_FEN * number // steps for number in range(steps + 1)])
    for window_s in (600, 1800):
        says = list(predict_linear(window_s)(day))
        turn = says.index(True)
        assert turn * SCRAPE_S == pytest.approx(5400, abs=SCRAPE_S)
        assert all(says[turn:])


def test_predict_linear_sees_no_further_back_than_its_window() -> None:
    """A jump matters as long as it is in the window, which is open to the left; then the line is level."""
    jump_s, window_s = 1_200, 600
    day = session([0 if n * STEP_S < jump_s else LIMIT_FEN // 2 for n in range(3600 // STEP_S)])
    says = list(predict_linear(window_s)(day))
    last = len(says) - 1 - says[::-1].index(True)
    assert says.index(True) * SCRAPE_S >= jump_s
    assert last * SCRAPE_S < jump_s + window_s


def test_a_lead_is_that_of_the_warning_still_in_force() -> None:
    day = session([0] * (900 // STEP_S) + [LIMIT_FEN])  # used up after 900 s, that is scrape 60
    assert lead_min(day, [False] * 61) == 0
    assert lead_min(day, [False] * 40 + [True] * 20 + [False]) == 5
    assert lead_min(day, [True] * 59 + [False, False]) == 0
    assert lead_min(day, [True] * 60 + [False]) == 15
    assert FOR_S % SCRAPE_S == 0


def test_what_was_used_lately_is_reckoned_with_more_in_the_next_half_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def eta_s() -> float:
        clock_s = NORTH.clock(at("13:30"))
        return expected_eta_s(NORTH, clock_s, balance_fen=LIMIT_FEN // 10, fen_per_day=LIMIT_FEN)

    careful = eta_s()
    monkeypatch.setattr(forecast, "_ALLOWANCE", 0.0)
    assert careful < 0.9 * eta_s() < HOUR


def used(share: float, limit_fen: int = LIMIT_FEN) -> Pool:
    return Pool(
        trading_day=MONDAY.isoformat(),
        limit_fen=limit_fen,
        rate="1",
        schedule="",
        filled_buy_fen=round(share * LIMIT_FEN),
    )


@given(
    uses=st.lists(st.floats(-1.0, 1.5), min_size=1, max_size=40),
    gap_s=st.floats(0.2, 900),
    balances=st.lists(st.floats(-0.5, 2.0), min_size=2, max_size=5),
)
def test_whatever_a_day_was_like_its_eta_grows_with_the_balance(
    uses: list[float], gap_s: float, balances: list[float]
) -> None:
    times = phases(SB_SH, MONDAY, half_day=False)
    course, now = Course(SB_SH), at("08:59")
    for use in uses:
        course.observe(used(use), now, times)
        now += timedelta(seconds=gap_s)
    etas = []
    for balance in sorted(balances):
        limit_fen = max(1, round((uses[-1] + balance) * LIMIT_FEN))
        course.observe(used(uses[-1], limit_fen), now, times)
        etas.append(course.forecast().eta_s)
    assert min(etas) >= 0
    for less, more in pairwise(etas):
        assert less <= more
    assert all(isinf(eta) or eta <= 8 * 3600 for eta in etas)

"""What the page says of a pool, sentence by sentence."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import inf

import pytest
from msgspec.structs import replace

from quota.decision import Phase, PoolName
from quota.events import MARKET_TZ
from quota.forecast import Forecast
from quota.pool import Pool
from quota.rulebook import phases
from quota.shown import headline
from quota.standing import Standing, Tone, meaning, outlook, span, told, until, why

DAY = datetime(2026, 11, 23, tzinfo=MARKET_TZ)
TOMORROW = datetime(2026, 11, 24, 9, 10, tzinfo=MARKET_TZ)
POOL = Pool(trading_day="2026-11-23", limit_fen=1000, rate="1.00000", schedule="", phase=Phase.CONTINUOUS)


def at(clock: str, pool: Pool | None = POOL, name: PoolName = PoolName.NB_SH, **more: object) -> Standing:
    hours, minutes = clock.split(":")
    now = DAY + timedelta(hours=int(hours), minutes=int(minutes))
    day = phases(name, DAY.date(), half_day=False) if pool else ()
    return Standing(pool, now, phases=day, opens=TOMORROW, **more)  # type: ignore[arg-type]  # fields by name


def in_phase(phase: Phase, **more: object) -> Pool:
    return replace(POOL, phase=phase, **more)


def eta(seconds: float) -> Forecast:
    return Forecast(eta_s=seconds)


def test_an_open_pool_tells_until_when() -> None:
    assert meaning(at("10:00")) == "Buys and sells are taken until the break at 11:30."
    assert meaning(at("14:00")) == "Buys and sells are taken until the close at 15:00."
    assert (why(at("10:00")), until(at("10:00"))) == ("", "")


def test_an_open_pool_in_the_break_is_told_as_the_break() -> None:
    break_ = at("12:00", in_phase(Phase.BREAK))
    assert (break_.word, break_.tone) == ("Break", Tone.QUIET)
    assert meaning(break_) == "Buys are refused during the break; sells are taken."
    assert until(break_) == "12:55"


def test_before_and_after_the_day_the_next_opening_is_told() -> None:
    before, after = at("08:00", in_phase(Phase.CLOSED)), at("15:30", in_phase(Phase.CLOSED))
    assert (before.over, after.over) == (False, True)
    assert until(before) == "09:10, when the opening phase begins"
    assert meaning(after) == "The trading day is over: buys are refused."
    assert until(after) == "Tue 24 Nov, 09:10"


def test_no_open_day_is_no_zero() -> None:
    none = at("10:00", None)
    assert (none.word, meaning(none)) == ("No day open", "No trading day is open: buys are refused.")
    assert (outlook(none), why(none), until(none)) == ("", "", "Tue 24 Nov, 09:10")


def test_an_exhausted_pool_says_why_and_until_when() -> None:
    spent = at(
        "14:00", replace(POOL, exhausted=True, filled_buy_fen=1000), since=DAY.replace(hour=13, minute=58)
    )
    assert spent.tone is Tone.TROUBLE
    assert told(spent) == (
        "is exhausted since 13:58: no more buys today; sells are taken. It ends Tue 24 Nov, 09:10."
    )
    assert why(spent) == "The quota was used up at 13:58."
    assert until(spent) == "Tue 24 Nov, 09:10 with the full quota"
    assert outlook(spent) == "Used up since 13:58"


def test_sells_that_bring_a_balance_back_do_not_reopen_it() -> None:
    back = at("14:00", replace(POOL, exhausted=True, filled_buy_fen=860))
    assert why(back) == "Used up. The balance is back at 14 %, which does not reopen it."


def test_an_exhausted_pool_is_quiet_after_its_close() -> None:
    over = at("15:30", replace(in_phase(Phase.CLOSED), exhausted=True), since=DAY.replace(hour=13, minute=58))
    assert (over.word, over.tone) == ("Exhausted", Tone.QUIET)
    lines = headline({PoolName.NB_SH: over})
    assert [line.text for line in lines] == ["The pool is closed, its quota used up at 13:58."]


def test_a_northbound_suspension_ends_with_the_balance() -> None:
    pool = in_phase(Phase.OPENING, suspended=True, open_buy_fen=1000)
    assert until(at("09:20", pool)) == "The balance is above zero. If it is not by 09:30: no more buys today."
    assert told(at("09:20", pool)).endswith("sells are taken. It ends when the balance is above zero.")


def test_a_southbound_suspension_ends_at_half_past_nine() -> None:
    pool = in_phase(Phase.OPENING, suspended=True, open_buy_fen=1000, resumes_in_opening=False)
    assert until(at("09:20", pool)) == "09:30, if the balance is above zero then. If not: no more buys today."


def test_a_halt_gives_the_operators_reason() -> None:
    halted = at(
        "10:00", replace(POOL, halted="<b>exchange refuses</b>"), since=DAY.replace(hour=9, minute=45)
    )
    assert why(halted) == "An operator halted it at 09:45: <b>exchange refuses</b>"
    assert until(halted) == "An operator resumes it. A halt outlasts the day."


@pytest.mark.parametrize(
    ("seconds", "tone", "said"),
    [
        (1_800, Tone.WATCH, "Used up about 10:30"),
        (1_801, Tone.OK, "Used up about 10:30"),
        (inf, Tone.OK, "Lasts until the close"),
        (0, Tone.OK, "Used up"),
        (float("nan"), Tone.OK, ""),
    ],
)
def test_a_pool_is_one_to_watch_in_the_last_half_hour(seconds: float, tone: Tone, said: str) -> None:
    standing = at("10:00", forecast=eta(seconds))
    assert (standing.tone, outlook(standing)) == (tone, said)


def test_a_pool_with_a_tenth_left_is_one_to_watch() -> None:
    low = at("10:00", replace(POOL, filled_buy_fen=900))
    assert told(low) == "has used 90 % of its limit."


def test_the_day_that_is_over_has_nothing_to_expect() -> None:
    assert outlook(at("15:30", in_phase(Phase.CLOSED), forecast=eta(inf))) == "Lasted until the close"


def test_the_headline_names_trouble_first_then_what_to_watch_then_the_rest() -> None:
    lines = headline(
        {
            PoolName.NB_SH: at("10:00", forecast=eta(inf)),
            PoolName.NB_SZ: at("10:00", forecast=eta(600)),
            PoolName.SB_SH: at("10:00", replace(POOL, halted="why"), name=PoolName.SB_SH),
            PoolName.SB_SZ: at("10:00", name=PoolName.SB_SZ, forecast=eta(inf)),
        }
    )
    assert [(line.pool, line.tone) for line in lines] == [
        (PoolName.SB_SH, Tone.TROUBLE),
        (PoolName.NB_SZ, Tone.WATCH),
        (None, Tone.OK),
    ]
    assert lines[1].text == "is expected to be used up at about 10:10, in 10 min."
    assert lines[2].text == "The others are open and expected to last until the close."


def test_the_headline_is_one_sentence_when_all_is_well() -> None:
    lines = headline({name: at("10:00", name=name) for name in PoolName})
    assert [line.text for line in lines] == ["All four pools are open."]


def test_pools_in_different_phases_are_listed_by_them() -> None:
    lines = headline(
        {
            PoolName.NB_SH: at("11:40", in_phase(Phase.BREAK)),
            PoolName.NB_SZ: at("11:40", in_phase(Phase.BREAK), PoolName.NB_SZ),
            PoolName.SB_SH: at("11:40", name=PoolName.SB_SH),
        }
    )
    assert [line.text for line in lines] == ["NB-SH and NB-SZ are in the break until 12:55; SB-SH is open."]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(20, "less than a minute"), (90, "2 min"), (3_599, "1 h 00 min"), (5_000, "1 h 23 min")],
)
def test_spans_are_told_in_minutes_and_hours(seconds: float, said: str) -> None:
    assert span(seconds) == said

"""What the page says of a pool, sentence by sentence."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from math import inf, nan

import pytest
from msgspec.structs import replace

from quota.decision import Phase, PoolName, Side, Verdict
from quota.events import MARKET_TZ
from quota.forecast import Forecast
from quota.page.sentences import headline, meaning, outlook, pace, span, told, until, why
from quota.page.shown import expected
from quota.page.standing import Known, Standing, Tone
from quota.pool import Pool
from quota.rulebook import phases

DAY = datetime(2026, 11, 23, tzinfo=MARKET_TZ)
EARLIER = DAY.replace(hour=13, minute=58)
TOMORROW = datetime(2026, 11, 24, 9, 10, tzinfo=MARKET_TZ)
FRESH = Pool(trading_day="2026-11-23", limit_fen=1000, rate="1.00000", schedule="", phase=Phase.CONTINUOUS)
POOL = replace(FRESH, decided={(Side.BUY, Verdict.ACCEPTED): 1})
ONCE, NEVER = Known.ONCE, Known.NEVER


def at(clock: str, pool: Pool | None = POOL, name: PoolName = PoolName.NB_SH, **more: object) -> Standing:
    hours, minutes = clock.split(":")
    now = DAY + timedelta(hours=int(hours), minutes=int(minutes))
    day = phases(name, DAY.date(), half_day=False) if pool else ()
    return Standing(pool, now, phases=day, opens=TOMORROW, **more)  # type: ignore[arg-type]  # fields by name


def replaced(standing: Standing, second: int = 0, **more: object) -> Standing:
    return dataclasses.replace(standing, now=standing.now.replace(second=second), **more)  # type: ignore[arg-type]  # fields by name


def in_phase(phase: Phase, **more: object) -> Pool:
    return replace(POOL, phase=phase, **more)


def eta(seconds: float, share: float = 0.5, pace: float = nan) -> Forecast:
    return Forecast(net_use_1m=1.0, net_use_10m=1.0, eta_s=seconds, usual_share=share, pace=pace)


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
    spent = at("14:00", replace(POOL, exhausted=True, filled_buy_fen=1000), since=EARLIER)
    assert spent.tone is Tone.TROUBLE
    assert told(spent) == (
        "is exhausted since 13:58: no more buys today; sells are taken. Buys come back Tue 24 Nov, 09:10."
    )
    assert why(spent) == "The quota was used up at 13:58."
    assert until(spent) == "Tue 24 Nov, 09:10 with the full quota"
    assert outlook(spent) == "Used up since 13:58"


def test_sells_that_bring_a_balance_back_do_not_reopen_it() -> None:
    back = why(at("14:00", replace(POOL, exhausted=True, filled_buy_fen=860)))
    assert back == "The quota was used up. The balance is back at 14 %, which does not reopen it."


def test_an_exhausted_pool_is_quiet_after_its_close() -> None:
    over = at("15:30", in_phase(Phase.CLOSED, exhausted=True), since=EARLIER)
    assert (over.word, over.tone) == ("Exhausted", Tone.QUIET)
    lines = headline({PoolName.NB_SH: over})
    assert [line.text for line in lines] == ["The pool is closed, its quota used up at 13:58."]


def test_a_northbound_suspension_ends_with_the_balance() -> None:
    pool = in_phase(Phase.OPENING, suspended=True, open_buy_fen=1000)
    assert until(at("09:20", pool)) == "The balance is above zero. If it is not by 09:30: no more buys today."
    assert told(at("09:20", pool)).endswith(
        "Buys come back when the balance is above zero; if it is not by 09:30, no more today."
    )


def test_a_southbound_suspension_ends_at_half_past_nine() -> None:
    pool = in_phase(Phase.OPENING, suspended=True, open_buy_fen=1000, resumes_in_opening=False)
    assert until(at("09:20", pool)) == "09:30, if the balance is above zero then. If not: no more buys today."
    assert told(at("09:20", pool)).endswith(
        "Buys come back at 09:30 if the balance is above zero then; if not, no more today."
    )
    assert why(at("09:20", pool)) == "The quota was used up, within the opening phase."
    assert why(at("09:20", replace(pool, open_buy_fen=700))) == (
        "The quota was used up, within the opening phase. The balance is back at 30 %, "
        "but southbound buys come back only at 09:30."
    )


def test_a_halt_gives_the_operators_reason() -> None:
    halted = at("14:00", replace(POOL, halted="<b>exchange refuses</b>"), since=EARLIER)
    assert why(halted) == "An operator halted it at 13:58: <b>exchange refuses</b>"
    assert until(halted) == "An operator resumes it. A halt outlasts the day."
    assert told(halted).endswith("Buys come back when an operator resumes the pool.")


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


HALTED, SPENT = replace(POOL, halted="why"), replace(POOL, exhausted=True)
SUSPENDED = in_phase(Phase.OPENING, suspended=True)


@pytest.mark.parametrize(
    ("standing", "said", "paced"),
    [
        (at("10:00", FRESH, forecast=eta(inf, pace=0.0)), "Too early to tell", "too early"),
        (
            at("09:20", in_phase(Phase.OPENING), forecast=eta(60, 0.04, 21.0)),
            "Too early to tell",
            "too early",
        ),
        (at("10:00", HALTED, forecast=eta(inf, pace=0.9)), "", ""),
        (at("09:20", SUSPENDED, forecast=eta(700, 0.04, 21.25)), "", ""),
        (at("10:00", SPENT, forecast=eta(0, pace=1.9)), "Used up", ""),
        (at("10:00", None, forecast=eta(600)), "", ""),
        (at("10:00", forecast=eta(600, pace=1.21), fed=False), "", ""),
        (at("10:00", forecast=eta(600, pace=1.21), known=ONCE), "", ""),
        (at("10:00", forecast=Forecast(usual_share=0.5)), "", ""),
        (at("10:00", forecast=eta(5_400, pace=1.214)), "Used up about 11:30", "121 %"),
        (at("10:00", forecast=eta(600, 0.15, 60.55)), "Used up about 10:10", "> 200 %"),
        (at("10:00", forecast=eta(inf, pace=-0.02)), "Lasts until the close", "−2 %"),
        (
            at("15:30", replace(FRESH, phase=Phase.CLOSED), forecast=eta(inf, 1.0)),
            "Lasted until the close",
            "",
        ),
    ],
)
def test_nothing_is_expected_without_evidence_nor_where_buys_are_refused(
    standing: Standing, said: str, paced: str
) -> None:
    assert (outlook(standing), pace(standing)) == (said, paced)
    assert (expected(standing).eta_ms is not None) is ("about" in said)
    assert (expected(standing).pace is not None) is paced.endswith("%")


def test_a_pool_that_uses_most_of_its_limit_early_is_one_to_watch() -> None:
    early = at("09:20", in_phase(Phase.OPENING, open_buy_fen=700), forecast=eta(60, 0.04))
    assert told(early) == "has used 70 % of its limit."
    assert at("10:30", replace(POOL, open_buy_fen=700), forecast=eta(inf)).tone is Tone.OK


@pytest.mark.parametrize(
    ("phase", "flows"), [(Phase.CONTINUOUS, 1.0), (Phase.BREAK, None), (Phase.CLOSED, None)]
)
def test_nothing_flows_in_the_break_and_after_the_close(phase: Phase, flows: float | None) -> None:
    told = expected(at("12:00", in_phase(phase), forecast=eta(inf)))
    assert (told.net_use_1m, told.net_use_10m) == (flows, flows)


@pytest.mark.parametrize(
    ("pool", "word", "says"),
    [
        (POOL, "Was open", "Buys and sells were taken at 10:05:57."),
        (in_phase(Phase.BREAK), "Was in the break", "Buys were refused and sells taken at 10:05:57."),
        (HALTED, "Was halted", "Buys were refused and sells taken at 10:05:57."),
        (in_phase(Phase.CLOSED), "Was closed", "It was closed at 10:05:57."),
        (None, "No day was open", "No trading day was open at 10:05:57."),
    ],
)
def test_what_is_old_is_told_in_the_past(pool: Pool | None, word: str, says: str) -> None:
    once = replaced(at("10:05", pool, known=ONCE), second=57)
    assert (once.word, meaning(once)) == (word, says)
    assert once.status == "halted" or until(once) == ""


def test_the_headline_of_what_is_old_is_in_the_past_and_grey() -> None:
    old = {
        name: replaced(at("10:05", name=name, forecast=eta(inf), known=ONCE), second=57) for name in PoolName
    }
    assert [(line.tone, line.text) for line in headline(old)] == [
        (Tone.QUIET, "All four pools were open at 10:05:57.")
    ]
    old[PoolName.SB_SH] = replaced(at("10:05", SPENT, PoolName.SB_SH, known=ONCE), second=57)
    assert [line.text for line in headline(old)] == [
        "was exhausted at 10:05:57.",
        "The others were open at 10:05:57.",
    ]


def test_what_was_never_read_is_not_known_and_no_day_without_trading() -> None:
    never = at("10:00", None, known=NEVER)
    assert (never.word, never.tone) == ("Not known", Tone.QUIET)
    assert meaning(never) == "It has not been read: what it takes is not known."
    assert (why(never), until(never), outlook(never), pace(never)) == ("", "", "", "")
    assert [line.text for line in headline(dict.fromkeys(PoolName, never))] == [
        "Nothing is known of any pool."
    ]
    some = {PoolName.NB_SH: at("10:00", known=ONCE), PoolName.NB_SZ: never}
    assert headline(some)[0].text == "NB-SZ is not known; NB-SH was open at 10:00:00."


def test_nothing_is_expected_and_nothing_is_green_while_no_orders_come_in() -> None:
    away = {name: at("10:00", name=name, forecast=eta(inf), fed=False) for name in PoolName}
    assert [(line.tone, line.text) for line in headline(away)] == [
        (Tone.QUIET, "All four pools are open, as far as is known.")
    ]
    assert meaning(away[PoolName.NB_SH]).endswith("until the break at 11:30, as far as is known.")
    assert headline({PoolName.NB_SH: at("10:00", HALTED, fed=False)})[0].tone is Tone.TROUBLE


def test_a_day_that_is_late_is_due_and_never_begins_in_the_past() -> None:
    late = replaced(at("10:00", None), opens=DAY.replace(hour=9, minute=10))
    assert until(late) == "As soon as the day is opened, which is due since 09:10"
    assert [line.text for line in headline({PoolName.NB_SH: late})] == [
        "No trading day is open. Today's is due since 09:10."
    ]


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

"""What is missing is exactly what has not come, whatever the order, and nobody takes more room than his."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quota import numbers
from quota.events import Numbers
from quota.money import BOUND
from quota.numbers import Gap, Register, Source, accept, given_up, heard, joined, on_day, take_down
from tests.scale import cases

DAY, NEXT = "2026-11-23", "2026-11-24"


def runs_of(sequence: int) -> Numbers:
    return Numbers("gw", "e", sequence, sequence)


def heartbeat(sequence: int) -> Numbers:
    return Numbers("gw", "e", sequence + 1, sequence)


def taken(*runs: Numbers, now_ms: int = 1) -> Register:
    register = Register()
    for run in runs:
        take_down(register, DAY, [run], now_ms)
    return register


def missing(source: Source) -> set[int]:
    gaps = [gap for epoch in source.epochs for gap in epoch.gaps]
    return {number for gap in gaps for number in range(gap.first, gap.last + 1)}


@settings(max_examples=cases(200, 20_000))
@given(st.lists(st.integers(1, 60), min_size=1), st.data())
def test_missing_is_exactly_what_has_not_come_up_to_the_last_one_known(
    come: list[int], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(come)))
    told = [heartbeat(data.draw(st.integers(0, 70)))]
    mixed = data.draw(st.permutations([*map(runs_of, come + again), *told]))
    source = taken(*mixed).sources["gw"]
    last = max(*come, told[0].last)
    assert missing(source) == set(range(1, last + 1)) - set(come)
    assert source.missing == len(missing(source))
    assert source.epochs[0].last == last


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.integers(1, 9))), st.data())
def test_joining_runs_changes_nothing(come: list[tuple[str, str, int]], data: st.DataObject) -> None:
    said = [Numbers(source, epoch, number, number) for source, epoch, number in come]
    cut = data.draw(st.integers(0, len(said)))
    one, other = Register(), Register()
    take_down(one, DAY, said, 1)
    for part in (said[:cut], said[cut:]):
        take_down(other, DAY, joined(part), 1)
    assert {name: missing(it) for name, it in one.sources.items()} == {
        name: missing(it) for name, it in other.sources.items()
    }


def test_a_hundred_events_in_order_are_one_run() -> None:
    said = [Numbers(source, "e", number, number) for number in range(1, 101) for source in "ab"]
    assert joined([*said, Numbers("a", "e", 101, 100)]) == [
        Numbers("a", "e", 1, 100),
        Numbers("b", "e", 1, 100),
    ]


def test_a_gap_opens_is_split_and_closes() -> None:
    source = taken(runs_of(1), runs_of(6), now_ms=5).sources["gw"]
    assert source.epochs[0].gaps == (Gap(2, 5, 5),)
    source = heard(source, runs_of(4), 9)
    assert source.epochs[0].gaps == (Gap(2, 3, 5), Gap(5, 5, 5))
    assert (source.missing, source.since_ms) == (3, 5)
    source = heard(heard(source, Numbers("gw", "e", 2, 3), 9), runs_of(5), 9)
    assert (source.missing, source.since_ms) == (0, 0)


def test_a_heartbeat_shows_what_is_missing_at_the_end_and_fills_nothing() -> None:
    source = taken(runs_of(1), heartbeat(3)).sources["gw"]
    assert missing(source) == {2, 3}
    assert missing(heard(source, heartbeat(2), 1)) == {2, 3}


def test_a_heartbeat_before_the_first_event_is_no_gap() -> None:
    assert taken(heartbeat(0)).sources["gw"].missing == 0


def test_each_epoch_counts_by_itself_and_the_old_one_stays_missing() -> None:
    register = taken(runs_of(3), Numbers("gw", "f", 1, 2), Numbers("gw", "f", 4, 4))
    assert register.sources["gw"].missing == 3
    take_down(register, DAY, [Numbers("gw", "e", 1, 2)], 1)
    assert register.sources["gw"].missing == 1


def test_a_day_ends_what_was_missing_and_the_count_goes_on() -> None:
    register = taken(runs_of(3))
    assert set(register.missing_on(DAY)) == {"gw"}
    assert not register.missing_on(NEXT)
    take_down(register, NEXT, [runs_of(5), runs_of(2)], 1)
    assert missing(register.missing_on(NEXT)["gw"]) == {4}


def test_accepting_takes_what_was_seen_and_nothing_that_came_since() -> None:
    register = taken(runs_of(3), Numbers("other", "e", 2, 2))
    deed = given_up({"gw": register.sources["gw"]}, reason="r", user="u", host="h")
    take_down(register, DAY, [runs_of(5)], 1)
    accept(register, DAY, deed, 77)
    assert missing(register.sources["gw"]) == {4}
    assert register.sources["other"].missing == 1
    (note,) = register.accepted
    assert (note.source, note.missing, note.user, note.host, note.time_ms) == ("gw", 2, "u", "h", 77)


def every_second(count: int, epoch: str = "e") -> Sequence[Numbers]:
    return [Numbers("gw", epoch, 2 * number, 2 * number) for number in range(1, count + 1)]


def test_gaps_beyond_the_bound_stay_counted() -> None:
    register = taken(*every_second(numbers.GAPS_MAX + 9))
    source = register.sources["gw"]
    assert (source.unlisted, len(source.epochs[0].gaps)) == (9, numbers.GAPS_MAX)
    assert source.missing == numbers.GAPS_MAX + 9
    accept(register, DAY, given_up(register.sources, reason="r", user="u", host="h"), 1)
    assert register.sources["gw"].missing == 0


def test_epochs_beyond_the_bound_leave_their_gaps_counted() -> None:
    count = 3 * numbers.EPOCHS_MAX
    source = taken(*(Numbers("gw", f"e{number}", 2, 2) for number in range(count))).sources["gw"]
    assert (len(source.epochs), source.missing) == (numbers.EPOCHS_MAX, count)


def test_nobody_counts_further_than_numbers_are_exact() -> None:
    source = taken(*(Numbers("gw", f"e{number}", BOUND, BOUND) for number in range(50))).sources["gw"]
    assert source.unlisted == BOUND


def test_sources_beyond_the_bound_are_not_watched_and_a_day_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numbers, "SOURCES_MAX", 2)
    register = taken(*(Numbers(name, "e", 1, 3) for name in "abcd"))
    assert (sorted(register.sources), register.unwatched_on(DAY)) == (["a", "b"], 6)
    take_down(register, NEXT, [Numbers("b", "e", 4, 4), Numbers("c", "e", 1, 1)], 1)
    assert (sorted(register.sources), register.unwatched_on(NEXT)) == (["b", "c"], 0)


def test_a_source_of_yesterday_is_the_same_until_it_is_heard() -> None:
    source = taken(runs_of(3)).sources["gw"]
    assert on_day(source, DAY) is source
    assert on_day(source, NEXT).missing == 0

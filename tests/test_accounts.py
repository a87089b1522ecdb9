"""What was written down of a day, as it is read again: the last account, whole."""

from __future__ import annotations

import msgspec

from quota.accounts import account_of
from quota.captured import Captured
from tests.captures import DAY, POOL, journalled, opened


def numbers(*records: Captured) -> list[int]:
    account = account_of(records, DAY, POOL)
    assert account is not None
    return [entry.seq for entry in account.entries]


def test_a_rate_that_is_set_after_an_act_leaves_the_act_there() -> None:
    first = opened()
    other = msgspec.structs.replace(first, terms=msgspec.structs.replace(first.terms, rate="0.92000"))
    account = account_of([first, journalled(1), other, journalled(2)], DAY, POOL)
    assert account is not None
    assert account.terms.rate == "0.92000"
    assert [entry.seq for entry in account.entries] == [1, 2]


def test_where_entry_1_comes_again_behind_terms_another_account_begins() -> None:
    assert numbers(opened(), *map(journalled, (1, 2, 3)), opened(), *map(journalled, (1, 2))) == [1, 2]


def test_what_stands_twice_counts_once() -> None:
    assert numbers(opened(), *map(journalled, (1, 2, 2, 1, 3))) == [1, 2, 3]

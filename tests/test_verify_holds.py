"""Verify knows reservations: which end by themselves, which have ended, and how."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from quota.book import Book
from quota.decision import Side
from quota.events import Cancelled, Event, Fill, NewOrder
from quota.proof.verify import verify
from tests.folded import OPENING, POOL, Record, said

RESERVED = [f"r{number}" for number in range(8)]


@pytest.fixture
async def held() -> Record:
    """A day with reservations in every state: r0 and r1 held, r2 not, the others ended somehow."""
    record = Record()
    await record.open_day(POOL, OPENING)
    for place, order_id in enumerate(RESERVED):
        order = NewOrder(order_id=order_id, side=Side.BUY, price="1.00", quantity=2)
        await record.reserve(POOL, order, None if place == 2 else 1000 - place)
    told: list[Event] = [
        NewOrder(order_id="r3", side=Side.BUY, price="1.00", quantity=2),
        Fill(order_id="r4", exec_id="r4", side=Side.BUY, price="1.00", quantity=1),
        Cancelled(order_id="r5"),
    ]
    await record.apply(POOL, told)
    await record.release(POOL, "r6")
    await record.release(POOL, "never")
    book = record.book
    book.holds["r7"] = 0
    assert book.pool is not None
    book.pool = replace(book.pool, next_lapse_ms=1)
    book.journal[book.orders["r7"].seq - 1] = replace(
        book.journal[book.orders["r7"].seq - 1], event="new r7 buy 1.00 2 hold_ms=1", time_ms=-1
    )
    await record.tick(POOL)
    again = NewOrder(order_id="r6", side=Side.BUY, price="1.00", quantity=2)
    await record.apply(POOL, [again])
    return record


async def test_a_good_day_with_reservations_has_no_differences(held: Record) -> None:
    assert said(await verify(held, POOL)) == ""
    states = [
        (held.book.orders[order_id].reserved, held.book.orders[order_id].spent) for order_id in RESERVED
    ]
    assert states == [(True, False)] * 3 + [(False, False)] * 4 + [(False, True)]
    assert set(held.book.holds) == {"r0", "r1"}


HOLDS: dict[str, tuple[Callable[[Book], object], str]] = {
    "gone": (lambda book: book.holds.pop("r0"), "hold r0: the store has None, the fold has 1001"),
    "at another moment": (
        lambda book: book.holds.update(r0=1002),
        "hold r0: the store has 1002, the fold has",
    ),
    "of what has none": (
        lambda book: book.holds.update(r2=5000),
        "hold r2: the store has 5000, the fold has None",
    ),
    "of nobody": (
        lambda book: book.holds.update(nobody=5000),
        "hold nobody: the store has 5000, the fold has",
    ),
    "not reserved": (lambda book: mark(book, "r0", reserved=False), "order r0: the store has Order("),
    "confirmed, yet reserved": (
        lambda book: mark(book, "r3", reserved=True),
        "order r3: the store has Order(",
    ),
    "traded, yet reserved": (lambda book: mark(book, "r4", reserved=True), "order r4: the store has Order("),
    "lapsed, yet not spent": (lambda book: mark(book, "r7", spent=False), "order r7: the store has Order("),
    "sent, yet spent": (lambda book: mark(book, "r6", spent=True), "order r6: the store has Order("),
    "overlooked": (
        lambda book: overlook(book, 1001),
        "pool next_lapse: is 1001, but the first hold ends at 1000",
    ),
    "forgotten": (lambda book: overlook(book, 0), "pool next_lapse: is 0, but the first hold ends at 1000"),
}


def mark(book: Book, order_id: str, **state: bool) -> None:
    book.orders[order_id] = replace(book.orders[order_id], **state)


def overlook(book: Book, next_lapse_ms: int) -> None:
    assert book.pool is not None
    book.pool = replace(book.pool, next_lapse_ms=next_lapse_ms)


@pytest.mark.parametrize("what", HOLDS)
async def test_a_reservation_that_is_wrong_is_named(held: Record, what: str) -> None:
    spoil, text = HOLDS[what]
    spoil(held.book)
    found = await verify(held, POOL)
    assert len(found.differences) == 1
    assert found.differences[0].startswith(text)


async def test_a_reservation_without_a_hold_may_be_told_from_no_other_order(held: Record) -> None:
    mark(held.book, "r2", reserved=False)
    assert said(await verify(held, POOL)) == ""


@pytest.mark.parametrize("end", ["confirmed", "lapsed", "released"])
async def test_an_end_of_what_is_no_reservation_is_named(held: Record, end: str) -> None:
    (entry,) = [entry for entry in held.book.journal if entry.event == "released never"]
    held.book.journal[entry.seq - 1] = replace(entry, event=f"{end} r4")
    assert f"seq {entry.seq}: {end} of r4 changes nothing" in said(await verify(held, POOL))

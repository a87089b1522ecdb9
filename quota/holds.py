"""Reservations: how a gateway makes one, and how it ends. Pure, like rules.py; says what holds.lua says.

A reservation is an accepted buy of a gateway of which nothing else was heard yet. It may have a
hold: a moment after which it lapses. What lapsed or was released is spent: its charge is given
back, and its id can be reserved no more.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from quota.charge import in_range, with_parts
from quota.day import begins_ms, judged
from quota.decision import Decision, Outcome, Release, Side, Verdict, Violation
from quota.events import NewOrder
from quota.pool import Order, Pool
from quota.rules import Step, answered_again, apply_new, decided, numbered, without_day

LAPSES = 100
"""How many holds end in one call: the store does nothing else meanwhile."""


def reserve(
    pool: Pool | None, order: Order, event: NewOrder, *, now_ms: int
) -> tuple[Pool | None, Step | None, Decision]:
    """Decide an order that a gateway asks for; returns what ``rules.apply`` returns."""
    if pool is None:
        return None, None, without_day(event)
    pool = judged(pool, now_ms)
    step = answered_again(pool, order, event) if order.spent else apply_new(pool, order, event)
    if step.order is None:
        return pool, None, step.decision
    step = numbered(step._replace(order=as_reserved(step.order)), now_ms)
    return pool, step, step.decision


def as_reserved(order: Order) -> Order:
    """Mark an accepted buy of which no fact is known as reserved."""
    accepted = order.verdict is Verdict.ACCEPTED and order.side is Side.BUY
    return replace(order, reserved=True) if accepted and not order.traded_or_off else order


def with_lapse(pool: Pool, lapses_ms: int) -> Pool:
    """Note when a new hold ends."""
    return replace(pool, next_lapse_ms=min(lapses_ms, pool.next_lapse_ms or lapses_ms))


def due(pool: Pool, holds: Mapping[str, int], now_ms: int) -> list[str]:
    """List the reservations that lapse now, oldest first, up to the hundred.

    Those that are judged as of before trading began lapse all at once: its start must not be judged
    with some of them charged.
    """
    ended = sorted((lapses_ms, order_id) for order_id, lapses_ms in holds.items() if lapses_ms <= now_ms)
    early = sum(as_of(pool, lapses_ms, now_ms) < now_ms for lapses_ms, _ in ended)
    return [order_id for _, order_id in ended[: max(LAPSES, early)]]


def as_of(pool: Pool, lapses_ms: int, now_ms: int) -> int:
    """Tell as of which moment a lapse is judged: now, unless it came unnoticed before trading began.

    Then it is just before that, so that who looks first makes no difference.
    """
    begins = begins_ms(pool.schedule)
    if begins is not None and not pool.began and lapses_ms < begins <= now_ms:
        return begins - 1
    return now_ms


def spent(pool: Pool, order: Order) -> Step | None:
    """Give a reservation's charge back and spend its id; None where the balance would pass the bound."""
    now = replace(order, reserved=False, spent=True)
    after = with_parts(pool, order, now)
    return Step(after, decided(after, Outcome.APPLIED), now) if in_range(after, now) else None


def lapsed(pool: Pool, order: Order) -> Step:
    """End a reservation that nothing confirmed in time.

    What cannot be given back stays charged, without a hold.
    """
    if (step := spent(pool, order)) is not None:
        return step
    kind = Violation.OUT_OF_RANGE
    kept = replace(order, violations=order.violations | {kind})
    fresh = () if kind in order.violations else (kind,)
    return Step(pool, decided(pool, Outcome.APPLIED), kept, None, fresh)


def released(order: Order) -> Release:
    """Tell what becomes of an order that its gateway gives back."""
    if order.reserved or (order.spent and order.verdict is not None):
        return Release.RELEASED
    return Release.UNKNOWN if order.unheard or order.spent else Release.SETTLED

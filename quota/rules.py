"""What an event does to a pool: pure, no clock of its own, no IO. The reference for the Lua.

Every function takes records and returns records. ``lua/quota.lua`` says the same, in the same
order and under the same names; tests/agreement holds the two together.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from msgspec.structs import replace

from quota.charge import in_range, with_parts
from quota.day import judged, levelled
from quota.decision import (
    Admission,
    Decision,
    Outcome,
    Phase,
    Side,
    Status,
    Verdict,
    Violation,
)
from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected
from quota.money import BOUND, fen_up, rate_e5
from quota.pool import Execution, Order, Pool

NO_DAY = "no trading day is open"
ANOTHER_DAY = "time: another day than the pool's open day"
REASONS = {
    Violation.EXEC_REUSED: "exec_id: was used before with other content (exec_reused)",
    Violation.SIDE_CONFLICT: "side: is not the side of the order (side_conflict)",
    Violation.OUT_OF_RANGE: f"price, quantity: a total would pass {BOUND} (out_of_range)",
}
"""Why a fact cannot be applied, in the words of the dead letter."""


class Step(NamedTuple):
    """What one event made of things. ``order`` and ``execution`` are None where unchanged."""

    pool: Pool
    decision: Decision
    order: Order | None = None
    execution: Execution | None = None
    violations: tuple[Violation, ...] = ()


# Decisions.


def refusal_of_buys(pool: Pool) -> Verdict | None:
    """Tell why a fresh buy would be refused, whatever its size; None if it would not."""
    if pool.halted:
        return Verdict.HALTED
    if pool.exhausted:
        return Verdict.EXHAUSTED
    if pool.phase in {Phase.CLOSED, Phase.BREAK}:
        return Verdict.CLOSED
    return Verdict.SUSPENDED if pool.suspended else None


def verdict_of(pool: Pool, order: Order) -> Verdict:
    """Decide a first ``new``; ``order`` is its record as if it were accepted."""
    if order.side is Side.SELL or order.filled:
        return Verdict.ACCEPTED
    if (refusal := refusal_of_buys(pool)) is not None:
        return refusal
    if (
        pool.admission is Admission.MUST_FIT
        and fen_up(order.open_milli, rate_e5(pool.rate)) > pool.balance_fen
    ):
        return Verdict.INSUFFICIENT
    return Verdict.ACCEPTED


def checked_verdict(pool: Pool | None, side: Side) -> Verdict:
    """Tell what a buy or a sell of unknown size would get now."""
    if side is Side.SELL:
        return Verdict.ACCEPTED
    return Verdict.CLOSED if pool is None else refusal_of_buys(pool) or Verdict.ACCEPTED


# Events.


def apply(
    pool: Pool | None, order: Order, execution: Execution | None, event: Event, *, now_ms: int
) -> tuple[Pool | None, Step | None, Decision]:
    """Apply one event at a moment of the server's clock.

    Returns the pool as the clock made it before the event (None where no day is open), the step
    that the event made (None where it changed nothing) and the decision.
    """
    if pool is None:
        return None, None, without_day(event)
    pool = judged(pool, now_ms)
    if event.market_date is not None and event.market_date.isoformat() != pool.trading_day:
        return pool, None, dead(pool, ANOTHER_DAY)
    match event:
        case NewOrder():
            step = arrived(pool, order, event)
        case Cancelled() | Rejected():
            step = apply_off_book(pool, order)
        case Fill() | Bust():
            step = apply_execution(pool, order, execution, event)
        case _:
            assert_never(event)
    if step.order is None:
        return pool, None, step.decision
    step = numbered(step, now_ms)
    return pool, step, step.decision


def without_day(event: Event) -> Decision:
    """Answer where no day was ever opened: nothing is remembered."""
    if not isinstance(event, NewOrder):
        return Decision(Outcome.DEAD, None, NO_DAY, None, None, Status.CLOSED, Phase.CLOSED)
    verdict = checked_verdict(None, event.side)
    return Decision(Outcome.APPLIED, verdict, "", None, None, Status.CLOSED, Phase.CLOSED)


def decided(pool: Pool, outcome: Outcome, verdict: Verdict | None = None, seq: int | None = None) -> Decision:
    """Build the decision on an event that leaves the pool as it is."""
    return Decision(outcome, verdict, "", pool.balance_fen, seq, pool.status, pool.phase)


def dead(pool: Pool, reason: str) -> Decision:
    """Build the decision on an event that cannot be applied."""
    return Decision(Outcome.DEAD, None, reason, pool.balance_fen, None, pool.status, pool.phase)


def numbered(step: Step, now_ms: int) -> Step:
    """Give a step its number, judge the pool after it, and complete its decision."""
    violated = dict(step.pool.violated)
    for violation in step.violations:
        violated[violation] = violated.get(violation, 0) + 1
    pool = levelled(judged(replace(step.pool, seq=step.pool.seq + 1, violated=violated), now_ms))
    decision, order = step.decision, step.order
    if decision.outcome is not Outcome.DUPLICATE:
        decision = replace(decision, seq=pool.seq)
        if order is not None and decision.verdict is not None:
            order = replace(order, seq=pool.seq)
    decision = replace(decision, balance_fen=pool.balance_fen, status=pool.status, phase=pool.phase)
    return step._replace(pool=pool, decision=decision, order=order)


def arrived(pool: Pool, order: Order, event: NewOrder) -> Step:
    """Take in an order that somebody sent: a reservation of it is confirmed, a spent one revived.

    Confirming takes a number, though the answer is the earlier one.
    """
    if order.spent:
        return revived(pool, order, event)
    step = apply_new(pool, order, event)
    if order.reserved and step.decision.outcome is Outcome.DUPLICATE:
        return step._replace(order=replace(order, reserved=False))
    return step


def revived(pool: Pool, order: Order, event: NewOrder) -> Step:
    """Charge an order that was sent though its id is spent: a fact, whatever the pool's status."""
    if order.verdict is not None and not same_content(order, event):
        return answered_again(pool, order, event)
    return settled_order(pool, order, replace(asked(order, event), spent=False))


def apply_new(pool: Pool, order: Order, event: NewOrder) -> Step:
    """Decide an order, or give the earlier answer again."""
    if order.verdict is not None or order.side not in {None, event.side}:
        return answered_again(pool, order, event)
    accepted = asked(order, event)
    return settled_order(pool, order, replace(accepted, verdict=verdict_of(pool, accepted)))


def asked(order: Order, event: NewOrder) -> Order:
    """Write an order's record as if it were accepted."""
    return replace(
        order,
        side=event.side,
        price_milli=event.price_milli,
        quantity=event.quantity,
        verdict=Verdict.ACCEPTED,
    )


def settled_order(pool: Pool, was: Order, now: Order) -> Step:
    """Charge and count an order that is decided, unless a total would pass the bound."""
    after = with_parts(pool, was, now)
    if not in_range(after, now):
        return broken(pool, was, Violation.OUT_OF_RANGE)
    now, violations = with_violations(was, now)
    counts = dict(after.decided)
    if now.side is not None and now.verdict is not None:
        counts[now.side, now.verdict] = counts.get((now.side, now.verdict), 0) + 1
    decision = decided(after, Outcome.APPLIED, now.verdict)
    return Step(replace(after, decided=counts), decision, now, None, violations)


def same_content(order: Order, event: NewOrder) -> bool:
    """Whether this is the order that the record tells of."""
    known = (order.side, order.price_milli, order.quantity)
    return known == (event.side, event.price_milli, event.quantity)


def answered_again(pool: Pool, order: Order, event: NewOrder) -> Step:
    """Answer an id that was seen before: the first verdict if it is the same order."""
    if order.verdict is not None and not order.spent and same_content(order, event):
        return Step(pool, decided(pool, Outcome.DUPLICATE, order.verdict, order.seq))
    return Step(pool, decided(pool, Outcome.ID_REUSED, Verdict.ID_REUSED, pool.seq))


def apply_off_book(pool: Pool, order: Order) -> Step:
    """Take what is left of an order off the book."""
    if order.off_book:
        return Step(pool, decided(pool, Outcome.DUPLICATE))
    return settled_fact(pool, order, replace(order, off_book=True), None)


def apply_execution(pool: Pool, order: Order, execution: Execution | None, event: Fill | Bust) -> Step:
    """Count a trade, or undo it. A bust that comes first counts as its fill, already undone.

    What trades is in the book, a spent order too.
    """
    busted = isinstance(event, Bust)
    said = Execution(event.order_id, event.side, event.price_milli, event.quantity, busted)
    if execution is not None:
        if replace(execution, busted=busted) != said:
            return broken(pool, order, Violation.EXEC_REUSED)
        if execution.busted or not busted:
            return Step(pool, decided(pool, Outcome.DUPLICATE))
        return settled_fact(
            pool,
            order,
            replace(order, value_milli=order.value_milli - event.price_milli * event.quantity),
            said,
        )
    if order.side not in {None, event.side}:
        return broken(pool, order, Violation.SIDE_CONFLICT)
    value = event.price_milli * event.quantity
    if value > BOUND:
        return broken(pool, order, Violation.OUT_OF_RANGE)
    traded = replace(
        order,
        side=event.side,
        filled=order.filled + event.quantity,
        value_milli=order.value_milli + (0 if busted else value),
        top_milli=max(order.top_milli, event.price_milli),
        spent=False,
    )
    return settled_fact(pool, order, traded, said)


def settled_fact(pool: Pool, was: Order, now: Order, execution: Execution | None) -> Step:
    """Apply a fact's new record of its order, unless a total would pass the bound.

    A reservation of which this is the first word is confirmed by it.
    """
    now = replace(now, reserved=False)
    after = with_parts(pool, was, now)
    if not in_range(after, now):
        return broken(pool, was, Violation.OUT_OF_RANGE)
    now, violations = with_violations(was, now)
    return Step(after, decided(after, Outcome.APPLIED), now, execution, violations)


def with_violations(was: Order, now: Order) -> tuple[Order, tuple[Violation, ...]]:
    """Note what should not be, each kind once per order."""
    seen: list[Violation] = []
    if now.verdict is not None:
        if now.filled and now.verdict is not Verdict.ACCEPTED:
            seen.append(Violation.REFUSED_TRADED)
        if now.filled > now.quantity:
            seen.append(Violation.OVERFILLED)
        if now.side is Side.BUY and now.top_milli > now.price_milli:
            seen.append(Violation.ABOVE_LIMIT)
    if was.spent and not now.spent:
        seen.append(Violation.SPENT_ORDER)
    fresh = tuple(violation for violation in seen if violation not in was.violations)
    return replace(now, violations=now.violations.union(fresh)), fresh


def broken(pool: Pool, order: Order, violation: Violation) -> Step:
    """Refuse a fact that cannot be applied; count it once per order and kind."""
    decision = dead(pool, REASONS[violation])
    if violation in order.violations:
        return Step(pool, decision)
    return Step(pool, decision, replace(order, violations=order.violations | {violation}), None, (violation,))

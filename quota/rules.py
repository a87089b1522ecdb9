"""What an event does to a pool: pure, no clock of its own, no IO. The reference for the Lua.

Every function takes records and returns records. ``lua/quota.lua`` says the same, in the same
order and under the same names; tests/agreement holds the two together.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from msgspec.structs import replace

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
from quota.money import BOUND, fen_down, fen_up, rate_e5
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


# One order's part in its pool.


def parts(order: Order, rate: int) -> tuple[int, int, int]:
    """Split an order's contribution into open buys, filled buys and filled sells, in fen."""
    match order.side:
        case None:
            return 0, 0, 0
        case Side.SELL:
            return 0, 0, fen_down(order.value_milli, rate)
        case Side.BUY:
            filled = fen_up(order.value_milli, rate)
            return fen_up(order.open_milli + order.value_milli, rate) - filled, filled, 0
    assert_never(order.side)


def with_parts(pool: Pool, was: Order, now: Order) -> Pool:
    """Put the contribution ``now`` in the place of ``was``."""
    rate = rate_e5(pool.rate)
    before, after = parts(was, rate), parts(now, rate)
    return replace(
        pool,
        open_buy_fen=pool.open_buy_fen + after[0] - before[0],
        filled_buy_fen=pool.filled_buy_fen + after[1] - before[1],
        filled_sell_fen=pool.filled_sell_fen + after[2] - before[2],
    )


def in_range(pool: Pool, order: Order) -> bool:
    """Whether every total of the order and the pool is within the bound."""
    totals = (
        order.price_milli * order.quantity,
        order.filled,
        order.open_milli + order.value_milli,
        pool.open_buy_fen,
        pool.filled_buy_fen,
        pool.filled_sell_fen,
        abs(pool.balance_fen),
    )
    return max(totals) <= BOUND


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
            step = apply_new(pool, order, event)
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
    decision = replace(
        step.decision, seq=pool.seq, balance_fen=pool.balance_fen, status=pool.status, phase=pool.phase
    )
    order = step.order
    if order is not None and step.decision.verdict is not None:
        order = replace(order, seq=pool.seq)
    return step._replace(pool=pool, decision=decision, order=order)


def apply_new(pool: Pool, order: Order, event: NewOrder) -> Step:
    """Decide an order, or give the earlier answer again."""
    if order.verdict is not None or order.side not in {None, event.side}:
        return answered_again(pool, order, event)
    asked = replace(
        order,
        side=event.side,
        price_milli=event.price_milli,
        quantity=event.quantity,
        verdict=Verdict.ACCEPTED,
    )
    verdict = verdict_of(pool, asked)
    settled = replace(asked, verdict=verdict)
    after = with_parts(pool, order, settled)
    if not in_range(after, settled):
        return broken(pool, order, Violation.OUT_OF_RANGE)
    settled, violations = with_violations(order, settled)
    counts = dict(after.decided)
    counts[event.side, verdict] = counts.get((event.side, verdict), 0) + 1
    decision = decided(after, Outcome.APPLIED, verdict)
    return Step(replace(after, decided=counts), decision, settled, None, violations)


def answered_again(pool: Pool, order: Order, event: NewOrder) -> Step:
    """Answer an id that was seen before: the first verdict if it is the same order."""
    same = (order.side, order.price_milli, order.quantity) == (event.side, event.price_milli, event.quantity)
    if order.verdict is not None and same:
        return Step(pool, decided(pool, Outcome.DUPLICATE, order.verdict, order.seq))
    return Step(pool, decided(pool, Outcome.ID_REUSED, Verdict.ID_REUSED, pool.seq))


def apply_off_book(pool: Pool, order: Order) -> Step:
    """Take what is left of an order off the book."""
    if order.off_book:
        return Step(pool, decided(pool, Outcome.DUPLICATE))
    return settled_fact(pool, order, replace(order, off_book=True), None)


def apply_execution(pool: Pool, order: Order, execution: Execution | None, event: Fill | Bust) -> Step:
    """Count a trade, or undo it. A bust that comes first counts as its fill, already undone."""
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
    )
    return settled_fact(pool, order, traded, said)


def settled_fact(pool: Pool, was: Order, now: Order, execution: Execution | None) -> Step:
    """Apply a fact's new record of its order, unless a total would pass the bound."""
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
    fresh = tuple(violation for violation in seen if violation not in was.violations)
    return replace(now, violations=now.violations.union(fresh)), fresh


def broken(pool: Pool, order: Order, violation: Violation) -> Step:
    """Refuse a fact that cannot be applied; count it once per order and kind."""
    decision = dead(pool, REASONS[violation])
    if violation in order.violations:
        return Step(pool, decision)
    return Step(pool, decision, replace(order, violations=order.violations | {violation}), None, (violation,))

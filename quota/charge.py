"""What one order takes from its pool or brings to it, in fen: pure, like rules.py."""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from quota.decision import Side
from quota.money import BOUND, fen_down, fen_up, rate_e5
from quota.pool import Order, Pool


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

"""Known figures of market rules, section 9, built from orders and trades."""

from __future__ import annotations

from quota.decision import PoolName, Side, Status, Verdict
from quota.events import Event, Fill, NewOrder
from quota.money import price_text, yuan_to_fen
from quota.pool import Opening, Pool
from tests.agreement.state import DAY, linked, schedule_of
from tests.agreement.twin import Twin, fresh_twin
from tests.servers import Store

BN = 1_000_000_000


def order(order_id: str, side: Side, yuan: int) -> NewOrder:
    """An order for so many yuan, at a price of one."""
    return NewOrder(order_id=order_id, side=side, price="1.00", quantity=yuan)


def fill(order_id: str, side: Side, yuan: int) -> Fill:
    """A fill of so many yuan, at a price of one."""
    return Fill(order_id=order_id, exec_id=f"{order_id}-1", side=side, price="1.00", quantity=yuan)


async def traded(
    store: Store, limit_yuan: int, *events: Event, name: PoolName = PoolName.NB_SH, rate: str = "1.00000"
) -> Pool:
    """Trade in continuous trading, on model and store, and return the pool."""
    async with linked(store) as client:
        twin: Twin = await fresh_twin(client, name)
        opening = Opening(
            trading_day=DAY,
            limit_fen=yuan_to_fen(str(limit_yuan)),
            rate=rate,
            schedule=schedule_of("morning", twin.now_ms),
            origin="at",
            open_late=True,
        )
        await twin.open_day(opening)
        for event in events:
            await twin.apply(event)
            await twin.agree()
        assert twin.pool is not None
        return twin.pool


async def test_t1_sells_bring_the_balance_above_the_quota(store: Store) -> None:
    pool = await traded(
        store,
        13 * BN,
        order("b", Side.BUY, 2_548_000_000),
        order("s", Side.SELL, 2_824_000_000),
        fill("s", Side.SELL, 2_824_000_000),
    )
    assert pool.balance_fen == yuan_to_fen("13276000000")
    assert round(100 * pool.balance_fen / pool.limit_fen) == 102
    assert pool.used_fen < 0


async def test_t2_buys_that_rest_at_the_close_stay_charged(store: Store) -> None:
    pool = await traded(
        store,
        13 * BN,
        order("b", Side.BUY, 3_868_000_000),
        fill("b", Side.BUY, 3_788_000_000),
        order("s", Side.SELL, 2_470_000_000),
        fill("s", Side.SELL, 2_470_000_000),
    )
    assert pool.used_fen == yuan_to_fen("1398000000")
    assert pool.open_buy_fen == yuan_to_fen("80000000")


async def test_t3_southbound_usage_to_the_yuan(store: Store) -> None:
    # 500,292,704.66 HKD at 0.91250 are 456,517,093.00 RMB, rounded up.
    milli = yuan_to_fen("456517093") * 1_000_000 // 91_250
    spent = NewOrder(order_id="b", side=Side.BUY, price=price_text(milli), quantity=1)
    pool = await traded(store, 42 * BN, spent, name=PoolName.SB_SH, rate="0.91250")
    assert pool.balance_fen == yuan_to_fen("41543482907")


async def test_t4_the_highest_balance_on_record(store: Store) -> None:
    pool = await traded(
        store, 13 * BN, order("s", Side.SELL, 1_180_000_000), fill("s", Side.SELL, 1_180_000_000)
    )
    assert pool.balance_fen == yuan_to_fen("14180000000")
    assert round(1000 * pool.balance_fen / pool.limit_fen) == 1091


async def test_t5_orders_count_not_trades(store: Store) -> None:
    pool = await traded(
        store,
        13 * BN,
        order("b", Side.BUY, 12 * BN),
        fill("b", Side.BUY, 12 * BN),
        order("s", Side.SELL, 100_000_000),
        fill("s", Side.SELL, 100_000_000),
        order("c", Side.BUY, 1_100_000_000),
        order("d", Side.BUY, 1),
    )
    turnover_fen = pool.filled_buy_fen + pool.filled_sell_fen
    assert turnover_fen == yuan_to_fen("12100000000") < pool.limit_fen
    assert pool.status is Status.EXHAUSTED
    assert pool.decided[Side.BUY, Verdict.EXHAUSTED] == 1

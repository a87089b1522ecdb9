"""Holds by the hundred at the start of trading, and holds of no reservation: too long for a table."""

from __future__ import annotations

from msgspec.structs import replace

from quota.holds import with_lapse
from quota.pool import Opening
from quota.store.record import keys
from tests.agreement.state import DAY, HOUR_MS, schedule_of
from tests.agreement.trading import buy
from tests.agreement.twin import Solo, Twin


async def overslept(twin: Solo, early: int, late: int) -> None:
    """Let many holds of the opening phase end unnoticed, some before and some after trading began.

    Together with one that stays they are more than the limit. Only once all that end early are given
    back, the balance is above zero.
    """
    day = Opening(
        trading_day=DAY,
        limit_fen=100 * (early + late) + 50,
        rate="1.00000",
        schedule=schedule_of("opening", twin.now_ms),
        origin="at",
        open_late=True,
    )
    await twin.open_day(day)
    twin.place = "opening"
    for number in range(early):
        await twin.reserve(buy(f"e{number:03d}"), HOUR_MS)
    for number in range(late):
        await twin.reserve(buy(f"l{number:03d}"), 4 * HOUR_MS)
    await twin.reserve(buy("stays", early))
    await twin.age(4)
    await twin.stand_at("morning")


async def stray(twin: Twin, order_id: str) -> None:
    """Put an id among the holds that has no business there; it ends in an hour."""
    book = twin.model.books[twin.name]
    assert book.pool is not None
    book.holds[order_id] = twin.now_ms + HOUR_MS
    book.pool = with_lapse(book.pool, book.holds[order_id])
    await twin.client.zadd(keys(twin.name)[3], {order_id: 1})
    await twin.age(0)


async def many_strays(twin: Twin) -> None:
    """Let more than the hundred of them end at one moment, when nothing else happens."""
    for number in range(150):
        await stray(twin, f"o{number}")
    await twin.age(1)
    for left in (50, 0, 0):
        await twin.tick(publish=False)
        await twin.agree()
        assert len(twin.model.books[twin.name].holds) == left


async def strays(twin: Twin) -> None:
    """Let holds of no reservation end: nothing comes of it, and they are gone."""
    for order_id in ("confirmed", "gone"):
        await twin.reserve(buy(order_id), HOUR_MS)
    await twin.apply(buy("confirmed"))
    await twin.release("gone")
    await twin.reserve(buy("held"), HOUR_MS)
    for order_id in ("confirmed", "gone", "nobody"):
        await stray(twin, order_id)
    await twin.age(1)
    before = twin.pool
    assert before is not None
    await twin.tick(publish=False)
    await twin.agree()
    after = twin.pool
    assert after == replace(
        before,
        open_buy_fen=before.open_buy_fen - 100,
        seq=before.seq + 1,
        next_lapse_ms=0,
    )
    assert not twin.model.books[twin.name].holds

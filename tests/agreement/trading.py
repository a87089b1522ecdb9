"""A day that trades in a store: what the tests of the ledger begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from quota.decision import PoolName, Side
from quota.events import Fill, NewOrder
from quota.ledger import Act
from quota.pool import Opening
from tests.agreement.state import DAY, contents, schedule_of, server_ms

POOL = PoolName.NB_SH
HALT = Act(act="halt", reason="test", user="ann", host="desk")


async def opening(client: Redis, **changed: Any) -> Opening:  # noqa: ANN401 - fields of an opening
    """A day that is in its morning now."""
    schedule = schedule_of("morning", await server_ms(client))
    fields = {
        "trading_day": DAY,
        "limit_fen": 1_000_000,
        "rate": "1.00000",
        "origin": "at",
        "open_late": True,
    }
    return Opening(**{**fields, "schedule": schedule, **changed})


def buy(order_id: str, quantity: int = 1) -> NewOrder:
    """A buy of so many yuan."""
    return NewOrder(order_id=order_id, side=Side.BUY, price="1.00", quantity=quantity)


def fill(order_id: str) -> Fill:
    """A fill of one yuan."""
    return Fill(order_id=order_id, exec_id=f"{order_id}-1", side=Side.BUY, price="1.00", quantity=1)


@asynccontextmanager
async def unchanged(client: Redis) -> AsyncIterator[None]:
    """Whatever fails inside leaves every key as it was."""
    before = await contents(client)
    yield
    assert await contents(client) == before

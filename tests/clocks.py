"""Clocks that the test sets: the store's, our own, and what is asked of a daemon between them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from quota.clock import MarketClock
from quota.decision import PoolName
from quota.ledger import Act
from quota.watch import Watch
from tests.rigs import MONDAY, NB_SH, Rig, rig, until

SATURDAY, TUESDAY, WEDNESDAY = "2026-11-21", "2026-11-24", "2026-11-25"
HOUR_MS = 3_600_000
HALT = Act(act="halt", reason="why", user="me", host="here")


@dataclass(slots=True)
class Clocks:
    """A rig whose store's clock and our own can be set apart."""

    rig: Rig
    ahead_ms: int = 0

    def ours(self) -> int:
        """What our own clock shows."""
        return self.rig.now[0] + self.ahead_ms

    async def give(self, *payloads: str, pool: PoolName = NB_SH) -> None:
        """Deliver payloads, and wait until they are done with."""
        desk = self.rig.desk
        done = len(desk.acknowledged)
        desk.bring(*(desk.orders(payload, pool) for payload in payloads))
        await until(lambda: len(desk.acknowledged) == done + len(payloads))

    async def mark(self) -> None:
        """Let the broker say that the leftovers are in."""
        self.rig.days.expect(self.rig.desk.mark())
        await self.give("?")

    async def look(self) -> None:
        """Look at every pool, as the watch does."""
        for pool in PoolName:
            await self.rig.days.look(pool)

    async def watched(self) -> Watch:
        """Look as the watch does, and tell."""
        watch = Watch(self.rig.desk, self.rig.store, self.rig.days, self.rig.metrics)
        await watch.tick()
        return watch


def clocks_apart(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Build a rig on a Monday morning."""
    clocks = Clocks(rig(monkeypatch, f"{MONDAY}T10:00", open_late="open"))
    monkeypatch.setattr(MarketClock, "local_ms", staticmethod(clocks.ours))
    return clocks


def new(order_id: str, trading_day: str = "", price: str = "1.00") -> str:
    """Write a buy, with a time of its own on that day."""
    order = {"event": "new", "order_id": order_id, "side": "buy", "price": price, "quantity": 1}
    return json.dumps(order | ({"time": f"{trading_day}T10:00:00+08:00"} if trading_day else {}))

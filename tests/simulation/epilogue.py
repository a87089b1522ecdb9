"""After the laws were held: the store changes for good, and may have lost what was answered.

A store that lost nothing goes on by itself. One that lost an answer decides no buy any more.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from quota.day import date_of
from quota.decision import PoolName
from quota.memory import Book
from tests.simulation.served import check
from tests.simulation.world import SETTLED_S

if TYPE_CHECKING:
    from tests.simulation.story import Play

VARIANTS = ("same", "behind", "empty", "forgotten")


class Epilogue:
    """What happens to one pool."""

    def __init__(self, play: Play) -> None:
        self.play, self.world = play, play.world
        self.pool: PoolName = self.world.rng.choice(self.world.pools)
        self.variant = self.world.rng.choice(VARIANTS)
        self.day = ""

    async def run(self) -> None:
        """Answer one more order, change the store, and ask again."""
        self.world.begin_life()
        await self._rest(self.play.restless)
        world, truth = self.world, self.world.truth
        today = date_of(world.now_ms())
        pool = truth.books[self.pool].pool
        if pool is None or pool.trading_day != today or pool.halted:
            return
        self.day = today
        world.leap_to(f"{today}T10:00:00")
        await asyncio.sleep(1.0)  # until the watch has looked: nobody vouches for what he did not see
        before = copy.deepcopy(truth.books)
        self._publish("last", "sell")
        await self._rest(self._unserved)
        if self.variant == "forgotten":
            world.crash()
        if self.variant in {"behind", "forgotten"}:
            truth.books = before
        if self.variant == "empty":
            truth.books = {name: Book() for name in PoolName}
        truth.run_id = "another"
        if self.variant == "forgotten":
            await world.restart()
        for number in range(3):
            self._publish(f"next{number}", "buy")
        await self._rest(self._unsettled)
        await asyncio.sleep(1.0)  # until the watch has looked
        await self._rest(self._unsettled)
        self._judge()
        self.play.noticed.add(f"a store that came back {self.variant}")

    def _unserved(self) -> str:
        waiting = self.world.broker.waiting
        return f"{waiting} messages are not acknowledged" if waiting else ""

    def _unsettled(self) -> str:
        """Say what is not answered, or not open; alerts of what was lost are nobody's."""
        running = self.world.life.running if self.world.life is not None else None
        if running is None:
            return "no daemon runs"
        return self._unserved() or "; ".join(running.watch.unready())

    def _judge(self) -> None:
        pool = self.world.truth.books[self.pool].pool
        assert pool is not None
        verdicts = [
            applied.decision.verdict
            for applied in self.world.truth.applied
            if applied.pool == self.pool and applied.event.order_id.startswith("next")
        ]
        if self.variant == "same":
            check(not pool.halted, f"{self.pool}: a store that lost nothing stays halted: {pool.halted}")
        else:
            what = f"{self.pool}: a store that came back {self.variant}"
            check(set(verdicts) <= {"halted", "closed"}, f"{what} decided {verdicts}")
            another_day = pool.trading_day != self.day  # such a halt ends with its day
            check(bool(pool.halted) or another_day, f"{what} goes on")

    def _publish(self, order_id: str, side: str) -> None:
        order = {"event": "new", "order_id": order_id, "side": side, "price": "0.01", "quantity": 1}
        self.world.broker.publish(f"connect/{self.pool}/orders", json.dumps(order).encode())

    async def _rest(self, left: Callable[[], str]) -> None:
        """Wait until nothing is left to do, which has to come, now that nothing goes wrong."""
        world = self.world
        until = world.loop.time() + 2 * SETTLED_S
        while what := left():
            check(world.loop.time() < until, f"{self.pool}: does not come to rest, {self.variant}: {what}")
            if world.life is not None and world.life.root is not None and world.life.root.done():
                await world.ended(world.life)
            await asyncio.sleep(0.002)

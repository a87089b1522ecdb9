"""Those who use the store directly, beside the daemon: gateways that reserve, and an operator who acts."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

from quota.decision import PoolName, Side, Verdict
from quota.errors import ConfigError, LedgerUnavailable
from quota.events import NewOrder
from quota.gate.answers import Result
from quota.journal import held_line, line
from quota.ledger import Act
from quota.proof.history import Call
from tests.simulation.link import Link
from tests.simulation.traffic import Known, Traffic
from tests.simulation.world import World

HOLDS_MS = (None, 200, 60_000, 3_600_000)


@dataclass(slots=True)
class Desk:
    """The gateways and the operator; ``calls`` is what they asked and heard, by the clock of steps."""

    world: World
    link: Link
    traffic: Traffic
    calls: list[Call] = field(default_factory=list)
    deeds: list[Act] = field(default_factory=list)
    at_work: set[asyncio.Task[None]] = field(default_factory=set)
    _asked: set[tuple[PoolName, str]] = field(default_factory=set)

    def said(self, pool: PoolName) -> set[str]:
        """The lines of what the gateways asked of a pool."""
        return {text for known, text in self._asked if known == pool}

    def begin(self, day: str, moment: str) -> None:
        """Let a gateway work on one order in the background."""
        task = self.world.loop.create_task(self._order(day, moment))
        self.at_work.add(task)
        task.add_done_callback(self.at_work.discard)

    async def _order(self, day: str, moment: str) -> None:
        """Reserve, and then send the order, give it back, or forget about it."""
        rng = self.world.rng
        await asyncio.sleep(rng.uniform(0, 1.0))
        known = self.traffic.order(day, source="gw")
        order = NewOrder(
            order_id=known.order_id,
            side=Side(known.side),
            price=known.price,
            quantity=known.quantity,
            source="gw",
        )
        hold_ms = rng.choice(HOLDS_MS)
        verdict = await self._reserve(known.pool, order, hold_ms)
        if verdict is Verdict.ID_REUSED:
            return
        draw = rng.random()
        if draw < 0.2:
            await self._release(known.pool, order)
        if draw < 0.75:
            self._send(known, f"{day}T{moment}+08:00")

    async def _reserve(self, pool: PoolName, order: NewOrder, hold_ms: int | None) -> Verdict | None:
        """Ask until there is an answer."""
        self._asked.add((pool, line(order)))
        self._asked.add((pool, held_line(order, hold_ms or 0)))
        for _ in range(50):
            called = self.world.loop.steps
            try:
                answer = await self.link.reserve(pool, order, hold_ms)
            except LedgerUnavailable:
                self.calls.append(self.call(pool, order, (called, self.world.loop.steps), None))
                await asyncio.sleep(0.05)
                continue
            said = msgspec.structs.asdict(answer)
            self.calls.append(self.call(pool, order, (called, self.world.loop.steps), said))
            return answer.verdict
        return None

    async def _release(self, pool: PoolName, order: NewOrder) -> None:
        self._asked.add((pool, f"released {order.order_id}"))
        for _ in range(50):
            try:
                await self.link.release(pool, order.order_id)
            except LedgerUnavailable:
                await asyncio.sleep(0.05)
            else:
                return

    def _send(self, known: Known, time: str) -> None:
        rng = self.world.rng
        told: dict[str, Any] = self.traffic.new(known) | {"time": time}
        self._publish(known.pool, "orders", told)
        if rng.random() < 0.3:
            trade = told | {"event": "fill", "exec_id": f"{known.order_id}.x", "quantity": 1}
            self._publish(known.pool, "fills", trade)

    def _publish(self, pool: PoolName, lane: str, told: dict[str, Any]) -> None:
        said = self.traffic.counters.numbered(pool, "gw", told)
        self.world.broker.publish(f"connect/{pool}/{lane}/gw", json.dumps(said).encode())

    @staticmethod
    def call(pool: PoolName, order: NewOrder, steps: tuple[int, int], said: dict[str, Any] | None) -> Call:
        """Write down what was asked and heard."""
        verdict = Verdict(said["verdict"]) if said else None
        refused = Result.REFUSED if verdict is not Verdict.ACCEPTED else Result.ACCEPTED
        return Call(
            pool=pool,
            order_id=order.order_id,
            side=order.side,
            price=order.price,
            quantity=order.quantity,
            clock="steps",
            called_ns=steps[0],
            answered_ns=steps[1],
            outcome=refused if said else Result.UNKNOWN,
            verdict=verdict,
            seq=said["seq"] if said else None,
            balance_fen=said["balance_fen"] if said else None,
            replayed=bool(said["replayed"]) if said else False,
        )

    async def operate(self) -> None:
        """Act as an operator: now and then for no reason, always where the store changed unheard."""
        rng, truth = self.world.rng, self.world.truth
        for pool in self.world.pools:
            now = truth.books[pool].pool
            if now is not None and now.halted and rng.random() < 0.5:
                await self._act(pool, Act(act="resume", reason="looked", user="ann", host="desk"))
            elif rng.random() < 0.06:
                await self._act(pool, Act(act="halt", reason="why not", user="ann", host="desk"))
            elif rng.random() < 0.12:
                more = Act(
                    act="limit",
                    reason="more",
                    user="ann",
                    host="desk",
                    limit_fen=rng.choice((4, 9, 20, 60)),
                    reopen=rng.random() < 0.6,
                )
                await self._act(pool, more)

    async def answer_for_the_store(self) -> None:
        """Resume what no daemon attests, as an operator would.

        It has not seen the day on the store before; it had not looked for hours, as time leaps here; or the
        store changed under a halt, and what was decided at that moment may have been lost for all that it
        knows. That a store that lost nothing goes on by itself is seen in the epilogue.
        """
        life = self.world.life
        doubts = life.running.days.witness.doubts if life is not None and life.running is not None else {}
        for pool in list(doubts):
            now = self.world.truth.books[pool].pool
            if now is not None and now.halted:
                await self._act(pool, Act(act="resume", reason="looked", user="ann", host="desk"))

    async def _act(self, pool: PoolName, act: Act) -> None:
        try:
            await self.link.operate(pool, act)
        except (LedgerUnavailable, ConfigError):
            return

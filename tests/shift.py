"""A gateway at work in a test: several lines that reserve through PreTrade and write down what they hear."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from quota.decision import PoolName, Side, Verdict
from quota.gate.answers import Answer, Result
from quota.gateway import PreTrade
from quota.proof.history import Call
from tests.tap import until

LINES = 4
PRICE, QUANTITY = "10.00", 100
CHARGE_FEN = 100_000
_TOGETHER = 64


@dataclass(slots=True)
class Shift:
    """What was asked and answered so far. An unknown order is asked for again until it is answered."""

    gate: PreTrade
    pools: Sequence[PoolName]
    name: str = "gw"
    calls: list[Call] = field(default_factory=list)
    over: bool = False
    _asking: list[int] = field(default_factory=list)

    async def line(self, number: int) -> None:
        """Reserve one order after the other, round the pools."""
        order = 0
        while not self.over:
            pool = self.pools[order % len(self.pools)]
            while not self.over:
                answer = await self.ask(pool, f"{self.name}-{number}-{order}")
                if answer.outcome is not Result.UNKNOWN:
                    break
            order += 1
            await asyncio.sleep(0)

    async def ask(self, pool: PoolName, order_id: str, side: Side = Side.BUY) -> Answer:
        """Ask once, and write it down."""
        called_ns = time.monotonic_ns()
        self._asking.append(called_ns)
        answer = await self.gate.reserve(pool, order_id, side, PRICE, QUANTITY)
        self._asking.remove(called_ns)
        self.calls.append(
            Call(
                pool=pool,
                order_id=order_id,
                side=side,
                price=PRICE,
                quantity=QUANTITY,
                clock="here",
                called_ns=called_ns,
                answered_ns=time.monotonic_ns(),
                outcome=answer.outcome,
                verdict=answer.verdict,
                seq=answer.seq,
                balance_fen=answer.balance_fen,
                replayed=answer.replayed,
            )
        )
        return answer

    async def heard(self) -> None:
        """Wait until all that is being asked now has ended: what the store answered is then written down."""
        now = time.monotonic_ns()
        await until(lambda: all(called_ns > now for called_ns in self._asking))

    def answered(self, verdict: Verdict | None = None, pool: PoolName | None = None) -> list[Call]:
        """The calls that were answered; with this verdict, of this pool."""
        known = [call for call in self.calls if call.verdict is not None]
        known = [call for call in known if verdict is None or call.verdict is verdict]
        return [call for call in known if pool is None or call.pool is pool]

    def history(self, directory: Path) -> Path:
        """Write the history for `quotad verify --history`."""
        path = directory / f"{self.name}.jsonl"
        path.write_bytes(b"".join(msgspec.json.encode(call) + b"\n" for call in self.calls))
        return path

    async def finish(self) -> None:
        """Ask for the orders that were never answered, until they are."""
        answered = {call.order_id for call in self.answered()}
        for call in [call for call in self.calls if call.order_id not in answered]:
            while (await self.ask(call.pool, call.order_id, call.side)).outcome is Result.UNKNOWN:
                pass

    async def still_stands(self) -> None:
        """Ask for every answered order again: it gets the same verdict under the same number."""
        told = {(call.pool, call.order_id): (call.verdict, call.seq) for call in self.answered()}
        assert all(told[call.pool, call.order_id] == (call.verdict, call.seq) for call in self.answered())
        waiting = list(told)
        for start in range(0, len(waiting), _TOGETHER):
            await asyncio.gather(
                *(self._stands(*order, *told[order]) for order in waiting[start:][:_TOGETHER])
            )

    async def _stands(self, pool: PoolName, order_id: str, verdict: Verdict | None, seq: int | None) -> None:
        again = await self.gate.reserve(pool, order_id, Side.BUY, PRICE, QUANTITY)
        assert (again.verdict, again.seq, again.replayed) == (verdict, seq, True), (order_id, again)


@asynccontextmanager
async def working(
    url: str, pools: Sequence[PoolName], durability: str = "memory", deadline_ms: int = 200
) -> AsyncIterator[Shift]:
    """Work in the background; at the end, every line finishes the call in hand."""
    async with PreTrade(url, source="gw", deadline_ms=deadline_ms, durability=durability) as gate:
        shift = Shift(gate, pools)
        lines = [asyncio.create_task(shift.line(number)) for number in range(LINES)]
        try:
            yield shift
        finally:
            shift.over = True
            await asyncio.gather(*lines)

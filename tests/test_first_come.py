"""Eight gateways, each a process, reserve against one small pool; then it is proved who came first.

They give up on answers, ask twice and ask for each other's orders, while an operator halts, resumes
and reopens, holds lapse and cancels come in.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from quota.decision import PoolName, Verdict
from quota.events import Cancelled
from quota.gate.answers import Result
from quota.ledger import Act, RedisLedger
from quota.pool import Opening
from quota.proof.history import Call, read_history
from quota.store.record import keys
from tests.agreement.state import DAY
from tests.daemons import QUOTAD
from tests.gates import POOL
from tests.scale import cases
from tests.servers import Store

ROOT = Path(__file__).parent.parent
PROCESSES, LINES = 8, 4
LINES_IN_ALL = PROCESSES * LINES
ORDERS = cases(40_000, 400_000) // LINES_IN_ALL * LINES_IN_ALL
NAME = PoolName(POOL)
ENOUGH_S = 60 + ORDERS / 500


def started(store: Store, directory: Path) -> list[subprocess.Popen[bytes]]:
    """Start the gateways; each waits for its line."""
    share = str(ORDERS // PROCESSES)
    command = [sys.executable, "-m", "tests.gates", str(store.port), share, str(LINES)]
    files = [directory / f"g{number}.jsonl" for number in range(PROCESSES)]
    return [
        subprocess.Popen([*command, file.stem, str(file)], cwd=ROOT, stdin=subprocess.PIPE) for file in files
    ]


def ended(gateways: list[subprocess.Popen[bytes]]) -> None:
    """Wait for the end of all; whoever is late or fails ends the test."""
    try:
        for gateway in gateways:
            assert gateway.wait(ENOUGH_S) == 0
    finally:
        for gateway in gateways:
            gateway.kill()
            gateway.wait()
            if gateway.stdin is not None:
                gateway.stdin.close()


def opening(schedule: str) -> Opening:
    """A small pool, in a phase that lasts until another schedule comes."""
    return Opening(
        trading_day=DAY,
        limit_fen=ORDERS * 200,
        rate="1.00000",
        schedule=schedule,
        origin="at",
        open_late=True,
    )


@dataclass(frozen=True, slots=True)
class Interference:
    """What else happens on such a day, each when a share of the orders was decided."""

    ledger: RedisLedger
    client: Redis

    async def happen(self) -> None:
        """Begin trading, reopen, halt, resume, report cancels, reopen."""
        await self._decided(0.3)
        await self.ledger.open_day(NAME, opening("0 opening 1 continuous"))
        await self._decided(0.45)
        await self._act("limit", ORDERS * 600, reopen=True)
        await self._decided(0.5)
        await self._act("halt")
        await self._decided(0.55)
        await self._act("resume")
        ids = [f"g0.{line}-{number}" for line in range(LINES) for number in range(200)]
        await self.ledger.apply(NAME, [Cancelled(order_id=order_id) for order_id in ids])
        await self._decided(0.75)
        await self._act("limit", ORDERS * 1000, reopen=True)

    async def _decided(self, share: float) -> None:
        """Wait until so many of the orders were decided."""
        async with asyncio.timeout(ENOUGH_S):
            while int(await self.client.hget(keys(NAME)[0], "seq") or 0) < share * ORDERS:  # noqa: ASYNC110 - the store rings no bell
                await asyncio.sleep(0.005)

    async def _act(self, name: str, limit_fen: int = 0, *, reopen: bool = False) -> None:
        deed = Act(act=name, reason="test", user="ann", host="desk", limit_fen=limit_fen, reopen=reopen)
        await self.ledger.operate(NAME, deed)


def check_that_much_happened(calls: Sequence[Call]) -> None:
    """See that the day was worth proving."""
    assert len({call.order_id for call in calls if call.order_id.startswith("g")}) == ORDERS
    verdicts, rare = Counter(call.verdict for call in calls), ORDERS // 200
    for verdict in ("accepted", "exhausted", "suspended", "halted", "id_reused"):
        assert verdicts[Verdict(verdict)] > rare, verdicts
    assert sum(call.outcome is Result.UNKNOWN for call in calls) > rare
    assert sum(call.replayed for call in calls) > rare


@pytest.mark.soak
@pytest.mark.timeout(2 * ENOUGH_S)
async def test_eight_processes_are_served_in_the_order_in_which_they_come(
    store: Store, client: Redis, ledger: RedisLedger, tmp_path: Path, counted: Callable[[str], None]
) -> None:
    await ledger.open_day(NAME, opening("0 opening"))
    gateways = started(store, tmp_path)
    try:
        for gateway in gateways:
            assert gateway.stdin is not None
            gateway.stdin.write(b"go\n")
            gateway.stdin.flush()
        await Interference(ledger, client).happen()
    finally:
        await asyncio.to_thread(ended, gateways)

    histories = [tmp_path / f"g{number}.jsonl" for number in range(PROCESSES)]
    calls = [call for path in histories for call in read_history(path)]
    told = await asyncio.to_thread(verified, store, histories, tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"NB-SH history: {len(calls)} calls, " in told.stdout
    assert "first come, first served" in told.stdout
    check_that_much_happened(calls)
    counted(f"first come, first served: {len(calls)} calls, {store.name}")


def verified(store: Store, histories: Sequence[Path], directory: Path) -> subprocess.CompletedProcess[str]:
    """Let the command prove it."""
    config = directory / "quotad.toml"
    config.write_text(f'[redis]\nurl = "{store.url}"\n[market]\npools = ["NB-SH"]\n')
    command = [QUOTAD, "verify", "--config", str(config), "--history", *map(str, histories)]
    return subprocess.run(command, capture_output=True, text=True, check=False)

"""The store fails in every way we know, in mid-traffic: what was acknowledged is there, and it goes on.

With ``fsync`` nothing that a gateway or a source was told may be missing afterwards; with ``memory`` it
may, and then that is noticed and said before another buy is decided.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from quota.decision import PoolName, Verdict
from tests.daemons import House, house, new
from tests.scale import cases
from tests.shift import CHARGE_FEN, Shift, working
from tests.strikes import OF_THE_STORE, Fault, Struck
from tests.tap import Tap, until
from tests.weir import Weir

POOL = PoolName.NB_SH
ORDERS = f"connect/{POOL}/orders"
AT_A_TIME = 50


async def speak(tap: Tap, name: str) -> None:
    for number in range(AT_A_TIME):
        tap.say(ORDERS, new(f"{name}-{number}"))


def away(home: House, times: int) -> bool:
    return home.quotad.log.count("store.away") > times


@pytest.mark.soak
@pytest.mark.parametrize("fault", OF_THE_STORE, ids=lambda fault: fault.__name__)
async def test_what_was_acknowledged_under_fsync_outlives(
    tmp_path: Path, fault: Fault, counted: Callable[[str], None]
) -> None:
    with house(tmp_path, fsync="always", toml=f'pools = ["{POOL}"]') as home:
        async with Weir(home.store.port) as weir:
            url = f"redis://127.0.0.1:{weir.port}/0"
            home.quotad.store = f'url = "{url}"\ndurability = "fsync"'
            home.quotad.write()
            home.quotad.start()
            await until(lambda: home.quotad.ready)
            with Tap(home.broker.port, ("connect/+/decisions/#",)) as tap:
                async with working(url, [POOL], "fsync") as shift:
                    for number in range(cases(1, 10)):
                        await suffer(Struck(home, weir, weir), fault, tap, shift, f"m{number}")
                async with working(url, [POOL], "fsync", 5000) as asking:
                    asking.over, asking.calls = True, shift.calls
                    await asking.finish()
                    await asking.still_stands()
                await stands(home, tap, shift, tmp_path)
    counted(f"of the store, {fault.__name__}: {cases(1, 10)} times")


async def suffer(struck: Struck, fault: Fault, tap: Tap, shift: Shift, name: str) -> None:
    """Let the fault come, last until it is felt, and go; then everybody goes on."""
    home, before = struck.home, len(tap.replies())
    await speak(tap, f"{name}-before")
    await until(lambda: len(tap.replies()) > before)
    times = home.quotad.log.count("store.away")
    async with fault(struck):
        await speak(tap, f"{name}-within")
        await until(partial(away, home, times))
    done = len(shift.answered(Verdict.ACCEPTED))
    await until(lambda: len(shift.answered(Verdict.ACCEPTED)) > done + AT_A_TIME)
    await until(lambda: len({reply["order_id"] for reply in tap.replies()}) >= before + 2 * AT_A_TIME)


async def stands(home: House, tap: Tap, shift: Shift, directory: Path) -> None:
    """Nothing that was answered is missing, nothing is there twice, and verify agrees."""
    taken = {reply["order_id"] for reply in tap.replies() if reply["verdict"] == Verdict.ACCEPTED}
    taken |= {call.order_id for call in shift.answered(Verdict.ACCEPTED)}
    entries: Any = home.redis.xrange(f"quota:{{{POOL}}}:journal")
    journalled = [fields["event"].split()[1] for _, fields in entries]
    assert set(journalled) >= taken
    assert len(journalled) == len(set(journalled)) == home.seq()
    sums: Any = home.redis.hmget(f"quota:{{{POOL}}}:pool", "limit_fen", "balance_fen")
    assert int(sums[0]) - int(sums[1]) == CHARGE_FEN * len(taken)
    done = await asyncio.to_thread(home.quotad.does, "verify", "--history", str(shift.history(directory)))
    assert done.returncode == 0, done.stdout + done.stderr


async def test_what_a_restored_store_lacks_under_memory_is_found_before_another_buy(tmp_path: Path) -> None:
    """Somebody puts an older file in place of the store's own."""
    with (
        house(tmp_path, toml=f'pools = ["{POOL}"]') as home,
        Tap(home.broker.port, ("connect/+/decisions/#",)) as tap,
    ):
        home.quotad.start()
        await until(lambda: home.quotad.ready)
        async with working(home.store.url, [POOL]) as shift:
            shift.over = True
            await speak(tap, "kept")
            await until(lambda: home.seq() == AT_A_TIME)
            shutil.copytree(tmp_path / "appendonlydir", tmp_path / "older")
            assert (await shift.ask(POOL, "lost")).verdict is Verdict.ACCEPTED
            await speak(tap, "lost")
            await until(lambda: len(tap.replies()) == 2 * AT_A_TIME)
            await until(lambda: home.quotad.metric(f'quota_seq{{pool="{POOL}"}}') == 2 * AT_A_TIME + 1)
            home.store.stop()
            shutil.rmtree(tmp_path / "appendonlydir")
            (tmp_path / "older").rename(tmp_path / "appendonlydir")
            await asyncio.to_thread(home.store.start)
            async with asyncio.timeout(10):
                while (answer := await shift.ask(POOL, "after")).verdict is None:
                    pass
            assert answer.verdict is Verdict.HALTED
            await until(lambda: "store.not_attested" in home.quotad.log)
            await until(lambda: json.loads(home.quotad.get("/-/ready")[1])["warnings"])
            (warning,) = json.loads(home.quotad.get("/-/ready")[1])["warnings"]
            assert f"seq: the store ended at {AT_A_TIME}" in warning
            history = str(shift.history(tmp_path))
            done = await asyncio.to_thread(home.quotad.does, "verify", "--history", history)
            assert (done.returncode, "lost" in done.stdout) == (1, True), done.stdout + done.stderr

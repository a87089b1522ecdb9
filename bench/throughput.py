"""Reservations as fast as they go: redis-benchmark, 8 connections, pipelines of 64, against SET.

Both write under ids drawn from the same key space, so nearly every SET makes a key and nearly
every reservation an order. The store is emptied before each leg.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Sequence

from bench.rows import Bar, Row, compared, in_turns
from bench.stores import Store, ledger_of, opened
from quota.decision import PoolName
from quota.errors import ConfigError
from quota.store.record import keys

POOL = PoolName.NB_SH
_KEY_SPACE = 1_000_000_000
_SETTING = ("-c", "8", "-P", "64", "-r", str(_KEY_SPACE), "--csv")
_RESERVE = ("FCALL", "quota_reserve", "6", *keys(POOL), "gw1-__rand_int__", "buy", "10.25", "200", "gw1")
_SET = ("SET", "gw1-__rand_int__", "xxx")


async def measure(store: Store, *, quick: bool) -> list[Row]:
    """Measure requests per second."""
    program = shutil.which("redis-benchmark")
    if program is None:
        raise ConfigError("redis-benchmark is not installed")
    reserves, sets, rounds = (2_000, 10_000, 2) if quick else (50_000, 250_000, 11)
    async with ledger_of(store) as ledger:
        await opened(store, ledger, POOL)
    day = store.admin.dump(keys(POOL)[0]) or b""

    async def leg(command: Sequence[str], requests: int) -> float:
        store.admin.flushall(asynchronous=False)
        store.admin.restore(keys(POOL)[0], 0, day)
        return _per_second([program, "-p", str(store.port), "-n", str(requests), *_SETTING, *command])

    figures = await in_turns(
        rounds, {"reserve": lambda: leg(_RESERVE, reserves), "set": lambda: leg(_SET, sets)}
    )
    words = ("quota_reserve, 8 connections, pipeline 64", "/s", "/s SET")
    return [compared(words, figures["reserve"], figures["set"], Bar(0.08, at_most=False))]


def _per_second(command: Sequence[str]) -> float:
    """Run redis-benchmark; it prints a line of headings and a line of figures."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if "Error" in done.stdout + done.stderr:
        raise ConfigError(f"redis-benchmark: {done.stdout}{done.stderr}")
    *_, headings, figures = csv.reader(done.stdout.splitlines())
    return float(dict(zip(headings, figures, strict=True))["rps"])

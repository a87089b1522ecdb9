"""Measure everything, print the table, write the JSON: ``python -m bench [--quick] [--store NAME]``."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import platform
import subprocess
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from bench import batches, forecast, gate, growth, memory, pipeline, round_trip, throughput
from bench.rows import Row, Sheet, show, write
from bench.stores import program, started
from quota.embedded import mosquitto_binary
from quota.library import SOURCE

STORES = ("redis", "valkey")
TABLE: dict[str, Callable[..., Coroutine[Any, Any, list[Row]]]] = {
    "round_trip": round_trip.measure,
    "throughput": throughput.measure,
    "batches": batches.measure,
    "pipeline": pipeline.measure,
    "growth": growth.measure,
    "memory": memory.measure,
    "gate": gate.measure,
    "forecast": forecast.measure,
}


def main() -> None:
    """Measure with each store that is installed."""
    options = _options()
    console = Console(width=None if os.isatty(1) else 150)
    sheets = []
    for kind in options.store or [kind for kind in STORES if program(kind)]:
        sheets.append(_sheet(kind, options.only or list(TABLE), quick=options.quick))
        show(sheets[-1], console)
    write(options.json, sheets, _facts(quick=options.quick))
    console.print(f"written to {options.json}")


def _sheet(kind: str, names: Sequence[str], *, quick: bool) -> Sheet:
    """Measure these rows, each with a store of its own and on a loop of its own."""
    rows: list[Row] = []
    for name in names:
        with started(kind) as store, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rows += runner.run(TABLE[name](store, quick=quick))
    return Sheet(store=store.name, broker=_broker(), rows=rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything small: shows that it works, no more")
    parser.add_argument("--store", action="append", choices=STORES, help="default: all that are installed")
    parser.add_argument("--only", action="append", choices=TABLE, help="these rows only")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("results.json"))
    return parser.parse_args()


def _broker() -> str:
    binary = mosquitto_binary()
    if binary is None:
        return "no mosquitto"
    said = subprocess.run([binary, "-h"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0].replace(" version", "")


def _facts(*, quick: bool) -> dict[str, object]:
    """What one needs to know to compare this run with another."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "library": hashlib.sha256(SOURCE.encode()).hexdigest()[:12],
    }


if __name__ == "__main__":
    main()

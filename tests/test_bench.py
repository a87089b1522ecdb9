"""The benchmarks run and fill their table; whether a bar is met is no matter of a busy test machine."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import forecast, gate, growth, memory, pipeline, round_trip, throughput
from bench.__main__ import TABLE
from bench.rows import Bar, compared, in_turns
from bench.stores import program
from tests.servers import binary, missing

ROOT = Path(__file__).parent.parent

# What the issue asks for: a part of the row's name, and the ratio or figure it should meet.
BARS = (
    ("round trip, own cores, p50", "≤ 1.4"),
    ("round trip, own cores, p99", "≤ 1.6"),
    ("8 connections, pipeline 64", "≥ 0.08"),
    ("in batches of 256", "≥ 3.5"),
    ("single events, MQTT to acknowledged, like for like", "≥ 0.7"),
    ("payloads of 50 events, MQTT to acknowledged, like for like", "≥ 4"),
    ("one event with 10,000 orders", "≤ 1.5"),
    ("per order with two fills", "≤ 300"),
    ("PreTrade.reserve, open loop at 2,000/s, p50", "≤ 1.5"),
    ("PreTrade.reserve, open loop at 2,000/s, p99", "≤ 1.5"),
    ("against redis-py, a connection for each", "≥ 3"),
    ("64 callers, against limits", "≥ 1"),
    ("64 callers, against a counter", "≥ 1"),
    ("refusals after exhaustion", "≥ 20"),
)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_quick_run_fills_the_table(kind: str, tmp_path: Path) -> None:
    for name in ("redis-benchmark", "mosquitto"):
        binary(name)
    if program(kind) is None:
        missing(kind)
    written = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--store", kind, "--json", str(written)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (sheet,) = json.loads(written.read_text())["stores"]
    assert sheet["store"].startswith(kind)
    assert "mosquitto" in sheet["broker"]
    rows = {row["what"]: row for row in sheet["rows"]}
    for part, bar in BARS:
        (row,) = [row for what, row in rows.items() if re.search(rf"{part}(?!\.\d)", what)]
        assert str(Bar(**row["bar"])) == bar
        assert row["what"][:20] in done.stdout
    for row in rows.values():
        assert 0 < row["figure"] < math.inf
        assert row["ratio"] is None or 0 < row["low"] <= row["ratio"] <= row["high"] < math.inf
        assert (row["met"] is None) == (row["bar"] is None)


def test_every_measurement_is_in_the_table() -> None:
    modules = (round_trip, throughput, pipeline, growth, memory, gate, forecast)
    assert {module.measure for module in modules} <= set(TABLE.values())


def test_ratio_is_the_median_of_the_rounds() -> None:
    """A round in which the machine did something else moves figures, not the ratio."""
    row = compared(("what", "µs", "µs of it"), [2.0, 20.0, 2.2], [1.0, 10.0, 1.0], Bar(2.1))
    assert (row.ratio, row.low, row.high, row.met) == (2.0, 2.0, 2.2, True)
    assert compared(("", "", ""), [3.0], [1.0], Bar(2.1)).met is False
    assert compared(("", "", ""), [3.0], [1.0], Bar(2.1, at_most=False)).met is True


async def test_legs_take_turns_at_going_first() -> None:
    order: list[str] = []

    async def leg(name: str) -> float:
        order.append(name)
        return float(len(order))

    figures = await in_turns(2, {"a": lambda: leg("a"), "b": lambda: leg("b")})
    assert order == ["a", "b", "b", "a"]
    assert figures == {"a": [1.0, 4.0], "b": [2.0, 3.0]}

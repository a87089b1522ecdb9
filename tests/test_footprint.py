"""The table of memory in the operations page is what bench.footprint measures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import chapters
from tests.servers import binary

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| ([\d,]+) \| (\d+) B \| (\d+) B \| (\d+) B \| ([\d,]+) MB \|$", re.MULTILINE)
STALL = re.compile(r"lazyfree-lazy-expire (yes|no): nobody is answered for (\d+) ms")
QUICK = 20_000
NEAR = 0.15
"""Hashes grow by doubling: by how many orders they are filled moves a figure by a tenth."""


def rows(text: str) -> dict[int, list[int]]:
    """Read the rows of the table: bytes per order, fill and entry, and megabytes of the day."""
    found = [[int(cell.replace(",", "")) for cell in row] for row in ROW.findall(text)]
    return {orders: figures for orders, *figures in found}


@pytest.fixture(scope="module")
def measured() -> str:
    binary("redis-server")
    command = [sys.executable, "-m", "bench.footprint", "--orders", str(QUICK), "--stalled", "2000"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_a_small_day_takes_as_much_per_order_as_the_page_says(measured: str) -> None:
    page = rows(chapters())
    assert list(page) == [100_000, 1_000_000, 10_000_000]
    now = rows(measured)[QUICK]
    for figures in page.values():
        assert figures[:3] == pytest.approx(now[:3], rel=NEAR)


def test_the_page_adds_up() -> None:
    for orders, (per_order, per_fill, per_entry, day) in rows(chapters()).items():
        assert (per_order + 2 * per_fill + 3 * per_entry) * orders / 1e6 == pytest.approx(day, rel=0.02)


def test_it_measures_both_ways_to_expire_and_the_file(measured: str) -> None:
    assert [word for word, _ in STALL.findall(measured)] == ["no", "yes"]
    grows = re.search(r"file of writes grows by (\d+) B", measured)
    assert grows is not None
    assert int(grows[1]) == pytest.approx(1150, rel=NEAR)

"""What docs/reliability.md promises is what tests show, and its table of faults is the list of faults."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agreement.worlds import MOST, worlds
from tests.simulation.faults import faults, table

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
TESTS = {
    name
    for path in ROOT.glob("tests/**/test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", PAGE))))
def test_every_test_that_the_page_names_is_there(name: str) -> None:
    assert name in TESTS


def test_every_file_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`((?:quota|feeds|tests|deploy|docs)/[\w./]+)`", PAGE):
        assert (ROOT / name).exists(), name


def test_every_fault_that_a_store_can_suffer_has_its_tests() -> None:
    rows = PAGE.split("## What survives which fault")[1].split("\n## ")[0].splitlines()
    for row in [line for line in rows if line.startswith("| ")][1:]:
        assert re.search(r"`test_\w+` |`test_\w+`,", row), row


def test_the_table_of_faults_is_the_list() -> None:
    assert PAGE.endswith(table())


def test_the_small_worlds_are_as_many_as_the_page_says() -> None:
    assert f"every sequence in {len(worlds())} small worlds (at most {MOST:,} cases)" in PAGE


ASKED_FOR = {
    "acknowledge before commit",
    "no sticky refusal",
    "non-atomic check",
    "no epoch check",
    "capture after acknowledgement",
}


def test_the_faults_that_were_asked_for_are_there() -> None:
    listed = {fault.name for fault in faults()}
    assert len(listed) >= 30
    assert listed >= ASKED_FOR


SEEDS = "from tests.scale import seeds; print(seeds(1, 3))"
RUN = f"import subprocess, sys; {SEEDS}; subprocess.run([sys.executable, '-c', '{SEEDS}'], check=True)"


def test_every_worker_of_a_long_run_begins_at_the_seed_of_the_run() -> None:
    """Else pytest's workers collect different tests, and none is run."""
    env = {name: value for name, value in os.environ.items() if name != "QUOTA_SEED"} | {"QUOTA_SOAK": "1"}
    told = [
        subprocess.run(
            [sys.executable, "-u", "-c", RUN], cwd=ROOT, env=env, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        for _ in range(2)
    ]
    (run, worker), (other, _) = told
    assert run == worker
    assert run != other

"""What docs/reliability.md promises is what tests show, and its table of faults is the list of faults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


def test_there_are_as_many_faults_as_were_asked_for() -> None:
    assert len(faults()) >= 30

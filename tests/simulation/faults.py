"""The seeded faults: pieces of the source, and what stands there instead."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.simulation.cast import Cast, cast, source_of

LIST = Path(__file__).parent / "faults.txt"


class Fault(NamedTuple):
    """A piece of a file, and what stands there instead."""

    name: str
    file: str
    old: str
    new: str

    @property
    def module(self) -> str:
        """The module of the file."""
        return self.file.removesuffix(".py").replace("/", ".")


def faults() -> list[Fault]:
    """Read the list."""
    return [_fault(block.splitlines()) for block in LIST.read_text("utf-8").split("\n== ")[1:]]


def _fault(lines: list[str]) -> Fault:
    file, old, new = ("\n".join(line[2:] for line in lines[1:] if line[:1] == mark) for mark in "@-+")
    return Fault(lines[0], file, old, new)


def faulty(fault: Fault) -> Cast:
    """Make copies of the modules, one of them with a fault."""
    source = source_of(fault.module)
    found = source.count(fault.old)
    assert found == 1, f"{fault.name}: found {found} times in {fault.file}: {fault.old}"
    return cast({fault.module: source.replace(fault.old, fault.new)})


def table() -> str:
    """Write the list as docs/reliability.md has it."""
    rows = [f"| {fault.name} | `{fault.file}` | `test_the_fault_is_caught` |\n" for fault in faults()]
    return "".join(["| fault | in | caught by |\n", "|---|---|---|\n", *rows])

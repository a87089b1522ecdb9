"""A test of the simulation: each of these small faults in the daemon and its feed must be noticed.

A fault is a piece of a file and what stands there instead, listed in faults.txt; the piece must occur
exactly once, so an edit that has gone stale fails loudly. A few plays have to fail with the fault; that
they pass without it is what test_simulation.py shows.
"""

from __future__ import annotations

import pytest

from tests.simulation.faults import Fault, faults, faulty
from tests.simulation.story import story
from tests.simulation.world import Broken, World

FIRST, PLAYS = 28, 60
"""From this seed on the plays soon come to what the rarest of the faults need."""


def play_until_caught(fault: Fault) -> None:
    """Play until a law is broken, and says which; passes where none ever is."""
    for seed in range(FIRST, FIRST + PLAYS):
        World(seed, faulty(fault)).play(story)


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_the_fault_is_caught(fault: Fault) -> None:
    faulty(fault)  # a stale edit is no fault that was caught
    with pytest.raises(Broken):
        play_until_caught(fault)


def test_no_fault_is_listed_twice() -> None:
    listed = faults()
    assert len({fault.name for fault in listed}) == len({fault[1:] for fault in listed}) == len(listed)

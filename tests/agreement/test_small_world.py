"""Every sequence of a small alphabet, model against Lua on a real Valkey and a real Redis.

How many that are stands at the end of the run; small.py says why they are all.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.agreement.situations import IN, SITUATIONS, never_seen
from tests.agreement.small import Search, World
from tests.agreement.test_faults import CAUGHT, Fault, faults, faulty
from tests.agreement.trial import Bench
from tests.agreement.worlds import MOST, worlds
from tests.scale import cases
from tests.servers import Store

SHORT, BREADTH = 3_000, 24
QUICK = 1_500, 24
ENOUGH = 0.75
"""The share of the seeded faults in its calls that the small world must see, with nothing else to help it."""


def test_all_worlds_together_take_at_most_three_million_cases() -> None:
    assert sum(most for _, most in worlds()) <= MOST


def test_every_situation_must_be_seen_in_some_world() -> None:
    assert set(SITUATIONS) == {name for names in IN.values() for name in names}
    assert set(IN) <= {world.name for world, _ in worlds()}


@pytest.mark.soak
@pytest.mark.parametrize(("world", "most"), worlds(), ids=lambda it: it.name if isinstance(it, World) else "")
def test_model_and_stores_agree_on_every_sequence(
    benches: tuple[Bench, ...],
    world: World,
    most: int,
    counted: Callable[[str], None],
) -> None:
    found = Search(world, benches, cases(min(SHORT, most), most), cases(BREADTH, 0)).run()
    counted(str(found))
    assert found.closed or found.depth >= cases(1, 2)
    assert never_seen(world.name, found.traits) == []


def _caught(store: Store, fault: Fault) -> bool:
    """Whether the quick form of the search trips over a fault."""
    try:
        bench = Bench(store, faulty(fault))
        try:
            for world, most in worlds():
                Search(world, (bench,), min(QUICK[0], most), QUICK[1]).run()
        finally:
            bench.close()
    except CAUGHT:
        return True
    return False


@pytest.mark.soak
def test_the_small_world_alone_sees_most_seeded_faults(
    still_stores: tuple[Store, ...], counted: Callable[[str], None]
) -> None:
    """It puts no day back; some of the others need malformed arguments, or many holds at once."""
    tried = [fault for fault in faults() if not fault.name.startswith("put back: ")][:: cases(60, 4)]
    missed = [fault.name for fault in tried if not _caught(still_stores[0], fault)]
    Bench(still_stores[0]).close()  # puts the library back that has no fault
    counted(f"the small world alone: {len(tried)} seeded faults, missed {missed}")
    assert len(missed) <= (1 - ENOUGH) * len(tried)

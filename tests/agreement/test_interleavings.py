"""Three gateways and the feed, eight steps: first come, first served in every order, in model and stores.

What must hold is reckoned by tally.py, straight from the market rules; what a state is stands in small.py.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial

import pytest

from tests.agreement.crossings import CROSSINGS, DAYS, INTERLEAVINGS, Day, Walk, chosen
from tests.agreement.trial import Bench
from tests.scale import cases

SHORT, LONG = 48, 1
MUST_BE_SEEN = {
    "trading": ("refused", "exhausted again", "sent though spent", "refused with something left again"),
    "a northbound auction": ("refused", "suspended again", "sent though spent", "id_reused"),
    "a southbound opening": ("refused", "suspended again", "refused with something left again"),
    "a day with room": ("accepted again", "sent though spent", "one end of all orders"),
}


def test_four_scripts_of_two_steps_fall_in_2520_orders() -> None:
    assert factorial(8) // 2**4 == INTERLEAVINGS
    assert all(len(script) == 2 for crossing in CROSSINGS for script in crossing)


@pytest.mark.soak
@pytest.mark.parametrize("day", DAYS, ids=lambda day: day.name)
def test_every_interleaving_keeps_the_rules(
    benches: tuple[Bench, ...], day: Day, counted: Callable[[str], None]
) -> None:
    crossings = [scripts for of, scripts in chosen(cases(SHORT, LONG)) if of is day]
    walk = Walk(day, benches)
    for scripts in crossings:
        walk.all_of(scripts)
    assert walk.interleavings == INTERLEAVINGS * len(crossings)
    counted(str(walk))
    assert [name for name in MUST_BE_SEEN[day.name] if not walk.seen[name]] == []

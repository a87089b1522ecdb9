"""Mixed traffic with random faults: nothing is lost, nothing leaks, and verify is clean."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemons import house
from tests.scale import SOAK, cases, first_seed
from tests.soak import Course, Footprint, Plan
from tests.strikes import Struck
from tests.tap import Tap, until
from tests.weir import Weir, pieces

EVENTS_PER_S = 2_000
MINUTES = int(os.environ.get("QUOTA_SOAK_MINUTES", "120"))
GROWTH_MB, GROWTH_FILES = 96, 8


def planned() -> Plan:
    """Play two hours with a fault every minute, or ten seconds with three."""
    return Plan(
        seed=first_seed(5),
        events_per_s=EVENTS_PER_S,
        slices=cases(3, MINUTES),
        between=cases(5_000, 60 * EVENTS_PER_S),
        longest=cases(2_000, 15 * EVENTS_PER_S),
    )


@pytest.mark.soak
@pytest.mark.timeout(60 * (MINUTES + 60) if SOAK else 120)
async def test_with_faults_at_random_nothing_is_lost_and_nothing_leaks(
    tmp_path: Path, counted: Callable[[str], None]
) -> None:
    plan = planned()
    with house(tmp_path, fsync="always") as home, Tap(home.broker.port, ("connect/fx",)) as tap:
        to_broker = Weir(home.broker.port, pieces, pieces)
        async with Weir(home.store.port, pieces) as to_store, to_broker:
            home.quotad.store = f'url = "redis://127.0.0.1:{to_store.port}/0"\ndurability = "fsync"'
            home.quotad.broker_port = to_broker.port
            course = Course(plan, Struck(home, to_store, to_broker), tap)
            home.quotad.toml = course.toml
            home.quotad.write()
            home.quotad.start()
            await until(lambda: home.quotad.ready)
            course.prints.append(Footprint.of(home))
            await course.run()
            assert len(course.faults) == plan.slices
            await course.judge()
            course.judge_leaks(GROWTH_MB, GROWTH_FILES)
    counted(
        f"mixed traffic: {course.said} events, {len(course.faults)} faults, {course.accepted} orders of a"
        f" gateway accepted, seed {plan.seed}"
    )

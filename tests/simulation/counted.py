"""What must hold of numbered events: what was acknowledged is taken down, and what never came is missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from quota.decision import PoolName
from quota.events import Numbers
from tests.simulation.counters import Count, Counters
from tests.simulation.store import Arrived, done_now
from tests.simulation.world import World


class TakenDown:
    """Which numbers the store has taken down, and when; ``catch_up`` reads what is new."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._read = 0
        self.runs: dict[Count, list[tuple[Arrived, Numbers]]] = defaultdict(list)

    def catch_up(self) -> None:
        """Read what the store has taken down since the last look."""
        for arrived in self._world.truth.arrivals[self._read :]:
            for run in arrived.numbers:
                self.runs[arrived.pool, run.source, run.epoch].append((arrived, run))
        self._read = len(self._world.truth.arrivals)

    def missed(self, pool: PoolName, numbers: Sequence[Numbers], since: int) -> Iterator[str]:
        """Say which numbers of a message that was acknowledged are not taken down."""
        for run in numbers:
            count = pool, run.source, run.epoch
            if not any(
                arrived.step >= since
                and (known.first <= run.first or run.first > run.last)
                and known.last >= run.last
                for arrived, known in self.runs[count]
            ):
                yield f"{count}: {run.last} was acknowledged before it was taken down"

    def first_step(self, count: Count, number: int) -> int:
        """Tell when a number was first taken down."""
        steps = (arrived.step for arrived, run in self.runs[count] if run.first <= number <= run.last)
        return next(steps, 1 << 62)

    def wrong(self, counters: Counters) -> Iterator[str]:
        """Say which numbers were taken down that nobody gave."""
        for count, runs in self.runs.items():
            come = {number for _, run in runs for number in range(run.first, run.last + 1)}
            if invented := come - counters.sent.get(count, set()):
                yield f"{count}: {sorted(invented)} were taken down, and nobody sent them"

    def missing(self, pool: PoolName, counters: Counters) -> set[tuple[str, str, int]]:
        """Tell what is missing of a pool's day: what never came, and was noticed on that day."""
        day = self._world.truth.day(pool)
        return {
            (count[1], count[2], number)
            for count, told in counters.told.items()
            if count[0] == pool
            for number in set(range(1, told + 1)) - counters.sent[count]
            if self._noticed_on(count, number) == day
        }

    def _noticed_on(self, count: Count, number: int) -> str:
        """Tell on which day a later number came first, or was told of."""
        return next(
            arrived.day for arrived, run in self.runs[count] if max(run.last, run.first - 1) >= number
        )


def missing_now(world: World, pool: PoolName) -> set[tuple[str, str, int]]:
    """Tell what the store says is missing of a pool's day."""
    register = done_now(world.truth.sources.read(pool))
    return {
        (name, epoch.name, number)
        for name, source in register.missing_on(world.truth.day(pool)).items()
        for epoch in source.epochs
        for gap in epoch.gaps
        for number in range(gap.first, gap.last + 1)
    }


def unmissed(world: World) -> str:
    """Say of which pool the daemon shows something else than the store knows; empty where it does not."""
    assert world.life is not None
    for pool in world.pools:
        shown = world.life.running.metrics._shown[pool].missing
        there = len(missing_now(world, pool))
        if shown is None or shown.events != there:
            return f"{pool}: {shown} is shown, {there} are missing"
    return ""

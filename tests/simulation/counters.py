"""How the sources of the simulation number what they send: some count, and some numbers are left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from quota.decision import PoolName

Count = tuple[PoolName, str, str]
"""A pool, a source, and an epoch of it."""


@dataclass(slots=True)
class Counters:
    """``sent`` are the numbers that were given, ``told`` how far each count was said to go."""

    rng: Random
    counting: frozenset[str]
    sent: dict[Count, set[int]] = field(default_factory=lambda: defaultdict(set))
    told: Counter[Count] = field(default_factory=Counter)
    _epochs: Counter[tuple[PoolName, str]] = field(default_factory=Counter)
    _last: Counter[Count] = field(default_factory=Counter)
    _left_out: dict[Count, list[int]] = field(default_factory=lambda: defaultdict(list))

    def _count(self, pool: PoolName, source: str) -> Count:
        return pool, source, f"{source}{self._epochs[pool, source]}"

    def numbered(self, pool: PoolName, source: str, said: dict[str, Any]) -> dict[str, Any]:
        """Give the next number, or one that was left out; the program may just have begun anew."""
        rng = self.rng
        if source not in self.counting:
            return said
        if rng.random() < 0.02:
            self._epochs[pool, source] += 1
        count = self._count(pool, source)
        left_out = self._left_out[count]
        if left_out and rng.random() < 0.3:
            number = left_out.pop(rng.randrange(len(left_out)))
        else:
            self._leave_out(count, 0.06)
            self._last[count] = number = self._last[count] + 1
        self.sent[count].add(number)
        self.told[count] = max(self.told[count], number)
        return said | {"epoch": count[2], "sequence": number}

    def _leave_out(self, count: Count, chance: float) -> None:
        """Count on without sending anything."""
        while self.rng.random() < chance:
            self._last[count] += 1
            self._left_out[count].append(self._last[count])

    def heartbeats(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Say how far some of the counts are, each with the topic to say it on."""
        for pool, source in sorted({count[:2] for count in self.sent}):
            if self.rng.random() < 0.5:
                continue
            count = self._count(pool, source)
            self._leave_out(count, 0.15)
            self.told[count] = max(self.told[count], self._last[count])
            lane = self.rng.choice(("orders", "fills"))
            beat = {"event": "heartbeat", "epoch": count[2], "sequence": self._last[count]}
            yield f"connect/{pool}/{lane}/{source}", beat

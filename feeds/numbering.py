"""How a source numbers what it sends, so that quotad notices what does not arrive.

A counter for each pool and source, from 1; a new epoch with every life of the program, because the counters
do not outlive it. The heartbeat tells how far each has counted: nothing else shows that the last are missing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from msgspec.structs import replace

from quota.decision import PoolName
from quota.events import Event, Heartbeat

HEARTBEAT_S = 1.0
"""How often a source says how far it has counted, in real seconds."""


class Numbering:
    """The counters of one program. Its epoch is named after the real time of its start."""

    def __init__(self) -> None:
        self._epoch = str(time.time_ns())
        self._sent: Counter[tuple[PoolName, str]] = Counter()
        self._said_at = time.monotonic()

    def numbered(self, pool: PoolName, event: Event) -> Event:
        """Give an event the next number of its source."""
        self._sent[pool, event.source] += 1
        return replace(event, epoch=self._epoch, sequence=self._sent[pool, event.source])

    def heartbeats(self, *, at_once: bool = False) -> Iterator[tuple[PoolName, Heartbeat]]:
        """Say how far the counters are, if it is time."""
        if at_once or time.monotonic() - self._said_at >= HEARTBEAT_S:
            self._said_at = time.monotonic()
            for (pool, source), sent in self._sent.items():
                yield pool, Heartbeat(epoch=self._epoch, sequence=sent, source=source)

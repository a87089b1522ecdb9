"""A disk without files: what the record of the day has written, behind a thread that is slow, fails and dies.

The capture is the product's own down to its files; those, and the thread that writes them, are ours.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from feeds.capture import CaptureSettings
from quota.captured import Captured, Delivered, Reached, reached_after
from quota.decision import PoolName
from quota.errors import CaptureUnavailable
from tests.simulation.loop import SimulatedLoop

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulation.world import Life, World


@dataclass(slots=True)
class Disk:
    """What outlives every life of the daemon. ``failing`` is how often a write fails.

    While it is ``away`` it is full. ``latest`` tells when a delivery was last confirmed, ``times`` how often;
    ``losses`` counts what went wrong, by its kind.
    """

    loop: SimulatedLoop
    rng: Random
    failing: float = 0.0
    away: bool = False
    records: list[Captured] = field(default_factory=list)
    reached: Mapping[PoolName, Reached] = field(default_factory=dict)
    latest: dict[tuple[str, bytes], int] = field(default_factory=dict)
    times: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)

    def take(self, records: Sequence[Captured]) -> None:
        """Have records for good."""
        self.reached = reached_after(self.reached, records)
        self.records += records

    def confirm(self, records: Sequence[Captured]) -> None:
        """Have records for good, and say so: whoever asked may rely on it."""
        self.take(records)
        for record in records:
            if isinstance(record, Delivered):
                self.latest[record.topic, record.payload] = self.loop.steps
                self.times[record.topic, record.payload] += 1

    def fails(self) -> bool:
        """Whether this moment is a bad one."""
        return self.away or self.rng.random() < self.failing


@dataclass(slots=True)
class Writer:
    """The files and the thread of one life: what it writes counts when it is confirmed.

    Where it dies in between, the write may be whole or there may be nothing of it.
    """

    disk: Disk
    folder: str = "disk"
    dead: bool = False
    _half: Sequence[Captured] = ()
    _free_s: float = 0.0

    # In the place of feeds.capture_files.Files.

    def lock(self) -> None:
        """Nobody else is here."""

    def close(self) -> None:
        """Nothing is open."""

    def reached(self) -> Callable[[], Mapping[PoolName, Reached]]:
        """Tell how far the record goes."""
        if self.disk.fails():
            raise self._unavailable("unread")
        return lambda: dict(self.disk.reached)

    def write(self, records: Sequence[Captured]) -> Callable[[], int]:
        """Begin to write; what is returned confirms it."""
        if self.disk.fails():
            raise self._unavailable("before")
        self._half = tuple(records)
        return self._confirm

    def _confirm(self) -> int:
        half, self._half = self._half, ()
        if self.disk.fails():
            raise self._unavailable("after")
        self.disk.confirm(half)
        return len(half)

    def _unavailable(self, kind: str) -> CaptureUnavailable:
        self.disk.losses[kind] += 1
        return CaptureUnavailable(f"disk: failed {kind}")

    # In the place of its thread.

    def submit(self, step: Callable[..., Callable[[], Any]], *args: object) -> asyncio.Future[Any]:
        """Do a step behind those before it; it begins and ends after a while each."""
        done: asyncio.Future[Any] = self.disk.loop.create_future()
        self._after(lambda: self._begin(step, args, done))
        return done

    def _begin(
        self, step: Callable[..., Callable[[], Any]], args: Sequence[object], done: asyncio.Future[Any]
    ) -> None:
        try:
            end = step(*args)
        except CaptureUnavailable as error:
            _settle(done, error)
        else:
            self._after(lambda: self._end(end, done))

    @staticmethod
    def _end(end: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        try:
            _settle(done, end())
        except CaptureUnavailable as error:
            _settle(done, error)

    def _after(self, step: Callable[[], None]) -> None:
        rng, loop = self.disk.rng, self.disk.loop
        slow = rng.random() < 0.05
        self._free_s = max(loop.time(), self._free_s) + rng.uniform(0, 0.2 if slow else 0.002)
        loop.call_at(self._free_s, lambda: None if self.dead else step())

    def shutdown(self, *, wait: bool) -> None:
        """End; who waits for what is under way has waited."""

    def die(self) -> None:
        """End at once."""
        self.dead = True
        if self._half and self.disk.rng.random() < 0.5:
            self.disk.losses["kept unconfirmed"] += 1
            self.disk.take(self._half)
        elif self._half:
            self.disk.losses["lost unconfirmed"] += 1


@asynccontextmanager
async def recording(world: World, life: Life, day: Callable[[], str]) -> AsyncIterator[Any]:
    """Open the record of the day over the world's disk, where there is one."""
    if world.disk is None:
        yield None
        return
    module, writer = world.cast["feeds.capture"], Writer(world.disk)
    life.writer = writer
    module.time = SimpleNamespace(monotonic=world.loop.time)
    module.Files = lambda _settings, _day: writer
    module.ThreadPoolExecutor = lambda *_: writer
    folder: Path = None  # type: ignore[assignment] # nobody looks for files
    async with module.FileCapture(CaptureSettings(folder=folder, client_id="quotad"), day, _wrote) as capture:
        yield capture


def _wrote(_size: int, _seconds: float) -> None:
    """Nobody asks how long it took."""


def _settle(done: asyncio.Future[Any], said: object) -> None:
    """Tell who waits, if somebody does."""
    if done.done():
        return
    if isinstance(said, CaptureUnavailable):
        done.set_exception(said)
    else:
        done.set_result(said)

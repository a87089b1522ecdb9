"""The life of one daemon: begin, run until told to stop or until something is wrong, end.

It knows the parts by their protocols only; ``cli.py`` puts them together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from quota.captured import Recording
from quota.daemon import Daemon
from quota.days import Days
from quota.decision import PoolName
from quota.errors import LedgerUnavailable
from quota.feed import Feed
from quota.follow import Follower, Record
from quota.ledger import Ledger
from quota.library import Library
from quota.metrics import Metrics
from quota.notify import Notifier
from quota.pool import Change
from quota.recorder import Journals, Recorder
from quota.recovery import Recovery
from quota.watch import Watch

END_S = 3.0
"""How long the batch in hand may take after we are told to stop."""

_RETRY_S = 0.5

log = structlog.get_logger(__name__)


class Source(Record, Journals, Protocol):
    """What is read from the store beside the ledger."""

    async def changes(self, pool: PoolName, after: str, day: str = "") -> Sequence[Change]:
        """Read the changes after an id; of an earlier day, with its date."""
        ...


@dataclass(slots=True)
class Running:
    """A daemon and its watch, over one feed and one ledger."""

    feed: Feed
    ledger: Ledger
    library: Library
    days: Days
    metrics: Metrics
    record: Source
    capture: Recording | None = None
    notifier: Notifier = field(default_factory=Notifier)
    recovery: Recovery | None = None
    daemon: Daemon = field(init=False)
    watch: Watch = field(init=False)
    follower: Follower = field(init=False)
    recorder: Recorder | None = field(init=False, default=None)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.daemon = Daemon(self.feed, self.ledger, self.days, self.metrics, self.capture)
        self.watch = Watch(self.feed, self.ledger, self.days, self.metrics, self.notifier)
        self.follower = Follower(self.record, self.days, self.watch.courses, self.metrics)
        if self.capture is not None:
            self.recorder = Recorder(self.capture, self.record, self.days, self.metrics)

    def unready(self) -> Sequence[str]:
        """Why we are not ready to serve; empty when we are."""
        return [*self.watch.unready(), *(self.recorder.unready() if self.recorder else ())]

    def warnings(self) -> Sequence[str]:
        """What will need a person soon, though we are ready."""
        recovering = self.recovery.warnings() if self.recovery else ()
        recorded = self.recorder.warnings() if self.recorder else ()
        return [
            *self.watch.missing(),
            *self.watch.warnings(),
            *self.follower.warnings(),
            *recorded,
            *recovering,
        ]

    def stop(self) -> None:
        """Ask for the end: the batch in hand is finished and acknowledged first."""
        self._stop.set()

    async def run(self) -> None:
        """Run until stopped; raises what made going on impossible."""
        if not await self._begin():
            return
        log.info("daemon.started", pools=list(self.days.pools))
        self.notifier.ready()
        consumer = asyncio.create_task(self.daemon.consume(), name="consume")
        watcher = asyncio.create_task(self.watch.run(), name="watch")
        follower = asyncio.create_task(self.follower.run(), name="follow")
        working = [consumer, watcher, follower]
        if self.recorder is not None:
            working.append(asyncio.create_task(self.recorder.run(), name="record"))
        if self.recovery is not None:
            working.append(asyncio.create_task(self.recovery.run(), name="recover"))
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({*working, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end(*working, stop)
        for task in working:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _begin(self) -> bool:
        """See to the library and to today; wait while the store is away. False if stopped meanwhile."""
        while not self._stop.is_set():
            try:
                await self.library.load()
                if self.recovery is not None:
                    await self.recovery.learn()
                await self.days.begin()
                await self.watch.tick()
            except LedgerUnavailable as error:
                self.watch.trouble = str(error)
                self.notifier.status(f"waiting for the store: {error}")
                log.warning("store.away", reason=str(error), retry_in_s=_RETRY_S)
            else:
                return True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _RETRY_S)
        return False

    async def _end(self, consumer: asyncio.Task[None], *others: asyncio.Task[object]) -> None:
        self.notifier.stopping()
        self.daemon.stop()
        await asyncio.wait({consumer}, timeout=END_S)
        await ended({consumer, *others})
        log.info("daemon.ended")


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they are done.

    Once is not enough before Python 3.12: ``asyncio.wait_for``, which the clients of broker and
    store use, can swallow a cancellation that comes together with its result.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.2)

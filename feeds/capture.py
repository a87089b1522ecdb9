"""The record of the day in files: everything that came, before it is acknowledged.

What several ask to be kept while a write is under way goes to the disk together, with the next one.
The writing has a thread of its own, so that a slow disk holds up those who wait for it and nobody
else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

import structlog

from feeds.capture_files import CaptureSettings, Files
from quota.captured import Captured, Delivered, Reached
from quota.decision import PoolName
from quota.errors import CaptureUnavailable

__all__ = ["CaptureSettings", "FileCapture"]

SLOW_S: Final = 5.0
"""A write that takes longer is as good as none."""

_CLOSE_S: Final = 3.0
_PROVEN_S: Final = 10.0
"""When nothing has failed for so long since a write went well, there is room again."""

log = structlog.get_logger(__name__)


class FileCapture:
    """A Recording in a folder. Use as a context manager; raises ConfigError where it may not write.

    ``day`` says which trading day it is; ``wrote`` is told the bytes and seconds of each write. Two daemons
    may share a folder, each under its own client id.
    """

    def __init__(
        self, settings: CaptureSettings, day: Callable[[], str], wrote: Callable[[int, float], None]
    ) -> None:
        self._files = Files(settings, day)
        self._wrote = wrote
        self._thread = ThreadPoolExecutor(1, "capture")
        self._waiting: list[tuple[Sequence[Captured], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._since: float | None = None
        self._trouble = ""
        self._failures, self._failed_weight = 0, 0

    async def __aenter__(self) -> Self:
        self._files.lock()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_CLOSE_S)
        self._thread.shutdown(wait=False)
        self._files.close()

    @property
    def trouble(self) -> str:
        """Why the last write failed, or that one takes too long; empty where all is well."""
        if self._since is not None and time.monotonic() - self._since > SLOW_S:
            return f"a write to {self._files.folder} has been under way for more than {SLOW_S:.0f} s"
        return self._trouble

    async def keep(self, records: Sequence[Captured]) -> None:
        """Write records behind those before them; they are on the disk when this returns.

        Raises CaptureUnavailable, and then none of them counts. Who gives up waiting does not undo it.
        """
        if not records:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((records, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="capture")
        await done

    async def reached(self) -> Mapping[PoolName, Reached]:
        """Tell how far each pool has been written down. Raises CaptureUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._files.reached)

    async def _write_all(self) -> None:
        """Write what waits until nothing does: one write for all who came while the last was under way."""
        while self._waiting:
            taken, self._waiting = self._waiting, []
            weight = max(_weight(records) for records, _ in taken)
            error = await self._write([record for records, _ in taken for record in records], weight)
            for _, done in taken:
                if done.done():
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)

    async def _write(self, records: Sequence[Captured], weight: int) -> Exception | None:
        self._since = started = time.monotonic()
        try:
            size = await asyncio.get_running_loop().run_in_executor(self._thread, self._files.write, records)
        except CaptureUnavailable as error:
            heaviest = max(weight, self._failed_weight) if self._trouble else weight
            self._failures, self._failed_weight = self._failures + 1, heaviest
            return self._failed(error)
        except Exception as error:  # noqa: BLE001 - whoever asked has to hear of it
            return error
        finally:
            self._since = None
        if weight >= self._failed_weight:
            self._writes_again(self._failures)
        elif self._trouble:
            asyncio.get_running_loop().call_later(_PROVEN_S, self._writes_again, self._failures)
        self._wrote(size, time.monotonic() - started)
        return None

    def _writes_again(self, failures: int) -> None:
        """Say so, unless a write has failed since."""
        if self._trouble and failures == self._failures:
            log.info("capture.writes_again")
            self._trouble = ""

    def _failed(self, error: CaptureUnavailable) -> CaptureUnavailable:
        """Say once what is wrong, however often it is tried."""
        if str(error) != self._trouble:
            log.error("capture.failed", reason=str(error))
        self._trouble = str(error)
        return error


def _weight(records: Sequence[Captured]) -> int:
    """Say about how much room records take: on a disk that is full, little still finds some."""
    return sum(len(it.payload) if isinstance(it, Delivered) else 1 for it in records)

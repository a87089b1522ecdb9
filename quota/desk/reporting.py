"""Writes the report of a day: on demand, and by itself when the day is over."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog
from rich.console import Console

from quota.captured import Captured, Delivered
from quota.clock import MarketClock, iso
from quota.day import segments
from quota.days import Days
from quota.decision import Phase
from quota.errors import ConfigError, QuotaError
from quota.page.printed import page
from quota.pool import Pool
from quota.proof.dayend import DayTally, Origin
from quota.proof.open_days import Decoded, OpenDays
from quota.proof.report import File, Report

LOOK_S: Final = 2.0
GRACE: Final = timedelta(minutes=2)
"""How long after the close, by the market's clock, late facts are waited for."""

_PATIENCE: Final = 5 * GRACE

log = structlog.get_logger(__name__)


class Archive(Protocol):
    """The record of one daemon, as it is read."""

    @property
    def client_id(self) -> str: ...  # noqa: D102 - whose record it is
    @property
    def flaws(self) -> Sequence[object]: ...  # noqa: D102 - what was wrong with what was read

    def days(self) -> Sequence[str]:
        """List the days of which there are files, ascending."""
        ...

    def paths(self, day: str) -> Sequence[Path]:
        """List the files of a day."""
        ...

    def records(self, paths: Sequence[Path]) -> Iterator[Captured]:
        """Read files; raises OSError."""
        ...

    def hashed(self, path: Path) -> tuple[int, str]:
        """Hash a file: its bytes, and their SHA-256."""
        ...

    def decoded(self, delivered: Delivered) -> Decoded | None:
        """Read a delivery."""
        ...


class Stopped(Exception):
    """Nobody waits for the report any more."""


def report_of(archive: Archive, day: str, version: str, *, stopped: Callable[[], bool]) -> Report:
    """Make the report of a day from its record. Raises ConfigError where there is none, or Stopped."""
    paths = archive.paths(day)
    if not paths:
        days = ", ".join(archive.days()) or "none"
        raise ConfigError(
            f"there is no record of {day} by {archive.client_id}; of these days there is: {days}"
        )
    known = archive.days()
    tally = DayTally(day, archive.decoded, OpenDays(None if any(it < day for it in known) else day))
    for record in archive.records(paths):
        if stopped():
            raise Stopped
        tally.take(record)
    rest: list[Path] = []
    for later in (it for it in known if it > day):
        if tally.is_over or tally.is_followed:
            break
        rest += archive.paths(later)
        _take_rest(archive, tally, archive.paths(later), stopped)
    origin = Origin(day, archive.client_id, version, iso(MarketClock().now()))
    files = [File(path.name, *archive.hashed(path)) for path in paths]
    return tally.report(origin, files, [path.name for path in rest], [str(flaw) for flaw in archive.flaws])


def _take_rest(archive: Archive, tally: DayTally, paths: Sequence[Path], stopped: Callable[[], bool]) -> None:
    """Take in what files of a later day have of this one: it stays open until each pool begins another."""
    for record in archive.records(paths):
        if stopped():
            raise Stopped
        tally.take(record, is_ours=False)
        if tally.is_over:
            return


def name_of(day: str, client_id: str) -> str:
    """The name of a report without its ending; that of the record's files begins like it."""
    return f"{day}_{client_id}.report"


def write(report: Report, folder: Path) -> list[Path]:
    """Write a report as JSON and as a page; each is there whole, or not at all. Raises ConfigError."""
    name = name_of(report.day, report.daemon)
    written = []
    try:
        for ending, content in (("html", page(report).encode()), ("json", report.text())):
            path = folder / f"{name}.{ending}"
            _put(path, content)
            written.append(path)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    return written


def _put(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def tell(archive: Archive, day: str, folder: Path, version: str) -> int:
    """Write the report of a day and say where it is; exit 1 where files are damaged or entries missing."""
    report = report_of(archive, day, version, stopped=lambda: False)
    console = Console()
    for path in write(report, folder):
        console.out(path, highlight=False)
    found = [f"the record is damaged: {flaw}" for flaw in report.flaws]
    found += [f"{it.pool}: {it.missing} entries are missing" for it in report.pools if it.missing]
    for text in found:
        console.out(text, highlight=False)
    return 1 if found else 0


@dataclass(slots=True)
class DayEnd:
    """Writes the report of each day that is over, beside the record.

    Two minutes after the close, as soon as the journals are written down; and once more at the next
    opening, with what came in between. Only while no pool trades, and in a thread of its own: nobody
    who decides waits for it.
    """

    days: Days
    archive: Callable[[], Archive]
    folder: Path
    version: str
    behind: Callable[[], bool]
    _latest: str = ""
    _due: set[str] = field(default_factory=set)
    _written: set[str] = field(default_factory=set)
    _failed: str = ""
    _stopped: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        """Look for ever; what fails is told once and tried again, and is no reason to stop deciding."""
        try:
            while True:
                try:
                    await self.look()
                except (QuotaError, OSError, ValueError) as error:
                    if self._failed != str(error):
                        log.warning("report.failed", reason=str(error))
                    self._failed = str(error)
                await asyncio.sleep(LOOK_S)
        finally:
            self._stopped.set()

    async def look(self) -> None:
        """Write what is due."""
        pools = [it.pool for it in self.days.snapshots.values() if it.pool is not None]
        if not pools or any(pool.phase is not Phase.CLOSED for pool in pools):
            return
        latest = max(pool.trading_day for pool in pools)
        if latest != self._latest:
            self._due |= {self._latest} - {""}
            self._due |= {day for day in await asyncio.to_thread(self._stale) if day < latest}
            self._latest = latest
        if latest not in self._written and self._is_over(latest, pools):
            self._due.add(latest)
        for day in sorted(self._due):
            if day == latest or not self.behind():
                await self._write(day)

    def _is_over(self, day: str, pools: Sequence[Pool]) -> bool:
        """Whether a day closed long enough ago, and all of it is written down or will not be soon."""
        ends_ms = max(
            (ms for pool in pools if pool.trading_day == day for ms, _ in segments(pool.schedule)), default=0
        )
        clock, seen_ms = self.days.almanac.clock, min(it.server_ms for it in self.days.snapshots.values())
        past = clock.at_ms(seen_ms) - clock.at_ms(ends_ms)
        return past > _PATIENCE or (past > GRACE and not self.behind())

    def _stale(self) -> list[str]:
        """List the days whose record has no report, or was written to after it."""
        archive = self.archive()
        return [day for day in archive.days() if self._is_stale(archive, day)]

    def _is_stale(self, archive: Archive, day: str) -> bool:
        path = self.folder / f"{name_of(day, archive.client_id)}.json"
        try:
            written = path.stat().st_mtime_ns
        except FileNotFoundError:
            return True
        return any(file.stat().st_mtime_ns > written for file in archive.paths(day))

    async def _write(self, day: str) -> None:
        report = await asyncio.to_thread(self._make, day)
        self._due.discard(day)
        self._written.add(day)
        self._failed = ""
        if report is not None:
            log.info("report.written", trading_day=day, file=f"{name_of(day, report.daemon)}.html")

    def _make(self, day: str) -> Report | None:
        """Make a report and write it; None where the day has no record."""
        archive = self.archive()
        if not archive.paths(day):
            return None
        try:
            report = report_of(archive, day, self.version, stopped=self._stopped.is_set)
        except Stopped:
            return None
        write(report, self.folder)
        return report

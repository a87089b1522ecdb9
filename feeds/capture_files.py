"""The files of the record: per trading day and of a bounded size, and only ever added to.

Everything here blocks, and belongs into the thread that writes. What is damaged is left as it is.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from feeds.capture_format import VERSION, Head, Kept, Line, Mark, Name, chained, encode, units
from feeds.capture_part import Part
from feeds.capture_reading import files_of, survey
from quota.captured import Captured, Reached, reached_after
from quota.decision import PoolName
from quota.errors import CaptureUnavailable, ConfigError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSettings:
    """Where the files go, under whose name, when a new one begins and how many earlier days stay."""

    folder: Path
    client_id: str
    rotate_bytes: int = 256 * 1024 * 1024
    keep_days: int = 7


class Files:
    """The files of one daemon in a folder. They go on behind what an earlier life of it has left."""

    def __init__(self, settings: CaptureSettings, day: Callable[[], str]) -> None:
        self.folder = settings.folder
        self._settings = settings
        self._day = day
        self._lock = -1
        self._resumed = False
        self._part: Part | None = None
        self._name = Name("", settings.client_id, 0)
        self._number = 0
        self._chain = b""
        self._follows = ""
        self._reached: dict[PoolName, Reached] = {}

    def lock(self) -> None:
        """See that nobody else writes under our client id here; raises ConfigError."""
        path = self.folder / f".{self._settings.client_id}.lock"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(self._lock, 64).decode(errors="replace").strip() or "another process"
            self.close()
            raise ConfigError(
                f"capture.folder: {other} writes to {self.folder} as {self._settings.client_id!r} already"
            ) from None
        except OSError as error:
            raise ConfigError(f"capture.folder: {self.folder}: {error.strerror}") from None
        with suppress(OSError):  # it helps a person; the lock is what counts
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"process {os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of the file and of the folder."""
        if self._part is not None:
            self._part.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def reached(self) -> Mapping[PoolName, Reached]:
        """Tell how far each pool has been written down; raises CaptureUnavailable."""
        try:
            self._resume()
        except OSError as error:
            raise self._unavailable(error) from None
        return dict(self._reached)

    def write(self, records: Sequence[Captured]) -> int:
        """Write records; return how many bytes. Raises CaptureUnavailable."""
        try:
            self._resume()
            part = self._due()
            return self._append(part, records)
        except OSError as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: OSError) -> CaptureUnavailable:
        return CaptureUnavailable(f"{self.folder}: {error.strerror or error}")

    def _append(self, part: Part, records: Sequence[Captured]) -> int:
        reached = reached_after(self._reached, records)
        kept: list[Kept] = [] if part.end else [self._head()]
        kept += records
        if reached != self._reached:
            kept.append(Mark(reached))
        lines = list(self._lines(kept, 0 if not part.end else self._number))
        size = part.append(units(lines))
        self._number, self._chain, self._reached = lines[-1].number + 1, lines[-1].chain, reached
        return size

    def _head(self) -> Head:
        name = self._name
        return Head(
            version=VERSION,
            day=name.day,
            client_id=name.client_id,
            part=name.part,
            follows=self._follows,
            chain=self._chain.hex(),
            reached=self._reached,
        )

    def _lines(self, kept: Sequence[Kept], number: int) -> Iterator[Line]:
        chain = self._chain
        for place, record in enumerate(kept, number):
            text = encode(record)
            chain = chained(chain, place, text)
            yield Line(place, chain, text)

    # Which file it is.

    def _due(self) -> Part:
        """Open the file that is to be written: another one for another day, or when it is large."""
        day = max(self._day(), self._name.day)
        full = self._part is not None and self._part.end >= self._settings.rotate_bytes
        if self._part is not None and not full and day == self._name.day:
            return self._part
        earlier = self._name
        name = Name(day, earlier.client_id, earlier.part + 1 if day == earlier.day else 1)
        part = Part.create(self.folder / str(name))
        if self._part is not None:
            self._follows = self._part.path.name
            self._part.close()
        self._part, self._name = part, name
        if day != earlier.day:
            self._remove_old()
        return part

    def _resume(self) -> None:
        """Go on behind what an earlier life of ours has left."""
        if self._resumed:
            return
        for path in reversed(files_of(self.folder, self._settings.client_id)):
            self._name = max(self._name, Name.read(path.name) or self._name)
            if self._takes_up(path):
                break
        self._resumed = True

    def _takes_up(self, path: Path) -> bool:
        """Take a file up as the one before us, or pass over one in which nothing was ever kept."""
        found = survey(path)
        if found.flaw is not None:
            log.error("capture.damaged", file=path.name, number=found.flaw.number, reason=found.flaw.what)
        elif not found.number:
            path.unlink()
        if found.number or found.flaw is not None:
            self._follows = self._follows or path.name
        if not found.number:
            return False
        self._chain, self._reached = found.chain, dict(found.reached)
        if found.flaw is None and Name.read(path.name) == self._name:
            self._part = Part.reopen(path, found.end, found.torn)
            self._number = found.number
            if found.torn:
                log.warning("capture.tail_cut", file=path.name, bytes=found.torn)
        return True

    def _remove_old(self) -> None:
        """Remove our files of days that are over for long; a day without files is none."""
        files = [(Name.read(path.name), path) for path in files_of(self.folder, self._settings.client_id)]
        days = sorted({name.day for name, _ in files if name is not None})
        gone = set(days[: -self._settings.keep_days - 1])
        for name, path in files:
            if name is not None and name.day in gone:
                with suppress(OSError):
                    path.unlink()
                    log.info("capture.removed", file=path.name)

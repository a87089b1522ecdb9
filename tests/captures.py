"""The record of the day for tests: records to keep, captures to keep them in, ways to spoil a file."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feeds.capture import CaptureSettings, FileCapture
from feeds.capture_reading import Unit, files_of, records, walk
from quota.captured import Captured, Changed, Delivered, Journalled, Opened, Reached, reached_after
from quota.decision import Phase, PoolName, Status
from quota.errors import CaptureUnavailable
from quota.journal import Entry
from quota.pool import Change, Pool
from tests.servers import unable

DAY = "2026-11-23"
POOL = PoolName.NB_SH


def delivered(number: int, payload: bytes | None = None) -> Delivered:
    said = b'{"event":"new","order_id":"%d"}' % number if payload is None else payload
    return Delivered(time_ms=1_000 + number, topic="connect/NB-SH/orders/gw", payload=said)


def opened(trading_day: str = DAY) -> Opened:
    terms = Pool(trading_day=trading_day, limit_fen=1_000_000, rate="1.00000", schedule="1 continuous")
    return Opened(time_ms=1, pool=POOL, terms=terms)


def journalled(seq: int) -> Journalled:
    entry = Entry(
        seq=seq,
        event=f"new {seq} buy 1.00 1",
        verdict=None,
        balance_fen=1_000_000 - seq,
        status=Status.OPEN,
        phase=Phase.CONTINUOUS,
        time_ms=2_000 + seq,
    )
    return Journalled(pool=POOL, trading_day=DAY, entry=entry)


def changed(number: int) -> Changed:
    facts = {"was": "0", "now": "50", "seq": 1, "balance_fen": 1, "limit_fen": 2, "time_ms": 3, "reason": "r"}
    change = Change(kind="level", id=f"{number}-0", **facts)  # type: ignore[arg-type]  # each is what its name says
    return Changed(pool=POOL, trading_day=DAY, change=change)


@asynccontextmanager
async def capturing(
    folder: Path,
    *,
    day: str = DAY,
    wrote: list[int] | None = None,
    **settings: Any,  # noqa: ANN401 - fields of the settings
) -> AsyncIterator[FileCapture]:
    """Keep a record in a folder; ``wrote`` gets the size of every write."""
    named: dict[str, Any] = {"folder": folder, "client_id": "quotad"} | settings
    sizes = [] if wrote is None else wrote
    async with FileCapture(
        CaptureSettings(**named), lambda: day, lambda size, _: sizes.append(size)
    ) as capture:
        yield capture


async def kept(folder: Path, *batches: Sequence[Captured], **settings: Any) -> None:  # noqa: ANN401 - as above
    """Keep these, a write for each batch, and let go."""
    async with capturing(folder, **settings) as capture:
        for batch in batches:
            await capture.keep(batch)


def read(folder: Path, **chosen: str) -> list[Captured]:
    """Everything in a folder; raises where anything is wrong with it."""
    return [record for _, record in records(files_of(folder, **chosen))]


def only(folder: Path) -> Path:
    """The one file in a folder."""
    (path,) = files_of(folder)
    return path


def writes(path: Path) -> list[bytes]:
    """A file, cut into its writes."""
    with path.open("rb") as file:
        return [unit.head.text() + unit.frame for unit in walk(file) if isinstance(unit, Unit)]


def content(path: Path) -> bytes:
    """All bytes of a file."""
    return path.read_bytes()


def become(path: Path, content: bytes | bytearray) -> None:
    """Have a file hold these bytes and no others."""
    path.write_bytes(content)


@dataclass(slots=True)
class Notebook:
    """A record of the day in memory, that can be full."""

    records: list[Captured] = field(default_factory=list)
    trouble: str = ""
    attempts: int = 0

    async def keep(self, records: Sequence[Captured]) -> None:
        self.attempts += 1
        if self.trouble:
            raise CaptureUnavailable(self.trouble)
        self.records += records

    async def reached(self) -> Mapping[PoolName, Reached]:
        return reached_after({}, self.records)

    def entries(self) -> list[int]:
        """The numbers of the entries, in their order."""
        return [record.entry.seq for record in self.records if isinstance(record, Journalled)]


@contextmanager
def small_disk(place: Path, size_kib: int) -> Iterator[Path]:
    """A disk of its own that is soon full; where we may not mount one, it skips, and fails in CI."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k,mode=0700", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        unable("no tmpfs can be mounted here")
    try:
        yield place
    finally:
        with suppress(OSError):
            subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def fill(place: Path) -> Path:
    """Take all that is left of a disk; returns the file that holds it."""
    filler = place / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    return filler

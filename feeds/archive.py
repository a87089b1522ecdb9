"""The record of a day as it is read afterwards: for its report, and to play the day again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from feeds.capture_format import Name
from feeds.capture_reading import Flaw, files_of, records
from feeds.codec import Decoded, decode
from quota.captured import Captured, Delivered
from quota.decision import PoolName
from quota.errors import ConfigError

_CHUNK: Final = 1024 * 1024
_FLAWS_MAX: Final = 100


@dataclass(slots=True)
class Archive:
    """The files that one daemon wrote into a folder. ``flaws`` is what was wrong with those that were read.

    Of very many flaws the first hundred are kept.
    """

    folder: Path
    client_id: str
    root: str
    flaws: list[Flaw] = field(default_factory=list)

    def days(self) -> Sequence[str]:
        """List the days of which there are files, ascending."""
        return sorted({name.day for name in map(_name, files_of(self.folder, self.client_id))})

    def paths(self, day: str) -> Sequence[Path]:
        """List the files of a day, in their order."""
        return files_of(self.folder, self.client_id, day=day)

    def records(self, paths: Sequence[Path]) -> Iterator[Captured]:
        """Read files, whatever is wrong with them; raises OSError."""
        flaws = _Bounded()
        try:
            for _, record in records(paths, flaws):
                yield record
        finally:
            self.flaws += flaws

    def hashed(self, path: Path) -> tuple[int, str]:
        """Hash a file as it is now: its bytes, and their SHA-256. Raises OSError."""
        size, digest = 0, hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                digest.update(chunk)
        return size, digest.hexdigest()

    def decoded(self, delivered: Delivered) -> Decoded | None:
        """Read what was delivered, as the daemon did that serves all pools."""
        return decode(delivered.topic, delivered.payload, self.root, frozenset(PoolName))


class _Bounded(list[Flaw]):
    """Flaws, up to a number."""

    def append(self, flaw: Flaw) -> None:
        if len(self) < _FLAWS_MAX:
            super().append(flaw)


def archive_in(folder: Path, client_id: str, root: str) -> Archive:
    """Find whose record is in a folder: of this client id, or else of the only one. Raises ConfigError."""
    try:
        known = {name.client_id for name in map(_name, files_of(folder))}
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    if client_id not in known:
        if len(known) != 1:
            others = f"has records of {', '.join(sorted(known))}" if known else "has no record of any day"
            raise ConfigError(f"{folder}: {others}, none of {client_id}")
        (client_id,) = known
    return Archive(folder, client_id, root)


def _name(path: Path) -> Name:
    name = Name.read(path.name)
    if name is None:
        raise AssertionError("files_of gives files of the record only")
    return name

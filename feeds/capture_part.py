"""One file of the record of a day while it is written: whole writes, or none.

Everything here blocks, and belongs into the thread that writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self


class Part:
    """An open file that ends behind its last whole write; ``end`` is where that is."""

    def __init__(self, path: Path, descriptor: int, end: int) -> None:
        self.path = path
        self.end = end
        self._descriptor = descriptor
        self._dirty = False

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new file, and see that its name is on the disk. Raises OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            sync_folder(path.parent)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return cls(path, descriptor, 0)

    @classmethod
    def reopen(cls, path: Path, end: int, torn: int) -> Self:
        """Go on with a file; what is behind ``end`` and does not count is cut off. Raises OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if torn:
                os.ftruncate(descriptor, end)
                os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return cls(path, descriptor, end)

    def append(self, units: Iterable[bytes]) -> int:
        """Write units and see them on the disk; return how many bytes. Raises OSError, then with none."""
        end = self.end
        try:
            if self._dirty:
                os.ftruncate(self._descriptor, end)
            self._dirty = True
            for unit in units:
                end = self._write(unit, end)
            os.fsync(self._descriptor)
        except OSError:
            self._take_back()
            raise
        self._dirty = False
        written, self.end = end - self.end, end
        return written

    def _write(self, unit: bytes, at: int) -> int:
        left = memoryview(unit)
        while left:
            done = os.pwrite(self._descriptor, left, at)
            left, at = left[done:], at + done
        return at

    def _take_back(self) -> None:
        """Cut off what half a write has left; if even that fails, the next write does it first."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, self.end)
            self._dirty = False

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):
            os.close(self._descriptor)


def sync_folder(folder: Path) -> None:
    """See that the names in a folder are on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Reads the record of a day back, and names what is wrong with it: the file, the record and what.

What was not confirmed does not count: a file may end in the middle of a write, and that is no flaw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from feeds.capture_format import (
    HEAD_BYTES,
    MAGIC,
    VERSION,
    Head,
    Line,
    Mark,
    Name,
    UnitHead,
    chained,
    decode,
    lines_of,
)
from quota.captured import Captured, Reached
from quota.decision import PoolName
from quota.errors import CaptureCorrupt

_CHUNK: Final = 1024 * 1024


class Place(NamedTuple):
    """Where a record stands: its file and its number in it, from 0 for the file's own head."""

    file: str
    number: int


class Flaw(NamedTuple):
    """Something wrong with a file, and from which record on."""

    file: str
    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}: record {self.number}: {self.what}"


class Unit(NamedTuple):
    """One write of a file, whole."""

    offset: int
    head: UnitHead
    frame: bytes


class Spoilt(NamedTuple):
    """Bytes of a file that are not what was written; ``number`` is the first record that is lost."""

    offset: int
    number: int
    what: str


class Torn(NamedTuple):
    """The end of a file that was not written to its end."""

    offset: int


def files_of(folder: Path, client_id: str = "", *, day: str = "") -> list[Path]:
    """List the files of the record in a folder, in their order; of one daemon or one day only, if asked."""
    named = [(Name.read(path.name), path) for path in folder.iterdir()]
    return [
        path
        for name, path in sorted((name, path) for name, path in named if name is not None)
        if client_id in {"", name.client_id} and day in {"", name.day}
    ]


def records(paths: Sequence[Path], flaws: list[Flaw] | None = None) -> Iterator[tuple[Place, Captured]]:
    """Read files in the order of their names, a write at a time.

    Raises CaptureCorrupt at the first flaw. With a list for ``flaws`` everything that is whole is read
    and the flaws are added to it. Raises OSError where a file cannot be read.
    """
    reading = _Reading(_refuse if flaws is None else flaws.append, {path.name for path in paths})
    for path in sorted(paths, key=_order):
        yield from reading.file(path)


def _order(path: Path) -> Name:
    """Order files by day, daemon and part; what bears another name, a copy, comes first."""
    return Name.read(path.name) or Name("", path.name, 0)


def _refuse(flaw: Flaw) -> None:
    raise CaptureCorrupt(str(flaw))


class _Reading:
    """Reads files one after the other. ``chain`` is None where a flaw has hidden the hash before."""

    def __init__(self, tell: Callable[[Flaw], None], given: set[str]) -> None:
        self._tell = tell
        self._given = given
        self._ends: dict[str, bytes | None] = {}
        self._file = ""
        self._number = 0
        self._chain: bytes | None = b""
        self._flawed = False

    def file(self, path: Path) -> Iterator[tuple[Place, Captured]]:
        self._file, self._number, self._chain, self._flawed = path.name, 0, b"", False
        with path.open("rb") as file:
            for piece in walk(file):
                match piece:
                    case Unit():
                        yield from self._unit(piece)
                    case Spoilt():
                        self._flaw(piece.number, piece.what)
                    case Torn():
                        break
        self._ends[path.name] = None if self._flawed else self._chain

    def _flaw(self, number: int, what: str) -> None:
        self._chain, self._flawed = None, True
        self._tell(Flaw(self._file, number, what))

    def _unit(self, unit: Unit) -> Iterator[tuple[Place, Captured]]:
        if unit.head.first != self._number and self._chain is not None:
            self._flaw(self._number, f"is missing or out of its place: {unit.head.first} stands here")
        self._number = unit.head.first
        try:
            texts = lines_of(unit.frame)
        except ValueError as error:
            self._flaw(self._number, str(error))
            return
        for text in texts:
            if (record := self._record(text)) is not None:
                yield Place(self._file, self._number), record
            self._number += 1

    def _record(self, text: bytes) -> Captured | None:
        try:
            line = Line.read(text)
            record = decode(line.kept)
        except ValueError as error:
            self._flaw(self._number, str(error))
            return None
        if isinstance(record, Head):
            self._head(record)
        before = self._chain
        if line.number != self._number:
            self._flaw(self._number, f"is missing or out of its place: {line.number} stands here")
        elif before is not None and line.chain != chained(before, line.number, line.kept):
            self._flaw(self._number, "does not follow from the records before it")
        self._number, self._chain = line.number, line.chain
        return None if isinstance(record, Head | Mark) else record

    def _head(self, head: Head) -> None:
        """Hold a file's first record against its name and against the file before it."""
        self._chain = bytes.fromhex(head.chain)
        told, name = Name(head.day, head.client_id, head.part), self._file
        earlier = any(
            one.client_id == head.client_id for one in map(Name.read, self._ends) if one is not None
        )
        if head.version != VERSION:
            self._flaw(0, f"is of version {head.version}, and this program reads {VERSION}")
        elif Name.read(name) not in {told, None}:
            self._flaw(0, f"was written as {told}")
        elif head.follows in self._given:
            end = self._ends.get(head.follows)
            if end is not None and end != self._chain:
                self._flaw(0, f"does not follow from the end of {head.follows}")
        elif earlier:
            self._flaw(0, f"follows {head.follows or 'nothing'}, which is not here")


def walk(file: BinaryIO) -> Iterator[Unit | Spoilt | Torn]:
    """Go through a file write by write; behind spoilt bytes it goes on with the next write."""
    at = number = 0
    while raw := _at(file, at, HEAD_BYTES):
        head = UnitHead.read(raw)
        if head is None:
            behind = _next_unit(file, at + 1)
            if behind is None and (len(raw) < HEAD_BYTES or _only_zeros(file, at)):
                yield Torn(at)
                return
            yield Spoilt(at, number, "is damaged (the head of its write)")
            if behind is None:
                return
            at = behind
            continue
        frame = _at(file, at + HEAD_BYTES, head.frame_bytes)
        if len(frame) < head.frame_bytes:
            yield Torn(at)
            return
        if head.is_of(frame):
            yield Unit(at, head, frame)
        else:
            yield Spoilt(at, head.first, f"is damaged, up to record {head.first + head.records - 1}")
        at, number = at + HEAD_BYTES + head.frame_bytes, head.first + head.records


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _next_unit(file: BinaryIO, at: int) -> int | None:
    """Find where the next write begins."""
    while len(chunk := _at(file, at, _CHUNK)) >= HEAD_BYTES:
        found = chunk.find(MAGIC)
        while found >= 0:
            if UnitHead.read(_at(file, at + found, HEAD_BYTES)) is not None:
                return at + found
            found = chunk.find(MAGIC, found + 1)
        at += len(chunk) - HEAD_BYTES + 1
    return None


def _only_zeros(file: BinaryIO, at: int) -> bool:
    """Whether a file ends in zeros: room that was made for a write and never got it."""
    while chunk := _at(file, at, _CHUNK):
        if chunk.strip(b"\0"):
            return False
        at += len(chunk)
    return True


class Survey(NamedTuple):
    """What a file is to who wants to go on writing it.

    ``end`` is where its whole writes end, ``torn`` how many bytes follow that do not count. With a
    ``flaw`` the rest is as of the last write before it. ``number`` is the next record's, 0 in a file
    that has none.
    """

    end: int
    torn: int
    flaw: Flaw | None
    number: int
    chain: bytes
    reached: Mapping[PoolName, Reached]


def survey(path: Path) -> Survey:
    """Check a file's bytes and find its end. Raises OSError."""
    offsets: list[int] = []
    end, torn, number = 0, 0, 0
    flaw: Flaw | None = None
    with path.open("rb") as file:
        for piece in walk(file):
            if isinstance(piece, Torn):
                torn = path.stat().st_size - piece.offset
            elif isinstance(piece, Spoilt):
                flaw = Flaw(path.name, piece.number, piece.what)
            elif piece.head.first != number:
                flaw = Flaw(path.name, number, f"is missing: {piece.head.first} stands here")
            else:
                offsets.append(piece.offset)
                end = piece.offset + HEAD_BYTES + piece.head.frame_bytes
                number = piece.head.first + piece.head.records
            if flaw is not None:
                break
        chain, reached = _ending(file, [*offsets, end])
    return Survey(end, torn, flaw, number, chain, reached)


def _ending(file: BinaryIO, offsets: list[int]) -> tuple[bytes, Mapping[PoolName, Reached]]:
    """Read the last hash, and the last record of how far the pools were written down."""
    chain = b""
    for start, end in reversed(list(pairwise(offsets))):
        lines = [Line.read(text) for text in lines_of(_at(file, start, end - start)[HEAD_BYTES:])]
        chain = chain or lines[-1].chain
        for line in reversed(lines):
            if line.kept.startswith((b'{"record":"reached"', b'{"record":"head"')):
                record = decode(line.kept)
                if isinstance(record, Mark | Head):
                    return chain, record.reached
    return chain, {}

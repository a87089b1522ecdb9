"""The bytes of the record of a day: lines of JSON, chained, in frames of zstandard. Pure.

A flush is a unit: a head of 44 bytes, then a zstandard frame with the lines. The head is what
zstandard calls a skippable frame, so ``zstdcat`` prints a whole file. It has the frame's length and
hash, so that a write that was cut short is told from a byte that has changed. Each line has its
number in the file and a hash over it and all lines before it.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Self

import msgspec
import zstandard
from msgspec import UNSET, UnsetType

from quota.captured import Captured, Changed, Delivered, Journalled, Opened, Reached
from quota.decision import PoolName

VERSION: Final = 1
MAGIC: Final = b"\x51\x2a\x4d\x18"
"""How a skippable frame of zstandard begins: this is the second of the sixteen numbers it may have."""

_HEAD: Final = struct.Struct("<4sIIIQ16sI")
HEAD_BYTES: Final = _HEAD.size
_UNIT_BYTES: Final = 4 * 1024 * 1024
_LINE: Final = re.compile(rb'\{"number":(\d+),"chain":"([0-9a-f]{32})","kept":(.*)\}', re.DOTALL)
_NAME: Final = re.compile(r"(\d{4}-\d\d-\d\d)_([A-Za-z0-9._:-]{1,64})_(\d{6})\.jsonl\.zst")


class Name(NamedTuple):
    """A file's name: the trading day, whose daemon wrote it, and its place among the parts of the day."""

    day: str
    client_id: str
    part: int

    def __str__(self) -> str:
        return f"{self.day}_{self.client_id}_{self.part:06d}.jsonl.zst"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read a file's name; None where it is none of ours."""
        match = _NAME.fullmatch(text)
        return cls(match[1], match[2], int(match[3])) if match else None


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="head"):
    """The first record of a file: whose it is, and behind what it comes.

    ``follows`` is the file before it and ``chain`` the hash of that one's last record, both empty for
    the first file of all; ``reached`` is how far each pool had been written down by then.
    """

    version: int
    day: str
    client_id: str
    part: int
    follows: str
    chain: str
    reached: Mapping[PoolName, Reached]


class Mark(msgspec.Struct, frozen=True, tag_field="record", tag="reached"):
    """How far each pool is written down; the last record of a unit that took one of them further."""

    reached: Mapping[PoolName, Reached]


class _Delivery(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="delivery"):
    """A delivery as it stands in the file: legible where it is UTF-8."""

    time_ms: int
    topic: str
    payload: str | UnsetType = UNSET
    payload_base64: bytes | UnsetType = UNSET


Kept = Captured | Head | Mark
_DECODER: Final[msgspec.json.Decoder[_Delivery | Opened | Journalled | Changed | Head | Mark]] = (
    msgspec.json.Decoder(_Delivery | Opened | Journalled | Changed | Head | Mark)
)


def encode(record: Kept) -> bytes:
    """Write a record as JSON."""
    return msgspec.json.encode(_written(record) if isinstance(record, Delivered) else record)


def _written(delivery: Delivered) -> _Delivery:
    try:
        text = delivery.payload.decode()
    except UnicodeDecodeError:
        return _Delivery(time_ms=delivery.time_ms, topic=delivery.topic, payload_base64=delivery.payload)
    return _Delivery(time_ms=delivery.time_ms, topic=delivery.topic, payload=text)


def decode(kept: bytes) -> Kept:
    """Read a record; raises ValueError where it is none."""
    record = _DECODER.decode(kept)
    if not isinstance(record, _Delivery):
        return record
    raw = record.payload.encode() if isinstance(record.payload, str) else record.payload_base64
    if not isinstance(raw, bytes):
        raise ValueError("a delivery without its payload")  # noqa: TRY004 - the bytes are at fault
    return Delivered(time_ms=record.time_ms, topic=record.topic, payload=raw)


class Line(NamedTuple):
    """A record with its number in the file and its hash over all before it."""

    number: int
    chain: bytes
    kept: bytes

    def text(self) -> bytes:
        """Write it, without its line feed."""
        return b'{"number":%d,"chain":"%b","kept":%b}' % (self.number, self.chain.hex().encode(), self.kept)

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Read a line; raises ValueError where it is none."""
        match = _LINE.fullmatch(text)
        if match is None:
            raise ValueError("is no line of a record")
        return cls(int(match[1]), bytes.fromhex(match[2].decode()), match[3])


def chained(before: bytes, number: int, kept: bytes) -> bytes:
    """Make a record's hash from the one before it."""
    return hashlib.blake2b(b"%b%d %b" % (before, number, kept), digest_size=16).digest()


class UnitHead(NamedTuple):
    """What stands before a frame: its length, how many records it has, the first one's number, its hash."""

    frame_bytes: int
    records: int
    first: int
    frame_hash: bytes

    def text(self) -> bytes:
        """Write it, with a checksum of its own."""
        fields = (MAGIC, HEAD_BYTES - 8, self.frame_bytes, self.records, self.first, self.frame_hash)
        crc = zlib.crc32(_HEAD.pack(*fields, 0)[:-4])
        return _HEAD.pack(*fields, crc)

    @classmethod
    def read(cls, text: bytes) -> Self | None:
        """Read it; None where these bytes are none."""
        if len(text) < HEAD_BYTES:
            return None
        magic, size, *fields, crc = _HEAD.unpack(text)
        sound = magic == MAGIC and size == HEAD_BYTES - 8 and crc == zlib.crc32(text[:-4])
        return cls(*fields) if sound else None

    def is_of(self, frame: bytes) -> bool:
        """Whether a frame is the one that was written."""
        return len(frame) == self.frame_bytes and hash_of(frame) == self.frame_hash


def hash_of(frame: bytes) -> bytes:
    """Hash a frame."""
    return hashlib.blake2b(frame, digest_size=16).digest()


def units(lines: Iterable[Line]) -> Iterator[bytes]:
    """Write lines as units, each of a size that a reader can hold."""
    texts: list[bytes] = []
    first = size = 0
    for line in lines:
        first = first if texts else line.number
        texts.append(line.text())
        size += len(texts[-1])
        if size >= _UNIT_BYTES:
            yield _unit(first, texts)
            texts, size = [], 0
    if texts:
        yield _unit(first, texts)


def _unit(first: int, texts: list[bytes]) -> bytes:
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(b"\n".join(texts) + b"\n")
    return UnitHead(len(frame), len(texts), first, hash_of(frame)).text() + frame


def lines_of(frame: bytes) -> list[bytes]:
    """Take a frame apart; raises ValueError where it cannot be unpacked."""
    try:
        text: Any = zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError as error:
        raise ValueError(f"cannot be unpacked ({error})") from None
    return bytes(text).removesuffix(b"\n").split(b"\n")

"""The Sources in the store: which numbers have come is kept beside the pool, and shares its hash tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from quota.decision import PoolName
from quota.errors import LedgerCorrupt
from quota.events import Numbers
from quota.library import Library
from quota.numbers import Acceptance, Accepted, Full, Register, Source

T = TypeVar("T")

_CALL_RUNS = 512
"""The most runs of one call: it bounds how long the store serves nobody else."""


def sources_key(pool: PoolName) -> str:
    """Name the key of a pool's sources."""
    return f"quota:{{{pool}}}:sources"


class RedisSources:
    """The Sources by the functions of ``quota/lua/gaps.lua``."""

    def __init__(self, library: Library) -> None:
        self._library = library

    async def arrived(self, pool: PoolName, numbers: Sequence[Numbers]) -> None:
        """Take down numbers that have come.

        Not waited for on disk or replica: lost after their events were kept, they show as a gap that is
        none, and that closes when its source sends again.
        """
        for start in range(0, len(numbers), _CALL_RUNS):
            packed = msgspec.msgpack.encode(numbers[start : start + _CALL_RUNS])
            await self._library.call("quota_arrived", self._keys(pool), packed)

    async def accept(self, pool: PoolName, acceptance: Acceptance) -> None:
        """Give up what is missing."""
        packed = msgspec.msgpack.encode(acceptance)
        await self._library.call("quota_accept", self._keys(pool), packed, lasting=True)

    async def read(self, pool: PoolName) -> Register:
        """Return what is kept; raises LedgerCorrupt where it cannot be read."""
        flat: dict[bytes, bytes] = await self._library.command("HGETALL", sources_key(pool))
        fields = {name.decode(errors="replace"): packed for name, packed in flat.items()}
        full = _unpacked("#full", fields.pop("#full", None), Full) or Full()
        accepted = _unpacked("#accepted", fields.pop("#accepted", None), tuple[Accepted, ...]) or ()
        sources = {name: _unpacked(name, packed, Source) for name, packed in fields.items()}
        return Register({name: it for name, it in sources.items() if it is not None}, full, accepted)

    @staticmethod
    def _keys(pool: PoolName) -> tuple[str, str]:
        return f"quota:{{{pool}}}:pool", sources_key(pool)


def _unpacked(name: str, packed: bytes | None, kind: type[T]) -> T | None:
    try:
        return None if packed is None else msgspec.msgpack.decode(packed, type=kind)
    except msgspec.DecodeError as error:
        raise LedgerCorrupt(f"sources {name}: {error}") from None

"""What the store keeps of a day, as records: read, compared and never decided upon here.

This file owns the names of the keys. What it reads, it reads into the records of ``pool.py`` and
``journal.py``; what it cannot read is a LedgerCorrupt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from quota.decision import PoolName, Side, Verdict, Violation
from quota.errors import LedgerCorrupt
from quota.journal import Entry
from quota.library import Library
from quota.pool import Change, Execution, Order, Pool

KEY_PARTS = ("pool", "orders", "execs", "holds", "changes", "journal")
_PAGE = 1000
_VERIFIED_KEPT_S = 35 * 86_400  # longer than any closure: a finding must not go away over a holiday


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What the last verification of a pool's day found, and when, by the clock of who made it."""

    trading_day: str
    seq: int
    differences: int
    time_ms: int


def keys(pool: PoolName, day: str = "") -> tuple[str, ...]:
    """Name the six keys of a pool in the order of the functions; of an earlier day, with it."""
    suffix = f":{day}" if day else ""
    return tuple(f"quota:{{{pool}}}:{part}{suffix}" for part in KEY_PARTS)


def pool_of(fields: Mapping[str, str]) -> Pool | None:
    """Read a pool's hash; None where it is empty. Raises LedgerCorrupt."""
    if not fields:
        return None
    values: dict[str, Any] = dict(fields)
    values["levels"] = [int(word) for word in fields.get("levels", "").split()]
    values["kept"] = fields.get("kept", "").split()
    for flag in ("began", "exhausted", "suspended", "resumes_in_opening"):
        values[flag] = fields.get(flag) == "1"
    values["decided"] = {
        (side, verdict): int(count)
        for side in Side
        for verdict in Verdict
        if (count := fields.get(f"decided_{side}_{verdict}", "0")) != "0"
    }
    values["violated"] = {
        kind: int(count) for kind in Violation if (count := fields.get(f"violated_{kind}", "0")) != "0"
    }
    try:
        return msgspec.convert(values, Pool, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise LedgerCorrupt(f"pool: {error}") from None


_FRAME = "trading_day limit_fen rate schedule admission levels resumes_in_opening halted began exhausted"
FRAME = (*_FRAME.split(), "suspended", "phase", "level", "attested", "doubted")
"""The fields that the library also keeps as one text, in its order."""

_RESERVED, _SPENT = 128, 256
_SIDES = (None, *Side)
_VERDICTS = (None, *Verdict)


def order_of(record: bytes) -> Order:
    """Read an order's record: ten MessagePack values, one after the other."""
    side, price, quantity, verdict, seq, filled, value, top, off, bits = msgspec.msgpack.decode(
        b"\x9a" + record
    )
    return Order(
        side=_SIDES[side],
        price_milli=price,
        quantity=quantity,
        verdict=_VERDICTS[verdict],
        seq=seq,
        filled=filled,
        value_milli=value,
        top_milli=top,
        off_book=bool(off),
        violations=frozenset(kind for place, kind in enumerate(Violation) if bits >> place & 1),
        reserved=bool(bits & _RESERVED),
        spent=bool(bits & _SPENT),
    )


def execution_of(record: bytes, order_ids: Mapping[int, str]) -> Execution:
    """Read an execution's record: four MessagePack values. ``order_ids`` names orders by their seq."""
    order, side, price, quantity = msgspec.msgpack.decode(b"\x94" + record)
    order_id = order if isinstance(order, str) else order_ids.get(order, f"seq {order}")
    return Execution(order_id, Side.BUY if side % 2 else Side.SELL, price, quantity, side > len(Side))


class RedisRecord:
    """The reading side of the store: nothing here changes a pool."""

    def __init__(self, library: Library) -> None:
        self._library = library

    async def read(self, pool: PoolName) -> Pool | None:
        """Read a pool as it was last written, without judging the clock: nothing is changed."""
        fields = await self._library.command("HGETALL", keys(pool)[0])
        return pool_of(_texts(fields))

    async def changes(self, pool: PoolName, after: str, day: str = "") -> Sequence[Change]:
        """Read a page of the changes; of an earlier day that is still kept, with its date."""
        page = await self._library.command("XRANGE", keys(pool, day)[4], f"({after}", "+", "COUNT", _PAGE)
        return [change_of(entry_id.decode(), fields) for entry_id, fields in page]

    async def page(self, pool: PoolName, first_seq: int, day: str = "") -> Sequence[Entry]:
        """Read a page of the journal from a number on; of an earlier day that is kept, with its date."""
        page = await self._library.command(
            "XRANGE", keys(pool, day)[5], f"{first_seq}-0", "+", "COUNT", _PAGE
        )
        return [_entry_of(entry_id, fields) for entry_id, fields in page]

    async def journal(self, pool: PoolName, last_seq: int, after_seq: int = 0) -> AsyncIterator[Entry]:
        """Read the journal after a number up to another, page by page."""
        start = f"({after_seq}-0" if after_seq else "-"
        while True:
            page = await self._library.command(
                "XRANGE", keys(pool)[5], start, f"{last_seq}-0", "COUNT", _PAGE
            )
            for entry_id, fields in page:
                yield _entry_of(entry_id, fields)
            if len(page) < _PAGE:
                return
            start = f"({page[-1][0].decode()}"

    async def orders(self, pool: PoolName, ids: Sequence[str]) -> Sequence[Order | None]:
        """Read the records of these orders; None where there is none."""
        records = await self._library.command("HMGET", keys(pool)[1], *ids)
        return [None if record is None else order_of(record) for record in records]

    async def executions(
        self, pool: PoolName, ids: Sequence[str], order_ids: Mapping[int, str]
    ) -> Sequence[Execution | None]:
        """Read the records of these executions; None where there is none."""
        records = await self._library.command("HMGET", keys(pool)[2], *ids)
        return [None if record is None else execution_of(record, order_ids) for record in records]

    async def holds(self, pool: PoolName) -> Mapping[str, int]:
        """Read the holds: the reservations that lapse, and when."""
        flat = await self._library.command("ZRANGE", keys(pool)[3], 0, -1, "WITHSCORES")
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return {order_id.decode(): round(float(lapses)) for order_id, lapses in pairs}

    async def contradictions(self, pool: PoolName, orders: int, executions: int) -> Sequence[str]:
        """Say where the hash contradicts itself, or holds more or fewer records than these."""
        fields = await self._library.command("HGETALL", keys(pool)[0])
        texts = _texts(fields)
        if (stored := pool_of(texts)) is None:
            return []
        said = {
            "balance_fen": (texts.get("balance_fen"), str(stored.balance_fen)),
            "status": (texts.get("status"), str(stored.status)),
            "frame": (texts.get("frame"), _frame_of(texts)),
            "orders": (await self._library.command("HLEN", keys(pool)[1]), orders),
            "execs": (await self._library.command("HLEN", keys(pool)[2]), executions),
        }
        return [
            f"pool {name}: is {is_!r}, should be {should!r}"
            for name, (is_, should) in said.items()
            if is_ != should
        ]

    async def latest(self, pool: PoolName, count: int) -> Sequence[Entry]:
        """Read the last entries of the journal, newest first."""
        page = await self._library.command("XREVRANGE", keys(pool)[5], "+", "-", "COUNT", count)
        return [_entry_of(entry_id, fields) for entry_id, fields in page]

    async def sampled(self, pool: PoolName, last_seq: int, count: int) -> Sequence[Entry]:
        """Read at most so many entries, spread evenly over the numbers of the day, ascending."""
        step = max(1, -(-last_seq // count))
        pages = [
            await self._library.command("XRANGE", keys(pool)[5], f"{seq}-0", f"{last_seq}-0", "COUNT", 1)
            for seq in range(1, last_seq + 1, step)
        ]
        return [_entry_of(entry_id, fields) for page in pages for entry_id, fields in page]

    async def note(self, pool: PoolName, verified: Verified) -> None:
        """Leave the result of a verification where daemons find it; it expires by itself."""
        key = _verified_key(pool)
        flat = [item for pair in msgspec.structs.asdict(verified).items() for item in pair]
        await self._library.command("HSET", key, *flat)
        await self._library.command("EXPIRE", key, _VERIFIED_KEPT_S)

    async def verified(self, pool: PoolName) -> Verified | None:
        """Read the result of the last verification; None where there is none."""
        fields = await self._library.command("HGETALL", _verified_key(pool))
        if not fields:
            return None
        try:
            return msgspec.convert(
                {k.decode(): v.decode() for k, v in fields.items()}, Verified, strict=False
            )
        except msgspec.ValidationError as error:
            raise LedgerCorrupt(f"verified: {error}") from None


def _frame_of(texts: Mapping[str, str]) -> str:
    """Write the frame that the fields make up. Version 1 of the library did not attest, 2 had no doubts."""
    known = 2 if "doubted" in texts else 1 if "attested" in texts else 0
    return "\n".join(texts.get(name, "") for name in FRAME[: len(FRAME) - 2 + known])


def _verified_key(pool: PoolName) -> str:
    return f"quota:{{{pool}}}:verified"


def _entry_of(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    return Entry.read(entry_id.decode(), _texts(fields))


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    try:
        return {name.decode(): value.decode() for name, value in fields.items()}
    except UnicodeDecodeError as error:
        raise LedgerCorrupt(f"a field is no UTF-8: {error.object[:64]!r}") from None


def change_of(entry_id: str, fields: Mapping[bytes, bytes]) -> Change:
    """Read an entry of the changes; raises LedgerCorrupt."""
    try:
        return msgspec.convert(_texts(fields) | {"id": entry_id}, Change, strict=False)
    except msgspec.ValidationError as error:
        raise LedgerCorrupt(f"changes {entry_id}: {error}") from None

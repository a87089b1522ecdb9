"""The Ledger protocol, and its side in Redis: one function call per pool and batch.

This file owns the names of the keys. What it reads back, it reads into the records of
``pool.py``; what it cannot read is a LedgerCorrupt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, Protocol, assert_never

import msgspec

from quota.decision import Decision, PoolName, Side, Status, Verdict, Violation
from quota.errors import ConfigError, LedgerCorrupt
from quota.events import MARKET_TZ, Bust, Cancelled, Event, Fill, NewOrder, Rejected
from quota.journal import Entry, line
from quota.library import Library
from quota.pool import Change, Execution, Opening, Order, Pool

KEY_PARTS = ("pool", "orders", "execs", "holds", "changes", "journal")
_PAGE = 1000


class Snapshot(msgspec.Struct, frozen=True):
    """A pool as its tick returned it; ``pool`` is None where no day was ever opened.

    ``published`` and ``last_change`` are ids in ``changes``; ``server_ms`` is the store's clock.
    """

    server_ms: int
    pool: Pool | None
    published: str = "0-0"
    last_change: str = "0-0"


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's act: ``halt``, ``resume`` or ``limit`` (with its new limit)."""

    act: str
    reason: str
    user: str
    host: str
    limit_fen: int = 0
    reopen: bool = False


class Ledger(Protocol):
    """What keeps the pools. Every method is atomic for its pool, and safe to repeat.

    All raise LedgerUnavailable when the store is away or cannot write: whether the call had its
    effect is then unknown, and asking again with the same events tells.
    """

    async def apply(self, pool: PoolName, events: Sequence[Event]) -> Sequence[Decision]:
        """Apply events in their order and decide the new orders among them."""
        ...

    async def tick(self, pool: PoolName, published: str = "") -> Snapshot:
        """Judge the clock and return the pool; remember which change was published last."""
        ...

    async def open_day(self, pool: PoolName, opening: Opening) -> bool:
        """Open a day; False if it was open. Raises ConfigError when it may not be opened."""
        ...

    async def changes(self, pool: PoolName, after: str) -> Sequence[Change]:
        """Return the changes after an id, oldest first, a thousand at most."""
        ...

    async def set_rate(self, pool: PoolName, trading_day: str, rate: str) -> str:
        """Set the day's rate before its first event: ``set``, ``same``, ``refused``, ``other_day``."""
        ...

    async def operate(self, pool: PoolName, act: Act) -> Status:
        """Carry out an operator's act. Raises ConfigError when it is refused."""
        ...


def keys(pool: PoolName, day: str = "") -> tuple[str, ...]:
    """Name the six keys of a pool in the order of the functions; of an earlier day, with it."""
    suffix = f":{day}" if day else ""
    return tuple(f"quota:{{{pool}}}:{part}{suffix}" for part in KEY_PARTS)


def day_ms(trading_day: str) -> tuple[int, int]:
    """Say when a date of the market begins and ends, in milliseconds since the epoch."""
    midnight = datetime.combine(date.fromisoformat(trading_day), time(), MARKET_TZ)
    starts_ms = int(midnight.timestamp()) * 1000
    return starts_ms, starts_ms + 86_400_000


def packed(events: Sequence[Event]) -> bytes:
    """Pack events as ``quota_apply`` takes them."""
    return msgspec.msgpack.encode([_row(event) for event in events])


def _row(event: Event) -> tuple[str, str, str, int, int, str, str, str]:
    order_id, date, text = event.order_id, _market_date(event), line(event)
    match event:
        case NewOrder():
            return "new", order_id, event.side, event.price_milli, event.quantity, "", date, text
        case Fill():
            return "fill", order_id, event.side, event.price_milli, event.quantity, event.exec_id, date, text
        case Bust():
            return "bust", order_id, event.side, event.price_milli, event.quantity, event.exec_id, date, text
        case Cancelled():
            return "cancelled", order_id, "", 0, 0, "", date, text
        case Rejected():
            return "rejected", order_id, "", 0, 0, "", date, text
        case _:
            assert_never(event)


def _market_date(event: Event) -> str:
    """Write the event's date in UTC+8; what is written in that offset says it already."""
    if event.time.endswith("+08:00"):
        return event.time[:10]
    day = event.market_date
    return day.isoformat() if day else ""


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
FRAME = (*_FRAME.split(), "suspended", "phase", "level")
"""The fields that the library also keeps as one text, in its order."""

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
    )


def execution_of(record: bytes, order_ids: Mapping[int, str]) -> Execution:
    """Read an execution's record: four MessagePack values. ``order_ids`` names orders by their seq."""
    order, side, price, quantity = msgspec.msgpack.decode(b"\x94" + record)
    order_id = order if isinstance(order, str) else order_ids.get(order, f"seq {order}")
    return Execution(order_id, Side.BUY if side % 2 else Side.SELL, price, quantity, side > len(Side))


class RedisLedger:
    """The Ledger in Redis or Valkey, by the functions of ``lua/quota.lua``."""

    def __init__(self, library: Library) -> None:
        self._library = library

    async def apply(self, pool: PoolName, events: Sequence[Event]) -> Sequence[Decision]:
        """Apply events in one function call."""
        reply = await self._call("quota_apply", pool, packed(events))
        return msgspec.msgpack.decode(reply, type=list[Decision])

    async def tick(self, pool: PoolName, published: str = "") -> Snapshot:
        """Judge the clock, return the pool."""
        server_ms, flat = await self._call("quota_tick", pool, published)
        texts = [item.decode() for item in flat]
        fields = dict(zip(texts[::2], texts[1::2], strict=True))
        published = fields.get("published", "0-0")
        return Snapshot(int(server_ms), pool_of(fields), published, fields.get("last_change", "0-0"))

    async def open_day(self, pool: PoolName, opening: Opening) -> bool:
        """Open a day, or find it open."""
        fields = msgspec.to_builtins(opening)
        fields["levels"] = " ".join(str(level) for level in opening.levels)
        fields["resumes_in_opening"] = int(opening.resumes_in_opening)
        fields["open_late"] = int(opening.open_late)
        fields["starts_ms"], fields["ends_ms"] = day_ms(opening.trading_day)
        outcome, detail = await self._call("quota_open", pool, msgspec.msgpack.encode(fields))
        if outcome == b"refused":
            raise ConfigError(f"{pool}: {detail.decode()}")
        return bool(outcome == b"opened")

    async def changes(self, pool: PoolName, after: str) -> Sequence[Change]:
        """Read a page of the changes."""
        page = await self._library.command("XRANGE", keys(pool)[4], f"({after}", "+", "COUNT", _PAGE)
        return [change_of(entry_id.decode(), fields) for entry_id, fields in page]

    async def set_rate(self, pool: PoolName, trading_day: str, rate: str) -> str:
        """Set the rate, unless an event has come."""
        (outcome,) = await self._call("quota_rate", pool, trading_day, rate)
        return str(outcome.decode())

    async def operate(self, pool: PoolName, act: Act) -> Status:
        """Carry out an operator's act."""
        outcome, detail = await self._call("quota_operate", pool, msgspec.msgpack.encode(act))
        if outcome == b"refused":
            raise ConfigError(f"{pool}: {detail.decode()}")
        return Status(detail.decode())

    async def read(self, pool: PoolName) -> Pool | None:
        """Read a pool as it was last written, without judging the clock: nothing is changed."""
        fields = await self._library.command("HGETALL", keys(pool)[0])
        return pool_of({name.decode(): value.decode() for name, value in fields.items()})

    async def check(self, pool: PoolName, side: Side) -> tuple[Verdict, int | None, Status]:
        """Tell what a buy or a sell would get now; writes nothing."""
        key = keys(pool)[0]
        reply = await self._library.call("quota_check", (key,), side)
        return Verdict(reply[0].decode()), reply[1], Status(reply[3].decode())

    async def journal(self, pool: PoolName, last_seq: int, after_seq: int = 0) -> AsyncIterator[Entry]:
        """Read the journal after a number up to another, page by page."""
        start = f"({after_seq}-0" if after_seq else "-"
        while True:
            page = await self._library.command(
                "XRANGE", keys(pool)[5], start, f"{last_seq}-0", "COUNT", _PAGE
            )
            for entry_id, fields in page:
                yield Entry.read(entry_id.decode(), {k.decode(): v.decode() for k, v in fields.items()})
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

    async def contradictions(self, pool: PoolName, orders: int, executions: int) -> Sequence[str]:
        """Say where the hash contradicts itself, or holds more or fewer records than these."""
        fields = await self._library.command("HGETALL", keys(pool)[0])
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        if (stored := pool_of(texts)) is None:
            return []
        said = {
            "balance_fen": (texts.get("balance_fen"), str(stored.balance_fen)),
            "status": (texts.get("status"), str(stored.status)),
            "frame": (texts.get("frame"), "\n".join(texts.get(name, "") for name in FRAME)),
            "orders": (await self._library.command("HLEN", keys(pool)[1]), orders),
            "execs": (await self._library.command("HLEN", keys(pool)[2]), executions),
        }
        return [
            f"pool {name}: is {is_!r}, should be {should!r}"
            for name, (is_, should) in said.items()
            if is_ != should
        ]

    async def _call(self, function: str, pool: PoolName, *args: bytes | str) -> Any:  # noqa: ANN401 - a reply is what the function says
        return await self._library.call(function, keys(pool), *args)


def change_of(entry_id: str, fields: Mapping[bytes, bytes]) -> Change:
    """Read an entry of the changes; raises LedgerCorrupt."""
    values = {name.decode(): value.decode() for name, value in fields.items()}
    try:
        return msgspec.convert(values | {"id": entry_id}, Change, strict=False)
    except msgspec.ValidationError as error:
        raise LedgerCorrupt(f"changes {entry_id}: {error}") from None

"""Steps tried on states in a real store, many in a call, at a moment and on a server that the test names.

The library that runs is the shipped one, with two pieces of its source held still (the clock, the
server's name) and trial.lua joined behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from redis import Redis
from redis.connection import Connection

from quota import library
from quota.decision import PoolName, Side, Verdict, Violation
from quota.journal import Entry
from quota.memory import Book
from quota.pool import Change, Execution, Order, Pool
from quota.store.record import FRAME, keys
from tests.agreement.state import fields_of
from tests.agreement.steps import Call, words
from tests.servers import Store

SERVER = "memory"
"""What both sides call their server."""

_STILL = {
    "local function now_ms()": "local trial_ms\nlocal function now_ms()\n"
    "  if trial_ms then return trial_ms end",
    "  format, find, match = string.format": f"  run_id = '{SERVER}'\n  format, find, match = string.format",
}
_SIDES = {None: 0, Side.BUY: 1, Side.SELL: 2}
_VERDICTS = {verdict: place for place, verdict in enumerate((None, *Verdict))}
_BITS = {kind: 1 << place for place, kind in enumerate(Violation)}
_RESERVED, _SPENT = 128, 256
_PRIVATE = (b"last_change", b"published")

Flat = tuple[bytes | str, ...]
Kept = tuple[Flat, Flat, Flat, Flat]
"""The four keys that a state lives in, as the commands take them that write them; the streams begin anew."""


def source(of: str = library.SOURCE) -> str:
    """Join what tries to the library, and hold its clock still."""
    for piece, still in _STILL.items():
        assert of.count(piece) == 1, piece
        of = of.replace(piece, still)
    return of + "\n" + (Path(__file__).parent / "trial.lua").read_text()


class Bench:
    """A store on which states are tried. ``ask`` sends, ``answer`` waits: the model works in between."""

    def __init__(self, store: Store, of: str = library.SOURCE) -> None:
        with Redis.from_url(store.url) as client:
            client.function_load(source(of), replace=True)
        self.link: Any = Connection(host="127.0.0.1", port=store.port)  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        self._tried: dict[tuple[Call, ...], Flat] = {}

    def ask(self, pool: PoolName, now_ms: int, kept: Kept, steps: tuple[Call, ...]) -> None:
        """Have these steps tried on a state, each by itself."""
        if steps not in self._tried:
            self._tried[steps] = tuple(_counted(words(step) for step in steps))
        names = keys(pool)
        self.link.send_command("FCALL", "quota_try", 6, *names, now_ms, *_counted(kept), *self._tried[steps])

    def answer(self) -> list[Any]:
        """Wait for what came of the first steps that were not answered yet: reply and keys of each."""
        return list(self.link.read_response())

    def close(self) -> None:
        """Let go of the store."""
        self.link.disconnect()


def _counted(lists: Iterable[Sequence[bytes | str]]) -> Iterable[bytes | str]:
    for items in lists:
        yield str(len(items))
        yield from items


# What the model has, as a store keeps it.


def hash_of(pool: Pool) -> dict[bytes, bytes]:
    """Write a pool's hash, but for the ids of its changes."""
    fields = fields_of(pool)
    fields["frame"] = "\n".join(fields[name] for name in FRAME)
    return {name.encode(): text.encode() for name, text in fields.items()}


@lru_cache(maxsize=65_536)
def order_record(order: Order) -> bytes:
    """Write an order's record."""
    bits = sum(_BITS[kind] for kind in order.violations)
    bits += _RESERVED * order.reserved + _SPENT * order.spent
    values = (_SIDES[order.side], order.price_milli, order.quantity, _VERDICTS[order.verdict], order.seq)
    rest = (order.filled, order.value_milli, order.top_milli, int(order.off_book), bits)
    return msgspec.msgpack.encode(values + rest)[1:]


def execution_record(execution: Execution, order: int | str) -> bytes:
    """Write an execution's record; ``order`` is what it calls its order, a seq or an id."""
    side = _SIDES[execution.side] + 2 * execution.busted
    return msgspec.msgpack.encode((order, side, execution.price_milli, execution.quantity))[1:]


def calls_by_id(record: bytes) -> bool:
    """Whether an execution's record calls its order by its id."""
    return isinstance(msgspec.msgpack.decode(b"\x94" + record)[0], str)


def kept_of(book: Book, by_id: frozenset[str]) -> Kept:
    """Write a model's book as four lists; ``by_id`` are the executions that call their order by its id."""
    assert book.pool is not None
    fields = hash_of(book.pool) | dict.fromkeys(_PRIVATE, b"0-0")
    return (
        _flat(fields),
        _flat({name: order_record(order) for name, order in book.orders.items()}),
        _flat(executions_of(book, by_id)),
        tuple(word for name, lapses_ms in book.holds.items() for word in (str(lapses_ms), name)),
    )


def executions_of(book: Book, by_id: frozenset[str]) -> dict[str, bytes]:
    """Write the executions' records."""
    return {
        name: execution_record(trade, trade.order_id if name in by_id else book.orders[trade.order_id].seq)
        for name, trade in book.executions.items()
    }


def _flat(pairs: Mapping[Any, bytes]) -> Flat:
    return tuple(word for pair in pairs.items() for word in pair)


# What a store has, against what the model has.


def differs(book: Book, found: Sequence[Any]) -> str:
    """Name the first key in which a store is not as the model; empty where none is."""
    pool, orders, execs, holds, changes, journal = found
    assert book.pool is not None
    fields = dict(zip(pool[::2], pool[1::2], strict=True))
    last = fields.pop(b"last_change")
    del fields[b"published"]
    if fields.get(b"next_lapse") == b"0":
        del fields[b"next_lapse"]
    if fields != hash_of(book.pool) | (
        {b"next_rate": b" ".join(map(str.encode, book.next_rate))} if book.next_rate[0] else {}
    ):
        return "pool"
    records = {name.encode(): order_record(order) for name, order in book.orders.items()}
    if dict(zip(orders[::2], orders[1::2], strict=True)) != records:
        return "orders"
    theirs = dict(zip(execs[::2], execs[1::2], strict=True))
    ours = executions_of(book, by_id_of(execs))
    if theirs != {name.encode(): record for name, record in ours.items()}:
        return "execs"
    moments = {name: int(lapses_ms) for name, lapses_ms in zip(holds[::2], holds[1::2], strict=True)}
    if moments != {name.encode(): lapses_ms for name, lapses_ms in book.holds.items()}:
        return "holds"
    if last != (changes[-1][0] if changes else b"0-0") or [it[1] for it in changes] != [
        _change(change) for change in book.changes
    ]:
        return "changes"
    return "" if journal == [_entry(entry) for entry in book.journal] else "journal"


def by_id_of(execs: Sequence[bytes]) -> frozenset[str]:
    """Tell which executions a store has call their order by its id."""
    return frozenset(
        name.decode() for name, record in zip(execs[::2], execs[1::2], strict=True) if calls_by_id(record)
    )


def _change(change: Change) -> list[bytes]:
    values = (change.kind, change.was, change.now, change.seq, change.balance_fen, change.limit_fen)
    names = ("kind", "was", "now", "seq", "balance_fen", "limit_fen", "time_ms", "reason")
    return _pairs(names, (*values, change.time_ms, change.reason))


def _entry(entry: Entry) -> list[Any]:
    names = ["event", "verdict", "balance_fen", "status", "phase", "time_ms"]
    values: list[object] = [entry.event, entry.verdict or "", entry.balance_fen, entry.status]
    values += [entry.phase, entry.time_ms]
    if entry.violations:
        names, values = [*names, "violations"], [*values, ",".join(entry.violations)]
    if entry.is_act:
        names += ["reason", "user", "host", "was_fen", "limit_fen", "reopen"]
        values += [entry.reason, entry.user, entry.host, entry.was_fen, entry.limit_fen, int(entry.reopen)]
    return [b"%d-0" % entry.seq, _pairs(names, values)]


def _pairs(names: Sequence[str], values: Sequence[object]) -> list[bytes]:
    pairs = zip(names, values, strict=True)
    return [word for name, value in pairs for word in (name.encode(), str(value).encode())]

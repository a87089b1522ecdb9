"""The journal of a pool: one entry per number, written by the ledger, read by those who check.

An event stands in it as one line of words: its name, its required fields in the order of the
contract, then the optional ones that it has as ``name=value``. No field but the symbol can hold a
space, and that one is percent-encoded, so the line reads back. A reservation ends in ``hold_ms=…``,
0 where it has no hold; what becomes of it is a line of its own, ``lapsed ORDER_ID``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import assert_never
from urllib.parse import quote, unquote

import msgspec

from quota.decision import Phase, Status, Verdict, Violation
from quota.errors import LedgerCorrupt
from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected, checked_id

ENDS = ("confirmed", "lapsed", "released")
"""What becomes of a reservation: it was sent, it was not confirmed in time, it was given back."""

_HOLD = re.compile(r"new .* hold_ms=([0-9]+)")
_OPTIONAL = ("source", "symbol", "time")
_REQUIRED: Mapping[str, tuple[type[Event], tuple[str, ...]]] = {
    "new": (NewOrder, ("order_id", "side", "price", "quantity")),
    "cancelled": (Cancelled, ("order_id",)),
    "rejected": (Rejected, ("order_id",)),
    "fill": (Fill, ("order_id", "exec_id", "side", "price", "quantity")),
    "bust": (Bust, ("order_id", "exec_id", "side", "price", "quantity")),
}


class End(msgspec.Struct, frozen=True):
    """What became of a reservation."""

    how: str
    order_id: str

    def line(self) -> str:
        """Write it as the journal keeps it."""
        return f"{self.how} {self.order_id}"


def held_line(event: NewOrder, hold_ms: int) -> str:
    """Write a reservation as the journal keeps it; ``hold_ms`` is 0 where it has no hold."""
    return f"{line(event)} hold_ms={hold_ms}"


def hold_ms_of(text: str) -> int | None:
    """Read the hold time of a reservation's line, 0 for none; None where the line is not marked as one."""
    match = _HOLD.fullmatch(text)
    return int(match[1]) if match else None


def line(event: Event) -> str:
    """Write an event as the journal keeps it."""
    match event:
        case NewOrder():
            text = f"new {event.order_id} {event.side} {event.price} {event.quantity}"
        case Cancelled():
            text = f"cancelled {event.order_id}"
        case Rejected():
            text = f"rejected {event.order_id}"
        case Fill():
            text = f"fill {event.order_id} {event.exec_id} {event.side} {event.price} {event.quantity}"
        case Bust():
            text = f"bust {event.order_id} {event.exec_id} {event.side} {event.price} {event.quantity}"
        case _:
            assert_never(event)
    if event.source:
        text += f" source={event.source}"
    if isinstance(event, NewOrder) and event.symbol:
        text += f" symbol={quote(event.symbol)}"
    return f"{text} time={event.time}" if event.time else text


def read_line(text: str) -> Event | End:
    """Read a line back; raises LedgerCorrupt when it is none of ours."""
    name, *words = text.split(" ")
    try:
        if name in ENDS:
            (order_id,) = words
            return End(name, checked_id("order_id", order_id))
        kind, required = _REQUIRED[name]
        fields = dict(zip(required, words, strict=False))
        for word in words[len(required) :]:
            key, _, value = word.partition("=")
            fields[key] = unquote(value) if key == "symbol" else value
        return msgspec.convert(fields, kind, strict=False)
    except (KeyError, ValueError) as error:
        raise LedgerCorrupt(f"journal: no event in {text[:120]!r} ({error})") from None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry: what happened, and the pool after it.

    ``event`` is a line, or the name of an operator's act; the fields of acts are empty for lines.
    """

    seq: int
    event: str
    verdict: Verdict | None
    balance_fen: int
    status: Status
    phase: Phase
    time_ms: int
    violations: tuple[Violation, ...] = ()
    reason: str = ""
    user: str = ""
    host: str = ""
    was_fen: int = 0
    limit_fen: int = 0
    reopen: bool = False

    @property
    def is_act(self) -> bool:
        """Whether an operator did this."""
        return self.event in {"halt", "resume", "limit"}

    @classmethod
    def read(cls, entry_id: str, fields: Mapping[str, str]) -> Entry:
        """Read a stream entry; raises LedgerCorrupt when it is none of ours."""
        values: dict[str, object] = dict(fields)
        values["seq"] = entry_id.partition("-")[0]
        values["verdict"] = fields.get("verdict") or None
        values["violations"] = [word for word in fields.get("violations", "").split(",") if word]
        try:
            return msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError as error:
            raise LedgerCorrupt(f"journal {entry_id}: {error}") from None

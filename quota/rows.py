"""Events and entries as the functions of the store take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import msgspec

from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected
from quota.journal import End, Entry, hold_ms_of, line, read_line
from quota.pool import Pool

Row = tuple[object, ...]

_TERMS = ("trading_day", "limit_fen", "rate", "schedule", "admission", "origin", "halted", "phase")
_OF_ACT = ("reason", "user", "host", "was_fen", "limit_fen", "reopen")


def packed(events: Sequence[Event]) -> bytes:
    """Pack events as ``quota_apply`` takes them."""
    return msgspec.msgpack.encode([_row(event) for event in events])


def packed_terms(terms: Pool) -> bytes:
    """Pack a pool before its first entry as ``quota_replay`` takes it."""
    fields: dict[str, object] = {name: getattr(terms, name) for name in _TERMS}
    fields["levels"] = " ".join(str(level) for level in terms.levels)
    fields["resumes_in_opening"], fields["began"] = int(terms.resumes_in_opening), int(terms.began)
    return msgspec.msgpack.encode(fields)


def packed_entries(entries: Sequence[Entry]) -> bytes:
    """Pack entries as ``quota_replay`` takes them; raises LedgerCorrupt for a line that is none of ours."""
    return msgspec.msgpack.encode([_entry_row(entry) for entry in entries])


def _entry_row(entry: Entry) -> dict[str, object]:
    fields: dict[str, object] = {
        "event": (entry.event, "", "", 0, 0, "", "", entry.event) if entry.is_act else _line_row(entry),
        "text": entry.event,
        "seq": entry.seq,
        "verdict": entry.verdict or "",
        "balance_fen": entry.balance_fen,
        "status": entry.status,
        "phase": entry.phase,
        "time_ms": entry.time_ms,
        "violations": ",".join(entry.violations),
    }
    if entry.is_act:
        fields |= {name: getattr(entry, name) for name in _OF_ACT}
    return fields


def _line_row(entry: Entry) -> Row:
    said = read_line(entry.event)
    if isinstance(said, End):
        return (said.how, said.order_id, "", 0, 0, "", "", entry.event)
    row = _row(said)
    if entry.seq:  # it was taken in on its day
        row = (*row[:6], "", row[7])
    return row if (hold_ms := hold_ms_of(entry.event)) is None else (*row, hold_ms)


def _row(event: Event) -> Row:
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

"""The journal and the changes of the pools as lines to read, newest first."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from quota.clock import MarketClock
from quota.decision import PoolName, Status, Verdict
from quota.errors import LedgerCorrupt
from quota.events import Bust, Fill, NewOrder
from quota.journal import End, Entry, read_line
from quota.money import fen_to_yuan, price_text
from quota.pool import Change
from quota.standing import Tone

_TOLD = {"status", "level", "limit", "rate", "day"}
_REASONS = {"clock": "by the clock", "opened": ""}


class EntryLine(msgspec.Struct, frozen=True):
    """One entry of a journal: ``what`` happened to ``order``, and what was decided."""

    pool: PoolName
    seq: int
    at_ms: int
    what: str
    order: str
    verdict: str
    tone: Tone
    balance_fen: int


class ChangeLine(msgspec.Struct, frozen=True):
    """One change of a pool: what it became, and why."""

    pool: PoolName
    at_ms: int
    kind: str
    text: str
    reason: str
    tone: Tone


def market_ms(clock: MarketClock, server_ms: int) -> int:
    """Translate the store's milliseconds into the market's, since the epoch."""
    return round(clock.at_ms(server_ms).timestamp() * 1000)


def entry_line(pool: PoolName, entry: Entry, clock: MarketClock) -> EntryLine:
    """Write a journal entry for reading."""
    what, order = _act(entry) if entry.is_act else _event(entry.event)
    verdict, tone = _verdict(entry)
    return EntryLine(
        pool, entry.seq, market_ms(clock, entry.time_ms), what, order, verdict, tone, entry.balance_fen
    )


def _act(entry: Entry) -> tuple[str, str]:
    limit = f" {fen_to_yuan(entry.limit_fen)} yuan" if entry.event == "limit" else ""
    return f"{entry.event}{limit}", f"{entry.user}@{entry.host}: {entry.reason}"


def _event(text: str) -> tuple[str, str]:
    try:
        event = read_line(text)
    except LedgerCorrupt:
        return text, ""
    if isinstance(event, End):
        return event.how, event.order_id
    word = str(type(event).__struct_config__.tag)
    order = f"{event.order_id} {event.source}" if event.source else event.order_id
    if not isinstance(event, NewOrder | Fill | Bust):
        return word, order
    amount = f"{event.side} {event.quantity:,} at {price_text(event.price_milli)}"
    if isinstance(event, NewOrder):
        return f"{amount} {event.symbol}" if event.symbol else amount, order
    return f"{word}: {amount}", order


def _verdict(entry: Entry) -> tuple[str, Tone]:
    if entry.violations:
        return f"counted; {', '.join(entry.violations).replace('_', ' ')}", Tone.WATCH
    if entry.is_act:
        return "done", Tone.WATCH
    if entry.verdict is None:
        return "counted", Tone.QUIET
    if entry.verdict is Verdict.ACCEPTED:
        return "accepted", Tone.OK
    return f"refused: {entry.verdict.replace('_', ' ')}", Tone.TROUBLE


def change_lines(pool: PoolName, changes: Sequence[Change], clock: MarketClock) -> list[ChangeLine]:
    """Write a pool's changes for reading, those of the clock alone left out, newest first."""
    told = [change for change in reversed(changes) if change.kind in _TOLD and change.was not in {"", "0"}]
    rising = [change for change in reversed(changes) if change.kind == "level" and change.was == "0"]
    lines = [_change_line(pool, change, clock) for change in (*told, *rising)]
    return sorted(lines, key=lambda line: -line.at_ms)


def _change_line(pool: PoolName, change: Change, clock: MarketClock) -> ChangeLine:
    text, tone = _told(change)
    reason = _REASONS.get(change.reason, change.reason)
    return ChangeLine(pool, market_ms(clock, change.time_ms), change.kind, text, reason, tone)


def _told(change: Change) -> tuple[str, Tone]:
    match change.kind:
        case "status":
            stopped = {Status.EXHAUSTED, Status.SUSPENDED, Status.HALTED}
            tone = Tone.TROUBLE if change.now in stopped else Tone.OK
            return f"{change.now}, was {change.was}", tone
        case "level":
            rose = int(change.now) > int(change.was)
            text = f"{change.now} % used" if rose else f"below {change.was} % used again"
            return text, Tone.WATCH if rose else Tone.OK
        case "limit":
            was, now = fen_to_yuan(int(change.was)), fen_to_yuan(int(change.now))
            return f"limit {now} yuan, was {was}", Tone.WATCH
        case "rate":
            return f"rate {change.now}, was {change.was}", Tone.QUIET
        case _:
            return f"day {change.now} opened", Tone.QUIET

"""The journal and the changes of the pools as lines to read, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from quota.clock import MarketClock
from quota.decision import PoolName, Status, Verdict
from quota.errors import LedgerCorrupt
from quota.events import Bust, Cancelled, Fill, NewOrder, Rejected
from quota.journal import End, Entry, read_line
from quota.money import price_text
from quota.page.standing import Tone
from quota.pool import Change

_TOLD = {"status", "level", "limit", "rate", "day"}
_REASONS = {"clock": "by the clock", "opened": ""}
_EVENTS = {
    "new": "order",
    "cancelled": "cancel of order",
    "rejected": "rejection of order",
    "fill": "trade of order",
    "bust": "busted trade of order",
    "lapsed": "lapse of reservation",
    "released": "release of reservation",
    "confirmed": "confirmation of reservation",
}
_UNITS = (
    ((10**10, "亿"), (10**6, "万"), (100, "元")),
    ((10**11, "bn RMB"), (10**8, "m RMB"), (100, "RMB")),
)
_DECIMALS = 4


class EntryLine(msgspec.Struct, frozen=True):
    """One entry of a journal: ``what`` happened to ``order``, and what was decided.

    ``amount`` is a quantity and a price, or an operator's limit; what there is not is empty.
    """

    pool: PoolName
    seq: int
    at_ms: int
    what: str
    amount: str
    symbol: str
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


def limit_told(fen: int) -> str:
    """Write a limit in the units people use, in both languages; one that is not round in yuan."""
    told = []
    for units in _UNITS:
        one, unit = next(((one, unit) for one, unit in units if fen >= one), units[-1])
        if Decimal(fen) % (Decimal(one) / 10**_DECIMALS):
            return f"{Decimal(fen) / 100:,.2f} yuan"
        whole = Decimal(fen) / one
        told.append(f"{whole.normalize() if whole % 1 else int(whole):,} {unit}")
    return " = ".join(told)


def entry_line(pool: PoolName, entry: Entry, clock: MarketClock) -> EntryLine:
    """Write a journal entry for reading."""
    what, amount, symbol, order = _act(entry) if entry.is_act else _event(entry.event)
    verdict, tone = _verdict(entry)
    return EntryLine(
        pool=pool,
        seq=entry.seq,
        at_ms=market_ms(clock, entry.time_ms),
        what=what,
        amount=amount,
        symbol=symbol,
        order=order,
        verdict=verdict,
        tone=tone,
        balance_fen=entry.balance_fen,
    )


def _act(entry: Entry) -> tuple[str, str, str, str]:
    limit = limit_told(entry.limit_fen) if entry.event == "limit" else ""
    return entry.event, limit, "", f"{entry.user}@{entry.host}: {entry.reason}"


def _event(text: str) -> tuple[str, str, str, str]:
    try:
        event = read_line(text)
    except LedgerCorrupt:
        return text, "", "", ""
    if isinstance(event, End):
        return f"reservation {event.how}", "", "", event.order_id
    order = f"{event.order_id} {event.source}" if event.source else event.order_id
    match event:
        case NewOrder():
            what = f"{event.side} order"
        case Fill():
            what = f"{event.side} trade"
        case Bust():
            what = f"{event.side} trade busted"
        case Cancelled():
            return "order cancelled", "", "", order
        case Rejected():
            return "order rejected", "", "", order
    symbol = event.symbol if isinstance(event, NewOrder) else ""
    return what, f"{event.quantity:,} at {price_text(event.price_milli)}", symbol, order


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
    acts = {change.seq for change in changes if change.kind == "limit" or Status.HALTED in _words(change)}
    lines = [_change_line(pool, change, clock, act=change.seq in acts) for change in (*told, *rising)]
    return sorted(lines, key=lambda line: -line.at_ms)


def _words(change: Change) -> set[str]:
    return {change.was, change.now} if change.kind == "status" else set()


def _change_line(pool: PoolName, change: Change, clock: MarketClock, *, act: bool) -> ChangeLine:
    """Write a change; of an operator's ``act`` the reason is told as it was given."""
    text, tone = _told(change)
    word, space, order = change.reason.partition(" ")
    event = _EVENTS[word] + space + order if word in _EVENTS and not act else change.reason
    reason = _REASONS.get(change.reason, event)
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
            was, now = limit_told(int(change.was)), limit_told(int(change.now))
            return f"limit {now}, was {was}", Tone.WATCH
        case "rate":
            return f"rate {change.now}, was {change.was}", Tone.QUIET
        case _:
            return f"day {change.now} opened", Tone.QUIET

"""Facts and requests from the market: frozen, validated when built, whoever builds them.

``new`` asks for a decision; the four others are facts that apply whatever the pool's status.
The rules of the fields stand here once and hold for MQTT, for tests and for tools alike.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache

import msgspec

from quota.decision import Side
from quota.money import BOUND, price_milli

MARKET_TZ = timezone(timedelta(hours=8), "UTC+8")
"""Shanghai and Hong Kong, without daylight saving."""

_SYMBOL_MAX = 64
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def checked_id(field: str, text: str) -> str:
    """Return ``text`` if it is a legal id; raise ValueError naming ``field`` otherwise."""
    if _ID.fullmatch(text) is None:
        raise ValueError(f"{field}: must be 1 to 64 characters of A-Z a-z 0-9 . _ : -")
    return text


@lru_cache(maxsize=16_384)
def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time with an offset; raise ValueError naming the field otherwise.

    Digits beyond the microsecond are dropped. Remembered, because an event's time is read when it
    is validated, when it is packed and when its lag is measured.
    """
    if _TIME.fullmatch(text) is None:
        raise ValueError("time: must be RFC 3339 with an offset")
    try:
        at = datetime.fromisoformat(text.upper())
        at.astimezone(MARKET_TZ)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"time: must be RFC 3339 with an offset ({error})") from None
    return at


def check_number(epoch: str, sequence: int, least: int = 1) -> None:
    """Raise ValueError naming the field unless an event may be numbered like that."""
    checked_id("epoch", epoch)
    if not least <= sequence <= BOUND:
        raise ValueError(f"sequence: must be an integer from {least} to {BOUND}")


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """What every event carries: the order it speaks of, who says so and when it happened.

    A source may number its events: ``sequence`` counts from 1 in each ``epoch`` of its own.
    """

    order_id: str
    source: str = ""
    time: str = ""
    epoch: str = ""
    sequence: int = 0

    def __post_init__(self) -> None:
        checked_id("order_id", self.order_id)
        if self.source and checked_id("source", self.source) == "-":
            raise ValueError("source: '-' alone is no source")
        if self.time:
            parse_time(self.time)
        if self.epoch or self.sequence:
            check_number(self.epoch, self.sequence)

    @property
    def happened_at(self) -> datetime | None:
        """The event's own time, where it has one."""
        return parse_time(self.time) if self.time else None

    @property
    def market_date(self) -> date | None:
        """The date of the event's own time in UTC+8, where it has one."""
        at = self.happened_at
        return at.astimezone(MARKET_TZ).date() if at else None


class _Amount(_Event, frozen=True, kw_only=True):
    """An event with an amount: a price per unit in the pool's currency, and whole units."""

    side: Side
    price: str
    quantity: int

    def __post_init__(self) -> None:
        super().__post_init__()
        price_milli(self.price)
        if not 0 < self.quantity <= BOUND:
            raise ValueError(f"quantity: must be a positive integer of at most {BOUND}")

    @property
    def price_milli(self) -> int:
        """The price in thousandths of its currency."""
        return price_milli(self.price)


class NewOrder(_Amount, frozen=True, kw_only=True, tag="new"):
    """An order that asks to be let in. Its price is its limit."""

    symbol: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.symbol) > _SYMBOL_MAX or not self.symbol.isprintable():
            raise ValueError(f"symbol: must be at most {_SYMBOL_MAX} printable characters")


class Cancelled(_Event, frozen=True, kw_only=True, tag="cancelled"):
    """What is left of the order is off the book."""


class Rejected(_Event, frozen=True, kw_only=True, tag="rejected"):
    """The exchange across the border refused the order."""


class _Execution(_Amount, frozen=True, kw_only=True):
    """An event about one trade of an order."""

    exec_id: str

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_id("exec_id", self.exec_id)


class Fill(_Execution, frozen=True, kw_only=True, tag="fill"):
    """A part of the order traded at ``price``."""


class Bust(_Execution, frozen=True, kw_only=True, tag="bust"):
    """That trade is undone; its quantity does not return to the book."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="heartbeat"):
    """How far a source has counted in an epoch: 0 before its first event. Nothing of the market."""

    epoch: str
    sequence: int
    source: str = ""

    def __post_init__(self) -> None:
        check_number(self.epoch, self.sequence, least=0)
        if self.source and checked_id("source", self.source) == "-":
            raise ValueError("source: '-' alone is no source")


class Numbers(msgspec.Struct, frozen=True, array_like=True):
    """Numbers of a source that have come, from the first to the last.

    Where the first is beyond the last, none has: a heartbeat only tells how far they go.
    """

    source: str
    epoch: str
    first: int
    last: int


Event = NewOrder | Cancelled | Rejected | Fill | Bust
OrderEvent = NewOrder | Cancelled | Rejected | Heartbeat
ExecutionEvent = Fill | Bust | Heartbeat

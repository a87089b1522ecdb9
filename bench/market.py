"""Orders and fills to measure with: the same for every round but for their ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import count

import msgspec

from bench.stores import DAY
from quota.decision import PoolName, Side
from quota.events import Cancelled, Event, Fill, NewOrder

_OPENS = datetime.fromisoformat(f"{DAY}T09:31:00.000+08:00")
_numbers = count()


def fresh_ids(number: int) -> list[str]:
    """Make ids of 16 characters that nobody has used."""
    return [f"gw{n % 4 + 1}-{n:012d}" for n in (next(_numbers) for _ in range(number))]


def _time(order_id: str, later_ms: int) -> str:
    """When it happened: hardly any two events of a day have one moment in common."""
    at = _OPENS + timedelta(milliseconds=3 * int(order_id[-12:]) % 12_000_000 + later_ms)
    return at.isoformat(timespec="milliseconds")


def new(order_id: str) -> NewOrder:
    """An order as a gateway sends it."""
    return NewOrder(
        order_id=order_id,
        side=Side.SELL if order_id[-1] in "369" else Side.BUY,
        price="10.25",
        quantity=200,
        source=order_id[:3],
        time=_time(order_id, 0),
    )


def fill(order_id: str, exec_id: str, quantity: int = 100) -> Fill:
    """A part of an order traded, a little below its limit."""
    side = Side.SELL if order_id[-1] in "369" else Side.BUY
    return Fill(
        order_id=order_id,
        exec_id=exec_id,
        side=side,
        price="10.24",
        quantity=quantity,
        source=order_id[:3],
        time=_time(order_id, 1),
    )


def cancelled(order_id: str) -> Cancelled:
    """What is left of an order is off the book."""
    return Cancelled(order_id=order_id, source=order_id[:3], time=_time(order_id, 2))


def session(events: int) -> list[Event]:
    """Half ``new``, three eighths fills, an eighth cancels; each fact a few orders behind its order."""
    orders = fresh_ids(-(-events // 2))
    stream: list[Event] = []
    for place, order_id in enumerate(orders):
        earlier = orders[place - 5 if place >= 5 else place]
        stream.append(new(order_id))
        stream.append(cancelled(earlier) if place % 4 == 3 else fill(earlier, f"x{order_id[1:]}"))
    return stream[:events]


def afterwards(orders: Sequence[str]) -> list[Event]:
    """What comes later in a day for orders long in the pool: a new one, two fills, a cancel for each."""
    stream: list[Event] = []
    for order_id, fresh in zip(orders, fresh_ids(len(orders)), strict=True):
        stream += [new(fresh), fill(order_id, f"a{fresh[1:]}", 50), fill(order_id, f"b{fresh[1:]}", 50)]
        stream.append(cancelled(order_id))
    return stream


def messages(pool: PoolName, events: Sequence[Event], size: int) -> Iterator[tuple[str, bytes]]:
    """Topic and payload of each message, with ``size`` events in each: the source stands in the topic."""
    parts: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        kind = "fills" if isinstance(event, Fill) else "orders"
        topic = f"connect/{pool}/{kind}/{event.source}"
        parts[topic].append(event)
        if len(parts[topic]) == size:
            yield topic, _payload(parts.pop(topic))
    for topic, part in parts.items():
        yield topic, _payload(part)


def _payload(events: Sequence[Event]) -> bytes:
    """Write events as gateways do: fields in their order, no source, because the topic names it."""
    rows = [msgspec.to_builtins(event) for event in events]
    written = [{name: row[name] for name in row if name != "source" and row[name] != ""} for row in rows]
    return msgspec.json.encode(written[0] if len(written) == 1 else written)

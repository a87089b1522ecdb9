"""The steps of which the small world's sequences are made: each is taken by the model and by a store.

``play`` takes a step in the model and writes what the store's function must reply; ``words`` writes
the call of that function. ``Later`` and ``Elsewhere`` call nothing: they only move the world.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar, assert_never

import msgspec
from msgspec.structs import astuple

from quota.decision import Decision, Outcome, PoolName, Side
from quota.doubt import Claim
from quota.errors import ConfigError, LedgerCorrupt
from quota.events import Event, NewOrder
from quota.ledger import Act, day_ms
from quota.memory import MemoryLedger
from quota.pool import Opening
from quota.rows import packed
from quota.rules import checked_verdict
from tests.agreement.state import DAY, NEVER_MS
from tests.agreement.twin import reserved

T = TypeVar("T")


class Told(NamedTuple):
    """Events that come over MQTT, in one call."""

    events: tuple[Event, ...]


class Asked(NamedTuple):
    """An order that a gateway reserves; ``hold_ms`` 0 is none."""

    order: NewOrder
    hold_ms: int = 0


class Returned(NamedTuple):
    """A reservation that its gateway gives back."""

    order_id: str


class Checked(NamedTuple):
    """A question that changes nothing."""

    side: Side


class Acted(NamedTuple):
    """An operator's act."""

    act: Act


class Looked(NamedTuple):
    """A tick of the daemon's."""


class Rated(NamedTuple):
    """A rate that is heard."""

    rate: str


class Attested(NamedTuple):
    """The word of a daemon that knows the day up to a number."""

    seq: int = 0


class Opened(NamedTuple):
    """A day that a daemon opens, or finds open."""

    opening: Opening


class Later(NamedTuple):
    """Time passes unnoticed, by so many of the world's moments, until its last at most; it may go back."""

    moments: int = 1


class Elsewhere(NamedTuple):
    """The keys come to stand on another server."""


Call = Told | Asked | Returned | Checked | Acted | Looked | Rated | Attested | Opened
Step = Call | Later | Elsewhere
Words = tuple[bytes | str, ...]


def words(step: Call) -> Words:  # noqa: PLR0911 - one for each kind of step
    """Write the function and its arguments."""
    match step:
        case Told(events):
            return "quota_apply", packed(events)
        case Asked(order, hold_ms):
            fixed = (order.order_id, order.side, order.price, str(order.quantity), order.source or "-")
            return ("quota_reserve", *fixed, *((str(hold_ms),) if hold_ms else ()))
        case Returned(order_id):
            return "quota_release", order_id
        case Checked(side):
            return "quota_check", side
        case Acted(act):
            return "quota_operate", msgspec.msgpack.encode(act)
        case Looked():
            return "quota_tick", ""
        case Rated(rate):
            return "quota_rate", DAY, rate
        case Attested(seq):
            return "quota_attest", msgspec.msgpack.encode([Claim(seq, 0, NEVER_MS)])
        case Opened(opening):
            return "quota_open", _packed(opening)
        case _:
            assert_never(step)


def _packed(opening: Opening) -> bytes:
    """Pack an opening as RedisLedger does."""
    fields = msgspec.to_builtins(opening)
    fields["levels"] = " ".join(map(str, opening.levels))
    flags = {name: int(fields[name]) for name in ("resumes_in_opening", "open_late")}
    starts_ms, ends_ms = day_ms(opening.trading_day)
    return msgspec.msgpack.encode(fields | flags | {"starts_ms": starts_ms, "ends_ms": ends_ms})


class Played(NamedTuple):
    """What a step came to in the model: the store's reply, and the decisions where it decided any."""

    reply: object
    decisions: tuple[Decision, ...] = ()


def play(ledger: MemoryLedger, pool: PoolName, step: Call) -> Played:  # noqa: PLR0911 - one for each kind
    """Take a step in the model."""
    match step:
        case Told(events):
            decisions = tuple(at_once(ledger.apply(pool, events)))
            return Played(decisions, decisions)
        case Asked(order, hold_ms):
            decision = ledger.decide(pool, order, hold_ms or None)
            dead = decision.outcome is Outcome.DEAD
            return Played(b"QUOTAINVALID" if dead else reserved(decision), (decision,))
        case Checked(side):
            seen = ledger.seen(pool)
            assert seen is not None
            verdict = checked_verdict(seen, side)
            return Played(_bytes([verdict, seen.balance_fen, seen.seq, seen.status, seen.phase]))
        case Looked():
            return Played(at_once(ledger.tick(pool)).server_ms)
        case Rated(rate):
            return Played(_bytes([at_once(ledger.set_rate(pool, DAY, rate))]))
        case Attested(seq):
            return Played(_bytes(list(astuple(at_once(ledger.attest(pool, [Claim(seq, 0, NEVER_MS)]))))))
        case Returned() | Acted() | Opened():
            return Played(_may_be_refused(ledger, pool, step))
        case _:
            assert_never(step)


def _may_be_refused(ledger: MemoryLedger, pool: PoolName, step: Returned | Acted | Opened) -> object:
    try:
        if isinstance(step, Returned):
            return _bytes(list(astuple(at_once(ledger.release(pool, step.order_id)))))
        if isinstance(step, Acted):
            return _bytes(["done", at_once(ledger.operate(pool, step.act))])
        opened = at_once(ledger.open_day(pool, step.opening))
        return _bytes(["opened" if opened else "already", step.opening.trading_day])
    except LedgerCorrupt:
        return b"QUOTAINVALID"
    except ConfigError as refusal:
        return _bytes(["refused", str(refusal).removeprefix(f"{pool}: ")])


def replied(step: Call, reply: Any) -> object:  # noqa: ANN401 - as the function replies
    """Read a store's reply as ``play`` writes it."""
    if isinstance(step, Told) and isinstance(reply, bytes):
        return tuple(msgspec.msgpack.decode(reply, type=list[Decision]))
    if isinstance(step, Looked) and isinstance(reply, list):
        return int(reply[0])
    if isinstance(reply, bytes):
        return reply.partition(b" ")[0]
    return reply


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """Carry out a call that waits for nothing."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return] # what a coroutine returns is not typed there
    raise AssertionError("the model waits for nothing")


def _bytes(items: list[Any]) -> list[Any]:
    return [item.encode() if isinstance(item, str) else item for item in items]

"""MQTT payloads to events, and what we publish to payloads: pure functions over bytes.

The fast path is msgspec's typed decoder alone. Only where it objects is a payload taken apart
again, to say of which element which field breaks which rule. Nothing here raises for what a
sender wrote: it becomes a mistake.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import msgspec

from quota.decision import PoolName
from quota.events import Event, ExecutionEvent, OrderEvent, checked_id
from quota.feed import Alert, DeadLetter, Message, Mistake, RateNotice, Replies, StatusReport
from quota.money import BOUND, rate_e5, rate_text

ARRAY_MAX: Final = 1_000
"""How many events an array may hold."""

DEAD_BYTES: Final = 64 * 1024
"""How much of a payload a dead letter repeats."""

_QUOTED: Final = 40
"""How much of a sender's word a reason repeats."""


class Decoded(msgspec.Struct, frozen=True):
    """What one message says.

    ``places`` holds the index of each event in the payload's array, and is empty where they are
    all there in order.
    """

    pool: PoolName | None = None
    events: Sequence[Event] = ()
    places: Sequence[int] = ()
    mistakes: Sequence[Mistake] = ()
    rate: RateNotice | None = None
    mark: str = ""


class _Lane(msgspec.Struct, frozen=True):
    """The decoders of a kind of topic, and the events that belong on it."""

    one: msgspec.json.Decoder[Any]
    many: msgspec.json.Decoder[Any]


_LANES: Final = {
    "orders": _Lane(msgspec.json.Decoder(OrderEvent), msgspec.json.Decoder(list[OrderEvent])),
    "fills": _Lane(msgspec.json.Decoder(ExecutionEvent), msgspec.json.Decoder(list[ExecutionEvent])),
}
_HOMES: Final = {
    "new": "orders",
    "cancelled": "orders",
    "rejected": "orders",
    "fill": "fills",
    "bust": "fills",
}
_POOLS: Final = {str(pool): pool for pool in PoolName}
_RATE: Final = msgspec.json.Decoder(RateNotice)
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_BLANK: Final = b" \t\r\n"
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_MISFIT: Final = re.compile(r"(?P<what>.*) - at `\$\.(?P<field>\w+)`", re.DOTALL)
_NO_OBJECT: Final = re.compile(r"Expected `object`, got `(\w+)`")
_NO_WORD: Final = re.compile(r"Invalid value '(.*)'", re.DOTALL)


def decode(topic: str, payload: bytes, root: str, served: frozenset[PoolName]) -> Decoded | None:
    """Read one message; None where its pool is one of the four that we do not serve."""
    parts = topic.removeprefix(root + "/").split("/")
    pool = _POOLS.get(parts[0])
    if pool is None:
        return _decode_poolless(topic, parts, payload)
    return _decode_events(pool, topic, parts, payload) if pool in served else None


def _decode_events(pool: PoolName, topic: str, parts: list[str], payload: bytes) -> Decoded:
    try:
        lane, source = _lane_and_source(parts)
        if payload.lstrip(_BLANK).startswith(b"["):
            return _decode_array(pool, topic, payload, lane, source)
        return Decoded(pool, (_one(payload, lane, source),))
    except (ValueError, RecursionError) as error:
        return Decoded(pool, mistakes=(Mistake(_reason(error, payload), topic, payload),))


def _decode_array(pool: PoolName, topic: str, payload: bytes, lane: _Lane, source: str) -> Decoded:
    try:
        return Decoded(pool, _many(payload, lane, source))
    except (ValueError, RecursionError):
        return _pick_out(pool, topic, payload, lane, source)


def _decode_poolless(topic: str, parts: list[str], payload: bytes) -> Decoded:
    match parts:
        case ["fx"]:
            return _decode_rate(topic, payload)
        case ["daemon", _, "mark"]:
            return Decoded(mark=payload.decode(errors="replace"))
        case [word, *_]:
            reason = f"topic: {_quoted(word)} is no pool"
            return Decoded(mistakes=(Mistake(reason, topic, payload),))
        case _:
            raise AssertionError("str.split gives at least one part")


def _decode_rate(topic: str, payload: bytes) -> Decoded:
    if not payload:
        return Decoded()  # an empty payload takes a retained rate back: nothing to do
    try:
        notice: RateNotice = _RATE.decode(_utf8(payload))
        notice = RateNotice(notice.trading_day, rate_text(rate_e5(notice.rate)))
        _check_date(notice.trading_day)
    except (ValueError, RecursionError) as error:
        return Decoded(mistakes=(Mistake(_reason(error, payload), topic, payload),))
    return Decoded(rate=notice)


def _check_date(text: str) -> None:
    try:
        if _DATE.fullmatch(text):
            date.fromisoformat(text)
            return
    except ValueError:
        pass
    raise ValueError("trading_day: must be a date such as 2026-11-23")


def _lane_and_source(parts: list[str]) -> tuple[_Lane, str]:
    """Read the rest of a pool's topic; the source is empty where the topic names none."""
    match parts:
        case [_, ("orders" | "fills") as kind]:
            return _LANES[kind], ""
        case [_, ("orders" | "fills") as kind, source] if source != "-":
            return _LANES[kind], checked_id("topic: source", source)
        case _:
            raise ValueError("topic: must be orders or fills of a pool, then a source at most")


def _one(payload: bytes, lane: _Lane, source: str) -> Event:
    event: Event = lane.one.decode(_utf8(payload))
    if source:
        _attribute(event, source)
    return event


def _many(payload: bytes, lane: _Lane, source: str) -> Sequence[Event]:
    events: list[Event] = lane.many.decode(_utf8(payload))
    if not 0 < len(events) <= ARRAY_MAX:
        raise ValueError("payload: has the wrong number of events")
    if source:
        for event in events:
            _attribute(event, source)
    return events


def _utf8(payload: bytes) -> bytes:
    """Return the payload if it is UTF-8: msgspec does not look at the fields that it skips."""
    if not payload.isascii():
        payload.decode()
    return payload


def _attribute(event: Event, source: str) -> None:
    """Give the event the source that its topic names: a broker's ACL vouches for that one.

    Nobody has seen the event yet, so it may still be written to, at a tenth of a copy's price.
    """
    if not event.source:
        msgspec.structs.force_setattr(event, "source", source)
    elif event.source != source:
        raise ValueError(f"source: the topic says '{source}', the event '{event.source}'")


def _pick_out(pool: PoolName, topic: str, payload: bytes, lane: _Lane, source: str) -> Decoded:
    """Take an array apart that did not decode as a whole: the good apply, the bad go alone.

    Raises ValueError or RecursionError for an array that is a mistake as a whole.
    """
    good: dict[int, Event] = {}
    bad: list[Mistake] = []
    for index, element in enumerate(_split(payload)):
        try:
            good[index] = _one(element, lane, source)
        except (ValueError, RecursionError) as error:
            bad.append(Mistake(_reason(error, element), topic, element, index))
    return Decoded(pool, tuple(good.values()), tuple(good), bad)


def _split(payload: bytes) -> list[bytes]:
    elements = _ELEMENTS.decode(payload)
    if not 0 < len(elements) <= ARRAY_MAX:
        raise ValueError(f"payload: an array holds 1 to {ARRAY_MAX} events, not {len(elements)}")
    return [bytes(element) for element in elements]


def _reason(error: Exception, payload: bytes) -> str:
    """Say in our words which field breaks which rule."""
    match error:
        case UnicodeDecodeError():
            return "payload: is not UTF-8"
        case RecursionError():
            return "payload: is nested too deeply"
        case msgspec.ValidationError():
            return _misfit(str(error))
        case msgspec.DecodeError() if not _is_utf8(payload):
            return "payload: is not UTF-8"
        case msgspec.DecodeError():
            return f"payload: is not JSON ({str(error).removeprefix('JSON is malformed: ')})"
        case _:
            return str(error)


def _misfit(message: str) -> str:
    if missing := _MISSING.fullmatch(message):
        return f"{missing[1]}: is missing"
    if no_object := _NO_OBJECT.fullmatch(message):
        return f"payload: must be a JSON object, not {no_object[1]}"
    if misfit := _MISFIT.fullmatch(message):
        return f"{misfit['field']}: {_rule(misfit['field'], misfit['what'])}"
    return message


def _rule(field: str, what: str) -> str:
    """Name the rule of a field that has the wrong type or an unknown word."""
    if field == "quantity":
        return f"must be a positive integer of at most {BOUND}"
    if what.startswith("Expected `str`"):
        return "must be a JSON string"
    if field == "side":
        return "must be 'buy' or 'sell'"
    if word := _NO_WORD.fullmatch(what):
        home = _HOMES.get(word[1])
        return f"{_quoted(word[1])} belongs on {home}" if home else f"unknown event {_quoted(word[1])}"
    return what


def _quoted(word: str) -> str:
    return f"'{word if len(word) <= _QUOTED else word[:_QUOTED] + '…'}'"


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def encode(message: Message, root: str) -> tuple[str, bytes, bool]:
    """Write what we publish: topic, payload, and whether the broker is to retain it."""
    match message:
        case Replies(pool, source, replies):
            return f"{root}/{pool}/decisions/{source or '-'}", msgspec.json.encode(replies), False
        case StatusReport():
            return f"{root}/{message.pool}/status", msgspec.json.encode(message), True
        case Alert():
            return f"{root}/{message.pool}/alerts", msgspec.json.encode(message), False
        case DeadLetter(pool, mistake):
            return f"{root}/{pool or '-'}/dead", _encode_mistake(mistake), False


def _encode_mistake(mistake: Mistake) -> bytes:
    payload = mistake.payload
    head = payload[:DEAD_BYTES]
    letter: dict[str, object] = {"reason": mistake.reason, "topic": mistake.topic}
    if _is_utf8(payload):
        letter["payload"] = head.decode(errors="ignore")
    else:
        letter["payload_base64"] = base64.b64encode(head).decode()
    if len(payload) > DEAD_BYTES:
        letter |= {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    if mistake.index is not None:
        letter["index"] = mistake.index
    return msgspec.json.encode(letter)

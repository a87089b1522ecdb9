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

from feeds.reasons import is_utf8, quoted, reason_of
from quota.decision import PoolName
from quota.events import Event, ExecutionEvent, Heartbeat, Numbers, OrderEvent, check_number, checked_id
from quota.feed import Alert, DeadLetter, Message, Mistake, RateNotice, Replies, StatusReport
from quota.money import rate_e5, rate_text

ARRAY_MAX: Final = 1_000
"""How many events an array may hold."""

DEAD_BYTES: Final = 64 * 1024
"""How much of a payload a dead letter repeats."""


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
    numbers: Sequence[Numbers] = ()


class _Numbered(msgspec.Struct, frozen=True):
    """What is read of an event that is a mistake: who counted it, and as what."""

    epoch: str
    sequence: int
    source: str = ""
    event: str = ""


Said = Event | Heartbeat
"""An element of a payload: an event of the market, or how far its source has counted."""


class _Lane(msgspec.Struct, frozen=True):
    """The decoders of a kind of topic, and the events that belong on it."""

    one: msgspec.json.Decoder[Any]
    many: msgspec.json.Decoder[Any]


_LANES: Final = {
    "orders": _Lane(msgspec.json.Decoder(OrderEvent), msgspec.json.Decoder(list[OrderEvent])),
    "fills": _Lane(msgspec.json.Decoder(ExecutionEvent), msgspec.json.Decoder(list[ExecutionEvent])),
}
_POOLS: Final = {str(pool): pool for pool in PoolName}
_RATE: Final = msgspec.json.Decoder(RateNotice)
_NUMBERED: Final = msgspec.json.Decoder(_Numbered)
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_BLANK: Final = b" \t\r\n"
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def decode(topic: str, payload: bytes, root: str, served: frozenset[PoolName]) -> Decoded | None:
    """Read one message; None where its pool is one of the four that we do not serve."""
    parts = topic.removeprefix(root + "/").split("/")
    pool = _POOLS.get(parts[0])
    if pool is None:
        return _decode_poolless(topic, parts, payload)
    return _decode_events(pool, topic, parts, payload) if pool in served else None


def _decode_events(pool: PoolName, topic: str, parts: list[str], payload: bytes) -> Decoded:
    source = ""
    try:
        lane, source = _lane_and_source(parts)
        if payload.lstrip(_BLANK).startswith(b"["):
            return _decode_array(pool, topic, payload, lane, source)
        said = _one(payload, lane, source)
        return _divided(pool, (said,)) if said.epoch else Decoded(pool, (said,))  # type: ignore[arg-type]  # an event
    except (ValueError, RecursionError) as error:
        mistake = Mistake(reason_of(error, payload), topic, payload)
        return Decoded(pool, mistakes=(mistake,), numbers=_number_of(payload, source))


def _decode_array(pool: PoolName, topic: str, payload: bytes, lane: _Lane, source: str) -> Decoded:
    try:
        return _divided(pool, _many(payload, lane, source))
    except (ValueError, RecursionError):
        return _pick_out(pool, topic, payload, lane, source)


def _divided(pool: PoolName, said: Sequence[Said], places: Sequence[int] = ()) -> Decoded:
    """Divide what was said into events and numbers; who does not number pays for one look at each.

    Raises ValueError for numbers that are nobody's.
    """
    numbered = [one for one in said if one.epoch]
    _demand_sources(numbered)
    numbers = [Numbers(one.source, one.epoch, _first(one), one.sequence) for one in numbered]
    if not any(isinstance(one, Heartbeat) for one in numbered):
        return Decoded(pool, said, places, numbers=numbers)  # type: ignore[arg-type]  # all are events
    events = {place: one for place, one in enumerate(said) if not isinstance(one, Heartbeat)}
    places = [places[place] if places else place for place in events]
    return Decoded(pool, tuple(events.values()), places, numbers=numbers)


def _demand_sources(numbered: Sequence[Said]) -> None:
    if not all(one.source for one in numbered):
        raise ValueError("source: is missing, and numbers are a source's")


def _first(said: Said) -> int:
    """The number of an event; a heartbeat has none, and says only how far they go."""
    return said.sequence + 1 if isinstance(said, Heartbeat) else said.sequence


def _number_of(payload: bytes, source: str) -> Sequence[Numbers]:
    """Read the number of an event that goes to the dead letters: there it is, so it is not missing."""
    try:
        it = _NUMBERED.decode(payload)
        check_number(it.epoch, it.sequence)
        source = source or checked_id("source", it.source)
    except (ValueError, RecursionError):
        return ()
    return () if it.event == "heartbeat" else (Numbers(source, it.epoch, it.sequence, it.sequence),)


def _decode_poolless(topic: str, parts: list[str], payload: bytes) -> Decoded:
    match parts:
        case ["fx"]:
            return _decode_rate(topic, payload)
        case ["daemon", _, "mark"]:
            return Decoded(mark=payload.decode(errors="replace"))
        case [word, *_]:
            reason = f"topic: {quoted(word)} is no pool"
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
        return Decoded(mistakes=(Mistake(reason_of(error, payload), topic, payload),))
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


def _one(payload: bytes, lane: _Lane, source: str) -> Said:
    said: Said = lane.one.decode(_utf8(payload))
    if source:
        _attribute(said, source)
    elif said.epoch:
        _demand_sources((said,))
    return said


def _many(payload: bytes, lane: _Lane, source: str) -> Sequence[Said]:
    said: list[Said] = lane.many.decode(_utf8(payload))
    if not 0 < len(said) <= ARRAY_MAX:
        raise ValueError("payload: has the wrong number of events")
    if source:
        for one in said:
            _attribute(one, source)
    return said


def _utf8(payload: bytes) -> bytes:
    """Return the payload if it is UTF-8: msgspec does not look at the fields that it skips."""
    if not payload.isascii():
        payload.decode()
    return payload


def _attribute(event: Said, source: str) -> None:
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
    good: dict[int, Said] = {}
    bad: list[Mistake] = []
    dead: list[Numbers] = []
    for index, element in enumerate(_split(payload)):
        try:
            good[index] = _one(element, lane, source)
        except (ValueError, RecursionError) as error:
            bad.append(Mistake(reason_of(error, element), topic, element, index))
            dead += _number_of(element, source)
    divided = _divided(pool, tuple(good.values()), tuple(good))
    return msgspec.structs.replace(divided, mistakes=bad, numbers=[*divided.numbers, *dead])


def _split(payload: bytes) -> list[bytes]:
    elements = _ELEMENTS.decode(payload)
    if not 0 < len(elements) <= ARRAY_MAX:
        raise ValueError(f"payload: an array holds 1 to {ARRAY_MAX} events, not {len(elements)}")
    return [bytes(element) for element in elements]


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
    if is_utf8(payload):
        letter["payload"] = head.decode(errors="ignore")
    else:
        letter["payload_base64"] = base64.b64encode(head).decode()
    if len(payload) > DEAD_BYTES:
        letter |= {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    if mistake.index is not None:
        letter["index"] = mistake.index
    return msgspec.json.encode(letter)

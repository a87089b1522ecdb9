"""What hostile senders may send: messages for the codec, calls for the functions of the store."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import msgspec
from hypothesis import strategies as st

from quota.decision import PoolName, Side
from quota.events import Event
from quota.money import BOUND
from quota.rows import packed
from quota.store.record import keys

# Messages.

_POOLS = st.sampled_from([*PoolName, "NB-XX", "", "nb-sh", "-"])
_TOPICS = st.one_of(
    st.builds("connect/{}/{}".format, _POOLS, st.sampled_from(["orders", "fills", "status", ""])),
    st.builds(
        "connect/{}/{}/{}".format,
        _POOLS,
        st.sampled_from(["orders", "fills"]),
        st.sampled_from(["gw1", "-", "", "ä"]),
    ),
    st.sampled_from(["connect/fx", "connect/daemon/quotad/mark", "connect", "", "connect/", "fx"]),
    st.text(max_size=30),
)
_WORDS = st.one_of(
    st.sampled_from(
        ["a", "gw1-1", "buy", "sell", "1.00", "0", "-1", "1e3", "9999999999999.999", "\ud800", "\x00", "a b"]
    ),
    st.text(max_size=70),
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, 1, BOUND, BOUND + 1, 1.0]),
    _WORDS,
)
_FIELDS = ("event", "order_id", "exec_id", "side", "price", "quantity", "source", "symbol", "time", "more")
_AMOUNTS = [
    {"side": side, "price": price, "quantity": quantity}
    for side, price, quantity in product(("buy", "sell"), ("1", "1.5", "9999999999999.999"), (1, 100, BOUND))
]
_ENDS = [
    {"event": event, "order_id": order_id}
    for event, order_id in product(("cancelled", "rejected"), ("a", "b", "x" * 64))
]
_NEWS = [{"event": "new", "order_id": order_id} | amount for order_id in "abc" for amount in _AMOUNTS]
_TRADES = [
    {"event": event, "order_id": order_id, "exec_id": f"{order_id}{number}"} | amount
    for event, order_id, number in product(("fill", "bust"), "ab", (1, 2))
    for amount in _AMOUNTS
]
_MORE = {"symbol": "中国 é", "source": "gw1", "time": "2026-11-23T10:00:00+08:00"}
_EVENTS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [*_NEWS, *_TRADES, *_ENDS * 5, *(event | _MORE for event in _NEWS)]
)


def _spoilt(parts: tuple[dict[str, Any], str, Any]) -> dict[str, Any]:
    event, field, value = parts
    return event | {field: value}


_ELEMENTS: st.SearchStrategy[Any] = st.one_of(
    _EVENTS,
    _EVENTS,
    st.tuples(_EVENTS, st.sampled_from(_FIELDS), _SCALARS).map(_spoilt),
    st.dictionaries(st.sampled_from(_FIELDS), _SCALARS, max_size=6),
    st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=4),
)
_TREES = st.one_of(
    _ELEMENTS,
    st.lists(_ELEMENTS, max_size=6),
    st.fixed_dictionaries({"trading_day": _WORDS, "rate": _WORDS}),
    st.sampled_from(
        [[{"event": "cancelled", "order_id": "a"}] * 1001, {"trading_day": "2026-11-23", "rate": "0.9125"}]
    ),
)
_TEXTS = _TREES.map(lambda tree: json.dumps(tree).encode())


def _damaged(parts: tuple[bytes, int, bytes, int]) -> bytes:
    payload, place, bytes_, cut = parts
    place %= len(payload) + 1
    return payload[:place] + bytes_ + payload[place + cut :]


_PAYLOADS = st.one_of(
    _TEXTS,
    _TEXTS,
    st.tuples(_TEXTS, st.integers(0, 10**4), st.binary(max_size=3), st.integers(0, 5)).map(_damaged),
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"[]", b"[" * 5000, b'{"event":' * 3000, b"[1", b"\xff\xfe", b"[NaN]", b"[{}]", b" [{}] "]
    ),
)


def messages(count: int) -> st.SearchStrategy[list[tuple[str, bytes]]]:
    """So many topics and payloads."""
    return st.lists(st.tuples(_TOPICS, _PAYLOADS), min_size=count, max_size=count)


# Calls.

POOL = PoolName.NB_SH
_KEYS = keys(POOL)


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text) is not None


def _is_price(text: str) -> bool:
    return re.fullmatch(r"(0|[1-9][0-9]{0,12})(\.[0-9]{1,3})?", text) is not None and float(text) > 0


def _is_number(text: str, most: int) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,15}", text) is not None and int(text) <= most


def _is_hold(texts: list[str]) -> bool:
    return all(_is_number(text, 86_400_000) for text in texts)


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a function. ``events`` are those of a batch."""

    function: str
    arguments: tuple[bytes, ...]
    keys: tuple[str, ...] = _KEYS
    events: tuple[Event, ...] = ()

    @property
    def command(self) -> str:
        return "FCALL_RO" if self.function == "quota_check" else "FCALL"

    @property
    def is_well_formed(self) -> bool:
        """Whether the contract has a gateway's call so, by its keys and arguments."""
        right = _KEYS[:1] if self.function == "quota_check" else _KEYS
        texts = [argument.decode("latin-1") for argument in self.arguments]
        if self.keys != right:
            return False
        match self.function, texts:
            case "quota_reserve", [order_id, side, price, quantity, source, *hold] if len(hold) <= 1:
                ids = _is_id(order_id) and _is_id(source) and side in set(Side)
                return ids and _is_price(price) and _is_number(quantity, BOUND) and _is_hold(hold)
            case "quota_release", [order_id]:
                return _is_id(order_id)
            case "quota_check", [side]:
                return side in set(Side)
        return False

    @property
    def may_fail_anyhow(self) -> bool:
        """Whether it is of a kind that only the daemon calls: its errors may say anything."""
        return self.function == "quota_apply"


_NUMBERS = (b"0", b"-1", b"01", b"1e3", b"0x10", b"nan", b" 1", b"1 ", b"1.", b".5", b"1.0000")
_TRAPS = (
    *(b"%d", b"a b", b"a\n", b"\x00", b"a" * 64, b"a" * 65, b"1" * 17, b"BUY", b"-", b"", b"inf"),
    *(b"4500000000000001", b"9007199254740993"),
)
_BYTES = st.one_of(
    st.binary(max_size=70),
    st.sampled_from(_TRAPS),
    st.sampled_from(_NUMBERS),
)
_IDS = st.sampled_from([b"a", b"b", b"c", b"d"])
_ORDERS = st.tuples(
    _IDS,
    st.sampled_from([b"buy", b"buy", b"sell"]),
    st.sampled_from([b"1.00", b"0.013", b"250", b"9999999999999.999", b"4500000000000"]),
    st.sampled_from([b"1", b"3", b"100", b"4500000000000000"]),
    st.sampled_from([b"-", b"gw1"]),
)
_HELD = st.tuples(_ORDERS, st.sampled_from([b"1", b"1", b"50", b"86400000", b"86400001", b"0"])).map(
    lambda parts: (*parts[0], parts[1])
)
_ARGUMENTS = {
    "quota_reserve": st.one_of(_ORDERS, _HELD),
    "quota_release": st.tuples(_IDS),
    "quota_check": st.tuples(st.sampled_from([b"buy", b"sell"])),
}


def _with_one(parts: tuple[tuple[bytes, ...], int, bytes]) -> tuple[bytes, ...]:
    """Put something else in the place of an argument, or behind the last."""
    arguments, place, value = parts
    place %= len(arguments) + 1
    return (*arguments[:place], value, *arguments[place + 1 :])


def _right_or_spoilt(good: st.SearchStrategy[tuple[bytes, ...]]) -> st.SearchStrategy[tuple[bytes, ...]]:
    spoilt = st.tuples(good, st.integers(0, 7), _BYTES).map(_with_one)
    return st.one_of(good, good, spoilt, spoilt, st.lists(_BYTES, max_size=7).map(tuple))


def _keys_of(function: str) -> st.SearchStrategy[tuple[str, ...]]:
    right = _KEYS[:1] if function == "quota_check" else _KEYS
    return st.one_of(
        *[st.just(right)] * 8,
        st.permutations(right).map(tuple),
        st.sampled_from([(), right[1:], (*right, "more"), keys(PoolName.NB_SZ)[:3] + _KEYS[3:], ("pool",)]),
    )


def _gateways(function: str) -> st.SearchStrategy[Request]:
    return st.builds(Request, st.just(function), _right_or_spoilt(_ARGUMENTS[function]), _keys_of(function))


def _batch(events: list[dict[str, Any]]) -> Request:
    read = tuple(msgspec.convert(event, Event) for event in events)
    return Request("quota_apply", (packed(read),), events=read)


_CALM: st.SearchStrategy[dict[str, Any]] = st.sampled_from([*_NEWS, *_TRADES, *_ENDS * 5])
_BATCHES = st.lists(_CALM, min_size=1, max_size=5).map(_batch)
_GARBAGE = st.one_of(
    st.binary(max_size=40),
    st.one_of(
        st.none(),
        st.integers(-(2**63), 2**64 - 1),
        st.just([[]]),
        st.just([["new"]]),
        st.just([["new", "a", "buy"]]),
    ).map(msgspec.msgpack.encode),
    st.lists(
        st.lists(st.sampled_from(["new", "fill", "bust", "x", "a", "", 1, None]), max_size=4),
        min_size=1,
        max_size=3,
    ).map(msgspec.msgpack.encode),
).map(lambda argument: Request("quota_apply", (argument,)))


def days(calls: int) -> st.SearchStrategy[list[Request]]:
    """Short days: calls of gateways and of the daemon, right and spoilt, in any order."""
    gateways = [_gateways(function) for function in _ARGUMENTS]
    return st.lists(st.one_of(gateways[0], *gateways, _BATCHES, _GARBAGE), min_size=calls, max_size=calls)

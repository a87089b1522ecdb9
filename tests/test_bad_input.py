"""Everything that a sender can get wrong, through a real broker and a real daemon, in one go.

Each mistake becomes one dead letter that names the field and the rule; the pool stays as it was.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from quota.decision import PoolName
from quota.money import BOUND
from quota.store.record import keys
from tests.daemons import house, new
from tests.tap import Tap, until_now

ORDERS, FILLS = "connect/NB-SH/orders", "connect/NB-SH/fills"
GOOD = new("good")
FILL = GOOD | {"event": "fill", "exec_id": "e"}
GARBAGE = bytes(range(256)) * 40_960
PRICE = "price: must be a decimal string with at most 13 digits before the point and 3 after it"
QUANTITY = f"quantity: must be a positive integer of at most {BOUND}"
ID = "must be 1 to 64 characters of A-Z a-z 0-9 . _ : -"
TIME = "time: must be RFC 3339 with an offset"


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent where, and why it is a mistake."""

    topic: str
    payload: bytes
    reason: str
    pool: str = "NB-SH"


def bad(reason: str, topic: str = ORDERS, **changes: object) -> Case:
    event = (FILL if topic.endswith("fills") else GOOD) | changes
    kept = {name: value for name, value in event.items() if value is not None}
    return Case(topic, json.dumps(kept).encode(), reason)


def raw(payload: bytes, reason: str, topic: str = ORDERS, pool: str = "NB-SH") -> Case:
    return Case(topic, payload, reason, pool)


CASES = {
    "not json": raw(b"buy some", "payload: is not JSON (invalid character (byte 0))"),
    "empty": raw(b"", "payload: is not JSON (Input data was truncated)"),
    "cut off": raw(json.dumps(GOOD).encode()[:-5], "payload: is not JSON (Input data was truncated)"),
    "not utf-8": raw(b'{"event":"\xff"}', "payload: is not UTF-8"),
    "garbage of ten megabytes": raw(GARBAGE, "payload: is not UTF-8"),
    "a number": raw(b"7", "payload: must be a JSON object, not int"),
    "null": raw(b"null", "payload: must be a JSON object, not null"),
    "no event": bad("event: is missing", event=None),
    "unknown event": bad("event: unknown event 'amend'", event="amend"),
    "event of another topic": bad("event: 'fill' belongs on fills", event="fill"),
    "order among fills": bad("event: 'new' belongs on orders", FILLS, event="new"),
    "bust among orders": bad("event: 'bust' belongs on fills", event="bust", exec_id="x"),
    "no order_id": bad("order_id: is missing", order_id=None),
    "no exec_id": bad("exec_id: is missing", FILLS, exec_id=None),
    "no side": bad("side: is missing", side=None),
    "no price": bad("price: is missing", price=None),
    "no quantity": bad("quantity: is missing", quantity=None),
    "side of another word": bad("side: must be 'buy' or 'sell'", side="Buy"),
    "side as a number": bad("side: must be a JSON string", side=1),
    "four decimals": bad(PRICE, price="1.0001"),
    "price of zero": bad("price: must be above zero", price="0.000"),
    "price below zero": bad(PRICE, price="-1"),
    "price in scientific notation": bad(PRICE, price="1e3"),
    "price as a number": bad("price: must be a JSON string", price=10.5),
    "price with a leading zero": bad(PRICE, price="01"),
    "price of many digits": bad(PRICE, price="12345678901234"),
    "quantity of zero": bad(QUANTITY, quantity=0),
    "quantity below zero": bad(QUANTITY, quantity=-1),
    "fraction of a unit": bad(QUANTITY, quantity=1.5),
    "quantity above the bound": bad(QUANTITY, quantity=BOUND + 1),
    "quantity as text": bad(QUANTITY, quantity="100"),
    "quantity beyond 64 bits": bad(QUANTITY, quantity=10**30),
    "id too long": bad(f"order_id: {ID}", order_id="x" * 65),
    "empty id": bad(f"order_id: {ID}", order_id=""),
    "id with a space": bad(f"order_id: {ID}", order_id="a b"),
    "id in chinese": bad(f"order_id: {ID}", order_id="沪股通"),
    "id as a number": bad("order_id: must be a JSON string", order_id=5),
    "exec_id with a slash": bad(f"exec_id: {ID}", FILLS, exec_id="a/b"),
    "symbol of two lines": bad("symbol: must be at most 64 printable characters", symbol="600\n519"),
    "source of other characters": bad(f"source: {ID}", source="a,b"),
    "source of a dash": bad("source: '-' alone is no source", source="-"),
    "source of somebody else": bad(
        "source: the topic says 'gw1', the event 'gw2'", f"{ORDERS}/gw1", source="gw2"
    ),
    "time without an offset": bad(TIME, time="2026-11-23T09:31:00"),
    "time of no day": bad(
        f"{TIME} (day is out of range for month)", order_id="t1", time="2026-11-31T09:31:00Z"
    ),
    "another day": bad("time: another day than the pool's open day", time="2026-11-20T09:31:00+08:00"),
    "another day in utc+8": bad("time: another day than the pool's open day", time="2026-11-23T16:00:00Z"),
    "a total above the bound": bad(
        f"price, quantity: a total would pass {BOUND} (out_of_range)",
        FILLS,
        price="4500000000.001",
        quantity=10**6,
    ),
    "unknown pool": raw(b"{}", "topic: 'NB-HK' is no pool", "connect/NB-HK/orders", "-"),
    "topic too deep": raw(
        b"deep", "topic: must be orders or fills of a pool, then a source at most", f"{ORDERS}/a/b"
    ),
    "topic with a bad source": raw(b"source", f"topic: source: {ID}", f"{ORDERS}/a b"),
    "empty array": raw(b"[]", "payload: an array holds 1 to 1000 events, not 0"),
    "array of 1,001": raw(
        json.dumps([new(str(number)) for number in range(1001)]).encode(),
        "payload: an array holds 1 to 1000 events, not 1001",
    ),
    "nested too deeply": raw(b"[" * 100_000, "payload: is nested too deeply"),
    "rate of zero": raw(
        b'{"trading_day":"2026-11-23","rate":"0"}', "rate: must be above zero", "connect/fx", "-"
    ),
    "rate of no day": raw(
        b'{"trading_day":"today","rate":"0.9"}',
        "trading_day: must be a date such as 2026-11-23",
        "connect/fx",
        "-",
    ),
}


@dataclass(slots=True)
class Came:
    """What came of it all."""

    letters: list[tuple[str, dict[str, Any]]]
    before: dict[str, str]
    after: dict[str, str]
    journal: int
    dead: float
    unknown: float
    left: list[bytes]
    array: list[str]
    log: str


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Came]:
    served = 'pools = ["NB-SH", "NB-SZ", "SB-SH"]'
    with house(tmp_path_factory.mktemp("bad"), toml=served) as home, Tap(home.broker.port) as tap:
        pool, *_, journal = keys(PoolName.NB_SH)
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        before: Any = home.redis.hgetall(pool)
        for case in CASES.values():
            tap.say(case.topic, case.payload)
        tap.say("connect/SB-SZ/orders", b"somebody else's")
        until_now(lambda: len(letters(tap)) >= len(CASES))
        until_now(lambda: home.quotad.metric(COUNT % ("NB-SH", "unknown")) > 0)
        after: Any = home.redis.hgetall(pool)
        entries = int(str(home.redis.xlen(journal)))
        tap.say(
            "connect/NB-SZ/orders",
            [new("1"), [new("2")], new("3"), new("4", quantity=0), 5, new("6")],
        )
        until_now(lambda: len(letters(tap)) >= len(CASES) + 3)
        until_now(lambda: len(tap.replies()) >= 3)
        dead = sum(home.quotad.metric(COUNT % ("NB-SH", event)) for event in ("new", "fill"))
        unknown = sum(home.quotad.metric(COUNT % (pool, "unknown")) for pool in ("NB-SH", "-"))
        home.quotad.ask_to_end()
        assert home.quotad.code() == 0
        told = [reply["order_id"] for reply in tap.replies()]
        yield Came(letters(tap), before, after, entries, dead, unknown, home.left(), told, home.quotad.log)


COUNT = 'quota_events_total{pool="%s",event="%s",outcome="dead"}'


def letters(tap: Tap) -> list[tuple[str, dict[str, Any]]]:
    return [(topic, json.loads(body)) for topic, body in list(tap.heard) if topic.endswith("/dead")]


def is_about(letter: dict[str, Any], case: Case) -> bool:
    if "sha256" in letter:
        return bool(letter["sha256"] == hashlib.sha256(case.payload).hexdigest())
    said = (
        base64.b64decode(letter["payload_base64"])
        if "payload_base64" in letter
        else letter["payload"].encode()
    )
    return bool(letter["topic"] == case.topic and said == case.payload)


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_becomes_one_dead_letter_that_says_why(came: Came, name: str) -> None:
    case = CASES[name]
    found = [(topic, letter["reason"]) for topic, letter in came.letters if is_about(letter, case)]
    assert found == [(f"connect/{case.pool}/dead", case.reason)]


def test_the_pool_stays_as_it_was_but_for_the_counted_violation(came: Came) -> None:
    """A total above the bound is a violation too, and takes a number; nothing else does."""
    changed = {name for name in came.after if came.after[name] != came.before.get(name)}
    assert changed <= {"seq", "violated_out_of_range"}
    assert came.journal == int(came.after["seq"]) == 1
    assert came.after["balance_fen"] == came.before["balance_fen"]


def test_every_mistake_is_counted_and_nothing_else(came: Came) -> None:
    assert came.dead == 3  # twice another day, once above the bound: the others were no events
    assert came.unknown == len(CASES) - 3


def test_everything_is_acknowledged(came: Came) -> None:
    assert came.left == []


def test_a_pool_that_is_not_served_is_somebody_elses(came: Came) -> None:
    assert not [letter for _, letter in came.letters if "SB-SZ" in letter["topic"]]
    assert "SB-SZ" not in came.log


def test_in_an_array_the_good_apply_and_the_bad_go_alone(came: Came) -> None:
    found = sorted(
        (letter["index"], json.loads(letter["payload"]), letter["reason"])
        for topic, letter in came.letters
        if topic == "connect/NB-SZ/dead"
    )
    assert found == [
        (1, [new("2")], "payload: must be a JSON object, not array"),
        (3, new("4", quantity=0), QUANTITY),
        (4, 5, "payload: must be a JSON object, not int"),
    ]
    assert came.array == ["1", "3", "6"]


def test_a_long_payload_is_cut_and_named_by_its_sum(came: Came) -> None:
    (letter,) = [letter for _, letter in came.letters if letter.get("size") == len(GARBAGE)]
    assert letter["sha256"] == hashlib.sha256(GARBAGE).hexdigest()
    assert base64.b64decode(letter["payload_base64"]) == GARBAGE[: 64 * 1024]

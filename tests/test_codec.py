"""The codec: every rule of the contract's section 2, its reasons word for word, and no exception."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.codec import ARRAY_MAX, DEAD_BYTES, Decoded, decode, encode
from quota.decision import Phase, PoolName, Side, Status, Verdict
from quota.events import Bust, Cancelled, Fill, NewOrder, Numbers, Rejected
from quota.feed import Alert, DeadLetter, Delivery, Message, Mistake, Replies, Reply, StatusReport

ALL = frozenset(PoolName)
ORDERS, FILLS = "connect/NB-SH/orders", "connect/NB-SH/fills"
NEW = {"event": "new", "order_id": "a-1", "side": "buy", "price": "1.5", "quantity": 100}
FILL = NEW | {"event": "fill", "exec_id": "x-1"}
NUMBERED = NEW | {"source": "gw1", "epoch": "e", "sequence": 7}
HEARTBEAT = {"event": "heartbeat", "source": "gw1", "epoch": "e", "sequence": 7}
SEQUENCE = "sequence: must be an integer from {} to 4500000000000000"
QUANTITY = "quantity: must be a positive integer of at most 4500000000000000"
AN_ID = "must be 1 to 64 characters of A-Z a-z 0-9 . _ : -"


def read(topic: str, payload: object) -> Decoded:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    decoded = decode(topic, raw, "connect", ALL)
    assert decoded is not None
    return decoded


def reason(topic: str, payload: object) -> str:
    decoded = read(topic, payload)
    assert decoded.events == ()
    assert len(decoded.mistakes) == 1
    return decoded.mistakes[0].reason


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in NEW.items() if name != field}


@pytest.mark.parametrize(
    ("topic", "payload", "event"),
    [
        (ORDERS, NEW, NewOrder(order_id="a-1", side=Side.BUY, price="1.5", quantity=100)),
        (ORDERS, {"event": "cancelled", "order_id": "a-1"}, Cancelled(order_id="a-1")),
        (ORDERS, {"event": "rejected", "order_id": "a-1"}, Rejected(order_id="a-1")),
        (FILLS, FILL, Fill(order_id="a-1", exec_id="x-1", side=Side.BUY, price="1.5", quantity=100)),
        (
            FILLS,
            FILL | {"event": "bust"},
            Bust(order_id="a-1", exec_id="x-1", side=Side.BUY, price="1.5", quantity=100),
        ),
        (ORDERS, NEW | {"unknown": [{"deep": None}], "令": "牌"}, None),
        (ORDERS, b' \r\n\t{"order_id":"a","event":"cancelled"} ', Cancelled(order_id="a")),
    ],
)
def test_events_are_read(topic: str, payload: object, event: object) -> None:
    decoded = read(topic, payload)
    assert (decoded.pool, decoded.mistakes, len(decoded.events)) == (PoolName.NB_SH, (), 1)
    assert event is None or decoded.events[0] == event


@pytest.mark.parametrize(
    ("topic", "payload", "expected"),
    [
        (ORDERS, b"", "payload: is not JSON (Input data was truncated)"),
        (ORDERS, b"{", "payload: is not JSON (Input data was truncated)"),
        (ORDERS, b"Nonsense", "payload: is not JSON (invalid character (byte 0))"),
        (
            ORDERS,
            b'{"event":"cancelled","order_id":"a"} x',
            "payload: is not JSON (trailing characters (byte 38))",
        ),
        (ORDERS, b"\xff", "payload: is not UTF-8"),
        (ORDERS, b'{"event":"cancelled","order_id":"\xff"}', "payload: is not UTF-8"),
        (ORDERS, b'{"event":"cancelled","order_id":"a","x":"\xff"}', "payload: is not UTF-8"),
        (ORDERS, b"null", "payload: must be a JSON object, not null"),
        (ORDERS, b"3", "payload: must be a JSON object, not int"),
        (ORDERS, b'"new"', "payload: must be a JSON object, not str"),
        (ORDERS, {}, "event: is missing"),
        (ORDERS, {"event": 3}, "event: must be a JSON string"),
        (ORDERS, NEW | {"event": "x"}, "event: unknown event 'x'"),
        (ORDERS, NEW | {"event": "y" * 100}, f"event: unknown event '{'y' * 40}…'"),
        (ORDERS, NEW | {"event": "a' - at `$.price`"}, "event: unknown event 'a' - at `$.price`'"),
        (ORDERS, FILL, "event: 'fill' belongs on fills"),
        (ORDERS, FILL | {"event": "bust"}, "event: 'bust' belongs on fills"),
        (FILLS, NEW, "event: 'new' belongs on orders"),
        (FILLS, {"event": "cancelled", "order_id": "a"}, "event: 'cancelled' belongs on orders"),
        (FILLS, {"event": "rejected", "order_id": "a"}, "event: 'rejected' belongs on orders"),
        (ORDERS, without("order_id"), "order_id: is missing"),
        (ORDERS, without("side"), "side: is missing"),
        (ORDERS, without("price"), "price: is missing"),
        (ORDERS, without("quantity"), "quantity: is missing"),
        (FILLS, NEW | {"event": "fill"}, "exec_id: is missing"),
        (ORDERS, NEW | {"order_id": 1}, "order_id: must be a JSON string"),
        (ORDERS, NEW | {"order_id": ""}, f"order_id: {AN_ID}"),
        (ORDERS, NEW | {"order_id": "a b"}, f"order_id: {AN_ID}"),
        (ORDERS, NEW | {"order_id": "é"}, f"order_id: {AN_ID}"),
        (ORDERS, NEW | {"order_id": "a" * 65}, f"order_id: {AN_ID}"),
        (FILLS, FILL | {"exec_id": "a/b"}, f"exec_id: {AN_ID}"),
        (ORDERS, NEW | {"symbol": "a\n"}, "symbol: must be at most 64 printable characters"),
        (ORDERS, NEW | {"symbol": None}, "symbol: must be a JSON string"),
        (ORDERS, NEW | {"side": "hold"}, "side: must be 'buy' or 'sell'"),
        (ORDERS, NEW | {"side": 1}, "side: must be a JSON string"),
        (ORDERS, NEW | {"price": 1.5}, "price: must be a JSON string"),
        (ORDERS, NEW | {"price": "0"}, "price: must be above zero"),
        (
            ORDERS,
            NEW | {"price": "1.2345"},
            "price: must be a decimal string with at most 13 digits before the point and 3 after it",
        ),
        (ORDERS, NEW | {"quantity": 0}, QUANTITY),
        (ORDERS, NEW | {"quantity": -1}, QUANTITY),
        (ORDERS, NEW | {"quantity": 1.0}, QUANTITY),
        (ORDERS, NEW | {"quantity": "1"}, QUANTITY),
        (ORDERS, NEW | {"quantity": True}, QUANTITY),
        (ORDERS, NEW | {"quantity": 10**30}, QUANTITY),
        (ORDERS, json.dumps(NEW).replace("100", "9" * 5000).encode(), QUANTITY),
        (ORDERS, json.dumps(NEW).replace("100", "1e400").encode(), QUANTITY),
        (
            ORDERS,
            json.dumps(NEW).replace("100", "NaN").encode(),
            "payload: is not JSON (invalid character (byte 79))",
        ),
        (ORDERS, NUMBERED | {"epoch": ""}, f"epoch: {AN_ID}"),
        (ORDERS, NUMBERED | {"epoch": "a b"}, f"epoch: {AN_ID}"),
        (ORDERS, NUMBERED | {"epoch": 7}, "epoch: must be a JSON string"),
        (ORDERS, NEW | {"source": "gw1", "sequence": 7}, f"epoch: {AN_ID}"),
        (ORDERS, NEW | {"source": "gw1", "epoch": "e"}, SEQUENCE.format(1)),
        (ORDERS, NUMBERED | {"sequence": 0}, SEQUENCE.format(1)),
        (ORDERS, NUMBERED | {"sequence": -1}, SEQUENCE.format(1)),
        (ORDERS, NUMBERED | {"sequence": 4_500_000_000_000_001}, SEQUENCE.format(1)),
        (ORDERS, NUMBERED | {"sequence": "7"}, QUANTITY.replace("quantity", "sequence")),
        (ORDERS, NUMBERED | {"sequence": 7.0}, QUANTITY.replace("quantity", "sequence")),
        (ORDERS, NEW | {"epoch": "e", "sequence": 7}, "source: is missing, and numbers are a source's"),
        (ORDERS, HEARTBEAT | {"source": ""}, "source: is missing, and numbers are a source's"),
        (ORDERS, HEARTBEAT | {"source": "-"}, "source: '-' alone is no source"),
        (ORDERS, HEARTBEAT | {"sequence": -1}, SEQUENCE.format(0)),
        (ORDERS, {"event": "heartbeat", "sequence": 7}, "epoch: is missing"),
        (ORDERS, {"event": "heartbeat", "epoch": "e"}, "sequence: is missing"),
        (ORDERS + "/gw2", HEARTBEAT, "source: the topic says 'gw2', the event 'gw1'"),
        (ORDERS, NEW | {"time": "yesterday"}, "time: must be RFC 3339 with an offset"),
        (ORDERS, NEW | {"time": "2026-11-23T09:31:00"}, "time: must be RFC 3339 with an offset"),
        (ORDERS, NEW | {"source": "-"}, "source: '-' alone is no source"),
        (ORDERS + "/gw1", NEW | {"source": "gw2"}, "source: the topic says 'gw1', the event 'gw2'"),
        (ORDERS, b'{"x":' * 100_000, "payload: is nested too deeply"),
        (ORDERS, b"[" * 1_000_000, "payload: is nested too deeply"),
        (ORDERS, b"x" * 10_000_000, "payload: is not JSON (invalid character (byte 0))"),
        (ORDERS, [], f"payload: an array holds 1 to {ARRAY_MAX} events, not 0"),
        (ORDERS, [NEW] * 1001, f"payload: an array holds 1 to {ARRAY_MAX} events, not 1001"),
        (ORDERS, [1] * 1001, f"payload: an array holds 1 to {ARRAY_MAX} events, not 1001"),
        (ORDERS, b"[{},", "payload: is not JSON (Input data was truncated)"),
        (ORDERS + "/a b", NEW, f"topic: source: {AN_ID}"),
        (ORDERS + "/-", NEW, "topic: must be orders or fills of a pool, then a source at most"),
        (ORDERS + "/gw1/x", NEW, "topic: must be orders or fills of a pool, then a source at most"),
        (ORDERS + "/", NEW, f"topic: source: {AN_ID}"),
        ("connect/NB-SH/quotes", NEW, "topic: must be orders or fills of a pool, then a source at most"),
        ("connect/NB-XX/orders", NEW, "topic: 'NB-XX' is no pool"),
        ("connect/nb-sh/orders", NEW, "topic: 'nb-sh' is no pool"),
        ("connect//orders", NEW, "topic: '' is no pool"),
        ("", NEW, "topic: '' is no pool"),
        ("connect/fx", {"trading_day": "2026-11-23"}, "rate: is missing"),
        ("connect/fx", {"trading_day": "2026-11-23", "rate": 0.9}, "rate: must be a JSON string"),
        ("connect/fx", {"trading_day": "2026-11-23", "rate": "0"}, "rate: must be above zero"),
        (
            "connect/fx",
            {"trading_day": "2026-11-23", "rate": "10"},
            "rate: must be a decimal string below 10 with at most 5 decimals",
        ),
        (
            "connect/fx",
            {"trading_day": "20261123", "rate": "0.9"},
            "trading_day: must be a date such as 2026-11-23",
        ),
        (
            "connect/fx",
            {"trading_day": "2026-02-30", "rate": "0.9"},
            "trading_day: must be a date such as 2026-11-23",
        ),
        ("connect/fx", [], "payload: must be a JSON object, not array"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_mistakes_name_field_and_rule(topic: str, payload: object, expected: str) -> None:
    assert reason(topic, payload) == expected


def test_mistake_goes_whole_to_its_pool_or_to_none() -> None:
    assert read(ORDERS, b"x").pool is PoolName.NB_SH
    assert read("connect/NB-XX/orders", b"x").pool is None
    assert read("connect/fx", b"x").pool is None
    assert read(ORDERS, b"x").mistakes == (
        Mistake("payload: is not JSON (invalid character (byte 0))", ORDERS, b"x"),
    )


def test_pool_that_we_do_not_serve_is_left_alone() -> None:
    served = frozenset({PoolName.SB_SZ})
    assert decode(ORDERS, b"x", "connect", served) is None
    assert decode("connect/NB-SH/orders/too/deep", b"x", "connect", served) is None
    assert decode("connect/SB-SZ/orders", b"x", "connect", served) is not None


def test_root_may_have_several_levels() -> None:
    decoded = decode("acme/east/NB-SH/orders", json.dumps(NEW).encode(), "acme/east", ALL)
    assert decoded is not None
    assert len(decoded.events) == 1


def test_topic_gives_its_source_to_events_without_one() -> None:
    own, given_ = NEW | {"source": "gw1"}, NEW
    for payload in ([given_, own], given_, own):
        assert {event.source for event in read(ORDERS + "/gw1", payload).events} == {"gw1"}
    assert [event.source for event in read(ORDERS, [given_, own]).events] == ["", "gw1"]


def test_good_elements_of_an_array_apply_and_bad_ones_go_alone() -> None:
    bad = NEW | {"price": 1}
    decoded = read(ORDERS + "/gw1", [NEW, bad, NEW | {"source": "gw2"}, [NEW], NEW])
    assert [event.source for event in decoded.events] == ["gw1", "gw1"]
    assert decoded.places == (0, 4)
    assert [(mistake.index, mistake.reason) for mistake in decoded.mistakes] == [
        (1, "price: must be a JSON string"),
        (2, "source: the topic says 'gw1', the event 'gw2'"),
        (3, "payload: must be a JSON object, not array"),
    ]
    assert json.loads(decoded.mistakes[0].payload) == bad


def test_element_that_is_not_utf8_goes_alone() -> None:
    decoded = read(ORDERS, b'[{"event":"cancelled","order_id":"a"},{"event":"cancelled","x":"\xff"}]')
    assert decoded.events == (Cancelled(order_id="a"),)
    assert decoded.mistakes == [
        Mistake("payload: is not UTF-8", ORDERS, b'{"event":"cancelled","x":"\xff"}', 1)
    ]


def test_array_of_a_thousand_is_read() -> None:
    assert len(read(ORDERS, [NEW] * ARRAY_MAX).events) == ARRAY_MAX


def test_rate_and_mark() -> None:
    rate = read("connect/fx", {"trading_day": "2026-11-23", "rate": "0.91250", "by": "PBOC"}).rate
    assert rate is not None
    assert (rate.trading_day, rate.rate) == ("2026-11-23", "0.91250")
    assert read("connect/daemon/quotad/mark", b"abc").mark == "abc"
    assert read("connect/daemon/quotad/mark", b"\xff").mark == "\ufffd"


@pytest.mark.parametrize(
    ("payload", "event", "expected"),
    [
        (b' {"a": 1}', 0, Mistake("no", ORDERS, b' {"a": 1}')),
        (b' [{"a": 1}, {"b":  2}]', 1, Mistake("no", ORDERS, b'{"b":  2}', 1)),
    ],
)
def test_delivery_gives_an_event_back_as_it_came(payload: bytes, event: int, expected: Mistake) -> None:
    assert Delivery(ORDERS, payload, lambda: None).mistake(event, "no") == expected


def test_delivery_counts_past_the_bad_elements() -> None:
    payload = json.dumps([1, NEW, 2, NEW | {"order_id": "b"}]).encode()
    decoded = read(ORDERS, payload)
    delivery = Delivery(ORDERS, payload, lambda: None, decoded.pool, decoded.events, decoded.places)
    mistake = delivery.mistake(1, "no")
    assert mistake.index == 3
    assert json.loads(mistake.payload)["order_id"] == "b"


@given(st.binary(), st.sampled_from([ORDERS, FILLS, ORDERS + "/gw1", "connect/fx", "connect/x/orders"]))
def test_no_bytes_raise(payload: bytes, topic: str) -> None:
    decoded = read(topic, payload)
    assert decoded.events or decoded.mistakes or not payload


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["new", "fill"]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from([*FILL, "source", "time", "symbol", "other"]), inner)
    ),
)


@given(JSON, st.sampled_from([ORDERS, FILLS, ORDERS + "/gw1", "connect/fx"]))
def test_no_json_raises_and_nothing_gets_lost(value: object, topic: str) -> None:
    decoded = read(topic, json.dumps(value).encode())
    found = len(decoded.events) + len(decoded.mistakes) + (decoded.rate is not None)
    assert found == (len(value) if isinstance(value, list) and value and topic != "connect/fx" else 1)


@given(st.text(), st.binary(max_size=20))
def test_no_topic_raises(topic: str, payload: bytes) -> None:
    read(topic, payload)
    read("connect/" + topic, payload)


def written(message: Message) -> tuple[str, Any, bool]:
    topic, payload, retain = encode(message, "connect")
    return topic, json.loads(payload), retain


def test_replies_are_an_array_even_of_one() -> None:
    reply = Reply(
        order_id="a",
        pool=PoolName.NB_SH,
        side=Side.BUY,
        verdict=Verdict.ACCEPTED,
        balance_fen=5,
        status=Status.OPEN,
        seq=7,
        replayed=False,
        time="2026-11-23T09:31:00.000+08:00",
    )
    assert written(Replies(PoolName.NB_SH, "gw1", (reply,))) == (
        "connect/NB-SH/decisions/gw1",
        [
            {
                "order_id": "a",
                "pool": "NB-SH",
                "side": "buy",
                "verdict": "accepted",
                "balance_fen": 5,
                "status": "open",
                "seq": 7,
                "replayed": False,
                "time": "2026-11-23T09:31:00.000+08:00",
            }
        ],
        False,
    )
    assert encode(Replies(PoolName.NB_SH, "", (reply,)), "r")[0] == "r/NB-SH/decisions/-"


def test_status_is_retained_and_alerts_are_not() -> None:
    status = StatusReport(
        pool=PoolName.SB_SZ,
        trading_day=None,
        phase=Phase.CLOSED,
        status=Status.CLOSED,
        limit_fen=None,
        balance_fen=None,
        used_ratio=None,
        level=0,
        rate=None,
        seq=None,
        time="t",
    )
    topic, body, retain = written(status)
    assert (topic, body["status"], body["limit_fen"], retain) == (
        "connect/SB-SZ/status",
        "closed",
        None,
        True,
    )
    alert = Alert(
        pool=PoolName.SB_SZ,
        kind="level",
        was=50,
        now=70,
        balance_fen=-1,
        used_ratio=0.7,
        seq=3,
        reason="",
        time="t",
    )
    topic, body, retain = written(alert)
    assert (topic, body["from"], body["to"], retain) == ("connect/SB-SZ/alerts", 50, 70, False)


def dead(payload: bytes, index: int | None = None, pool: PoolName | None = None) -> dict[str, Any]:
    topic, body, retain = written(DeadLetter(pool, Mistake("why", "where", payload, index)))
    assert topic == f"connect/{pool or '-'}/dead"
    assert not retain
    assert isinstance(body, dict)
    return body


def test_dead_letters_repeat_what_came() -> None:
    assert dead(b"{", pool=PoolName.NB_SZ) == {"reason": "why", "topic": "where", "payload": "{"}
    assert dead("é".encode(), 3) == {"reason": "why", "topic": "where", "payload": "é", "index": 3}
    assert dead(b"\xff\x00") == {
        "reason": "why",
        "topic": "where",
        "payload_base64": base64.b64encode(b"\xff\x00").decode(),
    }


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        (b"x" * DEAD_BYTES, DEAD_BYTES),
        (b"x" * (DEAD_BYTES + 1), DEAD_BYTES),
        (b"x" + "é".encode() * DEAD_BYTES, DEAD_BYTES - 1),
    ],
)
def test_long_dead_letters_are_cut_between_characters(payload: bytes, kept: int) -> None:
    body = dead(payload)
    assert body["payload"].encode() == payload[:kept]
    whole = {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    assert {key: body.get(key) for key in whole} == (
        whole if len(payload) > DEAD_BYTES else dict.fromkeys(whole)
    )


def test_long_dead_letter_that_is_no_text_is_cut_too() -> None:
    body = dead(b"x" * DEAD_BYTES + b"\xff")
    assert base64.b64decode(body["payload_base64"]) == b"x" * DEAD_BYTES
    assert body["size"] == DEAD_BYTES + 1


def test_events_round_trip() -> None:
    event = NewOrder(order_id="a", side=Side.SELL, price="1.500", quantity=7, source="gw1", symbol="600519")
    assert read(ORDERS, msgspec.json.encode(event)).events == (event,)


def seven(source: str = "gw1") -> Numbers:
    return Numbers(source, "e", 7, 7)


@pytest.mark.parametrize(
    ("topic", "payload", "numbers"),
    [
        (ORDERS, NEW, ()),
        (ORDERS, [NEW] * 2, ()),
        (ORDERS, NUMBERED, [seven()]),
        (FILLS, NUMBERED | {"event": "fill", "exec_id": "x"}, [seven()]),
        (
            ORDERS + "/gw2",
            {"event": "cancelled", "order_id": "a", "epoch": "e", "sequence": 7},
            [seven("gw2")],
        ),
        (ORDERS, [NEW, NUMBERED, NUMBERED | {"sequence": 8}], [seven(), Numbers("gw1", "e", 8, 8)]),
    ],
)
def test_events_have_the_numbers_that_their_source_gave_them(
    topic: str, payload: object, numbers: list[Numbers]
) -> None:
    decoded = read(topic, payload)
    assert (list(decoded.numbers), decoded.mistakes) == (list(numbers), ())
    assert len(decoded.events) == (len(payload) if isinstance(payload, list) else 1)


@pytest.mark.parametrize("topic", [ORDERS, FILLS, ORDERS + "/gw1", FILLS + "/gw1"])
def test_a_heartbeat_is_no_event_and_says_how_far_the_numbers_go(topic: str) -> None:
    for sequence in (0, 7):
        decoded = read(topic, HEARTBEAT | {"sequence": sequence, "more": 1})
        assert (decoded.events, decoded.mistakes) == ((), ())
        assert decoded.numbers == [Numbers("gw1", "e", sequence + 1, sequence)]


def test_a_heartbeat_among_events_leaves_each_its_place() -> None:
    payload = [NEW, HEARTBEAT, NUMBERED, {"event": "new"}, NEW | {"order_id": "last"}]
    decoded = read(ORDERS, payload)
    assert [decoded.places[at] for at in range(3)] == [0, 2, 4]
    assert [event.order_id for event in decoded.events] == ["a-1", "a-1", "last"]
    assert [mistake.index for mistake in decoded.mistakes] == [3]
    clean = read(ORDERS, payload[:3])
    assert (len(clean.events), list(clean.places), clean.mistakes) == (2, [0, 2], ())


@pytest.mark.parametrize(
    ("topic", "payload", "numbers"),
    [
        (ORDERS, NUMBERED | {"quantity": 0}, [seven()]),
        (ORDERS, NUMBERED | {"event": "unknown"}, [seven()]),
        (FILLS, NUMBERED, [seven()]),
        (ORDERS + "/gw2", NUMBERED, [seven("gw2")]),
        (
            ORDERS,
            [NUMBERED | {"quantity": 0}, NUMBERED | {"sequence": 8}],
            [Numbers("gw1", "e", 8, 8), seven()],
        ),
        (ORDERS, NUMBERED | {"sequence": 0}, []),
        (ORDERS, NUMBERED | {"epoch": "a b"}, []),
        (ORDERS, NUMBERED | {"source": 3}, []),
        (ORDERS, NEW | {"epoch": "e", "sequence": 7}, []),
        (ORDERS + "/gw2", HEARTBEAT, []),
        (ORDERS, b'{"source": "gw1", "epoch": "e", "sequence": 7', []),
        (ORDERS, [NUMBERED] * 1001, []),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_goes_to_the_dead_letters_is_not_missing_if_its_number_can_be_read(
    topic: str, payload: object, numbers: list[Numbers]
) -> None:
    decoded = read(topic, payload)
    assert list(decoded.numbers) == numbers
    assert decoded.mistakes

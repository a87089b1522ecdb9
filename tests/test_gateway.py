"""The gateway's calls on real stores: what they answer, by when, and what they never do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from quota.decision import Side, Status, Verdict
from quota.errors import BadArgument, ConfigError
from quota.gate.answers import Answer, Released, Result, unknown
from quota.gateway import PreTrade
from quota.ledger import RedisLedger
from quota.store.record import keys
from tests.agreement.trading import POOL, opening
from tests.servers import Store

PLENTY_MS = 20_000


@pytest.fixture
async def day(client: Redis, ledger: RedisLedger) -> RedisLedger:
    """A ledger with a day of 10,000 yuan that trades."""
    await ledger.open_day(POOL, await opening(client))
    return ledger


@pytest.fixture
async def gate(store: Store, day: RedisLedger) -> AsyncIterator[PreTrade]:  # noqa: ARG001 - a day has to be open
    """A gateway with all the time in the world."""
    async with PreTrade(store.url, source="gw1", deadline_ms=PLENTY_MS) as pretrade:
        yield pretrade


async def charged(client: Redis) -> int:
    """How much the pool has been charged, in fen."""
    fields: Any = await client.hgetall(keys(POOL)[0])
    return int(fields[b"limit_fen"]) - int(fields[b"balance_fen"])


reserved = partial(Answer, reservation=True)


# What is answered.


async def test_a_first_order_is_charged_and_a_repeated_one_is_replayed(gate: PreTrade) -> None:
    first = await gate.reserve(POOL, "a", "buy", "10.00", 100)
    again = await gate.reserve(POOL, "a", "buy", "10.00", 100)
    assert first == reserved(Result.ACCEPTED, Verdict.ACCEPTED, 900_000, 1, Status.OPEN)
    assert again == reserved(Result.ACCEPTED, Verdict.ACCEPTED, 900_000, 1, Status.OPEN, replayed=True)


async def test_an_id_with_other_content_is_refused(gate: PreTrade) -> None:
    await gate.reserve(POOL, "a", "buy", "10.00", 100)
    other = await gate.reserve(POOL, "a", "buy", "10.00", 200)
    assert (other.outcome, other.verdict) == (Result.REFUSED, Verdict.ID_REUSED)
    assert not other.may_send("buy")


async def test_a_look_charges_nothing(gate: PreTrade, client: Redis) -> None:
    expected = Answer(Result.ACCEPTED, Verdict.ACCEPTED, 1_000_000, 0, Status.OPEN)
    assert await gate.check(POOL, "buy") == await gate.check(POOL, Side.SELL) == expected
    assert await gate.status(POOL) == expected
    assert await charged(client) == 0


async def test_where_no_day_is_open_buys_are_refused_and_sells_go(gate: PreTrade) -> None:
    buy = await gate.reserve("SB-SZ", "a", "buy", "1", 1)
    sell = await gate.reserve("SB-SZ", "a", "sell", "1", 1)
    assert buy == reserved(Result.REFUSED, Verdict.CLOSED, None, None, Status.CLOSED)
    assert sell == reserved(Result.ACCEPTED, Verdict.ACCEPTED, None, None, Status.CLOSED)


async def test_a_reservation_is_given_back_and_its_id_is_spent(gate: PreTrade, client: Redis) -> None:
    await gate.reserve(POOL, "a", "buy", "10.00", 100)
    back = await gate.release(POOL, "a")
    assert back == Answer(Result.ACCEPTED, None, 1_000_000, 2, released=Released.RELEASED)
    assert (await gate.reserve(POOL, "a", "buy", "10.00", 100)).verdict is Verdict.ID_REUSED
    assert await charged(client) == 0


async def test_a_release_of_an_unseen_id_spends_it(gate: PreTrade) -> None:
    back = await gate.release(POOL, "late")
    assert (back.outcome, back.released) == (Result.ACCEPTED, Released.UNKNOWN)
    assert (await gate.reserve(POOL, "late", "buy", "1", 1)).verdict is Verdict.ID_REUSED


async def test_a_settled_order_is_not_given_back(gate: PreTrade) -> None:
    await gate.reserve(POOL, "s", "sell", "1", 1)
    back = await gate.release(POOL, "s")
    assert (back.outcome, back.released) == (Result.REFUSED, Released.SETTLED)


async def test_a_hold_goes_with_the_order(gate: PreTrade, client: Redis) -> None:
    held = await gate.reserve(POOL, "h", "buy", "1", 1, hold_ms=60_000)
    assert held.outcome is Result.ACCEPTED
    assert await client.zcard(keys(POOL)[3]) == 1


async def test_the_source_stands_in_the_journal(gate: PreTrade, client: Redis) -> None:
    await gate.reserve(POOL, "a", "buy", "1.50", 1)
    page: Any = await client.xrange(keys(POOL)[5])
    assert page[0][1][b"event"] == b"new a buy 1.50 1 source=gw1 hold_ms=0"


# What may go out.


@pytest.mark.parametrize(
    ("answer", "buys", "sells"),
    [
        (reserved(Result.ACCEPTED, Verdict.ACCEPTED), True, True),
        (reserved(Result.REFUSED, Verdict.EXHAUSTED), False, False),
        (unknown("nothing heard", reservation=True), False, True),
        (unknown("nothing heard of a check"), False, False),
    ],
)
def test_what_is_unknown_holds_buys_back_and_lets_sells_go(
    answer: Answer, *, buys: bool, sells: bool
) -> None:
    assert (answer.may_send("buy"), answer.may_send(Side.SELL)) == (buys, sells)


async def test_no_order_goes_out_on_an_answer_that_is_not_a_reservations(gate: PreTrade) -> None:
    assert (await gate.reserve(POOL, "a", "buy", "1", 1)).may_send("buy")
    assert (await gate.reserve(POOL, "s", "sell", "1", 1)).may_send("sell")
    looks = [await gate.check(POOL, "buy"), await gate.check(POOL, "sell"), await gate.status(POOL)]
    for answer in (*looks, await gate.release(POOL, "a")):
        assert answer.outcome is Result.ACCEPTED
        assert (answer.may_send("buy"), answer.may_send("sell")) == (False, False)


async def test_no_sell_goes_out_on_an_unknown_release_or_look() -> None:
    async with PreTrade("redis://127.0.0.1:1", source="gw1", deadline_ms=30) as away:
        for answer in (await away.check(POOL, "sell"), await away.release(POOL, "a")):
            assert (answer.outcome, answer.may_send("sell")) == (Result.UNKNOWN, False)
        assert (await away.reserve(POOL, "s", "sell", "1", 1)).may_send("sell")


# Arguments.


class Text(str, Enum):  # noqa: UP042 - its name as text differs from its value, and that is the point
    """Arguments whose text in an f-string is not what they are."""

    ID = "a"
    SIDE = "sell"
    PRICE = "1.50"
    SOURCE = "gw1"

    def __str__(self) -> str:
        return f"a {self.name}\r\n"

    def __format__(self, spec: str) -> str:
        return str(self)


@pytest.mark.usefixtures("day")
async def test_arguments_of_a_subclass_of_str_are_written_as_what_they_are(
    store: Store, client: Redis
) -> None:
    async with PreTrade(store.url, source=Text.SOURCE, deadline_ms=PLENTY_MS) as gate:
        answer = await gate.reserve(POOL, Text.ID, Text.SIDE, Text.PRICE, 1)
        assert (answer.outcome, answer.seq) == (Result.ACCEPTED, 1)
        assert (await gate.release(POOL, Text.ID)).released is Released.SETTLED
    page: Any = await client.xrange(keys(POOL)[5])
    assert page[0][1][b"event"] == b"new a sell 1.50 1 source=gw1"


GOOD: dict[str, Any] = {"pool": "NB-SH", "order_id": "a", "side": "buy", "price": "1.5", "quantity": 1}


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("pool", "NB", "pool: must be one of NB-SH, NB-SZ, SB-SH, SB-SZ"),
        ("pool", ["NB-SH"], "pool: must be one of"),
        ("order_id", "", "order_id: must be 1 to 64 characters of A-Z a-z 0-9"),
        ("order_id", "a b", "order_id: must be"),
        ("order_id", "a\r\n", "order_id: must be"),
        ("order_id", "x" * 65, "order_id: must be"),
        ("order_id", 7, "order_id: must be"),
        ("side", "BUY", "side: must be buy or sell"),
        ("side", None, "side: must be buy or sell"),
        ("price", "0", "price: must be above zero"),
        ("price", "1.2345", "price: must be a decimal string"),
        ("price", "01", "price: must be a decimal string"),
        ("price", "١", "price: must be a decimal string"),
        ("price", 1.5, "price: must be a decimal string, not a number"),
        ("quantity", 0, "quantity: must be a positive integer"),
        ("quantity", True, "quantity: must be a positive integer"),
        ("quantity", 1.0, "quantity: must be a positive integer"),
        ("quantity", 4_500_000_000_000_000, "quantity: price × quantity must be at most"),
        ("hold_ms", 0, "hold_ms: must be a whole number of milliseconds from 1 to 86400000"),
        ("hold_ms", 86_400_001, "hold_ms: must be"),
        ("hold_ms", True, "hold_ms: must be"),
    ],
)
async def test_a_malformed_argument_is_told_before_anything_is_sent(
    field: str, value: object, rule: str
) -> None:
    never_entered = PreTrade("redis://127.0.0.1:1", source="gw1")
    with pytest.raises(BadArgument) as caught:
        await never_entered.reserve(**(GOOD | {field: value}))
    assert str(caught.value).startswith(rule)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("source", ["a b", "x" * 65, None, 7])
def test_a_malformed_source_is_refused(source: Any) -> None:  # noqa: ANN401 - that is the point
    with pytest.raises(BadArgument, match="source: must be 1 to 64"):
        PreTrade("redis://127.0.0.1:1", source=source)


@pytest.mark.parametrize("deadline_ms", [0, -1, 60_001, True, 1.5])
def test_a_malformed_deadline_is_refused(deadline_ms: Any) -> None:  # noqa: ANN401 - that is the point
    with pytest.raises(BadArgument, match="deadline_ms: must be"):
        PreTrade("redis://127.0.0.1:1", source="gw1", deadline_ms=deadline_ms)


async def test_a_total_out_of_the_pools_range_is_the_callers_mistake(gate: PreTrade) -> None:
    for number in range(2):
        last = gate.reserve(POOL, f"huge{number}", "sell", "1", 4_500_000_000_000)
        await last
    with pytest.raises(BadArgument, match="price"):
        await gate.reserve(POOL, "z", "sell", "99999999999.999", 4_500_000)


async def test_a_gateway_is_used_inside_its_with(store: Store) -> None:
    outside = PreTrade(store.url, source="gw1")
    with pytest.raises(ConfigError, match="inside its `with`"):
        await outside.check(POOL, "buy")

"""The daemon over a feed and a ledger in memory: applied, then answered, then acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from quota.daemon import BATCH_EVENTS, REPLIES_MAX
from quota.decision import PoolName
from quota.errors import FeedTaken, LedgerCorrupt
from quota.feed import DeadLetter, Replies
from tests.rigs import FRIDAY, MONDAY, NB_SH, SB_SH, Rig, rig, running, until

SAID_A = ',"source":"a"'


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return rig(monkeypatch)


def new(order_id: str, amount: str = "buy 1.00 1", extra: str = "") -> str:
    side, price, quantity = amount.split()
    named = f'"event":"new","order_id":"{order_id}","side":"{side}"'
    return f'{{{named},"price":"{price}","quantity":{quantity}{extra}}}'


def fill(order_id: str, exec_id: str, amount: str = "buy 1.00 1") -> str:
    return new(order_id, amount, f',"exec_id":"{exec_id}"').replace('"new"', '"fill"')


async def test_an_event_is_applied_then_answered_then_acknowledged(here: Rig) -> None:
    async with running(here):
        here.desk.bring(here.desk.orders(new("1")))
        await until(lambda: here.desk.acknowledged)
    assert here.desk.happened == ["applied", "Replies", "acknowledged"]


async def test_a_fact_is_acknowledged_without_an_answer(here: Rig) -> None:
    async with running(here):
        here.desk.bring(here.desk.fills(fill("1", "e")))
        await until(lambda: here.desk.acknowledged)
    assert here.desk.happened == ["applied", "acknowledged"]
    assert here.count("NB-SH", "fill", "applied") == 1


async def test_what_cannot_be_answered_is_not_acknowledged_and_comes_again(here: Rig) -> None:
    order = here.desk.orders(new("1"))
    async with running(here):
        here.desk.away = True
        here.desk.bring(order)
        await until(lambda: here.store.batches)
        here.desk.away = False
        here.desk.bring(order)
        await until(lambda: here.desk.acknowledged)
    assert here.desk.happened == ["applied", "applied", "Replies", "acknowledged"]
    (reply,) = here.desk.replies()
    assert (reply.replayed, reply.verdict, reply.seq) == (True, "accepted", 1)
    assert here.pool().seq == 1


async def test_while_the_store_is_away_nothing_is_answered_and_then_everything(here: Rig) -> None:
    async with running(here):
        here.store.leave()
        here.desk.bring(here.desk.orders(new("1")), here.desk.orders(new("2"), SB_SH))
        attempts = here.store.attempts
        await until(lambda: here.store.attempts > attempts + 3)
        assert here.desk.happened == []
        here.store.come_back()
        await until(lambda: len(here.desk.acknowledged) == 2)
    assert len(here.desk.replies()) == 2


async def test_told_to_stop_while_the_store_is_away_it_gives_the_batch_up(here: Rig) -> None:
    async with running(here):
        here.store.leave()
        here.desk.bring(here.desk.orders(new("1")))
        attempts = here.store.attempts
        await until(lambda: here.store.attempts > attempts)
        here.daemon.stop()
        assert here.consuming is not None
        await asyncio.wait_for(here.consuming, 1)
    assert here.desk.happened == []


async def test_a_batch_in_hand_is_finished_and_the_next_is_not_begun(here: Rig) -> None:
    async with running(here):
        here.store.open.clear()
        here.desk.bring(here.desk.orders(new("1")))
        attempts = here.store.attempts
        await until(lambda: here.store.attempts > attempts)
        here.desk.bring(here.desk.orders(new("2")))
        here.daemon.stop()
        here.store.open.set()
        assert here.consuming is not None
        await asyncio.wait_for(here.consuming, 1)
    assert here.desk.happened == ["applied", "Replies", "acknowledged"]


async def test_told_to_stop_while_it_waits_it_ends_at_once(here: Rig) -> None:
    async with running(here):
        await asyncio.sleep(0)
        here.daemon.stop()
        assert here.consuming is not None
        await asyncio.wait_for(here.consuming, 1)


async def test_cancelled_by_somebody_else_it_says_so(here: Rig) -> None:
    await here.days.begin()
    consuming = here.start()
    await asyncio.sleep(0)
    consuming.cancel()
    await asyncio.wait({consuming})
    assert consuming.cancelled()


@pytest.mark.parametrize("error", [LedgerCorrupt("wrong"), FeedTaken("gone")])
async def test_what_nobody_can_wait_out_ends_it_and_nothing_is_acknowledged(
    here: Rig, error: LedgerCorrupt | FeedTaken
) -> None:
    async with running(here):
        if isinstance(error, FeedTaken):
            here.desk.fail(error)
        else:
            here.store.trouble = error
            here.desk.bring(here.desk.orders(new("1")))
        assert here.consuming is not None
        with pytest.raises(type(error)):
            await here.consuming
    assert here.desk.acknowledged == []


async def test_a_call_takes_so_many_events_at_most(here: Rig) -> None:
    def array(first: int, count: int) -> str:
        return f"[{','.join(new(str(number)) for number in range(first, first + count))}]"

    async with running(here):
        here.desk.bring(here.desk.orders(array(0, 1000)), here.desk.orders(array(1000, 200)))
        await until(lambda: len(here.desk.acknowledged) == 2)
    assert here.store.batches == [BATCH_EVENTS, BATCH_EVENTS, 1200 - 2 * BATCH_EVENTS]
    answers = [message.replies for message in here.desk.sent if isinstance(message, Replies)]
    assert max(map(len, answers)) == REPLIES_MAX
    assert [reply.order_id for page in answers for reply in page] == [str(number) for number in range(1200)]


async def test_what_comes_while_a_call_is_under_way_is_the_next_batch(here: Rig) -> None:
    async with running(here):
        here.store.open.clear()
        attempts = here.store.attempts
        here.desk.bring(here.desk.orders(new("0")))
        await until(lambda: here.store.attempts > attempts)
        for number in range(1, 11):
            here.desk.bring(here.desk.orders(new(str(number))))
        here.store.open.set()
        await until(lambda: len(here.desk.acknowledged) == 11)
    assert here.store.batches == [1, 10]


async def test_answers_go_to_each_source_with_all_fields(here: Rig) -> None:
    first, second, third = new("1", extra=SAID_A), new("2", "sell 2.00 3"), new("3", extra=SAID_A)
    async with running(here):
        here.desk.bring(here.desk.orders(f"[{first},{second},{third}]"))
        await until(lambda: here.desk.acknowledged)
    sent = [message for message in here.desk.sent if isinstance(message, Replies)]
    assert [(message.pool, message.source, len(message.replies)) for message in sent] == [
        (NB_SH, "a", 2),
        (NB_SH, "", 1),
    ]
    (reply,) = sent[1].replies
    assert (reply.order_id, reply.pool, reply.side, reply.verdict) == ("2", "NB-SH", "sell", "accepted")
    assert (reply.balance_fen, reply.status, reply.seq, reply.replayed) == (999_900, "open", 2, False)
    assert reply.time == f"{MONDAY}T10:00:00.000+08:00"


HUGE = "buy 9999999999.00 1000000"
MISTAKES = {
    "another day": (new("9", extra=f',"time":"{FRIDAY}T10:00:00+08:00"'), "time: another day than"),
    "exec_reused": (
        fill("1", "e", "buy 1.00 2"),
        "exec_id: was used before with other content (exec_reused)",
    ),
    "side_conflict": (fill("1", "f", "sell 1.00 1"), "side: is not the side of the order (side_conflict)"),
    "out_of_range": (fill("9", "g", HUGE), "price, quantity: a total would pass"),
    "undecodable": ("{", "payload: is not JSON"),
}


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_mistake_goes_to_the_dead_letters_and_is_acknowledged(here: Rig, name: str) -> None:
    payload, reason = MISTAKES[name]
    async with running(here):
        here.desk.bring(here.desk.orders(new("1")), here.desk.fills(fill("1", "e")))
        await until(lambda: len(here.desk.acknowledged) == 2)
        balance_fen = here.pool().balance_fen
        topic = here.desk.fills if '"fill"' in payload else here.desk.orders
        here.desk.bring(topic(payload))
        await until(lambda: len(here.desk.acknowledged) == 3)
    (letter,) = [message for message in here.desk.sent if isinstance(message, DeadLetter)]
    assert (letter.pool, letter.mistake.payload) == (NB_SH, payload.encode())
    assert letter.mistake.reason.startswith(reason)
    assert here.pool().balance_fen == balance_fen
    event = {"another day": "new", "undecodable": "unknown"}.get(name, "fill")
    assert here.count("NB-SH", event, "dead") == 1


async def test_a_mistake_in_an_array_goes_alone_with_its_place(here: Rig) -> None:
    late = new("2", extra=f',"time":"{FRIDAY}T10:00:00+08:00"')
    async with running(here):
        here.desk.bring(here.desk.orders(f"[{new('1')}, 7, {late}, {new('3')}]"))
        await until(lambda: here.desk.acknowledged)
    letters = [message.mistake for message in here.desk.sent if isinstance(message, DeadLetter)]
    assert [(letter.index, letter.payload) for letter in letters] == [(2, late.encode()), (1, b"7")]
    assert [reply.order_id for reply in here.desk.replies()] == ["1", "3"]


async def test_a_topic_of_no_pool_is_buried_without_one(here: Rig) -> None:
    async with running(here):
        here.desk.bring(here.desk.message("connect/XX/orders", b"?"))
        await until(lambda: here.desk.acknowledged)
    (letter,) = [message for message in here.desk.sent if isinstance(message, DeadLetter)]
    assert (letter.pool, letter.mistake.reason) == (None, "topic: 'XX' is no pool")
    assert here.count("-", "unknown", "dead") == 1


async def test_pools_do_not_wait_for_each_other_and_every_answer_is_sent(here: Rig) -> None:
    async with running(here):
        here.desk.bring(*(here.desk.orders(new("1"), pool) for pool in PoolName))
        await until(lambda: len(here.desk.acknowledged) == 4)
    assert here.desk.happened[:4] == ["applied"] * 4
    assert {reply.pool for reply in here.desk.replies()} == set(PoolName)

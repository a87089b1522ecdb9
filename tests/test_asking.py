"""By when a gateway's calls answer, what they share, and what they never do when their callers give up."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis.asyncio import Redis

from quota.decision import Verdict
from quota.errors import BadArgument, ConfigError
from quota.gate.answers import Released, Result
from quota.gateway import PreTrade, PreTradeSync
from quota.ledger import RedisLedger
from quota.library import Library
from quota.store.record import keys
from tests.agreement.trading import POOL, opening
from tests.servers import Store
from tests.wires import Wire

PLENTY_MS = 20_000
_STRANGE = """#!lua name=quota
redis.register_function('quota_reserve', function() return {'maybe', 1, 1, 0, 'open'} end)
local function check() return {} end
redis.register_function{function_name = 'quota_check', callback = check, flags = {'no-writes'}}
"""


@pytest.fixture
async def day(client: Redis, ledger: RedisLedger) -> None:
    """A day of 10,000 yuan that trades."""
    await ledger.open_day(POOL, await opening(client))


async def charged(client: Redis) -> int:
    """How much the pool has been charged, in fen."""
    fields: Any = await client.hgetall(keys(POOL)[0])
    return int(fields[b"limit_fen"]) - int(fields[b"balance_fen"])


# Deadlines, and asking again.


@pytest.mark.usefixtures("day")
async def test_a_store_that_does_not_answer_is_unknown_by_the_deadline(store: Store) -> None:
    async with Wire(store.port) as wire, PreTrade(wire.url, source="gw1", deadline_ms=60) as gate:
        assert (await gate.reserve(POOL, "a", "buy", "1", 1)).outcome is Result.ACCEPTED
        wire.still.clear()
        began = time.monotonic()
        answer = await gate.reserve(POOL, "b", "buy", "1", 1)
        assert answer.outcome is Result.UNKNOWN
        assert answer.reason.startswith("no answer within 60 ms")
        assert 0.055 <= time.monotonic() - began < 2.0
        wire.still.set()


async def test_a_store_that_is_not_there_is_unknown_and_says_why() -> None:
    async with PreTrade("redis://127.0.0.1:1", source="gw1", deadline_ms=30) as gate:
        answer = await gate.reserve(POOL, "a", "buy", "1", 1)
    assert answer.outcome is Result.UNKNOWN
    assert "127.0.0.1:1" in answer.reason


@pytest.mark.usefixtures("day")
async def test_a_lost_answer_is_asked_for_again_and_charged_once(store: Store, client: Redis) -> None:
    async with Wire(store.port) as wire, PreTrade(wire.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        wire.lossy = 3
        answer = await gate.reserve(POOL, "a", "buy", "10.00", 100)
        assert (answer.outcome, answer.replayed, answer.seq) == (Result.ACCEPTED, True, 1)
        assert wire.lossy == 0
    assert await charged(client) == 100_000


@pytest.mark.usefixtures("day")
async def test_a_connection_that_stands_still_is_left_for_another(store: Store) -> None:
    async with Wire(store.port) as wire, PreTrade(wire.url, source="gw1", deadline_ms=2_000) as gate:
        await gate.reserve(POOL, "a", "buy", "1", 1)
        stuck = wire.still
        stuck.clear()
        asked = asyncio.create_task(gate.reserve(POOL, "b", "buy", "1", 1))
        wire.still = asyncio.Event()
        wire.still.set()
        answer = await asked
        stuck.set()
    assert answer.outcome is Result.ACCEPTED


@pytest.mark.usefixtures("day")
async def test_what_nobody_waits_for_is_never_sent(store: Store, client: Redis) -> None:
    """While the connection is away calls end as unknown; when it is back, none of them is charged."""
    async with Wire(store.port) as wire:
        port = wire.port
    async with PreTrade(f"redis://127.0.0.1:{port}/0", source="gw1", deadline_ms=40) as gate:
        answers = await asyncio.gather(*(gate.reserve(POOL, f"o{n}", "buy", "1", 1) for n in range(50)))
        assert {answer.outcome for answer in answers} == {Result.UNKNOWN}
        async with Wire(store.port, port=port):
            while (await gate.check(POOL, "buy")).outcome is Result.UNKNOWN:
                pass
    assert await client.hlen(keys(POOL)[1]) == 0


@pytest.mark.usefixtures("day")
async def test_a_store_that_lost_its_functions_is_unknown_until_it_has_them(
    store: Store, client: Redis
) -> None:
    async with PreTrade(store.url, source="gw1", deadline_ms=40) as gate:
        await client.function_flush()
        answer = await gate.reserve(POOL, "a", "buy", "1", 1)
        assert answer.outcome is Result.UNKNOWN
        assert "Function not found" in answer.reason


async def test_a_reply_in_words_that_we_do_not_know_is_unknown(client: Redis, store: Store) -> None:
    """A later version may add a verdict; a gateway that does not know it lets no buy go on it."""
    await client.function_load(_STRANGE)
    async with PreTrade(store.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        for answer in (await gate.reserve(POOL, "a", "buy", "1", 1), await gate.status(POOL)):
            assert answer.outcome is Result.UNKNOWN
            assert not answer.may_send("buy")
            assert "none that we know" in answer.reason


@pytest.mark.usefixtures("day")
async def test_a_call_under_way_at_the_end_is_unknown(store: Store) -> None:
    async with Wire(store.port) as wire:
        async with PreTrade(wire.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
            wire.still.clear()
            asked = asyncio.create_task(gate.check(POOL, "buy"))
            await asyncio.sleep(0)
        answer = await asked
        wire.still.set()
    assert (answer.outcome, "closed" in answer.reason) == (Result.UNKNOWN, True)


# Sharing, and giving up.


@pytest.mark.usefixtures("day")
async def test_callers_of_one_turn_share_their_round_trips(store: Store) -> None:
    async with Wire(store.port) as wire, PreTrade(wire.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        answers = await asyncio.gather(*(gate.reserve(POOL, f"o{n}", "buy", "1", 1) for n in range(64)))
        assert sorted(answer.seq or 0 for answer in answers) == list(range(1, 65))
        assert wire.pieces <= 2


@pytest.mark.usefixtures("day")
async def test_callers_that_give_up_never_shift_the_answers_of_others(store: Store) -> None:
    """Each order's content is its own, so an answer to another would be id_reused or another's seq."""
    choose = random.Random(20261123)
    async with (
        Wire(store.port, jitter=random.Random(7)) as wire,
        PreTrade(wire.url, source="gw1", deadline_ms=PLENTY_MS) as gate,
    ):
        seqs: dict[str, int] = {}

        async def ask(name: str) -> None:
            answer = await gate.reserve(POOL, name, "sell", "1", int(name[1:]) + 1)
            assert answer.verdict is Verdict.ACCEPTED
            seqs[name] = answer.seq or 0

        given_up = 0
        for start in range(0, 4_000, 40):
            tasks = [asyncio.create_task(ask(f"o{n}")) for n in range(start, start + 40)]
            for task in choose.sample(tasks, 20):
                for _ in range(choose.randint(0, 4)):
                    await asyncio.sleep(0)
                given_up += task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
        assert given_up > 1_000
        assert len(seqs) > 1_000
    assert await _journalled(store, seqs) == set()


async def _journalled(store: Store, seqs: dict[str, int]) -> set[str]:
    """The orders whose answer carried another number than their entry in the journal."""
    async with Redis.from_url(store.url, protocol=2) as client:
        page: Any = await client.xrange(keys(POOL)[5])
    written = {fields[b"event"].split()[1].decode(): int(key.split(b"-")[0]) for key, fields in page}
    return {name for name, seq in seqs.items() if written[name] != seq}


# Threads.


@pytest.mark.usefixtures("sync_day")
def test_threads_get_the_same_answers(store: Store) -> None:
    with PreTradeSync(store.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        assert gate.reserve("NB-SH", "a", "buy", "10.00", 100).seq == 1
        assert gate.reserve("NB-SH", "a", "buy", "10.00", 100).replayed
        assert gate.check("NB-SH", "buy").balance_fen == gate.status("NB-SH").balance_fen == 900_000
        assert gate.release("NB-SH", "a").released is Released.RELEASED
        with pytest.raises(BadArgument, match="side: must be buy or sell"):
            gate.check("NB-SH", "hold")
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: gate.reserve("NB-SH", f"o{n}", "buy", "1", 1), range(400)))
    assert sorted(answer.seq or 0 for answer in answers) == list(range(3, 403))


@pytest.mark.usefixtures("sync_day")
def test_threads_that_come_after_the_end_are_told(store: Store) -> None:
    gate = PreTradeSync(store.url, source="gw1")
    with gate:
        pass
    with pytest.raises(ConfigError, match="inside its `with`"):
        gate.check("NB-SH", "buy")
    assert not [
        thread for thread in threading.enumerate() if thread.name == "pretrade gw1" and thread.is_alive()
    ]


@pytest.mark.usefixtures("sync_day")
def test_a_second_entrance_is_refused_and_leaves_the_first_at_work(store: Store) -> None:
    with PreTradeSync(store.url, source="gw1", deadline_ms=PLENTY_MS) as gate:
        with pytest.raises(ConfigError, match="entered once"):
            gate.__enter__()
        assert gate.reserve("NB-SH", "a", "buy", "1", 1).may_send("buy")
    with pytest.raises(ConfigError, match="entered once"):
        gate.__enter__()


@pytest.fixture
def sync_day(store: Store) -> None:
    """A day that trades, opened without a loop of the test's own."""

    async def open_day() -> None:
        async with Redis.from_url(store.url, protocol=2) as client:
            functions = Library(client)
            await functions.load()
            await RedisLedger(functions).open_day(POOL, await opening(client))

    asyncio.run(open_day())

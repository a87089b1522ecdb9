"""A day that was lost is put back from its journal: in the model and in a store alike, and as it was."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from quota.decision import Attest, Outcome, Side, Status, Verdict
from quota.doubt import Claim
from quota.errors import ConfigError
from quota.events import NewOrder
from quota.ledger import RedisLedger
from quota.memory import MemoryLedger
from quota.proof.verify import verify
from quota.store.record import keys
from tests.agreement.losing import probe_replay
from tests.agreement.past import Past, as_it_was, between, finished, played, rebuilt
from tests.agreement.state import NEVER_MS, linked, schedule_of, server_ms
from tests.agreement.test_rights import closed, limited
from tests.agreement.trading import HALT, POOL, buy, fill, opening, unchanged
from tests.agreement.twin import Twin, fresh_twin
from tests.scale import seeds
from tests.servers import Store

NOON_MS = 1_795_406_400_000
pytestmark = pytest.mark.soak


async def test_a_day_that_is_put_back_is_the_day_that_was(
    store: Store, counted: Callable[[str], None]
) -> None:
    chosen = seeds(40, 3_000)
    async with linked(store) as client:
        for seed in chosen:
            rng = Random(seed)
            past = await played(await server_ms(client), rng, steps=60)
            twin = await fresh_twin(client, past.name)
            await rebuilt(twin, past, rng)
            as_it_was(twin.model, past)
            await twin.tick(publish=False)
            await twin.agree()
            assert (await verify(twin.store.record, twin.name)).differences == ()
    counted(f"days put back: {len(chosen)} seeds from {chosen[0]} on, {store.name}")


async def test_every_beginning_of_a_day_is_put_back_as_it_was(counted: Callable[[str], None]) -> None:
    chosen = seeds(6, 300)
    for seed in chosen:
        for steps in range(1, 50):
            past = await played(NOON_MS, Random(seed), steps)
            model = MemoryLedger(lambda past=past: past.now_ms)  # type: ignore[misc]  # the one of this turn
            assert (await model.replay(past.name, past.terms, past.journal)).detail == ""
            assert (await model.adopt(past.name, past.terms.trading_day, len(past.journal), 0)).detail == ""
            as_it_was(model, past)
    counted(f"beginnings of days put back: {len(chosen)} days, every one of up to 49 steps")


async def test_the_probe_for_faults_finds_none(client: Redis) -> None:
    await probe_replay(await fresh_twin(client))


# What the store took meanwhile.


@pytest.fixture
async def lost(client: Redis) -> tuple[Twin, Past]:
    """A day that traded, and a twin whose store has only the beginning of it."""
    past = await between(await server_ms(client))
    twin = await fresh_twin(client)
    await twin.replay(past.terms, past.journal[:4])
    await twin.adopt(past.terms.trading_day, 4)
    return twin, past


async def test_what_was_answered_first_stands_and_the_rest_comes_behind_it(lost: tuple[Twin, Past]) -> None:
    twin, past = lost
    sell = NewOrder(order_id="s9", side=Side.SELL, price="1.00", quantity=1)
    decided = await twin.apply(buy("late"), sell, fill("b5"), buy("b7"), buy("other"))
    assert [decision.verdict for decision in decided] == ["halted", "accepted", None, "halted", "halted"]
    since = twin.model.books[POOL].journal[4:]
    await finished(twin, past, since)
    book = twin.model.books[POOL]
    assert book.journal[: len(past.journal)] == past.journal
    assert [entry.event.split()[1] for entry in book.journal[len(past.journal) :]] == ["s9", "b5", "other"]
    assert book.orders["late"].verdict is Verdict.ACCEPTED
    assert (await twin.apply(buy("b7")))[0].outcome is Outcome.DUPLICATE
    assert (await verify(twin.store.record, POOL)).differences == ()


async def test_what_the_store_takes_meanwhile_is_not_forgotten(
    lost: tuple[Twin, Past],
) -> None:
    twin, past = lost
    await twin.replay(past.terms, past.journal)
    await twin.apply(fill("b5"))
    assert (await twin.adopt(past.terms.trading_day, len(past.journal), 6)).detail == "live_seq: is 5"
    assert (await twin.adopt(past.terms.trading_day, len(past.journal), 4)).seq == len(past.journal) + 1
    await twin.agree()
    assert "b5-1" in twin.model.books[POOL].executions


async def test_an_event_whose_verdict_nobody_knows_is_decided_as_of_its_time(lost: tuple[Twin, Past]) -> None:
    twin, past = lost
    lines = ("new unheard buy 1.00 1", "new b7 buy 1.00 1", "new b0 buy 1.00 1")
    await finished(twin, past, [replace(past.journal[-1], event=text, verdict=None) for text in lines])
    book = twin.model.books[POOL]
    assert book.orders["unheard"].verdict is Verdict.ACCEPTED
    assert [entry.event for entry in book.journal[len(past.journal) :]] == [lines[0], "confirmed b7"]


# When it ends, and what it leaves.


async def test_the_pool_is_halted_until_somebody_attests_it(lost: tuple[Twin, Past]) -> None:
    twin, past = lost
    await finished(twin, past, [])
    assert (await twin.apply(buy("new")))[0].verdict is Verdict.HALTED
    assert (await twin.attest(Claim(0, 0, NEVER_MS))).detail == "attested: the day was put back"
    assert await twin.attest_last(1) is Attest.ATTESTED
    assert (await twin.apply(buy("newer")))[0].verdict is Verdict.ACCEPTED
    await twin.agree()
    again = await twin.replay(past.terms, past.journal)
    assert again.detail == "trading_day: the pool is attested on this server"


async def test_an_operators_halt_outlasts_it(client: Redis) -> None:
    past = await between(await server_ms(client))
    await past.operate(HALT)
    twin = await fresh_twin(client)
    await finished(twin, past, [])
    assert await twin.attest_last(0) is Attest.ATTESTED
    assert twin.pool is not None
    assert (twin.pool.status, twin.pool.halted) == (Status.HALTED, HALT.reason)


async def test_done_twice_is_done_once(lost: tuple[Twin, Past], client: Redis) -> None:
    twin, past = lost
    await finished(twin, past, [])
    async with unchanged(client):
        again = await twin.adopt(past.terms.trading_day, len(past.journal), 4)
    assert (again.seq, again.detail) == (len(past.journal), "")


async def test_an_unfinished_day_goes_by_itself_and_the_lost_one_is_kept_for_a_month(
    lost: tuple[Twin, Past], client: Redis
) -> None:
    twin, past = lost
    day = past.terms.trading_day
    await twin.replay(past.terms, past.journal)
    assert 0 < await client.ttl(keys(POOL, "rebuilt")[0]) <= 1800
    await finished(twin, past, [])
    assert [await client.ttl(key) for key in keys(POOL)[:3]] == [-1, -1, -1]
    assert await client.hget(keys(POOL, f"{day}.lost")[0], "seq") == b"4"
    assert await client.ttl(keys(POOL, f"{day}.lost")[0]) > 30 * 86_400


async def test_a_day_whose_store_changes_again_is_put_back_again(lost: tuple[Twin, Past]) -> None:
    twin, past = lost
    await finished(twin, past, [])
    await twin.store_changes()
    await twin.tick(publish=False)
    assert twin.pool is not None
    assert (twin.pool.attested, twin.pool.halted) == ("rebuilt?", "store changed")
    assert await twin.attest_last(0) is Attest.REFUSED
    await finished(twin, past, [])
    assert twin.pool.attested == "rebuilt"


async def test_a_store_of_yesterday_keeps_yesterday(client: Redis) -> None:
    past = await between(await server_ms(client))
    twin = await fresh_twin(client)
    await twin.open_day(await opening(client, trading_day="2026-11-20"))
    await finished(twin, past, [])
    assert twin.pool is not None
    assert (twin.pool.trading_day, twin.pool.kept) == (past.terms.trading_day, ("2026-11-20",))


async def test_a_later_day_is_not_replaced(client: Redis) -> None:
    past = await between(await server_ms(client))
    twin = await fresh_twin(client)
    await twin.open_day(await opening(client, trading_day="2026-11-24"))
    refused = await twin.replay(past.terms, past.journal)
    assert refused.detail == "trading_day: the store has 2026-11-24 open"


async def test_a_day_that_opened_late_is_replaced(client: Redis) -> None:
    past = await between(await server_ms(client))
    twin = await fresh_twin(client)
    await twin.open_day(await opening(client, open_late=False, schedule=schedule_of("morning", twin.now_ms)))
    await finished(twin, past, [])
    assert twin.pool is not None
    assert twin.pool.halted == "rebuilt"


# Who may.


async def test_nobody_halts_a_pool_as_the_store_does(lost: tuple[Twin, Past]) -> None:
    twin, _ = lost
    refused = await twin.operate(replace(HALT, reason="rebuilt"))
    assert refused == "NB-SH: reason: rebuilt is what the store alone says"


async def test_who_may_not_write_all_of_it_writes_nothing(
    client: Redis, store: Store, ledger: RedisLedger
) -> None:
    past = await between(await server_ms(client))
    for right in ("-persist", "-rename", "-zadd"):
        limits = await limited(client, store, right)
        async with unchanged(client):
            with pytest.raises(ConfigError):
                await limits.replay(POOL, past.terms, past.journal)
        await closed(limits)
    assert (await ledger.replay(POOL, past.terms, past.journal)).detail == ""

"""When a daemon gives its word for a store that has changed, and when it does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from quota.book import Book
from quota.decision import Side, Status
from quota.events import NewOrder
from quota.ledger import Act
from quota.watch import Watch
from tests.rigs import NB_SH, Rig, rig, running, until

ORDER = '{"event": "new", "order_id": "%s", "side": "buy", "price": "1.00", "quantity": 100}'
UNSEEN = "this daemon has not seen the day on the store before"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return rig(monkeypatch)


async def buys(site: Rig, order_id: str) -> None:
    """Have an order decided over MQTT."""
    before = len(site.desk.acknowledged)
    site.desk.bring(site.desk.orders(ORDER % order_id))
    await until(lambda: len(site.desk.acknowledged) > before)


async def looked(site: Rig) -> tuple[Status | None, list[str]]:
    """Look at the pool; how it is then, and what was logged of its store."""
    with capture_logs() as logs:
        snapshot = await site.days.look(NB_SH)
    status = snapshot.pool.status if snapshot.pool else None
    return status, [str(line.get("reason", line["event"])) for line in logs]


def warnings(site: Rig) -> list[str]:
    found: Any = Watch(site.desk, site.store, site.days, site.metrics).warnings()
    return list(found)


async def test_who_has_seen_the_last_number_attests(site: Rig) -> None:
    async with running(site):
        await buys(site, "a")
        await looked(site)
        site.store.run_id = "another"
        assert await looked(site) == (Status.OPEN, ["store.attested"])
        assert await looked(site) == (Status.OPEN, [])
        assert warnings(site) == []


async def test_a_day_seen_with_nothing_on_it_is_known_too(site: Rig) -> None:
    async with running(site):
        site.store.run_id = "another"
        assert await looked(site) == (Status.OPEN, ["store.attested"])


async def test_what_it_decided_itself_since_the_last_look_counts(site: Rig) -> None:
    async with running(site):
        await looked(site)
        before = copy.deepcopy(site.store.books[NB_SH])
        await buys(site, "a")
        site.store.books[NB_SH], site.store.run_id = before, "another"
        assert await looked(site) == (Status.HALTED, ["seq: the store ended at 0"])
        assert await looked(site) == (Status.HALTED, [])
        assert warnings(site)[0].endswith("is not attested: seq: the store ended at 0")


async def test_what_is_decided_on_the_new_store_does_not_hide_what_the_old_one_lost(site: Rig) -> None:
    async with running(site):
        before = copy.deepcopy(site.store.books[NB_SH])
        await buys(site, "a")
        site.store.books[NB_SH], site.store.run_id = before, "another"
        for name in ("b", "c"):
            await buys(site, name)
        assert site.desk.verdicts() == ["accepted", "halted", "halted"]
        assert await looked(site) == (Status.HALTED, ["seq: the store ended at 0"])


async def test_who_knows_nothing_does_not_attest_until_an_operator_has(site: Rig) -> None:
    async with running(site):
        await buys(site, "a")
    site.store.run_id = "another"
    fresh = site.restarted()
    assert await looked(fresh) == (Status.HALTED, [UNSEEN])
    assert warnings(fresh)[0] == f"NB-SH: halted, the store changed and is not attested: {UNSEEN}"
    await fresh.store.operate(NB_SH, Act(act="resume", reason="compared", user="u", host="h"))
    assert await looked(fresh) == (Status.OPEN, [])
    assert warnings(fresh) == []
    fresh.store.run_id = "third"
    assert await looked(fresh) == (Status.OPEN, ["store.attested"])


async def test_a_day_that_the_store_has_lost_altogether_opens_halted(site: Rig) -> None:
    async with running(site):
        await buys(site, "a")
        await looked(site)
        site.store.books[NB_SH], site.store.run_id = Book(), "another"
        gone = "the store has nothing of the day any more"
        assert await looked(site) == (Status.HALTED, [gone, "day.opened"])
        assert (site.pool().status, site.pool().balance_fen) == (Status.HALTED, site.pool().limit_fen)


def act(name: str) -> Act:
    return Act(act=name, reason="mine", user="u", host="h")


async def test_behind_an_operators_halt_a_store_that_lost_nothing_is_attested(site: Rig) -> None:
    async with running(site):
        await site.store.operate(NB_SH, act("halt"))
        await looked(site)
        site.store.run_id = "another"
        assert await looked(site) == (Status.HALTED, ["store.attested"])
        assert site.pool().halted == "mine"
        assert await site.store.operate(NB_SH, act("resume")) is Status.OPEN


async def test_behind_an_operators_halt_what_is_lost_is_told_and_stays_in_the_way(site: Rig) -> None:
    async with running(site):
        await site.store.operate(NB_SH, act("halt"))
        before = copy.deepcopy(site.store.books[NB_SH])
        await buys(site, "a")
        await looked(site)
        site.store.books[NB_SH], site.store.run_id = before, "another"
        assert await looked(site) == (Status.HALTED, ["seq: the store ended at 1"])
        assert await site.store.operate(NB_SH, act("resume")) is Status.HALTED
        assert await looked(site) == (Status.HALTED, [])
        assert warnings(site)[0].endswith("seq: the store ended at 1")
        assert await site.store.operate(NB_SH, act("resume")) is Status.OPEN
        assert await looked(site) == (Status.OPEN, [])


async def test_a_former_primary_that_comes_back_lacks_what_another_one_answered(site: Rig) -> None:
    async with running(site):
        await buys(site, "a")
        await looked(site)
        former = copy.deepcopy(site.store.books[NB_SH])
        site.store.run_id = "another"
        await looked(site)
        await buys(site, "b")
        await looked(site)
        site.store.books[NB_SH], site.store.run_id = former, "memory"
        assert await looked(site) == (Status.HALTED, ["seq: the store ended at 1"])
        await buys(site, "b")
        assert site.desk.verdicts()[-1] == "halted"
        assert warnings(site)[0].endswith("is not attested: seq: the store ended at 1")
        assert await site.store.operate(NB_SH, act("resume")) is Status.OPEN
        assert await looked(site) == (Status.OPEN, [])


async def test_numbers_that_it_filled_up_again_do_not_hide_that(site: Rig) -> None:
    async with running(site):
        former = copy.deepcopy(site.store.books[NB_SH])
        site.store.run_id = "another"
        await looked(site)
        await buys(site, "a")
        await looked(site)
        site.store.books[NB_SH], site.store.run_id = former, "memory"
        site.now[0] += 5_000
        site.store.decide(NB_SH, NewOrder(order_id="b", side=Side.BUY, price="1.00", quantity=100), None)
        assert await looked(site) == (Status.HALTED, ["time_ms: entry 1 of the store is a later one"])


async def test_another_daemons_word_stands_where_nothing_is_lost(site: Rig) -> None:
    other = site.restarted()
    async with running(site):
        await other.days.begin()
        await buys(site, "a")
        await looked(site)
        site.store.run_id = "another"
        assert await looked(site) == (Status.OPEN, ["store.attested"])
        assert await looked(other) == (Status.OPEN, [])
        assert warnings(other) == []


async def test_who_knows_of_a_loss_takes_another_daemons_word_back(site: Rig) -> None:
    other = site.restarted()
    async with running(site):
        await other.days.begin()
        before = copy.deepcopy(site.store.books[NB_SH])
        await buys(site, "a")
        site.store.books[NB_SH], site.store.run_id = before, "another"
        assert await looked(other) == (Status.OPEN, ["store.attested"])
        assert await looked(site) == (Status.HALTED, ["seq: the store ended at 0"])
        assert await looked(other) == (Status.HALTED, ["seq: the store ended at 0"])


async def test_who_had_not_looked_while_others_traded_does_not_attest(site: Rig) -> None:
    async with running(site):
        await buys(site, "a")
        await looked(site)
        site.now[0] += 60_000
        site.store.decide(NB_SH, NewOrder(order_id="b", side=Side.BUY, price="1.00", quantity=100), None)
        site.store.run_id = "another"
        assert await looked(site) == (
            Status.HALTED,
            ["seq: 1 was seen 60000 ms before the store ended at 2"],
        )


async def test_what_was_acknowledged_on_a_doubted_store_counts_at_the_next_one(site: Rig) -> None:
    async with running(site):
        await looked(site)
        at_first = copy.deepcopy(site.store.books[NB_SH])
        site.store.run_id = "another"
        await buys(site, "a")
        site.store.books[NB_SH].pool = replace(site.pool(), attested="memory")  # nobody has attested it yet
        await site.days.witness.attests(NB_SH, replace(await site.store.tick(NB_SH), run_id="elsewhere"))
        site.store.books[NB_SH], site.store.run_id = at_first, "third"
        assert await looked(site) == (Status.HALTED, ["seq: the store ended at 0"])


async def test_another_day_than_the_one_that_was_seen_is_not_attested(site: Rig) -> None:
    async with running(site):
        await buys(site, "a")
        await looked(site)
        site.days.witness.known[NB_SH] = site.days.witness.known[NB_SH]._replace(trading_day="2026-11-20")
        site.store.run_id = "another"
        assert await looked(site) == (Status.HALTED, [UNSEEN])

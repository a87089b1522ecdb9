"""A store that lost entries of a day: buys wait until what was answered stands again."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from quota.accounts import opening_terms
from quota.book import Book
from quota.decision import Side, Status, Verdict
from quota.events import Fill
from quota.ledger import Act
from quota.proof.verify import verify
from tests.agreement.trading import buy
from tests.recovering import Site, morning, open_due, sited
from tests.rigs import FRIDAY, MONDAY, NB_SH, until

FILL = '{"event": "fill", "order_id": "b", "exec_id": "1", "side": "buy", "price": "1.00", "quantity": 1}'
RESUME = Act(act="resume", reason="compared", user="ann", host="desk")


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    async with sited(monkeypatch) as here:
        yield here


async def test_an_empty_store_gets_its_day_back(site: Site) -> None:
    await morning(site)
    was = copy.deepcopy(site.rig.store.books[NB_SH])
    site.changes_to(Book())
    assert await site.looks() is Status.OPEN
    book = site.rig.store.books[NB_SH]
    assert (book.journal, book.orders, book.holds) == (was.journal, was.orders, was.holds)
    assert site.recovery.warnings() == []
    assert site.rig.days.witness.doubts == {}


async def test_an_older_store_gets_what_it_lacks(site: Site) -> None:
    early = await morning(site)
    was = copy.deepcopy(site.rig.store.books[NB_SH].journal)
    site.changes_to(early)
    assert await site.looks() is Status.OPEN
    assert site.rig.store.books[NB_SH].journal == was


async def test_buys_wait_and_sells_go_on_until_then(site: Site) -> None:
    early = await morning(site)
    first = [(reply.order_id, reply.verdict, reply.seq) for reply in site.rig.desk.replies()]
    site.changes_to(early)
    assert await site.order("e") == "halted"
    assert await site.order("s", "sell") == "accepted"
    assert await site.order("d") == "halted"
    site.rig.desk.bring(site.rig.desk.fills(FILL))
    await until(lambda: site.rig.store.books[NB_SH].executions)
    assert await site.looks() is Status.OPEN
    assert site.ids() == ["a", "b", "c", "gw", "d", "a", "e", "s", "b"]
    for order_id, verdict, seq in first:
        assert await site.order(order_id) == verdict
        assert site.rig.desk.replies()[-1].seq == seq
    assert await site.order("e") == "halted"
    assert (await verify(site.record, NB_SH)).differences == ()


async def test_a_day_that_is_lost_before_its_opening_phase_waits_too(site: Site) -> None:
    site.rig.at(f"{MONDAY}T08:50")
    await morning(site)
    site.changes_to(Book())
    await site.rig.days.look(NB_SH)
    await open_due(site.rig.days)
    assert site.rig.pool().status is Status.HALTED
    await site.looks()
    assert site.ids() == ["a", "b", "c", "gw", "d", "a"]


async def test_a_store_of_yesterday_gets_its_day_back(site: Site) -> None:
    await morning(site)
    old = copy.deepcopy(site.rig.store.books[NB_SH])
    assert old.pool is not None
    old.pool = replace(old.pool, trading_day=FRIDAY, attested="memory")
    old.journal, old.orders, old.holds = [], {}, {}
    site.changes_to(old)
    assert await site.looks() is Status.OPEN
    assert site.ids() == ["a", "b", "c", "gw", "d", "a"]


# What was not written down yet.


async def test_what_we_were_answered_keeps_its_answer_and_its_number(site: Site) -> None:
    early = await morning(site)
    assert await site.order("late") == "accepted"
    seq = site.rig.desk.replies()[-1].seq
    site.changes_to(early)
    assert await site.looks() is Status.OPEN
    assert await site.order("late") == "accepted"
    assert site.rig.desk.replies()[-1].seq == seq
    assert site.rig.desk.replies()[-1].replayed


async def test_behind_a_gap_it_keeps_its_answer_under_another_number(site: Site) -> None:
    early = await morning(site)
    await site.rig.store.reserve(NB_SH, buy("unseen"))
    await site.rig.store.operate(NB_SH, Act(act="limit", reason="x", user="u", host="h", limit_fen=1))
    assert await site.order("late", "sell") == "accepted"
    site.changes_to(early)
    await site.looks()
    assert site.ids()[-1] == "late"
    assert await site.order("late", "sell") == "accepted"


async def test_what_came_over_mqtt_and_nobody_knows_of_is_taken_in(site: Site) -> None:
    early = await morning(site)
    fill = Fill(order_id="b", exec_id="1", side=Side.BUY, price="1.00", quantity=1)
    site.notes.events = [buy("b"), buy("unheard"), fill]
    site.changes_to(early)
    fresh = site.restarted()
    await fresh.recovery.learn()
    assert await fresh.looks() is Status.OPEN
    assert site.ids()[-2:] == ["b", "unheard"]
    assert site.rig.store.books[NB_SH].orders["unheard"].verdict is Verdict.ACCEPTED


# A daemon that was not there.


async def test_a_fresh_daemon_attests_what_was_written_down(site: Site) -> None:
    await morning(site)
    site.rig.store.run_id = "another"
    fresh = site.restarted()
    await fresh.recovery.learn()
    with capture_logs() as logs:
        assert await fresh.looks() is Status.OPEN
    assert [line["event"] for line in logs] == ["store.attested"]


async def test_a_fresh_daemon_rebuilds_what_was_written_down(site: Site) -> None:
    await morning(site)
    was = copy.deepcopy(site.rig.store.books[NB_SH].journal)
    site.changes_to(Book())
    fresh = site.restarted()
    await fresh.recovery.learn()
    await fresh.rig.days.begin()
    assert fresh.rig.pool().status is Status.HALTED
    assert await fresh.looks() is Status.OPEN
    assert fresh.rig.store.books[NB_SH].journal == was


# What comes in the way.


async def test_without_a_record_the_pool_stays_halted_and_says_why(site: Site) -> None:
    early = await morning(site)
    site.notes.written.clear()
    site.changes_to(early)
    assert await site.looks() is Status.HALTED
    assert site.recovery.warnings()[0].endswith(f"nothing of {MONDAY} was written down")


async def test_a_record_that_cannot_be_is_not_put_in_place(site: Site) -> None:
    early = await morning(site)
    for place, record in enumerate(site.notes.written):
        if getattr(getattr(record, "entry", None), "seq", 0) == 2:
            site.notes.written[place] = replace(record, entry=replace(record.entry, balance_fen=5))  # type: ignore[union-attr]  # an entry's record
    site.changes_to(early)
    with capture_logs() as logs:
        assert await site.looks() is Status.HALTED
    assert "seq 2: balance_fen" in site.recovery.warnings()[0]
    assert [line["event"] for line in logs].count("recovery.failed") == 1


async def test_a_record_that_cannot_be_read_is_told_and_learnt_later(site: Site) -> None:
    await morning(site)
    site.notes.trouble = "disk"
    fresh = site.restarted()
    with capture_logs() as logs:
        await fresh.recovery.learn()
    assert [line["event"] for line in logs] == ["recovery.failed"] * len(fresh.rig.days.pools)


@pytest.mark.parametrize("differs_at", [0, 2])
async def test_what_was_half_built_of_another_account_is_not_gone_on_with(
    site: Site, differs_at: int
) -> None:
    early = await morning(site)
    account = await site.notes.day(MONDAY, NB_SH)
    assert account is not None
    other = list(account.entries[:3])
    other[differs_at] = replace(other[differs_at], time_ms=other[differs_at].time_ms + 1)
    site.changes_to(early)
    await site.rig.days.look(NB_SH)
    assert (await site.rig.store.replay(NB_SH, opening_terms(account), other)).detail == ""
    assert await site.looks() is Status.HALTED
    assert "another one was put back before" in site.recovery.warnings()[0]


async def test_a_day_that_another_daemon_put_back_has_to_have_our_last_entry(site: Site) -> None:
    early = await morning(site)
    account = await site.notes.day(MONDAY, NB_SH)
    assert account is not None
    site.changes_to(early)
    await site.rig.days.look(NB_SH)
    await site.rig.store.replay(NB_SH, opening_terms(account), account.entries[:-1])
    await site.rig.store.adopt(NB_SH, MONDAY, 5, 4)
    assert await site.looks() is Status.HALTED
    assert "entry 6 of the record is not in the day that was put back" in site.recovery.warnings()[0]


async def test_what_the_pool_takes_while_it_is_rebuilt_is_not_forgotten(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = await morning(site)
    site.changes_to(early)
    adopt, sold = site.rig.store.adopt, iter(("s1",))

    async def adopted_late(*args: object) -> object:
        if (name := next(sold, None)) is not None:
            await site.order(name, "sell")
        return await adopt(*args)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(site.rig.store, "adopt", adopted_late)
    assert await site.looks() is Status.OPEN
    assert site.ids() == ["a", "b", "c", "gw", "d", "a", "s1"]


async def test_what_was_seen_and_never_written_down_is_told_and_waits_for_a_person(site: Site) -> None:
    early = await morning(site)
    site.rig.now[0] += 10_000
    for number in range(5):
        await site.rig.store.reserve(NB_SH, buy(f"unwritten-{number}"), 60_000)
    await site.rig.days.look(NB_SH)
    site.changes_to(early)
    assert await site.looks() is Status.HALTED
    assert site.recovery.waiting[NB_SH] == "seq 7 to 11 were answered and not written down"
    await site.rig.store.operate(NB_SH, RESUME)
    assert await site.looks() is Status.OPEN

"""A day that was put back: who says that it goes on, and what happens until then."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from quota.book import Book
from quota.decision import Side, Status, Verdict
from quota.events import Fill
from quota.ledger import Act
from tests.agreement.trading import buy
from tests.recovering import Site, morning, sited
from tests.rigs import NB_SH

RESUME = Act(act="resume", reason="compared", user="ann", host="desk")


@pytest.fixture(params=["operator"])
async def site(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with sited(monkeypatch, resumes=request.param == "auto") as here:
        yield here


async def test_an_operator_says_when_it_goes_on(site: Site) -> None:
    early = await morning(site)
    site.notes.events = [buy("unheard")]
    site.changes_to(early)
    assert await site.looks() is Status.HALTED
    assert site.ids() == ["a", "b", "c", "gw", "d", "a"]
    waits = "they are put back, and an operator has to resume it"
    assert site.recovery.warnings() == [f"NB-SH: the store lost entries of its day: {waits}"]
    assert await site.order("e") == "halted"
    await site.rig.store.operate(NB_SH, RESUME)
    assert await site.looks() is Status.OPEN
    assert site.recovery.warnings() == []
    assert site.ids()[-1] == "unheard"
    assert await site.order("f") == "accepted"


async def test_a_daemon_that_starts_meanwhile_goes_on_waiting(site: Site) -> None:
    site.changes_to(await morning(site))
    assert await site.looks() is Status.HALTED
    fresh = site.restarted()
    await fresh.recovery.learn()
    assert await fresh.looks() is Status.HALTED
    assert len(fresh.recovery.warnings()) == 1
    await fresh.rig.store.operate(NB_SH, RESUME)
    assert await fresh.looks() is Status.OPEN


async def test_a_day_that_is_lost_again_while_it_waits_is_put_back_again(site: Site) -> None:
    early = await morning(site)
    site.notes.events = [buy("unheard")]
    site.changes_to(copy.deepcopy(early))
    await site.looks()
    rebuilt = copy.deepcopy(site.rig.store.books[NB_SH])
    site.notes.events.append(Fill(order_id="b", exec_id="1", side=Side.BUY, price="1.00", quantity=1))
    await site.rig.store.apply(NB_SH, site.notes.events[1:])
    for again, server in ((early, "third"), (rebuilt, "fourth"), (Book(), "fifth")):
        site.changes_to(copy.deepcopy(again), server)
        assert await site.looks() is Status.HALTED
        assert site.rig.pool().attested == "rebuilt"
        assert "1" in site.rig.store.books[NB_SH].executions
        assert site.ids()[:6] == ["a", "b", "c", "gw", "d", "a"]
        assert len(site.recovery.warnings()) == 1
    await site.rig.store.operate(NB_SH, RESUME)
    assert await site.looks() is Status.OPEN
    assert site.ids()[6:] == ["b", "unheard"]


async def test_a_daemon_that_starts_after_the_second_loss_puts_the_day_back_again(site: Site) -> None:
    site.changes_to(await morning(site))
    await site.looks()
    site.changes_to(copy.deepcopy(site.rig.store.books[NB_SH]), "third")
    fresh = site.restarted()
    await fresh.recovery.learn()
    await fresh.rig.days.look(NB_SH)
    assert (fresh.rig.pool().attested, fresh.rig.pool().halted) == ("rebuilt?", "store changed")
    assert await fresh.looks() is Status.HALTED
    assert (fresh.rig.pool().attested, fresh.rig.pool().halted) == ("rebuilt", "rebuilt")


async def test_what_was_written_down_is_there_and_an_operator_says_that_there_was_no_more(site: Site) -> None:
    await morning(site)
    site.changes_to(site.rig.store.books[NB_SH])
    fresh = site.restarted()
    await fresh.recovery.learn()
    assert await fresh.looks() is Status.HALTED
    assert fresh.rig.pool().halted == "store changed"
    waits = "none that were written down; whether there were more, an operator has to say"
    assert fresh.recovery.warnings() == [f"NB-SH: the store lost entries of its day: {waits}"]
    await fresh.rig.store.operate(NB_SH, RESUME)
    assert await fresh.looks() is Status.OPEN
    assert fresh.recovery.warnings() == []


@pytest.mark.parametrize("comes", ["fresh", "again"])
async def test_a_number_that_was_filled_up_again_is_not_the_one_that_was_lost(site: Site, comes: str) -> None:
    await morning(site)
    early = copy.deepcopy(site.rig.store.books[NB_SH])
    await site.order("answered", "sell")
    await site.written()
    site.changes_to(early)
    site.rig.now[0] += 5_000
    await site.rig.store.apply(NB_SH, [replace(buy("later"), side=Side.SELL)])
    daemon = site.restarted() if comes == "fresh" else site
    await daemon.recovery.learn()
    assert await daemon.looks() is Status.HALTED
    assert daemon.ids()[-2:] == ["answered", "later"]


async def test_a_daemon_that_starts_again_over_an_unchanged_store_needs_nobody(site: Site) -> None:
    await morning(site)
    fresh = site.restarted()
    await fresh.recovery.learn()
    assert await fresh.looks() is Status.OPEN


@pytest.mark.parametrize("site", ["auto"], indirect=True)
async def test_an_operators_own_halt_is_left_to_him(site: Site) -> None:
    early = await morning(site)
    await site.rig.store.operate(NB_SH, replace(RESUME, act="halt", reason="mine"))
    await site.written()
    site.notes.events = [buy("unheard")]
    site.changes_to(early)
    assert await site.looks() is Status.HALTED
    assert site.rig.pool().halted == "mine"
    assert site.rig.pool().attested == "another"
    assert "unheard" not in site.rig.store.books[NB_SH].orders
    await site.rig.store.operate(NB_SH, RESUME)
    assert await site.looks() is Status.OPEN
    assert site.rig.store.books[NB_SH].orders["unheard"].verdict is Verdict.ACCEPTED

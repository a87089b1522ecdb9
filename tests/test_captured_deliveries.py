"""Every delivery stands in the record of the day before it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from quota.captured import Captured, Delivered
from quota.daemon import Daemon
from quota.feed import Delivery
from tests.captures import Notebook
from tests.rigs import MONDAY, Rig, rig, running, until
from tests.test_daemon import new


@dataclass(slots=True)
class Slow(Notebook):
    """A record whose disk takes its time."""

    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self, records: Sequence[Captured]) -> None:
        await self.open.wait()
        await Notebook.keep(self, records)


def payloads(book: Notebook) -> list[bytes]:
    return [record.payload for record in book.records if isinstance(record, Delivered)]


def recorded(here: Rig, book: Notebook) -> Rig:
    here.daemon = Daemon(here.desk, here.store, here.days, here.metrics, book)
    return here


@pytest.fixture
def book() -> Notebook:
    return Notebook()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, book: Notebook) -> Rig:
    return recorded(rig(monkeypatch), book)


async def test_nothing_is_acknowledged_before_it_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Slow()
    here = recorded(rig(monkeypatch), book)
    async with running(here):
        here.desk.bring(here.desk.orders(new("1")))
        await until(here.desk.replies)
        assert here.desk.acknowledged == []
        book.open.set()
        await until(lambda: here.desk.acknowledged)
    assert payloads(book) == here.desk.acknowledged
    assert here.desk.happened == ["applied", "Replies", "acknowledged"]


async def test_it_is_written_down_while_the_store_is_still_at_it(here: Rig, book: Notebook) -> None:
    async with running(here):
        here.store.open.clear()
        here.desk.bring(here.desk.orders(new("1")))
        await until(lambda: book.records)
        assert here.desk.happened == []
        here.store.open.set()
        await until(lambda: here.desk.acknowledged)


async def test_everything_that_comes_is_written_down_as_it_came_and_in_its_order(
    here: Rig, book: Notebook
) -> None:
    mark = Delivery("connect/daemon/quotad/mark", b"m", lambda: here.desk._acknowledge(b"m"), mark="m")
    brought = [
        here.desk.orders(new("1")),
        here.desk.orders("no JSON"),
        mark,
        here.desk.rate(MONDAY, "0.92000"),
        here.desk.message("connect/XX/orders", b"\xff"),
        here.desk.fills(new("2")),
    ]
    async with running(here):
        here.desk.bring(*brought)
        await until(lambda: len(here.desk.acknowledged) == len(brought))
    assert [(record.topic, record.payload) for record in book.records if isinstance(record, Delivered)] == [
        (delivery.topic, delivery.payload) for delivery in brought
    ]


async def test_while_it_cannot_be_written_nothing_is_acknowledged_and_then_everything(
    here: Rig, book: Notebook
) -> None:
    book.trouble = "No space left on device"
    with capture_logs() as logs:
        async with running(here):
            here.desk.bring(here.desk.orders(new("1")), here.desk.rate(MONDAY, "0.92000"))
            await until(lambda: book.attempts > 3)
            assert here.desk.acknowledged == []
            book.trouble = ""
            await until(lambda: len(here.desk.acknowledged) == 2)
    assert len(payloads(book)) == 2
    (reason,) = {log["reason"] for log in logs if log["event"] == "capture.away"}
    assert reason == "No space left on device"


async def test_told_to_stop_meanwhile_it_gives_the_batch_up(here: Rig, book: Notebook) -> None:
    book.trouble = "No space left on device"
    async with running(here):
        here.desk.bring(here.desk.orders(new("1")))
        await until(lambda: book.attempts > 1)
        here.daemon.stop()
        assert here.consuming is not None
        await asyncio.wait_for(here.consuming, 1)
    assert here.desk.acknowledged == []


async def test_what_comes_again_is_written_down_again(here: Rig, book: Notebook) -> None:
    order = here.desk.orders(new("1"))
    async with running(here):
        here.desk.bring(order)
        await until(lambda: len(here.desk.acknowledged) == 1)
        here.desk.bring(order)
        await until(lambda: len(here.desk.acknowledged) == 2)
    assert payloads(book) == [order.payload, order.payload]
    assert here.pool().seq == 1

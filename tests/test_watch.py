"""What the watch tells of the pools, and how often, by a loop clock that the test sets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from quota.decision import PoolName, Side
from quota.events import NewOrder
from quota.feed import Alert, StatusReport
from quota.ledger import Act
from quota.watch import Watch
from tests.rigs import MONDAY, NB_SH, Rig, rig

HALT = Act(act="halt", reason="why", user="me", host="here")
RESUME = Act(act="resume", reason="why not", user="me", host="here")


class Watched:
    """A rig with a watch, and a loop clock that stands still until told."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.watch = Watch(rig.desk, rig.store, rig.days, rig.metrics)
        self.s = 1000.0

    async def tick(self, after_s: float = 0.2) -> None:
        """Let time pass, look, and let the broker confirm."""
        self.s += after_s
        await self.watch.tick()
        for _ in range(3):
            await asyncio.sleep(0)

    async def buy(self, order_id: str, price: str) -> None:
        """Let somebody else buy, as a gateway over Redis does."""
        order = NewOrder(order_id=order_id, side=Side.BUY, price=price, quantity=1)
        await self.rig.store.apply(NB_SH, [order])

    def reports(self) -> list[StatusReport]:
        sent = self.rig.desk.sent
        return [one for one in sent if isinstance(one, StatusReport) and one.pool is NB_SH]

    def alerts(self) -> list[Alert]:
        return [one for one in self.rig.desk.sent if isinstance(one, Alert) and one.pool is NB_SH]

    def restart(self) -> None:
        """Begin again, with nothing but what the store remembers."""
        self.watch = Watch(self.rig.desk, self.rig.store, self.rig.days, self.rig.metrics)


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    watched = Watched(rig(monkeypatch))
    await watched.rig.days.begin()
    loop = asyncio.get_running_loop()
    with monkeypatch.context() as patched:
        patched.setattr(loop, "time", lambda: watched.s)
        await watched.tick()
        watched.rig.desk.sent.clear()
        yield watched


async def test_a_change_of_a_word_is_told_at_the_next_look(watched: Watched) -> None:
    await watched.rig.store.operate(NB_SH, HALT)
    await watched.tick()
    assert [report.status for report in watched.reports()] == ["halted"]
    await watched.rig.store.operate(NB_SH, RESUME)
    await watched.tick()
    assert [report.status for report in watched.reports()] == ["halted", "open"]


async def test_a_level_is_told_at_the_next_look(watched: Watched) -> None:
    await watched.buy("1", "5000.00")
    await watched.tick()
    assert [(report.level, report.used_ratio) for report in watched.reports()] == [(50, 0.5)]


async def test_a_balance_is_told_once_a_second(watched: Watched) -> None:
    told = []
    for number in range(25):
        await watched.buy(str(number), "1.00")
        await watched.tick()
        told.append(len(watched.reports()))
    assert told[-1] == 5


async def test_at_most_five_reports_a_second_whatever_happens(watched: Watched) -> None:
    for number in range(10):
        await watched.rig.store.operate(NB_SH, RESUME if number % 2 else HALT)
        await watched.tick()
    assert len(watched.reports()) == 10


async def test_a_quiet_pool_is_told_every_five_seconds(watched: Watched) -> None:
    for _ in range(100):
        await watched.tick()
    assert len(watched.reports()) == 4


async def test_a_report_has_the_figures_of_the_pool(watched: Watched) -> None:
    await watched.buy("1", "1000.00")
    await watched.tick(2)
    assert json.loads(msgspec.json.encode(watched.reports()[-1])) == {
        "pool": "NB-SH",
        "trading_day": MONDAY,
        "phase": "continuous",
        "status": "open",
        "limit_fen": 1_000_000,
        "balance_fen": 900_000,
        "used_ratio": 0.1,
        "level": 0,
        "rate": "1.00000",
        "seq": 1,
        "time": f"{MONDAY}T10:00:00.000+08:00",
    }


async def test_what_somebody_else_bought_shows_in_status_alerts_and_metrics(watched: Watched) -> None:
    await watched.buy("1", "9500.00")
    await watched.tick()
    assert watched.reports()[-1].balance_fen == 50_000
    (alert,) = watched.alerts()
    told = (alert.kind, alert.was, alert.now, alert.balance_fen, alert.used_ratio, alert.seq, alert.reason)
    assert told == ("level", 0, 90, 50_000, 0.95, 1, "new 1")
    assert b'"from":0,"to":90' in msgspec.json.encode(alert)
    labels = {"pool": "NB-SH", "direction": "northbound", "exchange": "SH"}
    assert watched.rig.metrics.registry.get_sample_value("quota_balance_yuan", labels) == 500


async def test_each_change_of_status_or_level_is_told_once(watched: Watched) -> None:
    await watched.buy("1", "7000.00")
    await watched.buy("2", "3000.00")
    await watched.rig.store.operate(NB_SH, HALT)
    for _ in range(5):
        await watched.tick()
    assert [(alert.kind, alert.was, alert.now) for alert in watched.alerts()] == [
        ("level", 0, 70),
        ("status", "open", "exhausted"),
        ("level", 70, 100),
        ("status", "exhausted", "halted"),
    ]


async def test_a_phase_shows_without_any_event(watched: Watched) -> None:
    watched.rig.at(f"{MONDAY}T11:30")
    await watched.tick()
    assert [(report.phase, report.status) for report in watched.reports()] == [("break", "open")]
    assert watched.alerts() == []
    watched.rig.at(f"{MONDAY}T15:00")
    await watched.tick()
    assert [(alert.was, alert.now, alert.reason) for alert in watched.alerts()] == [
        ("open", "closed", "clock")
    ]


async def test_what_was_told_is_not_told_again_after_a_restart(watched: Watched) -> None:
    await watched.buy("1", "5000.00")
    await watched.tick()
    await watched.tick()  # has the store remember
    watched.restart()
    await watched.tick()
    assert len(watched.alerts()) == 1


async def test_what_was_not_told_is_told_after_a_restart(watched: Watched) -> None:
    watched.rig.desk.away = True
    await watched.buy("1", "5000.00")
    await watched.tick()
    await watched.tick()
    assert watched.alerts() == []
    watched.restart()
    watched.rig.desk.away = False
    await watched.tick()
    assert [(alert.was, alert.now) for alert in watched.alerts()] == [(0, 50)]


async def test_what_was_not_confirmed_is_told_again(watched: Watched) -> None:
    watched.rig.desk.hangs = True
    await watched.buy("1", "5000.00")
    await watched.tick()
    await watched.tick()
    assert len(watched.alerts()) == 1
    assert watched.rig.store.books[NB_SH].published != watched.rig.store.books[NB_SH].changes[-1].id
    watched.rig.desk.hangs = False
    watched.restart()
    await watched.tick()
    assert len(watched.alerts()) == 2


async def test_a_broker_that_hangs_does_not_stop_the_looking(watched: Watched) -> None:
    watched.rig.desk.hangs = True
    await watched.rig.store.operate(NB_SH, HALT)
    await watched.tick()
    watched.rig.at(f"{MONDAY}T11:30")
    await watched.tick()
    assert watched.rig.days.snapshots[PoolName.SB_SZ].server_ms == watched.rig.now[0]
    assert watched.watch.reports()[0].phase == "break"


async def test_a_store_that_is_away_is_said_and_nothing_is_told(watched: Watched) -> None:
    assert watched.watch.unready() == []
    watched.rig.store.leave()
    await watched.tick(10)
    assert watched.watch.unready() == ["the store is away: redis: away"]
    assert watched.rig.metrics.registry.get_sample_value("quota_redis_connected") == 0
    assert watched.reports() == []
    watched.rig.store.come_back()
    await watched.tick()
    assert watched.watch.unready() == []
    assert watched.rig.metrics.registry.get_sample_value("quota_redis_connected") == 1


async def test_a_broker_that_is_away_is_said(watched: Watched) -> None:
    watched.rig.desk.connected, watched.rig.desk.away = False, True
    await watched.tick()
    assert watched.watch.unready() == ["the broker is away"]
    assert watched.rig.metrics.registry.get_sample_value("quota_feed_connected") == 0
    watched.rig.desk.unacknowledged = 1
    assert watched.watch.unready() == ["the broker is still sending what it kept for us"]


@pytest.mark.parametrize(("behind_ms", "ready"), [(1000, True), (1001, False), (-1001, False)])
async def test_clocks_that_disagree_are_said(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, behind_ms: int, *, ready: bool
) -> None:
    now_ms = watched.rig.now[0]
    monkeypatch.setattr("quota.clock.MarketClock.local_ms", staticmethod(lambda: now_ms - behind_ms))
    await watched.tick()
    said = [] if ready else [f"our clock and the store's are {behind_ms / 1000:+.3f} s apart"]
    assert watched.watch.unready() == said


async def test_a_day_that_waits_is_said_and_asked_for_every_five_seconds(watched: Watched) -> None:
    watched.rig.at("2026-11-24T00:00")
    for _ in range(30):
        await watched.tick()
    assert watched.rig.desk.marks == 2
    assert watched.watch.unready() == [f"{pool}: the day 2026-11-24 is not open yet" for pool in PoolName]

"""Numbers from the wire to the figures: taken down before the acknowledgement, told after the grace."""

from __future__ import annotations

import asyncio
from datetime import date
from math import isnan
from typing import Any

import pytest
from structlog.testing import capture_logs

from quota.errors import LedgerUnavailable
from quota.events import Numbers
from quota.gaps import GRACE_MS, RANGES_TOLD, SOURCES_TOLD, GapWatch, ranges, sentence
from quota.numbers import Epoch, Gap, Source, given_up
from quota.page.live import Live
from quota.watch import Watch
from tests.rigs import MONDAY, NB_SH, Rig, rig, running, until

NO_FOLLOWER: Any = type("Followed", (), {"latest": {}, "changes": {}})()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return rig(monkeypatch)


def cancel(sequence: int, epoch: str = "e", order_id: str = "x") -> str:
    numbered = f'"source":"gw","epoch":"{epoch}","sequence":{sequence}'
    return f'{{"event":"cancelled","order_id":"{order_id}",{numbered}}}'


def heartbeat(sequence: int) -> str:
    return f'{{"event":"heartbeat","source":"gw","epoch":"e","sequence":{sequence}}}'


def missing(rig: Rig) -> int:
    sources = rig.store.sources.registers[NB_SH].missing_on(MONDAY)
    return sum(it.missing for it in sources.values())


def figure(rig: Rig, name: str) -> float | None:
    labels = {"pool": "NB-SH", "direction": "northbound", "exchange": "SH"}
    return rig.metrics.registry.get_sample_value(f"quota_gap_{name}", labels)


async def bring(rig: Rig, *payloads: str) -> None:
    """Deliver messages, and wait until they are acknowledged."""
    before = len(rig.desk.acknowledged)
    rig.desk.bring(*map(rig.desk.orders, payloads))
    await until(lambda: len(rig.desk.acknowledged) == before + len(payloads))


async def test_numbers_are_taken_down_after_the_answers_and_before_the_acknowledgement(
    here: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = here.store.sources.arrived

    async def noted(*args: Any) -> None:  # noqa: ANN401 - whatever it takes
        here.desk.happened.append("taken down")
        await arrived(*args)

    monkeypatch.setattr(here.store.sources, "arrived", noted)
    order = '{"event":"new","order_id":"1","side":"buy","price":"1.00","quantity":1,"epoch":"e","sequence":1}'
    async with running(here):
        here.desk.bring(here.desk.message("connect/NB-SH/orders/gw", order.encode()))
        await until(lambda: here.desk.acknowledged)
        assert here.desk.happened == ["applied", "Replies", "taken down", "acknowledged"]
        await bring(here, '{"event":"cancelled","order_id":"1"}')
    assert here.desk.happened[4:] == ["applied", "acknowledged"]


async def test_nothing_is_acknowledged_while_the_numbers_cannot_be_taken_down(
    here: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quota.daemon._RETRY_S", (0.001, 0.001))
    arrived, acknowledged = here.store.sources.arrived, list[int]()

    async def away_twice(*args: Any) -> None:  # noqa: ANN401 - whatever it takes
        acknowledged.append(len(here.desk.acknowledged))
        if len(acknowledged) < 3:
            raise LedgerUnavailable("redis: away")
        await arrived(*args)

    monkeypatch.setattr(here.store.sources, "arrived", away_twice)
    async with running(here):
        await bring(here, cancel(2))
    assert acknowledged == [0, 0, 0]
    assert missing(here) == 1


async def test_what_does_not_come_is_missing_until_it_comes(here: Rig) -> None:
    async with running(here):
        await bring(here, cancel(1), f"[{cancel(4)},{cancel(3)}]", cancel(4))
        assert missing(here) == 1
        await bring(here, heartbeat(6))
        assert missing(here) == 3
        await bring(here, f"[{cancel(2)},{cancel(5)},{cancel(6)}]")
        assert missing(here) == 0


async def test_dead_letters_are_not_missing(here: Rig) -> None:
    async with running(here):
        of_another_day = cancel(1).replace("}", ',"time":"2026-11-20T10:00:00+08:00"}')
        await bring(
            here, of_another_day, cancel(2, order_id="a b"), f"[{cancel(3)},{cancel(4, order_id='')}]"
        )
        await bring(here, heartbeat(4))
    assert len(here.desk.reasons()) == 3
    assert missing(here) == 0


async def test_another_daemon_goes_on_where_this_one_stopped(here: Rig) -> None:
    async with running(here):
        await bring(here, cancel(1), cancel(4))
    other = here.restarted()
    async with running(other), running(here.restarted()):
        await bring(other, cancel(2), cancel(4), heartbeat(5))
        assert missing(other) == 2
        await bring(other, cancel(3), cancel(5))
    assert missing(here) == 0


class Looking:
    """A rig with a watch over the gaps, which looks whenever it is told."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.watch = Watch(rig.desk, rig.store, rig.days, rig.metrics)
        self.watch.gaps.every_s = 0.0

    async def hears(self, *runs: Numbers) -> None:
        await self.rig.store.sources.arrived(NB_SH, runs)

    async def looks(self, after_ms: int = 0) -> list[dict[str, Any]]:
        """Let time pass, look, and return what was logged of gaps."""
        self.rig.now[0] += after_ms
        with capture_logs() as lines:
            await self.watch.tick()
        return [dict(line) for line in lines if line["event"].startswith("gap.")]


@pytest.fixture
async def looking(here: Rig) -> Looking:
    await here.days.begin()
    return Looking(here)


def run(first: int, last: int, source: str = "gw", epoch: str = "e") -> Numbers:
    return Numbers(source, epoch, first, last)


async def test_events_in_another_order_are_not_spoken_of(looking: Looking) -> None:
    await looking.hears(run(3, 3))
    assert await looking.looks(GRACE_MS - 1) == []
    assert looking.watch.missing() == []
    assert (figure(looking.rig, "events"), figure(looking.rig, "oldest_seconds")) == (
        2,
        GRACE_MS / 1000 - 0.001,
    )
    await looking.hears(run(1, 2))
    assert await looking.looks(GRACE_MS) == []
    assert (figure(looking.rig, "events"), figure(looking.rig, "oldest_seconds")) == (0, 0)


async def test_a_gap_that_stays_is_logged_once_and_warned_of(looking: Looking) -> None:
    await looking.hears(run(3, 3), run(9, 9))
    (line,) = await looking.looks(GRACE_MS)
    assert line == {
        "event": "gap.opened",
        "log_level": "warning",
        "pool": "NB-SH",
        "source": "gw",
        "epoch": "e",
        "missing": 7,
        "ranges": "1-2, 4-8",
    }
    assert await looking.looks(1000) == []
    since = f"{MONDAY}T10:00:00.000+08:00"
    assert looking.watch.missing() == [f"NB-SH: 7 events of gw missing since {since} (e 1-2, 4-8)"]


async def test_a_gap_is_closed_when_all_of_it_has_come(looking: Looking) -> None:
    await looking.hears(run(9, 9), run(2, 2, epoch="f"))
    await looking.looks(GRACE_MS)
    await looking.hears(run(4, 4))
    assert await looking.looks() == []
    await looking.hears(run(1, 8))
    (line,) = await looking.looks()
    assert (line["event"], line["epoch"], line["ranges"], line["missing"]) == ("gap.closed", "e", "1-8", 1)
    await looking.hears(run(1, 1, epoch="f"))
    (line,) = await looking.looks()
    assert (line["ranges"], line["missing"]) == ("1", 0)
    assert looking.watch.missing() == []


async def test_an_acceptance_is_logged_with_its_reason_by_who_was_there(looking: Looking) -> None:
    sources = looking.rig.store.sources
    for number in (3, 6):
        await looking.hears(run(number, number))
        await looking.looks(GRACE_MS)
        known = sources.registers[NB_SH].missing_on(MONDAY)
        await sources.accept(NB_SH, given_up(known, reason=f"r{number}", user="ann", host="desk"))
        lines = {line["event"]: line for line in await looking.looks()}
        assert set(lines) == {"gap.accepted", "gap.closed"}
        assert (lines["gap.accepted"]["reason"], lines["gap.accepted"]["missing"]) == (f"r{number}", 2)
        assert (lines["gap.accepted"]["user"], lines["gap.accepted"]["host"]) == ("ann", "desk")
    assert await Looking(looking.rig).looks() == []


async def test_a_new_day_ends_the_gaps_of_the_old(looking: Looking) -> None:
    await looking.hears(run(3, 3))
    await looking.looks(GRACE_MS)
    looking.rig.at("2026-11-24T09:30")
    await looking.rig.days.notice_midnight(NB_SH)
    await looking.rig.days.open_due(NB_SH, date(2026, 11, 24))
    (line,) = await looking.looks()
    assert (line["event"], line["missing"]) == ("gap.closed", 0)
    assert looking.watch.missing() == []
    assert figure(looking.rig, "events") == 0


async def test_of_many_sources_some_are_named_and_all_are_counted(looking: Looking) -> None:
    await looking.hears(*(run(2, 2, source=f"s{n}") for n in range(SOURCES_TOLD + 3)))
    await looking.looks(GRACE_MS)
    assert len(looking.watch.missing()) == SOURCES_TOLD + 1
    assert looking.watch.missing()[-1] == "NB-SH: of 3 more sources events are missing"
    assert figure(looking.rig, "events") == SOURCES_TOLD + 3


async def test_figures_are_unknown_before_the_first_look(here: Rig) -> None:
    for name in ("events", "oldest_seconds", "unlisted_events", "unwatched_events"):
        assert isnan(figure(here, name) or 0), name


async def test_the_sources_are_read_once_a_second(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, loop, now = GapWatch(looking.rig.store, looking.rig.metrics), asyncio.get_running_loop(), [100.0]
    read, reads = looking.rig.store.sources.read, []

    async def counted(pool: Any) -> Any:  # noqa: ANN401 - as it is
        reads.append(pool)
        return await read(pool)

    snapshot = await looking.rig.store.tick(NB_SH)
    with monkeypatch.context() as patched:
        patched.setattr(looking.rig.store.sources, "read", counted)
        patched.setattr(loop, "time", lambda: now[0])
        for _ in range(11):
            await watch.look(NB_SH, snapshot)
            now[0] += 0.2
    assert len(reads) == 3


async def test_the_page_says_that_events_are_missing(looking: Looking) -> None:
    await looking.hears(run(3, 3))
    await looking.looks(GRACE_MS)
    view = Live(looking.rig.days, looking.watch, NO_FOLLOWER, looking.rig.desk, "1")
    (notice,) = [it for it in view.state().notices if "missing" in it.text]
    assert notice.tone == "trouble"
    assert notice.text.startswith("The balance may be wrong. NB-SH: 2 events of gw missing since ")


def test_of_many_ranges_the_first_are_named() -> None:
    gaps = [Gap(3 * n, 3 * n + n % 2, 1) for n in range(1, RANGES_TOLD + 3)]
    assert ranges(gaps).startswith("3-4, 6, 9-10, ")
    assert ranges(gaps).endswith(", 2 more ranges")
    assert "more" not in ranges(gaps, None)


def test_what_is_not_listed_is_told() -> None:
    source = Source(MONDAY, 7, 1000, (Epoch("e", 9), Epoch("f", 2, (Gap(1, 1, 2000),))))
    assert sentence("gw", source).endswith("(f 1; 7 not listed)")
    assert sentence("gw", source).startswith("8 events of gw missing since 1970-01-01T08:00:01")

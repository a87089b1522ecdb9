"""More events than the daemon can take: memory is bounded, order is kept, and all are applied in the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from feeds.session import HELD_BYTES_MAX
from quota.decision import PoolName
from quota.gateway import PreTrade
from quota.running import ended
from tests.daemons import House, house, new
from tests.publisher import TOGETHER, payload
from tests.scale import cases
from tests.servers import START_SECONDS
from tests.tap import Tap, until
from tests.traffic import limits

SOURCES = {"one": PoolName.NB_SH, "two": PoolName.NB_SH, "three": PoolName.NB_SZ, "four": PoolName.SB_SH}
TOML = limits(dict.fromkeys(PoolName, "900000000"))
WINDOW = cases(20, 1_000)
GROWTH_MB = cases(100, 300)
"""What a daemon may come to hold, so that it fits where deploy/kubernetes puts it: half a gigabyte in all."""

HELD_MAX = 2 * HELD_BYTES_MAX // len(payload("three", 100_000))
"""How many messages that may be, where it has to read on for the sake of confirmations behind them."""

OFFERED_WITHIN = 1.5
"""In how much more time it may be offered where the machine is busy with other things."""

DRAINS_S = cases(90, 600)
PROBED = PoolName.NB_SH
LINES = 8
_PAGE = 10_000


@dataclass(slots=True)
class Probes:
    """How long single orders take among all the others, and how much memory the daemon holds meanwhile."""

    home: House
    tap: Tap
    by_topic_s: list[float] = field(default_factory=list)
    by_store_s: list[float] = field(default_factory=list)
    most_mb: float = 0.0
    most_held: float = 0.0

    async def look(self) -> None:
        """Look at the daemon again and again."""
        while True:
            held = await asyncio.to_thread(self.home.quotad.metric, "quota_unacknowledged_messages")
            self.most_held = max(self.most_held, held)
            self.most_mb = max(self.most_mb, self.home.quotad.rss_mb())

    async def reserve(self) -> None:
        """Ask as a gateway, an order for every thousand that are taken in."""
        async with PreTrade(self.home.store.url, source="gw", deadline_ms=20_000) as gate:
            while True:
                began, then = time.monotonic(), self.home.seqs() + 1_000
                answer = await gate.reserve(PROBED, f"gate-{len(self.by_store_s)}", "buy", "1", 1)
                assert answer.verdict == "accepted"
                self.by_store_s.append(time.monotonic() - began)
                await until(partial(applied, self.home, then), DRAINS_S)

    async def order(self, line: int) -> None:
        """Order over the topic, one after the other."""
        while True:
            name, began = f"probe-{line}-{len(self.by_topic_s)}", time.monotonic()
            self.tap.say(f"connect/{PROBED}/orders/probe", new(name, "buy 1 1"))
            await until(partial(self._heard, f'"{name}"'.encode()), DRAINS_S)
            self.by_topic_s.append(time.monotonic() - began)

    def _heard(self, name: bytes) -> bool:
        return any(name in body for _, body in self.tap.heard)


@contextmanager
def offered(port: int, events: int, rate: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Let every source offer its share."""
    share = [str(number // len(SOURCES)) for number in (events, rate)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.publisher", str(port), source, pool, *share],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        for source, pool in SOURCES.items()
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=START_SECONDS)


def applied(home: House, events: int) -> bool:
    return home.seqs() >= events


def spread(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    shown = {"median": 0.5, "nine of ten": 0.9, "longest": 1.0}
    parts = [
        f"{name} {ordered[int(share * (len(ordered) - 1))] * 1000:.1f} ms" for name, share in shown.items()
    ]
    return f"{', '.join(parts)}, of {len(ordered)}"


@pytest.mark.soak
@pytest.mark.timeout(cases(120, 1200))
async def test_overload_is_taken_in_to_the_last_event_in_the_order_of_each_source(
    tmp_path: Path, counted: Callable[[str], None]
) -> None:
    rate, seconds = cases(30_000, 50_000), cases(2, 60)
    events = rate * seconds // TOGETHER // len(SOURCES) * TOGETHER * len(SOURCES)
    mqtt = f"window = {WINDOW}"
    with (
        house(tmp_path, toml=TOML, mqtt=mqtt) as home,
        Tap(home.broker.port, ("connect/+/decisions/probe",)) as tap,
    ):
        home.quotad.start()
        await until(lambda: home.quotad.ready)
        probes, before_mb, began = Probes(home, tap), home.quotad.rss_mb(), time.monotonic()
        probing = [probes.look(), probes.reserve(), *(probes.order(line) for line in range(LINES))]
        tasks = [asyncio.create_task(probe) for probe in probing]
        with offered(home.broker.port, events, rate) as processes:
            said = [await asyncio.to_thread(process.communicate) for process in processes]
            assert [process.returncode for process in processes] == [0] * len(SOURCES)
        await until(lambda: applied(home, events), DRAINS_S)
        took_s = time.monotonic() - began
        await ended(tasks)
        assert all(task.cancelled() for task in tasks)
        await until(lambda: home.quotad.ready and home.quotad.metric("quota_unacknowledged_messages") == 0)
        slowest_s = max(float(words[0]) for words in said)
        assert slowest_s < OFFERED_WITHIN * seconds
        counted(
            f"overload: {events} events offered in {slowest_s:.1f} s, applied in {took_s:.1f} s; the daemon"
            f" held {before_mb:.0f} MB before and {probes.most_mb:.0f} MB at most,"
            f" {probes.most_held:.0f} messages; decision by topic {spread(probes.by_topic_s)};"
            f" by store {spread(probes.by_store_s)}"
        )
        assert probes.most_mb - before_mb < GROWTH_MB
        assert 0 < probes.most_held <= HELD_MAX
        in_order(home, events // len(SOURCES))
        assert (await asyncio.to_thread(home.quotad.does, "verify", seconds=DRAINS_S)).returncode == 0


def in_order(home: House, each: int) -> None:
    """Every source's orders stand in the journal once, as it has sent them."""
    reached = dict.fromkeys(SOURCES, 0)
    for pool in PoolName:
        for order_id in journalled(home, pool):
            source, _, number = order_id.partition("-")
            if source in reached:
                assert int(number) == reached[source], order_id
                reached[source] += 1
    assert reached == dict.fromkeys(SOURCES, each)


def journalled(home: House, pool: PoolName) -> Iterator[str]:
    after = "-"
    while entries := page(home, pool, after):
        yield from (fields["event"].split()[1] for _, fields in entries)
        after = f"({entries[-1][0]}"


def page(home: House, pool: PoolName, after: str) -> Any:  # noqa: ANN401 - entries of a stream
    return home.redis.xrange(f"quota:{{{pool}}}:journal", after, "+", _PAGE)

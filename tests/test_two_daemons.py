"""Two daemons over the same pools: by design under names of their own, or by mistake under one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from quota.decision import PoolName
from quota.store.record import keys
from tests.daemons import House, Quotad, house, new
from tests.tap import Tap, until_now

POOL = PoolName.NB_SH
ORDERS = f"connect/{POOL}/orders/gw"
EACH = 150


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path, toml='pools = ["NB-SH"]') as here:
        yield here


@pytest.fixture
def standby(home: House, tmp_path: Path) -> Iterator[Quotad]:
    """Another daemon over the same store and broker, under a name of its own."""
    with beside(home, tmp_path, "standby") as other:
        yield other


def beside(home: House, directory: Path, name: str) -> Quotad:
    """Another daemon over the same store and broker."""
    return Quotad(directory, home.store.port, home.broker.port, toml='pools = ["NB-SH"]', name=name)


def started(*daemons: Quotad) -> None:
    for daemon in daemons:
        daemon.start()
        until_now(partial(getattr, daemon, "ready"))


def events(daemon: Quotad, outcome: str) -> float:
    """How many orders a daemon took in with this outcome."""
    return daemon.metric(f'quota_events_total{{pool="NB-SH",event="new",outcome="{outcome}"}}')


def serves(daemon: Quotad) -> bool:
    """Whether the metrics of a daemon say that it takes orders and reaches the store."""
    names = ("quota_feed_connected", "quota_redis_connected")
    return bool(daemon.get("/metrics")[1]) and all(daemon.metric(name) == 1 for name in names)


def answers(tap: Tap) -> dict[str, list[tuple[str, int, bool]]]:
    """The answers that each order got: verdict, number, whether it is a replay."""
    found: dict[str, list[tuple[str, int, bool]]] = defaultdict(list)
    for reply in tap.replies():
        found[reply["order_id"]].append((reply["verdict"], reply["seq"], reply["replayed"]))
    return found


def say(tap: Tap, first: int) -> list[str]:
    """Send some orders; the ids."""
    ids = [f"o{number}" for number in range(first, first + EACH)]
    for order_id in ids:
        tap.say(ORDERS, new(order_id, source="gw"))
    return ids


def test_each_order_counts_once_and_either_may_die(home: House, standby: Quotad) -> None:
    with Tap(home.broker.port, ("connect/+/decisions/#", "connect/daemon/+")) as tap:
        started(home.quotad, standby)
        both = say(tap, 0)
        until_now(lambda: sum(map(len, answers(tap).values())) == 2 * EACH)
        assert events(home.quotad, "applied") + events(standby, "applied") == EACH
        assert events(home.quotad, "duplicate") + events(standby, "duplicate") == EACH
        assert [serves(home.quotad), serves(standby)] == [True, True]
        home.quotad.kill()
        until_now(lambda: ("connect/daemon/quotad", b"offline") in tap.heard)
        before = events(standby, "applied")
        alone = say(tap, EACH)
        until_now(lambda: set(alone) <= set(answers(tap)))
        assert [serves(home.quotad), serves(standby)] == [False, True]
        until_now(lambda: events(standby, "applied") == before + EACH)
        started(home.quotad)
        until_now(lambda: all(len(answers(tap)[order_id]) == 2 for order_id in alone))
        until_now(lambda: events(home.quotad, "duplicate") == EACH)
        assert events(home.quotad, "applied") == 0
        standby.kill()
        last = say(tap, 2 * EACH)
        until_now(lambda: set(last) <= set(answers(tap)))
        assert [serves(home.quotad), serves(standby)] == [True, False]
        until_now(lambda: events(home.quotad, "applied") == EACH)
        found = answers(tap)
        assert set(found) == {*both, *alone, *last}
        for order_id, told in found.items():
            assert len({(verdict, seq) for verdict, seq, _ in told}) == 1, order_id
            assert [replayed for *_, replayed in told].count(False) == 1, order_id
        assert home.seq() == 3 * EACH
        assert home.redis.xlen(keys(POOL)[5]) == 3 * EACH
        assert home.quotad.does("verify").returncode == 0


def test_of_two_under_one_name_the_younger_ends(home: House, tmp_path: Path) -> None:
    with Tap(home.broker.port, ("connect/+/decisions/#",)) as tap, beside(home, tmp_path, "quotad") as twin:
        started(home.quotad)
        twin.start()
        assert twin.code(30) != 0
        assert "feed.taken" in twin.log
        ids = say(tap, 0)
        until_now(lambda: set(ids) <= set(answers(tap)))
        until_now(lambda: home.quotad.ready)
        assert home.seq() == EACH
        assert home.redis.xlen(keys(POOL)[5]) == EACH

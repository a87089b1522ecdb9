"""What the follower reads of the store: whoever wrote it, and the same after a restart."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from quota.clock import MarketClock
from quota.config import load
from quota.course import Course, Point
from quota.days import Almanac, Days
from quota.errors import LedgerCorrupt
from quota.follow import CHANGES, LATEST, Follower
from quota.ledger import Act, RedisLedger
from quota.metrics import Metrics
from quota.rulebook import Calendar
from quota.store.record import Verified, keys
from tests.agreement.state import DAY
from tests.agreement.trading import HALT, POOL, buy, fill, opening

LIMIT = Act(act="limit", reason="more", user="ann", host="desk", limit_fen=2_000_000)
RESUME = Act(act="resume", reason="over", user="ann", host="desk")


class Remembering(Course):
    """A course that keeps what it is told of the time before."""

    recalled: tuple[Point, ...] = ()

    def recall(self, points: Iterable[Point]) -> None:
        self.recalled = tuple(points)


class Followed:
    """A pool in a real store, and a follower that has just begun."""

    def __init__(self, client: Redis, ledger: RedisLedger) -> None:
        self.client, self.ledger = client, ledger
        market = load(None, {"QUOTA_MARKET__POOLS": POOL}).market
        almanac = Almanac(MarketClock(), Calendar.load(), market, levels=(50,), open_late=True)
        self.metrics = Metrics([POOL], "1")
        self.days = Days(ledger, almanac, [POOL])
        self.course = Remembering(POOL)
        self.follower = self.begun()

    def begun(self) -> Follower:
        """Begin anew, with nothing but what the store remembers."""
        return Follower(self.ledger.record, self.days, {POOL: self.course}, self.metrics)

    async def open_day(self, **changed: object) -> None:
        await self.ledger.open_day(POOL, await opening(self.client, **changed))

    async def look(self) -> None:
        await self.days.look(POOL)
        await self.follower.look(POOL)

    def metric(self, name: str) -> float | None:
        labels = {"pool": POOL, "direction": POOL.direction, "exchange": POOL.exchange}
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
async def followed(client: Redis, ledger: RedisLedger) -> Followed:
    followed = Followed(client, ledger)
    await followed.open_day()
    return followed


async def test_the_latest_decisions_come_newest_first_whoever_asked(followed: Followed) -> None:
    await followed.ledger.apply(POOL, [buy("mqtt"), fill("mqtt")])
    await followed.client.execute_command(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        "FCALL", "quota_reserve", 6, *keys(POOL), "redis", "buy", "2.50", 4, "gw7"
    )
    await followed.look()
    newest, oldest = followed.follower.decided(10)
    assert (newest.order_id, newest.source, newest.price, newest.quantity) == ("redis", "gw7", "2.50", 4)
    assert (newest.verdict, newest.balance_fen, newest.seq) == ("accepted", 998_900, 3)
    assert (oldest.order_id, oldest.seq) == ("mqtt", 1)
    assert newest.time >= oldest.time


async def test_what_no_order_asked_for_is_no_decision(followed: Followed) -> None:
    await followed.ledger.operate(POOL, HALT)
    await followed.ledger.apply(POOL, [buy("1")])
    await followed.look()
    assert [(one.order_id, one.verdict) for one in followed.follower.decided(10)] == [("1", "halted")]


async def test_a_busy_pool_keeps_no_more_than_what_is_shown(followed: Followed) -> None:
    await followed.ledger.apply(POOL, [buy(str(number)) for number in range(LATEST + 5)])
    await followed.look()
    assert [entry.seq for entry in followed.follower.latest[POOL]] == list(range(LATEST + 5, 5, -1))


async def test_the_changes_of_the_day_are_there_and_those_of_earlier_days_are_not(followed: Followed) -> None:
    await followed.ledger.operate(POOL, HALT)
    await followed.ledger.operate(POOL, RESUME)
    await followed.open_day(trading_day="2026-11-24")
    await followed.ledger.operate(POOL, HALT)
    await followed.look()
    changes = [(change.kind, change.now) for change in followed.follower.changes[POOL]]
    assert changes[0] == ("day", "2026-11-24")
    assert changes[-1] == ("status", "halted")
    assert [kind for kind, _ in changes].count("day") == 1


async def test_a_change_is_there_at_the_next_look(followed: Followed) -> None:
    await followed.look()
    before = len(followed.follower.changes[POOL])
    await followed.ledger.operate(POOL, HALT)
    await followed.look()
    (change,) = followed.follower.changes[POOL][before:]
    assert (change.kind, change.now, change.reason) == ("status", "halted", HALT.reason)


async def test_changes_are_bounded(followed: Followed) -> None:
    for _ in range(CHANGES // 2 + 2):
        await followed.ledger.operate(POOL, HALT)
        await followed.ledger.operate(POOL, RESUME)
    await followed.look()
    assert len(followed.follower.changes[POOL]) == CHANGES


async def test_a_restart_finds_the_same(followed: Followed) -> None:
    await followed.ledger.apply(POOL, [buy(str(number)) for number in range(5)])
    await followed.look()
    first, followed.follower = followed.follower, followed.begun()
    await followed.look()
    assert (followed.follower.latest, followed.follower.changes) == (first.latest, first.changes)


async def test_the_course_is_told_what_was_used_before_we_came(followed: Followed) -> None:
    await followed.ledger.apply(POOL, [buy("1", 1000), buy("2", 2000)])
    await followed.ledger.operate(POOL, LIMIT)
    await followed.ledger.apply(POOL, [buy("3", 3000)])
    await followed.look()
    assert [point.used_fen for point in followed.course.recalled] == [100_000, 300_000, 300_000, 600_000]
    assert [point.at for point in followed.course.recalled] == sorted(
        point.at for point in followed.course.recalled
    )


async def test_a_long_day_is_recalled_by_few_entries(followed: Followed) -> None:
    await followed.ledger.apply(POOL, [buy(str(number)) for number in range(1000)])
    await followed.look()
    used = [point.used_fen for point in followed.course.recalled]
    assert 100 < len(used) <= 240
    assert used == sorted(used)
    assert used[0] == 100
    assert used[-1] > 99_000


async def test_a_verification_of_the_open_day_shows_in_the_metrics(followed: Followed) -> None:
    await followed.look()
    assert followed.metric("quota_verified_timestamp_seconds") == 0
    for day, shown in (("2026-11-20", 0.0), (DAY, 1000.0)):
        verified = Verified(trading_day=day, seq=7, differences=3, time_ms=1_000_000)
        await followed.ledger.record.note(POOL, verified)
        await followed.days.look(POOL)
        followed.metrics.pool(POOL, followed.days.snapshots[POOL])
        await followed.follower.look(POOL)
        assert followed.metric("quota_verified_timestamp_seconds") == shown
    assert followed.metric("quota_verify_differences") == 3


async def test_what_verify_leaves_goes_away_by_itself(followed: Followed) -> None:
    verified = Verified(trading_day=DAY, seq=7, differences=0, time_ms=1)
    await followed.ledger.record.note(POOL, verified)
    (key,) = await followed.client.keys("*:verified")
    assert 0 < await followed.client.ttl(key) <= 35 * 86_400


async def test_a_spoilt_verification_is_named(followed: Followed) -> None:
    await followed.client.hset(f"quota:{{{POOL}}}:verified", mapping={"seq": "x"})
    with pytest.raises(LedgerCorrupt, match="verified"):
        await followed.ledger.record.verified(POOL)


SPOILT = {"bytes": b"\xff", "word": b"bogus"}


@pytest.mark.parametrize("how", SPOILT)
async def test_a_spoilt_entry_is_told_once_and_ends_nothing(followed: Followed, how: str) -> None:
    await followed.client.xadd(keys(POOL)[5], {"event": b"x", "verdict": SPOILT[how]}, id="0-5")
    await followed.ledger.apply(POOL, [buy("1")])
    with capture_logs() as logs:
        await followed.look()
        await followed.look()
    assert [(log["event"], log["pool"]) for log in logs] == [("follow.failed", POOL)]
    (warning,) = followed.follower.warnings()
    assert warning.startswith(f"{POOL}: its journal cannot be followed: ")
    await followed.client.xdel(keys(POOL)[5], "0-5")
    await followed.look()
    assert followed.follower.warnings() == []
    assert [one.order_id for one in followed.follower.decided(5)] == ["1"]


async def test_a_missing_right_is_told_and_ends_nothing(followed: Followed) -> None:
    await followed.ledger.apply(POOL, [buy("1")])
    await followed.client.acl_setuser("default", enabled=True, commands=["-xrevrange"])
    try:
        await followed.look()
        assert "permission" in followed.follower.failing[POOL]
    finally:
        await followed.client.acl_setuser("default", enabled=True, commands=["+xrevrange"])


async def test_a_new_day_begins_anew(followed: Followed) -> None:
    await followed.ledger.apply(POOL, [buy("1"), buy("2")])
    await followed.look()
    await followed.open_day(trading_day="2026-11-24")
    await followed.look()
    assert followed.follower.latest[POOL] == ()
    assert followed.course.recalled == ()
    assert followed.follower.changes[POOL][0].now == "2026-11-24"

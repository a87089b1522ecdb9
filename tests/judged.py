"""What has to have come of a day's traffic, whatever died meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator

from quota.decision import PoolName, Verdict
from quota.endpoints import Redis as RedisSettings
from quota.ledger import RedisLedger
from quota.library import Library
from quota.money import yuan_to_fen
from quota.proof.verify import verify
from quota.store.nodes import connected
from tests import traffic
from tests.daemons import House
from tests.tap import Tap
from tests.traffic import LIMITS_YUAN, Payload, Traffic

ANSWERS = ("connect/+/decisions/#", "connect/+/dead")
SUMS = (
    "limit_fen", "balance_fen", "open_buy_fen", "filled_buy_fen", "filled_sell_fen", "seq", "status", "level",
    "decided", "violated",
)  # fmt: skip


def spoken(day: Traffic) -> Iterator[tuple[str, Payload | list[Payload]]]:
    """Every message of a day with its topic: an event alone is no array."""
    for topic, payloads in day.messages:
        yield topic, payloads if len(payloads) > 1 else payloads[0]


def speak(tap: Tap, day: Traffic) -> None:
    for topic, payload in spoken(day):
        tap.say(topic, payload)


def through(tap: Tap) -> bool:
    """Whether the last order of every pool has its answer: everything before it was taken in."""
    return sum(b'"last"' in body for _, body in list(tap.heard)) >= len(PoolName)


def verdicts_of(tap: Tap) -> dict[str, dict[str, set[str]]]:
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for reply in tap.replies():
        found[reply["pool"]][reply["order_id"]].add(reply["verdict"])
    return found


async def judge(home: House, tap: Tap, day: Traffic) -> None:
    """Compare everything that came of the day with everything that should have."""
    verdicts = verdicts_of(tap)
    answered = {(pool, order_id) for pool, orders in verdicts.items() for order_id in orders}
    assert answered == day.news()
    dead = {json.dumps(json.loads(letter["payload"]), sort_keys=True) for letter in tap.on("dead")}
    assert dead == day.dead()
    pools, _ = await traffic.expected(day)
    client = connected(RedisSettings(url=home.store.url))
    ledger = RedisLedger(Library(client))
    for pool in PoolName:
        stored = await ledger.record.read(pool)
        assert {name: getattr(stored, name) for name in SUMS} == {
            name: getattr(pools[pool], name) for name in SUMS
        }
        entries = [entry.seq async for entry in ledger.record.journal(pool, 10**9)]
        assert entries == list(range(1, pools[pool].seq + 1))
        first = first_verdicts(day, pool, verdicts[pool])
        rate = "1" if pool.northbound else traffic.RATE
        used = traffic.contributions(day.lives[pool], first, rate)
        assert pools[pool].balance_fen == yuan_to_fen(LIMITS_YUAN[pool]) - used
        assert (await verify(ledger.record, pool)).differences == ()
    await client.aclose()


def first_verdicts(day: Traffic, pool: PoolName, verdicts: dict[str, set[str]]) -> dict[str, str]:
    """All decisions of one order agree, but for those on another order with its id."""
    reused = {life.order_id for life in day.lives[pool] if life.reused}
    for order_id, words in verdicts.items():
        assert (Verdict.ID_REUSED in words) == (order_id in reused), order_id
    kept = {order_id: words - {Verdict.ID_REUSED} for order_id, words in verdicts.items()}
    assert all(len(words) == 1 for words in kept.values())
    return {order_id: next(iter(words)) for order_id, words in kept.items()}


async def end(home: House) -> None:
    """End the daemon in good order: nothing is left for it at the broker."""
    home.quotad.ask_to_end()
    assert await asyncio.to_thread(home.quotad.code) == 0
    assert await asyncio.to_thread(home.left) == []

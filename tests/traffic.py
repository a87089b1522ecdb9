"""Twenty thousand events of a bad day, from a seed: facts around their orders, duplicates, mistakes.

What should come of them is known twice: ``expected`` by the rules in memory, ``contributions`` by
the contract's formula alone, from the facts and whatever was decided.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from feeds.codec import decode
from quota.config import load
from quota.decision import Decision, PoolName, Verdict
from quota.memory import MemoryLedger
from quota.money import fen_down, fen_up, price_milli, price_text, rate_e5
from quota.pool import Opening, Pool
from tests.daemons import DAY

Payload = dict[str, Any]
RATE = "0.91250"
LIMITS_YUAN = {"NB-SH": "2000000", "NB-SZ": "900000000", "SB-SH": "900000000", "SB-SZ": "500000"}
OTHER = {"buy": "sell", "sell": "buy"}


def limits(yuan: Mapping[str, str]) -> str:
    """Write the setting of these limits."""
    return "limits_yuan = {" + ", ".join(f'{pool} = "{limit}"' for pool, limit in yuan.items()) + "}"


TOML = limits(LIMITS_YUAN)


@dataclass(slots=True)
class Life:
    """One order: its events with the place each has in the day, and what is wrong with some."""

    order_id: str
    new: Payload | None
    facts: list[Payload] = field(default_factory=list)
    reused: list[Payload] = field(default_factory=list)
    dead: list[Payload] = field(default_factory=list)
    placed: list[tuple[float, Payload]] = field(default_factory=list)


@dataclass(slots=True)
class Traffic:
    """All that is published, and the lives behind it."""

    messages: list[tuple[str, list[Payload]]]
    lives: dict[PoolName, list[Life]]

    @property
    def events(self) -> int:
        return sum(len(payloads) for _, payloads in self.messages)

    def news(self) -> set[tuple[str, str]]:
        return {
            (topic.split("/")[1], event["order_id"])
            for topic, payloads in self.messages
            for event in payloads
            if event["event"] == "new" and "time" not in event
        }

    def dead(self) -> set[str]:
        lives = (life for lives in self.lives.values() for life in lives)
        return {json.dumps(event, sort_keys=True) for life in lives for event in life.dead}


def made(seed: int, events: int, name: str = "", *, mistakes: bool = True) -> Traffic:
    """Make the traffic of a seed: at least so many events over the four pools; ids begin with ``name``.

    Of two facts that contradict each other the first counts: without ``mistakes`` any order will do.
    """
    rng = random.Random(seed)
    lives = {pool: _lives(rng, f"{name}{pool}", events // len(PoolName), mistakes) for pool in PoolName}
    for some in lives.values():
        some.append(Life(f"{name}last", {}, placed=[(1e9, _new(f"{name}last", "sell", "1.00", 1))]))
        some[-1].new = some[-1].placed[0][1]
    placed = [
        (place, pool, event) for pool, some in lives.items() for life in some for place, event in life.placed
    ]
    placed.sort(key=lambda one: one[0])
    return Traffic(list(_messages(rng, [(pool, event) for _, pool, event in placed])), lives)


def _lives(rng: random.Random, name: str, events: int, mistakes: bool) -> list[Life]:  # noqa: FBT001 - passed on
    lives: list[Life] = []
    while events > 0:
        lives.append(_life(rng, f"{name}-{len(lives)}", float(len(lives)), mistakes))
        events -= len(lives[-1].placed)
    return lives


def _new(order_id: str, side: str, price: str, quantity: int) -> Payload:
    return {"event": "new", "order_id": order_id, "side": side, "price": price, "quantity": quantity}


def _life(rng: random.Random, order_id: str, born: float, mistakes: bool) -> Life:  # noqa: FBT001 - passed on
    side, limit, quantity = rng.choice(("buy", "sell")), rng.randint(1_000, 50_000), rng.randint(1, 500)
    new = _new(order_id, side, price_text(limit), quantity)
    life = Life(order_id, new if rng.random() > 0.02 else None)
    for number in range(rng.choice((0, 1, 1, 2, 3))):
        fill = new | {
            "event": "fill",
            "exec_id": f"{order_id}-{number}",
            "price": price_text(max(1, limit - rng.randint(-5, 900))),
            "quantity": rng.randint(1, max(1, quantity // 2)),
        }
        life.facts.append(fill)
        if rng.random() < 0.1:
            life.facts.append(fill | {"event": "bust"})
    if rng.random() < 0.4:
        life.facts.append({"event": rng.choice(("cancelled", "rejected")), "order_id": order_id})
    rightful = [*([life.new] if life.new else []), *life.facts] or [new]
    life.new = life.new or (new if rightful == [new] else None)
    again = [event for event in rightful if rng.random() < 0.12]
    life.placed = [(born + rng.gauss(0, 20), event) for event in rightful + again]
    if mistakes:
        _spoil(rng, life, new)
    return life


def _spoil(rng: random.Random, life: Life, new: Payload) -> None:
    """Add what must not be applied, behind everything that is known of the order by then."""
    fills = [fact for fact in life.facts if fact["event"] == "fill"]
    if life.new and rng.random() < 0.02:
        life.reused.append(new | {"quantity": new["quantity"] + 1})
    if fills and rng.random() < 0.02:
        life.dead.append(fills[0] | {"quantity": fills[0]["quantity"] + 1})
    if life.new and rng.random() < 0.01:
        life.dead.append(new | {"event": "fill", "exec_id": f"{life.order_id}-s", "side": OTHER[new["side"]]})
    if rng.random() < 0.005:
        life.dead.append(
            new | {"event": "fill", "exec_id": f"{life.order_id}-r", "price": "9999999999", "quantity": 10**6}
        )
    if rng.random() < 0.005:
        life.dead.append(new | {"time": "2026-11-20T10:00:00+08:00"})
    last = max(place for place, _ in life.placed)
    life.placed += [(last + rng.random(), event) for event in life.reused + life.dead]


def _messages(
    rng: random.Random, events: list[tuple[PoolName, Payload]]
) -> Iterator[tuple[str, list[Payload]]]:
    """Cut the stream into payloads of one event or more, in its order within each pool."""
    waiting: dict[PoolName, tuple[str, list[Payload]]] = {}
    room: dict[PoolName, int] = defaultdict(int)
    for pool, event in events:
        kind = "fills" if event["event"] in {"fill", "bust"} else "orders"
        topic = f"connect/{pool}/{kind}"
        if pool in waiting and (waiting[pool][0] != topic or len(waiting[pool][1]) >= room[pool]):
            yield waiting.pop(pool)
        if pool not in waiting:
            waiting[pool], room[pool] = (topic, []), rng.choice((1, 1, 1, 5, 40))
        waiting[pool][1].append(event)
    yield from waiting.values()


async def expected(traffic: Traffic) -> tuple[dict[PoolName, Pool], list[Decision]]:
    """Play the traffic by the rules in memory, in the order in which it was published."""
    ledger = MemoryLedger(lambda: 1)
    market = load(None, {"QUOTA_MARKET__HKD_CNY": RATE} | _limits()).market
    for pool in PoolName:
        rate = "1.00000" if pool.northbound else RATE
        limit_fen = market.limit_fen(pool)
        assert limit_fen is not None
        schedule = "0 continuous"
        await ledger.open_day(
            pool,
            Opening(
                trading_day=DAY,
                limit_fen=limit_fen,
                rate=rate,
                schedule=schedule,
                origin="at",
                open_late=True,
            ),
        )
    decisions: list[Decision] = []
    for topic, payloads in traffic.messages:
        decoded = decode(topic, json.dumps(payloads).encode(), "connect", frozenset(PoolName))
        assert decoded is not None
        assert decoded.pool is not None
        decisions += await ledger.apply(decoded.pool, decoded.events)
    return {name: book.pool for name, book in ledger.books.items() if book.pool is not None}, decisions


def _limits() -> dict[str, str]:
    return {
        f"QUOTA_MARKET__LIMITS_YUAN__{pool.replace('-', '_')}": yuan for pool, yuan in LIMITS_YUAN.items()
    }


def contributions(lives: list[Life], verdicts: Mapping[str, str], rate: str) -> int:
    """Sum what the orders take from a pool, by the formula of the contract and nothing of ours."""
    return sum(_contribution(life, verdicts.get(life.order_id), rate_e5(rate)) for life in lives)


def _contribution(life: Life, verdict: str | None, rate: int) -> int:
    busted = {fact["exec_id"] for fact in life.facts if fact["event"] == "bust"}
    fills = {fact["exec_id"]: fact for fact in life.facts if fact["event"] in {"fill", "bust"}}
    value = sum(
        price_milli(fill["price"]) * fill["quantity"] for name, fill in fills.items() if name not in busted
    )
    off = any(fact["event"] in {"cancelled", "rejected"} for fact in life.facts)
    new, resting = life.new, 0
    if new is not None and (verdict == Verdict.ACCEPTED or fills) and not off:
        left = max(0, new["quantity"] - sum(fill["quantity"] for fill in fills.values()))
        resting = left * price_milli(new["price"])
    side = new["side"] if new else next((fill["side"] for fill in fills.values()), None)
    return fen_up(resting + value, rate) if side == "buy" else -fen_down(value, rate)

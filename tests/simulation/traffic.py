"""What sources say in the simulation: orders and facts in any order, twice, wrong, or of another day."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from quota.decision import PoolName
from tests.simulation.counters import Counters

PRICES = ("0.01", "0.010", "0.02", "0.013", "0.005", "0.03")
SOURCES = ("", "a", "b")
HUGE = 4_000_000_000_000_000
Payload = tuple[str, bytes]


@dataclass(slots=True)
class Known:
    """An order that was sent, so that more can be said of it."""

    pool: PoolName
    day: str
    order_id: str
    side: str
    price: str
    quantity: int
    source: str
    execs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Traffic:
    """Makes messages; ``known`` are the orders so far."""

    rng: Random
    pools: tuple[PoolName, ...]
    counters: Counters
    known: list[Known] = field(default_factory=list)
    _numbers: int = 0

    def burst(self, day: str, moment: str) -> list[Payload]:
        """Say as much as is said in one scene, at a moment of a day."""
        rng, said = self.rng, list[tuple[Known, dict[str, Any]]]()
        for _ in range(rng.randint(2, 6)):
            order = self.order(day)
            story = [self.new(order), *self._facts(order)]
            if rng.random() < 0.15:
                rng.shuffle(story)
            said += [(order, event) for event in story]
        said += [(order, self._again(order)) for order in self._earlier(day) if rng.random() < 0.25]
        if rng.random() < 0.5:
            said = self._interleaved(said)
        messages = self._packed(said, f"{day}T{moment}+08:00")
        for _ in range(rng.choice((0, 0, 1, 2))):
            messages.insert(rng.randint(0, len(messages)), self._mistake(day))
        messages += [(topic, json.dumps(beat).encode()) for topic, beat in self.counters.heartbeats()]
        if rng.random() < 0.2 and messages:
            messages.append(rng.choice(messages))
        return messages

    def order(self, day: str, source: str | None = None) -> Known:
        """Make an order; sometimes under an id that was there before."""
        rng = self.rng
        self._numbers += 1
        order = Known(
            pool=rng.choice(self.pools),
            day=day,
            order_id=f"o{self._numbers}",
            side="sell" if rng.random() < 0.2 else "buy",
            price=rng.choice(PRICES),
            quantity=rng.choice((1, 1, 2, 3)),
            source=rng.choice(SOURCES) if source is None else source,
        )
        earlier = self._earlier(day)
        if earlier and rng.random() < 0.06:
            other = rng.choice(earlier)
            order.pool, order.order_id, order.source = other.pool, other.order_id, other.source
        self.known.append(order)
        return order

    def _earlier(self, day: str) -> list[Known]:
        return [order for order in self.known[-12:] if order.day == day and order.source != "gw"]

    @staticmethod
    def new(order: Known) -> dict[str, Any]:
        """Say the order."""
        said: dict[str, Any] = {"event": "new", "order_id": order.order_id, "side": order.side}
        return said | {"price": order.price, "quantity": order.quantity}

    def _facts(self, order: Known) -> list[dict[str, Any]]:
        rng, facts = self.rng, list[dict[str, Any]]()
        for number in range(rng.choice((0, 0, 1, 1, 2))):
            facts.append(self._execution(order, "fill", f"{order.order_id}.{number}"))
        if rng.random() < 0.35:
            end = {"event": rng.choice(("cancelled", "rejected")), "order_id": order.order_id}
            facts.insert(rng.randint(0, len(facts)), end)
        if order.execs and rng.random() < 0.2:
            facts.insert(rng.randint(0, len(facts)), rng.choice(order.execs) | {"event": "bust"})
        return facts

    def _execution(self, order: Known, event: str, exec_id: str) -> dict[str, Any]:
        rng = self.rng
        said: dict[str, Any] = {"event": event, "order_id": order.order_id, "exec_id": exec_id}
        said["side"] = order.side if rng.random() < 0.95 else "sell"
        said["price"] = order.price if rng.random() < 0.8 else rng.choice(PRICES)
        said["quantity"] = 1 if rng.random() < 0.97 else HUGE
        order.execs.append(said)
        return said

    def _again(self, order: Known) -> dict[str, Any]:
        """Say something of an order that was said before, or something new of it."""
        rng = self.rng
        draw = rng.random()
        if draw < 0.5:
            return self.new(order)
        if order.execs and draw < 0.7:
            return rng.choice(order.execs)
        if order.execs and draw < 0.75:
            return rng.choice(order.execs) | {"quantity": 7}
        if draw < 0.85:
            return {"event": "cancelled", "order_id": order.order_id}
        return self._execution(order, "fill", f"{order.order_id}.{len(order.execs)}")

    def _interleaved(self, said: list[tuple[Known, dict[str, Any]]]) -> list[tuple[Known, dict[str, Any]]]:
        """Mix what is said of different orders; what is said of one stays in its order."""
        lanes: dict[int, list[tuple[Known, dict[str, Any]]]] = {}
        for order, event in said:
            lanes.setdefault(id(order), []).append((order, event))
        order_of_lanes = [lane for lane in lanes.values() for _ in lane]
        self.rng.shuffle(order_of_lanes)
        return [lane.pop(0) for lane in order_of_lanes]

    def _packed(self, said: list[tuple[Known, dict[str, Any]]], time: str) -> list[Payload]:
        """Write events as messages: alone, or some of a topic together."""
        messages: list[tuple[str, list[dict[str, Any]]]] = []
        for order, event in said:
            lane = "fills" if event["event"] in {"fill", "bust"} else "orders"
            topic = f"connect/{order.pool}/{lane}" + (f"/{order.source}" if order.source else "")
            told = event | ({"time": time} if self.rng.random() < 0.8 else {})
            told = self.counters.numbered(order.pool, order.source, told)
            if messages and messages[-1][0] == topic and self.rng.random() < 0.6:
                messages[-1][1].append(told)
            else:
                messages.append((topic, [told]))
        return [
            (topic, json.dumps(events if len(events) > 1 or self.rng.random() < 0.3 else events[0]).encode())
            for topic, events in messages
        ]

    def _mistake(self, day: str) -> Payload:
        if self.rng.random() < 0.4:
            return self._numbered_mistake(day)
        pool = self.rng.choice(self.pools)
        good = json.dumps(self.new(self.order(day)))
        wrong = good.replace("}", ', "time": "2026-11-19T10:00:00+08:00"}')
        return self.rng.choice(
            (
                (f"connect/{pool}/orders", b"{"),
                (f"connect/{pool}/orders", f'[{good}, 7, {{"event":"what"}}]'.encode()),
                (f"connect/{pool}/orders", f"[7, {wrong}, {good}]".encode()),
                (f"connect/{pool}/fills", good.encode()),
                ("connect/XX/orders", good.encode()),
                ("connect/SB-SZ/orders", good.encode()),
                (f"connect/{pool}/orders", wrong.encode()),
                (f"connect/{pool}/orders/a", good.replace("}", ', "source": "b"}').encode()),
            )
        )

    def _numbered_mistake(self, day: str) -> Payload:
        """Say something wrong, with a number where its source counts; perhaps something good behind it."""
        rng, bad = self.rng, self.order(day, self.rng.choice(("a", "b")))
        wrong = rng.choice(({"price": "x"}, {"quantity": 0}, {"time": "2026-11-19T10:00:00+08:00"}))
        told = [self.counters.numbered(bad.pool, bad.source, self.new(bad) | wrong)]
        good = self.order(day, bad.source)
        if (good.pool, good.source) == (bad.pool, bad.source):
            told.append(self.counters.numbered(good.pool, good.source, self.new(good)))
        topic = f"connect/{bad.pool}/orders" + (f"/{bad.source}" if bad.source else "")
        return topic, json.dumps(told if len(told) > 1 else told[0]).encode()

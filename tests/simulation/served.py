"""What must hold at each acknowledgement: it is in the store, and its answers were here before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from feeds.codec import Decoded, decode
from quota.decision import Outcome, PoolName
from quota.events import Event, NewOrder
from quota.journal import line
from tests.simulation.broker import Message
from tests.simulation.counted import TakenDown
from tests.simulation.gateways import Desk
from tests.simulation.kept import unkept
from tests.simulation.world import Broken, World

_REPLIES = msgspec.json.Decoder(list[dict[str, Any]])


class Heard(NamedTuple):
    """A reply that reached the broker."""

    step: int
    pool: str
    source: str
    reply: dict[str, Any]


def check(holds: bool, what: object) -> None:  # noqa: FBT001 - a law and its name
    """Hold a law."""
    if not holds:
        raise Broken(str(what))


class Served:
    """Watches a world."""

    def __init__(self, world: World, desk: Desk) -> None:
        self.world, self.desk = world, desk
        self.broken: list[str] = []
        world.on_served = self.on_served
        self._replies: list[Heard] = []
        self._letters: list[tuple[int, dict[str, Any]]] = []
        self.rested = 1 << 62
        self._read = 0
        self._read_as: dict[Message, Decoded | None] = {}
        self._by_event: dict[tuple[PoolName, Event], list[tuple[int, Outcome]]] = defaultdict(list)
        self._applied = 0
        self.taken_down = TakenDown(world)

    # At each acknowledgement.

    def _catch_up(self) -> None:
        """Read what the daemon has said and done since the last look."""
        for step, topic, payload in self.world.broker.heard[self._read :]:
            words = topic.split("/")
            if words[2:3] == ["decisions"]:
                source = "" if words[3] == "-" else words[3]
                self._replies += [Heard(step, words[1], source, reply) for reply in _REPLIES.decode(payload)]
            elif words[2:3] == ["dead"]:
                self._letters.append((step, msgspec.json.decode(payload)))
        self._read = len(self.world.broker.heard)
        for applied in self.world.truth.applied[self._applied :]:
            known = self._by_event[applied.pool, applied.event]
            known.append((applied.step, applied.decision.outcome))
        self._applied = len(self.world.truth.applied)
        self.taken_down.catch_up()

    def decoded(self, message: Message) -> Decoded | None:
        """Read a message as it should be read: once, by the product's own codec."""
        if message not in self._read_as:
            served = frozenset(self.world.pools)
            self._read_as[message] = decode(message.topic, message.payload, "connect", served)
        return self._read_as[message]

    def on_served(self, message: Message, _step: int) -> None:
        """Hold what was acknowledged: it is in the store, and its answers were here before."""
        self._catch_up()
        decoded = self.decoded(message)
        if decoded is None:
            return
        self.broken += [*self._unserved(message, decoded), *self._uncounted(message, decoded)]
        self.broken += filter(None, [unkept(self.world, message)])

    def _uncounted(self, message: Message, decoded: Decoded) -> Iterator[str]:
        """Say which numbers are not taken down, or were before their events."""
        pool = decoded.pool
        if pool is None or not decoded.numbers:
            return
        yield from self.taken_down.missed(pool, decoded.numbers, message.published)
        for event in decoded.events:
            known = self._by_event.get((pool, event))
            count = pool, event.source, event.epoch
            if event.epoch and known and self.taken_down.first_step(count, event.sequence) < known[0][0]:
                yield f"{line(event)}: {event.sequence} was taken down before it was committed"

    def _unserved(self, message: Message, decoded: Decoded) -> Iterator[str]:
        since = message.published
        for place, event in enumerate(decoded.events):
            assert decoded.pool is not None
            known = [it for it in self._by_event.get((decoded.pool, event), ()) if it[0] >= since]
            if not known:
                yield f"{line(event)}: acknowledged before it was committed"
                continue
            index = (decoded.places or range(len(decoded.events)))[place]
            buried = self._buried(since, message, index)
            replied = self._replied(since, decoded.pool, event)
            if not buried and all(outcome is Outcome.DEAD for _, outcome in known):  # it may be said twice
                yield f"{line(event)}: a mistake, acknowledged without a dead letter"
            elif isinstance(event, NewOrder) and not replied and not buried:
                yield f"{line(event)}: acknowledged before its reply"
        for mistake in decoded.mistakes:
            if not self._buried(since, message, mistake.index):
                yield f"{mistake.reason}: acknowledged without a dead letter"
        if decoded.rate and "SB-SH" in self.world.pools:
            rates = [rate for step, rate in self.world.truth.rates if step >= since]
            if decoded.rate.rate not in rates:
                yield f"rate {decoded.rate.rate}: acknowledged before it was taken in"

    def _buried(self, since: int, message: Message, index: int | None) -> bool:
        whole = message.payload.decode()
        for step, letter in self._letters:
            if step < since or letter["topic"] != message.topic:
                continue
            if letter["payload"] == whole or (index is not None and letter.get("index") == index):
                return True
        return False

    def state(self, message: Message) -> str:
        """Say how far the daemon is with a message that is not acknowledged."""
        self._catch_up()
        decoded = self.decoded(message)
        if decoded is None or decoded.pool is None or not decoded.events:
            return "special"
        since, pool = message.published, decoded.pool
        known = [self._by_event.get((pool, event), []) for event in decoded.events]
        if not all(any(step >= since for step, _ in it) for it in known):
            return "uncommitted"
        news = [event for event in decoded.events if isinstance(event, NewOrder)]
        return "answered" if news and all(self._replied(since, pool, it) for it in news) else "committed"

    def _replied(self, since: int, pool: PoolName, event: Event) -> bool:
        return any(
            heard.step >= since
            and (heard.pool, heard.source, heard.reply["order_id"]) == (pool, event.source, event.order_id)
            for heard in self._replies
        )

    def reported(self, pool: PoolName) -> tuple[str, int, str] | None:
        """Tell the day, the number and the status that the last report of a pool named."""
        topic = f"connect/{pool}/status"
        for _, said_on, payload in reversed(self.world.broker.heard):
            if said_on == topic:
                report = msgspec.json.decode(payload)
                return report["trading_day"], report["seq"], report["status"]
        return None

"""A broker without a network: it keeps one session, sends it in order, and loses connections.

The feed is the product's own down to paho's client; that, and the pump below it, are ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.simulation.line import Line
from tests.simulation.loop import SimulatedLoop

IDS = 40
"""So few packet ids that they are used again soon."""


@dataclass(slots=True, eq=False)
class Message:
    """A message for the daemon: what it says, and in which step of which day it was published."""

    topic: str
    payload: bytes
    published: int
    day: str
    sent: list[int] = field(default_factory=list)
    acknowledged: int = 0


@dataclass(slots=True)
class Broker:
    """Keeps what was published for the daemon until it is acknowledged.

    ``heard`` lists what the daemon published: step, topic, payload. With ``renumbers`` a message
    comes again under another id, as some brokers do. With ``overshoots`` it sends all that it has once
    anything is acknowledged, under ids that are in flight: so does Mosquitto 2.0.11.
    """

    loop: SimulatedLoop
    rng: Random
    window: int
    renumbers: bool
    overshoots: bool
    served: Callable[[Message, int], None]
    today: Callable[[], str]
    unreachable: float = 0.0
    away: bool = False
    messages: list[Message] = field(default_factory=list)
    heard: list[tuple[int, str, bytes]] = field(default_factory=list)
    stale: int = 0
    flooded: bool = False
    on_again: Callable[[Message], object] = lambda _message: None
    _queue: deque[Message] = field(default_factory=deque)
    _held: list[tuple[int, Message]] = field(default_factory=list)
    _retained: dict[str, bytes] = field(default_factory=dict)
    _line: Line | None = None
    _next_id: int = 0
    _sends_all: bool = False

    def publish(self, topic: str, payload: bytes) -> Message:
        """Take a message from a source."""
        message = Message(topic, payload, self.loop.steps, self.today())
        self.messages.append(message)
        self._queue.append(message)
        self._advance()
        return message

    def retain(self, topic: str, payload: bytes) -> None:
        """Take a message that every new subscription gets again."""
        self._retained[topic] = payload
        self.publish(topic, payload)

    @property
    def waiting(self) -> int:
        """How many messages are not acknowledged."""
        return len(self._queue) + len(self._held)

    @property
    def in_hand(self) -> list[Message]:
        """What was sent to the daemon and is not acknowledged."""
        return [message for _, message in self._held if message.sent]

    def accept(self, line: Line) -> None:
        """Take a connection, and send again what the last one left unacknowledged."""
        if self._line is not None:
            self._line.cut(now=False)
        self._line, self._sends_all = line, False
        if self.renumbers:
            again, self._held = self._held, []
            for _, message in again:
                self._held.append((self._free_id(), message))
        for message_id, message in self._held:
            self.on_again(message)
            self._send(line, message_id, message)
        self._advance()

    def subscribed(self, line: Line) -> None:
        """Send what is retained: claims with QoS 0, everything else behind the queue."""
        for topic, payload in self._retained.items():
            if topic.endswith("/claim"):
                line.deliver(topic, 0, payload)
            else:
                self.publish(topic, payload)

    def take(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Take a publication of the daemon's."""
        self.heard.append((self.loop.steps, topic, payload))
        if topic.endswith("/mark"):
            self.publish(topic, payload)
        if topic.endswith("/claim") and retain:
            self._retained[topic] = payload
            if self._line is not None:
                self._line.deliver(topic, 0, payload)

    def acknowledge(self, line: Line, message_id: int) -> None:
        """Be done with a message."""
        known = [held for held in self._held if held[0] == message_id]
        if line is not self._line or not known:
            self.stale += 1
            return
        self._held.remove(known[0])
        self._sends_all = self.overshoots
        message = known[0][1]
        message.acknowledged += 1
        self.served(message, self.loop.steps)
        self._advance()

    def forget(self, line: Line) -> None:
        """Notice that a connection is gone."""
        if self._line is line:
            self._line = None

    def cut(self) -> None:
        """Break the connection, if there is one."""
        if self._line is not None:
            self._line.cut(now=self.rng.random() < 0.5)

    def _advance(self) -> None:
        while self._line is not None and self._queue and (self._sends_all or len(self._held) < self.window):
            message_id, message = self._free_id(), self._queue.popleft()
            self._held.append((message_id, message))
            self._send(self._line, message_id, message)

    def _send(self, line: Line, message_id: int, message: Message) -> None:
        message.sent.append(self.loop.steps)
        line.deliver(message.topic, message_id, message.payload)

    def _free_id(self) -> int:
        used = {message_id for message_id, _ in self._held}
        while True:
            self._next_id = self._next_id % IDS + 1
            if self._next_id not in used or self.overshoots:
                return self._next_id

"""What passes over one connection: messages until acknowledged, publications until confirmed.

An id is worth something on its own connection only, so each connection has a session here.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from operator import itemgetter
from typing import Any, Final

import aiomqtt
import msgspec
import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from feeds.pump import Pump
from feeds.wire import Publication
from quota.errors import FeedUnavailable

HELD_BYTES_MAX: Final = 64 * 1024 * 1024
"""How much of what is not acknowledged may be in memory before we stop reading; twice as much where we
wait for a confirmation, which may stand behind it."""

SENT_MAX: Final = 12_000
SENT_BYTES_MAX: Final = 128 * 1024 * 1024
"""How much may be sent and not confirmed before we give the broker up; ``room`` waits at half."""

_PACKET_MAX: Final = 256 * 1024 * 1024
_PACKET_HEAD: Final = 64
"""The largest packet of the protocol, and what a publication takes besides topic and payload."""

_SLACK: Final = 256
"""How much a broker may overshoot. Mosquitto 2.0.11 keeps to the receive maximum until we acknowledge
its oldest message, and then sends as many more: of a long queue all is soon on its way."""

_HELD_MAX: Final = 60_000
"""How many messages may be in hand at all. Past 65,535 there is no packet id left, and Mosquitto 2.0.11
gives those that are in flight to others."""

_ARRIVAL_BYTES: Final = 256
"""What a message takes in memory besides its topic and payload."""

log = structlog.get_logger(__name__)


class Arrival(msgspec.Struct, frozen=True, eq=False):
    """A message as it came. The id of one that needs no acknowledgement is below zero."""

    session: Session
    id: int
    topic: str
    payload: bytes


class _Publish(msgspec.Struct, frozen=True):
    topic: str
    payload: bytes
    retain: bool


class Session:
    """One connection's acknowledgements and publications, in the order in which they were made.

    A publication waits while the broker has as many unconfirmed ones as it said it would take
    (MQTT 5, receive maximum), and an acknowledgement waits behind it: that order is what makes
    replies come at least once.
    """

    def __init__(
        self, client: aiomqtt.Client, pump: Pump, window: int, arrived: Callable[[Arrival], None]
    ) -> None:
        self._pump = pump
        self._paho: mqtt.Client = client._client  # noqa: SLF001 - aiomqtt has no door to it
        self._window = window
        self._arrived = arrived
        self._held: set[Arrival] = set()
        self._held_bytes = 0
        self._unnumbered = 0
        self._waiting: deque[_Publish | int] = deque()
        self._sent: dict[int, int] = {}
        self._sent_bytes = 0
        self._sent_count = self._confirmed_count = 0
        self._take_max = 65_535
        self._packet_max = _PACKET_MAX
        self._flushes: list[tuple[int, asyncio.Future[None]]] = []
        self._room: asyncio.Future[None] | None = None
        self._advanced = False
        self._closed = False
        self.kept = False
        self.reason: ReasonCode | None = None
        self._hook_callbacks()

    def _hook_callbacks(self) -> None:
        """Take messages and confirmations ourselves, and look over aiomqtt's shoulder at the rest."""
        self._paho.manual_ack_set(on=True)
        self._paho.disable_logger()
        self._pump.arrived = self._on_message
        self._paho.on_publish = self._on_publish
        self._paho.on_connect = self._listening(self._paho.on_connect, self._on_connect)
        self._paho.on_disconnect = self._listening(self._paho.on_disconnect, self._on_disconnect)

    @staticmethod
    def _listening(theirs: Any, ours: Callable[[Any, Any, Any], None]) -> Callable[..., None]:  # noqa: ANN401 - paho's callbacks
        def called(*call: Any) -> None:  # noqa: ANN401 - paho's signature
            ours(*call[2:5])
            theirs(*call)

        return called

    def _on_connect(self, flags: mqtt.ConnectFlags, _reason: ReasonCode, properties: Properties) -> None:
        self.kept = flags.session_present
        self._take_max = getattr(properties, "ReceiveMaximum", self._take_max)
        self._packet_max = getattr(properties, "MaximumPacketSize", self._packet_max)

    def _on_disconnect(self, _flags: Any, reason: ReasonCode, _properties: Properties) -> None:  # noqa: ANN401 - paho's
        self.reason = self.reason or reason

    @property
    def unacknowledged(self) -> int:
        """How many messages came and were not acknowledged."""
        return len(self._held)

    def _on_message(self, message: Publication) -> None:
        if self._closed:
            return
        self._unnumbered -= not message.id
        arrival = Arrival(self, message.id or self._unnumbered, message.topic, message.payload)
        self._held.add(arrival)
        self._held_bytes += _bytes(arrival)
        if self._flushes:
            self._read_no_further()
        elif self._over(min(2 * self._window + _SLACK, _HELD_MAX)) and not self._pump.paused:
            self._pump.pause()
        self._arrived(arrival)

    def _read_no_further(self) -> None:
        """Bound what is read for the sake of a confirmation that stands behind it.

        Where nothing can be acknowledged before that comes, the next connection begins with the oldest
        message that is not. One on which nothing was yet would only begin with the same: it reads on.
        """
        if self._held_bytes < 2 * HELD_BYTES_MAX and len(self._held) < _HELD_MAX:
            return
        is_waited_for = self._room is not None and not self._room.done()
        if is_waited_for and self._advanced:
            log.warning("feed.crowded", unacknowledged=len(self._held), unconfirmed=self._unconfirmed)
            self._give_up()
        elif not is_waited_for and not self._pump.paused:
            self._pump.pause()

    def _over(self, count: int) -> bool:
        return len(self._held) >= count or self._held_bytes >= HELD_BYTES_MAX

    def acknowledge(self, arrival: Arrival) -> None:
        """Tell the broker that a message is done with: once, and on its own connection only."""
        if arrival not in self._held:
            return
        self._held.remove(arrival)
        self._held_bytes -= _bytes(arrival)
        if self._pump.paused and not self._over(self._window):
            self._pump.resume()
        if arrival.id < 0:
            return
        if self._waiting:
            self._waiting.append(arrival.id)
        else:
            self._ack(arrival.id)

    def _ack(self, message_id: int) -> None:
        self._advanced = True
        self._paho.ack(message_id, 1)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1, after everything sent before; raises FeedUnavailable.

        A broker that leaves too much unconfirmed is as good as gone: the connection ends, so
        that the next one delivers again what was not acknowledged. What is larger than the broker
        takes would end every connection: it is logged and left out.
        """
        if self._closed:
            raise FeedUnavailable("the connection to the broker is gone")
        if self._unconfirmed >= SENT_MAX or self._sent_bytes > SENT_BYTES_MAX:
            self._give_up()
            raise FeedUnavailable("the broker does not confirm what we send")
        if len(topic) + len(payload) + _PACKET_HEAD > self._packet_max:
            log.error("feed.publication_too_large", topic=topic, bytes=len(payload), most=self._packet_max)
            return
        self._sent_count += 1
        self._sent_bytes += len(payload)
        self._waiting.append(_Publish(topic, payload, retain))
        self._advance()

    def _advance(self) -> None:
        """Hand paho what waits, as far as the broker takes it."""
        while self._waiting:
            match self._waiting[0]:
                case int(message_id):
                    self._ack(message_id)
                case _Publish(topic, payload, retain):
                    if len(self._sent) >= self._take_max:
                        return
                    self._sent[self._paho.publish(topic, payload, 1, retain).mid] = len(payload)
            self._waiting.popleft()

    def _on_publish(self, _client: mqtt.Client, _userdata: object, mid: int, *confirmation: Any) -> None:  # noqa: ANN401 - paho's signature
        reason: ReasonCode = confirmation[0]
        if self._closed or mid not in self._sent:
            return
        if reason.is_failure:
            log.error("feed.publication_refused", reason=str(reason))
        self._sent_bytes -= self._sent.pop(mid)
        self._confirmed_count += 1
        self._advance()
        while self._flushes and self._flushes[0][0] <= self._confirmed_count:
            _settle(self._flushes.pop(0)[1], None)

    @property
    def _unconfirmed(self) -> int:
        return self._sent_count - self._confirmed_count

    async def flush(self) -> None:
        """Wait until everything sent is confirmed; raises FeedUnavailable."""
        await self._confirmation(0)

    async def room(self) -> None:
        """Wait until there is room for another batch's answers; raises FeedUnavailable.

        What the broker does not take yet would only wait here, with the acknowledgements behind it.
        """
        is_large = self._sent_bytes > SENT_BYTES_MAX // 2
        self._room = self._confirmation(0 if is_large else min(self._take_max, SENT_MAX // 2))
        await self._room

    def _confirmation(self, left: int) -> asyncio.Future[None]:
        """Promise the moment when no more than so much of what was sent is unconfirmed.

        It reads on meanwhile even where reading is paused: the confirmation may stand behind
        messages, and who waits for it cannot acknowledge them.
        """
        if self._closed:
            raise FeedUnavailable("the connection to the broker is gone")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._unconfirmed <= left:
            done.set_result(None)
            return done
        insort(self._flushes, (self._sent_count - left, done), key=itemgetter(0))
        if self._pump.paused:
            self._pump.resume()
        return done

    def _give_up(self) -> None:
        """End a connection on which nothing moves; the next one delivers again what is not acknowledged."""
        self._pump.cut()
        self.close()

    def close(self) -> None:
        """Forget everything: the broker delivers again what it holds for us."""
        self._closed = True
        self._held.clear()
        self._waiting.clear()
        while self._flushes:
            _settle(self._flushes.pop(0)[1], FeedUnavailable("the connection to the broker is gone"))


def _bytes(arrival: Arrival) -> int:
    return len(arrival.topic) + len(arrival.payload) + _ARRIVAL_BYTES


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    """End a wait, unless who waits has given up."""
    with suppress(asyncio.InvalidStateError):
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

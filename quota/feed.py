"""The Feed protocol, and the records that cross it: deliveries in, messages out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import msgspec

from quota.decision import Phase, PoolName, Side, Status, Verdict
from quota.events import Event, Numbers


class Mistake(msgspec.Struct, frozen=True):
    """What could not be applied, as it came. ``index`` is its place in an array, if any."""

    reason: str
    topic: str
    payload: bytes
    index: int | None = None


class RateNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The day's conversion rate as the topic ``fx`` gives it: RMB for one HKD."""

    trading_day: str
    rate: str


class Delivery(msgspec.Struct, frozen=True):
    """One message from the broker, decoded, and the way to acknowledge it.

    ``pool`` is None for what belongs to no pool of ours. ``places`` holds the index of each event
    in the payload's array, and is empty where they are all there in order. ``mark`` is set on a
    message of our own that says: everything the broker held for us before it has been delivered.
    ``numbers`` are those that its sources gave to what came in it, the mistakes too.
    """

    topic: str
    payload: bytes
    acknowledge: Callable[[], None]
    pool: PoolName | None = None
    events: Sequence[Event] = ()
    places: Sequence[int] = ()
    mistakes: Sequence[Mistake] = ()
    rate: RateNotice | None = None
    mark: str = ""
    numbers: Sequence[Numbers] = ()

    def mistake(self, event: int, reason: str) -> Mistake:
        """Say why ``events[event]`` cannot be applied, with its own bytes as they came.

        The payload is taken apart again only here: few events need it, and all would pay.
        """
        if not self.payload.lstrip().startswith(b"["):
            return Mistake(reason, self.topic, self.payload)
        index = self.places[event] if self.places else event
        return Mistake(reason, self.topic, bytes(_elements(self.payload)[index]), index)


_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])


@lru_cache(maxsize=1)
def _elements(payload: bytes) -> list[msgspec.Raw]:
    """Split an array; remembered, because what is wrong with one event is often wrong with all."""
    return _ELEMENTS.decode(payload)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one order, as it is published."""

    order_id: str
    pool: PoolName
    side: Side
    verdict: Verdict
    balance_fen: int | None
    status: Status
    seq: int | None
    replayed: bool
    time: str


class Replies(msgspec.Struct, frozen=True):
    """The answers of one batch to one source (empty where the orders named none)."""

    pool: PoolName
    source: str
    replies: tuple[Reply, ...]


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """A pool at a glance: the status topic, and an element of ``/api/pools``.

    The figures are None where no day was ever opened.
    """

    pool: PoolName
    trading_day: str | None
    phase: Phase
    status: Status
    limit_fen: int | None
    balance_fen: int | None
    used_ratio: float | None
    level: int
    rate: str | None
    seq: int | None
    time: str


class Alert(msgspec.Struct, frozen=True, kw_only=True, rename={"was": "from", "now": "to"}):
    """A change of status or level, told at least once."""

    pool: PoolName
    kind: str
    was: str | int
    now: str | int
    balance_fen: int
    used_ratio: float
    seq: int
    reason: str
    time: str


class DeadLetter(msgspec.Struct, frozen=True):
    """A mistake on its way to the dead letters of its pool, or of none."""

    pool: PoolName | None
    mistake: Mistake


Message = Replies | StatusReport | Alert | DeadLetter


class Feed(Protocol):
    """Where events come from and answers go. It reconnects by itself."""

    @property
    def connected(self) -> bool:
        """Whether the broker is reached now."""
        ...

    @property
    def reconnects(self) -> int:
        """How often a lost connection has been made anew."""
        ...

    @property
    def sessions_lost(self) -> int:
        """How often the broker has forgotten our session, and what it held for us."""
        ...

    @property
    def unacknowledged(self) -> int:
        """How many deliveries wait for their acknowledgement."""
        ...

    async def receive(self) -> Sequence[Delivery]:
        """Wait for the first delivery and return all that have come, oldest first.

        Raises FeedTaken when another daemon has taken our session.
        """
        ...

    def send(self, message: Message) -> None:
        """Hand a message to the broker, after everything that was sent before.

        An acknowledgement made after it reaches the broker after it. Raises FeedUnavailable
        when the broker is away: the message is then not sent, and everything that was not
        acknowledged on that connection is delivered again by the next one.
        """
        ...

    async def flush(self) -> None:
        """Wait until the broker has taken everything sent; raises FeedUnavailable if it cannot."""
        ...

    async def room(self) -> None:
        """Wait until the broker has confirmed enough for another batch; raises FeedUnavailable.

        Who calls it has acknowledged what it answered: some brokers confirm nothing before that.
        """
        ...

    def mark(self) -> str:
        """Send ourselves a message behind all that the broker holds for us; return its name.

        Raises FeedUnavailable when the broker is away.
        """
        ...

"""Plays what a record says was delivered once more, over MQTT, at the pace of a clock: a rehearsal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import aiomqtt

from quota.captured import Delivered
from quota.clock import MarketClock
from quota.decision import PoolName
from quota.errors import FeedUnavailable

BATCH: Final = 500
"""How many messages are on their way to the broker at once, at most."""

_STEP_S: Final = 0.05
_ANSWER_S: Final = 10.0
_QOS: Final = 1


@dataclass(frozen=True, slots=True)
class Player:
    """Sends deliveries to a broker when ``moment`` of each has come by the clock; those before, at once.

    Raises FeedUnavailable when the broker is away.
    """

    url: str
    root: str
    clock: MarketClock
    delivered: Iterable[Delivered]
    moment: Callable[[int], datetime]
    ready: Callable[[], bool]

    async def run(self) -> int:
        """Play all of it; how many messages were sent."""
        url, sent = urlsplit(self.url), 0
        try:
            async with aiomqtt.Client(
                url.hostname or "127.0.0.1",
                url.port or 1883,
                protocol=aiomqtt.ProtocolVersion.V5,
                clean_start=True,
                timeout=_ANSWER_S,
                max_inflight_messages=2 * BATCH,
            ) as client:
                client.pending_calls_threshold = 2 * BATCH  # a step sends its messages at once
                while not self.ready():  # noqa: ASYNC110 - nobody tells when it is
                    await asyncio.sleep(_STEP_S)
                async for batch in self._due():
                    await asyncio.gather(*(client.publish(it.topic, it.payload, qos=_QOS) for it in batch))
                    sent += len(batch)
        except aiomqtt.MqttError as error:
            raise FeedUnavailable(f"the rehearsal has lost its broker: {error}") from error
        return sent

    async def _due(self) -> AsyncIterator[list[Delivered]]:
        """Yield what is due, in order; wait where nothing is."""
        batch: list[Delivered] = []
        for record in self.delivered:
            if not self._is_of_the_market(record.topic):
                continue
            while self.moment(record.time_ms) > self.clock.now():
                if batch:
                    yield batch
                    batch = []
                await asyncio.sleep(_STEP_S)
            batch.append(record)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _is_of_the_market(self, topic: str) -> bool:
        """Whether somebody else sent it: not a mark of the daemon's own."""
        first = topic.removeprefix(f"{self.root}/").partition("/")[0]
        return first == "fx" or first in set(PoolName)

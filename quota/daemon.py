"""Deliveries in, decisions out: the loop that takes events, and the order in which it does so.

What happens while a batch is under way is the next batch. An event is applied, then answered,
then acknowledged; what is not acknowledged comes again, and the ledger remembers ids. Where there is
a record of the day, nothing is acknowledged that does not stand in it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import date
from itertools import groupby
from typing import NamedTuple, ParamSpec, TypeVar

import structlog

from quota.captured import Capture, Delivered
from quota.clock import MarketClock, iso
from quota.days import Days
from quota.decision import Decision, Outcome, PoolName, Verdict
from quota.errors import CaptureUnavailable, FeedUnavailable, LedgerUnavailable
from quota.events import Event, NewOrder, Numbers
from quota.feed import DeadLetter, Delivery, Feed, Replies, Reply
from quota.ledger import Ledger
from quota.metrics import Metrics
from quota.numbers import joined

BATCH_EVENTS = 512
"""The most events of one function call: it bounds how long the store serves nobody else."""

REPLIES_MAX = 200
"""The most replies of one message: some 50 kB, which every broker takes."""

_RETRY_S = (0.05, 2.0)

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger(__name__)


class Stopping(Exception):
    """The daemon is told to stop while the store or the record of the day is away."""


class Item(NamedTuple):
    """One event and where it came from."""

    event: Event
    delivery: Delivery
    place: int


class _Chunk(NamedTuple):
    """Events of one call, and the day that opens before them, if one does."""

    events: Sequence[Event]
    opens: date | None


def _name(event: Event) -> str:
    return str(type(event).__struct_config__.tag)


def _reply(pool: PoolName, order: NewOrder, decision: Decision, time: str) -> Reply:
    return Reply(
        order_id=order.order_id,
        pool=pool,
        side=order.side,
        verdict=decision.verdict or Verdict.ACCEPTED,
        balance_fen=decision.balance_fen,
        status=decision.status,
        seq=decision.seq,
        replayed=decision.replayed,
        time=time,
    )


class Daemon:
    """One consumer of one feed into one ledger."""

    def __init__(
        self, feed: Feed, ledger: Ledger, days: Days, metrics: Metrics, capture: Capture | None = None
    ) -> None:
        self._feed = feed
        self._ledger = ledger
        self._days = days
        self._metrics = metrics
        self._capture = capture
        self._waiting = False
        self._stopping = asyncio.Event()
        self._consumer: asyncio.Task[None] | None = None

    async def consume(self) -> None:
        """Take in deliveries until told to stop; the batch in hand is finished.

        Raises FeedTaken, LedgerCorrupt or ConfigError, after which nobody should go on.
        """
        self._consumer = asyncio.current_task()
        try:
            while not self._stopping.is_set():
                self._waiting = True
                deliveries = await self._feed.receive()
                self._waiting = False
                await self._take(deliveries)
        except Stopping:
            log.info("daemon.gave_up_batch")
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise

    def stop(self) -> None:
        """Finish the batch in hand and take no more."""
        self._stopping.set()
        if self._waiting and self._consumer is not None:
            self._consumer.cancel()

    async def _take(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries in, in order; a mark or a rate stands between those before and after it."""
        for special, run in groupby(deliveries, key=lambda delivery: bool(delivery.mark or delivery.rate)):
            if not special:
                await self._take_run(list(run))
                continue
            for delivery in run:
                async with self._kept([delivery]):
                    await self._take_special(delivery)
                self._acknowledge([delivery])

    @asynccontextmanager
    async def _kept(self, run: Sequence[Delivery]) -> AsyncIterator[None]:
        """Write deliveries down beside what is done with them; nobody leaves before that is done."""
        if self._capture is None:
            yield
            return
        time_ms = MarketClock.local_ms()
        records = [Delivered(time_ms=time_ms, topic=one.topic, payload=one.payload) for one in run]
        keeping = asyncio.create_task(self._persist(self._capture.keep, records), name="keep")
        try:
            yield
            await keeping
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})

    async def _take_special(self, delivery: Delivery) -> None:
        if delivery.mark:
            for pool in self._days.pools:
                await self._persist(self._days.open_marked, pool, delivery.mark)
        if delivery.rate is not None:
            taken = await self._persist(self._days.rate, delivery.rate.trading_day, delivery.rate.rate)
            for pool in self._days.pools:
                if not pool.northbound:
                    self._metrics.event(pool, "fx", Outcome.APPLIED if taken else Outcome.DEAD)
            if not taken:
                log.warning("rate.refused", trading_day=delivery.rate.trading_day, rate=delivery.rate.rate)
                self._metrics.rate_refused()

    async def _take_run(self, run: Sequence[Delivery]) -> None:
        """Apply the events of these deliveries and answer; acknowledge them once they are written down."""
        try:
            async with self._kept(run):
                await self._decide(run)
                await self._take_down(run)
        except FeedUnavailable as error:
            log.warning("replies.unsent", reason=str(error))
            return
        self._acknowledge(run)
        with suppress(FeedUnavailable):
            await self._feed.room()

    async def _decide(self, run: Sequence[Delivery]) -> None:
        """Apply the events of these deliveries, a pool at a time side by side, then answer.

        Raises FeedUnavailable where the answers cannot go out.
        """
        items: dict[PoolName, list[Item]] = defaultdict(list)
        for delivery in run:
            if delivery.pool is not None:
                items[delivery.pool].extend(
                    Item(event, delivery, place) for place, event in enumerate(delivery.events)
                )
        decided = await asyncio.gather(*(self._apply(pool, batch) for pool, batch in items.items()))
        answers = list(zip(items, items.values(), decided, strict=True))
        for pool, batch, decisions in answers:
            self._count(pool, batch, decisions)
        for pool, batch, decisions in answers:
            self._answer(pool, batch, decisions)
        self._bury(run)

    async def _apply(self, pool: PoolName, batch: Sequence[Item]) -> list[Decision]:
        decisions: list[Decision] = []
        await self._persist(self._days.notice_midnight, pool)
        for chunk in self._chunks(pool, [item.event for item in batch]):
            if chunk.opens is not None:
                await self._persist(self._days.open_due, pool, chunk.opens)
            started = asyncio.get_running_loop().time()
            done = await self._persist(self._ledger.apply, pool, chunk.events)
            self._days.witness.decided(pool, chunk.events, done)
            decisions += done
            self._metrics.applied(len(chunk.events), asyncio.get_running_loop().time() - started)
        return decisions

    async def _take_down(self, run: Sequence[Delivery]) -> None:
        """Take down which numbers have come, now that the ledger has their events."""
        numbers: dict[PoolName, list[Numbers]] = defaultdict(list)
        for delivery in run:
            if delivery.numbers and delivery.pool is not None:
                numbers[delivery.pool].extend(delivery.numbers)
        for pool, come in numbers.items():
            await self._persist(self._ledger.sources.arrived, pool, joined(come))

    def _chunks(self, pool: PoolName, events: Sequence[Event]) -> Iterator[_Chunk]:
        """Cut events into calls; the first event of a day that is due has it opened before it.

        What came before that event in the broker's queue is all that was left of the old day.
        """
        due, cut = self._days.due(pool), len(events)
        if due is not None:
            cut = next((place for place, event in enumerate(events) if event.market_date == due), cut)
        for start in range(0, cut, BATCH_EVENTS):
            yield _Chunk(events[start : min(start + BATCH_EVENTS, cut)], None)
        for start in range(cut, len(events), BATCH_EVENTS):
            yield _Chunk(events[start : start + BATCH_EVENTS], due if start == cut else None)

    async def _persist(self, step: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a step until the store, or the disk, has done it; nothing is acknowledged meanwhile.

        Repeating is harmless: the ledger knows what it has seen. Raises Stopping when told to stop.
        """
        delay_s = _RETRY_S[0]
        while True:
            try:
                return await step(*args, **kwargs)
            except LedgerUnavailable as error:
                log.warning("store.away", reason=str(error), retry_in_s=delay_s)
            except CaptureUnavailable as error:
                log.warning("capture.away", reason=str(error), retry_in_s=delay_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            if self._stopping.is_set():
                raise Stopping
            delay_s = min(delay_s * 2, _RETRY_S[1])

    def _count(self, pool: PoolName, batch: Sequence[Item], decisions: Sequence[Decision]) -> None:
        """Count what the ledger has done, whether the answers go out or not."""
        now = self._days.almanac.clock.now()
        counts = Counter(
            (_name(item.event), decision.outcome) for item, decision in zip(batch, decisions, strict=True)
        )
        for (name, outcome), count in counts.items():
            self._metrics.event(pool, name, outcome, count)
        for item in batch:
            if (happened_at := item.event.happened_at) is not None:
                self._metrics.lag((now - happened_at).total_seconds())

    def _answer(self, pool: PoolName, batch: Sequence[Item], decisions: Sequence[Decision]) -> None:
        """Send the replies to each source, and the dead letters."""
        time = iso(self._days.almanac.clock.now())
        replies: dict[str, list[Reply]] = defaultdict(list)
        for item, decision in zip(batch, decisions, strict=True):
            event = item.event
            if decision.outcome is Outcome.DEAD:
                self._feed.send(DeadLetter(pool, item.delivery.mistake(item.place, decision.reason)))
                log.warning("event.dead", pool=pool, order_id=event.order_id, reason=decision.reason)
            elif isinstance(event, NewOrder) and decision.verdict is not None:
                replies[event.source].append(_reply(pool, event, decision, time))
        for source, answers in replies.items():
            for start in range(0, len(answers), REPLIES_MAX):
                self._feed.send(Replies(pool, source, tuple(answers[start : start + REPLIES_MAX])))

    def _bury(self, run: Sequence[Delivery]) -> None:
        """Send what could not even be decoded to the dead letters."""
        for delivery in run:
            for mistake in delivery.mistakes:
                self._feed.send(DeadLetter(delivery.pool, mistake))
                log.warning("event.dead", pool=delivery.pool, topic=mistake.topic, reason=mistake.reason)
                self._metrics.event(delivery.pool, "unknown", Outcome.DEAD)

    def _acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            delivery.acknowledge()

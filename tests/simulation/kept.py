"""What must stand in the record of the day: every delivery before its acknowledgement, every entry once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from quota.captured import Changed, Delivered, Journalled, Opened
from quota.decision import PoolName
from quota.memory import Book
from tests.simulation.broker import Message
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.disk import Disk

_TROUBLE = {"recorder.failed", "recorder.gap", "recorder.begun_again"}
"""What a recorder says of a store that lost something, or of what it does not understand."""

Days = Iterator[tuple[tuple[PoolName, str], Book]]


def unkept(world: World, message: Message) -> str:
    """Say that a message that was just acknowledged is not in the record; empty where it is."""
    disk = world.disk
    if disk is None:
        return ""
    key = message.topic, message.payload
    if disk.latest.get(key, -1) < message.published:
        return f"{message.payload[:80]!r}: acknowledged before it was written down"
    return ""


def unrecorded(world: World) -> str:
    """Say of which pool the record is behind; empty where it is not."""
    disk = world.disk
    for pool in world.pools if disk is not None else ():
        assert disk is not None
        book, reached = world.truth.books[pool], disk.reached.get(pool)
        if book.pool is None:
            continue
        at = (reached.trading_day, reached.seq, reached.change) if reached else None
        if at != (book.pool.trading_day, book.pool.seq, book.changes[-1].id):
            return f"{pool}: is recorded until {at}"
    return ""


def misrecorded(world: World, days: Days) -> Iterator[str]:
    """Say what is wrong with the record of the days."""
    if world.disk is None:
        return
    for said in world.logs:
        if said["event"] in _TROUBLE:
            yield f"the recorder says {said}"
    yield from _of_deliveries(world, world.disk)
    for (pool, day), book in days:
        yield from _of_day(world.disk, pool, day, book)
        if day == world.truth.day(pool):
            yield from _of_terms(world.disk, pool, book)


def _of_deliveries(world: World, disk: Disk) -> Iterator[str]:
    """Nothing that was never published; as often as it was acknowledged; at last in the broker's order.

    What was given up because the broker was away comes again, and may be behind others until then.
    """
    published = Counter((one.topic, one.payload) for one in world.broker.messages)
    places = {(one.topic, one.payload): place for place, one in enumerate(world.broker.messages)}
    kept = [(it.topic, it.payload) for it in disk.records if isinstance(it, Delivered)]
    yield from (f"{key}: was written down and never published" for key in kept if key not in published)
    served = Counter((one.topic, one.payload) for one in world.broker.messages if one.acknowledged)
    for key, count in served.items():
        if key in disk.times and disk.times[key] < count:
            yield f"{key}: came {count} times, and was written down {disk.times[key]} times"
    last = list(dict.fromkeys(key for key in reversed(kept) if published[key] == 1))
    order = [places[key] for key in reversed(last)]
    if order != sorted(order):
        yield "deliveries were written down out of order"


def _of_day(disk: Disk, pool: PoolName, day: str, book: Book) -> Iterator[str]:
    """The account of a day that was begun is its journal and its changes, each of them once and in order."""
    begun = [it for it in disk.records if isinstance(it, Opened) and it.pool == pool]
    if not any(it.terms.trading_day == day for it in begun):
        return
    kept = [
        it
        for it in disk.records
        if isinstance(it, Journalled | Changed) and (it.pool, it.trading_day) == (pool, day)
    ]
    entries = [it.entry for it in kept if isinstance(it, Journalled)]
    changes = [it.change for it in kept if isinstance(it, Changed)]
    if entries != book.journal:
        yield f"{pool} {day}: recorded are {[it.seq for it in entries]}, there were {len(book.journal)}"
    opens = next(place for place, it in enumerate(book.changes) if (it.kind, it.now) == ("day", day))
    if changes != book.changes[opens:]:
        yield f"{pool} {day}: recorded are changes {[it.id for it in changes]}, not {book.changes[opens:]}"


def _of_terms(disk: Disk, pool: PoolName, book: Book) -> Iterator[str]:
    """The last terms that were written down are those of the open day; nobody looks at earlier ones."""
    assert book.pool is not None
    terms = next(it.terms for it in reversed(disk.records) if isinstance(it, Opened) and it.pool == pool)
    if (terms.rate, terms.schedule) != (book.pool.rate, book.pool.schedule):
        yield f"{pool}: recorded are the terms {terms}, it has {book.pool}"

"""A model that is given what was published and done, and must end as the store did.

It takes the order from the journal, and everything else from those who said it.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from quota.decision import PoolName
from quota.events import NewOrder
from quota.journal import End, Entry, hold_ms_of, read_line
from quota.ledger import Act
from quota.memory import Book, MemoryLedger
from quota.pool import Order
from quota.rules import same_content
from tests.simulation.store import Note, Truth, done_now


def modelled(truth: Truth, name: PoolName, day: str, book: Book, said: AbstractSet[str]) -> Book:
    """Play a day again from what was said; what nobody said is left out."""
    now = [0]
    model = MemoryLedger(lambda: now[0])
    notes = list(truth.notes.get((name, day), ()))
    for entry in book.journal:
        while notes and notes[0].after_seq < entry.seq:
            _note(model, name, now, notes.pop(0))
        now[0] = entry.time_ms
        _entry(model, name, entry, said)
    looked_ms = max(now[0], truth.looked_ms.get((name, day), 0))
    for note in notes:
        if note.now_ms <= looked_ms:
            _note(model, name, now, note)
    now[0] = looked_ms
    done_now(model.tick(name))
    return model.books[name]


def _note(model: MemoryLedger, name: PoolName, now: list[int], note: Note) -> None:
    now[0] = note.now_ms
    match note.what:
        case "opened":
            opening, before, next_rate = note.detail
            model.run_id = "memory" if before is None else model.run_id
            model.books[name] = Book(pool=before, next_rate=next_rate)
            model.run_id = note.run_id
            done_now(model.open_day(name, opening))
        case "rate":
            pool = model.books[name].pool
            assert pool is not None
            done_now(model.set_rate(name, pool.trading_day, note.detail))
        case "store":
            model.run_id = note.detail
        case "attested":
            done_now(model.tick(name))
            done_now(model.attest(name, note.detail))
        case _:
            raise AssertionError(note.what)


def _entry(model: MemoryLedger, name: PoolName, entry: Entry, said: AbstractSet[str]) -> None:
    """Do what an entry tells of, if somebody said it."""
    if entry.is_act:
        act = Act(
            act=entry.event,
            reason=entry.reason,
            user=entry.user,
            host=entry.host,
            limit_fen=entry.limit_fen if entry.event == "limit" else 0,
            reopen=entry.reopen,
        )
        done_now(model.operate(name, act))
        return
    told = read_line(entry.event)
    if isinstance(told, End):
        _end(model, name, told, said)
    elif entry.event in said:
        asked_for = isinstance(told, NewOrder) and told.source == "gw" and not told.time
        if isinstance(told, NewOrder) and asked_for:
            done_now(model.reserve(name, told, hold_ms_of(entry.event) or None))
        else:
            done_now(model.apply(name, [told]))


def _end(model: MemoryLedger, name: PoolName, told: End, said: AbstractSet[str]) -> None:
    match told.how:
        case "released":
            if told.line() in said:
                done_now(model.release(name, told.order_id))
        case "lapsed":
            done_now(model.tick(name))
        case "confirmed":
            _confirm(model, name, told.order_id, said)


def _confirm(model: MemoryLedger, name: PoolName, order_id: str, said: AbstractSet[str]) -> None:
    """Send an order whose reservation is there, if somebody sent it."""
    order = model.books[name].orders.get(order_id, Order())
    lines = sorted(text for text in said if text.startswith(f"new {order_id} ") and "hold_ms=" not in text)
    for text in lines:
        sent = read_line(text)
        if isinstance(sent, NewOrder) and same_content(order, sent):
            done_now(model.apply(name, [sent]))
            if not model.books[name].orders[order_id].reserved:
                return  # one that names another day has no effect

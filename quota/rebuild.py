"""How a lost day is put back from the entries of its journal: pure. ``lua/replay.lua`` says the same.

The day is built beside the pool, and takes its place when it is complete. Each entry is judged at its
own time, a hold ends by its own entry, and a verdict that was given stands.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from quota import day, holds, rules
from quota.book import Book, entry_of
from quota.decision import Outcome, Status, Verdict
from quota.errors import LedgerCorrupt
from quota.events import Bust, Event, Fill, NewOrder
from quota.journal import End, Entry, hold_ms_of, read_line
from quota.ledger import Replayed
from quota.pool import Order, Pool

SINCE = 1000
"""How many entries the last step puts back by itself: as many as the store takes meanwhile."""

_COMPARED = ("event", "verdict", "balance_fen", "time_ms")
_DOUBTED = frozenset({*day.BY_STORE, day.OPENED_LATE})


class Wrong(Exception):
    """An entry that cannot be put back, and why."""


def refused(live: Pool | None, trading_day: str, run_id: str) -> str | None:
    """Tell why a day may not be put in the place of what the store has; None if it may.

    A pool that is known to have lost nothing is not touched.
    """
    if live is None or live.trading_day < trading_day:
        return None
    if live.trading_day > trading_day:
        return f"trading_day: the store has {live.trading_day} open"
    trusted = live.attested in {run_id, ""}
    return (
        "trading_day: the pool is attested on this server"
        if trusted and live.halted not in _DOUBTED
        else None
    )


def begun(terms: Pool, opened_ms: int, last_change: str) -> Book:
    """Begin a day as it was before its first entry; its changes come after those that were seen."""
    fresh = Pool(
        trading_day=terms.trading_day,
        limit_fen=terms.limit_fen,
        rate=terms.rate,
        schedule=terms.schedule,
        admission=terms.admission,
        levels=terms.levels,
        resumes_in_opening=terms.resumes_in_opening,
        phase=terms.phase,
        began=terms.began,
        halted=terms.halted,
        origin=terms.origin,
        attested=day.REBUILT,
    )
    book = Book(published=last_change)
    book.note(day.changes(None, fresh, now_ms=opened_ms, reason="opened"))
    book.pool = day.levelled(fresh)
    return book


def put_back(book: Book, entries: Sequence[Entry]) -> Replayed:
    """Put entries of a day back, all of them or none; what is there already has to be the same."""
    came, built = _pool(book).seq, book.copied()
    for entry in entries:
        try:
            _put_back(built, entry)
        except Wrong as wrong:
            return Replayed(came, f"seq {entry.seq}: {wrong}")
    for name in ("pool", "orders", "executions", "changes", "journal", "holds"):
        setattr(book, name, getattr(built, name))
    return Replayed(_pool(book).seq)


def _put_back(book: Book, entry: Entry) -> None:
    pool = _pool(book)
    if 0 < entry.seq <= pool.seq:
        if not _is_same(book.journal[entry.seq - 1], entry):
            raise Wrong("event: another one was put back before")
        return
    if entry.seq > pool.seq + 1:
        raise Wrong(f"seq: {pool.seq + 1} is missing")
    said = None if entry.is_act else read_line(entry.event)
    at_ms = _judged_at(book, entry, said)
    book.become(day.judged(pool, at_ms), entry.time_ms, "clock")
    if said is None:
        _act(book, entry)
    else:
        _line(book, entry, said, at_ms)
    if entry.seq:
        _compare(book, entry)
    if _pool(book).seq > pool.seq:
        _believe(book, entry)


def _is_same(stored: Entry, entry: Entry) -> bool:
    return all(
        getattr(stored, name) == getattr(entry, name)
        for name in ("event", "verdict", "balance_fen", "time_ms")
    )


def _judged_at(book: Book, entry: Entry, said: Event | End | None) -> int:
    """As of which moment an entry was judged: a lapse perhaps before trading began."""
    lapses_ms = book.holds.get(said.order_id) if isinstance(said, End) and said.how == "lapsed" else None
    return entry.time_ms if lapses_ms is None else holds.as_of(_pool(book), lapses_ms, entry.time_ms)


def _act(book: Book, entry: Entry) -> None:
    """Carry an operator's act out again; it attests nothing here."""
    was, now_ms = _pool(book), entry.time_ms
    if entry.event == "halt":
        after = day.halted(was, entry.reason, now_ms)
    elif entry.event == "resume":
        after = day.resumed(was, was.attested, now_ms)
    else:
        if entry.seq and entry.was_fen != was.limit_fen:
            raise Wrong(f"was_fen: the limit is {was.limit_fen}")
        if (wrong := day.limit_refused(was, entry.limit_fen)) is not None:
            raise Wrong(wrong)
        after = day.limited(was, entry.limit_fen, now_ms, reopen=entry.reopen)
    book.become(after, now_ms, entry.reason)
    told = replace(
        entry_of(after, now_ms, entry.event), reason=entry.reason, user=entry.user, host=entry.host
    )
    book.journal.append(replace(told, was_fen=was.limit_fen, limit_fen=after.limit_fen, reopen=entry.reopen))


def _line(book: Book, entry: Entry, said: Event | End, at_ms: int) -> None:
    step = _step(book, entry, said)
    if step is None or step.order is None:
        return
    was = book.orders.get(said.order_id, Order())
    if step.decision.outcome is Outcome.DUPLICATE and not isinstance(said, End):
        entry = replace(entry, event=End("confirmed", said.order_id).line())
    step = rules.numbered(step, at_ms)
    if step.execution is not None and isinstance(said, Fill | Bust):
        book.executions[said.exec_id] = step.execution
    hold_ms = hold_ms_of(entry.event)
    if hold_ms and step.order is not None and step.order.reserved and not was.reserved:
        book.holds[said.order_id] = entry.time_ms + hold_ms
        step = step._replace(pool=holds.with_lapse(step.pool, entry.time_ms + hold_ms))
    book.write(step, said.order_id, entry.event, entry.time_ms)


def _step(book: Book, entry: Entry, said: Event | End) -> rules.Step | None:
    """What an entry made of things; None where it makes nothing here."""
    pool, order = _pool(book), book.orders.get(said.order_id, Order())
    if isinstance(said, End):
        return _ended(pool, order, said)
    if not entry.seq and said.market_date is not None and said.market_date.isoformat() != pool.trading_day:
        return None
    if isinstance(said, NewOrder):
        return _new(pool, order, said, entry)
    if isinstance(said, Fill | Bust):
        return rules.apply_execution(pool, order, book.executions.get(said.exec_id), said)
    return rules.apply_off_book(pool, order)


def _ended(pool: Pool, order: Order, end: End) -> rules.Step | None:
    """End a reservation. One that is none here is passed over.

    Of what the store took after it had lost entries, some knew an order otherwise.
    """
    if end.how == "released" and order.unheard and not order.spent:
        return holds.spent(pool, order)
    if not order.reserved:
        return None
    match end.how:
        case "confirmed":
            return rules.Step(pool, rules.decided(pool, Outcome.APPLIED), replace(order, reserved=False))
        case "released":
            return holds.spent(pool, order)
        case _:
            return holds.lapsed(pool, order)


def _new(pool: Pool, order: Order, event: NewOrder, entry: Entry) -> rules.Step | None:
    """Decide an order as it was decided, or now where nobody knows how.

    An entry without a number comes behind what was answered first, and the first answer stands.
    """
    if (verdict := entry.verdict) is None:
        return rules.arrived(pool, order, event)
    if not entry.seq and order.spent and verdict is not Verdict.ACCEPTED:
        return None
    if order.spent:
        return rules.revived(pool, order, event)
    if order.verdict is not None or order.side not in {None, event.side}:
        return None if not entry.seq else rules.answered_again(pool, order, event)
    decided = replace(rules.asked(order, event), verdict=verdict)
    if hold_ms_of(entry.event) is not None:
        decided = holds.as_reserved(decided)
    return rules.settled_order(pool, order, decided)


def _compare(book: Book, entry: Entry) -> None:
    """See that the pool is as the entry says after it."""
    pool = _pool(book)
    if pool.seq != entry.seq or book.journal[-1].event != entry.event:
        raise Wrong("event: changes nothing")
    if pool.balance_fen != entry.balance_fen:
        raise Wrong(f"balance_fen: is {pool.balance_fen} here")
    if (violations := book.journal[-1].violations) != entry.violations:
        raise Wrong(f'violations: are "{",".join(violations)}" here')


def _believe(book: Book, entry: Entry) -> None:
    """Take the entry's word for the status as it was, and for exhaustion even against the clock.

    One that has neither number nor verdict was never in a journal, and has no word on that.
    """
    last, pool = book.journal[-1], _pool(book)
    if not entry.seq and entry.verdict is None:
        return
    book.journal[-1] = replace(last, status=entry.status, phase=entry.phase)
    if entry.status is not Status.HALTED:
        book.pool = replace(pool, exhausted=entry.status is Status.EXHAUSTED)


def _pool(book: Book) -> Pool:
    if book.pool is None:
        raise LedgerCorrupt("no day is put back")
    return book.pool


def adoption_refused(book: Book, trading_day: str, seq: int, live_seq: int, run_id: str) -> str | None:
    """Tell why the day beside the pool may not take its place; None if it may.

    Both have to be as the caller knows them.
    """
    live, aside = book.pool, book.aside
    if (wrong := refused(live, trading_day, run_id)) is not None:
        return wrong
    if aside is None or _pool(aside).trading_day != trading_day:
        return "trading_day: nothing of it was put back"
    if _pool(aside).seq != seq:
        return f"seq: is {_pool(aside).seq}"
    stands = live.seq if live is not None and live.trading_day == trading_day else 0
    return None if live_seq <= stands <= live_seq + SINCE else f"live_seq: is {stands}"


def put_since_back(book: Book, aside: Book, live_seq: int) -> str:
    """Put back what the pool took since a number; why that cannot be, or nothing."""
    if book.pool is None or book.pool.trading_day != _pool(aside).trading_day:
        return ""
    since = [replace(entry, seq=0) for entry in book.journal if entry.seq > live_seq]
    return put_back(aside, since).detail


def adopted(live: Pool | None, aside: Book, next_rate: tuple[str, str], run_id: str, now_ms: int) -> Book:
    """The day that was put back as it stands in the pool's place: halted until somebody attests it.

    An operator's halt stays his.
    """
    book, pool = aside.copied(), _pool(aside)
    kept = () if live is None else live.kept
    if live is not None and live.trading_day != pool.trading_day:
        kept = (*kept, live.trading_day)
    book.published, book.next_rate, book.aside = book.changes[-1].id, next_rate, None
    halted = replace(pool, halted=pool.halted or day.REBUILT, kept=kept, doubted=f"{run_id} {pool.seq} ")
    book.become(replace(halted, next_lapse_ms=min(book.holds.values(), default=0)), now_ms, day.REBUILT)
    return book

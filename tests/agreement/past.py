"""A day that has been: played in memory by a clock that only moves forward, to be put back elsewhere."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from quota.book import Book
from quota.day import BY_STORE, judged, segments
from quota.doubt import Claim
from quota.events import Cancelled
from quota.journal import Entry
from quota.ledger import Act
from quota.memory import MemoryLedger
from quota.pool import Opening, Pool
from tests.agreement.state import DAY, HOUR_MS, NEVER_MS, PLACES, schedule_of
from tests.agreement.trading import buy, fill
from tests.agreement.twin import Solo, Twin
from tests.agreement.walk import walk


class Past(Solo):
    """A pool in a MemoryLedger whose clock moves; ``opened`` is its last day as it opened."""

    def __init__(self, now_ms: int) -> None:
        super().__init__(now_ms)
        self.model = MemoryLedger(lambda: self.now_ms)
        self.opened: Pool | None = None

    @property
    def book(self) -> Book:
        """Everything kept of the pool."""
        return self.model.books[self.name]

    @property
    def journal(self) -> list[Entry]:
        """The entries of its last day."""
        return self.book.journal

    @property
    def terms(self) -> Pool:
        """The pool before its first entry, with the rate that it had when that came."""
        assert self.pool is not None
        assert self.opened is not None
        return replace(self.opened, rate=self.pool.rate)

    async def open_day(self, opening: Opening) -> object:
        """Open a day. One that is open keeps its schedule: only a clock of `--at` moves one."""
        if self.pool is not None and self.pool.trading_day == opening.trading_day:
            opening = replace(opening, schedule=self.pool.schedule)
        outcome = await super().open_day(opening)
        if outcome is True:
            self.opened = self.pool
        return outcome

    async def stand_at(self, place: str) -> None:
        """Let time pass until the clock stands there; it never goes back."""
        assert self.pool is not None
        stands, starts = PLACES.index(place), segments(self.pool.schedule)
        moment = starts[stands - 1][0] + HOUR_MS if stands else starts[0][0] - HOUR_MS
        if moment > self.now_ms:
            self.now_ms, self.place = moment, place

    async def age(self, hours: int) -> None:
        """Let hours pass."""
        self.now_ms += hours * HOUR_MS


async def played(now_ms: int, rng: Random, steps: int) -> Past:
    """Play a random day that began up to a day ago; no clock of ours stands where a phase of it begins."""
    past = Past(now_ms - rng.randint(0, 24) * HOUR_MS - HOUR_MS // 2)
    while past.pool is None or not past.journal:
        past = Past(past.now_ms)
        await walk(past, rng, steps=steps)  # type: ignore[arg-type]  # a walk needs no more than this
    await past.tick(publish=False)
    return past


async def between(now_ms: int) -> Past:
    """Play a small day in the morning, with holds, a limit, and a store that changed."""
    past = Past(now_ms)
    schedule = schedule_of("morning", now_ms)
    day = Opening(
        trading_day=DAY, limit_fen=1_000, rate="1.00000", schedule=schedule, origin="at", open_late=True
    )
    await past.open_day(day)
    await past.apply(*(buy(f"b{number}") for number in range(4)))
    await past.reserve(buy("b5"), 20 * HOUR_MS)
    await past.reserve(buy("b7"))
    await past.operate(Act(act="limit", limit_fen=2_000, reason="more", user="ann", host="desk"))
    await past.store_changes()
    await past.apply(fill("b1"), Cancelled(order_id="b2"), buy("held"))
    await past.attest(Claim(7, past.journal[6].balance_fen, NEVER_MS))
    await past.apply(buy("late"))
    await past.reserve(buy("back"))
    await past.release("back")
    return past


async def slept(now_ms: int, trading_day: str) -> Past:
    """Play a day whose holds ended before its trading began, and nobody looked until then."""
    past = Past(now_ms)
    day = Opening(
        trading_day=trading_day,
        limit_fen=1_000_000,
        rate="1.00000",
        schedule=schedule_of("opening", now_ms),
        origin="at",
        open_late=True,
    )
    await past.open_day(day)
    for order_id in ("early", "sent"):
        await past.reserve(buy(order_id), HOUR_MS // 2)
    await past.age(3)
    await past.apply(buy("sent"), fill("sent"))
    await past.reserve(buy("held"), 24 * HOUR_MS)
    return past


def as_it_was(model: MemoryLedger, past: Past) -> None:
    """Compare a day that was put back with the day that was; raises AssertionError."""
    book, was = model.books[past.name], past.book
    assert book.pool is not None
    assert book.journal == was.journal
    assert (book.orders, book.executions, book.holds) == (was.orders, was.executions, was.holds)
    assert _plain(judged(book.pool, past.now_ms), book) == _plain(was.pool, was)
    assert _moved(book, past.terms.trading_day) == _moved(was, past.terms.trading_day)


def _plain(pool: Pool | None, book: Book) -> Pool:
    """A pool but for what its store has to do with it, and with its next lapse exactly."""
    assert pool is not None
    halted = "" if pool.halted in BY_STORE else pool.halted
    next_lapse_ms = min(book.holds.values(), default=0)
    return replace(pool, attested="", doubted="", kept=(), halted=halted, next_lapse_ms=next_lapse_ms)


def _moved(book: Book, trading_day: str) -> list[tuple[str, str, str, int, int, str]]:
    """What entries made of limit and level; who looks at the clock, and when, is not in the journal."""
    opened = max(place for place, it in enumerate(book.changes) if (it.kind, it.now) == ("day", trading_day))
    return [
        (it.kind, it.was, it.now, it.seq, it.balance_fen, it.reason)
        for it in book.changes[opened:]
        if it.kind in {"limit", "level"} and it.seq
    ]


async def rebuilt(twin: Twin, past: Past, rng: Random) -> None:
    """Put a day back in pages, some of them twice and some too early, and let it take the pool's place."""
    terms, entries, came = past.terms, past.journal, 0
    while came < len(entries):
        if rng.random() < 0.2:
            assert (await twin.replay(terms, entries[came + 1 :][:3])).seq == came
        start, size = max(0, came - rng.choice((0, 0, 1, 3))), rng.choice((1, 2, 5, 50))
        replayed = await twin.replay(terms, entries[start:][: size + came - start])
        assert replayed.detail == "", replayed
        came = replayed.seq
    assert (await twin.adopt(terms.trading_day, came + 1)).detail == f"seq: is {came}"
    await finished(twin, past, [])


async def finished(twin: Twin, past: Past, since: list[Entry]) -> None:
    """Put all of a day back, and behind it what the store took since; let it take the pool's place."""
    terms = past.terms
    assert (await twin.replay(terms, past.journal)).detail == ""
    replayed = await twin.replay(terms, [replace(entry, seq=0) for entry in since])
    assert replayed.detail == ""
    live = twin.pool
    live_seq = live.seq if live is not None and live.trading_day == terms.trading_day else 0
    assert (await twin.adopt(terms.trading_day, replayed.seq, live_seq)).detail == ""
    await twin.agree()

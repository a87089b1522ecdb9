"""One pool in the model alone: everything that can be done to a pool, at one moment of a store's clock."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from msgspec.structs import replace

from quota.day import REBUILT
from quota.decision import Attest, Decision, PoolName, Side, Verdict
from quota.doubt import Claim
from quota.errors import ConfigError, LedgerCorrupt
from quota.events import Event, NewOrder
from quota.journal import Entry
from quota.ledger import Act, Attestation, Replayed
from quota.memory import MemoryLedger
from quota.pool import Opening, Pool
from quota.rules import checked_verdict
from tests.agreement.state import DOUBTED, ELSEWHERE, HOUR_MS, NEVER_MS, schedule_of


class Solo:
    """A pool in a MemoryLedger alone, at one moment of the store's clock."""

    def __init__(self, now_ms: int, name: PoolName = PoolName.NB_SH) -> None:
        self.now_ms, self.name, self.place = now_ms, name, "before"
        self.model = MemoryLedger(lambda: now_ms)

    @property
    def pool(self) -> Pool | None:
        """The model's pool."""
        return self.model.books[self.name].pool

    async def open_day(self, opening: Opening) -> object:
        """Open a day; a refusal is returned as its text."""
        return await said(self.model.open_day(self.name, opening))

    async def stand_at(self, place: str) -> None:
        """Let time pass, unnoticed: the clock stays, the day's schedule moves."""
        book = self.model.books[self.name]
        assert book.pool is not None
        self.place = place
        book.pool = replace(book.pool, schedule=schedule_of(place, self.now_ms))

    async def apply(self, *events: Event) -> list[Decision]:
        """Apply a batch."""
        return list(await self.model.apply(self.name, events))

    async def age(self, hours: int) -> None:
        """Let so many hours of every hold pass, unnoticed: the clock stays, the holds' moments move."""
        book = self.model.books[self.name]
        assert book.pool is not None
        book.holds = {name: ms - hours * HOUR_MS for name, ms in book.holds.items()}
        if book.pool.next_lapse_ms:
            book.pool = replace(book.pool, next_lapse_ms=book.pool.next_lapse_ms - hours * HOUR_MS)

    async def store_changes(self) -> None:
        """Let the pool stand on another server than the one on which it was attested, or put back."""
        book = self.model.books[self.name]
        assert book.pool is not None
        attested = REBUILT if book.pool.attested == REBUILT else ELSEWHERE
        book.pool = replace(book.pool, attested=attested, doubted=DOUBTED)

    async def version_1(self) -> None:
        """Let the pool be one that was opened before servers were attested."""
        book = self.model.books[self.name]
        assert book.pool is not None
        book.pool = replace(book.pool, attested="", doubted="")

    async def reserve(self, order: NewOrder, hold_ms: int | None = None) -> Decision:
        """Decide an order as a gateway does. One that cannot be applied is malformed: it leaves no trace."""
        return self.model.decide(self.name, order, hold_ms)

    async def release(self, order_id: str) -> object:
        """Give a reservation back; what cannot be given back is returned as its text."""
        try:
            return await self.model.release(self.name, order_id)
        except LedgerCorrupt as error:
            return str(error)

    async def attest(self, *claims: Claim, put_back: bool = False) -> Attestation:
        """Say that the store has lost nothing."""
        return await self.model.attest(self.name, claims, put_back=put_back)

    async def attest_last(self, behind: int, *, wrong: bool = False, long_ago: bool = False) -> Attest:
        """Attest with an entry of the journal, so many before the last; -1 is one that never was."""
        journal = self.model.books[self.name].journal
        seq = max(0, len(journal) - behind)
        known = journal[seq - 1].balance_fen if 0 < seq <= len(journal) else 0
        claim = Claim(seq, known + wrong, 1 if long_ago else NEVER_MS)
        return (await self.attest(claim, put_back=True)).outcome

    async def replay(self, terms: Pool, entries: Sequence[Entry]) -> Replayed:
        """Put entries of a lost day back."""
        return await self.model.replay(self.name, terms, entries)

    async def adopt(self, trading_day: str, seq: int, live_seq: int = 0) -> Replayed:
        """Put the day that was put back in the pool's place."""
        return await self.model.adopt(self.name, trading_day, seq, live_seq)

    @property
    def seen(self) -> Pool | None:
        """The pool as whoever looks now would see it."""
        return self.model.seen(self.name)

    async def check(self, side: Side) -> Verdict:
        """Ask what an order would get."""
        return checked_verdict(self.seen, side)

    async def operate(self, act: Act) -> object:
        """Carry out an operator's act; a refusal is returned as its text."""
        return await said(self.model.operate(self.name, act))

    async def set_rate(self, trading_day: str, rate: str) -> str:
        """Set the rate."""
        return await self.model.set_rate(self.name, trading_day, rate)

    async def tick(self, *, publish: bool) -> Pool | None:
        """Judge the clock; with ``publish`` say that all changes were published."""
        seen = await self.model.tick(self.name)
        if publish and seen.pool is not None:
            await self.model.tick(self.name, seen.last_change)
        return seen.pool

    async def agree(self) -> None:
        """There is nobody to disagree with."""


async def said(call: Awaitable[object]) -> object:
    """What a call returns, or the text of its refusal."""
    try:
        return await call
    except ConfigError as refusal:
        return str(refusal)

"""Days of gateways that ask and markets that report, from a seed: their histories, and the journal.

The ledger in memory decides; the gateways' clocks run around its moments, so that calls overlap.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from quota.book import Book
from quota.day import STORE_CHANGED
from quota.decision import Admission, Outcome, PoolName, Side, Verdict
from quota.doubt import Claim
from quota.errors import ConfigError
from quota.events import Bust, Cancelled, Event, Fill, NewOrder
from quota.gate.answers import Result
from quota.journal import Entry
from quota.ledger import Act
from quota.memory import MemoryLedger
from quota.money import rate_e5
from quota.pool import Opening
from quota.proof.history import Call
from quota.proof.retrace import Terms
from tests.agreement.state import DAY, HOUR_MS, NEVER_MS, PLACES, schedule_of

NOON_MS = 1_795_000_000_000
HOLDS = (None, None, HOUR_MS // 4, HOUR_MS)
_CLOCK_OFFSETS = {"a": 0, "b": 10**15, "c": -(10**12)}


@dataclass(slots=True)
class Day:
    """One pool's day. ``calls`` and ``entries`` are what a checker is given."""

    rng: Random
    name: PoolName
    opening: Opening
    calls: list[Call] = field(default_factory=list)
    now_ms: int = NOON_MS
    ns: int = 10**9
    gives_up: float = 0.1
    ledger: MemoryLedger = field(init=False)
    _orders: list[NewOrder] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = MemoryLedger(lambda: self.now_ms)

    @property
    def book(self) -> Book:
        return self.ledger.books[self.name]

    @property
    def entries(self) -> list[Entry]:
        return self.book.journal

    @property
    def terms(self) -> Terms:
        return Terms(
            resumes_in_opening=self.opening.resumes_in_opening,
            must_fit=self.opening.admission is Admission.MUST_FIT,
            rate_e5=rate_e5(self.opening.rate),
        )

    async def open(self) -> None:
        await self.ledger.open_day(self.name, self.opening)

    def stand_at(self, place: str) -> None:
        """Let the day go on to a phase."""
        pool = self.book.pool
        assert pool is not None
        self.book.pool = replace(pool, schedule=schedule_of(place, self.now_ms))

    async def report(self, event: Event) -> None:
        """Let something be heard over MQTT."""
        await self.ledger.apply(self.name, [event])

    async def act(self, act: str, limit_fen: int = 0, *, reopen: bool = False) -> None:
        """Let an operator act; what is refused is not done."""
        deed = Act(act=act, reason="why not", user="ann", host="desk", limit_fen=limit_fen, reopen=reopen)
        with suppress(ConfigError):
            await self.ledger.operate(self.name, deed)

    async def step(self) -> None:
        """Let anything happen."""
        self.now_ms += self.rng.choice((0, 1, 60_000, HOUR_MS // 4))
        draw = self.rng.random()
        if draw < 0.6 or not self._orders:
            await self.ask()
        elif draw < 0.85:
            await self._report_of(self.rng.choice(self._orders))
        elif draw < 0.9:
            await self.ledger.release(self.name, self.rng.choice((*self._orders, self._new())).order_id)
        elif draw < 0.97:
            await self._act_anyhow()
        else:
            await self._change_store()

    async def ask(self) -> None:
        """Let a gateway ask: for a new order, or again, or for the same id with other content."""
        order, draw = self._new(), self.rng.random()
        if self._orders and draw < 0.25:
            order = self.rng.choice(self._orders)
            order = replace(order, quantity=order.quantity + (draw < 0.05))
        else:
            self._orders.append(order)
        clock, hold_ms = self.rng.choice("abc"), self.rng.choice(HOLDS)
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            self.ask_once(order, hold_ms, clock)

    def ask_once(self, order: NewOrder, hold_ms: int | None = None, clock: str = "a") -> None:
        """Let a gateway ask, and perhaps give up waiting."""
        self.ns += self.rng.randint(1, 1000)
        decision = self.ledger.decide(self.name, order, hold_ms)
        if decision.verdict is None:
            return
        offset = _CLOCK_OFFSETS[clock]
        call = Call(
            pool=self.name,
            order_id=order.order_id,
            side=order.side,
            price=order.price,
            quantity=order.quantity,
            clock=clock,
            called_ns=self.ns - self.rng.randint(0, 3000) + offset,
            answered_ns=self.ns + self.rng.randint(0, 3000) + offset,
            outcome=Result.ACCEPTED if decision.verdict is Verdict.ACCEPTED else Result.REFUSED,
            verdict=decision.verdict,
            seq=decision.seq,
            balance_fen=decision.balance_fen,
            replayed=decision.outcome is Outcome.DUPLICATE,
        )
        if self.rng.random() < self.gives_up:
            call = replace(
                call, outcome=Result.UNKNOWN, verdict=None, seq=None, balance_fen=None, replayed=False
            )
        self.calls.append(call)

    def _new(self) -> NewOrder:
        side = Side.SELL if self.rng.random() < 0.2 else Side.BUY
        price = self.rng.choice(("1.00", "2.50", "0.013"))
        return NewOrder(
            order_id=f"g-{len(self._orders)}", side=side, price=price, quantity=self.rng.randint(1, 40)
        )

    async def _report_of(self, order: NewOrder) -> None:
        """Let something be heard of an order over MQTT, or of one that nobody reserved."""
        draw, number = self.rng.random(), self.rng.randint(1, 3)
        if draw < 0.1:
            stranger = replace(order, order_id=f"m-{order.order_id}")
            await self.report(stranger)
        elif draw < 0.4:
            await self.report(order)
        elif draw < 0.6:
            await self.report(Cancelled(order_id=order.order_id))
        else:
            kind = self.rng.choice((Fill, Fill, Bust))
            trade = kind(
                order_id=order.order_id,
                exec_id=f"{order.order_id}-{number}",
                side=order.side if draw < 0.97 else Side.SELL,
                price=order.price if draw < 0.9 else "0.900",
                quantity=1 + order.quantity // 2,
            )
            await self.report(trade)

    async def _act_anyhow(self) -> None:
        act, raised = self.rng.choice(("halt", "resume", "resume", "limit")), self.rng.randint(-500, 2_000)
        await self.act(act, self.opening.limit_fen + raised, reopen=self.rng.random() < 0.5)

    async def _change_store(self) -> None:
        """Fail over to another server, or let somebody answer for it."""
        pool = self.book.pool
        assert pool is not None
        if pool.halted == STORE_CHANGED:
            await self.ledger.attest(self.name, [Claim(0, 0, NEVER_MS)])
        else:
            self.ledger.run_id += "x"


def opening(rng: Random, name: PoolName, place: str) -> Opening:
    """A small day that begins in some phase."""
    return Opening(
        trading_day=DAY,
        limit_fen=rng.randint(3_000, 30_000),
        rate="1.00000" if name.northbound else "0.91250",
        schedule=schedule_of(place, NOON_MS),
        admission=Admission.MUST_FIT if rng.random() < 0.2 else Admission.POSITIVE_BALANCE,
        resumes_in_opening=name.northbound,
        origin="at",
        open_late=rng.random() < 0.9,
    )


async def lived(seed: int, steps: int) -> Day:
    """Live a day with everything in it."""
    rng = Random(seed)
    name = rng.choice((PoolName.NB_SH, PoolName.SB_SZ))
    place = rng.choice(PLACES[:3])
    day = Day(rng, name, opening(rng, name, place))
    await day.open()
    for _ in range(steps):
        await day.step()
    return day

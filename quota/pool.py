"""What is known of a pool, an order and an execution: records without behaviour of their own.

``Pool`` is the pool's hash in the store, field by field; the derived figures (balance,
status, used share) are properties, so that they cannot disagree with what they derive from.
"""

from __future__ import annotations

import msgspec

from quota.decision import Admission, Phase, Side, Status, Verdict, Violation


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """One pool on its open trading day. Amounts are fen, ``rate`` is RMB for one HKD.

    ``schedule`` is ``"<ms> <phase> <ms> <phase> …"``: from which moment of the server's clock
    (milliseconds since the epoch) which phase holds; before the first it is ``closed``.
    ``levels`` are percentages, ascending. ``halted`` is the reason, empty when not halted.
    ``began`` says that the start of continuous trading has been judged, ``origin`` by which
    clock the day was opened (``real`` or ``at``), ``kept`` which earlier days are still stored.
    Before ``next_lapse_ms`` no hold ends (0: there is none). ``attested`` is the server of which is
    known that it has lost nothing: its run_id and master_replid, joined by ``-``. Where the pool stands
    on another one, ``doubted`` is that one, its last number when the doubt arose, and what it has lost.
    """

    trading_day: str
    limit_fen: int
    rate: str
    schedule: str
    admission: Admission = Admission.POSITIVE_BALANCE
    levels: tuple[int, ...] = (50, 70, 90, 100)
    resumes_in_opening: bool = True
    open_buy_fen: int = 0
    filled_buy_fen: int = 0
    filled_sell_fen: int = 0
    seq: int = 0
    level: int = 0
    phase: Phase = Phase.CLOSED
    began: bool = False
    exhausted: bool = False
    suspended: bool = False
    halted: str = ""
    origin: str = "real"
    kept: tuple[str, ...] = ()
    next_lapse_ms: int = msgspec.field(default=0, name="next_lapse")
    attested: str = ""
    doubted: str = ""
    decided: dict[tuple[Side, Verdict], int] = {}
    violated: dict[Violation, int] = {}

    @property
    def balance_fen(self) -> int:
        """What is left: never clamped, above the limit or below zero as it comes."""
        return self.limit_fen - self.open_buy_fen - self.filled_buy_fen + self.filled_sell_fen

    @property
    def used_fen(self) -> int:
        """What is used: negative where sells brought more than buys took."""
        return self.limit_fen - self.balance_fen

    @property
    def used_ratio(self) -> float:
        """The used share of the limit, for display only: no decision reads it."""
        return self.used_fen / self.limit_fen

    @property
    def status(self) -> Status:
        """The first status that holds."""
        if self.halted:
            return Status.HALTED
        if self.exhausted:
            return Status.EXHAUSTED
        if self.phase is Phase.CLOSED:
            return Status.CLOSED
        return Status.SUSPENDED if self.suspended else Status.OPEN


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a trading day starts with: the settings and the rulebook's word for one pool.

    ``open_late`` lets a day open on an empty store after its opening phase began; otherwise it
    opens halted, and so it does at any time where it is known that the day was open and is ``lost``.
    ``keep_days`` is how many earlier days stay in the store.
    """

    trading_day: str
    limit_fen: int
    rate: str
    schedule: str
    admission: Admission = Admission.POSITIVE_BALANCE
    levels: tuple[int, ...] = (50, 70, 90, 100)
    resumes_in_opening: bool = True
    origin: str = "real"
    open_late: bool = False
    keep_days: int = 1
    lost: bool = False


class Order(msgspec.Struct, frozen=True, array_like=True):
    """Everything known of one order.

    ``side`` and the limit are None until the ``new`` (or, for the side, a fill) is known.
    ``filled`` counts busted fills too, ``value_milli`` (price × quantity in thousandths) does
    not. ``top_milli`` is the highest price of any fill, busted ones included. ``verdict`` and
    ``seq`` are those of the first decision. ``reserved``: a gateway's accepted buy of which
    nothing was heard yet. ``spent``: its reservation lapsed or was released, and nothing has shown
    that it was sent all the same.
    """

    side: Side | None = None
    price_milli: int = 0
    quantity: int = 0
    verdict: Verdict | None = None
    seq: int = 0
    filled: int = 0
    value_milli: int = 0
    top_milli: int = 0
    off_book: bool = False
    violations: frozenset[Violation] = frozenset()
    reserved: bool = False
    spent: bool = False

    @property
    def live(self) -> bool:
        """Whether it is in the book: accepted and not spent, or known and traded all the same."""
        if self.verdict is None or self.spent:
            return False
        return self.verdict is Verdict.ACCEPTED or self.filled > 0

    @property
    def unheard(self) -> bool:
        """Whether neither its ``new`` nor an applied fact of it is known."""
        return self.verdict is None and not self.traded_or_off

    @property
    def traded_or_off(self) -> bool:
        """Whether a fact of it is known."""
        return self.filled > 0 or self.off_book

    @property
    def open_milli(self) -> int:
        """The value that still rests in the book, in thousandths."""
        if self.off_book or not self.live:
            return 0
        return max(0, self.quantity - self.filled) * self.price_milli


class Execution(msgspec.Struct, frozen=True, array_like=True):
    """One fill of an order, and whether it is undone."""

    order_id: str
    side: Side
    price_milli: int
    quantity: int
    busted: bool = False


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a pool's ``changes``: what became what, when and why.

    ``kind`` is ``day``, ``phase``, ``status``, ``level``, ``limit`` or ``rate``. ``time_ms``
    is the server's clock.
    """

    kind: str
    was: str
    now: str
    seq: int
    balance_fen: int
    limit_fen: int
    time_ms: int
    reason: str
    id: str = ""

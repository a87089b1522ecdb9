"""The words of quotad, and the one record that everything downstream of the ledger reads.

Words only: this file imports nothing of ours, and every word in it is spelled the same in
Lua, in replies, in labels and in documents.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class PoolName(StrEnum):
    """One of the four pools; quota is never shared between them."""

    NB_SH = "NB-SH"
    NB_SZ = "NB-SZ"
    SB_SH = "SB-SH"
    SB_SZ = "SB-SZ"

    @property
    def northbound(self) -> bool:
        """Whether Hong Kong and overseas investors buy mainland shares through it."""
        return self.startswith("NB")

    @property
    def direction(self) -> str:
        """The metric label: ``northbound`` or ``southbound``."""
        return "northbound" if self.northbound else "southbound"

    @property
    def exchange(self) -> str:
        """The metric label: ``SH`` or ``SZ``, the mainland exchange of the link."""
        return self[-2:]


class Side(StrEnum):
    """The side of an order."""

    BUY = "buy"
    SELL = "sell"


class Phase(StrEnum):
    """A phase of the trading day."""

    CLOSED = "closed"
    OPENING = "opening"
    CONTINUOUS = "continuous"
    BREAK = "break"
    CLOSING = "closing"


class Verdict(StrEnum):
    """The answer to a new order. Everything but ``accepted`` refuses it."""

    ACCEPTED = "accepted"
    EXHAUSTED = "exhausted"
    SUSPENDED = "suspended"
    CLOSED = "closed"
    HALTED = "halted"
    INSUFFICIENT = "insufficient"
    ID_REUSED = "id_reused"


class Status(StrEnum):
    """The status of a pool: the first of these that holds."""

    HALTED = "halted"
    EXHAUSTED = "exhausted"
    CLOSED = "closed"
    SUSPENDED = "suspended"
    OPEN = "open"


class Violation(StrEnum):
    """A fact that should not be. Each counts once per order and kind."""

    REFUSED_TRADED = "refused_traded"
    OVERFILLED = "overfilled"
    ABOVE_LIMIT = "above_limit"
    SIDE_CONFLICT = "side_conflict"
    EXEC_REUSED = "exec_reused"
    SPENT_ORDER = "spent_order"
    OUT_OF_RANGE = "out_of_range"


class Admission(StrEnum):
    """What a buy needs: a balance above zero, or one that holds its whole charge."""

    POSITIVE_BALANCE = "positive_balance"
    MUST_FIT = "must_fit"


class Release(StrEnum):
    """What became of a reservation that its gateway gave back."""

    RELEASED = "released"
    UNKNOWN = "unknown"
    SETTLED = "settled"


class Attest(StrEnum):
    """What came of the word that a store has lost nothing."""

    ATTESTED = "attested"
    ALREADY = "already"
    REFUSED = "refused"


class Outcome(StrEnum):
    """What became of an event."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    ID_REUSED = "id_reused"
    DEAD = "dead"


class Decision(msgspec.Struct, frozen=True, array_like=True):
    """What the ledger did with one event, and the pool after it.

    ``verdict`` is None for facts; ``reason`` says why a dead event is dead and is empty
    otherwise. ``balance_fen`` is None where no day is open. ``seq`` is the number the event
    took; a replayed order carries the number of its first verdict, a fact that changed
    nothing has None.
    """

    outcome: Outcome
    verdict: Verdict | None
    reason: str
    balance_fen: int | None
    seq: int | None
    status: Status
    phase: Phase

    @property
    def replayed(self) -> bool:
        """Whether this is the earlier answer of an order that came again."""
        return self.verdict is not None and self.outcome is Outcome.DUPLICATE

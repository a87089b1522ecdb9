"""What can be wrong with a journal, or with answers that it does not bear out: each by its name."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Flaw(StrEnum):
    """The name of what is wrong. Those above the blank line are of the journal alone."""

    MISSING = "missing entry"
    BALANCE = "balance"
    STATUS = "status"
    ACCEPTED_SHUT = "accepted while shut"
    NOT_EXHAUSTED = "exhausted without a latch"
    NOT_SUSPENDED = "suspended without cause"
    NOT_HALTED = "halted without a halt"
    NOT_CLOSED = "closed without cause"
    NOT_TOO_LARGE = "insufficient without cause"
    NO_VERDICT = "no verdict"
    TWO_VERDICTS = "two verdicts"
    NO_RESERVATION = "no reservation"

    CONTRADICTION = "contradicts itself"
    NO_ENTRY = "answer without entry"
    ANOTHER_ORDER = "entry of another order"
    ANOTHER_VERDICT = "another verdict"
    ANOTHER_BALANCE = "another balance"
    NOT_REUSED = "id_reused without cause"
    TWO_FIRSTS = "two first answers"
    REAL_TIME = "against real time"


class Complaint(msgspec.Struct, frozen=True):
    """One flaw: the number at which it shows, the order that it is of, and what was found."""

    flaw: Flaw
    seq: int | None
    order_id: str
    what: str

    def __str__(self) -> str:
        """Write it as a line."""
        subject = f"{self.order_id} " if self.order_id else ""
        return f"{'' if self.seq is None else f'seq {self.seq}: '}{self.flaw}: {subject}{self.what}"

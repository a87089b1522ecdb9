"""What a gateway gets for its question, and what it may do with it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from quota.decision import Side, Status, Verdict


class Result(StrEnum):
    """What came of a call: a yes, a no, or nothing that one could rely on."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Released(StrEnum):
    """What ``quota_release`` found under an order id."""

    RELEASED = "released"
    UNKNOWN = "unknown"
    SETTLED = "settled"


class Answer(msgspec.Struct, frozen=True):
    """The answer to one call.

    ``outcome`` is ``accepted``, ``refused`` (``verdict`` says why) or ``unknown``: no answer came
    in time, and ``reason`` says what was heard instead. An unknown reservation may have been
    charged. ``balance_fen`` and ``seq`` are None where the store gave none: no day is open, the
    outcome is unknown, or the answer is ``local``, given without asking the store.

    Of a release, ``released`` is the store's word; the outcome is ``accepted`` where nothing is
    charged under the id any more, and ``refused`` where the order is settled.

    ``reservation`` says that this answers a ``reserve``: only then may an order go out on it.
    """

    outcome: Result
    verdict: Verdict | None = None
    balance_fen: int | None = None
    seq: int | None = None
    status: Status | None = None
    replayed: bool = False
    local: bool = False
    released: Released | None = None
    reason: str = ""
    reservation: bool = False

    def may_send(self, side: Side | str) -> bool:
        """Whether an order of that side may go out on this answer.

        The policy for what is unknown: a buy is held back, because it might overdraw the quota;
        a sell goes, because sells are always let through. No order goes out on the answer to a check,
        a status or a release: only a reservation is a promise.
        """
        sendable = self.outcome is Result.ACCEPTED or (self.outcome is Result.UNKNOWN and side == Side.SELL)
        return self.reservation and sendable


USED_UP = Answer(
    Result.REFUSED, verdict=Verdict.EXHAUSTED, status=Status.EXHAUSTED, replayed=False, local=True
)
"""What any buy gets for the rest of a day on which the quota has run out."""


def unknown(reason: str, *, reservation: bool = False) -> Answer:
    """No answer in time, and what was heard instead."""
    return Answer(Result.UNKNOWN, reason=reason, reservation=reservation)

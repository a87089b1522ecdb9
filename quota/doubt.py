"""Whether the server that a pool stands on has all that was answered, and who may say so: pure, like day.py.

A server is named by its process and its history of writes. One that takes another's place may lack the
last answers of that one; nobody can ask for them any more, so those who saw them have to say.
``lua/holds.lua`` and ``lua/day.lua`` say the same under the same names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from quota.day import BY_STORE, REBUILT, STORE_CHANGED
from quota.journal import Entry
from quota.pool import Pool

PUT_BACK_AGAIN = f"{REBUILT}?"
"""Attested so: the day was put back, and its store changed once more before anybody resumed it."""

PUT_BACK = "attested: the day was put back"

FRESH_MS = 1000
"""How long before a store took its last number one may have looked last, and still know what it answered."""


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """A number that somebody has seen, the balance after it, and when he saw it by the store's clock."""

    seq: int
    balance_fen: int
    at_ms: int


class Doubt(NamedTuple):
    """The server that a doubt is about, its last number when it arose, and what it has lost if known.

    ``answered`` stands for a server, and a moment for the number, where an operator has answered for it.
    """

    server: str
    seq: int
    lost: str


def doubt_of(pool: Pool) -> Doubt:
    """Read what a pool says of its doubted server."""
    server, _, rest = pool.doubted.partition(" ")
    seq, _, lost = rest.partition(" ")
    return Doubt(server, int(seq or 0), lost)


def doubted(pool: Pool, server: str, lost: str = "") -> Pool:
    """Take a server for one that may lack what was answered; an operator's halt stays above that.

    A day that was put back has to be put back again.
    """
    return replace(
        pool,
        attested={server: "?", REBUILT: PUT_BACK_AGAIN}.get(pool.attested, pool.attested),
        doubted=f"{server} {pool.seq} {lost}",
        halted=STORE_CHANGED if pool.halted in {"", REBUILT} else pool.halted,
    )


def known_lost(pool: Pool, lost: str) -> Pool:
    """Write down what a doubted server has lost: then no daemon can attest it any more."""
    server, seq, _ = doubt_of(pool)
    return replace(pool, doubted=f"{server} {seq} {lost}")


def guarded(pool: Pool, server: str) -> Pool:
    """Halt a pool on a server that took another's place.

    A day that was opened before servers were attested is taken for attested.
    """
    if pool.attested == server:
        return pool
    if not pool.attested:
        return replace(pool, attested=server)
    return pool if doubt_of(pool).server == server else doubted(pool, server)


def attested(pool: Pool, server: str) -> Pool:
    """Take a server for one that has lost nothing."""
    halted = "" if pool.halted in BY_STORE else pool.halted
    return replace(pool, attested=server, doubted="", halted=halted)


def standing(pool: Pool, server: str, claims: Sequence[Claim]) -> Sequence[Claim]:
    """Pick the claims that are younger than the word of an operator who has answered for this server."""
    doubt = doubt_of(pool)
    answered_ms = doubt.seq if doubt.server == "answered" and pool.attested == server else -1
    return [claim for claim in claims if claim.at_ms > answered_ms]


def lost_of(claim: Claim, inherited: int, entries: Mapping[int, Entry]) -> str:
    """Tell why a store cannot have what a claim says it answered; empty if it may.

    ``inherited`` is the last number that it came with: later ones fill lost numbers up again, and so
    may an entry that came later than its number was seen.
    """
    if inherited < claim.seq:
        return f"seq: the store ended at {inherited}"
    if not claim.seq:
        return ""
    entry = entries.get(claim.seq)
    if entry is None:
        return f"seq: the store has no entry {claim.seq}"
    if entry.balance_fen != claim.balance_fen:
        return f"balance_fen: entry {claim.seq} of the store has another one"
    if entry.time_ms > claim.at_ms + FRESH_MS:
        return f"time_ms: entry {claim.seq} of the store is a later one"
    return ""


def stale(claims: Sequence[Claim], inherited: int, entries: Mapping[int, Entry]) -> str:
    """Tell why claims that hold say too little; empty if they say enough.

    Who had not looked for a while when the store took its last number cannot know what else it answered.
    """
    seq, seen_ms = max(claim.seq for claim in claims), max(claim.at_ms for claim in claims)
    last = entries.get(inherited) if inherited > seq else None
    late_ms = last.time_ms - seen_ms if last else 0
    if late_ms <= FRESH_MS:
        return ""
    return f"seq: {seq} was seen {late_ms} ms before the store ended at {inherited}"

"""What the clock, the opening of a day and the operators do to a pool: pure, like rules.py.

The time is the server's, in milliseconds since the epoch; a schedule says which phase holds
from when. ``lua/quota.lua`` says the same under the same names.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

from msgspec.structs import replace

from quota.decision import Phase, Status
from quota.events import MARKET_TZ
from quota.money import BOUND
from quota.pool import Change, Opening, Pool

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

OPENED_LATE = "opened late: usage until now is unknown"
STORE_CHANGED = "store changed"
REBUILT = "rebuilt"

BY_STORE = frozenset({STORE_CHANGED, REBUILT})
"""Halts that end when somebody attests the pool: whether it has all that was answered is not known yet."""

_WORDS_MAX = 1024


@lru_cache(maxsize=64)
def segments(schedule: str) -> tuple[tuple[int, Phase], ...]:
    """Read a schedule as (from which millisecond, which phase), in order."""
    words = schedule.split()
    return tuple((int(ms), Phase(phase)) for ms, phase in zip(words[::2], words[1::2], strict=True))


def phase_at(schedule: str, now_ms: int) -> Phase:
    """Tell the phase of a moment; before the first one of the day it is ``closed``."""
    phase = Phase.CLOSED
    for starts_ms, name in segments(schedule):
        if now_ms >= starts_ms:
            phase = name
    return phase


def date_of(now_ms: int) -> str:
    """Write the market's date at a moment of the server's clock."""
    return datetime.fromtimestamp(now_ms / 1000, MARKET_TZ).date().isoformat()


def begins_ms(schedule: str) -> int | None:
    """Tell when the day's continuous trading begins; None where it never does."""
    return next((ms for ms, phase in segments(schedule) if phase is Phase.CONTINUOUS), None)


def trading_began(schedule: str, now_ms: int) -> bool:
    """Tell whether the day's continuous trading has begun, be it over or not."""
    begins = begins_ms(schedule)
    return begins is not None and now_ms >= begins


def judged(pool: Pool, now_ms: int) -> Pool:
    """Judge exhaustion by the balance and the clock, before and after every event.

    Phases that went by unnoticed count: ``began`` is how the first look after the start of
    continuous trading is known, even when the day is over by then.
    """
    phase, began = phase_at(pool.schedule, now_ms), trading_began(pool.schedule, now_ms)
    exhausted, suspended = pool.exhausted, pool.suspended
    trading = phase not in {Phase.CLOSED, Phase.OPENING}
    if trading or (began and not pool.began):
        exhausted = exhausted or pool.balance_fen <= 0
        suspended = False
    elif phase is Phase.OPENING:
        suspended = pool.balance_fen <= 0 or (suspended and not pool.resumes_in_opening)
    return replace(pool, phase=phase, began=pool.began or began, exhausted=exhausted, suspended=suspended)


def levelled(pool: Pool) -> Pool:
    """Set the level: reached at L per cent of the limit, left one per cent below it."""
    used = pool.used_fen * 100
    held = [
        level
        for level in pool.levels
        if used >= level * pool.limit_fen or (level <= pool.level and used > (level - 1) * pool.limit_fen)
    ]
    return replace(pool, level=max(held, default=0))


# A day begins.


def opening_refused(pool: Pool | None, opening: Opening, now_ms: int) -> str | None:
    """Tell why a day may not be opened; None if it may, or if it is the one that is open."""
    if opening.origin == "real" and opening.trading_day != date_of(now_ms):
        return f"the server's date is not {opening.trading_day}"
    if pool is None:
        return None
    if pool.origin == "real" and opening.origin == "at":
        return f"the real clock opened {pool.trading_day} in this store: it refuses --at"
    if opening.trading_day < pool.trading_day:
        return f"the store's day is {pool.trading_day}: a day never goes back"
    if opening.trading_day == pool.trading_day and opening.origin != pool.origin:
        return f"{pool.trading_day} was opened with --at: go on with --at, or with another store"
    return None


def inherited_halt(pool: Pool | None) -> str:
    """Tell what the day before leaves to a day. That the store changed concerns what is over."""
    return "" if pool is None or pool.halted in BY_STORE else pool.halted


def is_late(pool: Pool | None, opening: Opening, run_id: str, now_ms: int) -> bool:
    """Tell whether a day opens halted: orders of it may have come that this store does not know of.

    Its opening phase has begun, or it was open before, and the store is empty or another one than before.
    """
    same = pool is not None and pool.attested in {run_id, ""}
    began = opening.lost or now_ms >= segments(opening.schedule)[0][0]
    return not same and began and not opening.open_late and not inherited_halt(pool)


def opened(pool: Pool | None, opening: Opening, run_id: str, now_ms: int) -> Pool:
    """Open a day: full quota, nothing used. Only an operator's halt outlasts the day before."""
    late = is_late(pool, opening, run_id, now_ms)
    kept = () if pool is None else (*pool.kept, pool.trading_day)
    fresh = Pool(
        trading_day=opening.trading_day,
        limit_fen=opening.limit_fen,
        rate=opening.rate,
        schedule=opening.schedule,
        admission=opening.admission,
        levels=opening.levels,
        resumes_in_opening=opening.resumes_in_opening,
        origin=opening.origin,
        halted=OPENED_LATE if late else inherited_halt(pool),
        attested=run_id,
        kept=kept[len(kept) - min(len(kept), opening.keep_days) :],
    )
    return levelled(judged(fresh, now_ms))


# Operators' acts. Each takes a number, so it is in the journal.


def halted(pool: Pool, reason: str, now_ms: int) -> Pool:
    """Halt a pool: buys are refused until the halt is lifted, over days and restarts."""
    return acted(replace(judged(pool, now_ms), halted=reason), now_ms)


def resumed(pool: Pool, run_id: str, now_ms: int) -> Pool:
    """Lift a halt. The caller has seen that there is one.

    Behind an operator's halt that of a changed store may come to light. Who lifts that answers for the store.
    """
    after = judged(pool, now_ms)
    if pool.halted not in BY_STORE and pool.attested != run_id:
        halted = REBUILT if pool.attested == REBUILT else STORE_CHANGED
        return acted(replace(after, halted=halted), now_ms)
    return acted(replace(after, halted="", attested=run_id, doubted=""), now_ms)


def limited(pool: Pool, limit_fen: int, now_ms: int, *, reopen: bool) -> Pool:
    """Change today's limit; with ``reopen`` lift an exhaustion if the balance is then above zero."""
    after = replace(judged(pool, now_ms), limit_fen=limit_fen)
    if reopen and after.balance_fen > 0:
        after = replace(after, exhausted=False)
    return acted(after, now_ms)


def acted(pool: Pool, now_ms: int) -> Pool:
    """Number an act and judge the pool after it."""
    return levelled(judged(replace(pool, seq=pool.seq + 1), now_ms))


def words_refused(reason: str, user: str, host: str) -> str | None:
    """Tell why the words of an act cannot be kept; None if they can. They stand in records as one line."""
    for name, text in (("reason", reason), ("user", user), ("host", host)):
        if len(text.encode()) > _WORDS_MAX or _CONTROL.search(text) or (name == "reason" and not text):
            return f"{name}: must be some text without control characters, of at most {_WORDS_MAX} bytes"
    if reason in BY_STORE:
        return f"reason: {reason} is what the store alone says"
    return None


def limit_refused(pool: Pool, limit_fen: int) -> str | None:
    """Tell why a limit may not be set; None if it may."""
    if not 0 < limit_fen <= BOUND:
        return f"limit: must be above zero and at most {BOUND} fen"
    if abs(pool.balance_fen - pool.limit_fen + limit_fen) > BOUND:
        return f"limit: the balance would pass {BOUND} fen"
    return None


# What changed, for those who watch.


def changes(was: Pool | None, now: Pool, *, now_ms: int, reason: str) -> list[Change]:
    """List what became what between two states of a pool, in the order of the stream."""
    pairs = (
        ("day", was.trading_day if was else "", now.trading_day),
        ("limit", str(was.limit_fen if was else 0), str(now.limit_fen)),
        ("rate", was.rate if was else "", now.rate),
        ("phase", was.phase if was else Phase.CLOSED, now.phase),
        ("status", was.status if was else Status.CLOSED, now.status),
        ("level", str(was.level if was else 0), str(now.level)),
    )
    return [
        Change(
            kind=kind,
            was=before,
            now=after,
            seq=now.seq,
            balance_fen=now.balance_fen,
            limit_fen=now.limit_fen,
            time_ms=now_ms,
            reason=reason,
        )
        for kind, before, after in pairs
        if before != after
    ]

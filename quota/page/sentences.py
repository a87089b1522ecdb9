"""The sentences of the live page: what a pool takes now, why, until when, and what is to be expected.

Pure. A sentence here says the same as the words of the status, for a reader who does not know them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from math import inf, isnan

import msgspec

from quota.decision import Phase, PoolName, Status
from quota.page.standing import Known, Standing, Tone
from quota.pool import Pool

PACE_MOST = 2.0
"""The pace above which only that it is above is told."""

_WHOLE = {1: "The pool", 2: "Both pools", 3: "All three pools", 4: "All four pools"}


class Sentence(msgspec.Struct, frozen=True):
    """A sentence that begins with the name of ``pool``, or of none."""

    tone: Tone
    text: str
    pool: PoolName | None = None


def hour(moment: datetime) -> str:
    """Write a time of today."""
    return f"{moment:%H:%M}"


def second(moment: datetime) -> str:
    """Write a time of today to the second."""
    return f"{moment:%H:%M:%S}"


def day_and_hour(moment: datetime) -> str:
    """Write a moment of another day."""
    return f"{moment:%a} {moment.day} {moment:%b}, {moment:%H:%M}"


def span(seconds: float) -> str:
    """Write how long something takes, in minutes or hours."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:  # noqa: PLR2004 - minutes of an hour
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def meaning(at: Standing) -> str:
    """Say what the pool takes now."""
    if at.known is not Known.NOW:
        return _meant(at)
    match at.status:
        case Status.HALTED:
            says = "Buys are refused; sells are taken."
        case Status.EXHAUSTED if not at.over:
            says = "No more buys today; sells are taken."
        case Status.EXHAUSTED | Status.CLOSED:
            says = _shut(at)
        case Status.SUSPENDED:
            says = "Buys are refused for now; sells are taken."
        case Status.OPEN if at.phase is Phase.BREAK:
            says = "Buys are refused during the break; sells are taken."
        case _:
            says = f"Buys and sells are taken{_until_stop(at)}{'' if at.fed else ', as far as is known'}."
    return says


def _meant(at: Standing) -> str:
    """Say what the pool took when it was last read."""
    if at.known is Known.NEVER:
        return "It has not been read: what it takes is not known."
    if at.pool is None:
        return f"No trading day was open at {second(at.now)}."
    if at.phase is Phase.CLOSED:
        return f"It was closed at {second(at.now)}."
    took = "Buys were refused and sells taken" if at.stopped or at.phase is Phase.BREAK else ""
    return f"{took or 'Buys and sells were taken'} at {second(at.now)}."


def _shut(at: Standing) -> str:
    if at.pool is None:
        return "No trading day is open: buys are refused."
    return "The trading day is over: buys are refused." if at.over else "The trading day has not begun."


def _until_stop(at: Standing) -> str:
    if at.stops is None:
        return ""
    moment, phase = at.stops
    return f" until the {'break' if phase is Phase.BREAK else 'close'} at {hour(moment)}"


def why(at: Standing) -> str:
    """Say why buys are refused; empty where they are not, or where the clock says it all."""
    pool = at.pool
    if pool is None or not at.stopped:
        return ""
    since = f" at {hour(at.since)}" if at.since else ""
    if at.status is Status.HALTED:
        return f"An operator halted it{since}: {pool.halted}"
    used = f"The quota was used up{since}"
    if at.status is Status.SUSPENDED:
        waits = f"{_back(pool)}, but southbound buys come back only {_at_start(at)}."
        return f"{used}, within the opening phase.{waits if pool.balance_fen > 0 else ''}"
    return f"{used}.{_back(pool)}, which does not reopen it." if pool.balance_fen > 0 else f"{used}."


def _back(pool: Pool) -> str:
    return f" The balance is back at {100 * pool.balance_fen / pool.limit_fen:.0f} %"


def _at_start(at: Standing) -> str:
    return f"at {hour(at.starts)}" if at.starts else "when continuous trading begins"


def until(at: Standing) -> str:
    """Say when buys are taken again; empty where they are, or where that is not known."""
    lasts = at.status in {Status.HALTED, Status.EXHAUSTED}
    if at.known is Known.NEVER or (at.known is Known.ONCE and not lasts):
        return ""
    match at.status:
        case Status.HALTED:
            says = "An operator resumes it. A halt outlasts the day."
        case Status.SUSPENDED:
            says = _until_resumed(at)
        case Status.OPEN:
            says = hour(at.next_phase[0]) if at.phase is Phase.BREAK and at.next_phase else ""
        case Status.CLOSED if at.pool is not None and not at.over and at.next_phase:
            says = f"{hour(at.next_phase[0])}, when the {at.next_phase[1]} phase begins"
        case _:
            says = _until_opened(at)
    return says


def _until_opened(at: Standing) -> str:
    if at.opens is None:
        return "The next trading day, which is not known"
    if at.opens <= at.now:
        return f"As soon as the day is opened, which is due since {hour(at.opens)}"
    return f"{day_and_hour(at.opens)}{' with the full quota' if at.status is Status.EXHAUSTED else ''}"


def _until_resumed(at: Standing) -> str:
    starts = hour(at.starts) if at.starts else "continuous trading"
    if at.pool is not None and at.pool.resumes_in_opening:
        return f"The balance is above zero. If it is not by {starts}: no more buys today."
    return f"{starts}, if the balance is above zero then. If not: no more buys today."


def outlook(at: Standing) -> str:
    """Say whether the quota will last; empty where nobody knows, and where nothing can use it up."""
    if at.pool is None or at.known is Known.NEVER:
        return ""
    if at.pool.exhausted:
        return f"Used up since {hour(at.since)}" if at.since and not at.pool.halted else "Used up"
    if at.over:
        return "Lasted until the close"
    return "" if at.stopped or not at.current else _expected(at)


def _expected(at: Standing) -> str:
    if at.used_up_at is not None:
        return f"Used up about {hour(at.used_up_at)}"
    if at.early:
        return "Too early to tell"
    if at.forecast.eta_s == inf:
        return "Lasts until the close"
    return "Used up" if at.forecast.eta_s == 0 else ""


def pace(at: Standing) -> str:
    """Say how much of the limit the day will have used at the close; empty where nobody knows."""
    if at.pool is None or at.stopped or not at.current:
        return ""
    if at.early:
        return "" if at.over else "too early"
    if isnan(at.forecast.pace):
        return ""
    most = at.forecast.pace > PACE_MOST
    return f"> {100 * PACE_MOST:.0f} %" if most else f"{100 * at.forecast.pace:.0f} %".replace("-", "−")


def told(at: Standing) -> str:
    """Finish the sentence that begins with the pool's name, for a pool in trouble or to watch."""
    if at.tone is Tone.WATCH and at.pool is not None:
        if at.used_up_at is not None:
            return f"is expected to be used up at about {hour(at.used_up_at)}, in {span(at.forecast.eta_s)}."
        return f"has used {100 * at.pool.used_ratio:.0f} % of its limit."
    if at.known is not Known.NOW:
        return f"was {at.status} at {second(at.now)}."
    since = f" since {hour(at.since)}" if at.since else ""
    says = meaning(at)
    return f"is {at.status}{since}: {says[0].lower()}{says[1:]} Buys come back {_ends(at)}."


def _ends(at: Standing) -> str:
    """Say in a headline when buys are taken again."""
    match at.status:
        case Status.HALTED:
            return "when an operator resumes the pool"
        case Status.SUSPENDED if at.pool is not None and at.pool.resumes_in_opening:
            by = f"{hour(at.starts)}" if at.starts else "continuous trading"
            return f"when the balance is above zero; if it is not by {by}, no more today"
        case Status.SUSPENDED:
            return f"{_at_start(at)} if the balance is above zero then; if not, no more today"
        case _:
            return day_and_hour(at.opens) if at.opens else "the next trading day"


def headline(standings: Mapping[PoolName, Standing]) -> tuple[Sentence, ...]:
    """Say it all in a few sentences: the pools in trouble, those to watch, then the others."""
    loud = [
        Sentence(tone, told(at), name)
        for tone in (Tone.TROUBLE, Tone.WATCH)
        for name, at in standings.items()
        if at.tone is tone
    ]
    rest = {name: at for name, at in standings.items() if at.tone in {Tone.OK, Tone.QUIET}}
    return (*loud, *([_others(rest, alone=not loud)] if rest else []))


def _others(rest: Mapping[PoolName, Standing], *, alone: bool) -> Sentence:
    """Say how the pools are that need no sentence of their own."""
    words: dict[str, list[PoolName]] = defaultdict(list)
    for name, at in sorted(rest.items(), key=lambda each: each[1].known is not Known.NEVER):
        words[_state(at)].append(name)
    tone = Tone.OK if any(at.tone is Tone.OK for at in rest.values()) else Tone.QUIET
    if alone and all(at.pool is None and at.known is Known.NOW for at in rest.values()):
        return Sentence(tone, f"No trading day is open.{_next(rest)}")
    if alone and all(at.known is Known.NEVER for at in rest.values()):
        return Sentence(tone, "Nothing is known of any pool.")
    if len(words) > 1:
        claims = (f"{listed(names)} {_be(names, rest)} {word}" for word, names in words.items())
        return Sentence(tone, f"{'; '.join(claims)}{_as_known(rest)}.")
    word, names = next(iter(words.items()))
    whole = _WHOLE[len(names)] if alone else "The others" if len(names) > 1 else "The other"
    lasting = " and expected to last until the close" if tone is Tone.OK and _last(rest) else ""
    return Sentence(tone, f"{whole} {_be(names, rest)} {word}{lasting}{_as_known(rest)}.")


def _state(at: Standing) -> str:
    if at.known is Known.NEVER:
        return "not known"
    if at.status is Status.EXHAUSTED:
        used = f" at {hour(at.since)}" if at.since else ""
        return f"closed, its quota used up{used}"
    if at.status is Status.OPEN and at.phase is Phase.BREAK:
        following = at.next_phase if at.known is Known.NOW else None
        return f"in the break{f' until {hour(following[0])}' if following else ''}"
    return "without an open day" if at.pool is None else str(at.status)


def _as_known(rest: Mapping[PoolName, Standing]) -> str:
    """Say of when it is where that is not now, and that it may be otherwise where nothing comes in."""
    read = [at for at in rest.values() if at.known is not Known.NEVER]
    if any(at.known is Known.ONCE for at in read):
        return f" at {second(min(at.now for at in read))}"
    return ", as far as is known" if any(not at.fed and at.phase is not Phase.CLOSED for at in read) else ""


def _next(rest: Mapping[PoolName, Standing]) -> str:
    opens = min((at.opens for at in rest.values() if at.opens), default=None)
    if opens is None:
        return ""
    due = any(opens <= at.now for at in rest.values())
    return f" Today's is due since {hour(opens)}." if due else f" The next begins {day_and_hour(opens)}."


def _last(rest: Mapping[PoolName, Standing]) -> bool:
    return all(outlook(at).startswith("Lasts") for at in rest.values())


def _be(names: list[PoolName], rest: Mapping[PoolName, Standing]) -> str:
    if any(rest[name].known is Known.ONCE for name in names):
        return "were" if len(names) > 1 else "was"
    return "are" if len(names) > 1 else "is"


def listed(pools: Iterable[PoolName]) -> str:
    """Write names as a list in a sentence."""
    names = list(pools)
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))

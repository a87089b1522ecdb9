"""What the live page shows, as records that become JSON.

Unknown is null and never zero; amounts are fen, moments are milliseconds of the market's clock
since the epoch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from math import isfinite

import msgspec

from quota.decision import Phase, PoolName, Side, Status, Verdict, Violation
from quota.pool import Pool
from quota.standing import NAMES, Standing, Tone, day_and_hour, hour, meaning, outlook, span, told, until, why
from quota.tape import ChangeLine, EntryLine

PUBLISHED_BELOW = 0.3
"""Below this share of the quota the exchanges publish a figure, above it only "available"."""

_WHOLE = {1: "The pool", 2: "Both pools", 3: "All three pools", 4: "All four pools"}


class Clock(msgspec.Struct, frozen=True):
    """The moment of what is shown. ``read_s`` is how old the figures are, in seconds; null if none are."""

    now_ms: int
    as_of_ms: int | None
    read_s: float | None


class Sentence(msgspec.Struct, frozen=True):
    """A sentence that begins with the name of ``pool``, or of none."""

    tone: Tone
    text: str
    pool: PoolName | None = None


class Counted(msgspec.Struct, frozen=True):
    """How many decisions of a kind the day has seen."""

    side: Side
    verdict: Verdict
    count: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a pool whose day is open."""

    trading_day: str
    limit_fen: int
    market_limit_fen: int | None
    balance_fen: int
    open_buy_fen: int
    filled_buy_fen: int
    filled_sell_fen: int
    used_ratio: float
    level: int
    levels: tuple[int, ...]
    rate: str
    seq: int
    decided: tuple[Counted, ...]
    violated: dict[Violation, int]


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of a pool; null is not known."""

    net_use_1m: float | None
    net_use_10m: float | None
    eta_ms: int | None
    eta: str
    usual_share: float | None
    pace: float | None


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as the page shows it: its words, its sentences, its figures."""

    pool: PoolName
    english: str
    chinese: str
    tone: Tone
    word: str
    status: Status
    phase: Phase
    half_day: bool
    meaning: str
    why: str
    until: str
    outlook: str
    next_phase: Phase | None
    next_ms: int | None
    last_event_ms: int | None
    figures: Figures | None
    expected: Expected


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The whole page but for its chart and its tape."""

    version: str
    real: bool
    speed: float
    tone: Tone
    headline: tuple[Sentence, ...]
    notices: tuple[Sentence, ...]
    pools: tuple[PoolView, ...]


class Tape(msgspec.Struct, frozen=True):
    """The last entries of the journals and the last changes, newest first."""

    entries: tuple[EntryLine, ...]
    changes: tuple[ChangeLine, ...]


class DayChart(msgspec.Struct, frozen=True, kw_only=True):
    """A pool's day as lines: ``at_ms`` with ``used_fen``, ``usual_ms`` with ``usual_share``."""

    pool: PoolName
    trading_day: str | None
    phases: tuple[tuple[int, Phase], ...]
    spans: tuple[tuple[int, Status], ...]
    at_ms: tuple[int, ...]
    used_fen: tuple[int, ...]
    usual_ms: tuple[int, ...]
    usual_share: tuple[float, ...]
    published_below: float = PUBLISHED_BELOW


def moment_ms(moment: datetime) -> int:
    """Write a moment as milliseconds since the epoch."""
    return round(moment.timestamp() * 1000)


def _known(number: float) -> float | None:
    return number if isfinite(number) else None


def expected(at: Standing) -> Expected:
    """Write what is expected; what is not known is null, and no end is no ``eta_ms``."""
    forecast, end = at.forecast, at.used_up_at
    return Expected(
        net_use_1m=_known(forecast.net_use_1m),
        net_use_10m=_known(forecast.net_use_10m),
        eta_ms=moment_ms(end) if end else None,
        eta=f"in {span(forecast.eta_s)}" if end else "",
        usual_share=_known(forecast.usual_share),
        pace=_known(forecast.pace),
    )


def figures(pool: Pool, market_limit_fen: int | None) -> Figures:
    """Write the figures of a pool."""
    return Figures(
        trading_day=pool.trading_day,
        limit_fen=pool.limit_fen,
        market_limit_fen=market_limit_fen,
        balance_fen=pool.balance_fen,
        open_buy_fen=pool.open_buy_fen,
        filled_buy_fen=pool.filled_buy_fen,
        filled_sell_fen=pool.filled_sell_fen,
        used_ratio=pool.used_ratio,
        level=pool.level,
        levels=pool.levels,
        rate=pool.rate,
        seq=pool.seq,
        decided=tuple(Counted(*kind, count) for kind, count in sorted(pool.decided.items())),
        violated={kind: count for kind, count in pool.violated.items() if count},
    )


def pool_view(name: PoolName, at: Standing, figures: Figures | None, last_event_ms: int | None) -> PoolView:
    """Write a pool as the page shows it."""
    following, (english, chinese) = at.next_phase, NAMES[name]
    return PoolView(
        pool=name,
        english=english,
        chinese=chinese,
        tone=at.tone,
        word=at.word,
        status=at.status,
        phase=at.phase,
        half_day=at.half_day,
        meaning=meaning(at),
        why=why(at),
        until=until(at),
        outlook=outlook(at),
        next_phase=following[1] if following else None,
        next_ms=moment_ms(following[0]) if following else None,
        last_event_ms=last_event_ms,
        figures=figures,
        expected=expected(at),
    )


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
    for name, at in rest.items():
        words[_state(at)].append(name)
    tone = Tone.OK if any(at.tone is Tone.OK for at in rest.values()) else Tone.QUIET
    if alone and all(at.pool is None for at in rest.values()):
        return Sentence(tone, f"No trading day is open.{_next(rest)}")
    if len(words) > 1:
        text = "; ".join(f"{listed(names)} {_be(names)} {word}" for word, names in words.items())
        return Sentence(tone, f"{text}.")
    word, names = next(iter(words.items()))
    whole = _WHOLE[len(names)] if alone else "The others" if len(names) > 1 else "The other"
    lasting = " and expected to last until the close" if tone is Tone.OK and _last(rest) else ""
    return Sentence(tone, f"{whole} {_be(names)} {word}{lasting}.")


def _state(at: Standing) -> str:
    if at.status is Status.EXHAUSTED:
        used = f" at {hour(at.since)}" if at.since else ""
        return f"closed, its quota used up{used}"
    if at.word == "Break" and at.next_phase:
        return f"in the break until {hour(at.next_phase[0])}"
    return "without an open day" if at.pool is None else at.word.lower()


def _next(rest: Mapping[PoolName, Standing]) -> str:
    opens = min((at.opens for at in rest.values() if at.opens), default=None)
    return f" The next begins {day_and_hour(opens)}." if opens else ""


def _last(rest: Mapping[PoolName, Standing]) -> bool:
    return all(outlook(at).startswith("Lasts") for at in rest.values())


def _be(names: list[PoolName]) -> str:
    return "are" if len(names) > 1 else "is"


def listed(pools: Iterable[PoolName]) -> str:
    """Write names as a list in a sentence."""
    names = list(pools)
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))

"""What the live page shows, as records that become JSON.

Unknown is null and never zero; amounts are fen, moments are milliseconds of the market's clock
since the epoch.
"""

from __future__ import annotations

from datetime import datetime
from math import isfinite

import msgspec

from quota.decision import Phase, PoolName, Side, Status, Verdict, Violation
from quota.page.sentences import Sentence, meaning, outlook, pace, span, until, why
from quota.page.standing import NAMES, Known, Standing, Tone
from quota.page.tape import ChangeLine, EntryLine
from quota.pool import Pool

PUBLISHED_BELOW = 0.3
"""Below this share of the quota the exchanges publish a figure, above it only "available"."""


class Clock(msgspec.Struct, frozen=True):
    """The moment of what is shown. ``read_s`` is how old the figures are, in seconds; null if none are.

    ``fed`` is whether the broker is reached, so that orders and trades come in.
    """

    now_ms: int
    as_of_ms: int | None
    read_s: float | None
    known: Known
    fed: bool


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
    """What is expected of a pool; null is not known. ``pace_told`` is the pace in words."""

    net_use_1m: float | None
    net_use_10m: float | None
    eta_ms: int | None
    eta: str
    usual_share: float | None
    pace: float | None
    pace_told: str


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as the page shows it: its words, its sentences, its figures."""

    pool: PoolName
    english: str
    chinese: str
    known: Known
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


def _finite(number: float) -> float | None:
    return number if isfinite(number) else None


def expected(at: Standing) -> Expected:
    """Write what is expected; what is not known is null, and no end is no ``eta_ms``.

    Nothing is used in the break and after the close: the speed of before says nothing then.
    """
    forecast, end = at.forecast, at.used_up_at
    flows, paced = at.current and at.phase not in {Phase.BREAK, Phase.CLOSED}, pace(at)
    return Expected(
        net_use_1m=_finite(forecast.net_use_1m) if flows else None,
        net_use_10m=_finite(forecast.net_use_10m) if flows else None,
        eta_ms=moment_ms(end) if end else None,
        eta=f"in {span(forecast.eta_s)}" if end else "",
        usual_share=_finite(forecast.usual_share),
        pace=_finite(forecast.pace) if paced.endswith("%") else None,
        pace_told=paced,
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
    following = at.next_phase if at.known is Known.NOW else None
    english, chinese = NAMES[name]
    return PoolView(
        pool=name,
        english=english,
        chinese=chinese,
        known=at.known,
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

"""Simulated days of one pool, to try forecasts on: how much was used, every five seconds.

Drawn from a seed, and from nothing that the forecast assumes: every day has a shape of its own, and
so its own idea of when the market is busy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import accumulate, pairwise
from random import Random

from quota.decision import Phase, PoolName
from quota.rulebook import phases

STEP_S = 5
LIMIT_FEN = 5_200_000_000_000
_DAY = date(2026, 11, 23)

Shape = Callable[[float], float]
"""How fast the quota is used when a share of the open time has gone by; below zero it comes back."""


@dataclass(frozen=True, slots=True)
class Session:
    """A day until it is used up or over: ``used_fen[n]`` at ``opens`` plus n steps, break included."""

    kind: str
    pool: PoolName
    phases: tuple[tuple[datetime, Phase], ...]
    used_fen: Sequence[int]
    exhausted: bool

    @property
    def opens(self) -> datetime:
        """When the opening phase begins."""
        return self.phases[0][0]

    def moments(self) -> Iterator[tuple[datetime, Phase, int]]:
        """Yield every step: when, in which phase, and how much is used."""
        at, step, turns = self.opens, timedelta(seconds=STEP_S), list(self.phases)
        phase = Phase.CLOSED
        for used_fen in self.used_fen:
            while turns and turns[0][0] <= at:
                phase = turns.pop(0)[1]
            yield at, phase, used_fen
            at += step


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of day. ``noise`` is how far orders of both sides stray by the close, in parts of the peak.

    ``peaks`` is where the use ends on a day without exhaustion, None where it ends above the limit.
    ``blocks`` is the part of the use that comes in large orders.
    """

    shape: Callable[[Random], Shape]
    peaks: tuple[float, float] = (0.55, 0.99)
    always: bool | None = None
    noise: tuple[float, float] = (0.01, 0.06)
    blocks: tuple[float, float] = (0.0, 0.0)
    half_day: bool = False


def _own(chance: Random) -> Shape:
    """Busy at the open, at the close and at odd times, each more or less or not at all."""
    start, ebbs = chance.uniform(0, 5), chance.uniform(0.02, 0.15)
    end, swells = chance.uniform(0, 3), chance.uniform(0.03, 0.2)
    humps = [
        (chance.uniform(-0.6, 2), chance.random(), chance.uniform(0.02, 0.15))
        for _ in range(chance.randrange(4))
    ]

    def shape(gone: float) -> float:
        swell = sum(height * math.exp(-(((gone - at) / wide) ** 2)) for height, at, wide in humps)
        return max(0.05, 1 + start * math.exp(-gone / ebbs) + end * math.exp((gone - 1) / swells) + swell)

    return shape


def _steady(_: Random) -> Shape:
    return lambda _: 1.0


def _front(chance: Random) -> Shape:
    ebbs, rest = chance.uniform(0.08, 0.3), chance.uniform(0.0, 0.15)
    return lambda gone: math.exp(-gone / ebbs) + rest


def _surge(chance: Random) -> Shape:
    own, since, times = _own(chance), chance.uniform(0.4, 0.9), chance.uniform(4, 12)
    return lambda gone: own(gone) * (times if gone >= since else 1.0)


def _shock(chance: Random) -> Shape:
    own, since, lasts = _own(chance), chance.uniform(0.1, 0.85), chance.uniform(0.02, 0.1)
    times = chance.uniform(5, 15)
    return lambda gone: own(gone) * (times if since <= gone < since + lasts else 1.0)


def _recovery(chance: Random) -> Shape:
    own, turns, back = _own(chance), chance.uniform(0.15, 0.6), chance.uniform(0.2, 0.8)
    return lambda gone: own(gone) if gone < turns else -back * own(gone)


def _wave(chance: Random) -> Shape:
    own, turn, swing = _own(chance), chance.uniform(0.08, 0.35), chance.uniform(0.5, 1.3)
    begins = chance.random()
    return lambda gone: own(gone) * (1 + swing * math.sin(math.tau * (gone / turn + begins)))


def _stairs(chance: Random) -> Shape:
    own, ends, going = _own(chance), [0.0], []
    while ends[-1] < 1:
        ends.append(ends[-1] + chance.uniform(0.02, 0.12))
        going.append(1.0 if len(ends) % 2 else chance.uniform(0.0, 0.2))
    return lambda gone: own(gone) * going[sum(end <= gone for end in ends[1:])]


def _stops(chance: Random) -> Shape:
    own, stops, rest = _own(chance), chance.uniform(0.2, 0.9), chance.uniform(0.0, 0.1)
    return lambda gone: own(gone) * (1.0 if gone < stops else rest)


KINDS = {
    "own": Kind(_own),
    "steady": Kind(_steady),
    "front-loaded": Kind(_front),
    "late surge": Kind(_surge),
    "shock": Kind(_shock),
    "sells bring it back": Kind(_recovery),
    "two-sided": Kind(_own, noise=(0.15, 0.4)),
    "quiet": Kind(_own, peaks=(0.1, 0.5), always=False),
    "near miss": Kind(_own, peaks=(0.85, 0.99), always=False),
    "large orders": Kind(_own, blocks=(0.4, 0.9)),
    "break in the way": Kind(_own, always=True),
    "half day": Kind(_own, half_day=True),
    "waves": Kind(_wave),
    "stairs": Kind(_stairs),
    "stops": Kind(_stops, peaks=(0.7, 0.99)),
}


def drawn(seed: int, number: int) -> Session:
    """Draw one day: kinds in turn, exhausted or not in turn, north and south in turn."""
    name = list(KINDS)[number % len(KINDS)]
    kind, turn = KINDS[name], number // len(KINDS)
    chance = Random(f"{seed}:{number}")
    pool = PoolName.SB_SH if turn // 2 % 2 or kind.half_day else PoolName.NB_SH
    times = phases(pool, _DAY, half_day=kind.half_day)
    steps = _steps(times)
    path = _path(chance, kind, [phase for phase in steps if phase is not Phase.BREAK])
    exhausts = turn % 2 == 0 if kind.always is None else kind.always
    peak = chance.uniform(1.02, 1.6) if exhausts else chance.uniform(*kind.peaks)
    if name == "break in the way":  # used up within the hour after the break
        peak, path_to = 1.0, steps.index(Phase.BREAK) + 1 + chance.randrange(3600 // STEP_S)
    else:
        path_to = len(path)
    scale = peak * LIMIT_FEN / max(path[:path_to])
    used_fen, exhausted = _until_used_up(steps, [round(scale * used) for used in path])
    return Session(name, pool, times, used_fen, exhausted)


def _steps(times: Sequence[tuple[datetime, Phase]]) -> list[Phase]:
    """The phase of every step from open to close."""
    return [
        phase
        for (starts, phase), (ends, _) in pairwise(times)
        for _ in range((ends - starts) // timedelta(seconds=STEP_S))
    ]


def _path(chance: Random, kind: Kind, steps: Sequence[Phase]) -> list[float]:
    """How much is used after every step of open market, in any unit."""
    means = _means(chance, kind, steps)
    size = sum(map(abs, means))
    stray = chance.uniform(*kind.noise) * size / math.sqrt(len(steps))
    parts = [mean * mood + chance.gauss(0, stray) for mean, mood in zip(means, _moods(chance), strict=False)]
    in_blocks = chance.uniform(*kind.blocks)
    parts = [part * (1 - in_blocks) for part in parts]
    if in_blocks:
        sizes = [chance.lognormvariate(0, 0.7) for _ in range(chance.randint(8, 40))]
        for block in sizes:
            parts[chance.randrange(len(parts))] += block / sum(sizes) * in_blocks * size
    _match(chance, parts, steps)
    return list(accumulate(parts))


def _means(chance: Random, kind: Kind, steps: Sequence[Phase]) -> list[float]:
    shape, auction = kind.shape(chance), chance.uniform(0, 2)
    return [
        shape(number / len(steps)) * (auction if phase is Phase.OPENING else 1.0)
        for number, phase in enumerate(steps)
    ]


def _moods(chance: Random) -> Iterator[float]:
    """By what the mean is multiplied: moods that last minutes, around 1."""
    swing, lasts_s = chance.uniform(0.2, 0.7), chance.uniform(180, 2400)
    keeps, mood = math.exp(-STEP_S / lasts_s), chance.gauss(0, 1)
    while True:
        yield math.exp(swing * mood - swing * swing / 2)
        mood = keeps * mood + math.sqrt(1 - keeps * keeps) * chance.gauss(0, 1)


def _match(chance: Random, parts: list[float], steps: Sequence[Phase]) -> None:
    """When the opening auction matches, its sells trade, and buys above the price are given back."""
    matched = 3 * steps.count(Phase.OPENING) // 4
    parts[matched] -= chance.uniform(0, 0.6) * max(0.0, sum(parts[:matched]))


def _until_used_up(steps: Sequence[Phase], path: Sequence[int]) -> tuple[list[int], bool]:
    """Put the break in, and end the day where the limit is reached."""
    used_fen, open_used = [0], iter(path)
    for phase in steps:
        used_fen.append(used_fen[-1] if phase is Phase.BREAK else next(open_used))
        if used_fen[-1] >= LIMIT_FEN:
            return used_fen, True
    return used_fen, False

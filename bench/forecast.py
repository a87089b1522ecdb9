"""Our forecast against Prometheus' and a plain average: ``python -m bench.forecast [--quick]``.

All four answer one question on the same simulated days: will the pool be used up within 30 minutes?
They are asked as an alert would be, every 15 s, with one gate for all: an open phase and half of the
quota used (the lowest level that is set; below it nobody is woken), and the answer must have been yes
for a minute (``for: 1m``). A warning leads by the minutes from its firing to the exhaustion that it
was still in force at, the break included; minutes beyond 60 are no merit. A warning that fell silent
again does not count, and a day without one leads by none. A day that is not used up and was warned
of is a false warning.

The figures of ``quota/forecast.py`` were chosen on other seeds than those reported here.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from rich.console import Console

from bench.rows import Bar, Row, Sheet, compared, show
from bench.sessions import LIMIT_FEN, STEP_S, Session, drawn
from bench.stores import Store
from quota.course import Course
from quota.decision import Phase
from quota.forecast import UsualDay
from quota.pool import Pool

WITHIN_S = 1_800.0
SCRAPE_S = 15
FOR_S = 60
GATE = 0.5
MOST_LEAD_MIN = 60.0
SEEDS, DAYS = (101, 102, 103, 104), 180
QUICK_SEEDS, QUICK_DAYS = (101,), 60

_OPEN = frozenset({Phase.OPENING, Phase.CONTINUOUS, Phase.CLOSING})
_EVERY = SCRAPE_S // STEP_S

Method = Callable[[Session], Iterator[bool]]
"""Says at every scrape of a day whether the pool will be used up within the half hour."""


def ours(session: Session) -> Iterator[bool]:
    """What the daemon exports: a course that looks at every step, asked where the gate is open."""
    course, pool = Course(session.pool), _pool(session, 0)
    for number, (at, phase, used_fen) in enumerate(session.moments()):
        pool = _pool(session, used_fen)
        course.observe(pool, at, session.phases)
        if number % _EVERY == 0:
            yield _gate(phase, used_fen) and course.forecast().eta_s <= WITHIN_S


def _pool(session: Session, used_fen: int) -> Pool:
    day = session.opens.date().isoformat()
    return Pool(trading_day=day, limit_fen=LIMIT_FEN, rate="1", schedule="", filled_buy_fen=used_fen)


def predict_linear(window_s: int) -> Method:
    """``predict_linear(balance[window], 1800) <= 0`` as Prometheus reckons it.

    The line of least squares through the scrapes of the window, which is open to the left (as since
    Prometheus 3), read half an hour after the evaluation; one sample alone says nothing. Sums of
    integers are exact here, so they can slide along instead of being built anew.
    """

    def method(session: Session) -> Iterator[bool]:
        window: deque[tuple[int, int]] = deque()
        n = sum_x = sum_y = sum_xx = sum_xy = 0
        for x, _, used_fen in _scrapes(session):
            window.append((x, LIMIT_FEN - used_fen))
            signs = [(1, *window[-1])]
            while window[0][0] <= x - window_s:
                signs.append((-1, *window.popleft()))
            for sign, at_s, balance in signs:
                n, sum_x, sum_y = n + sign, sum_x + sign * at_s, sum_y + sign * balance
                sum_xx, sum_xy = sum_xx + sign * at_s * at_s, sum_xy + sign * at_s * balance
            if n < 2:
                yield False
                continue
            slope = (n * sum_xy - sum_x * sum_y) / (n * sum_xx - sum_x * sum_x)
            yield sum_y / n + slope * (x + WITHIN_S - sum_x / n) <= 0

    return method


def average(session: Session) -> Iterator[bool]:
    """Go on at the average since the open, the break left out."""
    usual = UsualDay.of(session.pool, session.phases)
    assert usual is not None  # noqa: S101 - a drawn day opens
    for x, _, used_fen in _scrapes(session):
        open_s = usual.open_at(float(x))
        yield open_s > 0 and LIMIT_FEN - used_fen <= used_fen / open_s * WITHIN_S


METHODS: dict[str, Method] = {
    "ours": ours,
    "predict_linear 10m": predict_linear(600),
    "predict_linear 30m": predict_linear(1800),
    "average since the open": average,
}


def _scrapes(session: Session) -> Iterator[tuple[int, Phase, int]]:
    """Yield what is scraped: seconds since the open, the phase, how much is used."""
    for number, (_, phase, used_fen) in enumerate(session.moments()):
        if number % _EVERY == 0:
            yield number * STEP_S, phase, used_fen


def _gate(phase: Phase, used_fen: int) -> bool:
    return phase in _OPEN and used_fen >= GATE * LIMIT_FEN


def _firing(session: Session, method: Method) -> list[bool]:
    """Whether the alert fires, scrape by scrape: behind the gate, and after its ``for``."""
    firing, held = [], 0
    for (_, phase, used_fen), says in zip(_scrapes(session), method(session), strict=True):
        held = held + 1 if says and _gate(phase, used_fen) else 0
        firing.append(used_fen < LIMIT_FEN and (held - 1) * SCRAPE_S >= FOR_S)
    return firing


@dataclass(frozen=True, slots=True)
class Score:
    """How a method did on many days: leads of the days that were used up, and warnings on the others."""

    leads_min: tuple[float, ...]
    false_days: int
    false_min: float

    @property
    def median_min(self) -> float:
        """The lead of the middle day."""
        return median(self.leads_min)

    @property
    def worst_decile_min(self) -> float:
        """The lead that nine days of ten reach."""
        return sorted(self.leads_min)[len(self.leads_min) // 10]

    @property
    def missed(self) -> int:
        """How many days were used up without a warning in force."""
        return sum(lead == 0 for lead in self.leads_min)


def lead_min(session: Session, firing: Sequence[bool]) -> float:
    """By how many minutes the warning in force at the exhaustion came before it; 0 without one."""
    used_up_s = (len(session.used_fen) - 1) * STEP_S
    before = [*firing[: -(-used_up_s // SCRAPE_S)]]
    since = len(before)
    while since and before[since - 1]:
        since -= 1
    led_s = used_up_s - since * SCRAPE_S if since < len(before) else 0
    return min(MOST_LEAD_MIN, led_s / 60)


def scored(method: Method, sessions: Sequence[Session]) -> Score:
    """Try a method on days."""
    leads, false_days, false_scrapes = [], 0, 0
    for session in sessions:
        firing = _firing(session, method)
        if session.exhausted:
            leads.append(lead_min(session, firing))
        else:
            false_days += any(firing)
            false_scrapes += sum(firing)
    return Score(tuple(leads), false_days, false_scrapes * SCRAPE_S / 60)


def scores(seed: int, days: int) -> dict[str, Score]:
    """Try every method on the same days."""
    sessions = [drawn(seed, number) for number in range(days)]
    return {name: scored(method, sessions) for name, method in METHODS.items()}


@cache
def _rows(seeds: tuple[int, ...], days: int) -> list[Row]:
    """Compare in rounds, a seed each; cached, because no store has a part in it."""
    rounds = [scores(seed, days) for seed in seeds]
    us, rows = [each["ours"] for each in rounds], []
    for name in [name for name in METHODS if name != "ours"]:
        them = [each[name] for each in rounds]
        words = (f"lead of the warning, median day, against {name}", "min", "min")
        leads = [score.median_min for score in us], [score.median_min for score in them]
        rows.append(compared(words, *leads, Bar(1, at_most=False)))
        words = (f"days warned of for nothing, against {name}", "days", "days")
        false = [float(score.false_days) for score in us], [float(score.false_days) for score in them]
        rows.append(compared(words, *false, Bar(1)))
    best = [max(score.worst_decile_min for name, score in each.items() if name != "ours") for each in rounds]
    words = ("lead of the warning, worst decile, against the best of them", "min", "min")
    rows.append(compared(words, [score.worst_decile_min for score in us], best, Bar(1, at_most=False)))
    return [*rows[:-1], _noted(rows[-1], rounds, days)]


def _noted(row: Row, rounds: Sequence[dict[str, Score]], days: int) -> Row:
    """Say beside the last row what no row says."""
    used_up = sum(len(each["ours"].leads_min) for each in rounds)
    said = [
        f"{name}: {sum(each[name].missed for each in rounds)} missed, "
        f"{sum(each[name].false_min for each in rounds):.0f} min for nothing"
        for name in METHODS
    ]
    note = f"{len(rounds)} × {days} simulated days, {used_up} used up; " + "; ".join(said)
    return Row(**{name: getattr(row, name) for name in row.__struct_fields__} | {"note": note})


async def measure(_store: Store | None, *, quick: bool) -> list[Row]:
    """Measure on simulated days; needs no store."""
    return _rows(QUICK_SEEDS, QUICK_DAYS) if quick else _rows(SEEDS, DAYS)


def main() -> None:
    """Print the table of this comparison alone."""
    parser = argparse.ArgumentParser(prog="python -m bench.forecast", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few days: shows that it works, no more")
    rows = asyncio.run(measure(None, quick=parser.parse_args().quick))
    show(Sheet(store="no store", broker="no broker", rows=rows), Console(width=150))


if __name__ == "__main__":
    main()

"""What a running daemon shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Protocol, TypeVar

import structlog
from rich.console import Console
from rich.live import Live

from quota.clock import iso
from quota.decision import PoolName, Verdict
from quota.desk.audit import sentences
from quota.desk.console import RECENT, plain, table
from quota.feed import StatusReport
from quota.logs import configure
from quota.proof.verify import Findings
from quota.running import Running, ended

T = TypeVar("T")

log = structlog.get_logger(__name__)

_FRAME_S = 0.25
_SETTLED_LOOKS = 4
_LINES_S = 5.0

Show = Callable[[Running, Sequence[str]], Coroutine[None, None, None]]
"""Shows a running daemon until cancelled; the notes say where its addresses are."""


def chosen(console: Console, *, embedded: bool) -> Show:
    """Choose by who is looking: a person at a terminal, the reader of a trial's output, a log."""
    if console.is_terminal:
        return lambda running, notes: live(console, running, notes)
    if embedded:
        return lambda running, notes: lines(console, running, notes)
    return logged


async def logged(_: Running, notes: Sequence[str]) -> None:
    """Log the addresses: the log has the rest."""
    log.info("daemon.addresses", addresses=list(notes))


async def live(console: Console, running: Running, notes: Sequence[str]) -> None:
    """Draw the table four times a second."""
    configure(logging.ERROR)
    rates = _Rates()
    with Live(console=console, auto_refresh=False, redirect_stderr=False) as drawn:
        while True:
            reports = running.watch.reports()
            at = iso(running.days.almanac.clock.now())
            problems = [*running.watch.unready(), *running.warnings()]
            drawn.update(
                table(
                    reports,
                    running.follower.decided(RECENT),
                    at=at,
                    rates=rates.of(reports),
                    notes=[*notes, *problems],
                ),
                refresh=True,
            )
            await asyncio.sleep(_FRAME_S)


async def lines(console: Console, running: Running, notes: Sequence[str]) -> None:
    """Print a pool when its words change, and all of them every few seconds."""
    for note in notes:
        console.out(note, highlight=False)
    told: dict[PoolName, tuple[object, ...]] = {}
    last = 0.0
    while True:
        everything = time.monotonic() - last >= _LINES_S
        last = time.monotonic() if everything else last
        for report in running.watch.reports():
            words = (report.status, report.phase, report.level, report.trading_day)
            if everything or told.get(report.pool) != words:
                console.out(plain(report), highlight=False)
            told[report.pool] = words
        await asyncio.sleep(_FRAME_S)


async def until_over(running: Running, market: Coroutine[None, None, T]) -> T | None:
    """Run a daemon until its market's day is over; None if it was stopped before."""
    playing = asyncio.create_task(_played(running, market))
    try:
        await running.run()
        return playing.result() if playing.done() else None
    finally:
        await ended([playing])


async def _played(running: Running, market: Coroutine[None, None, T]) -> T:
    """Play the market, then let the daemon take in what is still on its way, then stop it."""
    try:
        result = await market
        numbers: list[int] = []
        while len(numbers) < _SETTLED_LOOKS or numbers[-1] != numbers[-_SETTLED_LOOKS]:
            await asyncio.sleep(_FRAME_S)
            numbers.append(sum(report.seq or 0 for report in running.watch.reports()))
        return result
    finally:
        running.stop()


class Sent(Protocol):
    """What a market sent to one pool in a day, and what came of it."""

    @property
    def orders(self) -> int: ...  # noqa: D102 - the names say it
    @property
    def accepted(self) -> int: ...  # noqa: D102 - the names say it
    @property
    def refused(self) -> Mapping[Verdict, int]: ...  # noqa: D102 - the names say it
    @property
    def fills(self) -> int: ...  # noqa: D102 - the names say it
    @property
    def busts(self) -> int: ...  # noqa: D102 - the names say it
    @property
    def cancels(self) -> int: ...  # noqa: D102 - the names say it
    @property
    def rejects(self) -> int: ...  # noqa: D102 - the names say it


def end_of_day(
    console: Console,
    sent_to: Mapping[PoolName, Sent],
    reports: Sequence[StatusReport],
    found: Sequence[Findings],
) -> int:
    """Print what the day was and what verify found of it; 1 if anything differs."""
    console.print("The day is over.", style="bold")
    for report in reports:
        console.out(plain(report).partition(" at ")[0], highlight=False)
    for pool, numbers in sent_to.items():
        refused = ", ".join(f"{count} {verdict}" for verdict, count in numbers.refused.items()) or "none"
        sent = f"{numbers.orders} orders, {numbers.accepted} accepted, refused: {refused}"
        facts = f"{numbers.fills} fills, {numbers.busts} busts, {numbers.cancels} cancels"
        console.out(f"{pool}: {sent}; {facts}, {numbers.rejects} rejects", highlight=False)
    for findings in found:
        for text in sentences(findings):
            console.out(text, highlight=False)
    return 1 if any(findings.differences for findings in found) else 0


class _Rates:
    """How fast each pool's number grows, per second, smoothed over a few looks."""

    def __init__(self) -> None:
        self._last: dict[PoolName, tuple[float, int]] = {}
        self._rates: dict[PoolName, float] = {}

    def of(self, reports: Sequence[StatusReport]) -> Mapping[PoolName, float]:
        now = time.monotonic()
        for report in reports:
            at, seq = self._last.get(report.pool, (now, report.seq or 0))
            if now - at >= 1:
                fresh = ((report.seq or 0) - seq) / (now - at)
                self._rates[report.pool] = max(0.0, fresh)
            if now - at >= 1 or report.pool not in self._last:
                self._last[report.pool] = (now, report.seq or 0)
        return self._rates

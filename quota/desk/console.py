"""What a person sees in a terminal: the pools as a live table, or one line each.

Pure: from reports and replies to text. No figure is clamped, and what is not known is a dash and
never a zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.bar import Bar
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from quota.decision import PoolName, Status, Verdict
from quota.feed import StatusReport
from quota.follow import Decided

RECENT = 8
"""How many decisions the table shows."""

_ROOMY = 80  # the columns that the pools need side by side
_UNKNOWN = "–"
_UNITS = ((100_000_000_000, " bn"), (100_000_000, " m"))
_STYLES = {
    Status.OPEN: "green",
    Status.SUSPENDED: "yellow",
    Status.CLOSED: "dim",
    Status.EXHAUSTED: "bold red",
    Status.HALTED: "bold magenta",
}
_MEANINGS = {
    Status.SUSPENDED: "buys are refused for now; sells are taken",
    Status.EXHAUSTED: "no more buys today; sells are taken",
    Status.HALTED: "an operator stopped the buys; sells are taken",
}
_WHOSE = "Amounts in RMB (bn: 1,000,000,000, m: 1,000,000), of the events quotad is fed."


def table(
    reports: Sequence[StatusReport],
    latest: Sequence[Decided],
    *,
    at: str,
    rates: Mapping[PoolName, float],
    notes: Sequence[str] = (),
) -> RenderableType:
    """Draw the pools, the latest decisions (newest first) and notes.

    ``at`` is the market's time in words, ``rates`` are decisions per second.
    """
    parts: list[RenderableType] = [
        Text.assemble(("quotad", "bold"), "  ", at),
        _Fitting(_pools(reports, rates), Text("\n".join(map(plain, reports)))),
        *(Text(remark, "yellow") for remark in _remarks(reports)),
        *(Text(note, "yellow") for note in notes),
    ]
    if latest:
        parts += ["", _decisions(latest)]
    return Group(*parts, "", Text(_WHOSE, "dim"))


@dataclass(frozen=True, slots=True)
class _Fitting:
    """A table where the terminal has room for it, lines that wrap where it has not."""

    roomy: RenderableType
    narrow: RenderableType

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield self.roomy if options.max_width >= _ROOMY else self.narrow


def _pools(reports: Sequence[StatusReport], rates: Mapping[PoolName, float]) -> Table:
    drawn = _grid(expand=True)
    for name in ("pool", "day", "status", "phase"):
        drawn.add_column(name, no_wrap=True)
    for name in ("balance", "limit", "used"):
        drawn.add_column(name, justify="right", no_wrap=True)
    drawn.add_column(ratio=1)
    for name in ("level", "per s"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for report in reports:
        drawn.add_row(*_row(report, rates.get(report.pool)))
    return drawn


def _grid(*, expand: bool = False) -> Table:
    return Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=expand)


def _row(report: StatusReport, rate: float | None) -> Iterator[RenderableType]:
    yield report.pool
    yield report.trading_day[5:] if report.trading_day else _UNKNOWN
    yield Text(report.status, _STYLES[report.status])
    yield report.phase
    yield Text(yuan(report.balance_fen), "red" if (report.balance_fen or 0) < 0 else "")
    yield yuan(report.limit_fen)
    yield _per_cent(report.used_ratio)
    yield _bar(report)
    yield f"{report.level}%" if report.level else _UNKNOWN
    yield _UNKNOWN if rate is None else f"{rate:,.0f}"


def _bar(report: StatusReport) -> Bar:
    """Draw the used share; a bar can be no emptier than empty, the figure beside it can."""
    colour = "red" if report.status is Status.EXHAUSTED else "yellow" if report.level else "green"
    return Bar(size=1, begin=0, end=report.used_ratio or 0, color=colour, bgcolor="grey23")


def _remarks(reports: Sequence[StatusReport]) -> Iterator[str]:
    """Say in words what a status means, where it is not the usual one."""
    for report in reports:
        if report.trading_day is None:
            yield f"{report.pool}: no trading day is open"
        elif report.status in _MEANINGS:
            yield f"{report.pool}: {_MEANINGS[report.status]}"


def _decisions(latest: Sequence[Decided]) -> Table:
    """List the latest decisions, the newest first."""
    drawn = _grid()
    for name in ("time", "pool", "order", "side", "verdict"):
        drawn.add_column(name, overflow="fold")
    drawn.add_column("balance after", justify="right", overflow="fold")
    for one in latest[:RECENT]:
        verdict = Text(one.verdict, "green" if one.verdict is Verdict.ACCEPTED else "red")
        drawn.add_row(_clock(one.time), one.pool, one.order_id, one.side, verdict, yuan(one.balance_fen))
    return drawn


def _clock(time: str) -> str:
    """Cut the time of day out of a time."""
    return time[11:23]


def yuan(fen: int | None) -> str:
    """Write an amount as people say it: with three decimals in its unit, small amounts to the fen."""
    if fen is None:
        return _UNKNOWN
    for size, unit in _UNITS:
        if abs(fen) >= size:
            return f"{fen / size:,.3f}{unit}"
    return f"{fen / 100:,.2f}"


def _per_cent(ratio: float | None) -> str:
    return _UNKNOWN if ratio is None else f"{ratio:.1%}"


def plain(report: StatusReport) -> str:
    """Write a report as one line with exact amounts, for what is no terminal."""
    if report.limit_fen is None or report.balance_fen is None:
        return f"{report.pool} {report.status} (no trading day is open) at {report.time}"
    return (
        f"{report.pool} {report.trading_day} {report.status} {report.phase}"
        f" balance {report.balance_fen / 100:,.2f} of {report.limit_fen / 100:,.2f} RMB"
        f" used {_per_cent(report.used_ratio)} level {report.level} seq {report.seq} at {report.time}"
    )

"""The rows of the table: a figure, its baseline from the same run, and the bar that it should meet.

What is measured against what is measured in turns, round by round, so that whatever else the
machine does falls on both. A ratio is the median of the rounds' ratios; the figures beside it are
medians too, so they need not divide to exactly that ratio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table


class Bar(msgspec.Struct, frozen=True):
    """What a ratio (or a figure without a baseline) should be: at most or at least ``value``."""

    value: float
    at_most: bool = True

    def met_by(self, judged: float) -> bool:
        """Whether the ratio or figure meets it."""
        return judged <= self.value if self.at_most else judged >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:g}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. ``low`` and ``high`` are the extremes of the rounds' ratios."""

    what: str
    unit: str
    figure: float
    against: str = ""
    baseline: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    bar: Bar | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where there is none."""
        judged = self.figure if self.ratio is None else self.ratio
        return None if self.bar is None else self.bar.met_by(judged)


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """The rows measured with one store."""

    store: str
    broker: str
    rows: Sequence[Row]


Leg = Callable[[], Awaitable[float]]


async def in_turns(rounds: int, legs: Mapping[str, Leg]) -> dict[str, list[float]]:
    """Run each leg once per round, every other round in reverse order; their figures by round."""
    figures: dict[str, list[float]] = {name: [] for name in legs}
    for number in range(rounds):
        for name in list(legs)[:: -1 if number % 2 else 1]:
            figures[name].append(await legs[name]())
    return figures


def compared(
    words: tuple[str, str, str], figures: Sequence[float], baselines: Sequence[float], bar: Bar | None
) -> Row:
    """Build a row from the rounds of a figure and its baseline; ``words``: what, unit, against what."""
    ratios = [figure / baseline for figure, baseline in zip(figures, baselines, strict=True)]
    what, unit, against = words
    return Row(
        what=what,
        unit=unit,
        figure=median(figures),
        against=against,
        baseline=median(baselines),
        ratio=median(ratios),
        low=min(ratios),
        high=max(ratios),
        bar=bar,
    )


def show(sheet: Sheet, console: Console) -> None:
    """Print the table of one store."""
    table = Table(title=f"{sheet.store}, {sheet.broker}", title_justify="left")
    table.add_column("what", overflow="fold")
    table.add_column("figure", justify="right")
    table.add_column("baseline", overflow="fold")
    for name in ("ratio", "of rounds", "bar", "met"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in sheet.rows:
        table.add_row(*_cells(row))
    console.print(table)
    for row in sheet.rows:
        if row.note:
            console.print(f"{row.what}: {row.note}", style="dim")


def _cells(row: Row) -> list[str]:
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
    spread = "" if row.low is None else f"{row.low:.2f}…{row.high:.2f}"
    baseline = "" if row.baseline is None else f"{_figure(row.baseline)} {row.against}"
    met = {None: "", True: "yes", False: "[bold red]no[/]"}[row.met]
    figure = f"{_figure(row.figure)} {row.unit}"
    return [row.what, figure, baseline, ratio, spread, str(row.bar or ""), met]


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def write(path: Path, sheets: Sequence[Sheet], facts: Mapping[str, object]) -> None:
    """Write everything as JSON; ``met`` is spelled out for those who only read."""
    content = {
        **facts,
        "stores": [
            {
                "store": sheet.store,
                "broker": sheet.broker,
                "rows": [msgspec.to_builtins(row) | {"met": row.met} for row in sheet.rows],
            }
            for sheet in sheets
        ],
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")

"""Draws the course of a balance over a day, as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from quota.decision import Phase
from quota.proof.report import PoolDay

_WIDTH: Final = 720
_HEIGHT: Final = 150
_LEFT: Final = 62
_BOTTOM: Final = 22
_TOP: Final = 8
_SHADES: Final = {
    Phase.OPENING: "#e9eff4",
    Phase.BREAK: "#f2f4f6",
    Phase.CLOSING: "#e9eff4",
    Phase.CONTINUOUS: "none",
    Phase.CLOSED: "none",
}
_UNITS: Final = ((100_000_000_000, "bn"), (100_000_000, "m"), (100_000, "k"), (100, ""))


def short_yuan(fen: float) -> str:
    """Write an amount in few signs."""
    size, unit = next((it for it in _UNITS if abs(fen) >= it[0]), _UNITS[-1])
    return f"{fen / size:.4g}{unit}"


class _Axes:
    """Where moments and balances are on the drawing; zero and the limit are always on it."""

    def __init__(self, day: PoolDay) -> None:
        times = [ms for ms, _ in day.phases_ms] + [point.time_ms for point in day.course]
        fens = [0, day.limit_fen, *(point.balance_fen for point in day.course)]
        self.first_ms, self.last_ms = min(times), max(times)
        self.low, self.high = min(fens), max(fens)

    def x(self, time_ms: int) -> float:
        span = max(self.last_ms - self.first_ms, 1)
        return _LEFT + (time_ms - self.first_ms) / span * (_WIDTH - _LEFT)

    def y(self, fen: float) -> float:
        span = max(self.high - self.low, 1)
        return _TOP + (self.high - fen) / span * (_HEIGHT - _TOP - _BOTTOM)


def course(day: PoolDay) -> str:
    """Draw a day; nothing where there is nothing to draw."""
    if not day.course or not day.phases_ms:
        return ""
    axes = _Axes(day)
    pieces = [*_phases(day, axes), *_lines(day, axes), _path(day, axes)]
    said = f"The balance of {day.pool} over the day, in yuan."
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(said)}">'
        f"{''.join(pieces)}</svg>"
        f"<figcaption>{escape(said)} Shaded: opening, break and closing.</figcaption></figure>"
    )


def _phases(day: PoolDay, axes: _Axes) -> Iterator[str]:
    names = day.terms.phases if day.terms else ()
    ends = [*(ms for ms, _ in day.phases_ms[1:]), axes.last_ms]
    written = -1e9
    for place, ((start_ms, phase), end_ms) in enumerate(zip(day.phases_ms, ends, strict=True)):
        left, right = axes.x(start_ms), axes.x(end_ms)
        if (shade := _SHADES[phase]) != "none":
            yield (
                f'<rect x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" '
                f'height="{_HEIGHT - _TOP - _BOTTOM}" fill="{shade}"/>'
            )
        if place < len(names) and left - written > 40:  # noqa: PLR2004 - the width of a time of day
            anchor = "end" if left > _WIDTH - 20 else "start" if left < _LEFT + 20 else "middle"
            yield _text(left, _HEIGHT - 7, names[place].at[11:16], anchor)
            written = left


def _lines(day: PoolDay, axes: _Axes) -> Iterator[str]:
    for fen in sorted({0, day.limit_fen}):
        y = axes.y(fen)
        yield f'<path d="M{_LEFT} {y:.1f}H{_WIDTH}" stroke="#8b98a3" stroke-dasharray="3 3"/>'
        yield _text(_LEFT - 6, y + 3.5, short_yuan(fen), "end")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="10" fill="#53616d" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _path(day: PoolDay, axes: _Axes) -> str:
    """A balance stays until the next entry, so the line goes in steps."""
    first, *others = day.course
    path = f"M{axes.x(first.time_ms):.1f} {axes.y(first.balance_fen):.1f}"
    path += "".join(f"H{axes.x(point.time_ms):.1f}V{axes.y(point.balance_fen):.1f}" for point in others)
    return f'<path d="{path}" fill="none" stroke="#1c5f9e" stroke-width="1.4"/>'

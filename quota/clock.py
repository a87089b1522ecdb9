"""The market clock: where it stands, how fast it runs, and what that is on the server's clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from quota.events import MARKET_TZ


def iso(at: datetime) -> str:
    """Write a moment as RFC 3339 in UTC+8 with milliseconds."""
    return at.astimezone(MARKET_TZ).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class MarketClock:
    """The market's time as a line over the server's: ``at`` when the server said ``server_ms``.

    The real clock is the line through the epoch with speed 1; ``--at`` and ``--speed`` make
    another. ``local_ms`` gives our own machine's milliseconds since the epoch.
    """

    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    server_ms: int = 0
    speed: float = 1.0
    real: bool = True

    @staticmethod
    def local_ms() -> int:
        """Our own machine's clock, in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def now(self) -> datetime:
        """The market's time now, by our own machine's clock."""
        return self.at_ms(self.local_ms())

    def today(self) -> date:
        """The market's date now."""
        return self.now().date()

    def at_ms(self, server_ms: int) -> datetime:
        """The market's time when the server's clock says ``server_ms``."""
        elapsed = timedelta(milliseconds=(server_ms - self.server_ms) * self.speed)
        return (self.at + elapsed).astimezone(MARKET_TZ)

    def ms_at(self, moment: datetime) -> int:
        """What the server's clock says when the market's is ``moment``, in milliseconds."""
        return self.server_ms + round((moment - self.at) / timedelta(milliseconds=1) / self.speed)

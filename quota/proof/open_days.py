"""To which day a delivery belongs, as a record tells it: files follow the clock, deliveries do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from quota.captured import Captured, Delivered, Journalled, Opened
from quota.decision import PoolName
from quota.events import Event
from quota.feed import Mistake


class Decoded(Protocol):
    """What a delivery says."""

    @property
    def pool(self) -> PoolName | None: ...  # noqa: D102 - the names say it
    @property
    def events(self) -> Sequence[Event]: ...  # noqa: D102 - the names say it
    @property
    def mistakes(self) -> Sequence[Mistake]: ...  # noqa: D102 - the names say it


Decode = Callable[[Delivered], Decoded | None]
"""Reads a delivery; None where it is of a pool that is not served."""


@dataclass(slots=True)
class OpenDays:
    """The day that is open for each pool, as far as the record was read.

    A day stays open until the next one begins, past midnight too. ``at_first`` is the day of pools of
    which nothing has been told yet.
    """

    at_first: str | None = None
    _told: dict[PoolName, str] = field(default_factory=dict)

    def take(self, record: Captured) -> None:
        """Take a record in. Where a day's terms stand in another file, its first entry tells."""
        match record:
            case Opened(pool=pool, terms=terms):
                self._told[pool] = terms.trading_day
            case Journalled(pool=pool, trading_day=day) if day > self._told.get(pool, ""):
                self._told[pool] = day
            case _:
                pass

    def of(self, pool: PoolName) -> str | None:
        """Name the day that is open for a pool; None where that is not known."""
        return self._told.get(pool, self.at_first)

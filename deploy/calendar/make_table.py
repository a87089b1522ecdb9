"""Make quota/calendar.txt: which days northbound and southbound trade, and Hong Kong's half days.

    pip install 'quotad[calendar]'
    python deploy/calendar/make_table.py            # writes the table
    python deploy/calendar/make_table.py --check    # exits 1 if the committed table differs

The daemon reads the table and so carries neither pandas nor exchange-calendars. The sessions come
from exchange-calendars (XHKG, XSHG; Shenzhen keeps Shanghai's days), corrected by corrections.toml.

How a day is derived (docs: market rules, section 6):

1. Since 2023-04-24 both directions trade when Hong Kong and the mainland trade.
2. Before, money settlement had to be possible too, on days that were known in advance (a typhoon
   on the settlement day dropped nothing):
   - northbound settles its money on the next mainland trading day (T+1): the day was dropped when
     that is a holiday in Hong Kong;
   - southbound settles on Hong Kong's second settlement day (T+2), and half days are none: the day
     was dropped when the first or the second of them is no mainland trading day. That the first
     counts too is read from the notices: 2016-06-08 was dropped before a holiday of 06-09 and 10.

What the exchanges announced stands in corrections.toml too, and has to agree.
"""

# ruff: noqa: INP001 - a tool in a directory of files, not a package

from __future__ import annotations

import argparse
import sys
import tomllib
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import exchange_calendars  # type: ignore[import-untyped]  # it ships no types

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = Path(__file__).parents[2] / "quota" / "calendar.txt"
CORRECTIONS = Path(__file__).with_name("corrections.toml")
FIRST, LAST = date(2014, 11, 17), date(2026, 12, 31)
REFORM = date(2023, 4, 24)
LETTERS = {(True, True): "B", (True, False): "N", (False, True): "S", (False, False): "."}

HEAD = """\
# Trading days of Stock Connect. Made by deploy/calendar/make_table.py; do not edit.
# A line is a month, a letter is a day from the 1st on: B both directions, N northbound only,
# S southbound only, . none. The same on a Hong Kong half day: b, n, s, and h for none.
"""


@dataclass(frozen=True, slots=True)
class Markets:
    """The two calendars: when each side trades, and when Hong Kong was known to settle."""

    hong_kong: frozenset[date]
    mainland: frozenset[date]
    half_days: frozenset[date]
    weather: frozenset[date]

    def trades_northbound(self, day: date) -> bool:
        """Whether northbound trades: rule 1, and before the reform rule 2."""
        if day >= REFORM or not self._both_trade(day):
            return self._both_trade(day)
        return self._following(day, self.mainland)[0] in self.hong_kong | self.weather

    def trades_southbound(self, day: date) -> bool:
        """Whether southbound trades: rule 1, and before the reform rule 2."""
        if day >= REFORM or not self._both_trade(day):
            return self._both_trade(day)
        settling = (self.hong_kong | self.weather) - self.half_days
        return self.mainland.issuperset(self._following(day, settling)[:2])

    def letter(self, day: date) -> str:
        """The day's letter in the table."""
        if day < FIRST:
            return "."
        letter = LETTERS[self.trades_northbound(day), self.trades_southbound(day)]
        return letter.lower().replace(".", "h") if day in self.half_days else letter

    def _both_trade(self, day: date) -> bool:
        return day in self.hong_kong and day in self.mainland

    @staticmethod
    def _following(day: date, days: frozenset[date]) -> list[date]:
        return [later for n in range(1, 30) if (later := day + timedelta(n)) in days]


def read_markets(corrections: dict[str, Any]) -> Markets:
    """Take the sessions from exchange-calendars and the closures it lacks from the corrections."""
    hong_kong = exchange_calendars.get_calendar("XHKG", start="2014-11-01")
    mainland = exchange_calendars.get_calendar("XSHG", start="2014-11-01")
    weather = frozenset(entry["date"] for entry in corrections["weather"])
    return Markets(
        hong_kong=frozenset(hong_kong.sessions.date) - weather,
        mainland=frozenset(mainland.sessions.date),
        half_days=frozenset(hong_kong.early_closes.date),
        weather=weather,
    )


def span(first: date, last: date) -> Iterator[date]:
    """Every date from ``first`` to ``last``, both included."""
    return (first + timedelta(n) for n in range((last - first).days + 1))


def make_table(markets: Markets) -> str:
    """Write the whole table, a line per month."""
    months = groupby(span(FIRST.replace(day=1), LAST), key=lambda day: f"{day:%Y-%m}")
    lines = (f"{month} {''.join(map(markets.letter, days))}\n" for month, days in months)
    return HEAD + "".join(lines)


def disagreements(markets: Markets, notice: dict[str, Any]) -> list[str]:
    """The weekdays on which we derive something else than the exchanges announced."""
    weekdays = (day for day in span(notice["from"], notice["to"]) if day.weekday() < 5)  # noqa: PLR2004 - 5 is Saturday
    return [
        f"{day}: not as announced ({notice['what']}, {notice['source']})"
        for day in weekdays
        if markets.trades_southbound(day) is (day in notice["closed"])
    ]


def main() -> int:
    """Check the notices, then write or compare the table."""
    parser = argparse.ArgumentParser(description="Make quota/calendar.txt.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    corrections = tomllib.loads(CORRECTIONS.read_text("utf-8"))
    markets = read_markets(corrections)
    if wrong := [line for notice in corrections["notice"] for line in disagreements(markets, notice)]:
        sys.stderr.write("\n".join(wrong) + "\n")
        return 1
    table = make_table(markets)
    if not check:
        TABLE.write_text(table, "utf-8")
    elif TABLE.read_text("utf-8") != table:
        sys.stderr.write(f"{TABLE}: differs from what the tool makes\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

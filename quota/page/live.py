"""The live page's view of a running daemon: its parts, read into the records of ``shown.py``.

Nothing is decided here, and nothing is asked of the store: the page shows what the watch and the
follower have read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Protocol

from quota.clock import MarketClock
from quota.course import Course
from quota.day import segments
from quota.days import Days
from quota.decision import Phase, PoolName, Status
from quota.forecast import UNKNOWN
from quota.journal import Entry
from quota.page.sentences import Sentence, headline, listed, span
from quota.page.shown import (
    Clock,
    DayChart,
    PoolView,
    State,
    Tape,
    figures,
    moment_ms,
    pool_view,
)
from quota.page.standing import Known, Standing, Tone
from quota.page.tape import change_lines, entry_line, market_ms
from quota.pool import Change, Pool
from quota.rulebook import daily_quota_fen, phases

STALE_S = 3.0
"""From which age on figures are called old, in real seconds: they are read five times in one."""

SILENT_S = 300.0
"""After how many seconds of the market without an event an open pool counts as silent; what was before
we began to look does not count."""

_ENTRIES, _CHANGES = 8, 40
_SOON_DAYS = 30
_TAKING = {Phase.OPENING, Phase.CONTINUOUS, Phase.CLOSING}
_RANK = (Tone.QUIET, Tone.OK, Tone.WATCH, Tone.TROUBLE)
_OWN_WORDS = ("the store is", "the broker is")


class Watched(Protocol):
    """What the page asks of the watch: what is reached, what is wrong, and the courses of the day."""

    store_up: bool
    skew_s: float
    trouble: str
    courses: dict[PoolName, Course]

    def unready(self) -> Sequence[str]:
        """Why the daemon is not ready."""
        ...

    def missing(self) -> Sequence[str]:
        """Which numbered events are missing."""
        ...

    def warnings(self) -> Sequence[str]:
        """What will need a person soon."""
        ...


class Followed(Protocol):
    """What the page asks of the follower."""

    latest: dict[PoolName, tuple[Entry, ...]]
    changes: dict[PoolName, tuple[Change, ...]]


class Broker(Protocol):
    """What the page asks of the feed."""

    @property
    def connected(self) -> bool:
        """Whether the broker is reached now."""
        ...

    @property
    def unacknowledged(self) -> int:
        """How many deliveries wait for their acknowledgement."""
        ...


@dataclass(frozen=True, slots=True)
class Live:
    """A daemon as the page sees it. Every method is cheap and touches no server.

    ``began_ms`` is since when it looks, by our own machine's clock; ``recording`` says what is wrong with
    the record of the day, and which pools wait for theirs to be put back.
    """

    days: Days
    watch: Watched
    follower: Followed
    feed: Broker
    version: str
    began_ms: int = field(default_factory=lambda: MarketClock.local_ms())  # noqa: PLW0108 - a test sets it
    recording: Callable[[], Sequence[str]] = tuple

    @property
    def _clock(self) -> MarketClock:
        return self.days.almanac.clock

    def _now_ms(self) -> int:
        """The store's clock now, as far as we know it."""
        return self._clock.local_ms() + round(self.watch.skew_s * 1000)

    def clock(self) -> Clock:
        """Say what time it is, and of when the oldest of the figures is.

        While they are fresh the time is theirs: a blink apart would be minutes where a clock runs fast.
        """
        now_ms, read_ms, known = self._now_ms(), self._read_ms(), self._known
        if read_ms is None:
            return Clock(market_ms(self._clock, now_ms), None, None, known, self.feed.connected)
        age_s = round(max(0, now_ms - read_ms) / 1000, 1)
        shown_ms = market_ms(self._clock, read_ms if known is Known.NOW else now_ms)
        return Clock(shown_ms, market_ms(self._clock, read_ms), age_s, known, self.feed.connected)

    def _read_ms(self) -> int | None:
        return min((snapshot.server_ms for snapshot in self.days.snapshots.values()), default=None)

    @property
    def _known(self) -> Known:
        """How well the pools are known that were ever read."""
        read_ms = self._read_ms()
        if read_ms is None:
            return Known.NEVER
        fresh = self.watch.store_up and self._now_ms() - read_ms <= STALE_S * 1000
        return Known.NOW if fresh else Known.ONCE

    def state(self) -> State:
        """Build the whole page but for its chart and its tape."""
        standings = {name: self._standing(name) for name in self.days.pools}
        sentences = headline(standings)
        notices = tuple(self._notices(standings))
        return State(
            version=self.version,
            real=self._clock.real,
            speed=self._clock.speed,
            tone=max((each.tone for each in (*sentences, *notices)), key=_RANK.index, default=Tone.QUIET),
            headline=sentences,
            notices=notices,
            pools=tuple(self._view(name, at) for name, at in standings.items()),
        )

    def tape(self) -> Tape:
        """Build the last entries and changes of all pools."""
        follower = self.follower
        entries = [
            entry_line(pool, entry, self._clock)
            for pool, latest in follower.latest.items()
            for entry in latest[:_ENTRIES]
        ]
        changes = [
            line for pool, seen in follower.changes.items() for line in change_lines(pool, seen, self._clock)
        ]
        entries.sort(key=lambda line: (-line.at_ms, line.pool, -line.seq))
        changes.sort(key=lambda line: -line.at_ms)
        return Tape(tuple(entries), tuple(changes[:_CHANGES]))

    def day(self) -> tuple[DayChart, ...]:
        """Build the charts of the day."""
        return tuple(self._chart(name, self._pool(name)) for name in self.days.pools)

    def _pool(self, name: PoolName) -> Pool | None:
        snapshot = self.days.snapshots.get(name)
        return snapshot.pool if snapshot else None

    def _standing(self, name: PoolName) -> Standing:
        """Find out how a pool stood when it was last read."""
        pool, course = self._pool(name), self.watch.courses.get(name)
        snapshot = self.days.snapshots.get(name)
        now = self._clock.at_ms(snapshot.server_ms if snapshot else self._now_ms())
        return Standing(
            pool=pool,
            now=now,
            phases=self._phases(pool),
            since=self._since(name, pool),
            opens=self._opens(name, pool, now),
            half_day=pool is not None
            and self.days.almanac.calendar.half_day(date.fromisoformat(pool.trading_day)),
            forecast=course.forecast() if course and pool else UNKNOWN,
            known=self._known if snapshot else Known.NEVER,
            fed=self.feed.connected,
        )

    def _phases(self, pool: Pool | None) -> tuple[tuple[datetime, Phase], ...]:
        """The phases of the day, to the second: a clock that runs fast knows them no better."""
        listed = segments(pool.schedule) if pool else ()
        half = timedelta(seconds=0.5)
        return tuple(
            ((self._clock.at_ms(starts_ms) + half).replace(microsecond=0), phase)
            for starts_ms, phase in listed
        )

    def _statuses(self, name: PoolName) -> list[tuple[int, str]]:
        """From when which status held today, as far as the day's changes tell."""
        changes = self.follower.changes.get(name, ())
        return [(change.time_ms, change.now) for change in changes if change.kind == "status"]

    def _since(self, name: PoolName, pool: Pool | None) -> datetime | None:
        """When the present status began, if the day's changes still tell."""
        told = self._statuses(name)
        if pool is None or not told or told[-1][1] != pool.status:
            return None
        return self._clock.at_ms(told[-1][0])

    def _opens(self, name: PoolName, pool: Pool | None, now: datetime) -> datetime | None:
        """When the trading day after the open one begins; where none is open, the next that is not over."""
        calendar = self.days.almanac.calendar
        after = date.fromisoformat(pool.trading_day) + timedelta(days=1) if pool else now.date()
        first = max(after, now.date())
        for day in (first + timedelta(days=ahead) for ahead in range(_SOON_DAYS)):
            if calendar.trades(name, day):
                listed = phases(name, day, half_day=calendar.half_day(day))
                if listed[-1][0] > now:
                    return listed[0][0]
        return None

    def _view(self, name: PoolName, at: Standing) -> PoolView:
        pool, latest = at.pool, self.follower.latest.get(name, ())
        quota_fen = daily_quota_fen(name, date.fromisoformat(pool.trading_day)) if pool else None
        seen_ms = market_ms(self._clock, latest[0].time_ms) if latest and pool else None
        return pool_view(name, at, figures(pool, quota_fen) if pool else None, seen_ms)

    def _notices(self, standings: dict[PoolName, Standing]) -> Iterator[Sentence]:
        """Say what keeps the page from being trusted, or will."""
        if not self.days.snapshots:
            starting = self.watch.trouble == "starting"
            why = "quotad is starting" if starting else f"the store is away ({self.watch.trouble})"
            yield Sentence(Tone.TROUBLE, f"Nothing has been read yet: {why}.")
        elif not self.watch.store_up:
            yield Sentence(Tone.TROUBLE, f"The store is away ({self.watch.trouble}): the figures are old.")
        elif self._known is Known.ONCE:
            yield Sentence(Tone.TROUBLE, "The pools are not being read: the figures are old.")
        if not self.feed.connected:
            sends = self.feed.unacknowledged > 0
            what = "still sending what it kept for us" if sends else "away: no orders and no fills come in"
            yield Sentence(Tone.TROUBLE, f"The broker is {what}.")
        for reason in self.watch.unready():
            if not reason.startswith(_OWN_WORDS):
                yield Sentence(Tone.TROUBLE, f"Not ready: {reason}.")
        wrong = [f"The balance may be wrong. {text}." for text in self.watch.missing()]
        wrong += [f"{text[:1].upper()}{text[1:]}." for text in self.recording()]
        yield from (Sentence(Tone.TROUBLE, text) for text in wrong)
        silent = {name: silent_s for name, at in standings.items() if (silent_s := self._silent_s(name, at))}
        if silent:
            have = "have" if len(silent) > 1 else "has"
            least = span(min(silent.values()))
            yield Sentence(Tone.WATCH, f"{listed(silent)} {have} brought no event for {least}.")
        for warning in self.watch.warnings():
            yield Sentence(Tone.WATCH, f"Soon: {warning}.")

    def _silent_s(self, name: PoolName, at: Standing) -> float:
        """How long a pool that could trade has brought nothing, where that is too long; else 0."""
        begun = [moment for moment, _ in at.phases if moment <= at.now]
        if at.phase not in _TAKING or not begun or not at.current:
            return 0.0
        looked = self._clock.at_ms(self.began_ms + round(self.watch.skew_s * 1000))
        last = [self._clock.at_ms(entry.time_ms) for entry in self.follower.latest.get(name, ())[:1]]
        silent_s = (at.now - max(looked, begun[-1], *last)).total_seconds()
        return silent_s if silent_s >= SILENT_S else 0.0

    def _chart(self, name: PoolName, pool: Pool | None) -> DayChart:
        course = self.watch.courses.get(name)
        points = course.points() if course and pool else ()
        usual = course.usual() if course and pool else ()
        return DayChart(
            pool=name,
            trading_day=pool.trading_day if pool else None,
            phases=tuple((moment_ms(moment), phase) for moment, phase in self._phases(pool)),
            spans=tuple((market_ms(self._clock, ms), Status(now)) for ms, now in self._statuses(name)),
            at_ms=tuple(moment_ms(point.at) for point in points),
            used_fen=tuple(point.used_fen for point in points),
            usual_ms=tuple(moment_ms(moment) for moment, _ in usual),
            usual_share=tuple(share for _, share in usual),
        )

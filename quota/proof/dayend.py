"""Makes the report of a day from its record: one pass, and memory that does not grow with the day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple, assert_never

from quota.captured import Captured, Changed, Delivered, Journalled, Opened
from quota.clock import MarketClock, iso
from quota.day import segments
from quota.decision import PoolName, Side, Verdict, Violation
from quota.journal import Entry
from quota.pool import Change, Pool
from quota.proof import report
from quota.proof.open_days import Decode, Decoded, OpenDays
from quota.proof.report import Begins, File, Moment, Peak, Point, PoolDay, Report, Terms, Turn
from quota.proof.tally import LISTED, DeadTally, JournalTally
from quota.rulebook import phases

_POINTS: Final = 240


def clock_of(pool: PoolName, terms: Pool) -> MarketClock:
    """The market's clock of a day: the real one, or that of ``--at``, worked out of the schedule."""
    begins = segments(terms.schedule)
    if terms.origin == "real" or len(begins) < 2:  # noqa: PLR2004 - a line needs two points
        return MarketClock()
    for half_day in (False, True):
        due = phases(pool, date.fromisoformat(terms.trading_day), half_day=half_day)
        if [phase for _, phase in due] == [phase for _, phase in begins]:
            first_ms, last_ms = begins[0][0], begins[-1][0]
            speed = (due[-1][0] - due[0][0]).total_seconds() * 1_000 / max(1, last_ms - first_ms)
            return MarketClock(due[0][0], first_ms, speed, real=False)
    return MarketClock()


@dataclass(slots=True)
class _Tally:
    """What is known of a pool's day so far."""

    pool: PoolName
    terms: Pool | None = None
    opened_ms: int = 0
    clock: MarketClock = field(default_factory=MarketClock)
    accounts: int = 1
    journal: JournalTally = field(default_factory=lambda: JournalTally(MarketClock(), 60_000))
    turns: list[Turn] = field(default_factory=list)
    all_turns: int = 0
    dead: DeadTally = field(default_factory=DeadTally)
    _stated: bool = False
    _last_change: tuple[int, int] = (0, 0)

    def open(self, terms: Pool, opened_ms: int) -> None:
        """Take the terms in: those of a day that goes on, or of another account if entry 1 comes next."""
        self.terms, self.opened_ms, self._stated = terms, opened_ms, True
        self.clock = clock_of(self.pool, terms)
        if not self.journal.entries:
            self.journal = self._begun()

    def _begun(self) -> JournalTally:
        begins = segments(self.terms.schedule) if self.terms else ()
        span_ms = begins[-1][0] - begins[0][0] if begins else 0
        return JournalTally(self.clock, max(span_ms // _POINTS, 1))

    def enter(self, entry: Entry) -> None:
        """Take an entry in."""
        if self._stated and entry.seq == 1 and self.journal.entries:
            self.journal, self.accounts = self._begun(), self.accounts + 1
            self.turns, self.all_turns, self._last_change = [], 0, (0, 0)
        self._stated = False
        self.journal.take(entry)

    def change(self, change: Change) -> None:
        """Take a change in; one that was taken already is the same."""
        time, _, place = change.id.partition("-")
        if (number := (int(time), int(place or 0))) <= self._last_change:
            return
        self._last_change, self.all_turns = number, self.all_turns + 1
        if len(self.turns) < LISTED:
            self.turns.append(
                Turn(
                    at=iso(self.clock.at_ms(change.time_ms)),
                    kind=change.kind,
                    was=change.was,
                    now=change.now,
                    seq=change.seq,
                    balance_fen=change.balance_fen,
                    reason=change.reason,
                )
            )

    def deliver(self, said: Decoded, day: str, time_ms: int) -> None:
        """Take in what came while its day was open."""
        if said.events or said.mistakes:
            self.dead.take(said, day, self.clock.at_ms(time_ms).date().isoformat())

    def said(self) -> PoolDay:
        """Say what is known."""
        journal, last = self.journal, self.journal.last
        course = journal.course if last is None else [*journal.course, Point(last.time_ms, last.balance_fen)]
        opened_fen = self.terms.limit_fen if self.terms else 0
        return PoolDay(
            pool=self.pool,
            terms=self._terms(),
            accounts=self.accounts,
            entries=journal.entries,
            first_missing=journal.gaps,
            missing=journal.missing,
            decisions=_by_side(journal.decisions),
            facts=dict(sorted(journal.facts.items())),
            turns=self.turns,
            all_turns=self.all_turns,
            deeds=journal.deeds,
            all_deeds=journal.all_deeds,
            violations={kind: journal.violations[kind] for kind in Violation if journal.violations[kind]},
            broken=journal.broken,
            all_broken=journal.all_broken,
            peak=self._peak(),
            lowest=self._moment(journal.lowest),
            last=self._moment(last),
            limit_fen=opened_fen if journal.limit_fen is None else journal.limit_fen,
            course=course,
            phases_ms=segments(self.terms.schedule) if self.terms else (),
            dead=self.dead.said(dict(journal.inapplicable.most_common())),
            journal_sha256=journal.hash.hexdigest(),
        )

    def _terms(self) -> Terms | None:
        terms = self.terms
        if terms is None:
            return None
        return Terms(
            opened_at=iso(self.clock.at_ms(self.opened_ms)),
            limit_fen=terms.limit_fen,
            rate=terms.rate,
            admission=terms.admission,
            levels=terms.levels,
            resumes_in_opening=terms.resumes_in_opening,
            halted=terms.halted,
            origin=terms.origin,
            phases=tuple(
                Begins(_to_the_second(self.clock.at_ms(ms)), phase) for ms, phase in segments(terms.schedule)
            ),
        )

    def _moment(self, entry: Entry | None) -> Moment | None:
        if entry is None:
            return None
        return Moment(
            at=iso(self.clock.at_ms(entry.time_ms)),
            seq=entry.seq,
            balance_fen=entry.balance_fen,
            status=entry.status,
            phase=entry.phase,
        )

    def _peak(self) -> Peak | None:
        entries, second = self.journal.seconds.most
        return Peak(iso(self.clock.at_ms(second * 1_000)), entries) if entries else None


def _to_the_second(at: datetime) -> str:
    """Write when a phase is due: of a clock that runs faster, a millisecond may be a tenth of a second."""
    return iso((at + timedelta(milliseconds=500)).replace(microsecond=0))


def _by_side(decisions: Mapping[tuple[Side, Verdict], int]) -> Mapping[Side, Mapping[Verdict, int]]:
    return {
        side: {verdict: decisions[side, verdict] for verdict in Verdict if (side, verdict) in decisions}
        for side in Side
    }


class Origin(NamedTuple):
    """Of what a report is made: which day, whose record, by which version, and when."""

    day: str
    daemon: str
    version: str
    written_at: str


@dataclass(slots=True)
class DayTally:
    """A day as its record tells it so far. ``decode`` reads deliveries, ``open_days`` says whose they are."""

    day: str
    decode: Decode
    open_days: OpenDays
    pools: dict[PoolName, _Tally] = field(default_factory=dict)
    _later: set[PoolName] = field(default_factory=set)
    _dead: DeadTally = field(default_factory=DeadTally)
    _messages: int = 0
    _bytes: int = 0
    _first_ms: int = 0
    _last_ms: int = 0

    def take(self, record: Captured, *, is_ours: bool = True) -> None:
        """Take a record in; what is of another day is passed over.

        Of a file that is not ours, messages and what is of no pool are counted in the report of its own day.
        """
        self.open_days.take(record)
        match record:
            case Delivered():
                self._deliver(record, is_ours=is_ours)
            case Opened(time_ms=opened_ms, pool=pool, terms=terms):
                if terms.trading_day == self.day:
                    self._pool(pool).open(terms, opened_ms)
                elif terms.trading_day > self.day:
                    self._later.add(pool)
                    if (it := self.pools.get(pool)) is not None:
                        it.dead.ahead.pop(terms.trading_day, None)
            case Journalled(pool=pool, trading_day=self.day, entry=entry):
                self._pool(pool).enter(entry)
            case Changed(pool=pool, trading_day=self.day, change=change):
                self._pool(pool).change(change)
            case Journalled() | Changed():
                pass
            case _:
                assert_never(record)

    @property
    def is_over(self) -> bool:
        """Whether each of its pools has begun a later day: nothing of this one comes behind that."""
        return {pool for pool, it in self.pools.items() if it.terms is not None} <= self._later

    @property
    def is_followed(self) -> bool:
        """Whether a pool has begun a later day."""
        return bool(self._later)

    def _pool(self, pool: PoolName) -> _Tally:
        return self.pools.setdefault(pool, _Tally(pool))

    def _deliver(self, record: Delivered, *, is_ours: bool) -> None:
        if is_ours:
            self._first_ms = self._first_ms or record.time_ms
            self._last_ms = record.time_ms
            self._messages += 1
            self._bytes += len(record.payload)
        said = self.decode(record)
        if said is None:
            return
        if said.pool is None:
            if is_ours:
                self._dead.bury(said)
        elif self.open_days.of(said.pool) == self.day:
            self._pool(said.pool).deliver(said, self.day, record.time_ms)

    def report(
        self, origin: Origin, files: Sequence[File], read_too: Sequence[str], flaws: Sequence[str]
    ) -> Report:
        """Say it all. The moments of deliveries are our own machine's."""
        clock = MarketClock()
        return Report(
            **origin._asdict(),
            delivered=report.Delivered(
                messages=self._messages,
                bytes=self._bytes,
                first_at=iso(clock.at_ms(self._first_ms)) if self._messages else "",
                last_at=iso(clock.at_ms(self._last_ms)) if self._messages else "",
                dead=self._dead.said({}),
            ),
            pools=[self.pools[pool].said() for pool in PoolName if pool in self.pools],
            files=files,
            read_too=read_too,
            flaws=flaws,
        )

"""Counts entries and dead letters for the report of a day: one pass, in memory that does not grow."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from quota.clock import MarketClock, iso
from quota.decision import Side, Verdict, Violation
from quota.journal import ENDS, Entry
from quota.proof.open_days import Decoded
from quota.proof.report import Broken, Dead, Deed, Missing, Point
from quota.rules import REASONS

LISTED: Final = 1_000
"""How many changes, acts, violations and gaps of a pool are listed."""

REASONS_MAX: Final = 100
"""How many reasons of dead letters are told apart; the rest counts as other ones."""

_OTHERS: Final = "other reasons"
_SIDE: Final = 2
_SIDES: Final = {str(side): side for side in Side}


@dataclass(slots=True)
class _Second:
    """Entries of one second after the other, and the second that had the most."""

    second: int = -1
    entries: int = 0
    most: tuple[int, int] = (0, 0)

    def take(self, time_ms: int) -> None:
        if time_ms // 1_000 != self.second:
            self.second, self.entries = time_ms // 1_000, 0
        self.entries += 1
        if self.entries > self.most[0]:
            self.most = (self.entries, self.second)


@dataclass(slots=True)
class JournalTally:
    """The entries of one account so far."""

    clock: MarketClock
    apart_ms: int
    seq: int = 0
    entries: int = 0
    missing: int = 0
    gaps: list[Missing] = field(default_factory=list)
    decisions: Counter[tuple[Side, Verdict]] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    deeds: list[Deed] = field(default_factory=list)
    all_deeds: int = 0
    violations: Counter[Violation] = field(default_factory=Counter)
    inapplicable: Counter[str] = field(default_factory=Counter)
    broken: list[Broken] = field(default_factory=list)
    all_broken: int = 0
    seconds: _Second = field(default_factory=_Second)
    lowest: Entry | None = None
    last: Entry | None = None
    limit_fen: int | None = None
    course: list[Point] = field(default_factory=list)
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def take(self, entry: Entry) -> None:
        """Take an entry in; one that was taken already is the same."""
        if entry.seq <= self.seq:
            return
        if entry.seq > self.seq + 1:
            self.missing += entry.seq - self.seq - 1
            if len(self.gaps) < LISTED:
                self.gaps.append(Missing(self.seq + 1, entry.seq - 1))
        self.seq, self.entries, self.last = entry.seq, self.entries + 1, entry
        self.hash.update(msgspec.json.encode(entry) + b"\n")
        self.seconds.take(entry.time_ms)
        if self.lowest is None or entry.balance_fen < self.lowest.balance_fen:
            self.lowest = entry
        if not self.course or entry.time_ms >= self.course[-1].time_ms + self.apart_ms:
            self.course.append(Point(entry.time_ms, entry.balance_fen))
        self._violated(entry)
        if entry.is_act:
            self._act(entry)
        else:
            self._line(entry)

    def _violated(self, entry: Entry) -> None:
        if not entry.violations:
            return
        self.violations.update(entry.violations)
        if entry.event.partition(" ")[0] not in ENDS:
            self.inapplicable.update(REASONS[kind] for kind in entry.violations if kind in REASONS)
        self.all_broken += 1
        if len(self.broken) < LISTED:
            at = iso(self.clock.at_ms(entry.time_ms))
            self.broken.append(Broken(at=at, seq=entry.seq, event=entry.event, violations=entry.violations))

    def _act(self, entry: Entry) -> None:
        self.all_deeds += 1
        self.limit_fen = entry.limit_fen if entry.event == "limit" else self.limit_fen
        if len(self.deeds) < LISTED:
            self.deeds.append(
                Deed(
                    at=iso(self.clock.at_ms(entry.time_ms)),
                    seq=entry.seq,
                    act=entry.event,
                    reason=entry.reason,
                    user=entry.user,
                    host=entry.host,
                    was_fen=entry.was_fen,
                    limit_fen=entry.limit_fen,
                    reopen=entry.reopen,
                )
            )

    def _line(self, entry: Entry) -> None:
        if entry.verdict is None:
            self.facts[entry.event.partition(" ")[0]] += 1
            return
        words = entry.event.split(" ", 3)
        if len(words) > _SIDE and (side := _SIDES.get(words[_SIDE])) is not None:
            self.decisions[side, entry.verdict] += 1
        else:
            self.facts["unreadable"] += 1


@dataclass(slots=True)
class DeadTally:
    """What is dead so far. ``ahead`` are events by a later day than the open one: the first opens it."""

    reasons: Counter[str] = field(default_factory=Counter)
    another_day: int = 0
    ahead: Counter[str] = field(default_factory=Counter)

    def take(self, said: Decoded, day: str, today: str) -> None:
        """Take in what came ``today`` for a pool whose open day is ``day``."""
        self.bury(said)
        for named in [event.market_date.isoformat() for event in said.events if event.market_date]:
            if day < named <= today:
                self.ahead[named] += 1
            else:
                self.another_day += named != day

    def bury(self, said: Decoded) -> None:
        """Take in what could not be decoded."""
        for mistake in said.mistakes:
            known = mistake.reason in self.reasons or len(self.reasons) < REASONS_MAX
            self.reasons[mistake.reason if known else _OTHERS] += 1

    def said(self, inapplicable: Mapping[str, int]) -> Dead:
        """Say what is known; a day that has not begun was opened by nobody."""
        return Dead(
            undecodable=dict(self.reasons.most_common()),
            another_day=self.another_day + self.ahead.total(),
            inapplicable=inapplicable,
        )

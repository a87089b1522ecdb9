"""What the report of a day says: records, as they stand in its JSON and are shown on its page.

Amounts are fen. Moments are the market's, in UTC+8; where a day was played with ``--at``, they are
worked out of its schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from quota.decision import Admission, Phase, PoolName, Side, Status, Verdict, Violation


class Begins(msgspec.Struct, frozen=True):
    """From when a phase was due."""

    at: str
    phase: Phase


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the day of a pool started with. ``halted`` is the reason where it began halted."""

    opened_at: str
    limit_fen: int
    rate: str
    admission: Admission
    levels: tuple[int, ...]
    resumes_in_opening: bool
    halted: str
    origin: str
    phases: tuple[Begins, ...]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """How a pool stood after an entry."""

    at: str
    seq: int
    balance_fen: int
    status: Status
    phase: Phase


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a pool, as its stream of changes tells it."""

    at: str
    kind: str
    was: str
    now: str
    seq: int
    balance_fen: int
    reason: str


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator did; both limits are the same where he left it alone."""

    at: str
    seq: int
    act: str
    reason: str
    user: str
    host: str
    was_fen: int
    limit_fen: int
    reopen: bool


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that should not have been, and why."""

    at: str
    seq: int
    event: str
    violations: tuple[Violation, ...]


class Peak(msgspec.Struct, frozen=True):
    """The second of the store's clock with the most entries, and how many it had."""

    at: str
    entries: int


class Missing(msgspec.Struct, frozen=True):
    """Numbers that are not in the record, both ends among them."""

    first: int
    last: int


class Point(msgspec.Struct, frozen=True, array_like=True):
    """A point of the course of the balance; the milliseconds are the store's."""

    time_ms: int
    balance_fen: int


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """What was delivered and could not be applied.

    ``undecodable`` by its reason, each as often as it was delivered; ``another_day`` are events whose own
    time is of another day than the one that was open when they came. ``inapplicable`` by its reason is
    what contradicts what is known or passes a bound: once per order and kind, as the journal has it.
    """

    undecodable: Mapping[str, int]
    another_day: int = 0
    inapplicable: Mapping[str, int] = {}

    @property
    def events(self) -> int:
        """How many."""
        return sum(self.undecodable.values()) + self.another_day + sum(self.inapplicable.values())


class PoolDay(msgspec.Struct, frozen=True, kw_only=True):
    """The day of one pool. ``accounts`` is above 1 where the store lost entries; the last one counts.

    ``journal_sha256`` is over the entries, each as compact JSON with a line feed behind it. Lists have
    their first thousand; how many there are in all says the number beside them.
    """

    pool: PoolName
    terms: Terms | None
    accounts: int
    entries: int
    first_missing: Sequence[Missing]
    missing: int
    decisions: Mapping[Side, Mapping[Verdict, int]]
    facts: Mapping[str, int]
    turns: Sequence[Turn]
    all_turns: int
    deeds: Sequence[Deed]
    all_deeds: int
    violations: Mapping[Violation, int]
    broken: Sequence[Broken]
    all_broken: int
    peak: Peak | None
    lowest: Moment | None
    last: Moment | None
    limit_fen: int
    course: Sequence[Point]
    phases_ms: Sequence[tuple[int, Phase]]
    dead: Dead
    journal_sha256: str


class File(msgspec.Struct, frozen=True):
    """A file of the record, and the hash of so many of its bytes as there were."""

    name: str
    bytes: int
    sha256: str


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker delivered while the day's files were written."""

    messages: int
    bytes: int
    first_at: str
    last_at: str
    dead: Dead


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The report of a day. ``flaws`` is what is wrong with the files; what is whole was read all the same."""

    day: str
    daemon: str
    version: str
    written_at: str
    delivered: Delivered
    pools: Sequence[PoolDay]
    files: Sequence[File]
    read_too: Sequence[str]
    flaws: Sequence[str]

    def text(self) -> bytes:
        """Write it as JSON that a person can read."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

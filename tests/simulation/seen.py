"""What a run has to have seen at least once: a simulation in which nothing happens proves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from quota.day import phase_at
from quota.decision import Outcome, Phase, PoolName, Status, Verdict
from quota.memory import Book

if TYPE_CHECKING:
    from tests.simulation.disk import Disk
    from tests.simulation.story import Play

WANTED = {
    # Of the market.
    "a resume in the auction",
    "a suspension that lasts to 09:30",
    "an exhaustion",
    "a reopening",
    "a duplicate after a refusal",
    "a late fill after a cancel",
    "a fact before its order",
    "an id reused",
    "an order refused as insufficient",
    "an order that was refused and trades",
    "a hold that lapsed",
    "a reservation confirmed",
    "a reservation released",
    "a spent order that was sent all the same",
    "a rate set",
    "a rate refused",
    "a day opened in mid-queue",
    "leftovers of a day taken in after its midnight",
    "a mistake that cannot be decoded",
    "another day's event",
    "an exec id reused",
    "a total out of range",
    "a pool of another daemon's",
    # Of misfortunes.
    "a request lost before the commit",
    "a reply lost after the commit",
    "a request that came late, after its repetition",
    "a crash before the commit",
    "a crash between commit and reply",
    "a crash between reply and acknowledgement",
    "a redelivery of an answered order",
    "a redelivery under another id",
    "an answer that could not be sent",
    "a connection given up because nothing moved on it",
    "a daemon that ended well with work in hand",
    "a daemon that was dead at midnight",
    "a changed store that was attested",
    "a changed store that nobody could attest",
    "a write that failed before it was on the disk",
    "a write that failed after it was on the disk",
    "a write that a crash undid",
    "a write that a crash left unconfirmed",
    "a delivery that was written down twice",
    # Of numbers.
    "a number that never came",
    "a number that came late",
    "a last number that only a heartbeat told of",
    "a source that began to count anew",
    "a number of a dead letter",
    # Of stores that come back.
    "a store that came back same",
    "a store that came back behind",
    "a store that came back empty",
    "a store that came back forgotten",
}
"""All of it. A run that misses one fails: then the world is too kind, or a fault has made it impossible."""

_LOGGED = {
    "store.attested": "a changed store that was attested",
    "store.not_attested": "a changed store that nobody could attest",
    "replies.unsent": "an answer that could not be sent",
    "feed.crowded": "a connection given up because nothing moved on it",
}
_LOST = {
    "before": "a request lost before the commit",
    "after": "a reply lost after the commit",
    "late": "a request that came late, after its repetition",
}
_WRITES = {
    "before": "a write that failed before it was on the disk",
    "after": "a write that failed after it was on the disk",
    "lost unconfirmed": "a write that a crash undid",
    "kept unconfirmed": "a write that a crash left unconfirmed",
}
_REASONS = {
    "payload: is not JSON": "a mistake that cannot be decoded",
    "time: another day": "another day's event",
    "exec_id: was used": "an exec id reused",
    "price, quantity: a total": "a total out of range",
}
_ENDS = {
    "lapsed": "a hold that lapsed",
    "confirmed": "a reservation confirmed",
    "released": "a reservation released",
}


def sights(play: Play) -> set[str]:
    """Say what was seen in a play."""
    seen = {_LOGGED[line["event"]] for line in play.world.logs if line["event"] in _LOGGED}
    for link in play.world.links:
        seen |= {_LOST[kind] for kind, count in link.losses.items() if count}
    for start, name in _REASONS.items():
        reasons = (line.get("reason", "") for line in play.world.logs if line["event"] == "event.dead")
        seen |= {name} if any(reason.startswith(start) for reason in reasons) else set()
    for outcome, name in {"refused": "a rate refused", "set": "a rate set"}.items():
        seen |= {name} if outcome in play.world.truth.outcomes else set()
    for (_, _), book in play.laws.books():
        seen |= set(_of_changes(book)) | set(_of_journal(book))
    seen |= set(_of_disk(play.world.disk)) | set(_of_counts(play))
    return seen | play.noticed | set(_of_decisions(play)) | set(_of_messages(play))


def _of_disk(disk: Disk | None) -> Iterator[str]:
    if disk is None:
        return
    yield from (name for kind, name in _WRITES.items() if disk.losses[kind])
    if max(disk.times.values(), default=0) > 1:
        yield "a delivery that was written down twice"


def _of_counts(play: Play) -> Iterator[str]:
    counters = play.traffic.counters
    if any(epoch != f"{source}0" for _, source, epoch in counters.sent):
        yield "a source that began to count anew"
    for (_, source, _), runs in play.laws.taken_down.runs.items():
        starts = [run.first for _, run in runs if run.first <= run.last]
        if source and starts != sorted(starts):
            yield "a number that came late"
    for count, told in counters.told.items():
        if told > max(counters.sent[count]):
            yield "a last number that only a heartbeat told of"
        if told > len(counters.sent[count]):
            yield "a number that never came"


def _of_changes(book: Book) -> Iterator[str]:
    assert book.pool is not None
    for change in book.changes:
        phase = phase_at(book.pool.schedule, change.time_ms)
        if (change.kind, change.was, change.now) == ("status", Status.SUSPENDED, Status.OPEN):
            if phase is Phase.OPENING:
                yield "a resume in the auction"
            elif change.reason == "clock" and change.balance_fen > 0:
                yield "a suspension that lasts to 09:30"
        if change.kind == "status" and change.now == Status.EXHAUSTED:
            yield "an exhaustion"
        if change.kind == "status" and (change.was, change.reason) == (Status.EXHAUSTED, "more"):
            yield "a reopening"


def _of_journal(book: Book) -> Iterator[str]:
    known: dict[str, list[str]] = {}
    for entry in book.journal:
        if entry.is_act:
            continue
        what, order_id = entry.event.split(" ")[:2]
        before = known.setdefault(order_id, [])
        yield from {_ENDS[what]} if what in _ENDS else ()
        if what == "fill" and before[-1:] in (["cancelled"], ["rejected"]):
            yield "a late fill after a cancel"
        if what == "new" and before and before[0] in {"fill", "bust", "cancelled", "rejected"}:
            yield "a fact before its order"
        if "spent_order" in entry.violations:
            yield "a spent order that was sent all the same"
        if "refused_traded" in entry.violations:
            yield "an order that was refused and trades"
        before.append(what)


def _of_decisions(play: Play) -> Iterator[str]:
    for applied in play.world.truth.applied:
        outcome, verdict = applied.decision.outcome, applied.decision.verdict
        if outcome is Outcome.DUPLICATE and verdict not in {None, Verdict.ACCEPTED}:
            yield "a duplicate after a refusal"
        if outcome is Outcome.ID_REUSED:
            yield "an id reused"
        if verdict is Verdict.INSUFFICIENT:
            yield "an order refused as insufficient"
        if applied.today > applied.day:
            yield "leftovers of a day taken in after its midnight"


def _of_messages(play: Play) -> Iterator[str]:
    for message in play.world.broker.messages:
        if message.topic.startswith(f"connect/{PoolName.SB_SZ}/"):
            yield "a pool of another daemon's"
        decoded = play.laws.decoded(message)
        if decoded and decoded.mistakes and decoded.numbers:
            yield "a number of a dead letter"

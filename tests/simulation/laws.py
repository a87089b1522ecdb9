"""What must hold in every play: some of it at each acknowledgement, the rest when all has come to rest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from functools import cached_property
from typing import Any

import msgspec

from quota.decision import PoolName, Verdict
from quota.errors import LedgerCorrupt
from quota.events import NewOrder
from quota.gate.answers import Result
from quota.journal import line
from quota.memory import Book
from quota.proof.history import Call, complaints
from quota.proof.retrace import Terms
from quota.proof.verify import verify
from tests.folded import Record
from tests.simulation.broker import Message
from tests.simulation.cast import calendar
from tests.simulation.counted import missing_now
from tests.simulation.kept import misrecorded
from tests.simulation.model import modelled
from tests.simulation.served import Heard, Served, check
from tests.simulation.store import done_now
from tests.simulation.world import Broken


class Laws(Served):
    """Watches a world, and judges it when it is over."""

    def hold(self) -> None:
        """Hold everything; raises Broken."""
        self._catch_up()
        check(not self.broken, self.broken[:3])
        check(not self.world.loop.accidents, self.world.loop.accidents)
        check(not self.world.broker.flooded, "more was published unconfirmed than the broker takes")
        self._every_message_was_served_once()
        self._nothing_was_lost_and_nothing_invented()
        self._every_event_is_of_its_day()
        self._every_change_was_told()
        self._what_never_came_is_missing()
        for wrong in misrecorded(self.world, self.books()):
            raise Broken(wrong)
        self._replies_are_one_verdict_each_and_in_order()
        for (pool, day), book in self.books():
            self._journal_is_whole(pool, day, book)
            self._model_agrees(pool, day, book)
            self._who_came_first_was_served_first(pool, day, book)

    def books(self) -> Iterator[tuple[tuple[PoolName, str], Book]]:
        """Every day of every pool, as it was at its end."""
        yield from self.world.truth.over.items()
        for pool in self.world.pools:
            book = self.world.truth.books[pool]
            if book.pool is not None:
                yield (pool, book.pool.trading_day), book

    def _every_message_was_served_once(self) -> None:
        for message in self.world.broker.messages:
            came_after_all = message.published > self.rested and not message.acknowledged
            check(
                came_after_all or message.acknowledged == 1,
                f"acknowledged {message.acknowledged} times: {message.topic} {message.payload[:80]!r}",
            )

    @cached_property
    def _published(self) -> dict[tuple[PoolName, str], list[Message]]:
        """Where each event was published, by its line: first things first."""
        lines: dict[tuple[PoolName, str], list[Message]] = defaultdict(list)
        for message in self.world.broker.messages:
            decoded = self.decoded(message)
            for event in decoded.events if decoded else ():
                assert decoded is not None
                assert decoded.pool is not None
                lines[decoded.pool, line(event)].append(message)
        return lines

    def _nothing_was_lost_and_nothing_invented(self) -> None:
        """Every event that was published was taken in, and none that was not."""
        published = self._published
        taken = {(applied.pool, line(applied.event)) for applied in self.world.truth.applied}
        for lost in published.keys() - taken:
            raise Broken(f"{lost}: was published and never taken in")
        for invented in taken - published.keys():
            raise Broken(f"{invented}: was taken in and never published")
        for pool in self.world.pools:
            places = {key: place for place, key in enumerate(published)}
            first = dict.fromkeys(
                (pool, line(applied.event)) for applied in self.world.truth.applied if applied.pool == pool
            )
            taken_at = [places[key] for key in first]
            check(taken_at == sorted(taken_at), f"{pool}: taken in out of order")

    def _every_event_is_of_its_day(self) -> None:
        """What was published on a day that was opened counts for it; days open that trade, and no others."""
        days = {key for key, _ in self.books()}
        for pool, day in days:
            trades = calendar().trades(pool, date.fromisoformat(day))
            check(trades, f"{pool}: {day} was opened and does not trade")
        seen = set()
        for applied in self.world.truth.applied:
            key = applied.pool, line(applied.event)
            if key in seen:
                continue
            seen.add(key)
            published_on = self._published[key][0].day
            if (applied.pool, published_on) not in days:
                continue  # a day on which no daemon could open the pool: what was sent then is nobody's
            dated = applied.event.market_date
            if dated is None:
                check(applied.day <= published_on, f"{key}: of {published_on}, was counted for {applied.day}")
            elif dated.isoformat() == published_on:
                check(applied.day == published_on, f"{key}: of {published_on}, met {applied.day}")

    def _every_change_was_told(self) -> None:
        """Each change of status or level was told at least once, and the last report is right."""
        alerts, reports = set(), dict[str, dict[str, Any]]()
        for _, topic, payload in self.world.broker.heard:
            if topic.endswith("/alerts"):
                alert = msgspec.json.decode(payload)
                alerts.add((alert["pool"], alert["kind"], str(alert["from"]), str(alert["to"]), alert["seq"]))
            elif topic.endswith("/status"):
                reports[topic.split("/")[1]] = msgspec.json.decode(payload)
        for (pool, day), book in self.books():
            for change in book.changes:
                if change.kind in {"status", "level"}:
                    told = (pool, change.kind, change.was, change.now, change.seq)
                    check(told in alerts, f"{pool} {day}: nobody was told of {change}")
        for pool in self.world.pools:
            now = self.world.truth.books[pool].pool
            if now is None:
                continue
            said = tuple(reports[pool][name] for name in ("trading_day", "seq", "balance_fen", "status"))
            check(
                said == (now.trading_day, now.seq, now.balance_fen, now.status),
                f"{pool}: told {said}, is {now}",
            )

    def _what_never_came_is_missing(self) -> None:
        """The numbers that no source has sent are missing, and no others."""
        counters = self.desk.traffic.counters
        for wrong in self.taken_down.wrong(counters):
            raise Broken(wrong)
        for pool in self.world.pools:
            wanted, there = self.taken_down.missing(pool, counters), missing_now(self.world, pool)
            check(wanted == there, f"{pool}: missing are {sorted(wanted)}, the store says {sorted(there)}")

    def _replies_are_one_verdict_each_and_in_order(self) -> None:
        verdicts: dict[tuple[str, str, int, str], set[str]] = defaultdict(set)
        last: Counter[tuple[str, str]] = Counter()
        day: dict[tuple[str, str], str] = {}
        for heard in self._replies:
            reply = heard.reply
            days = self._days_of(heard) if reply["seq"] is not None else []
            is_one = len(days) < 2  # else nobody can tell which day's it is
            if reply["verdict"] != "id_reused" and reply["seq"] is not None and is_one:
                verdicts[heard.pool, reply["order_id"], reply["seq"], "".join(days)].add(reply["verdict"])
            if reply["replayed"] or reply["seq"] is None or reply["verdict"] == "id_reused":
                continue
            whose, today = (heard.pool, heard.source), self._day_of(heard)
            if day.get(whose) != today:
                day[whose], last[whose] = today, 0
            check(not today or reply["seq"] > last[whose], f"{heard}: answered out of order")
            last[whose] = reply["seq"]
        for whose_verdict, said in verdicts.items():
            check(len(said) == 1, f"{whose_verdict}: has the verdicts {said}")

    def _day_of(self, heard: Heard) -> str:
        """Tell on which day the number of a reply was given to its order; empty where it cannot be told."""
        days = self._days_of(heard)
        return days[0] if len(days) == 1 else ""

    def _days_of(self, heard: Heard) -> list[str]:
        """Tell on which days the number of a reply was given to its order."""
        reply, days = heard.reply, list[str]()
        for (pool, day), book in self.books():
            if pool == heard.pool and 0 < reply["seq"] <= len(book.journal):
                entry = book.journal[reply["seq"] - 1]
                days += [day] if entry.event.startswith(f"new {reply['order_id']} ") else []
        return days

    def _journal_is_whole(self, pool: PoolName, day: str, book: Book) -> None:
        seqs = [entry.seq for entry in book.journal]
        check(seqs == list(range(1, len(seqs) + 1)), f"{pool} {day}: seq {seqs}")
        lines = Counter(entry.event for entry in book.journal if entry.verdict is not None)
        ids = Counter(text.split(" ")[1] for text, _ in lines.items())
        ends = [entry.event.split(" ") for entry in book.journal if entry.event.startswith(("lapsed", "rel"))]
        spent = {order_id for _, order_id in ends}
        twice = [order_id for order_id, count in ids.items() if count > 1 and order_id not in spent]
        check(not twice, f"{pool} {day}: two verdicts for {twice}")
        record = Record()
        record.books[pool] = book
        try:
            found = done_now(verify(record, pool))
        except LedgerCorrupt as error:
            raise Broken(f"{pool} {day}: {error}") from error
        check(not found.differences, f"{pool} {day}: {found.differences}")

    def _model_agrees(self, pool: PoolName, day: str, book: Book) -> None:
        """Give a model what was published, reserved and done, in the journal's order: it ends the same."""
        said = {text for known, text in self._published if known == pool}
        model = modelled(self.world.truth, pool, day, book, said | self.desk.said(pool))
        for part in ("pool", "orders", "executions", "holds", "journal"):
            ours, theirs = getattr(model, part), getattr(book, part)
            check(ours == theirs, f"{pool} {day}: {part} is {theirs}, the model has {ours}")

    def _who_came_first_was_served_first(self, pool: PoolName, day: str, book: Book) -> None:
        assert book.pool is not None
        calls = [call for call in self._calls() if call.pool == pool and self._called_on(call, day)]
        for complaint in complaints(calls, book.journal, Terms.of(book.pool)):
            raise Broken(f"{pool} {day}: {complaint}")

    def _called_on(self, call: Call, day: str) -> bool:
        """Whether a call is of that day, or may be: one without an answer only tells when it was asked."""
        if call.outcome is Result.UNKNOWN:
            return True
        if call.seq is None or call.verdict is Verdict.ID_REUSED:
            return False
        said = {"seq": call.seq, "order_id": call.order_id}
        return self._day_of(Heard(0, call.pool, "", said)) == day

    def _calls(self) -> Iterator[Call]:
        """List what gateways and sources asked for and heard, all by the clock of our steps."""
        yield from self.desk.calls
        asked: dict[tuple[str, str], list[tuple[Message, NewOrder]]] = defaultdict(list)
        for message in self.world.broker.messages:
            decoded = self.decoded(message)
            for event in decoded.events if decoded else ():
                if isinstance(event, NewOrder):
                    assert decoded is not None
                    asked[str(decoded.pool), event.order_id].append((message, event))
        for heard in self._replies:
            news = asked[heard.pool, heard.reply["order_id"]]
            if len({(event.side, event.price_milli, event.quantity) for _, event in news}) == 1:
                message, event = news[0]
                steps = message.published, heard.step
                yield self.desk.call(PoolName(heard.pool), event, steps, heard.reply)

"""Days that are lost in every way and put back: what finds faults in the functions that do it."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from quota.decision import Attest, Side, Status, Verdict, Violation
from quota.doubt import Claim
from quota.events import Bust, Cancelled, Fill
from quota.ledger import Act, Replayed
from quota.memory import MemoryLedger
from quota.pool import Opening
from quota.store.record import keys
from tests.agreement.past import Past, as_it_was, between, finished, played, rebuilt
from tests.agreement.state import DAY, HOUR_MS, NEVER_MS, identity, schedule_of
from tests.agreement.trading import buy, fill
from tests.agreement.twin import Twin


async def probe_replay(twin: Twin) -> None:
    """Put days back, whole ones and some that cannot be; raises AssertionError where the two differ."""
    for seed in range(8):
        rng = Random(seed)
        past = await played(twin.now_ms, rng, steps=60)
        await rebuilt(await emptied(twin, past), past, rng)
        as_it_was(twin.model, past)
        await twin.tick(publish=False)
        await twin.agree()
    past = await between(twin.now_ms)
    await _spoilt(await emptied(twin, past), past)
    await _forked(await emptied(twin, past), past)
    await _meanwhile(await emptied(twin, past), past)
    await _believed(await emptied(twin, past), past)
    await _lost_again(await emptied(twin, past), past)
    await _replaced(twin, past)
    await _overslept(await emptied(twin, past))


async def emptied(twin: Twin, past: Past) -> Twin:
    """Empty a twin."""
    await twin.client.flushall()
    twin.model, twin.name = MemoryLedger(lambda: twin.now_ms), past.name
    twin.model.run_id = await identity(twin.client)
    return twin


async def _spoilt(twin: Twin, past: Past) -> None:
    """Entries that say what cannot be stop it, with their number, and nothing of their page is written."""
    entries = past.journal
    spoils = (
        (2, {"balance_fen": 1}, "seq 2: balance_fen: is 800 here"),
        (2, {"violations": (Violation.OVERFILLED,)}, 'seq 2: violations: are "" here'),
        (2, {"event": "new b0 buy 1.00 1"}, "seq 2: event: changes nothing"),
        (2, {"event": "confirmed b0"}, "seq 2: event: changes nothing"),
        (7, {"event": "new b7 buy 1.00 1", "balance_fen": 400}, "seq 7: event: changes nothing"),
        (7, {"was_fen": 1}, "seq 7: was_fen: the limit is 1000"),
        (7, {"limit_fen": 0}, "seq 7: limit: must be above zero and at most 4500000000000000 fen"),
    )
    for seq, changed, why in spoils:
        spoilt = [replace(entry, **changed) if entry.seq == seq else entry for entry in entries]
        assert await twin.replay(past.terms, spoilt) == Replayed(0, why)
    await twin.replay(past.terms, entries[:3])
    for name, value in (
        ("event", "new x buy 1.00 1"),
        ("verdict", Verdict.CLOSED),
        ("time_ms", 1),
        ("balance_fen", 1),
    ):
        other = [replace(entries[0], **{name: value}), *entries[1:]]
        stopped = await twin.replay(past.terms, other)
        assert stopped == Replayed(3, "seq 1: event: another one was put back before")


async def _believed(twin: Twin, past: Past) -> None:
    """Whether the pool was exhausted is taken from the entries, against the clock too."""
    words = (Status.OPEN, Status.EXHAUSTED, Status.HALTED, Status.HALTED, Status.OPEN, Status.EXHAUSTED)
    entries = [replace(entry, status=word) for entry, word in zip(past.journal, words, strict=False)]
    for size in range(1, len(words) + 1):
        assert (await twin.replay(past.terms, entries[:size])).detail == ""
    await twin.adopt(past.terms.trading_day, len(words))
    await twin.agree()


async def _forked(twin: Twin, past: Past) -> None:
    """What the store took since comes behind; what it knew otherwise is passed over."""
    await twin.replay(past.terms, past.journal[:5])
    await twin.adopt(past.terms.trading_day, 5)
    sell = replace(buy("s"), side=Side.SELL)
    await twin.apply(buy("late"), sell, fill("b0"), fill("b1"), buy("refused"), Cancelled(order_id="b2"))
    await twin.apply(buy("b7"), buy("back"))
    await twin.release("b5")
    await twin.release("nobody")
    await twin.operate(Act(act="limit", limit_fen=3_000, reason="even more", user="ann", host="desk"))
    await twin.operate(Act(act="halt", reason="mine", user="ann", host="desk"))
    since = twin.model.books[twin.name].journal[5:]
    since = [*since, *(replace(past.journal[-1], event=line, verdict=None) for line in _UNHEARD)]
    await finished(twin, past, since)
    assert await twin.attest_last(0) in {"attested", "already"}
    await twin.agree()


BUST = Bust(order_id="b1", exec_id="b1-1", side=Side.BUY, price="1.00", quantity=1)
_UNHEARD = (
    "new unheard buy 1.00 1",
    "new b5 buy 1.00 1",
    "new b0 buy 1.00 1",
    "fill b0 b0-1 buy 1.00 1 time=2026-11-20T10:00:00+08:00",
    "bust b1 b1-1 buy 1.00 1",
    "lapsed b0",
    "confirmed b3",
    "released b3",
)


async def _meanwhile(twin: Twin, past: Past) -> None:
    """What the pool took while the day was put back is put back in the last step."""
    await twin.replay(past.terms, past.journal[:5])
    await twin.adopt(past.terms.trading_day, 5)
    await twin.replay(past.terms, past.journal)
    sell = replace(buy("s"), side=Side.SELL)
    await twin.apply(buy("late"), sell, fill("b0"), fill("b1"), BUST, Cancelled(order_id="b3"), buy("no"))
    await twin.reserve(replace(sell, order_id="s2", source="gw1"))
    await twin.apply(replace(fill("traded"), price="2.50"), fill("held0"))
    await twin.reserve(buy("held0"), HOUR_MS)
    await twin.release("b5")
    await twin.operate(Act(act="limit", limit_fen=9_000, reopen=True, reason="more", user="ann", host="desk"))
    await twin.operate(Act(act="halt", reason="mine", user="ann", host="desk"))
    done = await twin.adopt(past.terms.trading_day, len(past.journal), 5)
    assert done.detail == ""
    assert done.seq > len(past.journal)
    await twin.agree()


async def _lost_again(twin: Twin, past: Past) -> None:
    """A store that changes before anybody resumed the day has it put back again; what was lost stays."""
    lost = f"{keys(twin.name)[0]}:{past.terms.trading_day}.lost"
    await twin.open_day(
        Opening(
            trading_day=DAY,
            limit_fen=500,
            rate="1.00000",
            schedule=schedule_of("morning", twin.now_ms),
            origin="at",
            lost=True,
        )
    )
    await twin.replay(past.terms, past.journal[:1])
    await twin.client.pexpire(keys(twin.name, "rebuilt")[0], 60_000)
    await twin.replay(past.terms, past.journal[:2])
    assert await twin.client.pttl(keys(twin.name, "rebuilt")[0]) <= 60_000
    for times in range(3):
        await finished(twin, past, [])
        assert (await twin.attest(Claim(0, 0, NEVER_MS))).outcome is Attest.REFUSED
        await twin.store_changes()
        await twin.apply(buy(f"again{times}"), fill("b0"))
        await twin.agree()
        assert await twin.attest_last(0) is Attest.REFUSED
        assert await twin.client.exists(lost, f"{lost}?", f"{lost}2") == 1
    await finished(twin, past, [])
    assert await twin.attest_last(0) is Attest.ATTESTED
    await twin.store_changes()
    await finished(twin, past, [])
    assert await twin.client.exists(lost, f"{lost}2") == 2
    await twin.agree()


async def _replaced(twin: Twin, past: Past) -> None:
    """Earlier days give way and are kept, later and attested ones do not."""
    for day, late in (("2026-11-20", True), (DAY, False), ("2026-11-24", True), (DAY, True), (DAY, None)):
        await emptied(twin, past)
        await twin.open_day(
            Opening(
                trading_day=day,
                limit_fen=500,
                rate="1.00000",
                schedule=schedule_of("before" if late is None else "morning", twin.now_ms),
                origin="at",
                open_late=late is True,
                lost=late is None,
            )
        )
        await twin.set_rate("2026-11-25", "0.90000")
        await twin.replay(past.terms, past.journal)
        assert (await twin.adopt(DAY, len(past.journal), 1)).detail
        await twin.adopt(DAY, len(past.journal), 0)
        await twin.agree()
        await twin.adopt(DAY, len(past.journal), 0)
        await twin.apply(fill("b5"), BUST)
        await twin.agree()
    past.book.aside = None
    await emptied(twin, past)
    await twin.replay(replace(past.terms, trading_day="2026-11-20"), past.journal[:2])
    await twin.replay(past.terms, past.journal[:3])
    await twin.adopt(DAY, 3)
    await twin.agree()


async def _overslept(twin: Twin) -> None:
    """Holds that ended before trading began, unnoticed, are judged as of then, on whatever page."""
    past = Past(twin.now_ms - 30 * HOUR_MS - HOUR_MS // 2)
    await past.open_day(
        Opening(
            trading_day=DAY,
            limit_fen=500,
            rate="1.00000",
            schedule=schedule_of("opening", past.now_ms),
            origin="at",
            open_late=True,
        )
    )
    for number in range(4):
        await past.reserve(buy(f"e{number}", 2), HOUR_MS // 2)
    await past.age(3)
    await past.apply(buy("then"), Fill(order_id="e0", exec_id="x", side=Side.BUY, price="1.00", quantity=1))
    for size in (1, 4, 50):
        await emptied(twin, past)
        for start in range(0, len(past.journal), size):
            assert (await twin.replay(past.terms, past.journal[start:][:size])).detail == ""
        await finished(twin, past, [])
        as_it_was(twin.model, past)

"""The checker accepts what was fair, and rejects by its name whatever was not."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from quota.decision import PoolName, Side, Status, Verdict
from quota.doubt import Claim
from quota.errors import ConfigError, LedgerCorrupt
from quota.events import Cancelled, NewOrder
from quota.gate.answers import Result
from quota.journal import Entry
from quota.pool import Opening
from quota.proof.flaws import Flaw
from quota.proof.history import Call, answered, complaints, read_history
from quota.proof.retrace import Retrace, Terms
from tests.agreement.state import DAY, NEVER_MS, schedule_of
from tests.histories import NOON_MS, Day, lived
from tests.tampering import APART_NS, TAMPERINGS


def order(order_id: str, yuan: int, side: Side = Side.BUY) -> NewOrder:
    return NewOrder(order_id=order_id, side=side, price="1.00", quantity=yuan)


def quiet_day(name: PoolName = PoolName.NB_SH, limit_fen: int = 1000) -> Day:
    """A day in its opening phase whose gateways wait for every answer."""
    opening = Opening(
        trading_day=DAY,
        limit_fen=limit_fen,
        rate="1.00000",
        schedule=schedule_of("opening", NOON_MS),
        resumes_in_opening=name.northbound,
        origin="at",
        open_late=True,
    )
    return Day(random.Random(1), name, opening, gives_up=0)


async def told() -> Day:
    """A short day with a bit of everything; each line's seq stands behind it."""
    day = quiet_day()
    await day.open()

    def ask(order_id: str, yuan: int, side: Side = Side.BUY) -> None:
        day.ns += APART_NS
        day.ask_once(order(order_id, yuan, side))

    ask("b0", 6)  # 1 accepted
    ask("b1", 5)  # 2 accepted, the balance is below zero
    ask("b2", 1)  # 3 suspended
    await day.report(Cancelled(order_id="b1"))  # 4
    ask("b3", 1)  # 5 accepted
    day.stand_at("morning")
    ask("s0", 1, Side.SELL)  # 6 accepted
    await day.act("halt")  # 7
    ask("b4", 1)  # 8 halted
    await day.act("resume")  # 9
    ask("b5", 1)  # 10 accepted
    ask("b5", 1)  # a replay
    ask("b5", 2)  # id_reused
    await day.report(order("b5", 1))  # 11 confirmed
    ask("b6", 1)  # 12 accepted
    await day.ledger.release(day.name, "b6")  # 13
    ask("b6", 1)  # id_reused
    ask("b7", 5)  # 14 accepted, the pool is exhausted
    ask("b8", 1)  # 15 exhausted
    await day.report(Cancelled(order_id="b7"))  # 16
    ask("b9", 1)  # 17 exhausted
    await day.act("limit", 2000, reopen=True)  # 18
    ask("b10", 1)  # 19 accepted
    ask("b11", 1)  # 20 accepted, but the answer was lost
    day.calls[-1] = lost(day.calls[-1])
    ask("b11", 1)  # a replay
    day.stand_at("break")
    ask("b12", 1)  # 21 closed
    return day


def lost(call: Call) -> Call:
    """The same call, whose answer never came."""
    return replace(
        call,
        outcome=Result.UNKNOWN,
        verdict=None,
        seq=None,
        balance_fen=None,
        replayed=False,
        answered_ns=None,
    )


def flaws(calls: Sequence[Call], entries: Sequence[Entry], terms: Terms | None = None) -> list[Flaw]:
    return [complaint.flaw for complaint in complaints(calls, entries, terms or Terms())]


async def test_the_told_day_is_as_told_and_fair() -> None:
    day = await told()
    verdicts = {entry.seq: str(entry.verdict) for entry in day.entries if entry.verdict}
    assert verdicts == {
        1: "accepted",
        2: "accepted",
        3: "suspended",
        5: "accepted",
        6: "accepted",
        8: "halted",
        10: "accepted",
        12: "accepted",
        14: "accepted",
        15: "exhausted",
        17: "exhausted",
        19: "accepted",
        20: "accepted",
        21: "closed",
    }
    assert [entry.event for entry in day.entries if entry.seq in {11, 13}] == ["confirmed b5", "released b6"]
    assert [call.replayed for call in day.calls].count(True) == 2
    assert flaws(day.calls, day.entries) == []


@pytest.mark.parametrize("seed", range(60))
async def test_any_fair_day_is_accepted(seed: int) -> None:
    day = await lived(seed, 150)
    assert [str(complaint) for complaint in complaints(day.calls, day.entries, day.terms)] == []


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_tampering_is_rejected_by_its_name(name: str) -> None:
    flaw, tamper = TAMPERINGS[name]
    day = await told()
    calls, entries = list(day.calls), list(day.entries)
    tamper(calls, entries)
    assert flaw in flaws(calls, entries)


def test_every_flaw_has_its_tampering() -> None:
    assert {flaw for flaw, _ in TAMPERINGS.values()} == set(Flaw)


async def test_a_southbound_opening_does_not_resume() -> None:
    day = quiet_day(PoolName.SB_SH)
    await day.open()
    day.ask_once(order("a", 20))
    await day.report(Cancelled(order_id="a"))
    day.ask_once(order("b", 1))
    assert [call.verdict for call in day.calls] == [Verdict.ACCEPTED, Verdict.SUSPENDED]
    assert flaws(day.calls, day.entries, day.terms) == []
    northbound = flaws(day.calls, day.entries, Terms())
    assert Flaw.NOT_SUSPENDED in northbound


async def test_an_empty_opening_ends_the_day_when_trading_begins() -> None:
    day = quiet_day()
    await day.open()
    day.ask_once(order("a", 20))
    day.stand_at("after")
    day.ask_once(order("b", 1))
    assert [call.verdict for call in day.calls] == [Verdict.ACCEPTED, Verdict.EXHAUSTED]
    assert flaws(day.calls, day.entries) == []
    reopened = [day.entries[0], replace(day.entries[1], verdict=Verdict.CLOSED, status=Status.CLOSED)]
    assert flaws([], reopened) == [Flaw.NOT_CLOSED, Flaw.STATUS]


async def test_moments_of_different_clocks_are_not_compared() -> None:
    day = await told()
    place = next(place for place, call in enumerate(day.calls) if call.order_id == "b3")
    late = replace(day.calls[place], called_ns=10**18, answered_ns=10**18)
    assert Flaw.REAL_TIME in flaws(
        [late if call.order_id == "b3" else call for call in day.calls], day.entries
    )
    calls = [replace(late, clock="b") if call.order_id == "b3" else call for call in day.calls]
    assert flaws(calls, day.entries) == []


async def test_who_asks_for_an_order_that_came_over_mqtt_did_not_bring_it() -> None:
    day = quiet_day()
    await day.open()
    await day.report(order("a", 1))
    day.ask_once(order("b", 1))
    day.ask_once(order("a", 1))
    late = replace(day.calls[1], called_ns=10**12, answered_ns=10**12)
    assert (late.seq, late.replayed, flaws([day.calls[0], late], day.entries)) == (1, True, [])


async def test_calls_that_overlap_may_be_answered_in_any_order() -> None:
    day = await told()
    calls = [replace(call, called_ns=0, answered_ns=10**18) for call in day.calls]
    calls = [replace(call, answered_ns=None) if call.verdict is None else call for call in calls]
    assert flaws(calls, day.entries) == []


async def test_a_client_may_refuse_by_itself_once_the_pool_was_empty() -> None:
    day = await told()
    own = replace(
        day.calls[-1], order_id="own", verdict=Verdict.EXHAUSTED, seq=None, balance_fen=None, local=True
    )
    assert flaws([*day.calls, own], day.entries) == []
    assert flaws([own], day.entries[:1]) == [Flaw.NOT_EXHAUSTED]


async def test_a_day_that_was_not_open_yet_answers_without_numbers() -> None:
    day = await told()
    nothing = {"seq": None, "balance_fen": None, "called_ns": 1, "answered_ns": 2}
    early = replace(day.calls[-1], order_id="early", verdict=Verdict.CLOSED, **nothing)
    assert flaws([early, *day.calls], day.entries) == []
    assert flaws([early], []) == []


async def test_a_halt_that_no_act_began_is_counted_and_no_flaw() -> None:
    day = quiet_day()
    await day.open()
    day.ask_once(order("a", 1))
    for name in ("first", "second"):
        day.ledger.run_id = name
        day.ask_once(order(f"{name} store".replace(" ", "-"), 1))
        await day.ledger.attest(day.name, [Claim(0, 0, NEVER_MS)])
        day.ask_once(order(f"{name} attested".replace(" ", "-"), 1))
    journal = Retrace(day.terms)
    assert [list(journal.take(entry)) for entry in day.entries] == [[]] * 5
    assert journal.unheard_halts == 2
    assert list(answered(day.calls, journal)) == []


async def test_an_entry_that_cannot_be_read_stops_the_checker() -> None:
    day = await told()
    with pytest.raises(LedgerCorrupt):
        flaws([], [replace(day.entries[0], event="new b0 buy cheap 1")])


async def test_the_checker_needs_linear_time() -> None:
    day = quiet_day(limit_fen=10**9)
    await day.open()
    day.ask_once(order("first", 1))
    calls, entries = list(day.calls), list(day.entries)
    for number in range(2, 20_001):
        left = {"seq": number, "balance_fen": entries[-1].balance_fen - 100}
        entries.append(replace(entries[0], event=f"new o{number} buy 1.00 1", **left))
        calls.append(replace(calls[0], order_id=f"o{number}", **left))
    few, many = _least_s(calls[:2_500], entries[:2_500]), _least_s(calls, entries)
    assert many < few * 8 * 3, (few, many)


def _least_s(calls: Sequence[Call], entries: Sequence[Entry]) -> float:
    """The shortest of several times, which other work disturbs least."""
    times = []
    for _ in range(3):
        began = time.process_time()
        assert flaws(calls, entries) == []
        times.append(time.process_time() - began)
    return min(times)


# Files.


async def test_a_history_reads_back_and_a_torn_last_line_does_not_count(tmp_path: Path) -> None:
    day = await told()
    path = tmp_path / "gw.jsonl"
    lines = [msgspec.json.encode(call) + b"\n" for call in day.calls]
    path.write_bytes(b"".join(lines) + lines[0][:40])
    assert list(read_history(path)) == day.calls


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pool", "NB-XX"),
        ("side", "both"),
        ("price", "1,00"),
        ("outcome", "maybe"),
        ("verdict", "fine"),
        ("called_ns", "now"),
        ("seq", 1.5),
        ("clock", None),
    ],
)
async def test_a_line_that_is_no_call_is_named_by_file_and_number(
    tmp_path: Path, field: str, value: object
) -> None:
    day = await told()
    path = tmp_path / "gw.jsonl"
    lines = [msgspec.to_builtins(call) for call in day.calls[:3]]
    lines[1][field] = value
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ConfigError, match=r"history .*gw\.jsonl:2: "):
        list(read_history(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"history .*none\.jsonl: No such file"):
        list(read_history(tmp_path / "none.jsonl"))

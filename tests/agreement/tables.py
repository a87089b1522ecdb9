"""Tables that a domain person can read, and what they do to a pool.

A file holds several; each begins with ``== title`` and a line of settings. Left of the bar
stands what happens (event, id, amount, phase), right of it what comes of it (verdict, balance in
yuan, status). Columns are two spaces apart; ``-`` is nothing; a line with ``#`` is a remark.

Time only moves forward: ``closed`` is before the opening at first and after the close later,
``continuous`` is the next stretch of it. ``again`` marks a replayed answer; violations follow
a comma. ``reserve buy`` may be held for some hours (``1.00 x 1 for 2``), which ``later`` lets pass
without a look.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from quota.decision import Admission, Decision, Outcome, PoolName, Side, Verdict
from quota.events import Bust, Cancelled, Event, Fill, NewOrder, Rejected
from quota.ledger import Act, Released
from quota.money import fen_to_yuan, yuan_to_fen
from quota.pool import Opening
from quota.rules import ANOTHER_DAY, NO_DAY
from tests.agreement.state import DAY, HOUR_MS, PLACES, schedule_of
from tests.agreement.twin import Solo

CASES = Path(__file__).parent / "cases"
_PHASES = ("closed", "opening", "continuous", "break", "continuous", "closing", "closed")
_WHEN = {ANOTHER_DAY: "another day", NO_DAY: "no day"}
_KINDS: dict[str, type[Fill | Bust]] = {"fill": Fill, "bust": Bust}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    line: str
    event: str
    id: str
    amount: str
    phase: str
    expected: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a file."""

    title: str
    settings: dict[str, str]
    rows: tuple[Row, ...]


def all_tables() -> list[Table]:
    """Read every table of every file."""
    return [table for path in sorted(CASES.glob("*.txt")) for table in tables_of(path)]


def tables_of(path: Path) -> list[Table]:
    """Read the tables of a file."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    starts = [place for place, line in enumerate(lines) if line.startswith("== ")] + [len(lines)]
    return [_table(path.stem, lines[begin:end]) for begin, end in pairwise(starts)]


def _table(stem: str, lines: list[str]) -> Table:
    words = lines[1].split()
    assert " ".join(lines[2].split()) == "event id amount phase | verdict balance status", lines[2]
    settings = dict(zip(words[::2], words[1::2], strict=True))
    return Table(f"{stem}: {lines[0][3:]}", settings, tuple(_row(line) for line in lines[3:]))


def _row(line: str) -> Row:
    left, right = (re.split(r" {2,}", half.strip()) for half in line.split("|"))
    event, order_id, amount, phase = left
    verdict, balance, status = right
    return Row(line, event, order_id, amount, phase, (verdict, balance, status))


# Running one.


async def run(table: Table, world: Solo) -> None:
    """Do what a table says; raises AssertionError where something else comes of it."""
    world.name = PoolName(table.settings["pool"])
    if "limit" in table.settings:
        await _open(table, world, DAY, table.settings["limit"])
    for row in table.rows:
        await _move(world, row.phase)
        verdict = await _do(table, world, row)
        pool = world.seen
        state = (fen_to_yuan(pool.balance_fen), str(pool.status)) if pool else ("-", "closed")
        found = (verdict, *state)
        assert found == row.expected, f"{table.title}\n{row.line}\n{'  '.join(found)}"
        await world.agree()


async def _move(world: Solo, phase: str) -> None:
    """Let time pass until ``phase``; where it already stands, time does not pass."""
    here = PLACES.index(world.place)
    if _PHASES[here] == phase:
        return
    world.place = PLACES[_PHASES.index(phase, here)]
    if world.pool is not None:
        await world.stand_at(world.place)


async def _open(table: Table, world: Solo, day: str, limit: str, *, late: bool = False) -> str:
    settings = table.settings
    if world.pool is not None and day != world.pool.trading_day and not late:
        world.place = "before"
    opening = Opening(
        trading_day=day,
        limit_fen=yuan_to_fen(limit),
        rate=settings.get("rate", "1.00000"),
        schedule=schedule_of(world.place, world.now_ms),
        admission=Admission(settings.get("admission", "positive_balance")),
        resumes_in_opening=settings.get("opening_resumes", "yes") == "yes",
        levels=tuple(int(word) for word in settings.get("levels", "50,70,90,100").split(",")),
        origin="at",
        open_late=settings.get("open_late", "no") == "yes",
    )
    said = await world.open_day(opening)
    return "refused" if isinstance(said, str) else "opened" if said else "already"


async def _do(table: Table, world: Solo, row: Row) -> str:
    """Do what a row says and tell what came of it."""
    name, _, side = row.event.partition(" ")
    said = "-"
    match name:
        case "open":
            said = await _open(table, world, row.id, row.amount, late=side == "late")
        case "check":
            said = await world.check(Side(side))
        case "rate":
            said = await world.set_rate(DAY, row.amount)
        case "tick":
            await world.tick(publish=True)
        case "halt" | "resume" | "limit" | "reopen":
            said = await _act(world, name, row.amount)
        case "later":
            await world.age(int(row.amount))
        case "store":
            await (world.store_changes() if side == "changes" else world.version_1())
        case "attest":
            said = await world.attest_last(int(row.amount), wrong=side == "wrongly", long_ago=side == "late")
        case "reserve" | "release":
            said = await _ask(world, name, side, row)
        case _:
            (decision,) = await world.apply(_event(row.event, row))
            said = _said(decision, world)
    return said


async def _ask(world: Solo, name: str, side: str, row: Row) -> str:
    """Ask as gateways do."""
    if name == "release":
        released = await world.release(row.id)
        return str(released.outcome) if isinstance(released, Released) else "malformed"
    amount, _, hours = row.amount.partition(" for ")
    order = _event(side, replace(row, amount=amount))
    assert isinstance(order, NewOrder)
    decision = await world.reserve(order, int(hours) * HOUR_MS if hours else None)
    return "malformed" if decision.outcome is Outcome.DEAD else _said(decision, world)


async def _act(world: Solo, name: str, amount: str) -> str:
    again = name == "reopen"
    limit = 0 if amount == "-" else yuan_to_fen(amount)
    name = "limit" if again else name
    said = await world.operate(
        Act(act=name, limit_fen=limit, reopen=again, reason="test", user="u", host="h")
    )
    pool = world.pool
    return "done" if pool is not None and said == pool.status else "refused"


def _event(name: str, row: Row) -> Event:
    """Build the event of a row: its id is order[/exec][@date]."""
    ids, _, date = row.id.partition("@")
    order_id, _, exec_id = ids.partition("/")
    time = f"{date}T10:00:00+08:00" if date else ""
    if name in {"cancelled", "rejected"}:
        return (Cancelled if name == "cancelled" else Rejected)(order_id=order_id, time=time)
    price, _, quantity = row.amount.partition(" x ")
    kind, _, side = name.rpartition(" ")
    amount = (Side(side), price, int(quantity))
    if not kind:
        return NewOrder(order_id=order_id, side=amount[0], price=price, quantity=amount[2], time=time)
    return _KINDS[kind](
        order_id=order_id, exec_id=exec_id, side=amount[0], price=price, quantity=amount[2], time=time
    )


def _said(decision: Decision, world: Solo) -> str:
    """Write what came of an event, and the violations that its journal entry tells of."""
    book = world.model.books[world.name]
    fresh = decision.seq is not None and decision.outcome not in {Outcome.DUPLICATE, Outcome.ID_REUSED}
    entry = book.journal[-1] if fresh and book.journal else None
    text = _word(decision)
    for violation in entry.violations if entry else ():
        text += "" if text.endswith(violation) else f", {violation}"
    return text


def _word(decision: Decision) -> str:
    if decision.outcome is Outcome.DEAD:
        if decision.reason in _WHEN:
            return f"dead: {_WHEN[decision.reason]}"
        kind = decision.reason.rpartition("(")[2].rstrip(")")
        return f"dead again: {kind}" if decision.seq is None else f"dead: {kind}"
    if decision.verdict is None or decision.verdict is Verdict.ID_REUSED:
        return str(decision.verdict or decision.outcome)
    return f"{decision.verdict} again" if decision.replayed else str(decision.verdict)

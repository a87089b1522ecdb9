"""The report of a day as a page to print: one file without script that asks nobody for anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from html import escape
from importlib.resources import files
from typing import Final

from quota.decision import Side, Verdict, Violation
from quota.page.drawn import course
from quota.proof.report import Dead, Moment, PoolDay, Report, Terms
from quota.rules import ANOTHER_DAY

LINES: Final = 40
"""How much of a list is printed; the rest is in the JSON."""

_STYLE: Final = files("quota").joinpath("page", "printed.css").read_text("utf-8")
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_VIOLATIONS: Final = {
    Violation.REFUSED_TRADED: "an order traded that was refused",
    Violation.OVERFILLED: "more traded than was ordered",
    Violation.ABOVE_LIMIT: "a buy traded above its limit price",
    Violation.SIDE_CONFLICT: "a fill on the other side than its order",
    Violation.EXEC_REUSED: "an execution id came again with other content",
    Violation.SPENT_ORDER: "an order traded whose reservation had ended",
    Violation.OUT_OF_RANGE: "a total out of range",
}


def page(report: Report) -> str:
    """Write the page."""
    title = f"Stock Connect quota: report of {report.day}"
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>',
        _top(report),
        _summary(report),
        _record(report),
        *(_pool(day) for day in report.pools),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def yuan(fen: int) -> str:
    """Write an amount to the fen."""
    return f"{Decimal(fen).scaleb(-2):,.2f}"


def said(text: object) -> str:
    """Write somebody's words: as text, whatever stands in them and whichever way they run."""
    return f"<bdi>{escape(str(text))}</bdi>"


def _clock(at: str) -> str:
    return escape(at[11:19])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: str = "") -> str:
    """Write a table; of ``numbers`` each sign is a column: n is a number, t stays on one line."""
    marks = [{"n": ' class="n"', "t": ' class="t"'}.get(it, "") for it in numbers.ljust(len(heads), "-")]
    head = "".join(f"<th{mark}>{text}</th>" for mark, text in zip(marks, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{cell}</td>" for mark, cell in zip(marks, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _listed(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], total: int, marks: str) -> str:
    """Write a list under its title, and how much of it is left out; nothing where it is empty."""
    if not total:
        return ""
    left = total - len(rows[:LINES])
    more = f'<p class="soft">and {left:,} more</p>' if left else ""
    return f"<h3>{title}</h3>{_table(heads, rows[:LINES], marks)}{more}"


def _top(report: Report) -> str:
    came = report.delivered
    messages = f"{came.messages:,} messages with {came.bytes:,} bytes were delivered"
    when = f" from {_clock(came.first_at)} to {_clock(came.last_at)}" if came.messages else ""
    notices = [f'<p class="notice">The record is damaged: {said(flaw)}</p>' for flaw in report.flaws]
    return (
        f"<header><h1>Report of {escape(report.day)}</h1>"
        f'<p class="soft">Daily quota of Stock Connect, from the record of {said(report.daemon)}. Written '
        f"{escape(report.written_at[:19].replace('T', ' '))} by quotad {escape(report.version)}. "
        f"Amounts in yuan (RMB), times in UTC+8. {messages}{when}.</p>{''.join(notices)}</header>"
    )


def _count(day: PoolDay, side: Side, *, accepted: bool) -> int:
    counts = day.decisions.get(side, {})
    return sum(count for verdict, count in counts.items() if (verdict is Verdict.ACCEPTED) is accepted)


def _loud(count: int) -> str:
    return f'<span class="loud">{count:,}</span>' if count else "0"


def _summary(report: Report) -> str:
    heads = (
        "Pool",
        "Limit",
        "Balance at the end",
        "Lowest",
        "Buys in",
        "Refused",
        "Sells",
        "Violations",
        "Dead",
    )
    rows = [
        (
            f"<b>{day.pool}</b>",
            yuan(day.limit_fen),
            yuan(day.last.balance_fen if day.last else day.limit_fen),
            yuan(day.lowest.balance_fen if day.lowest else day.limit_fen),
            f"{_count(day, Side.BUY, accepted=True):,}",
            f"{_count(day, Side.BUY, accepted=False):,}",
            f"{_count(day, Side.SELL, accepted=True):,}",
            _loud(sum(day.violations.values())),
            _loud(day.dead.events),
        )
        for day in report.pools
    ]
    return _table(heads, rows, "tnnnnnnnn") if rows else "<p>No pool had a day.</p>"


def _pool(day: PoolDay) -> str:
    notices = []
    if day.accounts > 1:
        notices.append(f"The store lost entries: this is account {day.accounts} of the day, the last one.")
    if day.missing:
        notices.append(f"{day.missing:,} entries are missing, from number {day.first_missing[0].first} on.")
    if day.terms is None:
        notices.append("Its terms are not in the record.")
    return "".join(
        [
            f'<section class="pool"><h2>{day.pool}</h2>',
            *(f'<p class="notice">{text}</p>' for text in notices),
            _figures(day),
            course(day),
            '<div class="narrow"><div><h3>Terms</h3>',
            _terms(day.terms) if day.terms else "",
            f"</div><div>{_decisions(day)}</div></div>",
            _turns(day),
            _deeds(day),
            _broken(day),
            _dead("Dead letters", day.dead),
            f"<h3>Journal</h3><p>{day.entries:,} entries, SHA-256 <code>{day.journal_sha256}</code></p>",
            "</section>",
        ]
    )


def _figures(day: PoolDay) -> str:
    used_fen = day.limit_fen - (day.last.balance_fen if day.last else day.limit_fen)
    used = f"{used_fen / day.limit_fen:.1%} of {yuan(day.limit_fen)}" if day.limit_fen else ""
    peak = (f"{day.peak.entries:,} a second", f"at {_clock(day.peak.at)}") if day.peak else ("none", "")
    status = (str(day.last.status), f"entry {day.last.seq:,}") if day.last else ("no entry", "")
    figures = {
        "Used at the end": (yuan(used_fen), used),
        "Lowest balance": _moment(day.lowest),
        "Peak of entries": peak,
        "Status after the last": status,
    }
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}<small>{escape(more)}</small></dd></div>"
        for name, (value, more) in figures.items()
    )
    return f'<dl class="figures">{cells}</dl>'


def _moment(moment: Moment | None) -> tuple[str, str]:
    return (
        (yuan(moment.balance_fen), f"at {moment.at[11:19]}, entry {moment.seq:,}") if moment else ("none", "")
    )


def _terms(terms: Terms) -> str:
    fits = {"positive_balance": "while the balance is above zero", "must_fit": "where the balance holds them"}
    facts = {
        "Opened": f"{_clock(terms.opened_at)}{', halted: ' + said(terms.halted) if terms.halted else ''}",
        "Limit": yuan(terms.limit_fen),
        "RMB for one HKD" if terms.rate != "1.00000" else "Rate": escape(terms.rate),
        "Buys get in": fits[terms.admission],
        "Alerts at": ", ".join(f"{level}%" for level in terms.levels),
        "Suspended in the opening": "until the balance recovers"
        if terms.resumes_in_opening
        else "until 09:30",
        "Phases": ", ".join(f"{it.at[11:16]}&nbsp;{it.phase}" for it in terms.phases),
        "Clock": "real" if terms.origin == "real" else "set with --at",
    }
    return '<dl class="terms">' + "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in facts.items()) + "</dl>"


def _decisions(day: PoolDay) -> str:
    met = [it for it in Verdict if any(it in day.decisions.get(side, {}) for side in Side)]
    rows = [
        (str(verdict), *(f"{day.decisions.get(side, {}).get(verdict, 0):,}" for side in Side))
        for verdict in met
    ]
    decided = _table(("Verdict", "Buys", "Sells"), rows, "-nn") if rows else "<p>No order was decided.</p>"
    return f"<h3>Decisions</h3>{decided}{_counted('Facts', day.facts)}"


def _counted(title: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    rows = [(said(name), f"{count:,}") for name, count in counts.items()]
    return f"<h3>{title}</h3>{_table(('What', 'How many'), rows, '-n')}"


def _turns(day: PoolDay) -> str:
    rows = [
        (
            _clock(it.at),
            it.kind,
            f"{_turned(it.kind, it.was)} → {_turned(it.kind, it.now)}",
            said(it.reason),
            f"{it.seq:,}",
            yuan(it.balance_fen),
        )
        for it in day.turns
    ]
    heads = ("Time", "What", "From → to", "Why", "Entry", "Balance")
    return _listed("Changes", heads, rows, day.all_turns, "tt--nn")


def _turned(kind: str, value: str) -> str:
    is_amount = kind == "limit" and value.isdecimal() and value.isascii()
    return yuan(int(value)) if is_amount else said(value or "–")


def _deeds(day: PoolDay) -> str:
    rows = [
        (
            _clock(it.at),
            said(it.act),
            said(f"{it.user}@{it.host}"),
            said(it.reason),
            str(it.seq),
            _limit(it.was_fen, it.limit_fen),
        )
        for it in day.deeds
    ]
    heads = ("Time", "Act", "Who", "Why", "Entry", "Limit")
    return _listed("What operators did", heads, rows, day.all_deeds, "tt--nn")


def _limit(was_fen: int, now_fen: int) -> str:
    return "as it was" if was_fen == now_fen else f"{yuan(was_fen)} → {yuan(now_fen)}"


def _broken(day: PoolDay) -> str:
    counted = _counted(
        "Violations", {f"{kind}: {_VIOLATIONS[kind]}": n for kind, n in day.violations.items()}
    )
    rows = [(_clock(it.at), str(it.seq), said(it.event), ", ".join(it.violations)) for it in day.broken]
    return counted + _listed("Where", ("Time", "Entry", "Event", "Violation"), rows, day.all_broken, "tn--")


def _dead(title: str, dead: Dead) -> str:
    counts = {ANOTHER_DAY: dead.another_day} if dead.another_day else {}
    counts |= {f"{reason}, once per order": count for reason, count in dead.inapplicable.items()}
    counts |= dead.undecodable
    rows = [(said(reason), f"{count:,}") for reason, count in counts.items()]
    return _listed(title, ("Reason", "How many"), rows, len(rows), "-n")


def _record(report: Report) -> str:
    rows = [(f"{said(it.name)}<br><code>{it.sha256}</code>", f"{it.bytes:,}") for it in report.files]
    too = f'<p class="soft">Read too, for the rest of the day: {said(", ".join(report.read_too))}</p>'
    return (
        f"<section>{_dead('Dead letters of no pool', report.delivered.dead)}<h2>The record</h2>"
        f"{_table(('File and SHA-256', 'Bytes'), rows, '-n')}{too if report.read_too else ''}"
        '<p class="soft">A file has its hash as <code>sha256sum</code> prints it. A journal has its own over '
        "its entries, each as compact JSON with a line feed.</p></section>"
    )

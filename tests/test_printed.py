"""The printed page shows what the report says: every section of it, figure by figure."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from pathlib import Path

import pytest

from quota.decision import Side, Verdict
from quota.page.printed import LINES, page, yuan
from quota.proof.report import Report
from quota.rules import ANOTHER_DAY
from tests.dayrecord import ACTS, Played, played
from tests.test_report import of


@pytest.fixture(scope="module")
def day() -> Played:
    return asyncio.run(played())


def sections(report: Report) -> list[str]:
    """The sections of the pools."""
    return page(report).split('<section class="pool">')[1:]


def shown(html: str) -> str:
    """What a reader sees of a piece of the page."""
    return unescape(re.sub(r"<[^>]+>", "", html)).replace("\xa0", " ")


def tables(section: str) -> dict[str, list[tuple[str, ...]]]:
    """The rows of each table, by the title above it."""
    titled = re.findall(r"<h3>([^<]*)</h3><table>.*?<tbody>(.*?)</tbody>", section)
    return {
        title: [
            tuple(shown(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row))
            for row in re.findall(r"<tr>(.*?)</tr>", body)
        ]
        for title, body in titled
    }


def summary(report: Report) -> dict[str, tuple[str, ...]]:
    """The rows of the first table, by their pools."""
    body = page(report).partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("</tr>")[:-1]]
    return {shown(row[0]): tuple(shown(cell) for cell in row) for row in rows}


def facts(section: str) -> dict[str, str]:
    """The terms and figures, by their names."""
    return {name: shown(said) for name, said in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", section)}


async def test_the_page_has_the_terms_and_figures_of_each_pool(day: Played, tmp_path: Path) -> None:
    report = await of(tmp_path, day.records)
    for it, section in zip(report.pools, sections(report), strict=True):
        said = facts(section)
        assert it.terms is not None
        assert it.peak is not None
        assert it.lowest is not None
        assert it.last is not None
        assert said["Opened"] == "09:00:00"
        assert said["Limit"] == "600,000,000.00"
        assert said["Rate" if it.pool.northbound else "RMB for one HKD"] == it.terms.rate
        assert said["Buys get in"] == "while the balance is above zero"
        assert said["Alerts at"] == "50%, 70%, 90%, 100%"
        assert said["Suspended in the opening"] == "until the balance recovers"
        assert said["Phases"] == ", ".join(f"{at.at[11:16]} {at.phase}" for at in it.terms.phases)
        assert said["Clock"] == "real"
        assert said["Peak of entries"] == f"{it.peak.entries:,} a secondat {it.peak.at[11:19]}"
        assert said["Lowest balance"].startswith(f"{yuan(it.lowest.balance_fen)}at {it.lowest.at[11:19]}")
        assert said["Used at the end"].startswith(yuan(it.limit_fen - it.last.balance_fen))
        assert said["Status after the last"] == f"{it.last.status}entry {it.last.seq:,}"


async def test_the_page_has_every_count_and_change_of_each_pool(day: Played, tmp_path: Path) -> None:
    report = await of(tmp_path, day.records)
    for it, section in zip(report.pools, sections(report), strict=True):
        listed = tables(section)
        assert {verdict: (buys, sells) for verdict, buys, sells in listed["Decisions"]} == {
            verdict: tuple(f"{it.decisions[side].get(verdict, 0):,}" for side in Side)
            for verdict in Verdict
            if any(verdict in by for by in it.decisions.values())
        }
        assert listed["Facts"] == [(name, f"{count:,}") for name, count in it.facts.items()]
        assert [(row[0], row[1], row[3:]) for row in listed["Changes"]] == [
            (turn.at[11:19], turn.kind, (turn.reason, f"{turn.seq:,}", yuan(turn.balance_fen)))
            for turn in it.turns[:LINES]
        ]
        turned = {row[2] for row in listed["Changes"] if row[1] == "status"}
        assert turned == {f"{turn.was} → {turn.now}" for turn in it.turns if turn.kind == "status"}
        assert [row[1:4] for row in listed["What operators did"]] == [
            (act.act, f"{act.user}@{act.host}", act.reason) for act in ACTS
        ]


async def test_the_page_has_every_dead_letter_and_violation(day: Played, tmp_path: Path) -> None:
    report = await of(tmp_path, day.records)
    for it, section in zip(report.pools, sections(report), strict=True):
        listed = tables(section)
        dead = {ANOTHER_DAY: it.dead.another_day} if it.dead.another_day else {}
        dead |= {f"{reason}, once per order": count for reason, count in it.dead.inapplicable.items()}
        dead |= it.dead.undecodable
        assert listed.get("Dead letters", []) == [(reason, str(count)) for reason, count in dead.items()]
        assert {what.partition(":")[0]: n for what, n in listed["Violations"]} == {
            kind: str(count) for kind, count in it.violations.items()
        }
        assert [row[1] for row in listed["Where"]] == [str(where.seq) for where in it.broken[:LINES]]
        assert summary(report)[it.pool][-2:] == (str(sum(it.violations.values())), str(it.dead.events))
    ((reason, count),) = report.delivered.dead.undecodable.items()
    assert tables(page(report))["Dead letters of no pool"] == [(reason, str(count))]

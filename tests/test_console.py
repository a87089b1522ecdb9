"""Rules of what a person sees: nothing clamped, nothing unknown shown as zero, whose balance it is."""

from __future__ import annotations

import re
from io import StringIO

import msgspec
import pytest
from rich.console import Console

from quota.decision import Phase, PoolName, Side, Status, Verdict
from quota.desk.console import RECENT, plain, table, yuan
from quota.feed import StatusReport
from quota.follow import Decided

BILLION_FEN = 100_000_000_000
OPEN = StatusReport(
    pool=PoolName.NB_SH,
    trading_day="2026-11-23",
    phase=Phase.CONTINUOUS,
    status=Status.OPEN,
    limit_fen=52 * BILLION_FEN,
    balance_fen=20_345_678_901_23,
    used_ratio=0.608737,
    level=50,
    rate="1.00000",
    seq=41_234,
    time="2026-11-23T09:31:00.123+08:00",
)
NO_DAY = StatusReport(
    pool=PoolName.SB_SZ,
    trading_day=None,
    phase=Phase.CLOSED,
    status=Status.CLOSED,
    limit_fen=None,
    balance_fen=None,
    used_ratio=None,
    level=0,
    rate=None,
    seq=None,
    time="2026-11-22T09:31:00.123+08:00",
)
NEGATIVE = msgspec.structs.replace(
    OPEN,
    pool=PoolName.SB_SH,
    limit_fen=42 * BILLION_FEN,
    balance_fen=-123_456_78,
    used_ratio=1.000003,
    level=100,
    status=Status.EXHAUSTED,
)
ABOVE = msgspec.structs.replace(
    OPEN,
    pool=PoolName.NB_SZ,
    limit_fen=13 * BILLION_FEN,
    balance_fen=1_327_600_000_000,
    used_ratio=-0.021231,
    level=0,
)
DECIDED = Decided(
    pool=PoolName.NB_SH,
    order_id="gw1-000001",
    side=Side.BUY,
    price="1688.00",
    quantity=100,
    source="gw1",
    verdict=Verdict.ACCEPTED,
    balance_fen=20_345_678_901_23,
    seq=41_234,
    time="2026-11-23T09:31:00.123+08:00",
)
AT = "2026-11-23 09:31:00 (UTC+8)"


def seen(
    reports: list[StatusReport], latest: list[Decided] | None = None, *notes: str, width: int = 100
) -> str:
    console = Console(record=True, width=width, file=StringIO())
    rates = {PoolName.NB_SH: 12_345.4}
    console.print(table(reports, latest or [], at=AT, rates=rates, notes=notes))
    return console.export_text()


def line_of(text: str, pool: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{pool} "))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_pool_is_one_line_of_words_and_units(width: int) -> None:
    line = line_of(seen([OPEN], width=width), "NB-SH")
    for word in ("11-23", "open", "continuous", "20.346 bn", "52.000 bn", "60.9%", "50%", "12,345"):
        assert word in line


@pytest.mark.parametrize("width", [80, 100])
def test_a_negative_balance_is_shown_to_the_fen(width: int) -> None:
    line = line_of(seen([NEGATIVE], width=width), "SB-SH")
    assert "-123,456.78" in line
    assert "100.0%" in line
    assert "exhausted" in line


def test_a_balance_above_the_quota_is_shown_and_its_bar_is_empty() -> None:
    line = line_of(seen([ABOVE]), "NB-SZ")
    assert "13.276 bn" in line
    assert "13.000 bn" in line
    assert "-2.1%" in line
    assert "█" not in line


def test_a_bar_is_as_long_as_what_is_used() -> None:
    half = msgspec.structs.replace(OPEN, used_ratio=0.5)
    bars = [line_of(seen([report], width=120), "NB-SH").count("█") for report in (half, OPEN)]
    whole = line_of(seen([NEGATIVE], width=120), "SB-SH").count("█")
    assert 0 < bars[0] < bars[1] < whole


def test_where_no_day_is_open_nothing_is_zero() -> None:
    text = seen([NO_DAY])
    line = line_of(text, "SB-SZ")
    assert line.count("–") == 6  # day, balance, limit, used, level, rate
    assert "0.00" not in line
    assert "SB-SZ: no trading day is open" in text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.SUSPENDED, "buys are refused for now"),
        (Status.EXHAUSTED, "no more buys today"),
        (Status.HALTED, "an operator stopped the buys"),
    ],
)
def test_a_status_that_refuses_buys_is_explained(status: Status, words: str) -> None:
    text = seen([msgspec.structs.replace(OPEN, status=status)])
    assert f"NB-SH: {words}" in text
    assert "sells are taken" in text


def test_it_says_when_and_whose_balance_it_is() -> None:
    text = seen([OPEN], width=80)
    assert AT in text
    assert "of the events quotad is fed" in " ".join(text.split())


def test_no_more_decisions_are_shown_than_fit() -> None:
    latest = [msgspec.structs.replace(DECIDED, order_id=f"gw1-{number:06}") for number in range(20)]
    text = seen([OPEN], latest, width=80)
    assert re.findall(r"gw1-(\d+)", text) == [f"{number:06}" for number in range(RECENT)]


def test_a_decision_shows_its_verdict_and_the_balance_after_it() -> None:
    refused = msgspec.structs.replace(DECIDED, verdict=Verdict.EXHAUSTED, balance_fen=-1)
    line = next(text for text in seen([OPEN], [refused], width=80).splitlines() if "gw1" in text)
    assert line.split() == ["09:31:00.123", "NB-SH", "gw1-000001", "buy", "exhausted", "-0.01"]


def test_notes_are_shown_as_they_are() -> None:
    assert "[bold]3 orders[/bold] simulated" in seen([OPEN], [], "[bold]3 orders[/bold] simulated")


@pytest.mark.parametrize("width", [80, 100])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(width: int) -> None:
    reports = [OPEN, ABOVE, NEGATIVE, NO_DAY]
    text = seen(reports, [DECIDED], width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


@pytest.mark.parametrize("width", [30, 50, 79])
def test_a_narrow_terminal_shows_every_figure_in_lines_that_wrap(width: int) -> None:
    text = seen([OPEN, NO_DAY], [DECIDED], width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "balance 20,345,678,901.23 of 52,000,000,000.00 RMB" in " ".join(text.split())
    assert "…" not in text


@pytest.mark.parametrize(
    ("fen", "text"),
    [
        (None, "–"),
        (0, "0.00"),
        (1, "0.01"),
        (-1, "-0.01"),
        (99_999_999, "999,999.99"),
        (100_000_000, "1.000 m"),
        (1_230_000_000_00, "1.230 bn"),
        (-1_230_000_000_00, "-1.230 bn"),
        (4_500_000_000_000_000, "45,000.000 bn"),
    ],
)
def test_amounts_are_in_units_people_read(fen: int | None, text: str) -> None:
    assert yuan(fen) == text


def test_the_plain_line_is_exact() -> None:
    assert plain(NEGATIVE) == (
        "SB-SH 2026-11-23 exhausted continuous balance -123,456.78 of 42,000,000,000.00 RMB"
        " used 100.0% level 100 seq 41234 at 2026-11-23T09:31:00.123+08:00"
    )


def test_the_plain_line_says_where_no_day_is_open() -> None:
    assert plain(NO_DAY) == "SB-SZ closed (no trading day is open) at 2026-11-22T09:31:00.123+08:00"

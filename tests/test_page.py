"""The live page of a real daemon, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator

from quota.decision import PoolName
from tests.browser import PHONE, SMALL, SPENT, chromium, look, spend
from tests.daemons import DAY, House, house, new
from tests.tap import Tap, until_now

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>&lt;b&gt; 停止'


FIGURES = {
    "percent(null)": "–",
    "percent(0.99999)": "99.9 %",
    "percent(1)": "100.0 %",
    "percent(0.00001)": "< 0.1 %",
    "percent(0)": "0.0 %",
    "percent(-0.021)": "−2.1 %",
    "percent(1.142)": "114.2 %",
    "chinese(null)": "–",
    "chinese(4123500000000, 5200000000000)": "412.35 亿",
    "english(4123500000000, 5200000000000)": "41.235 bn RMB",
    "chinese(0, 5200000000000)": "0.00 亿",
    "chinese(-15000000000, 5200000000000)": "−1.50 亿",
    "chinese(100, 5200000000000)": "1 元",
    "yuan(1327600000001)": "13,276,000,000.01",
    "plain(4200000000000)": "420 亿 = 42 bn RMB",
    "plain(25000000000)": "2.5 亿 = 250 m RMB",
    "brief(7654321, 'chinese')": "+7.65 万",
    "time(0)": "08:00:00",
    "day(1795395600000)": "Mon 23 Nov 2026",
}
"""What the page writes for figures: unknown is no zero, and nothing is rounded to all or to nothing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as program:
        yield program


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A daemon for all tests that only look, on the morning of a trading day with small limits."""
    with house(tmp_path_factory.mktemp("home"), toml=SMALL) as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        yield home


def agrees(home: House, name: PoolName, row: Locator) -> bool:
    return row.inner_text() == yuan(home.quotad.pool(name)["balance_fen"])


def both(fen: int) -> str:
    """Write a balance as the page does: halves go up, as they do in a browser."""
    chinese, english = (
        (Decimal(fen) / one).quantize(Decimal(step), ROUND_HALF_UP)
        for one, step in ((10**10, "0.01"), (10**11, "0.001"))
    )
    return f"{chinese} 亿 {english} bn RMB"


def yuan(fen: int) -> str:
    return f"{fen / 100:,.2f}".replace("-", "−")


def test_it_shows_what_the_api_says(browser: Browser, home: House) -> None:
    spend(home, "SB-SZ", new("some", "buy 100.00 50000000"))
    with look(browser, home.quotad.port) as seen:
        for name in PoolName:
            card = seen.pool(name)
            card.locator("summary").click()
            row = card.locator("tr", has_text="= balance").locator("td")
            row.wait_for()
            until_now(partial(agrees, home, name, row))
            said = home.quotad.pool(name)
            assert card.get_attribute("data-status") == said["status"]
            assert card.locator("tr", has_text="Limit").locator("td").first.inner_text() == yuan(
                said["limit_fen"]
            )
            left = f"{100 - said['used_ratio'] * 100:.1f} % left of".replace("-", "−")
            assert seen.says(name, "left").startswith(left)
        assert seen.says("NB-SH", "chinese") == "沪股通"
        assert seen.says("SB-SZ", "english") == "Southbound Shenzhen"
        assert "Buys and sells are taken until the break at 12:00." in seen.says("SB-SZ", "now")
        assert "one participant" in seen.text(".whose")
        assert seen.errors == []


def test_amounts_are_told_in_both_units(browser: Browser, home: House) -> None:
    with look(browser, home.quotad.port) as seen:
        until_now(lambda: seen.says("SB-SH", "balance") == both(home.quotad.pool("SB-SH")["balance_fen"]))
        assert seen.says("SB-SH", "left").endswith(" % left of 420 亿 = 42 bn RMB")


def test_an_event_shows_within_a_second(browser: Browser, home: House) -> None:
    with look(browser, home.quotad.port) as seen, Tap(home.broker.port) as tap:
        took = []
        for number in range(5):
            before = seen.says("SB-SH", "balance")
            began = time.monotonic()
            tap.say("connect/SB-SH/orders", new(f"quick-{number}", "buy 1000.00 1000000"))
            changed = "before => document.querySelector('#SB-SH .balance').innerText !== before"
            seen.wait(changed, before)
            took.append(time.monotonic() - began)
        assert min(took) < 1.0, "a busy machine may be late, but not every time"


def test_a_pool_in_trouble_is_named_first_with_its_reason_and_its_end(browser: Browser, home: House) -> None:
    with look(browser, home.quotad.port) as seen:
        with Tap(home.broker.port) as tap:
            tap.say("connect/NB-SZ/orders", SPENT)
            seen.wait_text("#headline p", "NB-SZ 深股通 is exhausted")
        first = seen.page.locator("#headline p").first.inner_text()
        assert "no more buys today; sells are taken. Buys come back Tue 24 Nov, 09:10." in first
        seen.wait_text("#NB-SZ .why", "The quota was used up at 09:3")
        assert seen.says("NB-SZ", "until") == "Tue 24 Nov, 09:10 with the full quota"
        assert seen.says("NB-SZ", "word") == "Exhausted"
        assert seen.says("NB-SZ", "balance") == "−0.2000 万 −2,000 RMB"
        assert seen.says("NB-SZ", "left").startswith("−20.0 % left of 1 万 = 10,000 RMB")
        seen.wait("() => document.querySelector('#NB-SZ .reading')?.textContent === '−20.0 %'")
        assert seen.page.title() == "■ NB-SZ exhausted – quotad"
        seen.wait_text("#changes", "exhausted, was open")
        seen.wait_text("#entries", "1 at 12000")
        assert seen.says("NB-SZ", "outlook").startswith("Used up")
        assert seen.says("NB-SZ", "pace") == "–"
        seen.wait_text("#announce", "NB-SZ is exhausted")
        seen.wait("() => document.querySelector('#NB-SZ .stop-name')?.textContent.startsWith('exhausted')")


def test_hostile_text_stays_text(browser: Browser, home: House) -> None:
    assert home.quotad.does("halt", "NB-SH", "--reason", HOSTILE).returncode == 0
    spend(home, "NB-SH", new("x", "sell 10.00 100") | {"symbol": "<img src=x>"})
    with look(browser, home.quotad.port) as seen:
        seen.wait_text("#NB-SH .why", HOSTILE)
        seen.wait_text("#changes", HOSTILE)
        seen.wait_text("#entries", "<img src=x>")
        assert seen.page.locator("img, main script").count() == 0
        assert seen.says("NB-SH", "until").startswith("An operator resumes it")
        assert seen.errors == []
    assert home.quotad.does("resume", "NB-SH", "--reason", "done").returncode == 0


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, PHONE])
def test_axe_finds_no_fault_and_nothing_is_wider_than_the_screen(
    browser: Browser, home: House, width: int, *, dark: bool
) -> None:
    with look(browser, home.quotad.port, width=width, dark=dark) as seen:
        seen.pool("NB-SH").locator("summary").click()
        seen.pool("NB-SH").locator("table").first.wait_for()
        seen.wait("() => document.querySelectorAll('.chart svg').length === 4")
        assert seen.faults() == []
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width
        assert seen.errors == []


def test_all_of_it_is_reached_by_keyboard(browser: Browser, home: House) -> None:
    with look(browser, home.quotad.port) as seen:
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.textContent") == "Skip to the pools"
        seen.page.keyboard.press("Enter")
        assert seen.page.evaluate("document.activeElement.id") == "pools"
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.textContent") == "All figures of NB-SH"
        seen.page.keyboard.press("Enter")
        seen.pool("NB-SH").locator("table", has_text="The day so far").wait_for()


def test_a_pool_in_the_headline_leads_to_its_card(browser: Browser, home: House) -> None:
    with look(browser, home.quotad.port) as seen:
        with Tap(home.broker.port) as tap:
            tap.say("connect/NB-SZ/orders", SPENT)
            seen.wait_text("#headline a", "NB-SZ")
        link = seen.page.locator("#headline a", has_text="NB-SZ").first
        link.evaluate("element => { element.mine = true; }")
        spend(home, "SB-SZ", new("another", "buy 100.00 50000000"))
        seen.wait_text("#entries", "another")
        assert link.evaluate("element => element.mine"), "a link stays while its sentence changes"
        link.focus()
        seen.page.keyboard.press("Enter")
        seen.wait("() => location.hash === '#NB-SZ' && document.activeElement.id === 'NB-SZ'")


def test_an_open_table_does_not_stretch_its_neighbour(browser: Browser, home: House) -> None:
    with look(browser, home.quotad.port) as seen:
        seen.pool("SB-SH").locator("summary").click()
        seen.pool("SB-SH").locator("table").first.wait_for()
        one, other = (seen.pool(name).bounding_box() for name in ("SB-SH", "SB-SZ"))
        assert one is not None
        assert other is not None
        assert other["height"] < one["height"] - 50


def test_card_and_chart_tell_the_same_balance(browser: Browser, home: House) -> None:
    same = """() => [...document.querySelectorAll('article.pool')].every((card) => {
        const drawn = card.querySelector('.reading');
        return drawn && card.querySelector('.left').textContent.startsWith(`${drawn.textContent} left`);
    })"""
    with look(browser, home.quotad.port) as seen:
        seen.wait(same)
        for number in range(3):
            spend(home, "SB-SH", new(f"drawn-{number}", "buy 1000.00 1000000"))
            until_now(lambda: seen.says("SB-SH", "balance") == both(home.quotad.pool("SB-SH")["balance_fen"]))
            assert seen.page.evaluate(same)


def test_the_opening_phase_says_until_when_buys_are_suspended(browser: Browser, tmp_path: Path) -> None:
    limits = SMALL + 'SB-SH = "10000.00"\n'
    with house(tmp_path, toml=limits, at=f"{DAY}T09:12:00+08:00") as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        spend(home, "NB-SH")
        spend(home, "SB-SH", new("all-of-it", "buy 11000.00 1"))
        with look(browser, home.quotad.port) as seen:
            seen.wait_text("#NB-SH .word", "Suspended")
            assert "If it is not by 09:30: no more buys today." in seen.says("NB-SH", "until")
            assert seen.says("SB-SH", "until").startswith("09:30, if the balance is above zero then.")


def test_figures_are_never_more_than_is_known(browser: Browser, home: House) -> None:
    with look(browser, home.quotad.port) as seen:
        for call, said in FIGURES.items():
            told = seen.page.evaluate(f"async () => (await import('/page/format.js')).{call}")
            assert told == said, call

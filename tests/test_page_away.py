"""The live page when what it tells of is away: the store, the broker, the daemon, the trading day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from quota.decision import PoolName
from tests.browser import SMALL, SPENT, chromium, look
from tests.daemons import house
from tests.servers import Mosquitto
from tests.tap import Tap, until_now


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as program:
        yield program


def test_a_daemon_that_ends_says_so_once_and_stops_the_clock(browser: Browser, tmp_path: Path) -> None:
    with house(tmp_path, toml=SMALL) as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        with look(browser, home.quotad.port) as seen:
            seen.wait_text("#link", "Live")
            home.quotad.ask_to_end()
            seen.wait_text("#notices", "quotad has ended. The figures are those of 09:3")
            assert seen.text("#link").startswith("Ended, as of 09:3")
            assert home.quotad.code() == 0
            shown = seen.text("#time")
            seen.wait("() => performance.now() > 0 && !document.querySelector('#notices').hidden")
            assert seen.page.locator("#notices li").count() == 1
            assert seen.text("#time") == shown


def test_a_restarted_daemon_is_found_again(browser: Browser, tmp_path: Path) -> None:
    with house(tmp_path, toml=SMALL) as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        with look(browser, home.quotad.port) as seen:
            home.quotad.kill()
            seen.wait_text("#notices", "no connection to quotad")
            assert seen.page.evaluate("document.body.hasAttribute('data-stale')")
            assert seen.text("#link").startswith("Connection lost, as of 09:3")
            with Tap(home.broker.port) as tap:
                tap.say("connect/NB-SZ/orders", SPENT)
                until_now(lambda: tap.settled)
            home.quotad.start()
            seen.wait("() => !document.body.hasAttribute('data-stale')")
            seen.wait_text("#NB-SZ .word", "Exhausted")
            assert seen.page.locator("#notices").is_hidden()


def test_servers_that_are_away_are_told_of(browser: Browser, tmp_path: Path) -> None:
    with house(tmp_path, toml=SMALL) as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        with look(browser, home.quotad.port) as seen:
            broker: Mosquitto = home.broker
            broker.stop()
            seen.wait_text("#notices", "The broker is away: no orders and no fills come in.")
            seen.wait_text("#headline", "All four pools are open, as far as is known.")
            assert seen.text("#link").startswith("No orders come in, as of 09:3")
            assert seen.page.locator("[data-tone=ok]:is(article, #strip a, #headline p, #link)").count() == 0
            home.store.stop()
            seen.wait_text("#notices", "The store is away")
            seen.wait("() => document.body.hasAttribute('data-stale')")
            seen.wait_text("#link", "Old")
            seen.wait_text("#headline", "All four pools were open at 09:3")
            assert seen.says("NB-SH", "now").startswith("Buys and sells were taken at 09:3")
            assert [seen.says("NB-SH", part) for part in ("word", "outlook", "pace")] == [
                "Was open",
                "–",
                "–",
            ]
            assert seen.errors == []


def test_a_daemon_that_never_reached_its_store_shows_dashes(browser: Browser, tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.store.stop()
        home.quotad.at = None
        home.quotad.start()
        until_now(lambda: home.quotad.get("/-/healthy")[0] == 200)
        with look(browser, home.quotad.port) as seen:
            seen.wait_text("#notices", "Nothing has been read yet: the store is away")
            assert [seen.says(name, "balance").strip() for name in PoolName] == ["–"] * 4
            assert [seen.says(name, "word") for name in PoolName] == ["Not known"] * 4
            assert seen.text("#link") == "Nothing read yet"
            assert seen.text("#headline") == "Nothing is known of any pool."
            assert seen.pool("NB-SH").locator(".until").is_hidden()


def test_a_weekend_is_quiet_and_says_when_trading_begins(browser: Browser, tmp_path: Path) -> None:
    with house(tmp_path, at="2026-11-22T10:00:00+08:00") as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        with look(browser, home.quotad.port) as seen:
            seen.wait_text("#headline", "No trading day is open. The next begins Mon 23 Nov, 09:00.")
            assert seen.says("NB-SH", "word") == "No day open"
            assert seen.says("NB-SH", "until") == "Mon 23 Nov, 09:10"
            assert seen.says("NB-SH", "balance").strip() == "–"
            assert seen.text("#link").startswith("Live")
            assert seen.faults() == []

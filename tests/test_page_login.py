"""The live page behind a token, in a real browser that asks for user and password by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, HttpCredentials, Page

from tests import daemons
from tests.browser import PATIENCE_MS, SMALL, SPENT, chromium, spend
from tests.daemons import House, house
from tests.tap import until_now

TOKEN = "a-token-of-a-test-only"  # noqa: S105 - a test's


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as program:
        yield program


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A daemon whose pages want a token."""
    with house(tmp_path, toml=SMALL) as home:
        lock(monkeypatch, TOKEN)
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        yield home


def lock(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """Give the daemon a token, from its next start on."""
    environ = daemons._environ() | {"QUOTA_HTTP__TOKEN": token}
    monkeypatch.setattr(daemons, "_environ", lambda: environ)


@contextmanager
def opened(browser: Browser, home: House, password: str) -> Iterator[tuple[Page, int]]:
    """Open the page as somebody who types this password; how the page was answered."""
    known: HttpCredentials = {"username": "desk", "password": password}
    context = browser.new_context(http_credentials=known)
    try:
        page = context.new_page()
        answer = page.goto(f"http://127.0.0.1:{home.quotad.port}/")
        assert answer is not None
        yield page, answer.status
    finally:
        context.close()


def shows(page: Page, place: str, text: str) -> None:
    """Wait until a place of the page has a text."""
    found = "([place, text]) => document.querySelector(place)?.textContent.includes(text)"
    page.wait_for_function(found, arg=[place, text], timeout=PATIENCE_MS)


def test_after_the_login_the_page_is_live(browser: Browser, home: House) -> None:
    with opened(browser, home, TOKEN) as (page, status):
        assert status == 200
        shows(page, "#link", "Live")
        shows(page, "#NB-SH .word", "Open")
        spend(home, "NB-SH", SPENT)
        shows(page, "#NB-SH .word", "Exhausted")


def test_with_a_wrong_token_the_page_says_so_and_shows_nothing(browser: Browser, home: House) -> None:
    with opened(browser, home, "another-one-of-24-signs") as (page, status):
        assert status == 401
        assert page.locator("body").inner_text().strip() == "the token is missing or wrong"
        assert page.locator("article").count() == 0


def test_a_page_whose_token_counts_no_more_says_that_it_has_lost_the_daemon(
    browser: Browser, home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(browser, home, TOKEN) as (page, _):
        shows(page, "#link", "Live")
        home.quotad.kill()
        lock(monkeypatch, "another-one-of-24-signs")
        home.quotad.start()
        until_now(lambda: home.quotad.ready)
        shows(page, "#notices", "no connection to quotad")
        assert page.locator("body[data-stale]").count() == 1

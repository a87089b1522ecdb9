"""A headless Chromium for tests of the live page, and what every look at it must hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.sync_api import Browser, Locator, Page, Request, sync_playwright

from tests.daemons import House, new
from tests.servers import binary
from tests.tap import Tap, until_now

DESK, PHONE = 1280, 400
PATIENCE_MS = 30_000

SMALL = 'open_late = "open"\n[market.limits_yuan]\nNB-SH = "10000.00"\nNB-SZ = "10000.00"\n'
"""Limits that one order uses up."""

SPENT = new("all-of-it", "buy 12000.00 1")

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the distribution's Chromium with a profile of its own."""
    program = binary("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, headless=True, args=_ARGUMENTS)
        yield browser
        browser.close()


@dataclass(slots=True)
class Look:
    """A page that was opened, and what it said and asked for behind our back."""

    page: Page
    address: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def hear(self, request: Request) -> None:
        """Note a request to anywhere but the daemon."""
        if not request.url.startswith(self.address):
            self.outside.append(request.url)

    def pool(self, name: str) -> Locator:
        """The card of a pool."""
        return self.page.locator(f"article#{name}")

    def says(self, name: str, part: str) -> str:
        """What a part of a pool's card says."""
        return self.pool(name).locator(f".{part}").first.inner_text()

    def text(self, place: str) -> str:
        """What a place of the page says."""
        return self.page.locator(place).inner_text()

    def wait(self, condition: str, argument: object = None, ms: float = PATIENCE_MS) -> None:
        """Wait until an expression of JavaScript holds in the page."""
        self.page.wait_for_function(condition, arg=argument, timeout=ms)

    def wait_text(self, place: str, text: str, ms: float = PATIENCE_MS) -> None:
        """Wait until a place of the page contains a text."""
        found = "([place, text]) => document.querySelector(place)?.textContent.includes(text)"
        self.wait(found, [place, text], ms)

    def faults(self) -> list[str]:
        """What axe-core has against the page as it is."""
        found: Any = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {[node['html'][:120] for node in each['nodes']]}" for each in found]


@contextmanager
def look(browser: Browser, port: int, *, width: int = DESK, dark: bool = False) -> Iterator[Look]:
    """Open the live page of a daemon and wait for its pools. No test may see it fetch from elsewhere."""
    context = browser.new_context(
        viewport={"width": width, "height": 860}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    seen = Look(page, f"http://127.0.0.1:{port}/")
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("request", lambda request: seen.hear(request))  # noqa: PLW0108 - a slotted method takes no mark
    try:
        page.goto(seen.address)
        seen.wait("() => document.querySelectorAll('article.pool').length > 0")
        yield seen
        assert seen.outside == []
    finally:
        context.close()


def spend(home: House, pool: str, order: dict[str, object] | None = None) -> None:
    """Send an order and wait until it is counted."""
    before = home.seq(pool)
    with Tap(home.broker.port) as tap:
        tap.say(f"connect/{pool}/orders/gw1", order or SPENT)
        until_now(lambda: home.seq(pool) > before)

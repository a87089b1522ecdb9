"""What every test may use: real servers, one for each that asks, and a place to say how much was tried."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog
from redis.asyncio import Redis

from quota.ledger import RedisLedger
from quota.library import Library
from tests.agreement.state import linked
from tests.scale import SOAK, first_seed
from tests.servers import Mosquitto, Store


@pytest.fixture(autouse=True)
def _logging_as_it_begins() -> Iterator[None]:
    """Log as at the start again, whatever a test has configured: the next one may count the lines."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def counted(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say at the end of the run how much a test has tried."""
    return partial(record_property, "counted")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A mosquitto of the test's own."""
    with Mosquitto(tmp_path) as mosquitto:
        yield mosquitto


@pytest.fixture(scope="session")
def _stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Store]]:
    """The stores that were asked for, each started once."""
    directory = tmp_path_factory.mktemp("stores")
    stores = {name: Store(directory, name) for name in ("valkey", "redis")}
    yield stores
    for store in stores.values():
        store.stop()


@pytest.fixture(params=["valkey", "redis"])
def store(request: pytest.FixtureRequest, _stores: dict[str, Store]) -> Store:
    """A real store, empty and without functions. Every test runs on a Valkey and on a Redis."""
    server = _stores[request.param]
    if server.process is None:
        server.start()
    server.clean()
    return server


@pytest.fixture
async def client(store: Store) -> AsyncIterator[Redis]:
    """A client of a real store."""
    async with linked(store) as link:
        yield link


@pytest.fixture
async def ledger(client: Redis) -> RedisLedger:
    """A ledger whose library is loaded."""
    functions = Library(client)
    await functions.load()
    return RedisLedger(functions)


def pytest_report_header() -> list[str]:
    """Say how to play the long forms again."""
    return [f"QUOTA_SEED={first_seed()}"] if SOAK else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the hours of mixed traffic in the long form: another worker does the rest meanwhile."""
    if SOAK:
        items.sort(key=lambda item: item.path.name != "test_soak.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried, test by test."""
    counts = [
        text
        for report in terminalreporter.getreports("passed")
        for name, text in report.user_properties
        if name == "counted"
    ]
    if counts:
        terminalreporter.section("cases")
    for text in sorted(counts):
        terminalreporter.write_line(str(text))

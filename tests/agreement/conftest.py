"""What both exhaustive tests need: stores whose clock stands still."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agreement.trial import Bench
from tests.servers import Store


@pytest.fixture(scope="module")
def still_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, ...]]:
    """A Valkey and a Redis of our own: their functions are not quite the shipped ones."""
    directory = tmp_path_factory.mktemp("still")
    both = tuple(Store(directory, name) for name in ("valkey", "redis"))
    try:
        for store in both:
            store.start()
        yield both
    finally:
        for store in both:
            store.stop()


@pytest.fixture(scope="module")
def benches(still_stores: tuple[Store, ...]) -> Iterator[tuple[Bench, ...]]:
    """A bench on each of them."""
    both = tuple(Bench(store) for store in still_stores)
    yield both
    for bench in both:
        bench.close()

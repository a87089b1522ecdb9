"""The arithmetic of real amounts: thousands of events, chosen to hurt, in batches."""

from __future__ import annotations

from random import Random

import pytest

from tests.agreement.state import linked
from tests.agreement.twin import fresh_twin
from tests.agreement.wide import widen
from tests.scale import cases, first_seed
from tests.servers import Store

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("seed", [1, 2])
async def test_model_and_store_count_the_same_fen(store: Store, seed: int) -> None:
    rng = Random(f"{seed} {first_seed()}")
    async with linked(store) as client:
        for _ in range(cases(1, 50)):  # the clock of a twin stands still, and may for half an hour
            await widen(await fresh_twin(client), rng, days=20)

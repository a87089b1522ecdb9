"""The arithmetic of real amounts: thousands of events, chosen to hurt, in batches."""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.agreement.state import linked
from tests.agreement.twin import fresh_twin
from tests.agreement.wide import widen
from tests.servers import Store

EXAMPLES = int(os.environ.get("AGREEMENT_EXAMPLES", "0"))
DAYS = EXAMPLES or 20
pytestmark = pytest.mark.timeout(0 if EXAMPLES else 120)


@pytest.mark.parametrize("seed", [1, 2])
async def test_model_and_store_count_the_same_fen(store: Store, seed: int) -> None:
    async with linked(store) as client:
        await widen(await fresh_twin(client), Random(seed), days=DAYS)

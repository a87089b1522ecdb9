"""Every rule of the contract's sections 3 and 4, as tables: on the model, and on a real store."""

from __future__ import annotations

import pytest

from tests.agreement.state import linked
from tests.agreement.tables import Table, all_tables, run
from tests.agreement.twin import Solo, fresh_twin
from tests.servers import Store

NOON_MS = 1_795_406_400_000

each_table = pytest.mark.parametrize("table", all_tables(), ids=lambda table: table.title)


@each_table
async def test_the_model_does_what_the_table_says(table: Table) -> None:
    await run(table, Solo(NOON_MS))


@each_table
async def test_the_store_does_what_the_table_says(table: Table, store: Store) -> None:
    async with linked(store) as client:
        await run(table, await fresh_twin(client))

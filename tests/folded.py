"""A ledger in memory that can be read as verify reads: what the tests of verify spoil."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from quota.book import Book
from quota.decision import PoolName
from quota.journal import Entry
from quota.memory import MemoryLedger
from quota.pool import Change, Execution, Opening, Order, Pool
from quota.proof.verify import Findings
from tests.daemons import DAY

POOL = PoolName.NB_SH
OPENING = Opening(
    trading_day=DAY,
    limit_fen=50_000_000,
    rate="1.00000",
    schedule="0 continuous",
    origin="at",
    open_late=True,
)


class Record(MemoryLedger):
    """A ledger in memory that can be read as verify reads. ``meanwhile`` happens during its reading."""

    def __init__(self) -> None:
        super().__init__(lambda: 1)
        self.meanwhile: Callable[[], object] = lambda: None

    @property
    def book(self) -> Book:
        return self.books[POOL]

    async def read(self, pool: PoolName) -> Pool | None:
        return self.books[pool].pool

    async def journal(self, pool: PoolName, last_seq: int, after_seq: int = 0) -> AsyncIterator[Entry]:
        for entry in list(self.books[pool].journal):
            if after_seq < entry.seq <= last_seq:
                yield entry
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()

    async def orders(self, pool: PoolName, ids: Sequence[str]) -> Sequence[Order | None]:
        return [self.books[pool].orders.get(order_id) for order_id in ids]

    async def executions(
        self,
        pool: PoolName,
        ids: Sequence[str],
        order_ids: Mapping[int, str],  # noqa: ARG002 - in memory, executions name their orders
    ) -> Sequence[Execution | None]:
        return [self.books[pool].executions.get(exec_id) for exec_id in ids]

    async def holds(self, pool: PoolName) -> Mapping[str, int]:
        return self.books[pool].holds

    async def contradictions(self, pool: PoolName, orders: int, executions: int) -> Sequence[str]:
        book = self.books[pool]
        return (
            [] if (len(book.orders), len(book.executions)) == (orders, executions) else ["pool: other counts"]
        )

    async def changes(self, pool: PoolName, after: str) -> Sequence[Change]:
        return await super().changes(pool, after)


def said(findings: Findings) -> str:
    return "\n".join(findings.differences)

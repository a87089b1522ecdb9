"""Pre-trade checks for order gateways: one round trip, and three kinds of answer.

``PreTrade`` is for asyncio, ``PreTradeSync`` for threads; both are the same calls over one
implementation. The store decides, by its functions; what happens here is asking, asking again, and
knowing when not to ask. `docs/gateways.md` tells the same for other languages.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from redis import Redis as SyncRedis
from redis.asyncio import Redis, RedisCluster

from quota.decision import PoolName, Side, Status, Verdict
from quota.errors import BadArgument, ConfigError, LedgerUnavailable, QuotaError
from quota.gate import wire
from quota.gate.answers import USED_UP, Answer, Released, Result, unknown
from quota.gate.latch import Latch
from quota.gate.trunk import Switchboard
from quota.store.durability import Durability
from quota.store.routes import route_to

__all__ = [
    "Answer",
    "BadArgument",
    "ConfigError",
    "LedgerUnavailable",
    "PoolName",
    "PreTrade",
    "PreTradeSync",
    "QuotaError",
    "Released",
    "Result",
    "Side",
    "Status",
    "Verdict",
]

MAX_DEADLINE_MS = 60_000
_TURN_S = 0.001

Store = str | Redis | RedisCluster | SyncRedis
"""A URL, or a ready client whose way to the store is taken over; the client itself stays as it is."""


class Question(NamedTuple):
    """A call that only the store can answer: its bytes, its pool, and how to read the reply."""

    packed: bytes
    pool: PoolName
    read: Callable[[Any], Answer]
    lasting: bool = False
    reservation: bool = False


class PreTrade:
    """The gateway's side of the ledger, for one event loop.

    Every call ends within the deadline and raises nothing but BadArgument, or ConfigError outside the
    ``with``: what the store did not answer is ``unknown``, and the answer's ``reason`` says what was
    heard. Callers on one loop share
    a connection and its round trips; a caller may be cancelled at any moment.

    ``durability`` is what a reservation or release has to outlive before it is answered: ``memory``,
    ``fsync`` or ``replica``. What is not confirmed in time is unknown.
    """

    def __init__(
        self, store: Store, *, source: str, deadline_ms: int = 50, durability: str = "memory"
    ) -> None:
        if isinstance(deadline_ms, bool) or not isinstance(deadline_ms, int):
            raise BadArgument("deadline_ms: must be a whole number of milliseconds")
        if not 1 <= deadline_ms <= MAX_DEADLINE_MS:
            raise BadArgument(f"deadline_ms: must be from 1 to {MAX_DEADLINE_MS}")
        if durability not in list(Durability):
            raise BadArgument("durability: must be one of " + ", ".join(Durability))
        self._tail = wire.source_tail(source)
        self._durability = Durability(durability)
        self._deadline_ms = deadline_ms
        self._route = route_to(store)
        self._board: Switchboard | None = None
        self._latches: dict[PoolName, Latch] = {}
        self._gave_way = 0.0

    async def __aenter__(self) -> Self:
        """Connect. Raises ConfigError when the store does not let us in; one that is away is waited for."""
        if self._board is not None:
            raise ConfigError("a PreTrade is entered once")
        self._board = Switchboard(self._route, self._deadline_ms / 1000, self._durability)
        try:
            await self._board.begin()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect. Calls that are under way become unknown."""
        if self._board is not None:
            for latch in self._latches.values():
                await latch.aclose()
            await self._board.aclose()

    async def reserve(  # noqa: PLR0913, PLR0917 - the arguments of the contract's call
        self,
        pool: str,
        order_id: str,
        side: str,
        price: str,
        quantity: int,
        hold_ms: int | None = None,
        *,
        first: bool = False,
    ) -> Answer:
        """Ask whether an order may go, and have it charged if it may.

        With ``hold_ms`` the charge ends by itself unless the market confirms the order in time.
        ``first`` vouches that nobody ever sent this id: then a buy is refused on the spot once the
        pool is known to be exhausted. Asking again with the same id never charges twice.
        """
        amount = (side, price, quantity)
        return await self.answered(self.reservation(pool, order_id, amount, hold_ms, first=first))

    async def check(self, pool: str, side: str) -> Answer:
        """Ask what an order of that side would get now; nothing is charged."""
        return await self.answered(self.look(pool, side))

    async def release(self, pool: str, order_id: str) -> Answer:
        """Give back a reservation that was never sent; its id is spent, and no reserve can charge it."""
        return await self.answered(self.giving_back(pool, order_id))

    async def status(self, pool: str) -> Answer:
        """Ask the store how the pool is, and what a buy would get now; never answered locally."""
        return await self.answered(self.look(pool, Side.BUY, asking=True))

    def reservation(
        self, pool: str, order_id: str, amount: tuple[str, str, int], hold_ms: int | None, *, first: bool
    ) -> Question | Answer:
        """Check a reservation (``amount``: side, price, quantity); answer it if that needs no asking."""
        name, side = wire.pool_named(pool), wire.side_named(amount[0])
        packed = wire.reservation(name, order_id, amount, hold_ms, self._tail)
        if first and side is Side.BUY and self._used_up(name):
            return USED_UP
        return Question(packed, name, wire.reserved, lasting=True, reservation=True)

    def look(self, pool: str, side: str, *, asking: bool = False) -> Question | Answer:
        """Check the arguments of a look; answer it if that needs no ``asking``."""
        name, of_side = wire.pool_named(pool), wire.side_named(side)
        if of_side is Side.BUY and not asking and self._used_up(name):
            return USED_UP
        return Question(wire.look(name, of_side), name, wire.looked)

    @staticmethod
    def giving_back(pool: str, order_id: str) -> Question:
        """Check the arguments of a release."""
        name = wire.pool_named(pool)
        return Question(wire.release(name, order_id), name, wire.released, lasting=True)

    async def _give_way(self) -> None:
        """Let the loop turn once a millisecond, so that whoever only gets local answers hears of changes."""
        now = time.monotonic()
        if now - self._gave_way > _TURN_S:
            self._gave_way = now
            await asyncio.sleep(0)

    def _used_up(self, pool: PoolName) -> bool:
        latch = self._latches.get(pool)
        return latch is not None and latch.exhausted

    async def answered(self, question: Question | Answer) -> Answer:
        """Ask the store what is not answered yet."""
        if isinstance(question, Answer):
            await self._give_way()
            return question
        packed, pool, read, lasting, reservation = question
        board = self._board
        if board is None or board.closed:
            raise ConfigError("a PreTrade is used inside its `with`")
        latch = self._latches.get(pool) or self._latches.setdefault(pool, Latch(board, pool))
        heard = latch.heard
        call = board.ask(packed, pool, lasting=lasting)
        reply = await call.future
        if reply is None:
            why = f"no answer within {self._deadline_ms} ms" + (call.said and f": {call.said}")
            return unknown(why, reservation=reservation)
        try:
            answer = read(reply)
        except (KeyError, IndexError, TypeError):
            why = f"the store's reply is none that we know: {reply!r:.100}"
            return unknown(why, reservation=reservation)
        if answer.status is Status.EXHAUSTED:
            latch.learn(heard)
        return answer


class PreTradeSync:
    """The same calls for threads. Any number of threads may share one: they share its round trips too.

    A thread of its own runs the event loop; local answers are given in the caller's thread.
    """

    def __init__(
        self, store: Store, *, source: str, deadline_ms: int = 50, durability: str = "memory"
    ) -> None:
        self._inner = PreTrade(store, source=source, deadline_ms=deadline_ms, durability=durability)
        self._name = f"pretrade {source}"
        self._gate = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Connect; raises ConfigError as PreTrade does, and where it was entered before."""
        with self._gate:
            if self._thread is not None:
                raise ConfigError("a PreTradeSync is entered once")
            loop = self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True)
            self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._inner.__aenter__(), loop).result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect. Calls that are under way in other threads become unknown."""
        with self._gate:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._leave(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def reserve(  # noqa: PLR0913, PLR0917 - the arguments of the contract's call
        self,
        pool: str,
        order_id: str,
        side: str,
        price: str,
        quantity: int,
        hold_ms: int | None = None,
        *,
        first: bool = False,
    ) -> Answer:
        """Ask whether an order may go, and have it charged: as PreTrade.reserve."""
        amount = (side, price, quantity)
        return self._answered(self._inner.reservation(pool, order_id, amount, hold_ms, first=first))

    def check(self, pool: str, side: str) -> Answer:
        """Ask what an order would get now: as PreTrade.check."""
        return self._answered(self._inner.look(pool, side))

    def release(self, pool: str, order_id: str) -> Answer:
        """Give back a reservation that was never sent: as PreTrade.release."""
        return self._answered(self._inner.giving_back(pool, order_id))

    def status(self, pool: str) -> Answer:
        """Ask how the pool is: as PreTrade.status."""
        return self._answered(self._inner.look(pool, Side.BUY, asking=True))

    def _answered(self, question: Question | Answer) -> Answer:
        if isinstance(question, Answer):
            return question
        with self._gate:  # what is asked before the end is answered before the loop stops
            if self._loop is None:
                raise ConfigError("a PreTradeSync is used inside its `with`")
            asked = asyncio.run_coroutine_threadsafe(self._inner.answered(question), self._loop)
        return asked.result()

    async def _leave(self) -> None:
        await self._inner.__aexit__()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """What the thread does: run the loop until it is stopped."""
    try:
        loop.run_forever()
    finally:
        loop.close()

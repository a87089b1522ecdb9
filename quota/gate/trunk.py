"""The calls of one event loop to the nodes of a store: who shares which connection, and for how long.

What is asked while nothing is under way goes out at once; all else goes out as a batch when it is full
or the loop's turn is over: the server works while others still ask. No batch waits for the one before
it, and none for a timer. A call that is not answered is asked again, until its deadline.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from redis.exceptions import AuthenticationError, NoPermissionError

from quota.errors import ConfigError
from quota.gate.line import LATER, Call, Line, LineLost, ended
from quota.gate.wire import Complaint, packed
from quota.store.durability import Durability
from quota.store.routes import Address, Route, address_in

_PAUSE_S = 0.005
_BESIDE_S = 0.1
_PATIENCE_TRIPS = 4
_QUICK_HOPS = 3


class Trunk:
    """The shared connection to one node, made again whenever it is lost.

    ``trouble`` is why it cannot be made, and ``barred`` that we are not let in.
    """

    def __init__(self, board: Switchboard, address: Address | None) -> None:
        self.address = address
        self.line: Line | None = None
        self.trouble = ""
        self.barred = False
        self.ready = asyncio.Event()
        self._board = board
        self._queue: list[Call] = []
        self._called = False
        self._connecting: asyncio.Task[None] | None = None
        self._old: set[Line] = set()

    def ask(self, *calls: Call) -> None:
        """Take calls: at once where none is under way or a batch is full, else with others of this turn."""
        line, is_first = self.line, not self._queue
        self._queue += calls
        is_due = line is not None and ((is_first and not line.waiting) or len(self._queue) >= line.fill)
        if line is not None and is_due and not line.full:
            self._flush()
        elif not self._called:
            self._called = True
            self._board.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what is queued; a call that nobody waits for any more is not sent at all."""
        self._called = False
        calls = [call for call in self._queue if not call.future.done()]
        if self.line is None or self.line.full:
            self._queue = calls
            for call in calls:
                call.said = self.trouble
            self.connect()
        else:
            self._queue = []
            if calls:
                self.line.write(calls)

    def connect(self, *, anew: bool = False) -> None:
        """Have a connection made where there is none; ``anew``, also where there is."""
        if self._connecting is None and (anew or self.line is None) and not self._board.closed:
            self._connecting = self._board.loop.create_task(self._connect())

    async def _connect(self) -> None:
        """Try until there is one; beside a line that is only silent, ever less often, until it is heard."""
        pause_s = _PAUSE_S
        try:
            while not await self._connected():
                if self.line is not None and not self._board.doubts(self.line):
                    break
                await asyncio.sleep(pause_s)
                pause_s = _PAUSE_S if self.line is None else min(2 * pause_s, _BESIDE_S)
        finally:
            self._connecting = None

    async def _connected(self) -> bool:
        """Try once. In a cluster, a node that does not answer is left, and others are asked."""
        board = self._board
        try:
            line = await Line.open(board.route.connection(self.address), self, board.patience_s, board.lasts)
        except LineLost as lost:
            self.trouble = str(lost)
            self.barred = isinstance(lost.__cause__, AuthenticationError | NoPermissionError | ConfigError)
            self.ready.set()
            return self.line is None and board.left(self, self.trouble)
        self._adopt(line)
        return True

    def take_queue(self) -> list[Call]:
        """Give the calls back that wait for a connection."""
        queue, self._queue = self._queue, []
        return queue

    def _adopt(self, line: Line) -> None:
        """Use a new connection. What the old one owes is asked here too, and the first answer counts."""
        self.trouble, self.barred = "", False
        old, self.line = self.line, line
        if old is not None:
            self._old.add(old)
            self._queue[:0] = old.owed()
            self._board.loop.call_later(self._board.deadline_s, old.close)
        self.ready.set()
        self._board.explore(self)
        self._flush()

    def heed(self, line: Line, call: Call, text: str) -> None:
        """Take an error reply."""
        if text.startswith("READONLY"):  # the primary of yesterday: whoever knows better is asked for another
            self._board.loop.call_soon(line.close)
        self._board.heed(self, call, text)

    def stirred(self, line: Line) -> None:
        """A connection has room again, or is lost: then what it owed is asked again."""
        if line is self.line and line.closed:
            self.line = None
            lost = line.owed()
            for call in lost:
                call.said = "the connection was lost"
            self._queue[:0] = lost
            self.connect()
        elif line is self.line:
            self._flush()
        self._old.discard(line)

    async def aclose(self) -> None:
        """Give all connections up."""
        for line in filter(None, [self.line, *self._old]):
            line.close()
        if self._connecting is not None:
            await ended(self._connecting)


class Switchboard:
    """Finds the node of a pool, and ends every call at its deadline."""

    def __init__(self, route: Route, deadline_s: float, durability: Durability = Durability.MEMORY) -> None:
        self.route = route
        self.lasts = (durability, max(1, round(deadline_s * 1000)))
        self.deadline_s = deadline_s
        self.patience_s = max(0.5, 10 * deadline_s)
        self.closed = False
        self.loop = asyncio.get_running_loop()
        self._trunks: dict[Address | None, Trunk] = {}
        self._places: dict[str, Address] = {}
        self._nodes: list[Address] = list(route.seeds)
        self._open: deque[Call] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._trunk = self.trunk(self._nodes[0] if self._nodes else None)

    def trunk(self, address: Address | None) -> Trunk:
        """The trunk to a node."""
        if address not in self._trunks:
            self._trunks[address] = Trunk(self, address)
            if address is not None and address not in self._nodes:
                self._nodes.append(address)
        return self._trunks[address]

    def place(self, pool: str) -> Address | None:
        """Where a pool is, as far as we know; None where there is but one server."""
        return self._places.get(pool) or (self._nodes[0] if self._nodes else None)

    def ask(self, packed_call: bytes, pool: str, *, lasting: bool = False) -> Call:
        """Ask the pool's node. The call's future is done by its deadline at the latest."""
        due = self.loop.time() + self.deadline_s
        call = Call(packed_call, pool, self.loop.create_future(), due, lasting=lasting)
        calls = self._open
        while calls and calls[0].future.done():
            calls.popleft()
        calls.append(call)
        if self._timer is None:
            self._timer = self.loop.call_at(call.due - self.deadline_s / 2, self._look)
        self._submit(call)
        return call

    def _submit(self, call: Call) -> None:
        call.asking = False
        trunk = self.trunk(self.place(call.pool)) if self._nodes else self._trunk
        trunk.ask(call)

    def _look(self) -> None:
        """End the calls whose time is up, and doubt a connection that has been silent for too long."""
        now, calls = self.loop.time(), self._open
        while calls and (calls[0].future.done() or calls[0].due <= now):
            call = calls.popleft()
            if not call.future.done():
                call.future.set_result(None)
        self._timer = None
        if calls:
            oldest, half = calls[0], self.deadline_s / 2
            late = oldest.due - half <= now
            if late:
                self._doubt(oldest.line)
            when = min(oldest.due, now + half / 4) if late else oldest.due - half
            self._timer = self.loop.call_at(when, self._look)

    def _doubt(self, line: Line | None) -> None:
        """Have another connection made beside one that is silent for far longer than it usually is."""
        if line is None or line.closed or not isinstance(line.holder, Trunk):
            return
        if line is line.holder.line and self.doubts(line):
            line.holder.connect(anew=True)

    def doubts(self, line: Line) -> bool:
        """Whether a connection has been silent for far longer than it usually is."""
        return line.owing_s() > max(self.deadline_s / 3, _PATIENCE_TRIPS * line.trip)

    def heed(self, trunk: Trunk, call: Call, text: str) -> None:
        """Take an error reply: go where it points, ask again later, or let the caller know."""
        code, _, rest = text.partition(" ")
        if code in {"MOVED", "ASK"} and self._nodes:
            call.hops += 1
            call.said = text
            address = address_in(rest, trunk.address)
            if code == "ASK":
                call.asking = True
                self.trunk(address).ask(call)
                return
            self._places[call.pool] = address
            self._again(call, _PAUSE_S if call.hops > _QUICK_HOPS else 0.0)
        elif text.startswith(LATER):
            call.said = text
            self._again(call, _PAUSE_S)
        else:
            call.future.set_result(Complaint(text))

    def _again(self, call: Call, pause_s: float) -> None:
        if pause_s:
            self.loop.call_later(pause_s, self._submit, call)
        else:
            self._submit(call)

    def left(self, trunk: Trunk, why: str) -> bool:
        """Take note that a node cannot be reached; in a cluster its calls go on to the next node."""
        calls = trunk.take_queue()
        for call in calls:
            call.said = why
        if not self._nodes:
            trunk.ask(*calls)
            return self.closed
        address = trunk.address
        self._places = {pool: place for pool, place in self._places.items() if place != address}
        if self._nodes[0] == address:
            self._nodes.append(self._nodes.pop(0))
        for call in calls:
            self._again(call, _PAUSE_S)
        return True

    def pointed(self, pool: str, text: str) -> bool:
        """Take note of where an error reply points; False where it points nowhere."""
        if not text.startswith("MOVED ") or not self._nodes:
            return False
        self._places[pool] = address_in(text.removeprefix("MOVED "), self.place(pool))
        return True

    def explore(self, trunk: Trunk) -> None:
        """Ask a node of a cluster for the others: each may be asked the way when this one is gone."""
        if self._nodes:
            call = Call(packed("CLUSTER", "SLOTS"), "", self.loop.create_future(), 0.0)
            call.future.add_done_callback(lambda slots: self._learn(slots.result()))
            trunk.ask(call)

    def _learn(self, reply: Any) -> None:  # noqa: ANN401 - a reply off the wire
        if not isinstance(reply, Complaint):
            nodes = [(node[0].decode(), int(node[1])) for row in reply for node in row[2:] if node[0]]
            self._nodes += [node for node in dict.fromkeys(nodes) if node not in self._nodes]

    async def begin(self) -> None:
        """Connect to the first node, or learn that it is away. Raises ConfigError if it keeps us out."""
        self._trunk.connect()
        await self._trunk.ready.wait()
        if self._trunk.barred:
            raise ConfigError(f"redis: {self._trunk.trouble}")

    async def aclose(self) -> None:
        """Give everything up: what is not answered never will be."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for call in self._open:
            if not call.future.done():
                call.said = "the client was closed"
                call.future.set_result(None)
        for trunk in self._trunks.values():
            await trunk.aclose()
        await self.route.aclose()

"""One connection that many callers share: replies go to the calls in the order they were written.

redis-py connects (address, TLS, user, database, the sentinels' word); then this protocol takes the
transport over, so that a reply is one step from the socket to its caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Any, Protocol, Self

import hiredis
from redis.exceptions import RedisError

from quota.errors import ConfigError
from quota.gate.wire import Complaint, packed
from quota.store.durability import NOT_KEPT, Durability, Seal, seal_of

_MORE = object()
_FILL = 16
LATER = (
    *("LOADING", "BUSY", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "NOREPLICAS", "MISCONF"),
    *("OOM", "ERR Function not found", NOT_KEPT),
)
"""What passes by itself: the same call may be answered a moment later."""


class LineLost(Exception):
    """The connection is gone, or could not be made."""


class Call:
    """A question on its way. A caller that gives up leaves it in its place, for its reply to fall on.

    ``future`` gets the reply, a Complaint, or None where no answer came in time. ``said`` is what
    was heard last instead of an answer, ``written`` when it was last sent, by the loop's clock. The
    answer of a ``lasting`` one counts only once the line's seal has confirmed it. One that is
    ``asking`` goes to a node that a cluster is moving the pool to: ASKING is written just before it.
    """

    __slots__ = ("asking", "due", "future", "hops", "lasting", "line", "packed", "pool", "said", "written")

    def __init__(
        self, packed: bytes, pool: str, future: asyncio.Future[Any], due: float, *, lasting: bool = False
    ) -> None:
        self.packed, self.pool, self.future, self.due = packed, pool, future, due
        self.lasting = lasting
        self.asking = False
        self.line: Line | None = None
        self.written = 0.0
        self.hops = 0
        self.said = ""


class Holder(Protocol):
    """Who uses a line."""

    def heed(self, line: Line, call: Call, text: str) -> None:
        """Take an error reply."""
        ...

    def stirred(self, line: Line) -> None:
        """Learn that a line is lost (``closed``), or has room again."""
        ...


class Line(asyncio.Protocol):
    """A connection in use: what was written and not answered yet, and when it was last heard.

    ``trip`` is how long an answer usually takes here. A ``full`` line takes no more for now; ``fill`` calls
    are a batch that waits for no more. With a durability other than memory every batch that needs it ends
    in the seal, a command whose reply says that what stands before it on this connection is safe; until
    then the answers are held back. It costs as much for many as for one, so such a batch is never full.
    """

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.waiting: deque[Call] = deque()
        self.full = False
        self.fill: float = _FILL
        self.closed = False
        self.trip = 0.0
        self._heard = 0.0
        self._now = asyncio.get_running_loop().time
        self._reader: Any = hiredis.Reader(protocolError=LineLost, replyError=Complaint, notEnoughData=_MORE)
        self._connection: Any = None
        self._transport: Any = None
        self._seal: Seal | None = None
        self._mark: Call | None = None
        self._held: list[tuple[Call, Any]] = []

    @classmethod
    async def open(
        cls,
        connection: Any,  # noqa: ANN401 - a connection of redis-py's
        holder: Holder,
        patience_s: float,
        lasts: tuple[Durability, int] | None = None,
    ) -> Self:
        """Connect, and take over; ``lasts`` is the durability, and the milliseconds that it may take.

        Raises LineLost, from what went wrong.
        """
        line = cls(holder)
        began = line._now()
        try:
            async with asyncio.timeout(patience_s):
                await connection.connect()
                if lasts is not None:
                    line._seal_with(await seal_of(_saying(connection), *lasts))
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, RedisError | OSError | ConfigError):
                raise LineLost(str(error) or type(error).__name__) from error
            raise
        line._heard = line._now()
        line.trip = line._heard - began
        line._take_over(connection)
        return line

    def _seal_with(self, seal: Seal | None) -> None:
        if seal is not None:
            self._seal, self._mark = seal, _unawaited(*seal.words)
            self.fill = inf

    def _take_over(self, connection: Any) -> None:  # noqa: ANN401 - a connection of redis-py's
        self._connection = connection
        reader, writer = connection._reader, connection._writer  # noqa: SLF001 - redis-py shows its streams nowhere else
        self._transport = writer.transport
        self._transport.set_protocol(self)
        if self._transport.is_closing() or reader.at_eof():
            self.holder = _Nobody()
            self.close()
            raise LineLost("the connection was closed at once")

    def write(self, calls: Sequence[Call]) -> None:
        """Send these in one piece."""
        now = self._now()
        if self._mark is not None and any(call.lasting for call in calls):
            calls = [*calls, self._mark]
        if any(call.asking for call in calls):
            pairs = ((_unawaited("ASKING"), call) if call.asking else (call,) for call in calls)
            calls = [call for pair in pairs for call in pair]
        for call in calls:
            call.line, call.written = self, now
        self.waiting.extend(calls)
        self._transport.write(
            calls[0].packed if len(calls) == 1 else b"".join([call.packed for call in calls])
        )

    def owed(self) -> list[Call]:
        """The calls that wait for their answer here, or for it to be confirmed."""
        calls = [*(call for call, _ in self._held), *self.waiting]
        return [call for call in calls if not call.future.done()]

    def owing_s(self) -> float:
        """How long we have been waiting for a reply without hearing a byte.

        A server that has answered and waits for its disk or its replica is not silent, up to a deadline.
        """
        if self._held and not self._held[0][0].future.done():
            return 0.0
        return self._now() - max(self._heard, self.waiting[0].written) if self.waiting else 0.0

    def data_received(self, data: bytes) -> None:
        """Hand the replies out."""
        self._heard = self._now()
        waiting, reader, mark = self.waiting, self._reader, self._mark
        try:
            reader.feed(data)
            reply = reader.gets()
            if reply is not _MORE:
                self.trip += (self._heard - waiting[0].written - self.trip) / 8
            while reply is not _MORE:
                call = waiting.popleft()
                if call is mark:
                    self._let_go(reply)
                elif not call.future.done():
                    if type(reply) is Complaint:
                        self.holder.heed(self, call, reply.text)
                    elif mark is not None and call.lasting:
                        self._hold(call, reply)
                    else:
                        call.future.set_result(reply)
                reply = reader.gets()
        except (LineLost, IndexError):  # no reply of ours: what follows would go to the wrong callers
            self.close()

    def _hold(self, call: Call, reply: Any) -> None:  # noqa: ANN401 - a reply off the wire
        if self._seal is not None:
            call.said = self._seal.complaint(None)
        self._held.append((call, reply))

    def _let_go(self, said: Any) -> None:  # noqa: ANN401 - a reply off the wire
        """Answer the calls that the seal confirms; where it does not, they are not answered."""
        held, self._held = self._held, []
        for call, reply in held:
            if call.future.done():
                continue
            if self._seal is not None and not self._seal.holds(said):
                self.holder.heed(self, call, self._seal.complaint(said))
            else:
                call.future.set_result(reply)

    def pause_writing(self) -> None:
        """Write no more for now: what is not written can still be taken back."""
        self.full = True

    def resume_writing(self) -> None:
        """Write again."""
        self.full = False
        self.holder.stirred(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Nobody will answer what waits here."""
        if not self.closed:
            self.closed = True
            self._connection._close()  # noqa: SLF001 - redis-py shows its streams nowhere else
            self.holder.stirred(self)

    def close(self) -> None:
        """Give the connection up at once."""
        self._transport.abort()
        self.connection_lost(None)


def _unawaited(*words: str | int) -> Call:
    """A command whose reply nobody waits for."""
    nobody: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    nobody.set_result(None)
    return Call(packed(*words), "", nobody, 0.0)


def _saying(connection: Any) -> Any:  # noqa: ANN401 - a connection of redis-py's
    """A command and its reply, on a connection that is not taken over yet."""

    async def say(*words: str | int) -> Any:  # noqa: ANN401 - as the command replies
        await connection.send_command(*words)
        return await connection.read_response()

    return say


class _Nobody:
    """Who holds a line that never was."""

    def heed(self, line: Line, call: Call, text: str) -> None:
        """There is nothing to take."""

    def stirred(self, line: Line) -> None:
        """There is nothing to learn."""


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end: again and again, as `wait_for` of Python 3.11 may lose one."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.05)

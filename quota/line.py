"""One connection that many callers share: replies go to the calls in the order they were written.

redis-py connects (address, TLS, user, database, the sentinels' word); then this protocol takes the
transport over, so that a reply is one step from the socket to its caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, Self

import hiredis
from redis.exceptions import RedisError

from quota.wire import Complaint

_MORE = object()


class LineLost(Exception):
    """The connection is gone, or could not be made."""


class Call:
    """A question on its way. A caller that gives up leaves it in its place, for its reply to fall on.

    ``future`` gets the reply, a Complaint, or None where no answer came in time. ``said`` is what
    was heard last instead of an answer, ``written`` when it was last sent, by the loop's clock.
    """

    __slots__ = ("due", "future", "hops", "line", "packed", "pool", "said", "written")

    def __init__(self, packed: bytes, pool: str, future: asyncio.Future[Any], due: float) -> None:
        self.packed, self.pool, self.future, self.due = packed, pool, future, due
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

    ``trip`` is how long an answer usually takes here. A ``full`` line takes no more for now.
    """

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.waiting: deque[Call] = deque()
        self.full = False
        self.closed = False
        self.trip = 0.0
        self._heard = 0.0
        self._now = asyncio.get_running_loop().time
        self._reader: Any = hiredis.Reader(protocolError=LineLost, replyError=Complaint, notEnoughData=_MORE)
        self._connection: Any = None
        self._transport: Any = None

    @classmethod
    async def open(cls, connection: Any, holder: Holder, patience_s: float) -> Self:  # noqa: ANN401 - a connection of redis-py's
        """Connect, and take over. Raises LineLost, from what went wrong."""
        line = cls(holder)
        began = line._now()
        try:
            async with asyncio.timeout(patience_s):
                await connection.connect()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, RedisError | OSError):
                raise LineLost(str(error) or type(error).__name__) from error
            raise
        line._heard = line._now()
        line.trip = line._heard - began
        line._take_over(connection)
        return line

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
        for call in calls:
            call.line, call.written = self, now
        self.waiting.extend(calls)
        self._transport.write(
            calls[0].packed if len(calls) == 1 else b"".join([call.packed for call in calls])
        )

    def owing_s(self) -> float:
        """How long we have been waiting for a reply without hearing a byte."""
        return self._now() - max(self._heard, self.waiting[0].written) if self.waiting else 0.0

    def data_received(self, data: bytes) -> None:
        """Hand the replies out."""
        self._heard = self._now()
        waiting, reader = self.waiting, self._reader
        try:
            reader.feed(data)
            reply = reader.gets()
            if reply is not _MORE:
                self.trip += (self._heard - waiting[0].written - self.trip) / 8
            while reply is not _MORE:
                call = waiting.popleft()
                if not call.future.done():
                    if type(reply) is Complaint:
                        self.holder.heed(self, call, reply.text)
                    else:
                        call.future.set_result(reply)
                reply = reader.gets()
        except (LineLost, IndexError):  # no reply of ours: what follows would go to the wrong callers
            self.close()

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

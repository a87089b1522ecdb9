"""What is known of a pool without asking: that its quota has run out for the day.

Known only while the pool's ``changes`` are being followed, and only from answers to questions
that were asked after the last change heard: so an answer that a change overtook teaches nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

from quota.decision import PoolName
from quota.gate.line import Call, Line, LineLost, ended
from quota.gate.trunk import Switchboard
from quota.gate.wire import Complaint, changes_after, last_change, page_of

BLOCK_MS = 200
"""How long the store holds a question for changes; a silence beyond it is a lost connection."""

_GRACE_S = 0.2
_AGAIN_S = 0.02
_BARRED_S = 5.0
_HARMLESS = {b"phase", b"level"}
"""Changes that an exhaustion outlasts."""


class Latch:
    """Follows one pool. ``exhausted`` is True only while that is certain, as far as we have heard.

    ``heard`` counts everything that may end what was known; ``followed`` says that we listen.
    """

    def __init__(self, board: Switchboard, pool: PoolName) -> None:
        self.exhausted = False
        self.followed = False
        self.heard = 0
        self._board, self._pool = board, pool
        self._line: Line | None = None
        self._task = asyncio.create_task(self._follow())

    def learn(self, heard: int) -> None:
        """Take in that the pool was exhausted; ``heard`` is how much had been heard when that was asked."""
        if self.followed and heard == self.heard:
            self.exhausted = True

    def forget(self) -> None:
        """Know nothing any more."""
        self.exhausted = False
        self.heard += 1

    async def _follow(self) -> None:
        """Follow for ever, on a connection of our own."""
        while True:
            pause_s = _AGAIN_S
            try:
                await self._listen()
            except (LineLost, TimeoutError):
                pass
            except Complaint as complaint:
                pause_s = _AGAIN_S if self._points_elsewhere(complaint.text) else _BARRED_S
            finally:
                self.followed = False
                self.forget()
                if self._line is not None and not self._line.closed:
                    self._line.close()
                self._line = None
            await asyncio.sleep(pause_s)

    def _points_elsewhere(self, text: str) -> bool:
        return self._board.pointed(self._pool, text) or text.startswith(
            ("LOADING", "MASTERDOWN", "CLUSTERDOWN")
        )

    async def _listen(self) -> None:
        connection = self._board.route.connection(self._board.place(self._pool))
        self._line = await Line.open(connection, self, self._board.patience_s)
        after = await self._last()
        self.followed = True
        self.forget()
        while True:
            page = page_of(_first(await self._ask(changes_after(self._pool, after, BLOCK_MS))))
            for entry_id, change in page:
                self._note(change)
                after = entry_id
            if not page and (last := await self._last()) != after:  # another stream under the same name
                self.forget()
                after = last

    def _note(self, change: Any) -> None:  # noqa: ANN401 - a reply off the wire
        kind = change.get(b"kind")
        if kind not in _HARMLESS:
            self.forget()
            self.exhausted = kind == b"status" and change.get(b"now") == b"exhausted"

    async def _last(self) -> str:
        page = page_of(await self._ask(last_change(self._pool)))
        return page[0][0] if page else "0-0"

    async def _ask(self, packed: bytes) -> Any:  # noqa: ANN401 - a reply off the wire
        """Ask on our own line. Raises LineLost, TimeoutError or Complaint."""
        loop = asyncio.get_running_loop()
        call = Call(packed, self._pool, loop.create_future(), 0.0)
        if self._line is None or self._line.closed:
            raise LineLost("the connection was lost")
        self._line.write([call])
        async with asyncio.timeout(BLOCK_MS / 1000 + _GRACE_S):
            reply = await call.future
        if isinstance(reply, Complaint):
            raise reply
        return reply

    def heed(self, line: Line, call: Call, text: str) -> None:  # noqa: ARG002 - the protocol's signature
        """Take an error reply."""
        call.future.set_result(Complaint(text))

    def stirred(self, line: Line) -> None:
        """Forget at once when the connection is lost."""
        if line.closed:
            self.followed = False
            self.forget()
            for call in line.waiting:
                if not call.future.done():
                    call.future.set_exception(LineLost("the connection was lost"))

    async def aclose(self) -> None:
        """Listen no more."""
        await ended(self._task)


def _first(reply: Any) -> Any:  # noqa: ANN401 - a reply off the wire
    """The entries of the one stream that was asked for; None where there were none."""
    return reply[0][1] if reply else None

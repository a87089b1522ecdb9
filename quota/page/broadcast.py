"""Server-sent events: the latest state for every listener, encoded once for all of them.

Nothing is queued. Who is slow gets fewer of the states, and never an old one; who takes nothing at
all for a while is let go. Nothing is computed while nobody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

LISTENERS = 64
"""How many may listen at a time."""

TICK_S = 0.2
HEARTBEAT_S = 1.0
PATIENCE_S = 15.0
"""How long a listener may take nothing before it is let go."""

_AGAIN_MS = 1_000
_ENDED = b"event: ended\ndata: null\n\n"
"""The last word of a daemon that ends in order: a connection that only breaks says nothing."""

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


@dataclass(slots=True)
class _Part:
    """One kind of event: its last text, and the number of that text."""

    number: int = 0
    text: bytes = b""


@dataclass(slots=True)
class Broadcast:
    """Tells listeners of what ``parts`` return whenever it is new.

    Parts are sent in their order and when they changed; ``clock`` goes before them, at least once
    a second, so that silence always means a broken connection.
    """

    clock: Callable[[], object]
    parts: Mapping[str, Callable[[], object]]
    listeners: int = 0
    _last: dict[str, _Part] = field(init=False)
    _clocked_at: float = 0.0
    _fresh: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _looking: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._last = {name: _Part() for name in ("clock", *self.parts)}

    def end(self) -> None:
        """Let everybody go: the streams end at once and no new one begins."""
        self._ended.set()
        self._stir()

    def answer(self) -> Response:
        """Let one more listen, or turn it away when there are too many."""
        if self.listeners >= LISTENERS or self._ended.is_set():
            return PlainTextResponse("too many listeners\n", 503, {"retry-after": "5"})
        return _Stream(self)

    async def events(self) -> AsyncGenerator[bytes]:
        """Yield what is new for one listener: first the whole state, then what changes."""
        sent: dict[str, int] = {}
        self._look()
        yield b"retry: %d\n\n" % _AGAIN_MS
        while not self._ended.is_set():
            fresh = self._fresh
            due = [part.text for name, part in self._last.items() if sent.get(name) != part.number]
            sent = {name: part.number for name, part in self._last.items()}
            if due:
                yield b"".join(due)
            else:
                await fresh.wait()
        yield _ENDED

    def join(self) -> None:
        """Count a listener; the first one starts the looking."""
        self.listeners += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on(), name="broadcast")

    def leave(self) -> None:
        """Forget a listener; the last one ends the looking."""
        self.listeners -= 1
        if not self.listeners and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._look()

    def _look(self) -> None:
        """Encode what is new, and wake those who wait for it."""
        news = [self._renew(name, state()) for name, state in self.parts.items()]
        now = asyncio.get_running_loop().time()
        if any(news) or now - self._clocked_at >= HEARTBEAT_S - TICK_S / 2:
            self._clocked_at = now
            self._renew("clock", self.clock())
            self._stir()

    def _renew(self, name: str, state: object) -> bool:
        text = b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(state))
        part = self._last[name]
        if part.text == text:
            return False
        part.number, part.text = part.number + 1, text
        return True

    def _stir(self) -> None:
        fresh, self._fresh = self._fresh, asyncio.Event()
        fresh.set()


class _Stream(StreamingResponse):
    """One listener's answer: counted while it lasts, and ended where the listener hangs."""

    def __init__(self, broadcast: Broadcast) -> None:
        super().__init__(broadcast.events(), headers=_HEADERS, media_type="text/event-stream")
        self._broadcast = broadcast

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the listener leaves, hangs, or the daemon ends."""

        async def send_soon(message: object) -> None:
            async with asyncio.timeout(PATIENCE_S):
                await send(message)  # type: ignore[arg-type]  # a message of ASGI, as it came

        self._broadcast.join()
        try:
            await super().__call__(scope, receive, send_soon)
        except TimeoutError:
            pass
        finally:
            self._broadcast.leave()

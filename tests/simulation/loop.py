"""An event loop with a seeded scheduler and a clock of its own: one step at a time, in any fair order.

Whatever can run next may run next, as asyncio allows: tasks in any order, plain callbacks in theirs.
Time stands still while anything can run, and then leaps to the next timer.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any

OWNER: ContextVar[list[asyncio.Task[Any]]] = ContextVar("OWNER")
"""Where whoever runs now has its tasks written down, so that they can die with it."""


class Stalled(Exception):
    """Nothing can run any more, and nobody waits for a time."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Chooses by ``rng`` what runs next. ``steps`` counts; ``each_step`` is called after every one."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng
        self._now = 0.0
        self.steps = 0
        self.each_step: Callable[[], None] = lambda: None
        self.accidents: list[str] = []
        self.set_exception_handler(self._note_accident)
        self.set_task_factory(_written_down)

    def time(self) -> float:
        """Tell the virtual time, in seconds since the world began."""
        return self._now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override] # noqa: ANN401 - asyncio's own signature
        """Let a thread of the world's do it: there are no others."""
        done: asyncio.Future[Any] = executor.submit(func, *args)
        return done

    def _note_accident(self, _loop: object, context: dict[str, Any]) -> None:
        """Remember what nobody caught: the world's laws forbid it."""
        self.accidents.append(f"{context['message']}: {context.get('exception')!r}")

    def _run_once(self) -> None:
        """Run one handle; asyncio runs all that are ready, in their order."""
        if not self._ready:
            self._leap()
        self._take_due()
        handle = self._choose()
        if handle is None or handle._cancelled:
            return
        self.steps += 1
        handle._run()
        self.each_step()

    def _leap(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False  # type: ignore[attr-defined] # asyncio's own loop writes it too
        if not self._scheduled:
            raise Stalled(f"after {self.steps} steps, at {self._now:.3f} s")
        self._now = max(self._now, self._scheduled[0].when())

    def _take_due(self) -> None:
        while self._scheduled and self._scheduled[0].when() <= self._now:
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False  # type: ignore[attr-defined] # asyncio's own loop writes it too
            self._ready.append(handle)

    def _choose(self) -> asyncio.Handle | None:
        """Take a step of any task, or the first of the plain callbacks: theirs is a promised order."""
        ready = self._ready
        if not ready:
            return None
        if len(ready) == 1:
            return ready.popleft()
        places, plain = [], False
        for place, handle in enumerate(ready):
            if isinstance(getattr(handle._callback, "__self__", None), asyncio.Task):  # type: ignore[attr-defined] # the handle says whose step it is
                places.append(place)
            elif not plain:
                plain = True
                places.append(place)
        place = self._rng.choice(places)
        handle = ready[place]
        del ready[place]
        return handle

    def _write_to_self(self) -> None:
        """Wake up: there is nothing to wake up from."""

    def _process_events(self, _events: object) -> None:
        """Take in what sockets did: there are none."""


def _written_down(
    loop: asyncio.AbstractEventLoop,
    coroutine: Any,  # noqa: ANN401 - asyncio's signature
    context: Context | None = None,
) -> asyncio.Task[Any]:
    """Make a task, and note it where its maker wants it noted."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, context=context)
    tasks = (context or copy_context()).get(OWNER)
    if tasks is not None:
        tasks.append(task)
    return task

"""Holds Python's search for cycles off while a whole day is in memory.

Over millions of orders one search stops the loop for longer than a command to the store may take: it
would time out though the store has answered. What a day consists of has no cycles, so nothing stays.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_HOLDING: Final[list[None]] = []


@contextmanager
def uncollected() -> Iterator[None]:
    """Hold the search off until everybody who asked for it is done."""
    if not _HOLDING and not gc.isenabled():
        yield
        return
    _HOLDING.append(None)
    gc.disable()
    try:
        yield
    finally:
        _HOLDING.pop()
        if not _HOLDING:
            gc.enable()

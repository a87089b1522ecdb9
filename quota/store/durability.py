"""What an answer outlives, and the command that waits for it.

``memory``: the life of the server. ``fsync``: its death, because the write is on its disk.
``replica``: its loss, because a replica has the write too. The command that waits follows the calls on
their own connection: on another one it could ask another server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from quota.errors import ConfigError

Say = Callable[..., Awaitable[Any]]
"""Sends a command to one server and returns the reply; raises redis-py's errors."""

NOT_KEPT = "NOTKEPT"
"""The code of our own for an answer that was not confirmed in time."""


class Durability(StrEnum):
    """What an answer waits for before it is given."""

    MEMORY = "memory"
    FSYNC = "fsync"
    REPLICA = "replica"


class Seal(NamedTuple):
    """The command that confirms what was written before it on its connection, and what it stands for."""

    words: tuple[str | int, ...]
    what: str

    @staticmethod
    def holds(reply: object) -> bool:
        """Whether the reply confirms: WAIT counts replicas, WAITAOF disks first."""
        first = reply[0] if isinstance(reply, list | tuple) and reply else reply
        return isinstance(first, int) and first >= 1

    def complaint(self, reply: object) -> str:
        """Say what is missing."""
        heard = f" ({reply})" if isinstance(reply, Exception) else ""
        return f"{NOT_KEPT} decided, but no {self.what} has confirmed it in time{heard}"


async def seal_of(say: Say, durability: Durability, within_ms: int) -> Seal | None:
    """Find the command for a server; None where each of its answers is as durable as that anyway.

    Raises ConfigError where the server cannot do it, and redis-py's errors where it does not answer.
    """
    if durability is Durability.MEMORY:
        return None
    if durability is Durability.REPLICA:
        return Seal(("WAIT", 1, within_ms), "replica")
    try:
        await say("WAITAOF", 1, 0, 1)
    except ResponseError as error:
        if "unknown command" not in str(error).lower():
            raise ConfigError(f"durability fsync: {error}") from None
        await _demand_fsync_always(say)
        return None
    return Seal(("WAITAOF", 1, 0, within_ms), "disk")


async def _demand_fsync_always(say: Say) -> None:
    """A server without WAITAOF has to write to its disk before it answers."""
    rule = "durability fsync: this server has no WAITAOF, so it needs appendonly yes and appendfsync always"
    try:
        flat = await say("CONFIG", "GET", "append*")
    except ResponseError as error:
        raise ConfigError(f"{rule}, and its CONFIG GET is needed to know: {error}") from None
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    if (found.get(b"appendonly"), found.get(b"appendfsync")) != (b"yes", b"always"):
        raise ConfigError(rule)

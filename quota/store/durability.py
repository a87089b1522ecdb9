"""What an answer outlives, and the command that waits for it.

``memory``: the life of the server. ``fsync``: its death, because the write is on its disk.
``replica``: its loss, because a replica has the write too. The command that waits follows the calls on
their own connection: on another one it could ask another server. A server without such a command writes
to its disk before it answers, if it is set so: then the command that follows reads how it is set, each
time, because that can be changed while it runs, and by the server that is promoted in its place.
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
    """The command that confirms what was written before it on its connection, and what it stands for.

    ``wants`` are the settings that its reply has to show; where there are none, the reply is a count.
    """

    words: tuple[str | int, ...]
    what: str
    wants: frozenset[tuple[bytes, bytes]] = frozenset()

    def holds(self, reply: object) -> bool:
        """Whether the reply confirms: WAIT counts replicas, WAITAOF disks first."""
        if self.wants:
            return self.wants <= _settings(reply)
        first = reply[0] if isinstance(reply, list | tuple) and reply else reply
        return isinstance(first, int) and first >= 1

    def complaint(self, reply: object) -> str:
        """Say what is missing."""
        heard = f" ({reply})" if isinstance(reply, Exception) else ""
        wrong = sorted(f"{name.decode()} {value.decode()}" for name, value in _settings(reply) - self.wants)
        heard = f" ({', '.join(wrong)})" if wrong and self.wants else heard
        return f"{NOT_KEPT} decided, but no {self.what} has confirmed it in time{heard}"


def _settings(reply: object) -> set[tuple[bytes, bytes]]:
    """Read the reply of CONFIG GET; whatever else was heard has no settings."""
    flat = reply if isinstance(reply, list) else []
    return {
        (name, value)
        for name, value in zip(flat[::2], flat[1::2], strict=False)
        if isinstance(name, bytes) and isinstance(value, bytes)
    }


_ALWAYS = Seal(
    ("CONFIG", "GET", "appendonly", "appendfsync", "no-appendfsync-on-rewrite"),
    "disk",
    frozenset({(b"appendonly", b"yes"), (b"appendfsync", b"always"), (b"no-appendfsync-on-rewrite", b"no")}),
)
"""For a server without WAITAOF: with these settings each of its answers is on its disk already."""


async def seal_of(say: Say, durability: Durability, within_ms: int) -> Seal | None:
    """Find the command for a server; None where nothing is waited for.

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
        return _ALWAYS
    return Seal(("WAITAOF", 1, 0, within_ms), "disk")


async def _demand_fsync_always(say: Say) -> None:
    """A server without WAITAOF has to write to its disk before it answers."""
    rule = (
        "durability fsync: this server has no WAITAOF, so it needs appendonly yes, appendfsync always "
        "and no-appendfsync-on-rewrite no"
    )
    try:
        reply = await say(*_ALWAYS.words)
    except ResponseError as error:
        raise ConfigError(f"{rule}, and its CONFIG GET is needed to know: {error}") from None
    if not _ALWAYS.holds(reply):
        raise ConfigError(rule)

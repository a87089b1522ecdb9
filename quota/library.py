"""The functions in the store: loads them, calls them, and refuses what is not ours.

A store that is too old, evicts keys, lacks permissions or holds another library is the
operator's mistake and is said at once. A library that was lost while we run is loaded again. Every
primary of a cluster has it, and whatever server takes a primary's place is checked like the first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any

from redis import exceptions as failure
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from quota.decision import Phase, Side, Status, Verdict, Violation
from quota.errors import ConfigError, LedgerCorrupt, LedgerUnavailable, QuotaError
from quota.store.durability import Durability, Seal, seal_of
from quota.store.nodes import Nodes, only

VERSION = 3
EVENTS = ("new", "cancelled", "rejected", "fill", "bust")
LUA_FILES = ("quota.lua", "holds.lua", "batch.lua", "gateway.lua", "day.lua", "replay.lua", "gaps.lua")
_TEXT = "\n".join(resources.files("quota").joinpath("lua", name).read_text() for name in LUA_FILES)
DIGEST = hashlib.sha256(_TEXT.encode()).hexdigest()[:16]
SOURCE = _TEXT.replace("@digest@", DIGEST)
"""The library as it is loaded. By its digest another text of the same version is told from ours."""

_MINIMUM = {"redis": (7, 0), "valkey": (7, 2)}
_AWAY = (
    failure.ConnectionError,
    failure.TimeoutError,
    failure.BusyLoadingError,
    failure.ReadOnlyError,
    failure.OutOfMemoryError,
    failure.ClusterDownError,
    failure.TryAgainError,
    failure.MasterDownError,
)
_AWAY_CODES = ("MISCONF", "OOM", "NOREPLICAS", "BUSY")
"""What the client has no class for. It takes the code off the text of those that it has one for."""
_FORBIDDEN = re.compile("NOPERM|ACL failure|The user executing the script can't")
"""How a server says that a command inside a function is not allowed to its caller."""


def translated(error: RedisError) -> QuotaError:
    """Say whose fault a failure of the store is, in our errors."""
    text = str(error)
    if isinstance(error, failure.AuthenticationError | failure.NoPermissionError) or _FORBIDDEN.search(text):
        return ConfigError(f"redis: {text}")
    if isinstance(error, failure.MovedError | failure.AskError):
        return ConfigError(f"redis: this server is a node of a cluster and the pool is elsewhere ({text})")
    if isinstance(error, _AWAY) or text.startswith(_AWAY_CODES):
        return LedgerUnavailable(f"redis: {text or type(error).__name__}")
    if isinstance(error, ResponseError):
        return LedgerCorrupt(f"redis: {text}")
    return LedgerUnavailable(f"redis: {text}")


def lost(error: RedisError) -> bool:
    """Whether the store says that it does not know our functions."""
    return isinstance(error, ResponseError) and "Function not found" in str(error)


def moved(error: RedisError) -> bool:
    """Whether a node of a cluster says that it is not, or no longer, the one to ask."""
    return isinstance(error, failure.MovedError | failure.ClusterDownError)


class Library:
    """Our functions in one store, on each of its primaries.

    With a ``durability`` other than memory a call that is ``lasting`` returns only once what it wrote is
    confirmed; where that does not happen within ``within_ms`` it raises LedgerUnavailable.
    """

    def __init__(
        self,
        store: Redis | Nodes,
        durability: Durability = Durability.MEMORY,
        within_ms: int = 1000,
    ) -> None:
        self._nodes = store if isinstance(store, Nodes) else only(store)
        self._durability, self._within_ms = durability, within_ms
        self._seals: dict[Redis, Seal] = {}
        self._run_ids: dict[Redis, str] = {}

    async def call(
        self, function: str, keys: Sequence[str], *args: bytes | str, lasting: bool = False
    ) -> Any:  # noqa: ANN401 - as the function replies
        """Call a function on its keys' node; load the library first if that has lost it.

        Raises LedgerUnavailable, LedgerCorrupt or ConfigError.
        """
        words = ("FCALL", function, len(keys), *keys, *args)
        sent = self._sealed if lasting and self._durability is not Durability.MEMORY else _plain
        return await self._routed(keys[0], lambda node: sent(node, *words))

    async def question(self, function: str, keys: Sequence[str], *args: str) -> Any:  # noqa: ANN401 - as the function replies
        """Call a function that writes nothing, as a user who may only read can; otherwise like ``call``."""
        return await self.command("FCALL_RO", function, len(keys), *keys, *args)

    async def command(self, *words: bytes | str | int) -> Any:  # noqa: ANN401 - as the command replies
        """Send any command; to the node of the first key of a pool among its words, else to any."""
        key = next((word for word in words if isinstance(word, str) and word.startswith("quota:{")), "")
        return await self._routed(key, lambda node: _plain(node, *words))

    async def _routed(self, key: str, send: Callable[[Redis], Awaitable[Any]]) -> Any:  # noqa: ANN401 - as the node replies
        """Have something done by a key's node: a second time where the key or the library had gone."""
        try:
            return await send(await self._node(key))
        except RedisError as error:
            if not await self._found_again(key, error):
                raise self._told(error) from error
        try:
            return await send(await self._node(key))
        except RedisError as error:
            raise self._told(error) from error

    async def _node(self, key: str) -> Redis:
        if self._nodes.stale:
            await self._explore()
        return self._nodes.of(key) if key else self._nodes.primaries()[0]

    async def _found_again(self, key: str, error: RedisError) -> bool:
        if lost(error):
            await self._serve(self._nodes.of(key))
            return True
        if not (self._nodes.several and moved(error)):
            return False
        self._nodes.stale = True
        return True

    def _told(self, error: RedisError) -> QuotaError:
        """Say whose fault it is; in a cluster, whoever is away may have been replaced by now."""
        if not self._nodes.several or lost(error):
            return translated(error)
        self._nodes.stale = self._nodes.stale or isinstance(error, _AWAY) or moved(error)
        if moved(error) or isinstance(error, failure.AskError):
            return LedgerUnavailable(f"redis: the pool is moving ({error})")
        return translated(error)

    async def _explore(self) -> None:
        """Learn the cluster's primaries; those that are new to us are checked like the first."""
        await self._nodes.look()
        for node in self._nodes.primaries():
            if node not in self._run_ids:
                await self._serve(node)

    async def _sealed(self, node: Redis, *words: bytes | str | int) -> Any:  # noqa: ANN401 - as the command replies
        """Send a command, and on the same connection the one that confirms it."""
        if node not in self._seals:
            await self._serve(node)
        seal = self._seals[node]
        pipe: Any = node.pipeline(transaction=False)
        async with pipe:
            pipe.execute_command(*words).execute_command(*seal.words)
            reply, confirmed = await pipe.execute(raise_on_error=False)
        if isinstance(reply, Exception):
            raise reply
        if not seal.holds(confirmed):
            raise LedgerUnavailable(f"redis: {seal.complaint(confirmed)}")
        return reply

    async def server_ms(self) -> int:
        """Read the store's clock, in milliseconds since the epoch; of a cluster, some node's."""
        seconds, micros = await self.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def load(self) -> None:
        """See that every primary can serve us and holds our library, of our version.

        Raises ConfigError when one cannot or holds a newer one, LedgerUnavailable when it is away.
        """
        try:
            if self._nodes.several:
                await self._nodes.look()
            nodes = self._nodes.primaries()
        except RedisError as error:
            raise self._told(error) from error
        for node in nodes:
            await self._serve(node)

    async def recognise(self, key: str, run_id: str) -> None:
        """Check a key's server where it is not the one that we checked, but started or promoted since.

        Until it has passed, nothing that has to last is taken as confirmed there.
        """
        node, process = self._nodes.of(key), run_id.partition("-")[0]
        if node in self._run_ids and self._run_ids[node] != process:
            self._seals.pop(node, None)
            await self._serve(node)

    async def _serve(self, node: Redis) -> None:
        """See that one server can serve us and holds our library."""
        try:
            run_id = await self._check_server(node)
            await self._load_if_older(node)
            check_words(await _plain(node, "FCALL_RO", "quota_describe", 0))
            seal = await seal_of(node.execute_command, self._durability, self._within_ms)
        except RedisError as error:
            raise self._told(error) from error
        self._run_ids[node] = run_id
        if seal is not None:
            self._seals[node] = seal

    async def _check_server(self, node: Redis) -> str:
        facts = await _plain(node, "INFO")
        check_version(facts)
        policy = str(facts.get("maxmemory_policy", "noeviction"))
        if policy.startswith("allkeys"):
            raise ConfigError(
                f"redis: maxmemory-policy is {policy}: a ledger must not lose keys, set noeviction"
            )
        if facts.get("role") == "slave":
            raise LedgerUnavailable("redis: this server is a replica")
        return str(facts.get("run_id", ""))

    async def _load_if_older(self, node: Redis) -> None:
        loaded = await _plain(node, "FUNCTION", "LIST", "LIBRARYNAME", "quota")
        try:
            described = await _plain(node, "FCALL_RO", "quota_describe", 0) if loaded else [0]
        except RedisError as error:
            if not lost(error):
                raise
            raise ConfigError("redis: the store has another library of the name quota, not ours") from None
        version = described[0]
        if version > VERSION:
            raise ConfigError(
                f"redis: the store has version {version} of the library quota, this quotad speaks {VERSION}"
            )
        if version < VERSION or described[-1] != DIGEST.encode():
            await _plain(node, "FUNCTION", "LOAD", "REPLACE", SOURCE)


async def _plain(node: Redis, *words: bytes | str | int) -> Any:  # noqa: ANN401 - as the command replies
    return await node.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


def check_version(facts: dict[str, Any]) -> None:
    """Raise ConfigError unless the server is new enough for functions."""
    name = "valkey" if facts.get("server_name") == "valkey" else "redis"
    text = str(facts.get(f"{name}_version", facts.get("redis_version", "0")))
    found = tuple(int(number) for number in re.findall(r"\d+", text)[:2])
    if found < _MINIMUM[name]:
        wanted = ".".join(str(number) for number in _MINIMUM[name])
        raise ConfigError(f"redis: the server is {name} {text}, at least {wanted} is needed")


def check_words(described: Sequence[Any]) -> None:
    """Raise ConfigError unless the library in the store speaks our words."""
    ours = [[str(word) for word in words] for words in (Side, Verdict, Status, Phase, Violation, EVENTS)]
    theirs = [[word.decode() for word in words] for words in described[1:-1]]
    if described[0] != VERSION or theirs != ours:
        raise ConfigError("redis: the library quota in the store speaks other words than this quotad")

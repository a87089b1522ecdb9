"""The functions in the store: loads them, calls them, and refuses what is not ours.

A store that is too old, evicts keys, lacks permissions or holds another library is the
operator's mistake and is said at once. A library that was lost while we run is loaded again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from redis import exceptions as failure
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from quota.decision import Phase, Side, Status, Verdict, Violation
from quota.endpoints import Redis as RedisSettings
from quota.errors import ConfigError, LedgerCorrupt, LedgerUnavailable, QuotaError

VERSION = 2
EVENTS = ("new", "cancelled", "rejected", "fill", "bust")
LUA_FILES = ("quota.lua", "holds.lua", "batch.lua", "gateway.lua", "day.lua")
SOURCE = "\n".join(resources.files("quota").joinpath("lua", name).read_text() for name in LUA_FILES)

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


class Library:
    """Our functions in one store."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def call(self, function: str, keys: Sequence[str], *args: bytes | str) -> Any:  # noqa: ANN401 - as the function replies
        """Call a function; load the library first if the store has lost it.

        Raises LedgerUnavailable, LedgerCorrupt or ConfigError.
        """
        try:
            return await self._command("FCALL", function, len(keys), *keys, *args)
        except RedisError as error:
            if not lost(error):
                raise translated(error) from error
        await self.load()
        return await self.command("FCALL", function, len(keys), *keys, *args)

    async def command(self, *words: bytes | str | int) -> Any:  # noqa: ANN401 - as the command replies
        """Send any command; raises our errors, as ``call`` does."""
        try:
            return await self._command(*words)
        except RedisError as error:
            raise translated(error) from error

    async def _command(self, *words: bytes | str | int) -> Any:  # noqa: ANN401 - as the command replies
        return await self._client.execute_command(*words)  # type: ignore[no-untyped-call] # redis-py leaves it untyped

    async def server_ms(self) -> int:
        """Read the store's clock, in milliseconds since the epoch."""
        seconds, micros = await self.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def load(self) -> None:
        """See that the store can serve us and holds our library, of our version.

        Raises ConfigError when it cannot or holds a newer one, LedgerUnavailable when it is away.
        """
        await self._check_server()
        await self._load_if_older()
        check_words(await self.command("FCALL_RO", "quota_describe", 0))

    async def _check_server(self) -> None:
        facts = await self.command("INFO")
        check_version(facts)
        policy = str(facts.get("maxmemory_policy", "noeviction"))
        if policy.startswith("allkeys"):
            raise ConfigError(
                f"redis: maxmemory-policy is {policy}: a ledger must not lose keys, set noeviction"
            )
        if facts.get("role") == "slave":
            raise LedgerUnavailable("redis: this server is a replica")

    async def _load_if_older(self) -> None:
        loaded = await self.command("FUNCTION", "LIST", "LIBRARYNAME", "quota")
        try:
            version = (await self._command("FCALL_RO", "quota_describe", 0))[0] if loaded else 0
        except RedisError as error:
            if not lost(error):
                raise translated(error) from error
            raise ConfigError("redis: the store has another library of the name quota, not ours") from None
        if version > VERSION:
            raise ConfigError(
                f"redis: the store has version {version} of the library quota, this quotad speaks {VERSION}"
            )
        if version < VERSION:
            await self.command("FUNCTION", "LOAD", "REPLACE", SOURCE)


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
    theirs = [[word.decode() for word in words] for words in described[1:]]
    if described[0] != VERSION or theirs != ours:
        raise ConfigError("redis: the library quota in the store speaks other words than this quotad")


def connected(settings: RedisSettings) -> Redis:
    """Build a client whose every answer comes within the deadline, or not at all.

    It never repeats a command by itself: an answer that did not come is unknown, and only the
    caller knows what asking again means.
    """
    deadline_s = settings.deadline_ms / 1000
    secret = settings.password.get_secret_value() if settings.password else None
    files = {
        "ssl_ca_certs": settings.ca_file,
        "ssl_certfile": settings.cert_file,
        "ssl_keyfile": settings.key_file,
    }
    tls: dict[str, Any] = {name: str(path) for name, path in files.items() if path is not None}
    return Redis.from_url(
        settings.url,
        username=settings.username,
        password=secret,
        socket_timeout=deadline_s,
        socket_connect_timeout=deadline_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        client_name="quotad",
        **tls,
    )

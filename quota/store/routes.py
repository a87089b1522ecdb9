"""From one URL, or a ready client of redis-py, to connections.

``redis://``, ``rediss://`` (TLS) and ``unix://`` as redis-py reads them; several servers as
``redis+sentinel://h1:26379,h2:26379/service/0`` and ``redis+cluster://h1:6379,h2:6379``, with
``rediss+…`` for TLS. Options follow as a query (``?ssl_ca_certs=…``); ``password_file`` names a file
that holds the password. No message of ours repeats the URL, because it may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import Redis as SyncRedis
from redis import connection as sync
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError  # noqa: A004 - redis-py's name for it

from quota.errors import ConfigError

CONNECT_S = 2.0

Address = tuple[str, int]
"""A node of a cluster."""

_SCHEMES = ("redis", "rediss")
_SHAPES = (
    "must be redis://host:port/db, rediss://…, unix:///path, "
    "redis+sentinel://host:port,host:port/service/db or redis+cluster://host:port,host:port"
)
_OURS: Mapping[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    "socket_timeout": None,
    "socket_connect_timeout": CONNECT_S,
    "health_check_interval": 0,
    "retry_on_error": [],
    "retry_on_timeout": False,
}
"""What holds for our connections whatever the client was built with: nobody but us repeats a call."""


@dataclass(frozen=True, slots=True)
class Route:
    """How to get a connection. ``seeds`` are a cluster's first nodes, and empty elsewhere.

    ``keeper`` is what the connections lean on and what must live as long as they do. Written out, a
    route shows none of what may hold a password.
    """

    kind: Any
    options: Mapping[str, Any] = field(repr=False)
    seeds: tuple[Address, ...] = ()
    keeper: object = field(default=None, repr=False)
    sentinel: Sentinel | None = field(default=None, repr=False)

    def connection(self, address: Address | None) -> Any:  # noqa: ANN401 - redis-py types none of it
        """Build a connection, not yet connected; in a cluster, to this node."""
        options = {**self.options, **_OURS, "retry": Retry(NoBackoff(), 0)}
        if address is not None:
            options["host"], options["port"] = address
        return _telling(self.kind)(**options)

    def client(self, address: Address | None, deadline_s: float) -> Redis:
        """Build a client of our own that waits for no answer longer than this, and repeats nothing."""
        options = {**self.options, **_OURS, "retry": Retry(NoBackoff(), 0)}
        options["socket_timeout"] = options["socket_connect_timeout"] = deadline_s
        if address is not None:
            options["host"], options["port"] = address
        return Redis.from_pool(ConnectionPool(connection_class=_telling(self.kind), **options))

    async def aclose(self) -> None:
        """Close the connections to the sentinels, where they are ours."""
        if self.sentinel is not None:
            await self.sentinel.aclose()


@cache
def _telling(kind: Any) -> Any:  # noqa: ANN401 - redis-py types none of it
    """Make of a kind of connection one that tells in redis-py's words that it is gone, on any loop.

    Who writes to a connection that was closed meanwhile gets a RuntimeError of uvloop's, which redis-py
    takes for a mistake in the program. What only makes connections is left as it is.
    """
    is_class = isinstance(kind, type)
    if not is_class:
        return kind

    async def connect(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as redis-py calls it
        with _told():
            await kind.connect(self, *args, **kwargs)

    async def send_packed_command(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as above
        with _told():
            await kind.send_packed_command(self, *args, **kwargs)

    return type(kind.__name__, (kind,), {"connect": connect, "send_packed_command": send_packed_command})


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (NotImplementedError, RecursionError):
        raise
    except RuntimeError as error:
        raise ConnectionError(f"the connection was lost ({error})") from error


_OF_SYNC: Mapping[Any, Any] = {
    sync.Connection: Connection,
    sync.SSLConnection: SSLConnection,
    sync.UnixDomainSocketConnection: UnixDomainSocketConnection,
}
"""The connections of redis-py for threads, and those for loops that take the same options."""


def route_to(store: str | Redis | RedisCluster | SyncRedis, **more: str) -> Route:
    """Find the way to a store. Raises ConfigError when the URL cannot be read.

    ``more`` are options of redis-py that do not stand in the URL.
    """
    if isinstance(store, str):
        return _by_url(store, more)
    if isinstance(store, RedisCluster):
        return _by_cluster_client(store)
    return _by_client(store)


def _by_client(client: Redis | SyncRedis) -> Route:
    pool: Any = client.connection_pool
    kind = pool.connection_class
    if isinstance(client, SyncRedis) and (kind := _OF_SYNC.get(kind)) is None:
        raise ConfigError("store: this client's connections are made for threads, give a URL")
    return Route(kind, _kept(pool.connection_kwargs), keeper=client)


def _by_cluster_client(client: RedisCluster) -> Route:
    options = _kept(client.connection_kwargs)
    kind = options.pop("connection_class", Connection)
    seeds = tuple((node.host, int(node.port)) for node in client.nodes_manager.startup_nodes.values())
    return Route(kind, options, seeds, keeper=client)


def _kept(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what belongs to the client's own pool."""
    strangers = ("response_callbacks", "max_connections", "load_balancing_strategy", "himport_registry")
    return {
        name: value
        for name, value in options.items()
        if name not in strangers and not name.startswith(("maint_", "orig_", "oss_cluster_"))
    }


def _by_url(url: str, more: Mapping[str, str]) -> Route:
    scheme, _, rest = url.partition("://")
    base, _, several = scheme.partition("+")
    try:
        if several == "" and base in {*_SCHEMES, "unix"}:
            route = _by_plain_url(url, more)
        elif several == "cluster" and base in _SCHEMES:
            route = _by_cluster_url(base, rest, more)
        elif several == "sentinel" and base in _SCHEMES:
            route = _by_sentinel_url(base, rest, more)
        else:
            raise ConfigError(f"url: {_SHAPES}")
        route.connection(route.seeds[0] if route.seeds else None)
    except (ValueError, TypeError):
        raise ConfigError(f"url: {_SHAPES}; and only options that redis-py knows") from None
    return route


def _options(url: str, more: Mapping[str, str]) -> dict[str, Any]:
    """Read a URL of one server; the password may come from a file."""
    parts = urlsplit(url)
    path_fits = parts.scheme == "unix" or re.fullmatch(r"(/[0-9]*)?", parts.path)
    if not path_fits or parts.port == -1:  # reading the port is what checks it
        raise ValueError("path")
    options: dict[str, Any] = {**parse_url(url), **more}
    if (place := options.pop("password_file", None)) is not None:
        try:
            options["password"] = Path(place).read_text("utf-8").rstrip("\r\n")
        except OSError as error:
            raise ConfigError(f"url: password_file cannot be read ({error.strerror})") from None
    return _kept(options)


def _by_plain_url(url: str, more: Mapping[str, str]) -> Route:
    options = _options(url, more)
    return Route(options.pop("connection_class", Connection), options)


def _split(rest: str) -> tuple[str, list[Address], str, str]:
    """Take the part after ``://`` of a URL with several hosts apart: user, hosts, path, query."""
    front, mark, query = rest.partition("?")
    netloc, _, path = front.partition("/")
    user, at, hosts = netloc.rpartition("@")
    found: list[Address] = []
    for place in hosts.split(","):
        parts = urlsplit(f"//{place}")
        if not parts.hostname or not parts.port:
            raise ValueError("host:port")
        found.append((parts.hostname, parts.port))
    return user + at, found, path, mark + query


def _by_cluster_url(base: str, rest: str, more: Mapping[str, str]) -> Route:
    user, seeds, path, query = _split(rest)
    if path not in {"", "0"}:
        raise ConfigError("url: a cluster has one database, 0")
    options = _options(f"{base}://{user}{seeds[0][0]}{query}", more)
    return Route(options.pop("connection_class", Connection), options, tuple(seeds))


def _by_sentinel_url(base: str, rest: str, more: Mapping[str, str]) -> Route:
    user, sentinels, path, query = _split(rest)
    service, _, database = path.partition("/")
    if not service:
        raise ConfigError("url: a sentinel's URL names its service: redis+sentinel://host:port/service/db")
    options = _options(f"{base}://{user}unused/{database}{query}", more)
    encrypted = options.pop("connection_class", Connection) is SSLConnection
    own = {
        name: options.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in options
    }
    files = {name: value for name, value in options.items() if name.startswith("ssl_")}
    of_sentinels: Any = Sentinel  # redis-py leaves these two untyped
    of_primaries: Any = SentinelConnectionPool
    sentinel = of_sentinels(
        sentinels,
        sentinel_kwargs={
            **own,
            **({"ssl": True, **files} if encrypted else {}),
            "socket_timeout": CONNECT_S / 4,
            "socket_connect_timeout": CONNECT_S / 4,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        },
    )
    options.pop("host", None)
    pool = of_primaries(service, sentinel, ssl=encrypted, **options)
    return Route(pool.connection_class, _kept(pool.connection_kwargs), keeper=pool, sentinel=sentinel)


def address_in(rest: str, of_sender: Address | None) -> Address:
    """Read ``<slot> <host>:<port>``; a node that does not know its host means the one it is on."""
    host, _, port = rest.rpartition(" ")[2].rpartition(":")
    return (host or (of_sender or ("", 0))[0], int(port))

"""The servers of a store, and a client for each: one, whoever a Sentinel names, or a cluster's primaries.

Each answer comes within the deadline or not at all, and no command is ever repeated here: an answer
that did not come is unknown, and only the caller knows what asking again means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, ConnectionError, RedisError  # noqa: A004 - redis-py's name for it

from quota.endpoints import Redis as RedisSettings
from quota.endpoints import read_secret
from quota.store.routes import Address, Route, route_to


class Nodes:
    """Clients of the primaries. ``several`` says that it is a cluster.

    ``stale`` is set by whoever finds that a cluster is not what it was; ``look`` clears it.
    """

    def __init__(
        self,
        client: Callable[[Address | None], Redis],
        seeds: Sequence[Address] = (),
        route: Route | None = None,
    ) -> None:
        self.several = self.stale = bool(seeds)
        self._client, self._seeds, self._route = client, tuple(seeds), route
        self._clients: dict[Address | None, Redis] = {}
        self._slots: tuple[tuple[int, int, Address], ...] = ()

    def _at(self, address: Address | None) -> Redis:
        if address not in self._clients:
            self._clients[address] = self._client(address)
        return self._clients[address]

    def of(self, key: str) -> Redis:
        """The client of the primary that has a key. Raises ClusterDownError where nobody has it."""
        if not self.several:
            return self._at(None)
        slot = key_slot(key.encode())
        for first, last, address in self._slots:
            if first <= slot <= last:
                return self._at(address)
        raise ClusterDownError(f"CLUSTERDOWN no node serves slot {slot}")

    def primaries(self) -> Sequence[Redis]:
        """Clients of all primaries."""
        if not self.several:
            return [self._at(None)]
        return [self._at(address) for address in dict.fromkeys(address for *_, address in self._slots)]

    async def look(self) -> None:
        """Ask a cluster who has which slots: the first node that answers is believed."""
        told: RedisError = ConnectionError("no node of the cluster answers")
        for address in dict.fromkeys((*(address for *_, address in self._slots), *self._seeds)):
            try:
                reply = await self._at(address).execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            except RedisError as error:
                told = error
                continue
            self._slots, self.stale = tuple(_slots(reply, address)), False
            return
        raise told

    async def aclose(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            await client.aclose()
        if self._route is not None:
            await self._route.aclose()


def _slots(reply: Any, of_sender: Address) -> Iterator[tuple[int, int, Address]]:  # noqa: ANN401 - as the command replies
    """Read CLUSTER SLOTS; a node that does not know its host means the one on which it was asked."""
    for first, last, primary, *_ in reply:
        host = primary[0].decode() if primary[0] else ""
        yield first, last, (host if host not in {"", "?"} else of_sender[0], int(primary[1]))


def only(client: Redis) -> Nodes:
    """A ready client of one server, as nodes."""
    return Nodes(lambda _: client)


def connected(settings: RedisSettings) -> Nodes:
    """Find the way to the store of the settings; nothing is connected before it is used."""
    deadline_s = settings.deadline_ms / 1000
    files = {
        "ssl_ca_certs": settings.ca_file,
        "ssl_certfile": settings.cert_file,
        "ssl_keyfile": settings.key_file,
    }
    more: dict[str, Any] = {name: str(path) for name, path in files.items() if path is not None}
    if settings.username is not None:
        more["username"] = settings.username
    if settings.password is not None:
        more["password"] = settings.password.get_secret_value()
    if settings.sentinel_username is not None:
        more["sentinel_username"] = settings.sentinel_username
    if settings.sentinel_password_file is not None:
        more["sentinel_password"] = read_secret(settings.sentinel_password_file)
    route = route_to(settings.url, client_name="quotad", **more)
    return Nodes(lambda address: route.client(address, deadline_s), route.seeds, route)

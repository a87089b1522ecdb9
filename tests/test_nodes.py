"""The daemon's own ways to a store: unix socket, TLS, users, and what cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from pydantic import ValidationError
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.exceptions import ConnectionError, TimeoutError  # noqa: A004 - redis-py's names for them

from quota.desk.operator import ledger_of
from quota.endpoints import Redis as RedisSettings
from quota.errors import ConfigError, LedgerUnavailable, QuotaError
from quota.library import Library
from quota.store.nodes import connected
from quota.store.routes import route_to
from tests.agreement.trading import POOL
from tests.certificates import certify
from tests.fleet import redis_servers, say, watched
from tests.servers import Store, free_port


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a name short enough for a unix socket."""
    return tmp_path_factory.mktemp("way")


async def served(**settings: Any) -> None:  # noqa: ANN401 - fields of the settings
    """Load the library by these settings and look at a pool."""
    async with ledger_of(RedisSettings(**settings)) as ledger:
        assert (await ledger.tick(POOL)).run_id


async def test_a_unix_socket(directory: Path) -> None:
    with redis_servers(directory, f"--unixsocket {directory}/s"):
        await served(url=f"unix://{directory}/s")


async def test_tls_with_the_files_of_the_settings(directory: Path) -> None:
    ca = certify(directory, "localhost")
    lines = f"--tls-port {{port}} --port 0 --tls-ca-cert-file {ca} --tls-auth-clients no"
    files = f"--tls-cert-file {directory}/localhost.pem --tls-key-file {directory}/localhost.key"
    with redis_servers(directory, lines, files) as (port,):
        await served(url=f"rediss://localhost:{port}/0", ca_file=ca)
        with pytest.raises(LedgerUnavailable, match="certificate verify failed"):
            await served(url=f"rediss://localhost:{port}/0")


async def test_a_user_and_a_password_that_never_stand_in_the_url(directory: Path) -> None:
    (directory / "password").write_text("an unlikely secret\n")
    with redis_servers(directory) as (port,):
        await say(port, "ACL", "SETUSER", "quotad", "on", ">an unlikely secret", "~quota:*", "+@all")
        await say(port, "ACL", "SETUSER", "default", "off")
        url = f"redis://127.0.0.1:{port}/0"
        await served(url=url, username="quotad", password_file=directory / "password")
        with pytest.raises(ConfigError, match=r"WRONGPASS|invalid username"):
            await served(url=url, username="quotad", password="wrong")  # noqa: S106 - a test's


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel://127.0.0.1/quota/0",
        "redis+cluster://127.0.0.1:6379/1",
        "redis+cluster://127.0.0.1:6379?protocol=3",
        "unix:///run/redis.sock?db=1",
        "redis+other://127.0.0.1:6379",
    ],
)
def test_a_url_of_no_known_shape_is_a_mistake(url: str) -> None:
    with pytest.raises(ValidationError, match="redis\\+sentinel://host:port,host:port/name/number"):
        RedisSettings(url=url)


def test_a_url_of_several_servers_carries_no_password_either() -> None:
    with pytest.raises(ValidationError, match="must not carry a user or a password"):
        RedisSettings(url="redis+cluster://u:pw@127.0.0.1:6379")


def test_files_for_tls_need_a_url_for_tls(directory: Path) -> None:
    ca = certify(directory, "localhost")
    assert RedisSettings(url="rediss+sentinel://127.0.0.1:26379/quota/0", ca_file=ca).tls
    for url in ("redis+cluster://127.0.0.1:6379", "unix:///run/redis.sock"):
        with pytest.raises(ValidationError, match="needs a rediss:// URL"):
            RedisSettings(url=url, ca_file=ca)


def test_who_we_are_to_sentinels_needs_some() -> None:
    with pytest.raises(ValidationError, match=r"needs a redis\+sentinel:// URL"):
        RedisSettings(sentinel_username="quotad")


def test_sentinels_may_ask_who_we_are(directory: Path) -> None:
    secret = directory / "sentinel.password"
    secret.write_text("s3cret\n")
    lines = (
        "user quotad on >s3cret allchannels +@all",
        "user default on nopass allchannels +@all -sentinel|masters",
    )
    with watched(directory, *lines) as fleet:
        url = f"redis+sentinel://127.0.0.1:{fleet.sentinel}/quota/0"
        with pytest.raises(QuotaError):
            asyncio.run(served(url=url))
        asyncio.run(served(url=url, sentinel_username="quotad", sentinel_password_file=secret))


async def test_sentinels_of_which_nobody_answers_are_waited_for() -> None:
    nodes = connected(RedisSettings(url=f"redis+sentinel://127.0.0.1:{free_port()}/quota/0", deadline_ms=200))
    try:
        with pytest.raises(LedgerUnavailable):
            await Library(nodes).load()
    finally:
        await nodes.aclose()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_is_gone_is_told_as_such_on_any_loop(
    store: Store, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def written_too_late() -> None:
        connection = route_to(store.url).connection(None)
        await connection.connect()
        transport = connection._writer.transport  # what the network would close
        transport.abort()
        await connection._reader.read()
        with pytest.raises((ConnectionError, TimeoutError)):
            await asked_again(connection)
        await connection.disconnect()

    async def asked_again(connection: Any) -> None:  # noqa: ANN401 - a connection of redis-py's
        await connection.send_command("PING")
        await connection.read_response()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(written_too_late())


async def test_a_client_whose_connections_are_made_by_a_function_is_followed(store: Store) -> None:
    made: Any = partial(Connection, port=store.port)
    client = Redis(connection_pool=ConnectionPool(connection_class=made))
    connection = route_to(client).connection(None)
    await connection.connect()
    await connection.disconnect()
    await client.aclose()

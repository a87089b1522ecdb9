"""The deployment's files for tests: rendered for free ports, started with their own programs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.servers import START_SECONDS, binary, wait_for_port

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
T = TypeVar("T")


def rendered(name: str, directory: Path, changes: Mapping[str, str]) -> str:
    """Write a file of the deployment with some of its words replaced; each must be there once."""
    text = (DEPLOY / name).read_text("utf-8")
    for word, other in changes.items():
        assert text.count(word) == 1, f"{name}: {word!r}"
        text = text.replace(word, other)
    path = directory / Path(name).name
    path.write_text(text)
    return str(path)


@contextmanager
def running(command: Sequence[str], port: int, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until it is told to end, and let it end in good order."""
    log = directory / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_for_port(port, process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def store_command(directory: Path, port: int, program: str = "") -> list[str]:
    """Write redis.conf for a port and a directory, and the command that runs it; everybody comes in."""
    changes = {
        "\nport 6379": f"\nport {port}",
        "dir /var/lib/redis": f"dir {directory}",
        "aclfile /etc/redis/users.acl": "",
    }
    return [program or binary("redis-server"), rendered("redis.conf", directory, changes)]


def prometheus_command(directory: Path, port: int, changes: Mapping[str, str]) -> list[str]:
    """Write prometheus.yml with its rules beside it, and the command that runs it."""
    (directory / "rules.yml").write_bytes((DEPLOY / "prometheus" / "rules.yml").read_bytes())
    return [
        binary("prometheus"),
        f"--config.file={rendered('prometheus/prometheus.yml', directory, changes)}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]


def alertmanager_command(directory: Path, port: int) -> list[str]:
    """Run alertmanager.yml as it is; no cluster is formed."""
    return [
        binary("prometheus-alertmanager"),
        f"--config.file={DEPLOY / 'alertmanager.yml'}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]


def fetch(url: str) -> bytes:
    """Read a page of a server of ours."""
    with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own loopback address
        return bytes(response.read())


async def until_page(url: str, wanted: Callable[[bytes], T]) -> T:
    """Ask again until the answer is what we wait for."""
    async with asyncio.timeout(30):
        while True:
            try:
                if found := wanted(await asyncio.to_thread(fetch, url)):
                    return found
            except urllib.error.HTTPError as error:  # not ready yet
                error.close()
            await asyncio.sleep(0.05)


def series(answer: bytes) -> list[dict[str, Any]]:
    """Read what a query of Prometheus found."""
    return list(json.loads(answer)["data"]["result"])

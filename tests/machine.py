"""A machine for the commands of the documents: they run as they stand there, with other servers behind.

Paths below /etc, /opt and /var lie in a directory of the test. ``systemctl`` and ``journalctl`` are
stand-ins that speak to the test, ``redis-cli`` and ``quotad`` are the real ones, told where to go.
"""

from __future__ import annotations

import os
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.daemons import AT, QUOTAD, House, house
from tests.servers import START_SECONDS, binary
from tests.tap import until_now

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "operations.md"
SETTINGS = Path("etc/quotad/quotad.toml")
_BLOCK = re.compile(r"^( *)```sh (run|by)=(\S+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_PLACE = re.compile(r"(?<![\w./])/(etc|opt|usr|var)/")


def chapters() -> str:
    """Read what is told of running it: the page from there on."""
    text = DOCUMENT.read_text("utf-8")
    return text[text.index("## What is open to whom") :]


def blocks() -> Iterator[tuple[str, str, str]]:
    """Find the commands of the page: ``run`` and a name, or ``by`` and ``hand``; then the commands."""
    for found in _BLOCK.finditer(chapters()):
        lines = (line.removeprefix(found[1]) for line in found[4].splitlines())
        yield found[2], found[3], "\n".join(lines)


@dataclass(slots=True)
class Machine:
    """A house, and a root directory in which its commands find what they name.

    ``away`` is called each time the daemon has been stopped by a command.
    """

    home: House
    root: Path
    away: Callable[[], None] = lambda: None
    done: list[str] = field(default_factory=list)

    def run(self, commands: str, **environ: str) -> str:
        """Run commands in a shell that stops at the first that fails; return what they say."""
        text = _PLACE.sub(rf"{self.root}/\1/", commands)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QUOTA_")}
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        said = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=ROOT,
            env=kept | {"PATH": path} | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert said.returncode == 0, f"{text}\n{said.stdout}{said.stderr}"
        return said.stdout

    def systemctl(self, act: str, unit: str) -> None:
        """Start or stop the daemon or the store."""
        {
            "stop quotad": self._stop_daemon,
            "start quotad": self.start_daemon,
            "restart quotad": self._restart_daemon,
            "stop redis-server": self._stop_store,
            "start redis-server": self.home.store.start,
        }[f"{act} {unit}"]()
        self.done.append(f"{act} {unit}")

    def start_daemon(self) -> None:
        """Start the program to which the link points, as the unit does, and wait until it is ready."""
        program = self.root / "opt" / "quotad" / "bin" / "quotad"
        command = [str(program), "run", "--config", str(self.root / SETTINGS), "--at", AT]
        self.done.append(program.resolve().parents[1].name)
        with self.log.open("ab") as log:
            self.home.quotad.process = subprocess.Popen(command, stdout=log, stderr=log)
        until_now(lambda: self.home.quotad.ready)

    @property
    def log(self) -> Path:
        """What the daemon said."""
        return self.root / "quotad.log"

    def _stop_daemon(self) -> None:
        self.home.quotad.ask_to_end()
        assert self.home.quotad.code() == 0
        self.away()

    def _restart_daemon(self) -> None:
        """Start it again, whether it runs or has ended by itself."""
        process = self.home.quotad.process
        if process is not None and process.poll() is None:
            self._stop_daemon()
        self.start_daemon()

    def _stop_store(self) -> None:
        process, self.home.store.process = self.home.store.process, None
        assert process is not None
        process.terminate()
        process.wait(START_SECONDS)

    def furnish(self, port: int) -> None:
        """Lay out the directories, the programs and the stand-ins."""
        home = self.home
        for place in ("bin", "opt/quotad-0.1.0/bin", "opt/quotad-0.2.0/bin", "etc/quotad", "var/lib"):
            (self.root / place).mkdir(parents=True)
        (self.root / "var/lib/redis").symlink_to(home.store.directory)
        (self.root / SETTINGS).write_bytes(home.quotad.config.read_bytes())
        for version in ("0.1.0", "0.2.0"):
            self._program(f"opt/quotad-{version}/bin/quotad", f'exec {QUOTAD} "$@"')
        (self.root / "opt/quotad").symlink_to("quotad-0.1.0")
        self._program("bin/quotad", f'exec {self.root}/opt/quotad/bin/quotad "$@"')
        self._program("bin/redis-cli", f'exec {binary("redis-cli")} -p {home.store.port} "$@"')
        self._program("bin/journalctl", f"cat {self.log}")
        ask = f'exec 3<>/dev/tcp/127.0.0.1/{port}; echo "$@" >&3; read -r code <&3; exit "$code"'
        self._program("bin/systemctl", ask)

    def _program(self, place: str, line: str) -> None:
        path = self.root / place
        path.write_text(f"#!/usr/bin/env bash\n{line}\n")
        path.chmod(0o755)


@contextmanager
def machine(directory: Path, store: str = "redis", **settings: Any) -> Iterator[Machine]:  # noqa: ANN401 - fields of Quotad
    """Furnish a machine whose store and broker run; its daemon is not started yet."""
    rooms = directory / "servers", directory / "root"
    for room in rooms:
        room.mkdir()
    with house(rooms[0], store, **settings) as home:
        owner = Machine(home, rooms[1])

        class Asked(socketserver.StreamRequestHandler):
            """One call of systemctl."""

            def handle(self) -> None:
                """Do what is asked and reply with an exit code."""
                try:
                    owner.systemctl(*self.rfile.readline().decode().split())
                except Exception as error:  # noqa: BLE001 - whatever it is, the command has failed
                    sys.stderr.write(f"systemctl: {error!r}\n")
                    self.wfile.write(b"1\n")
                else:
                    self.wfile.write(b"0\n")

        with socketserver.TCPServer(("127.0.0.1", 0), Asked) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            owner.furnish(server.server_address[1])
            try:
                yield owner
            finally:
                server.shutdown()
                thread.join()

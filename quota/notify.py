"""Tells a supervisor how we are: ready, alive, stopping; silent where nobody listens.

systemd hears datagrams to the socket that ``NOTIFY_SOCKET`` names (sd_notify(3)). A container has the
file that ``QUOTAD_HEARTBEAT`` names: its age says how long the loop has been silent, whatever becomes
of the pages. Nothing here waits or raises: a daemon must not stop deciding because its supervisor is
slow to listen.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

_MICROSECONDS = 1_000_000

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Notifier:
    """Speaks to one supervisor, or to none.

    ``alive_every_s`` is how often the watchdog has to hear of us at most; None where there is none.
    ``heartbeat`` is the file whose time is set whenever we are alive, or wait for the store.
    """

    address: str = ""
    alive_every_s: float | None = None
    heartbeat: Path | None = None
    clock: Callable[[], float] = time.monotonic
    _alive_at: float | None = None
    _status: str = ""
    _beats: bool = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read what systemd says to the processes that it starts.

        A watchdog of another process (``WATCHDOG_PID``) is none of ours: the variables are inherited.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        heartbeat = Path(place) if (place := environ.get("QUOTAD_HEARTBEAT")) else None
        watchdog = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if not address.startswith(("/", "@")):
            return cls(heartbeat=heartbeat)
        if not (ours and watchdog.isascii() and watchdog.isdecimal() and int(watchdog)):
            return cls(address, heartbeat=heartbeat)
        return cls(address, int(watchdog) / _MICROSECONDS / 2, heartbeat)

    def ready(self) -> None:
        """Say that we serve: whoever was told to start after us may start."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that we end on purpose."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in a line how it goes, for ``systemctl status``; the same line is sent once."""
        self._beat()
        line = " ".join(text.split())
        if line != self._status and self._send(f"STATUS={line}"):
            self._status = line

    def alive(self) -> None:
        """Feed the watchdog, at half of its time; may be called as often as one likes."""
        self._beat()
        now = self.clock()
        if self.alive_every_s is None:
            return
        due = self._alive_at is None or now - self._alive_at >= self.alive_every_s
        if due and self._send("WATCHDOG=1"):
            self._alive_at = now

    def _beat(self) -> None:
        """Set the time of the file; that it cannot be done is said once, until it can."""
        if self.heartbeat is None:
            return
        try:
            self.heartbeat.touch()
        except OSError as error:
            if self._beats:
                log.warning(
                    "heartbeat.failed", file=str(self.heartbeat), reason=os.strerror(error.errno or 0)
                )
            self._beats = False
        else:
            self._beats = True

    def _send(self, message: str) -> bool:
        """Send a datagram; False where nobody takes it now. A leading ``@`` is an abstract address."""
        if not self.address:
            return False
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.settimeout(0)
                link.sendto(message.encode(), address)
        except OSError:
            return False
        return True

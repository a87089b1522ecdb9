"""Hosts of their own for tests: network namespaces with a cable between them that can be cut one way.

They need root and ``ip``. What is sent into a cut direction goes to nobody's address: it is lost
without a word, as behind a broken switch; the other direction goes on.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import binary, unable

_CLONE_NEWNET = 0x40000000
_NOBODY = "02:00:00:00:00:01"


def ip(*words: str) -> None:
    """Run ``ip``; where namespaces are not permitted, skip, and fail in CI."""
    done = subprocess.run([binary("ip"), *words], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    unable(f"network namespaces are needed (root, and `ip`): ip {' '.join(words)}: {done.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace with one address on the cable."""

    name: str
    link: str
    address: str
    hardware: str

    def ip(self, *words: str) -> None:
        """Run ``ip`` in it."""
        ip("-n", self.name, *words)

    @property
    def command(self) -> tuple[str, ...]:
        """What runs a program in it."""
        return (binary("ip"), "netns", "exec", self.name)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread, and what it starts, be in it: its sockets and processes stay there."""
        with Path("/proc/thread-self/ns/net").open() as own, Path(f"/run/netns/{self.name}").open() as other:
            _enter(other.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@dataclass(frozen=True, slots=True)
class Cable:
    """Two hosts, ``near`` and ``far``."""

    near: Host
    far: Host

    @contextmanager
    def cut(self, sender: Host) -> Iterator[None]:
        """Let nothing arrive that this one sends."""
        other = self.far if sender is self.near else self.near
        self._address(sender, other, _NOBODY)
        yield
        self._address(sender, other, other.hardware)

    def _address(self, sender: Host, other: Host, hardware: str) -> None:
        words = (
            "neigh",
            "replace",
            other.address,
            "lladdr",
            hardware,
            "dev",
            sender.link,
            "nud",
            "permanent",
        )
        sender.ip(*words)


@contextmanager
def cabled() -> Iterator[Cable]:
    """Make two hosts and a cable between them; take them away at the end."""
    mine = os.getpid()
    near = Host(f"quota-near-{mine}", f"qn{mine}", "10.203.0.1", "02:00:00:00:01:01")
    far = Host(f"quota-far-{mine}", f"qf{mine}", "10.203.0.2", "02:00:00:00:01:02")
    with ExitStack() as stack:
        for host in (near, far):
            ip("netns", "add", host.name)
            stack.callback(ip, "netns", "del", host.name)
        near.ip("link", "add", near.link, "type", "veth", "peer", "name", far.link, "netns", far.name)
        for host in (near, far):
            host.ip("link", "set", host.link, "address", host.hardware)
            host.ip("addr", "add", f"{host.address}/24", "dev", host.link)
            for link in (host.link, "lo"):
                host.ip("link", "set", link, "up")
        yield Cable(near, far)

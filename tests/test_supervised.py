"""A real daemon under a supervisor: when it is ready, that it lives, and what it waits for."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.daemons import House, house
from tests.tap import until_now

WATCHDOG_US = 1_000_000


@dataclass(slots=True)
class Supervisor:
    """What systemd hears."""

    listener: socket.socket
    heard: list[str] = field(default_factory=list)

    def hears(self, word: str, times: int = 1) -> bool:
        """Whether it was told this so often by now."""
        try:
            while True:
                self.heard.append(self.listener.recv(4096).decode())
        except BlockingIOError:
            return sum(message.startswith(word) for message in self.heard) >= times


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", str(WATCHDOG_US))
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(0)
        yield Supervisor(listener)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path, at=None) as home:  # another clock needs the store before anything else
        yield home


def test_a_daemon_says_when_it_is_ready_that_it_lives_and_that_it_ends(
    home: House, supervisor: Supervisor
) -> None:
    home.quotad.start()
    until_now(lambda: supervisor.hears("READY=1"))
    until_now(lambda: supervisor.hears("WATCHDOG=1", 3))
    assert not supervisor.hears("STOPPING=1")
    home.quotad.ask_to_end()
    assert home.quotad.code() == 0
    assert supervisor.hears("STOPPING=1")
    assert supervisor.heard.count("READY=1") == 1


def test_a_daemon_that_waits_for_its_store_is_not_ready_and_says_so(
    home: House, supervisor: Supervisor
) -> None:
    home.store.stop()
    home.quotad.start()
    until_now(lambda: supervisor.hears("STATUS=waiting for the store: "))
    assert not supervisor.hears("READY=1")
    home.store.start()
    until_now(lambda: supervisor.hears("READY=1"))


def test_a_store_that_hangs_is_no_reason_to_be_ended(home: House, supervisor: Supervisor) -> None:
    home.quotad.start()
    until_now(lambda: supervisor.hears("WATCHDOG=1"))
    assert home.store.process is not None
    home.store.process.send_signal(signal.SIGSTOP)
    until_now(lambda: "store.lost" in home.quotad.log)
    so_far = supervisor.hears("WATCHDOG=1") and supervisor.heard.count("WATCHDOG=1")
    until_now(lambda: supervisor.hears("WATCHDOG=1", so_far + 3))

"""systemd is told what it asked to be told, and nobody waits for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from quota.notify import Notifier
from tests.servers import START_SECONDS


@contextmanager
def supervisor(address: str) -> Iterator[socket.socket]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        listener.settimeout(START_SECONDS)
        yield listener


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@quotad-{uuid4()}"


def heard(listener: socket.socket) -> list[bytes]:
    """Take everything that was said so far."""
    messages = []
    listener.settimeout(0)
    try:
        while True:
            messages.append(listener.recv(4096))
    except BlockingIOError:
        return messages


def test_a_life_is_told_in_the_words_of_the_protocol(address: str) -> None:
    with supervisor(address) as listener:
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
        notifier.status("waiting for\nthe store")
        notifier.ready()
        notifier.alive()
        notifier.stopping()
        told = [b"STATUS=waiting for the store", b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
        assert heard(listener) == told


def test_the_watchdog_hears_of_us_at_half_of_its_time(address: str) -> None:
    now = [100.0]
    with supervisor(address) as listener:
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000"})
        notifier.clock = lambda: now[0]
        for now[0] in (100.0, 100.2, 104.9, 105.0, 109.9, 110.0):
            notifier.alive()
        assert heard(listener) == [b"WATCHDOG=1"] * 3


def test_a_feed_that_nobody_took_is_sent_again_at_the_next_call(address: str) -> None:
    notifier = Notifier(address, alive_every_s=1000.0)
    notifier.alive()
    with supervisor(address) as listener:
        notifier.alive()
        notifier.alive()
        assert heard(listener) == [b"WATCHDOG=1"]


def test_the_same_line_of_status_is_sent_once(address: str) -> None:
    with supervisor(address) as listener:
        notifier = Notifier(address)
        for text in ("ready", "ready", "the store is away", "ready"):
            notifier.status(text)
        assert heard(listener) == [b"STATUS=ready", b"STATUS=the store is away", b"STATUS=ready"]


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "²"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getppid())},
    ],
)
def test_without_a_watchdog_of_ours_nothing_is_fed(address: str, watchdog: dict[str, str]) -> None:
    with supervisor(address) as listener:
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": address} | watchdog)
        notifier.alive()
        notifier.ready()
        assert heard(listener) == [b"READY=1"]


def test_a_watchdog_that_names_our_process_is_fed(address: str) -> None:
    watchdog = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}
    with supervisor(address) as listener:
        Notifier.from_environment({"NOTIFY_SOCKET": address} | watchdog).alive()
        assert heard(listener) == [b"WATCHDOG=1"]


@pytest.mark.parametrize("where", ["", "vsock:2:1234", "relative", "/nowhere/notify", "@quotad-nobody"])
def test_nobody_listening_is_no_matter(where: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": where, "WATCHDOG_USEC": "1000000"})
    for _ in range(2):
        notifier.status("up")
        notifier.ready()
        notifier.alive()
        notifier.stopping()


def test_a_supervisor_that_does_not_listen_keeps_nobody_waiting(address: str) -> None:
    with supervisor(address) as listener:
        notifier = Notifier(address)
        for _ in range(5_000):
            notifier.ready()
        assert 0 < len(heard(listener)) < 5_000


# The heartbeat of a container. ---------------------------------------------------------------


def beats(place: Path, *, after: float = 1.0) -> float:
    """Set the file's time back, so that the next sign of life shows."""
    os.utime(place, (after, after))
    return place.stat().st_mtime


def test_each_sign_of_life_sets_the_time_of_the_file_with_or_without_systemd(tmp_path: Path) -> None:
    place = tmp_path / "alive"
    for more in ({}, {"NOTIFY_SOCKET": "/nowhere"}, {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000"}):
        place.unlink(missing_ok=True)
        notifier = Notifier.from_environment({"QUOTAD_HEARTBEAT": str(place)} | more)
        assert not place.exists()
        notifier.status("waiting for the store: it is away")
        assert place.stat().st_size == 0
        for sign in (notifier.alive, notifier.alive, partial(notifier.status, "the same")):
            before = beats(place)
            sign()
            assert place.stat().st_mtime > before


def test_without_a_place_for_it_there_is_no_heartbeat() -> None:
    for environ in ({}, {"QUOTAD_HEARTBEAT": ""}):
        assert Notifier.from_environment(environ).heartbeat is None


def test_a_heartbeat_that_nobody_can_see_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    notifier = Notifier.from_environment({"QUOTAD_HEARTBEAT": str(tmp_path / "none" / "alive")})
    with capture_logs() as logs:
        for _ in range(3):
            notifier.alive()
        (tmp_path / "none").mkdir()
        notifier.alive()
        (tmp_path / "none" / "alive").unlink()
        (tmp_path / "none").rmdir()
        notifier.alive()
    told = {"event": "heartbeat.failed", "file": str(tmp_path / "none" / "alive"), "log_level": "warning"}
    assert logs == [told | {"reason": "No such file or directory"}] * 2

"""A container's daemon is seen to live by its heartbeat, whoever keeps everybody from its pages."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.daemons import House, Quotad, house
from tests.servers import Mosquitto, free_port
from tests.sites import get
from tests.tap import until, until_now
from tests.test_containers import DAEMON, SERVICES, last

STRANGERS = 600


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where daemons of this test leave their heartbeat."""
    monkeypatch.setenv("QUOTAD_HEARTBEAT", str(tmp_path / "alive"))
    return tmp_path / "alive"


@pytest.fixture
def home(tmp_path: Path, place: Path) -> Iterator[House]:
    with house(tmp_path) as home:
        home.quotad.start()
        until_now(lambda: home.quotad.ready and place.exists())
        yield home


async def beat(place: Path, times: int) -> None:
    """Wait until the heart has beaten so many times."""
    beats: set[int] = set()

    def enough() -> bool:
        beats.add(place.stat().st_mtime_ns)
        return len(beats) > times

    await until(enough)


async def stranger(port: int, come: list[int]) -> None:
    """Connect, say nothing, and come again when shown out."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            come.append(1)
            try:
                await reader.read()
            finally:
                writer.close()


async def test_it_goes_on_while_silent_strangers_hold_every_place(home: House, place: Path) -> None:
    come: list[int] = []
    strangers = [asyncio.create_task(stranger(home.quotad.port, come)) for _ in range(STRANGERS)]
    try:
        await until(lambda: len(come) > STRANGERS // 2)
        asking = asyncio.create_task(get(f"127.0.0.1:{home.quotad.port}", "/-/healthy"))
        await beat(place, 10)
        assert not asking.done(), "no flood: the page has answered"
        asking.cancel()
    finally:
        for task in (*strangers, asking):
            task.cancel()
        await asyncio.wait({*strangers, asking})


def test_it_stops_when_the_daemon_does(home: House, place: Path) -> None:
    home.quotad.kill()
    last = place.stat().st_mtime_ns
    assert home.quotad.get("/-/healthy") == (0, "")
    assert place.stat().st_mtime_ns == last


async def test_a_daemon_that_waits_for_its_store_lives(tmp_path: Path, place: Path) -> None:
    with Mosquitto(tmp_path) as broker, Quotad(tmp_path, free_port(), broker.port, at=None) as quotad:
        quotad.start()
        await until(place.exists)
        await beat(place, 3)
        assert not quotad.ready


# How a container's supervisor listens to it. --------------------------------------------------


def check() -> list[str]:
    """How a container engine asks whether the daemon lives."""
    found: list[str] = json.loads(last("HEALTHCHECK").split(" CMD ")[1])
    return found


def heartbeat() -> Path:
    """The file that the daemon touches in a container."""
    return Path(dict(pair.split("=", 1) for pair in last("ENV").split())["QUOTAD_HEARTBEAT"])


def lives(place: Path) -> bool:
    environ = {"PATH": os.environ["PATH"], "QUOTAD_HEARTBEAT": str(place)}
    return subprocess.run(check(), env=environ, check=False, stderr=subprocess.DEVNULL).returncode == 0


def test_the_health_check_knows_life_from_silence_and_asks_no_page(tmp_path: Path) -> None:
    place = tmp_path / "a life"
    assert not lives(place)
    place.touch()
    assert lives(place)
    for silent_s, alive in ((45, True), (75, False), (4000, False)):
        seen = place.stat().st_ctime - silent_s
        os.utime(place, (seen, seen))
        assert lives(place) is alive, silent_s
    assert not {"http", "curl", "wget"} & set(re.findall(r"\w+", " ".join(check())))


def test_the_heartbeat_has_a_place_that_can_be_written_where_nothing_else_can() -> None:
    assert SERVICES["quotad"]["tmpfs"] == [str(heartbeat().parent)]
    (container,) = DAEMON["spec"]["containers"]
    (mount,) = (it for it in container["volumeMounts"] if it["mountPath"] == str(heartbeat().parent))
    (volume,) = (it for it in DAEMON["spec"]["volumes"] if it["name"] == mount["name"])
    assert volume["emptyDir"]["medium"] == "Memory"


def test_the_probes_of_life_ask_as_the_image_does() -> None:
    (container,) = DAEMON["spec"]["containers"]
    for name in ("startup", "liveness"):
        assert container[f"{name}Probe"]["exec"]["command"] == check()
        assert "httpGet" not in container[f"{name}Probe"]

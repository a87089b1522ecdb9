"""The broker with the settings that we ship fails in every way we know: the daemon goes on.

Nothing that the daemon has answered may be missing or be there twice. What a broker that crashes
forgets is another matter: that its session is gone is noticed and told, and sources send again.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from quota.decision import PoolName
from tests.daemons import Durable, House, Quotad, new
from tests.guarded import broker_files, credentials
from tests.scale import SOAK, cases
from tests.servers import Mosquitto, wait_for_port
from tests.strikes import (
    OF_THE_BROKER,
    Fault,
    Struck,
    broker_killed,
    broker_paused,
    broker_slow,
    daemon_paused,
)
from tests.tap import Tap, until
from tests.weir import Weir, pieces

POOL = PoolName.NB_SH
ORDERS = f"connect/{POOL}/orders/gateway"
ANSWERS = (f"connect/{POOL}/decisions/gateway",)
BEFORE, WITHIN = 150, 1_350
"""What comes before a fault, and while it lasts: more than a broker keeps by default."""


@dataclass(slots=True)
class Shipped(Mosquitto):
    """A broker with the settings that we ship; ``secrets`` is where its certificate and passwords are."""

    secrets: Path = Path()

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        command = broker_files(self.directory, self.port, self.secrets)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for_port(self.port, self.process, self.log)

    def password(self, user: str) -> Path:
        """Where a user's password is."""
        return self.secrets / f"mqtt.{user}"


@contextmanager
def shipped(directory: Path) -> Iterator[House]:
    """A house whose broker runs with mosquitto.conf; its daemon is not started yet."""
    secrets, store = credentials(directory, "--source", "gateway"), Durable(directory, "valkey")
    store.start()
    try:
        with (
            Shipped(directory, secrets=secrets) as broker,
            Redis(port=store.port, decode_responses=True) as redis,
            Quotad(
                directory,
                store.port,
                broker.port,
                toml=f'pools = ["{POOL}"]',
                servers="localhost",
                scheme="mqtts",
                mqtt=f'username = "quotad"\npassword_file = "{broker.password("quotad")}"\n'
                f'ca_file = "{secrets}/ca.pem"',
            ) as quotad,
        ):
            yield House(store, broker, quotad, redis)
    finally:
        store.stop()


def source(home: House) -> Tap:
    broker = home.broker
    assert isinstance(broker, Shipped)
    password = broker.password("gateway").read_text().strip()
    return Tap(broker.port, ANSWERS, guest=("gateway", password, broker.secrets / "ca.pem"))


def speak(tap: Tap, names: Sequence[str]) -> None:
    for name in names:
        tap.say(ORDERS, new(name))


FAULTS = (*(OF_THE_BROKER if SOAK else (broker_paused, broker_slow)), daemon_paused, broker_killed)


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_nothing_answered_is_missing_or_there_twice(
    tmp_path: Path, fault: Fault, counted: Callable[[str], None]
) -> None:
    with shipped(tmp_path) as home:
        async with Weir(home.broker.port, pieces, pieces) as weir:
            home.quotad.broker_port = weir.port
            home.quotad.write()
            home.quotad.start()
            await until(lambda: home.quotad.ready)
            first = home.quotad.process
            with source(home) as tap:
                names: set[str] = set()
                for number in range(cases(1, 10)):
                    names |= await suffer(Struck(home, weir, weir), fault, tap, f"m{number}")
                assert home.quotad.process is first
                heard = {reply["order_id"] for reply in tap.replies() if reply["verdict"] == "accepted"}
                assert heard <= names
                stands(home, names)
            lost = home.quotad.metric("quota_feed_sessions_lost_total")
            assert (
                lost == home.quotad.log.count("feed.session_lost") == (fault is broker_killed) * cases(1, 10)
            )
        assert (await asyncio.to_thread(home.quotad.does, "verify")).returncode == 0
    counted(f"of the broker, {fault.__name__}: {cases(1, 10)} times")


async def suffer(struck: Struck, fault: Fault, tap: Tap, name: str) -> set[str]:
    """Let the fault come in mid-traffic, last until it is felt, and go; return what is in the end due."""
    home, before = struck.home, struck.home.seq()
    names = [f"{name}-{number}" for number in range(BEFORE + WITHIN)]
    speak(tap, names[:BEFORE])
    await until(partial(beyond, home, before))
    lost = home.quotad.log.count("feed.lost")
    async with fault(struck):
        speak(tap, names[BEFORE:])
        if fault is daemon_paused:
            await until(lambda: tap.settled)
        elif fault is broker_slow:
            await until(partial(beyond, home, before + BEFORE))
        else:
            await until(lambda: home.quotad.log.count("feed.lost") > lost)
        assert not beyond(home, before + BEFORE + WITHIN - 1)
    await until(lambda: tap.settled and home.quotad.ready)
    if fault is broker_killed:
        speak(tap, names)
    await until(partial(beyond, home, before + BEFORE + WITHIN - 1))
    return set(names)


def beyond(home: House, seq: int) -> bool:
    return home.seq() > seq


def stands(home: House, names: set[str]) -> None:
    entries: Any = home.redis.xrange(f"quota:{{{POOL}}}:journal")
    journalled = [fields["event"].split()[1] for _, fields in entries]
    assert sorted(journalled) == sorted(names)
